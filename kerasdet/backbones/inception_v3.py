"""Inception v3, laid out so that torchvision's and keras.applications' weights fit.

Szegedy et al., Rethinking the Inception Architecture for Computer Vision, arXiv 1512.00567. Read
`inception.py` first; the network is the table `STAGES`.

The levels are the last maps of each stride: "C2" 192 channels (Conv2d_4a), "C3" 288 (Mixed_5d), "C4" 768
(Mixed_6e), "C5" 2048 (Mixed_7c): those of SSD and Faster R-CNN in arXiv 1611.10012. "C1" is allowed only in
`freeze_at`.

Layer names are torchvision's with `_` for `.`: `Mixed_5b_branch5x5_1` holds `Mixed_5b.branch5x5_1.conv` and
`.bn`. The layers are made in the order in which `keras.applications.InceptionV3` makes its own. That one has
no gamma (ours is then 1), and its averages at the border leave out the padding, as do ours by default.
torchvision's count it: `count_padding=True`. Its published weights are Google's, and take pixels / 127.5 - 1
(its `transform_input`), which are the default `mean` and `std`.

Padding: the published network has none where it strides, and in two convolutions of its stem. Its maps are
smaller than the image (35, 17 and 8 cells of 299 pixels), and a detector's anchors would not lie on what the
cells see. "same" pads every layer, as Google's detectors do: the weights still fit, and level "Cn" is
ceil(H / 2**n) high.
"""

import keras

from kerasdet.backbones.backbone import LEVELS, Backbone, highest_stage
from kerasdet.backbones.inception import HALF_RANGE, PADDINGS, Parts, stem
from kerasdet.backbones.stage_head import StageHead, filled, strided_shape
from kerasdet.ops.checks import check_choice


def _mixed_5(pooled):
    """5x5, and twice 3x3: arXiv 1512.00567, figure 5."""
    return (
        (("branch1x1", 64, 1),),
        (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
        (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
        (("avg", 1), ("branch_pool", pooled, 1)),
    )


def _mixed_6(width):
    """7x7 in parts of 1x7 and 7x1: figure 6."""
    return (
        (("branch1x1", 192, 1),),
        (
            ("branch7x7_1", width, 1),
            ("branch7x7_2", width, (1, 7)),
            ("branch7x7_3", 192, (7, 1)),
        ),
        (
            ("branch7x7dbl_1", width, 1),
            ("branch7x7dbl_2", width, (7, 1)),
            ("branch7x7dbl_3", width, (1, 7)),
            ("branch7x7dbl_4", width, (7, 1)),
            ("branch7x7dbl_5", 192, (1, 7)),
        ),
        (("avg", 1), ("branch_pool", 192, 1)),
    )


# Figure 10: two strides beside a pooling.
MIXED_6A = (
    (("branch3x3", 384, 3, 2),),
    (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)),
    (("max", 2),),
)
MIXED_7A = (
    (("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)),
    (
        ("branch7x7x3_1", 192, 1),
        ("branch7x7x3_2", 192, (1, 7)),
        ("branch7x7x3_3", 192, (7, 1)),
        ("branch7x7x3_4", 192, 3, 2),
    ),
    (("max", 2),),
)
# Figure 7: 1x3 and 3x1 side by side.
MIXED_7 = (
    (("branch1x1", 320, 1),),
    (
        ("branch3x3_1", 384, 1),
        [(("branch3x3_2a", 384, (1, 3)),), (("branch3x3_2b", 384, (3, 1)),)],
    ),
    (
        ("branch3x3dbl_1", 448, 1),
        ("branch3x3dbl_2", 384, 3),
        [(("branch3x3dbl_3a", 384, (1, 3)),), (("branch3x3dbl_3b", 384, (3, 1)),)],
    ),
    (("avg", 1), ("branch_pool", 192, 1)),
)
STAGES = {
    3: {"Mixed_5b": _mixed_5(32), "Mixed_5c": _mixed_5(64), "Mixed_5d": _mixed_5(64)},
    4: {
        "Mixed_6a": MIXED_6A,
        **{
            f"Mixed_6{letter}": _mixed_6(width)
            for letter, width in zip("bcde", (128, 160, 160, 192))
        },
    },
    5: {"Mixed_7a": MIXED_7A, "Mixed_7b": MIXED_7, "Mixed_7c": MIXED_7},
}
REGION_CHANNELS = 768  # of "C4"


@keras.saving.register_keras_serializable("kerasdet")
class InceptionV3(Backbone):
    """Inception v3.

    Args:
        padding: "same", or "published": as the weights' classifiers have it, whose outputs it gives.
        count_padding: whether averages at the border count the padding's zeros (torchvision's).
        levels: the levels to return; stages above the highest are not built.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.

    Source: arXiv 1512.00567, §6 and table 1.
    """

    def __init__(
        self,
        padding="same",
        count_padding=False,
        levels=LEVELS,
        mean=HALF_RANGE,
        std=HALF_RANGE,
        *,
        dtype=None,
        **kwargs,
    ):
        check_choice("padding", padding, PADDINGS)
        parts = Parts(dtype, padding == "published", count_padding)
        highest = highest_stage(levels)
        inputs = keras.Input((None, None, len(mean)), name="images")
        x, outputs = stem(inputs, parts, highest)
        for stage in range(3, highest + 1):
            x = outputs[f"C{stage}"] = blocks(x, parts, stage)
        super().__init__(inputs, outputs, levels, mean, std, dtype, **kwargs)
        self.padding = padding
        self.count_padding = count_padding

    def region_head(self, classifier, frozen_norm=True):
        """Return the last stage of a trained classifier, an `InceptionV3Head` on regions of 17 x 17 cells."""
        head = InceptionV3Head(
            self.padding, self.count_padding, frozen_norm, dtype=self.dtype_policy, name="head"
        )
        return filled(head, self, REGION_CHANNELS)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "padding": self.padding,
            "count_padding": self.count_padding,
        }


@keras.saving.register_keras_serializable("kerasdet")
class InceptionV3Head(StageHead):
    """Inception v3's last stage, Mixed_7a to Mixed_7c, on each region, then the mean of its cells.

    Args:
        padding: as in `InceptionV3`; without padding 17 x 17 cells become 8 x 8, with it 9 x 9.
        count_padding: as in `InceptionV3`.
        frozen_norm: whether batch normalisation is not trained and keeps its statistics.

    Call arguments:
        regions: (B, R, h, w, 768).

    Returns:
        (B, R, 2048) in the compute type.
    """

    channels = 2048

    def __init__(self, padding="same", count_padding=False, frozen_norm=False, **kwargs):
        super().__init__(frozen_norm, **kwargs)
        check_choice("padding", padding, PADDINGS)
        self.padding = padding
        self.count_padding = count_padding

    def stage_on(self, regions):
        """Build the stage on a map (B, H, W, C)."""
        parts = Parts(self.dtype_policy, self.padding == "published", self.count_padding)
        return blocks(regions, parts, 5)

    def maps_shape(self, regions_shape):
        """Return the shape of `maps`."""
        return strided_shape(regions_shape, self.padding, self.channels)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "padding": self.padding,
            "count_padding": self.count_padding,
        }


def blocks(x, parts, stage):
    """Apply the blocks of one stage to (B, H, W, C).

    Args:
        x: the last stage's map.
        parts: `Parts`.
        stage: 3 to 5; the later two have stride 2.
    """
    for name, rows in STAGES[stage].items():
        x = parts.block(x, name, rows)
    return x
