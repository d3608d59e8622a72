"""Sampling: which examples take part in the loss, and the random numbers that decide it."""

from keras import ops

from kerasdet.ops.gather import top_rows
from kerasdet.ops.nms import nms

# With quotas, suppression keeps this many times `batch_size` examples: going through all
# 100 000 anchors of a feature pyramid would cost more than the network.
POOL = 4


def ohem(losses, boxes, positives, batch_size, iou_threshold, negatives_per_positive=None):
    """Mine hard examples online (arXiv 1604.03540; RetinaNet, section 5.1).

    Every example is scored by its loss. Non-maximum suppression drops the neighbours of harder
    examples, and the hardest `batch_size` of the remaining examples take part. With
    `negatives_per_positive` r, at most batch_size / (1 + r) of them are positive, and at most r are
    negative for each positive (an image without positives counts as having one). The quotas are
    filled from the 4 `batch_size` hardest remaining examples.

    Args:
        losses: (B, A), not differentiated; 0 for examples that take no part.
        boxes: (B, A, 4) or (A, 4) xyxy.
        positives: (B, A) bool.
        batch_size: examples per image.
        iou_threshold: an example is dropped if its IoU with a harder one is greater (paper: 0.5, 0.7).
        negatives_per_positive: None, or 3 for the paper's 1:3 ratio.

    Returns:
        (B, A) bool.
    """
    losses = ops.stop_gradient(ops.cast(losses, "float32"))
    boxes = ops.cast(boxes, "float32") + ops.zeros_like(losses)[..., None]  # (B, A, 4)
    size = batch_size if negatives_per_positive is None else POOL * batch_size
    # Eq: retinanet §5.1 | score by loss, apply NMS, keep the highest-loss examples
    hardest, _ = nms(boxes, losses, iou_threshold, size, score_threshold=0.0)  # (B, S)
    chosen = hardest >= 0
    if negatives_per_positive is not None:
        is_positive = ops.take_along_axis(positives, ops.maximum(hardest, 0), axis=1)  # (B, S)
        chosen = _fill_quotas(chosen, is_positive, batch_size, negatives_per_positive)
    return _mark(hardest, chosen, ops.shape(losses)[1])


def hard_negatives(losses, negative, positive, ratio=3):
    """Choose the negatives of highest loss, some for each positive (SSD, arXiv 1512.02325v5, section 2.2).

    Args:
        losses: (B, A), not differentiated.
        negative: (B, A) bool.
        positive: (B, A) bool; an image without positives counts as having one.
        ratio: negatives for each positive of the image.

    Returns:
        (B, A) bool.
    """
    losses = ops.stop_gradient(ops.cast(losses, "float32"))
    hardness = ops.where(negative, losses, -float("inf"))
    # The place of each example in the order of hardness: the inverse of the sorting permutation.
    rank = ops.argsort(ops.argsort(-hardness, axis=-1), axis=-1)
    count = ops.sum(ops.cast(positive, "int32"), axis=-1, keepdims=True)  # (B, 1)
    # Eq: ssd §2.2 | negatives : positives <= 3 : 1, by descending confidence loss
    most = ratio * ops.maximum(count, 1)
    return negative & (ops.cast(rank, "int32") < most)


def sample_quota(positive, negative, keys, size, positive_fraction):
    """Sample positives up to a fraction, and fill the rest with negatives (Fast R-CNN, section 2.3).

    Args:
        positive: (B, A) bool.
        negative: (B, A) bool.
        keys: (B, A) in [0, 1), a random order; the highest keys are taken.
        size: S, examples per image.
        positive_fraction: the largest share of `size` that may be positive.

    Returns:
        Indices (B, min(S, A)) int32, positives first, and whether each is an example, bool of the
        same shape, because there may be fewer examples.
    """
    most = max(1, int(size * positive_fraction))
    best, indices = top_rows(ops.where(positive, keys, -1.0), most)  # (B, most)
    chosen = _mark(indices, best >= 0.0, ops.shape(keys)[1])  # (B, A)
    rank = ops.where(chosen, 2.0 + keys, ops.where(negative, keys, -1.0))  # (B, A)
    rank, indices = top_rows(rank, size)
    return indices, rank >= 0.0


