"""A dense layer in two factors, and the truncated singular value decomposition that gives them."""

import keras
import numpy as np

from kerasdet.ops.checks import check_whole


@keras.saving.register_keras_serializable("kerasdet")
class TruncatedDense(keras.layers.Layer):
    """A dense layer of which the kernel has a low rank: two products without activation between (Fast R-CNN).

    It has t (u + v) parameters in the place of u v.

    Args:
        units: u, outputs.
        rank: t, outputs of the first product.
        activation: of the outputs.

    Call arguments:
        x: (..., v).

    Returns:
        (..., u).

    Source: arXiv 1504.08083v2, section 3.1.
    """

    def __init__(self, units, rank, activation=None, **kwargs):
        super().__init__(**kwargs)
        check_whole("units", units)
        check_whole("rank", rank)
        self.units = units
        self.rank = rank
        self.activation = keras.activations.get(activation)
        policy = self.dtype_policy
        self.first = keras.layers.Dense(rank, use_bias=False, dtype=policy, name="first")
        self.second = keras.layers.Dense(units, activation, dtype=policy, name="second")

    def build(self, input_shape):
        """Create the weights of both products."""
        self.first.build(input_shape)
        self.second.build((*input_shape[:-1], self.rank))
        self.built = True

    def factorize(self, kernel, bias):
        """Take the weights of a dense layer.

        Args:
            kernel: (v, u).
            bias: (u,).
        """
        first, second = truncated_svd(kernel, self.rank)
        self.first.set_weights([first])
        self.second.set_weights([second, bias])

    def call(self, x):
        """See the class docstring."""
        return self.second(self.first(x))

    def compute_output_shape(self, input_shape):
        """Return (..., u)."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "rank": self.rank,
            "activation": keras.activations.serialize(self.activation),
        }


def truncated_svd(kernel, rank):
    """Return the two factors of a rank whose product is nearest to a kernel.

    Args:
        kernel: (v, u), W^T in the paper's words.
        rank: t, at most the smaller of u and v.

    Returns:
        Two float32 arrays, (v, t) and (t, u): V Sigma_t and U^T.
    """
    # Eq: fast_rcnn §3.1 | W ~ U Sigma_t V^T: the first layer is Sigma_t V^T without bias, the second is U
    left, values, right = np.linalg.svd(np.asarray(kernel, "float32"), full_matrices=False)
    return left[:, :rank] * values[:rank], right[:rank]
