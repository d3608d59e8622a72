"""From a published file to a model: downloaded, verified, converted once, and kept."""

import hashlib
import json

import numpy as np
import pytest

import kerasdet
from kerasdet.backbones import Backbone, ImageClassifier, MobileNetV2
from kerasdet.cli import main
from kerasdet.layers import AnchorGenerator, DenseHead, FeaturePyramid, MaskHead, Subnets
from kerasdet.layers.resizing import Fit
from kerasdet.models import (
    Detector,
    FasterRCNN,
    KeypointBranch,
    KeypointRCNN,
    MaskBranch,
    MaskRCNN,
    RegionProposalNetwork,
    RetinaNet,
)
from kerasdet.zoo import models
from kerasdet.zoo.download import DownloadError
from kerasdet.zoo.manifest import METRICS, manifest_paths, read_manifest, validate
from kerasdet.zoo.origins import torchvision
from kerasdet.zoo.pack import described
from kerasdet.zoo.pytorch import AXES
from tests.zoo.checkpoint_files import zip_of
from tests.zoo.server import Answer, Server

TASKS = {Detector: "detection", ImageClassifier: "classification", Backbone: "features"}
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def detector():
    backbone = MobileNetV2(alpha=0.1, levels=("C3", "C4", "C5"))
    neck, head = FeaturePyramid(8, name="neck"), Subnets(8, 1, name="head")
    return RetinaNet(3, backbone, neck, head, resize=Fit(64, 64))


def classifier(num_classes=4):
    model = ImageClassifier(MobileNetV2(alpha=0.1), num_classes=num_classes)
    model.build()
    return model


def call(*arguments):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def checkpoint(model, seed=0, **more):
    """The model's weights, lively ones, as torchvision would publish them."""
    rng, arrays = np.random.default_rng(seed), {}
    for name, variable in torchvision.names(model).items():
        spread = rng.uniform(0.5, 1.5) if "variance" in variable.path else 0
        value = rng.normal(0, 0.1, variable.shape) + np.ones(variable.shape) * spread
        variable.assign(abs(value) if "variance" in variable.path else value)
        array = variable.numpy().transpose(np.argsort(AXES.get(value.ndim, (0,))))
        arrays[name] = with_background(array, name)
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    return zip_of(arrays | more)


def with_background(array, name):
    """What our models leave out, and the columns of regions channel by channel."""
    if "box_predictor.bbox_pred" in name:
        return np.concatenate([array[:4] + 1, array])
    if "mask_fcn_logits" in name:
        return np.concatenate([array[:1] + 1, array])
    if name.endswith("box_head.fc6.weight"):
        return array.reshape(len(array), 49, -1).transpose(0, 2, 1).reshape(array.shape)
    return array


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server, and its files and ours in folders of the test."""
    monkeypatch.setenv("KERASDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("KERASDET_MIRROR", raising=False)
    monkeypatch.setattr(models, "FOLDER", tmp_path / "zoo")
    (tmp_path / "zoo").mkdir()
    with Server() as running:
        yield running


def publish(server, model, name, content=None, **changes):
    """Serve a model's weights, or a content, and tell of them in a manifest."""
    content = content or checkpoint(model)
    task = next(task for kind, task in TASKS.items() if isinstance(model, kind))
    figures = {METRICS[task][0]: 0.364} if METRICS[task] else {}
    server.files[f"/{name}.pth"] = content
    config = json.loads(json.dumps(model.get_config()))
    manifest = {
        "schema": 3,
        "name": name,
        "task": task,
        "paper": {"title": "A Paper", "arxiv": "1708.02002"},
        "class": type(model).__name__,
        "config": config,
        "parameters": model.count_params(),
        "classes": [str(i) for i in range(getattr(model, "num_classes", 0))],
        "input": {"channels": 3, "order": "RGB", "range": [0, 255], "preparation": "none"},
        "weights": {
            "url": server.url(f"/{name}.pth"),
            "sha256": hashlib.sha256(content).hexdigest()[:8],
            "bytes": len(content),
            "mebibytes": 0.1,
            "format": "torch",
            "licence": "not stated",
            **changes,
        },
        "conversion": "torchvision",
        "published": {"data": "A Set", "metrics": figures, "source": "a page"},
        "metrics": None,
    }
    path = models.FOLDER / f"{name}.json"
    validate(manifest, path)
    path.write_text(json.dumps(manifest))


