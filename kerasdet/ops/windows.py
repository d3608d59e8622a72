"""Maxima and sums over windows of whole cells: what quantised region pooling is made of.

A window is an interval of rows and of columns on one map. `bins` divides a region as SPP-net does.
"""

import keras
from keras import ops

from kerasdet.ops import native
from kerasdet.ops.bilinear import read_points


def bins(starts, sizes, count, limit):
    """Divide intervals along one axis into bins that may share a cell, and clip them to the map.

    Integer arithmetic, as the papers write it. (In float32, 7 * (57 / 7) is a little over 57: the
    published C++ code reads one cell more there.)

    Args:
        starts: (N,) int32, first cell.
        sizes: (N,) int32, a: number of cells.
        count: n, number of bins.
        limit: extent of the map; None: do not clip.

    Returns:
        First cell and number of cells of each bin, two (N, n) int32.
    """
    index = ops.arange(count, dtype="int32")
    # Eq: spp §2.2 | bin i of n spans [floor(i a / n), ceil((i + 1) a / n))
    first = starts[:, None] + (index * sizes[:, None]) // count
    end = starts[:, None] + ((index + 1) * sizes[:, None] + count - 1) // count
    if limit is not None:
        first, end = (ops.minimum(ops.maximum(edge, 0), limit) for edge in (first, end))
    return first, end - first


def window_grid(y_bins, x_bins):
    """Combine the bins of both axes.

    Args:
        y_bins: two (N, h) int32: first row and number of rows.
        x_bins: two (N, w) int32: first column and number of columns.

    Returns:
        Windows as (N, h, w, 2) int32 starts and (N, h, w, 2) int32 sizes; empty ones have size 0, 0.
    """
    starts, sizes = (
        ops.stack([y[:, :, None] + 0 * x[:, None, :], 0 * y[:, :, None] + x[:, None, :]], -1)
        for y, x in zip(y_bins, x_bins)
    )
    return starts, sizes * ops.cast(ops.min(sizes, axis=-1, keepdims=True) > 0, "int32")


def window_max(maps, planes, starts, sizes):
    """Maximum of each window.

    Args:
        maps: (M, H, W, C).
        planes: (T,) int32, the map that each window lies in.
        starts: (T, 2) int32, y and x of the first cell; windows lie within the map.
        sizes: (T, 2) int32, rows and columns; 0, 0: an empty window.

    Returns:
        (T, C) in the type of the maps, 0 for an empty window. The gradient goes to the first
        maximum, row by row: the switch (Fast R-CNN, arXiv 1504.08083, equation 4).
    """
    if native.available():
        values = native.window_max(ops.cast(maps, "float32"), planes, starts, sizes)
        return ops.cast(values, maps.dtype)
    channels = maps.shape[-1]
    cells = ops.reshape(maps, (-1, channels))
    rows = _switches(ops.stop_gradient(cells), ops.shape(maps)[1:3], planes, starts, sizes)
    # Eq: fast_rcnn 4 | y_rj = x_i*(r,j), i*(r,j) = argmax of the sub-window: dL/dx_i sums dL/dy_rj
    places = rows * channels + ops.arange(channels, dtype="int32")
    values = ops.take(ops.reshape(cells, (-1,)), places)
    return ops.where(ops.min(sizes, axis=-1, keepdims=True) > 0, values, 0)


def window_sum(maps, planes, starts, sizes):
    """Sum of each window; between cells, of the values read bilinearly, fading beyond the border.

    Args:
        maps: (M, H, W, C).
        planes: (T,) int32, the map that each window lies in.
        starts: (T, 2), y and x of the first point. int32: windows lie within the map. float32: they
            may lie anywhere, and have a gradient.
        sizes: (T, 2) int32, rows and columns of points at distance 1; 0, 0: an empty window.

    Returns:
        (T, C) float32.

    Raises:
        ValueError: the maps' height or width is unknown, in the form that is exported or compiled.
    """
    maps = ops.cast(maps, "float32")
    between_cells = "float" in keras.backend.standardize_dtype(starts.dtype)
    if between_cells:
        starts, sizes = _clip_points(starts, sizes, ops.shape(maps)[1:3])
    if native.available():
        return native.window_sum(maps, planes, starts, sizes)
    read = read_points if between_cells else _read_cells
    return _sum_by_doubling(read, maps, planes, starts, sizes)


