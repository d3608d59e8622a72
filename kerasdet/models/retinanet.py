"""RetinaNet: two subnets on a feature pyramid, and the focal loss that lets them learn from every anchor.

    Lin, Goyal, Girshick, He, Dollar. Focal Loss for Dense Object Detection. ICCV 2017. arXiv 1708.02002v2.

Reading order: `RetinaNet.call` (section 4: backbone, pyramid, subnets), `RetinaNet.loss_terms` (section 3
and 4: matching and losses), `RetinaNet.decode` (section 4, Inference). The pyramid is
`kerasdet.layers.FeaturePyramid`, the focal loss `kerasdet.ops.losses.sigmoid_focal_loss` (equation 5).

Departures from the paper:
    - Smooth L1's beta is 1/9, as in the authors' code; the paper names the loss and no beta.
    - Objects keep the anchor that overlaps them most even below 0.5 (the authors' and torchvision's code), so
      that an object of unusual size or shape is learnt too; `low_quality` matches in the usual words.
    - Batch or group normalisation in pyramid and subnets by argument: training from scratch needs it.

Results, measured: AP 0.617 on BCCD's val split and 0.712 on digit scenes, from scratch with MobileNetV2 on
a CPU; commands and curves in `zoo/retinanet_mobilenetv2_*.md`. The paper's COCO figures are not reproduced.
With torchvision's weights, v1 and v2, it finds torchvision's boxes (`tests/parity`).

Axes: B batch, A anchors, G ground truth, K classes, D detections, L levels.
"""

import math

import keras
from keras import ops

from kerasdet.backbones import ResNet50
from kerasdet.layers.anchors import AnchorGenerator
from kerasdet.layers.conv import BatchNorm, Conv
from kerasdet.layers.feature_pyramid import FeaturePyramid
from kerasdet.layers.group_norm import GroupNorm
from kerasdet.layers.losses import FocalLoss, OnlineHardExamples, SmoothL1
from kerasdet.models.detector import Detector, format_detections
from kerasdet.ops.boxes import box_iou, clip_boxes, valid_mask
from kerasdet.ops.coders import decode_deltas, encode_deltas
from kerasdet.ops.gather import gather_rows, top_rows
from kerasdet.ops.matching import BETWEEN, in_ignored, match_iou
from kerasdet.ops.nms import batched_nms

FOREGROUND_IOU = 0.5  # section 4, Anchors
BACKGROUND_IOU = 0.4
PRIOR = 0.01  # section 4.1, Initialization: confidence of every anchor at the start
CANDIDATES_PER_LEVEL = 1000  # section 4.1, Inference
SMOOTH_L1_BETA = 1 / 9


