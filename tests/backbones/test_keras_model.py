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


# --- small models, exactly ------------------------------------------------------------------------------


def test_values_are_the_models_own_where_its_sizes_divide():
    model = small(mean=(10.0, 20.0, 30.0))
    for weight in model.weights:
        weight.assign(np.random.default_rng(len(weight.shape)).uniform(0.2, 1, weight.shape))
    backbone = Backbone.from_keras(model, {"C2": "two", "C3": "three"})
    np.testing.assert_allclose(backbone.mean, (10, 20, 30), rtol=1e-6)
    np.testing.assert_allclose(backbone.std, (2, 4, 8), rtol=1e-6)  # roots of the variances
    pixels = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    own = keras.Model(model.inputs[0], [model.get_layer(name).output for name in ("two", "three")])
    found = arrays(backbone(backbone.normalize(pixels)))
    for level, expected in zip(("C2", "C3"), own(pixels)):
        np.testing.assert_allclose(found[level], expected, rtol=1e-5)
    assert "dense" not in " ".join(layer.name for layer in backbone.layers)


def test_odd_images_are_padded_with_zeros_and_levels_are_cut():
    backbone = Backbone.from_keras(small(), {"C2": "two", "C3": "three"}, mean=0, std=1)
    images = np.random.default_rng(0).normal(size=(1, 45, 50, 3)).astype("float32")
    padded = np.pad(images, [(0, 0), (0, 3), (0, 6), (0, 0)])  # 48 x 56, multiples of 8
    found, whole = arrays(backbone(images)), arrays(backbone(padded))
    for level, (height, width) in {"C2": (12, 13), "C3": (6, 7)}.items():
        assert found[level].shape[1:3] == (height, width)
        np.testing.assert_array_equal(found[level], whole[level][:, :height, :width])
    spec = backbone.compute_output_spec(keras.KerasTensor((1, 45, 50, 3)))
    assert spec["C3"].shape == (1, 6, 7, 6)
    inside = keras.Input((None, None, 3))
    assert backbone(inside)["C2"].shape == (None, None, None, 4)


def test_a_graph_of_unknown_sizes():
    import tensorflow as tf

    backbone = Backbone.from_keras(small(), mean=0, std=1)
    images = np.random.default_rng(0).normal(size=(1, 45, 50, 3)).astype("float32")
    traced = tf.function(backbone, input_signature=[tf.TensorSpec((None, None, None, 3))])
    expected = arrays(backbone(images))
    for level, value in arrays(traced(images)).items():
        np.testing.assert_allclose(value, expected[level], rtol=1e-6)


def test_levels_are_the_last_layers_of_their_strides():
    model = small()
    backbone = Backbone.from_keras(model, mean=0, std=1)
    assert (backbone.levels, backbone.strides) == (("C2", "C3"), {"C2": 4, "C3": 8})
    assert backbone.channels == {"C2": 4, "C3": 6}
    one = Backbone.from_keras(model, ("C2",), mean=0, std=1)
    assert "three" not in {layer.name for layer in one.layers}
    first = Backbone.from_keras(model, {"C1": "one"}, mean=0, std=1)
    assert first.channels == {"C1": 4}


def test_weights_are_copied_and_the_model_stays():
    model = small()
    backbone = Backbone.from_keras(model, mean=0, std=1, freeze_at="C2")
    kernel = model.get_layer("one").kernel
    np.testing.assert_array_equal(backbone.get_layer("one").kernel, kernel)
    backbone.get_layer("one").kernel.assign(0 * kernel)
    assert np.any(ops.convert_to_numpy(kernel))
    assert model.get_layer("one").trainable
    assert not backbone.get_layer("one").trainable
    assert backbone.get_layer("three").trainable


def test_norms_of_trained_models_keep_their_statistics():
    model = small()
    fresh = Backbone.from_keras(model, mean=0, std=1)
    assert not fresh.frozen_norm
    model.get_layer("norm").moving_mean.assign(np.full(4, 0.5))
    trained = Backbone.from_keras(model, mean=0, std=1)
    assert trained.frozen_norm
    images = np.random.default_rng(0).normal(3, 1, (2, 64, 64, 3)).astype("float32")
    for backbone, moves in ((fresh, True), (trained, False)):
        before = backbone.get_layer("norm").get_weights()
        backbone(images, training=True)
        after = backbone.get_layer("norm").get_weights()
        assert np.array_equal(before[2], after[2]) != moves
    assert not Backbone.from_keras(model, mean=0, std=1, frozen_norm=False).frozen_norm


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(dtype, tmp_path):
    backbone = Backbone.from_keras(small(), mean=0, std=1, dtype=dtype)
    images = np.ones((1, 40, 40, 3), "float32")
    for value in backbone(images, training=True).values():
        assert keras.backend.standardize_dtype(value.dtype) == dtype.removeprefix("mixed_")
    assert {weight.dtype for weight in backbone.weights} == {"float32"}
    backbone.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").dtype_policy.name == dtype


