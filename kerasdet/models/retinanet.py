"""RetinaNet: two subnets on a feature pyramid, and the focal loss that lets them learn from every anchor.

    Lin, Goyal, Girshick, He, Dollar. Focal Loss for Dense Object Detection. ICCV 2017. arXiv 1708.02002v2.

Reading order: `RetinaNet.call` (section 4: backbone, neck, subnets), `RetinaNet.loss_terms` (sections 3
and 4: matching and losses), `RetinaNet.decode` (section 4, Inference). The neck is
`kerasdet.layers.FeaturePyramid`, the subnets are `kerasdet.layers.Subnets`, and the focal loss is
`kerasdet.ops.losses.sigmoid_focal_loss` (equation 5).

Departures from the paper:
    - Smooth L1's beta is 1/9, as in the authors' code; the paper names the loss but no beta.
    - An object keeps the anchor that overlaps it most, even below 0.5 (the authors' and torchvision's code),
      so that objects of unusual size or shape are learnt too. These are often called low-quality matches.
    - Batch or group normalisation in neck and head is an option: training from scratch needs it.

Results: AP 0.617 on BCCD's val split and 0.712 on digit scenes, from scratch with MobileNetV2 on
a CPU; commands and curves are in `zoo/retinanet_mobilenetv2_*.md`. The paper's COCO figures are not
reproduced. With torchvision's weights, v1 and v2, it finds torchvision's boxes (`tests/parity`).

Axes: B batch, A anchors, G ground truth, K classes, D detections, L levels.
"""

import keras
from keras import ops

from kerasdet.backbones import MobileNetV2, ResNet50
from kerasdet.layers import losses
from kerasdet.layers.anchors import AnchorGenerator
from kerasdet.layers.feature_pyramid import FeaturePyramid
from kerasdet.layers.subnets import Subnets, output_conv
from kerasdet.models.base import build_towers, channels_for_data, norm_option
from kerasdet.models.detector import Detector, data_arguments
from kerasdet.ops.boxes import clip_boxes
from kerasdet.ops.candidates import best_pairs, join_levels, rows_of_places
from kerasdet.ops.checks import check_choice, check_part
from kerasdet.ops.coders import decode_deltas
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.matching import BETWEEN, assign

FOREGROUND_IOU = 0.5  # section 4, Anchors
BACKGROUND_IOU = 0.4
PRIOR = 0.01  # section 4.1, Initialization: initial confidence of every anchor
OUTPUT_STD = 0.01  # likewise
CANDIDATES_PER_LEVEL = 1000  # section 4.1, Inference
SMOOTH_L1_BETA = 1 / 9
BOX_LOSSES = {
    "smooth_l1": lambda: losses.SmoothL1(beta=SMOOTH_L1_BETA),
    "giou": losses.GIoULoss,
    "diou": losses.DIoULoss,
    "ciou": losses.CIoULoss,
}


