"""Weights that mmdetection has published: state dicts of its versions 2 and 3, and their names.

The background is the last class there, and the first here. Its regions have as many points as cells
(`MultilevelRoIAlign(7, sampling_ratio=None, aligned=True)`), its anchors have fixed strides, and its images
have the sizes and pixels of `RoundedShortestEdge`: the manifests say so. What no trained model reaches is not
followed: boxes there shrink to no less than 1/62.5 of their anchor, and boxes without area are kept.
"""

import numpy as np

from kerasdet.zoo import pytorch
from kerasdet.zoo.checkpoints import read_checkpoint
from kerasdet.zoo.filling import name_weights
from kerasdet.zoo.pytorch import RESNET, WEIGHTS, channels_last


def load(model, path):
    """Fill a model with the weights of a file that mmdetection has published.

    Args:
        model: as in `fill`.
        path: the file; it is read without running its code.

    Returns:
        The model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read or does not fit the model, which is then unchanged.
    """
    return fill(model, read_checkpoint(path), path)


def fill(model, tensors, source):
    """Fill a model with the weights of a state dict, all of them or none.

    Args:
        model: a built detector.
        tensors: {name: array}, with names and layouts as in PyTorch.
        source: the file they come from, for the error message.

    Returns:
        The model.

    Raises:
        ValueError: mmdetection's names for this model are unknown, or a tensor is missing, left over or of
            another shape; the message names the first ten. The model is then unchanged.
    """
    return pytorch.fill(model, tensors, source, TABLE, "mmdetection", OLD_NAMES)


def names(model):
    """Find mmdetection's name for each weight of a detector: {its name: our variable}.

    Raises:
        ValueError: the table does not know a layer of the model; the message names it.
    """
    slots = name_weights(model, TABLE, WEIGHTS, "mmdetection")
    return {name: slot.variable for name, slot in slots.items()}


# Before version 2 of mmcv's layer, the offsets of a deformable convolution stood beside it.
OLD_NAMES = ((r"(.*\.conv\d)_offset\.(\w+)", r"\1.conv_offset.\2"),)


def background_first(array):
    """Move the row of the background from the end to the beginning."""
    return np.roll(array, 1, axis=0)


def feature_pyramid(neck):
    """Return the rows of a `FeaturePyramid` without normalisation, whose maps mmdetection numbers."""
    for i, level in enumerate(neck.levels):
        yield f"lateral_{level}", f"lateral_convs.{i}.conv"
        yield f"output_{level}", f"fpn_convs.{i}.conv"


def region_classifiers(model):
    """Return the rows of the region classifiers and mask branches, of each stage or of the only one."""
    place = "roi_head.{}_head.{}." if hasattr(model, "later_classifiers") else "roi_head.{}_head."
    yield "classifier", place.format("bbox", 0)
    yield "branches.0", place.format("mask", 0)
    for i, _ in enumerate(getattr(model, "later_classifiers", ())):
        yield f"later_classifiers.{i}", place.format("bbox", i + 1)
        yield f"later_branches.{i}.0", place.format("mask", i + 1)


def two_stages(model):
    """Return the rows of a `FasterRCNN`, a `MaskRCNN` or a `CascadeRCNN`."""
    yield from (("backbone", "backbone."), ("neck", "neck."), ("rpn", "rpn_head."))
    yield from region_classifiers(model)


TABLE = {
    "ResNet": (*RESNET, (r"layer(\d)_(\d+)_conv(\d)/offsets", r"layer\1.\2.conv\3.conv_offset")),
    "FeaturePyramid": feature_pyramid,
    "RegionProposalNetwork": (
        (r"conv0", r"rpn_conv"),
        (r"logits", r"rpn_cls"),
        (r"deltas", r"rpn_reg"),
    ),
    "RegionClassifier": (
        (r"head/fc6", r"shared_fcs.0", channels_last),
        (r"head/fc7", r"shared_fcs.1"),
        (r"class_output", r"fc_cls", background_first),
        (r"box_output", r"fc_reg"),
    ),
    "MaskBranch": (
        (r"mask_head/conv(\d)", r"convs.\1.conv"),
        (r"mask_head/deconv", r"upsample"),
        (r"mask_output", r"conv_logits"),
    ),
    "FasterRCNN": two_stages,
}
