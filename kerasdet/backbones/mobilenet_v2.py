"""MobileNetV2, laid out so that torchvision's weights fit.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381.

The levels are the linear bottlenecks at the end of each stride: "C2" 24 channels (block 3), "C3" 32
(block 6), "C4" 96 (block 13), "C5" 320 (block 17). The last convolution (1280 channels) belongs to
the classifier (`classifier_layers`), not to the levels: a neck projects its input anyway, and 320
channels carry the same information at a quarter of the cost. SSD and SSDLite take wider maps:
"C3_expand" (192 channels, block 7) and "C4_expand" (576, block 14) are the expansions by which the next
stride's first block begins, still at the old stride; "C5_last" is the last convolution.

Layer names: `stem` is torchvision's `features.0`, `block1` to `block17` are `features.1` to `.17`,
`last_conv` is `features.18`.
"""

from typing import ClassVar

import keras

from kerasdet.backbones.backbone import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LEVELS,
    Backbone,
    expansions,
    highest_stage,
)
from kerasdet.layers.conv import ConvNorm
from kerasdet.layers.deform import conv_norm_of

# Source: mobilenet_v2 table 2: expansion t, channels c, repetitions n, stride s.
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Level: the block inside which it is.
EXPANSIONS = {"C2_expand": 4, "C3_expand": 7, "C4_expand": 14}
LAST = "C5_last"


@keras.saving.register_keras_serializable("kerasdet")
class MobileNetV2(Backbone):
    """Inverted residuals with linear bottlenecks.

    Args:
        alpha: width multiplier; channels are rounded to multiples of 8.
        levels: the levels to return, among them "C2_expand", "C3_expand", "C4_expand" and "C5_last"; stages
            above the highest are not built.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.
        norm_epsilon: epsilon of the batch normalisation.
        deformable: a `kerasdet.layers.Deformable`, which says where the depthwise convolutions are
            deformable, or None.

    Source: mobilenet_v2 §4 and table 2.
    """

    WIDER: ClassVar[dict] = {f"C{number}": f"C{number}_expand" for number in (2, 3, 4)}

    def __init__(
        self,
        alpha=1.0,
        levels=LEVELS,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        norm_epsilon=1e-5,
        *,
        deformable=None,
        dtype=None,
        **kwargs,
    ):
        shared = {"norm_epsilon": norm_epsilon, "dtype": dtype}
        highest = highest_stage(levels, (*LEVELS, *EXPANSIONS, LAST))
        # An expansion is the first layer of the next stage.
        highest += f"C{highest}_expand" in levels
        inputs = keras.Input((None, None, len(mean)), name="images")
        stem = round_channels(32 * alpha)
        x = ConvNorm(stem, 3, stride=2, activation="relu6", name="stem", **shared)(inputs)
        outputs = {}
        stage, number = 1, 1
        for expansion, channels, repetitions, first_stride in BLOCKS:
            stage += first_stride == 2
            if stage > highest:
                break
            for index in range(repetitions):
                stride = first_stride if index == 0 else 1
                width = round_channels(channels * alpha)
                options = shared | {"conv": conv_norm_of(deformable, stage)}
                x = inverted_residual(x, width, stride, expansion, f"block{number}", **options)
                number += 1
            outputs[f"C{stage}"] = x
        outputs |= expansions(inputs, x, EXPANSIONS)
        if LAST in levels:
            outputs[LAST] = _last_conv(alpha, **shared)(x)
        super().__init__(inputs, outputs, levels, mean, std, dtype, **kwargs)
        self.alpha = alpha
        self.norm_epsilon = norm_epsilon
        self.deformable = deformable

    def classifier_layers(self):
        """Return the last 1x1 convolution, with at least 1280 channels (mobilenet_v2 §4)."""
        return [_last_conv(self.alpha, self.norm_epsilon, self.dtype_policy)]

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "norm_epsilon": self.norm_epsilon,
            "deformable": keras.saving.serialize_keras_object(self.deformable),
        }


def inverted_residual(
    x, filters, stride, expansion, name, *, conv=ConvNorm, norm_epsilon=1e-5, dtype=None
):
    """Expand by 1x1, filter each channel by 3x3, project by 1x1 without activation.

    Args:
        x: (B, H, W, C) feature map.
        filters: output channels.
        stride: stride of the 3x3 convolution.
        expansion: the inner width as a multiple of C; 1 leaves out the expanding convolution.
        name: prefix of the layers' names.
        conv: makes the 3x3 convolution, `ConvNorm` or `DeformableConvNorm`.
        norm_epsilon: epsilon of the batch normalisation.
        dtype: precision of the layers.

    Returns:
        (B, ceil(H / stride), ceil(W / stride), filters) feature map; x is added to it if the shapes
        agree.

    Source: mobilenet_v2 §3.3, §3.4 and table 1.
    """
    shared = {"norm_epsilon": norm_epsilon, "dtype": dtype}
    inner = x.shape[-1] * expansion
    y = x
    if expansion > 1:
        y = ConvNorm(inner, 1, activation="relu6", name=f"{name}_expand", **shared)(y)
    wide = {"stride": stride, "groups": inner, "activation": "relu6"}
    y = conv(inner, 3, name=f"{name}_depthwise", **wide, **shared)(y)
    y = ConvNorm(filters, 1, name=f"{name}_project", **shared)(y)
    if stride == 1 and x.shape[-1] == filters:
        y = keras.layers.Add(name=f"{name}_add", dtype=dtype)([x, y])
    return y


def _last_conv(alpha, norm_epsilon, dtype):
    filters = round_channels(1280 * max(1.0, alpha))
    shared = {"norm_epsilon": norm_epsilon, "dtype": dtype}
    return ConvNorm(filters, 1, activation="relu6", name="last_conv", **shared)


def round_channels(channels, divisor=8):
    """Round to the nearest multiple of `divisor`, at least `divisor` and 90 % of `channels`."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
