"""Weights that torchvision has published, in our models: layer names, and the models as configured there.

`CONFIGS` builds a model as its weights were trained, `load_torchvision` fills it. A new family joins
with a table of names: on the left our layers by their path in the model (`block1_project/norm`), as
patterns; on the right torchvision's modules. What has no partner, on either side, is an error.
"""

import functools
import re

import numpy as np

# Our weights' names and PyTorch's, of convolutions and dense layers, and of normalisations.
WEIGHTS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# By number of axes, PyTorch's axes in our order: dense kernels output x input, convolutions OIHW.
AXES = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}

RESNET = (
    (r"conv1", r"conv1"),
    (r"conv1/norm", r"bn1"),
    (r"layer(\d)_(\d+)_conv(\d)", r"layer\1.\2.conv\3"),
    (r"layer(\d)_(\d+)_conv(\d)/norm", r"layer\1.\2.bn\3"),
    (r"layer(\d)_(\d+)_downsample", r"layer\1.\2.downsample.0"),
    (r"layer(\d)_(\d+)_downsample/norm", r"layer\1.\2.downsample.1"),
    (r"fc", r"fc"),
)
MOBILENET_V2 = (
    (r"stem", r"features.0.0"),
    (r"stem/norm", r"features.0.1"),
    # The first block has no expansion, so that its layers count from one less.
    (r"block1_depthwise", r"features.1.conv.0.0"),
    (r"block1_depthwise/norm", r"features.1.conv.0.1"),
    (r"block1_project", r"features.1.conv.1"),
    (r"block1_project/norm", r"features.1.conv.2"),
    (r"block(\d+)_expand", r"features.\1.conv.0.0"),
    (r"block(\d+)_expand/norm", r"features.\1.conv.0.1"),
    (r"block(\d+)_depthwise", r"features.\1.conv.1.0"),
    (r"block(\d+)_depthwise/norm", r"features.\1.conv.1.1"),
    (r"block(\d+)_project", r"features.\1.conv.2"),
    (r"block(\d+)_project/norm", r"features.\1.conv.3"),
    (r"last_conv", r"features.18.0"),
    (r"last_conv/norm", r"features.18.1"),
    (r"fc", r"classifier.1"),
)
PYRAMID_FROM_C3 = (
    (r"pyramid/lateral_C3", r"backbone.fpn.inner_blocks.0.0"),
    (r"pyramid/lateral_C4", r"backbone.fpn.inner_blocks.1.0"),
    (r"pyramid/lateral_C5", r"backbone.fpn.inner_blocks.2.0"),
    (r"pyramid/output_C3", r"backbone.fpn.layer_blocks.0.0"),
    (r"pyramid/output_C4", r"backbone.fpn.layer_blocks.1.0"),
    (r"pyramid/output_C5", r"backbone.fpn.layer_blocks.2.0"),
    (r"pyramid/(p6|p7)", r"backbone.fpn.extra_blocks.\1"),
)
RETINA_HEAD = (
    (r"head/class_conv(\d)", r"head.classification_head.conv.\1.0"),
    (r"head/class_norm(\d)_", r"head.classification_head.conv.\1.1"),
    (r"head/class_output", r"head.classification_head.cls_logits"),
    (r"head/box_conv(\d)", r"head.regression_head.conv.\1.0"),
    (r"head/box_norm(\d)_", r"head.regression_head.conv.\1.1"),
    (r"head/box_output", r"head.regression_head.bbox_reg"),
)