@keras.saving.register_keras_serializable("kerasdet")
class RetinaNet(Detector):
    """A one-stage detector: every anchor of a feature pyramid is classified and refined (arXiv 1708.02002).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model; default `ResNet50()`.
        neck: default `FeaturePyramid()`: P3 to P7, P6 from C5 (torchvision's v1 weights:
            `p6_from="P5"`).
        head: default `Subnets()`: four hidden convolutions for classes and four for boxes.
        anchors: an `AnchorGenerator` for the neck's levels; default three octave scales times three aspect
            ratios from 32 to 512 pixels (section 4, Anchors).
        classification_loss: `FocalLoss()` (default), or the paper's baselines `AlphaBalancedCrossEntropy()`
            (Table 1a) and `OnlineHardExamples()` (Table 1d).
        box_loss: `SmoothL1` on deltas (default), or `GIoULoss()`, `DIoULoss()`, `CIoULoss()` on boxes.
        **detector: `class_names`, `category_ids`, `resize`, `score_threshold`, `iou_threshold`,
            `max_detections`, `name`: see `Detector`.

    Example:
        >>> model = RetinaNet(
        ...     3,
        ...     backbone=kerasdet.backbones.MobileNetV2(),
        ...     neck=FeaturePyramid(64, norm="batch"),  # norms: for training from scratch
        ...     head=Subnets(64, norm="batch"),
        ... )
        >>> model.compile(keras.optimizers.AdamW(1e-3))
        >>> model.fit(data.batches(8, resize=model.resize))
        >>> model.detect("image.jpg")[0]["boxes"]

    Raises:
        ValueError: an argument is out of its range.
    """

    LOSS_TERMS = ("classification_loss", "box_loss")
    TRANSFERRED = ("backbone", "neck")

    def __init__(
        self,
        num_classes,
        backbone=None,
        neck=None,
        head=None,
        anchors=None,
        classification_loss=None,
        box_loss=None,
        **detector,
    ):
        super().__init__(
            num_classes, backbone=backbone or ResNet50(dtype=detector.get("dtype")), **detector
        )
        policy = self.dtype_policy
        self.neck = neck or FeaturePyramid(dtype=policy, name="neck")
        self.head = head or Subnets(dtype=policy, name="head")
        self.anchors = anchors or AnchorGenerator.retinanet()
        self.classification_loss = classification_loss or losses.FocalLoss()
        self.box_loss = box_loss or BOX_LOSSES["smooth_l1"]()
        check_part("classification_loss", self.classification_loss, losses.ClassLoss)
        check_part("box_loss", self.box_loss, losses.BoxLoss)
        count = self.anchors.num_anchors
        self.class_output = output_conv(count * self.num_classes, "class_output", OUTPUT_STD, PRIOR)
        self.box_output = output_conv(count * 4, "box_output", OUTPUT_STD)
        self.build()

    @classmethod
    def for_data(
        cls,
        data,
        resize=None,
        backbone=None,
        channels=None,
        depth=4,
        norm="batch",
        anchors="fitted",
        box_loss="smooth_l1",
        **detector,
    ):
        """Build a model for a data set.

        Args:
            data: `Dataset`, for its classes and the sizes of its objects.
            resize: `Resize` part of the model.
            backbone: default MobileNetV2.
            channels: channels of the neck and the head; default 128, or 64 where small objects need P2,
                which has four times the cells.
            depth: hidden convolutions of each of the head's two towers.
            norm: "batch" (for training from scratch), "group" or "none", for neck and head.
            anchors: "fitted" to the data's objects, or "paper": 32 to 512 pixels, on P3 to P7.
            box_loss: "smooth_l1" (the paper's), "giou", "diou" or "ciou".
            **detector: further arguments of the constructor.

        Raises:
            ValueError: an argument is out of its range.
        """
        check_choice("box_loss", box_loss, BOX_LOSSES)
        norm = norm_option(norm, ("batch", "group", "none"))
        backbone = backbone or MobileNetV2()
        finest = min(backbone.strides.values())
        anchors = AnchorGenerator.for_data(anchors, data, resize, finest=finest)
        anchors = anchors or AnchorGenerator.retinanet()
        channels = channels_for_data(anchors.strides) if channels is None else channels
        neck = {"norm": norm if norm == "batch" else None, "name": "neck"}
        return cls(
            backbone=backbone,
            neck=FeaturePyramid.of_strides(anchors.strides, channels, **neck),
            head=Subnets(channels, depth, norm, name="head"),
            anchors=anchors,
            box_loss=BOX_LOSSES[box_loss](),
            resize=resize,
            **{**data_arguments(data), **detector},
        )

    def build(self, input_shape=None):
        """Create every weight."""
        build_towers(self, [self.class_output], [self.box_output])
        self.built = True

    def call(self, inputs, training=False):
        """Compute the raw outputs.

        Returns:
            {"logits": {"P3": (B, A3, K), ...}, "deltas": {"P3": (B, A3, 4), ...},
            "anchors": {"P3": (A3, 4), ...}, "image_sizes": (B, 2)}.
        """
        images, image_sizes = self.normalize(inputs)
        maps = self.neck(self.backbone(images, training=training), training=training)
        classes, boxes = self.head(maps, training=training)
        return {
            "logits": {
                level: rows_of_places(self.class_output(x), self.num_classes)
                for level, x in classes.items()
            },
            "deltas": {level: rows_of_places(self.box_output(x), 4) for level, x in boxes.items()},
            "anchors": dict(zip(maps, self.anchors(maps, images))),
            "image_sizes": image_sizes,
        }

    def loss_terms(self, outputs, targets, training=False):
        """Compute the focal loss of all anchors and the box loss of matched ones, per matched anchor."""
        logits = join_levels(outputs["logits"], axis=1)  # (B, A, K)
        deltas = join_levels(outputs["deltas"], axis=1)  # (B, A, 4)
        anchors = join_levels(outputs["anchors"], axis=0)  # (A, 4)
        # Eq: retinanet §4 | foreground: IoU >= 0.5, background: IoU in [0, 0.4), else ignored
        matches = assign(targets, anchors, BACKGROUND_IOU, FOREGROUND_IOU)  # (B, A)
        positive = matches >= 0

        labels = ops.where(positive, gather_rows(targets["labels"], matches), -1)  # (B, A)
        class_losses, count = self.classification_loss.over_anchors(
            ops.one_hot(labels, self.num_classes),
            logits,
            matches != BETWEEN,
            positive,
            lambda: decode_deltas(deltas, anchors),
        )
        boxes = gather_rows(targets["boxes"], matches)  # (B, A, 4)
        # A placeholder box for anchors without an object keeps logarithms, and gradients, finite.
        boxes = ops.where(positive[..., None], boxes, anchors)  # (B, A, 4)
        box_losses = ops.where(positive, self.box_loss.of_deltas(boxes, deltas, anchors), 0.0)
        num_positive = ops.sum(ops.cast(positive, "float32"))
        return {
            "classification_loss": (ops.sum(class_losses), count),
            "box_loss": (ops.sum(box_losses), num_positive),
        }

    def decode(self, outputs):
        """Decode and merge the best 1000 per level, and apply non-maximum suppression (section 4.1)."""
        limit = self.room_for(CANDIDATES_PER_LEVEL)
        boxes, labels, scores = [], [], []
        for level, anchors in outputs["anchors"].items():
            rows, classes, logits = best_pairs(outputs["logits"][level], limit)
            deltas = gather_rows(outputs["deltas"][level], rows)  # (B, N, 4)
            boxes.append(decode_deltas(deltas, ops.take(anchors, rows, axis=0)))
            labels.append(classes)
            scores.append(ops.sigmoid(logits))
        boxes, labels, scores = (ops.concatenate(x, axis=1) for x in (boxes, labels, scores))
        return self.suppress(clip_boxes(boxes, outputs["image_sizes"]), labels, scores)
