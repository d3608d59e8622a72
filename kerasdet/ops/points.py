"""Points, the places of dense detectors without anchors: grid, distances to a box, objects to learn.

A point is a row x, y, stride: its place, and the distance from one cell of its level to the next, in pixels.
"""

import functools

from keras import ops

from kerasdet.ops.boxes import box_area, valid_mask
from kerasdet.ops.matching import BACKGROUND, BETWEEN

SMALLEST = 1e-6  # pixels: a distance that is divided by is at least as long


def grid_points(grid_size, strides, offset=0.5):
    """Return the points of a feature map.

    Args:
        grid_size: (H, W) of the feature map; integers or scalar tensors.
        strides: (sy, sx), pixels from one cell to the next; numbers or scalar tensors.
        offset: position of the point within its cell, in cells: 0 is the corner, 0.5 the middle.

    Returns:
        (H, W, 2) float32: x, y.
    """
    ys, xs = (
        (ops.cast(ops.arange(count), "float32") + offset) * ops.cast(stride, "float32")
        for count, stride in zip(grid_size, strides)
    )
    ys, xs = ops.meshgrid(ys, xs, indexing="ij")  # (H, W) each
    return ops.stack([xs, ys], axis=-1)


def side_distances(boxes, points):
    """Measure the distances from points to the sides of boxes (FCOS, arXiv 1904.01355, equation 1).

    Args:
        boxes: (..., 4) xyxy.
        points: (..., 3), broadcastable with `boxes`.

    Returns:
        Left, top, right and bottom, each (...) float32 pixels; negative beyond that side.
    """
    x1, y1, x2, y2 = ops.unstack(ops.cast(boxes, "float32"), 4, axis=-1)
    x, y = points[..., 0], points[..., 1]
    # Eq: fcos 1 | l* = x - x_0, t* = y - y_0, r* = x_1 - x, b* = y_1 - y
    return x - x1, y - y1, x2 - x, y2 - y


def encode_distances(boxes, points):
    """Return `side_distances` as one tensor (..., 4): left, top, right, bottom."""
    return ops.stack(side_distances(boxes, points), axis=-1)


def decode_distances(distances, points):
    """Return the boxes with these distances from points to their sides, as the inverse of `encode_distances`.

    Args:
        distances: (..., 4) pixels: left, top, right, bottom.
        points: (..., 3), broadcastable with `distances`.

    Returns:
        (..., 4) xyxy float32.
    """
    left, top, right, bottom = ops.unstack(ops.cast(distances, "float32"), 4, axis=-1)
    x, y = points[..., 0], points[..., 1]
    return ops.stack([x - left, y - top, x + right, y + bottom], axis=-1)


def centerness(distances):
    """Return how near points are to the centres of their boxes (FCOS, arXiv 1904.01355, equation 3).

    Args:
        distances: (..., 4) pixels: left, top, right, bottom.

    Returns:
        (...) float32: 1 in the centre, 0 on the sides and outside.
    """
    left, top, right, bottom = ops.unstack(ops.cast(distances, "float32"), 4, axis=-1)
    # Eq: fcos 3 | centerness* = sqrt(min(l*, r*) / max(l*, r*) x min(t*, b*) / max(t*, b*))
    return ops.sqrt(_balance(left, right) * _balance(top, bottom))


def _balance(one, other):
    """Share of the longer of two distances that the shorter has."""
    shorter, longer = ops.minimum(one, other), ops.maximum(one, other)
    return ops.maximum(shorter, 0.0) / ops.maximum(longer, SMALLEST)


def assign_points(targets, points, ranges, radius=None):
    """Return the object that each point learns (FCOS, arXiv 1904.01355, sections 3.1 and 3.2).

    A point learns an object that it lies in, if the largest of its four distances is in the range of its
    level. Of several objects it learns the smallest. No point learns an object that is ignored (a crowd, a
    difficult object); a background point inside such an object takes no part in the loss.

    Args:
        targets: prepared targets: "boxes" (B, G, 4), "labels" (B, G) with -1 for padding, "ignore" (B, G).
        points: for each level (A_l, 3): x, y, stride.
        ranges: limits between the levels' largest distances in pixels, one fewer than levels, ascending. A
            distance that equals a limit belongs to both levels.
        radius: centre sampling: a point learns an object only if it is nearer to the object's centre
            than so many strides, along x and along y; None: every point inside does.

    Returns:
        (B, A) int32: the object's row, `BACKGROUND` (-1) or `BETWEEN` (-2).
    """
    low, high = (
        ops.concatenate([ops.full_like(level[:, 0], limit) for level, limit in zip(points, limits)])
        for limits in ((0.0, *ranges), (*ranges, float("inf")))
    )
    points = ops.concatenate(points, axis=0)  # (A, 3)
    boxes = targets["boxes"][:, :, None]  # (B, G, 1, 4)
    distances = side_distances(boxes, points)  # four (B, G, A)
    inside = functools.reduce(ops.minimum, distances) > 0.0  # (B, G, A)
    largest = functools.reduce(ops.maximum, distances)
    # Eq: fcos §3.2 | negative if max(l*, t*, r*, b*) > m_i or max(l*, t*, r*, b*) < m_{i-1}
    learnt = inside & (largest >= low) & (largest <= high)
    if radius is not None:
        learnt = learnt & (_from_centre(*distances) < radius * points[:, 2])
    learnt = learnt & (valid_mask(targets["labels"]) & ~targets["ignore"])[..., None]
    # Eq: fcos §3.1 | an ambiguous location has the object of minimal area
    areas = ops.where(learnt, box_area(boxes), float("inf"))
    smallest = ops.cast(ops.argmin(areas, axis=1), "int32")  # (B, A)
    ignored = ops.any(inside & targets["ignore"][..., None], axis=1)
    unmatched = ops.where(ignored, BETWEEN, BACKGROUND)
    return ops.where(ops.any(learnt, axis=1), smallest, unmatched)


def _from_centre(left, top, right, bottom):
    """Larger of the distances to the centre along x and y."""
    return ops.maximum(ops.abs(left - right), ops.abs(top - bottom)) / 2.0
