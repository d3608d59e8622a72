"""Pens and grounds of the digit scenes: random numbers, glyphs, textures, strokes and painting.

All arithmetic is exact and uses integers from the raw words of PCG64, so an image is equal under every
version of NumPy and on every processor. Colours are int32 until the image is complete.
"""

from functools import lru_cache

import numpy as np

SPLITS = ("train", "val", "test")  # 60, 20 and 20 % of each class
CONTRASTS = (51, 256)  # 0.2 to 1 in 1/256 of the room between the ground and black or white
MIN_ROOM = 72  # grey levels; with less room the ink takes the other sign
LUMA = np.array([77, 150, 29], np.int32)  # ITU-R BT.601 in 1/256

_GLYPH = 96  # a glyph at full resolution: (8 + 2 * 2 cells of margin) * 8


class Draws:
    """Random integers from the raw words of PCG64, which NumPy promises never to change."""

    def __init__(self, *key):
        self.bits = np.random.PCG64(np.random.SeedSequence(key))

    def integer(self, low, high):
        """Draw one integer in [low, high)."""
        return low + ((self.bits.random_raw() >> 32) * (high - low) >> 32)

    def octets(self, count):
        """Draw (count,) uint8."""
        words = self.bits.random_raw(-(-count // 8))
        return words.astype("<u8").view(np.uint8)[:count]


# ---------------------------------------------------------------- glyphs


@lru_cache(maxsize=3)
def glyphs(split):
    """Return labels (N,) and alphas at three resolutions: (N, 96, 96), (N, 48, 48), (N, 24, 24) uint8."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "digit scenes need scikit-learn's handwritten digits: pip install kerasdet[demo]"
        ) from error
    images, labels = load_digits(return_X_y=True)
    keys = Draws(1797).bits.random_raw(len(labels))
    chosen = []
    for label in range(10):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(keys[members], kind="stable")]
        cuts = [0, len(members) * 6 // 10, len(members) * 8 // 10, len(members)]
        k = SPLITS.index(split)
        chosen.append(members[cuts[k] : cuts[k + 1]])
    chosen = np.concatenate(chosen)
    cells = images[chosen].astype(np.int32).reshape(-1, 8, 8)
    cells = np.pad(cells, ((0, 0), (2, 2), (2, 2)))
    full = _upsample(_upsample(cells << 13, 2) >> 13, 1) >> 13  # 0..16 in 1/8192
    # Ink begins at 0.2 of the pen's pressure and is full at 0.6; the mask's edge is at 0.4.
    alpha = np.clip((full - 26214) * 255 // 52429, 0, 255)
    levels = [alpha]
    for _ in range(2):
        a = levels[-1]
        pooled = a[:, ::2, ::2] + a[:, 1::2, ::2] + a[:, ::2, 1::2] + a[:, 1::2, 1::2]
        levels.append((pooled + 2) >> 2)
    return labels[chosen].astype(int).tolist(), [level.astype(np.uint8) for level in levels]


def _upsample(x, axis):
    """Enlarge eight times along `axis` by Catmull-Rom (Catmull and Rom 1974), in exact integers."""
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


def render(levels, height, cos, sin):
    """Rotate a glyph so that its tight box is `height` / 256 pixels high: (h, w) int32 alpha 0..256.

    Sampling is bilinear, from the resolution that is just finer than the result, so that small digits
    do not alias or break.
    """
    ink = levels[0] >= 128
    rows = np.flatnonzero(ink.any(1))
    left = ink[rows].argmax(1)
    right = _GLYPH - 1 - ink[rows, ::-1].argmax(1)
    x, y = np.concatenate([left, right]), np.concatenate([rows, rows])
    across, down = cos * x - sin * y, sin * x + cos * y  # in 1/16384
    x1, x2, y1, y2 = (int(v) for v in (across.min(), across.max(), down.min(), down.max()))
    ratio = ((y2 - y1 + 16384) << 10) // height  # glyph pixels per image pixel, 1/65536
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


# ---------------------------------------------------------------- painting


def ground(draws, side):
    """Draw a textured ground, (side, side, 3) int32: grains of several sizes, some of them streaks."""
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
    """Draw smooth noise with the given cell size in pixels, (side, side) int32 in +-amplitude."""
    rows, columns = side // cell_y + 2, side // cell_x + 2
    grid = draws.octets(rows * columns).reshape(rows, columns).astype(np.int32) - 128
    y, x = draws.integer(0, cell_y), draws.integer(0, cell_x)
    wx, wy = _smooth_step(cell_x), _smooth_step(cell_y)[:, None]
    wide = grid[:, :-1, None] * (256 - wx) + grid[:, 1:, None] * wx
    wide = (wide.reshape(rows, -1)[:, x : x + side] * amplitude) >> 8
    top, step = wide[:-1, None] << 8, wide[1:, None] - wide[:-1, None]
    return ((top + step * wy) >> 15).reshape(-1, side)[y : y + side]


def _smooth_step(cell):
    """Return the weights 3 t^2 - 2 t^3 in 1/256 at a cell's pixels."""
    t = np.arange(cell, dtype=np.int64)
    return ((3 * cell - 2 * t) * t**2 * 256 // cell**3).astype(np.int32)


def stroke(draws):
    """Draw a pen stroke that is not a digit: a thin arc, or a zigzag of five turns or more."""
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


def blob(draws):
    """Draw a spot that is not a digit: one to three filled ellipses, sharp or blurred."""
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


def paint(draws, canvas, alpha, corner):
    """Paint ink of random contrast and sign on the canvas, in place."""
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
