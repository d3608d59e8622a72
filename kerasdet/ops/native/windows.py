"""Maxima and sums over windows of cells, by listing the cells of all windows one after another."""

from kerasdet.ops.native.regions import read_points

# Cells are processed in groups of this size, so that their values stay in the processor's cache.
TOGETHER = 2**22  # bytes


def window_max(maps, planes, starts, sizes):
    """Return the maximum of each window.

    Args:
        maps: (M, H, W, C) float32.
        planes: (T,) int32, the map of each window.
        starts: (T, 2) int32, y and x of the first cell; windows must be inside the map.
        sizes: (T, 2) int32, rows and columns; an empty window has size 0.

    Returns:
        (T, C) float32, 0 for an empty window. The gradient goes to the first maximum, row by row.
    """
    import tensorflow as tf

    channels = maps.shape[-1]
    cells = tf.reshape(maps, (-1, channels))  # (P, C)

    def highest(values, rows, windows, count):
        return tf.math.unsorted_segment_max(values, windows, count)

    def switch(values, rows, windows, count):
        is_highest = values == tf.gather(highest(values, rows, windows, count), windows)
        rows = tf.where(is_highest, rows[:, None], tf.int32.max)
        return tf.math.unsorted_segment_min(rows, windows, count)

    listing = (_first_rows(maps, planes, starts), sizes, tf.shape(maps)[2])
    occupied = tf.reduce_min(sizes, axis=-1, keepdims=True) > 0  # (T, 1)

    @tf.custom_gradient
    def maximum(cells):
        values = _in_parts(highest, tf.float32, cells, *listing)  # (T, C)

        def gradient(upstream):
            switches = _in_parts(switch, tf.int32, cells, *listing)  # (T, C)
            # An empty window, or a window of NaN, has no maximum: its upstream gradient goes nowhere.
            found = tf.logical_and(occupied, switches < tf.int32.max)
            places = tf.where(found, switches * channels + tf.range(channels), 0)  # (T, C)
            upstream = tf.where(found, upstream, 0.0)
            total = tf.math.unsorted_segment_sum(upstream, places, tf.size(cells))
            return tf.reshape(total, tf.shape(cells))

        return tf.where(occupied, values, 0.0), gradient

    return maximum(cells)


def window_sum(maps, planes, starts, sizes):
    """Return the sum of each window.

    Args:
        maps: (M, H, W, C) float32.
        planes: (T,) int32, the map of each window.
        starts: (T, 2). int32: y and x of the first cell, for windows inside the map. float32: y and x of
            the first point; points are read bilinearly, and values fade beyond the map.
        sizes: (T, 2) int32, rows and columns; an empty window has size 0.

    Returns:
        (T, C) float32, 0 for an empty window.
    """
    import tensorflow as tf

    windows, place, columns = _list_places(sizes)
    if starts.dtype.is_integer:
        rows = _rows(_first_rows(maps, planes, starts), windows, place, columns, tf.shape(maps)[2])
        cells = tf.reshape(maps, (-1, maps.shape[-1]))
        return _sum_sorted(tf.gather(cells, rows), windows, tf.size(planes))
    down = tf.truncatediv(place, columns)
    offsets = tf.cast(tf.stack([down, place - down * columns], axis=-1), "float32")
    points = tf.gather(starts, windows) + offsets
    values = read_points(maps, tf.gather(planes, windows), points)
    return _sum_sorted(values, windows, tf.size(planes))


def _sum_sorted(values, windows, count):
    """Sum the rows of each window, which are listed one after another: (P, C) -> (count, C)."""
    import tensorflow as tf

    @tf.custom_gradient
    def total(values):
        sums = tf.math.segment_sum(values, windows)  # up to the last window that is not empty
        sums = tf.pad(sums, [[0, count - tf.shape(sums)[0]], [0, 0]])
        return sums, lambda upstream: tf.gather(upstream, windows)

    return total(values)


def _list_places(sizes):
    """List the cells of all windows (P,): their window, their index in it, and the window's columns."""
    import tensorflow as tf

    ends = tf.cumsum(sizes[:, 0] * sizes[:, 1])
    before = tf.concat([[0], ends[:-1]], axis=0)[: tf.size(ends)]
    total = tf.reduce_max(tf.concat([[0], ends], axis=0))
    # tf.repeat would build a mask of size (all windows) x (largest window).
    next_window = tf.scatter_nd(ends[:, None], tf.ones_like(ends), total[None] + 1)
    windows = tf.cumsum(next_window)[:-1]
    place = tf.range(total) - tf.gather(before, windows)
    return windows, place, tf.gather(sizes[:, 1], windows)


def _rows(first_rows, windows, place, columns, width):
    """Return the flat index of each listed cell; a step down skips the rest of the map's row."""
    import tensorflow as tf

    skipped = tf.truncatediv(place, columns) * (width - columns)
    return tf.gather(first_rows, windows) + place + skipped


def _first_rows(maps, planes, starts):
    import tensorflow as tf

    height, width = tf.unstack(tf.shape(maps)[1:3])
    return (planes * height + starts[:, 0]) * width + starts[:, 1]


def _in_parts(reduce, dtype, cells, first_rows, sizes, width):
    """Apply `reduce(values, rows, windows, count)` to groups of windows that fit in the cache together."""
    import tensorflow as tf

    channels = cells.shape[-1]
    limit = max(1, TOGETHER // (4 * channels))
    before = tf.cumsum(sizes[:, 0] * sizes[:, 1], exclusive=True)
    parts = tf.reduce_max(tf.concat([before, [0]], 0)) // limit + 1
    splits = tf.searchsorted(before, tf.range(parts) * limit)
    splits = tf.concat([splits, [tf.size(before)]], 0)

    def step(part, results):
        members = slice(splits[part], splits[part + 1])
        windows, place, columns = _list_places(sizes[members])
        rows = _rows(first_rows[members], windows, place, columns, width)
        count = splits[part + 1] - splits[part]
        return part + 1, results.write(part, reduce(tf.gather(cells, rows), rows, windows, count))

    results = tf.TensorArray(dtype, parts, infer_shape=False, element_shape=(None, channels))
    _, results = tf.while_loop(lambda part, _: part < parts, step, [0, results])
    return results.concat()
