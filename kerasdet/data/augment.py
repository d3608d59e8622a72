"""Augmentation of one image and its record, in NumPy, before resizing and batching.

Each augmentation is a callable `(rng, image, record) -> (image, record)`: `rng` is a
`np.random.Generator`, and `image` is (H, W, C) uint8 with any number of channels, unless a class says
that it changes colours. Inputs are never changed in place. Boxes, masks, keypoints, `ignore`,
`area`, proposals and the semantic map move with the pixels (`motion.py`). Images without objects
are augmented like others. Objects that are cut at an edge keep their clipped box, the visible part
of their mask (and its area; without a mask the area shrinks like the box) and the keypoints that
are still inside. Proposals are clipped to the image, and dropped if nothing is left of them.
Pixels of a semantic map that come from outside the image are void (-1).

Keras 3.15's preprocessing layers were tested by moving an image of one rectangle and its box.
RandomFlip, CenterCrop and Resizing move boxes exactly; RandomTranslation, RandomZoom,
RandomRotation and RandomPerspective move them within a pixel. They suit boxes on batches of one
size. RandomCrop cropped the image at a different place than its boxes (by tens of pixels), and
RandomShear was off by up to five pixels. None of them moves instance masks, keypoints, ignore flags
or areas, drops cropped objects by a configurable rule, or takes images before they have one size.
This module does.
"""

import dataclasses
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from kerasdet.data.motion import (
    box_areas,
    join_records,
    move_record,
    plain_image,
    resample_image,
    turn_record,
)

IMAGENET_MEAN = (124, 116, 104)  # RGB

# RGB to luma and the two chroma axes, ITU-R BT.601 (FCC 1953), where hue is an angle.
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


