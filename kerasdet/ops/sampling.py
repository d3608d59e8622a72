"""Sampling: which examples take part in the loss."""

from keras import ops

from kerasdet.ops.nms import nms

# With quotas, so many times `batch_size` survivors of the suppression are looked at: going through
# all of a pyramid's 100 000 anchors would cost more than the network.
POOL = 4


def ohem(losses, boxes, positives, batch_size, iou_threshold, negatives_per_positive=None):
    """Online hard example mining (arXiv 1604.03540; RetinaNet, section 5.1).

    Every example is scored by its loss, non-maximum suppression drops the neighbours of harder
    examples, and the hardest `batch_size` of those that are left take part. With
    `negatives_per_positive` r, at most batch_size / (1 + r) of them are positive, and for each
    positive at most r are negative (an image without positives counts as if it had one). The quotas
    are filled from the 4 `batch_size` hardest survivors.

    Args:
        losses: (B, A), not differentiated; 0 where an example takes no part.
        boxes: (B, A, 4) or (A, 4) xyxy.
        positives: (B, A) bool.
        batch_size: examples per image.
        iou_threshold: IoU over which an example is dropped beside a harder one (paper: 0.5, 0.7).
        negatives_per_positive: None, or 3 for the paper's 1:3 ratio.

    Returns:
        (B, A) bool.
    """
    losses = ops.stop_gradient(ops.cast(losses, "float32"))
    boxes = ops.cast(boxes, "float32") + ops.zeros_like(losses)[..., None]
    size = batch_size if negatives_per_positive is None else POOL * batch_size
    # Eq: retinanet §5.1 | score by loss, apply NMS, keep the highest-loss examples
    hardest, _ = nms(boxes, losses, iou_threshold, size, score_threshold=0.0)
    chosen = hardest >= 0
    if negatives_per_positive is not None:
        is_positive = ops.take_along_axis(positives, ops.maximum(hardest, 0), axis=1)
        chosen = _fill_quotas(chosen, is_positive, batch_size, negatives_per_positive)
    return _mark(hardest, chosen, ops.shape(losses)[1])


def _fill_quotas(chosen, is_positive, batch_size, negatives_per_positive):
    """Keep the first of each kind, up to its quota: (B, S) bool, hardest first -> (B, S) bool."""
    positive = ops.logical_and(chosen, is_positive)
    negative = ops.logical_and(chosen, ops.logical_not(is_positive))
    positive_rank, negative_rank = (
        ops.cumsum(ops.cast(kind, "int32"), axis=-1) for kind in (positive, negative)
    )
    quota = batch_size // (1 + negatives_per_positive)
    positive = ops.logical_and(positive, positive_rank <= quota)
    count = ops.sum(ops.cast(positive, "int32"), axis=-1, keepdims=True)
    allowed = negatives_per_positive * ops.maximum(count, 1)
    return ops.logical_or(positive, ops.logical_and(negative, negative_rank <= allowed))


def _mark(indices, chosen, count):
    """(B, S) distinct indices where `chosen` -> (B, count) bool."""
    batch = ops.shape(indices)[0]
    rows = ops.arange(batch, dtype="int32")[:, None] * (count + 1)
    places = ops.where(chosen, indices, count) + rows  # the last place of a row takes the rest
    ones = ops.ones_like(places)
    hits = ops.scatter(
        ops.reshape(places, (-1, 1)), ops.reshape(ones, (-1,)), (batch * (count + 1),)
    )
    return ops.reshape(hits, (batch, count + 1))[:, :-1] > 0