MOBILENET_V3 = (
    (r"stem", r"features.0.0"),
    (r"stem/norm", r"features.0.1"),
    # The first block has no expansion, so that its layers count from one less.
    (r"block1_depthwise", r"features.1.block.0.0"),
    (r"block1_depthwise/norm", r"features.1.block.0.1"),
    (r"block1_project", r"features.1.block.1.0"),
    (r"block1_project/norm", r"features.1.block.1.1"),
    (r"block(\d+)_expand", r"features.\1.block.0.0"),
    (r"block(\d+)_expand/norm", r"features.\1.block.0.1"),
    (r"block(\d+)_depthwise", r"features.\1.block.1.0"),
    (r"block(\d+)_depthwise/norm", r"features.\1.block.1.1"),
    (r"block(\d+)_squeeze", r"features.\1.block.2.fc1"),
    (r"block(\d+)_excite", r"features.\1.block.2.fc2"),
    # These blocks have no squeeze and excitation.
    (r"block([237-9]|10)_project", r"features.\1.block.2.0"),
    (r"block([237-9]|10)_project/norm", r"features.\1.block.2.1"),
    (r"block(\d+)_project", r"features.\1.block.3.0"),
    (r"block(\d+)_project/norm", r"features.\1.block.3.1"),
    (r"last_conv", r"features.16.0"),
    (r"last_conv/norm", r"features.16.1"),
    (r"last_dense", r"classifier.0"),
    (r"fc", r"classifier.3"),
)
VGG16 = (
    (r"features_(\d+)", r"features.\1"),
    (r"head/fc6", r"classifier.0"),
    (r"head/fc7", r"classifier.3"),
    (r"fc", r"classifier.6"),
)
FASTER_RCNN = (
    *(
        (rf"neck/{ours}_C{2 + i}", rf"backbone.fpn.{theirs}_blocks.{i}.0")
        for i in range(4)
        for ours, theirs in (("lateral", "inner"), ("output", "layer"))
    ),
    *(
        (rf"neck/{ours}_C{2 + i}/norm", rf"backbone.fpn.{theirs}_blocks.{i}.1")
        for i in range(4)
        for ours, theirs in (("lateral", "inner"), ("output", "layer"))
    ),
    (r"rpn/conv(\d)", r"rpn.head.conv.\1.0"),
    (r"rpn/logits", r"rpn.head.cls_logits"),
    (r"rpn/deltas", r"rpn.head.bbox_pred"),
    (r"class_output", r"roi_heads.box_predictor.cls_score"),
    (r"box_output", r"roi_heads.box_predictor.bbox_pred"),
)
DENSE_HEAD = ((r"head/(fc\d)", r"roi_heads.box_head.\1"),)
CONV_HEAD = (
    (r"head/conv(\d)", r"roi_heads.box_head.\1.0"),
    (r"head/conv(\d)/norm", r"roi_heads.box_head.\1.1"),
    (r"head/fc6", r"roi_heads.box_head.5"),
)
MASK_BRANCH = (
    (r"mask_head/conv(\d)", r"roi_heads.mask_head.\1.0"),
    (r"mask_head/conv(\d)/norm", r"roi_heads.mask_head.\1.1"),
    (r"mask_head/deconv", r"roi_heads.mask_predictor.conv5_mask"),
    (r"mask_output", r"roi_heads.mask_predictor.mask_fcn_logits"),
)
KEYPOINT_BRANCH = (
    # Every second layer there is an activation.
    *((rf"keypoint_head/conv{i}", rf"roi_heads.keypoint_head.{2 * i}") for i in range(8)),
    (r"keypoint_output", r"roi_heads.keypoint_predictor.kps_score_lowres"),
)

# By class: the trunks' names, and for detectors what stands before them and the names of the rest.
TRUNKS = {
    "ResNet": RESNET,
    "MobileNetV2": MOBILENET_V2,
    "MobileNetV3Large": MOBILENET_V3,
    "VGG16": VGG16,
}
DETECTORS = {
    "RetinaNet": ("backbone.body.", PYRAMID_FROM_C3 + RETINA_HEAD),
    "FasterRCNN": ("backbone.body.", FASTER_RCNN),
    "MaskRCNN": ("backbone.body.", FASTER_RCNN + MASK_BRANCH),
    "KeypointRCNN": ("backbone.body.", FASTER_RCNN + KEYPOINT_BRANCH),
}


