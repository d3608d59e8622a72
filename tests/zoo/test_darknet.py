"""Darknet's files: the original Darknet's and OpenCV's numbers, and files that do not fit."""

import struct

import numpy as np
import pytest

import kerasdet
from kerasdet.backbones import ImageClassifier
from kerasdet.cli import main
from kerasdet.layers import Letterbox, Stretch
from kerasdet.models import YOLO, YOLOv2
from kerasdet.zoo import origins
from kerasdet.zoo.checkpoints.darknet_cfg import read_cfg
from kerasdet.zoo.origins import darknet
from kerasdet.zoo.origins.darknet import load_darknet
from tests.golden.store import FOLDER
from tests.parity.darknet import differences

KINDS = {
    "yolov2": YOLOv2,
    "yolov2-tiny": YOLOv2,
    "yolov1": YOLO,
    "yolov1-local": YOLO,
    "classifier": ImageClassifier,
}


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "darknet.npz") as file:
        arrays = {key: file[key] for key in file.files}
    names = {key.partition("/")[0] for key in arrays}
    return {
        name: {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith(f"{name}/")}
        for name in names
    }


def written(values, folder, cfg=None, weights=None):
    """The two files of a network, or others in their place."""
    paths = folder / "net.cfg", folder / "net.weights"
    paths[0].write_text(str(values["cfg"]) if cfg is None else cfg)
    paths[1].write_bytes(values["weights"].tobytes() if weights is None else weights)
    return paths


@pytest.mark.parametrize("name", KINDS)
def test_darknets_and_opencvs_numbers(golden, name, tmp_path):
    values = golden[name]
    model = load_darknet(*written(values, tmp_path))
    assert type(model) is KINDS[name]
    found = differences(model, values)
    wanted = {
        "YOLOv2": {"raw", "boxes", "scores", "opencv boxes", "opencv scores"},
        "YOLO": {"raw", "boxes", "scores"},
        "ImageClassifier": {"raw"},
    }
    assert set(found) == wanted[type(model).__name__]
    assert max(found.values()) < 1e-4, found


def test_the_parts_are_those_of_the_configuration(golden, tmp_path):
    model = load_darknet(*written(golden["yolov2"], tmp_path), class_names=("a", "b", "c"))
    assert model.class_names == ("a", "b", "c")
    assert model.resize == Letterbox(64, 96)
    assert model.iou_threshold == 0.45
    np.testing.assert_allclose(model.anchors[0], [32 * 1.3221, 32 * 1.73145])
    head = model.head
    assert (head.channels, head.depth, head.passthrough, head.order) == (12, 3, 4, "darknet")
    assert head.levels == ("C4", "C5")
    tiny = load_darknet(*written(golden["yolov2-tiny"], tmp_path))
    assert (tiny.head.depth, tiny.head.passthrough, tiny.backbone.plan[-2:]) == (
        1,
        0,
        ("pool1", (16, 3, 1)),
    )
    first = load_darknet(*written(golden["yolov1-local"], tmp_path))
    assert (first.grid, first.boxes_per_cell, first.head.local) == (3, 3, 6)
    assert first.resize == Stretch(96)
    assert (first.head.dropout, first.head.norm, first.backbone.norm) == (0.5, "batch", "batch")
    plain = load_darknet(*written(golden["yolov1"], tmp_path))
    assert (plain.head.units, plain.head.norm, plain.backbone.norm) == ((24,), None, None)


@pytest.mark.parametrize("name", KINDS)
def test_saved_models_give_equal_outputs(golden, name, tmp_path):
    values = golden[name]
    model = load_darknet(*written(values, tmp_path))
    model.save(tmp_path / "model.keras")
    found = differences(kerasdet.load(tmp_path / "model.keras"), values)
    assert max(found.values()) < 1e-4, found


