"""The two towers of a dense detector, for classes and for boxes, and its output convolutions."""

import math

import keras
from keras import ops

from kerasdet.layers.conv import BatchNorm, Conv
from kerasdet.layers.group_norm import GroupNorm
from kerasdet.ops.checks import check_whole

GROUPS = 32  # of group normalisation
DEEPEST = 100  # convolutions of a tower


@keras.saving.register_keras_serializable("kerasdet")
class Subnets(keras.layers.Layer):
    """Hidden 3x3 convolutions for classes and for boxes, shared by all levels (RetinaNet, section 4).

    The detector adds its own output convolutions.

    Args:
        channels: channels of the hidden maps.
        depth: hidden convolutions of each tower (RetinaNet and FCOS: 4); 0: the maps pass unchanged.
        norm: None (RetinaNet), "batch" (statistics per level, convolutions shared) or "group" (32 groups;
            FCOS).
        use_bias: whether convolutions in front of a norm have a bias, too (FCOS).

    Call arguments:
        maps: {"P3": (B, H3, W3, C), ...}.

    Returns:
        ({"P3": (B, H3, W3, channels), ...} for classes, the same for boxes), in the compute type.

    Raises:
        ValueError: another norm, or channels or a depth out of range.

    Source: RetinaNet (arXiv 1708.02002), section 4, Classification Subnet and Box Regression Subnet.
    """

    def __init__(self, channels=256, depth=4, norm=None, use_bias=False, **kwargs):
        super().__init__(**kwargs)
        if norm not in (None, "batch", "group"):
            raise ValueError(f'norm must be None, "batch" or "group", not {norm!r}.')
        check_whole("channels", channels)
        check_whole("depth", depth, least=0, most=DEEPEST)
        self.channels = channels
        self.depth = depth
        self.norm = norm
        self.use_bias = use_bias
        self.class_convs = [self._conv(f"class_conv{i}") for i in range(depth)]
        self.box_convs = [self._conv(f"box_conv{i}") for i in range(depth)]

    def build(self, maps_shape):
        """Create the convolutions' weights, once for all levels, and the norms."""
        shape = next(iter(maps_shape.values()))
        hidden = (None, None, None, self.channels)
        self.norms = {}
        for tower, convs in (("class", self.class_convs), ("box", self.box_convs)):
            for i, conv in enumerate(convs):
                conv.build(hidden if i else shape)
                for level in self._norm_levels(maps_shape):
                    layer = self._norm(f"{tower}_norm{i}_{level}")
                    layer.build(hidden)
                    self.norms[f"{tower}{i}{level}"] = layer
        self.built = True

    def call(self, maps, training=False):
        """See the class docstring."""
        towers = {}, {}
        for level, x in maps.items():
            for tower, kind in zip(towers, ("class", "box")):
                tower[level] = self._tower(kind, x, level, training)
        return towers

    def compute_output_shape(self, maps_shape):
        """Return the shapes of both towers' maps."""
        shapes = {
            level: (*shape[:3], self.channels if self.depth else shape[3])
            for level, shape in maps_shape.items()
        }
        return shapes, dict(shapes)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "depth": self.depth,
            "norm": self.norm,
            "use_bias": self.use_bias,
        }

    def _tower(self, kind, x, level, training):
        for i, conv in enumerate(self.class_convs if kind == "class" else self.box_convs):
            x = conv(x)
            if self.norm == "batch":
                x = ops.relu(self.norms[f"{kind}{i}{level}"](x, training=training))
            elif self.norm == "group":
                x = ops.relu(self.norms[f"{kind}{i}"](x))
        return x

    def _conv(self, name):
        normal = keras.initializers.RandomNormal(0, 0.01)  # RetinaNet, section 4.1, Initialization
        return Conv(
            self.channels,
            3,
            use_bias=self.use_bias or self.norm is None,
            activation=None if self.norm else "relu",
            kernel_initializer="he_normal" if self.norm else normal,
            dtype=self.dtype_policy,
            name=name,
        )

    def _norm_levels(self, maps_shape):
        return {None: (), "batch": tuple(maps_shape), "group": ("",)}[self.norm]

    def _norm(self, name):
        if self.norm == "group":
            return GroupNorm(GROUPS, dtype=self.dtype_policy, name=name)
        return BatchNorm(dtype=self.dtype_policy, name=name)


def output_conv(filters, name, std, confidence=None):
    """Return an output convolution of a dense detector, 3x3 and float32.

    Args:
        filters: number of outputs at each place.
        name: name of the layer.
        std: standard deviation of its first weights.
        confidence: that of its first outputs, after a sigmoid; None: they begin at zero.

    Source: RetinaNet (arXiv 1708.02002), section 4.1, Initialization.
    """
    # Eq: retinanet §4.1 | b = -log((1 - pi) / pi)
    bias = 0.0 if confidence is None else -math.log((1 - confidence) / confidence)
    return Conv(
        filters,
        3,
        kernel_initializer=keras.initializers.RandomNormal(0, std),
        bias_initializer=keras.initializers.Constant(bias),
        dtype="float32",
        name=name,
    )