def two_stages(kind=FasterRCNN, **parts):
    backbone = MobileNetV2(alpha=0.1, levels=("C4", "C5"))
    neck = FeaturePyramid(8, ("C4", "C5"), p6_from="pool", name="neck")
    rpn = RegionProposalNetwork(AnchorGenerator.fpn(levels=3), 8, proposals=(50, 50), name="rpn")
    head = DenseHead((8,), name="head")
    return kind(3, backbone=backbone, neck=neck, rpn=rpn, head=head, resize=Fit(64, 64), **parts)


def masks():
    return {"branches": [MaskBranch(head=MaskHead((8,), 8, name="mask_head"))]}


def keypoints():
    head = MaskHead((8,) * 8, None, name="keypoint_head")
    return {"num_keypoints": 5, "branches": [KeypointBranch(head=head)]}


def equal(model, other):
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_a_published_detector_is_downloaded_and_converted_once(server, tmp_path):
    model = detector()
    publish(server, model, "small_coco")
    loaded = RetinaNet.from_preset("small_coco", score_threshold=0.2)
    assert equal(loaded, model)
    assert loaded.score_threshold == 0.2
    outputs, expected = (m.predict_on_batch(IMAGE[None] * 1.0) for m in (loaded, model))
    np.testing.assert_allclose(outputs["boxes"][0, :5], expected["boxes"][0, :5], atol=1e-3)
    assert len(server.requests) == 1
    digits = hashlib.sha256(server.files["/small_coco.pth"]).hexdigest()[:8]
    assert (
        tmp_path / "cache" / f"small_coco-{digits}-v{models.CONVERSION_VERSION}.weights.h5"
    ).exists()

    # From now on neither the network nor the file as it was published is needed.
    server.files.clear()
    (tmp_path / "cache" / "small_coco.pth").unlink()
    assert equal(kerasdet.load("small_coco"), model)
    assert len(server.requests) == 1


def test_a_classifier_and_its_backbone(server):
    model = classifier()
    publish(server, model, "backbone_imagenet")
    loaded = kerasdet.load("backbone_imagenet")
    logits, expected = (m(IMAGE[None].astype("float32")) for m in (loaded, model))
    np.testing.assert_array_equal(logits, expected)
    detector = RetinaNet(2, loaded.backbone, FeaturePyramid(8), Subnets(8, 1))
    assert equal(detector.backbone, model.backbone)


def test_other_classes_on_published_weights(server):
    model = detector()
    publish(server, model, "small_coco")
    loaded = RetinaNet.from_preset("small_coco", num_classes=7, freeze_at="C3")
    assert equal(loaded.backbone, model.backbone)
    assert equal(loaded.neck, model.neck)
    assert loaded.num_classes == 7
    assert loaded.category_ids == tuple(range(1, 8))


@pytest.mark.parametrize(
    ("kind", "parts", "new"),
    [
        (FasterRCNN, dict, lambda model: model.classifier.class_output),
        (MaskRCNN, masks, lambda model: model.branches[0].output_conv),
        (KeypointRCNN, keypoints, lambda model: model.branches[0].output_conv),
    ],
)
def test_other_classes_on_two_stages(server, kind, parts, new):
    model = two_stages(kind, **parts())
    publish(server, model, "small_coco")
    assert equal(kind.from_preset("small_coco"), model)
    loaded = kind.from_preset("small_coco", class_names=["cell", "wall"], freeze_at="C3")
    for part in ("backbone", "neck", "rpn"):
        assert equal(getattr(loaded, part), getattr(model, part))
    assert not equal(new(loaded), new(model))
    assert loaded.num_classes == 2
    assert loaded.backbone.frozen_norm
    assert getattr(loaded, "num_keypoints", 5) == 5


def test_other_keypoints_make_new_heads(server):
    parts = keypoints() | {"num_keypoints": None}
    model = two_stages(KeypointRCNN, keypoint_names=["beak", "tail"], **parts)
    publish(server, model, "small_coco")
    same = KeypointRCNN.from_preset("small_coco", keypoint_names=("beak", "tail"))
    assert equal(same, model)
    loaded = KeypointRCNN.from_preset("small_coco", num_keypoints=3)
    assert loaded.keypoint_names == ("0", "1", "2")
    assert loaded.class_names == model.class_names
    assert equal(loaded.neck, model.neck)
    assert not equal(loaded.classifier.class_output, model.classifier.class_output)
    named = KeypointRCNN.from_preset("small_coco", class_names=["owl"], keypoint_names=["eye"])
    assert (named.num_classes, named.num_keypoints, named.keypoint_names) == (1, 1, ("eye",))
    with pytest.raises(ValueError, match="keypoint_names has 2 entries for 3 keypoints"):
        KeypointRCNN.from_preset("small_coco", num_keypoints=3, keypoint_names=["beak", "tail"])


