"""Checkpoints written byte by byte: the formats, and the pickles that no honest program writes."""

import io
import json
import re
import struct
import zipfile
from pathlib import Path
from typing import ClassVar, NamedTuple

import h5py
import numpy as np
import pytest

from kerasdet.zoo.checkpoints import CheckpointError, read_checkpoint

GOLDEN = Path(__file__).parent / "golden"
STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


class Global(NamedTuple):
    """A name that the pickle asks for."""

    module: str
    name: str


class Call(NamedTuple):
    """A call that the pickle asks for."""

    function: object
    args: tuple


class Persistent(NamedTuple):
    """An object outside the pickle."""

    identity: object


class Trap:
    """A class whose every way to life runs code."""

    sprung: ClassVar[list] = []

    def __new__(cls, *args, **kwargs):
        cls.sprung.append("__new__")
        return super().__new__(cls)

    def __setstate__(self, state):
        self.sprung.append("__setstate__")


class Opcodes(NamedTuple):
    """Bytes of a pickle, as they are."""

    code: bytes


def encoded(value):
    """The opcodes of protocol 2 that make a value."""
    match value:
        case Opcodes():
            return value.code
        case Global():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return encoded(value.function) + encoded(value.args) + b"R"
        case Persistent():
            return encoded(value.identity) + b"Q"
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int() if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case bytes():  # as Python 2 wrote them
            return b"U" + bytes([len(value)]) + value
        case tuple():
            return b"(" + b"".join(map(encoded, value)) + b"t"
        case list():
            return b"](" + b"".join(map(encoded, value)) + b"e"
        case dict():
            return b"}(" + b"".join(encoded(part) for item in value.items() for part in item) + b"u"
    raise TypeError(value)


def pickled(value):
    return b"\x80\x02" + encoded(value) + b"."


def storage(key, dtype, count, *more):
    kind = Global("torch", STORAGES[dtype])
    return Persistent(("storage", kind, key, "cpu", count, *more))


def tensor(stored, size, stride, offset=0):
    args = (stored, offset, size, stride, False, Call(Global("collections", "OrderedDict"), ()))
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), args)


def state_dict(arrays, *more):
    """The pickle's value for arrays that lie contiguous in one storage each, named 0, 1, ..."""
    result = {}
    for number, (name, array) in enumerate(arrays.items()):
        stored = storage(str(number), array.dtype.name, array.size, *more)
        steps = tuple(step // array.itemsize for step in array.strides)
        result[name] = tensor(stored, array.shape, steps)
    return result


def zip_bytes(pickle, storages=(), compression=zipfile.ZIP_STORED, **more):
    """The zip container around a pickle's bytes and the storages' bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle)
        for number, data in enumerate(storages):
            archive.writestr(f"archive/data/{number}", bytes(data))
        for name, data in {"byteorder": b"little", "version": b"3\n", **more}.items():
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def legacy_bytes(pickle, storages=(), little_endian=True, keys=None):
    """The legacy container around a pickle's bytes and (count of elements, bytes) of storages."""
    machine = {"protocol_version": 1001, "little_endian": little_endian}
    head = (0x1950A86A20F9469CFC6C, 1001, machine)
    keys = [str(number) for number in range(len(storages))] if keys is None else keys
    bodies = (struct.pack("<q", count) + bytes(data) for count, data in storages)
    return b"".join([*map(pickled, head), pickle, pickled(keys), *bodies])


def zip_of(arrays):
    return zip_bytes(pickled(state_dict(arrays)), [a.tobytes() for a in arrays.values()])


def legacy_of(arrays):
    storages = [(array.size, array.tobytes()) for array in arrays.values()]
    return legacy_bytes(pickled(state_dict(arrays, None)), storages)


def safetensors_bytes(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def safetensors_of(arrays):
    codes, header, data = {"float32": "F32", "float16": "F16", "int64": "I64"}, {}, b""
    for name, array in arrays.items():
        place = [len(data), len(data) + array.nbytes]
        code = codes[array.dtype.name]
        header[name] = {"dtype": code, "shape": array.shape, "data_offsets": place}
        data += array.tobytes()
    return safetensors_bytes(header, data)


def hdf5_of(arrays, version=("earliest", "latest")):
    """Keras' layout of `save_weights`, groups of layers with the attribute `weight_names`."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=version) as file:
        layers = sorted({name.split("/")[0] for name in arrays})
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer in layers:
            weights = [name for name in arrays if name.split("/")[0] == layer]
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.split("/", 1)[1].encode() for name in weights]
        for name, array in arrays.items():
            file[name] = array
    return buffer.getvalue()


def some_arrays(seed=0):
    """A few small arrays under names that every format has."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for layer in ("conv", "norm"):
        arrays[f"{layer}/{layer}/kernel:0"] = rng.normal(size=(2, 3, 4)).astype("float32")
        arrays[f"{layer}/{layer}/bias:0"] = rng.normal(size=3).astype("float16")
        arrays[f"{layer}/count"] = np.array(3, "int64")
        arrays[f"{layer}/empty"] = np.zeros((0, 3), "float32")
    return arrays


def check_refused(folder, data, match=None):
    """Read bytes that must be refused; gives the error's text."""
    path = folder / "file"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=match) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(f"{path} ")
    assert re.search(r"\. Fix: .{10}", str(error.value))
    return str(error.value)