def test_a_built_model_is_filled_or_left_unchanged(golden, tmp_path):
    values = golden["yolov2"]
    model = load_darknet(*written(values, tmp_path))
    wanted = model.get_weights()
    model.set_weights([np.full_like(w, 0.5) for w in wanted])
    other = (tmp_path / "other.cfg", tmp_path / "other.weights")
    other[0].write_text(str(golden["yolov2-tiny"]["cfg"]))
    other[1].write_bytes(golden["yolov2-tiny"]["weights"].tobytes())
    with pytest.raises(ValueError, match=r"describes a YOLOv2 of .*, not this YOLOv2 of"):
        origins.load("darknet", model, *other)
    assert all((w == 0.5).all() for w in model.get_weights())
    assert origins.load("darknet", model, *written(values, tmp_path)) is model
    for found, expected in zip(model.get_weights(), wanted):
        np.testing.assert_array_equal(found, expected)


def test_both_headers(golden, tmp_path):
    # Version 0.1 counts images in 4 bytes, 0.2 in 8.
    values = golden["yolov2"]
    old = values["weights"].tobytes()
    assert old[:12] == struct.pack("<3i", 0, 1, 0)
    new = struct.pack("<3iq", 0, 2, 0, 1 << 40) + old[16:]
    found = differences(load_darknet(*written(values, tmp_path, weights=new)), values)
    assert max(found.values()) < 1e-4
    wrong = struct.pack("<3i", 0, 2, 0) + old[12:]
    with pytest.raises(ValueError, match=r"ends within the weights of \[convolutional\]"):
        load_darknet(*written(values, tmp_path, weights=wrong))


WEIGHTS = [
    (lambda data: data[:-4], r"net.weights has 35548 bytes and ends within the weights of"),
    (lambda data: data[:50], r"ends within the means of \[convolutional\] at line 9"),
    (lambda data: data[:10], r"net.weights ends at byte 10, but 12 bytes"),
    (lambda data: b"", r"net.weights ends at byte 0"),
    (lambda data: data + b"\0\0\0\0", r"has 4 bytes left over after \[convolutional\] at line"),
    (lambda data: struct.pack("<3i", 0, 5000, 0) + data[12:], r"has the version 0.5000"),
    (lambda data: struct.pack("<3i", -1, 1, 0) + data[12:], r"has the version -1.1"),
    (lambda data: data[:16] + b"\0\0\xc0\x7f" + data[20:], r"has biases of .* that are not finite"),
    (lambda data: data[:64] + b"\0\0\x80\xbf" * 4 + data[80:], r"has negative variances"),
]


@pytest.mark.parametrize(("change", "message"), WEIGHTS, ids=[message for _, message in WEIGHTS])
def test_weights_that_do_not_fit_are_one_clear_error(golden, change, message, tmp_path):
    values = golden["yolov2"]
    data = change(values["weights"].tobytes())
    with pytest.raises(ValueError, match=message) as caught:
        load_darknet(*written(values, tmp_path, weights=data))
    assert "Fix: " in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.cfg", "net.weights"]


def test_weights_of_another_network(golden, tmp_path):
    values = golden["yolov2"]
    weights = golden["yolov2-tiny"]["weights"].tobytes()
    with pytest.raises(
        ValueError, match=r"net\.weights has 22948 bytes and ends within .*very \.cfg"
    ):
        load_darknet(*written(values, tmp_path, weights=weights))


