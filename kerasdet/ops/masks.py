"""Masks of objects: cut to regions, pasted into images, and, of keypoints, read at their highest point."""

import numpy as np
from keras import ops

from kerasdet.ops.checks import check_axes, check_choice
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.neighbours import clamped_neighbours

CUBIC = (
    -0.75
)  # slope of the cubic kernel at 1: PyTorch's and OpenCV's; TensorFlow and Pillow have -0.5

# Of `mask_peaks`:
CANDIDATES = 16  # lattice points around which the pixels are looked at
PIXELS = (
    12  # of them along each axis: with two lattice points a cell, all of up to 24 pixels a cell
)
TAPS = 5  # cells that cubic interpolation reads for pixels that lie within half a cell
NEVER = -1e30


def cut_masks(masks, boxes, objects, output_size, sampling_ratio=2):
    """Cut objects' masks to regions and resample them (Mask R-CNN, arXiv 1703.06870v3, section 3).

    RoIAlign of the mask, each bin the mean of its points; cell (0, 0) of the mask lies at half a
    pixel from the image's corner (`aligned`), as it covers [0, 1). Masks are read where they lie,
    in their own type: no float copy of them is made.

    Args:
        masks: (B, G, H, W), 0 or 1, on the canvas.
        boxes: (B, R, 4) xyxy, the regions; no gradient.
        objects: (B, R) int32, the object of each region; -1 reads the first.
        output_size: m.
        sampling_ratio: points per bin in each direction.

    Returns:
        (B, R, m, m) float32 in 0..1, the share of each bin that the object covers.

    Raises:
        ValueError: a wrong rank.
    """
    check_axes("masks", masks, "B G H W")
    check_axes("boxes", boxes, "B R 4")
    batch, count, height, width = ops.shape(masks)
    images = ops.arange(batch, dtype="int32")[:, None]
    planes = images * count + ops.maximum(ops.cast(objects, "int32"), 0)
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    points = output_size * sampling_ratio
    steps = (boxes[..., 2:] - boxes[..., :2]) / points
    index = ops.arange(points, dtype="float32") + 0.5
    x, y = (boxes[..., i, None] + steps[..., i, None] * index - 0.5 for i in range(2))
    top, bottom, by_y = clamped_neighbours(y, height)
    left, right, by_x = clamped_neighbours(x, width)
    table, values = ops.reshape(masks, (-1,)), 0.0
    for row, weight_y in zip((top, bottom), by_y):
        for column, weight_x in zip((left, right), by_x):
            first = (planes[..., None] * height + row) * width
            place = first[..., :, None] + column[..., None, :]
            weight = weight_y[..., :, None] * weight_x[..., None, :]
            values = values + weight * ops.cast(ops.take(table, place, axis=0), "float32")
    # Eq: mask_rcnn §3.1 | mask target = intersection of the region and its object's mask
    shape = (*ops.shape(boxes)[:2], output_size, sampling_ratio, output_size, sampling_ratio)
    return ops.mean(ops.reshape(values, shape), axis=(3, 5))


def paste_masks(masks, boxes, size, threshold=0.5, interpolation="bilinear"):
    """Lay the masks of one image's detections over the image.

    The geometry is torchvision's: box and mask grow by a ring of one empty cell, corners are cut to
    whole pixels, the second included, so that a mask may reach a pixel beyond its box. NumPy; beside the
    result, memory for one box at a time. The result has D H W bytes: paste a few at a time (slices of
    masks and boxes) where that is much.

    Args:
        masks: (D, m, m) in 0..1, relative to the boxes, as `detect` returns them.
        boxes: (D, 4) xyxy in the image's pixels.
        size: (H, W) of the image.
        threshold: a pixel above it belongs to the object (section 3.1, Inference: 0.5).
        interpolation: "bilinear", or "bicubic" for smoother outlines.

    Returns:
        (D, H, W) bool.

    Raises:
        ValueError: a wrong rank, masks and boxes that differ in number, or an unknown interpolation.
    """
    masks, boxes = np.asarray(masks, "float32"), np.asarray(boxes, "float32")
    check_axes("masks", masks, "D m m")
    check_axes("boxes", boxes, f"{len(masks)} 4")
    check_choice("interpolation", interpolation, ("bilinear", "bicubic"))
    kernel = cubic_kernel if interpolation == "bicubic" else _linear_kernel
    cells, (height, width) = masks.shape[-1], size
    centre, half = (boxes[:, :2] + boxes[:, 2:]) * 0.5, (boxes[:, 2:] - boxes[:, :2]) * 0.5
    half = half * np.float32((cells + 2) / cells)
    corners = np.concatenate([centre - half, centre + half], axis=1).astype("int64")
    pasted = np.zeros((len(masks), height, width), bool)
    for canvas, mask, (x1, y1, x2, y2) in zip(pasted, masks, corners):
        rows, by_row = _resampling(y1, y2, height, cells, kernel)
        columns, by_column = _resampling(x1, x2, width, cells, kernel)
        canvas[rows, columns] = by_row @ mask @ by_column.T > threshold
    return pasted


