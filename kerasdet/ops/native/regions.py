"""Bilinear reading by TensorFlow's crop-and-resize kernel, which walks a lattice channel by channel.

The kernel reads zero beyond the map's outermost centres. With one cell of padding it reads what
RoIAlign asks (the border's value up to one cell outside: padding repeats the border) or what
deformable convolution asks (fading to zero over one cell: padding is zero).
"""

from kerasdet.ops.neighbours import clamped_neighbours, corners

# A lattice of this size and more is read in pieces, so that its points never lie in memory at once.
WHOLE = 2**25  # bytes
PIECES = 8

# Where the slope is taken: this far at least from a cell's edges, where the kernel finds none.
MARGIN = 1e-4


def pool_lattice(levels, planes, starts, steps, output_size, sampling_ratio, reduction):
    """Read a lattice of points in maps and reduce every `sampling_ratio` squared of them to one.

    Args:
        levels: list of maps (M, H, W, C) float32 of different sizes.
        planes: (N,) int32, the map that each lattice lies in, counted through all levels.
        starts: (N, 2) float32, y and x of the lattice's first point, in cells.
        steps: (N, 2) float32, distance of the points.
        output_size: (h, w).
        sampling_ratio: s, points per bin in each direction.
        reduction: "mean" or "max".

    Returns:
        (N, h, w, C) float32.
    """
    import tensorflow as tf

    options = (output_size, sampling_ratio, reduction)
    if len(levels) == 1:
        return _pool(levels[0], planes, starts, steps, *options)
    members, pooled, first = [], [], 0
    for maps in levels:
        end = first + tf.shape(maps)[0]
        here = tf.where(tf.logical_and(planes >= first, planes < end))[:, 0]
        own = [tf.gather(values, here) for values in (planes, starts, steps)]
        pooled.append(_pool(maps, own[0] - first, *own[1:], *options))
        members.append(tf.cast(here, "int32"))
        first = end
    order = tf.math.invert_permutation(tf.concat(members, axis=0))
    outputs = tf.gather(tf.concat(pooled, axis=0), order)
    return tf.ensure_shape(outputs, (planes.shape[0], *outputs.shape[1:]))


def _pool(maps, planes, starts, steps, output_size, sampling_ratio, reduction):
    import tensorflow as tf

    shape = tuple(sampling_ratio * size for size in output_size)
    reduce = {"mean": tf.nn.avg_pool2d, "max": tf.nn.max_pool2d}[reduction]
    count, channels = planes.shape[0], maps.shape[-1]
    fits = count is not None and 4 * count * shape[0] * shape[1] * channels <= WHOLE

    def pool(values):
        return values if sampling_ratio == 1 else reduce(values, *2 * [sampling_ratio], "VALID")

    @tf.custom_gradient
    def pooled(maps):
        padded, pieces = _pad_border(maps), []
        size = tf.size(planes) if fits else (tf.size(planes) + PIECES - 1) // PIECES
        for i in range(1 if fits else PIECES):
            part = slice(i * size, (i + 1) * size)
            with tf.control_dependencies(pieces[-1:]):  # one after the other
                values = _crop(padded, planes[part], starts[part], steps[part], shape)
                pieces.append(pool(values))

        def spread(upstream):
            lattice = (tf.shape(maps), planes, starts, steps)
            if reduction == "mean":
                return _spread_lattice(upstream, *lattice, sampling_ratio)
            with tf.GradientTape() as tape:
                values = _crop(padded, planes, starts, steps, shape)
                tape.watch(values)
                highest = pool(values)
            return _spread_lattice(tape.gradient(highest, values, upstream), *lattice, 1)

        def gradient(upstream):
            return _unless_empty(planes, lambda: spread(upstream), maps)

        return tf.ensure_shape(tf.concat(pieces, 0), (count, *output_size, channels)), gradient

    return pooled(maps)


