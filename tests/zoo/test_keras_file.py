"""`.keras` files that somebody has tampered with: each is one ValueError that names the file."""

import io
import json
import resource
import struct
import threading
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import kerasdet
from kerasdet.backbones import Backbone
from kerasdet.layers import AnchorGenerator, FeaturePyramid, Subnets
from kerasdet.models import MaskRCNN, RetinaNet
from kerasdet.zoo import load
from kerasdet.zoo.admission import DEEPEST
from tests.tiny import TinyBackbone

WEIGHTS = "model.weights.h5"
KERNEL = "backbone/layers/conv_norm/vars/0"
MEGABYTES = 300


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A detector's file, and what is in it."""
    keras.utils.set_random_seed(0)
    model = RetinaNet(
        2,
        backbone=TinyBackbone(levels=("C3",)),
        neck=FeaturePyramid(8, ("C3",), None, name="neck"),
        head=Subnets(8, 1, name="head"),
        anchors=AnchorGenerator([[16.0]], [1.0], [8]),
    )
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return path, {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def written(saved, tmp_path):
    """Write the file again with other members, an edited config or edited weights."""

    def write(members=(), config=None, weights=None, compression=zipfile.ZIP_STORED):
        content = {**saved[1], **dict(members)}
        if config:
            tree = json.loads(content["config.json"])
            config(tree)
            content["config.json"] = json.dumps(tree).encode()
        if weights:
            buffer = io.BytesIO(content[WEIGHTS])
            with h5py.File(buffer, "r+") as file:
                weights(file)
            content[WEIGHTS] = buffer.getvalue()
        path = tmp_path / "bad.keras"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in content.items():
                if data is not None:
                    archive.writestr(name, data)
        return path

    return write


def refused(path, message):
    """One ValueError, plain, that names the file; with little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert type(caught.value) is ValueError
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024


def of(part, **values):
    """An edit of a part's config; of the model's own where `part` is None."""

    def edit(tree):
        config = tree["config"] if part is None else tree["config"][part]["config"]
        assert set(values) <= set(config), "a name that the config does not have"
        config.update(values)

    return edit


def put(part, node):
    """An edit that puts another object in a part's place."""
    return lambda tree: tree["config"].update({part: node})


def layer(name, module="keras.layers", registered=None, **config):
    return {
        "module": module,
        "class_name": name,
        "config": config,
        "registered_name": registered,
    }


def function(module, name):
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": name,
    }


def nested(depth):
    tree = 0
    for _ in range(depth):
        tree = [tree]
    return tree


LAMBDA = {"class_name": "__lambda__", "config": {"value": ["4wAA", None, None]}}
TYPE_SPEC = {"class_name": "__typespec__", "spec_name": "TensorSpec", "module": "os", "config": []}

