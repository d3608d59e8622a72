"""Region and deformable operations as slow NumPy loops in float64, straight from the papers.

Names, arguments and layouts are those of `kerasdet.ops`; the tests compare the two.
"""

import math

import numpy as np


def roi_pool(features, boxes, output_size, spatial_scale):
    """Maximum of each bin: Fast R-CNN (arXiv 1504.08083), section 2.1."""
    windows = _windows(boxes, output_size, spatial_scale, inclusive=1, clip=features.shape[1:3])
    pooled = _blank(boxes, output_size, features.shape[-1])
    for (b, r, i, j), rows, columns in windows:
        if rows and columns:
            pooled[b, r, i, j] = features[b][np.ix_(rows, columns)].max((0, 1))
    return pooled


def roi_pool_gradient(features, boxes, output_size, spatial_scale, upstream):
    """Gradient to the features: each bin's goes to its switch, Fast R-CNN, section 2.3."""
    windows = _windows(boxes, output_size, spatial_scale, inclusive=1, clip=features.shape[1:3])
    gradient = np.zeros(features.shape)
    for (b, r, i, j), rows, columns in windows:
        for c in range(features.shape[-1] if rows and columns else 0):
            cells = [(y, x) for y in rows for x in columns]
            y, x = max(cells, key=lambda cell: features[b, *cell, c])  # the first of equal ones
            gradient[b, y, x, c] += upstream[b, r, i, j, c]
    return gradient


def roi_align(
    features,
    boxes,
    output_size,
    spatial_scale,
    sampling_ratio=2,
    aligned=False,
    reduction="mean",
):
    """Mean or maximum of points between the cells: Mask R-CNN (arXiv 1703.06870), section 3."""
    reduce = {"mean": np.mean, "max": np.max}[reduction]
    pooled = _blank(boxes, output_size, features.shape[-1])
    shift, least = (0.5, -np.inf) if aligned else (0.0, 1.0)
    for (b, r, i, j), points in _points(
        boxes, output_size, spatial_scale, sampling_ratio, shift, least
    ):
        if points:
            pooled[b, r, i, j] = reduce([_clamped(features[b], *p) for p in points], axis=0)
    return pooled


