"""GoogLeNet, laid out so that Caffe's and torchvision's weights fit.

Szegedy et al., Going Deeper with Convolutions, arXiv 1409.4842. Read `inception.py` first; the network is the
table `STAGES`. Its side classifiers, which serve training alone, are left out.

The levels are the last maps of each stride: "C2" 192 channels (conv2), "C3" 480 (inception 3b), "C4" 832
(4e), "C5" 1024 (5b). "C1" is allowed only in `freeze_at`.

Layer names are Caffe's with `_` for `/`: `conv1_7x7_s2`, `inception_3a_5x5_reduce`. Of torchvision's, `conv1`
to `conv3` are `conv1_7x7_s2`, `conv2_3x3_reduce` and `conv2_3x3`, `inception3a.branch1` is
`inception_3a_1x1`, `.branch2.0` and `.1` are `..._3x3_reduce` and `..._3x3`, `.branch3` is the 5x5's,
`.branch4.1` is `..._pool_proj`.

The poolings keep a window that the map's end cuts off, as in Caffe, and pad nothing: cell (i, j) of "Cn"
begins at pixel (2**n i, 2**n j). "Cn" is H / 2**n high where that is whole, else up to one cell lower.
"""

import keras

from kerasdet.backbones.alexnet import CAFFE_NORM
from kerasdet.backbones.backbone import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LEVELS,
    Backbone,
    highest_stage,
)
from kerasdet.backbones.inception import Parts
from kerasdet.layers.conv import Conv
from kerasdet.layers.pooling import LocalResponseNorm, MaxPool
from kerasdet.ops.checks import check_choice

# Source: GoogLeNet's table 1: 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, the pooling's projection.
STAGES = {
    3: {"3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64)},
    4: {
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
    },
    5: {"5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)},
}


class _PlainParts(Parts):
    """The layers as published: convolutions with a bias."""

    def conv(self, x, name, filters, size, stride=1, padding=None):
        return Conv(filters, size, stride, activation="relu", name=name, dtype=self.dtype)(x)


@keras.saving.register_keras_serializable("kerasdet")
class GoogLeNet(Backbone):
    """GoogLeNet, Inception v1.

    Args:
        norm: None, as published: local response normalisation in the stem, branches of 5x5; or "batch",
            as torchvision has it: batch normalisation everywhere, 3x3 in the place of 5x5, and a last pooling
            of 2 x 2 cells. Torchvision's published weights take `mean` and `std` of 127.5.
        levels: the levels to return; stages above the highest are not built.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.

    Source: arXiv 1409.4842, §5 and table 1.
    """

    def __init__(
        self,
        norm=None,
        levels=LEVELS,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        *,
        dtype=None,
        **kwargs,
    ):
        check_choice("norm", norm, (None, "batch"))
        parts = Parts(dtype) if norm else _PlainParts(dtype)
        highest = highest_stage(levels)
        inputs = keras.Input((None, None, len(mean)), name="images")
        x, outputs = _stem(inputs, parts, plain=norm is None)
        for stage in range(3, highest + 1):
            size = 2 if norm and stage == 5 else 3
            x = MaxPool(size, 2, name=_pool_name(stage - 1), dtype=dtype)(x)
            for name, widths in STAGES[stage].items():
                x = parts.block(x, f"inception_{name}", _block(widths, 3 if norm else 5))
            outputs[f"C{stage}"] = x
        super().__init__(inputs, outputs, levels, mean, std, dtype, **kwargs)
        self.norm = norm

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "norm": self.norm}


def _stem(x, parts, plain):
    """Build the layers up to stride 4; return the last map, and {"C1": ..., "C2": ...}."""
    x = parts.conv(x, "conv1_7x7_s2", 64, 7, 2, "symmetric")
    outputs = {"C1": x}
    x = MaxPool(3, 2, name=_pool_name(1), dtype=parts.dtype)(x)
    if plain:
        x = LocalResponseNorm(**CAFFE_NORM, name="pool1_norm1", dtype=parts.dtype)(x)
    x = parts.conv(x, "conv2_3x3_reduce", 64, 1)
    x = parts.conv(x, "conv2_3x3", 192, 3)
    if plain:
        x = LocalResponseNorm(**CAFFE_NORM, name="conv2_norm2", dtype=parts.dtype)(x)
    outputs["C2"] = x
    return x, outputs


def _pool_name(number):
    return f"pool{number}_3x3_s2"


def _block(widths, large):
    """Return the rows of an inception block (figure 2b)."""
    plain, middle_reduced, middle, large_reduced, wide, pooled = widths
    return (
        (("1x1", plain, 1),),
        (("3x3_reduce", middle_reduced, 1), ("3x3", middle, 3)),
        (("5x5_reduce", large_reduced, 1), ("5x5", wide, large)),
        (("max", 1), ("pool_proj", pooled, 1)),
    )
