"""Normalisation, bias and grouped convolution by the kernels that oneDNN and XLA know."""


def batch_norm(inputs, gamma, beta, epsilon):
    """Batch normalisation of a training step by the fused kernel, which XLA knows too.

    Args:
        inputs: (B, H, W, C) float tensor of any precision.
        gamma: (C,) float32.
        beta: (C,) float32.
        epsilon: added to the variance.

    Returns:
        outputs, of the shape and type of `inputs`, and the batch's mean and unbiased variance,
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


def bias_add(inputs, bias):
    """Add a bias to the last axis by the operation that graphs fuse with a convolution."""
    import tensorflow as tf

    return tf.nn.bias_add(inputs, bias)


def grouped_conv(inputs, kernel, strides, padding, dilation_rate):
    """Convolution in groups, told by the kernel's shape.

    Keras compiles grouped convolutions by XLA, whose gradient is hundreds of times slower on a CPU;
    oneDNN, on by default, has both.

    Args:
        inputs: (B, H, W, C).
        kernel: (k, k, C / groups, filters).
        strides: as `keras.ops.conv` takes it.
        padding: "same" or "valid".
        dilation_rate: as `keras.ops.conv` takes it.

    Returns:
        (B, H', W', filters).
    """
    import tensorflow as tf

    return tf.nn.conv2d(inputs, kernel, strides, padding.upper(), dilations=dilation_rate)
