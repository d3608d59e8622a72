"""A new origin is one new file: a toy one, and a toy model that has neither backbone nor neck."""

import hashlib
import json
import sys

import keras
import numpy as np
import pytest

import kerasdet
from kerasdet import zoo
from kerasdet.cli import main
from kerasdet.zoo import models, origins
from kerasdet.zoo.filling import Slot, fill_weights, name_weights
from kerasdet.zoo.manifest import validate
from kerasdet.zoo.pack import pack
from tests.zoo.server import Server

# Like darknet's, its file has no names: floats of the layers in their order, kernels OIHW. The number of
# floats stands in a second file.
ORIGIN = '''
"""A toy origin."""

import json

import numpy as np

from kerasdet.zoo.filling import fill_weights, name_weights

TABLE = {
    "Segmenter": (("stem", "stem"), ("head", "head/")),
    "Conv2D": (("", ""),),
    "Head": ((r"out(\\d)", r"\\1"),),
}


def load(model, path, index):
    slots = name_weights(model, TABLE, {"kernel": ":w", "bias": ":b"}, "toy")
    numbers, arrays, start = np.fromfile(path, "<f4"), {}, 0
    for name, slot in slots.items():
        shape = slot.variable.shape
        shape = shape if len(shape) == 1 else [shape[axis] for axis in (3, 2, 0, 1)]
        part = numbers[start : start + np.prod(shape)]
        if len(part) == np.prod(shape):
            arrays[name] = part.reshape(shape)
        start += np.prod(shape)
    faults = []
    if len(numbers) != json.loads(index.read_text()):
        faults.append(f"{len(numbers)} numbers instead of {index.read_text()}")
    return fill_weights(model, slots, arrays, path.name, {4: (2, 3, 1, 0)}, faults)
'''


@keras.saving.register_keras_serializable("kerasdet_tests")
class Head(keras.layers.Layer):
    """A part with a layer."""

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.out1 = keras.layers.Conv2D(num_classes, 1, name="out1")

    def build(self, shape):
        self.out1.build(shape)
        self.built = True


