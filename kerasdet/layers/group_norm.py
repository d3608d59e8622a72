"""Group normalisation, which, as in its paper, does not depend on the batch."""

import keras
from keras import ops

from kerasdet.ops.checks import check_whole


@keras.saving.register_keras_serializable("kerasdet")
class GroupNorm(keras.layers.Layer):
    """Group normalisation of feature maps, with statistics in float32 under every policy.

    `keras.layers.GroupNormalization` sums a whole group at once. For a single large image this takes
    longer, and on a CPU TensorFlow loses four digits, enough to move boxes. Here every row is summed
    first.

    Args:
        groups: groups of channels; each is normalised by its own mean and variance.
        epsilon: added to the variance.

    Source: Wu and He, arXiv 1803.08494, §3.1.
    """

    def __init__(self, groups=32, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        check_whole("groups", groups)
        self.groups = groups
        self.epsilon = epsilon

    def build(self, input_shape):
        """Create gamma and beta, one value per channel."""
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(f"groups={self.groups} must divide the {channels} channels.")
        self.gamma = self.add_weight((channels,), "ones", name="gamma", autocast=False)
        self.beta = self.add_weight((channels,), "zeros", name="beta", autocast=False)

    def call(self, inputs):
        """Normalise each image's groups: (B, H, W, C) -> (B, H, W, C)."""
        x = ops.cast(inputs, "float32")
        centred = x - self._group_mean(x)
        variance = self._group_mean(ops.square(centred))
        # Eq: group_norm §3.1 | y = gamma (x - mu) / sqrt(sigma^2 + eps) + beta
        outputs = centred * (self.gamma * ops.rsqrt(variance + self.epsilon)) + self.beta
        return ops.cast(outputs, inputs.dtype)

    def compute_output_shape(self, input_shape):
        """Return the input's shape."""
        return input_shape

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}

    def _group_mean(self, x):
        """Return the mean of each group, for each of its channels: (B, H, W, C) -> (B, 1, 1, C)."""
        batch, channels = ops.shape(x)[0], x.shape[-1]
        shape = (batch, self.groups, channels // self.groups)
        means = ops.reshape(ops.mean(ops.mean(x, axis=2), axis=1), shape)  # (B, G, C / G)
        means = ops.broadcast_to(ops.mean(means, axis=-1, keepdims=True), shape)  # (B, G, C / G)
        return ops.reshape(means, (batch, 1, 1, channels))
