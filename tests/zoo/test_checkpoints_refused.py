"""Checkpoints that are refused, each with what its error says."""

import functools
import os
import pickle
import re
import struct
import tarfile
import zipfile

import h5py
import numpy as np
import pytest

from kerasdet.zoo.checkpoints import CheckpointError, read_checkpoint
from kerasdet.zoo.checkpoints.source import Source
from tests.zoo.checkpoint_files import (
    GOLDEN,
    Call,
    Global,
    Opcodes,
    check_refused,
    encoded,
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

CONTAINERS = {"zip": zip_bytes, "legacy": legacy_bytes}


@pytest.fixture
def refused(tmp_path):
    return functools.partial(check_refused, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_qtensor"),
        *("torch.ComplexFloatStorage", "torch.QInt8Storage", "torch.float8_e4m3fn"),
        *("torch._tensor._rebuild_from_type_v2", "numpy._core.multiarray._reconstruct"),
        *("torch.nn.modules.linear.Linear", "torch.jit._pickle.restore_type_tag"),
    ],
)
def test_other_tensors_are_refused_by_name(refused, name):
    data = zip_bytes(pickled({"a": Global(*name.rsplit(".", 1))}))
    refused(data, f"asks for {re.escape(name)}: refused")


def one(count=4, size=(4,), stride=(1,), offset=0, dtype="float32"):
    return {"a": tensor(storage("0", dtype, count), size, stride, offset)}


def patched(data, old, new):
    assert data.count(old) == 1
    return data.replace(old, new)


FLOAT64 = Call(Global("numpy", "dtype"), ("f8", False, True))
PICKLES = {
    "beyond the storage": (one(size=(5,)), "a reach to element 4 of a storage that ends at 4"),
    "offset beyond it": (one(offset=1), "reach to element 4"),
    "stride beyond it": (one(size=(2, 2), stride=(3, 1)), "reach to element 4"),
    "immense stride": (one(size=(2,), stride=(2**70,)), "reach to element"),
    "negative offset": (one(offset=-1), "is not a count"),
    "negative stride": (one(stride=(-1,), offset=3), "is not a count"),
    "negative size": (one(size=(-1,)), "is not a count"),
    "a truth value as size": (one(size=(True,)), "is not a count"),
    "axes and strides differ": (one(size=(2, 2)), "impossible shape"),
    "immense and empty": (one(size=(0, 2**50), stride=(1, 1)), "impossible shape"),
    "33 axes": (one(size=(1,) * 33, stride=(1,) * 33), "impossible shape"),
    "repeated": (one(size=(1000, 4), stride=(0, 1)), r"a repeat its elements.*contiguous\(\)"),
    "a smaller storage": (one(count=3, size=(3,)), "16 bytes of the storage 0"),
    "a larger storage": (one(count=10**12, size=(1,)), "16 bytes of the storage 0"),
    "another dtype": (one(dtype="float64"), "16 bytes of the storage 0"),
    "a missing storage": (
        {"a": tensor(storage("9", "float32", 4), (4,), (1,))},
        "lacks the storage",
    ),
    "one storage in two ways": (
        {**one(), "b": tensor(storage("0", "int64", 2), (2,), (1,))},
        "describes the storage 0 in two ways",
    ),
    "negated": (
        {"a": Call(one()["a"].function, (*one()["a"].args, {"neg": True}))},
        "a tensor with metadata",
    ),
    "no tensors": ({"epoch": 3}, r"has no state dict.*: a dict with epoch \(int\)\. Fix"),
    "tensors and others": (
        {"model": {**one(), "n": 3}},
        r"model \(dict\); it has a dict with n \(int\)",
    ),
    "an empty dict": ({}, "an empty dict"),
    "a list": ([], "a list"),
    "a tensor alone": (one()["a"], "a Tensor"),
    "a number as a name": ({3: one()["a"]}, "names a tensor 3, which is not a text"),
    "a tuple as a key": ({"model": one(), "x": Opcodes(b"})Ns")}, "has a tuple as a key"),
    "a call of what is no function": (
        Call(Global("torch", "float32"), ()),
        "a call of torch.float32",
    ),
    "a call of a text": (Call("print", ()), "a call of str"),
    "a call with too little": (
        Call(Global("torch._utils", "_rebuild_tensor_v2"), ()),
        "a tensor of",
    ),
    "state on a list": (Opcodes(b"]}b"), "asks for state on a list"),
    "a persistent number": (Opcodes(b"K\x01Q"), "a storage of"),
    "a module": (Opcodes(encoded(("module", "a", "b", "c", 1)) + b"Q"), "a storage of"),
    "an opcode of protocol 0": (Opcodes(b"I1\n"), "the pickle opcode INT: refused"),
    "no opcode": (Opcodes(b"\xff"), "the pickle opcode that no protocol has"),
    "a memo that is not there": (Opcodes(b"h\x07"), "no value number 7"),
    "an empty stack": (Opcodes(b"00"), "POP"),
    "nothing to append to": (Opcodes(b"Na"), "no list to work on"),
    "no mark": (Opcodes(b"t"), "no mark"),
    "an odd dict": (Opcodes(b"}(Nu"), "a key without a value"),
    "a text that is not UTF-8": (Opcodes(b"X\x01\x00\x00\x00\xff"), "not UTF-8"),
    "a text beyond the file": (
        Opcodes(b"X\x00\x00\x10\x00ab"),
        "ends at byte .* but 1048576 bytes",
    ),
    "an immense text": (Opcodes(b"X\xff\xff\xff\xffab"), "more memory than twice its size"),
    "a name of NumPy's objects": (Call(Global("numpy", "dtype"), ("O8",)), r"numpy\.dtype\(O8\)"),
    "a NumPy number of another size": (
        Call(Global("numpy.core.multiarray", "scalar"), (FLOAT64, b"abc")),
        "a NumPy number of another size",
    ),
    "a big-endian NumPy number": (
        Opcodes(encoded(FLOAT64) + encoded((3, ">")) + b"b"),
        "little-endian",
    ),
    "a newer tensor in older elements": (
        Call(
            Global("torch._utils", "_rebuild_tensor_v3"),
            (*one()["a"].args[:5], {}, Global("torch", "uint16")),
        ),
        "a tensor of uint16 in float32",
    ),
    "an OrderedDict of no pairs": (
        Call(Global("collections", "OrderedDict"), ([1],)),
        "an OrderedDict of items that are not pairs",
    ),
    "bytes beyond 255": (
        Call(Global("_codecs", "encode"), ("\u2603", "latin1")),
        "bytes beyond 255",
    ),
    "an immense name": (Opcodes(b"c" + b"a" * 300), "a name longer than 256 bytes"),
}


