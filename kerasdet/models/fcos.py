"""FCOS: every point of a feature pyramid predicts a class, its distances to a box, and its centre-ness there.

    Tian, Shen, Chen, He. FCOS: Fully Convolutional One-Stage Object Detection. ICCV 2019.
    arXiv 1904.01355v5.

Reading order: `FCOS.call` (section 3.1, Network Outputs: backbone, neck, towers, three outputs),
`FCOS.loss_terms` (sections 3.1 to 3.3: assignment and losses), `FCOS.decode` (section 3.3). Which object a
point learns is `kerasdet.ops.assign_points`, the distances are `kerasdet.ops.encode_distances` (equation 1),
and centre-ness is `kerasdet.ops.centerness` (equation 3). The towers are RetinaNet's,
`kerasdet.layers.Subnets`.

Departures from the paper:
    - Centre-ness stands on the tower for boxes. That is the paper's improvement "ctr. on reg."; the first
      version has it on the tower for classes. torchvision does the same.
    - The box loss is not weighted by centre-ness. The authors' code weights it, the paper and torchvision
      do not.
    - The threshold of confidence is applied to the detection's confidence, class times centre-ness to the
      `score_power`, as in torchvision; the authors' code applies it to the class alone.
    - The default radius, encoding and box loss are the paper's first version. Its improvements are parts:
      centre sampling (`Points(radius=1.5)`), GIoU (`GIoULoss()`), distances in strides
      (`Distances("relu", normalized=True)`).

Results: see the tables of `docs/papers/fcos.md`. The paper's COCO figures are not reproduced. With
torchvision's weights it finds torchvision's boxes (`tests/parity`).

Axes: B batch, A points, G ground truth, K classes, D detections, L levels.
"""

import keras
from keras import ops

from kerasdet.backbones import MobileNetV2, ResNet50
from kerasdet.layers import losses
from kerasdet.layers.feature_pyramid import FeaturePyramid
from kerasdet.layers.points import Distances, Points
from kerasdet.layers.subnets import Subnets, output_conv
from kerasdet.models.base import build_once, build_towers, channels_for_data, norm_option
from kerasdet.models.detector import Detector, data_arguments
from kerasdet.ops.boxes import clip_boxes
from kerasdet.ops.candidates import best_pairs, join_levels, rows_of_places
from kerasdet.ops.checks import check_choice, check_part
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.losses import sigmoid_focal_loss
from kerasdet.ops.matching import BETWEEN
from kerasdet.ops.points import centerness, decode_distances, encode_distances

PRIOR = 0.01  # section 4, Training Details: RetinaNet's, as its standard deviation
OUTPUT_STD = 0.01
CANDIDATES_PER_LEVEL = 1000  # section 4, Inference Details: RetinaNet's post-processing
IOU_THRESHOLD = 0.6
RADIUS = 1.5  # of centre sampling
BOX_LOSSES = {
    "giou": losses.GIoULoss,
    "iou": losses.LogIoULoss,
    "diou": losses.DIoULoss,
    "ciou": losses.CIoULoss,
    "l2": losses.SquaredError,
}


