"""ResNet and ResNeXt, laid out so that torchvision's weights fit.

He et al., Deep Residual Learning for Image Recognition, arXiv 1512.03385; Xie et al., Aggregated
Residual Transformations for Deep Neural Networks, arXiv 1611.05431. Read `residual_stage` first.

Departure from the paper: bottlenecks stride in their 3x3 convolution, not in the first 1x1
("v1.5"), as torchvision's do; `caffe=True` is the paper's.

Layer names are torchvision's with `_` for `.`: `layer1_0_conv1` holds `layer1.0.conv1` and
`layer1.0.bn1`, `layer1_0_downsample` holds `layer1.0.downsample.0` and `.1`.
"""

import keras

from kerasdet.backbones.backbone import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LEVELS,
    Backbone,
    highest_stage,
)
from kerasdet.backbones.stage_head import StageHead, filled
from kerasdet.layers.conv import ConvNorm
from kerasdet.layers.deform import conv_norm_of

DILATED = "C4_conv5"


@keras.saving.register_keras_serializable("kerasdet")
class ResNet(Backbone):
    """Residual network.

    Args:
        blocks: number of blocks of stages 2 to 5.
        bottleneck: whether blocks are 1x1, 3x3, 1x1 convolutions with fourfold output, or two 3x3.
        groups: groups of the 3x3 convolutions (ResNeXt's cardinality).
        group_width: channels per group in stage 2 (64 for a plain ResNet).
        levels: the levels to return; stages above the highest are not built. "C4_conv5" instead of "C5" is
            stage 5 at stride 16, its 3x3 convolutions dilated by 2 (SSD321; DSSD, arXiv 1701.06659).
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.
        norm_epsilon: epsilon of the batch normalisation.
        deformable: a `kerasdet.layers.Deformable`, which says where the 3x3 convolutions are deformable,
            or None.
        caffe: whether the layers are those of the authors' Caffe network: bottlenecks stride in their first
            1x1 convolution (the paper), and the pooling has no padding, but keeps an incomplete last window.

    Source: resnet §3.3, §4.1 and table 1; ResNeXt table 1.
    """

    def __init__(
        self,
        blocks,
        bottleneck=True,
        groups=1,
        group_width=64,
        levels=LEVELS,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        norm_epsilon=1e-5,
        caffe=False,
        *,
        deformable=None,
        dtype=None,
        **kwargs,
    ):
        shared = {"norm_epsilon": norm_epsilon, "dtype": dtype}
        inputs = keras.Input((None, None, len(mean)), name="images")
        x = ConvNorm(64, 7, stride=2, activation="relu", name="conv1", **shared)(inputs)
        # torchvision pads by one on every side; after the ReLU, zero is equivalent to -infinity. Caffe's last
        # window is incomplete if the number of rows is even.
        around = ((0, 1), (0, 1)) if caffe else 1
        x = keras.layers.ZeroPadding2D(around, name="maxpool_pad", dtype=dtype)(x)
        x = keras.layers.MaxPooling2D(3, 2, name="maxpool", dtype=dtype)(x)
        outputs = {}
        dilated = DILATED in levels
        if dilated and "C5" in levels:
            raise ValueError(f"levels are {tuple(levels)}; give C5 or {DILATED}, not both.")
        highest = 5 if dilated else highest_stage(levels)
        for stage in range(2, highest + 1):
            widths = (blocks[stage - 2], bottleneck, groups, group_width)
            where = {
                "dilated": dilated and stage == 5,
                "stride_in_1x1": caffe,
                "deformable": deformable,
            }
            x = residual_stage(x, stage, *widths, **where, **shared)
            outputs[DILATED if dilated and stage == 5 else f"C{stage}"] = x
        super().__init__(inputs, outputs, levels, mean, std, dtype, **kwargs)
        self.blocks = tuple(blocks)
        self.bottleneck = bottleneck
        self.groups = groups
        self.group_width = group_width
        self.norm_epsilon = norm_epsilon
        self.deformable = deformable
        self.caffe = caffe

    def region_head(self, classifier, frozen_norm=True):
        """Return the fifth stage of a trained classifier, a `ResNetHead` on regions of 14 x 14 cells."""
        head = ResNetHead(
            self.blocks[3],
            self.bottleneck,
            self.groups,
            self.group_width,
            self.norm_epsilon,
            frozen_norm,
            dtype=self.dtype_policy,
            name="head",
        )
        return filled(head, self, self.get_layer("layer4_0_conv1").input.shape[-1])

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "blocks": self.blocks,
            "bottleneck": self.bottleneck,
            "groups": self.groups,
            "group_width": self.group_width,
            "norm_epsilon": self.norm_epsilon,
            "deformable": keras.saving.serialize_keras_object(self.deformable),
            "caffe": self.caffe,
        }


