"""Masks of objects: cut to regions, pasted into images, and searched for the peaks of keypoints."""

import numpy as np
from keras import ops

from kerasdet.ops.checks import check_axes, check_choice
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.neighbours import clamped_neighbours

# Slope of the cubic kernel at 1, as in PyTorch and OpenCV; TensorFlow and Pillow have -0.5.
CUBIC = -0.75

# For `mask_peaks`:
CANDIDATES = 16  # lattice points whose surrounding pixels are read
PIXELS = 12  # pixels read along each axis of a point: all pixels up to 24 pixels a cell
TAPS = 5  # cells that cubic interpolation reads for pixels that lie within half a cell
NEVER = -1e30


def cut_masks(masks, boxes, objects, output_size, sampling_ratio=2):
    """Cut objects' masks to regions and resample them (Mask R-CNN, arXiv 1703.06870v3, section 3).

    This is RoIAlign of the mask; each bin is the mean of its points. Cell (0, 0) of the mask covers
    [0, 1), so its centre is half a pixel from the image's corner (`aligned`). Masks are read in their
    own type, without a float copy.

    Args:
        masks: (B, G, H, W), 0 or 1, on the canvas.
        boxes: (B, R, 4) xyxy, the regions, without gradient.
        objects: (B, R) int32, the object of each region; -1 reads the first object.
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
    images = ops.arange(batch, dtype="int32")[:, None]  # (B, 1)
    planes = images * count + ops.maximum(ops.cast(objects, "int32"), 0)  # (B, R)
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    points = output_size * sampling_ratio
    steps = (boxes[..., 2:] - boxes[..., :2]) / points  # (B, R, 2)
    index = ops.arange(points, dtype="float32") + 0.5
    x, y = (boxes[..., i, None] + steps[..., i, None] * index - 0.5 for i in range(2))
    top, bottom, by_y = clamped_neighbours(y, height)
    left, right, by_x = clamped_neighbours(x, width)
    table, values = ops.reshape(masks, (-1,)), 0.0
    for row, weight_y in zip((top, bottom), by_y):
        for column, weight_x in zip((left, right), by_x):
            first = (planes[..., None] * height + row) * width  # (B, R, m s)
            place = first[..., :, None] + column[..., None, :]  # (B, R, m s, m s)
            weight = weight_y[..., :, None] * weight_x[..., None, :]
            values = values + weight * ops.cast(ops.take(table, place, axis=0), "float32")
    # Eq: mask_rcnn §3.1 | mask target = intersection of the region and its object's mask
    shape = (*ops.shape(boxes)[:2], output_size, sampling_ratio, output_size, sampling_ratio)
    return ops.mean(ops.reshape(values, shape), axis=(3, 5))


def paste_masks(masks, boxes, size, threshold=0.5, interpolation="bilinear"):
    """Paste the masks of one image's detections into the image.

    The geometry is torchvision's. Box and mask grow by a ring of one empty cell. Corners are truncated to
    whole pixels, and the second corner is included, so a mask may extend one pixel beyond its box. The
    function uses NumPy. The result takes D H W bytes; the rest needs memory for one box at a time. If the
    result is too large, paste a few masks at a time (slices of masks and boxes).

    Args:
        masks: (D, m, m) in 0..1, relative to the boxes, as `detect` returns them.
        boxes: (D, 4) xyxy in the image's pixels.
        size: (H, W) of the image.
        threshold: a pixel above it belongs to the object (section 3.1, Inference: 0.5).
        interpolation: "bilinear", or "bicubic" for smoother outlines.

    Returns:
        (D, H, W) bool.

    Raises:
        ValueError: a wrong rank, different numbers of masks and boxes, or an unknown interpolation.
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
    """Find the highest points of masks that cubic interpolation resizes to the pixels of their boxes.

    The resized masks are never computed. They are read at a lattice of 2m x 2m points, or at all pixels
    if there are fewer, and then at all pixels around the best 16 points. A peak is missed only if
    more points than that are nearly as high. In boxes wider or higher than 24 m pixels (1344 for
    m = 56), the second step reads every second pixel, and so on.

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

    border = np.clip(np.arange(-2, size + 3), 0, size - 1)  # the edge's values continue outside
    masks = ops.transpose(ops.cast(logits, "float32"), (0, 1, 4, 2, 3))  # (B, D, P, m, m)
    masks = ops.take(ops.take(masks, border, axis=3), border, axis=4)  # (B, D, P, m + 5, m + 5)
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1.0)  # (B, D, 2)
    pixels = ops.cast(ops.ceil(sides), "int32")
    best = ops.reshape(_best_of_lattice(masks, pixels, size), (rows, CANDIDATES))  # (B D P, 16)
    masks = ops.reshape(masks, (rows, len(border) ** 2))  # (B D P, (m + 5)^2)
    pixel, score = _best_pixel(masks, best, per_mask(pixels), size)  # (B D P, 2), (B D P, 1)
    step = per_mask(sides / ops.cast(pixels, "float32"))  # (B D P, 2)
    # The position of a pixel is its centre.
    place = per_mask(boxes[..., :2]) + (ops.cast(pixel, "float32") + 0.5) * step
    peaks = ops.concatenate([place, score], axis=-1)  # (B D P, 3)
    return ops.reshape(peaks, (batch, count, num_points, 3))


def cubic_kernel(distance):
    """Return the weight of a sample in cubic interpolation.

    Keys, Cubic Convolution Interpolation for Digital Image Processing, IEEE TASSP 1981, section II.

    Args:
        distance: (...) float32, distance from the sample, in samples, not negative.

    Returns:
        (...) float32.
    """
    near, far = ops.minimum(distance, 1.0), ops.minimum(ops.maximum(distance, 1.0), 2.0)
    # Both polynomials are 0 at 1, and the second is 0 at 2, so their sum needs no case distinction.
    inner = ((CUBIC + 2.0) * near - (CUBIC + 3.0)) * near * near + 1.0
    return inner + CUBIC * (((far - 5.0) * far + 8.0) * far - 4.0)


def _linear_kernel(distance):
    return np.maximum(1.0 - distance, 0.0)


def _resampling(first, last, limit, cells, kernel):
    """Return the pixels of one axis that a box covers, and their weights for the mask's cells.

    Args:
        first: the box's first pixel.
        last: the box's last pixel, included.
        limit: number of pixels of the image along this axis.
        cells: m; the ring of empty cells is at -1 and m.
        kernel: function from distance to weight.

    Returns:
        A slice of n pixels inside the image, and weights (n, m).
    """
    length = max(last - first + 1, 1)
    inside = range(max(first, 0), max(min(last + 1, limit), max(first, 0)))
    pixels = np.arange(inside.start, inside.stop, dtype="float32")
    places = (pixels - first + 0.5) * np.float32((cells + 2) / length) - 1.5
    distances = np.abs(places[:, None] - np.arange(cells, dtype="float32"))
    return slice(inside.start, inside.stop), ops.convert_to_numpy(kernel(distances))


def _best_of_lattice(masks, pixels, size):
    """Return the best lattice points of masks (B, D, P, m + 5, m + 5), row by row: (B, D, P, 16)."""
    points = ops.minimum(pixels, 2 * size)[..., None]  # (B, D, 2, 1)
    index = ops.arange(2 * size, dtype="int32")
    place = _places(index, points, size)  # (B, D, 2, 2m)
    cells = ops.arange(size + TAPS, dtype="float32") - 2.0
    weights = cubic_kernel(ops.abs(place[..., None] - cells))  # (B, D, 2, 2m, m + 5)
    by_x, by_y = weights[:, :, None, 0], weights[:, :, None, 1]  # (B, D, 1, 2m, m + 5)
    values = ops.matmul(ops.matmul(by_y, masks), ops.swapaxes(by_x, -1, -2))  # (B, D, P, 2m, 2m)
    there = index < points  # (B, D, 2, 2m)
    there = there[:, :, 1, :, None] & there[:, :, 0, None, :]  # (B, D, 2m, 2m)
    values = ops.where(there[:, :, None], values, NEVER)
    flat = ops.reshape(values, (*ops.shape(masks)[:3], 4 * size * size))
    return ops.cast(ops.top_k(flat, CANDIDATES)[1], "int32")


def _best_pixel(masks, best, pixels, size):
    """Find the highest pixel near any of the best lattice points.

    Args:
        masks: (N, (m + 5) (m + 5)), with two cells of border before and three behind.
        best: (N, 16), the result of `_best_of_lattice`.
        pixels: (N, 2), along x and y.
        size: m.

    Returns:
        x and y (N, 2) int32, and the value there (N, 1).
    """
    pixels = pixels[..., None]  # (N, 2, 1)
    points = ops.minimum(pixels, 2 * size)
    point = ops.stack([best % (2 * size), best // (2 * size)], axis=1)  # (N, 2, 16)
    # A pixel belongs to the point whose share of the side contains the pixel's centre.
    first, end = ((2 * n * pixels + points) // (2 * points) for n in (point, point + 1))
    end = ops.minimum(end, pixels)[..., None]  # (N, 2, 16, 1)
    stride = ops.maximum((end - first[..., None] + PIXELS - 1) // PIXELS, 1)  # (N, 2, 16, 1)
    pixel = first[..., None] + stride * ops.arange(PIXELS, dtype="int32")  # (N, 2, 16, 12)
    place = _places(pixel, pixels[..., None], size)  # (N, 2, 16, 12)
    corner = ops.minimum(ops.cast(ops.floor(place[..., :1]), "int32") + 1, size)
    # (N, 2, 16, 5), counted from the first cell of the border
    taps = corner + ops.arange(TAPS, dtype="int32")
    cells = ops.cast(taps, "float32")[..., None, :] - 2.0
    weights = cubic_kernel(ops.abs(place[..., None] - cells))  # (N, 2, 16, 12, 5)
    index = taps[:, 1, :, :, None] * (size + TAPS) + taps[:, 0, :, None, :]  # (N, 16, 5, 5)
    patch = gather_rows(masks, ops.reshape(index, (-1, CANDIDATES * TAPS**2)))  # (N, 16 * 5 * 5)
    patch = ops.reshape(patch, (-1, CANDIDATES, TAPS, TAPS))  # (N, 16, 5, 5), y and x
    # Sums, because a GPU rounds the factors of a matrix product.
    lines = sum(patch[..., i, None] * weights[:, 0, :, None, :, i] for i in range(TAPS))
    values = sum(lines[:, :, i, None] * weights[:, 1, :, :, i, None] for i in range(TAPS))
    there = pixel < end  # (N, 2, 16, 12)
    values = ops.where(there[:, 1, :, :, None] & there[:, 0, :, None, :], values, NEVER)
    score, at = ops.top_k(ops.reshape(values, (-1, CANDIDATES * PIXELS**2)), 1)  # (N, 1)
    at = ops.cast(at, "int32")
    of_point = at // PIXELS**2 * PIXELS
    row, column = of_point + at // PIXELS % PIXELS, of_point + at % PIXELS  # (N, 1)
    pixel = ops.reshape(pixel, (-1, 2, CANDIDATES * PIXELS))  # (N, 2, 16 * 12)
    found = [gather_rows(pixel[:, axis], n) for axis, n in enumerate((column, row))]
    return ops.concatenate(found, axis=-1), score


def _places(index, count, size):
    """Return the centres of `count` pixels along the side of a mask of `size` cells, in cells."""
    count = ops.cast(count, "float32")
    return (ops.cast(index, "float32") + 0.5) * (size / count) - 0.5
