"""The models whose boxes must be their origin's, and what of their insides is compared: one entry each.

Nothing of PyTorch or Keras is imported here: both sides read this table.
"""

from typing import NamedTuple

import numpy as np


class Model(NamedTuple):
    """One row of the table.

    Fields:
        there: name of the model in torchvision; of mmdetection the file of its configuration.
        modules: {name: the origin's module}, whose outputs are compared under that name; a container's
            entries as "name/key".
        ours: a function of our model (of a detector: its call) and the inputs that returns the same outputs,
            channels last, and a list of (scores (B, N), limit) where only the best `limit` of N go on.
        norm_epsilon: of the backbone's batch normalisation, as the published weights have it.
        old_names: whether the published file is of the generation before 2022: other names, no counters.
        two_stages: whether proposals, and the class logits of each, are compared too: pair by pair, as
            ties decide which there are and in which order. `ours` then returns two outputs more, lists of
            an array for each image: "proposals" (P, 4) and "class_logits" (P, 1 + K).
        calibrated: for detectors, {the origin's module: standard deviation to give to its outputs}, in
            rounds: what is done to a round's outputs changes what the next is computed from.
        keywords: of torchvision's function, what the published weights set, and what saves time.
        confident: of these, the module whose logits are raised until enough pass the score threshold.
        origin: a name in zoo/origins.
    """

    there: str
    modules: dict
    ours: object
    norm_epsilon: float = 1e-5
    old_names: bool = False
    two_stages: bool = False
    calibrated: tuple = ()
    confident: str | None = None
    origin: str = "torchvision"
    keywords: tuple = ()


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


def _fcos_head(call, inputs):
    outputs = call(inputs, training=False)
    levels = [
        {key: np.asarray(outputs[key][level]) for key in ("logits", "distances", "centerness")}
        | {"strides": np.asarray(points)[:, 2:]}
        for level, points in outputs["points"].items()
    ]

    def joined(function):
        return np.concatenate([function(level) for level in levels], axis=1)

    outputs = {
        "head/cls_logits": joined(lambda level: level["logits"]),
        "head/bbox_regression": joined(lambda level: level["distances"] / level["strides"]),
        "head/bbox_ctrness": joined(lambda level: level["centerness"][..., None]),
    }
    return outputs, [(_fcos_scores(**level), 1000) for level in levels]


def _fcos_scores(logits, centerness, **others):
    product = (1 + np.exp(-logits)) * (1 + np.exp(-centerness))[..., None]
    return product.reshape(len(logits), -1) ** -0.5


def _ssd_head(limit):
    """SSD's raw outputs; the best `limit` of each class go on."""

    def ours(call, inputs):
        outputs = call(inputs, training=False)
        logits, deltas = (
            np.concatenate([np.asarray(level) for level in outputs[name].values()], axis=1)
            for name in ("logits", "deltas")
        )
        scores = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scores = scores / scores.sum(axis=-1, keepdims=True)
        ranked = [(scores[..., column], limit) for column in range(1, scores.shape[-1])]
        return {"head/cls_logits": logits, "head/bbox_regression": deltas}, ranked

    return ours


def _two_stages(call, inputs):
    outputs = call(inputs, training=False)
    found = {}
    for i, level in enumerate(outputs["objectness"]):
        shape = np.asarray(outputs["maps"][level]).shape[:3]
        for kind, key in enumerate(("objectness", "proposal_deltas")):
            found[f"rpn/{kind}/{i}"] = np.asarray(outputs[key][level]).reshape(*shape, -1)
    proposals, logits = np.asarray(outputs["proposals"]), np.asarray(outputs["class_logits"])
    valid = np.asarray(outputs["is_proposal"])
    found["proposals"] = [rows[keep] for rows, keep in zip(proposals, valid)]
    found["class_logits"] = [rows[keep] for rows, keep in zip(logits, valid)]
    return found, []


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
ALEXNET = {
    "C2": "features.1",
    "C3": "features.4",
    "C4": "features.11",
    "C5": "features.12",
    "logits": "",
}
GOOGLENET = {
    "C2": "conv3",
    "C3": "inception3b",
    "C4": "inception4e",
    "C5": "inception5b",
    "logits": "",
}
INCEPTION_V3 = {
    "C2": "Conv2d_4a_3x3",
    "C3": "Mixed_5d",
    "C4": "Mixed_6e",
    "C5": "Mixed_7c",
    "logits": "",
}
RETINANET = {
    "modules": {"head": "head"},
    "ours": _retina_head,
    "calibrated": (
        {"head.classification_head.cls_logits": 2.0, "head.regression_head.bbox_reg": 0.25},
    ),
    "confident": "head.classification_head.cls_logits",
}
FCOS = {
    "modules": {"head": "head"},
    "ours": _fcos_head,
    "calibrated": (
        {
            "head.classification_head.cls_logits": 2.0,
            "head.regression_head.bbox_reg": 2.0,
            "head.regression_head.bbox_ctrness": 1.0,
        },
    ),
    "confident": "head.classification_head.cls_logits",
}

SSD_LEVELS = range(5)  # the sixth map has one place, and no spread


def _ssd_outputs(last):
    """The modules whose outputs are spread: `last` is the output convolution's place in its module."""
    return {
        f"head.{kind}_head.module_list.{i}{last}": deviation
        for kind, deviation in (("classification", 2.5), ("regression", 1.0))
        for i in SSD_LEVELS
    }


SSD = {"modules": {"head": "head"}, "ours": _ssd_head(400), "calibrated": (_ssd_outputs(""),)}
SSDLITE = {"modules": {"head": "head"}, "ours": _ssd_head(300), "calibrated": (_ssd_outputs(".1"),)}

