"""The contract that every detector shares: from images to a loss, and from images to boxes.

It extends `base.py`, whose docstring names the hooks. This file holds the form of box targets, the
thresholds of suppression, and the way back from the canvas to each image's own pixels.

Axes: B batch, G ground truth, K classes, R proposals, D detections, H W C image.
"""

import itertools
import os
from collections.abc import Iterable

import keras
import numpy as np
from keras import ops
from PIL import Image

from kerasdet.models.base import ImageModel, data_classes
from kerasdet.ops import boxes as box_ops
from kerasdet.ops import candidates

MOST_DETECTIONS = 1_000_000
ROOM = 4  # candidates for each detection: a dense detector finds an object several times


def decoding_setting(name, valid, meaning):
    """Return a property for a number that may change after loading and holds everywhere."""

    def get(self):
        return getattr(self, f"_{name}")

    def set_(self, value):
        try:
            good = valid(value)
        except TypeError:  # a text, or nothing
            good = False
        if not good:
            raise ValueError(f"{name} must be {meaning}, not {value!r}.")
        setattr(self, f"_{name}", value)
        self.predict_function = None  # traced with the old value

    return property(get, set_, doc=f"{name}: {meaning}.")


# Parts of targets that have a row for each object.
PER_OBJECT = {"boxes", "labels", "ignore", "area", "masks", "keypoints"}


