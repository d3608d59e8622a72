"""Detectors that TensorFlow's Object Detection API has published, as checkpoints of TensorFlow 1.

The graphs are those of arXiv 1611.10012: an SSD on MobileNet, a Faster R-CNN on Inception v2, an R-FCN on
ResNet-101. Names are variable scopes. What the API has otherwise is converted in the arrays:

    - boxes have y before x;
    - the proposal network has two logits for each anchor, of which the difference counts;
    - its deltas are divided by the factors 10, 10, 5, 5 of the second stage, ours are whole;
    - default boxes have the square between two scales last, and a tallest one of ratio 0.3333, not 1/3;
    - score maps are ordered bin by bin, not class by class.

A checkpoint of training has the optimizer's variables too; they are left out, and so is the first stage's
copy of the R-FCN's fourth block, which the API creates and never runs.
"""

import functools
import math
import re

import numpy as np

from kerasdet.zoo.checkpoints.tensorflow_v1 import read
from kerasdet.zoo.filling import fill_weights, name_weights

NORM = ("gamma", "beta", "moving_mean", "moving_variance")
WEIGHTS = {
    "kernel": "/weights",
    "bias": "/biases",
    **{name: f"/BatchNorm/{name}" for name in NORM},
}
UNUSED = re.compile(
    r"global_step|(.*/)?(Momentum|RMSProp|RMSProp_1|Adam|Adam_1)|beta[12]_power"
    r"|FirstStageFeatureExtractor/resnet_v1_\d+/block4/.*"
)
FACTORS = (10.0, 10.0, 5.0, 5.0)  # of x, y, w, h: the API's box coder, in both stages
TALLEST = 0.3333  # width / height; the paper's third is 1/3


def load(model, path):
    """Fill a model with the weights of a checkpoint.

    Args:
        model: a built `SSD` on `MobileNetV1`, `FasterRCNN` on `InceptionV2`, or `RFCN` on `SlimResNet`.
        path: the published .tar.gz, the folder that it holds, or a checkpoint's prefix; TensorFlow reads it.

    Returns:
        The model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file cannot be read or does not fit the model, which is then unchanged.
        ImportError: TensorFlow is not installed.
    """
    return fill(model, read(path), path)


def fill(model, variables, source):
    """Fill a model with the variables of a checkpoint, all of them or none.

    Args:
        model: as in `load`.
        variables: {name: array}.
        source: the file they come from, for the error message.

    Returns:
        The model.

    Raises:
        ValueError: the table does not know the model, or a variable is missing, left over or of another
            shape; the model is then unchanged.
    """
    slots = name_weights(model, TABLE, WEIGHTS, "object_detection_api")
    arrays = {
        _named_apart(name): array for name, array in variables.items() if not UNUSED.fullmatch(name)
    }
    return fill_weights(model, slots, arrays, source)


def _named_apart(name):
    """Name the two kernels of a separable convolution as two layers, of which the first is depthwise."""
    place, _, kind = name.rpartition("/")
    if kind == "depthwise_weights":
        return f"{place.removesuffix('_depthwise')}_depthwise/weights"
    return f"{place}/weights" if kind == "pointwise_weights" else name


# -- changes of arrays: kernels (..., outputs) and biases (outputs,) alike -------------------------


def depthwise(array):
    """Put the one output of each channel before the channels; a normalisation's vectors stay."""
    return array.transpose(0, 1, 3, 2) if array.ndim == 4 else array


def xy_first(array):
    """Reorder the deltas of each box: TensorFlow has y before x."""
    boxes = array.reshape(*array.shape[:-1], -1, 4)[..., [1, 0, 3, 2]]
    return boxes.reshape(array.shape)


def logit(array):
    """Return one logit of each anchor, the object's less the background's."""
    pairs = array.reshape(*array.shape[:-1], -1, 2)
    return pairs[..., 1] - pairs[..., 0]


def whole_deltas(array):
    """Divide the proposal network's deltas by the box coder's factors, x first."""
    boxes = xy_first(array).reshape(*array.shape[:-1], -1, 4) / np.float32(FACTORS)
    return boxes.reshape(array.shape)


def class_by_class(array, bins):
    """Reorder score maps, bin by bin, to those of each class side by side."""
    maps = array.reshape(*array.shape[:-1], bins, -1)
    return np.swapaxes(maps, -1, -2).reshape(array.shape)


def boxes_by_class(array, bins):
    """Reorder box maps as `class_by_class`, x first."""
    return class_by_class(xy_first(array), bins)


def default_scores(array, count):
    """Reorder the scores of each place's default boxes; see `default_deltas`."""
    boxes = array.reshape(*array.shape[:-1], count, -1)
    return boxes[..., _order(count), :].reshape(array.shape)


def default_deltas(array, count):
    """Reorder the deltas of each place's default boxes, x first, and give the tallest box its width.

    A box of another width and height than its default box's has other deltas: those of the centre are
    multiplied, those of the sides have a summand, which the bias takes.
    """
    boxes = xy_first(array).reshape(*array.shape[:-1], count, 4)[..., _order(count), :]
    if count == 6:
        wider = math.sqrt(
            3 * TALLEST
        )  # the box's width by that of ratio 1/3; its height by 1 / wider
        boxes[..., -1, :2] *= np.float32([wider, 1 / wider])
        if array.ndim == 1:
            shift = FACTORS[2] * math.log(wider)
            boxes[..., -1, 2:] += np.float32([shift, -shift])
    return boxes.reshape(array.shape)


