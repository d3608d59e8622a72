"""The authors' Caffe detectors: OpenCV's numbers, and files that do not fit."""

import io
import tarfile

import numpy as np
import pytest

from kerasdet import ops as K
from kerasdet.zoo import info, origins
from kerasdet.zoo.checkpoints import CheckpointError
from kerasdet.zoo.checkpoints.archived import extract, is_archive
from kerasdet.zoo.checkpoints.caffemodel import read_caffemodel
from kerasdet.zoo.models import convert_file
from kerasdet.zoo.origins import caffe
from tests.golden.caffe_networks import SMALL, network, write
from tests.golden.store import FOLDER
from tests.parity.caffe import LAST_PIXEL, compare, small_model
from tests.parity.compare import within_bounds
from tests.zoo import caffe_files


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "caffe.npz") as file:
        arrays = {key: file[key] for key in file.files}
    names = {key.partition("/")[0] for key in arrays}
    return {
        name: {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith(f"{name}/")}
        for name in names
    }


@pytest.mark.parametrize("name", SMALL)
def test_opencvs_proposals_scores_and_boxes(golden, name, tmp_path):
    row = compare(name, golden[name], tmp_path, small=True)
    assert within_bounds(row), row
    assert row["found"] >= 30
    assert row["labels"] == 4


