"""mmdetection's state dicts: every name, strictly; its files; and how its models are configured."""

import json
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from kerasdet.backbones import ResNet
from kerasdet.layers import (
    AnchorGenerator,
    Deformable,
    DenseHead,
    FeaturePyramid,
    MaskHead,
    RoundedShortestEdge,
)
from kerasdet.models import CascadeRCNN, FasterRCNN, MaskBranch, MaskRCNN, RegionProposalNetwork
from kerasdet.zoo import summary, untrained
from kerasdet.zoo.checkpoints import read_checkpoint
from kerasdet.zoo.manifest import manifest_paths, read_manifest
from kerasdet.zoo.origins import mmdetection, torchvision

FILES = Path(__file__).parent / "golden"
PARITY = Path(__file__).parents[1] / "parity" / "golden"
value = ops.convert_to_numpy


def small(kind, **parts):
    """A small detector of two classes on the five maps of a small ResNet."""
    anchors = AnchorGenerator([[32]] * 5, [1.0], strides=(4, 8, 16, 32, 64))
    levels = ("C2", "C3", "C4", "C5")
    return kind(
        2,
        backbone=ResNet((1, 1, 1, 1), bottleneck=False),
        neck=FeaturePyramid(8, levels, p6_from="pool", name="neck"),
        rpn=RegionProposalNetwork(anchors, channels=8, name="rpn"),
        head=DenseHead((6, 5), name="head"),
        **parts,
    )


def two_stages_of_cascade(masks=True):
    branch = MaskBranch(head=MaskHead((8, 8), 4, name="mask_head"))
    return small(
        CascadeRCNN,
        ious=(0.5, 0.6),
        delta_weights=((10, 10, 5, 5), (20, 20, 10, 10)),
        loss_weights=(1, 0.5),
        branches=(branch,) if masks else (),
    )


def bbox_head(place, boxes):
    return {
        f"{place}shared_fcs.0.weight": (6, 8 * 49),
        f"{place}shared_fcs.0.bias": (6,),
        f"{place}shared_fcs.1.weight": (5, 6),
        f"{place}shared_fcs.1.bias": (5,),
        f"{place}fc_cls.weight": (3, 5),
        f"{place}fc_cls.bias": (3,),
        f"{place}fc_reg.weight": (4 * boxes, 5),
        f"{place}fc_reg.bias": (4 * boxes,),
    }


def mask_head(place):
    shapes = {}
    for i in range(2):
        shapes |= {
            f"{place}convs.{i}.conv.weight": (8, 8, 3, 3),
            f"{place}convs.{i}.conv.bias": (8,),
        }
    return shapes | {
        f"{place}upsample.weight": (8, 4, 2, 2),  # a transposed convolution: inputs come first
        f"{place}upsample.bias": (4,),
        f"{place}conv_logits.weight": (2, 4, 1, 1),
        f"{place}conv_logits.bias": (2,),
    }


def first_stage():
    shapes = {}
    for i, channels in enumerate((64, 128, 256, 512)):
        for name, shape in (("lateral", (8, channels, 1, 1)), ("fpn", (8, 8, 3, 3))):
            shapes[f"neck.{name}_convs.{i}.conv.weight"] = shape
            shapes[f"neck.{name}_convs.{i}.conv.bias"] = (8,)
    for name, shape in (("conv", (8, 8, 3, 3)), ("cls", (1, 8, 1, 1)), ("reg", (4, 8, 1, 1))):
        shapes[f"rpn_head.rpn_{name}.weight"] = shape
        shapes[f"rpn_head.rpn_{name}.bias"] = shape[:1]
    return shapes


def backbone_shapes(model):
    """Of the backbone, whose names `test_torchvision.py` writes out."""
    axes = {1: (0,), 4: (3, 2, 0, 1)}
    shapes = {}
    for name, variable in mmdetection.names(model).items():
        if name.startswith("backbone."):
            shape = tuple(variable.shape)
            shapes[name] = tuple(shape[axis] for axis in axes[len(shape)])
    assert shapes["backbone.layer3.0.downsample.0.weight"] == (256, 128, 1, 1)
    assert shapes["backbone.layer4.0.bn2.running_var"] == (512,)
    return shapes