PROPOSALS = {"rpn.head.cls_logits": 1.5, "rpn.head.bbox_pred": 0.25}
REGIONS = {"roi_heads.box_predictor.cls_score": 2.0, "roi_heads.box_predictor.bbox_pred": 1.0}
TWO_STAGES = {"modules": {"rpn": "rpn.head"}, "ours": _two_stages, "two_stages": True}
FASTER_RCNN = {**TWO_STAGES, "calibrated": (PROPOSALS, REGIONS)}
MASK_RCNN = {
    **TWO_STAGES,
    "calibrated": (PROPOSALS, REGIONS | {"roi_heads.mask_predictor.mask_fcn_logits": 2.0}),
}
KEYPOINT_RCNN = {
    **TWO_STAGES,
    "calibrated": (PROPOSALS, REGIONS | {"roi_heads.keypoint_predictor.kps_score_lowres": 3.0}),
}
# Weights that Google trained on pixels / 127.5 - 1; and no initialisation, which takes a minute.
RAW = (("transform_input", True), ("init_weights", False))
FIRST = {"norm_epsilon": 0.0, "old_names": True}  # trained before 2022

MMDETECTION = {"modules": {"rpn": "rpn_head"}, "ours": _two_stages, "two_stages": True}
MMDETECTION |= {"origin": "mmdetection"}
MMDETECTION_REGIONS = {"roi_head.bbox_head.fc_cls": 2.0, "roi_head.bbox_head.fc_reg": 1.0}
MMDETECTION_PROPOSALS = {"rpn_head.rpn_cls": 1.5, "rpn_head.rpn_reg": 0.25}


def _cascade(masks):
    """The rounds of calibration of a cascade's three stages, and of what each draws."""
    stages = [
        {f"roi_head.bbox_head.{i}.fc_cls": 3.0, f"roi_head.bbox_head.{i}.fc_reg": 1.0}
        for i in range(3)
    ]
    drawn = {f"roi_head.mask_head.{i}.conv_logits": 2.0 for i in range(3)}
    return MMDETECTION_PROPOSALS, *stages, *([drawn] if masks else [])


# By the name of the manifest that describes the model.
MODELS = {
    "fasterrcnn_resnet50_fpn_coco": Model("fasterrcnn_resnet50_fpn", **FASTER_RCNN, **FIRST),
    "fasterrcnn_resnet50_fpn_v2_coco": Model("fasterrcnn_resnet50_fpn_v2", **FASTER_RCNN),
    "fasterrcnn_mobilenet_v3_large_fpn_coco": Model(
        "fasterrcnn_mobilenet_v3_large_fpn", **FASTER_RCNN, old_names=True
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn_coco": Model(
        "fasterrcnn_mobilenet_v3_large_320_fpn", **FASTER_RCNN, old_names=True
    ),
    "maskrcnn_resnet50_fpn_coco": Model("maskrcnn_resnet50_fpn", **MASK_RCNN, **FIRST),
    "maskrcnn_resnet50_fpn_v2_coco": Model("maskrcnn_resnet50_fpn_v2", **MASK_RCNN),
    "keypointrcnn_resnet50_fpn_coco": Model("keypointrcnn_resnet50_fpn", **KEYPOINT_RCNN, **FIRST),
    # The only one of its generation that is run with the normalisation's usual epsilon.
    "keypointrcnn_resnet50_fpn_coco_legacy": Model(
        "keypointrcnn_resnet50_fpn", **KEYPOINT_RCNN, old_names=True
    ),
    "retinanet_resnet50_fpn_coco": Model("retinanet_resnet50_fpn", **RETINANET, **FIRST),
    "retinanet_resnet50_fpn_v2_coco": Model("retinanet_resnet50_fpn_v2", **RETINANET),
    "fcos_resnet50_fpn_coco": Model("fcos_resnet50_fpn", **FCOS),
    "ssd300_vgg16_coco": Model("ssd300_vgg16", **SSD),
    "ssdlite320_mobilenet_v3_large_coco": Model(
        "ssdlite320_mobilenet_v3_large", **SSDLITE, norm_epsilon=1e-3
    ),
    "cascade_rcnn_r50_fpn_20e_coco": Model(
        "cascade_rcnn/cascade-rcnn_r50_fpn_20e_coco.py",
        **MMDETECTION,
        calibrated=_cascade(masks=False),
    ),
    "cascade_mask_rcnn_r50_fpn_20e_coco": Model(
        "cascade_rcnn/cascade-mask-rcnn_r50_fpn_20e_coco.py",
        **MMDETECTION,
        calibrated=_cascade(masks=True),
    ),
    "faster_rcnn_r50_fpn_dconv_c3_c5_1x_coco": Model(
        "dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py",
        **MMDETECTION,
        calibrated=(MMDETECTION_PROPOSALS, MMDETECTION_REGIONS),
    ),
    "faster_rcnn_r50_fpn_mdconv_c3_c5_1x_coco": Model(
        "dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py",
        **MMDETECTION,
        calibrated=(MMDETECTION_PROPOSALS, MMDETECTION_REGIONS),
    ),
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
    "alexnet_imagenet": Model("alexnet", ALEXNET, _levels_and_logits),
    "googlenet_imagenet": Model(
        "googlenet", GOOGLENET, _levels_and_logits, norm_epsilon=1e-3, keywords=RAW
    ),
    "inception_v3_imagenet": Model(
        "inception_v3", INCEPTION_V3, _levels_and_logits, norm_epsilon=1e-3, keywords=RAW
    ),
}