def test_opencvs_region_pooling(golden):
    values = golden["layers"]
    for name, pool in (("roi_pool", K.roi_pool), ("ps_roi_pool", K.ps_roi_pool)):
        maps = values[f"{name}/maps"].transpose(0, 2, 3, 1)
        boxes = values[f"{name}/rois"][None, :, 1:] + LAST_PIXEL
        pooled = np.asarray(pool(maps, boxes, 7, 1 / 16, rounding="pixels"))[0]
        wanted = values[f"{name}/output"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(pooled, wanted, atol=1e-5)
        rounded = np.asarray(pool(maps, boxes, 7, 1 / 16))[0]
        assert np.abs(rounded - wanted).max() > 0.1  # the default is another rule


# -- arrays ------------------------------------------------------------------------------------------


def test_changes_of_arrays_by_hand():
    array = np.arange(6.0).reshape(1, 3, 2, 1)
    np.testing.assert_array_equal(caffe.red_first(array)[0, :, 0, 0], [4, 2, 0])
    # Two channels of 1 x 2 cells: C, H, W -> H, W, C.
    np.testing.assert_array_equal(caffe.channels_last(np.arange(4.0)[None], 2), [[0, 2, 1, 3]])
    np.testing.assert_array_equal(caffe.one_logit(np.array([1.0, 2.0, 5.0, 9.0])), [4, 7])
    # Background, then one class: dx, dy, dw, dh are multiplied by 10, 10, 5 and 5.
    rows = np.arange(8.0)
    np.testing.assert_array_equal(caffe.region_deltas(rows), [40, 50, 30, 35])
    rows = np.arange(16.0)  # two bins
    wanted = [80, 90, 100, 110, 60, 65, 70, 75]
    np.testing.assert_array_equal(caffe.region_deltas(rows, bins=2), wanted)


def test_statistics_have_a_common_factor():
    found = {"mean": np.array([4.0]), "variance": np.array([8.0]), "factor": np.array([2.0])}
    found, fault = caffe._statistics(found)
    assert (found["mean"], found["variance"], fault) == (2, 4, None)
    found = {"mean": np.array([4.0]), "variance": np.array([8.0]), "factor": np.array([0.0])}
    found, _ = caffe._statistics(found)
    assert (found["mean"], found["variance"]) == (0, 0)
    assert caffe._statistics({"mean": np.ones(1), "variance": np.ones(1)})[1].startswith(
        "no factor"
    )
    wrong = {"variance": np.array([-1.0]), "factor": np.ones(1)}
    assert caffe._statistics(wrong)[1] == "negative variances"


def test_blocks_of_resnet_101_have_the_authors_names():
    slots = caffe.name_weights(
        small_model("rfcn_resnet101_voc0712"), caffe.TABLE, caffe.WEIGHTS, "caffe"
    )
    for name in ("res2c_branch2a", "res3b3_branch2c", "res4b22_branch2b", "res5a_branch1"):
        assert f"{name}, kernel" in slots
        assert f"bn{name.removeprefix('res')}, variance" in slots
    assert "res4b23_branch2b, kernel" not in slots


# -- files -------------------------------------------------------------------------------------------

VGG = "fast_rcnn_vgg16_voc07"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Both files of a small Fast R-CNN, and its layers."""
    folder = tmp_path_factory.mktemp("caffe")
    net = network(VGG, **SMALL[VGG])
    prototxt, weights = write(net, folder, VGG)
    return weights, prototxt, net.weights()


@pytest.fixture(scope="module")
def model():
    return small_model(VGG)


def equal(model, other):
    return all(np.array_equal(a, b) for a, b in zip(model, other, strict=True))


def test_old_files_have_four_axes(files, model, tmp_path):
    weights, prototxt, layers = files
    origins.load("caffe", model, weights, prototxt)
    wanted = model.get_weights()
    model.set_weights([0 * array for array in wanted])
    old = tmp_path / "old.caffemodel"
    old.write_bytes(caffe_files.caffemodel(layers, old=True))
    origins.load("caffe", model, old)
    assert equal(model.get_weights(), wanted)


WRONG_LAYERS = [
    (lambda x: x | {"fc8": x["fc7"]}, "fc8, bias is left over"),
    (lambda x: {k: v for k, v in x.items() if k != "conv3_2"}, "conv3_2, bias is missing"),
    (
        lambda x: x | {"fc6": ("InnerProduct", [x["fc6"][1][0][:, :-49], x["fc6"][1][1]])},
        r"fc6, kernel has the shape \(24, 25039\) instead of \(24, 25088\)",
    ),
    (
        lambda x: x | {"fc6": ("InnerProduct", [x["fc6"][1][0][:, :-1], x["fc6"][1][1]])},
        r"fc6, kernel has the shape \(24, 25087\), which is not this layer's",
    ),
    (
        lambda x: x | {"bbox_pred": ("InnerProduct", [a[:-1] for a in x["bbox_pred"][1]])},
        r"bbox_pred, bias has the shape \(19,\), which is not this layer's",
    ),
    (
        lambda x: x | {"fc7": ("PReLU", x["fc7"][1])},
        "fc7 has 2 arrays of the type PReLU, which is unknown",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG_LAYERS)
def test_files_of_another_network_change_nothing(files, model, tmp_path, change, message):
    path = tmp_path / "other.caffemodel"
    path.write_bytes(caffe_files.caffemodel(change(files[2])))
    before = model.get_weights()
    with pytest.raises(ValueError, match=message) as caught:
        origins.load("caffe", model, path)
    assert str(caught.value).startswith(f"{path} does not fit this FastRCNN")
    assert equal(model.get_weights(), before)


WRONG_TEXTS = [
    (
        "num_output: 24",
        "num_output: 25",
        "'fc6' of the type 'InnerProduct' has outputs 25, the model 24",
    ),
    ("stride: 2 pad: 0", "stride: 1 pad: 0", r"'pool1' .* has stride \(1, 1\), the model \(2, 2\)"),
    ("pool: MAX", "pool: AVE", "'pool1' of the type 'Pooling' has pool AVE, the model MAX"),
    ("dilation: 1", "dilation: 2", r"'conv1_1' .* has dilation \(2, 2\), the model \(1, 1\)"),
    ("pad: 1", "pad: 0", r"'conv1_1' .* has padding \(0, 0\), the model \(1, 1\)"),
    ("pooled_w: 7", "pooled_w: 6", r"'roi_pool5' .* has bins \(7, 6\), the model \(7, 7\)"),
    (
        "spatial_scale: 0.0625",
        "spatial_scale: 0.125",
        "'roi_pool5' .* has scale 0.125, the model 0.0625",
    ),
    (
        "dropout_ratio: 0.5",
        "dropout_ratio: 0.5 scale_train: false",
        "'drop6' of the type 'Dropout' has factor 0.5, the model 1.0",
    ),
    ('type: "ReLU"', 'type: "PReLU"', "'relu1_1' of the type 'PReLU' is unknown"),
    (
        'name: "conv1_1"',
        'name: "conv1_0"',
        "'conv1_0' of the type 'Convolution' is not in the model",
    ),
    ('name: "cls_prob"', "name: [", "a value is due behind name"),
    ("layer {", "layers {", "it is of Caffe's old format"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG_TEXTS)
def test_a_prototxt_of_another_network_changes_nothing(files, model, tmp_path, old, new, message):
    weights, prototxt, _ = files
    path = tmp_path / "other.prototxt"
    text = prototxt.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    before = model.get_weights()
    with pytest.raises(CheckpointError, match=message) as caught:
        origins.load("caffe", model, weights, path)
    assert str(caught.value).startswith(f"{path}, line ")
    assert equal(model.get_weights(), before)


def test_a_prototxt_without_a_layer(files, model, tmp_path):
    weights, prototxt, _ = files
    path = tmp_path / "other.prototxt"
    lines = prototxt.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if 'name: "fc7"' not in line))
    with pytest.raises(CheckpointError, match="the layer 'fc7' of the model is missing"):
        origins.load("caffe", model, weights, path)


def test_another_kind_of_model_has_no_names():
    from kerasdet.layers import FeaturePyramid, Subnets
    from kerasdet.models import RetinaNet
    from tests.tiny import TinyBackbone

    other = RetinaNet(2, TinyBackbone(), FeaturePyramid(8, name="neck"), Subnets(8, 1, name="head"))
    with pytest.raises(ValueError, match="has no name at the origin caffe"):
        origins.load("caffe", other, "none.caffemodel")


# -- archives ----------------------------------------------------------------------------------------


def archive(path, members, kind=tarfile.USTAR_FORMAT):
    with tarfile.open(path, "w:gz", format=kind) as file:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
                file.addfile(entry)
            else:
                entry.size = len(content)
                file.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_a_member_of_an_archive(tmp_path, kind):
    content = bytes(range(256)) * 9000  # more than a chunk
    members = {"models/other": b"x" * 513, "models/link": None, "./models/net": content}
    path = archive(tmp_path / "models.tgz", members, kind)
    assert is_archive(path)
    extract(path, "models/net", tmp_path / "net")
    assert (tmp_path / "net").read_bytes() == content
    shown = "its first are models/other, models/link"
    for name, message in (("models/none", shown), ("models/link", "no member")):
        with pytest.raises(CheckpointError, match=message):
            extract(path, name, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_damaged_archives(tmp_path):
    good = archive(tmp_path / "good.tgz", {"a": b"1" * 3000, "b": b"2" * 3000}).read_bytes()
    path = tmp_path / "models.tgz"
    for content, message in (
        (good[:-20], "damaged or cut short|cut short"),
        (good[:40], "cut short"),
        (b"\x1f\x8b" + b"\0" * 40, "damaged or cut short"),
        (good[:30] + b"\xff\xff\xff" + good[33:], "damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            extract(path, "c", tmp_path / "c")
    import gzip

    for block, message in (
        (b"x" * 512, "is no tar archive"),
        (b"c".ljust(257, b"\0") + b"ustar\0" + bytes(249), "gives c no size"),
    ):
        path.write_bytes(gzip.compress(block))
        with pytest.raises(CheckpointError, match=message):
            extract(path, "c", tmp_path / "c")
    huge = b"c".ljust(124, b"\0") + b"77777777777\0" + bytes(121) + b"ustar\0" + bytes(249)
    path.write_bytes(gzip.compress(huge))
    with pytest.raises(CheckpointError, match="unpacks to more than 4294967296 bytes"):
        extract(path, "c", tmp_path / "c")


def test_what_is_converted_is_the_member_that_the_authors_have_published(
    files, tmp_path, monkeypatch
):
    weights, prototxt, _ = files
    manifest = dict(info(VGG))
    manifest["weights"] = manifest["weights"] | {"member_sha1": "0" * 40}
    monkeypatch.setattr("kerasdet.zoo.models.empty_model", lambda *_: small_model(VGG))
    member = manifest["weights"]["member"]
    path = archive(tmp_path / "models.tgz", {member: weights.read_bytes()})
    with pytest.raises(ValueError, match=r"another vgg16_fast_rcnn_iter_40000\.caffemodel"):
        convert_file(manifest, path)
    wanted = convert_file(manifest, weights).get_weights()
    del manifest["weights"]["member_sha1"]
    assert equal(convert_file(manifest, path, prototxt).get_weights(), wanted)
    with pytest.raises(ValueError, match="is published as 1 files, not 3"):
        convert_file(manifest, path, prototxt, prototxt)


# -- manifests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_manifests_are_configured_as_published(name):
    manifest = info(name)
    config = manifest["config"]
    assert manifest["classes"][0] == "aeroplane"
    assert manifest["classes"][14] == "person"
    assert len(manifest["classes"]) == 20
    assert config["whole_pixels"] is True
    assert config["resize"]["config"] == {"short": 600, "long": 1000, "divisor": 1, "nearest": True}
    thresholds = [config[key] for key in ("score_threshold", "iou_threshold", "max_detections")]
    assert thresholds == [0.05, 0.3, 100]
    backbone = config["backbone"]["config"]
    assert backbone["mean"] == [122.7717, 115.9465, 102.9801]  # red, green, blue
    assert backbone["std"] == [1.0, 1.0, 1.0]
    if "rpn" in config:
        rpn = config["rpn"]["config"]
        assert (rpn["candidates"][1], rpn["proposals"][1], rpn["smallest"]) == (6000, 300, 16.0)


def test_the_golden_weights_are_those_of_a_caffe_network(files):
    found = read_caffemodel(files[0])
    assert found["conv1_1"].blobs[0].shape == (64, 3, 3, 3)
    assert found["fc6"].blobs[0].shape == (24, 7 * 7 * 512)