CONFIGS = {
    "a Lambda layer": (
        put("neck", layer("Lambda", function=LAMBDA)),
        "asks for keras.layers.Lambda",
    ),
    "a lambda": (put("resize", LAMBDA), "asks for None.__lambda__"),
    "an array of texts": (
        put("resize", layer("__numpy__", value=[""], dtype="S999999999")),
        "__numpy__",
    ),
    "a type": (put("resize", TYPE_SPEC), "asks for os.__typespec__"),
    "a function of Keras": (
        put("resize", function("builtins", "relu")),
        "asks for the function relu",
    ),
    "a function of Python": (
        put("resize", function("os", "system")),
        "asks for the function system",
    ),
    "a foreign class": (put("head", layer("Popen", "subprocess")), "asks for subprocess.Popen"),
    "a class to import": (put("head", layer("Own", "mine", "mine>Own")), "import the module that"),
    "a saved model": (
        put("backbone", layer("TFSMLayer", filepath="/x")),
        "asks for keras.layers.TFSM",
    ),
    "a hub's class": (
        put("head", layer("Any", "keras_hub.layers")),
        "asks for keras_hub.layers.Any",
    ),
    "Keras inside": (
        put("head", layer("get_file", "keras.utils")),
        "asks for keras.utils.get_file",
    ),
    "a class without a name": (put("head", {"class_name": 7, "config": {}}), "asks for None.7"),
    "another model": (
        lambda tree: tree.update(layer("Sequential", "keras")),
        "holds a Sequential, not",
    ),
    "a part as the model": (
        lambda tree: tree.update(tree["config"]["head"]),
        "holds a Subnets, not",
    ),
    "a part in the wrong place": (lambda t: t["config"].update(neck=t["config"]["head"]), "built"),
    "no model": (lambda tree: tree.clear(), "describes no model"),
    "an unknown argument": (lambda tree: tree["config"].update(command="x"), "cannot be built"),
    "a later format": (of(None, format_version=99), "upgrade kerasdet"),
    "a deep head": (
        of("head", depth=100_000),
        "depth is 100000; give a whole number from 0 to 100",
    ),
    "a negative depth": (of("head", depth=-1), "depth is -1"),
    "a depth in words": (of("head", depth="4"), "depth is '4'"),
    "immense channels": (of("head", channels=10**9), "channels is 1000000000"),
    "wide channels": (of("neck", channels=60_000), "asks for a weight of shape"),
    "a deep and wide head": (of("head", channels=4000, depth=100), "asks for a weight of shape"),
    "immense classes": (of(None, num_classes=10**9, class_names=None), "num_classes must be"),
    "many classes": (of(None, num_classes=90_000, class_names=None, category_ids=None), "of shape"),
    "half a class": (of(None, num_classes=1.5), "num_classes must be a whole number"),
    "another network": (of(None, backbone=None), "asks for a weight of shape"),
    "an immense canvas": (
        put("resize", layer("Fit", "", "kerasdet>Fit", height=10**9, width=1)),
        "pixels",
    ),
    "a resize of numbers": (
        of(None, resize=[1, 2]),
        "resize is a part of kerasdet.layers.resizing",
    ),
    "a threshold in words": (
        of(None, score_threshold="low"),
        "score_threshold must be .* not 'low'",
    ),
    "a threshold beyond 1": (of(None, score_threshold=1.5), "score_threshold must be"),
    "immense detections": (of(None, max_detections=10**9), "max_detections must be"),
    "means of two channels": (of("backbone", mean=[1, 2]), "cannot be built"),
    "a deviation of zero": (of("backbone", std=[1, 0, 1]), "std above 0"),
    "anchors of no size": (of("anchors", sizes=[[-1.0]]), "positive finite numbers"),
    "a million anchors": (
        of("anchors", sizes=[[1.0] * 1000], aspect_ratios=[[1.0] * 1000]),
        "anchors",
    ),
    "a NaN": (
        of("anchors", offset=float("nan")),
        r"config.json.config.anchors.config.offset is nan",
    ),
    "an infinity": (
        of(None, iou_threshold=float("inf")),
        "iou_threshold is inf; give a finite number",
    ),
    "a long number": (of(None, max_detections=10**50), "more than 40 digits"),
    "half a character": (of(None, name="\ud800"), r"half a character: \\ud800"),
    "half a character as a key": (lambda t: t["config"].update({"\ud800": 1}), "half a character"),
    "a long text": (of("neck", name="a" * 100_000), "more than 4096 characters"),
    "a deep list": (of(None, class_names=nested(DEEPEST + 10)), f"deeper than {DEEPEST} levels"),
    "many objects": (put("head", [layer("ReLU")] * 20_001), "more than 20000 objects"),
    "fewer classes": (
        of(None, num_classes=1, class_names=None, category_ids=None),
        "does not fit this",
    ),
}


@pytest.mark.parametrize("fault", CONFIGS)
def test_a_config_that_is_refused(written, fault):
    edit, message = CONFIGS[fault]
    refused(written(config=edit), message)


MEMBERS = {
    "no config": ({"config.json": None}, "holds no config.json"),
    "no weights": ({WEIGHTS: None}, "holds no model.weights.h5"),
    "another member": ({"assets/a.py": b"x"}, r"holds assets/a\.py beside"),
    "a path upwards": ({"../evil": b"x"}, r"holds \.\./evil beside"),
    "an immense config": ({"config.json": b" " * (9 << 20)}, "config.json of 9437184 bytes, over"),
    "immense metadata": ({"metadata.json": b" " * (1 << 17)}, "metadata.json of 131072 bytes"),
    "no JSON": ({"config.json": b"{"}, "config.json is no JSON"),
    "no text": ({"config.json": b"\xff\xfe\x00"}, "config.json is no JSON"),
    "deep JSON": ({"config.json": b"[" * 1_000_000}, "config.json is no JSON"),
    "a long number": ({"config.json": b"9" * 10_000}, "config.json is no JSON"),
    "a list": ({"config.json": b"[]"}, "describes no model"),
    "no HDF5": ({WEIGHTS: b"not HDF5 at all"}, "is no HDF5 file"),
    "empty weights": ({WEIGHTS: b""}, "is no HDF5 file"),
    "a pickle": ({WEIGHTS: b"\x80\x04\x95"}, "is no HDF5 file"),
}


