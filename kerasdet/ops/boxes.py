"""Boxes: formats, areas, overlaps, clipping, and the only interpretation of the padding value -1.

Boxes without a suffix are xyxy (x1, y1, x2, y2) in absolute float32 coordinates; pixel (0, 0) spans
[0, 1). An inverted box (x2 < x1 or y2 < y1) has area 0. A ratio with denominator 0 is 0.
"""

import math

from keras import ops


def valid_mask(labels):
    """Tell real objects from padding.

    Args:
        labels: (...), class indices; padding is negative.

    Returns:
        (...) bool, True for real objects.
    """
    return ops.greater_equal(labels, 0)


def box_area(boxes):
    """Return the area of each box.

    Args:
        boxes: (..., 4) xyxy.

    Returns:
        (...) float32.
    """
    x1, y1, x2, y2 = _corners(boxes)
    return ops.maximum(x2 - x1, 0.0) * ops.maximum(y2 - y1, 0.0)


def paired_iou(boxes1, boxes2):
    """Return the intersection over union of each box with its partner.

    Args:
        boxes1: (..., 4) xyxy.
        boxes2: (..., 4) xyxy, broadcastable with `boxes1`.

    Returns:
        (...) float32 in [0, 1].
    """
    return _iou(_corners(boxes1), _corners(boxes2))[0]


def paired_giou(boxes1, boxes2):
    """Return the generalised IoU of each box with its partner (arXiv 1902.09630, algorithm 1).

    Args:
        boxes1: (..., 4) xyxy.
        boxes2: (..., 4) xyxy, broadcastable with `boxes1`.

    Returns:
        (...) float32 in [-1, 1].
    """
    return _giou(_corners(boxes1), _corners(boxes2))


def paired_diou(boxes1, boxes2):
    """Return the distance IoU of each box with its partner (arXiv 1911.08287).

    Args:
        boxes1: (..., 4) xyxy.
        boxes2: (..., 4) xyxy, broadcastable with `boxes1`.

    Returns:
        (...) float32 in [-1, 1].
    """
    return _diou(_corners(boxes1), _corners(boxes2))[0]


def paired_ciou(boxes1, boxes2):
    """Return the complete IoU of each box with its partner (arXiv 1911.08287).

    Args:
        boxes1: (..., 4) xyxy, the reference.
        boxes2: (..., 4) xyxy, broadcastable with `boxes1`.

    Returns:
        (...) float32, at most 1.
    """
    return _ciou(_corners(boxes1), _corners(boxes2))


def box_iou(boxes1, boxes2):
    """Return the intersection over union of every pair of boxes.

    Args:
        boxes1: (..., N, 4) xyxy.
        boxes2: (..., M, 4) xyxy.

    Returns:
        (..., N, M) float32 in [0, 1].
    """
    return _iou(_rows(boxes1), _columns(boxes2))[0]


def box_giou(boxes1, boxes2):
    """Return the generalised IoU of every pair of boxes (arXiv 1902.09630, algorithm 1).

    Args:
        boxes1: (..., N, 4) xyxy.
        boxes2: (..., M, 4) xyxy.

    Returns:
        (..., N, M) float32 in [-1, 1].
    """
    return _giou(_rows(boxes1), _columns(boxes2))


def box_diou(boxes1, boxes2):
    """Return the distance IoU of every pair of boxes (arXiv 1911.08287).

    Args:
        boxes1: (..., N, 4) xyxy.
        boxes2: (..., M, 4) xyxy.

    Returns:
        (..., N, M) float32 in [-1, 1].
    """
    return _diou(_rows(boxes1), _columns(boxes2))[0]


def box_ciou(boxes1, boxes2):
    """Return the complete IoU of every pair of boxes (arXiv 1911.08287).

    Args:
        boxes1: (..., N, 4) xyxy, the reference.
        boxes2: (..., M, 4) xyxy.

    Returns:
        (..., N, M) float32, at most 1.
    """
    return _ciou(_rows(boxes1), _columns(boxes2))


def sides_reach(boxes, least):
    """Tell whether both sides of each box are long enough.

    Args:
        boxes: (..., 4) xyxy.
        least: smallest allowed side in pixels.

    Returns:
        (...) bool.
    """
    return ops.all(boxes[..., 2:] - boxes[..., :2] >= least, axis=-1)


def intersection_over_area(boxes, regions):
    """Return the share of each box's area inside each region, as the test against crowd regions needs it.

    Args:
        boxes: (..., N, 4) xyxy.
        regions: (..., M, 4) xyxy.

    Returns:
        (..., N, M) float32 in [0, 1].
    """
    boxes, regions = _rows(boxes), _columns(regions)
    return _divide(_intersection(boxes, regions), _area(boxes))


def clip_boxes(boxes, image_sizes):
    """Clip boxes to their images.

    Args:
        boxes: (..., N, 4) xyxy.
        image_sizes: (..., 2), height and width in the same unit as the boxes.

    Returns:
        (..., N, 4) float32 with 0 <= x <= width and 0 <= y <= height.
    """
    heights, widths = ops.unstack(ops.cast(image_sizes, "float32"), 2, axis=-1)
    limits = ops.expand_dims(ops.stack([widths, heights, widths, heights], axis=-1), -2)
    return ops.minimum(ops.maximum(ops.cast(boxes, "float32"), 0.0), limits)


