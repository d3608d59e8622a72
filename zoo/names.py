"""What torchvision calls each layer of our models.

On the left of a row our layers by their path in the model (`block1_project/norm`), as patterns; on the
right torchvision's modules. A new family joins with a table. What has no row is an error.
"""

import re

# Our weights' names and PyTorch's, of convolutions and dense layers, and of normalisations.
WEIGHTS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _normed(ours, theirs, conv="0", norm="1"):
    """Rows of a convolution and its normalisation, by default the first two of a module."""
    return (ours, f"{theirs}.{conv}"), (f"{ours}/norm", f"{theirs}.{norm}")


RESNET = (
    (r"conv1", r"conv1"),
    (r"conv1/norm", r"bn1"),
    *_normed(r"layer(\d)_(\d+)_conv(\d)", r"layer\1.\2", r"conv\3", r"bn\3"),
    *_normed(r"layer(\d)_(\d+)_downsample", r"layer\1.\2.downsample"),
    (r"fc", r"fc"),
)
MOBILENET_V2 = (
    *_normed(r"stem", r"features.0"),
    # The first block has no expansion, so that its layers count from one less.
    *_normed(r"block1_depthwise", r"features.1.conv.0"),
    *_normed(r"block1_project", r"features.1.conv", "1", "2"),
    *_normed(r"block(\d+)_expand", r"features.\1.conv.0"),
    *_normed(r"block(\d+)_depthwise", r"features.\1.conv.1"),
    *_normed(r"block(\d+)_project", r"features.\1.conv", "2", "3"),
    *_normed(r"last_conv", r"features.18"),
    (r"fc", r"classifier.1"),
)
MOBILENET_V3 = (
    *_normed(r"stem", r"features.0"),
    # The first block has no expansion, so that its layers count from one less.
    *_normed(r"block1_depthwise", r"features.1.block.0"),
    *_normed(r"block1_project", r"features.1.block.1"),
    *_normed(r"block(\d+)_expand", r"features.\1.block.0"),
    *_normed(r"block(\d+)_depthwise", r"features.\1.block.1"),
    (r"block(\d+)_squeeze", r"features.\1.block.2.fc1"),
    (r"block(\d+)_excite", r"features.\1.block.2.fc2"),
    # These blocks have no squeeze and excitation.
    *_normed(r"block([237-9]|10)_project", r"features.\1.block.2"),
    *_normed(r"block(\d+)_project", r"features.\1.block.3"),
    *_normed(r"last_conv", r"features.16"),
    (r"last_dense", r"classifier.0"),
    (r"fc", r"classifier.3"),
)
VGG16 = (
    (r"features_(\d+)", r"features.\1"),
    (r"head/fc6", r"classifier.0"),
    (r"head/fc7", r"classifier.3"),
    (r"fc", r"classifier.6"),
)
# By class of the backbone.
BACKBONES = {
    "ResNet": RESNET,
    "MobileNetV2": MOBILENET_V2,
    "MobileNetV3Large": MOBILENET_V3,
    "VGG16": VGG16,
}

RETINA_HEAD = tuple(
    row
    for ours, theirs, output in (
        ("class", "head.classification_head", "cls_logits"),
        ("box", "head.regression_head", "bbox_reg"),
    )
    for row in (
        (rf"head/{ours}_conv(\d)", rf"{theirs}.conv.\1.0"),
        (rf"head/{ours}_norm(\d)_", rf"{theirs}.conv.\1.1"),
        (rf"head/{ours}_output", rf"{theirs}.{output}"),
    )
)
TWO_STAGES = (
    (r"rpn/conv(\d)", r"rpn.head.conv.\1.0"),
    (r"rpn/logits", r"rpn.head.cls_logits"),
    (r"rpn/deltas", r"rpn.head.bbox_pred"),
    (r"class_output", r"roi_heads.box_predictor.cls_score"),
    (r"box_output", r"roi_heads.box_predictor.bbox_pred"),
)
MASK_BRANCH = (
    *_normed(r"mask_head/conv(\d)", r"roi_heads.mask_head.\1"),
    (r"mask_head/deconv", r"roi_heads.mask_predictor.conv5_mask"),
    (r"mask_output", r"roi_heads.mask_predictor.mask_fcn_logits"),
)
KEYPOINT_BRANCH = (
    # Every second layer there is an activation.
    *((rf"keypoint_head/conv{i}", rf"roi_heads.keypoint_head.{2 * i}") for i in range(8)),
    (r"keypoint_output", r"roi_heads.keypoint_predictor.kps_score_lowres"),
)
# By class of the detector.
DETECTORS = {
    "RetinaNet": RETINA_HEAD,
    "FasterRCNN": TWO_STAGES,
    "MaskRCNN": TWO_STAGES + MASK_BRANCH,
    "KeypointRCNN": TWO_STAGES + KEYPOINT_BRANCH,
}

