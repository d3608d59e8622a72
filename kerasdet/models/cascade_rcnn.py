"""Cascade R-CNN: a sequence of second stages, each taught by a higher IoU on the boxes of the one before.

    Cai, Vasconcelos. Cascade R-CNN: Delving into High Quality Object Detection. CVPR 2018.
    arXiv 1712.00726v1.

Reading order: first Faster R-CNN (`faster_rcnn.py`); then what this paper changed: `Cascade.region_terms`
(sections 4.1 and 4.2: each stage samples and learns on the boxes of the one before) and `Cascade.classify`
(the same cascade at test). R-FCN's cascade is in `cascade_rfcn.py`. Of the paper's baselines, iterative BBox
(section 3.1) is `refinements=3` of any two-stage detector, and the integral loss is in `integral_rcnn.py`.

Departures from the paper:
    - The scores are the softmax of the mean of all stages' logits, each on its own boxes (mmdetection); the
      authors' code averages the probabilities of all classifiers on the last boxes.
    - Later stages count less, by a half and a quarter, as in the authors' code; the paper names no weights.
    - A region that is an object's own box does not go on to the next stage, to which all objects are added
      again.

Results: see the tables of `docs/papers/cascade_rcnn.md`. The paper's COCO figures are not reproduced.

Axes: B batch, R regions, S sampled regions, G ground truth, K classes, D detections, T stages.
"""

import functools
import itertools

import keras
from keras import ops

from kerasdet.models.detector import decoding_setting
from kerasdet.models.fast_rcnn import (
    RegionClassifier,
    decode_regions,
    losses_of,
    refine_regions,
    region_losses,
)
from kerasdet.models.faster_rcnn import FasterRCNN
from kerasdet.ops.gather import gather_rows

IOUS = (0.5, 0.6, 0.7)  # section 5.1
# 1 / the spread of the deltas in each stage (section 4.1: statistics of their own; the authors' code).
DELTA_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
LOSS_WEIGHTS = (1.0, 0.5, 0.25)  # the authors' code
REGION_TERMS = ("classification_loss", "box_loss")  # of each stage


