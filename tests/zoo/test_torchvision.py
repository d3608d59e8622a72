"""torchvision's state dicts: every name, strictly, in both generations."""

import json
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from kerasdet.backbones import ImageClassifier, MobileNetV2, MobileNetV3Large, ResNet
from kerasdet.layers import (
    AnchorGenerator,
    DenseHead,
    Distances,
    FeaturePyramid,
    GIoULoss,
    MaskHead,
    Points,
    ShortestEdge,
    SmoothL1,
    Subnets,
)
from kerasdet.models import (
    FCOS,
    FasterRCNN,
    KeypointBranch,
    KeypointRCNN,
    MaskBranch,
    MaskRCNN,
    RegionProposalNetwork,
    RetinaNet,
)
from kerasdet.zoo import untrained
from kerasdet.zoo.origins.torchvision import fill, newest_name
from kerasdet.zoo.origins.torchvision import names as names_of
from tests.tiny import TinyBackbone

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"


def small_backbone(**settings):
    return ResNet((1, 1, 1, 1), bottleneck=False, **settings)


def detector(norm=None, depth=2):
    return RetinaNet(
        2,
        backbone=small_backbone(),
        neck=FeaturePyramid(32, p6_from="P5", name="neck"),
        head=Subnets(32, depth, norm, name="head"),
    )


def classifier(backbone):
    model = ImageClassifier(backbone, num_classes=3)
    model.build()
    return model


def norm(name, channels):
    shapes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (channels,))
    return {
        f"{name}.{kind}": shape for kind, shape in {**shapes, "num_batches_tracked": ()}.items()
    }


def backbone_shapes(prefix=""):
    """torchvision's names of `backbone()`, written out."""
    shapes = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    before = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        block = f"layer{stage}.0"
        shapes[f"{block}.conv1.weight"] = (width, before, 3, 3)
        shapes[f"{block}.conv2.weight"] = (width, width, 3, 3)
        shapes |= norm(f"{block}.bn1", width) | norm(f"{block}.bn2", width)
        if stage > 1:
            shapes[f"{block}.downsample.0.weight"] = (width, before, 1, 1)
            shapes |= norm(f"{block}.downsample.1", width)
        before = width
    return {prefix + name: shape for name, shape in shapes.items()}


def detector_shapes(group=False):
    shapes = backbone_shapes("backbone.body.")

    def conv(name, out, channels, size=3, bias=True):
        shapes[f"{name}.weight"] = (out, channels, size, size)
        if bias:
            shapes[f"{name}.bias"] = (out,)

    for i, channels in enumerate((128, 256, 512)):
        conv(f"backbone.fpn.inner_blocks.{i}.0", 32, channels, size=1)
        conv(f"backbone.fpn.layer_blocks.{i}.0", 32, 32)
    for level in ("p6", "p7"):
        conv(f"backbone.fpn.extra_blocks.{level}", 32, 32)
    for head, output, width in (("classification", "cls_logits", 2), ("regression", "bbox_reg", 4)):
        for i in range(2):
            conv(f"head.{head}_head.conv.{i}.0", 32, 32, bias=not group)
            if group:
                shapes[f"head.{head}_head.conv.{i}.1.weight"] = (32,)
                shapes[f"head.{head}_head.conv.{i}.1.bias"] = (32,)
        conv(f"head.{head}_head.{output}", 9 * width, 32)
    return shapes


