"""Normalisation, bias and convolution by oneDNN's kernels; XLA knows all of them but one."""


def batch_norm(inputs, gamma, beta, epsilon):
    """Apply batch normalisation in a training step by the fused kernel, which XLA also knows.

    Args:
        inputs: (B, H, W, C) float tensor of any precision.
        gamma: (C,) float32.
        beta: (C,) float32.
        epsilon: added to the variance.

    Returns:
        Outputs, of the shape and type of `inputs`, and the batch's mean and unbiased variance,
        (C,) float32.
    """
    import tensorflow as tf

    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=gamma,
        offset=beta,
        mean=tf.zeros((0,), "float32"),
        variance=tf.zeros((0,), "float32"),
        epsilon=epsilon,
        is_training=True,
    )
    return outputs, mean, variance


def fuses_norm():
    """Tell whether this thread traces a graph for CPUs, which fuses convolution, norm and activation."""
    from kerasdet.ops.native import available

    if not available():
        return False
    import tensorflow as tf

    return not tf.executing_eagerly() and not tf.config.list_physical_devices("GPU")


def fixed_norm(inputs, gamma, beta, mean, variance, epsilon):
    """Normalise by given statistics, in the operation that graphs fuse with a convolution and an activation.

    Args:
        inputs: (B, H, W, C) float tensor of any precision.
        gamma: (C,) float32, like the next three.
        beta: (C,).
        mean: (C,).
        variance: (C,), positive where epsilon is 0.
        epsilon: added to the variance.

    Returns:
        A tensor of the shape and type of `inputs`.
    """
    import tensorflow as tf

    return tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=gamma,
        offset=beta,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        is_training=False,
    )[0]


def bias_add(inputs, bias):
    """Add a bias to the last axis by the operation that graphs fuse with a convolution."""
    import tensorflow as tf

    return tf.nn.bias_add(inputs, bias)


def grouped_conv(inputs, kernel, strides, padding, dilation_rate):
    """Convolve in groups, whose number follows from the kernel's shape.

    Keras compiles grouped convolutions by XLA, whose gradient is hundreds of times slower on a CPU.
    oneDNN, which is on by default, has both the convolution and its gradient.

    Args:
        inputs: (B, H, W, C).
        kernel: (k, k, C / groups, filters).
        strides: as in `keras.ops.conv`.
        padding: "same" or "valid".
        dilation_rate: as in `keras.ops.conv`.

    Returns:
        (B, H', W', filters).
    """
    import tensorflow as tf

    return tf.nn.conv2d(inputs, kernel, strides, padding.upper(), dilations=dilation_rate)


def sparsely_taught_conv(inputs, kernel):
    """Convolve; compute the gradient only from the cells that have one.

    A dense head's loss that counts only few cells sends zeros back to all the others, and the usual
    gradient spends as much work on them as on the rest. If more than one in 36 cells has a gradient,
    the usual gradient is used. This does not work with XLA, because sizes depend on the data.

    Args:
        inputs: (B, H, W, C).
        kernel: (k, k, C, filters), k odd.

    Returns:
        (B, H, W, filters), with zeros around the map as for `padding="same"`.
    """
    import tensorflow as tf

    options = {"strides": (1, 1, 1, 1), "padding": "SAME"}

    @tf.custom_gradient
    def convolve(inputs, kernel):
        def gradient(upstream):
            places = tf.where(tf.reduce_any(upstream != 0, axis=-1))

            def dense():
                to_inputs = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, **options
                )
                to_kernel = tf.raw_ops.Conv2DBackpropFilter(
                    input=inputs, filter_sizes=tf.shape(kernel), out_backprop=upstream, **options
                )
                return to_inputs, to_kernel

            few = 36 * tf.shape(places)[0] < tf.reduce_prod(tf.shape(upstream)[:3])
            return tf.cond(few, lambda: _gradient_of_few(inputs, kernel, upstream, places), dense)

        return tf.nn.conv2d(inputs, kernel, **options), gradient

    return convolve(tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel))


def _gradient_of_few(inputs, kernel, upstream, places):
    """Return the gradients of inputs and kernel from the cells (N, 3): batch, row and column."""
    import tensorflow as tf

    size, _, channels, filters = kernel.shape
    batch, height, width = tf.unstack(tf.shape(inputs, out_type=tf.int64)[:3])
    taps = tf.range(size, dtype="int64") - size // 2
    rows = places[:, 1, None, None] + taps[:, None]  # (N, k, 1)
    columns = places[:, 2, None, None] + taps  # (N, 1, k)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)  # (N, k, k)
    cells = (places[:, 0, None, None] * height + rows) * width + columns  # (N, k, k)
    # TensorFlow drops the terms of a sum that have a negative index.
    cells = tf.reshape(tf.where(inside, cells, -1), [-1])  # (N k k,)

    table = tf.reshape(inputs, (batch * height * width, channels))
    patches = tf.gather(table, tf.maximum(cells, 0))  # (N k k, C)
    patches = tf.where(cells[:, None] >= 0, patches, tf.zeros((), inputs.dtype))
    patches = tf.reshape(patches, (-1, size * size * channels))  # (N, k k C)
    taught = tf.gather_nd(upstream, places)  # (N, filters)
    to_kernel = tf.matmul(patches, taught, transpose_a=True)  # (k k C, filters)

    spread = tf.matmul(taught, tf.reshape(kernel, (-1, filters)), transpose_b=True)  # (N, k k C)
    spread = tf.reshape(tf.cast(spread, "float32"), (-1, channels))  # (N k k, C)
    to_inputs = tf.math.unsorted_segment_sum(spread, cells, batch * height * width)  # (B H W, C)
    to_inputs = tf.reshape(tf.cast(to_inputs, inputs.dtype), tf.shape(inputs))
    return to_inputs, tf.reshape(to_kernel, kernel.shape)
