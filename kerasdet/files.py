"""Files that appear whole or not at all, and folders that one process writes into at a time.

What the package writes for keeps goes through `atomic_write`; a command or a training that fills a
folder claims it first.
"""

import contextlib
import datetime
import errno
import json
import os
import re
import socket
import threading
import uuid
import warnings
import zlib
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

CLAIM = "in_use.json"
FAR = 1 << 30  # Windows lets nobody read locked bytes: the lock lies behind what the file says.
# Host, process and a random number, then the name of the file to write.
_TEMPORARY = re.compile(r"\.([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}\.(.+)", re.DOTALL)
_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_unfinished = set()  # temporary files of this process
_claims = {}  # folder: the thread that has claimed it


@contextlib.contextmanager
def atomic_write(path):
    """Yield a temporary path that becomes `path` when the block ends without an error.

    The temporary file lies in the same folder and ends in the same name, so that writers which
    look at the extension (`.weights.h5`, `.png`) are content. It is synced to the disk before the
    rename: a process killed at any moment leaves the earlier file or the new one, never half of
    one. On an error the temporary file is removed and the earlier file kept; the temporary file of a
    killed process is removed by the next write. Inside of a block, a write to its temporary path is a
    plain one: the outer block makes it atomic.

    Args:
        path: file to write, str or Path; missing parent folders are created.

    Yields:
        Path to write to.

    Raises:
        ValueError: `path` is a folder or a device.
        OSError: the folder cannot be created or written to, or the disk is full; the message names the path.
    """
    path = Path(path)
    if path.absolute() in _unfinished:
        yield path
        return
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file: give the name of a file to write.")
    marks = f"{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary = path.with_name(f".{marks}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise _cannot_write(path.parent, error) from error
    _remove_abandoned(path)
    _unfinished.add(temporary.absolute())
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
        _unfinished.discard(temporary.absolute())
        temporary.unlink(missing_ok=True)


def _remove_abandoned(path):
    """Remove what processes of this host that have ended left of their writes to `path`."""
    for left in path.parent.glob(".*"):
        marks = _TEMPORARY.fullmatch(left.name)
        if marks and marks[1] == _HOST and marks[3] == path.name and _has_ended(int(marks[2])):
            left.unlink(missing_ok=True)


def _has_ended(process):
    if os.name == "nt":  # asking would end it
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # another user's process
        return False
    return False


def remove_unfinished(folder):
    """Remove what killed processes left of the files that they were writing.

    Args:
        folder: a folder that no process writes into now.
    """
    for path in Path(folder).glob(".*"):
        if _TEMPORARY.match(path.name):
            path.unlink()


@contextlib.contextmanager
def claimed(folder):
    """Be the only one that writes into a folder, until the block ends.

    Meanwhile a file in it, `in_use.json`, names the holder. The claim itself is the system's lock on that
    file, which ends with its process, even a killed one: a file that is left over claims nothing, and
    what its process left unfinished is removed. Within a claim, the same thread may claim the folder
    again. Where the file system has no locks, a warning says so.

    Args:
        folder: made if missing.

    Raises:
        BlockingIOError: another process or thread has claimed it; names the holder's process id, host
            and since when.
        OSError: the folder cannot be made or written to; names it.
    """
    folder = Path(folder)
    place, me = os.path.realpath(folder), threading.get_ident()
    if _claims.get(place) == me:
        yield
        return
    made = not folder.exists()
    file = _claim(folder)
    _claims[place] = me
    try:
        yield
    finally:
        del _claims[place]
        _release_claim(file)
        if made:
            with contextlib.suppress(OSError):  # it holds something by now
                folder.rmdir()


def _claim(folder):
    """The open and locked file that names this process as the folder's holder."""
    path = folder / CLAIM
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 stays open while it is locked
        except OSError as error:
            raise _cannot_write(folder, error) from error
        try:
            taken = take_lock(file)
        except OSError as error:
            warnings.warn(
                f"{folder}: its file system has no locks ({error.strerror}), so that nothing keeps two "
                "processes from writing into it.",
                stacklevel=4,
            )
            return file
        if not taken:
            with file:
                raise BlockingIOError(_in_use(folder, file))
        # Its last holder may have removed it between the two lines above.
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()
    file.seek(0)
    if file.read():  # the holder before was killed
        remove_unfinished(folder)
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    file.truncate(0)
    json.dump({"process": os.getpid(), "host": socket.gethostname(), "since": since}, file)
    file.flush()
    return file


def _in_use(folder, file):
    file.seek(0)
    try:
        holder = json.loads(file.read())
        holder = f"process {holder['process']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):  # it is about to write its name
        holder = "another process"
    return f"{folder} is in use by {holder}: wait until that has ended, or give another folder."


def _release_claim(file):
    with contextlib.suppress(OSError), file:
        if fcntl:  # while it is locked, lest a file that another process has locked is removed
            os.unlink(file.name)
        release_lock(file)
    if not fcntl:  # Windows removes no open file
        with contextlib.suppress(OSError):
            os.unlink(file.name)


def take_lock(file):
    """Lock an open file; the system unlocks it when this process ends.

    Args:
        file: an open file; on Windows its position changes.

    Returns:
        bool: False if another process or thread has locked it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            os.lseek(file.fileno(), FAR, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    return True


def release_lock(file):
    """Unlock by name: closing alone would leave the lock to processes forked meanwhile.

    Args:
        file: as in `take_lock`.
    """
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_UN)
    else:
        os.lseek(file.fileno(), FAR, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)


def _cannot_write(folder, error):
    return type(error)(
        error.errno,
        f"cannot write into the folder ({error.strerror}); choose another or change its rights",
        str(folder),
    )


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
