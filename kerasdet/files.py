"""Files that appear whole or not at all: the package writes all its lasting files through this module."""

import contextlib
import errno
import json
import os
import uuid
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path):
    """Yield a temporary path that becomes `path` when the block ends without an error.

    The temporary file is in the same folder and has the same ending, which satisfies writers that
    check the extension (`.weights.h5`, `.png`). It is synced to the disk before the rename: if the
    process is killed at any moment, the earlier file or the new one remains, never half of one. On an
    error the temporary file is removed and the earlier file kept.

    Args:
        path: file to write, str or Path; missing parent folders are created.

    Yields:
        Path to write to.

    Raises:
        ValueError: `path` is a folder or a device.
        OSError: the folder cannot be created or written to, or the disk is full; the message names the path.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file: give the name of a file to write.")
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise type(error)(
            error.errno,
            f"cannot write into the folder ({error.strerror}); choose another, or change its permissions",
            str(path.parent),
        ) from error
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = "disk full; free some space and run again (an earlier file is kept)"
            raise OSError(error.errno, message, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path):
    """Flush a file, or a folder's list of names, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows does not open folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_json(path, obj, indent=None):
    """Write `obj` as JSON, atomically.

    Args:
        path: file to write.
        obj: dicts, lists, str, numbers, None; NumPy scalars and arrays are converted.
        indent: spaces per level; None: one line.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not have.
        TypeError: a value has no JSON form.
        OSError: as for `atomic_write`.
    """
    text = json.dumps(obj, indent=indent, allow_nan=False, default=_plain)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _plain(value):
    """Convert a NumPy scalar or array to Python numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes):  # compressed counts of a run-length mask
        return value.decode("ascii")
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")
