"""Region pooling as layers without weights.

Features are pooled in the layer's compute type; boxes stay float32 under every policy.
"""

import keras
from keras import ops

from kerasdet.ops import roi
from kerasdet.ops.checks import check_count, check_positive, pair


class RegionPooling(keras.layers.Layer):
    """Base of the layers that pool from one map: their first two arguments and the shape of the result.

    The map may also be a dict of one level, as models pass it.

    Args:
        output_size: bins, an integer or (h, w).
        spatial_scale: cells per pixel.
    """

    def __init__(self, output_size, spatial_scale, **kwargs):
        super().__init__(**{**kwargs, "autocast": False})
        pair("output_size", output_size)
        check_positive("spatial_scale", spatial_scale)
        self.output_size = output_size
        self.spatial_scale = spatial_scale

    def build(self, features_shape, boxes_shape):
        """Do nothing: the layer has no weights."""
        self.built = True

    def compute_output_shape(self, features_shape, boxes_shape):
        """Return (B, R, h, w, C)."""
        channels = self.only_map(features_shape)[-1]
        return (*boxes_shape[:2], *pair("output_size", self.output_size), channels)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "output_size": self.output_size,
            "spatial_scale": self.spatial_scale,
        }

    def cast(self, features):
        """Cast the features to the layer's compute type."""
        return ops.cast(self.only_map(features), self.compute_dtype)

    def only_map(self, features):
        """Return the map, or its shape, from a dict of one level."""
        if not isinstance(features, dict):
            return features
        if len(features) > 1:
            raise ValueError(
                f"{type(self).__name__} pools from one map and got {', '.join(features)}; use "
                "MultilevelRoIAlign or MultilevelRoIPool."
            )
        return next(iter(features.values()))


class PositionSensitive:
    """The result's shape of position-sensitive layers, which turn k k channels of the features into one.

    Attributes:
        TAKES_FEATURES: of the class, whether it is also called with the features that gave the scores.
    """

    TAKES_FEATURES = False

    def compute_output_shape(self, features_shape, boxes_shape):
        """Return (B, R, k, k, C)."""
        *shape, channels = super().compute_output_shape(features_shape, boxes_shape)
        return (*shape, channels // (shape[-2] * shape[-1]))


@keras.saving.register_keras_serializable("kerasdet")
class RoIPool(RegionPooling):
    """Maxima of bins of whole cells (Fast R-CNN, arXiv 1504.08083, section 2.1).

    Args:
        output_size: bins, an integer or (h, w).
        spatial_scale: cells per pixel, 1/16 for a map of stride 16.
        rounding: "cells", or "pixels" for the authors' weights; see `kerasdet.ops.roi_pool`.

    Example:
        >>> layer = RoIPool(output_size=7, spatial_scale=1 / 16)
        >>> regions = layer(features, boxes)  # (B, H, W, C), (B, R, 4) -> (B, R, 7, 7, C)
    """

    def __init__(self, output_size, spatial_scale, rounding="cells", **kwargs):
        super().__init__(output_size, spatial_scale, **kwargs)
        roi.check_rounding(rounding)
        self.rounding = rounding

    def call(self, features, boxes):
        """Pool: (B, H, W, C), (B, R, 4) xyxy in image pixels -> (B, R, h, w, C)."""
        options = (self.output_size, self.spatial_scale, self.rounding)
        return roi.roi_pool(self.cast(features), boxes, *options)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "rounding": self.rounding}


