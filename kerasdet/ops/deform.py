"""Deformable sampling: convolution and region pooling at points that learned offsets move.

Deformable ConvNets (arXiv 1703.06211v3), and the modulated form of version 2 (arXiv 1811.11168v2).
Offsets are (dy, dx). Maps are read bilinearly between cells; beyond the border, values fade to zero over
one cell, or are cut off as in the authors' code of version 1 (`deform_conv2d`).
"""

from keras import ops

from kerasdet.ops import roi
from kerasdet.ops.bilinear import read_points
from kerasdet.ops.checks import check_axes, check_choice, check_positive, pair
from kerasdet.ops.windows import window_sum

GAMMA = 0.1  # DCN, section 2.2
BORDERS = ("fade", "cut")
NOWHERE = -2.0  # cells; what is read here is zero


def deform_conv2d(
    inputs, offsets, kernel, mask=None, strides=1, padding=0, dilation=1, border="fade"
):
    """Convolve with taps that are moved by offsets and weighted by a mask.

    Args:
        inputs: (B, H, W, C).
        offsets: (B, H', W', 2 G kh kw), dy and dx in cells for each of G groups of channels and each
            tap (row by row).
        kernel: (kh, kw, C / groups, filters); a smaller third axis makes a grouped convolution.
        mask: (B, H', W', G kh kw) weights of the taps (version 2); None: all 1 (version 1).
        strides: step, an integer or (vertical, horizontal).
        padding: zeros on each side, an integer or (vertical, horizontal).
        dilation: distance between taps, an integer or (vertical, horizontal).
        border: "fade", values fade to zero over one cell beyond the border cells (the authors' code of
            version 2, torchvision, mmcv); "cut", a tap reads zero unless it is in [0, H) x [0, W), and
            beyond the last row or column it reads that one (the authors' code of version 1, MXNet).

    Returns:
        (B, H', W', filters), H' = (H + 2 padding - dilation (kh - 1) - 1) // strides + 1.

    Raises:
        ValueError: shapes do not match; the message names the argument, its shape and the fix. Or an unknown
            border.
    """
    check_choice("border", border, BORDERS)
    strides, dilation = pair("strides", strides), pair("dilation", dilation)
    padding = pair("padding", padding, least=0)
    groups = _check_conv(inputs, offsets, kernel, mask, strides, padding, dilation)
    batch, height, width, channels = ops.shape(inputs)
    out_height, out_width = ops.shape(offsets)[1:3]
    taps = kernel.shape[0] * kernel.shape[1]

    # Eq: deform §2.1 | y(p0) = sum_n w(p_n) x(p0 + p_n + dp_n)
    grid = _sampling_grid((out_height, out_width), kernel.shape[:2], strides, padding, dilation)
    shape = (batch, out_height * out_width, groups, taps, 2)
    points = ops.reshape(ops.cast(offsets, "float32"), shape) + grid[:, None]
    maps = ops.reshape(inputs, (batch, height * width, groups, channels // groups))
    maps = ops.transpose(maps, (0, 2, 1, 3))  # (B, G, H W, C / G)
    maps = ops.reshape(maps, (batch * groups, height, width, channels // groups))
    planes = ops.reshape(ops.arange(batch * groups, dtype="int32"), (batch, 1, groups, 1))
    planes = planes + ops.zeros((1, out_height * out_width, 1, taps), "int32")
    points = ops.reshape(points, (-1, 2))  # (B H' W' G kh kw, 2)
    if border == "cut":
        points = _cut(points, height, width)
    farthest = ops.cast(ops.maximum(height, width), "float32") + 1.0
    points = _within(points, NOWHERE, farthest)
    columns = read_points(maps, ops.reshape(planes, (-1,)), points)  # (B H' W' G kh kw, C / G)

    columns = ops.reshape(columns, (-1, groups, taps, channels // groups))
    if mask is not None:
        # Eq: deform_v2 §3.2 | y(p) = sum_k w_k x(p + p_k + dp_k) dm_k
        columns = columns * ops.cast(ops.reshape(mask, (-1, groups, taps, 1)), "float32")
    columns = ops.cast(ops.transpose(columns, (0, 2, 1, 3)), inputs.dtype)
    columns = ops.reshape(columns, (-1, taps, channels))  # (B H' W', kh kw, C)
    outputs = _matrix_product(columns, ops.cast(kernel, inputs.dtype))  # (B H' W', filters)
    return ops.reshape(outputs, (batch, out_height, out_width, kernel.shape[-1]))


def deform_roi_pool(features, boxes, offsets, output_size, spatial_scale, gamma=GAMMA):
    """Pool each bin of a region by the mean of its cells, after moving the bin by its offset.

    Deformable RoI pooling, section 2.2. Regions and bins are defined as in `roi_pool`.

    Args:
        features: (B, H, W, C).
        boxes: (B, R, 4) xyxy in image pixels.
        offsets: (B, R, h, w, 2), dy and dx as fractions of the region's height and width.
        output_size: bins, an integer or (h, w).
        spatial_scale: cells per pixel.
        gamma: factor of the offsets.

    Returns:
        (B, R, h, w, C), with gradients to features and offsets.

    Raises:
        ValueError: a wrong rank or size.
    """
    check_axes("features", features, "B H W C")
    output_size = roi.check_regions(boxes, output_size, spatial_scale)
    starts, sizes = roi.rounded_regions(roi.flat_boxes(boxes), spatial_scale, last_included=True)
    planes = roi.image_of(boxes)[:, None, None] + ops.zeros((1, *output_size), "int32")
    pooled = _moved_means(features, planes, starts, sizes, offsets, output_size, gamma)
    return roi.unflatten(pooled, boxes, output_size)


def deform_ps_roi_pool(features, boxes, offsets, output_size, spatial_scale, gamma=GAMMA):
    """Pool each bin by the mean of its cells in its own channels, after moving the bin by its offset.

    Deformable position-sensitive RoI pooling, section 2.2. Regions and bins are defined as in `ps_roi_pool`.

    Args:
        features: (B, H, W, C k k), channel c k k + i k + j for bin (i, j) of class c.
        boxes: (B, R, 4) xyxy in image pixels.
        offsets: (B, R, k, k, 2), dy and dx as fractions of the region's height and width.
        output_size: k.
        spatial_scale: cells per pixel.
        gamma: factor of the offsets.

    Returns:
        (B, R, k, k, C), with gradients to features and offsets.

    Raises:
        ValueError: a wrong rank or size, or a number of channels that is not divisible by k k.
    """
    maps, output_size = roi.position_sensitive(features, output_size)
    roi.check_regions(boxes, output_size, spatial_scale)
    starts, sizes = roi.rounded_regions(roi.flat_boxes(boxes), spatial_scale, last_included=False)
    planes = roi.own_planes(roi.image_of(boxes), output_size)
    pooled = _moved_means(maps, planes, starts, sizes, offsets, output_size, gamma)
    return roi.unflatten(pooled, boxes, output_size)


def _moved_means(maps, planes, starts, sizes, offsets, output_size, gamma):
    check_axes("offsets", offsets, f"B R {output_size[0]} {output_size[1]} 2")
    check_positive("gamma", gamma)
    first, cells = roi.windows_of(starts, sizes, output_size, (None, None))  # two (N, h, w, 2)
    # Eq: deform §2.2 | dp_ij = gamma dp^_ij o (w, h)
    moves = gamma * ops.reshape(ops.cast(offsets, "float32"), (-1, *output_size, 2))  # (N, h, w, 2)
    moves = moves * ops.cast(sizes, "float32")[:, None, None]
    points = roi.flat_bins(ops.cast(first, "float32") + moves)  # (N h w, 2)
    points = _within(points, -roi.FARTHEST, roi.FARTHEST)
    cells = roi.flat_bins(cells)  # (N h w, 2)
    # Eq: deform §2.2 | y(i, j) = sum over bin(i, j) of x(p0 + p + dp_ij) / n_ij
    sums = window_sum(maps, roi.flat_bins(planes), points, cells)  # (N h w, C)
    return ops.cast(sums / roi.counts(cells), maps.dtype)


def _sampling_grid(extent, kernel_size, strides, padding, dilation):
    """Return the taps' positions before they are moved: (H' W', kh kw, 2) float32, y and x in cells."""
    axes = (
        ops.arange(count, dtype="float32")[:, None] * strides[i]
        + ops.arange(kernel_size[i], dtype="float32") * dilation[i]
        - padding[i]
        for i, count in enumerate(extent)
    )
    y, x = next(axes)[:, None, :, None], next(axes)[None, :, None, :]
    grid = ops.stack([y + 0.0 * x, 0.0 * y + x], axis=-1)  # (H', W', kh, kw, 2)
    return ops.reshape(grid, (-1, kernel_size[0] * kernel_size[1], 2))


def _cut(points, height, width):
    """Move points beyond the last row or column onto it, and those outside [0, H) x [0, W) far out."""
    extent = ops.cast(ops.stack([height, width]), "float32")
    inside = ops.all((points >= 0.0) & (points < extent), axis=-1, keepdims=True)
    return ops.where(inside, ops.minimum(points, extent - 1.0), NOWHERE)


def _within(points, lowest, highest):
    """Clip points to the range that is read; a point that is not finite becomes `lowest`."""
    finite = ops.abs(points) < float("inf")  # false for NaN too
    return ops.minimum(ops.maximum(ops.where(finite, points, lowest), lowest), highest)


def _matrix_product(columns, kernel):
    """Multiply taps by the kernel: (N, kh kw, C), (kh, kw, C / groups, filters) -> (N, filters)."""
    taps, channels = columns.shape[1:]
    own, filters = kernel.shape[2:]
    groups = channels // own
    if own == 1 and filters == channels:  # depthwise
        return ops.sum(columns * ops.reshape(kernel, (taps, channels)), axis=1)
    if groups == 1:
        columns = ops.reshape(columns, (-1, taps * channels))
        return ops.matmul(columns, ops.reshape(kernel, (taps * channels, filters)))
    columns = ops.transpose(ops.reshape(columns, (-1, taps, groups, own)), (2, 0, 1, 3))
    columns = ops.reshape(columns, (groups, -1, taps * own))  # (groups, N, kh kw own)
    kernel = ops.reshape(kernel, (taps * own, groups, filters // groups))
    outputs = ops.matmul(columns, ops.transpose(kernel, (1, 0, 2)))  # (groups, N, filters / groups)
    return ops.reshape(ops.transpose(outputs, (1, 0, 2)), (-1, filters))


def _check_conv(inputs, offsets, kernel, mask, strides, padding, dilation):
    """Refuse shapes that do not match; return the number of deformable groups."""
    check_axes("inputs", inputs, "B H W C")
    check_axes("kernel", kernel, "kh kw C/groups filters")
    check_axes("offsets", offsets, "B H' W' 2*G*kh*kw")
    channels, taps = inputs.shape[-1], kernel.shape[0] * kernel.shape[1]
    groups = offsets.shape[-1] // (2 * taps)
    if groups < 1 or offsets.shape[-1] % (2 * taps) or channels % groups:
        raise ValueError(
            f"offsets have {offsets.shape[-1]} channels; give 2 G kh kw = G * {2 * taps} for G groups "
            f"that divide the {channels} channels of inputs."
        )
    own, filters = kernel.shape[2:]
    if channels % own or filters % (channels // own):
        raise ValueError(
            f"kernel has the shape {tuple(kernel.shape)}; its third axis must divide the {channels} "
            "channels of inputs, and the number of groups must divide its filters."
        )
    sizes = []
    for i in range(2):
        extent, reach = inputs.shape[1 + i], dilation[i] * (kernel.shape[i] - 1) + 1
        given = offsets.shape[1 + i]
        known = extent is not None and given is not None
        sizes.append((extent + 2 * padding[i] - reach) // strides[i] + 1 if known else given)
    if tuple(offsets.shape[1:3]) != tuple(sizes):
        raise ValueError(
            f"offsets have the height and width {tuple(offsets.shape[1:3])}; this convolution's result "
            f"has {tuple(sizes)}."
        )
    if mask is not None:
        rows, columns = (axis if n is None else n for axis, n in zip(("H'", "W'"), sizes))
        check_axes("mask", mask, f"B {rows} {columns} {groups * taps}")
    return groups
