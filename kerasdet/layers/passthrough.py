"""YOLOv2's head: convolutions on the coarsest map, which a finer map joins as channels."""

import keras
from keras import ops

from kerasdet.layers.conv import ConvNorm, leaky
from kerasdet.ops.cells import darknet_reorg, space_to_depth
from kerasdet.ops.checks import check_choice, check_whole

ORDERS = {"adjacent": space_to_depth, "darknet": darknet_reorg}


@keras.saving.register_keras_serializable("kerasdet")
class PassthroughHead(keras.layers.Layer):
    """3x3 convolutions on a map; before the last of them, a map of twice the resolution joins.

    Args:
        channels: channels of the 3x3 convolutions.
        depth: 3x3 convolutions, all with batch normalisation and leaky ReLU.
        passthrough: channels of the 1x1 convolution on the finer map, four times as many of which join; 0:
            no finer map (tiny YOLOv2).
        levels: the finer map and the map, or the map alone.
        order: of the cells that become channels: "adjacent" (the paper), or "darknet", for its weights.
        norm_epsilon: epsilon of the batch normalisation.

    Call arguments:
        maps: {"C4": (B, 2 H, 2 W, C4), "C5": (B, H, W, C5), ...}.

    Returns:
        (B, H, W, C), in the compute type.

    Raises:
        ValueError: another order, counts out of range, or a passthrough without two levels or convolutions;
            in a call, a finer map that is not twice as high and wide.

    Source: YOLOv2 (arXiv 1612.08242), section 2, Fine-Grained Features, and section 3, Training for
    detection.
    """

    def __init__(
        self,
        channels=1024,
        depth=3,
        passthrough=64,
        levels=("C4", "C5"),
        order="adjacent",
        norm_epsilon=1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_whole("channels", channels)
        check_whole("depth", depth, least=0, most=100)
        check_whole("passthrough", passthrough, least=0)
        check_choice("order", order, ORDERS)
        if passthrough and (len(levels) != 2 or not depth):
            raise ValueError(
                f"passthrough={passthrough} joins a finer map before the last convolution; give two levels, "
                f"not {tuple(levels)}, and a depth of 1 or more, or passthrough=0."
            )
        self.channels = channels
        self.depth = depth
        self.passthrough = passthrough
        self.levels = tuple(levels)
        self.order = order
        self.norm_epsilon = norm_epsilon
        self.convs = [self._conv(channels, 3, f"conv{i}") for i in range(depth)]
        self.fine_conv = self._conv(passthrough, 1, "passthrough") if passthrough else None

    def build(self, maps_shape):
        """Create the convolutions' weights."""
        width = maps_shape[self.levels[-1]][-1]
        for i, conv in enumerate(self.convs):
            joined = 4 * self.passthrough if i == self.depth - 1 else 0
            conv.build((None, None, None, width + joined))
            width = self.channels
        if self.fine_conv:
            self.fine_conv.build(maps_shape[self.levels[0]])
        self.built = True

    def call(self, maps, training=False):
        """See the class docstring."""
        x = maps[self.levels[-1]]
        for conv in self.convs[: self.depth - 1]:
            x = conv(x, training=training)
        if self.passthrough:
            fine = maps[self.levels[0]]
            self._check_sizes(fine.shape[1:3], x.shape[1:3])
            fine = ORDERS[self.order](self.fine_conv(fine, training=training))
            x = ops.concatenate([fine, x], axis=-1)
        return self.convs[-1](x, training=training) if self.depth else x

    def compute_output_shape(self, maps_shape):
        """Return the shape of the map."""
        shape = maps_shape[self.levels[-1]]
        return (*shape[:3], self.channels if self.depth else shape[3])

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "depth": self.depth,
            "passthrough": self.passthrough,
            "levels": self.levels,
            "order": self.order,
            "norm_epsilon": self.norm_epsilon,
        }

    def _check_sizes(self, fine, coarse):
        if any(None not in pair and pair[0] != 2 * pair[1] for pair in zip(fine, coarse)):
            raise ValueError(
                f"{self.levels[0]} is {tuple(fine)} and {self.levels[1]} {tuple(coarse)}: the finer map must "
                "be twice as high and wide; give images whose sides are multiples of the stride."
            )

    def _conv(self, filters, size, name):
        return ConvNorm(
            filters,
            size,
            activation=leaky,
            norm_epsilon=self.norm_epsilon,
            dtype=self.dtype_policy,
            name=name,
        )
