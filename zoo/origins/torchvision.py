"""Weights that torchvision has published: state dicts of both generations, and their names.

In the patterns of layers, the right side has torchvision's modules as in a state dict of today's
version; `OLD_NAMES` converts older names to that form.
"""

from functools import partial

from kerasdet.zoo import pytorch
from kerasdet.zoo.checkpoints import read_checkpoint
from kerasdet.zoo.filling import name_weights
from kerasdet.zoo.pytorch import RESNET, WEIGHTS, channels_last, normed

# Classifiers beside a network, for its training alone, which files hold and models here do not have.
SIDE_CLASSIFIERS = ("aux1.", "aux2.", "AuxLogits.")


def load(model, path):
    """Fill a model with the weights of a file that torchvision has published.

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
        model: a built detector or `ImageClassifier`, or a backbone with level "C5", which takes its
            weights from the state dict of its ImageNet classifier.
        tensors: {name: array}, with names and layouts as in PyTorch, of either generation.
        source: the file they come from, for the error message.

    Returns:
        The model.

    Raises:
        ValueError: torchvision's names for this model are unknown, or a tensor is missing, left over
            or of another shape; the message names the first ten. The model is then unchanged.
    """
    from kerasdet.backbones import Backbone, ImageClassifier

    filled = model
    if isinstance(model, Backbone):
        filled = ImageClassifier(model)
        filled.build()
    # The towers of FCOS are numbered as those of older files, and are not old.
    pytorch.fill(filled, tensors, source, TABLE, "torchvision", OLD_NAMES, SIDE_CLASSIFIERS)
    return model


def names(model):
    """Find torchvision's name for each weight of a model.

    Args:
        model: a built detector or `ImageClassifier`.

    Returns:
        {torchvision's name: our variable}.

    Raises:
        ValueError: the table does not know a layer of the model; the message names it.
    """
    slots = name_weights(model, TABLE, WEIGHTS, "torchvision")
    return {name: slot.variable for name, slot in slots.items()}


def newest_name(name):
    """Return a name from a state dict of either generation as today's torchvision has it."""
    return pytorch.newest_name(name, OLD_NAMES)


# Older files number their layers differently: activations of a head count too.
OLD_NAMES = (
    (r"(.*\.fpn\.(?:inner|layer)_blocks\.\d+)\.(\w+)", lambda m: f"{m[1]}.0.{m[2]}"),
    (r"(rpn\.head\.conv)\.(\w+)", lambda m: f"{m[1]}.0.0.{m[2]}"),
    (r"(.*\.mask_head)\.mask_fcn(\d)\.(\w+)", lambda m: f"{m[1]}.{int(m[2]) - 1}.0.{m[3]}"),
    (r"(head\.\w+_head\.conv)\.(\d+)\.(\w+)", lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}"),
)


# -- changes of arrays -----------------------------------------------------------------------------


def without_background_boxes(array):
    """Drop the four rows of the background's boxes, which PyTorch's models have but never use."""
    return array[4:]


def without_background_mask(array):
    """Drop the row of the background's mask, which PyTorch's models have but never use."""
    return array[1:]


# -- backbones, and the classifiers on them --------------------------------------------------------

# Names within `features`. The first block has no expansion: its layer numbers are one lower.
MOBILENET_V2 = (
    *normed(r"stem", r"0."),
    *normed(r"block1_depthwise", r"1.conv.0."),
    *normed(r"block1_project", r"1.conv.", "1", "2"),
    *normed(r"block(\d+)_expand", r"\1.conv.0."),
    *normed(r"block(\d+)_depthwise", r"\1.conv.1."),
    *normed(r"block(\d+)_project", r"\1.conv.", "2", "3"),
)
MOBILENET_V3 = (
    *normed(r"stem", r"0."),
    *normed(r"block1_depthwise", r"1.block.0."),
    *normed(r"block1_project", r"1.block.1."),
    *normed(r"block(\d+)_expand", r"\1.block.0."),
    *normed(r"block(\d+)_depthwise", r"\1.block.1."),
    (r"block(\d+)_squeeze", r"\1.block.2.fc1"),
    (r"block(\d+)_excite", r"\1.block.2.fc2"),
    # These blocks have no squeeze and excitation.
    *normed(r"block([237-9]|10)_project", r"\1.block.2."),
    *normed(r"block(\d+)_project", r"\1.block.3."),
    *normed(r"last_conv", r"16."),
)
VGG16 = ((r"features_(\d+)", r"\1"),)
ALEXNET = tuple((f"conv{i}", place) for i, place in enumerate(("0", "3", "6", "8", "10"), start=1))


def basic(ours, theirs):
    """Return the rows of a BasicConv2d: a convolution and its normalisation."""
    return normed(ours, f"{theirs}.", "conv", "bn")