CONFIGURATIONS = [
    ("yolov2", "[reorg]", "[upsample]", r"line 96, \[upsample\]: this kind of section is unknown"),
    ("yolov2", "[net]", "[nit]", "does not begin with .net."),
    ("yolov2", "filters=4\n", "filters=99999999999999999999999\n", r"line 11.*filters is 9999"),
    ("yolov2", "filters=4\n", "filters=16777216\n", "ends within the biases"),
    ("yolov2", "filters=4\n", f"filters={'9' * 5000}\n", r"line 11.*filters is '9999"),
    ("yolov2", "filters=4\n", "filters=-4\n", "filters is -4. Fix: give a whole number from 1"),
    ("yolov2", "filters=4\n", "filters=4.5\n", "filters is '4.5'"),
    ("yolov2", "filters=4\n", "groups=4\n", r"line 11.*the option 'groups' is unknown here"),
    ("yolov2", "filters=4\n", "filters\n", "'filters' is neither a section nor an option"),
    ("yolov2", "width=96", "width=inf", r"line 5, \[net\]: width is 'inf'"),
    ("yolov2", "width=96", "width=1000000", r"width is 1000000. Fix: .* to 8192"),
    ("yolov2", "width=96\n", "", r"\[net\]: the option width is missing"),
    (
        "yolov2",
        "width=96",
        "width=80",
        r"a cell has 32 pixels, and \[net\] 64 x 80|channels in fours",
    ),
    ("yolov2", "layers=-6", "layers=-7", "it does not read the last map of twice"),
    ("yolov2", "layers=-6", "layers=99", "layers has 99, and 14 layers come before"),
    ("yolov2", "layers=-6", "layers=-6.5", "layers has -6.5"),
    ("yolov2", "layers=-1,-4", "layers=-4,-1", "it joins other layers"),
    ("yolov2", "layers=-1,-4", "layers=-1,-9", "its layers have different sizes"),
    (
        "yolov2",
        "activation=leaky",
        "activation=mish",
        "activation is 'mish'. Fix: use leaky or linear",
    ),
    ("yolov2", "activation=leaky", "activation=linear", "a hidden convolution is not leaky"),
    ("yolov2", "filters=24", "filters=25", r"it reads 25 channels, not 3 \(5 \+ 3\)"),
    ("yolov2", "num=3", "num=4", "num=4, and there are 6 numbers in anchors"),
    ("yolov2", "1.73145", "nan", "anchors is 'nan'"),
    ("yolov2", "1.73145", "-2", "there are 6 numbers in anchors.*positive"),
    ("yolov2", "softmax=1", "softmax=0", "softmax is 0"),
    ("yolov2", "coords=4", "coords=5", "coords is 5"),
    # What is missing has Darknet's default, which may be other arithmetic.
    ("yolov2", "softmax=1\n", "", r"softmax is missing, which means 0. Fix: give .* from 1 to 1"),
    ("yolov2", "stride=2\n[route]", "[route]", "stride is missing, which means 1"),
    ("yolov2-tiny", "size=2\nstride=1\n", "stride=1\n", "size is missing, which means 1"),
    ("yolov1", "sqrt=1\n", "", "sqrt is missing, which means 0"),
    ("yolov1", "coords=4\n", "", "coords is missing, which means 1"),
    ("yolov1-local", "pad=1\nfilters=6", "filters=6", "pad is missing, which means 0"),
    ("yolov2", "thresh=.6", "tree=9k.tree", "the option 'tree' is unknown"),
    ("yolov2", "stride=2\n[route]", "stride=4\n[route]", "stride is 4"),
    ("yolov2-tiny", "size=2\nstride=1\n", "size=3\nstride=1\n", "size is 3"),
    ("yolov1", "sqrt=1", "sqrt=0", "sqrt is 0"),
    ("yolov1", "side=3", "side=4", r"it reads 117 x 1 x 1 numbers, not 208.*output=208"),
    ("yolov1", "[dropout]", "[maxpool]", "the option 'probability' is unknown here"),
    ("yolov1-local", "size=3\nstride=1\npad=1\nfilters=6", "size=5\npad=1\nfilters=6", "size is 5"),
    ("classifier", "[avgpool]\n", "", r"it comes before \[softmax\]|it should give"),
    ("classifier", "[softmax]\ngroups=1\n", "", r"line \d+, \[avgpool\]: the network ends here"),
]


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    CONFIGURATIONS,
    ids=[f"{name}: {old!r:.20} {new!r:.30}" for name, old, new, _ in CONFIGURATIONS],
)
def test_configurations_that_are_not_known_are_one_clear_error(
    golden, name, old, new, message, tmp_path
):
    values = golden[name]
    text = str(values["cfg"])
    assert old in text
    with pytest.raises(ValueError, match=message) as caught:
        load_darknet(*written(values, tmp_path, cfg=text.replace(old, new, 1)))
    assert "Fix: " in str(caught.value)
    assert "net." in str(caught.value)
    assert len(str(caught.value)) < 500


