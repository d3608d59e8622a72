"""TensorFlow's Object Detection API around its networks, written down in NumPy from its configs and code.

A second writing, which shares nothing with kerasdet: resizing, anchors, box coder, suppression, and both ways
of cropping regions. Boxes are y1, x1, y2, x2 float32. Needs NumPy alone; `make_tf_slim.py` runs it around
networks of tf-slim, and holds it against TensorFlow's kernels where there are such.
"""

import numpy as np

FACTORS = np.float32([10, 10, 5, 5])  # y, x, height, width
F = np.float32


def resize(image, height, width):
    """`tf.image.resize_images` of TensorFlow 1: bilinear, corners at corners, (H, W, 3) to float32."""
    image = image.astype(F)
    for axis, size in enumerate((height, width)):
        length = image.shape[axis]
        at = np.arange(size, dtype=F) * (F(length) / F(size))
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, length - 1)
        share = (at - low.astype(F)).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        first, second = np.take(image, low, axis), np.take(image, high, axis)
        image = first + (second - first) * share
    return image


def keep_aspect(height, width, short=600, long=1024):
    """`keep_aspect_ratio_resizer`: the size of a resized image."""
    sides = np.array([height, width], F)
    size = np.round(sides * (F(short) / sides.min()))
    if size.max() > long:
        size = np.round(sides * (F(long) / sides.max()))
    return tuple(size.astype(int).tolist())


def ssd_anchors(grids):
    """`ssd_anchor_generator` with the sample config's numbers: shares of the image."""
    scales = [0.2 + (0.95 - 0.2) * i / 5 for i in range(6)] + [1.0]
    found = []
    for layer, (rows, columns) in enumerate(grids):
        if layer == 0:
            specs = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        else:
            specs = [(scales[layer], ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
            specs.append((np.sqrt(scales[layer] * scales[layer + 1]), 1.0))
        for row in range(rows):
            for column in range(columns):
                y, x = (row + 0.5) / rows, (column + 0.5) / columns
                for scale, ratio in specs:
                    h, w = scale / np.sqrt(ratio), scale * np.sqrt(ratio)
                    found.append([y - h / 2, x - w / 2, y + h / 2, x + w / 2])
    return np.array(found, F)


def grid_anchors(rows, columns, height, width):
    """`grid_anchor_generator`, stride 16, clipped to the image as in inference: pixels."""
    found = []
    for row in range(rows):
        for column in range(columns):
            for ratio in (0.5, 1.0, 2.0):
                for scale in (0.25, 0.5, 1.0, 2.0):
                    h, w = 256 * scale / np.sqrt(ratio), 256 * scale * np.sqrt(ratio)
                    y, x = 16 * row, 16 * column
                    found.append([y - h / 2, x - w / 2, y + h / 2, x + w / 2])
    return clip(np.array(found, F), height, width)


def clip(boxes, height, width):
    """Clip boxes to a window at the origin."""
    return np.clip(boxes, 0, F([height, width, height, width]))


def decode(codes, anchors):
    """`faster_rcnn_box_coder`."""
    sides = anchors[..., 2:] - anchors[..., :2]
    centres = anchors[..., :2] + sides / 2
    codes = codes / FACTORS
    centres = codes[..., :2] * sides + centres
    half = np.exp(codes[..., 2:]) * sides / 2
    return np.concatenate([centres - half, centres + half], -1)


def suppress(boxes, scores, iou, limit):
    """`tf.image.non_max_suppression`: rows of the boxes that stay."""
    areas, kept = np.prod(boxes[:, 2:] - boxes[:, :2], -1), []
    for row in np.argsort(-scores, kind="stable"):
        if len(kept) == limit:
            break
        sides = np.minimum(boxes[row, 2:], boxes[kept, 2:]) - np.maximum(
            boxes[row, :2], boxes[kept, :2]
        )
        both = np.prod(np.maximum(sides, 0), -1)
        if not np.any(both > iou * (areas[row] + areas[kept] - both)):
            kept.append(row)
    return np.array(kept, int)


def suppress_each(boxes, scores, window, threshold, iou, of_each, total):
    """`multiclass_non_max_suppression`: boxes (N, K or 1, 4), scores (N, K) to boxes, scores, classes."""
    found = []
    for k in range(scores.shape[1]):
        own = clip(boxes[:, min(k, boxes.shape[1] - 1)], *window)
        usable = (scores[:, k] > threshold) & np.all(own[:, 2:] > own[:, :2], axis=-1)
        own, own_scores = own[usable], scores[usable, k]
        rows = suppress(own, own_scores, iou, of_each)
        found += [(own_scores[row], k, own[row]) for row in rows]
    order = np.argsort([-score for score, _, _ in found], kind="stable")[:total]
    best = [found[i] for i in order]
    return (
        np.array([box for _, _, box in best], F).reshape(-1, 4),
        np.array([score for score, _, _ in best], F),
        np.array([k for _, k, _ in best], int),
    )


def softmax(logits):
    """Softmax of the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def crop_and_resize(features, boxes, size):
    """`tf.image.crop_and_resize` of one map (H, W, C), boxes as shares: (N, size, size, C)."""
    last = F(features.shape[0] - 1), F(features.shape[1] - 1)
    crops = np.zeros((len(boxes), size, size, features.shape[-1]), F)
    for n, box in enumerate(boxes.astype(F)):
        places = []
        for axis in (0, 1):
            step = (box[axis + 2] - box[axis]) * last[axis] / F(size - 1)
            places.append(box[axis] * last[axis] + np.arange(size, dtype=F) * step)
        inside = [(at >= 0) & (at <= end) for at, end in zip(places, last)]
        low = [np.clip(np.floor(at), 0, end).astype(int) for at, end in zip(places, last)]
        high = [np.clip(np.ceil(at), 0, end).astype(int) for at, end in zip(places, last)]
        y, x = (at - lower for at, lower in zip(places, low))
        x, y = x[None, :, None].astype(F), y[:, None, None].astype(F)
        top, bottom = (
            features[rows][:, low[1]] + (features[rows][:, high[1]] - features[rows][:, low[1]]) * x
            for rows in (low[0], high[0])
        )
        crops[n] = (top + (bottom - top) * y) * (inside[0][:, None] & inside[1])[..., None]
    return crops


def position_sensitive(features, boxes, size=18, bins=3):
    """`position_sensitive_crop_regions` with global pooling: (H, W, C bins bins) to (N, C)."""
    parts, total = np.split(features, bins * bins, -1), 0
    y1, x1, y2, x2 = boxes.astype(F).T
    tall, wide = (y2 - y1) / F(bins), (x2 - x1) / F(bins)
    for i in range(bins):
        for j in range(bins):
            own = [y1 + i * tall, x1 + j * wide, y1 + (i + 1) * tall, x1 + (j + 1) * wide]
            crops = crop_and_resize(parts[i * bins + j], np.stack(own, -1), size // bins)
            total = total + crops
    return (total / F(bins * bins)).mean((1, 2))
