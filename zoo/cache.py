"""The cache folder: where it is, which process writes a file in it, and what is known about its files.

Beside a file NAME are `.NAME.lock`, which the process that makes NAME holds, and `.NAME.json`, with
its size, time of change and SHA-256 when it was last hashed. While size and time stay the same, the
file is not hashed again at every load. This detects a file that is replaced or cut short, but not a
decaying disk.
"""

import contextlib
import glob
import json
import os
import sys
import time
from pathlib import Path

from kerasdet.files import atomic_write, release_lock, save_json, take_lock
from kerasdet.zoo.verify import digest as digest_of

SETTING = "KERASDET_CACHE"
POLL = 0.2  # seconds between two tries of a lock that another process holds


def cache_folder():
    """Return the folder of downloaded and converted files; create it if it is missing.

    Returns:
        Path: the value of the environment variable KERASDET_CACHE, else `kerasdet` in XDG_CACHE_HOME,
        else `~/.cache/kerasdet`.

    Raises:
        OSError: the folder cannot be created; the message names the folder and the variable.
    """
    if chosen := os.environ.get(SETTING):
        folder = Path(chosen).expanduser().absolute()
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The XDG specification says to ignore relative paths.
        folder = (base if base.is_absolute() else Path.home() / ".cache") / "kerasdet"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached(name, source, version, make):
    """Make a file from another one, once: later calls and other processes use the existing file.

    Args:
        name: name of the file; what it depends on is added before the first dot, so that
            `model.weights.h5` becomes `model-0676ba61-v2.weights.h5`.
        source: SHA-256 of the original, at least 8 hexadecimal digits.
        version: int, the version of the conversion; another version makes another file.
        make: function that is called with a path of the same ending and writes the file there.

    Returns:
        Path of the file, which appears whole or not at all.

    Raises:
        OSError: the folder cannot be written to; the message names it and the fix.
    """
    stem, dot, ending = name.partition(".")
    path = cache_folder() / f"{stem}-{source[:8]}-v{version}{dot}{ending}"
    if _unchanged(path):
        return path
    with locked(path):
        if not _unchanged(path):  # otherwise another process has made it meanwhile
            # While the lock is held, a temporary file can only come from a process that was killed.
            for left_over in path.parent.glob(f".????????????.{glob.escape(path.name)}"):
                left_over.unlink()
            with atomic_write(path) as temporary:
                make(temporary)
            remember(path, path.stat(), digest_of(path))
    return path


def verified(path, sha256, size=None):
    """Tell whether a file is the published one; write permission is not needed.

    Args:
        path: the file, which may be missing.
        sha256: all 64 hexadecimal digits of the hash, or the first ones; or another one, see
            `kerasdet.zoo.verify.digest`.
        size: size in bytes; None: any.

    Returns:
        True if the file exists and has this size and hash.
    """
    if not path.is_file():
        return False
    state = path.stat()
    if size is not None and state.st_size != size:
        return False
    known = recall(path)
    same_kind = str(known.get("sha256")).rpartition(":")[0] == sha256.rpartition(":")[0]
    if known.get("sha256") and same_kind and _facts(state).items() <= known.items():
        return known["sha256"].startswith(sha256)
    digest = digest_of(path, sha256)
    if not digest.startswith(sha256):
        return False
    with contextlib.suppress(OSError):  # files in a read-only cache are hashed every time
        remember(path, state, digest)
    return True


def remember(path, state, digest):
    """Store the hash of a file for `verified`.

    Args:
        path: the file.
        state: its `os.stat_result` from before it was hashed: if it changes in between, the stored
            state fits no file, and the file is hashed again.
        digest: hash of the file, as `kerasdet.zoo.verify.digest` gives it.

    Raises:
        OSError: the folder cannot be written to.
    """
    save_json(beside(path, "json"), {**_facts(state), "sha256": digest})


def recall(path):
    """Read what `remember` stored about a file.

    Args:
        path: the file.

    Returns:
        Dict, empty if there is nothing readable.
    """
    try:
        known = json.loads(beside(path, "json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def publish(part, path, digest):
    """Give a verified file its final name, after its bytes are on the disk.

    Args:
        part: the file.
        path: its final name, in the same folder.
        digest: hash of the file, as `kerasdet.zoo.verify.digest` gives it.

    Raises:
        OSError: the folder cannot be written to; the message names it and the fix.
    """
    state = part.stat()
    with writing(path.parent):
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    beside(part, "json").unlink(missing_ok=True)
    remember(path, state, digest)


def beside(path, kind):
    """Return the path of a hidden file that belongs to another, in the same folder.

    Args:
        path: the file it belongs to, or such a hidden file itself.
        kind: "lock", "json" or "part".
    """
    return path.with_name(f".{path.name.lstrip('.')}.{kind}")


@contextlib.contextmanager
def locked(path):
    """Wait until only this process and thread may make a file, and hold the lock meanwhile.

    The system releases the lock when its holder ends, even if it is killed. The empty lock file stays: if
    it were removed, two processes could hold two locks of one name.

    Args:
        path: the file to make.

    Raises:
        OSError: the folder cannot be written to or has no locks; the message names it and the fix.
    """
    with writing(path.parent):
        file = beside(path, "lock").open("a")
    with file:
        if not _take(file):
            tell(f"waiting for another process, which is making {path}")
            while not _take(file):
                time.sleep(POLL)
        try:
            yield
        finally:
            release_lock(file)


@contextlib.contextmanager
def writing(folder):
    """Add the cache folder and the fix to errors of the system.

    Args:
        folder: the cache folder.
    """
    try:
        yield
    except OSError as error:
        raise type(error)(
            error.errno,
            f"cannot write into the cache folder ({error.strerror}); free space, change its permissions "
            f"or choose another by {SETTING}=FOLDER",
            str(folder),
        ) from error


def tell(message):
    """Write a line to stderr, separate from a program's results.

    Args:
        message: str.
    """
    print(f"kerasdet: {message}", file=sys.stderr, flush=True)


def _take(file):
    """Lock an open file; return False if another process has the lock."""
    with writing(Path(file.name).parent):
        return take_lock(file)


def _unchanged(path):
    """Tell whether a file is unchanged since its hash was stored."""
    digest = recall(path).get("sha256")
    return digest is not None and verified(path, digest)


def _facts(state):
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
