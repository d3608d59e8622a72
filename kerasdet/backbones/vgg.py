"""VGG-16 and its fully connected layers, laid out so that torchvision's weights fit.

Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv
1409.1556, table 1, configuration D; no batch normalisation.

The levels are named by their stride, as everywhere: "C2" is conv3_3 (256 channels), "C3" conv4_3
(512), "C4" conv5_3 (512; stride 16, the map from which SPP-net, Fast and Faster R-CNN pool regions),
"C5" conv5_3 after the last pooling (512), all after their ReLU. "C1" (conv2_2) is allowed only in
`freeze_at`: Fast R-CNN trains from conv3_1 on (arXiv 1504.08083, section 4.5). "C4_fc7" is SSD's fc7
(1024, stride 16): conv5_3 pooled 3x3 with stride 1, fc6 as a dilated 3x3 and fc7 as a 1x1 convolution
(arXiv 1512.02325v5, section 3).

Layer names: `features_0` to `features_28` are torchvision's convolutions `features.0` to
`features.28`; the head's `fc6` is `classifier.0` and its `fc7` is `classifier.3`; the classifier's `fc`
is `classifier.6`. PyTorch flattens regions as C, H, W; kerasdet as H, W, C. A (4096, 25088) weight of
torchvision becomes fc6's kernel by reshaping to (4096, 512, 7, 7), transposing to (7, 7, 512, 4096) and
reshaping to (25088, 4096). The convolutions `fc6` and `fc7` of "C4_fc7" have no such names there.
"""

import keras

from kerasdet.backbones.backbone import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LEVELS,
    Backbone,
    highest_stage,
)
from kerasdet.backbones.dense_layers import ImageHead, region_head_of
from kerasdet.layers.conv import Conv

# Source: vgg table 1, column D: channels and 3x3 convolutions between the poolings.
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
REGION_SIZE = 7  # cells per side of fc6's input
HEAD = {"units": (4096, 4096), "dropout": 0.5}  # Source: vgg table 1 and §3.1
FC7 = "C4_fc7"
FC_CHANNELS = 1024  # of the two convolutions
FC6_DILATION = 6


@keras.saving.register_keras_serializable("kerasdet")
class VGG16(Backbone):
    """Thirteen 3x3 convolutions and five 2x2 poolings.

    Unlike in other backbones, level "Cn" has height floor(H / 2**n), because a pooling drops an odd last row
    or column. Cell (i, j) still starts at pixel (2**n i, 2**n j), so anchors and region pooling must use
    `strides`, and not divide the image's size by the map's.

    Args:
        levels: the levels to return, among them "C4_fc7"; stages above the highest are not built.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.
        ceil_pools: whether the poolings keep an odd last row and column, as in Caffe; then levels have
            height ceil(H / 2**n). SSD300 needs it (conv4_3 has 38 cells per side, not 37).

    Source: vgg §2.1 and table 1.
    """

    def __init__(
        self,
        levels=LEVELS,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        ceil_pools=False,
        *,
        dtype=None,
        **kwargs,
    ):
        highest = highest_stage(levels, (*LEVELS, FC7))
        padding = "same" if ceil_pools else "valid"  # "same" adds one row below, one column right
        inputs = x = keras.Input((None, None, len(mean)), name="images")
        outputs = {}
        number = 0  # torchvision's index counts convolutions, ReLUs and poolings
        for stage in range(highest + 1):
            if stage:
                x = keras.layers.MaxPooling2D(
                    2, 2, padding=padding, name=f"pool{stage}", dtype=dtype
                )(x)
                number += 1
            channels, convolutions = BLOCKS[stage] if stage < len(BLOCKS) else (0, 0)
            for _ in range(convolutions):
                x = Conv(channels, 3, activation="relu", name=f"features_{number}", dtype=dtype)(x)
                number += 2
            outputs[f"C{stage}"] = x
        if FC7 in levels:
            outputs[FC7] = _atrous_layers(outputs["C4"], dtype)
        super().__init__(inputs, outputs, levels, mean, std, dtype, **kwargs)
        self.ceil_pools = ceil_pools

    def classifier_layers(self):
        """Return fc6 and fc7 on the average over 7 x 7 bins, which is the map itself for 224 x 224 images."""
        return [ImageHead(REGION_SIZE, **HEAD, dtype=self.dtype_policy, name="head")]

    def region_head(self, classifier, frozen_norm=True):
        """Return fc6 and fc7 of a trained classifier, a `DenseHead` on regions of 7 x 7 cells."""
        return region_head_of(classifier, self.dtype_policy)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "ceil_pools": self.ceil_pools}


def _atrous_layers(x, dtype):
    """Return fc7 as SSD has it: (B, H, W, 512) -> (B, H, W, 1024)."""
    # Eq: ssd §3 | pool5: 3x3, stride 1; fc6: 3x3, dilation 6; fc7: 1x1
    x = keras.layers.MaxPooling2D(3, 1, padding="same", name="pool5", dtype=dtype)(x)
    x = keras.layers.Conv2D(
        FC_CHANNELS,
        3,
        padding="same",
        dilation_rate=FC6_DILATION,
        activation="relu",
        name="fc6",
        dtype=dtype,
    )(x)
    return Conv(FC_CHANNELS, 1, activation="relu", name="fc7", dtype=dtype)(x)
