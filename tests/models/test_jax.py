"""Detectors on the JAX backend: TensorFlow's detections, a falling loss, and wrong labels refused."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.contract.detectors import DETECTORS, batch
from tests.sampling import sampled


def on_jax(model_path, result_path):
    """What the subprocess does: predict with a saved model, train it, and try labels that cannot be."""
    model = keras.saving.load_model(model_path)
    inputs, targets = batch()
    found = model.predict(inputs, verbose=0)
    model.compile(keras.optimizers.Adam(2e-3))
    history = model.fit(inputs, targets, epochs=6, verbose=0).history
    targets["labels"][0, 0] = model.num_classes
    with pytest.raises(ValueError, match="A label is 3, and the model has 3 classes"):
        model.fit(inputs, targets, verbose=0)
    with pytest.raises(ValueError, match="A label is 3"):
        model.evaluate(inputs, targets, verbose=0)
    targets["labels"][0, 0] = 0  # the refusal has left the model as it was
    assert np.isfinite(model.fit(inputs, targets, verbose=0).history["loss"]).all()
    np.savez(result_path, loss=history["loss"], **found)


NAMES = [
    *("retinanet", "fcos", "ssd", "ssdlite", "yolo", "yolo_v2"),
    *("mask_rcnn", "keypoint_rcnn"),
]


@pytest.mark.parametrize("name", sampled(NAMES, lambda name: "rcnn" in name))
def test_jax_equals_tensorflow_and_trains(name, tmp_path):
    pytest.importorskip("jax")
    keras.utils.set_random_seed(0)
    model = DETECTORS[name](score_threshold=0.0)
    model.compile(keras.optimizers.Adam(2e-3))
    inputs, targets = batch()
    model.fit(inputs, targets, epochs=5, verbose=0)
    model.save(tmp_path / "model.keras")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.models.test_jax",
            tmp_path / "model.keras",
            tmp_path / "out.npz",
        ],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found, expected = np.load(tmp_path / "out.npz"), model.predict(inputs, verbose=0)
    np.testing.assert_array_equal(found["num_detections"], expected["num_detections"])
    np.testing.assert_allclose(found["confidence"], expected["confidence"], atol=1e-4)
    # The surest boxes of each image: further down, scores that agree to rounding change places.
    np.testing.assert_array_equal(found["labels"][:, :3], expected["labels"][:, :3])
    for part in ("boxes", *model.EXTRAS):
        np.testing.assert_allclose(found[part][:, :3], expected[part][:, :3], atol=0.01)
    assert np.isfinite(found["loss"]).all()
    assert found["loss"][-1] < found["loss"][0]


if __name__ == "__main__":
    on_jax(*sys.argv[1:])