def test_other_classes_without_a_neck(server):
    backbone = MobileNetV2(alpha=0.1, levels=("C4",))
    rpn = RegionProposalNetwork(AnchorGenerator([[32]], [1.0]), 8, name="rpn")
    parts = {"rpn": rpn, "head": DenseHead((8,), name="head"), "resize": Fit(64, 64)}
    model = FasterRCNN(3, backbone=backbone, neck=False, **parts)
    publish(server, model, "small_coco")
    loaded = FasterRCNN.from_preset("small_coco", num_classes=2)
    assert loaded.neck is False
    assert equal(loaded.rpn, model.rpn)


def test_other_classes_on_a_published_classifier(server):
    model = classifier()
    publish(server, model, "backbone_imagenet")
    loaded = kerasdet.zoo.build("backbone_imagenet", num_classes=3, freeze_at="C2")
    assert equal(loaded.backbone, model.backbone)
    assert loaded.backbone.frozen_norm
    assert loaded.backbone.freeze_at == "C2"
    assert loaded.fc.kernel.shape[-1] == 3


def test_a_backbone_whose_classifier_is_not_usable(server, tmp_path):
    model = classifier(1000)
    nothing = {
        name: np.full(shape, np.nan, "float32")
        for name, shape in {"classifier.1.weight": (1000, 1280), "classifier.1.bias": 1000}.items()
    }
    publish(server, model.backbone, "backbone_imagenet", checkpoint(model, **nothing))
    features = kerasdet.zoo.build("backbone_imagenet", freeze_at="C2")
    assert equal(features, model.backbone)
    assert features.freeze_at == "C2"
    features.save(tmp_path / "backbone.keras")
    assert equal(kerasdet.load(tmp_path / "backbone.keras"), features)
    with pytest.raises(ValueError, match="no argument 'num_classes'"):
        kerasdet.zoo.build("backbone_imagenet", num_classes=3)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(status=404), "404"),
        (Answer(content=b"something else"), "SHA-256|bytes"),
    ],
)
def test_what_is_not_the_published_file_is_never_parsed(server, monkeypatch, answer, message):
    from kerasdet.zoo import checkpoints

    monkeypatch.setattr(checkpoints, "read_checkpoint", None)
    publish(server, detector(), "small_coco")
    server.answers["/small_coco.pth"] = [answer] * 9
    with pytest.raises(DownloadError, match=message):
        kerasdet.load("small_coco")
    assert not list((models.FOLDER.parent / "cache").glob("*.h5"))


def test_a_file_of_another_model_leaves_nothing(server, tmp_path):
    publish(server, detector(), "small_coco")
    other = checkpoint(classifier())
    server.files["/small_coco.pth"] = other
    manifest = json.loads((models.FOLDER / "small_coco.json").read_text())
    manifest["weights"] |= {"sha256": hashlib.sha256(other).hexdigest(), "bytes": len(other)}
    (models.FOLDER / "small_coco.json").write_text(json.dumps(manifest))
    with pytest.raises(
        ValueError, match=r"small_coco\.pth does not fit this RetinaNet: .* missing"
    ):
        kerasdet.load("small_coco")
    assert not list((tmp_path / "cache").glob("*.h5"))


def test_convert_writes_a_model_that_loads(server, tmp_path, capsys):
    model = detector()
    publish(server, model, "small_coco")
    file, out = tmp_path / "from_a_friend.pth", tmp_path / "model.keras"
    file.write_bytes(server.files["/small_coco.pth"])
    assert call("convert", file, "--preset", "small_coco", "--out", out) == 0
    assert "small_coco" in capsys.readouterr().out
    assert equal(kerasdet.load(out), model)
    assert not server.requests


def test_info_of_a_saved_classifier(tmp_path, capsys):
    classifier().save(tmp_path / "model.keras")
    assert call("info", tmp_path / "model.keras") == 0
    shown = capsys.readouterr().out
    assert "ImageClassifier" in shown
    assert "MobileNetV2" in shown