class Cascade:
    """What makes a cascade of a two-stage detector, with which it is mixed. Abstract.

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: as of the detector.
        ious: for each stage, the lowest IoU of a region with its object.
        delta_weights: for each stage, the factors of the deltas.
        loss_weights: for each stage, the factor of its losses.
        **detector: what the detector takes. Its `head` serves the first stage, copies of it the others; so do
            its `branches`.
    """

    refinements = decoding_setting(
        "refinements", lambda v: v == 1, "1, because each stage of a cascade refines the boxes"
    )

    def __init__(
        self,
        num_classes,
        backbone=None,
        ious=IOUS,
        delta_weights=DELTA_WEIGHTS,
        loss_weights=LOSS_WEIGHTS,
        **detector,
    ):
        self.ious = tuple(float(iou) for iou in ious)
        self.delta_weights = tuple(tuple(map(float, weights)) for weights in delta_weights)
        self.loss_weights = tuple(float(weight) for weight in loss_weights)
        self._check_stages()
        super().__init__(num_classes, backbone=backbone, **detector)

    def build(self, input_shape=None):
        """Create every weight."""
        if self.built:
            return
        numbers = range(2, len(self.ious) + 1)
        self.later_classifiers = [copy_of(self.classifier, number) for number in numbers]
        self.later_branches = [
            [copy_of(part, number) for part in self.branches] for number in numbers
        ]
        terms = (*REGION_TERMS, *(branch.LOSS_TERM for branch in self.branches))
        self._add_loss_terms(f"{name}_{number}" for number in numbers for name in terms)
        trained = self.head.built
        for classifier in self.later_classifiers:
            classifier.build(self.region_maps_shape())
            if trained:  # a trained classifier's
                classifier.head.set_weights(self.head.get_weights())
        for branch in itertools.chain(*self.later_branches):
            branch.attach(self)
        super().build(input_shape)

    @property
    def classifiers(self):
        """The region classifiers of all stages."""
        return [self.classifier, *self.later_classifiers]

    def region_terms(self, outputs, targets, keys, training):
        """Compute the losses of all stages, each on the boxes of the one before; see `FasterRCNN`."""
        maps, terms = self.region_maps(outputs["maps"]), {}
        stages = zip(self.classifiers, self.ious, self.delta_weights, self.loss_weights)
        for number, (classifier, iou, delta_weights, weight) in enumerate(stages, start=1):
            classify = functools.partial(classifier, maps)
            each = functools.partial(self.losses_of_each, delta_weights=delta_weights)
            losses, count = losses_of(classify, targets, each), self.regions_per_image
            # Eq: cascade_rcnn 5 | y = g_y if IoU(x^t, g) >= u^t, else 0
            sampled = self.sampler.sample(targets, outputs, count, keys, losses, iou)
            predicted = classify(sampled[0], training=training)
            found = region_losses(predicted, targets, *sampled, each)
            for branch in self.branches if number == 1 else self.later_branches[number - 2]:
                found[branch.LOSS_TERM] = branch.loss(self, maps, targets, sampled, training)
            # Eq: cascade_rcnn 8 | L(x^t, g) = L_cls(h_t(x^t), y^t) + lambda [y^t >= 1] L_loc(f_t(b^t), g)
            for name, (loss, size) in found.items():
                terms[name if number == 1 else f"{name}_{number}"] = weight * loss, size
            if number < len(self.ious):
                outputs = self.next_regions(outputs, targets, sampled, predicted, delta_weights)
        return terms

    def next_regions(self, outputs, targets, sampled, predicted, delta_weights):
        """Return the outputs with the boxes that a stage hands on in the place of the proposals.

        Args:
            outputs: "image_sizes" and others.
            targets: prepared targets.
            sampled: regions (B, S, 4), objects (B, S) and counted (B, S), which the stage has learnt.
            predicted: its result for them.
            delta_weights: its factors of the deltas.
        """
        regions, objects, counted = sampled
        own = ops.all(ops.equal(regions, gather_rows(targets["boxes"], objects)), axis=-1)
        # Eq: cascade_rcnn §4.2 | b^t = f_{t-1}(x^{t-1}, b^{t-1})
        sizes = outputs["image_sizes"]
        boxes = refine_regions(regions, predicted["box_deltas"], sizes, delta_weights, self.clip)
        has_area = ops.all(boxes[..., 2:] > boxes[..., :2], axis=-1)
        goes_on = counted & has_area & ~(own & (objects >= 0))
        return {**outputs, "proposals": boxes, "is_proposal": goes_on}

    def classify(self, maps, outputs):
        """Classify the proposals stage by stage.

        Returns:
            {"proposals": (B, P, 4), as the last stage sees them, "class_logits": (B, P, 1 + K), the mean over
            the stages, "box_deltas": (B, P, 1, 4), the last stage's}.
        """
        proposals, logits, predicted = outputs["proposals"], [], None
        for number, classifier in enumerate(self.classifiers):
            if predicted:
                # Eq: cascade_rcnn 7 | f(x, b) = f_T o f_{T-1} o ... o f_1 (x, b)
                deltas, weights = predicted["box_deltas"], self.delta_weights[number - 1]
                sizes = outputs["image_sizes"]
                proposals = refine_regions(proposals, deltas, sizes, weights, self.clip)
            predicted = classifier(maps, proposals)
            logits.append(predicted["class_logits"])
        mean = sum(logits) / len(logits)
        return {**predicted, "proposals": proposals, "class_logits": mean}

    def refined(self, outputs):
        """Return every class of every proposal before suppression; see `decode_regions`."""
        return decode_regions(outputs, self.delta_weights[-1], self.clip)

    def draw(self, maps, boxes):
        """Return the mean over the stages of what the branches draw in boxes (B, D, 4), by their `OUTPUT`."""
        stages = [self.branches, *self.later_branches]
        return {
            branches[0].OUTPUT: branches[0].mean([b.draw(self, maps, boxes) for b in branches])
            for branches in zip(*stages)
        }

    def _check_stages(self):
        counts = len(self.ious), len(self.delta_weights), len(self.loss_weights)
        if len(set(counts)) > 1 or not self.ious:
            raise ValueError(
                f"ious, delta_weights and loss_weights have {', '.join(map(str, counts))} entries; give each "
                "one for every stage."
            )
        if not all(0 < iou < 1 for iou in self.ious):
            raise ValueError(f"ious are {self.ious}; give numbers between 0 and 1.")
        if not all(len(weights) == 4 and min(weights) > 0 for weights in self.delta_weights):
            raise ValueError(
                f"delta_weights are {self.delta_weights!r:.80}; give four positive numbers for each stage."
            )
        if not all(weight >= 0 for weight in self.loss_weights):
            raise ValueError(f"loss_weights are {self.loss_weights}; give numbers of 0 or more.")


@keras.saving.register_keras_serializable("kerasdet")
class CascadeRCNN(Cascade, FasterRCNN):
    """Faster R-CNN with a cascade of region classifiers (arXiv 1712.00726).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model; default `ResNet50()`.
        ious: for each stage, the lowest IoU of a region with its object.
        delta_weights: for each stage, the factors of the deltas.
        loss_weights: for each stage, the factor of its losses.
        **faster_rcnn: every other argument of `FasterRCNN`. Its `head` serves the first stage, copies of it
            the others; so do its `branches`, such as `MaskBranch()` (Cascade Mask R-CNN).

    Example:
        >>> model = CascadeRCNN(3, backbone=kerasdet.backbones.ResNet50())
        >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        >>> model.fit(data.batches(2, resize=model.resize))
        >>> model.detect("image.jpg")[0]["boxes"]

    Raises:
        ValueError: an argument is out of its range.
    """

    CLASSIFIER = functools.partial(RegionClassifier, box_of_each_class=False)


def copy_of(part, number):
    """Return a part of the same configuration, with weights of its own, for a later stage."""
    config = part.get_config()
    return type(part).from_config({**config, "name": f"{config['name']}_{number}"})