# Older files number their layers otherwise: a head's activations counted too.
OLD_NAMES = (
    (r"(.*\.fpn\.(?:inner|layer)_blocks\.\d+)\.(\w+)", lambda m: f"{m[1]}.0.{m[2]}"),
    (r"(rpn\.head\.conv)\.(\w+)", lambda m: f"{m[1]}.0.0.{m[2]}"),
    (r"(.*\.mask_head)\.mask_fcn(\d)\.(\w+)", lambda m: f"{m[1]}.{int(m[2]) - 1}.0.{m[3]}"),
    (r"(head\.\w+_head\.conv)\.(\d+)\.(\w+)", lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}"),
)


def torchvision_names(model):
    """What torchvision calls each weight of a model.

    Args:
        model: a built detector or `ImageClassifier`.

    Returns:
        {torchvision's name: our variable}.

    Raises:
        ValueError: the tables do not know the model's class, its backbone's, or a layer of it.
    """
    rules, names = _rules(model), {}
    for variable in model.weights:
        layer, weight = weight_path(model, variable).rsplit("/", 1)
        matches = ((re.fullmatch(ours, layer), theirs) for ours, theirs in rules)
        module = next((match.expand(theirs) for match, theirs in matches if match), None)
        if module is None:
            raise ValueError(
                f"torchvision's name for the layer {layer!r} of this {type(model).__name__} on "
                f"{type(model.backbone).__name__} is not known: it has no such model, or "
                "kerasdet.zoo.names has no row for it."
            )
        names[f"{module}.{WEIGHTS[weight]}"] = variable
    return names


def newest_name(name):
    """A name of a state dict of either generation, as today's torchvision has it."""
    for pattern, new in OLD_NAMES:
        name = re.sub(rf"^{pattern}$", new, name)
    return name


def weight_path(model, variable):
    """Where a weight is in a model: "head/fc6/kernel"."""
    return variable.path.removeprefix(f"{model.path}/")


def _rules(model):
    """The rows of a model: its backbone's, and of a detector the others'."""
    backbone = BACKBONES.get(type(model.backbone).__name__, ())
    detector = DETECTORS.get(type(model).__name__)
    if detector is None:
        return backbone
    # A detector's body is the classifier's container of features, or the classifier itself.
    rows = [
        (ours, f"backbone.body.{theirs.removeprefix('features.')}") for ours, theirs in backbone
    ]
    if hasattr(model, "rpn"):
        rows += [*_region_head(model.head), *_pyramid("neck", model.neck)]
    else:
        rows += _pyramid("pyramid", model.pyramid)
    return [*rows, *detector]


def _pyramid(path, layer):
    """The rows of a feature pyramid; False: there is none."""
    for i, level in enumerate(layer.levels if layer else ()):
        for ours, theirs in (("lateral", "inner"), ("output", "layer")):
            yield from _normed(rf"{path}/{ours}_{level}", f"backbone.fpn.{theirs}_blocks.{i}")
    yield rf"{path}/(p6|p7)", r"backbone.fpn.extra_blocks.\1"


def _region_head(head):
    """The rows of a second stage's head: dense layers, or one after convolutions."""
    convs = getattr(head, "convs", ())
    if not convs:
        return [(r"head/(fc\d)", r"roi_heads.box_head.\1")]
    # Between them stands a layer that flattens.
    dense = (r"head/fc6", f"roi_heads.box_head.{len(convs) + 1}")
    return [*_normed(r"head/conv(\d)", r"roi_heads.box_head.\1"), dense]
