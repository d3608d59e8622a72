"""Caffe's `.caffemodel` files: a network in protobuf's wire format, of which the layers' arrays are read.

    NetParameter      layers = 2 (old, V1), layer = 100 (new)
    V1LayerParameter  name = 4, type = 5 (a number), blobs = 6
    LayerParameter    name = 1, type = 2 (a text), blobs = 7
    BlobProto         num, channels, height, width = 1 to 4 (old shape), data = 5, shape = 7, double_data = 8
    BlobShape         dim = 1

A field is a key, 8 * number + kind of content, and the content: a varint, 8 bytes, a length with that many
bytes, or 4 bytes. These messages do not contain each other in circles, so nothing here is recursive.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasdet.zoo.checkpoints.errors import CheckpointError, printable
from kerasdet.zoo.checkpoints.source import Source, is_possible

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST_VARINT = 10  # bytes
MOST_FIELDS = 300_000  # ResNet-101 has fewer than 30 000
LONGEST_NAME = 1000  # bytes
PIECE = 1 << 16  # single numbers read at a time
OLD_LAYERS, NEW_LAYERS = 2, 100
OLD_TYPES = {4: "Convolution", 14: "InnerProduct", 39: "Deconvolution"}
NUMBERS = {5: "float32", 8: "float64"}  # fields of a blob
RAW_KIND, RAW = 10, 12  # NVIDIA's Caffe: numbers of half precision
CONVERT = "write the file again with float32 numbers, by the Caffe that made it"


class CaffeLayer(NamedTuple):
    """A layer with arrays.

    Fields:
        kind: its type, such as "Convolution".
        blobs: its arrays, float32 or float64, in the file's order and shapes. Old shapes have four axes.
    """

    kind: str
    blobs: list


class _Run(NamedTuple):
    """Numbers of a blob that follow each other in the file: packed, or each but the first behind its key."""

    start: int
    count: int
    dtype: str
    packed: bool


def read_caffemodel(path):
    """Read the arrays of a network's layers.

    Args:
        path: the file.

    Returns:
        {name: `CaffeLayer`} of the layers that have arrays, in the file's order, not empty.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: damaged, cut short, no network, or with numbers of another kind, that do not fill
            their shape or are not finite; the message names the file, the layer and the fix.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {path}.")
    with open(path, "rb") as file:
        source = _Wire(path, file)
        layers = {}
        for number, kind, start, end in source.fields(0, source.size):
            if number in (OLD_LAYERS, NEW_LAYERS) and kind == BYTES:
                name, layer = _layer(source, number == NEW_LAYERS, start, end)
                if layer.blobs and name in layers:
                    raise source.fault(f"has two layers {printable(name)} with weights")
                if layer.blobs:
                    layers[name] = layer
    if not layers:
        raise CheckpointError(
            f"{path} has no layer with weights. Fix: give a .caffemodel of a trained network."
        )
    return layers


