"""Detectors that their authors have published as Caffe files: Fast and Faster R-CNN, R-FCN.

    load(model, "VGG16_faster_rcnn_final.caffemodel", "faster_rcnn_test.pt")

The second file, a prototxt, is optional: with it the network is compared with the model's, too. What differs
from our own networks: pixels are blue, green, red; a class has two logits in the proposal network; boxes
have deltas that are not divided by their spreads, and one set for the background; fc6 sees regions channel by
channel; a batch normalisation is two layers, and its statistics have a common factor.
"""

import functools
import re

import numpy as np

from kerasdet.zoo.checkpoints.caffe_network import check_network
from kerasdet.zoo.checkpoints.caffemodel import read_caffemodel
from kerasdet.zoo.checkpoints.prototxt import read_prototxt
from kerasdet.zoo.filling import fill_weights, name_weights

# Caffe's axes in our order: dense kernels output x input, convolutions OIHW.
AXES = {2: (1, 0), 4: (2, 3, 1, 0)}
WEIGHTS = {
    "kernel": ", kernel",
    "bias": ", bias",
    "gamma": ", scale",
    "beta": ", shift",
    "moving_mean": ", mean",
    "moving_variance": ", variance",
}
ARRAYS = {"Convolution": ("kernel", "bias"), "InnerProduct": ("kernel", "bias")}
ARRAYS |= {"Scale": ("scale", "shift"), "BatchNorm": ("mean", "variance", "factor")}
EXTRA = 1  # a prototxt
PROPOSALS = "rpn_conv/3x3"
ALIASES = {"rpn_conv1": PROPOSALS}  # the proposal network's convolution in ZF's network
# kerasdet's factors of a region's deltas (`fast_rcnn.DELTA_WEIGHTS`); Caffe's files have none.
DELTA_WEIGHTS = np.array([10.0, 10.0, 5.0, 5.0], np.float32)
# Layers behind a dropout that scales in inference, not in training: ZF's network alone has it.
BEHIND_DROPOUT = ("fc7, kernel", "cls_score, kernel", "bbox_pred, kernel")
KEPT = 0.5


def load(model, path, prototxt=None):
    """Fill a model with the weights of a published file.

    Args:
        model: a built `FastRCNN`, `FasterRCNN` or `RFCN`, with `whole_pixels`.
        path: the `.caffemodel`.
        prototxt: the network that it belongs to, if it is to be compared with the model's.

    Returns:
        The model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file cannot be read or does not fit the model, which is then unchanged.
    """
    slots = name_weights(model, TABLE, WEIGHTS, "caffe")
    if prototxt is not None:
        check_network(read_prototxt(prototxt), network(model, slots), ALIASES)
    arrays, faults = _arrays(read_caffemodel(path))
    if _has_testing_dropout(model):
        arrays |= {name: KEPT * arrays[name] for name in BEHIND_DROPOUT if name in arrays}
    return fill_weights(model, slots, arrays, path, AXES, faults)


def _arrays(layers):
    """Return the arrays of all layers by name, {"conv1_1, kernel": ...}, and sentences about faults."""
    arrays, faults = {}, []
    for layer, (kind, blobs) in layers.items():
        names = ARRAYS.get(kind, ())
        if len(blobs) > len(names):
            faults.append(f"{layer} has {len(blobs)} arrays of the type {kind}, which is unknown")
            continue
        # A normalisation is named bn2a_branch1, its scale and shift scale2a_branch1.
        place = f"bn{layer.removeprefix('scale')}" if kind == "Scale" else layer
        found = {name: _trimmed(blob, name, kind) for name, blob in zip(names, blobs)}
        if kind == "BatchNorm":
            found, fault = _statistics(found)
            faults += [f"{layer} has {fault}"] if fault else []
        arrays |= {f"{ALIASES.get(place, place)}, {name}": value for name, value in found.items()}
    return arrays, faults


