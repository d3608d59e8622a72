"""Hostile checkpoints: no code is run, nothing recurses, and memory keeps its bound."""

import builtins
import copyreg
import functools
import os
import pickle
import struct
import sys
import tracemalloc

import numpy as np
import pytest

from kerasdet.zoo.checkpoints.source import SLACK
from tests.zoo.checkpoint_files import (
    Call,
    Global,
    Opcodes,
    Trap,
    check_refused,
    encoded,
    legacy_bytes,
    pickled,
    safetensors_bytes,
    some_arrays,
    state_dict,
    storage,
    tensor,
    zip_bytes,
)

CONTAINERS = {"zip": zip_bytes, "legacy": legacy_bytes}
TRAP = b"ctests.zoo.checkpoint_files\nTrap\n"
EXTENSION = 240
NATIVE = f"{os.system.__module__}.system"  # posix.system, or nt.system


class Reducing:
    def __reduce__(self):
        return os.system, ("echo",)


# Pickle: what the error names. Each runs code in pickle.loads.
PAYLOADS = {
    "reduce": (b"\x80\x02cos\nsystem\nU\x04echo\x85R.", "os.system"),
    "eval": (b"\x80\x02cbuiltins\neval\nU\x011\x85R.", "builtins.eval"),
    "stack global": (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04echo\x85R.", "os.system"),
    "dotted": (
        b"\x80\x04\x8c\x02os\x8c\x0epath.os.system\x93\x8c\x04echo\x85R.",
        "os.path.os.system",
    ),
    "inst": (b"(S'echo'\nios\nsystem\n.", "STRING"),
    "inst, protocol 2": (b"\x80\x02(U\x04echoios\nsystem\n.", "os.system"),
    "obj": (b"\x80\x02(cos\nsystem\nU\x04echoo.", "os.system"),
    "newobj": (b"\x80\x02" + TRAP + b")\x81.", "tests.zoo.checkpoint_files.Trap"),
    "newobj_ex": (b"\x80\x04" + TRAP + b")}\x92.", "tests.zoo.checkpoint_files.Trap"),
    "build": (b"\x80\x02" + TRAP + b")\x81}b.", "tests.zoo.checkpoint_files.Trap"),
    "ext": (b"\x80\x02\x82" + bytes([EXTENSION]) + b"U\x04echo\x85R.", "EXT1"),
    **{f"__reduce__, protocol {p}": (pickle.dumps(Reducing(), p), NATIVE) for p in range(2, 6)},
}


def bare(code):
    """A pickle's opcodes without its first and last."""
    return code[2 if code[0] == 0x80 else 0 : -1]


@pytest.fixture
def wire(monkeypatch):
    """The list of what was run that must not be."""
    run = Trap.sprung
    run.clear()
    for module in (os, sys.modules[os.system.__module__]):
        monkeypatch.setattr(module, "system", lambda *args: run.append("system"))
    monkeypatch.setattr(builtins, "eval", lambda *args: run.append("eval"))
    copyreg.add_extension("os", "system", EXTENSION)
    yield run
    copyreg.remove_extension("os", "system", EXTENSION)
    copyreg.clear_extension_cache()


@pytest.fixture
def refused(tmp_path):
    return functools.partial(check_refused, tmp_path)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_payloads_do_run_code_in_pickle(wire, payload):
    pickle.loads(PAYLOADS[payload][0])
    assert wire


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_no_code_is_run(wire, refused, payload, container):
    code, name = PAYLOADS[payload]
    text = refused(CONTAINERS[container](code))
    assert f"asks for {name}: refused" in text or f"opcode {name}: refused" in text
    beside = {"model": state_dict(some_arrays()), "args": Opcodes(bare(code))}
    refused(CONTAINERS[container](pickled(beside)))
    assert not wire


def test_the_legacy_container_has_no_back_door(wire, refused):
    head = [b"", *map(pickled, (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))]
    for code, _ in PAYLOADS.values():
        for before in range(1, 5):
            refused(b"".join(head[:before]) + code)
        refused(legacy_bytes(pickled({}), keys=Opcodes(bare(code))))
    assert not wire


def test_nothing_is_imported(refused):
    refused(zip_bytes(b"\x80\x02cthis\nthing\n."), r"asks for this\.thing: refused")
    assert "this" not in sys.modules


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_namespace_beside_the_state_dict(refused, container):
    namespace = Call(Global("argparse", "Namespace"), ())
    whole = {"model": state_dict(some_arrays()), "args": namespace}
    text = refused(CONTAINERS[container](pickled(whole)), r"asks for argparse\.Namespace: refused")
    assert "torch.save(model.state_dict(), 'clean.pth')" in text


def test_depth_is_no_recursion(refused):
    deep = b"\x80\x02N" + b"\x85" * 100_000
    for code in (deep + b".", deep[:-1] + b"}", b"\x80\x02}" + deep[2:] + b"Ns."):
        refused(zip_bytes(code))
    refused(zip_bytes(b"\x80\x02]q\x00h\x00a."), "a list")
    for opened in (b"[", b'{"a":'):
        refused(safetensors_bytes(b'{"a":' + opened * 20_000), "JSON")


MILLION = 1_000_000
OBJECTS = {
    "lists": b"]" * MILLION,
    "sets": b"\x8f" * MILLION,
    "marks": b"(" * MILLION,
    "tuples": b"N" + b"\x85" * MILLION,
    "memo": b"N" + b"\x94" * MILLION,
    "texts": ("\x8c\x04".encode("latin-1") + "\U0001f600".encode()) * (MILLION // 6),
    "one text": b"X" + struct.pack("<I", MILLION) + b"a" * (MILLION - 4) + "\U0001f600".encode(),
    "numbers in a dict": b"}(" + b"".join(encoded(i) + b"N" for i in range(MILLION // 6)) + b"u",
    "doubling": b"]q\x00" + b"h\x00h\x00\x86q\x00" * (MILLION // 7),
}


@pytest.mark.parametrize("case", OBJECTS)
def test_memory_of_many_objects(refused, case):
    data = legacy_bytes(b"\x80\x02" + OBJECTS[case])
    tracemalloc.start()
    try:
        refused(data)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2 * len(data) + SLACK


def test_one_member_as_many_storages(refused):
    # Fifty entries of the directory lead to the same 400 kB: the sum is beyond the file's size.
    arrays = {str(i): np.zeros(1, "uint8") for i in range(50)}
    value = {name: tensor(storage(name, "uint8", 400_000), (1,), (1,)) for name in arrays}
    data = bytearray(zip_bytes(pickled(value), [bytes(400_000), *[b""] * 49]))
    first, *others = (data.rindex(f"archive/data/{i}PK".encode()) - 46 for i in range(50))
    for entry in others:
        data[entry + 16 : entry + 28] = data[first + 16 : first + 28]  # checksum and sizes
        data[entry + 42 : entry + 46] = data[first + 42 : first + 46]  # place
    refused(bytes(data), "more memory than twice its size")