def mask_peaks(logits, boxes):
    """Find where masks are highest when they are resized to their boxes' pixels by cubic interpolation.

    The resized masks are never made. They are read at a lattice of 2m x 2m points, or at all pixels
    where those are fewer, and then at all pixels around the best 16 points: a peak can be missed only
    where more points than that are nearly as high. In boxes of more than 24 m pixels (1344 for m = 56)
    every second pixel is read there, and so on.

    Args:
        logits: (B, D, m, m, P) float32, P masks for each box.
        boxes: (B, D, 4) xyxy.

    Returns:
        (B, D, P, 3) float32: x, y in pixels and the logit there.

    Raises:
        ValueError: a wrong rank.
    """
    check_axes("logits", logits, "B D m m P")
    check_axes("boxes", boxes, "B D 4")
    batch, count = ops.shape(boxes)[:2]
    size, num_points = logits.shape[2], logits.shape[4]
    rows = batch * count * num_points

    def per_mask(values):
        """Repeat for each point: (B, D, 2) -> (B D P, 2)."""
        return ops.reshape(ops.repeat(values[:, :, None], num_points, axis=2), (rows, 2))

    border = np.clip(np.arange(-2, size + 3), 0, size - 1)  # the edge's values go on outside
    masks = ops.transpose(ops.cast(logits, "float32"), (0, 1, 4, 2, 3))
    masks = ops.take(ops.take(masks, border, axis=3), border, axis=4)
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1.0)
    pixels = ops.cast(ops.ceil(sides), "int32")
    best = ops.reshape(_best_of_lattice(masks, pixels, size), (rows, CANDIDATES))
    masks = ops.reshape(masks, (rows, len(border) ** 2))
    pixel, score = _best_pixel(masks, best, per_mask(pixels), size)
    step = per_mask(sides / ops.cast(pixels, "float32"))
    # A pixel's place is its centre.
    place = per_mask(boxes[..., :2]) + (ops.cast(pixel, "float32") + 0.5) * step
    peaks = ops.concatenate([place, score], axis=-1)
    return ops.reshape(peaks, (batch, count, num_points, 3))


def cubic_kernel(distance):
    """Weight of a sample in cubic interpolation.

    Keys, Cubic Convolution Interpolation for Digital Image Processing, IEEE TASSP 1981, section II.

    Args:
        distance: (...) float32, from the sample, in samples, not negative.

    Returns:
        (...) float32.
    """
    near, far = ops.minimum(distance, 1.0), ops.minimum(ops.maximum(distance, 1.0), 2.0)
    # Both polynomials are 0 at 1, and the second at 2, so that their sum needs no case.
    inner = ((CUBIC + 2.0) * near - (CUBIC + 3.0)) * near * near + 1.0
    return inner + CUBIC * (((far - 5.0) * far + 8.0) * far - 4.0)


def _linear_kernel(distance):
    return np.maximum(1.0 - distance, 0.0)


def _resampling(first, last, limit, cells, kernel):
    """Pixels of one axis that a box covers inside the image, and their weights of the mask's cells.

    Args:
        first: the box's first pixel.
        last: its last, included.
        limit: pixels of the image.
        cells: m; around them, at -1 and m, lies the ring of empty cells.
        kernel: weight by distance.

    Returns:
        A slice of n pixels, and weights (n, m).
    """
    length = max(last - first + 1, 1)
    inside = range(max(first, 0), max(min(last + 1, limit), max(first, 0)))
    pixels = np.arange(inside.start, inside.stop, dtype="float32")
    places = (pixels - first + 0.5) * np.float32((cells + 2) / length) - 1.5
    distances = np.abs(places[:, None] - np.arange(cells, dtype="float32"))
    return slice(inside.start, inside.stop), ops.convert_to_numpy(kernel(distances))


