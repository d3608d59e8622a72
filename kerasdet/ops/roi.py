"""Region pooling: RoIPool, RoIAlign, their position-sensitive forms, and the choice of a pyramid level.

`features` are (B, H, W, C), `boxes` (B, R, 4) xyxy in image pixels. `spatial_scale` is in cells per
pixel (1/16 for a map of stride 16). Results are (B, R, h, w, C) in the type of the features. Boxes have
no gradient. A box that is not finite gives zeros. An inverted box, or one without area, is pooled as the
smallest region at its first corner. With `aligned`, a box without area is a point, and an inverted box is
read backwards, as in torchvision; if the number of points follows the bins, both give zeros, likewise.
"""

from keras import ops

from kerasdet.ops.adaptive import pool_adaptive
from kerasdet.ops.bilinear import pool_lattice
from kerasdet.ops.checks import check_axes, check_choice, check_count, check_positive, pair
from kerasdet.ops.windows import bins, window_grid, window_max, window_sum

CANONICAL_SIZE = 224  # side of a region of level CANONICAL_LEVEL: ImageNet's images (FPN, §4.2)
CANONICAL_LEVEL = 4

SMALLEST_REGION = 0.1  # cells along a side, in R-FCN's code
FARTHEST = 1e6  # pixels; boxes are clipped to it, so that their products do not overflow


def roi_pool(features, boxes, output_size, spatial_scale, rounding="cells"):
    """Pool each bin of a region by the maximum of its cells.

    RoIPool, Fast R-CNN (arXiv 1504.08083v2), section 2.1. Corners are rounded to cells, and both are
    included. A bin outside the map gives 0. The gradient goes to the maximum of each bin.

    Args:
        features: (B, H, W, C).
        boxes: (B, R, 4) xyxy in image pixels.
        output_size: bins, an integer or (h, w).
        spatial_scale: cells per pixel.
        rounding: "cells", or "pixels" as in the authors' code (their published weights): the second corner
            is that of the last pixel, x2 - 1, and bins are divided in float32, so that they read one cell
            more at a few sizes (57 cells in 7 bins).

    Returns:
        (B, R, h, w, C).

    Raises:
        ValueError: a wrong rank, size or rounding.
    """
    check_axes("features", features, "B H W C")
    output_size = check_regions(boxes, output_size, spatial_scale)
    check_rounding(rounding)
    flat, in_float32 = flat_boxes(boxes), rounding == "pixels"
    flat = last_pixels(flat) if in_float32 else flat
    starts, sizes = rounded_regions(flat, spatial_scale, last_included=True)
    starts, sizes = windows_of(starts, sizes, output_size, ops.shape(features)[1:3], in_float32)
    planes = per_bin(image_of(boxes), starts)
    pooled = window_max(features, planes, flat_bins(starts), flat_bins(sizes))
    return unflatten(pooled, boxes, output_size)


def roi_align(
    features, boxes, output_size, spatial_scale, sampling_ratio=2, aligned=False, reduction="mean"
):
    """Pool regions from points between the cells, without rounding.

    RoIAlign, Mask R-CNN (arXiv 1703.06870v3), section 3.

    Args:
        features: (B, H, W, C).
        boxes: (B, R, 4) xyxy in image pixels.
        output_size: bins, an integer or (h, w).
        spatial_scale: cells per pixel.
        sampling_ratio: points per bin in each direction; None: as many as the bin has cells, rounded up, as
            for the weights of mmdetection and Detectron2.
        aligned: whether cell (0, 0) is half a cell from the image's corner, as in Detectron2.
            torchvision's weights were trained without it.
        reduction: "mean" or "max" of a bin's points.

    Returns:
        (B, R, h, w, C).

    Raises:
        ValueError: a wrong rank, size, ratio or reduction.
    """
    check_axes("features", features, "B H W C")
    output_size = check_regions(boxes, output_size, spatial_scale)
    check_sampling(sampling_ratio, reduction)
    regions = flat_boxes(boxes) * spatial_scale
    options = (output_size, sampling_ratio, aligned, reduction)
    return unflatten(_align(features, image_of(boxes), regions, *options), boxes, output_size)


