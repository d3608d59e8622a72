"""Digit scenes: real handwritten digits on textured grounds, generated on demand.

Owns the generator and the `DigitScenes` data set. The digits are scikit-learn's bundled 8x8 ones
(Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998), split 60/20/20 by
sample within each class, so that no digit of "val" or "test" is ever trained on.

A scene is a pure function of (seed, split, index), the same on every machine: random numbers are
the raw words of PCG64, all arithmetic is on integers, and no picture library is asked to draw.
`tests/data/test_digits.py` freezes the result; a change here is a change of the benchmark.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from kerasdet.data.records import Dataset, Record

SPLITS = ("train", "val", "test")
SIZES = {"train": 10000, "val": 256, "test": 256}
HEIGHTS = (12, 96)  # of the tight box, pixels, log-uniform
MAX_ANGLE = 30  # degrees, either way
MAX_DIGITS = 12
MAX_IOU = (4, 10)  # 0.4 as a fraction: placement decides in integers
EMPTY_EVERY = 10  # scenes 9, 19, 29, ... hold no digit
CONTRASTS = (51, 256)  # 0.2 to 1 in 1/256 of the room between the ground and black or white
MIN_ROOM = 72  # grey levels; with less room the ink takes the other sign
KEYPOINTS = ("top", "left", "bottom", "right")
LUMA = np.array([77, 150, 29], np.int32)  # ITU-R BT.601 in 1/256

_GLYPH = 96  # a glyph at full resolution: (8 + 2 * 2 cells of margin) * 8
_ANGLE_STEPS = 4  # per degree
_HEIGHT_STEPS = 256  # of the logarithm of the height


def digit_scenes(split="train", size=None, seed=0, image_size=256, digits_per_scene=None):
    """Handwritten digits on textured grounds, with boxes, masks, keypoints and a semantic map.

    Args:
        split: "train", "val" or "test"; each draws on its own digits and its own scenes.
        size: number of scenes; by default 10000, 256 and 256.
        seed: which family of scenes; figures are published on seed 0.
        image_size: side of the square pictures in pixels, at least 128.
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

    Boxes, masks, areas and keypoints are amodal: they describe the whole digit, also where a
    later (smaller) digit covers it. Digits lie wholly inside the picture. `area` is the mask's.
    The keypoints are the mask's extreme points at pixel centres, always visible (2). The semantic
    map is 0 on the ground and 1 + class on digits, the topmost digit winning.
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
        _glyphs(split)  # fails now rather than at the first batch where scikit-learn is absent
        self.name = f"digits/{split}"
        self.class_names = tuple("0123456789")
        self.category_ids = tuple(range(10))
        self.keypoint_names = KEYPOINTS
        self.keypoint_sigmas = (0.05,) * 4
        self.faults = []
        self.split, self.size, self.seed = split, int(size), int(seed)
        self.image_size, self.digits_per_scene = int(image_size), digits_per_scene

    def __len__(self):
        return self.size

    def record(self, index):
        """The scene's annotation.

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
        """The scene's picture.

        Args:
            index: 0 to `len(self) - 1`.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        draws = _Draws(self.seed, SPLITS.index(self.split), index, 1)
        canvas = _ground(draws, self.image_size)
        for _ in range(draws.integer(5, 11)):
            shape = _stroke(draws) if draws.integer(0, 3) else _blob(draws)
            corner = [draws.integer(0, self.image_size) - side // 2 for side in shape.shape[::-1]]
            _paint(draws, canvas, shape, corner)
        for d in self._digits(index):
            _paint(draws, canvas, d.alpha, d.corner)
        # Sensor noise last, so that ink is not smoother than the ground.
        strength = draws.integer(1, 10)
        noise = draws.octets(canvas.size).reshape(canvas.shape).astype(np.int32) - 128
        canvas += (noise * strength) >> 7
        return np.clip(canvas, 0, 255).astype(np.uint8)

    def semantic(self, index):
        """The scene's semantic map.

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
        """Number of digits in each scene, (len(self),) int64; lays out none of them."""
        split = SPLITS.index(self.split)
        scenes = [(_Draws(self.seed, split, index, 0), index) for index in range(self.size)]
        return np.array([_number(*scene, self.digits_per_scene) for scene in scenes], np.int64)


class _Draws:
    """Random integers from the raw words of PCG64, which NumPy promises never to change."""

    def __init__(self, *key):
        self.bits = np.random.PCG64(np.random.SeedSequence(key))

    def integer(self, low, high):
        """One integer in [low, high)."""
        return low + ((self.bits.random_raw() >> 32) * (high - low) >> 32)

    def octets(self, count):
        """(count,) uint8."""
        words = self.bits.random_raw(-(-count // 8))
        return words.astype("<u8").view(np.uint8)[:count]


class _Digit(NamedTuple):
    label: int
    box: tuple  # x1, y1, x2, y2 of the mask, integers
    mask: np.ndarray  # (y2 - y1, x2 - x1) bool
    alpha: np.ndarray  # (h, w) int32 0..256, a little larger than the box: the soft edge
    corner: tuple  # x, y of `alpha` in the picture


# ---------------------------------------------------------------- glyphs


@lru_cache(maxsize=3)
def _glyphs(split):
    """Labels (N,) and alphas at three resolutions: (N, 96, 96), (N, 48, 48), (N, 24, 24) uint8."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "digit scenes need scikit-learn's handwritten digits: pip install kerasdet[demo]"
        ) from error
    pictures, labels = load_digits(return_X_y=True)
    keys = _Draws(1797).bits.random_raw(len(labels))
    chosen = []
    for label in range(10):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(keys[members], kind="stable")]
        cuts = [0, len(members) * 6 // 10, len(members) * 8 // 10, len(members)]
        k = SPLITS.index(split)
        chosen.append(members[cuts[k] : cuts[k + 1]])
    chosen = np.concatenate(chosen)
    cells = pictures[chosen].astype(np.int32).reshape(-1, 8, 8)
    cells = np.pad(cells, ((0, 0), (2, 2), (2, 2)))
    full = _upsample(_upsample(cells << 13, 2) >> 13, 1) >> 13  # 0..16 in 1/8192
    # Ink begins at 0.2 and is full at 0.6 of the pen's pressure; the mask's edge is at 0.4.
    alpha = np.clip((full - 26214) * 255 // 52429, 0, 255)
    levels = [alpha]
    for _ in range(2):
        a = levels[-1]
        pooled = a[:, ::2, ::2] + a[:, 1::2, ::2] + a[:, ::2, 1::2] + a[:, 1::2, 1::2]
        levels.append((pooled + 2) >> 2)
    return labels[chosen].astype(int).tolist(), [level.astype(np.uint8) for level in levels]


def _upsample(x, axis):
    """Eight times larger along `axis` by Catmull-Rom (Catmull and Rom 1974), in exact integers."""
    x = np.moveaxis(x, axis, -1).astype(np.int64)
    n = x.shape[-1]
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(2, 2)])
    out = np.empty((*x.shape, 8), np.int64)
    for phase in range(8):
        u, first = 2 * phase - 7, 1
        if u < 0:
            u, first = u + 16, 0
        weights = (
            -(u**3) + 32 * u**2 - 256 * u,
            3 * u**3 - 80 * u**2 + 8192,
            -3 * u**3 + 64 * u**2 + 256 * u,
            u**3 - 16 * u**2,
        )
        out[..., phase] = sum(
            w * padded[..., first + k : first + k + n] for k, w in enumerate(weights)
        )
    return np.moveaxis(out.reshape(*x.shape[:-1], n * 8), -1, axis)