def _switches(cells, extent, planes, starts, sizes):
    """Row of `cells` (P, C) that holds the first maximum of each window, per channel: (T, C)."""
    height, width = extent
    steps = ops.max(ops.concatenate([sizes, ops.ones((1, 2), "int32")], 0), axis=0)
    # Past its end, a smaller window reads its last row or column again: no greater maximum.
    last = ops.maximum(sizes - 1, 0)
    first_rows = planes * (height * width)

    def read(step):
        down = ops.minimum(step // steps[1], last[:, 0])
        right = ops.minimum(step - (step // steps[1]) * steps[1], last[:, 1])
        y, x = starts[:, 0] + down, starts[:, 1] + right
        # An empty window may begin behind the map.
        rows = first_rows + ops.minimum(y, height - 1) * width + ops.minimum(x, width - 1)
        return ops.take(cells, rows, 0), rows[:, None]

    def compare(step, highest, switches):
        values, rows = read(step)
        higher = values > highest
        return step + 1, ops.where(higher, values, highest), ops.where(higher, rows, switches)

    values, rows = read(ops.zeros((), "int32"))
    start = (ops.ones((), "int32"), values, rows + ops.zeros_like(values, dtype="int32"))
    return ops.while_loop(lambda step, *_: step < steps[0] * steps[1], compare, start)[2]


def _clip_points(starts, sizes, extent):
    """Leave out the points of each window that lie a cell or more beyond the map: they read 0."""
    fixed = ops.stop_gradient(starts)
    skipped = ops.maximum(ops.floor(-1.0 - fixed) + 1.0, 0.0)
    limits = ops.stack([ops.cast(size, "float32") for size in extent])
    sizes = ops.cast(sizes, "float32")
    inside = ops.minimum(sizes, ops.ceil(limits - fixed)) - skipped
    inside = ops.where(ops.min(inside, axis=-1, keepdims=True) > 0, inside, 0.0)
    return starts + skipped, ops.cast(inside, "int32")


def _sum_by_doubling(read, maps, planes, starts, sizes):
    """Sum each window from windows of 1, 2, 4, ... rows and columns, each summed for all places.

    A size is a sum of powers of two. Unlike differences of an integral image this loses no digits;
    unlike a loop over a window's points it needs no memory to be differentiated.
    """
    if None in maps.shape[1:3]:
        raise ValueError(
            f"features have the shape {tuple(maps.shape)}: average pooling of regions that is "
            "compiled or exported needs a known height and width."
        )
    # One more row and column, where a window that begins before the map reads into it.
    maps = ops.pad(maps, [(0, 0), (1, 0), (1, 0), (0, 0)])
    starts = starts + 1
    total = 0.0
    height, width = maps.shape[1:3]
    for rows in _powers(height):
        columns_maps = maps
        for columns in _powers(width):
            size = ops.array([rows, columns], "int32")
            rest = sizes // size
            taken = ops.all(rest - 2 * (rest // 2) == 1, axis=-1)
            # The larger powers of a size come first.
            offset = (rest // 2) * (2 * size)
            values = read(columns_maps, planes, starts + ops.cast(offset, starts.dtype))
            total = total + ops.where(taken[:, None], values, 0.0)
            columns_maps = columns_maps + _shifted(columns_maps, 2, columns)
        maps = maps + _shifted(maps, 1, rows)
    return total


def _powers(extent):
    """Powers of two up to the extent."""
    return [2**i for i in range(extent.bit_length())]


def _shifted(maps, axis, count):
    """Maps moved up or left by `count` cells, with zeros behind."""
    extent = maps.shape[axis]
    kept = maps[:, count:] if axis == 1 else maps[:, :, count:]
    padding = [(0, 0)] * 4
    padding[axis] = (0, min(count, extent))
    return ops.pad(kept, padding)


def _read_cells(maps, planes, cells):
    """Values at whole cells (T, 2) int32, zero behind the map: (T, C)."""
    height, width = maps.shape[1:3]
    row, column = cells[:, 0], cells[:, 1]
    rows = planes * (height * width) + ops.minimum(row, height - 1) * width
    values = ops.take(
        ops.reshape(maps, (-1, maps.shape[-1])), rows + ops.minimum(column, width - 1), 0
    )
    return ops.where(((row < height) & (column < width))[:, None], values, 0.0)
