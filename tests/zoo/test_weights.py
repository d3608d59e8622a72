import h5py
import keras
import numpy as np
import pytest

from kerasdet.zoo.weights import load_weights, save_weights_float16

from .conftest import tiny


def small(width=4):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(width)(inputs)
    return keras.Model(inputs, keras.layers.BatchNormalization()(x))


def keys(path):
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda key, item: found.append((key, item)) and None)
        return {k: (i.shape, i.dtype.name) for k, i in found if isinstance(i, h5py.Dataset)}


def test_kernels_are_half_and_vectors_whole(tmp_path):
    model = small()
    kernel = model.get_weights()[0]
    statistics = [np.full(4, value, np.float32) for value in (1.1, 1e-3, 1e-9, 1e-9)]
    model.set_weights([kernel, np.full(4, 0.1, np.float32), *statistics])
    path = tmp_path / "a.weights.h5"
    save_weights_float16(model, path)
    assert keys(path) == {
        "layers/dense/vars/0": ((6, 4), "float16"),
        "layers/dense/vars/1": ((4,), "float32"),
        **{f"layers/batch_normalization/vars/{i}": ((4,), "float32") for i in range(4)},
    }
    other = load_weights(small(), path)
    expected = [kernel.astype(np.float16).astype(np.float32), *model.get_weights()[1:]]
    for value, wanted in zip(other.get_weights(), expected):
        np.testing.assert_array_equal(value, wanted)
        assert value.dtype == np.float32


def test_a_detector_comes_back_whole_whatever_was_built_before(model, tmp_path):
    path = tmp_path / "a.weights.h5"
    save_weights_float16(model, path)
    assert path.stat().st_size < 0.75 * 4 * model.count_params()
    other = load_weights(tiny(seed=1), path)
    for value, source in zip(other.get_weights(), model.get_weights()):
        wanted = source.astype(np.float16).astype(np.float32) if source.ndim > 1 else source
        np.testing.assert_array_equal(value, wanted)


def test_keras_reads_the_file_too(tmp_path):
    model, other = small(), small()
    path = tmp_path / "a.weights.h5"
    save_weights_float16(model, path)
    other.load_weights(path)
    np.testing.assert_allclose(other.get_weights()[0], model.get_weights()[0], rtol=2**-11)


def test_optimizer_and_metrics_stay_out(tmp_path):
    model = small()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((2, 6)), np.ones((2, 4)), verbose=0)
    path = tmp_path / "a.weights.h5"
    save_weights_float16(model, path)
    assert len(keys(path)) == 6
    load_weights(small(), path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"layers/dense/vars/1 is missing in the file and \(4,\) in the model"),
        ("left over", r"layers/dense/vars/2 is \(2, 2\) in the file and missing in the model"),
        ("shape", r"layers/dense/vars/0 is \(6, 5\) in the file and \(6, 4\) in the model"),
    ],
)
def test_a_key_that_does_not_fit_is_named_and_nothing_is_loaded(tmp_path, change, message):
    path = tmp_path / "a.weights.h5"
    save_weights_float16(small(), path)
    with h5py.File(path, "r+") as file:
        if change == "missing":
            del file["layers/dense/vars/1"]
        elif change == "left over":
            file["layers/dense/vars/2"] = np.zeros((2, 2), np.float16)
        else:
            del file["layers/dense/vars/0"]
            file["layers/dense/vars/0"] = np.zeros((6, 5), np.float16)
    model = small()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        load_weights(model, path)
    for value, wanted in zip(model.get_weights(), before):
        np.testing.assert_array_equal(value, wanted)


def test_another_number_of_classes_is_refused(model, tmp_path):
    path = tmp_path / "a.weights.h5"
    save_weights_float16(model, path)
    with pytest.raises(ValueError, match=r"class_output/vars/0 is \(3, 3, 32, 27\) in the file"):
        load_weights(tiny(num_classes=4), path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
def test_what_float16_cannot_hold_is_refused_and_the_earlier_file_stays(tmp_path, value):
    model = small()
    path = tmp_path / "a.weights.h5"
    save_weights_float16(model, path)
    before = path.read_bytes()
    kernel, *others = model.get_weights()
    kernel[0, 0] = value
    model.set_weights([kernel, *others])
    with pytest.raises(ValueError, match="layers/dense/vars/0 is NaN, infinite or beyond 65504"):
        save_weights_float16(model, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.weights.h5"]


def test_files_that_are_no_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.weights\.h5"):
        save_weights_float16(small(), tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError, match=r"none\.weights\.h5"):
        load_weights(small(), tmp_path / "none.weights.h5")
    path = tmp_path / "a.weights.h5"
    save_weights_float16(small(), path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"a\.weights\.h5 is cut short or not an HDF5 file"):
        load_weights(small(), path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"data": np.full((6, 4), np.nan, np.float16)},
            "layers/dense/vars/0 holds NaN or infinite",
        ),
        ({"data": np.full((6, 4), 1e300)}, "layers/dense/vars/0 holds NaN or infinite"),
        (
            {"data": np.zeros((6, 4), np.int32)},
            r"vars/0 is int32 in the file and float32 in the model",
        ),
        (
            {"data": np.zeros((6, 4), np.float16), "compression": "gzip"},
            "chunked, not in one piece",
        ),
        (
            {"shape": (1 << 30,), "dtype": "float32", "chunks": (1 << 24,)},
            "chunked, not in one piece",
        ),
    ],
)
def test_a_weight_that_no_model_has_is_refused_and_nothing_is_loaded(tmp_path, how, message):
    path = tmp_path / "a.weights.h5"
    save_weights_float16(small(), path)
    with h5py.File(path, "r+") as file:
        del file["layers/dense/vars/0"]
        file.create_dataset("layers/dense/vars/0", **how)
    model = small()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message) as caught:
        load_weights(model, path)
    assert str(path) in str(caught.value)
    for value, wanted in zip(model.get_weights(), before):
        np.testing.assert_array_equal(value, wanted)
