"""Where the deformable convolutions of a backbone look: the points of Deformable ConvNets' figure 6."""

import keras
import numpy as np
from keras import ops

from kerasdet.layers.deform import DeformableConvNorm

DEPTH = 3  # Figure 6: three layers of 3 x 3 taps, 729 points


def sampled_points(backbone, image, place, depth=DEPTH):
    """Find the pixels that the last deformable convolutions read for one cell of their map.

    Each tap of the last convolution is a point of the map below, where the convolution before it has taps of
    its own, moved by the offsets of the nearest cell. The first group's offsets are shown.

    Args:
        backbone: with at least one deformable convolution.
        image: (H, W, C) raw pixels.
        place: (x, y) in pixels; the cell is the nearest one.
        depth: how many of the last deformable convolutions to follow; at most as many as there are.

    Returns:
        (N, 2) float32, x and y in pixels, N = 9^depth for kernels of 3 x 3. Points may lie outside the image.

    Raises:
        ValueError: the backbone has no deformable convolution, or `place` is outside the image.
    """
    layers = [layer for layer in backbone.layers if isinstance(layer, DeformableConvNorm)][-depth:]
    if not layers:
        raise ValueError(
            f"{type(backbone).__name__} has no deformable convolution; give deformable=Deformable()."
        )
    height, width = image.shape[:2]
    x, y = place
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"place is {place}, outside the image of {width} x {height} pixels.")
    inputs = {layer.name: layer.input for layer in layers}
    maps = list(keras.Model(backbone.inputs, inputs)(backbone.normalize(image[None])).values())
    stride = _stride(height, maps[0].shape[1])
    points = np.array([[y, x]], "float32") / (stride * np.prod([layer.stride for layer in layers]))
    for layer, features in zip(reversed(layers), reversed(maps)):
        points = _taps(layer, ops.convert_to_numpy(layer.offsets(features)[0])[0], points)
    return (points * stride)[:, ::-1]


def _taps(layer, offsets, points):
    """Move from points of a layer's output to those of its input that it reads: (N, 2) -> (N kh kw, 2)."""
    branch = layer.offsets
    nearest = np.clip(np.round(points).astype(int), 0, np.array(offsets.shape[:2]) - 1)
    taps = np.stack(np.indices(branch.kernel_size), -1).reshape(-1, 2)  # (kh kw, 2)
    moves = offsets[nearest[:, 0], nearest[:, 1], : 2 * len(taps)].reshape(-1, len(taps), 2)
    still = points[:, None] * branch.strides - branch.padding + taps * branch.dilation
    return (still + moves).reshape(-1, 2).astype("float32")


def _stride(pixels, cells):
    """Return the power of two by which a map is smaller than its image."""
    return 2 ** round(np.log2(pixels / cells))
