"""Non-maximum suppression with a fixed output size: greedy, per class, and soft.

The result is deterministic: equal scores are taken in the order of their indices. Boxes without area are
allowed and overlap nothing. Boxes or scores that are not finite are never chosen.
"""

from keras import ops

from kerasdet.ops import native
from kerasdet.ops.boxes import box_iou
from kerasdet.ops.gather import gather_rows, top_rows

NEVER = -float("inf")
LARGEST = 3.4028235e38  # of float32
LAST = 2**31 - 1  # of int32


def nms(boxes, scores, iou_threshold, max_output_size, score_threshold=None):
    """Keep the best boxes, and drop those that overlap a better one.

    Args:
        boxes: (N, 4) or (B, N, 4) xyxy.
        scores: (N,) or (B, N).
        iou_threshold: a box is dropped when its IoU with a kept one is greater than this.
        max_output_size: D, the size of the result.
        score_threshold: keep only scores greater than this; None: all finite ones.

    Returns:
        Indices (D,) or (B, D) int32, by descending score, padded with -1, and their count () or (B,)
        int32.
    """
    return _greedy(boxes, scores, None, iou_threshold, max_output_size, score_threshold)


def batched_nms(boxes, scores, labels, iou_threshold, max_output_size, score_threshold=None):
    """Keep the best boxes, and drop those that overlap a better one of the same label.

    Args:
        boxes: (N, 4) or (B, N, 4) xyxy.
        scores: (N,) or (B, N).
        labels: (N,) or (B, N) integers.
        iou_threshold: a box is dropped when its IoU with a kept one is greater than this.
        max_output_size: D, the size of the result, for all labels together.
        score_threshold: keep only scores greater than this; None: all finite ones.

    Returns:
        Indices (D,) or (B, D) int32, by descending score, padded with -1, and their count () or (B,)
        int32.
    """
    return _greedy(boxes, scores, labels, iou_threshold, max_output_size, score_threshold)


def nms_of_each_class(boxes, scores, limit, iou_threshold, max_output_size, score_threshold=None):
    """Keep the best boxes of places that all have a score for each class, class by class.

    Args:
        boxes: (B, A, 4) xyxy.
        scores: (B, A, K).
        limit: places of each class that take part: those with its highest scores.
        iou_threshold: a box is dropped when its IoU with a kept one of its class is greater than this.
        max_output_size: D, the size of the result, for all classes together.
        score_threshold: keep only scores greater than this; None: all finite ones.

    Returns:
        Pairs (B, D) int32: place K + class, by descending score, padded with -1; their count (B,) int32.
    """
    boxes, scores = (ops.stop_gradient(ops.cast(x, "float32")) for x in (boxes, scores))
    boxes, scores = _usable(boxes, scores, score_threshold)
    if native.available():
        return native.suppress_each_class(boxes, scores, limit, iou_threshold, max_output_size)
    rows, labels, best = best_of_each_class(scores, limit)
    kept, counts = batched_nms(
        gather_rows(boxes, rows), best, labels, iou_threshold, max_output_size
    )
    pairs = gather_rows(rows * ops.shape(scores)[2] + labels, kept)
    return ops.where(kept >= 0, pairs, -1), counts


def best_of_each_class(scores, limit):
    """Pick the highest places of every class of each image.

    Args:
        scores: (B, A, K).
        limit: places to keep of each class.

    Returns:
        Rows (B, K N) int32, the places; labels (B, K N) int32; scores (B, K N): class by class, descending.
        N = min(limit, A).
    """
    batch, count, num_classes = ops.shape(scores)
    columns = ops.reshape(ops.transpose(scores, (0, 2, 1)), (batch * num_classes, count))
    best, rows = top_rows(columns, limit)  # (B K, N)
    labels = ops.zeros_like(rows) + ops.arange(batch * num_classes, dtype="int32")[:, None]
    rows, labels, best = (ops.reshape(x, (batch, -1)) for x in (rows, labels % num_classes, best))
    return rows, labels, best


def soft_nms(boxes, scores, max_output_size, sigma=0.5, iou_threshold=None, score_threshold=0.001):
    """Lower the scores of boxes that overlap a better one, instead of dropping the boxes.

    Soft-NMS (arXiv 1704.04503, section 3), with the Gaussian or the linear penalty.

    Args:
        boxes: (N, 4) or (B, N, 4) xyxy.
        scores: (N,) or (B, N), not negative.
        max_output_size: D, the size of the result.
        sigma: width of the Gaussian penalty.
        iou_threshold: if given, the linear penalty from this IoU on replaces the Gaussian.
        score_threshold: boxes whose lowered score is not greater than this are dropped.

    Returns:
        Indices (D,) or (B, D) int32, by descending lowered score, padded with -1; the lowered scores
        float32, padded with -1; and their count () or (B,) int32.
    """
    single = len(boxes.shape) == 2
    boxes, scores, _ = _prepare(boxes, scores, None, score_threshold)

    def penalise(best_boxes, best_index, remaining):
        iou = box_iou(best_boxes[:, None, :], boxes)[:, 0]  # (B, N)
        if iou_threshold is None:
            # Eq: soft_nms §3 | s_i = s_i exp(-iou(M, b_i)^2 / sigma)
            lowered = remaining * ops.exp(iou * iou * (-1.0 / sigma))
        else:
            # Eq: soft_nms §3 | s_i = s_i (1 - iou(M, b_i)) if iou(M, b_i) >= N_t
            lowered = ops.where(iou >= iou_threshold, remaining * (1.0 - iou), remaining)
        return ops.where(lowered > score_threshold, lowered, NEVER)

    indices, kept_scores, counts = _select(boxes, scores, max_output_size, penalise)
    return (indices[0], kept_scores[0], counts[0]) if single else (indices, kept_scores, counts)


