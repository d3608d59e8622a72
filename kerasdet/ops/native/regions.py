"""Bilinear reading by TensorFlow's kernels: the product of a sparse matrix, and crop-and-resize.

A bin of RoIAlign is a weighted sum of cells (16 cells for four points), which is one row of a sparse
matrix. The product of the matrix and the table of cells is the result; the product of its transpose is
the gradient. Single points are read by crop-and-resize, which also computes the slope.
"""

from kerasdet.ops.neighbours import clamped_neighbours, corners

# The slope is taken at least this far from a cell's edges, where the kernel finds no slope.
MARGIN = 1e-4


def pool_lattice(table, maps, starts, steps, output_size, sampling_ratio, reach):
    """Read a lattice of points in maps, and take the mean of every `sampling_ratio` squared points.

    Args:
        table: (P, C) float32, the cells of all maps.
        maps: first row of the table, height and width of each lattice's map, three (N,) int32.
        starts: (N, 2) float32, y and x of the lattice's first point, in cells.
        steps: (N, 2) float32, distance between the points.
        output_size: (h, w).
        sampling_ratio: s, points per bin in each direction.
        reach: cells beyond the border that read its value.

    Returns:
        (N, h, w, C) float32.
    """
    import tensorflow as tf

    shape = (starts.shape[0], *output_size, table.shape[-1])
    rows, weights = _bins_as_cells(maps, starts, steps, output_size, sampling_ratio, reach)
    pooled = product_of_cells(table, *_flat(rows, weights), tf.shape(rows)[0])
    size = (tf.shape(starts)[0], *shape[1:])
    return tf.ensure_shape(tf.reshape(pooled, size), shape)


def product_of_cells(table, own, rows, weights, count):
    """Sum weighted rows of a table, with a gradient to the table.

    Args:
        table: (P, C) float32.
        own: (T,) int32, the sum that each row belongs to.
        rows: (T,) int32, rows of the table.
        weights: (T,) float32.
        count: number of sums, K.

    Returns:
        (K, C) float32.
    """
    import tensorflow as tf

    def product(table):
        matrix = _sparse(own, rows, weights, (count, tf.shape(table)[0]))
        return tf.raw_ops.SparseMatrixMatMul(a=matrix, b=table)

    @tf.custom_gradient
    def pool(table):
        def gradient(upstream):
            size = count, tf.shape(table)[0]
            spread = lambda: _spread(upstream, own, rows, weights, size)  # noqa: E731
            return _unless_empty(count, spread, tf.zeros_like(table))

        blank = tf.zeros((0, table.shape[-1]))
        return _unless_empty(count, lambda: product(table), blank), gradient

    return pool(table)


def read_points(maps, planes, points):
    """Read maps at points; values fade to zero beyond the outermost centres.

    Args:
        maps: (M, H, W, C) float32.
        planes: (N,) int32, the map of each point.
        points: (N, 2) float32, y and x in cells.

    Returns:
        (N, C) float32, with gradients to maps and points. On the edge of a cell, a point has the
        gradient of the cell below and to the right.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def read(maps, points):
        padded = tf.pad(maps, [[0, 0], [1, 1], [1, 1], [0, 0]])
        boxes = _as_boxes(padded, points)
        values = tf.image.crop_and_resize(padded, boxes, planes, (1, 1))[:, 0, 0]

        def gradient(upstream):
            def spread():
                extent = tf.unstack(tf.shape(maps)[1:3])
                cells, weights, _ = (tf.stack(v, -1) for v in zip(*corners(extent, planes, points)))
                size = tf.size(planes), tf.reduce_prod(tf.shape(maps)[:3])
                total = _spread(upstream, *_flat(cells, weights), size)
                return tf.reshape(total, tf.shape(maps))

            by_map = _unless_empty(tf.size(planes), spread, tf.zeros_like(maps))
            cell = tf.floor(points)
            inside = cell + tf.clip_by_value(points - cell, MARGIN, 1.0 - MARGIN)
            by_box = tf.raw_ops.CropAndResizeGradBoxes(
                grads=upstream[:, None, None],
                image=padded,
                boxes=_as_boxes(padded, inside),
                box_ind=planes,
            )
            # A point is both corners of its box, and the box is in units of the padded map.
            by_point = (by_box[:, :2] + by_box[:, 2:]) / _extent(padded)
            return by_map, by_point

        return values, gradient

    return read(maps, points)


def _as_boxes(padded, points):
    """Turn points (N, 2) in map cells into boxes (N, 4) in units of the padded map's extent."""
    import tensorflow as tf

    return tf.tile((points + 1.0) / _extent(padded), [1, 2])


