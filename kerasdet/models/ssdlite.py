"""SSDLite: SSD whose extra layers and predictors are separable convolutions, for mobile networks.

    Sandler, Howard, Zhu, Zhmoginov, Chen. MobileNetV2: Inverted Residuals and Linear Bottlenecks.
    CVPR 2018. arXiv 1801.04381v4, section 6.2. With MobileNetV3: Howard et al., arXiv 1905.02244v5,
    section 6.3.

Reading order: `SSDLite`, which is `SSD` with other parts and constants. The extra layers are
`kerasdet.layers.SeparableExtraLayers`, the predictors' depthwise convolutions
`kerasdet.layers.DepthwiseTowers`.

Departures from the paper:
    - Default boxes, extra layers and thresholds are torchvision's: the papers do not name them.

Results: the papers' figures are not reproduced. With torchvision's weights it finds torchvision's boxes
(`tests/parity`).

Axes: see `ssd.py`.
"""

from typing import ClassVar

import keras

from kerasdet.backbones import MobileNetV2, MobileNetV3Large
from kerasdet.layers.default_boxes import DefaultBoxes
from kerasdet.layers.extra_layers import SeparableExtraLayers
from kerasdet.layers.level_towers import DepthwiseTowers
from kerasdet.layers.resizing import Stretch
from kerasdet.models.ssd import SSD, crowd_arguments, maps_for_data
from kerasdet.ops.anchors import regular_scales

MAPS = 6  # mobilenet_v2, section 6.2: as SSD
RATIOS = (2, 3)
# torchvision's s_min and s_max; the scale after the last map is the whole image.
SMALLEST, LARGEST = 0.2, 0.95
OUTPUT_STD = 0.03  # torchvision's
HALF_RANGE = (127.5, 127.5, 127.5)  # pixels / 127.5 - 1
SMALL_EXTRAS = (256, 128)  # of the small detector


@keras.saving.register_keras_serializable("kerasdet")
class SSDLite(SSD):
    """SSD with separable convolutions (arXiv 1801.04381, section 6.2).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: default `MobileNetV3Large` with "C4_expand" and "C5", its tail reduced. With
            `MobileNetV2(levels=("C4_expand", "C5_last"))` it is the paper's.
        extras: default `SeparableExtraLayers()`.
        head: default `DepthwiseTowers()`.
        default_boxes: default six boxes at each place, scales from 0.2 to 0.95.
        candidates: boxes of each class that go into suppression.
        output_size: kernel size of the predictors, 1 after a depthwise 3x3 convolution.
        **detector: `confidence` and `location` (see `SSD`), `class_names`, `category_ids`, `resize` (default
            `Stretch(320)`), `score_threshold` (0.001), `iou_threshold` (0.55), `max_detections` (300),
            `name`: see `Detector`.

    Raises:
        ValueError: an argument is out of its range, or default boxes are not for as many maps as there are.
    """

    SIDE = 320
    DECODING: ClassVar = {"score_threshold": 0.001, "iou_threshold": 0.55, "max_detections": 300}

    def __init__(
        self,
        num_classes,
        backbone=None,
        extras=None,
        head=None,
        default_boxes=None,
        candidates=300,
        output_size=1,
        **detector,
    ):
        policy = detector.get("dtype")
        super().__init__(
            num_classes,
            backbone or _mobilenet(policy),
            extras or SeparableExtraLayers(dtype=policy, name="extras"),
            head or DepthwiseTowers(dtype=policy, name="head"),
            default_boxes or ssdlite_boxes(),
            candidates,
            output_size,
            **detector,
        )

    @classmethod
    def for_data(cls, data, resize=None, backbone=None, default_boxes="fitted", **detector):
        """Build a model for a data set.

        Args:
            data: `Dataset`, for its classes and the sizes of its objects.
            resize: `Resize` part of the model, of one canvas; default `Stretch(320)`.
            backbone: default MobileNetV2.
            default_boxes: "fitted" to the data's objects, or "paper": regular scales from 0.1 to 0.9.
            **detector: further arguments of the constructor.

        Raises:
            ValueError: an argument is out of its range.
        """
        extra, resize = len(SMALL_EXTRAS), resize or Stretch(cls.SIDE)
        backbone, default_boxes = maps_for_data(
            default_boxes, data, resize, backbone or MobileNetV2(), extra
        )
        extras = SeparableExtraLayers(SMALL_EXTRAS, backbone.levels, name="extras")
        return cls(
            backbone=backbone,
            extras=extras,
            default_boxes=default_boxes,
            resize=resize,
            **{**crowd_arguments(data, detector), **detector},
        )

    @staticmethod
    def output_initializer():
        """Return a new initializer for a predictor's kernel."""
        return keras.initializers.RandomNormal(0, OUTPUT_STD)


def ssdlite_boxes():
    """Return the 3234 default boxes of SSDLite at 320 x 320, as torchvision has them."""
    scales = (*regular_scales(MAPS, SMALLEST, LARGEST), 1.0)
    return DefaultBoxes((RATIOS,) * MAPS, scales, clip="sides")


def _mobilenet(dtype):
    settings = {"mean": HALF_RANGE, "std": HALF_RANGE, "reduced_tail": True, "dtype": dtype}
    return MobileNetV3Large(("C4_expand", "C5"), **settings)
