"""Files that appear whole or not at all: what the package writes for keeps goes through here."""

import contextlib
import errno
import json
import os
import uuid
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path):
    """Yield a temporary path that becomes `path` when the block ends without an error.

    The temporary file lies in the same folder and ends in the same name, so that writers which
    look at the extension (`.weights.h5`, `.png`) are content. It is synced to the disk before the
    rename: a process killed at any moment leaves the earlier file or the new one, never half of
    one. On an error the temporary file is removed and the earlier file kept.

    Args:
        path: file to write, str or Path; missing folders above it are made.

    Yields:
        Path to write to.

    Raises:
        ValueError: `path` is a folder or a device.
        OSError: the folder cannot be made or written to, or the disk is full; names the path.
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
            f"cannot write into the folder ({error.strerror}); choose another or change its rights",
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
        obj: anything of dicts, lists, str, numbers, None; NumPy scalars and arrays are converted.
        indent: spaces per level; one line if None.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not have.
        TypeError: a value has no JSON form.
        OSError: as `atomic_write`.
    """
    text = json.dumps(obj, indent=indent, allow_nan=False, default=_plain)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _plain(value):
    """A NumPy scalar or array as Python numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes):  # compressed counts of a run-length mask
        return value.decode("ascii")
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")
