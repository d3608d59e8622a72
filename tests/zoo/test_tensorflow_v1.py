"""TensorFlow 1's checkpoints: a folder, a prefix, an archive; and one clear error for every fault."""

import gzip
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest

from kerasdet.zoo.checkpoints import CheckpointError, tensorflow_v1
from kerasdet.zoo.checkpoints.tensorflow_v1 import read
from tests.zoo.tensorflow_files import SUFFIXES, numbers, pack, packed, write_checkpoint

GOLDEN = Path(__file__).parent / "golden" / "tensorflow_v1"
ARRAYS = {
    "conv/weights": numbers(2, 2, 3, 4),
    "conv/BatchNorm/gamma": numbers(4, start=100),
    "global_step": np.array(7, np.int64),
}


@pytest.fixture
def prefix(tmp_path):
    return write_checkpoint(tmp_path / "model.ckpt", ARRAYS)


def same(found, expected=ARRAYS):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_a_checkpoint_of_tensorflow_1s_saver():
    """Written by tf.compat.v1.train.Saver of a graph of tf-slim (tests/golden/make_tf_slim.py --tiny)."""
    found = read(GOLDEN)
    assert {name: array.shape for name, array in found.items()} == {
        "Conv2d_0/BatchNorm/beta": (2,),
        "Conv2d_0/BatchNorm/gamma": (2,),
        "Conv2d_0/BatchNorm/moving_mean": (2,),
        "Conv2d_0/BatchNorm/moving_variance": (2,),
        "Conv2d_0/weights": (3, 3, 3, 2),
        "Conv2d_1_depthwise/depthwise_weights": (3, 3, 2, 1),
        "global_step": (),
    }
    for number, (name, array) in enumerate(sorted(found.items())):
        expected = 1000 if name == "global_step" else numbers(*array.shape, start=100 * number)
        np.testing.assert_array_equal(array, expected)


def test_folder_prefix_and_each_file(prefix, tmp_path):
    (tmp_path / "model.ckpt.meta").write_bytes(b"a graph")
    for path in (tmp_path, prefix, *(f"{prefix}{suffix}" for suffix in (*SUFFIXES, ".meta"))):
        same(read(path))


def test_a_published_archive(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    same(read(packed(tmp_path / "net.tar.gz", ARRAYS, tmp_path)))
    assert not list((tmp_path / "temporary").iterdir())  # nothing is left


def test_texts_are_left_out(tmp_path):
    write_checkpoint(tmp_path / "a.ckpt", {**ARRAYS, "note": np.array(b"text")})
    same(read(tmp_path))


@pytest.mark.parametrize("name", ["../model.ckpt", "/tmp/model.ckpt", "a/../../model.ckpt"])
def test_no_file_is_written_under_an_archives_name(prefix, tmp_path, name, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    members = {f"{name}{s}": Path(f"{prefix}{s}").read_bytes() for s in SUFFIXES}
    before = set(tmp_path.rglob("*"))
    same(read(pack(tmp_path / "net.tar.gz", members)))
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "net.tar.gz"}


def link(name, kind=tarfile.SYMTYPE, target="/etc/passwd"):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_no_checkpoint(tmp_path, kind):
    path = pack(tmp_path / "a.tar.gz", {s: link(f"model.ckpt{s}", kind) for s in SUFFIXES})
    with pytest.raises(CheckpointError, match=r"a\.tar\.gz holds no file \*\.index"):
        read(path)


def test_two_checkpoints_in_an_archive(prefix, tmp_path):
    content = {s: Path(f"{prefix}{s}").read_bytes() for s in SUFFIXES}
    members = {f"{place}/model.ckpt{s}": content[s] for place in ("a", "b") for s in SUFFIXES}
    with pytest.raises(CheckpointError, match=r"more than one checkpoint: b/model\.ckpt\.index"):
        read(pack(tmp_path / "a.tar.gz", members))


def test_an_archive_that_grows_too_much_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorflow_v1, "SLACK", 1000)
    path = pack(tmp_path / "a.tar.gz", {"zeros": bytes(100_000)})
    with pytest.raises(CheckpointError, match="unpacks to more than 8 times its size"):
        read(path)
    monkeypatch.setattr(tensorflow_v1, "MOST_MEMBERS", 3)
    path = pack(tmp_path / "b.tar.gz", {f"{i}": b"" for i in range(4)})
    with pytest.raises(CheckpointError, match="or to more than 3 files"):
        read(path)


