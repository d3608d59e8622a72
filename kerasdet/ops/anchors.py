"""Anchors: the boxes of one cell, and their repetition over a feature map."""

import math

import numpy as np
from keras import ops

from kerasdet.ops.points import grid_points


def cell_anchors(sizes, aspect_ratios, rounded=False, base=None):
    """Return the anchors of one cell, centred on the origin.

    Args:
        sizes: side lengths in pixels; an anchor of size s has area s * s.
        aspect_ratios: height / width.
        rounded: round the corners to whole pixels, halves to even (torchvision's weights need it).
        base: a size whose anchors have sides of whole pixels, halves to even: first the width, then the
            height by that width. All others are multiples of them (Faster R-CNN's code, 16). None: nothing
            is rounded.

    Returns:
        (A, 4) xyxy NumPy float32, A = ratios x sizes, sizes varying fastest.
    """
    sizes, ratios = np.asarray(sizes, "float64"), np.asarray(aspect_ratios, "float64")[:, None]
    heights, widths = np.sqrt(ratios) * sizes, sizes / np.sqrt(ratios)
    if base is not None:
        whole = np.round(base / np.sqrt(ratios))
        heights, widths = np.round(whole * ratios) / base * sizes, whole / base * sizes
    corners = np.stack([-widths, -heights, widths, heights], axis=-1).reshape(-1, 4) / 2.0
    return (np.round(corners) if rounded else corners).astype("float32")


def regular_scales(count, smallest=0.2, largest=0.9):
    """Return the scales of `count` maps, from the first to the last (SSD, arXiv 1512.02325v5, equation 4).

    Args:
        count: m, at least 2.
        smallest: s_min, a share of the image's side.
        largest: s_max.

    Returns:
        Tuple of m numbers.
    """
    # Eq: ssd 4 | s_k = s_min + (s_max - s_min) / (m - 1) (k - 1)
    return tuple(smallest + (largest - smallest) / (count - 1) * k for k in range(count))


def default_sides(scale, next_scale, ratios):
    """Return widths and heights of one cell's default boxes (SSD, section 2.2).

    Args:
        scale: s_k, a share of the image's side.
        next_scale: s_(k+1).
        ratios: aspect ratios above 1; each stands for its inverse, too.

    Returns:
        (2 + 2 len(ratios), 2) NumPy float64, shares of the image's width and height: the two squares, then
        for each ratio the wide box and the tall one.
    """
    # Eq: ssd §2.2 | s'_k = sqrt(s_k s_(k+1))
    between = math.sqrt(scale * next_scale)
    sides = [(scale, scale), (between, between)]
    for ratio in ratios:
        # Eq: ssd §2.2 | w = s_k sqrt(a_r), h = s_k / sqrt(a_r)
        wide = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
        sides += [wide, wide[::-1]]
    return np.array(sides)


def dense_sides(scale, next_scale, ratios, sizes):
    """Return widths and heights of one cell's default boxes, several sizes up to the next map's scale.

    Args:
        scale: s_k, a share of the image's side.
        next_scale: s_(k+1).
        ratios: as for `default_sides`.
        sizes: their number; they grow by equal factors from s_k, and s_(k+1) would follow.

    Returns:
        (sizes (1 + 2 len(ratios)), 2) NumPy float64: of each size the square, the wide and the tall boxes.
    """
    scales = [scale * (next_scale / scale) ** (i / sizes) for i in range(sizes)]
    boxes = [default_sides(size, size, ratios)[1:] for size in scales]
    return np.concatenate(boxes)


def grid_anchors(cell, grid_size, strides, offset=0.0):
    """Repeat a cell's anchors over a feature map.

    Args:
        cell: (A, 4) xyxy, centred on the origin.
        grid_size: (H, W) of the feature map; integers or scalar tensors.
        strides: (sy, sx), pixels from one cell to the next; numbers or scalar tensors.
        offset: position of the centre within its cell, in cells: 0 is the corner, 0.5 the middle.

    Returns:
        (H * W * A, 4) xyxy float32, ordered by row, then column, then anchor.
    """
    points = grid_points(grid_size, strides, offset)  # (H, W, 2)
    centres = ops.concatenate([points, points], axis=-1)  # (H, W, 4)
    anchors = ops.expand_dims(centres, 2) + ops.cast(cell, "float32")  # (H, W, A, 4)
    return ops.reshape(anchors, (-1, 4))
