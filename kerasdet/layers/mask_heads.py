"""The head of a mask or keypoint branch: it computes maps from pooled regions, not vectors."""

import keras
from keras import ops

from kerasdet.layers.conv import Conv, ConvNorm
from kerasdet.ops.checks import check_whole


@keras.saving.register_keras_serializable("kerasdet")
class MaskHead(keras.layers.Layer):
    """3x3 convolutions with ReLU on each region, and a transposed one that doubles it (Mask R-CNN, figure 4).

    Args:
        convs: channels of each 3x3 convolution.
        upsampled: channels of the final 2x2 transposed convolution of stride 2 with ReLU; None: no such
            convolution (the keypoint branch of section 5).
        norm: None, or "batch" for batch normalisation after each 3x3 convolution.

    Call arguments:
        regions: (B, R, h, w, C).

    Returns:
        (B, R, 2h, 2w, upsampled), or (B, R, h, w, convs[-1]), in the compute type.
    """

    def __init__(self, convs=(256,) * 4, upsampled=256, norm=None, **kwargs):
        super().__init__(**kwargs)
        if norm not in (None, "batch"):
            raise ValueError(f'norm must be None or "batch", not {norm!r}.')
        for width in (*convs, upsampled or 1):
            check_whole("a width of convs, or upsampled,", width)
        self.convs = tuple(convs)
        self.upsampled = upsampled
        self.norm = norm
        kind, options = (ConvNorm if norm else Conv), {"dtype": self.dtype_policy}
        self.conv_layers = [
            kind(width, 3, activation="relu", name=f"conv{i}", **options)
            for i, width in enumerate(self.convs)
        ]
        self.deconv = upsampled and keras.layers.Conv2DTranspose(
            upsampled,
            2,
            strides=2,
            activation="relu",
            kernel_initializer="he_normal",
            name="deconv",
            **options,
        )

    def build(self, regions_shape):
        """Create every weight."""
        shape = (None, *regions_shape[2:])
        for layer in self._layers_in_order():
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.built = True

    def call(self, regions, training=False):
        """See the class docstring."""
        batch, count = ops.shape(regions)[:2]
        x = ops.reshape(regions, (batch * count, *regions.shape[2:]))  # (B R, h, w, C)
        for layer in self._layers_in_order():
            x = layer(x, training=training) if isinstance(layer, ConvNorm) else layer(x)
        return ops.reshape(x, (batch, count, *x.shape[1:]))

    def compute_output_shape(self, regions_shape):
        """Return (B, R, 2h, 2w, upsampled) or (B, R, h, w, convs[-1])."""
        shape = (None, *regions_shape[2:])
        for layer in self._layers_in_order():
            shape = layer.compute_output_shape(shape)
        return (*regions_shape[:2], *shape[1:])

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "convs": self.convs,
            "upsampled": self.upsampled,
            "norm": self.norm,
        }

    def _layers_in_order(self):
        return [*self.conv_layers, self.deconv] if self.deconv else self.conv_layers
