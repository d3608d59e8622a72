"""Inception-ResNet v2, laid out so that keras.applications' and TF-slim's weights fit.

Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning, arXiv
1602.07261. Read `inception.py` first; the network is the tables below.

The levels are the last maps of each stride: "C2" 192 channels (Conv2d_4a), "C3" 320 (the tenth block35), "C4"
1088 (the twentieth block17, from which Faster R-CNN pools regions in arXiv 1611.10012), "C5" 1536
(Conv2d_7b). "C4_Mixed_6a" (1088) is where SSD starts there. "C1" is allowed only in `freeze_at`.

Layer names are TF-slim's scopes, without the repetitions' own, with `_` for `/`:
`Mixed_5b_Branch_0_Conv2d_1x1`, `block35_1_Branch_1_Conv2d_0a_1x1`, `Block8_Conv2d_1x1`. The layers are made
in the order in which `keras.applications.InceptionResNetV2` makes its own, which has no gamma (ours is then
1).

Padding is as in `inception_v3.py`: "same", as Google's detectors have it (`align_feature_maps`), or
"published".

Departures from the paper: those of the published network, whose stem is Inception v3's and whose branches
have other widths.
"""

import keras

from kerasdet.backbones.backbone import LEVELS, Backbone, highest_stage
from kerasdet.backbones.inception import HALF_RANGE, PADDINGS, Parts, stem
from kerasdet.backbones.stage_head import StageHead, filled, strided_shape
from kerasdet.layers.conv import Conv
from kerasdet.ops.checks import check_choice

EARLY = "C4_Mixed_6a"
REGION_CHANNELS = 1088  # of "C4"
MIXED_5B = (
    (("Branch_0_Conv2d_1x1", 96, 1),),
    (("Branch_1_Conv2d_0a_1x1", 48, 1), ("Branch_1_Conv2d_0b_5x5", 64, 5)),
    (
        ("Branch_2_Conv2d_0a_1x1", 64, 1),
        ("Branch_2_Conv2d_0b_3x3", 96, 3),
        ("Branch_2_Conv2d_0c_3x3", 96, 3),
    ),
    (("avg", 1), ("Branch_3_Conv2d_0b_1x1", 64, 1)),
)
BLOCK35 = (
    (("Branch_0_Conv2d_1x1", 32, 1),),
    (("Branch_1_Conv2d_0a_1x1", 32, 1), ("Branch_1_Conv2d_0b_3x3", 32, 3)),
    (
        ("Branch_2_Conv2d_0a_1x1", 32, 1),
        ("Branch_2_Conv2d_0b_3x3", 48, 3),
        ("Branch_2_Conv2d_0c_3x3", 64, 3),
    ),
)
MIXED_6A = (
    (("Branch_0_Conv2d_1a_3x3", 384, 3, 2),),
    (
        ("Branch_1_Conv2d_0a_1x1", 256, 1),
        ("Branch_1_Conv2d_0b_3x3", 256, 3),
        ("Branch_1_Conv2d_1a_3x3", 384, 3, 2),
    ),
    (("max", 2),),
)
BLOCK17 = (
    (("Branch_0_Conv2d_1x1", 192, 1),),
    (
        ("Branch_1_Conv2d_0a_1x1", 128, 1),
        ("Branch_1_Conv2d_0b_1x7", 160, (1, 7)),
        ("Branch_1_Conv2d_0c_7x1", 192, (7, 1)),
    ),
)
MIXED_7A = (
    (("Branch_0_Conv2d_0a_1x1", 256, 1), ("Branch_0_Conv2d_1a_3x3", 384, 3, 2)),
    (("Branch_1_Conv2d_0a_1x1", 256, 1), ("Branch_1_Conv2d_1a_3x3", 288, 3, 2)),
    (
        ("Branch_2_Conv2d_0a_1x1", 256, 1),
        ("Branch_2_Conv2d_0b_3x3", 288, 3),
        ("Branch_2_Conv2d_1a_3x3", 320, 3, 2),
    ),
    (("max", 2),),
)
BLOCK8 = (
    (("Branch_0_Conv2d_1x1", 192, 1),),
    (
        ("Branch_1_Conv2d_0a_1x1", 192, 1),
        ("Branch_1_Conv2d_0b_1x3", 224, (1, 3)),
        ("Branch_1_Conv2d_0c_3x1", 256, (3, 1)),
    ),
)
# Of each stage: the first block, the residual block, its name, how often, and the residual's scale.
STAGES = {
    3: ("Mixed_5b", MIXED_5B, BLOCK35, "block35", 10, 0.17),
    4: ("Mixed_6a", MIXED_6A, BLOCK17, "block17", 20, 0.10),
    5: ("Mixed_7a", MIXED_7A, BLOCK8, "block8", 9, 0.20),
}


