"""Greedy non-maximum suppression by TensorFlow's CPU kernel, of the candidates alone."""

import functools


def suppress(boxes, scores, labels, iou_threshold, max_output_size):
    """Suppress boxes greedily by TensorFlow's CPU kernel.

    Args:
        boxes: (B, N, 4) xyxy float32.
        scores: (B, N) float32, -inf for a box that takes no part.
        labels: (B, N) int32; boxes suppress only boxes of the same label. None: boxes suppress any box.
        iou_threshold: IoU above which a box is suppressed.
        max_output_size: D.

    Returns:
        (B, D) int32 indices by descending score, padded with -1, and (B,) int32 counts.
    """
    import tensorflow as tf

    if labels is None:
        labels = tf.zeros_like(scores, "int32")
    return _run(_suppress, boxes, scores, labels, iou_threshold, max_output_size)


def suppress_each_class(boxes, scores, limit, iou_threshold, max_output_size):
    """Suppress the boxes of all places class by class, without a sort of the places that take no part.

    Args:
        boxes: (B, A, 4) xyxy float32.
        scores: (B, A, K) float32, -inf for a pair of place and class that takes no part.
        limit: places of each class that take part, the best ones.
        iou_threshold: IoU above which a box is suppressed.
        max_output_size: D.

    Returns:
        (B, D) int32 pairs, place K + class, by descending score, padded with -1, and (B,) int32 counts.
    """
    return _run(_suppress_each_class, boxes, scores, limit, iou_threshold, max_output_size)


def _run(suppress, boxes, scores, third, iou_threshold, max_output_size):
    """Call one of the two functions below; eagerly, its loop would be slow step by step."""
    import tensorflow as tf

    threshold = tf.convert_to_tensor(iou_threshold, "float32")
    arguments = (boxes, scores, *map(tf.convert_to_tensor, (third, threshold, max_output_size)))
    if tf.executing_eagerly():
        suppress = _traced(suppress, tuple((len(x.shape), x.dtype) for x in arguments))
    indices, counts = suppress(*arguments)
    return tf.ensure_shape(indices, (scores.shape[0], max_output_size)), counts


@functools.cache
def _traced(suppress, kinds):
    """Return a function that is traced once for all sizes of arguments of these ranks and types."""
    import tensorflow as tf

    signature = [tf.TensorSpec([None] * rank, dtype) for rank, dtype in kinds]
    return tf.function(suppress, input_signature=signature, autograph=False)


def _suppress_each_class(boxes, scores, limit, iou_threshold, max_output_size):
    import tensorflow as tf

    with tf.device("CPU:0"):
        shape = tf.shape(scores)  # B, A, K
        found = tf.where(scores > -float("inf"))  # (V, 3)
        images, places, labels = tf.unstack(tf.cast(found, "int32"), axis=1)
        kept = _suppress_groups(
            tf.gather(tf.reshape(boxes, [-1, 4]), images * shape[1] + places),
            tf.gather_nd(scores, found),
            images * shape[2] + labels,
            iou_threshold,
            max_output_size,
            limit,
        )
        found = tf.gather(found, kept)
        # By image and by descending score; equal ones stay in the order of classes and places.
        order = tf.argsort(-tf.gather_nd(scores, found), stable=True)
        found = tf.gather(
            found, tf.gather(order, tf.argsort(tf.gather(found[:, 0], order), stable=True))
        )
        images, places, labels = tf.unstack(tf.cast(found, "int32"), axis=1)
        counts = tf.math.bincount(images, minlength=shape[0])
        slots = tf.range(tf.size(images)) - tf.gather(tf.cumsum(counts, exclusive=True), images)
        fits = slots < max_output_size
        pairs = tf.tensor_scatter_nd_update(
            tf.fill([shape[0], max_output_size], -1),
            tf.boolean_mask(tf.stack([images, slots], axis=1), fits),
            tf.boolean_mask(places * shape[2] + labels, fits),
        )
        return pairs, tf.minimum(counts, max_output_size)


def _suppress(boxes, scores, labels, iou_threshold, max_output_size):
    import tensorflow as tf

    with tf.device("CPU:0"):
        shape = tf.shape(scores)
        candidates = tf.where(tf.reshape(scores, [-1]) > -float("inf"))[:, 0]
        candidates = tf.cast(candidates, "int32")
        boxes, flat_scores = (
            tf.gather(tf.reshape(values, size), candidates)
            for values, size in ((boxes, [-1, 4]), (scores, [-1]))
        )
        labels = tf.gather(tf.reshape(labels, [-1]), candidates)
        _, labels = tf.unique(labels)  # renumbered from 0, since labels may be large or negative
        groups = candidates // shape[1] * (tf.size(labels) + 1) + labels
        kept = _suppress_groups(boxes, flat_scores, groups, iou_threshold, max_output_size)
        kept = tf.gather(candidates, kept)
        mask = tf.scatter_nd(kept[:, None], tf.ones_like(kept, "bool"), [tf.size(scores)])
        return _best(tf.where(tf.reshape(mask, shape), scores, -float("inf")), max_output_size)


def _suppress_groups(boxes, scores, groups, iou_threshold, max_output_size, limit=None):
    """Suppress boxes (V, 4) within each group (V,), the best `limit` of it; return the rows that stay."""
    import tensorflow as tf

    order = tf.argsort(groups, stable=True)
    groups = tf.gather(groups, order)
    starts = tf.concat([tf.ones_like(groups[:1], "bool"), groups[1:] != groups[:-1]], 0)
    starts = tf.cast(tf.where(starts)[:, 0], "int32")
    splits = tf.concat([starts, [tf.size(groups)]], 0)

    def step(group, kept):
        members = order[splits[group] : splits[group + 1]]
        if limit is not None:
            count = tf.minimum(limit, tf.size(members))
            members = tf.gather(members, tf.math.top_k(tf.gather(scores, members), count).indices)
        chosen = tf.image.non_max_suppression(
            tf.gather(boxes, members), tf.gather(scores, members), max_output_size, iou_threshold
        )
        return group + 1, kept.write(group, tf.gather(members, chosen))

    kept = tf.TensorArray("int32", tf.size(starts), infer_shape=False, element_shape=[None])
    _, kept = tf.while_loop(lambda group, _: group < tf.size(starts), step, [0, kept])
    return kept.concat()


def _best(scores, count):
    """Return the `count` highest scores of each row (ties: lower index first), without -inf."""
    import tensorflow as tf

    scores = tf.pad(scores, [[0, 0], [0, count]], constant_values=-float("inf"))
    values, indices = tf.math.top_k(scores, count)
    chosen = values > -float("inf")
    counts = tf.reduce_sum(tf.cast(chosen, "int32"), axis=-1)
    return tf.where(chosen, indices, -1), counts
