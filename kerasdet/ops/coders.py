"""Box encodings: the R-CNN family's deltas between a box and its anchor, and those of other detectors.

These are YOLOv2's direct locations, and of table 1 of Speed/accuracy trade-offs (arXiv 1611.10012v3)
MultiBox's corners and YOLO's square roots.
"""

import math

from keras import ops

from kerasdet.ops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh

# A prediction can enlarge its anchor at most 62.5 times (from 16 to 1000 pixels). Without this limit,
# exp() of an untrained head's output overflows.
MAX_LOG_SCALE = math.log(1000.0 / 16.0)
# Shorter sides count as this many pixels, so that padding has finite deltas.
MIN_SIDE = 1e-6


def encode_deltas(boxes, anchors, weights=(1.0, 1.0, 1.0, 1.0)):
    """Express boxes relative to their anchors (Faster R-CNN, arXiv 1506.01497, equation 2).

    Args:
        boxes: (..., 4) xyxy; sides shorter than 1e-6 count as 1e-6.
        anchors: (..., 4) xyxy, broadcastable with `boxes`.
        weights: four factors that multiply dx, dy, dw and dh.

    Returns:
        (..., 4) float32: dx, dy, dw, dh.
    """
    x, y, w, h = ops.unstack(xyxy_to_cxcywh(boxes), 4, axis=-1)
    x_a, y_a, w_a, h_a = ops.unstack(xyxy_to_cxcywh(anchors), 4, axis=-1)
    w, h, w_a, h_a = (ops.maximum(side, MIN_SIDE) for side in (w, h, w_a, h_a))
    wx, wy, ww, wh = weights
    # Eq: faster_rcnn 2 | t_x = (x - x_a) / w_a, t_y = (y - y_a) / h_a
    dx, dy = wx * ((x - x_a) / w_a), wy * ((y - y_a) / h_a)
    # Eq: faster_rcnn 2 | t_w = log(w / w_a), t_h = log(h / h_a)
    dw, dh = ww * ops.log(w / w_a), wh * ops.log(h / h_a)
    return ops.stack([dx, dy, dw, dh], axis=-1)


def decode_deltas(deltas, anchors, weights=(1.0, 1.0, 1.0, 1.0)):
    """Apply deltas to anchors, as the inverse of `encode_deltas`.

    Args:
        deltas: (..., 4): dx, dy, dw, dh.
        anchors: (..., 4) xyxy, broadcastable with `deltas`.
        weights: the four factors given to `encode_deltas`.

    Returns:
        (..., 4) xyxy float32; dw and dh are limited to log(1000 / 16).
    """
    dx, dy, dw, dh = ops.unstack(ops.cast(deltas, "float32"), 4, axis=-1)
    x_a, y_a, w_a, h_a = ops.unstack(xyxy_to_cxcywh(anchors), 4, axis=-1)
    wx, wy, ww, wh = weights
    dw, dh = ops.minimum(dw / ww, MAX_LOG_SCALE), ops.minimum(dh / wh, MAX_LOG_SCALE)
    # Eq: faster_rcnn §3.1.2 | x = t_x w_a + x_a, y = t_y h_a + y_a
    x, y = dx / wx * w_a + x_a, dy / wy * h_a + y_a
    # Eq: faster_rcnn §3.1.2 | w = w_a exp(t_w), h = h_a exp(t_h)
    w, h = w_a * ops.exp(dw), h_a * ops.exp(dh)
    return cxcywh_to_xyxy(ops.stack([x, y, w, h], axis=-1))


def encode_locations(boxes, anchors, stride):
    """Express boxes relative to the cells and sizes of their anchors (YOLOv2, arXiv 1612.08242, section 2).

    Args:
        boxes: (..., 4) xyxy; sides shorter than 1e-6 count as 1e-6.
        anchors: (..., 4) xyxy, in the middle of their cells, broadcastable with `boxes`.
        stride: pixels per cell.

    Returns:
        (..., 4) float32: the centre from the cell's corner, in cells, which is sigma(t_x) and sigma(t_y);
        t_w and t_h.
    """
    x, y, w, h = ops.unstack(xyxy_to_cxcywh(boxes), 4, axis=-1)
    x_a, y_a, p_w, p_h = ops.unstack(xyxy_to_cxcywh(anchors), 4, axis=-1)
    w, h = ops.maximum(w, MIN_SIDE), ops.maximum(h, MIN_SIDE)
    return ops.stack(
        [(x - x_a) / stride + 0.5, (y - y_a) / stride + 0.5, ops.log(w / p_w), ops.log(h / p_h)],
        axis=-1,
    )