def _trimmed(blob, name, kind):
    """Leave out the axes of length 1 that old files put in front."""
    axes = {"kernel": 2 if kind == "InnerProduct" else 4}.get(name, 1)
    while blob.ndim > axes and blob.shape[0] == 1:
        blob = blob[0]
    return blob


def _statistics(found):
    """Divide the statistics of a batch normalisation by their factor; return a fault, too."""
    factor = found.pop("factor", np.zeros(0)).ravel()
    if factor.size != 1:
        return found, "no factor of its statistics"
    divisor = factor[0] or np.inf  # Caffe reads zero as "no statistics yet"
    found = {name: (value / divisor).astype(np.float32) for name, value in found.items()}
    negative = (found.get("variance", np.zeros(1)) < 0).any()
    return found, "negative variances" if negative else None


# -- changes of arrays -----------------------------------------------------------------------------


def red_first(array):
    """Reorder the input channels of a first convolution: Caffe's images are blue, green, red."""
    return array[:, ::-1] if array.ndim == 4 else array


def channels_last(array, cells):
    """Reorder a dense layer's columns for regions flattened as H, W, C; Caffe uses C, H, W."""
    if array.ndim != 2:
        return array
    columns = array.reshape(len(array), -1, cells)
    return columns.transpose(0, 2, 1).reshape(array.shape)


def one_logit(array):
    """Replace two logits of each anchor, first those of all backgrounds, by their difference."""
    background, objects = np.split(array, 2)
    return objects - background


def region_deltas(array, bins=1):
    """Drop the background's boxes, and scale the deltas of the others.

    Args:
        array: rows by class (R-FCN: background and the box of all classes), delta and bin.
        bins: rows of a delta.
    """
    factors = np.repeat(DELTA_WEIGHTS, bins)
    rows = array[len(factors) :]
    by_class = rows.reshape(-1, len(factors), *rows.shape[1:])
    return (by_class * factors.reshape(-1, *[1] * (rows.ndim - 1))).reshape(rows.shape)


# -- names -----------------------------------------------------------------------------------------

# Our numbers count poolings and activations, too.
VGG16 = tuple(
    (f"features_{number}", f"conv{name}", *([red_first] if number == 0 else []))
    for number, name in (
        *((0, "1_1"), (2, "1_2"), (5, "2_1"), (7, "2_2"), (10, "3_1"), (12, "3_2"), (14, "3_3")),
        *((17, "4_1"), (19, "4_2"), (21, "4_3"), (24, "5_1"), (26, "5_2"), (28, "5_3")),
    )
)

ZF = ((r"conv1", "conv1", red_first), (r"(conv[2-5])", r"\1"))


def resnet(backbone):
    """Return the rows of ResNet-101, in whose third and fourth stage blocks are numbered."""
    rows = [(r"conv1", "conv1", red_first), (r"conv1/norm", "bn_conv1")]
    for stage, blocks in enumerate(backbone.blocks, start=2):
        for block in range(blocks):
            letter = f"b{block}" if stage in (3, 4) and block else "abc"[block % 3]
            for part, branch in PARTS.items():
                place = f"{stage}{letter}_{branch}"
                ours = f"layer{stage - 1}_{block}_{part}"
                rows += [(ours, f"res{place}"), (f"{ours}/norm", f"bn{place}")]
    return rows


PARTS = {"downsample": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}
RPN = (
    (r"conv0", PROPOSALS),
    (r"logits", "rpn_cls_score", one_logit),
    (r"deltas", "rpn_bbox_pred"),
)


def region_classifier(part):
    """Return the rows of a `RegionClassifier`."""
    cells = part.pooling.output_size**2
    return (
        (r"head/fc6", "fc6", functools.partial(channels_last, cells=cells)),
        (r"head/fc7", "fc7"),
        (r"class_output", "cls_score"),
        (r"box_output", "bbox_pred", region_deltas),
    )


