"""A dense layer in two factors, by numbers worked by hand."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase

from kerasdet.layers import DenseHead, TruncatedDense
from kerasdet.layers.truncated import truncated_svd
from tests.tiny import parameters


class TruncatedDenseTest(TestCase):
    def test_layer(self):
        self.run_layer_test(
            TruncatedDense,
            init_kwargs={"units": 5, "rank": 2, "activation": "relu"},
            input_shape=(2, 3, 4),
            expected_output_shape=(2, 3, 5),
            expected_num_trainable_weights=3,  # two kernels, one bias
            expected_num_non_trainable_weights=0,
        )


def test_the_largest_singular_values_stay():
    # 3 u1 v1 + 2 u2 v2, of unit vectors along the axes.
    kernel = np.array([[3.0, 0, 0], [0, 0, 2.0]])
    for rank, expected in ((1, [[3.0, 0, 0], [0, 0, 0]]), (2, kernel)):
        first, second = truncated_svd(kernel, rank)
        assert (first.shape, second.shape) == ((2, rank), (rank, 3))
        np.testing.assert_allclose(first @ second, expected, atol=1e-6)
    # The first factor holds the singular values, the second has rows of length 1.
    np.testing.assert_allclose(np.abs(first), [[3, 0], [0, 2]], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(second, axis=1), [1, 1], rtol=1e-6)


def test_the_nearest_kernel_of_a_rank():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(8, 6))
    values = np.linalg.svd(kernel, compute_uv=False)
    for rank in (1, 3, 5):
        first, second = truncated_svd(kernel, rank)
        distance = np.linalg.norm(kernel - first @ second)
        assert distance == pytest.approx(np.sqrt((values[rank:] ** 2).sum()), rel=1e-5)


def test_two_products_by_hand():
    layer = TruncatedDense(2, 1, activation="relu")
    layer.build((None, 2))
    assert parameters(layer) == 1 * (2 + 2) + 2  # t (u + v) and a bias
    layer.first.set_weights([np.array([[1.0], [2.0]])])
    layer.second.set_weights([np.array([[1.0, -1.0]]), np.array([0.5, 20.0])])
    # 3 + 2 * 4 = 11: 11.5 and 9; -11: nothing and 31.
    np.testing.assert_allclose(layer(np.float32([[3, 4], [-3, -4]])), [[11.5, 9], [0, 31]])


def test_factors_of_a_dense_layer():
    keras.utils.set_random_seed(0)
    dense, layer = keras.layers.Dense(4, "relu"), TruncatedDense(4, 4, "relu")
    for one in (dense, layer):
        one.build((None, 6))
    dense.bias.assign([0.1, 0.2, -0.3, 0.4])
    layer.factorize(*dense.get_weights())
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    np.testing.assert_allclose(layer(x), dense(x), atol=1e-5)


def test_heads_have_ranks():
    head = DenseHead((6, 5), ranks=(2, None), name="head")
    head.build((None, None, 2, 2, 3))
    thin, whole = head.dense_layers
    assert type(thin) is TruncatedDense
    assert type(whole) is keras.layers.Dense
    assert parameters(head) == 2 * (12 + 6) + 6 + 6 * 5 + 5
    assert head(np.ones((1, 3, 2, 2, 3), np.float32)).shape == (1, 3, 5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert copy.get_config() == head.get_config()
    assert copy.ranks == (2, None)
    with pytest.raises(ValueError, match="ranks has 1 entries for 2 dense layers"):
        DenseHead((6, 5), ranks=(2,))
    with pytest.raises(ValueError, match=r"rank is 1\.5"):
        TruncatedDense(4, 1.5)