def multilevel_roi_align(
    pyramid, boxes, output_size, sampling_ratio=2, aligned=False, reduction="mean"
):
    """Pool each region by RoIAlign from the pyramid level that fits its size.

    FPN (arXiv 1612.03144v2), section 4.2.

    Args:
        pyramid: {"P2": (B, H, W, C), "P3": ...}, consecutive levels by name; level k has stride 2^k.
            A list means P2, P3, ... If several maps have the same level, such as "P5_first" and "P5",
            the first is used.
        boxes: (B, R, 4) xyxy in image pixels.
        output_size: bins, an integer or (h, w).
        sampling_ratio: as in `roi_align`.
        aligned: as in `roi_align`.
        reduction: "mean" or "max" of a bin's points.

    Returns:
        (B, R, h, w, C).

    Raises:
        ValueError: a wrong rank, size, ratio or reduction, or levels that are not consecutive.
    """
    numbers, maps = _levels_of(pyramid)
    output_size = check_regions(boxes, output_size, 1.0)
    check_sampling(sampling_ratio, reduction)
    flat, planes = _on_levels(boxes, numbers)
    options = (output_size, sampling_ratio, aligned, reduction)
    return unflatten(_align(maps, planes, flat, *options), boxes, output_size)


def multilevel_roi_pool(pyramid, boxes, output_size):
    """Pool each region by RoIPool from the pyramid level that fits its size.

    FPN (arXiv 1612.03144v2), section 4.2. Every level is pooled for every region.

    Args:
        pyramid: as in `multilevel_roi_align`.
        boxes: (B, R, 4) xyxy in image pixels.
        output_size: bins, an integer or (h, w).

    Returns:
        (B, R, h, w, C).

    Raises:
        ValueError: a wrong rank or size, or levels that are not consecutive.
    """
    numbers, maps = _levels_of(pyramid)
    check_regions(boxes, output_size, 1.0)
    levels = region_levels(boxes, numbers[0], numbers[-1])[..., None]
    # A box that is not finite gives zeros. Each level pools only its own boxes, so the results are added.
    return sum(
        roi_pool(level, ops.where(levels == number, boxes, float("nan")), output_size, 2.0**-number)
        for number, level in zip(numbers, maps)
    )


def region_levels(boxes, lowest, highest):
    """Assign regions to the levels of a feature pyramid by size.

    Args:
        boxes: (..., 4) xyxy in image pixels.
        lowest: number of the first level, 2 for P2.
        highest: number of the last level.

    Returns:
        (...) int32 in lowest..highest.
    """
    boxes = ops.cast(boxes, "float32")
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    size = ops.sqrt(sides[..., 0]) * ops.sqrt(sides[..., 1])
    level = ops.zeros_like(size, dtype="int32") + lowest
    # Eq: fpn §4.2 | k = floor(k0 + log2(sqrt(w h) / 224))
    for number in range(lowest + 1, highest + 1):
        # A tolerance of a millionth of a level, as in torchvision: 224 pixels stay 224 after rounding.
        least = CANONICAL_SIZE * 2.0 ** (number - CANONICAL_LEVEL - 1e-6)
        level = level + ops.cast(size >= least, "int32")
    return level


def ps_roi_pool(features, boxes, output_size, spatial_scale, rounding="cells"):
    """Pool each bin of a region by the mean of the cells in its own channels.

    Position-sensitive RoI pooling, R-FCN (arXiv 1605.06409v2), section 2. A bin outside the map gives 0.
    (torchvision's function never reads the last row and column of the map.)

    Args:
        features: (B, H, W, C k k), channel c k k + i k + j for bin (i, j) of class c.
        boxes: (B, R, 4) xyxy in image pixels.
        output_size: k.
        spatial_scale: cells per pixel.
        rounding: what the corners are rounded to: "cells", of which the second is not included; or "pixels",
            the first and the last one, both included, as in the authors' code (their published weights),
            where a bin has all cells that it touches.

    Returns:
        (B, R, k, k, C); the vote is the mean over the bins.

    Raises:
        ValueError: a wrong rank, size or rounding, or a number of channels that is not divisible by k k.
    """
    maps, output_size = position_sensitive(features, output_size)
    check_regions(boxes, output_size, spatial_scale)
    check_rounding(rounding)
    extent = ops.shape(features)[1:3]
    if rounding == "pixels":
        flat = last_pixels(flat_boxes(boxes))
        starts, sizes = _touched_windows(flat, spatial_scale, output_size, extent)
    else:
        starts, sizes = rounded_regions(flat_boxes(boxes), spatial_scale, last_included=False)
        starts, sizes = windows_of(starts, sizes, output_size, extent)
    planes = flat_bins(own_planes(image_of(boxes), output_size))
    sums = window_sum(maps, planes, flat_bins(starts), flat_bins(sizes))
    # Eq: rfcn §2 | r_c(i, j) = sum over bin(i, j) of z_ijc(x + x0, y + y0) / n
    pooled = sums / ops.maximum(counts(flat_bins(sizes)), 1.0)
    return unflatten(ops.cast(pooled, features.dtype), boxes, output_size)


