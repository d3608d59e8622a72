"""Training over several devices, as far as Keras does not provide it: counts summed over all replicas."""

import keras
from keras import ops


def num_replicas():
    """Return the number of replicas in the traced step: 1 outside `tf.distribute` or on other backends."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def replica_id():
    """Return the number of the traced replica: 0 outside `tf.distribute`."""
    if num_replicas() == 1:
        return 0
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def sum_over_replicas(value):
    """Sum a scalar over all replicas of the step, without gradient.

    Losses are divided by a count over the *whole* batch (RetinaNet: all its positive anchors). Under
    `tf.distribute` a replica sees only its share, so the count must be summed before the division. Then
    the gradients that the strategy adds equal those of one device with the whole batch.

    Args:
        value: scalar tensor.

    Returns:
        Scalar tensor, equal on every replica.
    """
    if num_replicas() > 1:
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None:
            value = context.all_reduce(tf.distribute.ReduceOp.SUM, value)
    return ops.stop_gradient(value)
