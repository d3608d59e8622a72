"""Greedy non-maximum suppression by TensorFlow's CPU kernel."""

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

    run = _eager_suppress() if tf.executing_eagerly() else _suppress
    if labels is None:
        labels = tf.zeros_like(scores, "int32")
    threshold = tf.convert_to_tensor(iou_threshold, "float32")
    indices, counts = run(boxes, scores, labels, threshold, tf.constant(max_output_size))
    return tf.ensure_shape(indices, (scores.shape[0], max_output_size)), counts


@functools.cache
def _eager_suppress():
    """Return `_suppress`, traced once for all shapes, because its loop is slow step by step."""
    import tensorflow as tf

    return tf.function(
        _suppress,
        input_signature=[
            tf.TensorSpec((None, None, 4), "float32"),
            tf.TensorSpec((None, None), "float32"),
            tf.TensorSpec((None, None), "int32"),
            tf.TensorSpec((), "float32"),
            tf.TensorSpec((), "int32"),
        ],
        autograph=False,
    )


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
        order, splits = _groups(candidates // shape[1], labels)

        def step(group, kept):
            members = order[splits[group] : splits[group + 1]]
            chosen = tf.image.non_max_suppression(
                tf.gather(boxes, members),
                tf.gather(flat_scores, members),
                max_output_size,
                iou_threshold,
            )
            return group + 1, kept.write(group, tf.gather(members, chosen))

        groups = tf.size(splits) - 1
        kept = tf.TensorArray("int32", groups, infer_shape=False, element_shape=[None])
        _, kept = tf.while_loop(lambda group, _: group < groups, step, [0, kept])
        kept = tf.gather(candidates, kept.concat())
        mask = tf.scatter_nd(kept[:, None], tf.ones_like(kept, "bool"), [tf.size(scores)])
        return _best(tf.where(tf.reshape(mask, shape), scores, -float("inf")), max_output_size)


def _groups(images, labels):
    """Return an order (V,) that groups equal images and labels, and the limits of the groups."""
    import tensorflow as tf

    _, labels = tf.unique(labels)  # renumbered from 0, since labels may be large or negative
    keys = images * (tf.size(labels) + 1) + labels
    order = tf.argsort(keys, stable=True)
    keys = tf.gather(keys, order)
    starts = tf.where(tf.concat([tf.ones_like(keys[:1], "bool"), keys[1:] != keys[:-1]], 0))[:, 0]
    return order, tf.concat([tf.cast(starts, "int32"), [tf.size(keys)]], 0)


def _best(scores, count):
    """Return the `count` highest scores of each row (ties: lower index first), without -inf."""
    import tensorflow as tf

    scores = tf.pad(scores, [[0, 0], [0, count]], constant_values=-float("inf"))
    values, indices = tf.math.top_k(scores, count)
    chosen = values > -float("inf")
    counts = tf.reduce_sum(tf.cast(chosen, "int32"), axis=-1)
    return tf.where(chosen, indices, -1), counts
