"""Crop-and-resize: regions read at points from corner to corner, as TensorFlow's Object Detection API pools.

A box is a share of its canvas, and the same share of the map, whose first and last cells are its ends: there
are no cells per pixel. The points beyond a map's ends read 0, without a border around it. In `roi.py` is
what these functions share with RoIAlign.
"""

import numpy as np
from keras import ops

from kerasdet.ops.bilinear import pool_lattice
from kerasdet.ops.checks import check_axes
from kerasdet.ops.roi import (
    check_regions,
    check_sampling,
    flat_bins,
    flat_boxes,
    image_of,
    own_planes,
    position_sensitive,
    unflatten,
)

MIDDLE = 0.5  # of a region, where its only point lies


def crop_and_resize(features, boxes, canvas, output_size, sampling_ratio=1, reduction="mean"):
    """Read each region at a lattice of points whose outermost ones are its corners, and reduce them by bins.

    TensorFlow's `crop_and_resize` to `sampling_ratio * output_size` points, then a pooling. (Faster R-CNN of
    arXiv 1611.10012: 14 x 14 points, whose maxima are 7 x 7.)

    Args:
        features: (B, H, W, C).
        boxes: (B, R, 4) xyxy in image pixels; an inverted box is read backwards.
        canvas: (B, 2) float32, height and width in pixels of what the features were computed from.
        output_size: bins, an integer or (h, w).
        sampling_ratio: points per bin in each direction.
        reduction: "mean" or "max" of a bin's points.

    Returns:
        (B, R, h, w, C) in the type of the features. Boxes have no gradient.

    Raises:
        ValueError: a wrong rank, size, ratio or reduction.
    """
    check_axes("features", features, "B H W C")
    output_size = check_regions(boxes, output_size, 1.0)
    check_sampling(sampling_ratio, reduction)
    points = [sampling_ratio * size for size in output_size]
    starts, steps = _lattice(_shares(boxes, canvas), points, ops.shape(features)[1:3])
    options = output_size, sampling_ratio, reduction
    pooled = pool_lattice(features, image_of(boxes), starts, steps, *options, reach=0.0)
    return unflatten(pooled, boxes, output_size)


def ps_crop_and_resize(features, boxes, canvas, output_size, sampling_ratio=1):
    """Read each bin of a region from its own channels, at points from the bin's corner to its corner.

    R-FCN's pooling in TensorFlow's Object Detection API (`position_sensitive_crop_regions`).

    Args:
        features: (B, H, W, C k k), channel c k k + i k + j for bin (i, j) of class c.
        boxes: (B, R, 4) xyxy in image pixels.
        canvas: (B, 2) float32, height and width in pixels of what the features were computed from.
        output_size: k.
        sampling_ratio: points per bin in each direction, of which the mean is taken.

    Returns:
        (B, R, k, k, C) in the type of the features; the vote is the mean over the bins.

    Raises:
        ValueError: a wrong rank, size or ratio, or a number of channels that is not divisible by k k.
    """
    maps, output_size = position_sensitive(features, output_size)
    check_regions(boxes, output_size, 1.0)
    check_sampling(sampling_ratio, "mean")
    k = output_size[0]
    index = ops.arange(k, dtype="float32")
    bins = ops.stack([index[:, None] + 0.0 * index, index + 0.0 * index[:, None]], -1)  # (k, k, 2)
    shares = _shares(boxes, canvas)[:, None, None]  # (N, 1, 1, 4)
    corner, sides = shares[..., :2], (shares[..., 2:] - shares[..., :2]) / k
    own = ops.concatenate([corner + bins * sides, corner + (bins + 1.0) * sides], -1)
    points = [sampling_ratio] * 2
    starts, steps = _lattice(flat_bins(own), points, ops.shape(features)[1:3])  # (N k k, 2)
    planes = flat_bins(own_planes(image_of(boxes), output_size))
    pooled = pool_lattice(maps, planes, starts, steps, (1, 1), sampling_ratio, "mean", reach=0.0)
    return unflatten(pooled, boxes, output_size)


def _shares(boxes, canvas):
    """Return boxes (B, R, 4) as shares of their canvas (B, 2): (N, 4) y1, x1, y2, x2."""
    scales = ops.take(1.0 / ops.cast(canvas, "float32"), image_of(boxes), axis=0)  # (N, 2)
    flat = flat_boxes(boxes)
    return ops.concatenate([ops.flip(flat[:, i : i + 2], axis=1) * scales for i in (0, 2)], -1)


def _lattice(shares, points, extent):
    """Return first point and step of each lattice, y and x, in cells: (N, 4) -> two (N, 2).

    In the order of TensorFlow's kernel, because rounding decides whether the last point of a box lies beyond
    the map.
    """
    last = ops.stack([ops.cast(size, "float32") for size in extent]) - 1.0  # (2,)
    first, end = shares[:, :2], shares[:, 2:]
    single = np.equal(points, 1)  # (2,)
    gaps = np.maximum(np.subtract(points, 1), 1).astype("float32")
    # y_i = y1 (H - 1) + i (y2 - y1) (H - 1) / (n - 1)
    starts = ops.where(single, MIDDLE * (first + end) * last, first * last)
    # Not a constant, which graphs would divide by by multiplying with its inverse.
    gaps = ops.where(ops.isnan(first), 1.0, gaps)
    return starts, ops.where(single, 0.0, (end - first) * last / gaps)