@lru_cache(maxsize=1)
def _tables():
    """Heights in 1/256 pixel, log-uniform, and (cos, sin) in 1/16384 for every angle drawn."""
    low, high = HEIGHTS
    steps = [(k + 0.5) / _HEIGHT_STEPS for k in range(_HEIGHT_STEPS)]
    heights = [round(256 * low * (high / low) ** step) for step in steps]
    half = MAX_ANGLE * _ANGLE_STEPS
    angles = [math.radians(k / _ANGLE_STEPS) for k in range(-half, half + 1)]
    return heights, [(round(16384 * math.cos(a)), round(16384 * math.sin(a))) for a in angles]


def _render(levels, height, cos, sin):
    """A rotated glyph whose tight box is `height` / 256 pixels high, as (h, w) int32 alpha 0..256.

    Bilinear, from the resolution that is just finer than the result, so that small digits
    neither alias nor break.
    """
    ink = levels[0] >= 128
    rows = np.flatnonzero(ink.any(1))
    left = ink[rows].argmax(1)
    right = _GLYPH - 1 - ink[rows, ::-1].argmax(1)
    x, y = np.concatenate([left, right]), np.concatenate([rows, rows])
    across, down = cos * x - sin * y, sin * x + cos * y  # in 1/16384
    x1, x2, y1, y2 = (int(v) for v in (across.min(), across.max(), down.min(), down.max()))
    ratio = ((y2 - y1 + 16384) << 10) // height  # glyph pixels per picture pixel, 1/65536
    w = ((x2 - x1 + 16384) << 2) // ratio + 5
    h = (height >> 8) + 5
    # The centre of the rotated ink, turned back to the glyph, is the centre of the window.
    cx = (cos * (x1 + x2) + sin * (y1 + y2)) >> 13  # 1/65536
    cy = (-sin * (x1 + x2) + cos * (y1 + y2)) >> 13
    a, b = cos * ratio >> 14, sin * ratio >> 14
    i = np.arange(1 - w, w, 2, dtype=np.int32)[None, :]  # half pixels from the centre
    j = np.arange(1 - h, h, 2, dtype=np.int32)[:, None]
    level = 0 if ratio < 131072 else 1 if ratio < 262144 else 2
    size = _GLYPH >> level
    u, v = cx + ((a * i + b * j) >> 1), cy + ((a * j - b * i) >> 1)
    u, v = (((t + 32768) >> level) - 32768 for t in (u, v))
    u, v = (np.clip(t, 0, ((size - 1) << 16) - 1) for t in (u, v))
    fu, fv = (u >> 8) & 255, (v >> 8) & 255
    flat, at = levels[level].ravel(), (v >> 16) * size + (u >> 16)
    tl, tr, bl, br = (flat[at + step].astype(np.int32) for step in (0, 1, size, size + 1))
    top, bottom = (tl << 8) + (tr - tl) * fu, (bl << 8) + (br - bl) * fu
    alpha = ((top << 8) + (bottom - top) * fv + 32768) >> 16
    return alpha + (alpha >> 7)


