"""Deformable region pooling, with a branch that predicts the offsets of the bins.

Deformable ConvNets (arXiv 1703.06211v3), section 2.2. The branches start at zero, so that training starts
from the plain operation; of a bin beyond the map, that operation counts the part outside as zeros. Offsets
and boxes stay float32 under every policy.
"""

import keras
from keras import ops

from kerasdet.layers.deform import OFFSET_RATE
from kerasdet.layers.roi import PositionSensitive, RegionPooling
from kerasdet.ops.checks import check_positive, pair
from kerasdet.ops.deform import GAMMA, deform_ps_roi_pool, deform_roi_pool
from kerasdet.ops.roi import ps_roi_pool

DENSE_RATE = 0.01  # section 2.2: beta of the dense layer
TAUGHT = {"autocast": False, "aggregation": "mean"}  # as in `OffsetBranch`


class _MovedBins:
    """The arguments that both deformable pooling layers add; `rate_factor` is that of all their weights."""

    def __init__(self, output_size, spatial_scale, gamma=GAMMA, rate_factor=None, **kwargs):
        super().__init__(output_size, spatial_scale, **kwargs)
        self.gamma = gamma
        self.rate_factor = self.RATE if rate_factor is None else rate_factor
        check_positive("gamma", gamma)
        check_positive("rate_factor", self.rate_factor)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "gamma": self.gamma, "rate_factor": self.rate_factor}


@keras.saving.register_keras_serializable("kerasdet")
class DeformableRoIPool(_MovedBins, RegionPooling):
    """Region pooling whose bins are moved by offsets that a dense layer predicts (section 2.2).

    The region is first pooled without offsets. A dense layer, zero at the start, then turns the result
    into the offsets of all bins.

    Args:
        output_size: bins, an integer or (h, w).
        spatial_scale: cells per pixel, 1/16 for a map of stride 16.
        gamma: factor of the offsets.
        rate_factor: factor of the learning rate of the dense layer's weights, default 0.01.

    Example:
        >>> layer = DeformableRoIPool(output_size=7, spatial_scale=1 / 16)
        >>> regions = layer(features, boxes)  # (B, H, W, C), (B, R, 4) -> (B, R, 7, 7, C)
    """

    RATE = DENSE_RATE

    def build(self, features_shape, boxes_shape):
        """Create the dense layer's weights."""
        height, width = pair("output_size", self.output_size)
        channels = self.only_map(features_shape)[-1]
        inputs, outputs = height * width * channels, height * width * 2
        self.kernel = self.add_weight((inputs, outputs), "zeros", name="kernel", **TAUGHT)
        self.bias = self.add_weight((outputs,), "zeros", name="bias", **TAUGHT)

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
    also gave the scores. Each region pools its own offsets from them, position by position. All classes share
    them; the paper's may also have offsets of their own.

    Args:
        output_size: k.
        spatial_scale: cells per pixel, 1/16 for a map of stride 16.
        gamma: factor of the offsets.
        rate_factor: factor of the learning rate of the convolution's weights, default 1.

    Example:
        >>> layer = DeformablePSRoIPool(output_size=7, spatial_scale=1 / 16)
        >>> regions = layer(scores, boxes, features)  # scores (B, H, W, 21 * 49) -> (B, R, 7, 7, 21)
    """

    TAKES_FEATURES = True
    RATE = OFFSET_RATE

    def build(self, scores_shape, boxes_shape, features_shape):
        """Create the convolution's weights."""
        outputs = 2 * pair("output_size", self.output_size)[0] ** 2
        shape = (1, 1, self.only_map(features_shape)[-1], outputs)
        self.kernel = self.add_weight(shape, "zeros", name="kernel", **TAUGHT)
        self.bias = self.add_weight((outputs,), "zeros", name="bias", **TAUGHT)

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