def _best_of_lattice(masks, pixels, size):
    """The best lattice points of masks (B, D, P, m + 5, m + 5), row by row: (B, D, P, 16)."""
    points = ops.minimum(pixels, 2 * size)[..., None]
    index = ops.arange(2 * size, dtype="int32")
    place = _places(index, points, size)
    cells = ops.arange(size + TAPS, dtype="float32") - 2.0
    weights = cubic_kernel(ops.abs(place[..., None] - cells))
    by_x, by_y = weights[:, :, None, 0], weights[:, :, None, 1]
    values = ops.matmul(ops.matmul(by_y, masks), ops.swapaxes(by_x, -1, -2))
    there = index < points
    there = there[:, :, 1, :, None] & there[:, :, 0, None, :]
    values = ops.where(there[:, :, None], values, NEVER)
    flat = ops.reshape(values, (*ops.shape(masks)[:3], 4 * size * size))
    return ops.cast(ops.top_k(flat, CANDIDATES)[1], "int32")


def _best_pixel(masks, best, pixels, size):
    """The highest pixel near any of the best lattice points.

    Args:
        masks: (N, (m + 5) (m + 5)), with two cells of border before and three behind.
        best: (N, 16), as `_best_of_lattice` returns them.
        pixels: (N, 2), along x and y.
        size: m.

    Returns:
        x and y (N, 2) int32, and the value there (N, 1).
    """
    pixels = pixels[..., None]
    points = ops.minimum(pixels, 2 * size)
    point = ops.stack([best % (2 * size), best // (2 * size)], axis=1)
    # A pixel belongs to the point in whose share of the side its centre lies.
    first, end = ((2 * n * pixels + points) // (2 * points) for n in (point, point + 1))
    end = ops.minimum(end, pixels)[..., None]
    stride = ops.maximum((end - first[..., None] + PIXELS - 1) // PIXELS, 1)
    pixel = first[..., None] + stride * ops.arange(PIXELS, dtype="int32")  # (N, 2, 16, 12)
    place = _places(pixel, pixels[..., None], size)
    corner = ops.minimum(ops.cast(ops.floor(place[..., :1]), "int32") + 1, size)
    taps = corner + ops.arange(
        TAPS, dtype="int32"
    )  # (N, 2, 16, 5), counted from the border's first
    cells = ops.cast(taps, "float32")[..., None, :] - 2.0
    weights = cubic_kernel(ops.abs(place[..., None] - cells))  # (N, 2, 16, 12, 5)
    index = taps[:, 1, :, :, None] * (size + TAPS) + taps[:, 0, :, None, :]
    patch = gather_rows(masks, ops.reshape(index, (-1, CANDIDATES * TAPS**2)))
    patch = ops.reshape(patch, (-1, CANDIDATES, TAPS, TAPS))
    # Sums, for a GPU rounds the factors of a matrix product.
    lines = sum(patch[..., i, None] * weights[:, 0, :, None, :, i] for i in range(TAPS))
    values = sum(lines[:, :, i, None] * weights[:, 1, :, :, i, None] for i in range(TAPS))
    there = pixel < end
    values = ops.where(there[:, 1, :, :, None] & there[:, 0, :, None, :], values, NEVER)
    score, at = ops.top_k(ops.reshape(values, (-1, CANDIDATES * PIXELS**2)), 1)
    at = ops.cast(at, "int32")
    of_point = at // PIXELS**2 * PIXELS
    row, column = of_point + at // PIXELS % PIXELS, of_point + at % PIXELS
    pixel = ops.reshape(pixel, (-1, 2, CANDIDATES * PIXELS))
    found = [gather_rows(pixel[:, axis], n) for axis, n in enumerate((column, row))]
    return ops.concatenate(found, axis=-1), score


def _places(index, count, size):
    """Centres of `count` pixels along the side of a mask of `size` cells, in cells."""
    count = ops.cast(count, "float32")
    return (ops.cast(index, "float32") + 0.5) * (size / count) - 0.5
