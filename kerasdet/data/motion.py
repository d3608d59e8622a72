"""How an image and its record move: flips, quarter turns, zooms and shifts, seen through a window.

The augmentations of `augment.py` draw the motion; this file carries it out, in NumPy and Pillow.
Pixels, boxes, masks, keypoints, proposals and the semantic map move by the same rule. When an image
is resampled bilinearly, each pixel of a mask or a semantic map takes the source pixel that contains
its centre (nearest neighbour).
"""

import dataclasses

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

VOID = -1  # class of pixels without a class, in semantic maps


def turn_record(record, matrix, turn, pairs):
    """Apply a flip or quarter turn to a record.

    Args:
        record: a `Record`.
        matrix: (2, 3), (x, y)' = matrix (x, y, 1).
        turn: the same motion for arrays (H, W, ...).
        pairs: pairs of keypoints that are swapped.

    Returns:
        A `Record`.
    """
    matrix = np.array(matrix, np.float32)
    keypoints = record.keypoints
    if keypoints is not None:
        keypoints = np.array(keypoints, np.float32)  # (G, P, 3)
        xy = keypoints[..., :2] @ matrix[:, :2].T + matrix[:, 2]
        keypoints[..., :2] = np.where(keypoints[..., 2:] > 0, xy, 0)
        order = np.arange(keypoints.shape[1])
        for a, b in pairs:
            order[[a, b]] = b, a
        keypoints = keypoints[:, order]
    semantic = record.semantic
    swapped = matrix[0, 0] == 0
    return dataclasses.replace(
        record,
        height=record.width if swapped else record.height,
        width=record.height if swapped else record.width,
        boxes=_turned_boxes(record.boxes, matrix),
        masks=_encoded(turn(_decoded(record))) if record.masks else record.masks,
        keypoints=keypoints,
        proposals=None if record.proposals is None else _turned_boxes(record.proposals, matrix),
        semantic=None if semantic is None else np.ascontiguousarray(turn(semantic)),
    )


def move_record(record, zoom, dx, dy, canvas, min_visible=0.0, region=None):
    """Apply x' = zoom_x x + dx, y' = zoom_y y + dy to a record, seen through a region of a canvas.

    Args:
        record: a `Record`.
        zoom: (zoom_x, zoom_y).
        dx: shift in pixels of the canvas.
        dy: shift in pixels of the canvas.
        canvas: (height, width) of the canvas.
        min_visible: lowest share of an object's moved box inside the region.
        region: integers x1, y1, x2, y2; by default the whole canvas.

    Returns:
        A `Record` of the canvas's size. Proposals are clipped; proposals outside the region are dropped.
    """
    x1, y1, x2, y2 = region = region or (0, 0, canvas[1], canvas[0])
    moved, boxes = _moved_boxes(record.boxes, zoom, dx, dy, region)
    share = box_areas(boxes) / np.maximum(box_areas(moved), 1e-12)
    # Boxes are rounded to float32, so there is a tolerance.
    keep = _has_area(boxes) & (share >= min_visible - 1e-6)
    area = (np.asarray(record.area) * zoom[0] * zoom[1] * share).astype(np.float32)
    masks = record.masks
    if masks:
        stack = _moved_pixels(_decoded(record), zoom, dx, dy, canvas, region, 0)  # (H, W, G)
        area = stack.sum((0, 1)).astype(np.float32)
        keep &= area > 0
        masks = _encoded(stack)
    keypoints = record.keypoints
    if keypoints is not None:
        xy = np.asarray(keypoints[..., :2], np.float32) * zoom + (dx, dy)  # (G, P, 2)
        inside = ((xy >= (x1, y1)) & (xy < (x2, y2))).all(-1, keepdims=True)
        keypoints = np.concatenate([xy, keypoints[..., 2:]], -1).astype(np.float32)
        keypoints *= inside & (keypoints[..., 2:] > 0)
    proposals = record.proposals
    if proposals is not None:
        _, proposals = _moved_boxes(proposals, zoom, dx, dy, region)
        proposals = proposals[_has_area(proposals)]
    semantic = record.semantic
    if semantic is not None:
        semantic = _moved_pixels(semantic, zoom, dx, dy, canvas, region, VOID)
    changed = {"boxes": boxes, "area": area, "masks": masks, "keypoints": keypoints}
    changed |= {"proposals": proposals, "semantic": semantic}
    height, width = canvas
    return dataclasses.replace(record, height=height, width=width, **changed).select(keep)


