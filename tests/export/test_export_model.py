import sys

import keras
import numpy as np
import pytest

from kerasdet.export import export_model
from kerasdet.export.clone import float32_clone

from .conftest import colour_blocks, make


def test_the_model_of_these_tests_tells_detections_apart(model):
    """Scores and boxes that differ by less than the tolerances would make every test here pass."""
    (found,) = model.detect([colour_blocks(80, 100)])
    assert len(found["labels"]) == 20
    assert np.diff(found["confidence"]).max() < -1e-4
    assert len(set(found["labels"])) > 1
    sides = found["boxes"][:, 2:] - found["boxes"][:, :2]
    assert np.ptp(sides, axis=0).min() > 10


def test_unknown_formats_and_options_name_the_choices(model, tmp_path):
    with pytest.raises(
        ValueError, match=r"format 'tflite'; choose one of saved_model, litert, onnx"
    ):
        export_model(model, tmp_path / "m", format="tflite")
    with pytest.raises(ValueError, match=r"'float16' is not available for onnx"):
        export_model(model, tmp_path / "m.onnx", format="onnx", quantize="float16")
    with pytest.raises(ValueError, match=r"'int8' is not available for litert"):
        export_model(model, tmp_path / "m.tflite", format="litert", quantize="int8")
    with pytest.raises(
        ValueError, match=r"size must be \(height, width\) in pixels, not \(0, 64\)"
    ):
        model.export(tmp_path / "m", size=(0, 64))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("format", "ending"), [("litert", ".tflite"), ("onnx", ".onnx")])
def test_files_have_their_formats_ending(model, tmp_path, format, ending):
    with pytest.raises(ValueError, match=rf"must end in \{ending}"):
        export_model(model, tmp_path / "model.bin", format=format)


def test_a_missing_converter_names_the_extra(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r"pip install kerasdet\[onnx\]"):
        export_model(model, tmp_path / "m.onnx", format="onnx")


def test_another_backend_is_refused_with_the_way_out(model, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=r"Keras runs on jax: .*KERAS_BACKEND=tensorflow"):
        export_model(model, tmp_path / "m")


def test_the_clone_of_a_mixed_model_is_float32_and_equal():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = make()
        clone = float32_clone(mixed)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
    policies = {layer.dtype_policy.name for layer in clone._flatten_layers()}
    assert policies == {"float32"}
    assert "mixed_bfloat16" in {layer.dtype_policy.name for layer in mixed._flatten_layers()}
    for value, wanted in zip(clone.get_weights(), mixed.get_weights()):
        np.testing.assert_array_equal(value, wanted)
    (found,), (wanted,) = (
        clone.detect([colour_blocks(80, 100)]),
        make().detect([colour_blocks(80, 100)]),
    )
    np.testing.assert_array_equal(found["boxes"], wanted["boxes"])


def test_the_clone_keeps_what_was_set_after_building(model):
    model.score_threshold = 0.25
    model.max_detections = 7
    clone = float32_clone(model)
    assert (clone.score_threshold, clone.max_detections) == (0.25, 7)
    assert clone.resize == model.resize
