"""The smaller and smaller maps that SSD adds on top of its backbone."""

import keras
from keras import ops

from kerasdet.layers.conv import BatchNorm, ConvNorm
from kerasdet.layers.pooling import L2Normalization
from kerasdet.ops.checks import check_choice

# Rows of `ExtraLayers`: channels of the 1x1 convolution; channels, kernel size, stride and padding of the
# second one. SSD, figure 2 (conv8 to conv11), and section 3.1 with the authors' code for SSD512.
SSD300_ROWS = (
    (256, 512, 3, 2, 1),
    (128, 256, 3, 2, 1),
    (128, 256, 3, 1, 0),
    (128, 256, 3, 1, 0),
)
SSD512_ROWS = (
    (256, 512, 3, 2, 1),
    (128, 256, 3, 2, 1),
    (128, 256, 3, 2, 1),
    (128, 256, 3, 2, 1),
    (128, 256, 4, 1, 1),
)
# DSSD (arXiv 1701.06659), table 1 for the sizes of the maps: 20, 10, 5, 3, 1 and 32, 16, 8, 4, 2, 1.
SSD321_ROWS = (
    (256, 512, 3, 2, 1),
    (128, 256, 3, 2, 1),
    (128, 256, 3, 2, 1),
    (128, 256, 3, 1, 0),
)
SSD513_ROWS = SSD512_ROWS
CONV4_3_SCALE = 20.0  # SSD, section 3.1
# torchvision's; MobileNetV2 (arXiv 1801.04381), section 6.2.
SSDLITE_CHANNELS = (512, 256, 256, 128)


class _Extras(keras.layers.Layer):
    """What both kinds share: the backbone's maps pass, and each block makes one more map of the last."""

    def build(self, maps_shape):
        """Create every weight."""
        shapes = list(self.compute_output_shape(maps_shape).values())[len(self.levels) - 1 :]
        for block, shape in zip(self.blocks, shapes):
            for layer in block:
                layer.build(shape)
                shape = layer.compute_output_shape(shape)
        self.built = True

    def call(self, maps, training=False):
        """See the class docstring."""
        found = {level: maps[level] for level in self.levels}
        x = found[self.levels[-1]]
        for number, block in enumerate(self.blocks, start=1):
            for layer in block:
                x = layer(x, training=training)
            found[f"extra{number}"] = x
        return found

    def compute_output_shape(self, maps_shape):
        """Return the maps' shapes."""
        found = {level: maps_shape[level] for level in self.levels}
        shape = found[self.levels[-1]]
        for number, block in enumerate(self.blocks, start=1):
            for layer in block:
                shape = layer.compute_output_shape(shape)
            found[f"extra{number}"] = shape
        return found


