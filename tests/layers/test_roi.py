"""The region pooling layers: Keras' own layer test, and the operations' values."""

import numpy as np
import pytest
from keras.src.testing import TestCase

from kerasdet import ops
from kerasdet.layers import MultilevelRoIAlign, PSRoIAlign, PSRoIPool, RoIAlign, RoIPool

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
