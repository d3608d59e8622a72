"""Functional models as backbones: small ones, and applications on small images."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerasdet.backbones import Backbone
from kerasdet.layers import AnchorGenerator, FeaturePyramid, Subnets
from kerasdet.models import RetinaNet

# Application: its levels' last layers, their channels, and what it takes from pixels.
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
HALF = ((127.5,) * 3, (127.5,) * 3)
APPLICATIONS = {
    "MobileNetV3Small": ({"C3": 96, "C4": 288, "C5": 576}, HALF),
    "EfficientNetV2B0": ({"C3": 192, "C4": 672, "C5": 1280}, IMAGENET),
    "ConvNeXtTiny": ({"C3": 192, "C4": 384, "C5": 768}, IMAGENET),
    "DenseNet121": ({"C3": 256, "C4": 512, "C5": 1024}, IMAGENET),
}
LEVELS = ("C3", "C4", "C5")


def application(name, **arguments):
    return getattr(keras.applications, name)(weights=None, **arguments)


def small(mean=None, name="small", **stride):
    """Three levels, of layers that halve odd numbers down ("valid" pooling) and up ("same" convolution)."""
    inputs = x = keras.Input((64, 64, 3))
    if mean is not None:
        x = layers.Normalization(mean=mean, variance=(4.0, 16.0, 64.0))(x)
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="one")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.MaxPooling2D(name="two")(x)
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="three")(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(5)(x), name=name)


def arrays(outputs):
    return {name: ops.convert_to_numpy(ops.cast(x, "float32")) for name, x in outputs.items()}


def detector(backbone):
    return RetinaNet(
        2,
        backbone=backbone,
        neck=FeaturePyramid(8, norm="batch"),
        head=Subnets(8, 1, "batch"),
        anchors=AnchorGenerator.retinanet(base=8),
    )


def scene(size):
    """One image with two squares, and its targets."""
    image = np.full((1, *size, 3), 90.0, "float32")
    image[0, 8:24, 8:24], image[0, 30:54, 30:54] = 250, 5
    boxes = np.array([[[8, 8, 24, 24], [30, 30, 54, 54]]], "float32")
    return image, {"boxes": boxes, "labels": np.array([[0, 1]])}


LOAD = """
import sys
from pathlib import Path
import numpy
from keras import ops
from kerasdet import zoo
for file in sorted(Path(sys.argv[1]).glob("*.keras")):
    found = zoo.load(file)(numpy.load(file.with_suffix(".npy")))
    flat = {f"{part}_{level}": x for part in ("logits", "deltas") for level, x in found[part].items()}
    numpy.savez(file.with_suffix(".npz"), **{key: ops.convert_to_numpy(x) for key, x in flat.items()})
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of the trained models' files, and their outputs: one process loads all of them."""
    return tmp_path_factory.mktemp("saved"), {}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_detector_learns_on_an_application(name, saved):
    channels, (mean, std) = APPLICATIONS[name]
    backbone = Backbone.from_keras(application(name, classes=10), LEVELS)
    assert backbone.channels == channels
    np.testing.assert_allclose(backbone.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(backbone.std, std, rtol=1e-6)
    model = detector(backbone)
    # Few steps: to trace a graph of some hundred layers would take longer.
    model.compile(keras.optimizers.Adam(2e-3), run_eagerly=True)
    image, targets = scene((64, 57))
    losses = model.fit(image, targets, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    folder, outputs = saved
    model.save(folder / f"{name}.keras")
    np.save(folder / f"{name}.npy", image)
    outputs[name] = model(image)


def test_a_fresh_process_loads_them_with_equal_outputs(saved):
    folder, outputs = saved
    subprocess.run([sys.executable, "-c", LOAD, str(folder)], check=True)
    assert outputs
    for name, expected in outputs.items():
        found = np.load(folder / f"{name}.npz")
        for part in ("logits", "deltas"):
            assert expected[part]["P3"].shape[1] == 8 * 8 * 9  # ceil(64 / 8) x ceil(57 / 8) cells
            for level, value in expected[part].items():
                np.testing.assert_array_equal(found[f"{part}_{level}"], value)
