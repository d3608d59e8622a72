"""The integral loss: an ensemble of classifiers, each taught by an IoU of its own on the same regions.

    Cai, Vasconcelos. Cascade R-CNN: Delving into High Quality Object Detection. CVPR 2018.
    arXiv 1712.00726v1, section 3.3. The loss is that of Zagoruyko et al., A MultiPath Network for Object
    Detection, BMVC 2016, arXiv 1604.02135.

Reading order: first Faster R-CNN (`faster_rcnn.py`); then `IntegralClassifier` (figure 3(c): one pooling, a
head for each classifier, one box) and `integral_losses` (section 3.3). It is a baseline of Cascade R-CNN.

Departures from the paper:
    - The ensemble is the mean of the classifiers' probabilities; the paper only says that there is one.
    - Regions are sampled once, by an IoU of 0.5, for all classifiers; the paper does not say how.

Axes: B batch, R regions, S sampled regions, K classes, U classifiers.
"""

import functools
import math

import keras
from keras import ops

from kerasdet.models.base import build_once
from kerasdet.models.cascade_rcnn import copy_of
from kerasdet.models.fast_rcnn import (
    BOX_STD,
    CLASS_STD,
    FOREGROUND_IOU,
    RegionPart,
    losses_of_regions,
    output_layer,
)
from kerasdet.models.faster_rcnn import FasterRCNN
from kerasdet.ops.boxes import paired_iou
from kerasdet.ops.checks import check_count
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.matching import BACKGROUND

IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75)  # section 3.3: U


@keras.saving.register_keras_serializable("kerasdet")
class IntegralClassifier(RegionPart):
    """Pool each region once, and predict its class several times, and its box (section 3.3, figure 3(c)).

    Args:
        num_classes: K.
        pooling: a layer from a dict of maps and boxes to regions (B, R, h, w, C).
        head: a layer from regions to features (B, R, F), of the first classifier and of the box; copies of it
            serve the others.
        classifiers: U, as many as there are IoUs.

    Call arguments:
        maps: {level: (B, H, W, C)}.
        boxes: (B, R, 4) xyxy.

    Returns:
        {"class_logits": (B, R, U, 1 + K), background first, "box_deltas": (B, R, 1, 4)}, float32.
    """

    def __init__(self, num_classes, pooling, head, classifiers=6, **kwargs):
        super().__init__(pooling, head, **kwargs)
        check_count("classifiers", classifiers)
        self.num_classes = num_classes
        self.classifiers = classifiers
        numbers = range(2, classifiers + 1)
        self.later_heads = [copy_of(head, number) for number in numbers]
        self.class_outputs = [
            output_layer(1 + num_classes, CLASS_STD, name)
            for name in ("class_output", *(f"class_output_{number}" for number in numbers))
        ]
        self.box_output = output_layer(4, BOX_STD, "box_output")

    def build(self, maps_shape):
        """Create every weight for maps of these shapes, {level: (None, H, W, C)}."""
        pooled = self.pooling.compute_output_shape(maps_shape, (None, None, 4))
        trained = self.head.built
        for head in (self.head, *self.later_heads):
            build_once(head, pooled)
            if trained:  # a trained classifier's
                head.set_weights(self.head.get_weights())
        features = self.head.compute_output_shape(pooled)
        for output in (*self.class_outputs, self.box_output):
            output.build(features)
        self.built = True

    def call(self, maps, boxes, training=False):
        """See the class docstring."""
        regions = self.pooling(maps, boxes)  # (B, R, h, w, C)
        heads = (self.head, *self.later_heads)
        features = [head(regions, training=training) for head in heads]  # U times (B, R, F)
        logits = [output(x) for output, x in zip(self.class_outputs, features)]
        return {
            "class_logits": ops.stack(logits, axis=2),
            "box_deltas": self.box_output(features[0])[:, :, None],
        }

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "classifiers": self.classifiers,
        }


@keras.saving.register_keras_serializable("kerasdet")
class IntegralRCNN(FasterRCNN):
    """Faster R-CNN with the integral loss: one classifier for each of several IoUs (arXiv 1712.00726).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model; default `ResNet50()`.
        ious: for each classifier, the lowest IoU of a region with its object; rising. The box learns by the
            first.
        **faster_rcnn: every other argument of `FasterRCNN`. Its `head` serves the first classifier, copies
            of it the others.

    Example:
        >>> model = IntegralRCNN(3, backbone=kerasdet.backbones.ResNet50())
        >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        >>> model.fit(data.batches(2, resize=model.resize))
        >>> model.detect("image.jpg")[0]["boxes"]

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, num_classes, backbone=None, ious=IOUS, **faster_rcnn):
        self.ious = tuple(float(iou) for iou in ious)
        rising = list(self.ious) == sorted(set(self.ious))
        if not self.ious or not rising or not FOREGROUND_IOU <= self.ious[0] <= self.ious[-1] < 1:
            raise ValueError(
                f"ious are {self.ious}; give rising numbers from {FOREGROUND_IOU}, by which regions are "
                "sampled, to below 1."
            )
        super().__init__(num_classes, backbone=backbone, **faster_rcnn)

    @property
    def CLASSIFIER(self):
        """What makes the classifier."""
        return functools.partial(IntegralClassifier, classifiers=len(self.ious))

    def classify(self, maps, outputs):
        """Classify the proposals by all classifiers together; see `RegionDetector.classify`."""
        predicted = super().classify(maps, outputs)
        return {**predicted, "class_logits": ensemble(predicted["class_logits"])}

    def losses_of_each(self, predicted, targets, regions, objects, counted):
        """Compute the losses of each region; see `integral_losses`."""
        rest = targets, regions, objects, counted
        return integral_losses(predicted, *rest, self.ious, self.box_weight)


def integral_losses(predicted, targets, regions, objects, counted, ious, box_weight=1.0):
    """Compute the losses of each region, of all classifiers together.

    Args:
        predicted: the result of an `IntegralClassifier` for the regions.
        targets: prepared targets.
        regions: (B, S, 4), from `sample_regions`, like the next two.
        objects: (B, S).
        counted: (B, S).
        ious: for each classifier, the lowest IoU of a region with its object.
        box_weight: lambda, the factor of the loss of boxes.

    Returns:
        {"classification_loss": (B, S), "box_loss": (B, S)}, 0 for what does not count.
    """
    overlap = paired_iou(gather_rows(targets["boxes"], objects), regions)  # (B, S)
    found = []
    for number, iou in enumerate(ious):
        one = {**predicted, "class_logits": predicted["class_logits"][:, :, number]}
        own = ops.where(overlap >= iou, objects, BACKGROUND)
        rest = targets, regions, own, counted
        found.append(losses_of_regions(one, *rest, box_weight=box_weight))
    # Eq: cascade_rcnn 6 | L_cls(h(x), y) = sum_{u in U} L_cls(h_u(x), y_u)
    classification = sum(losses["classification_loss"] for losses in found)
    return {"classification_loss": classification, "box_loss": found[0]["box_loss"]}


def ensemble(logits):
    """Return the logits of the classifiers' mean probability: (B, R, U, 1 + K) -> (B, R, 1 + K)."""
    return ops.logsumexp(ops.log_softmax(logits, axis=-1), axis=2) - math.log(logits.shape[2])
