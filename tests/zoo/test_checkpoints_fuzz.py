"""Damaged checkpoints of every kind: each gives arrays or a CheckpointError, and runs no code."""

import builtins
import os
import random
import struct
import zipfile

import numpy as np
import pytest

from kerasdet.zoo.checkpoints import CheckpointError, read_checkpoint
from tests.zoo.checkpoint_files import (
    GOLDEN,
    Call,
    Global,
    Opcodes,
    hdf5_of,
    legacy_bytes,
    legacy_of,
    pickled,
    safetensors_bytes,
    some_arrays,
    state_dict,
    storage,
    tensor,
    zip_bytes,
    zip_of,
)

EACH = 1000
NUMBERS = (0, 1, 2, 7, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**48, 2**63, 2**64 - 1)
# Opcodes that matter, and names that must never be called.
PIECES = (
    *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"\x8c\x02os\x8c\x06system\x93", b"ios\nsystem\n"),
    *(b"U\x04echo\x85R", b"o", b"\x81", b"b", b"\x82\x01", b"R", b"Q", b"(", b"t", b"u", b"h\x01"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"\x94", b"]", b"}", b".", b"\x85", b"\x8a\x08"),
)


def mutated(rng, data, other):
    """One to four changes of any kind."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(9):
            case 0:
                data[place : place + 1] = bytes([rng.randrange(256)])
            case 1 if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case 2:  # a number of a header
                width = rng.choice((1, 2, 4, 8))
                number = (rng.choice((*NUMBERS, len(data))) + rng.choice((-1, 0, 0, 1))) % (1 << 64)
                data[place : place + width] = struct.pack("<Q", number)[:width]
            case 3 if rng.random() < 0.3:  # cut short
                del data[place:]
            case 4:  # cut out
                del data[place : place + rng.randrange(1, 40)]
            case 5:
                data[place:place] = rng.randbytes(rng.randrange(1, 20))
            case 6:
                data[place:place] = rng.choice(PIECES)
            case 7:  # a piece of elsewhere in the file
                start = rng.randrange(len(data) + 1)
                data[place : place + 16] = data[start : start + rng.randrange(1, 64)]
            case 8:  # a piece of another file
                start = rng.randrange(len(other))
                data[place : place + 16] = other[start : start + rng.randrange(1, 64)]
    return bytes(data)


def odd_values():
    """What may stand where something else is due."""
    names = [Global("torch", "FloatStorage"), Global("torch", "float32"), Global("torch", "Size")]
    names += [
        Global("collections", "OrderedDict"),
        Global("numpy", "dtype"),
        Global("torch", "uint16"),
    ]
    names += [Global("torch._utils", f"_rebuild_tensor{end}") for end in ("", "_v2", "_v3")]
    stored = storage("0", "float32", 24)
    number = Call(Global("numpy", "dtype"), ("f8", False, True))
    made = [
        tensor(stored, (2,), (1,)),
        stored,
        number,
        Opcodes(b"\x8f"),
        *(Call(n, ()) for n in names),
    ]
    plain = [None, True, -1, 0, 1, 7, 2**31, 2**70, -(2**70), 1.5, "", "0", "storage", b"\xff"]
    return [*plain, (), (1,), (1, 2), [], [1], [(1, 2)], {}, {"a": 1}, *names, *made]


def confused(rng, value, odd):
    """A value with some of its parts replaced by odd ones, or left out."""
    if rng.random() < 0.01:
        return rng.choice(odd)
    if isinstance(value, dict):
        return {key: confused(rng, part, odd) for key, part in value.items()}
    if isinstance(value, Global | Opcodes) or not isinstance(value, tuple | list):
        return value
    parts = [confused(rng, part, odd) for part in value]
    if hasattr(value, "_fields"):
        return type(value)(*parts)
    return type(value)(parts[: rng.randrange(len(parts) + 1)] if rng.random() < 0.01 else parts)


def golden(name):
    return (GOLDEN / name).read_bytes()


def golden_parts():
    """The pickle of the golden zip and its storages."""
    with zipfile.ZipFile(GOLDEN / "zip.pt") as archive:
        names = [name for name in archive.namelist() if name.startswith("zip/data/")]
        storages = [archive.read(f"zip/data/{i}") for i in range(len(names))]
        return archive.read("zip/data.pkl"), storages


def written():
    """{kind: (bytes that are mutated, function of the file around them)}."""
    arrays, pickle_and_storages = some_arrays(), golden_parts()
    values = [array.tobytes() for array in arrays.values()]
    counted = [(array.size, array.tobytes()) for array in arrays.values()]
    text = golden("golden.safetensors")
    end = 8 + int.from_bytes(text[:8], "little")
    return {
        "zip": (zip_of(arrays), bytes),
        "golden zip": (golden("zip.pt"), bytes),
        "pickle in a zip": (
            pickled(state_dict(arrays)),
            lambda data: zip_bytes(data, values),
        ),
        "golden pickle in a zip": (
            pickle_and_storages[0],
            lambda data: zip_bytes(data, pickle_and_storages[1]),
        ),
        "legacy": (legacy_of(arrays), bytes),
        "golden legacy": (golden("legacy.pt"), bytes),
        "pickle in a legacy file": (
            pickled(state_dict(arrays, None)),
            lambda data: legacy_bytes(data, counted),
        ),
        "safetensors": (golden("golden.safetensors"), bytes),
        "header of safetensors": (text[8:end], lambda data: safetensors_bytes(data, text[end:])),
        "HDF5": (hdf5_of(arrays), bytes),
        "newer HDF5": (hdf5_of(many_arrays(), "latest"), bytes),
    }


def many_arrays():
    """So many that a group of the newer HDF5 needs a heap."""
    return {f"layers/layer_{i}/0": np.full(2, i, "float32") for i in range(20)}


def campaign(kind, path, seed, count):
    """How many of so many damaged files were refused."""
    rng = random.Random(f"{kind} {seed}")
    kinds = written()
    whole, container = kinds[kind]
    others = [data for data, _ in kinds.values()]
    write(path, container(whole))
    assert refusal(path) is None
    refused = 0
    for _ in range(count):
        write(path, container(mutated(rng, whole, rng.choice(others))))
        text = refusal(path)
        assert text is None or (text.startswith(f"{path} ") and ". Fix: " in text)
        refused += text is not None
    return refused


def write(path, data):
    """A new file each time: some file systems flush one that is emptied and written again."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def refusal(path):
    """The error's text; None where arrays are read, each of which is then looked at."""
    try:
        arrays = read_checkpoint(path)
    except CheckpointError as error:
        return str(error)
    assert arrays
    for name, array in arrays.items():
        assert type(name) is str
        assert type(array) is np.ndarray
        assert array.copy().nbytes <= 2 * path.stat().st_size
    return None


@pytest.mark.parametrize("container", [zip_bytes, legacy_bytes])
def test_values_of_other_types(tmp_path, container):
    rng, odd, arrays, path = random.Random(0), odd_values(), some_arrays(), tmp_path / "file"
    value = {"model": state_dict(arrays, *([None] if container is legacy_bytes else []))}
    value["more"] = [part for part in odd if type(part) is not Call and type(part) is not Opcodes]
    storages = [array.tobytes() for array in arrays.values()]
    if container is legacy_bytes:
        storages = [(array.size, array.tobytes()) for array in arrays.values()]
    refused = 0
    for _ in range(EACH):
        write(path, container(pickled(confused(rng, value, odd)), storages))
        refused += refusal(path) is not None
    assert EACH // 20 < refused < EACH


@pytest.mark.parametrize("kind", written())
def test_damaged_files(tmp_path, monkeypatch, kind):
    run = []
    monkeypatch.setattr(os, "system", lambda *args: run.append(args))
    monkeypatch.setattr(builtins, "eval", lambda *args: run.append(args))
    refused = campaign(kind, tmp_path / "file", 0, EACH)
    assert not run
    assert EACH // 20 < refused < EACH  # the damage is neither nothing nor always noticed at once
