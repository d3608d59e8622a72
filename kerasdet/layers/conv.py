"""Convolution with batch normalisation, the part that backbones are made of, and convolution with a bias."""

import math

import keras
from keras import ops

from kerasdet.ops import native
from kerasdet.ops.checks import check_choice, check_whole, pair

SMALLEST_VARIANCE = 1e-37  # TensorFlow flushes subnormal float32 numbers, below 1.2e-38, to 0
SMALLEST_EPSILON = 1e-5  # in training
LEAK = 0.1  # slope of `leaky` below zero


@keras.saving.register_keras_serializable("kerasdet")
def leaky(x):
    """Apply Darknet's leaky ReLU (YOLO, arXiv 1506.02640, section 2.2): (...) -> (...)."""
    # Eq: yolo 2 | phi(x) = x if x > 0, 0.1 x otherwise
    return ops.leaky_relu(x, LEAK)


@keras.saving.register_keras_serializable("kerasdet")
class BatchNorm(keras.layers.Layer):
    """Batch normalisation of the last axis, with statistics in float32 under every policy.

    The moving variance is the unbiased estimate (divided by N - 1), as in PyTorch and in TensorFlow's
    fused kernel; the batch itself is normalised by the biased one. With `trainable=False` the moving
    statistics are used in training too, and do not change. Under `tf.distribute` each replica
    normalises by its own batch, and the moving statistics are averaged over the replicas.

    Args:
        momentum: share of the old moving statistics kept at each step (1 - PyTorch's momentum, whose
            default 0.1 follows the last ten batches, too few images at a batch size of eight).
        epsilon: added to the variance. Training adds at least 1e-5, even if less is given, because the
            batch of a dead channel has no variance at all.

    Source: Ioffe and Szegedy, arXiv 1502.03167, §3 (algorithms 1 and 2).
    """

    def __init__(self, momentum=0.97, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape):
        """Create gamma, beta and the moving statistics, one value per channel."""
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape, "ones", name="gamma", autocast=False)
        self.beta = self.add_weight(shape, "zeros", name="beta", autocast=False)
        # Replicas must agree on the values they assign: tf.distribute asks how to aggregate them.
        moving = {"trainable": False, "autocast": False, "aggregation": "mean"}
        self.moving_mean = self.add_weight(shape, "zeros", name="moving_mean", **moving)
        self.moving_variance = self.add_weight(shape, "ones", name="moving_variance", **moving)

    def scale_and_shift(self):
        """Return inference as one affine map.

        Returns:
            Two float32 tensors (C,): the layer computes `x * scale + shift`.
        """
        scale = self.gamma * ops.rsqrt(self.usable_variance() + self.epsilon)
        return scale, self.beta - self.moving_mean * scale

    def usable_variance(self):
        """Return the moving variance (C,), of which the root of its sum with epsilon has an inverse."""
        if self.epsilon:
            return self.moving_variance
        # PyTorch's variance of a dead channel decays to 5.6e-45, zero here, and its inverse is infinite.
        return ops.maximum(self.moving_variance, SMALLEST_VARIANCE)

    def fixed(self, inputs):
        """Normalise (B, H, W, C) by the moving statistics, in one operation of TensorFlow."""
        statistics = self.gamma, self.beta, self.moving_mean, self.usable_variance()
        return native.fixed_norm(inputs, *statistics, self.epsilon)

    def call(self, inputs, training=False):
        """Normalise by the batch when training, by the moving statistics otherwise.

        Args:
            inputs: (..., C) tensor; four axes when training.
            training: whether to use and update the statistics of this batch.

        Returns:
            A tensor of the shape and type of `inputs`.
        """
        if not (training and self.trainable):
            scale, shift = self.scale_and_shift()
            return ops.cast(ops.cast(inputs, "float32") * scale + shift, inputs.dtype)
        normalise = native.batch_norm if _on_tensorflow() else _batch_norm
        epsilon = max(self.epsilon, SMALLEST_EPSILON)
        outputs, mean, variance = normalise(inputs, self.gamma, self.beta, epsilon)
        keep = self.momentum
        self.moving_mean.assign(self.moving_mean * keep + mean * (1.0 - keep))
        self.moving_variance.assign(self.moving_variance * keep + variance * (1.0 - keep))
        return outputs

    def compute_output_shape(self, input_shape):
        """Return the input's shape."""
        return input_shape

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("kerasdet")
class ConvNorm(keras.layers.Layer):
    """Convolution without bias, followed by batch normalisation and an activation.

    Padding is PyTorch's: `dilation * (kernel_size // 2)` zeros on every side; or TensorFlow's, which with a
    stride of 2 pads an even side only at its end; or none. In inference, and while the normalisation is
    frozen (`trainable=False` on this layer or on its `norm`), the normalisation is folded into the kernel, or
    fused with the convolution where a graph for CPUs does that. The axes of `kernel` are height, width, input
    channels of a group, filters; this holds for depthwise kernels too.

    Args:
        filters: number of output channels.
        kernel_size: height and width of the kernel, one number or two, odd.
        stride: step in both directions.
        groups: groups of channels; if equal to the input channels and to `filters`, the convolution is
            depthwise.
        dilation: distance between the kernel's taps.
        activation: None, "relu", "relu6", "hard_swish" or the function `leaky`.
        norm_epsilon: added to the variance.
        norm_momentum: share of the old moving statistics kept at each step.
        padding: "symmetric" (PyTorch), "same" (TensorFlow) or "valid" (none).
    """

    def __init__(
        self,
        filters,
        kernel_size,
        stride=1,
        groups=1,
        dilation=1,
        activation=None,
        norm_epsilon=1e-5,
        norm_momentum=0.97,
        padding="symmetric",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_choice("padding", padding, ("symmetric", "same", "valid"))
        _check_counts(filters, kernel_size, stride, groups, dilation)
        self.filters = filters
        self.kernel_size = tuple(kernel_size) if isinstance(kernel_size, list) else kernel_size
        self.stride = stride
        self.groups = groups
        self.dilation = dilation
        self.activation = keras.activations.get(activation)
        self.padding = padding
        self.norm = BatchNorm(norm_momentum, norm_epsilon, dtype=self.dtype_policy, name="norm")

    def build(self, input_shape):
        """Create the kernel and the normalisation's weights."""
        channels = input_shape[-1]
        _check_groups(self.groups, channels, self.filters)
        height, width = pair("kernel_size", self.kernel_size)
        self.kernel = self.add_weight(
            (height, width, channels // self.groups, self.filters),
            # He et al., arXiv 1502.01852, with the fan-out over all groups, as in torchvision.
            keras.initializers.RandomNormal(
                stddev=math.sqrt(2.0 / (height * width * self.filters))
            ),
            name="kernel",
            autocast=False,
        )
        self.norm.build((None, None, None, self.filters))

    def call(self, inputs, training=False):
        """Apply convolution, normalisation and activation.

        Args:
            inputs: (B, H, W, C) tensor.
            training: whether the normalisation uses and updates this batch's statistics.

        Returns:
            (B, ceil(H / stride), ceil(W / stride), filters) tensor in the compute type; with "valid" padding
            H and W count without the kernel's border.
        """
        if training and self.norm.trainable:
            outputs = self.norm(self.convolve(inputs, self.kernel), training=True)
        elif self.is_fused(training):
            # A copy of the kernel, scaled, takes a fifth of YOLOv2's time on one image.
            outputs = self.norm.fixed(self.convolve(inputs, self.kernel))
        else:
            scale, shift = self.norm.scale_and_shift()
            kernel = self.kernel * scale
            if self.norm.epsilon == 0:  # a dead channel's scale may exceed float16's range
                kernel = ops.saturate_cast(kernel, self.compute_dtype)
                shift = ops.saturate_cast(shift, self.compute_dtype)
            outputs = _add_bias(self.convolve(inputs, kernel), shift)
        return self.activation(outputs)

    def is_fused(self, training):
        """Tell whether the graph fuses normalisation and convolution better than the kernel absorbs it."""
        half = self.compute_dtype == "float16"  # in which a dead channel's scale overflows
        return not training and self.groups == 1 and not half and native.fuses_norm()

    def convolve(self, inputs, kernel):
        """Convolve (B, H, W, C) with a kernel, which may be the layer's own with its scales."""
        return _convolve(inputs, kernel, self.stride, self.groups, self.dilation, self.padding)

    def compute_output_shape(self, input_shape):
        """Return (B, h, w, filters), as `call` has it."""
        kernel = (self.kernel_size, self.dilation)
        return _output_shape(input_shape, *kernel, self.stride, self.filters, self.padding)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "groups": self.groups,
            "dilation": self.dilation,
            "activation": keras.activations.serialize(self.activation),
            "norm_epsilon": self.norm.epsilon,
            "norm_momentum": self.norm.momentum,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable("kerasdet")
class Conv(keras.layers.Layer):
    """Convolution, bias and activation: the part that necks and heads without normalisation are made of.

    It differs from `keras.layers.Conv2D` in two ways: padding is Caffe's and PyTorch's, zeros on every
    side, and the bias is added by the operation that TensorFlow fuses with convolution and ReLU.

    Args:
        filters: number of output channels.
        kernel_size: height and width of the kernel, odd.
        stride: step in both directions.
        use_bias: whether to add a bias.
        activation: None, "relu", "relu6", "hard_sigmoid" or the function `leaky`.
        kernel_initializer, bias_initializer: as in Keras.
        sparsely_taught: whether the loss counts only few cells of the output, so that computing the
            gradient from these cells alone is faster (TensorFlow without XLA; stride 1).
        padding: zeros on every side; None: `kernel_size // 2`.
        groups: groups of channels, each convolved by itself (AlexNet's two towers).
    """

    def __init__(
        self,
        filters,
        kernel_size,
        stride=1,
        use_bias=True,
        activation=None,
        kernel_initializer="he_normal",
        bias_initializer="zeros",
        sparsely_taught=False,
        padding=None,
        groups=1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_counts(filters, kernel_size, stride, groups)
        if padding is not None:
            check_whole("padding", padding, least=0, most=kernel_size)
        self.filters = filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.use_bias = use_bias
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.sparsely_taught = sparsely_taught
        self.padding = padding
        self.groups = groups

    def build(self, input_shape):
        """Create kernel and bias."""
        _check_groups(self.groups, input_shape[-1], self.filters)
        channels = input_shape[-1] // self.groups
        shape = (self.kernel_size, self.kernel_size, channels, self.filters)
        self.kernel = self.add_weight(shape, self.kernel_initializer, name="kernel")
        if self.use_bias:
            self.bias = self.add_weight((self.filters,), self.bias_initializer, name="bias")

    def call(self, inputs, training=False):
        """Convolve: (B, H, W, C) -> (B, ceil(H / stride), ceil(W / stride), filters) with usual padding."""
        # Not in inference: a custom gradient keeps TensorFlow from fusing bias and activation.
        plain = self.stride == self.groups == 1 and self._padding() == "symmetric"
        if self.sparsely_taught and training and plain and native.available():
            outputs = native.sparsely_taught_conv(inputs, ops.cast(self.kernel, inputs.dtype))
        else:
            outputs = _convolve(
                inputs, self.kernel, self.stride, self.groups, padding=self._padding()
            )
        if self.use_bias:
            outputs = _add_bias(outputs, self.bias)
        return self.activation(outputs)

    def _padding(self):
        usual = self.padding is None or self.padding == self.kernel_size // 2
        return "symmetric" if usual else self.padding

    def compute_output_shape(self, input_shape):
        """Return (B, h, w, filters), as `call` has it."""
        kernel = (self.kernel_size, 1)
        return _output_shape(input_shape, *kernel, self.stride, self.filters, self._padding())

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "use_bias": self.use_bias,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "sparsely_taught": self.sparsely_taught,
            "padding": self.padding,
            "groups": self.groups,
        }


def dark_conv(filters, size, stride=1, norm="batch", norm_epsilon=1e-5, **kwargs):
    """Return a convolution with leaky ReLU, normalised or with a bias.

    Args:
        filters: number of output channels.
        size: height and width of the kernel, odd.
        stride: step in both directions.
        norm: "batch" or None.
        norm_epsilon: epsilon of the batch normalisation.
        **kwargs: `name` and `dtype`.
    """
    if norm is None:
        return Conv(filters, size, stride, activation=leaky, **kwargs)
    return ConvNorm(filters, size, stride, activation=leaky, norm_epsilon=norm_epsilon, **kwargs)


def dark_layer(row, number, norm="batch", norm_epsilon=1e-5, dtype=None):
    """Return the layer of one row of a network of Darknet's.

    Args:
        row: (filters, size) or (filters, size, stride), "pool" (2 x 2 cells to one) or "pool1" (the same at
            every cell).
        number: ends the layer's name.
        norm: of a convolution, "batch" or None.
        norm_epsilon: epsilon of the batch normalisation.
        dtype: precision of the layer.

    Returns:
        A layer, and its stride.
    """
    if isinstance(row, str):
        stride = 2 if row == "pool" else 1
        name = f"pool{number}"
        return keras.layers.MaxPooling2D(2, stride, padding="same", name=name, dtype=dtype), stride
    filters, size, stride = (*row, 1)[:3]
    name = f"conv{number}"
    return dark_conv(filters, size, stride, norm, norm_epsilon, name=name, dtype=dtype), stride


def _check_counts(filters, kernel_size, stride, groups=1, dilation=1):
    check_whole("filters", filters, most=1 << 24)
    check_whole("stride", stride)
    check_whole("groups", groups)
    check_whole("dilation", dilation)
    sizes = kernel_size if isinstance(kernel_size, list | tuple) else [kernel_size]
    for size in sizes:
        check_whole("kernel_size", size)
        if size % 2 == 0:
            raise ValueError(f"kernel_size must be odd for symmetric padding; got {kernel_size}.")
    pair("kernel_size", kernel_size)


def _check_groups(groups, channels, filters):
    if channels % groups or filters % groups:
        raise ValueError(
            f"groups={groups} must divide the {channels} input channels and filters={filters}."
        )


def _output_shape(input_shape, kernel_size, dilation, stride, filters, padding):
    batch, *sides, _ = input_shape
    if padding in ("symmetric", "same"):
        sides = (side and -(-side // stride) for side in sides)
    else:
        around = 0 if padding == "valid" else 2 * padding
        reach = [dilation * (size - 1) for size in pair("kernel_size", kernel_size)]
        sides = (
            side and (side + around - taps - 1) // stride + 1 for side, taps in zip(sides, reach)
        )
    return (batch, *sides, filters)


def _convolve(inputs, kernel, stride=1, groups=1, dilation=1, padding="symmetric"):
    """Convolve with PyTorch's padding, TensorFlow's, none or a number of zeros on every side.

    The kernel is (k, k, C / groups, filters); `padding` is "symmetric", "same", "valid" or the number.
    """
    step = {"strides": stride, "padding": "same", "dilation_rate": dilation}
    if padding == "symmetric":
        # "same" would pad less at the top and left, half a step off PyTorch's grid.
        pads = [dilation * (size // 2) for size in kernel.shape[:2]] if stride > 1 else None
    else:
        pads = {"same": None, "valid": [0, 0]}.get(padding, [padding, padding])
    if pads is not None:
        around = [[0, 0], *([pad, pad] for pad in pads), [0, 0]]
        inputs = ops.pad(inputs, around) if any(pads) else inputs
        step["padding"] = "valid"
    if groups == 1:
        return ops.conv(inputs, ops.cast(kernel, inputs.dtype), **step)
    if groups == inputs.shape[-1] == kernel.shape[-1]:
        return _depthwise_conv(inputs, kernel, step)
    grouped_conv = native.grouped_conv if _on_tensorflow() else ops.conv
    return grouped_conv(inputs, ops.cast(kernel, inputs.dtype), **step)


def _add_bias(outputs, bias):
    bias = ops.cast(bias, outputs.dtype)
    return native.bias_add(outputs, bias) if _on_tensorflow() else outputs + bias


def _depthwise_conv(inputs, kernel, step):
    """Convolve depthwise with a kernel of shape (k, k, 1, C)."""
    kernel = ops.transpose(kernel, (0, 1, 3, 2))
    dtype = inputs.dtype
    if step["strides"] > 1 and keras.backend.standardize_dtype(dtype) == "bfloat16":
        # TensorFlow's gradient of the input takes 15 times longer in bfloat16 on a CPU.
        inputs = ops.cast(inputs, "float32")
    outputs = ops.depthwise_conv(inputs, ops.cast(kernel, inputs.dtype), **step)
    return ops.cast(outputs, dtype)


def _on_tensorflow():
    """Tell whether to use the native kernels; unlike others, XLA and exports know these too."""
    return keras.backend.backend() == "tensorflow"


def _batch_norm(inputs, gamma, beta, epsilon):
    """Normalise a batch in keras.ops; return outputs, and the batch's mean and unbiased variance."""
    x = ops.cast(inputs, "float32")
    mean, variance = ops.moments(x, axes=[0, 1, 2])
    # Eq: batch_norm alg.1 | y = gamma (x - mu) / sqrt(sigma^2 + eps) + beta
    outputs = (x - mean) * (gamma * ops.rsqrt(variance + epsilon)) + beta
    count = ops.cast(ops.size(x) // ops.shape(x)[-1], "float32")
    unbiased = variance * count / ops.maximum(count - 1.0, 1.0)
    return ops.cast(outputs, inputs.dtype), mean, unbiased