@keras.saving.register_keras_serializable("kerasdet_tests")
class Segmenter(keras.Model):
    """Four channels to a map of classes, by two convolutions."""

    TARGETS = ("semantic",)
    TRANSFERRED = ("stem", "neck", "backbone")

    def __init__(self, num_classes, class_names=None, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.class_names = tuple(class_names or map(str, range(num_classes)))
        self.mean = (0.0, 0.0, 0.0, 0.0)
        self.stem = keras.layers.Conv2D(5, 3, name="stem")
        self.head = Head(num_classes, name="head")
        self.build()

    def build(self, input_shape=None):
        self.stem.build((None, None, None, 4))
        self.head.build((None, None, None, 5))
        self.built = True

    def call(self, images):
        return self.head.out1(self.stem(images))

    def get_config(self):
        names = list(self.class_names)
        return {"name": self.name, "num_classes": self.num_classes, "class_names": names}


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """The package with one more origin, one more model, and manifests of the test's own."""
    monkeypatch.setenv("KERASDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("KERASDET_MIRROR", raising=False)
    (tmp_path / "origins").mkdir()
    (tmp_path / "origins" / "toy.py").write_text(ORIGIN)
    monkeypatch.setattr(origins, "__path__", [*origins.__path__, str(tmp_path / "origins")])
    monkeypatch.setattr(kerasdet.models, "Segmenter", Segmenter, raising=False)
    monkeypatch.setattr(models, "FOLDER", tmp_path / "zoo")
    (tmp_path / "zoo").mkdir()
    with Server() as server:
        yield server
    sys.modules.pop("kerasdet.zoo.origins.toy", None)


def published(server, **changes):
    """A manifest of the toy model, whose files are served; and the numbers in them."""
    numbers = np.random.default_rng(0).normal(size=5 * 4 * 9 + 5 + 2 * 5 + 2).astype("<f4")
    files = {"/net.weights": numbers.tobytes(), "/size.json": str(len(numbers)).encode()}
    server.files.update(files)
    facts = [
        {
            "url": server.url(path),
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
        for path, content in files.items()
    ]
    manifest = {
        "schema": 3,
        "name": "toy_set",
        "task": "segmentation",
        "paper": {"title": "A Paper", "doi": "10.1109/CVPR.2001.990517"},
        "class": "Segmenter",
        "config": {"name": "toy_set", "num_classes": 2, "class_names": ["brain", "tumour"]},
        "parameters": len(numbers),
        "classes": ["brain", "tumour"],
        "input": {
            "channels": 4,
            "order": "FLAIR, T1, T1c, T2",
            "range": [0, 255],
            "preparation": "none",
        },
        "weights": {
            **facts[0],
            "parts": facts[1:],
            "mebibytes": 0.001,
            "format": "toy",
            "licence": "MIT",
        },
        "conversion": "toy",
        "published": {"data": "A Set", "metrics": {"mIU": 0.622}, "source": "a page"},
        "metrics": None,
        **changes,
    }
    path = models.FOLDER / "toy_set.json"
    validate(manifest, path)
    path.write_text(json.dumps(manifest))
    return numbers


def call(*arguments):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def kernel(layer):
    return np.asarray(layer.kernel)


def test_a_new_origin_is_one_new_file(toy, capsys):
    assert origins.origin_names() == sorted(
        [
            *("caffe", "darknet", "face_api", "keras_applications", "mmdetection"),
            *("object_detection_api", "torchvision", "toy"),
        ]
    )
    numbers = published(toy)
    model = kerasdet.load("toy_set")
    assert model.class_names == ("brain", "tumour")
    stem = numbers[:180].reshape(5, 4, 3, 3)
    np.testing.assert_array_equal(kernel(model.stem), stem.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(np.asarray(model.stem.bias), numbers[180:185])
    np.testing.assert_array_equal(kernel(model.head.out1)[0, 0].T.ravel(), numbers[185:195])
    assert len(toy.requests) == 2
    kerasdet.load("toy_set")
    assert len(toy.requests) == 2

    assert zoo.summary("toy_set")["source"] == "10.1109/CVPR.2001.990517"
    for arguments, shown in {
        ("list",): ("segmentation", "mIU", "10.1109/CVPR", "0.622"),
        ("info", "toy_set"): ("FLAIR, T1, T1c, T2", "doi: 10.1109/CVPR.2001.990517", "mIU: 0.622"),
    }.items():
        assert call(*arguments) == 0
        printed = capsys.readouterr().out
        assert all(text in printed for text in shown), printed


def test_a_model_without_backbone_and_neck_takes_other_classes(toy):
    published(toy)
    source, model = kerasdet.load("toy_set"), zoo.build("toy_set", num_classes=7)
    np.testing.assert_array_equal(kernel(model.stem), kernel(source.stem))
    assert kernel(model.head.out1).shape == (1, 1, 5, 7)
    for argument in ("freeze_at", "frozen_norm"):  # a backbone's
        with pytest.raises(ValueError, match=f"toy_set has no argument '{argument}'; it has class"):
            zoo.build("toy_set", **{argument: None})


def test_a_file_that_does_not_fit_leaves_the_model_as_it_was(toy, tmp_path):
    published(toy)
    model = zoo.untrained("toy_set")
    before = model.get_weights()
    (tmp_path / "short").write_bytes(np.zeros(190, "<f4").tobytes())
    (tmp_path / "size").write_text("197")
    with pytest.raises(ValueError, match=r"short does not fit this Segmenter") as error:
        origins.load("toy", model, tmp_path / "short", tmp_path / "size")
    for part in ("190 numbers instead of 197", "head/1:w is missing", "(3 faults, 4 weights)"):
        assert part in str(error.value)
    for now, then in zip(model.get_weights(), before):
        np.testing.assert_array_equal(now, then)


def test_convert_takes_all_files_of_a_model(toy, tmp_path, capsys):
    numbers = published(toy)
    (tmp_path / "a").write_bytes(numbers.tobytes())
    (tmp_path / "b").write_text(str(len(numbers)))
    out = ("--preset", "toy_set", "--out", tmp_path / "toy.keras")
    assert call("convert", tmp_path / "a", *out) == 1
    message = "toy_set is published as 2 files, not 1: give net.weights, size.json."
    assert message in capsys.readouterr().err
    assert call("convert", tmp_path / "a", tmp_path / "b", *out) == 0
    assert (tmp_path / "toy.keras").exists()


def test_a_class_that_is_nowhere_is_named(toy):
    published(toy, **{"class": "Sgementer"})
    with pytest.raises(
        ValueError, match="toy_set: the field 'class' is 'Sgementer', which neither"
    ):
        zoo.untrained("toy_set")


def test_an_origin_without_a_file_is_refused(toy):
    with pytest.raises(ValueError, match=r"'conversion' is 'elsewhere'; give .* in zoo/origins"):
        published(toy, conversion="elsewhere")


def test_a_segmenter_is_packed_with_its_figures_and_channels(toy, tmp_path):
    card = {
        "paper": {"title": "A Paper", "url": "https://papers.example/1"},
        "data": {"name": "slices", "train": "all", "licence": "MIT"},
        "training": {"command": "kerasdet train", "minutes": 1.5},
        "evaluation": {"data": "others", "command": "kerasdet evaluate"},
        "licence": "MIT",
    }
    figures = {"mIU": 0.51239, "pixel_accuracy": 0.9, "AP": 0.3, "per_class": {"brain": 0.4}}
    model = Segmenter(2, name="slices")
    with pytest.raises(ValueError, match=r"lacks 'order', .* Segmenter have 4 channels"):
        pack(model, "slices", card, figures, tmp_path / "zoo")
    manifest = pack(model, "slices", card | {"order": "a, b, c, d"}, figures, tmp_path / "zoo")
    assert manifest["task"] == "segmentation"
    assert manifest["metrics"] == {"mIU": 0.5124, "pixel_accuracy": 0.9}
    assert manifest["input"] == {"channels": 4, "order": "a, b, c, d", "range": [0, 255]}
    loaded = kerasdet.load("slices")
    np.testing.assert_allclose(kernel(loaded.stem), kernel(model.stem), rtol=2**-11, atol=2**-25)


def slots_of(table, suffixes=None):
    return name_weights(Segmenter(2), table, suffixes or {"kernel": ".w", "bias": ".b"}, "toy")


def test_rows_compose_by_the_parts_classes():
    rows = {"Segmenter": (("stem", "a"), ("head", "b.")), "Head": ((r"out(\d)", r"c\1"),)}
    assert list(slots_of(rows)) == ["a.w", "a.b", "b.c1.w", "b.c1.b"]
    # A subclass has the rows of its base class, and a function may give them.
    rows = {"Model": (("stem", "a"), ("head", "")), "Layer": lambda part: ((r".*", part.name),)}
    assert list(slots_of(rows)) == ["astem.w", "astem.b", "head.w", "head.b"]
    # A row may have the name of one of Keras' properties: it is then a pattern.
    rows = {"Segmenter": (("stem", "a"), ("head", "")), "Head": (("output", "b"), ("out1", "c"))}
    assert list(slots_of(rows)) == ["a.w", "a.b", "c.w", "c.b"]
    # A part's class without rows: its layers are the model's.
    rows = {"Segmenter": (("stem", "a"), ("head/out1", "b"))}
    assert list(slots_of(rows)) == ["a.w", "a.b", "b.w", "b.b"]


@pytest.mark.parametrize(
    ("rows", "suffixes", "message"),
    [
        ({}, None, "'stem' of this Segmenter has no name at the origin toy"),
        (
            {"Segmenter": (("stem", "a"), ("head", "b"))},
            None,
            "'head/out1' of this Segmenter has no",
        ),
        (
            {"Segmenter": (("stem", "a"), ("head", "")), "Head": ()},
            None,
            r"'head/out1' of this Segmenter has no name .*zoo/origins/toy\.py lacks a row",
        ),
        (
            {"Segmenter": ((".*", "a"),)},
            None,
            "'head/out1' of this Segmenter shares the name 'a.w'",
        ),
        (
            {"Segmenter": (("(.*)", r"\1"),)},
            {"kernel": "/w"},
            "'stem' of this Segmenter has no name",
        ),
    ],
)
def test_what_has_no_name_of_its_own_is_refused(rows, suffixes, message):
    with pytest.raises(ValueError, match=message):
        slots_of(rows, suffixes)


def test_arrays_are_changed_before_their_axes_are_ordered():
    layer = keras.layers.Dense(2, name="dense")
    layer.build((None, 3))
    slots = {"w": Slot(layer.kernel, lambda array: array[1:]), "b": Slot(layer.bias)}
    arrays = {"w": np.arange(9.0).reshape(3, 3), "b": np.array([7.0, 8.0])}
    assert fill_weights(layer, slots, arrays, "a file", {2: (1, 0)}) is layer
    np.testing.assert_array_equal(kernel(layer), [[3, 6], [4, 7], [5, 8]])
    np.testing.assert_array_equal(np.asarray(layer.bias), [7, 8])


def test_what_cannot_be_changed_is_a_fault():
    layer = keras.layers.Dense(2, name="dense")
    layer.build((None, 3))
    slots = {
        "w": Slot(layer.kernel, lambda array: array.reshape(3, 2)[:, :1]),
        "b": Slot(layer.bias),
    }
    for size, message in (
        (5, "w has the shape .5,., which is not"),
        (6, ".3, 1. .from .6,.. instead of"),
    ):
        with pytest.raises(ValueError, match=message):
            fill_weights(layer, slots, {"w": np.zeros(size), "b": np.zeros(2)}, "a file")


def test_ten_faults_are_named():
    layer = keras.layers.Dense(2, name="dense")
    layer.build((None, 3))
    arrays = {f"x{i}": np.zeros(1) for i in range(10)} | {"w": np.zeros((3, 2))}
    with pytest.raises(ValueError, match="a file does not fit this Dense") as error:
        fill_weights(layer, {"w": Slot(layer.kernel)}, arrays, "a file", {2: (1, 0)}, ["b is bad"])
    message = str(error.value)
    assert "b is bad; w has the shape (3, 2) instead of (2, 3); x0 is left over" in message
    assert "x7 is left over; ... (12 faults, 1 weights). Give the file of this model" in message
