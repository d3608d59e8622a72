"""The second stage's layers on regions."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase

from kerasdet.layers.region_heads import DenseHead


class DenseHeadTest(TestCase):
    def test_layer(self):
        self.run_layer_test(
            DenseHead,
            init_kwargs={"units": (6, 5), "convs": (4,), "norm": "batch"},
            input_shape=(2, 3, 4, 4, 2),
            expected_output_shape=(2, 3, 5),
            expected_num_trainable_weights=7,  # kernel, gamma, beta; twice kernel and bias
            expected_num_non_trainable_weights=2,
        )


def test_dense_layers_by_hand():
    layer = DenseHead((2, 1))
    layer.build((None, None, 1, 2, 1))
    # Regions are flattened row by row; ReLU after each layer.
    weights = [[[1.0, -1.0], [2.0, 1.0]], [0.0, 0.0], [[1.0], [1.0]], [-4.0]]
    layer.set_weights([np.array(weight) for weight in weights])
    regions = np.array([[[[[3.0], [1.0]]], [[[0.0], [3.0]]]]], np.float32)
    # First: 3 + 2 = 5 and -3 + 1 < 0; second: 6 and 3.
    np.testing.assert_allclose(layer(regions)[0, :, 0], [1.0, 5.0])


@pytest.mark.parametrize("norm", [None, "batch"])
def test_config_round_trip(norm):
    layer = DenseHead((8,), convs=(4, 4), norm=norm, name="other")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert (again.units, again.convs, again.norm) == ((8,), (4, 4), norm)
