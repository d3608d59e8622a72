"""Anchors: the boxes of one cell, and their repetition over a feature map."""

import numpy as np
from keras import ops

from kerasdet.ops.points import grid_points


def cell_anchors(sizes, aspect_ratios, rounded=False):
    """Return the anchors of one cell, centred on the origin.

    Args:
        sizes: side lengths in pixels; an anchor of size s has area s * s.
        aspect_ratios: height / width.
        rounded: round the corners to whole pixels, halves to even (torchvision's weights need it).

    Returns:
        (A, 4) xyxy NumPy float32, A = ratios x sizes, sizes varying fastest.
    """
    heights = np.sqrt(np.asarray(aspect_ratios, "float64"))[:, None] * np.asarray(sizes, "float64")
    widths = np.asarray(sizes, "float64") / np.sqrt(np.asarray(aspect_ratios, "float64"))[:, None]
    corners = np.stack([-widths, -heights, widths, heights], axis=-1).reshape(-1, 4) / 2.0
    return (np.round(corners) if rounded else corners).astype("float32")


def grid_anchors(cell, grid_size, strides, offset=0.0):
    """Repeat a cell's anchors over a feature map.

    Args:
        cell: (A, 4) xyxy, centred on the origin.
        grid_size: (H, W) of the feature map; integers or scalar tensors.
        strides: (sy, sx), pixels from one cell to the next; numbers or scalar tensors.
        offset: position of the centre within its cell, in cells: 0 is the corner, 0.5 the middle.

    Returns:
        (H * W * A, 4) xyxy float32, ordered by row, then column, then anchor.
    """
    points = grid_points(grid_size, strides, offset)  # (H, W, 2)
    centres = ops.concatenate([points, points], axis=-1)  # (H, W, 4)
    anchors = ops.expand_dims(centres, 2) + ops.cast(cell, "float32")  # (H, W, A, 4)
    return ops.reshape(anchors, (-1, 4))
