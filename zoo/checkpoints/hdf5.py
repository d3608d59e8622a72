"""Keras' HDF5 files: `.weights.h5` of Keras 3, and `save_weights` of Keras 2 and older.

This reader replaces libhdf5, which crashes on damaged files. Keras writes every weight as plain
little-endian numbers in one piece; other storage (chunks, filters, compact, virtual or external
data) is not read. The attributes (`layer_names`, `weight_names`) repeat what the paths say.
"""

import math
from typing import NamedTuple

from kerasdet.zoo.checkpoints.errors import REWRITE, printable
from kerasdet.zoo.checkpoints.hdf5_groups import (
    DATASPACE,
    DATATYPE,
    EXTERNAL_FILES,
    GROUP_INFO,
    LAYOUT,
    LINK,
    LINK_INFO,
    SYMBOL_TABLE,
    links,
    messages,
)
from kerasdet.zoo.checkpoints.hdf5_heaps import NOWHERE
from kerasdet.zoo.checkpoints.source import STORED, Fields, is_possible

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MODEL = "model_weights"  # a whole model's file: weights lie here, the optimizer's state elsewhere
DEEPEST = 32
SCALAR, SIMPLE = 0, 1  # kinds of a dataspace
CONTIGUOUS = 1
LAYOUTS = {0: "compact", 2: "chunked", 3: "virtual"}
INTEGER, FLOAT, OPAQUE, ENUMERATION = 0, 1, 5, 8
# (bytes, bits of the exponent, bits of the mantissa)
FLOATS = {
    (2, 5, 10): "float16",
    (2, 8, 7): "bfloat16",
    (4, 8, 23): "float32",
    (8, 11, 52): "float64",
}


class Stored(NamedTuple):
    """A weight in the file.

    Fields:
        start: its first byte.
        shape: counts along its axes.
        dtype: a key of `STORED`.
    """

    start: int
    shape: tuple
    dtype: str

    def read(self, source):
        """The array, of float32 where bfloat16 is stored."""
        return source.array(self.start, math.prod(self.shape), self.dtype).reshape(self.shape)


def read_hdf5(source):
    """Read the weights of a Keras file.

    Args:
        source: the `Source`.

    Returns:
        {path in the file, its parts joined by "/": array}; for a whole model's file, the paths
        below `model_weights`.

    Raises:
        CheckpointError: damaged, or not as Keras writes weights.
    """
    return {path: stored.read(source) for path, stored in list_hdf5(source).items()}


def list_hdf5(source):
    """Find the weights of a Keras file, and read none of them.

    Args:
        source: the `Source`.

    Returns:
        {path, as `read_hdf5` gives it: `Stored`}.

    Raises:
        CheckpointError: damaged, or not as Keras writes weights.
    """
    if source.size < 8 or source.read(0, 8) != SIGNATURE:
        raise source.fault("is no HDF5 file, by its first bytes")
    root = _root(source)
    top = dict(links(source, messages(source, root)))
    found = {}
    _collect(source, top.get(MODEL, root), "", found, set())
    return found


def _root(source):
    """Find the root group's header from the superblock."""
    fields = Fields(source, source.read(0, 96 if source.size >= 96 else source.size))
    fields.take(8)
    version = fields.number(1)
    if version in (0, 1):
        fields.take(4)
        widths = fields.take(2)
        fields.take(9 if version == 0 else 13)
        base, _, end, _, _ = (fields.number(8) for _ in range(5))
    elif version in (2, 3):
        widths = fields.take(2)
        fields.take(1)
        base, _, end = (fields.number(8) for _ in range(3))
    else:
        raise source.fault(f"has an HDF5 superblock of version {version}, not 0 to 3", REWRITE)
    if widths != b"\x08\x08" or base != 0:
        raise source.fault("is an HDF5 file of 32-bit addresses or with a user block", REWRITE)
    if end > source.size:
        raise source.fault(f"is cut short: {source.size} bytes of {end}")
    return fields.number(8)


def _collect(source, address, path, found, seen, depth=0):
    """Note the datasets at and under an object in `found`."""
    if address in seen or depth > DEEPEST:
        raise source.fault(
            f"reaches the object {printable(path)} by two paths, or through too many groups",
            REWRITE,
        )
    seen.add(address)
    source.charge(256 + 4 * len(path))
    parts = messages(source, address)
    if LAYOUT in parts:
        found[path] = _stored(source, path, parts)
    elif parts.keys() & {SYMBOL_TABLE, LINK_INFO, LINK, GROUP_INFO}:
        for name, there in links(source, parts):
            _collect(source, there, f"{path}/{name}" if path else name, found, seen, depth + 1)
    else:
        raise source.fault(f"has {printable(path)}, which is neither a group nor an array", REWRITE)


def _stored(source, path, parts):
    """A dataset, from its header messages."""
    path = printable(path)
    if EXTERNAL_FILES in parts:
        raise source.fault(f"keeps {path} in another file: refused", REWRITE)
    dtype = _dtype(source, path, *_only(source, parts, DATATYPE))
    shape = _shape(source, path, Fields(source, *_only(source, parts, DATASPACE)))
    layout = Fields(source, *_only(source, parts, LAYOUT))
    version, kind = layout.number(1), layout.number(1)
    if version not in (3, 4) or kind != CONTIGUOUS:
        kept = LAYOUTS.get(kind, "in an old layout") if version > 2 else "in an old layout"
        raise source.fault(f"keeps {path} {kept}, not in one piece", REWRITE)
    start, size = layout.number(8), layout.number(8)
    count = math.prod(shape)
    if size != count * STORED[dtype].itemsize or (start == NOWHERE and count):
        raise source.fault(f"has {size} bytes of {path}, which is {shape} of {dtype}")
    return Stored(start if count else 0, shape, dtype)


def _only(source, parts, kind):
    if len(parts.get(kind, ())) != 1:
        raise source.fault(f"has an array with {len(parts.get(kind, ()))} messages of type {kind}")
    return parts[kind]


def _shape(source, path, fields):
    version, axes, _ = (fields.number(1) for _ in range(3))
    kind = fields.number(1)
    if version == 1:
        kind = SIMPLE if axes else SCALAR
        fields.take(4)
    shape = tuple(fields.number(8) for _ in range(axes))
    if version not in (1, 2) or kind not in (SCALAR, SIMPLE) or not is_possible(shape):
        raise source.fault(f"gives {path} an impossible shape, or none")
    return shape


def _dtype(source, path, data):
    """Return the key in `STORED` for a datatype message."""
    fields = Fields(source, data)
    kind, flags, size = fields.number(1) & 15, fields.number(3), fields.number(4)
    dtype = None
    if kind == INTEGER and not flags & 1:
        offset, bits = fields.number(2), fields.number(2)
        if (offset, bits) == (0, 8 * size):
            dtype = f"{'int' if flags & 8 else 'uint'}{bits}"
    elif kind == FLOAT and not flags & 65:
        fields.take(5)
        exponent, _, mantissa = (fields.number(1) for _ in range(3))
        dtype = FLOATS.get((size, exponent, mantissa))
    elif kind == OPAQUE and size == 2:
        dtype = "bfloat16"  # Keras writes nothing else as opaque bytes
    elif kind == ENUMERATION and size == 1 and b"FALSE\0" in data and b"TRUE\0" in data:
        dtype = "bool"  # as h5py writes it
    if dtype not in STORED:
        raise source.fault(
            f"keeps {path} in the HDF5 type {kind} of {size} bytes, not as little-endian numbers",
            REWRITE,
        )
    return dtype
