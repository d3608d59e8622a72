"""Faster R-CNN on the JAX backend: training lowers the loss, and each step draws a new sample."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.contract.detectors import batch, faster_rcnn


def on_jax(result_path):
    """What the subprocess does."""
    keras.utils.set_random_seed(0)
    model = faster_rcnn()
    inputs, targets = batch()
    model.compile(keras.optimizers.Adam(0.0))
    still = model.fit(inputs, targets, epochs=3, verbose=0).history["loss"]
    evaluated = [model.evaluate(inputs, targets, verbose=0) for _ in range(2)]
    counted = int(model.steps.state[1])
    model.optimizer.learning_rate = 2e-3
    loss = model.fit(inputs, targets, epochs=6, verbose=0).history["loss"]
    np.savez(result_path, still=still, evaluated=evaluated, counted=counted, loss=loss)


def test_jax_trains_and_samples_anew_at_each_step(tmp_path):
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.test_two_stage_jax", tmp_path / "out.npz"],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.load(tmp_path / "out.npz")
    # Weights that stand still: what differs from step to step is the sample.
    assert len(set(found["still"])) == 3
    np.testing.assert_array_equal(*found["evaluated"])
    assert found["counted"] == 3
    assert np.isfinite(found["loss"]).all()
    assert found["loss"][-1] < found["loss"][0]


if __name__ == "__main__":
    on_jax(*sys.argv[1:])
