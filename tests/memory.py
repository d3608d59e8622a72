"""Giving memory back: models and graphs are cycles of objects, and freed memory returns late."""

import contextlib
import ctypes
import gc
import os
from pathlib import Path

LIMIT = 2000  # MB, above which memory is given back after every test


def release():
    """Forget Keras' own state, and give back what nothing refers to any more."""
    import keras

    keras.utils.clear_session(free_memory=False)
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
