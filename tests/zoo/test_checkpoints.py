"""Checkpoints that are read: every container, dtype and view, against values written by hand."""

import os
import struct
import tracemalloc

import h5py
import keras
import ml_dtypes
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
    safetensors_of,
    some_arrays,
    state_dict,
    storage,
    tensor,
    zip_bytes,
    zip_of,
)

TYPES = ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64")
TABLE = np.arange(20, dtype="float32").reshape(4, 5)
WRITERS = {
    "zip": zip_of,
    "legacy": legacy_of,
    "safetensors": safetensors_of,
    "hdf5": hdf5_of,
    "hdf5 1.8": lambda arrays: hdf5_of(arrays, ("v108", "v108")),
    "hdf5 latest": lambda arrays: hdf5_of(arrays, "latest"),
}
MIB = 1 << 20


@pytest.fixture
def read(tmp_path):
    def read(data):
        path = tmp_path / "file"
        path.write_bytes(data)
        return read_checkpoint(path)

    return read


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


def golden():
    """What golden/make_checkpoints.py saves."""
    conv = np.arange(24, dtype="float32").reshape(3, 2, 2, 2)
    vector = np.arange(3, dtype="float32")
    names = ("0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "views.parameter")
    return {
        **dict.fromkeys(names, vector),
        **dict.fromkeys(("0.weight", "views.tied"), conv),
        **{f"types.{dtype}": np.arange(5, dtype=dtype) for dtype in TYPES},
        "1.num_batches_tracked": np.array(0, "int64"),
        "views.transposed": TABLE.T,
        "views.rows": TABLE[1:3],
        "views.every_other": np.array([[1, 3], [11, 13]], "float32"),
        "shapes.scalar": np.array(7, "float32"),
        "shapes.empty": np.zeros((0, 3), "float32"),
        "types.bool": np.array([True, False, True]),
        "types.bfloat16": np.arange(5, dtype="float32"),
    }


FILES = ("zip.pt", "zip_protocol4.pt", "legacy.pt", "golden.safetensors")


@pytest.mark.parametrize("name", FILES)
def test_what_the_frameworks_wrote(name):
    same(read_checkpoint(GOLDEN / name), golden())


def test_a_newer_dtype_and_a_file_without_checksums():
    found = read_checkpoint(GOLDEN / "uint16.pt")
    same(found, {"a": np.array([[0, 1, 2], [3, 4, 5]], "uint16")})
    found = read_checkpoint(GOLDEN / "without_checksums.pt")
    same(found, {"a": np.array([[0, 1, 2], [3, 4, 5]], "float32")})


def test_sizes_of_64_bits(read):
    # As in a file of more than 4 GB: the entry's numbers stand in its extra field.
    values = np.array([1, 2], "float32")
    data = zip_of({"a": values})
    entry = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    place = struct.unpack_from("<I", data, entry + 42)[0]
    extra = struct.pack("<HHBHHQQQ", 9, 1, 0, 1, 24, 8, 8, place)
    name = b"archive/data/0"
    head = bytearray(data[entry : entry + 46])
    head[20:28] = b"\xff" * 8
    head[30:32] = struct.pack("<H", len(extra))
    head[42:46] = b"\xff" * 4
    rest = data[entry + 46 + len(name) :]
    end = len(rest) - 10
    size = struct.unpack_from("<I", rest, end)[0] + len(extra)
    rest = rest[:end] + struct.pack("<I", size) + rest[end + 4 :]
    same(read(data[:entry] + head + name + extra + rest), {"a": values})


@pytest.mark.parametrize("name", ["zip.pt", "legacy.pt"])
def test_views_share_memory_and_cannot_be_written(name):
    found = read_checkpoint(str(GOLDEN / name))
    assert np.shares_memory(found["0.weight"], found["views.tied"])
    assert np.shares_memory(found["views.transposed"], found["views.rows"])
    assert list(found)[:2] == ["0.weight", "0.bias"]
    for array in found.values():
        assert not array.flags.writeable


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_by_its_content(read, kind):
    same(read(WRITERS[kind](some_arrays())), some_arrays())


@pytest.mark.parametrize("place", ["model", "state_dict", "model_state_dict"])
def test_where_the_state_dict_lies(read, place):
    arrays = {"a": np.array([1, 2], "float32"), "b": np.array([3], "int64")}
    storages = [array.tobytes() for array in arrays.values()]
    whole = {"epoch": 3, place: state_dict(arrays), "optimizer": {"state": {0: {"lr": 0.1}}}}
    same(read(zip_bytes(pickled(whole), storages)), arrays)


def test_the_first_place_that_is_a_state_dict_counts(read):
    one, other = storage("0", "float32", 1), storage("1", "float32", 1)
    whole = {"model": "resnet", "model_state_dict": {"a": tensor(one, (1,), (1,))}}
    whole["state_dict"] = {"b": tensor(other, (1,), (1,))}
    data = zip_bytes(pickled(whole), [np.float32(1).tobytes(), np.float32(2).tobytes()])
    same(read(data), {"b": np.array([2], "float32")})


def test_storages_that_the_state_dict_does_not_need_are_not_read(read):
    whole = {"model": {"a": tensor(storage("0", "float32", 1), (1,), (1,))}}
    whole["optimizer"] = [tensor(storage("gone", "float32", 10**9), (1,), (1,))]
    same(read(zip_bytes(pickled(whole), [bytes(4)])), {"a": np.zeros(1, "float32")})


def test_strides_and_offsets(read):
    views = {
        "columns": tensor(storage("0", "float32", 20), (2, 4), (2, 5), 1),
        "axis of one": tensor(storage("0", "float32", 20), (1, 5), (10**12, 1), 15),
        "last": tensor(storage("0", "float32", 20), (), (), 19),
        "none": tensor(storage("0", "float32", 20), (3, 0), (9, 9), 99),
    }
    expected = {
        "columns": TABLE.T[1::2],
        "axis of one": TABLE[3:],
        "last": np.array(19, "float32"),
        "none": np.zeros((3, 0), "float32"),
    }
    same(read(zip_bytes(pickled(views), [TABLE.tobytes()])), expected)


def test_a_part_of_a_legacy_storage(read):
    parts = {
        "whole": tensor(storage("root", "float32", 20, None), (20,), (1,)),
        "part": tensor(storage("root", "float32", 20, ("part", 5, 10)), (4,), (2,), 1),
    }
    data = legacy_bytes(pickled(parts), [(20, TABLE.tobytes())], keys=["root"])
    flat = TABLE.ravel()
    same(read(data), {"whole": flat, "part": np.array([6, 8, 10, 12], "float32")})


def test_what_python_2_wrote(read):
    ordered = Global("collections", "OrderedDict")
    dtype = Opcodes(
        b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    number = Call(Global("numpy.core.multiarray", "scalar"), (dtype, bytes(6) + b"\xf0\x3f"))
    vector = tensor(storage(b"0", "float32", 2, None), (2,), (1,))
    old = Call(Global("torch._utils", "_rebuild_tensor"), vector.args[:4])
    whole = {
        b"model": Call(ordered, ([[b"a", vector], [b"b", old]],)),
        b"best": number,
        b"names": Call(Global("__builtin__", "set"), ([b"x"],)),
    }
    values = np.array([1, 2], "float32")
    data = legacy_bytes(pickled(whole), [(2, values.tobytes())])
    same(read(data), {"a": values, "b": values})


def test_any_byte_but_zero_is_true(read):
    flags = {"a": tensor(storage("0", "bool", 3), (3,), (1,))}
    same(read(zip_bytes(pickled(flags), [b"\x00\x02\xff"])), {"a": np.array([False, True, True])})


def test_bfloat16_is_widened_exactly(read):
    values = np.random.default_rng(0).normal(size=600_000).astype(ml_dtypes.bfloat16)
    values[:4] = np.inf, -np.inf, 1e-40, -0.0
    header = {"a": {"dtype": "BF16", "shape": [600, 1000], "data_offsets": [0, 1_200_000]}}
    header["__metadata__"] = {"format": "np"}
    found = read(safetensors_bytes(header, values.tobytes()))
    same(found, {"a": values.astype("float32").reshape(600, 1000)})


def test_what_keras_writes(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    path = tmp_path / "a.weights.h5"
    model.save_weights(path)
    kernel, bias = model.get_weights()
    same(read_checkpoint(path), {"layers/dense/vars/0": kernel, "layers/dense/vars/1": bias})
    model.save(tmp_path / "whole.h5")
    found = read_checkpoint(tmp_path / "whole.h5")
    assert {name.split("/")[0] for name in found} == {model.layers[0].name}
    half = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16")])
    half.save_weights(path)
    kernel = np.asarray(half.get_weights()[0]).astype("float32")
    np.testing.assert_array_equal(read_checkpoint(path)["layers/dense/vars/0"], kernel)


@pytest.mark.parametrize("version", ["earliest", "v108", "latest"])
def test_groups_of_many_layers(tmp_path, version):
    arrays = {f"layers/layer_{i}/vars/0": np.full(i % 3, i, "float32") for i in range(1500)}
    with h5py.File(tmp_path / "many.h5", "w", libver=(version, "latest")) as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs["note"] = ["x" * 100] * 50
    same(read_checkpoint(tmp_path / "many.h5"), arrays)


def test_bool_in_hdf5(read):
    arrays = {"a/x": np.array([True, False]), "a/y": np.array(2, "uint16")}
    same(read(hdf5_of(arrays)), arrays)


def peak(path):
    """Most bytes of memory that reading takes."""
    tracemalloc.start()
    try:
        read_checkpoint(path)
    except CheckpointError:
        pass
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


@pytest.mark.parametrize("kind", WRITERS)
def test_memory_is_that_of_the_arrays(tmp_path, kind):
    path = tmp_path / "large"
    arrays = {f"{i}/x": np.zeros(3 * MIB // 4, "float32") for i in range(4)}
    path.write_bytes(WRITERS[kind](arrays))
    assert peak(path) < os.path.getsize(path) + MIB


def test_memory_of_bfloat16_is_twice_the_file(tmp_path):
    path, size = tmp_path / "half", 12 * MIB
    header = {"a": {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}}
    path.write_bytes(safetensors_bytes(header, bytes(size)))
    assert peak(path) < 2 * size + 2 * MIB