def lively(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


MODELS = {
    "cascade_with_masks": (
        two_stages_of_cascade,
        {
            **bbox_head("roi_head.bbox_head.0.", 1),
            **bbox_head("roi_head.bbox_head.1.", 1),
            **mask_head("roi_head.mask_head.0."),
            **mask_head("roi_head.mask_head.1."),
        },
    ),
    "cascade": (
        lambda: two_stages_of_cascade(masks=False),
        {**bbox_head("roi_head.bbox_head.0.", 1), **bbox_head("roi_head.bbox_head.1.", 1)},
    ),
    "faster": (lambda: small(FasterRCNN), bbox_head("roi_head.bbox_head.", 2)),
    "mask": (
        lambda: small(MaskRCNN, branches=(MaskBranch(head=MaskHead((8, 8), 4, name="mask_head")),)),
        {**bbox_head("roi_head.bbox_head.", 2), **mask_head("roi_head.mask_head.")},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_has_mmdetections_name_and_layout(name):
    make, shapes = MODELS[name]
    model = make()
    state = lively({**backbone_shapes(model), **first_stage(), **shapes})
    assert mmdetection.names(model).keys() == state.keys()
    counters = {"backbone.bn1.num_batches_tracked": np.array(7)}
    assert mmdetection.fill(model, state | counters, "a.pth") is model
    place = "roi_head.bbox_head." + ("0." if name.startswith("cascade") else "")
    # The background is the last of their classes and the first of ours.
    theirs = state[f"{place}fc_cls.weight"]
    np.testing.assert_array_equal(value(model.classifier.class_output.kernel), theirs[[2, 0, 1]].T)
    theirs = state[f"{place}fc_reg.weight"]
    np.testing.assert_array_equal(value(model.classifier.box_output.kernel), theirs.T)
    # Regions of 7 x 7 cells are flattened channel by channel there, cell by cell here.
    theirs = state[f"{place}shared_fcs.0.weight"].reshape(6, 8, 7, 7)
    kernel = value(model.head.dense_layers[0].kernel).reshape(7, 7, 8, 6)
    np.testing.assert_array_equal(kernel[2, 3, 5], theirs[:, 5, 2, 3])


def test_the_stages_of_a_cascade_have_weights_of_their_own():
    model = two_stages_of_cascade()
    shapes = {**backbone_shapes(model), **first_stage(), **MODELS["cascade_with_masks"][1]}
    state = lively(shapes)
    mmdetection.fill(model, state, "a.pth")
    (later,), ((branch,),) = model.later_classifiers, model.later_branches
    theirs = state["roi_head.bbox_head.1.fc_cls.bias"]
    np.testing.assert_array_equal(value(later.class_output.bias), theirs[[2, 0, 1]])
    theirs = state["roi_head.mask_head.1.convs.1.conv.weight"]
    kernel = value(branch.head.conv_layers[1].kernel)
    np.testing.assert_array_equal(kernel, theirs.transpose(2, 3, 1, 0))
    theirs = state["roi_head.mask_head.1.upsample.weight"]
    np.testing.assert_array_equal(value(branch.head.deconv.kernel), theirs.transpose(2, 3, 1, 0))
    theirs = state["roi_head.mask_head.0.conv_logits.weight"]
    np.testing.assert_array_equal(
        value(model.branches[0].output_conv.kernel)[0, 0], theirs[:, :, 0, 0].T
    )


def test_what_does_not_fit_is_named_and_nothing_is_changed():
    model = small(FasterRCNN)
    before = [np.array(weight) for weight in model.get_weights()]
    state = lively({**backbone_shapes(model), **first_stage(), **MODELS["faster"][1]})
    del state["rpn_head.rpn_cls.bias"]
    state["roi_head.bbox_head.fc_cls.bias"] = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match=r"bad\.pth does not fit this FasterRCNN") as error:
        mmdetection.fill(model, state, "bad.pth")
    assert "rpn_head.rpn_cls.bias is missing" in str(error.value)
    assert "roi_head.bbox_head.fc_cls.bias has the shape (4,) instead of (3,)" in str(error.value)
    assert "(2 faults" in str(error.value)
    for now, then in zip(model.get_weights(), before):
        np.testing.assert_array_equal(now, then)


def test_models_that_mmdetection_does_not_have():
    neck = FeaturePyramid(8, p6_from="pool", norm="batch", name="neck")
    anchors = AnchorGenerator([[32]] * 4, [1.0])
    model = FasterRCNN(
        2,
        backbone=ResNet((1, 1, 1, 1), bottleneck=False, levels=("C3", "C4", "C5")),
        neck=neck,
        rpn=RegionProposalNetwork(anchors, 8, name="rpn"),
        head=DenseHead((8, 8), name="head"),
    )
    with pytest.raises(ValueError, match=r"has no name at the origin mmdetection"):
        mmdetection.names(model)


def test_offsets_beside_their_convolution():
    from kerasdet.zoo.pytorch import newest_name

    old, new = "backbone.layer2.0.conv2_offset.bias", "backbone.layer2.0.conv2.conv_offset.bias"
    assert newest_name(old, mmdetection.OLD_NAMES) == new
    assert newest_name(new, mmdetection.OLD_NAMES) == new


@pytest.mark.parametrize("name", ["mmdetection.pth", "mmdetection_legacy.pth"])
def test_checkpoints_hold_the_weights_beside_what_is_told_of_them(name):
    tensors = read_checkpoint(FILES / name)
    assert set(tensors) == {
        "backbone.conv1.weight",
        "backbone.bn1.num_batches_tracked",
        "roi_head.bbox_head.0.fc_cls.bias",
    }
    kernel = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(tensors["backbone.conv1.weight"], kernel)
    np.testing.assert_array_equal(tensors["roi_head.bbox_head.0.fc_cls.bias"], [0.5, -1, 2])


MANIFESTS = {
    name: manifest
    for name, manifest in ((name, read_manifest(path)) for name, path in manifest_paths().items())
    if manifest.get("conversion") == "mmdetection"
}


def test_what_is_published():
    found = {
        name: (manifest["weights"]["sha256"], *manifest["published"]["metrics"].values())
        for name, manifest in MANIFESTS.items()
    }
    assert found == {
        "cascade_rcnn_r50_fpn_20e_coco": ("e9872a90", 0.410),
        "cascade_mask_rcnn_r50_fpn_20e_coco": ("4af8e66e", 0.419, 0.365),
        "faster_rcnn_r50_fpn_dconv_c3_c5_1x_coco": ("d68aed1e", 0.413),
        "faster_rcnn_r50_fpn_mdconv_c3_c5_1x_coco": ("d099253b", 0.414),
    }
    for manifest in MANIFESTS.values():
        url = manifest["weights"]["url"]
        # mmdetection ends a file's name with the first eight digits of its hash.
        assert url.endswith(f"-{manifest['weights']['sha256']}.pth")
        assert url.startswith("https://download.openmmlab.com/mmdetection/v2.0/")
        assert manifest["weights"]["bytes"] is manifest["weights"]["mebibytes"] is None
    # Sizes are not published: four bytes a parameter.
    assert summary("cascade_rcnn_r50_fpn_20e_coco")["bytes"] == 4 * (69_394_766 + 2 * 26_560)


# mmdetection's counts of parameters; ours with the batch normalisations' 2 x 26 560 statistics.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cascade_rcnn_r50_fpn_20e_coco", 69_394_766),
        ("cascade_mask_rcnn_r50_fpn_20e_coco", 77_324_606),
        ("faster_rcnn_r50_fpn_dconv_c3_c5_1x_coco", 42_333_898),
        ("faster_rcnn_r50_fpn_mdconv_c3_c5_1x_coco", 42_624_319),
    ],
)
def test_detectors_have_mmdetections_parameters(name, parameters):
    assert MANIFESTS[name]["parameters"] == parameters + 2 * 26_560