def position_sensitive_classifier(part):
    """Return the rows of R-FCN's classifier."""
    bins = part.pooling.output_size**2
    return (
        (r"head", "conv_new_1"),
        (r"class_output", "rfcn_cls"),
        (r"box_output", "rfcn_bbox", functools.partial(region_deltas, bins=bins)),
    )


DETECTOR = (("backbone", ""), ("rpn", ""), ("classifier", ""))
TABLE = {
    "VGG16": VGG16,
    "ZFNet": ZF,
    "ResNet": resnet,
    "RegionProposalNetwork": RPN,
    "RegionClassifier": region_classifier,
    "PositionSensitiveClassifier": position_sensitive_classifier,
    "RegionDetector": DETECTOR,
}
# As ZF's network has it.
LOCAL_NORM = {"size": 3, "alpha": 5e-5, "beta": 0.75, "k": 1.0, "region": "WITHIN_CHANNEL"}


# -- the network -----------------------------------------------------------------------------------

MAX, AVERAGE = "MAX", "AVE"
# By class of the backbone: convolutions of stride 2, and size, stride and padding of the poolings.
NETWORKS = {
    "VGG16": ("", {f"pool{i}": (2, 2, 0) for i in range(1, 5)}),
    "ResNet": (r"conv1|res[34]a_branch(1|2a)", {"pool1": (3, 2, 0)}),
    "ZFNet": (r"conv[12]", {"pool1": (3, 2, 1), "pool2": (3, 2, 1)}),
}


def network(model, slots):
    """Return what a prototxt of a model's network must say, as `check_network` takes it.

    Args:
        model: as in `load`.
        slots: {name: `Slot`} of its weights.
    """
    backbone, bins = model.backbone, model.pooling.output_size
    strided, pools = NETWORKS[type(backbone).__name__]
    dilated = r"res5._branch2b" if "C4_conv5" in backbone.levels else ""
    kernels = {
        name.removesuffix(", kernel"): slot.variable.shape
        for name, slot in slots.items()
        if name.endswith(", kernel")
    }
    outputs = {name: shape[-1] for name, shape in kernels.items()}
    for name, factor, more in (("rpn_cls_score", 2, 0), ("bbox_pred", 1, 4), ("rfcn_bbox", 2, 0)):
        if name in outputs:
            outputs[name] = factor * outputs[name] + more
    expected = {"Dropout": {"factor": KEPT if _has_testing_dropout(model) else 1.0}}
    for name, shape in kernels.items():
        expected[name] = {"outputs": outputs[name]}
        if len(shape) == 4:
            stride = 2 if re.fullmatch(strided, name) else 1
            dilation = 2 if re.fullmatch(dilated, name) else 1
            padding = tuple(dilation * (side // 2) for side in shape[:2])
            expected[name] |= {"kernel": tuple(shape[:2]), "stride": (stride, stride)}
            expected[name] |= {"padding": padding, "dilation": (dilation, dilation), "groups": 1}
    for name, numbers in pools.items():
        expected[name] = _pooling(MAX, *numbers)
    scale = {"scale": model.pooling.spatial_scale}
    if "rfcn_cls" in kernels:
        for name, wanted in (("cls", 1 + model.num_classes), ("loc", 8)):
            expected[f"psroipooled_{name}_rois"] = {"outputs": wanted, "bins": bins, **scale}
        for name in ("ave_cls_score_rois", "ave_bbox_pred_rois"):
            expected[name] = _pooling(AVERAGE, bins, bins, 0)
    else:
        expected["ROIPooling"] = {"bins": (bins, bins), **scale}
    if hasattr(backbone, "norm_epsilon"):
        expected["BatchNorm"] = {"epsilon": backbone.norm_epsilon}
    if type(backbone).__name__ == "ZFNet":
        expected["LRN"] = LOCAL_NORM
    return expected


def _pooling(pool, *numbers):
    names = ("kernel", "stride", "padding")
    return {"pool": pool} | {name: (number, number) for name, number in zip(names, numbers)}


def _has_testing_dropout(model):
    return type(model.backbone).__name__ == "ZFNet"
