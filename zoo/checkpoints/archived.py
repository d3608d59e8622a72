"""A file inside of a `.tar.gz` archive, as some authors publish their weights.

Only what is asked for is written, under a name of ours; links and paths of the archive do nothing.
"""

import gzip
import zlib
from pathlib import Path

from kerasdet.zoo.checkpoints.errors import DAMAGED, CheckpointError, printable

BLOCK = 512
CHUNK = 1 << 20
LARGEST = 1 << 30  # bytes of a member; the largest published has 550 MB
LONGEST = 1 << 32  # bytes of all members together
GZIP = b"\x1f\x8b"


def is_archive(path):
    """Tell whether a file is compressed by gzip."""
    with open(path, "rb") as file:
        return file.read(2) == GZIP


def extract(path, name, target):
    """Write one member of an archive to a file.

    Args:
        path: the `.tar.gz` file.
        name: of the member, with its folders.
        target: the file to write.

    Raises:
        CheckpointError: damaged, cut short, too large or without this member; names the archive.
        OSError: the target cannot be written.
    """
    path, members, total = Path(path), [], 0
    try:
        with gzip.open(path) as file:
            while header := _header(path, file.read(BLOCK)):
                found, size, regular = header
                total += size
                if total > LONGEST:
                    raise _fault(path, f"unpacks to more than {LONGEST} bytes")
                if regular and found == name:
                    _copy(path, file, name, size, target)
                    return
                members.append(found)
                _skip(path, file, -(-size // BLOCK) * BLOCK)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _fault(path, f"is damaged or cut short ({error})", DAMAGED) from error
    shown = ", ".join(map(printable, members[:5])) or "none"
    raise _fault(path, f"has no member {name}; its first are {shown}")


def _header(path, block):
    """Read a member's name, size, and whether it is a regular file; None at the archive's end."""
    if len(block) < BLOCK or not block.strip(b"\0"):
        return None
    if block[257:262] != b"ustar":
        raise _fault(path, "is no tar archive, or a damaged one", DAMAGED)
    name = block[:100].rstrip(b"\0").decode("utf-8", "replace").removeprefix("./")
    if prefix := block[345:500].rstrip(b"\0") if block[257:263] == b"ustar\0" else b"":
        name = f"{prefix.decode('utf-8', 'replace')}/{name}"
    digits = block[124:136].strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise _fault(path, f"gives {printable(name)} no size", DAMAGED)
    return name, int(digits, 8), block[156:157] in (b"0", b"\0")


def _copy(path, file, name, size, target):
    if size > LARGEST:
        raise _fault(path, f"has {size} bytes of {name}, more than {LARGEST}")
    with open(target, "wb") as out:
        for part in _parts(path, file, size):
            out.write(part)


def _skip(path, file, size):
    for _ in _parts(path, file, size):
        pass


def _parts(path, file, size):
    while size:
        part = file.read(min(size, CHUNK))
        if not part:
            raise _fault(path, "is cut short", DAMAGED)
        size -= len(part)
        yield part


def _fault(path, what, fix="give the archive that its authors have published"):
    return CheckpointError(f"{path} {what}. Fix: {fix}.")
