"""ResNet as TensorFlow's slim has it, so that weights of its Object Detection API fit.

He et al., Deep Residual Learning for Image Recognition, arXiv 1512.03385. The units are those of
`resnet.py`; what slim has otherwise (`tf_slim.nets.resnet_v1`, with an output stride of 16):

    - the last unit of a block halves the map, in its 3x3 convolution, and not the first of the next one. Its
      shortcut is every second cell of its input;
    - the first pooling is padded as TensorFlow does, an even side only at its end;
    - the fourth block, "C4_conv5", has stride 1 and no dilation, as in the Object Detection API's second
      stage.

The levels are the last maps of each stride: "C2" 256 channels, "C3" 512, "C4" 1024 (block 3), "C4_conv5"
2048.

Layer names are slim's scopes with `_` for `/`, without `bottleneck_v1`: `block1_unit_1_conv1`,
`block1_unit_1_shortcut`.
"""

import keras

from kerasdet.backbones.backbone import Backbone, highest_stage
from kerasdet.layers.conv import ConvNorm

LEVELS = ("C2", "C3", "C4", "C4_conv5")
MEAN = (
    123.68,
    116.779,
    103.939,
)  # VGG's, as the Object Detection API subtracts it; nothing is divided
WIDTHS = (64, 128, 256, 512)  # Source: resnet table 1
GROWTH = 4


@keras.saving.register_keras_serializable("kerasdet")
class SlimResNet(Backbone):
    """Residual network with bottlenecks, each block halving its map in its last unit.

    Args:
        blocks: number of units of blocks 1 to 4.
        levels: the levels to return, of `LEVELS`; blocks above the highest are not built.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.
        norm_epsilon: epsilon of the batch normalisation.

    Source: resnet §4.1 and table 1.
    """

    def __init__(
        self,
        blocks=(3, 4, 23, 3),
        levels=("C4", "C4_conv5"),
        mean=MEAN,
        std=(1.0, 1.0, 1.0),
        norm_epsilon=1e-5,
        *,
        dtype=None,
        **kwargs,
    ):
        highest_stage(levels, LEVELS)
        shared = {"norm_epsilon": norm_epsilon, "dtype": dtype}
        inputs = keras.Input((None, None, len(mean)), name="images")
        x = ConvNorm(64, 7, stride=2, activation="relu", name="conv1", **shared)(inputs)
        x = keras.layers.MaxPooling2D(3, 2, padding="same", name="pool1", dtype=dtype)(x)
        outputs = {}
        for number, (level, count, width) in enumerate(zip(LEVELS, blocks, WIDTHS), start=1):
            for unit in range(1, count + 1):
                name = f"block{number}_unit_{unit}"
                halves = unit == count and number < 3
                if halves:
                    outputs[level] = x
                x = _unit(x, width, 2 if halves else 1, name, shared)
            outputs.setdefault(level, x)
            if not set(levels) - outputs.keys():
                break
        super().__init__(inputs, outputs, levels, mean, std, dtype, **kwargs)
        self.blocks = tuple(blocks)
        self.norm_epsilon = norm_epsilon

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "blocks": self.blocks,
            "norm_epsilon": self.norm_epsilon,
        }


def _unit(x, width, stride, name, shared):
    """Apply 1x1, 3x3 and 1x1 convolutions and the shortcut: resnet figure 5, right."""
    y = ConvNorm(width, 1, activation="relu", name=f"{name}_conv1", **shared)(x)
    y = ConvNorm(width, 3, stride, activation="relu", name=f"{name}_conv2", **shared)(y)
    y = ConvNorm(GROWTH * width, 1, name=f"{name}_conv3", **shared)(y)
    dtype = shared["dtype"]
    if x.shape[-1] != GROWTH * width:
        x = ConvNorm(GROWTH * width, 1, stride, name=f"{name}_shortcut", **shared)(x)
    elif stride > 1:
        x = keras.layers.MaxPooling2D(1, stride, name=f"{name}_subsample", dtype=dtype)(x)
    x = keras.layers.Add(name=f"{name}_add", dtype=dtype)([y, x])
    return keras.layers.ReLU(name=f"{name}_out", dtype=dtype)(x)
