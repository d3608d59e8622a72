"""RoIAlign with as many points in a bin as it has cells, so that large regions lose nothing.

Each region has its own number of points, so they are walked, not stacked. The two rules for the border are
in `bilinear.py`; this is "clamp".
"""

from keras import ops

from kerasdet.ops import native
from kerasdet.ops.bilinear import table_of
from kerasdet.ops.neighbours import clamped_neighbours
from kerasdet.ops.windows import walk


def pool_adaptive(maps, planes, corners, sides, output_size):
    """Return the mean of each bin's points, which are at most a cell apart.

    Args:
        maps: (M, H, W, C), or a list of such maps; see `bilinear.pool_lattice`.
        planes: (N,) int32, the map of each region.
        corners: (N, 2) float32, y and x of the regions' first corners, in cells.
        sides: (N, 2) float32, their height and width in cells. A side that is not positive has no points.
        output_size: (h, w), bins.

    Returns:
        (N, h, w, C) in the type of the maps, 0 for a region without points.
    """
    levels = maps if isinstance(maps, list) else [maps]
    table, *places = table_of(levels)
    own = [ops.take(values, planes) for values in places]  # (N,) each
    counts, steps = points_of_bins(sides, ops.stack(own[1:], axis=1), output_size)  # (N, 2)
    starts = corners + 0.5 * steps
    if native.available():
        table = ops.cast(table, "float32")
        pooled = native.pool_adaptive(table, own, starts, steps, counts, output_size)
    else:
        pooled = _pool_by_gathers(table, own, starts, steps, counts, output_size)
    return ops.cast(pooled, levels[0].dtype)


def points_of_bins(sides, extents, output_size):
    """Divide each side of a bin into parts of at most one cell.

    Args:
        sides: (N, 2) float32, height and width of regions in cells.
        extents: (N, 2) int32, height and width of their maps. A bin needs no more points than these, even
            one that is larger than its map.
        output_size: (h, w), bins.

    Returns:
        Points of a bin along y and x, (N, 2) int32; their distance in cells, (N, 2) float32.
    """
    bins = sides / ops.array(output_size, "float32")
    extents = ops.cast(extents, "float32")
    counts = ops.minimum(ops.maximum(ops.ceil(bins), 0.0), extents)
    return ops.cast(counts, "int32"), bins / ops.maximum(counts, 1.0)


def _pool_by_gathers(table, maps, starts, steps, counts, output_size):
    """Read one point of every bin at a time; the gradient visits the points a second time."""
    first_rows, *extents = maps
    channels, dtype = table.shape[-1], table.dtype
    shares = ops.cast(ops.maximum(counts[:, 0] * counts[:, 1], 1), "float32")  # (N,)

    def cells(offset, inside):
        """Return the four cells around that point of every bin, and their weights in its mean: (N, h, w)."""
        found = []
        for axis, bins in enumerate(output_size):
            index = ops.cast(
                offset[axis] + counts[:, axis, None] * ops.arange(bins, dtype="int32"), "float32"
            )
            coordinates = starts[:, axis, None] + steps[:, axis, None] * index  # (N, bins)
            before, after, (first, second) = clamped_neighbours(coordinates, extents[axis][:, None])
            found.append(((before, first), (after, second)))
        share = ops.where(inside, 1.0 / shares, 0.0)[:, None, None]
        for row, by_y in found[0]:
            for column, by_x in found[1]:
                first = first_rows[:, None] + row * extents[1][:, None]  # (N, h)
                place = first[:, :, None] + column[:, None, :]
                yield place, share * by_y[:, :, None] * by_x[:, None, :]

    @ops.custom_gradient
    def pool(table):
        def read(offset, inside, values):
            for place, weight in cells(offset, inside):
                near = ops.cast(ops.take(table, place, axis=0), "float32")
                values = values + weight[..., None] * near
            return (values,)

        def gradient(*args, upstream=None):
            upstream = ops.cast(args[0] if upstream is None else upstream, "float32")

            def spread(offset, inside, total):
                for place, weight in cells(offset, inside):
                    rows = ops.reshape(place, (-1,))
                    values = ops.reshape(weight[..., None] * upstream, (-1, channels))
                    total = total + ops.segment_sum(values, rows, num_segments=size)
                return (total,)

            size, blank = ops.shape(table)[0], ops.zeros_like(table, dtype="float32")
            return ops.cast(walk(counts, spread, (blank,))[0], dtype)

        blank = ops.zeros((ops.shape(starts)[0], *output_size, channels), "float32")
        return walk(counts, read, (blank,))[0], gradient

    return pool(table)
