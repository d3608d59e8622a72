"""MobileNet, the first, laid out as TensorFlow's, so that weights of its Object Detection API fit.

Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications,
arXiv 1704.04861.

The levels are the last maps of each stride: "C2" 128 channels (block 3), "C3" 256 (block 5), "C4" 512
(block 11, from which SSD starts: arXiv 1611.10012), "C5" 1024 (block 13).

Layer names: `stem` is TensorFlow's `Conv2d_0`, `blockN_depthwise` and `blockN_pointwise` are
`Conv2d_N_depthwise` and `Conv2d_N_pointwise`; of `keras.applications`, `conv1`, `conv_dw_N` and
`conv_pw_N`.

Departure from the paper: ReLU6 instead of ReLU, as in both.
"""

import keras

from kerasdet.backbones.backbone import LEVELS, Backbone, highest_stage
from kerasdet.backbones.mobilenet_v2 import round_channels
from kerasdet.layers.conv import ConvNorm

HALF_RANGE = (127.5, 127.5, 127.5)  # pixels / 127.5 - 1
# Source: mobilenet_v1 table 1: output channels and stride of each depthwise separable convolution.
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *(((512, 1),) * 5),
    *((1024, 2), (1024, 1)),
)


@keras.saving.register_keras_serializable("kerasdet")
class MobileNetV1(Backbone):
    """Depthwise separable convolutions, padded as in TensorFlow.

    Args:
        alpha: width multiplier; channels are rounded to multiples of 8.
        levels: the levels to return; stages above the highest are not built.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.
        norm_epsilon: epsilon of the batch normalisation.

    Source: mobilenet_v1 §3 and table 1.
    """

    def __init__(
        self,
        alpha=1.0,
        levels=LEVELS,
        mean=HALF_RANGE,
        std=HALF_RANGE,
        norm_epsilon=1e-3,
        *,
        dtype=None,
        **kwargs,
    ):
        shared = {"activation": "relu6", "norm_epsilon": norm_epsilon, "dtype": dtype}
        shared["padding"] = "same"
        highest = highest_stage(levels)
        inputs = keras.Input((None, None, len(mean)), name="images")
        x = ConvNorm(round_channels(32 * alpha), 3, 2, name="stem", **shared)(inputs)
        outputs, stage = {}, 1
        for number, (channels, stride) in enumerate(BLOCKS, start=1):
            stage += stride == 2
            if stage > highest:
                break
            width = x.shape[-1]
            name = f"block{number}"
            x = ConvNorm(width, 3, stride, width, name=f"{name}_depthwise", **shared)(x)
            x = ConvNorm(round_channels(channels * alpha), 1, name=f"{name}_pointwise", **shared)(x)
            outputs[f"C{stage}"] = x
        super().__init__(inputs, outputs, levels, mean, std, dtype, **kwargs)
        self.alpha = alpha
        self.norm_epsilon = norm_epsilon

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "alpha": self.alpha, "norm_epsilon": self.norm_epsilon}