# ---------------------------------------------------------------- layout


def _number(draws, index, digits_per_scene):
    """How many digits a scene holds; the first draw of its layout."""
    drawn = draws.integer(1, MAX_DIGITS + 1)
    if digits_per_scene is not None:
        return digits_per_scene
    return 0 if index % EMPTY_EVERY == EMPTY_EVERY - 1 else drawn


@lru_cache(maxsize=64)
def _layout(split, seed, index, side, digits_per_scene):
    """The digits of one scene, largest first, which is the order they are painted in."""
    draws = _Draws(seed, SPLITS.index(split), index, 0)
    number = _number(draws, index, digits_per_scene)
    digits = None
    while digits is None:
        digits = _place(draws, [_draw_digit(draws, split, side) for _ in range(number)], side)
    return digits


def _draw_digit(draws, split, side):
    """A digit at the picture's origin; drawn again where rounding left the range of heights."""
    labels, levels = _glyphs(split)
    heights, turns = _tables()
    while True:
        glyph = draws.integer(0, len(labels))
        height = heights[draws.integer(0, len(heights))]
        cos, sin = turns[draws.integer(0, len(turns))]
        alpha = _render([level[glyph] for level in levels], height, cos, sin)
        mask = alpha >= 128
        y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x1, y1, x2, y2 = int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1
        if HEIGHTS[0] <= y2 - y1 <= HEIGHTS[1] and x2 - x1 <= side:
            return _Digit(
                labels[glyph], (0, 0, x2 - x1, y2 - y1), mask[y1:y2, x1:x2], alpha, (-x1, -y1)
            )


def _place(draws, digits, side):
    """Move every digit to a free place, or None where 100 tries found none for one of them."""
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
    """Whether the IoU of two integer boxes is above MAX_IOU."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both * MAX_IOU[1] > union * MAX_IOU[0]


def _extreme_points(digit):
    """Top, left, bottom and right of the mask, (4, 3): x, y at pixel centres, visibility 2.

    Where several pixels are extreme, the middle one of them is taken.
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


# ---------------------------------------------------------------- painting


def _ground(draws, side):
    """A textured ground, (side, side, 3) int32: grains of several sizes, some of them streaks."""
    luma = draws.integer(88, 168) + _grain(draws, side, 64, 64, draws.integer(4, 32))
    streaks = ((16, 16), (32, 32), (8, 64), (64, 8), (4, 64), (64, 4))
    luma += _grain(draws, side, *streaks[draws.integer(0, 6)], draws.integer(0, 16))
    luma += _grain(draws, side, *((4, 4), (8, 8))[draws.integer(0, 2)], draws.integer(0, 12))
    red, blue = draws.integer(-28, 29), draws.integer(-28, 29)
    red = red + _grain(draws, side, 64, 64, draws.integer(0, 20))
    blue = blue + _grain(draws, side, 64, 64, draws.integer(0, 20))
    green = -(77 * red + 29 * blue) // 150  # keeps the luma
    return np.clip(np.stack([luma + red, luma + green, luma + blue], 2), 0, 255)