def minibatch_cost(images, regions=128, image_size=(600, 1000), crop=224):
    """Return how much a backbone computes for a mini-batch, beside R-CNN's for the same regions.

    R-CNN sees every region as a crop of its own, Fast R-CNN sees whole images. Region-wise sampling takes R
    regions of R images: 12 times as much. Hierarchical sampling takes all from N = 2 images: 0.19. The
    figures are of the author's talk at ICCV 2015.

    Args:
        images: N, images of a mini-batch.
        regions: R, regions of a mini-batch.
        image_size: height and width of an image in pixels.
        crop: side of a crop in pixels.

    Returns:
        A number; what a convolution costs is taken to be as its pixels.
    """
    height, width = image_size
    # Eq: fast_rcnn §2.3 | N H W / (R 224^2)
    return images * height * width / (regions * crop**2)


def random_keys(seed, step, images, count):
    """Return random numbers that depend only on their place: equal on every backend and device.

    Args:
        seed: integer.
        step: integer or scalar tensor, the training step.
        images: (B,) integers that differ between the images of a step.
        count: A.

    Returns:
        (B, A) float32 in [0, 1).
    """
    state = _mixed(ops.cast(step, "uint32"), ops.cast(seed, "uint32"))
    state = _mixed(ops.cast(images, "uint32"), state)[:, None]  # (B, 1)
    state = _mixed(ops.cast(ops.arange(count, dtype="int32"), "uint32"), state)  # (B, A)
    # The upper 24 bits, as many as a float32 holds.
    high = ops.right_shift(state, ops.cast(8, "uint32"))
    return ops.cast(ops.cast(high, "int32"), "float32") * 2.0**-24


def _mixed(value, state):
    """Hash two uint32 to one; every bit depends on all bits (the constants are lowbias32's)."""
    state = ops.bitwise_xor(value * ops.cast(0x9E3779B9, "uint32"), state)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        state = ops.bitwise_xor(state, ops.right_shift(state, ops.cast(shift, "uint32")))
        state = state * ops.cast(factor, "uint32")
    return ops.bitwise_xor(state, ops.right_shift(state, ops.cast(16, "uint32")))


def _fill_quotas(chosen, is_positive, batch_size, negatives_per_positive):
    """Keep the first examples of each kind, up to its quota: (B, S) bool, hardest first -> (B, S) bool."""
    positive = ops.logical_and(chosen, is_positive)
    negative = ops.logical_and(chosen, ops.logical_not(is_positive))
    positive_rank, negative_rank = (
        ops.cumsum(ops.cast(kind, "int32"), axis=-1) for kind in (positive, negative)
    )
    quota = batch_size // (1 + negatives_per_positive)
    positive = ops.logical_and(positive, positive_rank <= quota)
    count = ops.sum(ops.cast(positive, "int32"), axis=-1, keepdims=True)  # (B, 1)
    allowed = negatives_per_positive * ops.maximum(count, 1)
    return ops.logical_or(positive, ops.logical_and(negative, negative_rank <= allowed))


def _mark(indices, chosen, count):
    """Mark the (B, S) distinct indices that are `chosen`: -> (B, count) bool."""
    batch = ops.shape(indices)[0]
    rows = ops.arange(batch, dtype="int32")[:, None] * (count + 1)  # (B, 1)
    places = ops.where(chosen, indices, count) + rows  # the last place of each row takes the rest
    ones = ops.ones_like(places)
    hits = ops.scatter(
        ops.reshape(places, (-1, 1)), ops.reshape(ones, (-1,)), (batch * (count + 1),)
    )
    return ops.reshape(hits, (batch, count + 1))[:, :-1] > 0
