"""SSD: every cell of several maps classifies and refines a set of default boxes, in one pass.

    Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg. SSD: Single Shot MultiBox Detector. ECCV 2016.
    arXiv 1512.02325v5.

Reading order: `SSD.call` (section 2.1: backbone, extra layers, predictors), `SSD.loss_terms` (section 2.2:
matching, losses, hard negatives), `SSD.decode` (section 3.7). The extra layers are
`kerasdet.layers.ExtraLayers`, the default boxes `kerasdet.layers.DefaultBoxes` (equation 4), the matching is
`kerasdet.ops.matching.assign_one_to_one`.

Departures from the paper:
    - An image without an object teaches its three hardest negatives; in the paper's code it teaches nothing.
    - A default box is matched from an IoU of 0.5 on; the paper says above 0.5.
    - Each class keeps its 400 best boxes before suppression (the authors' code); the paper names no number.
    - The authors' code rounds the step of equation 4 down to whole percents. torchvision's weights have these
      scales; `DefaultBoxes.ssd300()` has the equation's.
    - SSD321 and SSD513 (arXiv 1701.06659) take images of 320 and 512 pixels, because torchvision's ResNet
      pads its first pooling and Caffe's does not: the maps then have the paper's sizes.
    - Batch normalisation and hidden convolutions are options of the parts: training from scratch needs
      them.

Results: the paper's figures are not reproduced. With torchvision's weights it finds torchvision's boxes
(`tests/parity`).

Axes: B batch, A default boxes, G ground truth, K classes, D detections.
"""

from typing import ClassVar

import keras
import numpy as np
from keras import ops

from kerasdet.backbones import VGG16, MobileNetV2
from kerasdet.layers.conv import Conv
from kerasdet.layers.default_boxes import DefaultBoxes
from kerasdet.layers.extra_layers import ExtraLayers
from kerasdet.layers.level_towers import LevelTowers
from kerasdet.layers.location import AnchorDeltas, Argmax, Location
from kerasdet.layers.losses import Confidence, SmoothL1, SoftmaxConfidence
from kerasdet.layers.resizing import Stretch, images_on_canvas
from kerasdet.models.base import build_once
from kerasdet.models.detector import ROOM, Detector, data_arguments, one_canvas
from kerasdet.ops.boxes import clip_boxes
from kerasdet.ops.candidates import join_levels, rows_of_places
from kerasdet.ops.checks import check_choice, check_count, check_part
from kerasdet.ops.clusters import finest_stride
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.matching import BACKGROUND
from kerasdet.ops.sampling import hard_negatives

MATCHED_IOU = 0.5  # section 2.2, Matching strategy
NEGATIVES = 3  # section 2.2, Hard negative mining: for each positive
ALPHA = 1.0  # section 2.2, Training objective
DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # the authors' code: one over the "variances" 0.1 and 0.2
MEAN = (123.0, 117.0, 104.0)  # the authors' code; the pixels are not divided
CANDIDATES = 400  # of each class; torchvision's
BACKGROUND_COLUMN = 0
SSD300_CANVAS = (300, 300)  # pixels, of the steps of `DefaultBoxes.ssd300()`
FIRST_STRIDE = 8  # of the maps with the paper's default boxes
SMALL_EXTRAS = ((64, 128, 3, 2, 1),) * 2  # of the small detector


