"""MobileNetV1: table 1, TensorFlow's padding, and the outputs of `keras.applications`."""

import keras
import numpy as np
import pytest

from kerasdet.backbones import MobileNetV1
from tests.tiny import parameters

IMAGES = np.random.default_rng(0).normal(size=(1, 96, 128, 3)).astype("float32")


@pytest.fixture(scope="module")
def backbone():
    return MobileNetV1()


def test_table_1(backbone):
    widths = [backbone.get_layer(f"block{i}_pointwise").filters for i in range(1, 14)]
    assert widths == [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    strides = [backbone.get_layer(f"block{i}_depthwise").stride for i in range(1, 14)]
    assert [i for i, stride in enumerate(strides, 1) if stride == 2] == [2, 4, 6, 12]
    assert backbone.channels == {"C2": 128, "C3": 256, "C4": 512, "C5": 1024}
    layers = [x._keras_history.operation.name for x in backbone.output.values()]
    assert layers == [f"block{i}_pointwise" for i in (3, 5, 11, 13)]
    assert parameters(backbone) == 3_206_976  # of keras.applications, without its classifier


def test_outputs_are_those_of_keras_applications(backbone):
    theirs = keras.applications.MobileNet(input_shape=(96, 128, 3), include_top=False, weights=None)
    rng = np.random.default_rng(1)
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    names = {"stem": "conv1"}
    for i in range(1, 14):
        names |= {f"block{i}_depthwise": f"conv_dw_{i}", f"block{i}_pointwise": f"conv_pw_{i}"}
    for ours, name in names.items():
        (kernel,) = theirs.get_layer(name).get_weights()
        kernel = kernel.transpose(0, 1, 3, 2) if "dw" in name else kernel
        norm = theirs.get_layer(f"{name}_bn").get_weights()
        backbone.get_layer(ours).set_weights([kernel, *norm])
    found, expected = backbone(IMAGES)["C5"], np.asarray(theirs(IMAGES))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())
    assert np.std(found) > 0.01


def test_sizes_and_widths():
    small = MobileNetV1(alpha=0.25, levels=("C2", "C4"))
    assert small.channels == {"C2": 32, "C4": 128}
    assert small.layers[-1].name == "block11_pointwise"
    outputs = small(np.zeros((1, 97, 130, 3), "float32"))
    assert [tuple(x.shape[1:3]) for x in outputs.values()] == [(25, 33), (7, 9)]
    assert MobileNetV1.from_config(small.get_config()).get_config() == small.get_config()