@keras.saving.register_keras_serializable("kerasdet")
class ResNetHead(StageHead):
    """ResNet's fifth stage on each region, then the mean of its cells (Mask R-CNN, figure 4, left).

    The stage has stride two: it turns 14 x 14 cells of "C4" into the 7 x 7 that it computes for images.

    Args:
        blocks: residual blocks: 3, or 2 for a ResNet-18.
        bottleneck: as in `ResNet`, like the next two arguments.
        groups: groups of the 3x3 convolutions.
        group_width: channels per group in stage 2.
        norm_epsilon: epsilon of the batch normalisation.
        frozen_norm: whether batch normalisation is not trained and keeps its statistics, as usual
            for pretrained weights.

    Call arguments:
        regions: (B, R, h, w, C).

    Returns:
        (B, R, F) in the compute type; F is 2048, or 512 without bottlenecks.

    Source: resnet §4.3 and appendix A; Mask R-CNN (arXiv 1703.06870), section 3.
    """

    def __init__(
        self,
        blocks=3,
        bottleneck=True,
        groups=1,
        group_width=64,
        norm_epsilon=1e-5,
        frozen_norm=False,
        **kwargs,
    ):
        super().__init__(frozen_norm, **kwargs)
        self.blocks = blocks
        self.bottleneck = bottleneck
        self.groups = groups
        self.group_width = group_width
        self.norm_epsilon = norm_epsilon

    @property
    def channels(self):
        """Channels of the result."""
        return 2048 if self.bottleneck else 512

    def stage_on(self, regions):
        """Build the fifth stage on a map (B, H, W, C)."""
        widths = (self.blocks, self.bottleneck, self.groups, self.group_width)
        shared = {"norm_epsilon": self.norm_epsilon, "dtype": self.dtype_policy}
        return residual_stage(regions, 5, *widths, **shared)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "blocks": self.blocks,
            "bottleneck": self.bottleneck,
            "groups": self.groups,
            "group_width": self.group_width,
            "norm_epsilon": self.norm_epsilon,
        }


def residual_stage(
    x,
    stage,
    blocks,
    bottleneck=True,
    groups=1,
    group_width=64,
    *,
    dilated=False,
    deformable=None,
    stride_in_1x1=False,
    norm_epsilon=1e-5,
    dtype=None,
):
    """Build one stage of a ResNet; stage 5 also serves as a head for each region.

    Args:
        x: (B, H, W, C) feature map.
        stage: 2 to 5, the paper's conv2_x to conv5_x; it determines the width, and the stride, which
            is 1 in stage 2 and 2 above.
        blocks: number of residual blocks.
        bottleneck: as in `ResNet`, like the next two arguments.
        groups: groups of the 3x3 convolutions.
        group_width: channels per group in stage 2.
        dilated: whether the stage has stride 1, and its 3x3 convolutions dilation 2.
        deformable: a `Deformable`, or None.
        stride_in_1x1: whether a bottleneck's first convolution has the stride, not its 3x3.
        norm_epsilon: epsilon of the batch normalisation.
        dtype: precision of the layers.

    Returns:
        (B, ceil(H / stride), ceil(W / stride), channels) feature map, with
        64 * 2**(stage - 2) channels, or four times as many with bottlenecks.

    Source: resnet table 1.
    """
    width = 64 * 2 ** (stage - 2)
    shared = {"norm_epsilon": norm_epsilon, "dtype": dtype}
    wide = {"conv": conv_norm_of(deformable, stage), "dilation": 2 if dilated else 1}
    for index in range(blocks):
        stride = 2 if stage > 2 and index == 0 and not dilated else 1
        name = f"layer{stage - 1}_{index}"
        if bottleneck:
            inner = width * group_width // 64 * groups
            strides = (stride, 1) if stride_in_1x1 else (1, stride)
            x = _bottleneck_block(x, inner, 4 * width, strides, groups, name, shared, **wide)
        else:
            x = _basic_block(x, width, stride, name, shared, **wide)
    return x


