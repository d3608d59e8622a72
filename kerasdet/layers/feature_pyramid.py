"""The feature pyramid: one strong map per scale from a backbone's C3, C4, C5 (or C2 to C5)."""

import math

import keras
from keras import ops

from kerasdet.layers.conv import Conv, ConvNorm
from kerasdet.ops import native
from kerasdet.ops.checks import check_whole
from kerasdet.ops.roi import level_number

COARSEST = 5  # number of a backbone's last level


@keras.saving.register_keras_serializable("kerasdet")
class FeaturePyramid(keras.layers.Layer):
    """Feature Pyramid Network: a top-down pathway with lateral connections.

    Each backbone map passes through a 1x1 convolution. Coarser maps are upsampled (nearest neighbour) and
    added. A 3x3 convolution on each sum gives P_l. The coarse levels P6 and P7 are stride-2 3x3 convolutions
    (RetinaNet, section 4, footnote 2).

    Args:
        channels: channels of every P map.
        levels: backbone levels to use, finest first, e.g. ("C3", "C4", "C5"). The number gives the level's
            stride, 2^5 for "C5". Two levels with the same number, e.g. ("C5_first", "C5"), are added without
            upsampling.
        p6_from: "C5" (RetinaNet's paper, torchvision's v2) or "P5" (torchvision's v1) for P6 and P7; "pool"
            for one more level, made of every second cell of the coarsest (FPN, section 4.1); None for no
            coarse level.
        norm: None, or "batch" for batch normalisation after every lateral and output convolution.

    Call arguments:
        features: {"C3": (B, H/8, W/8, C3), ...}.

    Returns:
        {"P3": (B, H/8, W/8, channels), ..., "P7": (B, H/128, W/128, channels)}, sizes rounded up.

    Source: FPN (arXiv 1612.03144), section 3; RetinaNet (arXiv 1708.02002), section 4.
    """

    def __init__(self, channels=256, levels=("C3", "C4", "C5"), p6_from="C5", norm=None, **kwargs):
        super().__init__(**kwargs)
        if p6_from not in ("C5", "P5", "pool", None):
            raise ValueError(f'p6_from must be "C5", "P5", "pool" or None, not {p6_from!r}.')
        if norm not in (None, "batch"):
            raise ValueError(f'norm must be None or "batch", not {norm!r}.')
        check_whole("channels", channels)
        self.channels = channels
        self.levels = tuple(levels)
        self.p6_from = p6_from
        self.norm = norm

    @classmethod
    def of_strides(cls, strides, channels=256, p6_from="C5", **settings):
        """Return the pyramid whose maps have the given strides.

        Args:
            strides: powers of two from 4 or 8 on, to 32 (P5) or to 128 (P7).
            channels: see the class.
            p6_from: "C5" or "P5", where there is a P6.
            **settings: further arguments of the constructor.
        """
        first = int(math.log2(strides[0]))
        levels = [f"C{number}" for number in range(first, COARSEST + 1)]
        return cls(channels, levels, p6_from if strides[-1] > 2**COARSEST else None, **settings)

    @property
    def output_levels(self):
        """Names of the returned maps, finest first."""
        levels = tuple("P" + level[1:] for level in self.levels)
        if self.p6_from == "pool":
            return (*levels, _next(levels[-1]))
        return (*levels, "P6", "P7") if self.p6_from else levels

    def build(self, features_shape):
        """Create the weights of each level's convolutions."""
        self.lateral_convs, self.output_convs = {}, {}
        for level in self.levels:
            self.lateral_convs[level] = self._conv(1, f"lateral_{level}")
            self.lateral_convs[level].build(features_shape[level])
            self.output_convs[level] = self._conv(3, f"output_{level}")
            self.output_convs[level].build((None, None, None, self.channels))
        if self.p6_from in ("C5", "P5"):
            shape = (
                features_shape["C5"] if self.p6_from == "C5" else (None, None, None, self.channels)
            )
            self.p6 = self._plain_conv(3, "p6", stride=2)
            self.p6.build(shape)
            self.p7 = self._plain_conv(3, "p7", stride=2)
            self.p7.build((None, None, None, self.channels))
        self.built = True

    def call(self, features, training=False):
        """See the class docstring."""
        pyramid, coarser, above = {}, None, None
        for level in reversed(self.levels):
            lateral = native.after(features[level], pyramid.values())
            merged = self.lateral_convs[level](lateral, training=training)
            # Eq: fpn §3 | P_l = conv3x3(conv1x1(C_l) + upsample2(M_{l+1}))
            if coarser is not None:
                factor = 2 ** (level_number(above) - level_number(level))
                merged = merged + upsample_to(coarser, merged, factor)
            coarser, above = merged, level
            pyramid["P" + level[1:]] = self.output_convs[level](merged, training=training)
        pyramid = dict(reversed(pyramid.items()))
        coarsest = list(pyramid)[-1]
        if self.p6_from == "pool":
            pyramid[_next(coarsest)] = pyramid[coarsest][:, ::2, ::2]
        elif self.p6_from:
            p6 = self.p6(features["C5"] if self.p6_from == "C5" else pyramid["P5"])
            pyramid["P6"] = p6
            pyramid["P7"] = self.p7(ops.relu(p6))
        return pyramid

    def compute_output_spec(self, features, training=False):
        """Return the shapes of the P maps: sizes of the backbone's maps, then halved and rounded up."""
        sizes = {"P" + level[1:]: features[level].shape[1:3] for level in self.levels}
        coarsest = "P" + self.levels[-1][1:]
        if self.p6_from == "pool":
            sizes[_next(coarsest)] = [None if s is None else (s + 1) // 2 for s in sizes[coarsest]]
        elif self.p6_from:
            sizes["P6"] = [None if s is None else (s + 1) // 2 for s in sizes["P5"]]
            sizes["P7"] = [None if s is None else (s + 1) // 2 for s in sizes["P6"]]
        batch = features[self.levels[0]].shape[0]
        return {
            level: keras.KerasTensor((batch, *size, self.channels), self.compute_dtype)
            for level, size in sizes.items()
        }

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "levels": self.levels,
            "p6_from": self.p6_from,
            "norm": self.norm,
        }

    def _conv(self, kernel_size, name):
        if self.norm:
            return ConvNorm(self.channels, kernel_size, dtype=self.dtype_policy, name=name)
        return self._plain_conv(kernel_size, name)

    def _plain_conv(self, kernel_size, name, stride=1):
        # Uniform with variance 1 / fan_in, as in the papers' code and torchvision. Each convolution needs a
        # new initialiser, because one that is called twice returns the same numbers twice.
        return Conv(
            self.channels,
            kernel_size,
            stride,
            kernel_initializer=keras.initializers.VarianceScaling(1.0, "fan_in", "uniform"),
            dtype=self.dtype_policy,
            name=name,
        )


def _next(level):
    return f"P{level_number(level) + 1}"


def upsample_to(coarse, fine, factor=2):
    """Upsample by nearest neighbour, and crop to the size of the finer map.

    Args:
        coarse: (B, h, w, C).
        fine: (B, H, W, C) with h = ceil(H / factor) and w = ceil(W / factor).
        factor: cells of the finer map per coarse cell, in each direction.

    Returns:
        (B, H, W, C).
    """
    if factor == 1:
        return coarse
    batch, h, w, channels = ops.shape(coarse)
    wide = ops.broadcast_to(coarse[:, :, None, :, None, :], (batch, h, factor, w, factor, channels))
    wide = ops.reshape(wide, (batch, factor * h, factor * w, channels))
    _, height, width, _ = ops.shape(fine)
    return wide[:, :height, :width, :]
