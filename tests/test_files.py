import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from kerasdet.files import atomic_write, save_json


def test_atomic_write_makes_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "folder" / "model.weights.h5"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith("model.weights.h5")
        temporary.write_bytes(b"whole")
        assert temporary.stat().st_size == 5
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["model.weights.h5"]


def _write_half(path):
    path.write_text("hal")
    raise RuntimeError("half way")


def test_atomic_write_keeps_the_earlier_file_on_an_error(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("earlier")
    with pytest.raises(RuntimeError, match="half"), atomic_write(path) as temporary:
        _write_half(temporary)
    assert path.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["a.json"]


def test_the_next_write_removes_what_a_killed_one_left(tmp_path):
    code = (
        "import os, sys; from kerasdet.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as path: path.write_text('half'); os.kill(os.getpid(), 9)"
    )
    target = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", code, target], check=False)
    (left,) = tmp_path.iterdir()
    with atomic_write(tmp_path / "b.txt") as path:
        path.write_text("another file")
        with atomic_write(target) as inner:
            inner.write_text("whole")
            assert not left.exists()
            assert len(list(tmp_path.glob(".*"))) == 2  # the two that are being written
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "b.txt"}


def test_atomic_write_honours_the_umask(tmp_path):
    path = tmp_path / "a"
    before = os.umask(0o022)
    try:
        with atomic_write(path) as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


def test_disk_full_is_named_and_loses_nothing(tmp_path):
    path = tmp_path / "a"
    path.write_text("earlier")
    with pytest.raises(OSError, match=r"disk full.*/a'") as caught, atomic_write(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["a"]


def test_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OSError, match=r"cannot write into the folder.*file"),
        atomic_write(tmp_path / "file" / "a"),
    ):
        pytest.fail("the block must not run")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_rights_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="locked"), atomic_write(tmp_path / "locked" / "a"):
        pytest.fail("the block must not run")


def test_folder_and_device_are_refused(tmp_path):
    for path in (tmp_path, os.devnull):
        with pytest.raises(ValueError, match="not a regular file"), atomic_write(path):
            pytest.fail("the block must not run")


def test_save_json_converts_numpy_and_refuses_nan(tmp_path):
    path = tmp_path / "a.json"
    save_json(path, {"a": np.float32(0.5), "b": np.arange(2), "c": b"rle", "d": None})
    assert json.loads(path.read_text()) == {"a": 0.5, "b": [0, 1], "c": "rle", "d": None}
    with pytest.raises(ValueError, match="JSON compliant"):
        save_json(path, {"a": float("nan")})
    with pytest.raises(TypeError, match="set has no JSON form"):
        save_json(path, {"a": {1}})
    assert json.loads(path.read_text())["a"] == 0.5
