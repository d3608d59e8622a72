"""A backbone's last stage on each region: the heads of ResNet and of the Inception networks."""

import keras
from keras import ops

from kerasdet.backbones.backbone import copy_layers, freeze_norms


class StageHead(keras.layers.Layer):
    """A stage of stride two on each region, then the mean of its cells.

    A subclass has the hook `stage_on(regions)`, which builds the stage on a map (B, H, W, C), and `channels`.

    Args:
        frozen_norm: whether batch normalisation is not trained and keeps its statistics, as usual
            for pretrained weights.

    Call arguments:
        regions: (B, R, h, w, C).

    Returns:
        (B, R, channels) in the compute type.
    """

    channels = None

    def __init__(self, frozen_norm=False, **kwargs):
        super().__init__(**kwargs)
        self.frozen_norm = frozen_norm

    def stage_on(self, regions):
        """Build the stage on a map (B, H, W, C)."""
        raise NotImplementedError

    def build(self, regions_shape):
        """Create every weight."""
        inputs = keras.Input((None, None, regions_shape[-1]), name="regions")
        self.stage = keras.Model(inputs, self.stage_on(inputs), name="stage")
        self.stage.dtype_policy = self.dtype_policy
        if self.frozen_norm:
            freeze_norms(self.stage.layers)
        self.built = True

    def call(self, regions, training=False):
        """See the class docstring."""
        return ops.mean(self.maps(regions, training), axis=(2, 3))

    def maps(self, regions, training=False):
        """Return the stage's maps (B, R, h', w', channels); a mask branch may start from them."""
        batch, count = ops.shape(regions)[:2]
        x = ops.reshape(regions, (batch * count, *regions.shape[2:]))  # (B R, h, w, C)
        x = self.stage(x, training=training)
        return ops.reshape(x, (batch, count, *x.shape[1:]))

    def compute_output_shape(self, regions_shape):
        """Return (B, R, channels)."""
        return (*regions_shape[:2], self.channels)

    def maps_shape(self, regions_shape):
        """Return the shape of `maps`; with padding a side of h cells has ceil(h / 2)."""
        cells = ((side + 1) // 2 for side in regions_shape[2:4])
        return (*regions_shape[:2], *cells, self.channels)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "frozen_norm": self.frozen_norm}


def filled(head, backbone, channels):
    """Build a head and give its layers the weights of a backbone's layers of the same names.

    Args:
        head: `StageHead`.
        backbone: the trained backbone, with that stage.
        channels: channels of the regions.

    Returns:
        The head.
    """
    head.build((None, None, None, None, channels))
    copy_layers(backbone, head.stage)
    return head


def strided_shape(regions_shape, padding, channels):
    """Return the maps' shape of a stage whose 3 x 3 windows of stride two are padded, or not.

    Args:
        regions_shape: (B, R, h, w, C).
        padding: "same": a side of h cells has ceil(h / 2); "published": floor((h - 1) / 2).
        channels: of the maps.
    """
    more = 1 if padding == "same" else -1
    return (*regions_shape[:2], *((side + more) // 2 for side in regions_shape[2:4]), channels)