def _extent(padded):
    import tensorflow as tf

    return tf.cast(tf.shape(padded)[1:3] - 1, "float32")


def _bins_as_cells(maps, starts, steps, output_size, sampling_ratio, reach):
    """Return the cells around each bin's points, and their weights in its mean: two (N h w, 4 s s)."""
    import tensorflow as tf

    first_rows, *extents = maps
    cells, weights = [], []
    for axis, bins in enumerate(output_size):
        index = tf.range(bins * sampling_ratio, dtype="float32")
        coordinates = starts[:, axis, None] + steps[:, axis, None] * index  # (N, bins * s)
        before, after, by_cell = clamped_neighbours(coordinates, extents[axis][:, None], reach)
        size = (tf.size(first_rows), bins, 2 * sampling_ratio)
        cells.append(tf.reshape(tf.stack([before, after], -1), size))
        weights.append(tf.reshape(tf.stack(by_cell, -1) / sampling_ratio, size))
    # (N, h, w, cells in y, cells in x) by broadcasting (N, h, 1, y, 1) and (N, 1, w, 1, x).
    rows = first_rows[:, None, None] + cells[0] * extents[1][:, None, None]  # (N, h, 2 s)
    rows = rows[:, :, None, :, None] + cells[1][:, None, :, None, :]  # (N, h, w, 2 s, 2 s)
    product = weights[0][:, :, None, :, None] * weights[1][:, None, :, None, :]
    around = (-1, (2 * sampling_ratio) ** 2)
    return tf.reshape(rows, around), tf.reshape(product, around)


def _flat(rows, weights):
    """Return the row of `rows` and `weights` (P, K) that each entry stands in, and both: three (P K,)."""
    import tensorflow as tf

    own = tf.broadcast_to(tf.range(tf.shape(rows)[0])[:, None], tf.shape(rows))
    return tuple(tf.reshape(values, [-1]) for values in (own, rows, weights))


def _spread(upstream, own, rows, weights, size):
    """Add upstream (K, C), weighted, to the rows of a table: (P, C), for a size of (K, P).

    (The dedicated kernel, CropAndResizeGradImage, adds from several threads without a lock and sometimes
    loses a part.)
    """
    import tensorflow as tf

    # Transposed first: the product with `transpose_a` would be made once per thread.
    matrix = _sparse(own, rows, weights, size)
    matrix = tf.raw_ops.SparseMatrixTranspose(input=matrix, type=weights.dtype)
    return tf.raw_ops.SparseMatrixMatMul(a=matrix, b=upstream)


def _sparse(own, rows, weights, size):
    """Return a sparse matrix (K, P) with `weights` (T,) at the rows `own` and the columns `rows`."""
    import tensorflow as tf

    return tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=tf.cast(tf.stack([own, rows], -1), "int64"),
        values=weights,
        dense_shape=tf.cast(tf.stack(size), "int64"),
    )


def _unless_empty(count, function, otherwise):
    """Call `function`, but return `otherwise` for a count of 0, where the sparse kernels would crash."""
    import tensorflow as tf

    return tf.cond(count > 0, function, lambda: otherwise)