@keras.saving.register_keras_serializable("kerasdet")
class FCOS(Detector):
    """A one-stage detector without anchors: every point predicts a box around itself (arXiv 1904.01355).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model; default `ResNet50()`.
        neck: default `FeaturePyramid(p6_from="P5")`: P3 to P7.
        head: default `Subnets(norm="group", use_bias=True)`: four hidden convolutions for classes and four
            for boxes.
        points: default `Points()`: the points of P3 to P7, and the objects that each learns.
        regression: default `Distances()`: exp(s_i x), from the last convolution to pixels.
        box_loss: `LogIoULoss()` (default, the paper's), `GIoULoss()`, or `SquaredError()` of the
            distances, in strides.
        score_power: power of class times centre-ness that makes a detection's confidence: 1 (the paper)
            or 0.5 (torchvision, the authors' later code). It changes no order.
        **detector: `class_names`, `category_ids`, `resize`, `score_threshold`, `iou_threshold` (default
            0.6), `max_detections`, `name`: see `Detector`.

    Example:
        >>> model = FCOS(
        ...     3,
        ...     backbone=kerasdet.backbones.MobileNetV2(),
        ...     neck=FeaturePyramid(64, p6_from="P5", norm="batch"),  # norms: for training from scratch
        ...     head=Subnets(64, norm="batch"),
        ...     points=Points(radius=1.5),
        ...     box_loss=GIoULoss(),
        ... )
        >>> model.compile(keras.optimizers.AdamW(1e-3))
        >>> model.fit(data.batches(8, resize=model.resize))
        >>> model.detect("image.jpg")[0]["boxes"]

    Raises:
        ValueError: an argument is out of its range.
    """

    LOSS_TERMS = ("classification_loss", "box_loss", "centerness_loss")
    TRANSFERRED = ("backbone", "neck")

    def __init__(
        self,
        num_classes,
        backbone=None,
        neck=None,
        head=None,
        points=None,
        regression=None,
        box_loss=None,
        score_power=1.0,
        **detector,
    ):
        settings = {"iou_threshold": IOU_THRESHOLD, **detector}
        super().__init__(
            num_classes, backbone=backbone or ResNet50(dtype=detector.get("dtype")), **settings
        )
        if not isinstance(score_power, (int, float)) or not 0 < score_power <= 1:
            raise ValueError(f"score_power must be above 0 and at most 1, not {score_power!r}.")
        policy = self.dtype_policy
        self.neck = neck or FeaturePyramid(p6_from="P5", dtype=policy, name="neck")
        self.head = head or Subnets(norm="group", use_bias=True, dtype=policy, name="head")
        self.points = points or Points(name="points")
        self.regression = regression or Distances(name="regression")
        self.box_loss = box_loss or BOX_LOSSES["iou"]()
        check_part("box_loss", self.box_loss, losses.BoxLoss)
        self.score_power = score_power
        self.class_output = output_conv(self.num_classes, "class_output", OUTPUT_STD, PRIOR)
        self.box_output = output_conv(4, "box_output", OUTPUT_STD)
        self.centerness_output = output_conv(1, "centerness_output", OUTPUT_STD)
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
        ranges="fitted",
        radius=RADIUS,
        box_loss="giou",
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
            ranges: "fitted" to the data's objects, or "paper": 64 to 512 pixels, on P3 to P7.
            radius: strides from an object's centre within which points learn it; 0: all inside it do.
            box_loss: "giou", "iou" (the paper's), "diou", "ciou" or "l2" (on distances).
            **detector: further arguments of the constructor.

        Raises:
            ValueError: an argument is out of its range.
        """
        check_choice("box_loss", box_loss, BOX_LOSSES)
        norm = norm_option(norm, ("batch", "group", "none"))
        backbone = backbone or MobileNetV2()
        finest = min(backbone.strides.values())
        points = Points.for_data(ranges, data, resize, finest, radius=radius or None, name="points")
        channels = channels_for_data(points.strides) if channels is None else channels
        neck = {"p6_from": "P5", "norm": norm if norm == "batch" else None, "name": "neck"}
        return cls(
            backbone=backbone,
            neck=FeaturePyramid.of_strides(points.strides, channels, **neck),
            head=Subnets(channels, depth, norm, name="head"),
            points=points,
            regression=Distances(normalized=True, name="regression"),
            box_loss=BOX_LOSSES[box_loss](),
            resize=resize,
            **{**data_arguments(data), "score_power": 0.5, **detector},
        )

    def build(self, input_shape=None):
        """Create every weight."""
        build_towers(self, [self.class_output], [self.box_output, self.centerness_output])
        levels = self.neck.output_levels
        build_once(self.regression, {level: (None, None, 4) for level in levels})
        self.built = True

    def call(self, inputs, training=False):
        """Compute the raw outputs.

        Returns:
            {"logits": {"P3": (B, A3, K), ...}, "distances": {"P3": (B, A3, 4), ...} in pixels,
            "centerness": {"P3": (B, A3), ...} logits, "points": {"P3": (A3, 3), ...},
            "image_sizes": (B, 2)}.
        """
        images, image_sizes = self.normalize(inputs)
        maps = self.neck(self.backbone(images, training=training), training=training)
        classes, boxes = self.head(maps, training=training)
        points = dict(zip(maps, self.points(maps, images)))
        sides = {level: rows_of_places(self.box_output(x), 4) for level, x in boxes.items()}
        return {
            "logits": {
                level: rows_of_places(self.class_output(x), self.num_classes)
                for level, x in classes.items()
            },
            "distances": self.regression(sides, points),
            "centerness": {
                level: rows_of_places(self.centerness_output(x), 1)[..., 0]
                for level, x in boxes.items()
            },
            "points": points,
            "image_sizes": image_sizes,
        }

    def loss_terms(self, outputs, targets, training=False):
        """Compute the losses of classes, boxes and centre-ness, per point with an object."""
        logits = join_levels(outputs["logits"], axis=1)  # (B, A, K)
        distances = join_levels(outputs["distances"], axis=1)  # (B, A, 4)
        points = join_levels(outputs["points"], axis=0)  # (A, 3)
        matches = self.points.assign(targets, outputs["points"])  # (B, A)
        positive = matches >= 0

        labels = ops.where(positive, gather_rows(targets["labels"], matches), -1)  # (B, A)
        focal = sigmoid_focal_loss(ops.one_hot(labels, self.num_classes), logits)  # (B, A, K)
        class_losses = ops.where(matches != BETWEEN, ops.sum(focal, axis=-1), 0.0)  # (B, A)

        boxes = gather_rows(targets["boxes"], matches)  # (B, A, 4)
        # A placeholder box around points without an object keeps logarithms, and gradients, finite.
        around = decode_distances(ops.ones_like(distances), points)
        boxes = ops.where(positive[..., None], boxes, around)  # (B, A, 4)
        box_losses = self.box_loss.of_distances(boxes, distances, points)  # (B, A)

        aims = centerness(encode_distances(boxes, points))  # (B, A)
        centerness_logits = join_levels(outputs["centerness"], axis=1)  # (B, A)
        centerness_losses = ops.binary_crossentropy(aims, centerness_logits, from_logits=True)
        # Eq: fcos 2 | L = 1/N_pos sum L_cls + lambda/N_pos sum 1{c* > 0} L_reg, lambda = 1
        count = ops.sum(ops.cast(positive, "float32"))
        return {
            "classification_loss": (ops.sum(class_losses), count),
            "box_loss": (ops.sum(ops.where(positive, box_losses, 0.0)), count),
            "centerness_loss": (ops.sum(ops.where(positive, centerness_losses, 0.0)), count),
        }

    def decode(self, outputs):
        """Decode and merge the best 1000 per level, and apply non-maximum suppression (section 3.3)."""
        limit = self.room_for(CANDIDATES_PER_LEVEL)
        boxes, labels, scores = [], [], []
        for level, points in outputs["points"].items():
            central = ops.sigmoid(outputs["centerness"][level])[..., None]  # (B, A_l, 1)
            # Eq: fcos §3.3 | score = class x centerness
            products = ops.sigmoid(outputs["logits"][level]) * central  # (B, A_l, K)
            rows, classes, best = best_pairs(products, limit)
            distances = gather_rows(outputs["distances"][level], rows)  # (B, N, 4)
            boxes.append(decode_distances(distances, ops.take(points, rows, axis=0)))
            labels.append(classes)
            scores.append(best**self.score_power)
        boxes, labels, scores = (ops.concatenate(x, axis=1) for x in (boxes, labels, scores))
        return self.suppress(clip_boxes(boxes, outputs["image_sizes"]), labels, scores)