def ps_roi_align(features, boxes, output_size, spatial_scale, sampling_ratio=2):
    """Pool each bin of a region from points between the cells of its own channels.

    R-FCN's pooling at RoIAlign's points, half a cell from the image's corner (`aligned`).

    Args:
        features: (B, H, W, C k k), channel c k k + i k + j for bin (i, j) of class c.
        boxes: (B, R, 4) xyxy in image pixels.
        output_size: k.
        spatial_scale: cells per pixel.
        sampling_ratio: points per bin in each direction.

    Returns:
        (B, R, k, k, C); the vote is the mean over the bins.

    Raises:
        ValueError: a wrong rank, size or ratio, or a number of channels that is not divisible by k k.
    """
    maps, output_size = position_sensitive(features, output_size)
    check_regions(boxes, output_size, spatial_scale)
    check_count("sampling_ratio", sampling_ratio)
    flat = flat_boxes(boxes) * spatial_scale
    return _ps_lattice(maps, boxes, flat, image_of(boxes), output_size, sampling_ratio)


def multilevel_ps_roi_align(pyramid, boxes, output_size, sampling_ratio=2):
    """Pool each region by `ps_roi_align` from the pyramid level that fits its size.

    FPN (arXiv 1612.03144v2), section 4.2, for the score maps of R-FCN.

    Args:
        pyramid: as in `multilevel_roi_align`; each level (B, H, W, C k k), channel c k k + i k + j.
        boxes: (B, R, 4) xyxy in image pixels.
        output_size: k.
        sampling_ratio: points per bin in each direction.

    Returns:
        (B, R, k, k, C); the vote is the mean over the bins.

    Raises:
        ValueError: a wrong rank, size or ratio, levels that are not consecutive, or a number of channels
            that is not divisible by k k.
    """
    numbers, maps = _levels_of(pyramid)
    output_size = check_regions(boxes, output_size, 1.0)
    check_count("sampling_ratio", sampling_ratio)
    maps = [position_sensitive(level, output_size)[0] for level in maps]
    flat, images = _on_levels(boxes, numbers)
    return _ps_lattice(maps, boxes, flat, images, output_size, sampling_ratio)


def check_regions(boxes, output_size, spatial_scale):
    """Refuse wrong boxes, output sizes and scales.

    Args:
        boxes: (B, R, 4).
        output_size: an integer or (h, w).
        spatial_scale: cells per pixel.

    Returns:
        (h, w).

    Raises:
        ValueError: an argument is wrong; the message names it, its value and the fix.
    """
    check_axes("boxes", boxes, "B R 4")
    check_positive("spatial_scale", spatial_scale)
    return pair("output_size", output_size)


def check_sampling(sampling_ratio, reduction):
    """Refuse a sampling ratio below 1 and an unknown reduction.

    Args:
        sampling_ratio: points per bin in each direction; None: as many as cells, for the mean.
        reduction: "mean" or "max".

    Raises:
        ValueError: an argument is wrong; the message names it, its value and the fix.
    """
    if sampling_ratio is not None or reduction == "max":
        check_count("sampling_ratio", sampling_ratio)
    check_choice("reduction", reduction, ("mean", "max"))


def check_rounding(rounding):
    """Refuse a rounding that `roi_pool` and `ps_roi_pool` do not know.

    Args:
        rounding: "cells" or "pixels".

    Raises:
        ValueError: another one.
    """
    check_choice("rounding", rounding, ("cells", "pixels"))


def flat_boxes(boxes):
    """Flatten the boxes of all images and stop their gradient: (B, R, 4) -> (B R, 4) float32, finite.

    Coordinates are clipped to `FARTHEST`; a box that is not finite becomes an empty one out there.
    """
    boxes = ops.stop_gradient(ops.reshape(ops.cast(boxes, "float32"), (-1, 4)))
    finite = ops.all(ops.abs(boxes) < float("inf"), axis=-1, keepdims=True)  # false for NaN too
    cut = ops.minimum(ops.maximum(boxes, -FARTHEST), FARTHEST)
    return ops.where(finite, cut, -FARTHEST)


def last_pixels(boxes):
    """Return boxes (N, 4) xyxy with the last pixel in place of the second corner, which is one further."""
    return boxes - ops.array([0.0, 0.0, 1.0, 1.0])