def join_records(records):
    """Join records that share a canvas into one, with the id of the first.

    Args:
        records: list of `Record`, each moved to its own region of the canvas.

    Returns:
        A `Record`. It has masks, keypoints, proposals and a semantic map if all of them have; the
        proposals alternate between images, so that the first of every image stay among the first.
    """
    arrays = {
        name: np.concatenate([getattr(record, name) for record in records])
        for name in ("boxes", "labels", "ignore", "area")
    }

    def joined(name, join):
        values = [getattr(record, name) for record in records]
        return None if any(value is None for value in values) else join(values)

    return dataclasses.replace(
        records[0],
        **arrays,
        masks=joined("masks", lambda masks: tuple(rle for part in masks for rle in part)),
        keypoints=joined("keypoints", np.concatenate),
        proposals=joined("proposals", _in_turn),
        # Outside its region each map is void, the lowest of all classes.
        semantic=joined("semantic", np.maximum.reduce),
    )


def box_areas(boxes):
    """Return the areas (N,) float64 of boxes (N, 4)."""
    boxes = boxes.astype(np.float64)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def plain_image(height, width, colour):
    """Create an image of one colour.

    Args:
        height: pixels.
        width: pixels.
        colour: (C,) numbers 0..255.

    Returns:
        (height, width, C) uint8.
    """
    canvas = np.empty((height, width, len(colour)), np.uint8)
    canvas[0] = colour
    canvas[1:] = canvas[0]
    return canvas


def resample_image(image, source, width, height):
    """Resample a part of an image to another size, bilinearly.

    Args:
        image: (H, W, C) uint8.
        source: x1, y1, x2, y2 of the part, with fractions.
        width: pixels.
        height: pixels.

    Returns:
        (height, width, C) uint8.
    """
    x1, y1, x2, y2 = source
    limit_y, limit_x, channels = image.shape
    # Clipping changes the box only by rounding.
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, limit_x), min(y2, limit_y))

    def resized(pixels):
        image = Image.fromarray(pixels)
        return np.array(image.resize((width, height), Image.Resampling.BILINEAR, box))

    if channels == 3:
        return resized(image)
    # Channel by channel: Pillow would treat a fourth channel as opacity and weight the others by it.
    return np.stack([resized(image[..., channel]) for channel in range(channels)], -1)


def _turned_boxes(boxes, matrix):
    corners = np.asarray(boxes, np.float32).reshape(-1, 2, 2) @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([corners.min(1), corners.max(1)], 1)  # (N, 4)


def _moved_boxes(boxes, zoom, dx, dy, region):
    """Return moved boxes (N, 4) float64 on the canvas, and the same clipped to the region, float32."""
    moved = np.asarray(boxes, np.float64) * (*zoom, *zoom) + (dx, dy, dx, dy)
    x1, y1, x2, y2 = region
    return moved, np.clip(moved, (x1, y1, x1, y1), (x2, y2, x2, y2)).astype(np.float32)


def _has_area(boxes):
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def _in_turn(proposals):
    """Join proposals of several images into one array: the first of each, the second of each, ..."""
    rank = np.concatenate([np.arange(len(boxes)) for boxes in proposals])
    return np.concatenate(proposals)[np.argsort(rank, kind="stable")]


def _decoded(record):
    """Decode masks to (H, W, G) uint8."""
    return coco_mask.decode(list(record.masks))


def _encoded(stack):
    """Encode (H, W, G) uint8 masks as RLEs."""
    return tuple(coco_mask.encode(np.asfortranarray(stack)))


def _moved_pixels(source, zoom, dx, dy, canvas, region, fill):
    """Move maps (H, W, ...) to the canvas; pixels whose centre comes from outside become `fill`."""
    x1, y1, x2, y2 = region
    columns = np.floor((np.arange(x1, x2) + 0.5 - dx) / zoom[0]).astype(int)
    rows = np.floor((np.arange(y1, y2) + 0.5 - dy) / zoom[1]).astype(int)
    height, width = source.shape[:2]
    in_x, in_y = ((at >= 0) & (at < n) for at, n in ((columns, width), (rows, height)))
    out = np.full((*canvas, *source.shape[2:]), fill, source.dtype, order="F")
    to = np.ix_(np.flatnonzero(in_y) + y1, np.flatnonzero(in_x) + x1)
    out[to] = source[np.ix_(rows[in_y], columns[in_x])]
    return out