@keras.saving.register_keras_serializable("kerasdet")
class SSD(Detector):
    """A one-stage detector: convolutions on six maps classify and refine default boxes (arXiv 1512.02325).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model; default VGG-16 with "C3" (conv4_3) and "C4_fc7".
        extras: the maps that follow the backbone's; default `ExtraLayers()`, SSD300's.
        head: hidden convolutions of each map; default `LevelTowers()`, which has none.
        default_boxes: a `DefaultBoxes` for all maps; default `DefaultBoxes.ssd300()`, or `DefaultBoxes()`,
            the same shares of the canvas, if that is not 300 x 300.
        candidates: boxes of each class that go into suppression.
        output_size: kernel size of the predictors.
        confidence: `SoftmaxConfidence()` (default), or `SigmoidConfidence()` (arXiv 1611.10012).
        location: a `Location`: how default boxes learn and predict boxes; default the paper's matching,
            deltas and smooth L1.
        **detector: `resize` must have one canvas, of which the default boxes are shares; default
            `Stretch(300)`. `class_names`, `category_ids`, `score_threshold` (0.01), `iou_threshold` (0.45),
            `max_detections` (200), `name`: see `Detector`.

    Example:
        >>> model = SSD(3)  # SSD300
        >>> model = SSD(  # SSD512
        ...     3,
        ...     extras=ExtraLayers(SSD512_ROWS),
        ...     default_boxes=DefaultBoxes.ssd512(),
        ...     resize=Stretch(512),
        ... )
        >>> model.compile(keras.optimizers.SGD(1e-3, momentum=0.9))
        >>> model.fit(data.batches(8, resize=model.resize))
        >>> model.detect("image.jpg")[0]["boxes"]

    Raises:
        ValueError: an argument is out of its range; images of different sizes have different canvases;
            default boxes are not for as many maps as there are, or for another canvas; or the canvas leaves a
            map without a cell.
    """

    LOSS_TERMS = ("classification_loss", "box_loss")
    TRANSFERRED = ("backbone", "extras")
    SIDE = 300
    # Section 3.7.
    DECODING: ClassVar = {"score_threshold": 0.01, "iou_threshold": 0.45, "max_detections": 200}

    def __init__(
        self,
        num_classes,
        backbone=None,
        extras=None,
        head=None,
        default_boxes=None,
        candidates=CANDIDATES,
        output_size=3,
        confidence=None,
        location=None,
        **detector,
    ):
        detector = {"resize": None, **self.DECODING, **detector}
        detector["resize"] = detector["resize"] or Stretch(self.SIDE)
        backbone = backbone or _vgg16(dtype=detector.get("dtype"))
        super().__init__(num_classes, backbone=backbone, **detector)
        policy = self.dtype_policy
        self.canvas_size = one_canvas(self.resize, "SSD's default boxes are shares of one")
        self.extras = extras or ExtraLayers(dtype=policy, name="extras")
        self.head = head or LevelTowers(dtype=policy, name="head")
        own = DefaultBoxes.ssd300 if self.canvas_size == SSD300_CANVAS else DefaultBoxes
        self.default_boxes = default_boxes or own()
        check_count("candidates", candidates)
        self.candidates = candidates
        check_count("output_size", output_size)
        self.output_size = output_size
        self.confidence = confidence or SoftmaxConfidence()
        check_part("confidence", self.confidence, Confidence)
        own = Argmax(MATCHED_IOU, MATCHED_IOU, one_to_one=True)
        self.location = location or Location(own, AnchorDeltas(DELTA_WEIGHTS), SmoothL1())
        check_part("location", self.location, Location)
        self.build()

    @classmethod
    def for_data(
        cls,
        data,
        resize=None,
        backbone=None,
        channels=128,
        depth=1,
        default_boxes="fitted",
        **detector,
    ):
        """Build a model for a data set.

        Args:
            data: `Dataset`, for its classes and the sizes of its objects.
            resize: `Resize` part of the model, of one canvas; default `Stretch(300)`.
            backbone: default MobileNetV2.
            channels: channels of the head's hidden convolutions.
            depth: hidden convolutions of each of the head's two towers.
            default_boxes: "fitted" to the data's objects, or "paper": regular scales from 0.1 to 0.9.
            **detector: further arguments of the constructor.

        Raises:
            ValueError: an argument is out of its range.
        """
        extra, resize = len(SMALL_EXTRAS), resize or Stretch(cls.SIDE)
        backbone, default_boxes = maps_for_data(
            default_boxes, data, resize, backbone or MobileNetV2(), extra
        )
        extras = ExtraLayers(SMALL_EXTRAS, backbone.levels, scale=None, norm="batch", name="extras")
        return cls(
            backbone=backbone,
            extras=extras,
            head=LevelTowers(channels, depth, name="head"),
            default_boxes=default_boxes,
            resize=resize,
            **{**crowd_arguments(data, detector), **detector},
        )

    def build(self, input_shape=None):
        """Create every weight."""
        images = (None, *self.canvas_size, len(self.mean))
        backbone_maps = self.backbone.compute_output_shape(images)
        maps = self._all_maps(backbone_maps)
        build_once(self.extras, backbone_maps)
        build_once(self.head, maps)
        counts = self.default_boxes.num_boxes
        if len(counts) != len(maps):
            raise ValueError(
                f"default_boxes are for {len(counts)} maps; give one for {len(maps)}: {', '.join(maps)}."
            )
        if not self.built:
            self.class_outputs, self.box_outputs = (
                self._outputs(kind, shapes, counts, width)
                for kind, shapes, width in zip(
                    ("class", "box"),
                    self.head.compute_output_shape(maps),
                    (1 + self.num_classes, 4),
                )
            )
        self.built = True

    def call(self, inputs, training=False):
        """Compute the raw outputs; column 0 of the logits is background.

        Returns:
            {"logits": {"C3": (B, A3, 1 + K), ...}, "deltas": {"C3": (B, A3, 4), ...},
            "default_boxes": {"C3": (A3, 4), ...}, "image_sizes": (B, 2)}.
        """
        images, image_sizes = self.normalize(inputs)
        maps = self.extras(self.backbone(images, training=training), training=training)
        classes, boxes = self.head(maps, training=training)
        return {
            "logits": {
                level: rows_of_places(self.class_outputs[level](x), 1 + self.num_classes)
                for level, x in classes.items()
            },
            "deltas": {
                level: rows_of_places(self.box_outputs[level](x), 4) for level, x in boxes.items()
            },
            "default_boxes": dict(zip(maps, self.default_boxes(maps, images))),
            "image_sizes": image_sizes,
        }

    def loss_terms(self, outputs, targets, training=False):
        """Compute the confidence and localisation losses, per matched default box (section 2.2)."""
        logits = join_levels(outputs["logits"], axis=1)  # (B, A, 1 + K)
        deltas = join_levels(outputs["deltas"], axis=1)  # (B, A, 4)
        defaults = join_levels(outputs["default_boxes"], axis=0)  # (A, 4)
        # Eq: ssd §2.2 | x_ij = 1: each object's best default box, then IoU >= 0.5
        matches = self.location.assign(targets, defaults)  # (B, A)
        positive = matches >= 0

        labels = gather_rows(targets["labels"], matches) + 1
        labels = ops.where(positive, labels, BACKGROUND_COLUMN)  # (B, A)
        losses = self.confidence.losses(labels, logits)
        counted = positive | hard_negatives(losses, matches == BACKGROUND, positive, NEGATIVES)
        confidence = ops.sum(ops.where(counted, losses, 0.0))

        boxes = gather_rows(targets["boxes"], matches)  # (B, A, 4)
        # A placeholder for default boxes without an object keeps logarithms, and gradients, finite.
        boxes = ops.where(positive[..., None], boxes, defaults)
        losses = self.location.losses(boxes, deltas, defaults)  # (B, A)
        # Eq: ssd 2 | L_loc = sum_pos x_ij^k smooth_L1(l_i - g^_j)
        localisation = ops.sum(ops.where(positive, losses, 0.0))
        count = ops.sum(ops.cast(positive, "float32"))
        # Eq: ssd 1 | L = (L_conf + alpha L_loc) / N, N the matched default boxes
        return {
            "classification_loss": (confidence, count),
            "box_loss": (ALPHA * localisation, count),
        }

    def decode(self, outputs):
        """Decode all boxes, and suppress among the best of each class (section 3.7)."""
        logits = join_levels(outputs["logits"], axis=1)
        deltas = join_levels(outputs["deltas"], axis=1)
        defaults = join_levels(outputs["default_boxes"], axis=0)
        boxes = clip_boxes(self.location.decode(deltas, defaults), outputs["image_sizes"])
        scores = self.confidence.scores(logits)  # (B, A, K)
        return self.suppress_each_class(boxes, scores, self.candidates)

    def _all_maps(self, maps):
        """Return the shapes of the backbone's and the extra maps; refuse a canvas that is not theirs."""
        try:
            maps = self.extras.compute_output_shape(maps)
        except ValueError as error:  # Keras' own names neither canvas nor map
            raise ValueError(
                f"resize is {self.resize}, too small for this network: an extra map would have no cells. "
                "Give a larger canvas, or extras with fewer rows."
            ) from error
        self.default_boxes.check_canvas([shape[1:3] for shape in maps.values()], self.canvas_size)
        return maps

    @staticmethod
    def output_initializer():
        """Return a new initializer for a predictor's kernel (section 3: the "xavier" method)."""
        return keras.initializers.GlorotUniform()

    def _outputs(self, kind, shapes, counts, width):
        """The predictors of every map, each built."""
        convs = {}
        for (level, shape), count in zip(shapes.items(), counts):
            convs[level] = Conv(
                count * width,
                self.output_size,
                kernel_initializer=self.output_initializer(),
                dtype="float32",
                name=f"{kind}_output_{level}",
            )
            convs[level].build(shape)
        return convs