def names_of_file(name):
    """Names of the weights in a state dict of mmdetection's own model."""
    with np.load(PARITY / f"{name}.npz") as file:
        shapes = json.loads(str(file["meta"]))["shapes"]
    return {key for key in shapes if not key.endswith("num_batches_tracked")}


def test_cascades_have_mmdetections_names_and_settings():
    model = untrained("cascade_mask_rcnn_r50_fpn_20e_coco")
    assert mmdetection.names(model).keys() == names_of_file(model.name)
    assert_configured(model)
    # Stages: 0.1, 0.05 and 0.033 are the spreads of the places, 0.2, 0.1 and 0.067 of the sizes.
    spreads = 1 / np.array(model.delta_weights)
    expected = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
    np.testing.assert_allclose(spreads, expected, rtol=1e-12)
    assert (model.ious, model.loss_weights) == ((0.5, 0.6, 0.7), (1.0, 0.5, 0.25))
    (branch,) = model.branches
    assert (branch.pooling.sampling_ratio, branch.pooling.aligned) == (None, True)
    assert (branch.pooling.output_size, branch.head.convs) == (14, (256,) * 4)


def test_deformable_models_have_mmdetections_names_and_settings():
    model = untrained("faster_rcnn_r50_fpn_mdconv_c3_c5_1x_coco")
    names = mmdetection.names(model)
    assert names.keys() == names_of_file(model.name)
    # 2 x 9 offsets and 9 masks.
    assert names["backbone.layer4.2.conv2.conv_offset.weight"].shape == (3, 3, 512, 27)
    assert "backbone.layer1.0.conv2.conv_offset.weight" not in names
    assert_configured(model)
    deformable = Deformable(("C3", "C4", "C5"), modulated=True)
    assert model.backbone.deformable.get_config() == deformable.get_config()
    config = MANIFESTS["faster_rcnn_r50_fpn_dconv_c3_c5_1x_coco"]["config"]["backbone"]["config"]
    assert config["deformable"]["config"] == {
        "levels": ["C3", "C4", "C5"],
        "groups": 1,
        "modulated": False,
        "border": "fade",
        "offset_rate": 1.0,
    }