INCEPTION_V3 = (*basic(r"(Conv2d_\w+)", r"\1"), *basic(r"(Mixed_\w\w)_(\w+)", r"\1.\2"))
GOOGLENET = (
    *basic(r"conv1_7x7_s2", r"conv1"),
    *basic(r"conv2_3x3_reduce", r"conv2"),
    *basic(r"conv2_3x3", r"conv3"),
    *basic(r"inception_(\w\w)_1x1", r"inception\1.branch1"),
    *basic(r"inception_(\w\w)_3x3_reduce", r"inception\1.branch2.0"),
    *basic(r"inception_(\w\w)_3x3", r"inception\1.branch2.1"),
    *basic(r"inception_(\w\w)_5x5_reduce", r"inception\1.branch3.0"),
    *basic(r"inception_(\w\w)_5x5", r"inception\1.branch3.1"),
    *basic(r"inception_(\w\w)_pool_proj", r"inception\1.branch4.1"),
)
# Of SSD and SSDLite the names begin after "backbone.": torchvision cuts the backbone where it takes maps.
SSD_VGG16 = (
    # From the fourth pooling on, which has the number 0.
    (r"features_24", r"extra.0.1"),
    (r"features_26", r"extra.0.3"),
    (r"features_28", r"extra.0.5"),
    (r"fc6", r"extra.0.7.1"),
    (r"fc7", r"extra.0.7.3"),
    (r"features_(\d+)", r"features.\1"),
)


def ssdlite_block(block, place):
    """Return the rows of a block of MobileNetV3's tail, which torchvision has in another place."""
    inside = {"depthwise": "1.0", "squeeze": "2.fc1", "excite": "2.fc2", "project": "3.0"}
    for ours, theirs in inside.items():
        yield rf"{block}_{ours}", f"{place}{theirs}"
        if theirs.endswith(".0"):
            yield rf"{block}_{ours}/norm", f"{place}{theirs[:-1]}1"


SSD_MOBILENET_V3 = (
    # The expansion inside block 13 ends the first part.
    *normed(r"block13_expand", r"features.0.13."),
    *ssdlite_block("block13", "features.1.0."),
    *(
        row
        for block in (14, 15)
        for row in (
            *normed(f"block{block}_expand", f"features.1.{block - 13}.block.0."),
            *ssdlite_block(f"block{block}", f"features.1.{block - 13}.block."),
        )
    ),
    *normed(r"last_conv", r"features.1.3."),
    *((ours, f"features.0.{theirs}") for ours, theirs in MOBILENET_V3),
)


def vgg16(backbone):
    """Return the rows of VGG-16, of a classifier or of SSD."""
    return SSD_VGG16 if "C4_fc7" in backbone.levels else VGG16


def mobilenet_v3(backbone):
    """Return the rows of MobileNetV3, of a classifier or of SSDLite."""
    return SSD_MOBILENET_V3 if "C4_expand" in backbone.levels else MOBILENET_V3


# By class of the classifier's backbone: the place of the backbone, and the layers above it.
CLASSIFIERS = {
    "ResNet": (("backbone", ""), ("fc", "fc")),
    "MobileNetV2": (
        ("backbone", "features."),
        *normed(r"last_conv", r"features.18."),
        ("fc", "classifier.1"),
    ),
    "MobileNetV3Large": (
        ("backbone", "features."),
        ("last_dense", "classifier.0"),
        ("fc", "classifier.3"),
    ),
    "VGG16": (
        ("backbone", "features."),
        (r"head/fc6", "classifier.0", channels_last),
        (r"head/fc7", "classifier.3"),
        ("fc", "classifier.6"),
    ),
    "AlexNet": (
        ("backbone", "features."),
        (r"head/fc6", "classifier.1", partial(channels_last, cells=6 * 6)),
        (r"head/fc7", "classifier.4"),
        ("fc", "classifier.6"),
    ),
    "GoogLeNet": (("backbone", ""), ("fc", "fc")),
    "InceptionV3": (("backbone", ""), ("fc", "fc")),
}


def classifier(model):
    """Return the rows of an `ImageClassifier`."""
    return CLASSIFIERS.get(type(model.backbone).__name__, ())


# -- parts of detectors ----------------------------------------------------------------------------


def feature_pyramid(neck):
    """Return the rows of a `FeaturePyramid`, whose maps torchvision numbers."""
    rows = [(r"(p6|p7)", r"extra_blocks.\1")]
    for i, level in enumerate(neck.levels):
        rows += normed(f"lateral_{level}", f"inner_blocks.{i}.")
        rows += normed(f"output_{level}", f"layer_blocks.{i}.")
    return rows