def ps_roi_pool(features, boxes, output_size, spatial_scale):
    """Mean of each bin in its own maps: R-FCN (arXiv 1605.06409), section 2."""
    pooled = _blank(boxes, output_size, features.shape[-1] // output_size**2)
    windows = _windows(boxes, output_size, spatial_scale, inclusive=0, clip=features.shape[1:3])
    for (b, r, i, j), rows, columns in windows:
        if rows and columns:
            maps = _maps_of_bin(features[b], output_size, i, j)
            pooled[b, r, i, j] = maps[np.ix_(rows, columns)].mean((0, 1))
    return pooled


def ps_roi_align(features, boxes, output_size, spatial_scale, sampling_ratio=2):
    """R-FCN's maps (section 2) read at RoIAlign's points, with pixel centres at one half."""
    pooled = _blank(boxes, output_size, features.shape[-1] // output_size**2)
    for (b, r, i, j), points in _points(
        boxes, output_size, spatial_scale, sampling_ratio, 0.5, -np.inf
    ):
        maps = _maps_of_bin(features[b], output_size, i, j)
        pooled[b, r, i, j] = np.mean([_clamped(maps, *point) for point in points], axis=0)
    return pooled


def deform_conv2d(inputs, offsets, kernel, mask=None, strides=1, padding=0, dilation=1):
    """Convolution whose taps are moved: Deformable ConvNets (arXiv 1703.06211), section 2.1.

    With a mask, version 2 (arXiv 1811.11168), section 3.2.
    """
    strides, padding, dilation = (_pair(value) for value in (strides, padding, dilation))
    (height, width, conv_channels), channels = kernel.shape[:3], inputs.shape[-1]
    batch, rows, columns, _ = offsets.shape
    offsets = offsets.reshape(batch, rows, columns, -1, height, width, 2)
    mask = np.ones(offsets.shape[:-1]) if mask is None else mask.reshape(offsets.shape[:-1])
    group_size = channels // offsets.shape[3]
    taps = np.zeros((batch, rows, columns, height, width, channels))
    for b, y, x, g, i, j in np.ndindex(*mask.shape):
        point = np.array([y, x]) * strides - padding + np.array([i, j]) * dilation
        group = slice(g * group_size, (g + 1) * group_size)
        value = _bilinear(inputs[b, ..., group], *(point + offsets[b, y, x, g, i, j]))
        taps[b, y, x, i, j, group] = mask[b, y, x, g, i, j] * value
    groups = channels // conv_channels
    pieces = zip(np.split(taps, groups, axis=-1), np.split(kernel, groups, axis=-1))
    return np.concatenate([np.tensordot(tap, part, 3) for tap, part in pieces], axis=-1)


def deform_roi_pool(features, boxes, offsets, output_size, spatial_scale, gamma=0.1):
    """Mean of each bin, moved: Deformable ConvNets, section 2.2."""
    pooled = _blank(boxes, output_size, features.shape[-1])
    for (b, r, i, j), points in _moved(
        boxes, offsets, output_size, spatial_scale, gamma, inclusive=1
    ):
        pooled[b, r, i, j] = np.mean([_bilinear(features[b], *point) for point in points], axis=0)
    return pooled


def deform_ps_roi_pool(features, boxes, offsets, output_size, spatial_scale, gamma=0.1):
    """Mean of each bin in its own maps, moved: Deformable ConvNets, section 2.2."""
    pooled = _blank(boxes, output_size, features.shape[-1] // output_size**2)
    for (b, r, i, j), points in _moved(
        boxes, offsets, output_size, spatial_scale, gamma, inclusive=0
    ):
        maps = _maps_of_bin(features[b], output_size, i, j)
        pooled[b, r, i, j] = np.mean([_bilinear(maps, *point) for point in points], axis=0)
    return pooled


def spatial_pyramid_pool(features, levels, pooling="max"):
    """n x n bins per level: SPP-net (arXiv 1406.4729), section 2.2 and appendix A."""
    reduce = {"max": np.max, "average": np.mean}[pooling]
    bins = [
        reduce(features[:, rows][:, :, columns], axis=(1, 2))
        for n in levels
        for rows in _bins(features.shape[1], n)
        for columns in _bins(features.shape[2], n)
    ]
    return np.stack(bins, axis=1)


def sliding_pyramid_pool(features, levels, pooling="max"):
    """Window ceil(a / n), stride floor(a / n) on a x a cells: SPP-net, section 2.3."""
    reduce = {"max": np.max, "average": np.mean}[pooling]
    side, bins = features.shape[1], []
    for n in levels:
        window, stride = -(-side // n), side // n
        starts = range(0, side - window + 1, stride)
        if len(starts) != n:
            raise ValueError(f"windows on {side} cells give {len(starts)} bins, not {n}")
        for y in starts:
            for x in starts:
                bins.append(reduce(features[:, y : y + window, x : x + window], axis=(1, 2)))
    return np.stack(bins, axis=1)


def feature_gradient(function, features, upstream, step=1e-5):
    """Central differences of `sum(function(features) * upstream)`, per element of (B, H, W, C).

    Images and channels do not mix: each element is changed in its own copy of the maps, and all
    copies lie side by side as channels.
    """
    images, count = len(features), features[0].size
    changes = np.moveaxis(np.eye(count).reshape(count, *features.shape[1:]), 0, 2)
    upstream = upstream.reshape(images, -1, upstream.shape[-1])

    def totals(change):
        copies = features[:, :, :, None] + change * changes
        outputs = function(copies.reshape(*features.shape[:3], -1))
        outputs = outputs.reshape(images, upstream.shape[1], count, -1)
        return np.einsum("bpnc,bpc->bn", outputs, upstream)

    return ((totals(step) - totals(-step)) / (2 * step)).reshape(features.shape)


def offset_gradient(function, offsets, upstream, step=1e-5):
    """Central differences to offsets (B, R, h, w, 2), each of which moves its own bin alone."""
    slopes = [
        (function(offsets + change) - function(offsets - change)) / (2 * step)
        for change in step * np.eye(2)
    ]
    return np.stack([np.sum(slope * upstream, axis=-1) for slope in slopes], axis=-1)


def _pair(value):
    return (value, value) if np.ndim(value) == 0 else tuple(value)


def _blank(boxes, output_size, channels):
    return np.zeros((*boxes.shape[:2], *_pair(output_size), channels))


def _bins(size, count):
    """Cells of each bin: bin i is [floor(i size / n), ceil((i + 1) size / n))."""
    return [range(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _rounded(box, spatial_scale, inclusive):
    """First row and column, height and width in whole cells; halves go away from zero (C's rule)."""
    corners = np.asarray(box, "float64") * spatial_scale
    x1, y1, x2, y2 = (np.sign(corners) * np.floor(np.abs(corners) + 0.5)).astype(int)
    return y1, x1, max(y2 - y1 + inclusive, 1), max(x2 - x1 + inclusive, 1)


def _windows(boxes, output_size, spatial_scale, inclusive, clip):
    """((b, r, i, j), rows, columns) of every bin, as ranges of cells on the map."""
    for b, r in np.ndindex(*boxes.shape[:2]):
        *start, height, width = _rounded(boxes[b, r], spatial_scale, inclusive)
        rows, columns = (
            [
                range(max(first + cells[0], 0), min(first + cells[-1] + 1, limit))
                for cells in _bins(size, count)
            ]
            for first, size, count, limit in zip(start, (height, width), _pair(output_size), clip)
        )
        for i, j in np.ndindex(len(rows), len(columns)):
            yield (b, r, i, j), rows[i], columns[j]


def _points(boxes, output_size, spatial_scale, sampling_ratio, shift, least):
    """((b, r, i, j), points) of every bin: s x s points, evenly, in cells; without s, as many as cells."""
    for b, r in np.ndindex(*boxes.shape[:2]):
        x1, y1, x2, y2 = np.asarray(boxes[b, r], "float64") * spatial_scale - shift
        bins_y, bins_x = _pair(output_size)
        height, width = max(y2 - y1, least) / bins_y, max(x2 - x1, least) / bins_x
        shares = [
            (np.arange(count) + 0.5) / count if count else []
            for count in (sampling_ratio or max(math.ceil(side), 0) for side in (height, width))
        ]
        for i, j in np.ndindex(bins_y, bins_x):
            ys, xs = (
                [first + (n + s) * side for s in share]
                for first, n, side, share in ((y1, i, height, shares[0]), (x1, j, width, shares[1]))
            )
            yield (b, r, i, j), [(y, x) for y in ys for x in xs]


def _moved(boxes, offsets, output_size, spatial_scale, gamma, inclusive):
    """((b, r, i, j), points) of every bin: its whole cells, moved by the bin's offset."""
    for b, r in np.ndindex(*boxes.shape[:2]):
        y0, x0, height, width = _rounded(boxes[b, r], spatial_scale, inclusive)
        bins_y, bins_x = _pair(output_size)
        for i, rows in enumerate(_bins(height, bins_y)):
            for j, columns in enumerate(_bins(width, bins_x)):
                dy, dx = gamma * offsets[b, r, i, j] * (height, width)
                yield (b, r, i, j), [(y0 + y + dy, x0 + x + dx) for y in rows for x in columns]


def _maps_of_bin(maps, bins, i, j):
    """The maps (H, W, C) of bin (i, j): channel c of it is c bins^2 + i bins + j of all."""
    return maps[..., i * bins + j :: bins * bins]


def _bilinear(image, y, x):
    """x(p) = sum_q max(0, 1 - |q_y - p_y|) max(0, 1 - |q_x - p_x|) x(q), zero outside."""
    weights_y, weights_x = (
        np.maximum(0, 1 - np.abs(np.arange(size) - point))
        for size, point in zip(image.shape, (y, x))
    )
    return np.tensordot(np.outer(weights_y, weights_x), image, 2)


def _clamped(image, y, x):
    """Bilinear; the border's value up to one cell outside the map, then 0."""
    height, width = image.shape[:2]
    inside = -1 <= y <= height and -1 <= x <= width
    return inside * _bilinear(image, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1))
