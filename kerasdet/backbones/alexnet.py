"""AlexNet and its next of kin: five convolutions, three poolings, fc6 and fc7. Read `FiveConvs` first.

AlexNet: Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural Networks,
NIPS 2012; its single tower: Krizhevsky, One Weird Trick for Parallelizing Convolutional Neural Networks,
arXiv 1404.5997, as torchvision has it. ZF: Zeiler and Fergus, Visualizing and Understanding Convolutional
Networks, arXiv 1311.2901, in the form that Faster R-CNN uses. VGG_CNN_M_1024: Chatfield et al., Return of
the Devil in the Details, arXiv 1405.3531, CNN-M with fc7 of 1024 (Fast R-CNN's model M).

Layer names are Caffe's (`conv1`, `norm1`, `pool1`, ..., `fc6`, `fc7`). The levels are the maps before the
next pooling, in ZF and VGG_CNN_M, which pool twice below stride 8, behind it: "C4" is conv5, from which
regions are pooled, "C5" conv5 after the last pooling. "C1" is allowed only in `freeze_at`.

Padding: "same" pads every layer by half its kernel, so that cell (i, j) of "Cn" sees what is around the pixel
(2**n i, 2**n j), and "Cn" is ceil(H / 2**n) high, as detectors need. "published" is the padding of the
published weights: only with it do they give their own numbers, but the maps of AlexNet and VGG_CNN_M are then
smaller than the image, and the cells of "C4" lie 17 pixels further right and down.
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
from kerasdet.layers.pooling import LocalResponseNorm, MaxPool
from kerasdet.ops.checks import check_choice

POOLED = (1, 2, 5)  # the convolutions before the poolings
CELLS = 6  # per side of fc6's input
CAFFE_MEAN = (122.7717, 115.9465, 102.9801)  # Source: py-faster-rcnn, lib/fast_rcnn/config.py
ONES = (1.0, 1.0, 1.0)
# Source: alexnet §3.3 (n = 5, alpha = 1e-4 of the sum, so 5 alpha of the mean, beta = 0.75, k = 2).
PAPER_NORM = {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0}
CAFFE_NORM = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}
NORMS = {"paper": PAPER_NORM, "caffe": CAFFE_NORM, None: None}
ZF_NORM = {"size": 3, "alpha": 5e-5, "beta": 0.75, "k": 1.0, "within_channel": True}
# Rows: (filters, kernel, stride, groups, published padding).
# Source: alexnet §3.5 and figure 2; "published" is Caffe's bvlc_alexnet, of 227 x 227 pixels.
TWO_TOWERS = (
    *((96, 11, 4, 1, 0), (256, 5, 1, 2, 2)),
    *((384, 3, 1, 1, 1), (384, 3, 1, 2, 1), (256, 3, 1, 2, 1)),
)
# Source: torchvision/models/alexnet.py.
ONE_TOWER = (
    *((64, 11, 4, 1, 2), (192, 5, 1, 1, 2)),
    *((384, 3, 1, 1, 1), (256, 3, 1, 1, 1), (256, 3, 1, 1, 1)),
)
# Source: py-faster-rcnn, models/pascal_voc/ZF.
ZF = (
    *((96, 7, 2, 1, 3), (256, 5, 2, 1, 2)),
    *((384, 3, 1, 1, 1), (384, 3, 1, 1, 1), (256, 3, 1, 1, 1)),
)
# Source: py-faster-rcnn, models/VGG_CNN_M_1024.
CNN_M = (
    *((96, 7, 2, 1, 0), (256, 5, 2, 1, 1)),
    *((512, 3, 1, 1, 1), (512, 3, 1, 1, 1), (512, 3, 1, 1, 1)),
)


class FiveConvs(Backbone):
    """Five convolutions with ReLU; the first two normalised and pooled, the last pooled: the shared part.

    Args:
        rows: (filters, kernel size, stride, groups, published padding) of each convolution.
        norm: arguments of `LocalResponseNorm`, or None.
        pool_padding: published padding of the poolings, of 3 x 3 cells and stride 2.
        ceil_pools: whether the published poolings keep a window that the map's end cuts off.
        padding: "same" or "published".
        levels: the levels to return; layers above the highest are not built.
        **settings: `mean`, `std`, `dtype`, and those of `Backbone`.
    """

    UNITS = (4096, 4096)

    def __init__(self, rows, norm, pool_padding, ceil_pools, padding, levels, **settings):
        check_choice("padding", padding, ("same", "published"))
        published = padding == "published"
        dtype = settings.get("dtype")
        window = (pool_padding, ceil_pools) if published else (1, False)
        highest = highest_stage(levels)
        inputs = x = keras.Input((None, None, len(settings["mean"])), name="images")
        outputs, stage = {}, 0
        for number, (filters, size, stride, groups, pad) in enumerate(rows, start=1):
            stage += stride.bit_length() - 1
            if stage > highest:
                break
            padded = {"padding": pad if published else None, "groups": groups, "dtype": dtype}
            x = Conv(filters, size, stride, activation="relu", name=f"conv{number}", **padded)(x)
            if norm and number <= 2:
                x = LocalResponseNorm(**norm, name=f"norm{number}", dtype=dtype)(x)
            outputs[f"C{stage}"] = x
            if number in POOLED:
                if stage == highest:
                    break
                stage += 1
                x = MaxPool(3, 2, *window, name=f"pool{number}", dtype=dtype)(x)
                outputs[f"C{stage}"] = x
        super().__init__(inputs, outputs, levels, **settings)
        self.padding = padding

    def classifier_layers(self):
        """Return fc6 and fc7 on the average over 6 x 6 bins, the map itself of published images."""
        return [ImageHead(CELLS, self.UNITS, 0.5, dtype=self.dtype_policy, name="head")]

    def region_head(self, classifier, frozen_norm=True):
        """Return fc6 and fc7 of a trained classifier, a `DenseHead` on regions of 6 x 6 cells."""
        return region_head_of(classifier, self.dtype_policy)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "padding": self.padding}


@keras.saving.register_keras_serializable("kerasdet")
class AlexNet(FiveConvs):
    """AlexNet: two towers, which see each other's channels in conv3 alone, or one.

    Args:
        towers: 2, as published, or 1, with torchvision's channels.
        norm: "paper" (k = 2 and alpha = 1e-4 of the sum), "caffe" (k = 1 and alpha = 1e-4 of the mean, for
            Caffe's weights) or None (torchvision's).
        padding: "same", or "published": Caffe's of two towers, torchvision's of one.
        levels: the levels to return; layers above the highest are not built.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.

    Source: alexnet §3; arXiv 1404.5997.
    """

    def __init__(
        self,
        towers=2,
        norm="paper",
        padding="same",
        levels=LEVELS,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        *,
        dtype=None,
        **kwargs,
    ):
        check_choice("towers", towers, (1, 2))
        check_choice("norm", norm, tuple(NORMS))
        rows, ceil_pools = (TWO_TOWERS, True) if towers == 2 else (ONE_TOWER, False)
        settings = {"mean": mean, "std": std, "dtype": dtype, **kwargs}
        super().__init__(rows, NORMS[norm], 0, ceil_pools, padding, levels, **settings)
        self.towers = towers
        self.norm = norm

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "towers": self.towers, "norm": self.norm}


@keras.saving.register_keras_serializable("kerasdet")
class ZFNet(FiveConvs):
    """ZF-5, the fast model of SPP-net and Faster R-CNN.

    Args:
        padding: "same", or "published": Caffe's poolings, whose maps have a last row and column more, behind
            the image, where the side is even.
        levels: the levels to return; layers above the highest are not built.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.

    Source: faster_rcnn §3; py-faster-rcnn, models/pascal_voc/ZF.
    """

    def __init__(
        self, padding="same", levels=LEVELS, mean=CAFFE_MEAN, std=ONES, *, dtype=None, **kwargs
    ):
        settings = {"mean": mean, "std": std, "dtype": dtype, **kwargs}
        super().__init__(ZF, ZF_NORM, 1, True, padding, levels, **settings)


@keras.saving.register_keras_serializable("kerasdet")
class VGGCNNM1024(FiveConvs):
    """VGG_CNN_M_1024: CNN-M, with fc7 of 1024 outputs.

    Args:
        padding: "same", or "published": of images of 224 x 224 pixels, conv5 then has 13 x 13 cells.
        levels: the levels to return; layers above the highest are not built.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.

    Source: arXiv 1405.3531, table 1; fast_rcnn §4.1.
    """

    UNITS = (4096, 1024)

    def __init__(
        self, padding="same", levels=LEVELS, mean=CAFFE_MEAN, std=ONES, *, dtype=None, **kwargs
    ):
        settings = {"mean": mean, "std": std, "dtype": dtype, **kwargs}
        super().__init__(CNN_M, PAPER_NORM, 0, True, padding, levels, **settings)