def dense_head(head):
    """Return the rows of a `DenseHead`: dense layers, or one after convolutions."""
    if not head.convs:
        return (r"fc6", r"fc6", channels_last), (r"fc7", r"fc7")
    # A layer that flattens is between them.
    dense = (r"fc6", f"{len(head.convs) + 1}", channels_last)
    return *normed(r"conv(\d)", r"\1."), dense


def subnets(head):
    """Return the rows of `Subnets`: RetinaNet's, or FCOS's, whose norms and activations count too."""
    rows = []
    for ours, theirs in (("class", "classification_head.conv"), ("box", "regression_head.conv")):
        for i in range(head.depth):
            first, second = (f"{3 * i}", f"{3 * i + 1}") if head.use_bias else (f"{i}.0", f"{i}.1")
            rows.append((f"{ours}_conv{i}", f"{theirs}.{first}"))
            rows.append((f"{ours}_norm{i}_", f"{theirs}.{second}"))
    return rows


RPN = (
    (r"conv(\d)", r"conv.\1.0"),
    (r"logits", r"cls_logits"),
    (r"deltas", r"bbox_pred"),
)
REGION_CLASSIFIER = (
    ("head", "box_head."),
    ("class_output", "box_predictor.cls_score"),
    ("box_output", "box_predictor.bbox_pred", without_background_boxes),
)

SSD_EXTRAS = (
    (r"l2_norm", r"scale_weight"),
    *((rf"conv{i}_1/conv", rf"extra.{i}.0") for i in range(1, 5)),
    *((rf"conv{i}_2/conv", rf"extra.{i}.2") for i in range(1, 5)),
)
SSDLITE_EXTRAS = tuple(
    row
    for i in range(1, 5)
    for j in range(1, 4)
    for row in normed(f"conv{i}_{j}", f"extra.{i - 1}.{j - 1}.")
)


def predictors(model):
    """Return the rows of SSD's output convolutions, and of SSDLite's depthwise ones before them."""
    lite = model.output_size == 1
    for kind, theirs in (("class", "classification"), ("box", "regression")):
        for i, level in enumerate(model.class_outputs):
            place = f"head.{theirs}_head.module_list.{i}"
            yield f"{kind}_output_{level}", f"{place}.1" if lite else place
            yield from normed(f"head/{kind}_{level}", f"{place}.0.")


# -- detectors -------------------------------------------------------------------------------------

RETINANET = (
    ("backbone", "backbone.body."),
    ("neck", "backbone.fpn."),
    ("head", "head."),
    ("class_output", "head.classification_head.cls_logits"),
    ("box_output", "head.regression_head.bbox_reg"),
)
FCOS = (*RETINANET, ("centerness_output", "head.regression_head.bbox_ctrness"))
FASTER_RCNN = (
    ("backbone", "backbone.body."),
    ("neck", "backbone.fpn."),
    ("rpn", "rpn.head."),
    ("classifier", "roi_heads."),
)
MASK_BRANCH = (
    *normed(r"mask_head/conv(\d)", r"roi_heads.mask_head.\1."),
    (r"mask_head/deconv", r"roi_heads.mask_predictor.conv5_mask"),
    (r"mask_output", r"roi_heads.mask_predictor.mask_fcn_logits", without_background_mask),
)
KEYPOINT_BRANCH = (
    # Every second layer there is an activation.
    *((rf"keypoint_head/conv{i}", rf"roi_heads.keypoint_head.{2 * i}") for i in range(8)),
    (r"keypoint_output", r"roi_heads.keypoint_predictor.kps_score_lowres"),
)


def ssd(model):
    """Return the rows of an `SSD` or an `SSDLite`."""
    return (("backbone", "backbone."), ("extras", "backbone."), *predictors(model))


TABLE = {
    "ResNet": RESNET,
    "MobileNetV2": MOBILENET_V2,
    "MobileNetV3Large": mobilenet_v3,
    "VGG16": vgg16,
    "AlexNet": ALEXNET,
    "GoogLeNet": GOOGLENET,
    "InceptionV3": INCEPTION_V3,
    "ImageClassifier": classifier,
    "FeaturePyramid": feature_pyramid,
    "DenseHead": dense_head,
    "RegionProposalNetwork": RPN,
    "Subnets": subnets,
    "RegionClassifier": REGION_CLASSIFIER,
    "FCOS": FCOS,
    "RetinaNet": RETINANET,
    "ExtraLayers": SSD_EXTRAS,
    "SeparableExtraLayers": SSDLITE_EXTRAS,
    "SSD": ssd,
    "FasterRCNN": FASTER_RCNN,
    "MaskRCNN": FASTER_RCNN + MASK_BRANCH,
    "KeypointRCNN": FASTER_RCNN + KEYPOINT_BRANCH,
}