def cut_short(data):
    return data[: len(data) // 2]


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "is a damaged archive|is cut short"),
        (lambda data: data[:40], "is a damaged archive|is cut short"),
        (lambda data: gzip.compress(b"no archive" * 100), "is a damaged archive"),
        (flipped, "is a damaged archive|cannot be read by TensorFlow"),
        (lambda data: gzip.compress(b""), "is a damaged archive|holds no file"),
    ],
    ids=["half", "40 bytes", "text", "altered", "empty"],
)
def test_damaged_archives(tmp_path, damage, message):
    path = packed(tmp_path / "a.tar.gz", {"w": np.random.default_rng(0).normal(size=999)}, tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"a\.tar\.gz ({message}).*Fix: ") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_an_archive_without_a_checkpoint(tmp_path):
    path = pack(tmp_path / "a.tar.gz", {"net/frozen_inference_graph.pb": b"graph"})
    with pytest.raises(CheckpointError, match=r"holds no file \*\.index\. Fix: give the folder of"):
        read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("keep", [0, 10, -1])
def test_files_cut_short(prefix, tmp_path, suffix, keep):
    path = Path(f"{prefix}{suffix}")
    path.write_bytes(path.read_bytes()[:keep])
    message = r"cannot be read by TensorFlow|has variables of 216 bytes, but data of"
    with pytest.raises(CheckpointError, match=rf"({message}).*Fix: take a fresh copy"):
        read(tmp_path)


def test_altered_numbers_do_not_fit_their_checksum(prefix, tmp_path):
    path = Path(f"{prefix}{SUFFIXES[1]}")
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"cannot be read by TensorFlow .*hecksum"):
        read(tmp_path)


def test_an_index_may_not_promise_more_than_the_data_have(prefix, tmp_path):
    write_checkpoint(tmp_path / "big.ckpt", {"w": numbers(1000)})
    Path(f"{prefix}{SUFFIXES[0]}").unlink()
    (tmp_path / "big.ckpt.index").rename(f"{prefix}{SUFFIXES[0]}")
    with pytest.raises(CheckpointError, match="variables of 4000 bytes, but data of 216"):
        read(prefix)


def test_an_immense_index_is_not_read(prefix, monkeypatch):
    monkeypatch.setattr(tensorflow_v1, "LARGEST_INDEX", 100)
    with pytest.raises(CheckpointError, match=r"an index of \d+ bytes, of which 100 are possible"):
        read(prefix)


def test_an_index_alone(prefix, tmp_path):
    Path(f"{prefix}{SUFFIXES[1]}").unlink()
    with pytest.raises(CheckpointError, match=r"no file \*\.data-00000-of-00001 beside it"):
        read(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(tmp_path, value):
    write_checkpoint(tmp_path / "a.ckpt", {"net/w": np.float32([1, value])})
    with pytest.raises(CheckpointError, match="numbers in net/w that are not finite"):
        read(tmp_path)


def test_texts_alone(tmp_path):
    write_checkpoint(tmp_path / "a.ckpt", {"note": np.array(b"text")})
    with pytest.raises(CheckpointError, match="holds no numbers"):
        read(tmp_path)


def test_what_is_no_checkpoint(prefix, tmp_path):
    write_checkpoint(tmp_path / "model.ckpt-2", ARRAYS)
    with pytest.raises(
        CheckpointError, match=r"has 2 files \*\.index instead of one: model\.ckpt-2"
    ):
        read(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(CheckpointError, match=r"has 0 files \*\.index instead of one: none\. Fix"):
        read(tmp_path / "none")
    (tmp_path / "a.pb").write_bytes(b"graph")
    with pytest.raises(CheckpointError, match=r"a\.pb is no checkpoint of TensorFlow\. Fix: give"):
        read(tmp_path / "a.pb")
    with pytest.raises(
        FileNotFoundError, match=r"no checkpoint .*nowhere: no file .*nowhere\.index"
    ):
        read(tmp_path / "nowhere")


def test_without_tensorflow_the_error_says_so(prefix):
    program = """
    import sys
    sys.modules["tensorflow"] = None
    from kerasdet.zoo.checkpoints.tensorflow_v1 import read
    read(sys.argv[1])
    """
    lines = "\n".join(line.strip() for line in program.splitlines())
    done = subprocess.run(
        [sys.executable, "-c", lines, str(prefix)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "a checkpoint of TensorFlow, needs TensorFlow: pip install tensorflow." in done.stderr


def test_an_archives_members_are_read_as_a_stream(tmp_path):
    """A member that promises more than it has is cut short."""
    entry = tarfile.TarInfo("model.ckpt.index")
    entry.size = 5000
    data = gzip.compress(entry.tobuf() + bytes(100))
    (tmp_path / "a.tar.gz").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"is cut short within|is a damaged archive"):
        read(tmp_path / "a.tar.gz")
    assert io.BytesIO(data).read(2) == tensorflow_v1.GZIP
