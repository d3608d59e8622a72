"""Darknet's networks: sizes, parameters, poolings, and a trained face detector of separable convolutions."""

import json
import math

import keras
import numpy as np
import pytest

from kerasdet.backbones import (
    Darknet,
    Darknet19,
    FastYOLO,
    ImageClassifier,
    SeparableTinyYOLOv2,
    TinyYOLOv2,
    YOLO20Convs,
)
from kerasdet.layers import PassthroughHead
from kerasdet.models import YOLOv2
from tests.tiny import cheap_weights

# Convolutions, and kernels' numbers worked by hand from the papers' tables.
NETWORKS = {
    "Darknet19": (Darknet19, 18, {"C2": 128, "C3": 256, "C4": 512, "C5": 1024}),
    "YOLO20Convs": (YOLO20Convs, 20, {"C2": 192, "C3": 512, "C4": 1024, "C5": 1024}),
    "FastYOLO": (FastYOLO, 6, {"C2": 64, "C3": 128, "C4": 256, "C5": 512}),
    "TinyYOLOv2": (TinyYOLOv2, 7, {"C2": 64, "C3": 128, "C4": 256, "C5": 1024}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_convolutions_and_levels(name, monkeypatch):
    cheap_weights(monkeypatch)
    make, convs, channels = NETWORKS[name]
    model = make()
    assert sum(bool(layer.weights) for layer in model.layers) == convs
    assert model.channels == channels
    shapes = model.compute_output_shape((1, 96, 70, 3))
    assert {level: shape[1:3] for level, shape in shapes.items()} == {
        f"C{n}": (96 // 2**n, math.ceil(70 / 2**n)) for n in (2, 3, 4, 5)
    }


def test_darknet19_is_table_6(monkeypatch):
    cheap_weights(monkeypatch)
    model = ImageClassifier(Darknet19(), 1000)
    kernels = (
        *((3, 3, 32), (3, 32, 64), (3, 64, 128), (1, 128, 64), (3, 64, 128), (3, 128, 256)),
        *((1, 256, 128), (3, 128, 256), (3, 256, 512), (1, 512, 256), (3, 256, 512)),
        *((1, 512, 256), (3, 256, 512), (3, 512, 1024), (1, 1024, 512), (3, 512, 1024)),
        *((1, 1024, 512), (3, 512, 1024)),
    )
    found = [layer.kernel.shape for layer in model.backbone.layers if layer.weights]
    assert found == [(k, k, before, after) for k, before, after in kernels]
    # 19.8 M in kernels, four numbers a filter for batch norm, 1.0 M in the classifier.
    count = sum(k * k * before * after + 4 * after for k, before, after in kernels)
    assert model.count_params() == count + 1024 * 1000 + 1000 == 20_856_776


def test_yolos_network_has_biases_as_in_the_paper_or_norms(monkeypatch):
    cheap_weights(monkeypatch)
    plain, normed = YOLO20Convs(), YOLO20Convs(norm="batch")
    assert [w.name for w in plain.get_layer("conv1").weights] == ["kernel", "bias"]
    assert plain.get_layer("conv1").kernel.shape == (7, 7, 3, 64)
    assert len(normed.get_layer("conv1").weights) == 5


def test_leaky_poolings_and_pixels_by_hand():
    model = Darknet([(1, 1), "pool", (1, 1), "pool1"], ("C1",), None)
    for name, kernel in (("conv1", 1.0), ("conv2", -1.0)):
        model.get_layer(name).kernel.assign(
            np.full((1, 1, *model.get_layer(name).kernel.shape[2:]), kernel)
        )
    model.get_layer("conv1").kernel.assign(np.float32([1, 0, 0]).reshape(1, 1, 3, 1))
    images = np.zeros((1, 3, 3, 3), np.float32)
    images[0, :, :, 0] = [[1, 2, 3], [4, 5, 6], [-7, -8, -9]]
    # Largest of 2 x 2, the last row alone: 5, 6; -0.7, -0.9. Turned round: -0.5, -0.6; 0.7, 0.9.
    # Of stride 1, the right and the lower neighbour: 0.9, 0.9; 0.9, 0.9 and so on.
    np.testing.assert_allclose(model(images)["C1"][0, :, :, 0], [[0.9, 0.9], [0.9, 0.9]], rtol=1e-5)
    np.testing.assert_allclose(model.normalize(np.float32([0, 51, 255])), [0, 0.2, 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"plan": ()}, "plan has 0 rows"),
        ({"plan": ["pool2"]}, "plan has the row 'pool2'"),
        ({"plan": [(8, 3, 4)]}, r"plan has the row \(8, 3, 4\)"),
        ({"plan": [(8, 2)]}, "kernel_size must be odd"),
        ({"plan": [(8, 3)], "levels": ("C5",)}, "levels are .*C5.*give some of C0"),
        ({"plan": [(8, 3)], "levels": ("C0",), "norm": "group"}, "norm must be"),
    ],
    ids=str,
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Darknet(**arguments)


def test_saved_files_give_equal_outputs(tmp_path):
    images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    for model in (
        Darknet([(4, 3), "pool", (6, 1), (8, 3, 2), "pool1"], ("C1", "C2"), None),
        SeparableTinyYOLOv2((4, 6, 8, 8, 8, 8), levels=("C4", "C5")),
    ):
        model.save(tmp_path / "model.keras")
        copy = keras.saving.load_model(tmp_path / "model.keras")
        for level, value in model(images).items():
            np.testing.assert_array_equal(copy(images)[level], value)


def quantised(folder, name):
    """Arrays of a TensorFlow.js file: value = minimum + scale * byte, one after the other."""
    manifest = json.loads((folder / f"{name}-weights_manifest.json").read_text())
    data, arrays = (folder / f"{name}.bin").read_bytes(), {}
    for entry in manifest[0]["weights"]:
        count, scale = math.prod(entry["shape"]), entry["quantization"]
        values = np.frombuffer(data[:count], np.uint8).astype(np.float32)
        arrays[entry["name"]] = (values * scale["scale"] + scale["min"]).reshape(entry["shape"])
        data = data[count:]
    assert not data
    return arrays


ANCHORS = (
    *((1.603231, 2.094468), (6.041143, 7.080126), (2.882459, 3.518061)),
    *((4.266906, 5.178857), (9.041765, 10.66308)),
)


def test_a_trained_face_detector_gives_its_runtimes_outputs(shared_data):
    arrays = quantised(shared_data / "faces", "tiny_face_detector_model")
    model = YOLOv2(
        1,
        SeparableTinyYOLOv2(),
        PassthroughHead(depth=0, passthrough=0, levels=("C5",)),
        [(32 * width, 32 * height) for width, height in ANCHORS],
        iou_threshold=0.4,
    )
    for index in range(6):
        names = (
            ("filters", "bias") if index == 0 else ("depthwise_filter", "pointwise_filter", "bias")
        )
        model.backbone.get_layer(f"conv{index}").set_weights(
            [arrays.pop(f"conv{index}/{name}") for name in names]
        )
    # The file has no numbers for the one class, whose probability is 1 whatever its logit.
    kernel, bias = arrays.pop("conv8/filters"), arrays.pop("conv8/bias")
    kernel = np.pad(kernel.reshape(1, 1, 512, 5, 5), [(0, 0)] * 4 + [(0, 1)]).reshape(1, 1, 512, 30)
    bias = np.pad(bias.reshape(5, 5), [(0, 0), (0, 1)]).ravel()
    model.output_conv.set_weights([kernel, bias])
    assert not arrays
    with np.load(shared_data / "faces" / "raw.npz") as raw:
        for photograph in ("000000000110", "000000000308"):
            outputs = model(raw[f"{photograph}/canvas416"][None])
            wanted = raw[f"{photograph}/tiny"].reshape(845, 5)
            np.testing.assert_allclose(outputs["locations"][0], wanted[:, :4], atol=1e-3)
            np.testing.assert_allclose(outputs["confidence"][0], wanted[:, 4], atol=1e-3)
            assert not np.any(outputs["logits"])
