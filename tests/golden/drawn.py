"""Weights of whole networks from their layers' names, so that golden files need not hold them.

Signals keep their size through any number of layers. Needs NumPy alone.
"""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.parity.lively import uniform

SEED = 14
CHANNEL_STEP = 8  # golden files hold every eighth channel of a map


def kernel(name, shape, fan_in=None):
    """Weights (..., inputs, outputs) of unit gain under ReLU; `fan_in` by default all axes but the last."""
    reach = math.sqrt(6 / (fan_in or math.prod(shape[:-1])))
    return uniform(math.prod(shape), -reach, reach, f"{name}/kernel", SEED).reshape(shape)


def vector(name, weight, count):
    """A bias, or a vector of a batch normalisation: scales and variances around 1, the others around 0."""
    low, high = (0.6, 1.4) if weight in ("gamma", "moving_variance") else (-0.2, 0.2)
    return uniform(count, low, high, f"{name}/{weight}", SEED)


def images(name, height, width, reach=2.0):
    """One normalised image (1, H, W, 3) of values in [-reach, reach)."""
    values = uniform(height * width * 3, -reach, reach, f"{name}/images", SEED)
    return values.reshape(1, height, width, 3)


def fill(layers):
    """Give the weights of layers, each by its layer's name, the values of this module."""
    for layer in layers:
        for weight in layer.weights:
            shape = tuple(weight.shape)
            *_, kind = weight.path.split("/")
            if len(shape) == 1:
                weight.assign(vector(layer.name, kind, shape[0]))
            else:
                weight.assign(kernel(layer.name, shape, _taps(layer, shape)))


def _taps(layer, shape):
    """Inputs of one output; of Keras' depthwise kernels (k, k, C, multiplier), one channel's."""
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    return shape[0] * shape[1] if depthwise else None