def _greedy(boxes, scores, labels, iou_threshold, max_output_size, score_threshold):
    single = len(boxes.shape) == 2
    boxes, scores, labels = _prepare(boxes, scores, labels, score_threshold)
    if native.available():
        indices, counts = native.suppress(boxes, scores, labels, iou_threshold, max_output_size)
        return (indices[0], counts[0]) if single else (indices, counts)

    def suppress(best_boxes, best_index, remaining):
        overlaps = box_iou(best_boxes[:, None, :], boxes)[:, 0] > iou_threshold  # (B, N)
        if labels is not None:
            # Comparing labels is exact; moving each class to a place of its own costs mantissa bits.
            overlaps = ops.logical_and(overlaps, labels == _pick(labels, best_index)[:, None])
        return ops.where(overlaps, NEVER, remaining)

    indices, _, counts = _select(boxes, scores, max_output_size, suppress)
    return (indices[0], counts[0]) if single else (indices, counts)


def _prepare(boxes, scores, labels, score_threshold):
    """Return batched float32 inputs; boxes that must not be chosen have the score -inf."""
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    scores = ops.stop_gradient(ops.cast(scores, "float32"))
    labels = None if labels is None else ops.cast(labels, "int32")
    if len(boxes.shape) == 2:
        boxes, scores = boxes[None], scores[None]
        labels = None if labels is None else labels[None]
    # One more box, without a valid score, so that an empty set needs no special case.
    boxes = ops.pad(boxes, [(0, 0), (0, 1), (0, 0)])
    scores = ops.pad(scores, [(0, 0), (0, 1)], constant_values=NEVER)
    labels = None if labels is None else ops.pad(labels, [(0, 0), (0, 1)])
    return *_usable(boxes, scores, score_threshold), labels


def _usable(boxes, scores, score_threshold):
    """Return boxes, none inverted, and scores (B, N) or (B, N, K), -inf for what must not be chosen."""
    # NaN fails every comparison. (LiteRT has no isfinite, and its maximum can lose NaN: test first.)
    finite = ops.all(ops.abs(boxes) <= LARGEST, axis=-1)  # (B, N)
    finite = finite[..., None] if len(scores.shape) == 3 else finite
    corner = boxes[..., :2]  # an inverted box becomes a box without area
    boxes = ops.concatenate([corner, ops.maximum(boxes[..., 2:], corner)], axis=-1)
    valid = ops.logical_and(ops.abs(scores) <= LARGEST, finite)
    if score_threshold is not None:
        valid = ops.logical_and(valid, scores > score_threshold)
    return boxes, ops.where(valid, scores, NEVER)


def _select(boxes, scores, max_output_size, update):
    """Take the best box `max_output_size` times; `update` lowers the scores of the remaining boxes."""
    slots = ops.arange(max_output_size, dtype="int32")
    places = ops.arange(ops.shape(scores)[1], dtype="int32")

    def unfinished(step, remaining, *_):
        return ops.logical_and(step < max_output_size, ops.any(remaining > NEVER))

    def take_best(step, remaining, indices, kept_scores):
        best_score = ops.max(remaining, axis=-1)  # (B,)
        # The lowest index with that score (Keras' argmax uses a bit operation unknown to LiteRT).
        is_best = remaining == best_score[:, None]  # (B, N)
        best_index = ops.min(ops.where(is_best, places, LAST), axis=-1)  # (B,)
        found = best_score > NEVER
        here = ops.logical_and(slots == step, found[:, None])  # (B, D)
        indices = ops.where(here, best_index[:, None], indices)
        kept_scores = ops.where(here, best_score[:, None], kept_scores)
        remaining = update(_pick(boxes, best_index), best_index, remaining)  # (B, N)
        remaining = ops.where(places == best_index[:, None], NEVER, remaining)
        return step + 1, remaining, indices, kept_scores

    blank = ops.zeros_like(scores[:, :1], dtype="int32") * slots - 1  # (B, D)
    start = (ops.zeros((), "int32"), scores, blank, ops.cast(blank, "float32"))
    _, _, indices, kept_scores = ops.while_loop(unfinished, take_best, start)
    return indices, kept_scores, ops.sum(ops.cast(indices >= 0, "int32"), axis=-1)


def _pick(values, index):
    """Take values[b, index[b]] for each b: (B, N, ...), (B,) -> (B, ...)."""
    shape = ops.shape(values)
    flat = ops.reshape(values, (-1, *values.shape[2:]))
    return ops.take(flat, ops.arange(shape[0], dtype="int32") * shape[1] + index, axis=0)
