"""Group normalisation by hand, against NumPy in float64, and under every policy."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdet.layers.group_norm import GroupNorm


def test_by_hand():
    layer = GroupNorm(groups=2, epsilon=3.0)
    layer.build((None, None, None, 4))
    layer.gamma.assign([1.0, 2.0, 3.0, 4.0])
    layer.beta.assign([0.0, 0.0, 0.0, 10.0])
    # Two pixels. The first group has 0, 2, 0, 2: mean 1, variance 1, divisor 2; the second 5 everywhere.
    x = np.array([[[[0, 2, 5, 5], [0, 2, 5, 5]]]], "float32")
    expected = [-0.5, 1.0, 0.0, 10.0]
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x))[0, 0], [expected] * 2, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 152, 168, 64), (2, 3, 5, 64), (1, 1, 1, 64)])
def test_equals_float64(shape):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=shape) + 1.5 * rng.normal(size=64)).astype("float32")
    groups = x.astype("float64").reshape(*shape[:3], 32, 2)
    mean = groups.mean(axis=(1, 2, 4), keepdims=True)
    variance = groups.var(axis=(1, 2, 4), keepdims=True)
    expected = ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(shape)
    # Keras' layer is 2e-4 off on the first of these shapes, on TensorFlow's CPU.
    np.testing.assert_allclose(ops.convert_to_numpy(GroupNorm()(x)), expected, atol=5e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_statistics_are_float32_under_every_policy(policy):
    layer = GroupNorm(2, dtype=policy)
    x = np.random.default_rng(0).normal(1000.0, 50.0, (2, 8, 8, 8)).astype("float32")
    outputs = layer(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
    outputs = ops.convert_to_numpy(ops.cast(outputs, "float32"))
    # float16 squares overflow from 256 on.
    assert np.std(outputs) == pytest.approx(1.0, abs=0.02)
    assert {w.dtype for w in layer.weights} == {"float32"}


def test_config_and_channels():
    layer = GroupNorm(4, epsilon=1e-3, name="norm")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    assert (copy.groups, copy.epsilon) == (4, 1e-3)
    with pytest.raises(ValueError, match="groups=4 must divide the 6 channels"):
        layer.build((None, None, None, 6))