def test_convert_refuses_what_does_not_fit_by_name(server, tmp_path, capsys):
    publish(server, detector(), "small_coco")
    arrays = tmp_path / "other.pth"
    arrays.write_bytes(checkpoint(detector(), stranger=np.ones((2, 2), "float32")))
    out = tmp_path / "model.keras"
    for file, place, message in (
        (arrays, out, "stranger is left over"),
        (tmp_path / "none.pth", out, "There is no checkpoint"),
        (arrays, tmp_path / "model.h5", "must end in .keras"),
    ):
        assert call("convert", file, "--preset", "small_coco", "--out", place) == 1
        assert message in capsys.readouterr().err
    assert not out.exists()


def test_list_and_info_tell_of_published_weights(server, capsys):
    publish(server, detector(), "small_coco")
    for arguments in (["list"], ["info", "small_coco"]):
        assert call(*arguments) == 0
        shown = capsys.readouterr().out
        assert "small_coco" in shown
        assert "not stated" in shown
        assert "0.364" in shown


@pytest.mark.parametrize("name", manifest_paths())
def test_a_manifest_describes_its_model_whole(name):
    manifest = read_manifest(manifest_paths()[name])
    model = models.empty_model(manifest, manifest["config"])
    # No argument is missing, and no default of today can change what was published.
    assert described(model) == manifest["config"]
    assert model.count_params() == manifest["parameters"]
    assert type(model).__name__ == manifest["class"]
    assert model.name == name


# As they were trained: torchvision's detectors of 2021 and mmdetection's keep ImageNet's statistics, all
# others learn their own.
FROZEN = {
    *("cascade_rcnn_r50_fpn_20e_coco", "cascade_mask_rcnn_r50_fpn_20e_coco"),
    *(f"faster_rcnn_r50_fpn_{kind}_c3_c5_1x_coco" for kind in ("dconv", "mdconv")),
    *("fasterrcnn_resnet50_fpn_coco", "fasterrcnn_mobilenet_v3_large_fpn_coco"),
    *("fasterrcnn_mobilenet_v3_large_320_fpn_coco", "maskrcnn_resnet50_fpn_coco"),
    *("keypointrcnn_resnet50_fpn_coco", "keypointrcnn_resnet50_fpn_coco_legacy"),
    *("retinanet_resnet50_fpn_coco", "fcos_resnet50_fpn_coco", "rfcn_resnet101_voc0712"),
}
DROPOUT = {
    f"mobilenet_{kind}_imagenet{version}" for kind in ("v2", "v3_large") for version in ("", "_v2")
}


def test_what_is_frozen_and_dropped_is_as_it_was_trained():
    configs = {name: read_manifest(path)["config"] for name, path in manifest_paths().items()}
    backbones = {
        name: config.get("backbone", {"config": config})["config"]
        for name, config in configs.items()
    }
    assert {name for name, config in backbones.items() if config["frozen_norm"]} == FROZEN
    assert all(config["freeze_at"] is None for config in backbones.values())
    classifiers = {
        name: config["dropout"] for name, config in configs.items() if "dropout" in config
    }
    assert {name for name, rate in classifiers.items() if rate} == DROPOUT
    assert {rate for rate in classifiers.values() if rate} == {0.2}


def test_a_shipped_model_has_no_published_file(tmp_path):
    manifest = models.info("retinanet_mobilenetv2_bccd")
    with pytest.raises(ValueError, match="of retinanet_mobilenetv2_bccd come with the package"):
        models.convert_file(manifest, tmp_path / "a.pth")


def test_a_backbones_preset_is_a_backbone(server):
    model = classifier(1000)
    publish(server, model.backbone, "backbone_imagenet", checkpoint(model))
    features = Backbone.from_preset("backbone_imagenet", freeze_at="C2", levels=("C4",))
    assert equal(features.get_layer("stem"), model.backbone.get_layer("stem"))
    assert features.levels == ("C4",)
    # Transfer freezes what the published model does not.
    assert (model.backbone.frozen_norm, features.frozen_norm) == (False, True)
    assert not Backbone.from_preset("backbone_imagenet", frozen_norm=False).frozen_norm
    with pytest.raises(ValueError, match="is a MobileNetV2; give an image classifier"):
        Backbone.split_preset("backbone_imagenet")