class _Wire(Source):
    """A file of protobuf's wire format."""

    def __init__(self, path, file):
        super().__init__(path, file)
        self.count = 0

    def fields(self, position, end):
        """Yield the fields between two places: (number, kind, start, end) of their contents."""
        while position < end:
            self.count += 1
            if self.count > MOST_FIELDS:
                raise self.fault(
                    f"has more than {MOST_FIELDS} fields", "give a .caffemodel of Caffe"
                )
            key, position = self.varint(position, end)
            number, kind = key >> 3, key & 7
            if kind == VARINT:
                _, stop = self.varint(position, end)
            elif kind == BYTES:
                length, position = self.varint(position, end)
                stop = position + length
            elif kind in (FIXED32, FIXED64):
                stop = self.singles(position, end, key, 4 if kind == FIXED32 else 8)
            else:
                raise self.fault(
                    f"has a field of the kind {kind} at byte {position}, unlike any .caffemodel",
                    "give a .caffemodel of Caffe, not a prototxt, and a whole copy of it",
                )
            if number == 0 or stop > end:
                raise self.fault(
                    f"has a field at byte {position} that ends at {printable(stop)}, beyond the {end} of "
                    "its message"
                )
            yield number, kind, position, stop
            position = stop

    def varint(self, position, end):
        """Read a number of variable length; return it and the place behind it."""
        self.seek(position)
        data = self.take(min(LONGEST_VARINT, max(end - position, 0)))
        value = 0
        for i, byte in enumerate(data):
            value |= (byte & 127) << 7 * i
            if byte < 128:
                return value, position + i + 1
        raise self.fault(f"has a number at byte {position} that does not end")

    def singles(self, position, end, key, size):
        """Find where single numbers of one key end, the first of which begins here."""
        stop, record = position + size, 1 + size
        while key < 128 and (count := min((end - stop) // record, PIECE)) > 0:
            self.seek(stop)
            keys = np.frombuffer(self.take(count * record), "u1")[::record]
            same = count if (keys == key).all() else int(np.argmin(keys == key))
            stop += same * record
            if same < count:
                break
        return stop

    def numbers(self, run, out):
        """Read a run of numbers into an array."""
        if run.packed:
            out[:] = self.array(run.start, run.count, run.dtype)
            return
        record, start = 1 + out.itemsize, run.start - 1  # the first number's key
        for first in range(0, run.count, PIECE):
            part = out[first : first + PIECE]
            self.seek(start + first * record)
            rows = np.frombuffer(self.take(len(part) * record), "u1").reshape(-1, record)
            part[:] = np.ascontiguousarray(rows[:, 1:]).view(f"<f{out.itemsize}")[:, 0]

    def text(self, start, end):
        """Read a name."""
        if end - start > LONGEST_NAME:
            raise self.fault(f"has a name of {end - start} bytes")
        try:
            return self.read(start, end - start).decode("utf-8")
        except UnicodeDecodeError:
            raise self.fault(f"has a name at byte {start} that is not UTF-8") from None


def _layer(source, new, start, end):
    """Read a layer: its name and `CaffeLayer`."""
    name_field, kind_field, blob_field = (1, 2, 7) if new else (4, 5, 6)
    name, kind, places = "", "unknown", []
    for number, content, first, last in source.fields(start, end):
        if number == name_field and content == BYTES:
            name = source.text(first, last)
        elif number == kind_field and content == (BYTES if new else VARINT):
            kind = source.text(first, last) if new else _old_type(source, first, last)
        elif number == blob_field and content == BYTES:
            places.append((first, last))
        elif number == 1 and not new:
            raise source.fault(
                "has layers of Caffe's first format",
                "convert it with upgrade_net_proto_binary of Caffe",
            )
    source.charge(1024)
    blobs = [_blob(source, f"{printable(name)}, blob {i}", *p) for i, p in enumerate(places)]
    return name, CaffeLayer(kind, blobs)


def _old_type(source, first, last):
    value, _ = source.varint(first, last)
    return OLD_TYPES.get(value, f"type {printable(value)}")


def _blob(source, name, start, end):
    """Read an array."""
    old, shape, runs = {}, None, []
    for number, kind, first, last in source.fields(start, end):
        if number in (1, 2, 3, 4) and kind == VARINT:
            old[number] = source.varint(first, last)[0]
        elif number == 7 and kind == BYTES:
            shape = _dimensions(source, first, last)
        elif number in NUMBERS:
            runs.append(_run(source, name, number, kind, first, last))
        elif number in (RAW_KIND, RAW):
            raise source.fault(f"has raw numbers, perhaps float16, in {name}", CONVERT)
    if shape is None:
        shape = [old.get(axis, 1) for axis in (1, 2, 3, 4)] if old else []
    count = sum(run.count for run in runs)
    if not is_possible(shape) or math.prod(shape) != count:
        raise source.fault(
            f"has {count} numbers in {name}, whose shape is "
            f"({', '.join(printable(side) for side in shape[:8])})"
        )
    return _numbers(source, name, runs, count).reshape(shape)


def _dimensions(source, start, end):
    """Read a shape, whose sides are packed together or single."""
    shape = []
    for number, kind, first, last in source.fields(start, end):
        while number == 1 and kind in (VARINT, BYTES) and first < last and len(shape) < 64:
            side, first = source.varint(first, last)
            shape.append(side)
    return shape


def _run(source, name, number, kind, first, last):
    """Describe a field of numbers, packed or single ones."""
    dtype = NUMBERS[number]
    size = np.dtype(dtype).itemsize
    if kind == BYTES:
        if (last - first) % size:
            raise source.fault(f"has {last - first} bytes of {dtype} in {name}")
        return _Run(first, (last - first) // size, dtype, True)
    if kind != (FIXED32 if size == 4 else FIXED64):
        raise source.fault(f"has numbers of the kind {kind} in {name}, which are not {dtype}")
    return _Run(first, (last - first + 1) // (size + 1), dtype, False)


def _numbers(source, name, runs, count):
    """Read the numbers of all runs into one array."""
    kinds = {run.dtype for run in runs}
    if len(kinds) > 1:
        raise source.fault(f"has float32 and float64 numbers in {name}")
    dtype = kinds.pop() if kinds else "float32"
    if len(runs) == 1 and runs[0].packed:
        array = source.array(runs[0].start, count, dtype)
    else:
        source.charge(count * np.dtype(dtype).itemsize + 512)
        array, done = np.empty(count, dtype), 0
        for run in runs:
            source.numbers(run, array[done : done + run.count])
            done += run.count
    if not np.isfinite(array).all():
        raise source.fault(f"has numbers in {name} that are not finite")
    return array
