"""TensorFlow.js weights: values by hand, shards, and one clear error for every fault."""

import json
from pathlib import Path

import numpy as np
import pytest

from kerasdet.zoo.checkpoints import CheckpointError
from kerasdet.zoo.checkpoints.tensorflowjs import read

FACES = Path(__file__).parents[3] / "shared" / "data" / "faces"
TINY = "tiny_face_detector_model-weights_manifest.json"
KERNEL = {
    "name": "conv/kernel",
    "shape": [1, 1, 2, 2],
    "dtype": "float32",
    "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1},
}
BIAS = {"name": "conv/bias", "shape": [2], "dtype": "float32"}
BYTES = bytes([0, 1, 2, 255]) + np.array([1.5, -2], "<f4").tobytes()


def write(folder, groups=None, data=BYTES, **change):
    entry = {"paths": ["a.bin"], "weights": [{**KERNEL, **change}, BIAS]}
    path = folder / "manifest.json"
    path.write_text(json.dumps([entry] if groups is None else groups))
    (folder / "a.bin").write_bytes(data)
    return path


def test_values_by_hand(tmp_path):
    arrays = read(write(tmp_path))
    assert list(arrays) == ["conv/kernel", "conv/bias"]
    np.testing.assert_array_equal(arrays["conv/kernel"], [[[[-1, -0.5], [0, 126.5]]]])
    np.testing.assert_array_equal(arrays["conv/bias"], [1.5, -2])
    assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}


def test_other_numbers(tmp_path):
    weights = [
        {"name": "a", "shape": [], "dtype": "int32"},
        {"name": "b", "shape": [2], "dtype": "bool"},
        {"name": "c", "shape": [1], "dtype": "float32", "quantization": {"dtype": "float16"}},
        {**BIAS, "name": "d", "quantization": {"dtype": "uint16", "scale": 2, "min": 1}},
        {"name": "e", "shape": [0], "dtype": "float32"},
    ]
    data = (
        np.array(-3, "<i4").tobytes()
        + bytes([1, 0])
        + np.array(0.25, "<f2").tobytes()
        + np.array([0, 65535], "<u2").tobytes()
    )
    arrays = read(write(tmp_path, [{"paths": ["a.bin"], "weights": weights}], data))
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "a": -3,
        "b": [1, 0],
        "c": [0.25],
        "d": [1, 131071],
        "e": [],
    }


def test_a_tensor_may_lie_in_two_shards(tmp_path):
    path = write(tmp_path, [{"paths": ["a.bin", "b.bin"], "weights": [KERNEL, BIAS]}], BYTES[:7])
    (tmp_path / "b.bin").write_bytes(BYTES[7:])
    np.testing.assert_array_equal(read(path)["conv/bias"], [1.5, -2])
    moved = [(tmp_path / name).rename(tmp_path / f"{name}.moved") for name in ("a.bin", "b.bin")]
    np.testing.assert_array_equal(read(path, *moved)["conv/bias"], [1.5, -2])
    with pytest.raises(CheckpointError, match="names 2 shards, not 1"):
        read(path, moved[0])


def test_a_whole_models_json(tmp_path):
    path = write(tmp_path)
    path.write_text(json.dumps({"weightsManifest": json.loads(path.read_text())}))
    assert len(read(path)) == 2


@pytest.mark.parametrize("data", [BYTES[:-1], BYTES + b"\0", b""], ids=["short", "long", "empty"])
def test_a_shard_of_the_wrong_length(tmp_path, data):
    path = write(tmp_path, data=data)
    message = rf"a\.bin has {len(data)} bytes, but its tensors take 12\. Fix: take a fresh copy"
    with pytest.raises(CheckpointError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, "has a tensor without a name"),
        ({"name": "conv/bias", "shape": [4]}, "has conv/bias twice"),
        ({"shape": "big"}, "gives conv/kernel the shape big"),
        ({"shape": [-4, -1]}, "gives conv/kernel the shape"),
        ({"shape": [1 << 40]}, "gives conv/kernel the shape"),
        ({"shape": [1] * 9}, "gives conv/kernel the shape"),
        ({"shape": [True, 4]}, "gives conv/kernel the shape"),
        ({"dtype": "string"}, "gives conv/kernel the dtype string. Fix: convert the model"),
        ({"quantization": {"dtype": "int8"}}, "quantises conv/kernel as int8"),
        ({"quantization": []}, "quantises conv/kernel as None"),
        (
            {"quantization": {"dtype": "uint8", "scale": 10**400, "min": 0}},
            "quantises conv/kernel without a finite scale",
        ),
        ({"quantization": {"dtype": "uint8", "scale": 1}}, "without a finite scale and min"),
        (
            {"quantization": {"dtype": "uint8", "scale": float("nan"), "min": 0}},
            "without a finite scale and min",
        ),
    ],
    ids=str,
)
def test_faults_of_a_tensor(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message) as error:
        read(write(tmp_path, **change))
    assert "manifest.json" in str(error.value)
    assert "Fix: " in str(error.value)


@pytest.mark.parametrize("name", ["../a.bin", "/etc/passwd", "b/a.bin", "..", "b\\a.bin", ""])
def test_shards_outside_the_folder_are_refused(tmp_path, name):
    path = write(tmp_path, [{"paths": [name], "weights": [KERNEL]}])
    with pytest.raises(CheckpointError, match="outside its folder: refused"):
        read(path)


@pytest.mark.parametrize(
    "content",
    ["", "[", "{}", "[1]", '[{"paths": "a.bin", "weights": []}]', "[" * 100_000, "\ud800"],
    ids=["empty", "cut", "object", "number", "text", "deep", "no UTF-8"],
)
def test_what_is_no_manifest(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=r"manifest\.json is no .*Fix: "):
        read(path)


def test_a_manifest_without_tensors(tmp_path):
    with pytest.raises(CheckpointError, match="names no tensors"):
        read(write(tmp_path, []))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no manifest .*nowhere\.json"):
        read(tmp_path / "nowhere.json")
    path = write(tmp_path)
    (tmp_path / "a.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"no shard .*a\.bin"):
        read(path)


def test_a_published_model():
    if not (FACES / TINY).exists():
        pytest.skip(f"no weights at {FACES}")
    arrays = read(FACES / TINY)
    assert arrays["conv0/filters"].shape == (3, 3, 3, 16)
    assert all(np.isfinite(array).all() for array in arrays.values())
