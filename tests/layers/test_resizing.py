"""The sizes that images and canvases get."""

import keras
import numpy as np
import pytest

from kerasdet.layers.resizing import Fit, KeepSize, Letterbox, ShortestEdge, Stretch


@pytest.mark.parametrize(
    ("part", "size", "target", "canvas"),
    [
        (KeepSize(), (97, 130), (97, 130), (128, 160)),
        (KeepSize(1), (97, 130), (97, 130), (97, 130)),
        # 800 / 480 = 1.666...; 640 * 800 / 480 = 1066.67, floored as torchvision does.
        (ShortestEdge(800, 1333), (480, 640), (800, 1066), (800, 1088)),
        # The longer side bounds: 1333 / 1000 = 1.333; 300 * 1.333 = 399.9.
        (ShortestEdge(800, 1333), (1000, 300), (1333, 399), (1344, 416)),
        (Fit(384, 512), (480, 640), (384, 512), (384, 512)),
        (Fit(384, 512), (100, 400), (128, 512), (384, 512)),
        (Fit(64, 64), (1, 1000), (1, 64), (64, 64)),
        # 1333 / 3000 = 0.444: 20 pixels become 8; 2 would become 0.89, and are one.
        (ShortestEdge(800, 1333), (3000, 20), (1333, 8), (1344, 32)),
        (ShortestEdge(800, 1333), (3000, 2), (1333, 1), (1344, 32)),
        (ShortestEdge(800, 1333), (1, 3000), (1, 1333), (32, 1344)),
        # 480 * 416 / 641 = 311.5, which Darknet rounds down and Fit up; 1 * 416 / 641 is one pixel.
        (Letterbox(416), (480, 641), (311, 416), (416, 416)),
        (Letterbox(416), (641, 480), (416, 311), (416, 416)),
        (Letterbox(416), (1, 641), (1, 416), (416, 416)),
        (Letterbox(64, 96), (100, 100), (64, 64), (64, 96)),
        (Stretch(8), (1, 5000), (8, 8), (8, 8)),
        (Stretch(300), (480, 640), (300, 300), (300, 300)),
    ],
)
def test_sizes(part, size, target, canvas):
    assert tuple(part.target_size(*size)) == target
    assert tuple(part.canvas_size(*target)) == canvas


@pytest.mark.parametrize(
    "part", [KeepSize(), ShortestEdge(), Fit(384, 512), Letterbox(416, 300), Stretch(300)]
)
def test_graph_sizes_equal_python_sizes(part):
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    for height, width in [*rng.integers(16, 2000, (50, 2)), (5000, 1), (1, 5000), (1, 1)]:
        expected = part.target_size(int(height), int(width))
        target = part.target_size(tf.constant(height), tf.constant(width), xp=tf)
        assert tuple(int(side) for side in target) == tuple(expected)
        assert tuple(int(side) for side in part.canvas_size(*target, xp=tf)) == tuple(
            part.canvas_size(*expected)
        )


@pytest.mark.parametrize(
    "part", [KeepSize(64), ShortestEdge(600, 1000, 16), Fit(2, 3), Stretch(5, 6)]
)
def test_config_round_trip(part):
    config = keras.saving.serialize_keras_object(part)
    assert keras.saving.deserialize_keras_object(config) == part


@pytest.mark.parametrize(
    "value", [0, -1, 1 << 17, 10**9, float("nan"), float("inf"), "8", None, [8], abs]
)
def test_sizes_are_positive_and_bounded(value):
    with pytest.raises(
        ValueError, match="height must be a positive number of pixels, at most 65536"
    ):
        Fit(value, 512)


def test_sizes_are_whole():
    with pytest.raises(ValueError, match=r"divisor must be a whole number of pixels, not 1\.5"):
        KeepSize(1.5)
    assert Stretch(8.0) == Stretch(8)
