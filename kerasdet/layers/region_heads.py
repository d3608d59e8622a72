"""The head of a second stage: what it computes from pooled regions before it predicts."""

import keras
from keras import ops

from kerasdet.layers.conv import Conv, ConvNorm
from kerasdet.layers.truncated import TruncatedDense
from kerasdet.ops.checks import check_whole


@keras.saving.register_keras_serializable("kerasdet")
class DenseHead(keras.layers.Layer):
    """Convolutions, if any, and dense layers with ReLU on each region (Fast R-CNN's fc6 and fc7).

    Args:
        units: outputs of each dense layer.
        convs: channels of each 3x3 convolution before the dense layers (Detectron2's, torchvision's v2 head).
        norm: None, or "batch" for batch normalisation after each convolution.
        dropout: share of each dense layer's outputs dropped in training (VGG-16's classifier: 0.5).
        ranks: None, or for each dense layer the rank of its kernel, which then is two factors
            (`TruncatedDense`); None for a whole kernel.

    Call arguments:
        regions: (B, R, h, w, C).

    Returns:
        (B, R, units[-1]) in the compute type.
    """

    def __init__(self, units=(1024, 1024), convs=(), norm=None, dropout=0.0, ranks=None, **kwargs):
        super().__init__(**kwargs)
        for width in (*units, *convs):
            check_whole("a width of units or convs", width)
        if ranks is not None and len(ranks) != len(units):
            raise ValueError(f"ranks has {len(ranks)} entries for {len(units)} dense layers.")
        self.units = tuple(units)
        self.convs = tuple(convs)
        self.norm = norm
        self.dropout = dropout
        self.ranks = None if ranks is None else tuple(ranks)
        self.conv_layers = [self._conv(f"conv{i}", width) for i, width in enumerate(self.convs)]
        # fc6 and fc7 are the names in VGG-16's classifier.
        ranks = self.ranks or (None,) * len(self.units)
        self.dense_layers = [
            self._dense(f"fc{6 + i}", *sizes) for i, sizes in enumerate(zip(self.units, ranks))
        ]
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="drop")

    def build(self, regions_shape):
        """Create every weight."""
        *_, height, width, channels = regions_shape
        for layer in self.conv_layers:
            layer.build((None, height, width, channels))
            channels = layer.filters
        self.width = inputs = height * width * channels
        for layer in self.dense_layers:
            layer.build((None, inputs))
            inputs = layer.units
        self.built = True

    def call(self, regions, training=False):
        """See the class docstring."""
        batch, count = ops.shape(regions)[:2]
        x = ops.reshape(regions, (batch * count, *regions.shape[2:]))  # (B R, h, w, C)
        for layer in self.conv_layers:
            x = layer(x, training=training)
        x = ops.reshape(x, (batch * count, self.width))  # (B R, h w C)
        for layer in self.dense_layers:
            x = self.drop(layer(x), training=training)
        return ops.reshape(x, (batch, count, self.units[-1]))

    def compute_output_shape(self, regions_shape):
        """Return (B, R, units[-1])."""
        return (*regions_shape[:2], self.units[-1])

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "convs": self.convs,
            "norm": self.norm,
            "dropout": self.dropout,
            "ranks": self.ranks,
        }

    def _dense(self, name, width, rank):
        settings = {"activation": "relu", "dtype": self.dtype_policy, "name": name}
        if rank:
            return TruncatedDense(width, rank, **settings)
        return keras.layers.Dense(width, kernel_initializer="he_uniform", **settings)

    def _conv(self, name, width):
        if self.norm:
            return ConvNorm(width, 3, activation="relu", dtype=self.dtype_policy, name=name)
        return Conv(width, 3, activation="relu", dtype=self.dtype_policy, name=name)
