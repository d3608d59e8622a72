"""Crop-and-resize as layers: the operations' values, from a dict of one map and the canvas."""

import numpy as np
import pytest

from kerasdet import ops
from kerasdet.layers import CropAndResize, PSCropAndResize

BOXES = np.float32([[[2.1, 1.3, 19, 17], [0, 0, 28, 24]], [[9, 3, 27, 23], [5, 4, 1, 2]]])
FEATURES = np.random.default_rng(0).normal(size=(2, 6, 7, 8)).astype("float32")
CANVAS = np.float32([[24, 28], [23, 27]])
MAPS = {"C4": FEATURES, "canvas": CANVAS}


def test_values_are_the_operations():
    layer = CropAndResize((3, 2), 2, "max")
    expected = ops.crop_and_resize(FEATURES, BOXES, CANVAS, (3, 2), 2, "max")
    np.testing.assert_array_equal(layer(MAPS, BOXES), expected)
    shapes = {level: x.shape for level, x in MAPS.items()}
    assert layer.compute_output_shape(shapes, BOXES.shape) == expected.shape == (2, 2, 3, 2, 8)


def test_position_sensitive_values_are_the_operations():
    layer = PSCropAndResize(2, 3)
    expected = ops.ps_crop_and_resize(FEATURES, BOXES, CANVAS, 2, 3)
    np.testing.assert_array_equal(layer(MAPS, BOXES), expected)
    shapes = {level: x.shape for level, x in MAPS.items()}
    assert layer.compute_output_shape(shapes, BOXES.shape) == expected.shape == (2, 2, 2, 2, 2)


@pytest.mark.parametrize("features", [FEATURES, {"C4": FEATURES}], ids=["map", "dict"])
def test_a_missing_canvas_is_named(features):
    with pytest.raises(ValueError, match="CropAndResize pools shares of the canvas and was given"):
        CropAndResize(2)(features, BOXES)


def test_one_map_is_pooled():
    with pytest.raises(ValueError, match="pools from one map and got C4, C5"):
        CropAndResize(2)({"C4": FEATURES, "C5": FEATURES, "canvas": CANVAS}, BOXES)


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (CropAndResize, {"output_size": 0}, "output_size is 0"),
        (CropAndResize, {"output_size": 2, "reduction": "sum"}, "reduction is 'sum'"),
        (PSCropAndResize, {"output_size": 2, "sampling_ratio": 0}, "sampling_ratio is 0"),
    ],
)
def test_what_cannot_be_right_is_refused(layer, options, message):
    with pytest.raises(ValueError, match=message):
        layer(**options)
