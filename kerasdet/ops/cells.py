"""Cells of a map: which object each cell or anchor learns, and maps whose cells become channels.

A place is a cell, or one of the anchors of a cell; places are in the order of rows, columns and anchors.
"""

from keras import ops

from kerasdet.ops.boxes import xyxy_to_cxcywh


def cells_of(boxes, grid, canvas):
    """Find the cell in which the centre of each box lies.

    Args:
        boxes: (B, G, 4) xyxy.
        grid: (H, W) of the map; integers or scalar tensors.
        canvas: (height, width) in pixels that the map covers; numbers or scalar tensors.

    Returns:
        (B, G) int32, row * W + column; a centre outside the canvas belongs to the nearest cell.

    Source: YOLO (arXiv 1506.02640), section 2.
    """
    height, width = (ops.cast(count, "float32") for count in grid)
    x, y = ops.unstack(xyxy_to_cxcywh(boxes), 4, axis=-1)[:2]
    # Eq: yolo §2 | the cell into which the centre of an object falls detects the object
    column = ops.clip(ops.floor(x * width / ops.cast(canvas[1], "float32")), 0.0, width - 1)
    row = ops.clip(ops.floor(y * height / ops.cast(canvas[0], "float32")), 0.0, height - 1)
    return ops.cast(row * width + column, "int32")


def owners(places, priority, count):
    """Find the object that each place learns.

    Args:
        places: (B, G) int32, the place of each object.
        priority: (B, G), positive for objects that are learnt; the highest wins a place that several objects
            share, and of equal ones the first.
        count: P, number of places.

    Returns:
        (B, P) int32: the object's row, or -1.
    """
    here = ops.expand_dims(places, -1) == ops.arange(count, dtype="int32")  # (B, G, P)
    rank = ops.where(here & (priority > 0)[..., None], ops.expand_dims(priority, -1), 0.0)
    best = ops.cast(ops.argmax(rank, axis=1), "int32")  # (B, P)
    return ops.where(ops.max(rank, axis=1) > 0, best, -1)


def space_to_depth(x, size=2):
    """Stack adjacent cells into channels (YOLOv2, arXiv 1612.08242, section 2, Fine-Grained Features).

    Args:
        x: (B, H, W, C); H and W are multiples of `size`.
        size: cells per side that become one.

    Returns:
        (B, H / size, W / size, size * size * C): the cells of a block by row and column, their channels
        together.
    """
    batch, height, width, channels = ops.shape(x)
    rows, columns = height // size, width // size
    # Eq: yolo_v2 §2 | 26 x 26 x 512 becomes 13 x 13 x 2048
    x = ops.reshape(x, (batch * rows, size, columns, size * channels))
    x = ops.transpose(x, (0, 2, 1, 3))
    return ops.reshape(x, (batch, rows, columns, size * size * channels))


def darknet_reorg(x, size=2):
    """Stack cells into channels in the order of Darknet's `reorg` layer, for its weights.

    Darknet reads the channels of a map, C x H x W, as C / size^2 maps of size H x size W, and stacks the
    adjacent cells of those. What becomes one cell does not lie in one place of the image.

    Args:
        x: (B, H, W, C); H and W are multiples of `size`, C of size * size.
        size: its `stride`.

    Returns:
        (B, H / size, W / size, size * size * C).
    """
    batch, height, width, channels = ops.shape(x)
    maps = channels // (size * size)
    x = ops.transpose(x, (0, 3, 1, 2))  # Darknet's layout
    x = ops.reshape(x, (batch, maps, height, size, width, size))
    x = ops.transpose(x, (0, 3, 5, 1, 2, 4))
    x = ops.reshape(x, (batch, size * size * channels, height // size, width // size))
    return ops.transpose(x, (0, 2, 3, 1))