def maps_for_data(kind, data, resize, backbone, extra):
    """Choose the maps of a small detector, and their default boxes.

    The maps are the backbone's from stride 8 on, from stride 4 where objects are small
    (`kerasdet.ops.clusters.finest_stride`); the wider one where a stride has two.

    Args:
        kind: option of `for_data`: "fitted" to the data's objects, or "paper".
        data: `Dataset`; at most 1000 of its images are read.
        resize: `Resize` part for its images; None: they keep their size.
        backbone: a `kerasdet.backbones` model; it keeps its weights.
        extra: number of maps of twice the stride of the one before, which follow the backbone's.

    Returns:
        The backbone with its levels, and `DefaultBoxes`.

    Raises:
        ValueError: another kind, or no box has an area.
    """
    check_choice("default_boxes", kind, ("fitted", "paper"))
    if kind == "paper":
        backbone = _with_wide_levels(backbone, FIRST_STRIDE)
        return backbone, DefaultBoxes([(2, 3)] * (len(backbone.strides) + extra))
    sizes, canvases = [], []
    for boxes, canvas in images_on_canvas(data, resize):
        sizes.append(boxes[:, 2:] - boxes[:, :2])
        canvases.append(np.broadcast_to(canvas[::-1], (len(boxes), 2)))
    sizes, canvases = np.concatenate(sizes), np.concatenate(canvases)
    backbone = _with_wide_levels(backbone, finest_stride(sizes))
    strides = list(backbone.strides.values())
    strides += [strides[-1] * 2**number for number in range(1, extra + 1)]
    side = np.median(np.sqrt(canvases.prod(axis=1))) if len(canvases) else 1.0
    return backbone, DefaultBoxes.fitted(sizes / canvases, np.array(strides) / side)


def _with_wide_levels(backbone, first):
    """Return the backbone with its maps from stride `first` on, the wider one where a stride has two."""
    strides = backbone.strides.items()
    levels = [backbone.WIDER.get(level, level) for level, stride in strides if stride >= first]
    return backbone if tuple(levels) == backbone.levels else backbone.with_levels(levels)


def crowd_arguments(data, given):
    """Return `data_arguments`, with as many candidates of a class as a crowd of one class needs.

    Args:
        data: `Dataset`.
        given: the caller's own arguments, which go before.
    """
    arguments = data_arguments(data)
    most = given.get("max_detections", arguments["max_detections"])
    return {**arguments, "candidates": max(CANDIDATES, ROOM * most)}


def _vgg16(dtype=None):
    """VGG-16 as the paper has it: poolings that keep odd rows, fc6 and fc7 as convolutions."""
    std = (1.0, 1.0, 1.0)
    return VGG16(("C3", "C4_fc7"), mean=MEAN, std=std, ceil_pools=True, dtype=dtype)
