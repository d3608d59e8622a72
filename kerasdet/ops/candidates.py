"""Candidates of a dense detector: rows of its maps, the best (place, class) pairs, what suppression keeps."""

from keras import ops

from kerasdet.ops.gather import gather_rows, top_rows
from kerasdet.ops.nms import batched_nms, nms_of_each_class


def rows_of_places(x, width):
    """Turn a map's channels into rows: (B, H, W, A width) -> (B, H W A, width)."""
    batch, height, columns, channels = ops.shape(x)
    return ops.reshape(x, (batch, height * columns * (channels // width), width))


def join_levels(tensors, axis):
    """Concatenate the tensors of all levels, {"P3": (..., A3, ...), ...} -> (..., A, ...)."""
    return ops.concatenate(list(tensors.values()), axis=axis)


def best_pairs(scores, limit):
    """Pick the highest (place, class) pairs of each image; a place is an anchor, a point or a cell.

    The place of one of the best pairs is also one of the best places by its highest class. All but `limit`
    places can therefore be dropped before the classes are compared one by one.

    Args:
        scores: (B, A, K): logits, or another measure.
        limit: pairs to keep.

    Returns:
        Rows (B, N) int32, the places; labels (B, N) int32; scores (B, N), descending. N = min(limit, A K).
    """
    batch, _, num_classes = ops.shape(scores)
    _, places = top_rows(ops.max(scores, axis=-1), limit)  # (B, M)
    scores = ops.reshape(gather_rows(scores, places), (batch, -1))  # (B, M K)
    scores, pairs = top_rows(scores, limit)  # (B, N)
    return gather_rows(places, pairs // num_classes), pairs % num_classes, scores


def suppress(boxes, labels, scores, iou_threshold, max_detections, score_threshold):
    """Apply non-maximum suppression per class, and return the remaining candidates as detections.

    Args:
        boxes: (B, N, 4) xyxy.
        labels: (B, N) int32.
        scores: (B, N).
        iou_threshold: a candidate is dropped when its IoU with a better one of its class is greater.
        max_detections: D.
        score_threshold: candidates at or below it are dropped.

    Returns:
        {"boxes" (B, D, 4), "labels" (B, D) int32, "confidence" (B, D), "num_detections" (B,) int32}, by
        descending confidence, padded with -1.
    """
    kept, count = batched_nms(boxes, scores, labels, iou_threshold, max_detections, score_threshold)
    picked = (gather_rows(values, kept) for values in (boxes, ops.cast(labels, "int32"), scores))
    return _detections(kept >= 0, *picked, count)


def suppress_each_class(boxes, scores, limit, iou_threshold, max_detections, score_threshold):
    """Apply non-maximum suppression per class to places that have a score for every class.

    Args:
        boxes: (B, A, 4) xyxy.
        scores: (B, A, K).
        limit: places of each class that take part: those with its highest scores.
        iou_threshold: as in `suppress`.
        max_detections: D.
        score_threshold: as in `suppress`.

    Returns:
        Detections; see `suppress`.
    """
    batch, places, num_classes = ops.shape(scores)
    pairs, count = nms_of_each_class(
        boxes, scores, limit, iou_threshold, max_detections, score_threshold
    )
    flat = ops.reshape(scores, (batch, places * num_classes))
    picked = (
        gather_rows(boxes, pairs // num_classes),
        pairs % num_classes,
        gather_rows(flat, pairs),
    )
    return _detections(pairs >= 0, *picked, count)


def _detections(found, boxes, labels, scores, count):
    return {
        "boxes": ops.where(found[..., None], boxes, -1.0),
        "labels": ops.where(found, labels, -1),
        "confidence": ops.where(found, scores, -1.0),
        "num_detections": ops.cast(count, "int32"),
    }
