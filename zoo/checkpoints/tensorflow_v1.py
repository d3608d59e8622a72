"""TensorFlow 1's checkpoints, as its Object Detection API publishes them: in a folder, or packed as .tar.gz.

    model.ckpt.index                  names, shapes and places of the variables
    model.ckpt.data-00000-of-00001    their numbers
    model.ckpt.meta                   the graph, which is not read

TensorFlow itself reads the two files (`tf.train.load_checkpoint`), which checks each variable's checksum. Of
an archive only these are unpacked, under names of our own, into a folder that lives while they are read.
"""

import math
import re
import tarfile
import tempfile
import zlib
from pathlib import Path

import numpy as np

from kerasdet.zoo.checkpoints.errors import DAMAGED, CheckpointError, printable

INDEX = ".index"
MEMBER = re.compile(r"(?:(.*)/)?([^/]+?)(\.index|\.data-\d{5}-of-\d{5})")
SHARDS = ".data-?????-of-?????"
LARGEST_INDEX = 64 << 20  # bytes
SLACK = (
    64 << 20
)  # bytes of an archive's files beyond `MOST_GROWTH` times its own, which small ones need
MOST_GROWTH = 8  # weights hardly compress
MOST_MEMBERS = 10_000
CHUNK = 1 << 20
GZIP = b"\x1f\x8b"
NUMBERS = "fiu"  # kinds of dtype that variables of a network have
NO_CHECKPOINT = (
    "give the folder of model.ckpt.index, that file's path without .index, or the published .tar.gz"
)


def read(path):
    """Read the variables of a checkpoint; needs TensorFlow.

    Args:
        path: a folder with one checkpoint, its prefix (`folder/model.ckpt`), one of its files, or an archive
            (.tar.gz) in which one checkpoint lies.

    Returns:
        {name: array}, without texts.

    Raises:
        FileNotFoundError: there is no such file or folder.
        CheckpointError: there is no checkpoint, or more than one, or it is damaged or cut short; names the
            file, what is wrong and the fix.
        ImportError: TensorFlow is not installed.
    """
    path = Path(path)
    if path.is_file() and _begins_with(path, GZIP):
        with tempfile.TemporaryDirectory() as folder:
            return _variables(_unpacked(path, Path(folder)), path)
    return _variables(_prefix(path), path)


def _begins_with(path, magic):
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _prefix(path):
    """Find the prefix of the one checkpoint that a path names."""
    if path.is_dir():
        found = sorted(path.glob(f"*{INDEX}"))
        if len(found) != 1:
            names = ", ".join(printable(file.name) for file in found[:5]) or "none"
            raise _fault(
                path, f"has {len(found)} files *{INDEX} instead of one: {names}", NO_CHECKPOINT
            )
        path = found[0]
    prefix = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", str(path))
    if Path(f"{prefix}{INDEX}").is_file():
        return prefix
    if path.exists():
        raise _fault(path, "is no checkpoint of TensorFlow", NO_CHECKPOINT)
    raise FileNotFoundError(f"There is no checkpoint {path}: no file {prefix}{INDEX}.")


def _unpacked(path, folder):
    """Unpack the files of an archive's one checkpoint, and return its prefix there."""
    room, found = MOST_GROWTH * path.stat().st_size + SLACK, {}
    prefix = folder / "model.ckpt"
    try:
        with tarfile.open(path, "r:gz") as archive:
            for number, member in enumerate(archive):
                room -= max(member.size, 0)
                if room < 0 or number >= MOST_MEMBERS:
                    raise _fault(
                        path,
                        f"unpacks to more than {MOST_GROWTH} times its size, or to more than "
                        f"{MOST_MEMBERS} files",
                        "unpack it yourself if you trust it, and give the folder",
                    )
                match = MEMBER.fullmatch(member.name)
                if match is None or not member.isfile():
                    continue
                place, stem, suffix = match.groups()
                if suffix in found or any(other != (place, stem) for other in found.values()):
                    raise _fault(
                        path,
                        f"has more than one checkpoint: {printable(member.name)} is not the first",
                        "unpack it, and give one of them",
                    )
                found[suffix] = (place, stem)
                # The name on the disk is ours: the archive's cannot leave the folder.
                _copy(archive.extractfile(member), Path(f"{prefix}{suffix}"), member.size, path)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _fault(path, f"is a damaged archive ({printable(str(error))})") from error
    if INDEX not in found:
        raise _fault(path, f"holds no file *{INDEX}", NO_CHECKPOINT)
    return str(prefix)


def _copy(source, target, size, path):
    """Copy a member's bytes."""
    with open(target, "wb") as file:
        while size > 0:
            data = source.read(min(CHUNK, size))
            if not data:
                raise _fault(path, "is cut short within a checkpoint's file")
            file.write(data)
            size -= len(data)


def _variables(prefix, path):
    """Read the variables at a prefix; `path` is what errors name."""
    _check_files(prefix, path)
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            f"Reading {path}, a checkpoint of TensorFlow, needs TensorFlow: pip install tensorflow."
        ) from error
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        kinds = {name: np.dtype(dtype.as_numpy_dtype).kind for name, dtype in dtypes.items()}
        names = [name for name in sorted(shapes) if kinds[name] in NUMBERS]
        _check_size(prefix, path, names, shapes, dtypes)
        arrays = {name: reader.get_tensor(name) for name in names}
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        said = printable(str(error).replace(prefix, "it"))
        raise _fault(path, f"cannot be read by TensorFlow ({said})") from error
    if not arrays:
        raise _fault(path, "holds no numbers", "give a checkpoint of a network's weights")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise _fault(path, f"has numbers in {printable(name)} that are not finite")
    return arrays


def _check_files(prefix, path):
    """Refuse an immense index, and a checkpoint without its data."""
    size = Path(f"{prefix}{INDEX}").stat().st_size
    if size > LARGEST_INDEX:
        raise _fault(path, f"has an index of {size} bytes, of which {LARGEST_INDEX} are possible")
    if not _shards(prefix):
        raise _fault(
            path, "has an index, but no file *.data-00000-of-00001 beside it", "copy all files"
        )


def _check_size(prefix, path, names, shapes, dtypes):
    """Refuse an index that promises more numbers than the data have, before memory is taken for them."""
    stored = sum(file.stat().st_size for file in _shards(prefix))
    promised = sum(math.prod(shapes[name]) * dtypes[name].size for name in names)
    if promised > stored:
        raise _fault(path, f"has variables of {promised} bytes, but data of {stored}")


def _shards(prefix):
    prefix = Path(prefix)
    pattern = re.compile(re.escape(prefix.name) + r"\.data-\d{5}-of-\d{5}")
    return [file for file in prefix.parent.iterdir() if pattern.fullmatch(file.name)]


def _fault(path, what, fix=DAMAGED):
    return CheckpointError(f"{path} {what}. Fix: {fix}.")