@keras.saving.register_keras_serializable("kerasdet")
class RetinaHead(keras.layers.Layer):
    """The two subnets: what is at each anchor, and where exactly. Shared by all levels (section 4).

    Args:
        num_classes: K.
        num_anchors: anchors per location.
        channels: channels of the subnets' hidden maps.
        depth: hidden 3x3 convolutions of each subnet (paper: 4).
        norm: None (paper), "batch" (statistics per level, convolutions shared) or "group" (32 groups).

    Call arguments:
        pyramid: {"P3": (B, H3, W3, C), ...}.

    Returns:
        ({"P3": logits (B, H3 W3 anchors, K), ...}, {"P3": deltas (B, H3 W3 anchors, 4), ...}), float32.
    """

    def __init__(self, num_classes, num_anchors, channels=256, depth=4, norm=None, **kwargs):
        super().__init__(**kwargs)
        if norm not in (None, "batch", "group"):
            raise ValueError(f'norm must be None, "batch" or "group", not {norm!r}.')
        self.num_classes = num_classes
        self.num_anchors = num_anchors
        self.channels = channels
        self.depth = depth
        self.norm = norm
        # Eq: retinanet §4.1 | b = -log((1 - pi) / pi)
        prior_bias = keras.initializers.Constant(-math.log((1 - PRIOR) / PRIOR))
        self.class_convs = [self._hidden(f"class_conv{i}") for i in range(depth)]
        self.class_output = self._output(num_anchors * num_classes, "class_output", prior_bias)
        self.box_convs = [self._hidden(f"box_conv{i}") for i in range(depth)]
        self.box_output = self._output(num_anchors * 4, "box_output", "zeros")

    def build(self, pyramid_shape):
        """Create the convolutions' weights, once for all levels, and the norms."""
        shape = next(iter(pyramid_shape.values()))
        hidden = (None, None, None, self.channels)
        self.norms = {}
        for subnet, convs in (("class", self.class_convs), ("box", self.box_convs)):
            for i, conv in enumerate(convs):
                conv.build(hidden if i else shape)
                for level in self._norm_levels(pyramid_shape):
                    layer = self._norm(f"{subnet}_norm{i}_{level}")
                    layer.build(hidden)
                    self.norms[f"{subnet}{i}{level}"] = layer
        for conv in (self.class_output, self.box_output):
            conv.build(hidden if self.depth else shape)
        self.built = True

    def call(self, pyramid, training=False):
        """See the class docstring."""
        logits, deltas = {}, {}
        for level, features in pyramid.items():
            x = self._subnet("class", self.class_convs, features, level, training)
            logits[level] = _per_anchor(self.class_output(x), self.num_classes)
            x = self._subnet("box", self.box_convs, features, level, training)
            deltas[level] = _per_anchor(self.box_output(x), 4)
        return logits, deltas

    def compute_output_spec(self, pyramid, training=False):
        """One row per anchor of each level."""
        logits, deltas = {}, {}
        for level, features in pyramid.items():
            batch, height, width, _ = features.shape
            rows = None if None in (height, width) else height * width * self.num_anchors
            logits[level] = keras.KerasTensor((batch, rows, self.num_classes), "float32")
            deltas[level] = keras.KerasTensor((batch, rows, 4), "float32")
        return logits, deltas

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "num_anchors": self.num_anchors,
            "channels": self.channels,
            "depth": self.depth,
            "norm": self.norm,
        }

    def _subnet(self, name, convs, x, level, training):
        for i, conv in enumerate(convs):
            x = conv(x)
            if self.norm == "batch":
                x = ops.relu(self.norms[f"{name}{i}{level}"](x, training=training))
            elif self.norm == "group":
                x = ops.relu(self.norms[f"{name}{i}"](x))
        return x

    def _hidden(self, name):
        return Conv(
            self.channels,
            3,
            use_bias=self.norm is None,
            activation=None if self.norm else "relu",
            kernel_initializer="he_normal"
            if self.norm
            else keras.initializers.RandomNormal(0, 0.01),
            dtype=self.dtype_policy,
            name=name,
        )

    def _output(self, filters, name, bias_initializer):
        return Conv(
            filters,
            3,
            kernel_initializer=keras.initializers.RandomNormal(0, 0.01),
            bias_initializer=bias_initializer,
            dtype="float32",
            name=name,
        )

    def _norm_levels(self, pyramid_shape):
        return {None: (), "batch": tuple(pyramid_shape), "group": ("",)}[self.norm]

    def _norm(self, name):
        if self.norm == "group":
            return GroupNorm(32, dtype=self.dtype_policy, name=name)
        return BatchNorm(dtype=self.dtype_policy, name=name)


