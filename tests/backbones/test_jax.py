"""The backbones on JAX give the same maps as on TensorFlow: this file, run under it as a script."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from kerasdet import backbones
from tests.golden import drawn

# Up to where each has all of its kinds of layers.
NETWORKS = {
    "AlexNet": {"levels": ("C4",), "norm": "caffe", "padding": "published"},
    "ZFNet": {"levels": ("C4",)},
    "VGGCNNM1024": {"levels": ("C3",), "padding": "published"},
    "GoogLeNet": {"levels": ("C3",)},
    "InceptionV2": {"levels": ("C3",)},
    "InceptionV3": {"levels": ("C3",), "padding": "published", "count_padding": True},
    "InceptionResNetV2": {"levels": ("C3",)},
}


def maps():
    """{network: its one map of an image}."""
    found = {}
    for name, settings in NETWORKS.items():
        model = getattr(backbones, name)(**settings)
        drawn.fill(model.layers)
        reach = 128.0 if name in ("AlexNet", "ZFNet", "VGGCNNM1024", "GoogLeNet") else 2.0
        (value,) = model(drawn.images(name, 90, 107, reach)).values()
        found[name] = ops.convert_to_numpy(value)
    return found


def test_maps_on_jax(tmp_path):
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-m", "tests.backbones.test_jax", str(tmp_path / "maps.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "maps.npz") as file:
        found = dict(file)
    expected = maps()
    assert found.keys() == expected.keys() == NETWORKS.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-4 * np.abs(value).max())


if __name__ == "__main__":
    np.savez(sys.argv[1], **maps())
