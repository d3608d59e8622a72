"""Deformable convolution: alone, with batch normalisation, and as the 3x3 convolutions of a backbone.

Deformable ConvNets (arXiv 1703.06211v3) and version 2 (arXiv 1811.11168v2). `OffsetBranch` predicts where the
taps go; it starts at zero, so that training starts from the plain convolution. Offsets stay float32 under
every policy.
"""

import functools

import keras
from keras import ops

from kerasdet.layers.conv import ConvNorm
from kerasdet.ops.checks import check_choice, check_count, check_positive, pair
from kerasdet.ops.deform import BORDERS, deform_conv2d

LEVELS = ("C5",)  # DCN, section 3: the last stage's three 3x3 convolutions
OFFSET_RATE = 1.0  # DCN, section 2.2: beta of the convolutions


@keras.saving.register_keras_serializable("kerasdet")
class OffsetBranch(keras.layers.Layer):
    """Convolution that predicts how far each tap of another convolution moves (DCN, section 2.1).

    Args:
        kernel_size: height and width of both kernels, an integer or two.
        strides: step, an integer or two.
        padding: zeros on each side, an integer or two.
        dilation: distance between taps, an integer or two.
        deformable_groups: G, groups of channels with offsets of their own.
        modulated: whether to predict a mask too (version 2); it starts at one half, as in the paper.
        rate_factor: factor of the learning rate of these weights.

    Call arguments:
        inputs: (B, H, W, C).

    Returns:
        Offsets (B, H', W', 2 G kh kw) in cells, and the mask (B, H', W', G kh kw) or None, float32.
    """

    def __init__(
        self,
        kernel_size,
        strides=1,
        padding=0,
        dilation=1,
        deformable_groups=1,
        modulated=False,
        rate_factor=OFFSET_RATE,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_count("deformable_groups", deformable_groups)
        check_positive("rate_factor", rate_factor)
        self.kernel_size = pair("kernel_size", kernel_size)
        self.strides = pair("strides", strides)
        self.padding = pair("padding", padding, least=0)
        self.dilation = pair("dilation", dilation)
        self.deformable_groups = deformable_groups
        self.modulated = modulated
        self.rate_factor = rate_factor

    def build(self, input_shape):
        """Create kernel and bias.

        Raises:
            ValueError: groups that do not divide the channels.
        """
        channels, (height, width) = input_shape[-1], self.kernel_size
        if channels % self.deformable_groups:
            raise ValueError(
                f"deformable_groups is {self.deformable_groups}; it must divide the {channels} input "
                "channels."
            )
        outputs = (3 if self.modulated else 2) * self.deformable_groups * height * width
        # Section 2.2: new layers that predict offsets start at zero. Replicas agree on what they assign where
        # `rate_factor` is not 1; tf.distribute asks how to aggregate it.
        shape, mean = (height, width, channels, outputs), {"aggregation": "mean"}
        self.kernel = self.add_weight(shape, "zeros", name="kernel", **mean)
        self.bias = self.add_weight((outputs,), "zeros", name="bias", autocast=False, **mean)

    def call(self, inputs):
        """See the class docstring."""
        padded = ops.pad(inputs, [(0, 0), *((zeros, zeros) for zeros in self.padding), (0, 0)])
        dilated = max(self.dilation) > 1  # Keras' convolution then takes no stride
        strides = 1 if dilated else self.strides
        outputs = ops.conv(padded, self.kernel, strides, "valid", dilation_rate=self.dilation)
        if dilated:
            outputs = outputs[:, :: self.strides[0], :: self.strides[1]]
        outputs = ops.cast(outputs, "float32") + self.bias
        if not self.modulated:
            return outputs, None
        offsets, mask = ops.split(outputs, [outputs.shape[-1] // 3 * 2], axis=-1)
        return offsets, ops.sigmoid(mask)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation": self.dilation,
            "deformable_groups": self.deformable_groups,
            "modulated": self.modulated,
            "rate_factor": self.rate_factor,
        }


@keras.saving.register_keras_serializable("kerasdet")
class DeformableConv2D(keras.layers.Layer):
    """Convolution whose taps are moved by offsets, which a second convolution predicts (DCN, section 2.1).

    Args:
        filters: number of output channels.
        kernel_size: height and width of the kernel, an integer or two.
        strides: step, an integer or two.
        padding: zeros on each side, an integer or two; None: dilation * (kernel_size // 2), which keeps
            the size of the map if the kernel is odd and the step is 1.
        dilation: distance between taps, an integer or two.
        groups: groups of channels that are convolved separately.
        deformable_groups: groups of channels with offsets of their own.
        modulated: whether a mask weights the taps (version 2).
        border: "fade" or "cut", what a tap beyond the map reads; see `kerasdet.ops.deform_conv2d`.
        offset_rate: factor of the learning rate of the offsets' weights.
        use_bias: whether to add a bias.
        kernel_initializer: as in Keras.

    Example:
        >>> layer = DeformableConv2D(filters=256, kernel_size=3)
        >>> outputs = layer(inputs)  # (B, H, W, C) -> (B, H, W, 256)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding=None,
        dilation=1,
        groups=1,
        deformable_groups=1,
        modulated=False,
        border="fade",
        offset_rate=OFFSET_RATE,
        use_bias=True,
        kernel_initializer="he_normal",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_count("filters", filters)
        check_count("groups", groups)
        check_choice("border", border, BORDERS)
        size, spacing = pair("kernel_size", kernel_size), pair("dilation", dilation)
        if padding is None:
            zeros = tuple(step * (side // 2) for step, side in zip(spacing, size))
        else:
            zeros = pair("padding", padding, least=0)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.deformable_groups = deformable_groups
        self.modulated = modulated
        self.border = border
        self.offset_rate = offset_rate
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        options = (kernel_size, strides, zeros, dilation, deformable_groups, modulated, offset_rate)
        self.offsets = OffsetBranch(*options, dtype=self.dtype_policy, name="offsets")

    def build(self, input_shape):
        """Create the kernel, the bias and the offset branch.

        Raises:
            ValueError: groups that do not divide the channels.
        """
        channels = input_shape[-1]
        if channels % self.groups or self.filters % self.groups:
            raise ValueError(
                f"groups is {self.groups}; it must divide the {channels} input channels and filters, "
                f"{self.filters}."
            )
        shape = (*self.offsets.kernel_size, channels // self.groups, self.filters)
        self.kernel = self.add_weight(shape, self.kernel_initializer, name="kernel")
        if self.use_bias:
            self.bias = self.add_weight((self.filters,), "zeros", name="bias")
        self.offsets.build(input_shape)

    def call(self, inputs):
        """Convolve: (B, H, W, C) -> (B, H', W', filters)."""
        outputs = convolve_moved(inputs, self.kernel, self.offsets, self.border)
        return outputs + ops.cast(self.bias, outputs.dtype) if self.use_bias else outputs

    def compute_output_shape(self, input_shape):
        """Return (B, H', W', filters)."""
        branch = self.offsets
        steps = (branch.padding, branch.dilation, branch.kernel_size, branch.strides)
        sizes = (
            extent and (extent + 2 * zeros - spacing * (size - 1) - 1) // step + 1
            for extent, zeros, spacing, size, step in zip(input_shape[1:3], *steps)
        )
        return (input_shape[0], *sizes, self.filters)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "deformable_groups": self.deformable_groups,
            "modulated": self.modulated,
            "border": self.border,
            "offset_rate": self.offset_rate,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable("kerasdet")
class DeformableConvNorm(ConvNorm):
    """`ConvNorm` whose taps are moved by offsets: the 3x3 convolution of deformable backbones.

    Args:
        filters: number of output channels.
        kernel_size: height and width of the kernel, odd.
        deformable_groups: groups of channels with offsets of their own.
        modulated: whether a mask weights the taps (version 2).
        border: "fade" or "cut", what a tap beyond the map reads; see `kerasdet.ops.deform_conv2d`.
        offset_rate: factor of the learning rate of the offsets' weights.
        **conv_norm: every other argument of `ConvNorm`; its padding is symmetric.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        deformable_groups=1,
        modulated=False,
        border="fade",
        offset_rate=OFFSET_RATE,
        **conv_norm,
    ):
        super().__init__(filters, kernel_size, **conv_norm)
        check_choice("padding", self.padding, ("symmetric",))
        check_choice("border", border, BORDERS)
        self.border = border
        zeros = self.dilation * (kernel_size // 2)
        options = (kernel_size, self.stride, zeros, self.dilation, deformable_groups, modulated)
        # After `norm`, so that the weights begin with those of a ConvNorm.
        self.offsets = OffsetBranch(*options, offset_rate, dtype=self.dtype_policy, name="offsets")

    def build(self, input_shape):
        """Create the kernel, the normalisation's weights and the offset branch."""
        super().build(input_shape)
        self.offsets.build(input_shape)

    def is_fused(self, training):
        """Return False: no graph fuses a deformable convolution, and the kernel absorbs the scales."""
        return False

    def convolve(self, inputs, kernel):
        """Convolve (B, H, W, C) with moved taps."""
        return convolve_moved(inputs, kernel, self.offsets, self.border)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "deformable_groups": self.offsets.deformable_groups,
            "modulated": self.offsets.modulated,
            "border": self.border,
            "offset_rate": self.offsets.rate_factor,
        }


@keras.saving.register_keras_serializable("kerasdet")
class Deformable:
    """Which stages of a backbone have deformable 3x3 convolutions, and of which kind.

    A backbone takes it as `deformable`. It has no weights.

    Args:
        levels: the stages, such as ("C5",) (DCN, section 3) or ("C3", "C4", "C5") (version 2, section 3.1);
            "C5" is also the dilated "C4_conv5".
        groups: groups of channels with offsets of their own.
        modulated: whether masks weight the taps (version 2).
        border: "fade" or "cut", what a tap beyond the map reads; see `kerasdet.ops.deform_conv2d`.
        offset_rate: factor of the learning rate of the offsets' weights.

    Example:
        >>> ResNet50(deformable=Deformable())
        >>> ResNet50(deformable=Deformable(("C3", "C4", "C5"), modulated=True))

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        levels=LEVELS,
        groups=1,
        modulated=False,
        border="fade",
        offset_rate=OFFSET_RATE,
    ):
        known = ("C2", "C3", "C4", "C5")
        if not levels or isinstance(levels, str) or not set(levels) <= set(known):
            raise ValueError(f"levels are {levels!r}; give some of {', '.join(known)} in a tuple.")
        check_count("groups", groups)
        check_choice("border", border, BORDERS)
        check_positive("offset_rate", offset_rate)
        self.levels = tuple(levels)
        self.groups = groups
        self.modulated = modulated
        self.border = border
        self.offset_rate = offset_rate

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            "levels": self.levels,
            "groups": self.groups,
            "modulated": self.modulated,
            "border": self.border,
            "offset_rate": self.offset_rate,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuild from `get_config`."""
        return cls(**config)


def conv_norm_of(deformable, stage):
    """Return what makes the 3x3 convolutions of a backbone's stage, with the arguments of `ConvNorm`.

    Args:
        deformable: a `Deformable`, or None.
        stage: number of the stage, 5 for "C5".
    """
    if deformable is None or f"C{stage}" not in deformable.levels:
        return ConvNorm
    return functools.partial(
        DeformableConvNorm,
        deformable_groups=deformable.groups,
        modulated=deformable.modulated,
        border=deformable.border,
        offset_rate=deformable.offset_rate,
    )


def convolve_moved(inputs, kernel, branch, border):
    """Convolve with the taps where a branch moves them.

    Args:
        inputs: (B, H, W, C).
        kernel: (kh, kw, C / groups, filters).
        branch: an `OffsetBranch`.
        border: "fade" or "cut".

    Returns:
        (B, H', W', filters) in the type of `inputs`.
    """
    offsets, mask = branch(inputs)
    steps = (branch.strides, branch.padding, branch.dilation)
    return deform_conv2d(inputs, offsets, kernel, mask, *steps, border)
