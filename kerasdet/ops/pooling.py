"""Pooling and normalisation of whole maps: windows, spatial pyramids, maxout, L2 and local responses."""

import math

from keras import ops

from kerasdet.ops import roi
from kerasdet.ops.checks import (
    check_axes,
    check_choice,
    check_count,
    check_positive,
    check_whole,
)
from kerasdet.ops.windows import window_max, window_sum


def spatial_pyramid_pool(features, levels, pooling="max", boxes=None, spatial_scale=1.0):
    """Pool maps of any size, or windows of them, to a vector of fixed length.

    SPP-net (arXiv 1406.4729v4), section 2.2. Level n has n x n bins; bin (i, j) of an a x b window
    spans rows [floor(i a / n), ceil((i + 1) a / n)), and columns likewise.

    Args:
        features: (B, H, W, C).
        levels: bins per side of each level, such as (1, 2, 3, 6).
        pooling: "max" or "average" of a bin.
        boxes: (B, R, 4) xyxy in image pixels, the windows to pool (section 4.1); None: the whole map.
        spatial_scale: cells per pixel, used with boxes.

    Returns:
        (B, sum of n n, C), or (B, R, sum of n n, C) with boxes; bins level by level, row by row.

    Raises:
        ValueError: a wrong rank, level or pooling.
    """
    check_axes("features", features, "B H W C")
    check_choice("pooling", pooling, ("max", "average"))
    check_levels(levels)
    if boxes is None:
        return ops.concatenate([_pool_map(features, n, pooling) for n in levels], axis=1)
    roi.check_regions(boxes, 1, spatial_scale)
    pooled = [_pool_windows(features, boxes, n, spatial_scale, pooling) for n in levels]
    return ops.concatenate(pooled, axis=2)