def tensors(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


value = ops.convert_to_numpy


def test_every_weight_of_a_backbone_in_its_layout():
    model = classifier(small_backbone())
    state = tensors({**backbone_shapes(), "fc.weight": (3, 512), "fc.bias": (3,)})
    assert fill(model, state, "a.pth") is model
    layer = model.backbone.get_layer("layer2_0_downsample")
    kernel = state["layer2.0.downsample.0.weight"]  # OIHW
    assert value(layer.kernel)[0, 0, 5, 7] == kernel[7, 5, 0, 0]
    stem = value(model.backbone.get_layer("conv1").kernel)
    assert stem[6, 1, 2, 33] == state["conv1.weight"][33, 2, 6, 1]
    for ours, theirs in {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }.items():
        expected = state[f"layer2.0.downsample.1.{theirs}"]
        np.testing.assert_array_equal(value(getattr(layer.norm, ours)), expected)
    np.testing.assert_array_equal(value(model.fc.kernel), state["fc.weight"].T)
    # Every weight has one name, and every name one weight.
    names = names_of(model)
    assert len({id(variable) for variable in names.values()}) == len(names) == len(model.weights)


@pytest.mark.parametrize(
    "name",
    ["retinanet_resnet50_fpn_v2_coco", "fcos_resnet50_fpn_coco", "mobilenet_v2_imagenet"],
)
def test_published_models_have_torchvisions_names(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        shapes = json.loads(str(file["meta"]))["shapes"]
    names = names_of(untrained(name))
    assert names.keys() == {key for key in shapes if not key.endswith("num_batches_tracked")}


def test_depthwise_kernels():
    model = classifier(MobileNetV2(alpha=0.35))
    names = names_of(model)
    state = tensors({name: _theirs(variable) for name, variable in names.items()})
    fill(model, state, "a.pth")
    kernel = value(model.backbone.get_layer("block3_depthwise").kernel)
    assert kernel[2, 1, 0, 5] == state["features.3.conv.1.0.weight"][5, 0, 2, 1]
    kernel = value(model.backbone.get_layer("block1_depthwise").kernel)
    assert kernel[2, 1, 0, 5] == state["features.1.conv.0.0.weight"][5, 0, 2, 1]


def _theirs(variable):
    shape = tuple(variable.shape)
    return (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]


def test_a_backbone_takes_its_weights_from_the_classifiers_file():
    model = small_backbone()
    state = tensors({**backbone_shapes(), "fc.weight": (1000, 512), "fc.bias": (1000,)})
    assert fill(model, state, "a.pth") is model
    kernel = value(model.get_layer("layer4_0_conv2").kernel)
    np.testing.assert_array_equal(kernel, state["layer4.0.conv2.weight"].transpose(2, 3, 1, 0))


@pytest.mark.parametrize("group", [False, True])
def test_detector(group):
    model = detector("group" if group else None)
    state = tensors(detector_shapes(group))
    fill(model, state, "a.pth")
    kernel = value(model.neck.lateral_convs["C4"].kernel)
    np.testing.assert_array_equal(
        kernel, state["backbone.fpn.inner_blocks.1.0.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        value(model.head.box_convs[1].kernel),
        state["head.regression_head.conv.1.0.weight"].transpose(2, 3, 1, 0),
    )
    if group:
        expected = state["head.classification_head.conv.1.1.bias"]
        np.testing.assert_array_equal(value(model.head.norms["class1"].beta), expected)
    else:
        expected = state["head.classification_head.conv.1.0.bias"]
        np.testing.assert_array_equal(value(model.head.class_convs[1].bias), expected)


def test_files_of_the_first_generation():
    new = tensors(detector_shapes())
    old = {}
    for name, array in new.items():
        if name.endswith("num_batches_tracked"):
            continue
        for part in ("inner_blocks", "layer_blocks"):
            for i in range(3):
                name = name.replace(f"fpn.{part}.{i}.0.", f"fpn.{part}.{i}.")
        # A ReLU stood between the convolutions: 0, 2.
        name = name.replace("_head.conv.0.0.", "_head.conv.0.").replace(
            "_head.conv.1.0.", "_head.conv.2."
        )
        old[name] = array
    assert "head.regression_head.conv.2.bias" in old
    assert "backbone.fpn.layer_blocks.2.weight" in old
    one, other = detector(), detector()
    fill(one, new, "new.pth")
    fill(other, old, "old.pth")
    for a, b in zip(one.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)
    both = old | {"head.regression_head.conv.1.0.bias": np.zeros(32)}
    with pytest.raises(ValueError, match=r"head\.regression_head\.conv\.1\.0\.bias appears twice"):
        fill(other, both, "both.pth")


def test_what_does_not_fit_is_named_and_nothing_is_changed():
    model = classifier(small_backbone())
    before = model.get_weights()
    state = tensors({**backbone_shapes(), "fc.weight": (4, 512), "fc.bias": (3,)})
    del state["bn1.running_var"]
    state["layer5.weight"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"bad\.pth does not fit this ImageClassifier") as error:
        fill(model, state, "bad.pth")
    for part in (
        "bn1.running_var is missing",
        "layer5.weight is left over",
        "fc.weight has the shape (4, 512) instead of (3, 512)",
        "(3 faults",
    ):
        assert part in str(error.value)
    for now, then in zip(model.get_weights(), before):
        np.testing.assert_array_equal(now, then)


def test_of_many_faults_ten_are_named():
    with pytest.raises(ValueError, match=r"; \.\.\. \(\d\d faults") as error:
        fill(classifier(small_backbone()), {"a.b": np.zeros(1)}, "bad.pth")
    assert str(error.value).count("is missing") == 9  # and a.b, the first, is left over


def test_models_that_torchvision_does_not_have():
    with pytest.raises(
        ValueError, match=r"'stage1' of this RetinaNet .*zoo/origins/torchvision\.py"
    ):
        names_of(RetinaNet(2, backbone=TinyBackbone()))
    with pytest.raises(ValueError, match="'head/class_norm0_P3' of this RetinaNet has no name"):
        names_of(detector("batch"))


def test_classes_are_torchvisions_columns():
    model = untrained("retinanet_resnet50_fpn_coco")
    names = model.class_names
    assert model.category_ids == tuple(range(91))
    assert len(set(names)) == 91
    assert (names[1], names[13], names[44], names[90]) == (
        "person",
        "stop sign",
        "bottle",
        "toothbrush",
    )
    unused = [0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert [i for i, name in enumerate(names) if name.startswith("unused")] == unused
    two_stages = untrained("fasterrcnn_mobilenet_v3_large_fpn_coco")
    assert two_stages.class_names == names[1:]
    assert two_stages.category_ids == tuple(range(1, 91))


@pytest.mark.parametrize(
    ("name", "epsilon", "norm", "p6_from", "box_loss"),
    [
        ("retinanet_resnet50_fpn_coco", 0.0, None, "P5", SmoothL1(beta=0.0)),
        ("retinanet_resnet50_fpn_v2_coco", 1e-5, "group", "C5", GIoULoss()),
    ],
)
def test_retinanets_are_configured_as_published(name, epsilon, norm, p6_from, box_loss):
    model = untrained(name)
    assert model.backbone.norm_epsilon == model.backbone.get_layer("conv1").norm.epsilon == epsilon
    assert (model.head.norm, model.neck.p6_from) == (norm, p6_from)
    assert type(model.box_loss) is type(box_loss)
    assert model.box_loss.get_config() == box_loss.get_config()
    assert model.resize == ShortestEdge(800, 1333)
    assert (model.score_threshold, model.iou_threshold, model.max_detections) == (0.05, 0.5, 300)
    assert model.anchors.sizes[0] == (32, 40, 50)
    assert model.anchors.sizes[4] == (512, 645, 812)
    assert model.anchors.strides is None
    assert model.class_names[1] == "person"
    assert RetinaNet.from_config(model.get_config()).backbone.norm_epsilon == epsilon
    assert untrained(name, max_detections=7).max_detections == 7


def test_fcos_is_configured_as_published():
    model = untrained("fcos_resnet50_fpn_coco")
    assert (model.head.norm, model.head.use_bias, model.neck.p6_from) == ("group", True, "P5")
    assert model.backbone.norm_epsilon == 1e-5
    expected = Points(radius=1.5, offset=0.0, steps_from_image=True, name="points")
    assert model.points.get_config() == expected.get_config()
    expected = Distances("relu", scaled=False, normalized=True, name="regression")
    assert model.regression.get_config() == expected.get_config()
    assert type(model.box_loss) is GIoULoss
    assert model.resize == ShortestEdge(800, 1333)
    assert (model.score_threshold, model.iou_threshold, model.max_detections) == (0.2, 0.6, 100)
    assert model.score_power == 0.5
    assert (model.class_names[1], model.category_ids[1]) == ("person", 1)


def test_the_towers_of_fcos_are_one_sequence():
    # Convolution, norm, ReLU, and again: layers 0, 1, 3 and 4. Older files of RetinaNet number alike.
    model = FCOS(
        2,
        backbone=small_backbone(),
        neck=FeaturePyramid(32, p6_from="P5", name="neck"),
        head=Subnets(32, 2, "group", use_bias=True, name="head"),
        regression=Distances("relu", scaled=False),
    )
    names = names_of(model)
    layers = ("conv.0", "conv.1", "conv.3", "conv.4", "bbox_reg", "bbox_ctrness")
    assert {name for name in names if name.startswith("head.regression_head.")} == {
        f"head.regression_head.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")
    }
    state = tensors({name: _theirs(variable) for name, variable in names.items()})
    fill(model, state, "a.pth")
    np.testing.assert_array_equal(
        value(model.head.class_convs[1].kernel),
        state["head.classification_head.conv.3.weight"].transpose(2, 3, 1, 0),
    )
    for ours, theirs in (
        (model.head.box_convs[1].bias, "head.regression_head.conv.3.bias"),
        (model.head.norms["box0"].gamma, "head.regression_head.conv.1.weight"),
        (model.head.norms["box1"].beta, "head.regression_head.conv.4.bias"),
        (model.centerness_output.bias, "head.regression_head.bbox_ctrness.bias"),
    ):
        np.testing.assert_array_equal(value(ours), state[theirs])


def two_stages(kind=FasterRCNN, batch=False, **parts):
    """A small detector on the two maps of MobileNetV3's."""
    levels = ("C5_first", "C5")
    neck = FeaturePyramid(16, levels, p6_from="pool", norm="batch" if batch else None, name="neck")
    anchors = AnchorGenerator([[32, 64]] * 3, [1.0])
    layers = {"units": (8,), "convs": (16, 16), "norm": "batch"} if batch else {"units": (8, 8)}
    return kind(
        3,
        backbone=MobileNetV3Large(levels, reduced_tail=True),
        neck=neck,
        rpn=RegionProposalNetwork(anchors, channels=16, name="rpn"),
        head=DenseHead(**layers, name="head"),
        **parts,
    )


def test_two_stages_on_two_maps_of_one_stride():
    names = {name: tuple(variable.shape) for name, variable in names_of(two_stages()).items()}
    small_backbone = {name for name in names if name.startswith("backbone.body.")}
    assert {name.split(".")[2] for name in small_backbone} == {str(i) for i in range(17)}
    assert names["backbone.body.13.block.2.fc1.weight"] == (1, 1, 672, 168)
    assert names["backbone.body.16.1.running_var"] == (480,)
    weights = {name: shape for name, shape in names.items() if name.endswith("weight")}
    assert {name: shape for name, shape in weights.items() if name not in small_backbone} == {
        "backbone.fpn.inner_blocks.0.0.weight": (1, 1, 80, 16),
        "backbone.fpn.inner_blocks.1.0.weight": (1, 1, 480, 16),
        "backbone.fpn.layer_blocks.0.0.weight": (3, 3, 16, 16),
        "backbone.fpn.layer_blocks.1.0.weight": (3, 3, 16, 16),
        "rpn.head.conv.0.0.weight": (3, 3, 16, 16),
        "rpn.head.cls_logits.weight": (1, 1, 16, 2),
        "rpn.head.bbox_pred.weight": (1, 1, 16, 8),
        "roi_heads.box_head.fc6.weight": (784, 8),
        "roi_heads.box_head.fc7.weight": (8, 8),
        "roi_heads.box_predictor.cls_score.weight": (8, 4),
        "roi_heads.box_predictor.bbox_pred.weight": (8, 12),
    }


def test_normed_necks_and_heads_and_masks():
    mask_head = MaskHead((16, 16), 16, norm="batch", name="mask_head")
    names = names_of(two_stages(MaskRCNN, batch=True, branches=[MaskBranch(head=mask_head)]))
    expected = {
        "backbone.fpn.inner_blocks.1.1.running_mean",
        "backbone.fpn.layer_blocks.0.1.bias",
        "roi_heads.box_head.1.0.weight",
        "roi_heads.box_head.1.1.running_var",
        "roi_heads.box_head.3.weight",  # two convolutions, and what flattens
        "roi_heads.mask_head.1.0.weight",
        "roi_heads.mask_head.1.1.weight",
        "roi_heads.mask_predictor.conv5_mask.weight",
        "roi_heads.mask_predictor.mask_fcn_logits.bias",
    }
    assert expected <= names.keys()


def test_keypoints_are_drawn_after_every_second_layer():
    head = MaskHead((16,) * 8, upsampled=None, name="keypoint_head")
    names = names_of(
        two_stages(KeypointRCNN, num_keypoints=2, branches=[KeypointBranch(head=head)])
    )
    convs = {name for name in names if "keypoint_head" in name and "weight" in name}
    assert convs == {f"roi_heads.keypoint_head.{i}.weight" for i in range(0, 16, 2)}
    assert "roi_heads.keypoint_predictor.kps_score_lowres.bias" in names


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("backbone.fpn.inner_blocks.1.weight", "backbone.fpn.inner_blocks.1.0.weight"),
        ("rpn.head.conv.bias", "rpn.head.conv.0.0.bias"),
        ("roi_heads.mask_head.mask_fcn4.weight", "roi_heads.mask_head.3.0.weight"),
        ("head.classification_head.conv.6.bias", "head.classification_head.conv.3.0.bias"),
        ("roi_heads.keypoint_head.14.weight", "roi_heads.keypoint_head.14.weight"),
    ],
)
def test_names_of_the_first_generation(old, new):
    assert newest_name(old) == new
    assert newest_name(new) == new


def test_what_the_background_has_is_left_out():
    model = two_stages(MaskRCNN, branches=[MaskBranch(head=MaskHead((16,), 16, name="mask_head"))])
    state = tensors({name: _theirs(v) for name, v in names_of(model).items()})
    whole = {
        "roi_heads.box_predictor.bbox_pred": (16, 8),
        "roi_heads.mask_predictor.mask_fcn_logits": (4, 16, 1, 1),
    }
    for name, shape in whole.items():
        state |= tensors({f"{name}.weight": shape, f"{name}.bias": shape[:1]}, seed=1)
    fill(model, state, "a.pth")
    boxes = state["roi_heads.box_predictor.bbox_pred.weight"]
    np.testing.assert_array_equal(value(model.classifier.box_output.kernel), boxes[4:].T)
    masks = state["roi_heads.mask_predictor.mask_fcn_logits.weight"]
    np.testing.assert_array_equal(
        value(model.branches[0].output_conv.kernel)[0, 0], masks[1:, :, 0, 0].T
    )
    # Regions of 7 x 7 cells are flattened channel by channel there, cell by cell here.
    fc6 = state["roi_heads.box_head.fc6.weight"].reshape(8, 16, 7, 7)
    kernel = value(model.head.dense_layers[0].kernel).reshape(7, 7, 16, 8)
    np.testing.assert_array_equal(kernel[2, 3, 5], fc6[:, 5, 2, 3])


@pytest.mark.parametrize(
    ("name", "edges", "proposals"),
    [
        ("fasterrcnn_mobilenet_v3_large_fpn_coco", (800, 1333), 1000),
        ("fasterrcnn_mobilenet_v3_large_320_fpn_coco", (320, 640), 150),
    ],
)
def test_mobilenets_detectors_are_configured_as_published(name, edges, proposals):
    model = untrained(name)
    assert model.resize == ShortestEdge(*edges)
    assert model.rpn.candidates == model.rpn.proposals == (2000, proposals)
    assert model.rpn.score_threshold == 0.05
    assert model.rpn.anchors.num_anchors == 15
    assert model.rpn.anchors.sizes == ((32, 64, 128, 256, 512),) * 3
    # Ratio by ratio, sizes within, as torchvision's columns are.
    np.testing.assert_array_equal(model.rpn.anchors.cells[2][1], [-45, -23, 45, 23])
    assert (model.score_threshold, model.iou_threshold, model.max_detections) == (0.05, 0.5, 100)
    assert model.backbone.norm_epsilon == 1e-5
    assert model.backbone.levels == model.neck.levels == ("C5_first", "C5")
    assert model.class_names[0] == "person"
    assert (len(model.class_names), model.category_ids[-1]) == (90, 90)
