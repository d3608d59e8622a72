"""Files of `keras.applications`: every weight by name or number, and what does not fit is refused."""

import h5py
import keras
import numpy as np
import pytest
from keras import ops

from kerasdet.backbones import ImageClassifier, InceptionV3, MobileNetV1, ResNet18
from kerasdet.backbones.inception_resnet_v2 import InceptionResNetV2
from kerasdet.zoo.origins import load
from kerasdet.zoo.origins.keras_applications import conv_names
from tests.backbones import inceptions
from tests.golden import drawn

value = ops.convert_to_numpy


def write(path, layers, first=1):
    """An `.h5` file as Keras 2 has written the published ones, numbers beginning with `first`."""
    with h5py.File(path, "w") as file:
        for layer in layers:
            name = renumbered(layer, first)
            group = file.create_group(name)
            depthwise = "depthwise_" * isinstance(layer, keras.layers.DepthwiseConv2D)
            for weight in layer.weights:
                group[f"{name}/{depthwise}{weight.name}:0"] = value(weight)
    return path


def renumbered(layer, first):
    for stem in ("conv2d", "batch_normalization"):
        if layer.name == stem or layer.name.startswith(f"{stem}_"):
            return f"{stem}_{inceptions.numbered(layer) + first}"
    return layer.name


@pytest.fixture(scope="module")
def mobilenet():
    model = keras.applications.MobileNet(
        alpha=0.25, weights=None, classes=3, input_shape=(64, 64, 3)
    )
    return inceptions.lively(model)


def test_mobilenet_classifies_as_theirs(mobilenet, tmp_path):
    path = write(tmp_path / "mobilenet.h5", mobilenet.layers)
    model = ImageClassifier(MobileNetV1(0.25), num_classes=3)
    assert load("keras_applications", model, path) is model
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    found = value(ops.softmax(model(images)))
    np.testing.assert_allclose(found, value(mobilenet(images / 127.5 - 1)), rtol=1e-4, atol=1e-5)
    assert np.ptp(found) > 1e-3


def test_a_backbone_takes_a_file_with_or_without_the_classifier(mobilenet, tmp_path):
    whole = write(tmp_path / "whole.h5", mobilenet.layers)
    part = write(tmp_path / "part.h5", [x for x in mobilenet.layers if x.name != "conv_preds"])
    models = [load("keras_applications", MobileNetV1(0.25), path) for path in (whole, part)]
    for ours, theirs in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    kernel = value(mobilenet.get_layer("conv_dw_3").weights[0])  # height, width, channels, 1
    ours = value(models[0].get_layer("block3_depthwise").kernel)
    np.testing.assert_array_equal(ours[:, :, 0], kernel[..., 0])


@pytest.mark.parametrize("first", [0, 1, 95])
def test_numbered_layers_of_inception_v3(first, tmp_path):
    theirs = inceptions.lively(
        keras.applications.InceptionV3(weights=None, classes=3, input_shape=(107, 131, 3))
    )
    offset = first - min(
        map(inceptions.numbered, inceptions.in_order(theirs, keras.layers.Conv2D, "conv2d"))
    )
    path = write(tmp_path / "inception.h5", theirs.layers, offset)
    model = load(
        "keras_applications", ImageClassifier(InceptionV3("published"), num_classes=3), path
    )
    images = drawn.images("inception", 107, 131)
    pixels = images * 127.5 + 127.5
    found = value(ops.softmax(model(pixels)))
    np.testing.assert_allclose(found, value(theirs(images)), rtol=1e-3, atol=1e-5)
    norm = model.backbone.get_layer("Mixed_7c_branch_pool").norm
    np.testing.assert_array_equal(norm.gamma, np.ones(192))


def test_order_of_numbers():
    names = conv_names(InceptionV3(levels=("C2",)))
    assert len(names) == len(set(names)) == 94
    assert names[:6] == [
        *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
        "Mixed_5b_branch1x1",
    ]
    assert names[-9:-5] == [
        f"Mixed_7c_{name}" for name in ("branch1x1", "branch3x3_1", "branch3x3_2a", "branch3x3_2b")
    ]
    names = conv_names(InceptionResNetV2(levels=("C2",)))
    assert len(names) == len(set(names)) == 203
    assert names[-1] == "Block8_Branch_1_Conv2d_0c_3x1"


def test_another_networks_file_is_refused(mobilenet, tmp_path):
    path = write(tmp_path / "mobilenet.h5", mobilenet.layers)
    model = MobileNetV1(0.5)
    before = value(model.weights[0])
    with pytest.raises(ValueError, match=r"mobilenet.h5 does not fit this MobileNetV1"):
        load("keras_applications", model, path)
    np.testing.assert_array_equal(model.weights[0], before)
    few = [keras.layers.Conv2D(3, 3, name=f"conv2d_{i}") for i in range(4)]
    for layer in few:
        layer.build((None, None, None, 3))
    path = write(tmp_path / "few.h5", few)
    with pytest.raises(
        ValueError, match=r"few.h5 has 4 layers named conv2d, and InceptionV3 has 94"
    ):
        load("keras_applications", InceptionV3(), path)
    with pytest.raises(ValueError, match="at the origin keras_applications: it has no such model"):
        load("keras_applications", ResNet18(), path)
