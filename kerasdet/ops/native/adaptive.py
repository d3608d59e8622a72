"""RoIAlign with as many points in a bin as it has cells, by the product of a sparse matrix.

Along an axis, the points of a bin read a run of cells. A bin's row of the matrix has the products of its two
runs, so that it is as long as the bin is large.
"""

from typing import NamedTuple

from kerasdet.ops.native.regions import product_of_cells
from kerasdet.ops.neighbours import clamped_neighbours


class Runs(NamedTuple):
    """The cells that the bins of all regions read along one axis.

    Fields:
        first: (N, bins) int32, the first cell.
        length: (N, bins) int32, the number of cells, at least 1.
        weights: (N, bins, M) float32, of each cell in the bin's mean; 0 after the last.
    """

    first: object
    length: object
    weights: object


def pool_adaptive(table, maps, starts, steps, counts, output_size):
    """Return the mean of each bin's points.

    Args:
        table: (P, C) float32, the cells of all maps.
        maps: first row of the table, height and width of each region's map, three (N,) int32.
        starts: (N, 2) float32, y and x of the region's first point, in cells.
        steps: (N, 2) float32, distance between the points.
        counts: (N, 2) int32, points of a bin along y and x.
        output_size: (h, w).

    Returns:
        (N, h, w, C) float32.
    """
    import tensorflow as tf

    first_rows, *extents = maps
    axes = [
        _runs(starts[:, i], steps[:, i], counts[:, i], extents[i], bins)
        for i, bins in enumerate(output_size)
    ]
    cells = _cells_of_bins(first_rows, extents[1], *axes)
    shape = (starts.shape[0], *output_size, table.shape[-1])
    pooled = product_of_cells(table, *cells, tf.size(first_rows) * output_size[0] * output_size[1])
    return tf.ensure_shape(tf.reshape(pooled, (tf.size(first_rows), *shape[1:])), shape)


def _runs(starts, steps, counts, extent, bins):
    """Return the `Runs` along one axis; arguments are (N,), and `bins` their number."""
    import tensorflow as tf

    regions, counts = tf.size(starts), counts[:, None, None]
    most = tf.maximum(tf.reduce_max(counts), 1)
    point = tf.range(most)
    index = tf.range(bins)[:, None] * counts + point  # (N, bins, S)
    coordinates = starts[:, None, None] + steps[:, None, None] * tf.cast(index, "float32")
    before, after, by_cell = clamped_neighbours(coordinates, extent[:, None, None])
    counted = point < counts  # (N, 1, S)
    share = tf.where(counted, 1.0 / tf.cast(tf.maximum(counts, 1), "float32"), 0.0)
    first = before[..., :1]  # (N, bins, 1)
    length = 1 + tf.reduce_max(tf.where(counted, after - first, 0), axis=-1)  # (N, bins)
    longest = tf.maximum(tf.reduce_max(length), 1)
    run = tf.reshape(tf.range(regions * bins), (regions, bins, 1)) * longest
    places = [run + tf.where(counted, cells - first, 0) for cells in (before, after)]
    weights = [share * weight for weight in by_cell]
    flat = (tf.reshape(tf.stack(values), [-1]) for values in (weights, places))
    total = tf.math.unsorted_segment_sum(*flat, regions * bins * longest)
    return Runs(first[..., 0], length, tf.reshape(total, (regions, bins, longest)))


def _cells_of_bins(first_rows, widths, y, x):
    """Return, for each cell of each bin, the bin, the cell's row in the table, and its weight: three (T,)."""
    import tensorflow as tf

    (regions, height), width = tf.unstack(tf.shape(y.first)), tf.shape(x.first)[1]
    region = tf.range(regions)[:, None, None]
    columns = [
        first_rows[:, None, None] + y.first[:, :, None] * widths[:, None, None] + x.first[:, None],
        widths[:, None, None],
        x.length[:, None],
        # Where the weights of the bin's rows and columns begin.
        (region * height + tf.range(height)[:, None]) * tf.shape(y.weights)[2],
        (region * width + tf.range(width)) * tf.shape(x.weights)[2],
    ]
    shape = (regions, height, width)
    facts = tf.stack([tf.reshape(tf.broadcast_to(c, shape), [-1]) for c in columns], axis=1)
    sizes = tf.reshape(y.length[:, :, None] * x.length[:, None], [-1])  # (N h w,)
    own = tf.repeat(tf.range(tf.size(sizes)), sizes)  # (T,)
    facts = tf.concat([facts, tf.cumsum(sizes, exclusive=True)[:, None]], axis=1)
    row, across, length, by_y, by_x, begin = tf.unstack(tf.gather(facts, own), axis=1)
    place = tf.range(tf.size(own)) - begin
    down, right = place // length, place % length
    weights = [
        tf.gather(tf.reshape(axis.weights, [-1]), index)
        for axis, index in ((y, by_y + down), (x, by_x + right))
    ]
    return own, row + down * across + right, weights[0] * weights[1]