def test_saved_backbone_is_a_preset(tmp_path):
    model = small(mean=(10.0, 20.0, 30.0))
    backbone = Backbone.from_keras(model, freeze_at="C2", frozen_norm=True, reverse_channels=True)
    backbone.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == backbone.get_config()
    images = np.random.default_rng(0).normal(size=(1, 45, 50, 3)).astype("float32")
    again = Backbone.from_preset(tmp_path / "model.keras", frozen_norm=False)
    for level, expected in arrays(backbone(images)).items():
        np.testing.assert_array_equal(arrays(loaded(images))[level], expected)
        np.testing.assert_array_equal(arrays(again(images))[level], expected)
    assert not loaded.get_layer("norm").trainable
    assert again.get_layer("one").trainable
    assert again.get_layer("norm").trainable
    assert loaded.with_levels(("C2",)).levels == ("C2",)
    with pytest.raises(
        ValueError, match=r"levels must be among \('C1', 'C2', 'C3'\); got \('C4',\)"
    ):
        loaded.with_levels(("C4",))


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("resnet50", "resnet"),
        ("resnet50v2", "resnet_v2"),
        ("densenet121", "densenet"),
        ("vgg16", "vgg16"),
        ("mobilenetv2_1.00_224", "mobilenet_v2"),
        ("mobilenet_0.50_128", "mobilenet"),
        ("xception", "xception"),
        ("nasnet_mobile", "nasnet"),
    ],
)
def test_preprocessing_is_the_applications_own(name, module):
    model = small(name=name)
    backbone = Backbone.from_keras(model)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype("float32")
    own = keras.Model(model.inputs[0], model.get_layer("three").output)
    expected = own(getattr(keras.applications, module).preprocess_input(pixels.copy()))
    found = arrays(backbone(backbone.normalize(pixels)))["C3"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_preprocessing_may_be_of_several_layers_and_behind_given_values():
    inputs = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 50, offset=-1.0)(inputs)
    x = layers.Normalization(mean=(1.0, 2.0, 3.0), variance=(0.25, 0.25, 0.25))(x)
    model = keras.Model(inputs, layers.Conv2D(2, 3, 8, "same", name="three")(x), name="mine")
    backbone = Backbone.from_keras(model, {"C3": "three"})
    # (pixel / 50 - 1 - m) / 0.5 = (pixel - 50 (1 + m)) / 25
    np.testing.assert_allclose(backbone.mean, (100, 150, 200), rtol=1e-6)
    np.testing.assert_allclose(backbone.std, (25, 25, 25), rtol=1e-6)
    # The model takes pixels of (value - 5) / 2: 2 (100) + 5, and 2 (25).
    halved = Backbone.from_keras(model, {"C3": "three"}, mean=5, std=2)
    np.testing.assert_allclose(halved.mean, (205, 305, 405), rtol=1e-6)
    np.testing.assert_allclose(halved.std, (50, 50, 50), rtol=1e-6)


class Subclassed(keras.Model):
    """No functional model."""

    def call(self, images):
        return images


def unpadded():
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, layers.Conv2D(2, 3, 2, name="valid")(inputs), name="mine")


def with_lambda():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(2, 3, 4, "same", name="two")(inputs)
    return keras.Model(inputs, layers.Lambda(lambda y: 2 * y)(x), name="mine")


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (small, {}, "'small' has no preprocessing layers .* give mean= and std="),
        (Subclassed, {}, "Subclassed is no functional model"),
        (
            lambda: keras.Sequential([keras.Input((5,)), layers.Dense(2)]),
            {},
            r"\(None, 5\).*takes one",
        ),
        (unpadded, {"mean": 0}, "mine has no map of H"),
        (
            unpadded,
            {"levels": {"C1": "valid"}, "mean": 0},
            "'valid', whose map .* is 255 x 255, not 256",
        ),
        (
            small,
            {"levels": {"C3": "two"}, "mean": 0},
            "C3 is 'two', whose map .* 128 x 128, not 64 x 64",
        ),
        (small, {"levels": {"C3": "four"}, "mean": 0}, "has no layer .*four"),
        (
            small,
            {"levels": {"C3": "three", "C2": "four"}, "mean": 0},
            "C2 is 'four', and small has no",
        ),
        (small, {"levels": {"P3": "three"}, "mean": 0}, "'P3' is none of C1 to C7"),
        (
            small,
            {"levels": ("C3", "C4"), "mean": 0},
            r"among \('C1', 'C2', 'C3'\); got \('C3', 'C4'\)",
        ),
        (small, {"freeze_at": "C4", "mean": 0}, "freeze_at is 'C4'; give one of C1, C2, C3"),
        (with_lambda, {"mean": 0}, "is a Lambda layer"),
    ],
)
def test_what_cannot_be_a_backbone_is_named(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        Backbone.from_keras(make(), **arguments)