def _order(count):
    """The API's number of each of our default boxes: of six, its last is the square between two scales."""
    return [0, 5, 1, 2, 3, 4] if count == 6 else list(range(count))


# -- backbones -------------------------------------------------------------------------------------

MOBILENET_V1 = (
    (r"stem(/norm)?", r"Conv2d_0"),
    (r"block(\d+)_depthwise(/norm)?", r"Conv2d_\1_depthwise", depthwise),
    (r"block(\d+)_pointwise(/norm)?", r"Conv2d_\1_pointwise"),
)


# Of both: the first stage has Conv2d_1a_7x7 to Mixed_4e, the second Mixed_5a to Mixed_5c.
INCEPTION_V2 = (
    (r"(Conv2d_1a_7x7_depthwise)", r"InceptionV2/\1"),
    (r"(Conv2d_\w+?)(/norm)?", r"InceptionV2/\1"),
    (r"(Mixed_\w\w)_(Branch_\d)_(\w+)(/norm)?", r"InceptionV2/\1/\2/\3"),
)


def slim_resnet(backbone):
    """Return the rows of a `SlimResNet`, whose fourth block is in the second stage."""
    network = f"resnet_v1_{3 * sum(backbone.blocks) + 2}"
    unit, theirs = r"unit_(\d+)_(conv\d|shortcut)(/norm)?", r"unit_\1/bottleneck_v1/\2"
    first, second = (f"{stage}StageFeatureExtractor/{network}" for stage in ("First", "Second"))
    return (
        (r"conv1(/norm)?", f"{first}/conv1"),
        *((f"block{number}_{unit}", f"{first}/block{number}/{theirs}") for number in (1, 2, 3)),
        (f"block4_{unit}", f"{second}/block4/{theirs}"),
    )


# -- parts of detectors, and detectors -------------------------------------------------------------


def extras(part):
    """Return the rows of `ExtraLayers`, which continue the numbers of the maps: the third is 2."""
    rows, place = [], "Conv2d_13_pointwise"
    for number, (hidden, channels, *_) in enumerate(part.rows, start=1):
        pairs = (1, f"1x1_{hidden}"), (2, f"3x3_s2_{channels}")
        for half, kernel in pairs:
            ours = rf"conv{number}_{half}/(?:conv|norm)"
            rows.append((ours, f"{place}_{half}_Conv2d_{number + 1}_{kernel}"))
    return rows


def ssd(model):
    """Return the rows of an `SSD`."""
    place = "FeatureExtractor/MobilenetV1/"
    rows = [("backbone", place), ("extras", place)]
    for i, level in enumerate(model.class_outputs):
        predictor, count = f"BoxPredictor_{i}", model.default_boxes.num_boxes[i]
        scores, deltas = (
            functools.partial(f, count=count) for f in (default_scores, default_deltas)
        )
        rows.append((f"class_output_{level}", f"{predictor}/ClassPredictor", scores))
        rows.append((f"box_output_{level}", f"{predictor}/BoxEncodingPredictor", deltas))
    return rows


def score_maps(classifier):
    """Return the rows of a `PositionSensitiveClassifier`."""
    bins = classifier.pooling.output_size**2
    by_class, boxes = (functools.partial(f, bins=bins) for f in (class_by_class, boxes_by_class))
    place = "SecondStageBoxPredictor"
    return (
        (r"head", f"{place}/reduce_depth"),
        (r"class_output", f"{place}/class_predictions", by_class),
        (r"box_output", f"{place}/refined_locations", boxes),
    )


RPN = (
    (r"conv0", r"Conv"),
    (r"logits", r"FirstStageBoxPredictor/ClassPredictor", logit),
    (r"deltas", r"FirstStageBoxPredictor/BoxEncodingPredictor", whole_deltas),
)
REGION_CLASSIFIER = (
    ("head", "SecondStageFeatureExtractor/"),
    (r"class_output", r"SecondStageBoxPredictor/ClassPredictor"),
    (r"box_output", r"SecondStageBoxPredictor/BoxEncodingPredictor", xy_first),
)
RFCN = (("backbone", ""), ("rpn", ""), ("classifier", ""))
FASTER_RCNN = (("backbone", "FirstStageFeatureExtractor/"), ("rpn", ""), ("classifier", ""))

TABLE = {
    "ExtraLayers": extras,
    "FasterRCNN": FASTER_RCNN,
    "InceptionV2": INCEPTION_V2,
    "InceptionV2Head": INCEPTION_V2,
    "MobileNetV1": MOBILENET_V1,
    "PositionSensitiveClassifier": score_maps,
    "RFCN": RFCN,
    "RegionClassifier": REGION_CLASSIFIER,
    "RegionProposalNetwork": RPN,
    "SSD": ssd,
    "SlimResNet": slim_resnet,
}
