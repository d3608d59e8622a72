"""R-FCN: a fully convolutional second stage, in which each bin of a region reads score maps of its own.

    Dai, Li, He, Sun. R-FCN: Object Detection via Region-based Fully Convolutional Networks. NIPS 2016.
    arXiv 1605.06409v2.

Reading order: first Faster R-CNN (`faster_rcnn.py`); then what this paper changed:
`PositionSensitiveClassifier` (section 2: score maps of the whole image, position-sensitive pooling, the
vote), which has no layer after the pooling, and `RFCN` (which maps propose and which classify). The pooling
is `kerasdet.ops.ps_roi_pool`. Online hard example mining is `HardRegions` (`ohem.py`).

Departures from the paper:
    - The objects themselves are added to the proposals in training (the authors' code).
    - Background regions may have any IoU below 0.5, as in Faster R-CNN here.
    - `for_data` puts the score maps on a feature pyramid, so that small objects are found; each region votes
      on the level that fits it (FPN, section 4.2).

Results: see the tables of `docs/papers/rfcn.md`. The paper's VOC and COCO figures are not reproduced.

Axes: B batch, R regions, K classes, k bins of a side.
"""

import functools

import keras
from keras import ops

from kerasdet.backbones import ResNet101
from kerasdet.layers.conv import Conv
from kerasdet.layers.crop import CANVAS
from kerasdet.layers.roi import MultilevelPSRoIAlign, PSRoIPool
from kerasdet.models.base import build_once
from kerasdet.models.fast_rcnn import RegionPart
from kerasdet.models.faster_rcnn import FasterRCNN
from kerasdet.ops.checks import pair

BINS = 7  # section 2: k
CHANNELS = 1024  # of the 1x1 convolution in front of the score maps
REGIONS_PER_IMAGE = 128  # section 2, Training
LEVELS = ("C4", "C4_conv5")  # conv4 proposes; conv5 at stride 16, dilated, classifies
IOU_THRESHOLD = 0.3  # section 2, Inference
OUTPUT_STD = 0.01


@keras.saving.register_keras_serializable("kerasdet")
class PositionSensitiveClassifier(RegionPart):
    """Compute score maps of the whole image, and let the bins of each region vote (section 2).

    Args:
        num_classes: K.
        pooling: a position-sensitive layer, from a dict of maps (B, H, W, C k k) and boxes to
            (B, R, k, k, C).
        head: a layer from a map (B, H, W, C) to the map that the score maps are computed from, shared by all
            levels.
        box_of_each_class: whether every class has its own box, or all have one (the paper).

    Call arguments:
        maps: {level: (B, H, W, C)}.
        boxes: (B, R, 4) xyxy.

    Returns:
        {"class_logits": (B, R, 1 + K), background first, "box_deltas": (B, R, 1, 4), or (B, R, K, 4) with
        a box of each class}, float32.
    """

    def __init__(self, num_classes, pooling, head, box_of_each_class=False, **kwargs):
        super().__init__(pooling, head, **kwargs)
        self.num_classes = num_classes
        self.box_of_each_class = box_of_each_class
        bins, _ = pair("output_size", pooling.output_size)
        self.class_output = self._output(bins**2 * (1 + num_classes), "class_output")
        self.boxes = num_classes if box_of_each_class else 1
        self.box_output = self._output(bins**2 * 4 * self.boxes, "box_output")

    def build(self, maps_shape):
        """Create every weight for maps of these shapes, {level: (None, H, W, C)}."""
        shape = next(iter(maps_shape.values()))
        build_once(self.head, shape)
        features = self.head.compute_output_shape(shape)
        self.class_output.build(features)
        self.box_output.build(features)
        if self.pooling.TAKES_FEATURES and not self.pooling.built:
            scores = (*features[:-1], self.class_output.filters + self.box_output.filters)
            self.pooling.build(scores, (None, None, 4), features)
        self.built = True

    def call(self, maps, boxes, training=False):
        """See the class docstring."""
        features = of_levels(lambda x: self.head(x, training=training), maps)
        votes = self.vote(features, boxes)  # (B, R, 1 + K + 4) or (B, R, 1 + K + 4 K)
        logits, deltas = ops.split(votes, [1 + self.num_classes], axis=-1)
        batch, count = ops.shape(boxes)[:2]
        return {
            "class_logits": logits,
            "box_deltas": ops.reshape(deltas, (batch, count, self.boxes, 4)),
        }

    def vote(self, features, boxes):
        """Average the bins of each region.

        Args:
            features: {level: (B, H, W, F)}.
            boxes: (B, R, 4) xyxy.

        Returns:
            (B, R, 1 + K + 4) float32, of the classes and of the box, or (B, R, 1 + K + 4 K).
        """
        outputs = self.class_output, self.box_output
        # {level: (B, H, W, (1 + K + 4) k k)}
        maps = of_levels(
            lambda x: ops.concatenate([output(x) for output in outputs], axis=-1), features
        )
        moving = [features] if self.pooling.TAKES_FEATURES else []
        # Eq: rfcn §2 | r_c = sum over the bins of r_c(i, j) / k^2
        return ops.mean(self.pooling(maps, boxes, *moving), axis=(2, 3))

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "box_of_each_class": self.box_of_each_class,
        }

    @staticmethod
    def _output(filters, name):
        normal = keras.initializers.RandomNormal(stddev=OUTPUT_STD)
        return Conv(filters, 1, kernel_initializer=normal, dtype="float32", name=name)