def read_points(maps, planes, points):
    """Read maps at points; beyond their outermost centres the maps fade to zero.

    Args:
        maps: (M, H, W, C) float32.
        planes: (N,) int32, the map that each point lies in.
        points: (N, 2) float32, y and x in cells.

    Returns:
        (N, C) float32, with gradients to maps and points; on a cell's edge the gradient to a point
        is that of the cell below and to the right.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def read(maps, points):
        padded = tf.pad(maps, [[0, 0], [1, 1], [1, 1], [0, 0]])
        values = _crop(padded, planes, points, tf.zeros_like(points), (1, 1))[:, 0, 0]

        def gradient(upstream):
            def spread():
                extent = tf.unstack(tf.shape(maps)[1:3])
                cells, weights, _ = (tf.stack(v, -1) for v in zip(*corners(extent, planes, points)))
                return _spread(upstream, cells, weights, tf.shape(maps))

            by_map = _unless_empty(planes, spread, maps)
            cell = tf.floor(points)
            inside = cell + tf.clip_by_value(points - cell, MARGIN, 1.0 - MARGIN)
            by_box = tf.raw_ops.CropAndResizeGradBoxes(
                grads=upstream[:, None, None],
                image=padded,
                boxes=_normalise(padded, inside, inside),
                box_ind=planes,
            )
            # A point is both corners of its box; the box is in units of the padded map.
            by_point = (by_box[:, :2] + by_box[:, 2:]) / _extent(padded)
            return by_map, by_point

        return values, gradient

    return read(maps, points)


def _crop(padded, planes, starts, steps, shape):
    """Lattices read from maps with one cell of padding: (N, *shape, C)."""
    import tensorflow as tf

    ends = starts + steps * tf.constant([shape[0] - 1, shape[1] - 1], "float32")
    return tf.image.crop_and_resize(padded, _normalise(padded, starts, ends), planes, shape)


def _normalise(padded, starts, ends):
    """Corners (N, 2) in cells of the map -> boxes (N, 4) in units of the padded map's extent."""
    import tensorflow as tf

    extent = _extent(padded)
    return tf.concat([(starts + 1.0) / extent, (ends + 1.0) / extent], axis=-1)


def _extent(padded):
    import tensorflow as tf

    return tf.cast(tf.shape(padded)[1:3] - 1, "float32")


def _pad_border(maps):
    """Repeat the border once: tf.pad(..., "SYMMETRIC"), three times faster by a gather."""
    import tensorflow as tf

    batch, height, width = tf.unstack(tf.shape(maps)[:3])
    rows = tf.clip_by_value(tf.range(-1, height + 1), 0, height - 1)
    columns = tf.clip_by_value(tf.range(-1, width + 1), 0, width - 1)
    places = (tf.range(batch)[:, None, None] * height + rows[:, None]) * width + columns
    return tf.gather(tf.reshape(maps, (-1, maps.shape[-1])), places)


def _spread_lattice(upstream, shape, planes, starts, steps, sampling_ratio):
    """Give each bin's upstream (N, h, w, C) to the cells around its points: the maps' gradient."""
    import tensorflow as tf

    cells, weights = [], []
    for axis in range(2):
        bins = upstream.shape[1 + axis]
        index = tf.range(bins * sampling_ratio, dtype="float32")
        coordinates = starts[:, axis, None] + steps[:, axis, None] * index
        before, after, by_cell = clamped_neighbours(coordinates, shape[1 + axis])
        size = (tf.size(planes), bins, 2 * sampling_ratio)
        cells.append(tf.reshape(tf.stack([before, after], -1), size))
        weights.append(tf.reshape(tf.stack(by_cell, -1), size))
    # (N, h, w, cells in y, cells in x) by broadcasting (N, h, 1, y, 1) and (N, 1, w, 1, x).
    rows = planes[:, None, None] * shape[1] + cells[0]
    rows = rows[:, :, None, :, None] * shape[2] + cells[1][:, None, :, None, :]
    product = weights[0][:, :, None, :, None] * weights[1][:, None, :, None, :]
    around = (-1, (2 * sampling_ratio) ** 2)
    return _spread(
        tf.reshape(upstream, (-1, upstream.shape[-1])) / sampling_ratio**2,
        tf.reshape(rows, around),
        tf.reshape(product, around),
        shape,
    )


def _spread(upstream, rows, weights, shape):
    """Add each upstream (P, C), weighted, to K cells (P, K) of maps of a shape: (M, H, W, C).

    A product with a sparse matrix. CropAndResizeGradImage, the kernel for it, adds from several
    threads at once without a lock: now and then a part is lost.
    """
    import tensorflow as tf

    count, around = tf.unstack(tf.shape(rows, "int64"))
    points = tf.repeat(tf.range(count), around)
    cells = tf.cast(tf.reshape(rows, [-1]), "int64")
    matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=tf.stack([points, cells], axis=-1),
        values=tf.reshape(weights, [-1]),
        dense_shape=tf.stack([count, tf.cast(tf.reduce_prod(shape[:3]), "int64")]),
    )
    total = tf.raw_ops.SparseMatrixMatMul(a=matrix, b=upstream, transpose_a=True)
    return tf.reshape(total, shape)


def _unless_empty(planes, spread, maps):
    """The maps' gradient, `spread()`; without points zeros, as its kernels would end the process."""
    import tensorflow as tf

    return tf.cond(tf.size(planes) > 0, spread, lambda: tf.zeros_like(maps))
