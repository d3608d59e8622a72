"""Face detectors that the package face-api has published, as TensorFlow.js weights.

The SSD is one of TensorFlow's Object Detection API (`ssd_mobilenet_v1`). Batch normalisation is folded into
the pointwise convolutions, and stands by itself in the depthwise ones. The tiny YOLOv2 has separable
convolutions without normalisation, and no numbers for its one class.
"""

import numpy as np

from kerasdet.zoo.checkpoints.tensorflowjs import read
from kerasdet.zoo.filling import fill_weights, name_weights
from kerasdet.zoo.origins.object_detection_api import MOBILENET_V1, xy_first

WEIGHTS = {
    "kernel": "/weights",
    "bias": "/biases",
    **{name: f"/BatchNorm/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")},
}
TINY_WEIGHTS = {
    "kernel": "/filters",
    "depthwise_kernel": "/depthwise_filter",
    "pointwise_kernel": "/pointwise_filter",
    "bias": "/bias",
}
NUMBERS = 5  # of an anchor in the tiny YOLOv2's file: t_x, t_y, t_w, t_h, t_o
# What the graph has besides weights: constants, and the default boxes, which the model computes.
CONSTANTS = ("Postprocessor/", "Preprocessor/", "Output/", "concat", "/stack", "/strided_slice")
FOLDED = "/convolution_bn_offset"


def load(model, path, *shards):
    """Fill a model with the weights of a published manifest and its shards.

    Args:
        model: a built `SSD` on `MobileNetV1`, or a `YOLOv2` on `SeparableTinyYOLOv2`.
        path: the manifest.
        *shards: its shards; default: the files that it names, beside it.

    Returns:
        The model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file cannot be read or does not fit the model, which is then unchanged.
    """
    arrays = read(path, *shards)
    if type(model).__name__ == "YOLOv2":
        slots = name_weights(model, TINY_TABLE, TINY_WEIGHTS, "face_api")
    else:
        arrays = _of_our_form(arrays, model.backbone.norm_epsilon)
        slots = name_weights(model, TABLE, WEIGHTS, "face_api")
    return fill_weights(model, slots, arrays, path)


def _of_our_form(published, epsilon):
    """Return the SSD's arrays without the graph's constants, each batch normalisation whole."""
    arrays = {}
    for name, array in published.items():
        place, _, last = name.rpartition("/")
        if any(part in name for part in CONSTANTS):
            continue
        if last == "convolution_bn_offset" and name.startswith("MobilenetV1"):
            arrays |= _unfolded(place, array, epsilon)
        else:
            arrays[name.replace(FOLDED, "/biases").replace("depthwise_weights", "weights")] = array
    return arrays


def _unfolded(place, offset, epsilon):
    """A batch normalisation that adds the offset alone."""
    ones = np.ones_like(offset)
    values = {"gamma": ones, "beta": offset, "moving_mean": 0 * ones}
    values["moving_variance"] = ones * np.float32(1 - epsilon)
    return {f"{place}/BatchNorm/{name}": value for name, value in values.items()}


def one_class(array):
    """Add a column of zeros to each anchor: the logit of the one class, whose probability is 1."""
    anchors = array.reshape(*array.shape[:-1], -1, NUMBERS)
    padded = np.pad(anchors, [(0, 0)] * (anchors.ndim - 1) + [(0, 1)])
    return padded.reshape(*array.shape[:-1], -1)


def ssd(model):
    """Return the rows of an `SSD`."""
    rows = [("backbone", "MobilenetV1/"), ("extras", "Prediction/")]
    for i, level in enumerate(model.class_outputs):
        place = f"Prediction/BoxPredictor_{i}"
        rows.append((f"class_output_{level}", f"{place}/ClassPredictor"))
        rows.append((f"box_output_{level}", f"{place}/BoxEncodingPredictor", xy_first))
    return rows


def extras(part):
    """Return the rows of `ExtraLayers`, whose convolutions are numbered one after another."""
    return [
        (rf"conv{i}_{j}/conv", f"Conv2d_{2 * (i - 1) + j - 1}_pointwise")
        for i in range(1, len(part.blocks) + 1)
        for j in (1, 2)
    ]


# The first convolution has another name than in the Object Detection API.
STEM = (r"stem(/norm)?", r"Conv2d_0_pointwise")
TINY_TABLE = {
    "YOLOv2": (("backbone", ""), ("output_conv", "conv8", one_class)),
    "SeparableTinyYOLOv2": ((r"(conv\d)", r"\1"),),
}
TABLE = {"SSD": ssd, "ExtraLayers": extras, "MobileNetV1": (STEM, *MOBILENET_V1)}
