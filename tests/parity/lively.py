"""Weights and images from a seed, the same on every machine, NumPy and library version.

Everything comes from the raw bits of a generator whose stream NumPy guarantees. The weights are random but
lively: signals pass through all layers without dying or blowing up, so that an error anywhere shows.
"""

import math
import re
import zlib

import numpy as np

MASKS = 10  # times as many values of masks are kept as of other outputs
DEAD_VARIANCE = 5.6e-45  # to which PyTorch's running variance of a dead channel decays


def uniform(count, low, high, key, seed):
    """`count` float32 numbers in [low, high), which `key` and `seed` alone decide."""
    bits = np.random.PCG64([seed, zlib.crc32(key.encode())]).random_raw(-(-count // 2))
    unit = bits.astype("<u8").view("<u4")[:count] / np.float64(2**32)
    return (low + (high - low) * unit).astype(np.float32)


def lively_state(shapes, seed, dead_channels=False):
    """Values for every entry of a PyTorch state dict.

    Args:
        shapes: {name: shape}.
        seed: integer.
        dead_channels: give the first channel of every "bn1" the values that published files have for channels
            that training has lost: nothing arrives, and the variance is nearly zero.

    Returns:
        {name: array}, float32; counters of training steps are int64.
    """
    state = {}
    for name, shape in shapes.items():
        low, high = _limits(name, shape, shapes)
        state[name] = uniform(math.prod(shape), low, high, name, seed).reshape(shape)
        if name.endswith("num_batches_tracked"):
            state[name] = np.array(1000, np.int64)
    for name in shapes if dead_channels else ():
        if name.endswith("bn1.running_var"):
            module = name.removesuffix("bn1.running_var")
            state[name][0] = DEAD_VARIANCE
            state[f"{module}bn1.running_mean"][0] = DEAD_VARIANCE
            state[f"{module}conv1.weight"][0] = 1e-42
    return state


def lively_variables(shapes, seed):
    """Values for the variables of a graph of TensorFlow 1's slim.

    Args:
        shapes: {name: shape}, kernels (height, width, inputs, outputs).
        seed: integer.

    Returns:
        {name: array}, float32; counters of training steps are int64.
    """
    arrays = {}
    for name, shape in shapes.items():
        if name == "global_step":
            arrays[name] = np.array(1000, np.int64)
            continue
        low, high = _variable_limits(name, shape)
        arrays[name] = uniform(math.prod(shape), low, high, name, seed).reshape(shape)
    return arrays


def _variable_limits(name, shape):
    """Range of a variable's values."""
    if len(shape) >= 2:  # of variance 2 / fan-in (He et al.)
        limit = math.sqrt(6 / math.prod(shape[:2] if "depthwise" in name else shape[:-1]))
        return -limit, limit
    if name.endswith("moving_variance"):
        return 0.5, 2.0
    if name.endswith("gamma"):  # a small one keeps sums of many residual branches small
        return (0.2, 0.6) if "bottleneck_v1/conv3" in name else (0.5, 1.5)
    return -0.2, 0.2


def _limits(name, shape, shapes):
    """Range of a weight's values."""
    if len(shape) >= 2:  # of variance 2 / fan-in (He et al.), 1 / fan-in for dense layers
        limit = math.sqrt((6 if len(shape) == 4 else 3) / math.prod(shape[1:]))
        return -limit, limit
    if name.endswith("running_var"):
        return 0.5, 2.0
    if name.endswith("weight"):  # of a normalisation
        return (0.2, 0.6) if _ends_residual(name, shapes) else (0.5, 1.5)
    return -0.2, 0.2


def _ends_residual(name, shapes):
    """Whether a normalisation is a residual branch's last: a small one keeps sums of many branches small."""
    if name.endswith("bn2.weight"):
        return name.replace("bn2", "bn3") not in shapes
    return re.search(r"(bn3|conv\.3|block\.[23]\.1)\.weight$", name) is not None


def image(height, width, seed):
    """An image with ramps, rectangles, discs, stripes and noise: (H, W, 3) uint8, from integers only."""
    draws = (uniform(2000, 0, 1, "shapes", seed).astype(np.float64) * 2**24).astype(np.int64)
    draws = iter(draws.tolist())
    y, x = np.mgrid[:height, :width]
    canvas = np.stack(
        [(y * (next(draws) % 256) // height + x * (next(draws) % 256) // width) for _ in "RGB"], -1
    )
    for number in range(24):
        cy, cx, ry, rx = (
            next(draws) % side for side in (height, width, height // 3 + 1, width // 3 + 1)
        )
        inside = (abs(y - cy) <= ry) & (abs(x - cx) <= rx)
        if number % 3 == 1:
            inside = (y - cy) ** 2 + (x - cx) ** 2 <= (min(ry, rx) + 2) ** 2
        elif number % 3 == 2:
            inside &= (x + 2 * y) // (2 + next(draws) % 14) % 2 == 0
        canvas[inside] = [next(draws) % 256 for _ in "RGB"]
    noise = uniform(canvas.size, -12, 12, "noise", seed).reshape(canvas.shape).astype(np.int64)
    return np.clip(canvas + noise, 0, 255).astype(np.uint8)


def sample(array, limit, key):
    """At most `limit` values of an array (None: all), at places that `key` and the size alone tell."""
    flat = array.reshape(-1)
    if limit is None or flat.size <= limit:
        return flat
    places = uniform(limit, 0, 1, key, flat.size).astype(np.float64) * flat.size
    return flat[np.minimum(places.astype(np.int64), flat.size - 1)]


def step_of(values, limit):
    """Of an output of that many values every n-th row is kept: n, for about `limit` values; None: all."""
    return 1 if limit is None else max(1, -(-values // limit))