def _without_background(array):
    """Boxes of the background class, which PyTorch's models have and never use, are left out."""
    return array[4:]


def _without_background_mask(array):
    """The same of masks, one row a class."""
    return array[1:]


def _channels_last(array):
    """Columns of a dense layer on 7x7 regions, flattened as C, H, W there and as H, W, C here."""
    if array.ndim != 2 or array.shape[1] % 49:
        return array
    columns = array.reshape(len(array), -1, 49)
    return columns.transpose(0, 2, 1).reshape(array.shape)


# By weight: what is done to PyTorch's arrays before their axes are put in our order.
REARRANGED = {
    r"head/fc6/kernel": _channels_last,
    r"box_output/\w+": _without_background,
    r"mask_output/\w+": _without_background_mask,
}

# Older files number their layers otherwise: a head's activations counted too.
OLD_NAMES = (
    (r"(.*\.fpn\.(?:inner|layer)_blocks\.\d+)\.(\w+)", lambda m: f"{m[1]}.0.{m[2]}"),
    (r"(rpn\.head\.conv)\.(\w+)", lambda m: f"{m[1]}.0.0.{m[2]}"),
    (r"(.*\.mask_head)\.mask_fcn(\d)\.(\w+)", lambda m: f"{m[1]}.{int(m[2]) - 1}.0.{m[3]}"),
    (r"(head\.\w+_head\.conv)\.(\d+)\.(\w+)", lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}"),
)

# Columns of torchvision's COCO models: a column's number is the category's id; "-" is none.
COCO_COLUMNS = (
    "-, person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, "
    "fire hydrant, -, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, "
    "bear, zebra, giraffe, -, backpack, umbrella, -, -, handbag, tie, suitcase, frisbee, skis, "
    "snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, "
    "tennis racket, bottle, -, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, "
    "orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, -, "
    "dining table, -, -, toilet, -, tv, laptop, mouse, remote, keyboard, cell phone, microwave, "
    "oven, toaster, sink, refrigerator, -, book, clock, vase, scissors, teddy bear, hair drier, "
    "toothbrush"
)

RETINANET_SIZES = (32, 64, 128, 256, 512)


def load_torchvision(model, tensors, source):
    """Fill a model with the weights of a torchvision state dict, all of them or none.

    Args:
        model: a built detector or `ImageClassifier`, or a backbone with level "C5", which takes its
            weights from the state dict of its ImageNet classifier.
        tensors: {name: array}, names and layouts as PyTorch has them, of either generation.
        source: the file they come from, for the message of an error.

    Returns:
        The model.

    Raises:
        ValueError: torchvision's names of this model are not known, or a tensor is missing, left
            over or of another shape; names the first ten. The model is then unchanged.
    """
    from kerasdet.backbones import Backbone, ImageClassifier

    if isinstance(model, Backbone):
        classifier = ImageClassifier(model)
        classifier.build()
        load_torchvision(classifier, tensors, source)
        return model
    variables = torchvision_names(model)
    arrays, faults = _renamed(tensors)
    for key, variable in variables.items():
        for pattern, rearrange in REARRANGED.items():
            if key in arrays and re.fullmatch(pattern, _path(model, variable)):
                arrays[key] = rearrange(arrays[key])
    for key in sorted(variables.keys() | arrays.keys()):
        if key not in arrays:
            faults.append(f"{key} is missing")
        elif key not in variables:
            faults.append(f"{key} is left over")
        elif arrays[key].shape != (shape := _pytorch_shape(variables[key])):
            faults.append(f"{key} has the shape {arrays[key].shape} instead of {shape}")
    if faults:
        raise ValueError(
            f"{source} does not fit this {type(model).__name__}: {'; '.join(faults[:10])}"
            f"{'; ...' if len(faults) > 10 else ''} ({len(faults)} faults, {len(variables)} weights). "
            f"Build the model as one of {', '.join(CONFIGS)}."
        )
    for key, variable in variables.items():
        variable.assign(np.transpose(arrays[key], AXES[len(variable.shape)]))
    return model


