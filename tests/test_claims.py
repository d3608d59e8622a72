"""Two processes and one folder: the second is told who has it, and a killed one leaves nothing."""

import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from kerasdet import files
from kerasdet.files import CLAIM, atomic_write, claimed, remove_unfinished
from tests.training_parts import run

ROOT = Path(__file__).parents[1]


class Child:
    """A process that runs a program and says when it is ready."""

    def __init__(self, program, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in self.process.stdout:
            if line.strip() == "ready":
                return
        raise AssertionError(f"the process ended with {self.process.wait()}")

    def kill(self):
        self.process.kill()
        self.process.stdout.close()
        self.process.wait()


HOLD = """
import sys, time
from kerasdet.files import atomic_write, claimed
with claimed(sys.argv[1]):
    with atomic_write(sys.argv[1] + "/a.json") as outer, atomic_write(outer) as inner:
        inner.write_text("half")
        print("ready", flush=True)
        time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that has claimed `tmp_path` and is in the middle of writing a file."""
    child = Child(HOLD, tmp_path)
    yield child
    child.kill()


def test_the_holder_is_named(holder, tmp_path):
    host, process = os.uname().nodename, holder.process.pid
    today = time.strftime("%Y-%m-%d")
    message = (
        rf"{tmp_path} is in use by process {process} on {re.escape(host)} since {today} "
        r"\d\d:\d\d:\d\d\S*: wait until that has ended, or give another folder\."
    )
    with pytest.raises(BlockingIOError, match=message), claimed(tmp_path):
        pytest.fail("the block must not run")
    with pytest.raises(BlockingIOError, match=f"process {process}"):
        run(tmp_path, epochs=1)
    with pytest.raises(BlockingIOError, match=f"process {process}"):
        run(tmp_path, epochs=1, resume=True)
    assert (tmp_path / CLAIM).exists()
    assert not (tmp_path / "recipe.json").exists()


def test_a_killed_holder_blocks_nobody_and_its_half_written_file_goes(holder, tmp_path):
    assert len(list(tmp_path.glob(".*"))) == 1  # a write inside of a write has no file of its own
    holder.kill()
    assert (tmp_path / CLAIM).exists()
    with claimed(tmp_path):
        assert os.listdir(tmp_path) == [CLAIM]
        assert json.loads((tmp_path / CLAIM).read_text())["process"] == os.getpid()
    assert os.listdir(tmp_path) == []


def test_the_commands_refuse_a_claimed_folder(holder, tmp_path, capsys):
    from kerasdet.cli import main

    (tmp_path / "data").mkdir()
    image = ROOT / "zoo" / "logs" / "retinanet_mobilenetv2_digits.png"
    for arguments in (
        ("train", "--data", "digits", "--out", tmp_path),
        ("train", "--out", tmp_path, "--data", "digits", "--resume"),
        ("detect", image, "--out", tmp_path),
        ("evaluate", "--model", "none.keras", "--data", "digits", "--out", tmp_path),
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert ended.value.code == 1
        error = capsys.readouterr().err
        assert f"kerasdet: {tmp_path} is in use by process {holder.process.pid}" in error
    assert {path.name for path in tmp_path.iterdir() if path.name[0] != "."} == {CLAIM, "data"}


def test_a_claim_ends_with_its_block_and_with_an_error(tmp_path):
    folder = tmp_path / "new" / "folder"
    with claimed(folder), claimed(folder), claimed(tmp_path / "other"):
        assert json.loads((folder / CLAIM).read_text())["process"] == os.getpid()
    assert not folder.exists()  # nothing was written into it
    with pytest.raises(RuntimeError, match="inside"), claimed(tmp_path):
        raise RuntimeError("inside")
    with claimed(tmp_path):
        (tmp_path / "kept").write_text("x")
    assert set(os.listdir(tmp_path)) == {"new", "kept"}


def test_another_thread_is_told_too(tmp_path):
    found = []

    def claim():
        try:
            with claimed(tmp_path):
                found.append("claimed")
        except BlockingIOError as error:
            found.append(str(error))

    with claimed(tmp_path):
        thread = threading.Thread(target=claim)
        thread.start()
        thread.join()
    claim()
    assert f"process {os.getpid()}" in found[0]
    assert found[1] == "claimed"


def test_a_folder_without_locks_is_used_with_a_warning(tmp_path, monkeypatch):
    def refuse(file):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files, "take_lock", refuse)
    with (
        pytest.warns(UserWarning, match=r"no locks \(Operation not supported\)"),
        claimed(tmp_path),
    ):
        (tmp_path / "kept").write_text("x")
    assert (tmp_path / "kept").read_text() == "x"


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OSError, match=r"cannot write into the folder.*file"),
        claimed(tmp_path / "file"),
    ):
        pytest.fail("the block must not run")


def test_what_is_unfinished_is_told_from_what_is_hidden(tmp_path):
    mine, other = ".01234567-89-01234567.a.json", ".01234567-89-01234567..76543210-9-76543210.b"
    for name in (mine, other, ".gitignore", "a.json"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".gitignore", "a.json"]


def _write_within_a_write(path):
    with atomic_write(path) as outer:
        with atomic_write(str(outer)) as inner:
            inner.write_text("new")
        assert set(os.listdir(path.parent)) == {outer.name, path.name}
        raise RuntimeError("late")


def test_a_write_inside_of_a_write_is_as_atomic_as_the_outer_one(tmp_path):
    path = tmp_path / "a"
    path.write_text("earlier")
    with pytest.raises(RuntimeError, match="late"):
        _write_within_a_write(path)
    assert path.read_text() == "earlier"
    with atomic_write(path) as outer, atomic_write(outer) as inner:
        inner.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a"]


def test_a_run_killed_before_its_first_checkpoint_leaves_nothing_after_it_resumes(tmp_path):
    program = """
    import sys, time
    from kerasdet.files import atomic_write
    from kerasdet.training import checkpoints, run_folder
    from tests.training_parts import run

    def slow(path, model, progress):
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"half")
            print("ready", flush=True)
            time.sleep(600)

    run_folder.save_checkpoint = slow
    run(sys.argv[1], epochs=1)
    """
    child = Child(program, tmp_path)
    child.kill()
    assert len(list(tmp_path.glob(".*"))) == 1
    assert not (tmp_path / "checkpoint.npz").exists()
    _, history = run(tmp_path, epochs=1, resume=True)
    assert history["epoch"] == [1]
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / CLAIM).exists()
