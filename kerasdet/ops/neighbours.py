"""The cells around a point of a feature map, and their weights, for bilinear interpolation."""

import keras
from keras import ops


def corners(extent, planes, points):
    """Return the cells around points, their weights, and the derivatives of the weights.

    Args:
        extent: height and width of the maps.
        planes: (N,) int32, the map of each point.
        points: (N, 2), y and x. float32: positions between cells; int32: cells.

    Returns:
        A tuple for each of the four cells around a point, or for the one cell: its row (N,) int32 in the
        table of all maps' cells, its weight (N,) float32, which is 0 beyond the border, and the weight's
        derivatives (N, 2) float32 with respect to y and x.
    """
    height, width = extent
    whole = not keras.backend.is_float_dtype(keras.backend.standardize_dtype(points.dtype))
    floors = points if whole else ops.stop_gradient(ops.floor(points))
    fraction_y, fraction_x = ops.unstack(ops.cast(points - floors, "float32"), 2, axis=-1)
    top, left = ops.unstack(ops.cast(floors, "int32"), 2, axis=-1)
    found = []
    for down in (0, 1)[: 1 if whole else 2]:
        for right in (0, 1)[: 1 if whole else 2]:
            row, column = top + down, left + right
            on_map = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            by_y = fraction_y if down else 1.0 - fraction_y
            by_x = fraction_x if right else 1.0 - fraction_x
            slopes = ops.stack([(2 * down - 1) * by_x, (2 * right - 1) * by_y], axis=-1)
            place = (planes * height + _clamp(row, height)) * width + _clamp(column, width)
            weight = ops.where(on_map, by_y * by_x, 0.0)
            found.append((place, weight, ops.where(on_map[:, None], slopes, 0.0)))
    return found


def clamped_neighbours(coordinates, extent, reach=1.0):
    """Return the cells before and after each coordinate; the border's value continues for `reach` cells.

    Args:
        coordinates: float32, in cells.
        extent: number of cells along the axis, broadcastable with `coordinates`.
        reach: cells beyond the border that read its value: 1 (RoIAlign) or 0 (crop-and-resize).

    Returns:
        The cells before and after, int32, and a pair of their weights, float32. The weights are 0 for
        coordinates more than `reach` cells beyond the border.
    """
    last = ops.cast(extent - 1, "float32")
    clamped = ops.minimum(ops.maximum(coordinates, 0.0), last)
    before = ops.floor(clamped)
    fraction = clamped - before
    inside = ops.cast((coordinates >= -reach) & (coordinates <= last + reach), "float32")
    before = ops.cast(before, "int32")
    after = ops.minimum(before + 1, extent - 1)
    return before, after, (inside * (1.0 - fraction), inside * fraction)


def _clamp(index, extent):
    return ops.minimum(ops.maximum(index, 0), extent - 1)