@pytest.mark.parametrize("fault", MEMBERS)
def test_members_that_are_refused(written, fault):
    members, message = MEMBERS[fault]
    refused(written(members), message)


def replaced(key, **how):
    """An edit that stores a weight in another way."""

    def edit(file):
        data = file[key][...]
        del file[key]
        file.create_dataset(key, **{"data": data, **how})

    return edit


def bomb(file):
    """Four gigabytes of zeros in a few kilobytes."""
    del file[KERNEL]
    file.create_dataset(KERNEL, (1 << 30,), "float32", chunks=(1 << 24,), compression="gzip")


def linked(file):
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink("/etc/passwd", "/x")


def soft(file):
    del file[KERNEL]
    file[KERNEL] = h5py.SoftLink("/backbone")


def outside(file):
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 3, 3, 8), "float32", external=[("/etc/passwd", 0, 864)])


def virtual(file):
    del file[KERNEL]
    layout = h5py.VirtualLayout((3, 3, 3, 8), "float32")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 3, 3, 8))
    file.create_virtual_dataset(KERNEL, layout)


def filled(value, key=KERNEL):
    def edit(file):
        file[key][...] = value

    return edit


def one(value):
    def edit(file):
        file[KERNEL][0, 0, 0, 0] = value

    return edit


HDF5 = {
    "gzip": (replaced(KERNEL, compression="gzip"), "chunked, not in one piece"),
    "chunks": (replaced(KERNEL, chunks=(1, 1, 1, 8)), "chunked, not in one piece"),
    "a bomb": (bomb, "chunked, not in one piece"),
    "an external link": (linked, "softly or to another file"),
    "a soft link": (soft, "softly or to another file"),
    "external data": (outside, "in another file"),
    "virtual data": (virtual, "virtual, not in one piece"),
    "another shape": (
        replaced(KERNEL, data=np.zeros((3, 3, 3, 9), "f4")),
        rf"{KERNEL} is \(3, 3, 3, 9\)",
    ),
    "a transposed shape": (
        replaced(KERNEL, data=np.zeros((3, 3, 8, 3), "f4")),
        r"is \(3, 3, 8, 3\) in",
    ),
    "another type": (
        replaced(KERNEL, data=np.zeros((3, 3, 3, 8), "f8")),
        "is float64 in the file and",
    ),
    "integers": (
        replaced(KERNEL, data=np.zeros((3, 3, 3, 8), "i4")),
        "is int32 in the file and float32",
    ),
    "texts": (replaced(KERNEL, data=[b"text"]), "not as little-endian numbers"),
    "no numbers": (replaced(KERNEL, data=None, shape=(3, 3, 3, 8), dtype="f4"), "bytes of"),
    "a missing weight": (lambda file: file.__delitem__(KERNEL), f"{KERNEL} is missing in the file"),
    "a weight too many": (
        lambda file: file.create_dataset("x", data=[1.0]),
        "x is .* in the file and missing",
    ),
    "NaN everywhere": (filled(np.nan), f"the weight {KERNEL} holds NaN or infinite values"),
    "one NaN": (one(np.nan), f"the weight {KERNEL} holds NaN or infinite values"),
    "one infinity": (one(-np.inf), f"the weight {KERNEL} holds NaN or infinite values"),
}


@pytest.mark.parametrize("fault", HDF5)
def test_weights_that_are_refused(written, fault):
    edit, message = HDF5[fault]
    refused(written(weights=edit), message)


def test_compressed_members_are_refused(written):
    refused(
        written(compression=zipfile.ZIP_DEFLATED), "compressed or encrypted, which Keras never does"
    )