def torchvision_names(model):
    """What torchvision calls each weight of a model.

    Args:
        model: a built detector or `ImageClassifier`.

    Returns:
        {torchvision's name: our variable}.

    Raises:
        ValueError: the tables do not know the model's class, its backbone's, or a layer of it.
    """
    prefix, rules = DETECTORS.get(type(model).__name__, ("", ()))
    if hasattr(model, "rpn"):
        rules = rules + (CONV_HEAD if getattr(model.head, "convs", ()) else DENSE_HEAD)
    trunk = TRUNKS.get(type(model.backbone).__name__, ())
    rules = [(ours, prefix + theirs) for ours, theirs in trunk] + list(rules)
    names = {}
    for variable in model.weights:
        layer, weight = _path(model, variable).rsplit("/", 1)
        matches = ((re.fullmatch(ours, layer), theirs) for ours, theirs in rules)
        module = next((match.expand(theirs) for match, theirs in matches if match), None)
        if module is None:
            raise ValueError(
                f"torchvision's name for the layer {layer!r} of this {type(model).__name__} on "
                f"{type(model.backbone).__name__} is not known: it has no such model, or "
                "kerasdet.zoo.conversion has no row for it."
            )
        names[f"{module}.{WEIGHTS[weight]}"] = variable
    return names


def _path(model, variable):
    return variable.path.removeprefix(f"{model.path}/")


def _renamed(tensors):
    """Arrays by their newest names, less the counters of training steps; and what is there twice."""
    arrays, faults = {}, []
    for old, value in tensors.items():
        name = old
        for pattern, new in OLD_NAMES:
            name = re.sub(rf"^{pattern}$", new, name)
        if name in arrays:
            faults.append(f"{name} is there twice, once as {old}")
        if not name.endswith(".num_batches_tracked"):
            arrays[name] = np.asarray(value)
    return arrays, faults


def _pytorch_shape(variable):
    axes = AXES[len(variable.shape)]
    return tuple(variable.shape[axes.index(axis)] for axis in range(len(axes)))


def coco_classes():
    """Classes of torchvision's COCO models, the eleven columns without a category included.

    Those eleven were trained as background only; nothing keeps them from being detected.

    Returns:
        91 different names, "unused 0" for the first dead column, and their category ids 0..90.
    """
    columns = enumerate(COCO_COLUMNS.split(", "))
    names = [f"unused {column}" if name == "-" else name for column, name in columns]
    return names, list(range(len(names)))


def _retinanet(settings, norm_epsilon, **parts):
    """RetinaNet with torchvision's anchors, resizing and number of detections."""
    from kerasdet.backbones import ResNet50
    from kerasdet.layers import AnchorGenerator, ShortestEdge
    from kerasdet.models import RetinaNet

    names, ids = coco_classes()
    sizes = [[side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))] for side in RETINANET_SIZES]
    published = {
        "backbone": ResNet50(norm_epsilon=norm_epsilon),
        "anchors": AnchorGenerator(sizes, [0.5, 1.0, 2.0], rounded=True),
        "class_names": names,
        "category_ids": ids,
        "resize": ShortestEdge(800, 1333),
        "max_detections": 300,
    }
    return RetinaNet(len(names), **{**published, **parts, **settings})


def _retinanet_v1(**settings):
    from kerasdet.layers import SmoothL1

    return _retinanet(settings, norm_epsilon=0.0, p6_from="P5", box_loss=SmoothL1(beta=0.0))


def _retinanet_v2(**settings):
    from kerasdet.layers import GIoULoss

    return _retinanet(settings, norm_epsilon=1e-5, norm="group", box_loss=GIoULoss())