@keras.saving.register_keras_serializable("kerasdet")
class RFCN(FasterRCNN):
    """A two-stage detector without a layer for single regions (arXiv 1605.06409).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model; default `ResNet101(levels=("C4", "C4_conv5"))`. Without a
            neck, its first level proposes and its last one classifies.
        neck: a `FeaturePyramid`, or False (default) for none.
        pooling: a position-sensitive layer; default `PSRoIPool(7)` of the last level. With a neck,
            `MultilevelPSRoIAlign`. `DeformablePSRoIPool` moves the bins (arXiv 1703.06211).
        head: a layer from a map to the map that the score maps are computed from; default a 1x1 convolution
            of 1024 channels.
        regions_per_image: S, regions sampled to train the second stage.
        box_of_each_class: whether every class has its own box, or all have one (the paper).
        **faster_rcnn: `rpn`, `sampler` (`HardRegions()` for online hard example mining) and what else
            `FasterRCNN` takes.

    Example:
        >>> model = RFCN(3)
        >>> model.compile(keras.optimizers.SGD(0.001, momentum=0.9))
        >>> model.fit(data.batches(1, resize=model.resize))
        >>> model.detect("image.jpg")[0]["boxes"]

    Raises:
        ValueError: an argument is out of its range.
    """

    @property
    def CLASSIFIER(self):
        """The second stage's class."""
        return functools.partial(
            PositionSensitiveClassifier, box_of_each_class=self.box_of_each_class
        )

    def __init__(
        self,
        num_classes,
        backbone=None,
        neck=False,
        pooling=None,
        head=None,
        regions_per_image=REGIONS_PER_IMAGE,
        box_of_each_class=False,
        **faster_rcnn,
    ):
        self.box_of_each_class = box_of_each_class
        dtype = faster_rcnn.get("dtype")
        backbone = backbone or ResNet101(levels=LEVELS, dtype=dtype)
        scale = 1 / backbone.strides[backbone.levels[-1]]
        super().__init__(
            num_classes,
            backbone=backbone,
            neck=neck,
            pooling=pooling or PSRoIPool(BINS, scale, dtype="float32", name="pooling"),
            head=head or map_head(CHANNELS, dtype=dtype),
            regions_per_image=regions_per_image,
            **{"iou_threshold": IOU_THRESHOLD, **faster_rcnn},
        )

    @classmethod
    def for_data(cls, data, resize=None, backbone=None, channels=128, bins=3, **options):
        """Build a model with a feature pyramid for a data set.

        Args:
            data: `Dataset`, for its classes and the sizes of its objects.
            resize: `Resize` part of the model.
            backbone: default MobileNetV2.
            channels: as in `FasterRCNN.for_data`, and of the convolution in front of the score maps.
            bins: k; the paper has 3 and 7.
            **options: as in `FasterRCNN.for_data`.
        """
        parts = {
            "pooling": MultilevelPSRoIAlign(bins, dtype="float32", name="pooling"),
            "head": map_head(channels),
        }
        return super().for_data(data, resize, backbone, channels=channels, **{**parts, **options})

    def proposal_maps_shape(self):
        """Return the shapes of the maps that the proposal network sees: without a neck, the first level."""
        if self.neck:
            return super().proposal_maps_shape()
        first = self.backbone.levels[0]
        return {first: (None, None, None, self.backbone.channels[first])}


def of_levels(function, maps):
    """Apply a function to each map, and not to the canvas beside them."""
    return {level: x if level == CANVAS else function(x) for level, x in maps.items()}


def map_head(channels, **kwargs):
    """Return the 1x1 convolution with ReLU in front of the score maps (section 2, Backbone architecture)."""
    return Conv(channels, 1, activation="relu", name="head", **kwargs)