@keras.saving.register_keras_serializable("kerasdet")
class RoIAlign(RegionPooling):
    """Means or maxima of points between the cells (Mask R-CNN, arXiv 1703.06870, section 3).

    Args:
        output_size: bins, an integer or (h, w).
        spatial_scale: cells per pixel, 1/16 for a map of stride 16.
        sampling_ratio: points per bin in each direction; None: as many as the bin has cells, rounded up.
        aligned: whether cell (0, 0) is half a cell from the image's corner.
        reduction: "mean" or "max" of a bin's points.

    Example:
        >>> layer = RoIAlign(output_size=14, spatial_scale=1 / 16)
        >>> regions = layer(features, boxes)  # (B, H, W, C), (B, R, 4) -> (B, R, 14, 14, C)
    """

    def __init__(
        self,
        output_size,
        spatial_scale,
        sampling_ratio=2,
        aligned=False,
        reduction="mean",
        **kwargs,
    ):
        super().__init__(output_size, spatial_scale, **kwargs)
        roi.check_sampling(sampling_ratio, reduction)
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.reduction = reduction

    def call(self, features, boxes):
        """Pool: (B, H, W, C), (B, R, 4) xyxy in image pixels -> (B, R, h, w, C)."""
        return roi.roi_align(
            self.cast(features),
            boxes,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
            self.reduction,
        )

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "sampling_ratio": self.sampling_ratio,
            "aligned": self.aligned,
            "reduction": self.reduction,
        }


class MultilevelPooling(keras.layers.Layer):
    """Base of the layers that pool from a pyramid: the size of their result.

    A pyramid has consecutive levels, and level k has stride 2^k. A single level is a pyramid too.

    Args:
        output_size: bins, an integer or (h, w).
    """

    def __init__(self, output_size, **kwargs):
        super().__init__(**{**kwargs, "autocast": False})
        pair("output_size", output_size)
        self.output_size = output_size

    def build(self, pyramid_shape, boxes_shape):
        """Do nothing: the layer has no weights."""
        self.built = True

    def compute_output_shape(self, pyramid_shape, boxes_shape):
        """Return (B, R, h, w, C)."""
        channels = next(iter(pyramid_shape.values()))[-1]
        return (*boxes_shape[:2], *pair("output_size", self.output_size), channels)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "output_size": self.output_size}

    def cast(self, pyramid):
        """Cast the maps to the layer's compute type."""
        return {level: ops.cast(map_, self.compute_dtype) for level, map_ in pyramid.items()}


@keras.saving.register_keras_serializable("kerasdet")
class MultilevelRoIAlign(MultilevelPooling):
    """RoIAlign from the pyramid level that fits each region (FPN, arXiv 1612.03144, section 4.2).

    Args:
        output_size: bins, an integer or (h, w).
        sampling_ratio: points per bin in each direction; None: as many as the bin has cells, rounded up.
        aligned: whether cell (0, 0) is half a cell from the image's corner.
        reduction: "mean" or "max" of a bin's points.

    Example:
        >>> layer = MultilevelRoIAlign(output_size=7)
        >>> regions = layer({"P2": p2, "P3": p3, "P4": p4, "P5": p5}, boxes)  # (B, R, 7, 7, C)
    """

    def __init__(self, output_size, sampling_ratio=2, aligned=False, reduction="mean", **kwargs):
        super().__init__(output_size, **kwargs)
        roi.check_sampling(sampling_ratio, reduction)
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.reduction = reduction

    def call(self, pyramid, boxes):
        """Pool: {"P2": (B, H, W, C), ...}, (B, R, 4) xyxy in image pixels -> (B, R, h, w, C)."""
        options = (self.output_size, self.sampling_ratio, self.aligned, self.reduction)
        return roi.multilevel_roi_align(self.cast(pyramid), boxes, *options)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "sampling_ratio": self.sampling_ratio,
            "aligned": self.aligned,
            "reduction": self.reduction,
        }


@keras.saving.register_keras_serializable("kerasdet")
class MultilevelRoIPool(MultilevelPooling):
    """RoIPool from the pyramid level that fits each region (FPN, arXiv 1612.03144, section 4.2).

    A baseline for `MultilevelRoIAlign`. Every level is pooled for every region.

    Args:
        output_size: bins, an integer or (h, w).

    Example:
        >>> layer = MultilevelRoIPool(output_size=7)
        >>> regions = layer({"P2": p2, "P3": p3, "P4": p4, "P5": p5}, boxes)  # (B, R, 7, 7, C)
    """

    def call(self, pyramid, boxes):
        """Pool: {"P2": (B, H, W, C), ...}, (B, R, 4) xyxy in image pixels -> (B, R, h, w, C)."""
        return roi.multilevel_roi_pool(self.cast(pyramid), boxes, self.output_size)


