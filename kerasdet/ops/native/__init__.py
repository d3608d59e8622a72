"""Faster TensorFlow kernels, and the one decision between them and the portable `keras.ops` form.

This is the only folder of `kerasdet.ops` that names TensorFlow. Results equal those of the portable form;
only the speed differs. The kernels run in eager code and in graphs. Tracing for XLA is detected. LiteRT
and ONNX do not know the kernels either, so an export is traced within `portable()`.
"""

import contextlib
import threading

import keras

from kerasdet.ops.native.adaptive import pool_adaptive
from kerasdet.ops.native.convolution import (
    batch_norm,
    bias_add,
    fixed_norm,
    fuses_norm,
    grouped_conv,
    sparsely_taught_conv,
)
from kerasdet.ops.native.insistence import insist, raise_refused
from kerasdet.ops.native.regions import pool_lattice, read_points
from kerasdet.ops.native.suppression import suppress, suppress_each_class
from kerasdet.ops.native.windows import window_max, window_sum

__all__ = [
    "after",
    "available",
    "batch_norm",
    "bias_add",
    "compiles_for_xla",
    "fixed_norm",
    "fuses_norm",
    "grouped_conv",
    "insist",
    "pool_adaptive",
    "pool_lattice",
    "portable",
    "raise_refused",
    "read_points",
    "resize_bilinear",
    "sparsely_taught_conv",
    "suppress",
    "suppress_each_class",
    "window_max",
    "window_sum",
]

_state = threading.local()


@contextlib.contextmanager
def portable():
    """Use the `keras.ops` form within this context.

    The setting belongs to the thread that traces. `tf.distribute.MirroredStrategy` traces each replica
    in a thread of its own, so enter the context inside the replicated function.
    """
    before = getattr(_state, "portable", False)
    _state.portable = True
    try:
        yield
    finally:
        _state.portable = before


def available():
    """Tell whether code that this thread now runs or traces uses TensorFlow's kernels."""
    if keras.backend.backend() != "tensorflow" or getattr(_state, "portable", False):
        return False
    return not compiles_for_xla()


def after(values, earlier):
    """Return `values`, which are not used before all of `earlier` are computed.

    The branches of a graph run at the same time. Convolutions that each use every core gain nothing from
    that, and evict each other's data from the cache.

    Args:
        values: a tensor.
        earlier: tensors of the same graph.

    Returns:
        `values`; unchanged in eager code and without the kernels, where nothing runs at the same time.
    """
    if not available():
        return values
    import tensorflow as tf

    if tf.executing_eagerly():
        return values
    with tf.control_dependencies(list(earlier)):
        return tf.identity(values)


def resize_bilinear(images, size):
    """Resize images bilinearly with half-pixel centres; unlike Keras' function, `size` may be tensors.

    Args:
        images: (B, H, W, C).
        size: (height, width), integers or, on TensorFlow, int32 scalars.

    Returns:
        (B, height, width, C) float32.
    """
    if all(isinstance(side, int) for side in size):
        return keras.ops.image.resize(images, size, "bilinear", data_format="channels_last")
    import tensorflow as tf

    return tf.image.resize(images, tf.stack(size))


def compiles_for_xla():
    """Tell whether a `tf.function(jit_compile=True)` is being traced, at any depth."""
    import tensorflow as tf

    try:
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:  # not public: without it, `portable()` has to be entered for XLA too
        return False
    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
