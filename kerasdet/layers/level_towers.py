"""The hidden convolutions of SSD's heads: every level has its own, unlike in `Subnets`."""

import keras

from kerasdet.layers.conv import ConvNorm
from kerasdet.ops.checks import check_whole

DEEPEST = 100  # convolutions of a tower


class _Towers(keras.layers.Layer):
    """What both kinds share: two towers of convolutions on each level's map."""

    def build(self, maps_shape):
        """Create every weight."""
        self.towers = {}
        for kind in ("class", "box"):
            for level, shape in maps_shape.items():
                convs = self._tower(f"{kind}_{level}", shape[-1])
                for conv in convs:
                    conv.build(shape)
                    shape = conv.compute_output_shape(shape)
                self.towers[f"{kind}_{level}"] = convs
        self.built = True

    def call(self, maps, training=False):
        """See the class docstring."""
        return tuple(
            {level: self._through(f"{kind}_{level}", x, training) for level, x in maps.items()}
            for kind in ("class", "box")
        )

    def _through(self, tower, x, training):
        for conv in self.towers[tower]:
            x = conv(x, training=training)
        return x


@keras.saving.register_keras_serializable("kerasdet")
class LevelTowers(_Towers):
    """Hidden 3x3 convolutions with batch normalisation, of each level's own.

    The detector adds its own output convolutions.

    Args:
        channels: channels of the hidden maps.
        depth: hidden convolutions of each tower; 0 (SSD): the maps pass unchanged.

    Call arguments:
        maps: {level: (B, H, W, C), ...}.

    Returns:
        ({level: (B, H, W, channels), ...} for classes, the same for boxes), in the compute type.

    Raises:
        ValueError: channels or a depth out of range.
    """

    def __init__(self, channels=128, depth=0, **kwargs):
        super().__init__(**kwargs)
        check_whole("channels", channels)
        check_whole("depth", depth, least=0, most=DEEPEST)
        self.channels = channels
        self.depth = depth

    def compute_output_shape(self, maps_shape):
        """Return the shapes of both towers' maps."""
        shapes = {
            level: (*shape[:3], self.channels if self.depth else shape[3])
            for level, shape in maps_shape.items()
        }
        return shapes, dict(shapes)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "channels": self.channels, "depth": self.depth}

    def _tower(self, name, channels):
        return [
            ConvNorm(
                self.channels, 3, activation="relu", dtype=self.dtype_policy, name=f"{name}_{i}"
            )
            for i in range(self.depth)
        ]


@keras.saving.register_keras_serializable("kerasdet")
class DepthwiseTowers(_Towers):
    """One depthwise 3x3 convolution for classes and one for boxes on each level (SSDLite).

    With output convolutions of 1x1, this replaces SSD's 3x3 convolutions by separable ones.

    Args:
        norm_epsilon: epsilon of the batch normalisation.

    Call arguments:
        maps: {level: (B, H, W, C), ...}.

    Returns:
        ({level: (B, H, W, C), ...} for classes, the same for boxes), in the compute type.

    Source: MobileNetV2 (arXiv 1801.04381), section 6.2.
    """

    def __init__(self, norm_epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.norm_epsilon = norm_epsilon

    def compute_output_shape(self, maps_shape):
        """Return the shapes of both towers' maps."""
        return dict(maps_shape), dict(maps_shape)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "norm_epsilon": self.norm_epsilon}

    def _tower(self, name, channels):
        shared = {"norm_epsilon": self.norm_epsilon, "dtype": self.dtype_policy}
        return [ConvNorm(channels, 3, groups=channels, activation="relu6", name=name, **shared)]
