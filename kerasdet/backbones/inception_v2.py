"""Inception v2, the batch-normalised GoogLeNet, laid out so that TF-slim's weights fit.

Ioffe and Szegedy, Batch Normalization, arXiv 1502.03167, section 4.2 and figure 5. Read `inception.py` first;
the network is the table `STAGES`.

The levels are the last maps of each stride: "C2" 192 channels (Conv2d_2c), "C3" 320 (Mixed_3c), "C4" 576
(Mixed_4e, from which Faster R-CNN pools regions in arXiv 1611.10012), "C5" 1024 (Mixed_5c). "C4_Mixed_4c"
(576) is where SSD starts there. "C1" is allowed only in `freeze_at`.

Layer names are TF-slim's scopes with `_` for `/`: `Mixed_3b_Branch_0_Conv2d_0a_1x1`. Its first convolution,
7x7 of 64 filters, is separable: eight filters for each channel (`Conv2d_1a_7x7_depthwise`) and 1x1 over these
(`Conv2d_1a_7x7`, with the normalisation).

Departures from the paper: those of TF-slim. The convolution that begins is separable, the 3x3 that strides
have 1x1 before them, and all levels are padded as TensorFlow pads ("same").
"""

import keras

from kerasdet.backbones.backbone import LEVELS, Backbone, highest_stage
from kerasdet.backbones.inception import HALF_RANGE, Parts
from kerasdet.backbones.stage_head import StageHead, filled

EARLY = "C4_Mixed_4c"
DEPTH_MULTIPLIER = 8  # of the first convolution
REGION_CHANNELS = 576  # of "C4"


def _mixed(plain, small, large, pooled, kind="avg"):
    """1x1; 3x3; twice 3x3; a pooling: figure 5's rows of stride 1."""
    return (
        (("Branch_0_Conv2d_0a_1x1", plain, 1),),
        (("Branch_1_Conv2d_0a_1x1", small[0], 1), ("Branch_1_Conv2d_0b_3x3", small[1], 3)),
        (
            ("Branch_2_Conv2d_0a_1x1", large[0], 1),
            ("Branch_2_Conv2d_0b_3x3", large[1], 3),
            ("Branch_2_Conv2d_0c_3x3", large[1], 3),
        ),
        ((kind, 1), ("Branch_3_Conv2d_0b_1x1", pooled, 1)),
    )


def _reduction(small, large):
    """3x3; twice 3x3; a pooling, each of stride 2."""
    return (
        (("Branch_0_Conv2d_0a_1x1", small[0], 1), ("Branch_0_Conv2d_1a_3x3", small[1], 3, 2)),
        (
            ("Branch_1_Conv2d_0a_1x1", large[0], 1),
            ("Branch_1_Conv2d_0b_3x3", large[1], 3),
            ("Branch_1_Conv2d_1a_3x3", large[1], 3, 2),
        ),
        (("max", 2),),
    )


STAGES = {
    3: {
        "Mixed_3b": _mixed(64, (64, 64), (64, 96), 32),
        "Mixed_3c": _mixed(64, (64, 96), (64, 96), 64),
    },
    4: {
        "Mixed_4a": _reduction((128, 160), (64, 96)),
        "Mixed_4b": _mixed(224, (64, 96), (96, 128), 128),
        "Mixed_4c": _mixed(192, (96, 128), (96, 128), 128),
        "Mixed_4d": _mixed(160, (128, 160), (128, 160), 96),
        "Mixed_4e": _mixed(96, (128, 192), (160, 192), 96),
    },
    5: {
        "Mixed_5a": _reduction((128, 192), (192, 256)),
        "Mixed_5b": _mixed(352, (192, 320), (160, 224), 128),
        "Mixed_5c": _mixed(352, (192, 320), (192, 224), 128, "max"),
    },
}


@keras.saving.register_keras_serializable("kerasdet")
class InceptionV2(Backbone):
    """Inception v2, padded as in TensorFlow.

    Args:
        levels: the levels to return, among them "C4_Mixed_4c"; stages above the highest are not built.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.

    Source: arXiv 1502.03167, figure 5; tf_slim/nets/inception_v2.py.
    """

    def __init__(self, levels=LEVELS, mean=HALF_RANGE, std=HALF_RANGE, *, dtype=None, **kwargs):
        parts = Parts(dtype)
        highest = highest_stage(levels, (*LEVELS, EARLY))
        inputs = keras.Input((None, None, len(mean)), name="images")
        x, outputs = _stem(inputs, parts)
        for stage in range(3, highest + 1):
            if stage == 3:
                x = parts.pool(x, "MaxPool_3a_3x3", "max", 2)
            x, maps = blocks(x, parts, stage)
            outputs[f"C{stage}"] = x
            if stage == 4:
                outputs[EARLY] = maps["Mixed_4c"]
        super().__init__(inputs, outputs, levels, mean, std, dtype, **kwargs)

    def region_head(self, classifier, frozen_norm=True):
        """Return the last stage of a trained classifier, an `InceptionV2Head` on regions of 14 x 14 cells."""
        head = InceptionV2Head(frozen_norm, dtype=self.dtype_policy, name="head")
        return filled(head, self, REGION_CHANNELS)


@keras.saving.register_keras_serializable("kerasdet")
class InceptionV2Head(StageHead):
    """Inception v2's last stage, Mixed_5a to Mixed_5c, on each region, then the mean of its cells.

    Args:
        frozen_norm: whether batch normalisation is not trained and keeps its statistics.

    Call arguments:
        regions: (B, R, h, w, 576); arXiv 1611.10012 has 14 x 14 cells.

    Returns:
        (B, R, 1024) in the compute type.
    """

    channels = 1024

    def stage_on(self, regions):
        """Build the stage on a map (B, H, W, C)."""
        return blocks(regions, Parts(self.dtype_policy), 5)[0]


def blocks(x, parts, stage):
    """Apply the blocks of one stage to (B, H, W, C).

    Args:
        x: the last stage's map.
        parts: `Parts`.
        stage: 3 to 5; the later two have stride 2.

    Returns:
        The last block's map, and {block: its map}.
    """
    maps = {}
    for name, rows in STAGES[stage].items():
        x = maps[name] = parts.block(x, name, rows)
    return x, maps


def _stem(x, parts):
    """Build the layers up to stride 4; return the last map, and {"C1": ..., "C2": ...}."""
    depthwise = keras.layers.DepthwiseConv2D(
        7,
        2,
        padding="same",
        depth_multiplier=DEPTH_MULTIPLIER,
        use_bias=False,
        dtype=parts.dtype,
        name="Conv2d_1a_7x7_depthwise",
    )
    x = parts.conv(depthwise(x), "Conv2d_1a_7x7", 64, 1)
    outputs = {"C1": x}
    x = parts.pool(x, "MaxPool_2a_3x3", "max", 2)
    x = parts.conv(x, "Conv2d_2b_1x1", 64, 1)
    x = outputs["C2"] = parts.conv(x, "Conv2d_2c_3x3", 192, 3)
    return x, outputs
