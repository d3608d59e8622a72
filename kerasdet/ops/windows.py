"""Maxima and sums over windows of whole cells, from which quantised region pooling is built.

A window is an interval of rows and of columns of one map. `bins` divides a region as in SPP-net.
"""

import keras
import numpy as np
from keras import ops

from kerasdet.ops import native
from kerasdet.ops.neighbours import corners

MOST_CELLS = 1024  # of a region's side that the table of `bins` has


def bins(starts, sizes, count, limit, in_float32=False):
    """Divide intervals of one axis into bins, which may share a cell, and clip them to the map.

    The arithmetic is in integers, as in the papers.

    Args:
        starts: (N,) int32, first cell.
        sizes: (N,) int32, a: number of cells.
        count: n, number of bins.
        limit: extent of the map; None: no clipping.
        in_float32: divide as the published C++ code does. There 7 * (57 / 7) is slightly more than 57, so
            that the last bin reads one cell more. Regions of more than `MOST_CELLS` are divided in integers.

    Returns:
        First cell and number of cells of each bin: two (N, n) int32.
    """
    index = ops.arange(count, dtype="int32")
    # Eq: spp §2.2 | bin i of n spans [floor(i a / n), ceil((i + 1) a / n))
    first = starts[:, None] + (index * sizes[:, None]) // count
    end = starts[:, None] + ((index + 1) * sizes[:, None] + count - 1) // count
    if in_float32:
        divided = _divided_in_float32(count)  # (MOST_CELLS + 1, n, 2)
        divided = ops.take(divided, ops.minimum(sizes, MOST_CELLS), axis=0)  # (N, n, 2)
        few = sizes[:, None] <= MOST_CELLS
        first = ops.where(few, starts[:, None] + divided[..., 0], first)
        end = ops.where(few, starts[:, None] + divided[..., 1], end)
    if limit is not None:
        first, end = (ops.minimum(ops.maximum(edge, 0), limit) for edge in (first, end))
    return first, end - first


def _divided_in_float32(count):
    """Return where each of n bins begins and ends in regions of 0 to MOST_CELLS cells: (M + 1, n, 2) int32.

    NumPy computes them, because graphs may multiply by 1 / n where the code divides by n.
    """
    sizes, index = np.arange(MOST_CELLS + 1, dtype="float32"), np.arange(count, dtype="float32")
    side = (sizes / np.float32(count))[:, None]
    ends = np.floor(index * side), np.ceil((index + np.float32(1)) * side)
    return np.stack(ends, axis=-1).astype("int32")


def window_grid(y_bins, x_bins):
    """Combine the bins of both axes.

    Args:
        y_bins: two (N, h) int32: first row and number of rows.
        x_bins: two (N, w) int32: first column and number of columns.

    Returns:
        Windows as (N, h, w, 2) int32 starts and (N, h, w, 2) int32 sizes; empty windows have size 0, 0.
    """
    starts, sizes = (
        ops.stack([y[:, :, None] + 0 * x[:, None, :], 0 * y[:, :, None] + x[:, None, :]], -1)
        for y, x in zip(y_bins, x_bins)
    )
    return starts, sizes * ops.cast(ops.all(sizes > 0, axis=-1, keepdims=True), "int32")


def window_max(maps, planes, starts, sizes):
    """Return the maximum of each window.

    Args:
        maps: (M, H, W, C).
        planes: (T,) int32, the map of each window.
        starts: (T, 2) int32, y and x of the first cell; windows must be inside the map.
        sizes: (T, 2) int32, rows and columns; an empty window has size 0, 0.

    Returns:
        (T, C) in the type of the maps, 0 for an empty window. The gradient goes to the first
        maximum, row by row: the switch (Fast R-CNN, arXiv 1504.08083, section 2.3).
    """
    if native.available():
        values = native.window_max(ops.cast(maps, "float32"), planes, starts, sizes)
        return ops.cast(values, maps.dtype)
    channels = maps.shape[-1]
    cells = ops.reshape(maps, (-1, channels))
    rows = _switches(ops.stop_gradient(cells), ops.shape(maps)[1:3], planes, starts, sizes)
    # Eq: fast_rcnn §2.3 | y_rj = x_i*(r,j), i*(r,j) = argmax of the sub-window: dL/dx_i sums dL/dy_rj
    places = rows * channels + ops.arange(channels, dtype="int32")  # (T, C)
    values = ops.take(ops.reshape(cells, (-1,)), places)  # (T, C)
    return ops.where(ops.all(sizes > 0, axis=-1, keepdims=True), values, 0)