def decode_locations(locations, anchors, stride):
    """Predict boxes whose centres lie in the cells of their anchors, as the inverse of `encode_locations`.

    Args:
        locations: (..., 4): t_x, t_y, t_w, t_h.
        anchors: (..., 4) xyxy, in the middle of their cells, broadcastable with `locations`.
        stride: pixels per cell.

    Returns:
        (..., 4) xyxy float32; t_w and t_h are limited to log(1000 / 16).
    """
    t_x, t_y, t_w, t_h = ops.unstack(ops.cast(locations, "float32"), 4, axis=-1)
    x_a, y_a, p_w, p_h = ops.unstack(xyxy_to_cxcywh(anchors), 4, axis=-1)
    c_x, c_y = x_a - stride / 2, y_a - stride / 2  # the cell's corner
    # Eq: yolo_v2 §2 | b_x = sigma(t_x) + c_x, b_y = sigma(t_y) + c_y
    b_x, b_y = ops.sigmoid(t_x) * stride + c_x, ops.sigmoid(t_y) * stride + c_y
    # Eq: yolo_v2 §2 | b_w = p_w exp(t_w), b_h = p_h exp(t_h)
    b_w = p_w * ops.exp(ops.minimum(t_w, MAX_LOG_SCALE))
    b_h = p_h * ops.exp(ops.minimum(t_h, MAX_LOG_SCALE))
    return cxcywh_to_xyxy(ops.stack([b_x, b_y, b_w, b_h], axis=-1))


def encode_corners(boxes, anchors, unit=1.0):
    """Express the corners of boxes by their distance from their anchors' (arXiv 1611.10012, table 1).

    Args:
        boxes: (..., 4) xyxy.
        anchors: (..., 4) xyxy, broadcastable with `boxes`.
        unit: pixels that count as 1.

    Returns:
        (..., 4) float32: of x0, y0, x1 and y1.
    """
    # Eq: tradeoffs §3.2 | phi(b; a) = [x_0, y_0, x_1, y_1]
    return (ops.cast(boxes, "float32") - ops.cast(anchors, "float32")) / unit


def decode_corners(corners, anchors, unit=1.0):
    """Move the corners of anchors, as the inverse of `encode_corners`.

    Args:
        corners: (..., 4), distances of x0, y0, x1 and y1.
        anchors: (..., 4) xyxy, broadcastable with `corners`.
        unit: pixels that count as 1.

    Returns:
        (..., 4) xyxy float32. Where the second corner would lie before the first, the side is 0.
    """
    x0, y0, x1, y1 = ops.unstack(
        ops.cast(corners, "float32") * unit + ops.cast(anchors, "float32"), 4, axis=-1
    )
    return ops.stack([x0, y0, ops.maximum(x0, x1), ops.maximum(y0, y1)], axis=-1)


def encode_roots(boxes, anchors, unit=1.0):
    """Express boxes by their centre and the square roots of their sides (arXiv 1611.10012, table 1).

    Args:
        boxes: (..., 4) xyxy; sides shorter than 1e-6 count as 1e-6.
        anchors: (..., 4) xyxy, broadcastable with `boxes`.
        unit: pixels that count as 1.

    Returns:
        (..., 4) float32: of x, y and the roots of w and h, what they exceed the anchor's by.
    """
    x, y, w, h = _in_units(boxes, unit)
    x_a, y_a, w_a, h_a = _in_units(anchors, unit)
    # Eq: tradeoffs §3.2 | phi(b; a) = [x_c, y_c, sqrt w, sqrt h]
    roots = [ops.sqrt(side) - ops.sqrt(side_a) for side, side_a in ((w, w_a), (h, h_a))]
    return ops.stack([x - x_a, y - y_a, *roots], axis=-1)


def decode_roots(roots, anchors, unit=1.0):
    """Move anchors by centre and square roots, as the inverse of `encode_roots`.

    Args:
        roots: (..., 4), of x, y and the roots of w and h.
        anchors: (..., 4) xyxy, broadcastable with `roots`.
        unit: pixels that count as 1.

    Returns:
        (..., 4) xyxy float32; a negative root gives a side of 0.
    """
    x, y, w, h = ops.unstack(ops.cast(roots, "float32"), 4, axis=-1)
    x_a, y_a, w_a, h_a = _in_units(anchors, unit)
    w, h = (ops.maximum(t + ops.sqrt(side), 0.0) ** 2 for t, side in ((w, w_a), (h, h_a)))
    return cxcywh_to_xyxy(unit * ops.stack([x + x_a, y + y_a, w, h], axis=-1))


def _in_units(boxes, unit):
    """Centre and sides of boxes (..., 4) xyxy: four tensors (...), of which the sides are not 0."""
    x, y, w, h = ops.unstack(xyxy_to_cxcywh(boxes), 4, axis=-1)
    sides = (ops.maximum(side, MIN_SIDE) for side in (w, h))
    return [value / unit for value in (x, y, *sides)]