SHORT = {
    "[net]\nwidth=32\nheight=32\n[region]\nanchors=1,1\nsoftmax=1\nclasses=1\n": "reads 3 channels",
    "[net]\nwidth=8\nheight=8\n[softmax]\n": "no layer has weights",
    "[net]\nwidth=8\nheight=8\n[maxpool]\nsize=2\nstride=2\n[avgpool]\n[softmax]\n": "no layer has weights",
    "[net]\nwidth=8\nheight=8\n[connected]\noutput=3\n": "activation is 'logistic'",
    "[net]\nwidth=8\nheight=8\n[connected]\noutput=3\nactivation=linear\n[softmax]\n": "bytes left over",
}


@pytest.mark.parametrize("text", SHORT)
def test_networks_without_a_body(golden, text, tmp_path):
    with pytest.raises(ValueError, match=SHORT[text]) as caught:
        load_darknet(*written(golden["yolov2"], tmp_path, cfg=text))
    assert "Fix: " in str(caught.value)


def numbers_of(cfg, tmp_path):
    """Zeros for a network: a weights file of the right size."""
    (tmp_path / "net.cfg").write_text(cfg)
    layers = darknet.read_layers(tmp_path / "net.cfg")
    count = sum(int(np.prod(piece.shape)) for piece in darknet.pieces(layers))
    return struct.pack("<iiiq", 0, 2, 0, 0) + bytes(4 * count)


def test_a_grey_network_and_a_pool_before_the_last_convolution(golden, tmp_path):
    cfg = (
        "[net]\nwidth=64\nheight=64\nchannels=1\n"
        "[convolutional]\nfilters=4\nsize=3\nstride=1\npad=1\nactivation=leaky\nbatch_normalize=1\n"
        "[maxpool]\nsize=2\nstride=2\n"
        "[convolutional]\nfilters=7\nsize=1\nstride=1\nactivation=linear\n"
        "[region]\nanchors=1,1\nclasses=2\nnum=1\nsoftmax=1\n"
    )
    model = load_darknet(
        *written(golden["yolov2"], tmp_path, cfg, numbers_of(cfg, tmp_path)), score_threshold=0.1
    )
    outputs = model(np.zeros((1, 64, 64, 1), np.uint8))
    assert outputs["logits"].shape == (1, 32 * 32, 2)
    assert (model.mean, model.std) == ((0.0,), (255.0,))


def test_a_pool_of_stride_one_after_stride_64(golden, tmp_path):
    conv = "[convolutional]\nfilters=4\nsize=3\nstride=1\npad=1\nactivation=leaky\n"
    halves = (conv + "[maxpool]\nsize=2\nstride=2\n") * 6
    cfg = (
        f"[net]\nwidth=64\nheight=64\n{halves}[maxpool]\nsize=2\nstride=1\n{conv}"
        "[connected]\noutput=7\nactivation=linear\n"
        "[detection]\nclasses=2\ncoords=4\nside=1\nnum=1\nsqrt=1\n"
    )
    model = load_darknet(*written(golden["yolov2"], tmp_path, cfg, numbers_of(cfg, tmp_path)))
    assert [row for row in model.head.convs if isinstance(row, str)] == ["pool", "pool1"]
    assert model(np.zeros((1, 64, 64, 3), np.uint8))["classes"].shape == (1, 1, 2)


def test_a_byte_order_mark_and_the_cost_of_older_classifiers(golden, tmp_path):
    values = golden["classifier"]
    expected = load_darknet(*written(values, tmp_path)).get_weights()
    cfg = "\ufeff" + str(values["cfg"]) + "\n[cost]\ntype=sse\n"
    (tmp_path / "other").mkdir()
    found = load_darknet(*written(values, tmp_path / "other", cfg)).get_weights()
    for own, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(own, other)


def test_norms_in_some_convolutions_alone(golden, tmp_path):
    values = golden["yolov2"]
    cfg = str(values["cfg"]).replace("batch_normalize=1\n", "", 1)
    data = values["weights"].tobytes()
    without = data[:32] + data[80:]  # of the first four filters: scales, means and variances
    with pytest.raises(ValueError, match="some convolutions have batch normalisation, others"):
        load_darknet(*written(values, tmp_path, cfg, without))


def test_every_cut_of_a_configuration_is_an_error_or_nothing_else(golden, tmp_path):
    text = str(golden["yolov2"]["cfg"])
    for end in range(0, len(text) - 150, 29):
        with pytest.raises(ValueError, match="Fix: "):
            load_darknet(*written(golden["yolov2"], tmp_path, cfg=text[:end]))


