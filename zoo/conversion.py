"""Weights that torchvision has published, in our models, and the models as configured there.

`CONFIGS` builds a model as its weights were trained, `load_torchvision` fills it by the tables of
`zoo/names.py`. What has no partner, on either side, is an error.
"""

import functools
import re

import numpy as np

from kerasdet.zoo.names import newest_name, torchvision_names, weight_path

# By number of axes, PyTorch's axes in our order: dense kernels output x input, convolutions OIHW.
AXES = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}


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

COCO_KEYPOINT_NAMES = (
    "nose, left_eye, right_eye, left_ear, right_ear, left_shoulder, right_shoulder, left_elbow, "
    "right_elbow, left_wrist, right_wrist, left_hip, right_hip, left_knee, right_knee, left_ankle, "
    "right_ankle"
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

# Sides in pixels, of the levels in order or, of MobileNetV3's detectors, on every level.
ANCHOR_SIZES = (32, 64, 128, 256, 512)


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
            if key in arrays and re.fullmatch(pattern, weight_path(model, variable)):
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


def _renamed(tensors):
    """Arrays by their newest names, less the counters of training steps; and what is there twice."""
    arrays, faults = {}, []
    for old, value in tensors.items():
        name = newest_name(old)
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
    sizes = [[side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))] for side in ANCHOR_SIZES]
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


def _two_stages(settings, kind="FasterRCNN", **parts):
    """Faster R-CNN, or a descendant, with torchvision's classes and resizing."""
    from kerasdet import models
    from kerasdet.layers import ShortestEdge

    names, ids = coco_classes()
    published = {
        "class_names": names[1:],
        "category_ids": ids[1:],
        "resize": ShortestEdge(800, 1333),
    }
    arguments = {**published, **parts, **settings}
    return getattr(models, kind)(len(arguments["class_names"]), **arguments)


def _resnet_parts(norm_epsilon, rpn_depth=1):
    """ResNet-50 and the proposal network on P2 to P6, with torchvision's anchors."""
    from kerasdet.backbones import ResNet50
    from kerasdet.layers import AnchorGenerator
    from kerasdet.models import RegionProposalNetwork

    anchors = AnchorGenerator([[side] for side in ANCHOR_SIZES], [0.5, 1.0, 2.0], rounded=True)
    return {
        "backbone": ResNet50(norm_epsilon=norm_epsilon),
        "rpn": RegionProposalNetwork(anchors, depth=rpn_depth, name="rpn"),
    }


def _v2_parts():
    from kerasdet.layers import DenseHead, FeaturePyramid

    levels = ("C2", "C3", "C4", "C5")
    return {
        **_resnet_parts(norm_epsilon=1e-5, rpn_depth=2),
        "neck": FeaturePyramid(levels=levels, p6_from="pool", norm="batch", name="neck"),
        "head": DenseHead((1024,), convs=(256,) * 4, norm="batch", name="head"),
    }


def _faster_rcnn_v1(**settings):
    return _two_stages(settings, **_resnet_parts(norm_epsilon=0.0))


def _faster_rcnn_v2(**settings):
    return _two_stages(settings, **_v2_parts())


def _faster_rcnn_mobilenet(proposals=1000, edges=(800, 1333), **settings):
    """On two maps of stride 32 and every second cell of the last, all sizes of anchors on each."""
    from kerasdet.backbones import MobileNetV3Large
    from kerasdet.layers import AnchorGenerator, FeaturePyramid, ShortestEdge
    from kerasdet.models import RegionProposalNetwork

    levels = ("C5_first", "C5")
    anchors = AnchorGenerator([ANCHOR_SIZES] * 3, [0.5, 1.0, 2.0], rounded=True)
    limits = {"candidates": (2000, proposals), "proposals": (2000, proposals)}
    parts = {
        "backbone": MobileNetV3Large(levels, norm_epsilon=1e-5),
        "neck": FeaturePyramid(levels=levels, p6_from="pool", name="neck"),
        "rpn": RegionProposalNetwork(anchors, **limits, score_threshold=0.05, name="rpn"),
    }
    return _two_stages({"resize": ShortestEdge(*edges), **settings}, **parts)


def _mask_rcnn_v1(**settings):
    return _two_stages(settings, "MaskRCNN", **_resnet_parts(norm_epsilon=0.0))


def _mask_rcnn_v2(**settings):
    from kerasdet.layers import MaskHead

    head = MaskHead(norm="batch", name="mask_head")
    return _two_stages(settings, "MaskRCNN", mask_head=head, **_v2_parts())


def _keypoint_rcnn(**settings):
    person = {"class_names": ["person"], "category_ids": [1]}
    person["keypoint_names"] = COCO_KEYPOINT_NAMES.split(", ")
    return _two_stages(settings, "KeypointRCNN", **person, **_resnet_parts(norm_epsilon=0.0))


def _classifier(backbone, **settings):
    from kerasdet import backbones

    model = backbones.ImageClassifier(getattr(backbones, backbone)(), **settings)
    model.build()
    return model


# Name: a function that builds the model, untrained; it takes arguments of the model's constructor, which
# replace those of the published one.
CONFIGS = {
    "retinanet_resnet50_fpn_coco": _retinanet_v1,
    "retinanet_resnet50_fpn_v2_coco": _retinanet_v2,
    "fasterrcnn_resnet50_fpn_coco": _faster_rcnn_v1,
    "fasterrcnn_resnet50_fpn_v2_coco": _faster_rcnn_v2,
    "fasterrcnn_mobilenet_v3_large_fpn_coco": _faster_rcnn_mobilenet,
    "fasterrcnn_mobilenet_v3_large_320_fpn_coco": functools.partial(
        _faster_rcnn_mobilenet, proposals=150, edges=(320, 640)
    ),
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