def window_sum(maps, planes, starts, sizes):
    """Return the sum of each window, of values read bilinearly that fade beyond the border.

    Args:
        maps: (M, H, W, C).
        planes: (T,) int32, the map of each window.
        starts: (T, 2), y and x of the first point. int32: windows must be inside the map. float32:
            windows may be anywhere, and have a gradient.
        sizes: (T, 2) int32, rows and columns of points at distance 1; an empty window has size 0, 0.

    Returns:
        (T, C) float32.
    """
    maps = ops.cast(maps, "float32")
    extent = ops.shape(maps)[1:3]
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(starts.dtype)):
        starts, sizes = _clip_points(starts, sizes, extent)
    if native.available():
        return native.window_sum(maps, planes, starts, sizes)
    cells = ops.reshape(maps, (-1, maps.shape[-1]))
    return _sum(cells, extent, planes, starts, sizes)


def _switches(cells, extent, planes, starts, sizes):
    """Return the row of `cells` (P, C) with the first maximum of each window, per channel: (T, C)."""

    def compare(offset, inside, highest, switches):
        ((rows, _, _),) = corners(extent, planes, starts + offset)
        values = ops.take(cells, rows, 0)
        higher = ops.logical_and(inside[:, None], values > highest)
        return ops.where(higher, values, highest), ops.where(higher, rows[:, None], switches)

    ((rows, _, _),) = corners(extent, planes, starts)
    values = ops.take(cells, rows, 0)
    rows = rows[:, None] + ops.zeros_like(values, dtype="int32")
    return walk(sizes, compare, (ops.full_like(values, -float("inf")), rows))[1]


def _sum(cells, extent, planes, starts, sizes):
    """Sum the points of each window; the gradient visits them a second time."""
    dtype = starts.dtype

    @ops.custom_gradient
    def total(cells, origins):  # float32, like gradients
        starts = ops.cast(origins, dtype)

        def add(offset, inside, sums):
            for rows, weight, _ in corners(extent, planes, starts + ops.cast(offset, dtype)):
                weight = ops.where(inside, weight, 0.0)
                sums = sums + weight[:, None] * ops.take(cells, rows, 0)
            return (sums,)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream

            def collect(offset, inside, by_cells, by_starts):
                for rows, weight, slope in corners(
                    extent, planes, starts + ops.cast(offset, dtype)
                ):
                    own = ops.where(inside[:, None], upstream, 0.0)
                    by_cells = by_cells + ops.segment_sum(
                        weight[:, None] * own, rows, num_segments=cells.shape[0]
                    )
                    read = ops.sum(own * ops.take(cells, rows, 0), axis=-1, keepdims=True)
                    by_starts = by_starts + slope * read
                return by_cells, by_starts

            return walk(sizes, collect, (ops.zeros_like(cells), ops.zeros_like(origins)))

        blank = ops.zeros_like(ops.take(cells, ops.zeros_like(planes), 0))
        return walk(sizes, add, (blank,))[0], gradient

    return total(cells, ops.cast(starts, "float32"))


def walk(sizes, visit, state):
    """Visit the points of all windows, one point of each window at a time, row by row.

    Args:
        sizes: (T, 2) int32, rows and columns of points.
        visit: function of an offset (2,) int32, whether each window has that point (T,), and the state; it
            returns the next state.
        state: tuple of tensors.

    Returns:
        The last state.
    """
    rows, columns = ops.unstack(
        ops.max(ops.concatenate([sizes, ops.ones((1, 2), "int32")], 0), 0), 2
    )

    def step(index, *state):
        offset = ops.stack([index // columns, index - (index // columns) * columns])
        return index + 1, *visit(offset, ops.all(offset < sizes, axis=-1), *state)

    start = (ops.zeros((), "int32"), *state)
    return ops.while_loop(lambda index, *_: index < rows * columns, step, start)[1:]


def _clip_points(starts, sizes, extent):
    """Drop the points of each window that are at least a cell beyond the map, because they read 0."""
    fixed = ops.stop_gradient(starts)
    skipped = ops.maximum(ops.floor(-1.0 - fixed) + 1.0, 0.0)
    limits = ops.stack([ops.cast(size, "float32") for size in extent])
    sizes = ops.cast(sizes, "float32")
    inside = ops.minimum(sizes, ops.ceil(limits - fixed)) - skipped
    inside = ops.where(ops.all(inside > 0, axis=-1, keepdims=True), inside, 0.0)
    return starts + skipped, ops.cast(inside, "int32")