@keras.saving.register_keras_serializable("kerasdet")
class ExtraLayers(_Extras):
    """SSD's extra feature layers: each a 1x1 and a larger convolution (SSD, section 2.1 and figure 2).

    Args:
        rows: for each map, channels of the 1x1 convolution, then channels, kernel size, stride and padding
            of the second one; default SSD300's. Padding is the zeros on every side, or "same" (TensorFlow's).
        levels: the backbone's maps that are used; the extra maps come from the last.
        scale: initial scale of the L2 normalisation of the first map (section 3.1); None: none.
        norm: None (the paper) or "batch" (for training from scratch).
        activation: "relu" (the paper) or "relu6".
        norm_epsilon: epsilon of the batch normalisation.

    Call arguments:
        maps: {level: (B, H, W, C), ...}.

    Returns:
        {level: map, ..., "extra1": (B, h, w, c), ...}, from the largest map to the smallest.

    Raises:
        ValueError: a row does not have five numbers, or another norm.
    """

    def __init__(
        self,
        rows=SSD300_ROWS,
        levels=("C3", "C4_fc7"),
        scale=CONV4_3_SCALE,
        norm=None,
        activation="relu",
        norm_epsilon=1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_choice("activation", activation, ("relu", "relu6"))
        if norm not in (None, "batch"):
            raise ValueError(f'norm must be None or "batch", not {norm!r}.')
        self.rows = tuple(tuple(row) for row in rows)
        for row in self.rows:
            if len(row) != 5:
                raise ValueError(
                    f"rows has {row}; give channels of the 1x1 convolution, then channels, kernel size, "
                    "stride and padding of the second."
                )
        self.levels = tuple(levels)
        self.scale = scale
        self.norm = norm
        self.activation = activation
        self.norm_epsilon = norm_epsilon
        policy = self.dtype_policy
        if scale is not None:
            self.l2_norm = L2Normalization(scale, dtype=policy, name="l2_norm")
        self.blocks = [
            [
                self._conv(f"conv{number}_1", hidden, 1, 1, 0),
                self._conv(f"conv{number}_2", *second),
            ]
            for number, (hidden, *second) in enumerate(self.rows, start=1)
        ]

    def build(self, maps_shape):
        """Create every weight."""
        if self.scale is not None:
            self.l2_norm.build(maps_shape[self.levels[0]])
        super().build(maps_shape)

    def call(self, maps, training=False):
        """See the class docstring."""
        found = super().call(maps, training=training)
        if self.scale is not None:
            # Eq: ssd §3.1 | conv4_3 / ||conv4_3||_2 at each place, times a learnt scale that begins at 20
            found[self.levels[0]] = self.l2_norm(maps[self.levels[0]])
        return found

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "rows": self.rows,
            "levels": self.levels,
            "scale": self.scale,
            "norm": self.norm,
            "activation": self.activation,
            "norm_epsilon": self.norm_epsilon,
        }

    def _conv(self, name, *row):
        norm = self.norm and BatchNorm(
            epsilon=self.norm_epsilon, dtype=self.dtype_policy, name="norm"
        )
        return _PaddedConv(*row, norm, self.activation, dtype=self.dtype_policy, name=name)


@keras.saving.register_keras_serializable("kerasdet")
class SeparableExtraLayers(_Extras):
    """SSDLite's extra feature layers: 1x1, depthwise 3x3 of stride 2, 1x1 (MobileNetV2, section 6.2).

    Args:
        channels: channels of each map; the inner convolutions have half of them.
        levels: the backbone's maps that are used; the extra maps come from the last.
        norm_epsilon: epsilon of the batch normalisation.

    Call arguments:
        maps: {level: (B, H, W, C), ...}.

    Returns:
        {level: map, ..., "extra1": (B, h, w, c), ...}, from the largest map to the smallest.
    """

    def __init__(
        self,
        channels=SSDLITE_CHANNELS,
        levels=("C4_expand", "C5"),
        norm_epsilon=1e-3,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        self.levels = tuple(levels)
        self.norm_epsilon = norm_epsilon
        self.blocks = [self._block(number, width) for number, width in enumerate(self.channels, 1)]

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "levels": self.levels,
            "norm_epsilon": self.norm_epsilon,
        }

    def _block(self, number, width):
        shared = {
            "activation": "relu6",
            "norm_epsilon": self.norm_epsilon,
            "dtype": self.dtype_policy,
        }
        hidden = width // 2
        return [
            ConvNorm(hidden, 1, name=f"conv{number}_1", **shared),
            ConvNorm(hidden, 3, 2, groups=hidden, name=f"conv{number}_2", **shared),
            ConvNorm(width, 1, name=f"conv{number}_3", **shared),
        ]


class _PaddedConv(keras.layers.Layer):
    """Convolution of any kernel size and padding, batch normalisation if asked for, and an activation."""

    def __init__(self, channels, size, stride, padding, norm, activation, **kwargs):
        super().__init__(**kwargs)
        self.zeros = 0 if padding == "same" else padding
        self.conv = keras.layers.Conv2D(
            channels,
            size,
            stride,
            "same" if padding == "same" else "valid",
            use_bias=norm is None,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.norm = norm
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        self.conv.build(self._padded(input_shape))
        if self.norm:
            self.norm.build(self.compute_output_shape(input_shape))
        self.built = True

    def call(self, inputs, training=False):
        around = [self.zeros] * 2
        x = self.conv(ops.pad(inputs, [[0, 0], around, around, [0, 0]]) if self.zeros else inputs)
        return self.activation(self.norm(x, training=training) if self.norm else x)

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(self._padded(input_shape))

    def _padded(self, shape):
        sides = (side and side + 2 * self.zeros for side in shape[1:3])
        return (shape[0], *sides, shape[3])
