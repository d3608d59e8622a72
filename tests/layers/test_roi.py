"""The region pooling layers: Keras' own layer test, and the operations' values."""

import numpy as np
import pytest
from keras.src.testing import TestCase

from kerasdet import ops
from kerasdet.layers import (
    MultilevelPSRoIAlign,
    MultilevelRoIAlign,
    MultilevelRoIPool,
    PSRoIAlign,
    PSRoIPool,
    RoIAlign,
    RoIPool,
)

BOXES = np.float32([[[2.1, 1.3, 19, 17], [-5, -5, 9, 9]], [[9, 3, 30, 26], [5, 4, 1, 2]]])
FEATURES = np.random.default_rng(0).normal(size=(2, 6, 7, 8)).astype("float32")
CASES = {
    RoIPool: ({"output_size": (3, 2), "spatial_scale": 1 / 4}, (2, 2, 3, 2, 8)),
    RoIAlign: (
        {"output_size": (3, 2), "spatial_scale": 1 / 4, "aligned": True, "reduction": "max"},
        (2, 2, 3, 2, 8),
    ),
    PSRoIPool: ({"output_size": 2, "spatial_scale": 1 / 4}, (2, 2, 2, 2, 2)),
    PSRoIAlign: (
        {"output_size": 2, "spatial_scale": 1 / 4, "sampling_ratio": 1},
        (2, 2, 2, 2, 2),
    ),
}


class RegionPoolingTest(TestCase):
    def test_layers(self):
        for layer, (options, shape) in CASES.items():
            with self.subTest(layer.__name__):
                self.run_layer_test(
                    layer,
                    init_kwargs=options,
                    input_shape={"features_shape": (2, 6, 7, 8), "boxes_shape": (2, 2, 4)},
                    expected_output_shape=shape,
                    expected_num_trainable_weights=0,
                    expected_num_non_trainable_weights=0,
                    # Keras hands a model's first input alone; test_everywhere.py trains them.
                    run_training_check=False,
                )


@pytest.mark.parametrize("layer", CASES)
def test_values_are_the_operations(layer):
    options, _ = CASES[layer]
    names = {RoIPool: "roi_pool", RoIAlign: "roi_align", PSRoIPool: "ps_roi_pool"}
    operation = getattr(ops, names.get(layer, "ps_roi_align"))
    expected = operation(FEATURES, BOXES, **options)
    np.testing.assert_array_equal(layer(**options)(FEATURES, BOXES), expected)


def test_values_of_a_pyramid():
    pyramid = {"P3": FEATURES, "P4": FEATURES[:, ::2, ::2]}
    options = {"output_size": 2, "aligned": True, "reduction": "max"}
    boxes = BOXES * 10
    expected = ops.multilevel_roi_align(pyramid, boxes, **options)
    np.testing.assert_array_equal(MultilevelRoIAlign(**options)(pyramid, boxes), expected)


def test_position_sensitive_values_of_a_pyramid():
    pyramid = {"P3": FEATURES, "P4": FEATURES[:, ::2, ::2]}
    layer = MultilevelPSRoIAlign(2, sampling_ratio=1)
    expected = ops.multilevel_ps_roi_align(pyramid, BOXES * 10, 2, 1)
    np.testing.assert_array_equal(layer(pyramid, BOXES * 10), expected)
    shapes = {name: x.shape for name, x in pyramid.items()}
    assert layer.compute_output_shape(shapes, BOXES.shape) == expected.shape == (2, 2, 2, 2, 2)


def test_maxima_of_a_pyramid():
    # Sides of 224 pixels and more are pooled from P4, smaller ones from P3 (FPN, section 4.2).
    pyramid = {"P3": FEATURES, "P4": -FEATURES[:, ::2, ::2]}
    boxes = np.float32([[[0, 0, 40, 40], [0, 0, 250, 250]], [[0, 0, 224, 224], [8, 8, 30, 20]]])
    pooled = np.asarray(MultilevelRoIPool((3, 2))(pyramid, boxes))
    for image, region, level, stride in (
        (0, 0, "P3", 8),
        (0, 1, "P4", 16),
        (1, 0, "P4", 16),
        (1, 1, "P3", 8),
    ):
        own = boxes[image : image + 1, region : region + 1]
        expected = ops.roi_pool(pyramid[level][image : image + 1], own, (3, 2), 1 / stride)
        np.testing.assert_array_equal(pooled[image, region], expected[0, 0])


@pytest.mark.parametrize(
    ("multilevel", "single"), [(MultilevelRoIPool, RoIPool), (MultilevelRoIAlign, RoIAlign)]
)
def test_one_level_is_a_pyramid(multilevel, single):
    expected = single(3, 1 / 16)(FEATURES, 10 * BOXES)
    maps = {"C4": FEATURES}
    np.testing.assert_array_equal(multilevel(3)(maps, 10 * BOXES), expected)
    np.testing.assert_array_equal(single(3, 1 / 16)(maps, 10 * BOXES), expected)
    with pytest.raises(ValueError, match="got C4, C5; use MultilevelRoIAlign"):
        single(3, 1 / 16)({"C4": FEATURES, "C5": FEATURES}, BOXES)


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (RoIPool, {"output_size": 0, "spatial_scale": 1.0}, "output_size is 0; give one or two"),
        (PSRoIPool, {"output_size": 2.5, "spatial_scale": 1.0}, "output_size is 2.5"),
        (RoIAlign, {"output_size": 2, "spatial_scale": 0}, "spatial_scale is 0; give a positive"),
        (
            RoIAlign,
            {"output_size": 2, "spatial_scale": 1.0, "sampling_ratio": 0},
            "sampling_ratio is 0; give a positive integer",
        ),
        (
            RoIAlign,
            {"output_size": 2, "spatial_scale": 1.0, "reduction": "sum"},
            "reduction is 'sum'; give one of 'mean', 'max'",
        ),
        (
            PSRoIAlign,
            {"output_size": 2, "spatial_scale": 1.0, "sampling_ratio": -1},
            "sampling_ratio is -1",
        ),
        (MultilevelRoIAlign, {"output_size": (2, 0)}, r"output_size is \(2, 0\)"),
        (MultilevelRoIAlign, {"output_size": 2, "reduction": "sum"}, "reduction is 'sum'"),
    ],
)
def test_what_cannot_be_right_is_refused(layer, options, message):
    with pytest.raises(ValueError, match=message):
        layer(**options)