@keras.saving.register_keras_serializable("kerasdet")
class InceptionResNetV2(Backbone):
    """Inception-ResNet v2.

    Args:
        padding: "same", or "published": as the weights' classifiers have it, whose outputs it gives.
        levels: the levels to return, among them "C4_Mixed_6a"; stages above the highest are not built.
        mean: per input channel, the value subtracted from images, in units of 0..255.
        std: per input channel, the value that images are then divided by, in units of 0..255.

    Source: arXiv 1602.07261, §3.2 and §3.3; tf-slim's inception_resnet_v2.
    """

    def __init__(
        self,
        padding="same",
        levels=LEVELS,
        mean=HALF_RANGE,
        std=HALF_RANGE,
        *,
        dtype=None,
        **kwargs,
    ):
        check_choice("padding", padding, PADDINGS)
        parts = Parts(dtype, padding == "published")
        highest = highest_stage(levels, (*LEVELS, EARLY))
        inputs = keras.Input((None, None, len(mean)), name="images")
        x, outputs = stem(inputs, parts, highest)
        for stage in range(3, highest + 1):
            first = first_block(x, parts, stage)
            if stage == 4:
                outputs[EARLY] = first
            if stage < highest or f"C{stage}" in levels:
                x = outputs[f"C{stage}"] = residual_blocks(first, parts, stage)
        super().__init__(inputs, outputs, levels, mean, std, dtype, **kwargs)
        self.padding = padding

    def region_head(self, classifier, frozen_norm=True):
        """Return a trained classifier's last stage, an `InceptionResNetV2Head` on 17 x 17 cells."""
        head = InceptionResNetV2Head(
            self.padding, frozen_norm, dtype=self.dtype_policy, name="head"
        )
        return filled(head, self, REGION_CHANNELS)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "padding": self.padding}


@keras.saving.register_keras_serializable("kerasdet")
class InceptionResNetV2Head(StageHead):
    """The last stage of Inception-ResNet v2, from Mixed_7a on, on each region, then the mean of its cells.

    Args:
        padding: "same", or "published": 17 x 17 cells then become 8 x 8, as in Google's detectors, not 9 x 9.
        frozen_norm: whether batch normalisation is not trained and keeps its statistics.

    Call arguments:
        regions: (B, R, h, w, 1088).

    Returns:
        (B, R, 1536) in the compute type.
    """

    channels = 1536

    def __init__(self, padding="same", frozen_norm=False, **kwargs):
        super().__init__(frozen_norm, **kwargs)
        check_choice("padding", padding, PADDINGS)
        self.padding = padding

    def stage_on(self, regions):
        """Build the stage on a map (B, H, W, C)."""
        parts = Parts(self.dtype_policy, self.padding == "published")
        return residual_blocks(first_block(regions, parts, 5), parts, 5)

    def maps_shape(self, regions_shape):
        """Return the shape of `maps`."""
        return strided_shape(regions_shape, self.padding, self.channels)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "padding": self.padding}


def first_block(x, parts, stage):
    """Apply the block without a shortcut that begins a stage, 3 to 5; of the later two it has stride 2."""
    name, rows = STAGES[stage][:2]
    return parts.block(x, name, rows)


def residual_blocks(x, parts, stage):
    """Apply the blocks with a shortcut of one stage, 3 to 5, to (B, H, W, C)."""
    _, _, rows, name, count, scale = STAGES[stage]
    for number in range(1, count + 1):
        x = _residual(x, parts, f"{name}_{number}", rows, scale)
    if stage < 5:
        return x
    x = _residual(x, parts, "Block8", BLOCK8, 1.0, activated=False)
    return parts.conv(x, "Conv2d_7b_1x1", 1536, 1)


def all_blocks():
    """List (name, rows) of all blocks, in the order in which the network makes them."""
    found = []
    for first, first_rows, rows, name, count, _ in STAGES.values():
        found.append((first, first_rows))
        found += [(f"{name}_{number}", rows) for number in range(1, count + 1)]
    return [*found, ("Block8", BLOCK8)]


def _residual(x, parts, name, rows, scale, activated=True):
    """Return ReLU(x + scale F(x)), or the sum itself."""
    dtype = parts.dtype
    mixed = parts.block(x, name, rows)
    mixed = Conv(x.shape[-1], 1, name=f"{name}_Conv2d_1x1", dtype=dtype)(mixed)
    # Eq: inception_resnet §3.3 | y = x + s F(x), s between 0.1 and 0.3
    if scale != 1:
        mixed = keras.layers.Rescaling(scale, name=f"{name}_scale", dtype=dtype)(mixed)
    x = keras.layers.Add(name=f"{name}_add", dtype=dtype)([x, mixed])
    return keras.layers.ReLU(name=f"{name}_out", dtype=dtype)(x) if activated else x