def _basic_block(x, width, stride, name, shared, conv, dilation):
    """Apply two 3x3 convolutions, made by `conv`, and the shortcut: resnet figure 5, left."""
    wide = shared | {"dilation": dilation}
    y = conv(width, 3, stride=stride, activation="relu", name=f"{name}_conv1", **wide)(x)
    y = conv(width, 3, name=f"{name}_conv2", **wide)(y)
    return _add_shortcut(x, y, stride, name, shared)


def _bottleneck_block(x, inner, outer, strides, groups, name, shared, conv, dilation):
    """Apply 1x1, 3x3 (made by `conv`) and 1x1 convolutions and the shortcut: resnet figure 5, right."""
    first, second = strides
    y = ConvNorm(inner, 1, first, activation="relu", name=f"{name}_conv1", **shared)(x)
    wide = {"stride": second, "groups": groups, "dilation": dilation, "activation": "relu"}
    y = conv(inner, 3, name=f"{name}_conv2", **wide, **shared)(y)
    y = ConvNorm(outer, 1, name=f"{name}_conv3", **shared)(y)
    return _add_shortcut(x, y, first * second, name, shared)


def _add_shortcut(x, y, stride, name, shared):
    """Return ReLU(F(x) + x), with a projection of x if the shapes differ."""
    if stride > 1 or x.shape[-1] != y.shape[-1]:
        x = ConvNorm(y.shape[-1], 1, stride, name=f"{name}_downsample", **shared)(x)
    # Eq: resnet 1, 2 | y = F(x, {W_i}) + W_s x
    y = keras.layers.Add(name=f"{name}_add", dtype=shared["dtype"])([y, x])
    return keras.layers.ReLU(name=f"{name}_out", dtype=shared["dtype"])(y)


def ResNet18(**kwargs):
    """Return `ResNet` with 18 layers (resnet table 1); `kwargs` are its other arguments."""
    return ResNet((2, 2, 2, 2), bottleneck=False, **kwargs)


def ResNet34(**kwargs):
    """Return `ResNet` with 34 layers (resnet table 1); `kwargs` are its other arguments."""
    return ResNet((3, 4, 6, 3), bottleneck=False, **kwargs)


def ResNet50(**kwargs):
    """Return `ResNet` with 50 layers (resnet table 1); `kwargs` are its other arguments."""
    return ResNet((3, 4, 6, 3), **kwargs)


def ResNet101(**kwargs):
    """Return `ResNet` with 101 layers (resnet table 1); `kwargs` are its other arguments."""
    return ResNet((3, 4, 23, 3), **kwargs)


def ResNet152(**kwargs):
    """Return `ResNet` with 152 layers (resnet table 1); `kwargs` are its other arguments."""
    return ResNet((3, 8, 36, 3), **kwargs)


def ResNeXt50(**kwargs):
    """Return ResNeXt-50 32x4d (ResNeXt table 1); `kwargs` are `ResNet`'s other arguments."""
    return ResNet((3, 4, 6, 3), groups=32, group_width=4, **kwargs)


def ResNeXt101(**kwargs):
    """Return ResNeXt-101 32x8d (torchvision's widths); `kwargs` are `ResNet`'s other arguments."""
    return ResNet((3, 4, 23, 3), groups=32, group_width=8, **kwargs)