class Detector(ImageModel):
    """Base of all detectors. Abstract: see `base.py` for the hooks.

    `decode` returns {"boxes" (B, D, 4) in canvas pixels, "labels" (B, D) int32, "confidence" (B, D),
    "num_detections" (B,)}, by descending confidence, padded with -1; `suppress` computes them.

    Args:
        num_classes: K, foreground classes 0..K-1.
        score_threshold: detections at or below it are dropped.
        iou_threshold: overlap above which non-maximum suppression drops a detection.
        max_detections: D, the fixed number of rows that `predict` returns.
        **model: `backbone`, `class_names`, `category_ids`, `resize`, `name`: see `ImageModel`.

    Raises:
        ValueError: an argument is out of its range, or there are not K names or ids.
    """

    TARGETS = ("boxes", "labels")
    EXTRAS = ()  # what detections hold besides boxes, labels and confidence
    ADJUSTABLE = ("score_threshold", "iou_threshold", "max_detections")

    score_threshold = decoding_setting(
        "score_threshold", lambda v: 0 <= v < 1, "a confidence in [0, 1)"
    )
    iou_threshold = decoding_setting("iou_threshold", lambda v: 0 < v <= 1, "an IoU in (0, 1]")
    max_detections = decoding_setting(
        "max_detections",
        lambda v: 1 <= v <= MOST_DETECTIONS and int(v) == v,
        f"a whole number of at least 1 and at most {MOST_DETECTIONS}",
    )

    def __init__(
        self,
        num_classes,
        score_threshold=0.05,
        iou_threshold=0.5,
        max_detections=100,
        **model,
    ):
        super().__init__(num_classes, **model)
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.max_detections = max_detections

    def verify(self, inputs, targets):
        """Refuse labels outside 0..K-1, and boxes without a label; see `ImageModel.verify`."""
        _check_form(inputs, targets)
        targets = _at_least_one_row(targets)
        labels = ops.convert_to_tensor(targets["labels"])  # (B, G)
        padding = ops.equal(labels, -1)
        known = (labels >= 0) & (labels < self.num_classes)
        if keras.backend.is_float_dtype(labels.dtype):
            known = known & ops.equal(labels, ops.floor(labels))
        wrong = ~known & ~(padding & ~_has_area(targets["boxes"]))
        flat = ops.reshape(wrong, (-1,))
        first = ops.argmax(ops.cast(flat, "int32"))
        label = ops.take(ops.reshape(labels, (-1,)), first)
        box = ops.take(ops.reshape(ops.cast(targets["boxes"], "float32"), (-1, 4)), first, axis=0)
        return ~ops.any(flat), self._explain_label, label, box

    def _explain_label(self, label, box):
        label = label.item()
        classes = f"{self.num_classes} classes, 0..{self.num_classes - 1}"
        if label == -1:
            return (
                f"The box {box.tolist()} has the label -1, which marks padding: give it one of the "
                f"{classes}, or set the box to -1 as well."
            )
        hint = " Labels that start at 1 must be lowered by 1." if label == self.num_classes else ""
        return f"A label is {label}, and the model has {classes}; padding rows have -1.{hint}"

    def prepare(self, targets):
        """Mark rows that are not usable objects; see the function `prepare`."""
        return prepare(targets)

    def room_for(self, candidates):
        """Return how many candidates suppression sees: `candidates`, or four for each detection asked for."""
        return max(candidates, ROOM * self.max_detections)

    def suppress(self, boxes, labels, scores):
        """Apply non-maximum suppression per class, with the model's own thresholds.

        Args:
            boxes: (B, N, 4) xyxy.
            labels: (B, N) int32.
            scores: (B, N).

        Returns:
            Detections; see `kerasdet.ops.candidates.suppress`.
        """
        return candidates.suppress(
            boxes, labels, scores, self.iou_threshold, self.max_detections, self.score_threshold
        )

    def suppress_whole(self, boxes, labels, scores, image_sizes):
        """Apply non-maximum suppression to boxes as predicted, and clip those that stay, as Darknet does.

        Args:
            boxes: (B, N, 4) xyxy; those outside their image are dropped.
            labels: (B, N) int32.
            scores: (B, N).
            image_sizes: (B, 2) height and width.

        Returns:
            Detections; see `kerasdet.ops.candidates.suppress`.
        """
        seen = box_ops.box_area(box_ops.clip_boxes(boxes, image_sizes)) > 0
        found = self.suppress(boxes, labels, ops.where(seen, scores, 0.0))
        clipped = box_ops.clip_boxes(found["boxes"], image_sizes)
        return {**found, "boxes": ops.where(found["labels"][..., None] >= 0, clipped, -1.0)}

    def suppress_each_class(self, boxes, scores, limit):
        """Apply non-maximum suppression to places with a score for every class, as `suppress`.

        Args:
            boxes: (B, A, 4) xyxy.
            scores: (B, A, K).
            limit: places of each class that take part: those with its highest scores.

        Returns:
            Detections; see `kerasdet.ops.candidates.suppress`.
        """
        return candidates.suppress_each_class(
            boxes, scores, limit, self.iou_threshold, self.max_detections, self.score_threshold
        )

    def detect(self, images, proposals=None, threshold=None, batch_size=1):
        """Find objects in images of any size.

        Args:
            images: one image or an iterable of them: files (str or Path), arrays (H, W, 3) 0..255 or PIL
                images. An iterable is read lazily.
            proposals: regions (R, 4) xyxy in the image's own pixels, one array for each image, in the order
                of `images`; for models that do not propose regions ("proposals" in `INPUTS`).
            threshold: lowest confidence of the result; default the model's `score_threshold`.
            batch_size: images per step. With 1, the result of an image does not depend on other images;
                with more, each canvas is padded to the largest of its batch.

        Returns:
            A list with one dict per image of NumPy arrays without padding, by descending confidence:
            "boxes" (D, 4) in the image's own pixels, "labels" (D,), "confidence" (D,), and everything that
            `EXTRAS` names.

        Raises:
            ValueError, FileNotFoundError: an image cannot be read (the message names it), or there are no
                proposals, or fewer than images, or the threshold is no confidence.
        """
        if threshold is not None and not _is_confidence(threshold):
            raise ValueError(f"threshold must be a confidence in 0..1, not {threshold!r:.80}.")
        if proposals is None and "proposals" in self.INPUTS:
            raise ValueError(
                f"{type(self).__name__} classifies regions that something else proposes: give "
                "detect(images, proposals=...), one array (R, 4) for each image."
            )
        if not isinstance(images, Iterable) and not _is_one_image(images):
            raise ValueError(f"images are files, arrays or PIL images, not {images!r:.80}.")
        if _is_one_image(images):
            images, proposals = [images], None if proposals is None else [proposals]
        loaded, results = map(self.read_image, images), []
        proposals = None if proposals is None else iter(proposals)
        before = self.score_threshold
        try:
            if threshold is not None and threshold < before:
                self.score_threshold = threshold
            while chunk := list(itertools.islice(loaded, batch_size)):
                regions = proposals and _in_step(proposals, len(chunk))
                results += self._detect_batch(chunk, regions)
        finally:
            if self.score_threshold != before:
                self.score_threshold = before
        return [_above(found, threshold) for found in results]

    def _detect_batch(self, originals, proposals=None):
        inputs = self.to_canvas(originals)
        ways = [_way_back(self.resize, image.shape[:2]) for image in originals]
        if proposals:
            boxes = [boxes / scale + offset for boxes, (scale, offset) in zip(proposals, ways)]
            inputs["proposals"] = _padded(boxes)
        batch = self.predict_on_batch(inputs)
        found = [
            to_image({name: np.asarray(value[i]) for name, value in batch.items()}, *way, image)
            for i, (way, image) in enumerate(zip(ways, originals))
        ]
        return [without_outsiders(one) for one in found] if self.resize.DRAWN else found