class Compose:
    """Several augmentations, applied in order.

    Args:
        augmentations: callables (rng, image, record) -> (image, record).
    """

    def __init__(self, augmentations):
        self.augmentations = tuple(augmentations)

    def __call__(self, rng, image, record):
        """Augment one image: (rng, image, record) -> (image, record)."""
        for augment in self.augmentations:
            image, record = augment(rng, image, record)
        return image, record

    def __repr__(self):
        return f"Compose({list(self.augmentations)})"


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror left and right.

    Args:
        p: probability.
        pairs: pairs of keypoint indices that are swapped, such as ((1, 2),) for the two eyes;
            `keypoint_pairs(dataset.keypoint_names)` finds them.
    """

    p: float = 0.5
    pairs: tuple = ()

    def __call__(self, rng, image, record):
        """Augment one image: (rng, image, record) -> (image, record)."""
        if rng.random() >= self.p:
            return image, record
        # x' = W - x
        matrix = ((-1, 0, record.width), (0, 1, 0))
        moved = turn_record(record, matrix, lambda a: a[:, ::-1], self.pairs)
        return np.ascontiguousarray(image[:, ::-1]), moved


@dataclass(frozen=True)
class VerticalFlip:
    """Mirror top and bottom.

    Args:
        p: probability.
        pairs: pairs of keypoint indices that are swapped.
    """

    p: float = 0.5
    pairs: tuple = ()

    def __call__(self, rng, image, record):
        """Augment one image: (rng, image, record) -> (image, record)."""
        if rng.random() >= self.p:
            return image, record
        # y' = H - y
        matrix = ((1, 0, 0), (0, -1, record.height))
        moved = turn_record(record, matrix, lambda a: a[::-1], self.pairs)
        return np.ascontiguousarray(image[::-1]), moved


@dataclass(frozen=True)
class RandomRotate90:
    """Turn by 0, 1, 2 or 3 quarter turns counterclockwise, with equal probability.

    With `HorizontalFlip` it generates the eight symmetries of the square, for images without an upright
    direction, such as microscopy and satellite images. Keypoints keep their names, so their names must
    not contain directions.
    """

    def __call__(self, rng, image, record):
        """Augment one image: (rng, image, record) -> (image, record)."""
        for _ in range(int(rng.integers(4))):
            # (x, y)' = (y, W - x)
            matrix = ((0, 1, 0), (-1, 0, record.width))
            record = turn_record(record, matrix, np.rot90, ())
            image = np.rot90(image)
        return np.ascontiguousarray(image), record


@dataclass(frozen=True)
class ScaleJitter:
    """Zoom in (a random crop) or out (onto a plain canvas); the image keeps its size.

    This is the "standard scale jitter" of Ghiasi et al. 2021 (arXiv 2012.07177, section 3), with the
    factor drawn log-uniformly. Their "large" one, for long training, is `ScaleJitter(0.1, 2.0)`.

    Args:
        min, max: range of the zoom factor; 1 keeps the image unchanged.
        min_visible: objects are dropped if a smaller share of their box remains.
        fill: value of each channel around an image that became smaller; by default ImageNet's mean
            colour for three channels, otherwise 0.
    """

    min: float = 0.8
    max: float = 1.25
    min_visible: float = 0.3
    fill: tuple | None = None

    def __post_init__(self):
        if not 0 < self.min <= self.max:
            raise ValueError(f"ScaleJitter(min={self.min}, max={self.max}): use 0 < min <= max")

    def __call__(self, rng, image, record):
        """Augment one image: (rng, image, record) -> (image, record)."""
        factor = float(np.exp(rng.uniform(np.log(self.min), np.log(self.max))))
        at_x, at_y = rng.uniform(0, 1, 2)
        height, width = image.shape[:2]
        if factor >= 1:
            zoom = (factor, factor)
            dx, dy = float(at_x) * width * (1 - factor), float(at_y) * height * (1 - factor)
            window = (-dx / factor, -dy / factor, (width - dx) / factor, (height - dy) / factor)
            canvas = resample_image(image, window, width, height)
        else:
            w, h = max(round(width * factor), 1), max(round(height * factor), 1)
            zoom = (w / width, h / height)
            dx, dy = round(at_x * (width - w)), round(at_y * (height - h))
            canvas = plain_image(height, width, _fill_of(self.fill, image))
            canvas[dy : dy + h, dx : dx + w] = resample_image(image, (0, 0, width, height), w, h)
        return canvas, move_record(record, zoom, dx, dy, (height, width), self.min_visible)


@dataclass(frozen=True)
class RandomCropIoU:
    """Crop whose IoU with some object is at least a drawn number (SSD, arXiv 1512.02325v5, section 2.2).

    Objects stay if their centre is in the crop. Ignored regions stay with the part inside the crop,
    so that a crowd never becomes background. The sides are drawn from the range in the authors' code
    (0.3 to 1; the paper says 0.1). The image stays whole if no crop is found in `tries` attempts, if it
    has no objects, and for the option None.

    Args:
        options: lowest IoU of the crop with its best object, drawn uniformly; None keeps the whole
            image, 0 allows any crop.
        sides: range of the crop's sides as a share of the image's sides.
        aspect_ratios: range of the crop's aspect ratio, relative to the image's.
        tries: crops drawn before giving up.
    """

    options: tuple = (None, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0)
    sides: tuple = (0.3, 1.0)
    aspect_ratios: tuple = (0.5, 2.0)
    tries: int = 50

    def __call__(self, rng, image, record):
        """Augment one image: (rng, image, record) -> (image, record)."""
        least = self.options[int(rng.integers(len(self.options)))]
        boxes = np.asarray(record.boxes, np.float64)
        real = ~record.ignore
        if least is None or not real.any():
            return image, record
        for _ in range(self.tries):
            crop = self._draw(rng, record.height, record.width)
            if crop is None or _iou(boxes[real], crop).max() < least:
                continue
            x1, y1, x2, y2 = crop
            x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2  # (G,)
            inside = (x1 < x) & (x < x2) & (y1 < y) & (y < y2)
            if not (inside & real).any():
                continue
            kept = record.select(inside | record.ignore)
            moved = move_record(kept, (1, 1), -x1, -y1, (y2 - y1, x2 - x1))
            return np.ascontiguousarray(image[y1:y2, x1:x2]), moved
        return image, record

    def _draw(self, rng, height, width):
        side = rng.uniform(*self.sides)
        ratio = np.sqrt(rng.uniform(*self.aspect_ratios))
        if side * ratio > 1 or side / ratio > 1:
            return None
        w, h = max(int(width * side * ratio), 1), max(int(height * side / ratio), 1)
        x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        return x, y, x + w, y + h


@dataclass(frozen=True)
class ExpandCanvas:
    """Place the image at random on a larger plain canvas (SSD, section 3.6: zooming out).

    A canvas of ratio r has r^2 times the pixels. If the pipeline resizes to one size anyway,
    `ScaleJitter(min=1/r, max=1)` gives the same view with less work.

    Args:
        max_ratio: the canvas's sides are 1 to this many times the image's sides.
        p: probability.
        fill: value of each channel of the canvas; default as in `ScaleJitter`.
    """

    max_ratio: float = 4.0
    p: float = 0.5
    fill: tuple | None = None

    def __call__(self, rng, image, record):
        """Augment one image: (rng, image, record) -> (image, record)."""
        if rng.random() >= self.p:
            return image, record
        ratio = rng.uniform(1, self.max_ratio)
        h, w = image.shape[:2]
        height, width = int(h * ratio), int(w * ratio)
        x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        canvas = plain_image(height, width, _fill_of(self.fill, image))
        canvas[y : y + h, x : x + w] = image
        return canvas, move_record(record, (1, 1), x, y, (height, width))


@dataclass(frozen=True)
class ColourJitter:
    """Change brightness, contrast, saturation and hue by one linear map of the colours.

    It takes RGB images only.

    Args:
        brightness: largest shift, as a share of the full range.
        contrast: largest change of the spread around the image's mean luma; 0.5 means x0.5 to x1.5.
        saturation: largest change of the chroma, likewise.
        hue: largest rotation of the hue, in turns (0.05 is 18 degrees), in YIQ, which keeps the luma.
    """

    brightness: float = 0.125
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.05

    def __call__(self, rng, image, record):
        """Augment one image: (rng, image, record) -> (image, record)."""
        if image.shape[-1] != 3:
            raise ValueError(
                f"{record.path or f'image {record.image_id}'} has {image.shape[-1]} channels; "
                "ColourJitter changes the colours of RGB images: leave it out "
                '("colour" in --augment).'
            )
        limits = (self.brightness, self.contrast, self.saturation, self.hue)
        shift, contrast, saturation, hue = (float(rng.uniform(-v, v)) for v in limits)
        # The mean of a subsample differs from the true mean by a fraction of a grey level.
        mean = image[::4, ::4].reshape(-1, 3).mean(0) @ np.array(_TO_YIQ[0])
        colours = (1 + contrast) * _chroma_matrix(1 + saturation, hue)
        offset = 255 * shift - contrast * mean
        matrix = np.concatenate([colours, np.full((3, 1), offset)], 1)  # (3, 4)
        changed = Image.fromarray(image).convert("RGB", tuple(matrix.ravel().tolist()))
        return np.array(changed), record


@dataclass(frozen=True)
class Mosaic:
    """Four images around a random point (YOLOv4, arXiv 2004.10934, section 3.3).

    The image takes one quarter, and three other images of the data set take the rest. Each covers its
    quarter at a random zoom. The result has the first image's size and id.

    Args:
        dataset: the `Dataset` that provides the other three images.
        p: probability; 0 by default, because no detector here asks for it.
        max_zoom: an image is enlarged to 1 to this many times the size that just covers its quarter.
        min_visible: objects are dropped if a smaller share of their box remains.
    """

    dataset: object
    p: float = 0.0
    max_zoom: float = 2.0
    min_visible: float = 0.3

    def __call__(self, rng, image, record):
        """Augment one image: (rng, image, record) -> (image, record)."""
        if rng.random() >= self.p:
            return image, record
        height, width = image.shape[:2]
        cx, cy = (round(side * rng.uniform(0.3, 0.7)) for side in (width, height))
        canvas, parts = np.empty_like(image), []
        quarters = (
            (0, 0, cx, cy),
            (cx, 0, width, cy),
            (0, cy, cx, height),
            (cx, cy, width, height),
        )
        for quarter in quarters:
            if parts:
                index = int(rng.integers(len(self.dataset)))
                image, record = self.dataset.image(index), self._record(index, parts[0])
            x1, y1, x2, y2 = quarter
            h, w = image.shape[:2]
            zoom = max((x2 - x1) / w, (y2 - y1) / h) * rng.uniform(1, self.max_zoom)
            dx = x1 - rng.uniform(0, 1) * (w * zoom - (x2 - x1))
            dy = y1 - rng.uniform(0, 1) * (h * zoom - (y2 - y1))
            window = ((x1 - dx) / zoom, (y1 - dy) / zoom, (x2 - dx) / zoom, (y2 - dy) / zoom)
            canvas[y1:y2, x1:x2] = resample_image(image, window, x2 - x1, y2 - y1)
            moved = move_record(
                record, (zoom, zoom), dx, dy, (height, width), self.min_visible, quarter
            )
            parts.append(moved)
        return canvas, join_records(parts)

    def _record(self, index, first):
        """Return a record of the data set, with a semantic map if the first image has one."""
        record = self.dataset.record(index)
        if first.semantic is None:
            return record
        return dataclasses.replace(record, semantic=self.dataset.semantic(index))


def keypoint_pairs(names):
    """Find the keypoints that are swapped when an image is mirrored, by their names.

    Args:
        names: names of the keypoints, such as a data set's `keypoint_names`.

    Returns:
        Tuple of pairs of indices whose names differ only in the words "left" and "right":
        ((1, 2), (3, 4)) for nose, left_eye, right_eye, left_ear, right_ear.
    """
    names = list(names)
    mirrored = [re.sub(r"(?<![a-z])left(?![a-z])", "right", name) for name in names]
    return tuple(
        (i, names.index(other))
        for i, other in enumerate(mirrored)
        if other != names[i] and other in names
    )


def _fill_of(fill, image):
    """Return the fill value of each channel of an image."""
    channels = image.shape[-1]
    if fill is None:
        return IMAGENET_MEAN if channels == 3 else (0,) * channels
    if len(fill) != channels:
        raise ValueError(f"fill={fill} has {len(fill)} values for an image of {channels} channels.")
    return fill


def _iou(boxes, box):
    """Return the IoU of (G, 4) boxes with one box: (G,)."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    both = np.maximum(sides, 0).prod(1)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return both / (box_areas(boxes) + area - both)


def _chroma_matrix(gain, turns):
    """Return a (3, 3) matrix on RGB that scales YIQ's chroma by `gain`, rotates it and keeps the luma."""
    cos, sin = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    middle = np.array(((1, 0, 0), (0, gain * cos, -gain * sin), (0, gain * sin, gain * cos)))
    return _FROM_YIQ @ middle @ _TO_YIQ
