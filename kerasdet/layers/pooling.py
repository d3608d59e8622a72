"""Pooling of whole maps by windows and spatial pyramids, maxout, L2 and local response norms, as layers."""

import keras

from kerasdet.ops.checks import check_choice, check_count, check_positive
from kerasdet.ops.pooling import (
    check_levels,
    check_response_norm,
    check_windows,
    l2_normalize,
    local_response_norm,
    max_pool,
    maxout,
    pooled_side,
    spatial_pyramid_pool,
)


@keras.saving.register_keras_serializable("kerasdet")
class MaxPool(keras.layers.Layer):
    """Maximum of each window, with Caffe's and PyTorch's padding and sizes.

    Args:
        size: height and width of a window.
        stride: step in both directions.
        padding: cells on every side that no maximum comes from, at most half of `size`.
        ceil_mode: whether a window that the map's end cuts off counts too (Caffe's rule).

    Example:
        >>> MaxPool(3, 2)(features)  # (B, 14, 14, C) -> (B, 7, 7, C)
    """

    def __init__(self, size, stride, padding=0, ceil_mode=True, **kwargs):
        super().__init__(**kwargs)
        check_windows(size, stride, padding)
        self.size = size
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode

    def build(self, input_shape):
        """Do nothing: the layer has no weights."""
        self.built = True

    def call(self, inputs):
        """Pool: (B, H, W, C) -> (B, h, w, C)."""
        return max_pool(inputs, self.size, self.stride, self.padding, self.ceil_mode)

    def compute_output_shape(self, input_shape):
        """Return (B, h, w, C)."""
        window = (self.size, self.stride, self.padding, self.ceil_mode)
        batch, *sides, channels = input_shape
        return (batch, *(pooled_side(side, *window) for side in sides), channels)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "size": self.size,
            "stride": self.stride,
            "padding": self.padding,
            "ceil_mode": self.ceil_mode,
        }


@keras.saving.register_keras_serializable("kerasdet")
class LocalResponseNorm(keras.layers.Layer):
    """Divide each response by a power of the squares around it (AlexNet, section 3.3), in float32.

    Args:
        size: neighbours that count: channels, or with `within_channel` cells in both directions; odd.
        alpha: weight of their mean square, as in Caffe and PyTorch.
        beta: exponent.
        k: added to the mean.
        within_channel: whether the neighbours are cells of the same channel (Caffe's WITHIN_CHANNEL).

    Example:
        >>> LocalResponseNorm(5, alpha=1e-4)(features)  # (B, H, W, C) -> the same shape
    """

    def __init__(self, size=5, alpha=1e-4, beta=0.75, k=1.0, within_channel=False, **kwargs):
        super().__init__(**kwargs)
        check_response_norm(size, alpha, beta, k)
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k
        self.within_channel = within_channel

    def build(self, input_shape):
        """Do nothing: the layer has no weights."""
        self.built = True

    def call(self, inputs):
        """Normalise: (B, H, W, C) -> (B, H, W, C)."""
        constants = (self.size, self.alpha, self.beta, self.k, self.within_channel)
        return local_response_norm(inputs, *constants)

    def compute_output_shape(self, input_shape):
        """Return the input's shape."""
        return input_shape

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "k": self.k,
            "within_channel": self.within_channel,
        }


@keras.saving.register_keras_serializable("kerasdet")
class SpatialPyramidPooling(keras.layers.Layer):
    """Pool maps of any size, or windows of them, to vectors of fixed length (SPP-net, arXiv 1406.4729).

    Args:
        levels: bins per side of each level.
        pooling: "max" or "average" of a bin.
        spatial_scale: cells per pixel, used with boxes.

    Example:
        >>> layer = SpatialPyramidPooling(levels=(1, 2, 3, 6))
        >>> vector = layer(features)  # (B, H, W, C) -> (B, 50, C)
        >>> vectors = layer(features, boxes)  # and (B, R, 4) -> (B, R, 50, C)
    """

    def __init__(self, levels=(1, 2, 3, 6), pooling="max", spatial_scale=1.0, **kwargs):
        super().__init__(**{**kwargs, "autocast": False})
        check_levels(levels)
        check_choice("pooling", pooling, ("max", "average"))
        check_positive("spatial_scale", spatial_scale)
        self.levels = levels
        self.pooling = pooling
        self.spatial_scale = spatial_scale

    def build(self, features_shape, boxes_shape=None):
        """Do nothing: the layer has no weights."""
        self.built = True

    def call(self, features, boxes=None):
        """Pool (B, H, W, C) to (B, n, C); with boxes (B, R, 4) xyxy in image pixels, to (B, R, n, C)."""
        features = keras.ops.cast(features, self.compute_dtype)
        options = (self.levels, self.pooling, boxes, self.spatial_scale)
        return spatial_pyramid_pool(features, *options)

    def compute_output_shape(self, features_shape, boxes_shape=None):
        """Return (B, sum of n n, C), or (B, R, sum of n n, C)."""
        batch, *_, channels = features_shape
        regions = () if boxes_shape is None else (boxes_shape[1],)
        return (batch, *regions, sum(level**2 for level in self.levels), channels)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "levels": self.levels,
            "pooling": self.pooling,
            "spatial_scale": self.spatial_scale,
        }


@keras.saving.register_keras_serializable("kerasdet")
class Maxout(keras.layers.Layer):
    """Maximum over groups of channels (arXiv 1302.4389v4, section 3).

    Args:
        num_units: channels of the result; must divide the input's channels.
        axis: the axis of the channels.

    Example:
        >>> Maxout(num_units=64)(inputs)  # (B, H, W, 256) -> (B, H, W, 64)
    """

    def __init__(self, num_units, axis=-1, **kwargs):
        super().__init__(**kwargs)
        check_count("num_units", num_units)
        self.num_units = num_units
        self.axis = axis

    def build(self, input_shape):
        """Do nothing: the layer has no weights."""
        self.built = True

    def call(self, inputs):
        """Reduce: (..., C) -> (..., num_units)."""
        return maxout(inputs, self.num_units, self.axis)

    def compute_output_shape(self, input_shape):
        """Return the input's shape with `num_units` channels."""
        shape = list(input_shape)
        shape[self.axis] = self.num_units
        return tuple(shape)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "num_units": self.num_units, "axis": self.axis}


@keras.saving.register_keras_serializable("kerasdet")
class L2Normalization(keras.layers.Layer):
    """Scale each place's channels to Euclidean norm 1, times a learned scale per channel (SSD, section 3.1).

    Args:
        scale: initial value of the scale; SSD's conv4_3 uses 20.
        epsilon: least squared norm, so that zeros stay zero.

    Example:
        >>> L2Normalization()(conv4_3)  # (B, 38, 38, 512) -> the same shape
    """

    def __init__(self, scale=20.0, epsilon=1e-12, **kwargs):
        super().__init__(**kwargs)
        check_positive("epsilon", epsilon)
        self.initial_scale = scale
        self.epsilon = epsilon

    def build(self, input_shape):
        """Create the scale, one value per channel."""
        start = keras.initializers.Constant(self.initial_scale)
        self.scale = self.add_weight((input_shape[-1],), start, name="scale", autocast=False)

    def call(self, inputs):
        """Normalise: (..., C) -> (..., C)."""
        return l2_normalize(inputs, self.scale, self.epsilon)

    def compute_output_shape(self, input_shape):
        """Return the input's shape."""
        return input_shape

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "scale": self.initial_scale, "epsilon": self.epsilon}
