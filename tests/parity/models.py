"""The models whose boxes must be torchvision's, and what of their insides is compared: one entry each.

Nothing of PyTorch or Keras is imported here: both sides read this table.
"""

from typing import NamedTuple

import numpy as np


def in_order(name, value, entry):
    """An output as it is compared: of unordered rows each column sorted."""
    return np.sort(value, axis=0) if name in entry.unordered else value


class Model(NamedTuple):
    """One row of the table.

    Fields:
        torchvision: name of the model there.
        modules: {name: torchvision's module}, whose outputs are compared under that name; a container's
            entries as "name/key".
        ours: a function of our model (of a detector: its call) and the inputs that returns the same outputs,
            channels last, and a list of (scores (B, N), limit) where only the best `limit` of N go on.
        norm_epsilon: of the trunk's batch normalisation, as the published weights have it.
        old_names: whether the published file is of the generation before 2022: other names, no counters.
        unordered: outputs whose rows are in an order that ties decide; their columns are compared sorted.
        calibrated: for detectors, {output: (module that computes it, standard deviation to give it)}.
    """

    torchvision: str
    modules: dict
    ours: object
    norm_epsilon: float = 1e-5
    old_names: bool = False
    unordered: tuple = ()
    calibrated: dict | None = None


def _retina_head(call, inputs):
    outputs = call(inputs, training=False)
    logits = [np.asarray(level) for level in outputs["logits"].values()]
    deltas = [np.asarray(level) for level in outputs["deltas"].values()]
    ranked = [(1 / (1 + np.exp(-level.reshape(len(level), -1))), 1000) for level in logits]
    outputs = {
        "head/cls_logits": np.concatenate(logits, axis=1),
        "head/bbox_regression": np.concatenate(deltas, axis=1),
    }
    return outputs, ranked


def _two_stages(model, inputs):
    outputs = model(inputs, training=False)
    found, ranked = {}, []
    for i, level in enumerate(outputs["objectness"]):
        shape = np.asarray(outputs["maps"][level]).shape[:3]
        for kind, key in enumerate(("objectness", "proposal_deltas")):
            values = np.asarray(outputs[key][level])
            found[f"rpn/{kind}/{i}"] = values.reshape(*shape, -1)
        logits = np.asarray(outputs["objectness"][level])
        ranked.append((1 / (1 + np.exp(-logits)), 1000))
    proposals = np.asarray(outputs["is_proposal"])
    return {**found, "classes": np.asarray(outputs["class_logits"])[proposals]}, ranked


def _levels_and_logits(model, images):
    levels = model.backbone(model.backbone.normalize(images), training=False)
    return {"logits": model(images, training=False), **levels}, []


RESNET = {"C2": "layer1", "C3": "layer2", "C4": "layer3", "C5": "layer4", "logits": ""}
MOBILENET_V2 = {
    "C2": "features.3",
    "C3": "features.6",
    "C4": "features.13",
    "C5": "features.17",
    "logits": "",
}
MOBILENET_V3 = {
    "C2": "features.3",
    "C3": "features.6",
    "C4": "features.12",
    "C5": "features.16",
    "logits": "",
}
VGG16 = {
    "C2": "features.15",
    "C3": "features.22",
    "C4": "features.29",
    "C5": "features.30",
    "logits": "",
}
RETINANET = {
    "modules": {"head": "head"},
    "ours": _retina_head,
    "calibrated": {
        "head/cls_logits": ("head.classification_head.cls_logits", 2.0),
        "head/bbox_regression": ("head.regression_head.bbox_reg", 0.25),
    },
}

FASTER_RCNN = {
    "modules": {"rpn": "rpn.head", "classes": "roi_heads.box_predictor.cls_score"},
    "ours": _two_stages,
    "unordered": ("classes",),
    "calibrated": {
        "rpn/0/0": ("rpn.head.cls_logits", 1.5),
        "rpn/1/0": ("rpn.head.bbox_pred", 0.25),
        "classes": ("roi_heads.box_predictor.cls_score", 2.0),
    },
}

# By our name (`kerasdet.zoo.conversion.CONFIGS`).
MODELS = {
    "fasterrcnn_resnet50_fpn_coco": Model(
        "fasterrcnn_resnet50_fpn", **FASTER_RCNN, norm_epsilon=0.0, old_names=True
    ),
    "fasterrcnn_resnet50_fpn_v2_coco": Model("fasterrcnn_resnet50_fpn_v2", **FASTER_RCNN),
    "retinanet_resnet50_fpn_coco": Model(
        "retinanet_resnet50_fpn", **RETINANET, norm_epsilon=0.0, old_names=True
    ),
    "retinanet_resnet50_fpn_v2_coco": Model("retinanet_resnet50_fpn_v2", **RETINANET),
    "resnet18_imagenet": Model("resnet18", RESNET, _levels_and_logits),
    "resnet34_imagenet": Model("resnet34", RESNET, _levels_and_logits),
    "resnet50_imagenet": Model("resnet50", RESNET, _levels_and_logits),
    "resnet101_imagenet": Model("resnet101", RESNET, _levels_and_logits),
    "resnet152_imagenet": Model("resnet152", RESNET, _levels_and_logits),
    "resnext50_32x4d_imagenet": Model("resnext50_32x4d", RESNET, _levels_and_logits),
    "resnext101_32x8d_imagenet": Model("resnext101_32x8d", RESNET, _levels_and_logits),
    "mobilenet_v2_imagenet": Model("mobilenet_v2", MOBILENET_V2, _levels_and_logits),
    "mobilenet_v3_large_imagenet": Model(
        "mobilenet_v3_large", MOBILENET_V3, _levels_and_logits, norm_epsilon=1e-3
    ),
    "vgg16_imagenet": Model("vgg16", VGG16, _levels_and_logits),
}
