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


def test_dropout_after_each_layer_in_training_only():
    layer = DenseHead((400, 400), dropout=0.25)
    layer.build((None, None, 1, 1, 1))
    # Every unit of the first layer is 1; the second adds them up.
    layer.set_weights([np.ones((1, 400)), np.zeros(400), np.ones((400, 400)), np.zeros(400)])
    regions = np.ones((1, 20, 1, 1, 1), np.float32)
    np.testing.assert_array_equal(layer(regions), np.full((1, 20, 400), 400))
    outputs = np.array(layer(regions, training=True))
    assert np.mean(outputs == 0) == pytest.approx(0.25, abs=0.03)  # 8000 draws: sigma 0.005
    # A region's sums agree; the regions differ by the units that the first layer dropped.
    sums = outputs.max(axis=-1)[0] * 0.75
    assert len(np.unique(sums)) > 5
    np.testing.assert_allclose(np.unique(outputs[0, 0] * 0.75), [0, sums[0]], rtol=1e-5)
    kept = sums * 0.75
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-3)
    assert kept.mean() == pytest.approx(300, abs=10)  # sigma 8.7 / sqrt(20)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_config_round_trip(norm):
    layer = DenseHead((8,), convs=(4, 4), norm=norm, dropout=0.5, name="other")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert (again.units, again.convs, again.norm) == ((8,), (4, 4), norm)
    assert again.drop.rate == 0.5