def image_of(boxes):
    """Return the index of each box's image: (B, R, 4) -> (B R,) int32."""
    batch, count = ops.shape(boxes)[:2]
    rows = ops.arange(batch, dtype="int32")[:, None]
    return ops.reshape(rows + ops.zeros((1, count), "int32"), (-1,))


def rounded_regions(boxes, spatial_scale, last_included):
    """Round boxes to cells.

    Args:
        boxes: (N, 4) xyxy in image pixels.
        spatial_scale: cells per pixel.
        last_included: whether the cell of the second corner belongs to the region.

    Returns:
        First cell and number of cells (at least 1) as y and x: two (N, 2) int32.
    """
    cells = ops.cast(_rounded(boxes * spatial_scale), "int32")
    starts, ends = ops.flip(cells[:, :2], axis=1), ops.flip(cells[:, 2:], axis=1)
    return starts, ops.maximum(ends - starts + int(last_included), 1)


def _rounded(values):
    """Round halves away from zero, as the papers' C code does."""
    return ops.sign(values) * ops.floor(ops.abs(values) + 0.5)


def _touched_windows(boxes, spatial_scale, output_size, extent):
    """Divide boxes of whole pixels into bins of all cells that they touch (R-FCN's code).

    Args:
        boxes: (N, 4), x and y of the first pixel and of the last one.
        spatial_scale: cells per pixel.
        output_size: (k, k).
        extent: height and width of the map, to which bins are clipped.

    Returns:
        (N, k, k, 2) int32 starts and (N, k, k, 2) int32 sizes of the windows.
    """
    pixels = _rounded(boxes)
    starts = ops.flip(pixels[:, :2], axis=1) * spatial_scale  # (N, 2) y, x in cells
    ends = (ops.flip(pixels[:, 2:], axis=1) + 1.0) * spatial_scale
    sizes = ops.maximum(ends - starts, SMALLEST_REGION)
    edges = []
    for axis, (count, limit) in enumerate(zip(output_size, extent)):
        index, step = ops.arange(count, dtype="float32"), sizes[:, axis, None] / count  # (N, 1)
        first = ops.floor(index * step + starts[:, axis, None])  # (N, k)
        last = ops.ceil((index + 1.0) * step + starts[:, axis, None])
        first, last = (
            ops.minimum(ops.maximum(ops.cast(edge, "int32"), 0), limit) for edge in (first, last)
        )
        edges.append((first, last - first))
    return window_grid(*edges)


def windows_of(starts, sizes, output_size, extent, in_float32=False):
    """Divide regions of whole cells into bins.

    Args:
        starts: (N, 2) int32, y and x of the first cell.
        sizes: (N, 2) int32, rows and columns.
        output_size: (h, w).
        extent: height and width of the map, to which bins are clipped; (None, None): no clipping.
        in_float32: as in `kerasdet.ops.windows.bins`.

    Returns:
        (N, h, w, 2) int32 starts and (N, h, w, 2) int32 sizes of the windows.
    """
    axes = zip(ops.unstack(starts, 2, axis=1), ops.unstack(sizes, 2, axis=1), output_size, extent)
    return window_grid(*(bins(*axis, in_float32) for axis in axes))