def max_pool(inputs, size, stride, padding=0, ceil_mode=True):
    """Take the maximum of each window, with Caffe's and PyTorch's padding and sizes.

    With `ceil_mode` a window that the map's end cuts off counts too, if it begins on the map or in the
    padding before it: of 14 cells, windows of 3 with stride 2 give 7 (without it, 6).

    Args:
        inputs: (B, H, W, C).
        size: height and width of a window.
        stride: step in both directions.
        padding: cells on every side that no maximum comes from, at most half of `size`.
        ceil_mode: whether the number of windows is rounded up (Caffe's rule).

    Returns:
        (B, h, w, C); h is floor((H + 2 padding - size) / stride) + 1, or the ceiling, less 1 where the last
        window would begin beyond the map.

    Raises:
        ValueError: a size, stride or padding that is no such number.
    """
    check_windows(size, stride, padding)
    after = padding + (stride - 1 if ceil_mode else 0)
    height, width = ops.shape(inputs)[1:3]
    if padding or after:
        around = [[0, 0], [padding, after], [padding, after], [0, 0]]
        inputs = ops.pad(inputs, around, constant_values=-math.inf)
    pooled = ops.max_pool(inputs, size, stride, padding="valid")
    # With the padding of a window's missing cells floor is the ceiling; the last window starts before H + p.
    rows, columns = ((side + padding + stride - 1) // stride for side in (height, width))
    return pooled[:, :rows, :columns] if ceil_mode else pooled


def pooled_side(side, size, stride, padding=0, ceil_mode=True):
    """Count the windows of `max_pool` along one side; None stays None."""
    if side is None:
        return None
    last = side + 2 * padding - size
    if not ceil_mode:
        return last // stride + 1
    return min(-(-last // stride) + 1, -(-(side + padding) // stride))


def local_response_norm(inputs, size=5, alpha=1e-4, beta=0.75, k=1.0, within_channel=False):
    """Divide each response by a power of the squares around it.

    Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks (NIPS 2012), section
    3.3, with Caffe's and PyTorch's alpha: the paper's, times the number of squares.

    Args:
        inputs: (B, H, W, C).
        size: neighbours that count: channels, or with `within_channel` cells in both directions; odd.
        alpha: weight of their mean square; neighbours beyond the border count as zeros.
        beta: exponent.
        k: added to the mean.
        within_channel: whether the neighbours are cells of the same channel (Caffe's WITHIN_CHANNEL).

    Returns:
        (B, H, W, C) in the type of the inputs.

    Raises:
        ValueError: a size that is not odd, or a number that is not positive.
    """
    check_response_norm(size, alpha, beta, k)
    x = ops.cast(inputs, "float32")
    axes = (1, 2) if within_channel else (3,)
    squares = x * x
    for axis in axes:
        squares = _window_sum(squares, size, axis)
    # Eq: alexnet §3.3 | b = a / (k + alpha / n sum over n of a_j^2)^beta
    scale = k + alpha / size ** len(axes) * squares
    return ops.cast(x * ops.exp(-beta * ops.log(scale)), inputs.dtype)


def check_windows(size, stride, padding):
    """Refuse wrong windows of `max_pool`.

    Args:
        size: of a window.
        stride: step.
        padding: cells on every side.

    Raises:
        ValueError: names the argument, the value and the fix.
    """
    check_whole("size", size)
    check_whole("stride", stride)
    check_whole("padding", padding, least=0, most=size // 2)


def check_response_norm(size, alpha, beta, k):
    """Refuse wrong numbers of `local_response_norm`.

    Args:
        size: neighbours that count.
        alpha: weight of the mean square.
        beta: exponent.
        k: added to the mean.

    Raises:
        ValueError: names the argument, the value and the fix.
    """
    check_whole("size", size)
    if size % 2 == 0:
        raise ValueError(
            f"size is {size}; give an odd number, so that neighbours lie on both sides."
        )
    for name, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        check_positive(name, value)


def maxout(inputs, num_units, axis=-1):
    """Take the maximum over groups of channels (Goodfellow et al., arXiv 1302.4389v4, section 3).

    Unit u is the maximum of the channels u, u + num_units, u + 2 num_units, ..., as in
    tensorflow-addons.

    Args:
        inputs: (..., C, ...).
        num_units: channels of the result; must divide C.
        axis: the axis of the channels.

    Returns:
        The inputs with `num_units` channels along `axis`.

    Raises:
        ValueError: `num_units` does not divide the channels.
    """
    rank = len(inputs.shape)
    axis = axis % rank
    channels = inputs.shape[axis]
    check_count("num_units", num_units)
    if channels is None or channels % num_units:
        raise ValueError(f"num_units is {num_units}; it must divide the {channels} channels.")
    shape = ops.shape(inputs)
    split = (*shape[:axis], channels // num_units, num_units, *shape[axis + 1 :])
    # Eq: maxout §3 | h_i(x) = max over j of z_ij
    return ops.max(ops.reshape(inputs, split), axis=axis)


def l2_normalize(inputs, scale, epsilon=1e-12):
    """Divide each place's channels by their Euclidean norm, and multiply by a learned scale.

    ParseNet (arXiv 1506.04579v2), section 3.2, as SSD (arXiv 1512.02325v5, section 3.1) uses it.

    Args:
        inputs: (..., C).
        scale: (C,) or a number.
        epsilon: least squared norm, so that zeros stay zero.

    Returns:
        (..., C) in the type of the inputs.

    Raises:
        ValueError: an epsilon that is not positive.
    """
    check_positive("epsilon", epsilon)
    x = ops.cast(inputs, "float32")
    squares = ops.sum(x * x, axis=-1, keepdims=True)
    # Eq: parsenet §3.2 | y_i = gamma_i x_i / ||x||_2
    return ops.cast(x * ops.rsqrt(ops.maximum(squares, epsilon)) * scale, inputs.dtype)


def check_levels(levels):
    """Refuse wrong levels of a spatial pyramid.

    Args:
        levels: bins per side of each level.

    Raises:
        ValueError: no levels, or one that is not a positive integer.
    """
    if len(levels) == 0:
        raise ValueError(
            "levels is empty; give the bins per side of each level, such as (1, 2, 3, 6)."
        )
    for level in levels:
        check_count("levels", level)


def _window_sum(x, size, axis):
    """Sum `size` neighbours along an axis, zeros beyond its ends: (B, H, W, C) -> (B, H, W, C)."""
    half, length = size // 2, ops.shape(x)[axis]
    around = [[half, half] if i == axis else [0, 0] for i in range(4)]
    padded = ops.pad(x, around)
    place = [slice(None)] * 4
    total = 0.0
    for first in range(size):
        place[axis] = slice(first, first + length)
        total = total + padded[tuple(place)]
    return total


def _pool_map(features, n, pooling):
    """Pool one level of the whole map: (B, H, W, C) -> (B, n n, C)."""
    reduce = ops.max if pooling == "max" else ops.mean
    height, width = ops.shape(features)[1:3]
    # Rounded up by adding n - 1, because ONNX divides negative numbers towards zero.
    rows = [features[:, i * height // n : ((i + 1) * height + n - 1) // n] for i in range(n)]
    pooled = [
        reduce(row[:, :, j * width // n : ((j + 1) * width + n - 1) // n], axis=(1, 2))
        for row in rows
        for j in range(n)
    ]
    return ops.stack(pooled, axis=1)


def _pool_windows(features, boxes, n, spatial_scale, pooling):
    """Pool one level of windows: (B, R, n n, C)."""
    starts, sizes = _projected(roi.flat_boxes(boxes) * spatial_scale)
    extent = ops.shape(features)[1:3]
    starts, sizes = roi.windows_of(starts, sizes, (n, n), extent)
    planes = roi.per_bin(roi.image_of(boxes), starts)
    starts, sizes = roi.flat_bins(starts), roi.flat_bins(sizes)
    if pooling == "max":
        pooled = window_max(features, planes, starts, sizes)
    else:
        mean = window_sum(features, planes, starts, sizes) / ops.maximum(roi.counts(sizes), 1.0)
        pooled = ops.cast(mean, features.dtype)
    batch, count = ops.shape(boxes)[:2]
    return ops.reshape(pooled, (batch, count, n * n, features.shape[-1]))


def _projected(regions):
    """Round windows (N, 4) in cells to first cell and number of cells, y and x: two (N, 2) int32."""
    # Eq: spp §A | left, top: x' = floor(x / S) + 1; right, bottom: x' = ceil(x / S) - 1
    first = ops.cast(ops.floor(regions[:, :2]), "int32") + 1
    last = ops.cast(ops.ceil(regions[:, 2:]), "int32") - 1
    return ops.flip(first, axis=1), ops.flip(ops.maximum(last - first + 1, 1), axis=1)
