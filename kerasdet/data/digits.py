"""Digit scenes: real handwritten digits on textured grounds, generated on demand.

This file owns the `DigitScenes` data set and the layout of a scene; `ink.py` draws it. The digits are
scikit-learn's bundled 8x8 ones (Alpaydin and Kaynak, Optical Recognition of Handwritten Digits,
UCI 1998), split 60/20/20 by sample within each class, so that no digit of "val" or "test" appears in
training.

A scene is a pure function of (seed, split, index), equal on every machine: random numbers are the raw
words of PCG64, all arithmetic uses integers, and no image library draws. `tests/data/test_digits.py`
freezes the result; a change here changes the benchmark.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from kerasdet.data import ink
from kerasdet.data.ink import SPLITS
from kerasdet.data.records import Dataset, Record

SIZES = {"train": 10000, "val": 256, "test": 256}
HEIGHTS = (12, 96)  # height of the tight box in pixels, log-uniform
MAX_ANGLE = 30  # degrees, in both directions
MAX_DIGITS = 12
MAX_IOU = (4, 10)  # 0.4 as a fraction: placement decides in integers
EMPTY_EVERY = 10  # scenes 9, 19, 29, ... hold no digit
KEYPOINTS = ("top", "left", "bottom", "right")

_ANGLE_STEPS = 4  # per degree
_HEIGHT_STEPS = 256  # of the logarithm of the height


def digit_scenes(split="train", size=None, seed=0, image_size=256, digits_per_scene=None):
    """Create a data set of handwritten digits with boxes, masks, keypoints and a semantic map.

    Args:
        split: "train", "val" or "test"; each has its own digits and its own scenes.
        size: number of scenes; by default 10000, 256 and 256. A larger set begins with the
            scenes of a smaller one.
        seed: which family of scenes; published figures use seed 0.
        image_size: side of the square images in pixels, at least 128.
        digits_per_scene: None for 1 to 12 and every tenth scene empty, or a fixed number.

    Returns:
        A `DigitScenes` data set.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: an argument is out of its range.
    """
    return DigitScenes(split, size, seed, image_size, digits_per_scene)


class DigitScenes(Dataset):
    """Data set of digit scenes; see `digit_scenes` for the arguments.

    Boxes, masks, areas and keypoints are amodal: they describe the whole digit, even where a later
    (smaller) digit covers it. Digits are entirely inside the image. `area` is the mask's area. The
    keypoints are the mask's extreme points at pixel centres, always visible (2). The semantic map is 0 on
    the ground and 1 + class on digits; where digits overlap, the topmost counts.
    """

    def __init__(self, split="train", size=None, seed=0, image_size=256, digits_per_scene=None):
        if split not in SPLITS:
            raise ValueError(f"split={split!r} of the digit scenes is unknown: use one of {SPLITS}")
        size = SIZES[split] if size is None else size
        for name, value, low, high in (
            ("size", size, 1, 2**31),
            ("seed", seed, 0, 2**31),
            ("image_size", image_size, 128, 4096),
            ("digits_per_scene", digits_per_scene or 0, 0, MAX_DIGITS),
        ):
            if value != int(value) or not low <= value <= high:
                raise ValueError(f"{name}={value} of the digit scenes: use {low} to {high}")
        ink.glyphs(split)  # without scikit-learn, fail now and not at the first batch
        self.name = f"digits/{split}"
        self.class_names = tuple("0123456789")
        self.category_ids = tuple(range(10))
        self.keypoint_names = KEYPOINTS
        self.keypoint_sigmas = (0.05,) * 4
        self.semantic_names = ("ground", *self.class_names)
        self.faults = []
        self.split, self.size, self.seed = split, int(size), int(seed)
        self.image_size, self.digits_per_scene = int(image_size), digits_per_scene

    def __len__(self):
        return self.size

    def record(self, index):
        """Return the scene's annotation.

        Args:
            index: 0 to `len(self) - 1`.

        Returns:
            A `Record` with masks and keypoints.
        """
        digits, side = self._digits(index), self.image_size
        boxes = np.array([d.box for d in digits], np.float32).reshape(-1, 4)
        canvases = np.zeros((side, side, len(digits)), np.uint8, order="F")
        for canvas, d in zip(np.moveaxis(canvases, 2, 0), digits):
            x1, y1, x2, y2 = d.box
            canvas[y1:y2, x1:x2] = d.mask
        return Record(
            image_id=int(index),
            height=side,
            width=side,
            boxes=boxes,
            labels=np.array([d.label for d in digits], np.int32),
            ignore=np.zeros(len(digits), bool),
            area=np.array([d.mask.sum() for d in digits], np.float32),
            masks=tuple(coco_mask.encode(canvases)) if digits else (),
            keypoints=np.array([_extreme_points(d) for d in digits], np.float32).reshape(-1, 4, 3),
        )

    def image(self, index):
        """Return the scene's image.

        Args:
            index: 0 to `len(self) - 1`.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        draws = ink.Draws(self.seed, SPLITS.index(self.split), index, 1)
        canvas = ink.ground(draws, self.image_size)
        for _ in range(draws.integer(5, 11)):
            shape = ink.stroke(draws) if draws.integer(0, 3) else ink.blob(draws)
            corner = [draws.integer(0, self.image_size) - side // 2 for side in shape.shape[::-1]]
            ink.paint(draws, canvas, shape, corner)
        for d in self._digits(index):
            ink.paint(draws, canvas, d.alpha, d.corner)
        # Sensor noise comes last, so that ink is not smoother than the ground.
        strength = draws.integer(1, 10)
        noise = draws.octets(canvas.size).reshape(canvas.shape).astype(np.int32) - 128
        canvas += (noise * strength) >> 7
        return np.clip(canvas, 0, 255).astype(np.uint8)

    def semantic(self, index):
        """Return the scene's semantic map.

        Args:
            index: 0 to `len(self) - 1`.

        Returns:
            (H, W) int32: 0 on the ground, 1 + class on digits.
        """
        out = np.zeros((self.image_size, self.image_size), np.int32)
        for d in self._digits(index):
            x1, y1, x2, y2 = d.box
            out[y1:y2, x1:x2][d.mask] = 1 + d.label
        return out

    def _digits(self, index):
        if not 0 <= index < self.size:
            raise IndexError(f"scene {index} of {self.name}: there are {self.size}")
        return _layout(self.split, self.seed, int(index), self.image_size, self.digits_per_scene)

    def box_counts(self):
        """Return the number of digits in each scene, (len(self),) int64, without laying out any."""
        split = SPLITS.index(self.split)
        scenes = [(ink.Draws(self.seed, split, index, 0), index) for index in range(self.size)]
        return np.array([_number(*scene, self.digits_per_scene) for scene in scenes], np.int64)

    def image_ids(self):
        """List the scenes' numbers."""
        return list(range(self.size))


class _Digit(NamedTuple):
    label: int
    box: tuple  # x1, y1, x2, y2 of the mask, integers
    mask: np.ndarray  # (y2 - y1, x2 - x1) bool
    alpha: np.ndarray  # (h, w) int32 0..256, a little larger than the box: the soft edge
    corner: tuple  # x, y of `alpha` in the image


# ---------------------------------------------------------------- layout


def _number(draws, index, digits_per_scene):
    """Return the number of digits in a scene, from the first draw of its layout."""
    drawn = draws.integer(1, MAX_DIGITS + 1)
    if digits_per_scene is not None:
        return digits_per_scene
    return 0 if index % EMPTY_EVERY == EMPTY_EVERY - 1 else drawn


@lru_cache(maxsize=64)
def _layout(split, seed, index, side, digits_per_scene):
    """Lay out the digits of one scene, largest first, in the order of painting."""
    draws = ink.Draws(seed, SPLITS.index(split), index, 0)
    number = _number(draws, index, digits_per_scene)
    digits = None
    while digits is None:
        digits = _place(draws, [_draw_digit(draws, split, side) for _ in range(number)], side)
    return digits


@lru_cache(maxsize=1)
def _tables():
    """Return heights in 1/256 pixel, log-uniform, and (cos, sin) in 1/16384 for every angle."""
    low, high = HEIGHTS
    steps = [(k + 0.5) / _HEIGHT_STEPS for k in range(_HEIGHT_STEPS)]
    heights = [round(256 * low * (high / low) ** step) for step in steps]
    half = MAX_ANGLE * _ANGLE_STEPS
    angles = [math.radians(k / _ANGLE_STEPS) for k in range(-half, half + 1)]
    return heights, [(round(16384 * math.cos(a)), round(16384 * math.sin(a))) for a in angles]


def _draw_digit(draws, split, side):
    """Draw a digit at the image's origin; draw again if rounding left the range of heights."""
    labels, levels = ink.glyphs(split)
    heights, turns = _tables()
    while True:
        glyph = draws.integer(0, len(labels))
        height = heights[draws.integer(0, len(heights))]
        cos, sin = turns[draws.integer(0, len(turns))]
        alpha = ink.render([level[glyph] for level in levels], height, cos, sin)
        mask = alpha >= 128
        y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x1, y1, x2, y2 = int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1
        if HEIGHTS[0] <= y2 - y1 <= HEIGHTS[1] and x2 - x1 <= side:
            return _Digit(
                labels[glyph], (0, 0, x2 - x1, y2 - y1), mask[y1:y2, x1:x2], alpha, (-x1, -y1)
            )


def _place(draws, digits, side):
    """Move every digit to a free place; return None if one of them has none after 100 tries."""
    placed = []
    for d in sorted(digits, key=lambda d: -d.box[3]):
        w, h = d.box[2:]
        for _ in range(100):
            x, y = draws.integer(0, side - w + 1), draws.integer(0, side - h + 1)
            box = (x, y, x + w, y + h)
            if not any(_overlap_too_much(box, other.box) for other in placed):
                break
        else:
            return None
        placed.append(d._replace(box=box, corner=(x + d.corner[0], y + d.corner[1])))
    return tuple(placed)


def _overlap_too_much(a, b):
    """Tell whether the IoU of two integer boxes is above MAX_IOU."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both * MAX_IOU[1] > union * MAX_IOU[0]


def _extreme_points(digit):
    """Return the top, left, bottom and right point of the mask, (4, 3): x, y at pixel centres, visibility 2.

    If several pixels are extreme, the middle one is taken.
    """
    x1, y1, x2, y2 = digit.box

    def middle(line):
        at = np.flatnonzero(line)
        return int(at[len(at) // 2]) + 0.5

    m = digit.mask
    return [
        (x1 + middle(m[0]), y1 + 0.5, 2),
        (x1 + 0.5, y1 + middle(m[:, 0]), 2),
        (x1 + middle(m[-1]), y2 - 0.5, 2),
        (x2 - 0.5, y1 + middle(m[:, -1]), 2),
    ]