def assert_configured(model):
    """What all two-stage models of mmdetection share."""
    assert model.resize == RoundedShortestEdge(800, 1333)
    assert (model.score_threshold, model.iou_threshold, model.max_detections) == (0.05, 0.5, 100)
    assert (model.pooling.sampling_ratio, model.pooling.aligned) == (None, True)
    assert model.rpn.anchors.strides == (4, 8, 16, 32, 64)
    # Scales of 8 cells; ratios of height to width.
    assert model.rpn.anchors.sizes == ((32,), (64,), (128,), (256,), (512,))
    np.testing.assert_allclose(model.rpn.anchors.cells[0][1], [-16, -16, 16, 16])
    wide = np.array([-16, -8, 16, 8]) * np.sqrt(2)
    np.testing.assert_allclose(model.rpn.anchors.cells[0][0], wide, rtol=1e-6)
    assert (model.rpn.candidates, model.rpn.proposals) == ((2000, 1000), (2000, 1000))
    assert model.backbone.norm_epsilon == 1e-5
    assert model.neck.p6_from == "pool"
    assert (model.class_names[0], model.class_names[-1]) == ("person", "toothbrush")
    assert (len(model.category_ids), model.category_ids[11], model.category_ids[-1]) == (80, 13, 90)


def test_torchvisions_file_is_not_mmdetections():
    model = small(FasterRCNN)
    state = lively({name: (1,) for name in torchvision.names(model)})
    with pytest.raises(ValueError, match=r"backbone\.body\.bn1\.bias is left over"):
        mmdetection.fill(model, state, "torchvision.pth")
