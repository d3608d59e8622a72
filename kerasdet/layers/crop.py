"""Crop-and-resize as layers without weights: region pooling of TensorFlow's Object Detection API."""

import keras

from kerasdet.layers.roi import PositionSensitive, RegionPooling
from kerasdet.ops import crop, roi

CANVAS = "canvas"  # key of the canvases' sizes (B, 2), beside the maps


class _Crop(RegionPooling):
    """What both layers share: they take the canvas besides one map.

    `FasterRCNN` and `RFCN` pass both in one dict.

    Args:
        output_size: bins, an integer or (h, w).
        sampling_ratio: points per bin in each direction.
    """

    TAKES_CANVAS = True

    def __init__(self, output_size, sampling_ratio=1, **kwargs):
        super().__init__(output_size, 1.0, **kwargs)
        roi.check_sampling(sampling_ratio, "mean")
        self.sampling_ratio = sampling_ratio

    def only_map(self, features):
        """Return the map, or its shape, from a dict of one level and the canvas."""
        if isinstance(features, dict):
            features = {level: x for level, x in features.items() if level != CANVAS}
        return super().only_map(features)

    def canvas(self, features):
        """Return the canvas (B, 2) of the dict of features."""
        if not isinstance(features, dict) or CANVAS not in features:
            raise ValueError(
                f"{type(self).__name__} pools shares of the canvas and was given none: features must be "
                f'{{level: map, "{CANVAS}": (B, 2) height and width}}, as FasterRCNN and RFCN pass them.'
            )
        return features[CANVAS]

    def get_config(self):
        """Return the constructor's arguments."""
        config = {**super().get_config(), "sampling_ratio": self.sampling_ratio}
        del config["spatial_scale"]
        return config


@keras.saving.register_keras_serializable("kerasdet")
class CropAndResize(_Crop):
    """Means or maxima of points from a region's corner to its corner (arXiv 1611.10012).

    Args:
        output_size: bins, an integer or (h, w).
        sampling_ratio: points per bin in each direction.
        reduction: "mean" or "max" of a bin's points.

    Example:
        >>> layer = CropAndResize(output_size=7, sampling_ratio=2, reduction="max")
        >>> maps = {"C4": c4, "canvas": sizes}  # (B, H, W, C), (B, 2)
        >>> regions = layer(maps, boxes)  # (B, R, 4) -> (B, R, 7, 7, C)
    """

    def __init__(self, output_size, sampling_ratio=1, reduction="mean", **kwargs):
        super().__init__(output_size, sampling_ratio, **kwargs)
        roi.check_sampling(sampling_ratio, reduction)
        self.reduction = reduction

    def call(self, features, boxes):
        """Pool: {level: (B, H, W, C), "canvas": (B, 2)}, (B, R, 4) xyxy in pixels -> (B, R, h, w, C)."""
        options = self.output_size, self.sampling_ratio, self.reduction
        return crop.crop_and_resize(self.cast(features), boxes, self.canvas(features), *options)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "reduction": self.reduction}


@keras.saving.register_keras_serializable("kerasdet")
class PSCropAndResize(PositionSensitive, _Crop):
    """Means of points from corner to corner of each bin, of the bin's own channels: R-FCN's pooling.

    Args:
        output_size: k.
        sampling_ratio: points per bin in each direction.

    Example:
        >>> layer = PSCropAndResize(output_size=3, sampling_ratio=6)
        >>> maps = {"C4_conv5": score_maps, "canvas": sizes}  # (B, H, W, 91 * 9), (B, 2)
        >>> scores = layer(maps, boxes)  # (B, R, 4) -> (B, R, 3, 3, 91)
    """

    def call(self, features, boxes):
        """Pool: {level: (B, H, W, C k k), "canvas": (B, 2)}, (B, R, 4) in pixels -> (B, R, k, k, C)."""
        options = self.output_size, self.sampling_ratio
        return crop.ps_crop_and_resize(self.cast(features), boxes, self.canvas(features), *options)