def position_sensitive(features, output_size):
    """Give each bin its own map.

    Args:
        features: (B, H, W, C k k), channel c k k + i k + j.
        output_size: k.

    Returns:
        (B k k, H, W, C) and (k, k).

    Raises:
        ValueError: a wrong rank, two different sizes, or channels that are not divisible by k k.
    """
    check_axes("features", features, "B H W C")
    k, other = pair("output_size", output_size)
    channels = features.shape[-1]
    if k != other:
        raise ValueError(
            f"output_size is {output_size!r}; position-sensitive pooling has k x k bins."
        )
    if channels % k**2:
        raise ValueError(
            f"features have {channels} channels; {k} x {k} bins need a multiple of {k * k}."
        )
    batch, height, width, _ = ops.shape(features)
    maps = ops.reshape(features, (batch, height * width, channels // k**2, k**2))
    maps = ops.transpose(maps, (0, 3, 1, 2))  # (B, k k, H W, C)
    return ops.reshape(maps, (batch * k**2, height, width, channels // k**2)), (k, k)


def own_planes(images, output_size):
    """Return each bin's map in the result of `position_sensitive`: (N,) int32 -> (N, k, k) int32."""
    k = output_size[0]
    index = ops.reshape(ops.arange(k**2, dtype="int32"), (k, k))
    return images[:, None, None] * k**2 + index


def per_bin(images, windows):
    """Repeat each region's image for its bins: (N,), (N, h, w, 2) -> (N h w,) int32."""
    return ops.reshape(images[:, None, None] + 0 * windows[..., 0], (-1,))


def flat_bins(values):
    """Flatten the values of all bins: (N, h, w) -> (N h w,), (N, h, w, 2) -> (N h w, 2)."""
    return ops.reshape(values, (-1, *values.shape[3:]))


def counts(sizes):
    """Count the cells of each window: (T, 2) int32 -> (T, 1) float32."""
    sizes = ops.cast(sizes, "float32")  # a product of integers may overflow
    return sizes[:, :1] * sizes[:, 1:]


def unflatten(pooled, boxes, output_size):
    """Restore images and regions: (B R h w, C) or (B R, h, w, C) -> (B, R, h, w, C)."""
    batch, count = ops.shape(boxes)[:2]
    return ops.reshape(pooled, (batch, count, *output_size, pooled.shape[-1]))


def _align(maps, planes, regions, output_size, sampling_ratio, aligned, reduction):
    """Pool regions (N, 4), in cells of their own maps `planes` (N,): (N, h, w, C)."""
    corner, sides = _corner_and_sides(regions, aligned)
    if sampling_ratio is None:
        return pool_adaptive(maps, planes, corner, sides, output_size)
    starts, steps = _lattice(corner, sides, output_size, sampling_ratio)
    return pool_lattice(maps, planes, starts, steps, output_size, sampling_ratio, reduction)


def _corner_and_sides(regions, aligned):
    """Return first corner, and height and width of each region: (N, 4) in cells -> two (N, 2), y and x."""
    corner, other = ops.flip(regions[:, :2], axis=1), ops.flip(regions[:, 2:], axis=1)
    sides = other - corner
    return (corner - 0.5, sides) if aligned else (corner, ops.maximum(sides, 1.0))


def _lattice(corner, sides, output_size, sampling_ratio):
    """Return first point and step of each region's lattice: two (N, 2), y and x in cells."""
    points = [sampling_ratio * size for size in output_size]
    steps = sides / ops.array(points, "float32")
    return corner + 0.5 * steps, steps


def _on_levels(boxes, numbers):
    """Return boxes in cells of their own level (N, 4), and their images (N,) counted through all levels."""
    flat = flat_boxes(boxes)  # (N, 4)
    levels = ops.reshape(region_levels(flat, numbers[0], numbers[-1]), (-1,)) - numbers[0]  # (N,)
    scales = ops.take(ops.array([2.0**-number for number in numbers], "float32"), levels)  # (N,)
    return flat * scales[:, None], levels * ops.shape(boxes)[0] + image_of(boxes)


def _ps_lattice(maps, boxes, flat, images, output_size, sampling_ratio):
    """Pool each bin of the regions `flat` (N, 4), in cells, from its own map: (B, R, k, k, C)."""
    region = _corner_and_sides(flat, aligned=True)
    starts, steps = _lattice(*region, output_size, sampling_ratio)  # (N, 2)
    index = ops.arange(output_size[0], dtype="float32")
    corners = ops.stack([index[:, None] + 0.0 * index, index + 0.0 * index[:, None]], axis=-1)
    bin_steps = sampling_ratio * steps[:, None, None]  # (N, 1, 1, 2)
    pooled = pool_lattice(
        maps,
        flat_bins(own_planes(images, output_size)),
        flat_bins(starts[:, None, None] + corners * bin_steps),
        flat_bins(steps[:, None, None] + 0.0 * corners),
        (1, 1),
        sampling_ratio,
        "mean",
    )
    return unflatten(pooled, boxes, output_size)


def level_number(name):
    """Return 5 for the level "P5", "C5" or "C5_first", whose stride is 2^5."""
    return int(name[1:].partition("_")[0])


def _levels_of(pyramid):
    """Return the level numbers, ascending, and their maps."""
    if not isinstance(pyramid, dict):
        pyramid = {f"P{number}": level for number, level in enumerate(pyramid, start=2)}
    levels = {}
    try:
        for name, level in pyramid.items():
            levels.setdefault(level_number(name), level)
        numbers = sorted(levels)
    except (TypeError, ValueError):
        numbers = []
    if not numbers or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise ValueError(
            f"pyramid has the levels {', '.join(map(str, pyramid)) or 'none'}; give consecutive ones "
            "by name, such as P2, P3, P4, P5."
        )
    for number in numbers:
        check_axes(f"pyramid[P{number}]", levels[number], "B H W C")
    return numbers, [levels[number] for number in numbers]
