"""Bilinear reading of feature maps at points between their cells.

Cell (i, j) of a map is the point y = i, x = j. There are two rules for the border. "clamp" (RoIAlign):
points up to one cell outside (crop-and-resize: none) read the border's value; points farther out read 0.
"fade" (deformable convolution): the map is surrounded by zeros, so values fade to 0 over one cell.
"""

import functools

from keras import ops

from kerasdet.ops import native
from kerasdet.ops.neighbours import clamped_neighbours, corners


def pool_lattice(maps, planes, starts, steps, output_size, sampling_ratio, reduction, reach=1.0):
    """Read a lattice of points in maps, clamped at the border, and reduce the points of each bin.

    Args:
        maps: (M, H, W, C), or a list of such maps of different sizes. `planes` counts through the maps of
            the first entry, then through those of the second, and so on.
        planes: (N,) int32, the map of each lattice.
        starts: (N, 2) float32, y and x of the lattice's first point, in cells.
        steps: (N, 2) float32, distance between points in cells.
        output_size: (h, w), bins.
        sampling_ratio: s, points per bin in each direction.
        reduction: "mean" or "max" of a bin's points.
        reach: cells beyond the border that read its value.

    Returns:
        (N, h, w, C) in the type of the maps.
    """
    levels = maps if isinstance(maps, list) else [maps]
    table, *places = table_of(levels)
    own = [ops.take(values, planes) for values in places]  # (N,) each
    if not native.available():
        lattice = starts, steps, output_size, sampling_ratio
        pooled = _pool_by_gathers(table, own, *lattice, reduction, reach)
        return ops.cast(pooled, levels[0].dtype)
    table = ops.cast(table, "float32")
    if reduction == "mean" or sampling_ratio == 1:
        pooled = native.pool_lattice(table, own, starts, steps, output_size, sampling_ratio, reach)
    else:
        points = tuple(sampling_ratio * size for size in output_size)
        pooled = native.pool_lattice(table, own, starts, steps, points, 1, reach)
        (height, width), ratio = output_size, sampling_ratio
        points = ops.reshape(pooled, (-1, height, ratio, width, ratio, table.shape[-1]))
        # Point by point: reducing an empty tensor, when there are no regions, is an error.
        each = [
            points[:, :, i, :, j] for i in range(ratio) for j in range(ratio)
        ]  # (N, h, w, C) each
        pooled = functools.reduce(ops.maximum, each)
    return ops.cast(pooled, levels[0].dtype)


def _pool_by_gathers(table, maps, starts, steps, output_size, sampling_ratio, reduction, reach):
    first_rows, *extents = maps
    reduced = None
    for sample_y in range(sampling_ratio):
        for sample_x in range(sampling_ratio):
            y, x = (
                starts[:, axis, None]
                + steps[:, axis, None]
                * (sampling_ratio * ops.arange(size, dtype="float32") + sample)
                for axis, (size, sample) in enumerate(zip(output_size, (sample_y, sample_x)))
            )
            values = _read_clamped(table, first_rows, extents, y, x, reach)  # (N, h, w, C)
            if reduced is None:
                reduced = values
            else:
                reduced = reduced + values if reduction == "mean" else ops.maximum(reduced, values)
    return reduced * (1.0 / sampling_ratio**2) if reduction == "mean" else reduced


def read_points(maps, planes, points):
    """Read maps at points; values fade to 0 beyond the border.

    Args:
        maps: (M, H, W, C).
        planes: (N,) int32, the map of each point.
        points: (N, 2) float32, y and x in cells, finite.

    Returns:
        (N, C) float32, with gradients to maps and points. On the edge of a cell, a point has the
        gradient of the cell below and to the right.
    """
    if native.available():
        return native.read_points(ops.cast(maps, "float32"), planes, points)
    cells = ops.reshape(maps, (-1, maps.shape[-1]))
    values = 0.0
    # Eq: deform §2.1 | x(p) = sum_q max(0, 1-|q_x-p_x|) max(0, 1-|q_y-p_y|) x(q)
    for rows, weight, _ in corners(ops.shape(maps)[1:3], planes, points):
        values = values + weight[:, None] * ops.cast(ops.take(cells, rows, 0), "float32")
    return values


def table_of(levels):
    """Join maps of different sizes.

    Args:
        levels: list of (M, H, W, C).

    Returns:
        All maps as one table of cells (P, C), and each map's first row, height and width: three (M,) int32.
    """
    tables, first_rows, heights, widths, total = [], [], [], [], 0
    for maps in levels:
        count, height, width, channels = ops.shape(maps)
        ones = ops.ones((count,), "int32")
        first_rows.append(total + ops.arange(count, dtype="int32") * (height * width))
        heights.append(ones * height)
        widths.append(ones * width)
        tables.append(ops.reshape(maps, (-1, channels)))
        total = total + count * height * width
    if len(levels) == 1:
        return tables[0], first_rows[0], heights[0], widths[0]
    return tuple(ops.concatenate(parts, 0) for parts in (tables, first_rows, heights, widths))


def _read_clamped(table, first_rows, size, y, x, reach):
    """Read at every pair of the coordinates y (N, h) and x (N, w): (N, h, w, C) float32."""
    (row0, row1, weight_y), (column0, column1, weight_x) = (
        clamped_neighbours(coordinates, extent[:, None], reach)
        for coordinates, extent in zip((y, x), size)
    )
    width = size[1][:, None, None]  # (N, 1, 1)
    values = 0.0
    # Eq: mask_rcnn §3 | bilinear interpolation of the four nearest cells
    for row, by_y in ((row0, weight_y[0]), (row1, weight_y[1])):
        for column, by_x in ((column0, weight_x[0]), (column1, weight_x[1])):
            place = first_rows[:, None, None] + row[:, :, None] * width + column[:, None, :]
            weight = by_y[:, :, None] * by_x[:, None, :]  # (N, h, w)
            values = values + weight[..., None] * ops.cast(ops.take(table, place, 0), "float32")
    return values