def _faster_rcnn(settings, norm_epsilon, kind="FasterRCNN", **parts):
    """Faster R-CNN, or a descendant, on ResNet-50-FPN with torchvision's anchors and limits."""
    from kerasdet import models
    from kerasdet.backbones import ResNet50
    from kerasdet.layers import AnchorGenerator, ShortestEdge

    names, ids = coco_classes()
    anchors = AnchorGenerator([[side] for side in RETINANET_SIZES], [0.5, 1.0, 2.0], rounded=True)
    published = {
        "backbone": ResNet50(norm_epsilon=norm_epsilon),
        "rpn": models.RegionProposalNetwork(anchors, depth=parts.pop("rpn_depth", 1), name="rpn"),
        "class_names": names[1:],
        "category_ids": ids[1:],
        "resize": ShortestEdge(800, 1333),
    }
    arguments = {**published, **parts, **settings}
    return getattr(models, kind)(len(arguments["class_names"]), **arguments)


def _faster_rcnn_v1(**settings):
    return _faster_rcnn(settings, norm_epsilon=0.0)


def _faster_rcnn_v2(**settings):
    return _faster_rcnn(settings, **_v2_parts())


def _v2_parts():
    from kerasdet.layers import DenseHead, FeaturePyramid

    levels = ("C2", "C3", "C4", "C5")
    return {
        "norm_epsilon": 1e-5,
        "neck": FeaturePyramid(levels=levels, p6_from="pool", norm="batch", name="neck"),
        "rpn_depth": 2,
        "head": DenseHead((1024,), convs=(256,) * 4, norm="batch", name="head"),
    }


def _mask_rcnn_v1(**settings):
    return _faster_rcnn(settings, norm_epsilon=0.0, kind="MaskRCNN")


def _mask_rcnn_v2(**settings):
    from kerasdet.layers import MaskHead

    head = MaskHead(norm="batch", name="mask_head")
    return _faster_rcnn(settings, kind="MaskRCNN", mask_head=head, **_v2_parts())


def _keypoint_rcnn(**settings):
    person = {"class_names": ["person"], "category_ids": [1]}
    return _faster_rcnn(settings, norm_epsilon=0.0, kind="KeypointRCNN", **person)


def _classifier(trunk, **settings):
    from kerasdet import backbones

    model = backbones.ImageClassifier(getattr(backbones, trunk)(), **settings)
    model.build()
    return model


# Name: a function that builds the model, untrained; it takes arguments of the model's constructor, which
# replace those of the published one.
CONFIGS = {
    "retinanet_resnet50_fpn_coco": _retinanet_v1,
    "retinanet_resnet50_fpn_v2_coco": _retinanet_v2,
    "fasterrcnn_resnet50_fpn_coco": _faster_rcnn_v1,
    "fasterrcnn_resnet50_fpn_v2_coco": _faster_rcnn_v2,
    "maskrcnn_resnet50_fpn_coco": _mask_rcnn_v1,
    "maskrcnn_resnet50_fpn_v2_coco": _mask_rcnn_v2,
    "keypointrcnn_resnet50_fpn_coco": _keypoint_rcnn,
    "resnet18_imagenet": functools.partial(_classifier, "ResNet18"),
    "resnet34_imagenet": functools.partial(_classifier, "ResNet34"),
    "resnet50_imagenet": functools.partial(_classifier, "ResNet50"),
    "resnet101_imagenet": functools.partial(_classifier, "ResNet101"),
    "resnet152_imagenet": functools.partial(_classifier, "ResNet152"),
    "resnext50_32x4d_imagenet": functools.partial(_classifier, "ResNeXt50"),
    "resnext101_32x8d_imagenet": functools.partial(_classifier, "ResNeXt101"),
    "mobilenet_v2_imagenet": functools.partial(_classifier, "MobileNetV2", dropout=0.2),
    "mobilenet_v3_large_imagenet": functools.partial(_classifier, "MobileNetV3Large", dropout=0.2),
    "vgg16_imagenet": functools.partial(_classifier, "VGG16"),
}
