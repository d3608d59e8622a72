"""Deformable convolution and region pooling, each with a branch that predicts its offsets.

Deformable ConvNets (arXiv 1703.06211v3) and version 2 (arXiv 1811.11168v2). The branches start at zero,
so training starts from the plain operation; in region pooling, that operation counts the part of a bin
beyond the map as zeros. Offsets and boxes stay float32 under every policy.
"""

import keras
from keras import ops

from kerasdet.layers.roi import PositionSensitive, RegionPooling
from kerasdet.ops.checks import check_count, check_positive, pair
from kerasdet.ops.deform import GAMMA, deform_conv2d, deform_ps_roi_pool, deform_roi_pool
from kerasdet.ops.roi import ps_roi_pool


@keras.saving.register_keras_serializable("kerasdet")
class DeformableConv2D(keras.layers.Layer):
    """Convolution whose taps are moved by offsets, which a second convolution predicts (section 2.1).

    Args:
        filters: number of output channels.
        kernel_size: height and width of the kernel, an integer or two.
        strides: step, an integer or two.
        padding: zeros on each side, an integer or two; None: dilation * (kernel_size // 2), which keeps
            the size of the map if the kernel is odd and the step is 1.
        dilation: distance between taps, an integer or two.
        groups: groups of channels that are convolved separately.
        deformable_groups: groups of channels with offsets of their own.
        modulated: whether a mask weights the taps (version 2); it starts at one half, as in the paper.
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
        use_bias=True,
        kernel_initializer="he_normal",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_count("filters", filters)
        check_count("groups", groups)
        check_count("deformable_groups", deformable_groups)
        self._size = pair("kernel_size", kernel_size)
        self._step = pair("strides", strides)
        self._spacing = pair("dilation", dilation)
        same = tuple(spacing * (size // 2) for spacing, size in zip(self._spacing, self._size))
        self._zeros = same if padding is None else pair("padding", padding, least=0)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.deformable_groups = deformable_groups
        self.modulated = modulated
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        """Create the kernel, the bias and the offset branch.

        Raises:
            ValueError: groups that do not divide the channels.
        """
        channels, (height, width) = input_shape[-1], self._size
        for name, divided in (
            ("groups", (channels, self.filters)),
            ("deformable_groups", (channels,)),
        ):
            groups = getattr(self, name)
            if any(count % groups for count in divided):
                raise ValueError(
                    f"{name} is {groups}; it must divide the {channels} input channels"
                    f"{f' and filters, {self.filters}' if len(divided) > 1 else ''}."
                )
        taps = height * width * self.deformable_groups
        branch = (3 if self.modulated else 2) * taps
        shape = (height, width, channels // self.groups, self.filters)
        self.kernel = self.add_weight(shape, self.kernel_initializer, name="kernel")
        if self.use_bias:
            self.bias = self.add_weight((self.filters,), "zeros", name="bias")
        shape = (height, width, channels, branch)
        self.offset_kernel = self.add_weight(shape, "zeros", name="offset_kernel")
        self.offset_bias = self.add_weight((branch,), "zeros", name="offset_bias", autocast=False)

    def call(self, inputs):
        """Convolve: (B, H, W, C) -> (B, H', W', filters)."""
        offsets, mask = self._branch(inputs), None
        if self.modulated:
            offsets, mask = ops.split(offsets, [offsets.shape[-1] // 3 * 2], axis=-1)
            mask = ops.sigmoid(mask)
        options = (self._step, self._zeros, self._spacing)
        outputs = deform_conv2d(inputs, offsets, self.kernel, mask, *options)
        return outputs + ops.cast(self.bias, outputs.dtype) if self.use_bias else outputs

    def _branch(self, inputs):
        """Return offsets, followed by the mask's logits: (B, H', W', 2 or 3 G kh kw) float32."""
        padded = ops.pad(inputs, [(0, 0), *((zeros, zeros) for zeros in self._zeros), (0, 0)])
        dilated = max(self._spacing) > 1  # Keras' convolution then takes no stride
        outputs = ops.conv(
            padded,
            self.offset_kernel,
            strides=1 if dilated else self._step,
            padding="valid",
            dilation_rate=self._spacing,
        )
        if dilated:
            outputs = outputs[:, :: self._step[0], :: self._step[1]]
        return ops.cast(outputs, "float32") + self.offset_bias

    def compute_output_shape(self, input_shape):
        """Return (B, H', W', filters)."""
        extents = zip(input_shape[1:3], self._zeros, self._spacing, self._size, self._step)
        sizes = (
            extent and (extent + 2 * zeros - spacing * (size - 1) - 1) // step + 1
            for extent, zeros, spacing, size, step in extents
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
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


class _MovedBins:
    """The argument that both deformable pooling layers add."""

    def __init__(self, output_size, spatial_scale, gamma=GAMMA, **kwargs):
        super().__init__(output_size, spatial_scale, **kwargs)
        check_positive("gamma", gamma)
        self.gamma = gamma

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable("kerasdet")
class DeformableRoIPool(_MovedBins, RegionPooling):
    """Region pooling whose bins are moved by offsets that a dense layer predicts (section 2.2).

    The region is first pooled without offsets. A dense layer, zero at the start, then turns the result
    into the offsets of all bins.

    Args:
        output_size: bins, an integer or (h, w).
        spatial_scale: cells per pixel, 1/16 for a map of stride 16.
        gamma: factor of the offsets.

    Example:
        >>> layer = DeformableRoIPool(output_size=7, spatial_scale=1 / 16)
        >>> regions = layer(features, boxes)  # (B, H, W, C), (B, R, 4) -> (B, R, 7, 7, C)
    """

    def build(self, features_shape, boxes_shape):
        """Create the dense layer's weights."""
        height, width = pair("output_size", self.output_size)
        inputs, outputs = height * width * features_shape[-1], height * width * 2
        self.kernel = self.add_weight((inputs, outputs), "zeros", name="kernel", autocast=False)
        self.bias = self.add_weight((outputs,), "zeros", name="bias", autocast=False)

    def call(self, features, boxes):
        """Pool: (B, H, W, C), (B, R, 4) xyxy in image pixels -> (B, R, h, w, C)."""
        height, width = pair("output_size", self.output_size)
        batch, count = ops.shape(boxes)[:2]
        shape = (batch, count, height, width, 2)
        features = self.cast(features)
        options = (self.output_size, self.spatial_scale, self.gamma)
        pooled = deform_roi_pool(features, boxes, ops.zeros(shape, "float32"), *options)
        pooled = ops.reshape(pooled, (batch, count, height * width * features.shape[-1]))
        offsets = ops.matmul(ops.cast(pooled, "float32"), self.kernel) + self.bias
        return deform_roi_pool(features, boxes, ops.reshape(offsets, shape), *options)


@keras.saving.register_keras_serializable("kerasdet")
class DeformablePSRoIPool(_MovedBins, PositionSensitive, RegionPooling):
    """Position-sensitive pooling whose bins are moved by offsets from a second set of maps (section 2.2).

    A 1 x 1 convolution, zero at the start, computes 2 k k maps of offsets from the feature maps that
    also gave the scores. Each region pools its own offsets from them, position by position.

    Args:
        output_size: k.
        spatial_scale: cells per pixel, 1/16 for a map of stride 16.
        gamma: factor of the offsets.

    Example:
        >>> layer = DeformablePSRoIPool(output_size=7, spatial_scale=1 / 16)
        >>> regions = layer(scores, boxes, features)  # scores (B, H, W, 21 * 49) -> (B, R, 7, 7, 21)
    """

    def build(self, scores_shape, boxes_shape, features_shape):
        """Create the convolution's weights."""
        outputs = 2 * pair("output_size", self.output_size)[0] ** 2
        shape = (1, 1, features_shape[-1], outputs)
        self.kernel = self.add_weight(shape, "zeros", name="kernel", autocast=False)
        self.bias = self.add_weight((outputs,), "zeros", name="bias", autocast=False)

    def call(self, scores, boxes, features):
        """Pool each bin's own channels.

        Args:
            scores: (B, H, W, C k k), channel c k k + i k + j for bin (i, j) of class c.
            boxes: (B, R, 4) xyxy in image pixels.
            features: (B, H, W, F), from which offsets are predicted.

        Returns:
            (B, R, k, k, C).
        """
        features = self.cast(features)
        maps = ops.conv(features, ops.cast(self.kernel, features.dtype), padding="valid")
        maps = ops.cast(maps, "float32") + self.bias
        options = (self.output_size, self.spatial_scale)
        offsets = ps_roi_pool(maps, boxes, *options)
        return deform_ps_roi_pool(self.cast(scores), boxes, offsets, *options, self.gamma)

    def compute_output_shape(self, scores_shape, boxes_shape, features_shape):
        """Return (B, R, k, k, C)."""
        return super().compute_output_shape(scores_shape, boxes_shape)
