"""Errors from inside a compiled step: a condition of the data that fails ends the step with a message."""

import numpy as np

_refused = []  # messages of JAX' compiled steps, which go on all the same


def insist(values, good, explain, *facts):
    """Give `values`, a step's targets, and raise where they are not good.

    Args:
        values: dict of tensors; what is computed from them comes after the check.
        good: bool scalar tensor, or True.
        explain: function of `facts` as NumPy arrays that gives the message.
        *facts: tensors that the message needs.

    Returns:
        `values`. They are given whether good or not where nothing can be raised: by TensorFlow's XLA, and
        by JAX, whose message waits for `raise_refused`.

    Raises:
        ValueError: in eager code. A compiled step raises its backend's error, which holds the message.
    """
    import keras

    if good is True:
        return values
    if keras.backend.backend() == "jax":
        import jax

        jax.debug.callback(lambda good, *facts: _note(good, explain, facts), good, *facts)
    if keras.backend.backend() == "tensorflow":
        return _on_tensorflow(values, good, explain, facts)
    return values


def _on_tensorflow(values, good, explain, facts):
    import tensorflow as tf

    from kerasdet.ops.native import compiles_for_xla

    if tf.executing_eagerly():
        _raise(good, explain, facts)
        return values
    if compiles_for_xla():
        return values

    def refuse():
        def call(*facts):
            _raise(False, explain, facts)
            return np.float32(0)

        return tf.numpy_function(call, facts, tf.float32)

    checked = tf.cond(good, lambda: tf.constant(0.0), refuse)
    with tf.control_dependencies([checked]):
        return {name: tf.identity(value) for name, value in values.items()}


def raise_refused(wait=True):
    """Raise what a JAX step has refused.

    An error from within the step would leave the model without its weights: the step has taken them, and
    gives none back.

    Args:
        wait: for all steps to end. False: tell what is known now.

    Raises:
        ValueError: a step has refused its data.
    """
    import keras

    if keras.backend.backend() != "jax":
        return
    if wait:
        import jax

        jax.effects_barrier()
    if _refused:
        message = _refused[0]
        _refused.clear()
        raise ValueError(message)


def _note(good, explain, facts):
    if not np.all(good):
        _refused.append(explain(*map(np.asarray, facts)))


def _raise(good, explain, facts):
    if not np.all(good):
        raise ValueError(explain(*map(np.asarray, facts)))