def test_an_archive_whose_directory_lies_is_refused(saved, tmp_path):
    content = bytearray(saved[0].read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # of the weights, the last member
    for place in (entry + 20, entry + 24):
        struct.pack_into("<I", content, place, 4_000_000_000)
    path = tmp_path / "large.keras"
    path.write_bytes(content)
    refused(path, "is damaged: model.weights.h5")


def test_two_members_of_one_name_are_refused(saved, tmp_path):
    path = tmp_path / "twice.keras"
    path.write_bytes(saved[0].read_bytes())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", b"{}")
    refused(path, "two members config.json")


def test_every_entrance_passes_the_same_check(written):
    path = written(weights=filled(np.nan))
    for enter in (load, kerasdet.load, RetinaNet.from_preset, Backbone.from_preset):
        with pytest.raises(ValueError, match=r"bad\.keras: the weight .* holds NaN"):
            enter(path)


def test_the_sound_file_loads_with_its_weights(saved, written):
    source = keras.saving.load_model(saved[0], compile=False)
    for path in (saved[0], written()):
        loaded = load(path)
        assert type(loaded) is RetinaNet
        assert loaded.get_config() == source.get_config()
        for ours, theirs in zip(loaded.get_weights(), source.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_compiled_and_trained_model_loads_without_its_optimizer(tmp_path):
    from tests.training_parts import Squares, one_box

    model = one_box()
    model.compile("adamw")
    model.fit(Squares(8).batches(4, resize=model.resize), epochs=1, verbose=0)
    model.save(tmp_path / "trained.keras")
    loaded = load(tmp_path / "trained.keras")
    assert not loaded.compiled
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@keras.saving.register_keras_serializable("mine")
class OwnBackbone(Backbone):
    """A user's, on Keras' own layers and a function of the user's."""

    def __init__(self, width=4, activation="relu", levels=("C3",), **kwargs):
        x = inputs = keras.Input((None, None, 3))
        for _ in range(3):
            x = keras.layers.Conv2D(width, 3, 2, "same", activation=activation)(x)
        kwargs = {"mean": (0.0,) * 3, "std": (1.0,) * 3, **kwargs}
        super().__init__(inputs, {"C3": x}, levels, **kwargs)
        self.width, self.activation = width, keras.activations.get(activation)

    def get_config(self):
        activation = keras.saving.serialize_keras_object(self.activation)
        return {**super().get_config(), "width": self.width, "activation": activation}

    @classmethod
    def from_config(cls, config):
        config["activation"] = keras.saving.deserialize_keras_object(config["activation"])
        return cls(**config)


@keras.saving.register_keras_serializable("mine")
def own_activation(x):
    return keras.ops.relu(x) * 2.0


def test_parts_that_the_process_has_registered_are_admitted(tmp_path):
    model = RetinaNet(
        1,
        backbone=OwnBackbone(activation=own_activation),
        neck=FeaturePyramid(8, ("C3",), None, name="neck"),
        head=Subnets(8, 1, name="head"),
        anchors=AnchorGenerator([[16.0]], [1.0], [8]),
    )
    model.save(tmp_path / "own.keras")
    loaded = load(tmp_path / "own.keras")
    assert type(loaded.backbone) is OwnBackbone
    assert loaded.backbone.activation is own_activation
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_halves_of_other_policies_keep_their_values(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("bfloat16")
    try:
        model = RetinaNet(
            1,
            backbone=TinyBackbone(levels=("C3",), dtype="bfloat16"),
            neck=FeaturePyramid(8, ("C3",), None, name="neck"),
            head=Subnets(8, 1, name="head"),
            anchors=AnchorGenerator([[16.0]], [1.0], [8]),
        )
    finally:
        keras.config.set_dtype_policy(before)
    assert "bfloat16" in {weight.dtype for weight in model.weights}
    model.save(tmp_path / "half.keras")
    loaded = load(tmp_path / "half.keras")
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(np.array(ours, "float32"), np.array(theirs, "float32"))


def test_two_stages_with_branches_come_back(tmp_path):
    from tests.contract.detectors import mask_rcnn

    model = mask_rcnn()
    model.save(tmp_path / "masks.keras")
    loaded = load(tmp_path / "masks.keras")
    assert type(loaded) is MaskRCNN
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_layers_are_free_again_after_loading(saved, written):
    create = keras.layers.Layer.add_weight
    load(saved[0])
    refused(written(config=of("neck", channels=60_000)), "asks for a weight")
    assert keras.layers.Layer.add_weight is create
    # 4 million numbers, more than any load above was granted.
    assert keras.layers.Dense(2000).build((None, 2000)) is None


def test_other_threads_build_freely_meanwhile(saved, monkeypatch):
    from kerasdet.zoo import keras_file

    shapes = []

    def build():
        dense = keras.layers.Dense(2000)
        dense.build((None, 2000))
        shapes.append(tuple(dense.kernel.shape))

    with keras_file._bounded(0, 0):
        thread = threading.Thread(target=build)
        thread.start()
        thread.join()
        with pytest.raises(ValueError, match=r"weight of shape \(2000, 2000\)"):
            build()
    assert shapes == [(2000, 2000)]


def test_a_pipe_is_no_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.keras")
    with pytest.raises(FileNotFoundError, match=r"pipe\.keras"):
        load(Path(tmp_path / "pipe.keras"))