@keras.saving.register_keras_serializable("kerasdet")
class PSRoIPool(PositionSensitive, RegionPooling):
    """Means of each bin's own channels (R-FCN, arXiv 1605.06409, section 2).

    Args:
        output_size: k.
        spatial_scale: cells per pixel, 1/16 for a map of stride 16.
        rounding: "cells", or "pixels" for the authors' weights; see `kerasdet.ops.ps_roi_pool`.

    Example:
        >>> layer = PSRoIPool(output_size=7, spatial_scale=1 / 16)
        >>> scores = layer(maps, boxes)  # (B, H, W, 21 * 49), (B, R, 4) -> (B, R, 7, 7, 21)
        >>> votes = keras.ops.mean(scores, axis=(2, 3))
    """

    def __init__(self, output_size, spatial_scale, rounding="cells", **kwargs):
        super().__init__(output_size, spatial_scale, **kwargs)
        roi.check_rounding(rounding)
        self.rounding = rounding

    def call(self, features, boxes):
        """Pool: (B, H, W, C k k), (B, R, 4) xyxy in image pixels -> (B, R, k, k, C)."""
        options = (self.output_size, self.spatial_scale, self.rounding)
        return roi.ps_roi_pool(self.cast(features), boxes, *options)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "rounding": self.rounding}


@keras.saving.register_keras_serializable("kerasdet")
class PSRoIAlign(PositionSensitive, RegionPooling):
    """Means of points between the cells of each bin's own channels: R-FCN's pooling with RoIAlign.

    Args:
        output_size: k.
        spatial_scale: cells per pixel, 1/16 for a map of stride 16.
        sampling_ratio: points per bin in each direction.

    Example:
        >>> layer = PSRoIAlign(output_size=7, spatial_scale=1 / 16)
        >>> scores = layer(maps, boxes)  # (B, H, W, 21 * 49), (B, R, 4) -> (B, R, 7, 7, 21)
    """

    def __init__(self, output_size, spatial_scale, sampling_ratio=2, **kwargs):
        super().__init__(output_size, spatial_scale, **kwargs)
        check_count("sampling_ratio", sampling_ratio)
        self.sampling_ratio = sampling_ratio

    def call(self, features, boxes):
        """Pool: (B, H, W, C k k), (B, R, 4) xyxy in image pixels -> (B, R, k, k, C)."""
        return roi.ps_roi_align(
            self.cast(features), boxes, self.output_size, self.spatial_scale, self.sampling_ratio
        )

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "sampling_ratio": self.sampling_ratio}


@keras.saving.register_keras_serializable("kerasdet")
class MultilevelPSRoIAlign(PositionSensitive, MultilevelPooling):
    """`PSRoIAlign` from the pyramid level that fits each region (FPN, arXiv 1612.03144, section 4.2).

    Args:
        output_size: k.
        sampling_ratio: points per bin in each direction.

    Example:
        >>> layer = MultilevelPSRoIAlign(output_size=3)
        >>> scores = layer({"P2": p2, "P3": p3}, boxes)  # (B, H, W, 21 * 9), ... -> (B, R, 3, 3, 21)
    """

    def __init__(self, output_size, sampling_ratio=2, **kwargs):
        super().__init__(output_size, **kwargs)
        check_count("sampling_ratio", sampling_ratio)
        self.sampling_ratio = sampling_ratio

    def call(self, pyramid, boxes):
        """Pool: {"P2": (B, H, W, C k k), ...}, (B, R, 4) xyxy in image pixels -> (B, R, k, k, C)."""
        return roi.multilevel_ps_roi_align(
            self.cast(pyramid), boxes, self.output_size, self.sampling_ratio
        )

    def compute_output_shape(self, pyramid_shape, boxes_shape):
        """Return (B, R, k, k, C)."""
        return super().compute_output_shape(pyramid_shape, boxes_shape)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "sampling_ratio": self.sampling_ratio}