def _grain(draws, side, cell_y, cell_x, amplitude):
    """Smooth noise of the given cell in pixels, (side, side) int32 in +-amplitude."""
    rows, columns = side // cell_y + 2, side // cell_x + 2
    grid = draws.octets(rows * columns).reshape(rows, columns).astype(np.int32) - 128
    y, x = draws.integer(0, cell_y), draws.integer(0, cell_x)
    wx, wy = _smooth_step(cell_x), _smooth_step(cell_y)[:, None]
    wide = grid[:, :-1, None] * (256 - wx) + grid[:, 1:, None] * wx
    wide = (wide.reshape(rows, -1)[:, x : x + side] * amplitude) >> 8
    top, step = wide[:-1, None] << 8, wide[1:, None] - wide[:-1, None]
    return ((top + step * wy) >> 15).reshape(-1, side)[y : y + side]


def _smooth_step(cell):
    """Weights 3 t^2 - 2 t^3 in 1/256 at a cell's pixels."""
    t = np.arange(cell, dtype=np.int64)
    return ((3 * cell - 2 * t) * t**2 * 256 // cell**3).astype(np.int32)


def _stroke(draws):
    """A pen stroke that is no digit: a thin arc, or a zigzag of five turns or more."""
    length = draws.integer(16, 140)
    width = draws.integer(384, max(385, min(32 * length, 1792)))  # 1/256 pixel
    s = np.arange(1 - length, length, 2, dtype=np.int64)  # half pixels from the middle
    y = draws.integer(-256, 257) * s >> 1
    if draws.integer(0, 3) or length < 48:
        y += draws.integer(-256, 257) * s**2 // (4 * length)
    else:
        period = 2 * length // draws.integer(5, 9)
        wave = np.abs((s - s[0]) % (2 * period) - period)
        y += draws.integer(96, 256) * wave >> 1
    slope = np.diff(y, append=2 * y[-1] - y[-2])
    thin = 65536 // np.sqrt(slope**2 + 65536.0).astype(np.int64)  # cosine of the slope, 1/256
    y -= y.min() - width
    rows = np.arange((int(y.max()) + width >> 8) + 2)[:, None] << 8
    distance = np.abs(rows - y) * thin >> 8
    alpha = np.clip((width >> 1) + 128 - distance, 0, 256).astype(np.int32)
    return alpha if draws.integer(0, 2) else alpha.T


def _blob(draws):
    """A spot that is no digit: one to three filled ellipses, sharp or blurred."""
    radius = draws.integer(3, 20)
    side = 4 * radius + 3
    soft = draws.integer(1, radius)
    line = np.arange(side, dtype=np.int32) - side // 2
    alpha = np.zeros((side, side), np.int32)
    for _ in range(draws.integer(1, 4)):
        x, y = (draws.integer(-radius // 2, radius // 2 + 1) for _ in range(2))
        squash = draws.integer(256, 512)
        distance = (line[None, :] - x) ** 2 + ((line[:, None] - y) ** 2 * squash >> 8)
        edge = (radius**2 - distance) * 128 // (radius * soft) + 128
        alpha = np.maximum(alpha, np.clip(edge, 0, 256))
    return alpha if draws.integer(0, 2) else alpha.T


def _paint(draws, canvas, alpha, corner):
    """Lay ink of a random contrast and sign on the canvas, in place."""
    contrast, brighter = draws.integer(*CONTRASTS) + 1, draws.integer(0, 2)
    tint = np.array([draws.integer(-64, 65) for _ in range(3)])
    side, (x, y), (h, w) = len(canvas), corner, alpha.shape
    alpha = alpha[max(-y, 0) : side - y, max(-x, 0) : side - x, None]
    window = canvas[max(y, 0) : y + h, max(x, 0) : x + w]
    weight = int(alpha.sum())
    if not weight:
        return
    mean = (window * alpha).sum((0, 1)) // weight
    luma = int((mean * LUMA).sum()) >> 8
    if (255 - luma if brighter else luma) < MIN_ROOM:
        brighter = not brighter
    target = luma + ((255 - luma if brighter else -luma) * contrast >> 8)
    tint -= int((tint * LUMA).sum()) >> 8
    most = max(int(np.abs(tint).max()), 1)
    ink = target + tint * min(target, 255 - target, 40, most) // most
    window += ((ink.astype(np.int32) - window) * alpha + 128) >> 8