def test_files_that_are_not_there_or_exchanged(golden, tmp_path):
    cfg, weights = written(golden["yolov2"], tmp_path)
    with pytest.raises(FileNotFoundError, match="no configuration file"):
        load_darknet(tmp_path / "none.cfg", weights)
    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_darknet(cfg, tmp_path / "none.weights")
    with pytest.raises(ValueError, match=r"give the \.cfg first and the .weights second"):
        load_darknet(weights, cfg)
    cfg.write_bytes(b"[net]\n" + b"#" * (1 << 20))
    with pytest.raises(ValueError, match="more than a configuration of Darknet"):
        load_darknet(cfg, weights)
    cfg.write_text("[net]\nwidth=32\nheight=32\n" + "[maxpool]\nstride=1\n" * 1001)
    with pytest.raises(ValueError, match="more than 1000 sections"):
        load_darknet(cfg, weights)


def test_comments_blanks_and_repeated_options(tmp_path):
    path = tmp_path / "a.cfg"
    path.write_text("# first\n\n[net]\n width = 32 # inline\r\nwidth=64\n; another\nheight=9\n")
    (net,) = read_cfg(path)
    # Darknet takes the first of equal names.
    assert (net.integer("width"), net.integer("height"), net.line) == (32, 9, 3)


def test_variance_is_divided_as_darknet_does(golden, tmp_path):
    values = golden["classifier"]
    layers = darknet.read_layers(written(values, tmp_path)[0])
    model = load_darknet(*written(values, tmp_path))
    norm = model.backbone.get_layer("conv1").norm
    first = np.frombuffer(values["weights"].tobytes()[16:], "<f4")
    assert [piece.name for piece in darknet.pieces(layers)][:5] == [
        *("biases", "scales", "means", "variances", "weights"),
    ]
    np.testing.assert_array_equal(norm.beta, first[:4])
    np.testing.assert_array_equal(norm.gamma, first[4:8])
    np.testing.assert_array_equal(norm.moving_mean, first[8:12])
    expected = (np.sqrt(first[12:16].astype("float64")) + 1e-6) ** 2
    np.testing.assert_allclose(norm.moving_variance, expected, rtol=1e-7)
    assert norm.epsilon == 0


def call(*arguments):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def test_convert_writes_darknets_model(golden, tmp_path, capsys):
    files, out = written(golden["yolov2"], tmp_path), tmp_path / "model.keras"
    names = tmp_path / "three.names"
    names.write_text("dog\ncat\nred panda\n")
    assert call("convert", *files, "--names", names, "--out", out) == 0
    assert "net.cfg, " in capsys.readouterr().out
    model = kerasdet.load(out)
    assert model.class_names == ("dog", "cat", "red panda")
    assert model.resize == Letterbox(64, 96)
    found = differences(model, golden["yolov2"])
    assert max(found.values()) < 1e-4, found
    assert call("detect", "--model", out, "--out", tmp_path / "found", tmp_path / "none.png") == 1


def test_convert_refuses_what_is_not_darknets(golden, tmp_path, capsys):
    cfg, weights = written(golden["yolov2"], tmp_path)
    out, names = tmp_path / "model.keras", tmp_path / "two.names"
    names.write_text("dog\ncat\n")
    cut = tmp_path / "cut.weights"
    cut.write_bytes(golden["yolov2"]["weights"].tobytes()[:-4])
    for arguments, message in (
        ((weights, cfg), "give Darknet's .cfg and .weights, in this order, or --preset"),
        ((cfg,), "give Darknet's .cfg and .weights, in this order, or --preset"),
        ((cfg, weights, "--names", names), "two.names has 2 names, the network 3 classes"),
        ((cfg, cut), "cut.weights"),
        ((cfg, weights, "--preset", "resnet18_imagenet", "--names", names), "belongs to Darknet's"),
    ):
        assert call("convert", *arguments, "--out", out) == 1
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1
    assert not out.exists()
    files = written(golden["classifier"], tmp_path)
    assert call("convert", *files, "--names", names, "--out", out) == 1
    assert "an ImageClassifier has no names" in capsys.readouterr().err
