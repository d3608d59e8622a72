"""Giving memory back: models and graphs are cycles of objects, and freed memory returns late."""

import contextlib
import ctypes
import gc
import os
from pathlib import Path

LIMIT = 2000  # MB, above which memory is given back after a test
GROWTH = 200  # MB that a process must have grown by since the last time: collecting takes a second


def release():
    """Forget Keras' own state and all graphs, and give back what nothing refers to any more."""
    import keras
    from tensorflow.python.framework import ops

    keras.utils.clear_session(free_memory=False)
    # TensorFlow never forgets a gradient function that a graph was traced with, nor so the graph.
    registry = ops.gradient_registry._registry
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]
    give_back()


def give_back():
    """Free what nothing refers to any more, and return it to the system where glibc can."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # macOS, Windows, musl
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def held():
    """Memory that this process holds, in MB; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024**2