def data_arguments(data):
    """A data set's classes, and room for half as many objects again as an image has, as arguments.

    Args:
        data: `Dataset`; the objects of all its images are counted.

    Returns:
        {"num_classes", "class_names", "category_ids", "max_detections"}, the last at least 100.
    """
    most = int(data.box_counts().max(initial=0))
    return {**data_classes(data), "max_detections": max(100, most + -(-most // 2))}


def one_canvas(resize, reason):
    """Return the canvas (height, width) of a `Resize` part that must have a single one.

    Args:
        resize: the part.
        reason: why, for the error.

    Raises:
        ValueError: images of different sizes have different canvases.
    """
    canvas = resize.fixed_canvas()
    if canvas is None:
        raise ValueError(
            f"resize is {resize}, which has a canvas for each image; {reason}: give Stretch(height, width) "
            "or Fit(height, width)."
        )
    return canvas


def prepare(targets):
    """Return targets as `loss_terms` takes them: float32 boxes, and label -1 for rows without an object.

    Rows whose box is not finite or has no area are treated as padding: they are neither matched nor
    learnt. By default no object is ignored.

    Args:
        targets: {"boxes" (B, G, 4), "labels" (B, G), optional "ignore" (B, G), ...}.

    Returns:
        The same, with "ignore" bool.
    """
    targets = _at_least_one_row(targets)
    boxes = ops.cast(targets["boxes"], "float32")  # (B, G, 4)
    labels = ops.cast(targets["labels"], "int32")  # (B, G)
    usable = _has_area(boxes) & box_ops.valid_mask(labels)
    ignore = targets.get("ignore")
    ignore = ops.zeros_like(labels, "bool") if ignore is None else ops.cast(ignore, "bool")
    return {
        **targets,
        "boxes": ops.where(usable[..., None], boxes, -1.0),
        "labels": ops.where(usable, labels, -1),
        "ignore": ignore & usable,
    }


def to_image(detections, scale, offset, image):
    """Return one image's detections without padding, in the image's own pixels.

    Args:
        detections: one row of `predict`'s result, NumPy.
        scale: (4,), image pixels per canvas pixel along x, y, x, y.
        offset: (4,), where the image begins on the canvas, x, y, x, y.
        image: the image itself, (H, W, C).

    Returns:
        The same keys without "num_detections", with D rows.
    """
    count = int(detections.pop("num_detections"))
    result = {name: value[:count] for name, value in detections.items()}
    height, width = image.shape[:2]
    limit = np.array([width, height] * 2, np.float32)
    result["boxes"] = np.clip((result["boxes"] - offset) * scale, 0, limit)
    if "keypoints" in result:  # (D, P, 3); masks are relative to their boxes
        begin, factor = np.array([[*offset[:2], 0], [*scale[:2], 1]], np.float32)
        result["keypoints"] = (result["keypoints"] - begin) * factor
    return result


def without_outsiders(detections):
    """Leave out the boxes that lie wholly beside the image, in the drawn padding of its canvas."""
    boxes = detections["boxes"]  # clipped to the image
    inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=-1)
    return {name: value[inside] for name, value in detections.items()}


def _has_area(boxes):
    """Which boxes (B, G, 4) are finite and have an area, (B, G) bool."""
    boxes = ops.cast(boxes, "float32")
    # NaN fails every comparison; an infinite side gives an infinite area.
    area = box_ops.box_area(boxes)
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1]) & (area < np.inf)


