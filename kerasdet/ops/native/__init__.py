"""Faster TensorFlow kernels, and the one decision between them and the portable `keras.ops` form.

The only folder of this floor that names TensorFlow. Results equal the portable form's; only their
speed differs. The kernels run in eager code and in graphs. XLA is noticed; LiteRT and ONNX do not
know the kernels either, so an export traces within `portable()`.
"""

import contextlib
import threading

import keras

from kerasdet.ops.native.convolution import (
    batch_norm,
    bias_add,
    grouped_conv,
    sparsely_taught_conv,
)
from kerasdet.ops.native.regions import pool_lattice, read_points
from kerasdet.ops.native.suppression import suppress
from kerasdet.ops.native.windows import window_max, window_sum

__all__ = [
    "after",
    "available",
    "batch_norm",
    "bias_add",
    "grouped_conv",
    "pool_lattice",
    "portable",
    "read_points",
    "resize_bilinear",
    "sparsely_taught_conv",
    "suppress",
    "window_max",
    "window_sum",
]

_state = threading.local()


@contextlib.contextmanager
def portable():
    """Use the `keras.ops` form within this context.

    The setting belongs to the thread that traces. A replica of `tf.distribute.MirroredStrategy` is
    traced in a thread of its own, so enter the context inside the replicated function.
    """
    before = getattr(_state, "portable", False)
    _state.portable = True
    try:
        yield
    finally:
        _state.portable = before


def available():
    """Whether code that is now run or traced by this thread uses TensorFlow's kernels."""
    if keras.backend.backend() != "tensorflow" or getattr(_state, "portable", False):
        return False
    return not _compiles_for_xla()


def after(values, earlier):
    """`values`, not to be used before all of `earlier` are there.

    A graph's branches run at once. Convolutions that each use every core gain nothing from it, and
    lose what the others throw out of the cache.

    Args:
        values: a tensor.
        earlier: tensors of the same graph.

    Returns:
        `values`; as it is where nothing runs at once, in eager code, or other code sees to it.
    """
    if not available():
        return values
    import tensorflow as tf

    if tf.executing_eagerly():
        return values
    with tf.control_dependencies(list(earlier)):
        return tf.identity(values)


def resize_bilinear(images, size):
    """Resize images, bilinear with half-pixel centres; Keras' own takes no size that is a tensor.

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


def _compiles_for_xla():
    """Whether a `tf.function(jit_compile=True)` is being traced, at whatever depth."""
    import tensorflow as tf

    try:
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:  # not public: without it, `portable()` has to be entered for XLA too
        return False
    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