@keras.saving.register_keras_serializable("kerasdet")
class RetinaNet(Detector):
    """A one-stage detector: every anchor of a feature pyramid is classified and refined (arXiv 1708.02002).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model; default `ResNet50()`.
        channels: channels of the pyramid and of the subnets (paper: 256).
        head_depth: hidden convolutions of each subnet (paper: 4).
        norm: None (paper), "batch" or "group": normalisation for training from scratch. "batch" also
            normalises the pyramid.
        p6_from: "C5" (paper) or "P5" (torchvision's v1 weights).
        anchors: an `AnchorGenerator` of five levels; default three octave scales times three aspect
            ratios from 32 to 512 pixels (section 4, Anchors).
        classification_loss: `FocalLoss()` (default), or the paper's baselines `AlphaBalancedCrossEntropy()`
            (Table 1a) and `OnlineHardExamples()` (Table 1d).
        box_loss: `SmoothL1` on deltas (default), or `GIoULoss()`, `DIoULoss()`, `CIoULoss()` on boxes.
        **detector: `class_names`, `category_ids`, `resize`, `score_threshold`, `iou_threshold`,
            `max_detections`, `name`: see `Detector`.

    Example:
        >>> model = RetinaNet(3, backbone=kerasdet.backbones.MobileNetV2(), channels=64, norm="batch")
        >>> model.compile(keras.optimizers.AdamW(1e-3))
        >>> model.fit(data.batches(8, resize=model.resize))
        >>> model.detect(["image.jpg"])[0]["boxes"]

    Raises:
        ValueError: an argument is out of its range.
    """

    LOSS_TERMS = ("classification_loss", "box_loss")
    TRANSFERRED = ("backbone", "pyramid")

    def __init__(
        self,
        num_classes,
        backbone=None,
        channels=256,
        head_depth=4,
        norm=None,
        p6_from="C5",
        anchors=None,
        classification_loss=None,
        box_loss=None,
        **detector,
    ):
        super().__init__(num_classes, backbone or ResNet50(), **detector)
        self.channels = channels
        self.head_depth = head_depth
        self.norm = norm
        self.p6_from = p6_from
        self.anchors = anchors or AnchorGenerator.retinanet()
        self.classification_loss = classification_loss or FocalLoss()
        self.box_loss = box_loss or SmoothL1(beta=SMOOTH_L1_BETA)
        self.pyramid = FeaturePyramid(
            channels,
            p6_from=p6_from,
            norm="batch" if norm == "batch" else None,
            dtype=self.dtype_policy,
            name="pyramid",
        )
        self.head = RetinaHead(
            self.num_classes,
            self.anchors.num_anchors,
            channels,
            head_depth,
            norm,
            dtype=self.dtype_policy,
            name="head",
        )
        self.build()

    def build(self, input_shape=None):
        """Create every weight."""
        features = {
            level: (None, None, None, width) for level, width in self.backbone.channels.items()
        }
        self.pyramid.build(features)
        levels = ("P3", "P4", "P5", "P6", "P7")
        self.head.build({level: (None, None, None, self.channels) for level in levels})
        self.built = True

    def call(self, inputs, training=False):
        """Raw outputs.

        Returns:
            {"logits": {"P3": (B, A3, K), ...}, "deltas": {"P3": (B, A3, 4), ...},
            "anchors": {"P3": (A3, 4), ...}, "image_sizes": (B, 2)}.
        """
        images, image_sizes = self.normalize(inputs)
        pyramid = self.pyramid(self.backbone(images, training=training), training=training)
        logits, deltas = self.head(pyramid, training=training)
        anchors = self.anchors(pyramid, images)
        return {
            "logits": logits,
            "deltas": deltas,
            "anchors": dict(zip(pyramid, anchors)),
            "image_sizes": image_sizes,
        }

    def loss_terms(self, outputs, targets, training=False):
        """The focal loss over all anchors and the box loss over the matched, per matched anchor."""
        logits = _all_levels(outputs["logits"], axis=1)
        deltas = _all_levels(outputs["deltas"], axis=1)
        anchors = _all_levels(outputs["anchors"], axis=0)
        matches, counted = assign(targets, anchors)
        positive = matches >= 0
        num_positive = ops.sum(ops.cast(positive, "float32"))

        labels = ops.where(positive, gather_rows(targets["labels"], matches), -1)
        losses = self.classification_loss.call(ops.one_hot(labels, self.num_classes), logits)
        losses = ops.where(counted, ops.sum(losses, axis=-1), 0.0)
        if isinstance(self.classification_loss, OnlineHardExamples):
            boxes = decode_deltas(deltas, anchors)
            losses, count = self.classification_loss.select(losses, boxes, positive)
        else:
            # Section 4.1, Focal Loss: normalised by the anchors assigned to an object, not by all.
            count = num_positive

        boxes = gather_rows(targets["boxes"], matches)
        # A stand-in for anchors without an object keeps logarithms, and gradients, finite.
        boxes = ops.where(positive[..., None], boxes, anchors)
        if isinstance(self.box_loss, SmoothL1):
            box_losses = ops.sum(self.box_loss.call(encode_deltas(boxes, anchors), deltas), axis=-1)
        else:
            box_losses = self.box_loss.call(boxes, decode_deltas(deltas, anchors))
        box_losses = ops.where(positive, box_losses, 0.0)
        return {
            "classification_loss": (ops.sum(losses), count),
            "box_loss": (ops.sum(box_losses), num_positive),
        }

    def decode(self, outputs):
        """The best 1000 per level, decoded, merged, and thinned by non-maximum suppression (section 4.1)."""
        candidates = [
            best_candidates(outputs["logits"][level], outputs["deltas"][level], anchors)
            for level, anchors in outputs["anchors"].items()
        ]
        boxes, labels, scores = (ops.concatenate(parts, axis=1) for parts in zip(*candidates))
        boxes = clip_boxes(boxes, outputs["image_sizes"])
        kept = batched_nms(
            boxes, scores, labels, self.iou_threshold, self.max_detections, self.score_threshold
        )
        return format_detections(boxes, labels, scores, *kept)

    def get_config(self):
        """Every constructor argument, parts serialised."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "channels": self.channels,
            "head_depth": self.head_depth,
            "norm": self.norm,
            "p6_from": self.p6_from,
            "anchors": serialize(self.anchors),
            "classification_loss": serialize(self.classification_loss),
            "box_loss": serialize(self.box_loss),
        }


def assign(targets, anchors):
    """Which object each anchor learns, and which anchors learn at all (section 4, Anchors).

    Args:
        targets: prepared targets.
        anchors: (A, 4).

    Returns:
        matches: (B, A) int32, the object's row, negative where there is none.
        counted: (B, A) bool, False for overlaps in [0.4, 0.5) and for background inside ignored regions.
    """
    boxes, ignore = targets["boxes"], targets["ignore"]
    learnt = (valid_mask(targets["labels"]) & ~ignore)[..., None]
    # Eq: retinanet §4 | foreground: IoU >= 0.5, background: IoU in [0, 0.4), else ignored
    iou = ops.where(learnt, box_iou(boxes, anchors), -1.0)
    matches = match_iou(iou, BACKGROUND_IOU, FOREGROUND_IOU)
    ignored = in_ignored(anchors, boxes, ignore)
    return matches, (matches >= 0) | ((matches != BETWEEN) & ~ignored)


def best_candidates(logits, deltas, anchors, limit=CANDIDATES_PER_LEVEL):
    """The highest-scoring (anchor, class) pairs of a level, decoded.

    An anchor among the best pairs is among the best anchors by its own best class, so all but
    `limit` anchors are set aside before the classes are looked at one by one.

    Args:
        logits: (B, A, K).
        deltas: (B, A, 4).
        anchors: (A, 4).
        limit: pairs to keep.

    Returns:
        boxes (B, N, 4), labels (B, N) int32, scores (B, N), with N = min(limit, A K).
    """
    batch, _, num_classes = ops.shape(logits)
    _, rows = top_rows(ops.max(logits, axis=-1), limit)
    logits = ops.reshape(gather_rows(logits, rows), (batch, -1))
    logits, pairs = top_rows(logits, limit)
    picked = gather_rows(rows, pairs // num_classes)
    boxes = decode_deltas(gather_rows(deltas, picked), ops.take(anchors, picked, axis=0))
    return boxes, pairs % num_classes, ops.sigmoid(logits)


def _per_anchor(x, width):
    batch, height, columns, channels = ops.shape(x)
    return ops.reshape(x, (batch, height * columns * (channels // width), width))


def _all_levels(tensors, axis):
    return ops.concatenate(list(tensors.values()), axis=axis)