@pytest.mark.parametrize("case", PICKLES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_pickles_that_are_refused(refused, case, container):
    value, match = PICKLES[case]
    if container == "zip":
        refused(zip_bytes(pickled(value), [bytes(16)]), match)
    else:  # where storages are counted, not sized: a wrong count is noticed there
        refused(legacy_bytes(pickled(value), [(4, bytes(16))]), f"{match}|storage")


def test_a_hostile_name_is_shown_harmless(refused):
    text = refused(zip_bytes("\x80\x02cos\x1b[2J\u2603\nx\n.".encode("latin-1", "ignore")))
    assert text.isprintable()
    assert len(refused(zip_bytes(pickled({"a" * 10_000: 1})))) < 600


GOOD = {"a": np.arange(4, dtype="float32")}


def wrong_zips():
    good, golden = zip_of(GOOD), (GOLDEN / "zip.pt").read_bytes()
    stored, values = pickled(state_dict(GOOD)), GOOD["a"].tobytes()
    yield "cut short", golden[:-1], "is cut short"
    yield "another kind", zip_bytes(stored).replace(b"data.pkl", b"datb.pkl"), "has 0 members"
    yield "damaged data", patched(good, values, values[::-1]), "do not fit their checksum"
    yield "damaged pickle", good.replace(b"\x85", b"\x86").replace(b"cpu", b"cpv", 1), "checksum"
    yield "a byte order", zip_bytes(stored, [values], byteorder=b"big"), "big-endian"
    yield "TorchScript", zip_bytes(stored, [values], **{"constants.pkl": b""}), "TorchScript"
    deflated = zip_bytes(stored, [values], zipfile.ZIP_DEFLATED)
    yield "deflated", deflated, "compressed or encrypted"
    bomb = zip_bytes(stored, [bytes(20_000_000)], zipfile.ZIP_DEFLATED)
    yield "a bomb", bomb, "compressed or encrypted"
    place = good.rindex(b"archive/data/0") - 46
    sizes = struct.pack("<II", 16, 16)
    assert good[place + 20 : place + 28] == sizes
    larger = good[: place + 20] + struct.pack("<II", 2**31, 2**31) + good[place + 28 :]
    yield "a size beyond the file", larger, "bytes of the storage"
    elsewhere = good[: place + 42] + struct.pack("<I", len(good)) + good[place + 46 :]
    yield "a place beyond the file", elsewhere, "ends at byte"
    yield (
        "a directory beyond the file",
        good[:-10] + b"\xff\xff\xff" + good[-7:],
        "exceeds the file",
    )
    count = good[:-12] + b"\xff\x00" + good[-10:]
    yield "more members than their bytes", count, "directory of 255 members"
    yield "bytes behind the pickle", zip_bytes(stored + b"x", [values]), "whose length is not"
    two = zip_bytes(stored, [values, b""]).replace(b"data/1", b"data/0")
    yield "a name twice", two, "two members"


def wrong_legacies():
    good, golden = legacy_of(GOOD), (GOLDEN / "legacy.pt").read_bytes()
    stored = pickled(state_dict(GOOD, None))
    body = [(4, GOOD["a"].tobytes())]
    yield "cut short", golden[:-1], "but its storages end"
    yield "longer", good + b"x", "but its storages end"
    yield "a big machine", legacy_bytes(stored, body, little_endian=False), "big-endian"
    yield "a plain pickle", pickle.dumps([1, 2], 2), "not one of torch.save"
    yield "a version", patched(good, encoded(1001) + b".", encoded(1002) + b"."), "version 1002"
    yield "a strange key", legacy_bytes(stored, body, keys=["1"]), "twice or without a tensor"
    yield "a key twice", legacy_bytes(stored, body * 2, keys=["0", "0"]), "twice or without"
    yield "a missing key", legacy_bytes(stored, [], keys=[]), "lacks the storage 0"
    yield "no keys", legacy_bytes(stored, body, keys=3), "no list of its storages"
    yield "a count", legacy_bytes(stored, [(2**61, body[0][1])]), "ends at|end at"
    part = {"a": tensor(storage("0", "float32", 4, ("v", 2, 3)), (1,), (1,))}
    yield "a part", legacy_bytes(pickled(part), body), "part of the storage 0 that exceeds it"
    view = {"a": tensor(storage("0", "float32", 4, ("v", 0, 2)), (3,), (1,))}
    yield "beyond a part", legacy_bytes(pickled(view), body), "reach to element 2"


def wrong_safetensors():
    def entry(dtype="F32", shape=(4,), place=(0, 16), **more):
        return {"dtype": dtype, "shape": shape, "data_offsets": place, **more}

    data = bytes(16)
    yield "cut short", safetensors_bytes({"a": entry()}, data[1:]), "but its tensors end"
    yield "longer", safetensors_bytes({"a": entry()}, data + b"x"), "but its tensors end"
    yield "a header beyond", struct.pack("<Q", 99) + b"{}", "are needed"
    yield "a dtype", safetensors_bytes({"a": entry("F8_E4M3")}, data), "in the dtype F8_E4M3"
    yield "a dtype of no text", safetensors_bytes({"a": entry([])}, data), "in the dtype list"
    yield "a size", safetensors_bytes({"a": entry(shape=(5,))}, data), "do not fit its shape"
    yield "a shape", safetensors_bytes({"a": entry(shape=(-4,))}, data), "impossible shape"
    yield "immense", safetensors_bytes({"a": entry(shape=(0, 2**47, 2**47))}, b""), "impossible"
    yield "offsets", safetensors_bytes({"a": entry(place=(16, 0))}, data), "do not fit"
    yield "three offsets", safetensors_bytes({"a": entry(place=(0, 8, 16))}, data), "impossible"
    yield "a field", safetensors_bytes({"a": entry(more=1)}, data), "other fields"
    overlap = {"a": entry(), "b": entry(shape=(2,), place=(8, 16))}
    yield "overlap", safetensors_bytes(overlap, data), "b overlap another tensor, or a gap"
    gap = {"a": entry(shape=(2,), place=(8, 16))}
    yield "a gap", safetensors_bytes(gap, data), "or a gap"
    yield "a name twice", safetensors_bytes(b'{"a": 1, "a": 2}'), "a name appears twice"
    yield "no JSON", safetensors_bytes(b"{1}"), "not valid JSON"
    yield "a large number", safetensors_bytes(b'{"a": ' + b"9" * 5000 + b"}"), "not valid JSON"
    yield "no UTF-8", safetensors_bytes(b'{"\xff": 1}'), "not valid JSON"
    yield "nothing", safetensors_bytes({}), "holds no arrays"


def wrong_others():
    yield "nothing", b"", "begins with b''"
    yield "a text", b"<html>Not Found", "begins with b'<html>Not Found'.*safetensors or Keras"
    yield "an HDF5 file cut short", hdf5_of(some_arrays())[:-1], "is cut short"
    yield "an HDF5 file without weights", hdf5_of({}), "holds no arrays"


WRONG = [*wrong_zips(), *wrong_legacies(), *wrong_safetensors(), *wrong_others()]


@pytest.mark.parametrize(("data", "match"), [case[1:] for case in WRONG], ids=[c[0] for c in WRONG])
def test_files_that_are_refused(refused, data, match):
    refused(data, match)


def test_the_older_tar_container_is_named(refused, tmp_path):
    with tarfile.open(tmp_path / "old.tar", "w") as archive:
        archive.add(GOLDEN / "zip.pt", "storages")
    refused((tmp_path / "old.tar").read_bytes(), "is a tar archive.*torch.load")


@pytest.mark.parametrize("version", ["earliest", "latest"])
@pytest.mark.parametrize(
    "case", ["soft", "external link", "external data", "chunked", "compact", "virtual"]
)
def test_hdf5_that_keras_does_not_write(refused, tmp_path, version, case):
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w", libver=(version, "latest")) as file:
        file["layer/x"] = np.zeros(3, "float32")
        if case == "soft":
            file["layer/y"] = h5py.SoftLink("/layer/x")
        elif case == "external link":
            file["layer/y"] = h5py.ExternalLink("/etc/passwd", "x")
        elif case == "external data":
            file.create_dataset("layer/y", (3,), "f4", external=[("/etc/passwd", 0, 12)])
        elif case == "chunked":
            file.create_dataset("layer/y", (1000,), "f4", chunks=(10,), compression="gzip")
        elif case == "compact":
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_layout(h5py.h5d.COMPACT)
            space = h5py.h5s.create_simple((3,))
            h5py.h5d.create(file["layer"].id, b"y", h5py.h5t.IEEE_F32LE, space, plist)
        else:
            layout = h5py.VirtualLayout((3,), "f4")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3,))
            file.create_virtual_dataset("layer/y", layout)
    names = {
        "soft": "links y softly",
        "external link": "links y softly or to another file",
        "external data": "keeps layer/y in another file",
    }
    refused(path.read_bytes(), names.get(case, f"keeps layer/y {case}"))


@pytest.mark.parametrize("dtype", [">f4", "c8", "S5", "V3"])
def test_hdf5_of_other_numbers(refused, dtype):
    refused(hdf5_of({"a/x": np.zeros(3, dtype)}), "keeps a/x in the HDF5 type")


def test_an_object_of_two_names(refused, tmp_path):
    with h5py.File(tmp_path / "twice.h5", "w") as file:
        file["layer/x"] = np.zeros(3, "float32")
        file["layer/again"] = file["layer"]
    refused((tmp_path / "twice.h5").read_bytes(), "by two paths")


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    with open(path, "rb") as file:
        source = Source(path, file)
        os.truncate(path, 0)
        for function, *arguments in ((source.read, 0, 100), (source.array, 0, 25, "float32")):
            with pytest.raises(CheckpointError, match="became shorter while it was read"):
                function(*arguments)


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .*none\.pth"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="is a folder or a device"):
        read_checkpoint(tmp_path)