def clip_pixels(boxes, image_sizes):
    """Clip boxes that are given by their first and last pixel, as in Faster R-CNN's code, to their images.

    Args:
        boxes: (..., N, 4): x and y of the first pixel, x and y of the last one.
        image_sizes: (..., 2), height and width in pixels.

    Returns:
        (..., N, 4) xyxy float32, as everywhere else: the last pixel, at most width - 1 and height - 1, ends
        one further.
    """
    clipped = clip_boxes(boxes, ops.cast(image_sizes, "float32") - 1.0)
    return clipped + ops.array([0.0, 0.0, 1.0, 1.0])


def xyxy_to_xywh(boxes):
    """Convert (..., 4) corners to (..., 4) left, top, width, height (COCO's format)."""
    x1, y1, x2, y2 = _corners(boxes)
    return ops.stack([x1, y1, x2 - x1, y2 - y1], axis=-1)


def xywh_to_xyxy(boxes_xywh):
    """Convert (..., 4) left, top, width, height (COCO's format) to (..., 4) corners."""
    x, y, width, height = _corners(boxes_xywh)
    return ops.stack([x, y, x + width, y + height], axis=-1)


def xyxy_to_cxcywh(boxes):
    """Convert (..., 4) corners to (..., 4) centre x, centre y, width, height."""
    x1, y1, x2, y2 = _corners(boxes)
    return ops.stack([(x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1], axis=-1)


def cxcywh_to_xyxy(boxes_cxcywh):
    """Convert (..., 4) centre x, centre y, width, height to (..., 4) corners."""
    cx, cy, width, height = _corners(boxes_cxcywh)
    half_width, half_height = width / 2.0, height / 2.0
    return ops.stack([cx - half_width, cy - half_height, cx + half_width, cy + half_height], -1)


# Below, a box is a tuple of its four coordinates: every operation then runs along a long,
# contiguous last axis instead of an axis of length four.


def _corners(boxes):
    return tuple(ops.unstack(ops.cast(boxes, "float32"), 4, axis=-1))


def _rows(boxes):
    return tuple(ops.expand_dims(corner, -1) for corner in _corners(boxes))


def _columns(boxes):
    return tuple(ops.expand_dims(corner, -2) for corner in _corners(boxes))


def _divide(numerator, denominator):
    """Divide; return 0, with gradient 0, where the denominator is not positive."""
    positive = denominator > 0.0
    return ops.where(positive, numerator / ops.where(positive, denominator, 1.0), 0.0)


def _area(box):
    return ops.maximum(box[2] - box[0], 0.0) * ops.maximum(box[3] - box[1], 0.0)


def _intersection(box1, box2):
    width = ops.minimum(box1[2], box2[2]) - ops.maximum(box1[0], box2[0])
    height = ops.minimum(box1[3], box2[3]) - ops.maximum(box1[1], box2[1])
    return ops.maximum(width, 0.0) * ops.maximum(height, 0.0)


def _hull_size(box1, box2):
    width = ops.maximum(box1[2], box2[2]) - ops.minimum(box1[0], box2[0])
    height = ops.maximum(box1[3], box2[3]) - ops.minimum(box1[1], box2[1])
    return ops.maximum(width, 0.0), ops.maximum(height, 0.0)


def _iou(box1, box2):
    intersection = _intersection(box1, box2)
    union = _area(box1) + _area(box2) - intersection
    # Eq: giou §3 | IoU = |A ∩ B| / |A ∪ B|
    return _divide(intersection, union), union


def _giou(box1, box2):
    iou, union = _iou(box1, box2)
    width, height = _hull_size(box1, box2)
    hull = width * height
    # Eq: giou §3 | GIoU = IoU - |C \ (A ∪ B)| / |C|
    return iou - _divide(hull - union, hull)


def _diou(box1, box2):
    iou, _ = _iou(box1, box2)
    width, height = _hull_size(box1, box2)
    dx = (box1[0] + box1[2] - box2[0] - box2[2]) / 2.0
    dy = (box1[1] + box1[3] - box2[1] - box2[3]) / 2.0
    # Eq: diou §The Proposed Method | DIoU = IoU - rho^2(b, b_gt) / c^2
    return iou - _divide(dx * dx + dy * dy, width * width + height * height), iou


def _ciou(box1, box2):
    diou, iou = _diou(box1, box2)
    angle1, angle2 = _aspect_angle(box1), _aspect_angle(box2)
    # Eq: diou §The Proposed Method | v = 4 / pi^2 (arctan(w_gt / h_gt) - arctan(w / h))^2
    v = (4.0 / math.pi**2) * ops.square(angle1 - angle2)
    # Eq: diou §The Proposed Method | alpha = v / ((1 - IoU) + v)
    alpha = ops.stop_gradient(_divide(v, 1.0 - iou + v))
    # Eq: diou §The Proposed Method | CIoU = DIoU - alpha v
    return diou - alpha * v


def _aspect_angle(box):
    width, height = ops.maximum(box[2] - box[0], 0.0), ops.maximum(box[3] - box[1], 0.0)
    return ops.arctan(_divide(width, height))
