"""Inputs of the golden cases: maps and regions, and the refusal of what rounding would decide."""

from fractions import Fraction

import numpy as np

MARGIN = 1e-4  # of a cell: what float32 coordinates stay clear of
IMAGES = 2

# Regions as shares of the image; each is moved a little, differently in each image.
REGIONS = {
    "inside": (0.2, 0.15, 0.7, 0.8),
    "wide": (0.05, 0.4, 0.85, 0.6),
    "tiny": (0.5, 0.5, 0.52, 0.53),
    "left": (-0.4, -0.3, 0.35, 0.4),
    "outside_left": (-1.5, 0.2, -0.8, 0.6),
    "outside_below": (0.3, 1.6, 0.8, 2.2),
    "empty": (0.4, 0.6, 0.4, 0.6),
    "flat": (0.2, 0.5, 0.8, 0.5),
    "inverted": (0.7, 0.8, 0.3, 0.2),
    "inverted_x": (0.7, 0.2, 0.3, 0.8),
    "right": (0.6, 0.55, 1.5, 1.4),
    "around": (-0.6, -0.5, 1.2, 1.1),
    "huge": (-2.0, -1.5, 3.0, 2.5),
}
# torchvision's PSRoIPool never reads the last row and column: regions that do not reach them.
WITHIN = [name for name in REGIONS if name not in ("right", "around", "huge")]
# Its level rule is undefined for a region that is inverted along one axis.
UPRIGHT = [name for name in REGIONS if not name.startswith("inverted")]


def make_features(rng, rows, columns, channels, images=IMAGES, step=1 / 32):
    """Random maps (B, H, W, C) of few digits, which compress well."""
    return np.round(rng.normal(0, 1, (images, rows, columns, channels)) / step) * step


def make_boxes(rng, height, width, names=tuple(REGIONS), images=IMAGES):
    """The named regions in images of height x width pixels: (B, R, 4) xyxy."""
    regions = np.array([REGIONS[name] for name in names])
    moves = rng.uniform(0, 0.08, (images, len(names), 2))
    boxes = (regions + np.tile(moves, 2)) * [width, height, width, height]
    return boxes.astype("float32").astype("float64")


def refuse(is_bad, what):
    """Stop the script where rounding would decide a case, or where a case shows too little."""
    if np.any(is_bad):
        raise ValueError(f"{int(np.sum(is_bad))} {what}: choose another seed for this case")


def near_integer(values):
    """Whether values lie within MARGIN of an integer."""
    return np.abs(values - np.round(values)) < MARGIN


def check_bins(boxes, output_size, spatial_scale, inclusive, last=None):
    """Refuse corners near a half, inexact bin limits, and bins that reach `last` (row, column)."""
    refuse(near_integer(boxes * spatial_scale + 0.5), "corners lie on a rounding tie")
    corners = np.floor(boxes * spatial_scale + 0.5).astype(int).reshape(-1, 4)
    for corner in corners:
        for axis, bins in enumerate(output_size):
            start = int(corner[1 - axis])
            size = max(int(corner[3 - axis]) - start + inclusive, 1)
            for i in range(bins + 1):
                exact, rounded = Fraction(i * size, bins), i * (float(size) / bins)
                limits = (np.floor(exact), np.ceil(exact)), (np.floor(rounded), np.ceil(rounded))
                refuse(limits[0] != limits[1], f"bin limits {i} of {size}/{bins} are inexact")
            if last is not None:
                refuse(start <= last[axis] < start + size, "regions reach the last row or column")


def check_samples(boxes, output_size, spatial_scale, sampling_ratio, shift, least, size):
    """Refuse samples on the line one cell outside the map, where values jump to 0.

    Without a sampling ratio, a bin has as many points as cells: also refuse what rounding would decide there,
    and bins that are larger than the map.
    """
    corners = boxes.reshape(-1, 2, 2) * spatial_scale - shift
    for axis, bins in enumerate(output_size):
        start, end = corners[:, 0, 1 - axis], corners[:, 1, 1 - axis]
        extent = end - start if least is None else np.maximum(end - start, least)
        counts = bins * (sampling_ratio or np.maximum(np.ceil(extent / bins), 0)) + 0 * extent
        if sampling_ratio is None:
            refuse(near_integer(extent / bins) & (extent != 0), "bins have a whole number of cells")
            refuse(extent / bins > size[axis], "bins are larger than their map")
        for first, side, count in zip(start, extent, counts):
            samples = first + (np.arange(count) + 0.5) * side / max(count, 1)
            jumps = np.minimum(np.abs(samples + 1), np.abs(samples - size[axis]))
            refuse(jumps < MARGIN, "samples lie on the edge of the map's surroundings")