def _at_least_one_row(targets):
    """Targets of G = 0 rows with one of padding, as gathering from nothing is an error."""
    rows = targets["boxes"].shape[1]
    if rows is not None and rows > 0:
        return targets
    count = ops.shape(targets["boxes"])[1]  # 0, or known only when the step runs
    padded = {}
    for name in PER_OBJECT & targets.keys():
        values = ops.convert_to_tensor(targets[name])
        row = ops.zeros_like(ops.sum(ops.cast(values, "int32"), axis=1, keepdims=True))
        row = ops.cast(row - (0 if name in ("ignore", "masks") else 1), values.dtype)
        padded[name] = ops.concatenate([values, row[:, count:]], axis=1)
    return {**targets, **padded}


def _check_form(inputs, targets):
    if not isinstance(targets, dict) or not {"boxes", "labels"} <= set(targets):
        raise ValueError(
            'Targets must be a dict with "boxes" (B, G, 4) and "labels" (B, G); '
            f"got {sorted(targets) if isinstance(targets, dict) else type(targets).__name__}."
        )
    images = inputs["images"] if isinstance(inputs, dict) else inputs
    canvas, masks = images.shape[1:3], targets["masks"].shape[2:4] if "masks" in targets else ()
    if any(None not in pair and pair[0] != pair[1] for pair in zip(canvas, masks)):
        raise ValueError(
            f'Targets "masks" are {tuple(masks)} (height, width), but images are {tuple(canvas)}: masks must '
            "lie on the canvas; data.batches(..., masks=True) returns them so."
        )


def _is_confidence(value):
    return isinstance(value, (int, float, np.number)) and 0 <= value <= 1


def _is_one_image(images):
    if isinstance(images, (str, os.PathLike, Image.Image)):
        return True
    return len(getattr(images, "shape", (0,) * 4)) < 4  # an array or a tensor


def _way_back(resize, original):
    """Return image pixels per canvas pixel, and the offset on the canvas, both along x, y, x, y."""
    size = resize.target_size(*original)
    y, x = resize.offset(*size)
    scale = np.array([original[1] / size[1], original[0] / size[0]] * 2, np.float32)
    return scale, np.array([x, y] * 2, np.float32)


def _in_step(proposals, count):
    """Return the next proposals, (R, 4) float32 each."""
    arrays = [np.asarray(boxes, np.float32) for boxes in itertools.islice(proposals, count)]
    if len(arrays) < count:
        raise ValueError("There are fewer proposals than images: give one array (R, 4) for each.")
    for boxes in arrays:
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
            raise ValueError(
                f"Proposals must be finite boxes (R, 4) xyxy in the image's pixels, not {boxes!r:.200}."
            )
    return arrays


def _padded(boxes):
    """Stack arrays (R, 4) of different R as (B, R, 4); rows of zeros are not proposals."""
    result = np.zeros((len(boxes), max(1, *map(len, boxes)), 4), np.float32)
    for rows, values in zip(result, boxes):
        rows[: len(values)] = values
    return result


def _above(found, threshold):
    if threshold is None:
        return found
    kept = found["confidence"] >= threshold
    return {name: value[kept] for name, value in found.items()}
