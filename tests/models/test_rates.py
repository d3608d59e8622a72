"""Layers with a learning rate of their own: the change of each step is multiplied, under every optimizer."""

import keras
import numpy as np
import pytest

from kerasdet.layers import DeformableConvNorm
from kerasdet.models.rates import follow_rates

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 6, 6, 3)).astype("float32")
TRUTH = RNG.normal(size=(4, 6, 6, 2)).astype("float32")
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
}


def model(rate):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    outputs = DeformableConvNorm(2, 3, offset_rate=rate, name="conv")(inputs)
    return keras.Model(inputs, outputs)


def changes(optimizer, rate, times=1):
    """How one step changes the offsets' kernel, and the convolution's."""
    part = model(rate)
    part.compile(optimizer, "mse", jit_compile=False)
    for _ in range(times):
        follow_rates(part)
    layer = part.get_layer("conv")
    weights = [layer.offsets.kernel, layer.kernel]
    before = [np.array(weight) for weight in weights]
    part.train_on_batch(IMAGES, TRUTH)
    return [np.array(weight) - old for weight, old in zip(weights, before)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rate_multiplies_the_change(name):
    offsets, kernel = changes(OPTIMIZERS[name](), 1.0)
    slow, same = changes(OPTIMIZERS[name](), 0.25)
    assert np.abs(offsets).max() > 1e-5
    np.testing.assert_allclose(slow, 0.25 * offsets, rtol=1e-3, atol=1e-8)
    np.testing.assert_allclose(same, kernel, rtol=1e-3, atol=1e-7)


def test_an_optimizer_that_is_compiled_again_multiplies_once():
    once, _ = changes(OPTIMIZERS["sgd"](), 0.25)
    twice, _ = changes(OPTIMIZERS["sgd"](), 0.25, times=3)
    np.testing.assert_allclose(twice, once, rtol=1e-3, atol=1e-8)


def test_an_optimizer_without_such_layers_is_left_alone():
    optimizer = OPTIMIZERS["sgd"]()
    plain = optimizer.apply
    changes(optimizer, 1.0)
    assert optimizer.apply == plain
