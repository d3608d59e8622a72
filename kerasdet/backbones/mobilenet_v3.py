"""MobileNetV3-Large, laid out so that torchvision's weights fit.

Howard et al., Searching for MobileNetV3, arXiv 1905.02244; squeeze and excitation: Hu et al., arXiv
1709.01507.

The levels are the last maps of each stride: "C2" 24 channels (block 3), "C3" 40 (block 6), "C4" 112
(block 12), "C5" 960 (the last convolution). "C5_first" is the first block at stride 32 (block 13, 160
channels): torchvision's Faster R-CNN builds its pyramid from "C5_first" and "C5", two maps of one size.
"C4_expand" is the expansion inside block 13 (672 channels, still at stride 16), from which SSDLite starts
(mobilenet_v3 §6.3).

Layer names: `stem` is torchvision's `features.0`, `block1` to `block15` are `features.1` to `.15`,
`last_conv` is `features.16`, the classifier's `last_dense` and `fc` are `classifier.0` and `.3`.

Departures from the paper: the squeezed channels, a quarter of the expanded ones, are rounded to
multiples of 8, as in torchvision. The moving statistics keep 0.97 at each step, as in all backbones
here and in torchvision's SSDLite; the paper and torchvision's classifier keep 0.99.
"""

from typing import ClassVar

import keras
from keras import ops

from kerasdet.backbones.backbone import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LEVELS,
    Backbone,
    expansions,
    highest_stage,
)
from kerasdet.backbones.mobilenet_v2 import round_channels
from kerasdet.layers.conv import Conv, ConvNorm

# Source: mobilenet_v3 table 1: kernel size, expanded channels, output channels, whether channels are
# squeezed and excited, activation, stride. `_tail` holds the last three.
BLOCKS = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
)
FIRST = "C5_first"
EXPANSIONS = {"C4_expand": 13}  # level: the block inside which it is


@keras.saving.register_keras_serializable("kerasdet")
class MobileNetV3Large(Backbone):
    """Inverted residuals with squeeze and excitation and hard-swish.

    Args:
        levels: the levels to return, from "C2" to "C5", "C4_expand" and "C5_first"; stages above the
            highest are not built.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.
        reduced_tail: whether to halve the channels at stride 32, as in SSDLite (mobilenet_v3 §6.3).
        norm_epsilon: epsilon of the batch normalisation; torchvision's Faster R-CNN uses 1e-5.

    Source: mobilenet_v3 §5 and table 1.
    """

    WIDER: ClassVar[dict] = {"C4": "C4_expand"}

    def __init__(
        self,
        levels=LEVELS,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        reduced_tail=False,
        norm_epsilon=1e-3,
        *,
        dtype=None,
        **kwargs,
    ):
        shared = {"norm_epsilon": norm_epsilon, "dtype": dtype}
        highest = highest_stage(levels, (*LEVELS, FIRST, *EXPANSIONS))
        # An expansion is the first layer of the next stage.
        highest += f"C{highest}_expand" in levels
        inputs = keras.Input((None, None, len(mean)), name="images")
        x = ConvNorm(16, 3, stride=2, activation="hard_swish", name="stem", **shared)(inputs)
        outputs = {}
        stage = 1
        for number, row in enumerate((*BLOCKS, *_tail(reduced_tail)), start=1):
            stage += row[-1] == 2
            if stage > highest:
                break
            x = _block(x, row, f"block{number}", shared)
            outputs[FIRST if number == len(BLOCKS) + 1 else f"C{stage}"] = x
        if highest == 5:
            filters = 6 * x.shape[-1]
            outputs["C5"] = ConvNorm(
                filters, 1, activation="hard_swish", name="last_conv", **shared
            )(x)
        outputs |= expansions(inputs, x, EXPANSIONS)
        super().__init__(inputs, outputs, levels, mean, std, dtype, **kwargs)
        self.reduced_tail = reduced_tail
        self.norm_epsilon = norm_epsilon

    def classifier_layers(self):
        """Return the dense layer of 1280 outputs (640 with a reduced tail) on the pooled "C5"."""
        units = 640 if self.reduced_tail else 1280
        policy = self.dtype_policy
        return [_PooledDense(units, activation="hard_swish", dtype=policy, name="last_dense")]

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "reduced_tail": self.reduced_tail,
            "norm_epsilon": self.norm_epsilon,
        }


def squeeze_excitation(x, name, dtype=None):
    """Scale each channel by a gate computed from the means of all channels.

    Args:
        x: (B, H, W, C) feature map.
        name: prefix of the layers' names.
        dtype: precision of the layers.

    Returns:
        (B, H, W, C): x times a gate in [0, 1] for each image and channel.

    Source: senet §3.1 and §3.2; mobilenet_v3 §5.2 (the hard sigmoid) and §5.3.
    """
    channels = x.shape[-1]
    squeezed = round_channels(channels // 4)
    pool = keras.layers.GlobalAveragePooling2D(keepdims=True, dtype=dtype, name=f"{name}_mean")
    reduce = Conv(squeezed, 1, activation="relu", dtype=dtype, name=f"{name}_squeeze")
    expand = Conv(channels, 1, activation="hard_sigmoid", dtype=dtype, name=f"{name}_excite")
    # Eq: senet §3.2 | s = sigma(W_2 delta(W_1 z)), x~_c = s_c x_c
    gate = expand(reduce(pool(x)))
    return keras.layers.Multiply(dtype=dtype, name=f"{name}_scale")([x, gate])


def _tail(reduced):
    """Return the blocks at stride 32; if reduced, all channels are halved but the expansion of block 12's."""
    divisor = 2 if reduced else 1
    filters = 160 // divisor
    return (
        (5, 672, filters, True, "hard_swish", 2),
        (5, 960 // divisor, filters, True, "hard_swish", 1),
        (5, 960 // divisor, filters, True, "hard_swish", 1),
    )


def _block(x, row, name, shared):
    """Expand by 1x1, filter each channel, scale the channels, project by 1x1: mobilenet_v3 figure 4."""
    size, expanded, filters, excited, activation, stride = row
    y = x
    if expanded != x.shape[-1]:
        y = ConvNorm(expanded, 1, activation=activation, name=f"{name}_expand", **shared)(y)
    depthwise = ConvNorm(
        expanded,
        size,
        stride,
        groups=expanded,
        activation=activation,
        name=f"{name}_depthwise",
        **shared,
    )
    y = depthwise(y)
    if excited:
        y = squeeze_excitation(y, name, shared["dtype"])
    y = ConvNorm(filters, 1, name=f"{name}_project", **shared)(y)
    if stride == 1 and x.shape[-1] == filters:
        y = keras.layers.Add(name=f"{name}_add", dtype=shared["dtype"])([x, y])
    return y


class _PooledDense(keras.layers.Dense):
    """Dense layer on the mean of each channel: (B, H, W, C) -> (B, 1, 1, units)."""

    @property
    def filters(self):
        return self.units

    def call(self, features, training=False):
        return super().call(ops.mean(features, axis=(1, 2), keepdims=True))

    def compute_output_shape(self, features_shape):
        return (features_shape[0], 1, 1, self.units)
