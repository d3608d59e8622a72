"""Windows, spatial pyramid pooling, maxout, L2 and local response normalisation as layers."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase

from kerasdet import ops
from kerasdet.layers import (
    L2Normalization,
    LocalResponseNorm,
    Maxout,
    MaxPool,
    SpatialPyramidPooling,
)


class PoolingTest(TestCase):
    def test_spatial_pyramid_pooling(self):
        for pooling in ("max", "average"):
            self.run_layer_test(
                SpatialPyramidPooling,
                init_kwargs={"levels": (1, 3), "pooling": pooling},
                input_shape=(2, 6, 7, 3),
                expected_output_shape=(2, 10, 3),
                expected_num_trainable_weights=0,
                expected_num_non_trainable_weights=0,
            )

    def test_spatial_pyramid_pooling_of_regions(self):
        self.run_layer_test(
            SpatialPyramidPooling,
            init_kwargs={"levels": (1, 3), "spatial_scale": 1 / 4},
            input_shape={"features_shape": (2, 6, 7, 3), "boxes_shape": (2, 4, 4)},
            expected_output_shape=(2, 4, 10, 3),
            run_training_check=False,  # Keras hands a model's first input alone
        )

    def test_max_pool(self):
        for ceil_mode, sides in ((True, (7, 6)), (False, (6, 6))):
            self.run_layer_test(
                MaxPool,
                init_kwargs={"size": 3, "stride": 2, "ceil_mode": ceil_mode},
                input_shape=(2, 14, 13, 3),
                expected_output_shape=(2, *sides, 3),
                expected_num_trainable_weights=0,
                expected_num_non_trainable_weights=0,
            )

    def test_local_response_norm(self):
        for within_channel in (True, False):
            self.run_layer_test(
                LocalResponseNorm,
                init_kwargs={"size": 3, "within_channel": within_channel},
                input_shape=(2, 6, 7, 5),
                expected_output_shape=(2, 6, 7, 5),
                expected_num_trainable_weights=0,
                expected_num_non_trainable_weights=0,
            )

    def test_maxout(self):
        self.run_layer_test(
            Maxout,
            init_kwargs={"num_units": 2, "axis": 1},
            input_shape=(2, 6, 7, 3),
            expected_output_shape=(2, 2, 7, 3),
            expected_num_trainable_weights=0,
            expected_num_non_trainable_weights=0,
        )

    def test_l2_normalization(self):
        self.run_layer_test(
            L2Normalization,
            init_kwargs={"scale": 10.0, "epsilon": 1e-6},
            input_shape=(2, 6, 7, 3),
            expected_output_shape=(2, 6, 7, 3),
            expected_num_trainable_weights=1,
            expected_num_non_trainable_weights=0,
        )


def test_vectors_of_one_length_from_maps_of_all_sizes():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, SpatialPyramidPooling((1, 2, 3, 6))(inputs))
    assert model.output_shape == (None, 50, 3)
    for height, width in ((13, 13), (5, 9), (1, 2)):
        features = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")
        found = model(features)
        assert found.shape == (2, 50, 3)
        np.testing.assert_array_equal(found[:, 0], features.max(axis=(1, 2)))


def test_regions_are_those_of_the_operation():
    features = np.random.default_rng(0).normal(size=(2, 6, 7, 3)).astype("float32")
    boxes = np.float32([[[2, 1, 19, 17]], [[-5, -5, 90, 9]]])
    expected = ops.spatial_pyramid_pool(features, (2, 1), "average", boxes, 1 / 4)
    found = SpatialPyramidPooling((2, 1), "average", 1 / 4)(features, boxes)
    np.testing.assert_array_equal(found, expected)


def test_maxout_by_hand():
    found = Maxout(2)(np.array([[1, 2, 3, 4, 5, 6]], "float32"))
    np.testing.assert_array_equal(found, [[5, 6]])


def test_l2_normalization_by_hand():
    layer = L2Normalization(20.0)
    features = np.array([[[[3, 4], [0, 0], [-5, 12]]]], "float32")
    expected = [[[[12, 16], [0, 0], [-100 / 13, 240 / 13]]]]
    np.testing.assert_allclose(layer(features), expected, rtol=1e-5)
    layer.scale.assign([10, 1])
    expected = [[[[6, 0.8], [0, 0], [-50 / 13, 12 / 13]]]]
    np.testing.assert_allclose(layer(features), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (SpatialPyramidPooling, {"levels": ()}, "levels is empty; give the bins per side"),
        (SpatialPyramidPooling, {"levels": (1, 0)}, "levels is 0; give a positive integer"),
        (SpatialPyramidPooling, {"pooling": "mean"}, "pooling is 'mean'; give one of 'max', 'av"),
        (SpatialPyramidPooling, {"spatial_scale": 0}, "spatial_scale is 0; give a positive number"),
        (MaxPool, {"size": 0, "stride": 2}, "size is 0; give a whole number"),
        (MaxPool, {"size": 3, "stride": 0}, "stride is 0"),
        (MaxPool, {"size": 3, "stride": 2, "padding": 2}, "padding is 2; give .* from 0 to 1"),
        (LocalResponseNorm, {"size": 4}, "size is 4; give an odd number"),
        (LocalResponseNorm, {"alpha": 0.0}, "alpha is 0.0; give a positive number"),
        (LocalResponseNorm, {"beta": -1.0}, "beta is -1.0"),
        (LocalResponseNorm, {"k": 0.0}, "k is 0.0"),
        (Maxout, {"num_units": 0}, "num_units is 0; give a positive integer"),
        (Maxout, {"num_units": 1.5}, "num_units is 1.5"),
        (L2Normalization, {"epsilon": 0.0}, "epsilon is 0.0; give a positive number"),
    ],
)
def test_what_cannot_be_right_is_refused(layer, options, message):
    with pytest.raises(ValueError, match=message):
        layer(**options)


def test_maxout_asks_for_channels_that_its_units_divide():
    with pytest.raises(ValueError, match="num_units is 4; it must divide the 6 channels"):
        Maxout(4)(np.zeros((2, 6), "float32"))
