"""The layers of points: FCOS's levels, torchvision's places, ranges that fit data, distances."""

import math

import keras
import numpy as np
import pytest

from kerasdet.layers import Distances, Points

FEATURES = {
    "P3": np.zeros((2, 2, 3, 1), np.float32),
    "P4": np.zeros((2, 1, 2, 1), np.float32),
}
IMAGES = np.zeros((2, 16, 24, 3), np.float32)


def test_points_of_two_levels_by_hand():
    fine, coarse = Points((8, 16), (64,))(FEATURES, IMAGES)
    assert np.asarray(fine).tolist() == [
        *([4, 4, 8], [12, 4, 8], [20, 4, 8]),
        *([4, 12, 8], [12, 12, 8], [20, 12, 8]),
    ]
    assert np.asarray(coarse).tolist() == [[8, 8, 16], [24, 8, 16]]


def test_fcos_levels_are_the_default():
    points = Points()
    assert points.strides == (8, 16, 32, 64, 128)
    assert points.ranges == (64, 128, 256, 512)
    assert (points.radius, points.offset, points.steps_from_image) == (None, 0.5, False)


def test_torchvisions_places():
    # P6 of an 800 x 1088 canvas has 13 x 17 cells: 800 // 13 = 61, and 1088 // 17 = 64.
    points = Points((64,), (), offset=0.0, steps_from_image=True)
    (found,) = points([np.zeros((1, 13, 17, 1))], np.zeros((1, 800, 1088, 3)))
    assert np.asarray(found[0]).tolist() == [0, 0, 64]
    assert np.asarray(found[-1]).tolist() == [16 * 64, 12 * 61, 64]


def test_assign_takes_ranges_and_radius():
    truth = {
        "boxes": np.float32([[[0, 0, 24, 16]]]),
        "labels": np.zeros((1, 1), np.int32),
        "ignore": np.zeros((1, 1), bool),
    }
    for settings, expected in (
        ({}, [0, 0, 0, 0, 0, 0, 0, -1]),
        ({"radius": 0.75}, [-1, 0, -1, -1, 0, -1, 0, -1]),
    ):
        layer = Points((8, 16), (20,), **settings)
        points = dict(zip(FEATURES, layer(FEATURES, IMAGES)))
        # From (8, 8) the right side is 16 pixels away, which only the fine level learns.
        expected = [*expected[:6], -1, -1]
        assert np.asarray(layer.assign(truth, points))[0].tolist() == expected
        with pytest.raises(ValueError, match="`points` has 1 entries"):
            layer.assign(truth, list(points.values())[:1])


def test_float32_under_every_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        (points,) = Points((9,), ())([np.zeros((1, 1, 300, 1))], np.zeros((1, 9, 2700, 3)))
        distances = Distances("relu")({"P3": np.full((1, 1, 4), 257.0)}, {"P3": points[:1]})
    finally:
        keras.config.set_dtype_policy(before)
    assert np.asarray(points[-1]).tolist() == [299.5 * 9, 4.5, 9]
    assert np.asarray(distances["P3"]).tolist() == [[[257.0] * 4]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strides": (8, 0), "ranges": (9,)}, "`strides` are .8, 0.; give positive pixels"),
        ({"ranges": (64, 128)}, "`ranges` has 2 entries and `strides` has 5; give one limit fewer"),
        ({"strides": (8, 16), "ranges": (0,)}, "`ranges` are .0.0,.; give ascending"),
        ({"ranges": (64, 64, 99, 100)}, "give ascending positive finite pixels"),
        ({"strides": (8, 16), "ranges": (float("nan"),)}, "`ranges` are .nan,."),
        ({"radius": 0}, "`radius` is 0; give positive strides, or None"),
        ({"offset": float("inf")}, "`offset` is inf; give a finite number"),
    ],
    ids=str,
)
def test_numbers_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Points(**settings)


def test_features_must_be_as_many_as_levels():
    with pytest.raises(ValueError, match="`features` has 2 entries and `strides` has 5"):
        Points()(FEATURES, IMAGES)
    with pytest.raises(ValueError, match='activation must be "exp" or "relu", not \'elu\''):
        Distances("elu")


POINTS = {"P3": np.float32([[4, 4, 8], [12, 4, 8]]), "P4": np.float32([[8, 8, 16]])}
OUTPUTS = {
    "P3": np.log(np.float32([[[1, 2, 3, 4], [5, 6, 7, 8]]])),
    "P4": np.float32([[[-1, 0, 1, 2]]]),
}


def test_distances_by_hand():
    layer = Distances()
    np.testing.assert_allclose(
        layer(OUTPUTS, POINTS)["P3"], [[[1, 2, 3, 4], [5, 6, 7, 8]]], rtol=1e-6
    )
    assert sorted(layer.scales) == ["P3", "P4"]
    # exp(2 log d) is d squared, on the level that has that number.
    layer.scales["P3"].assign(2.0)
    found = layer(OUTPUTS, POINTS)
    np.testing.assert_allclose(found["P3"], [[[1, 4, 9, 16], [25, 36, 49, 64]]], rtol=1e-5)
    np.testing.assert_allclose(found["P4"], [[[math.exp(-1), 1, math.e, math.exp(2)]]], rtol=1e-6)


def test_normalized_distances_count_strides():
    layer = Distances("relu", scaled=False, normalized=True)
    assert np.asarray(layer(OUTPUTS, POINTS)["P4"]).tolist() == [[[0, 0, 16, 32]]]
    assert not layer.weights
    found = Distances(normalized=True)(OUTPUTS, POINTS)["P3"]
    np.testing.assert_allclose(found, [[[8, 16, 24, 32], [40, 48, 56, 64]]], rtol=1e-6)
    assert np.asarray(Distances("relu")(OUTPUTS, POINTS)["P4"]).tolist() == [[[0, 0, 1, 2]]]


def test_distances_stay_finite():
    found = Distances(normalized=True)({"P4": np.full((1, 1, 4), 1e9)}, POINTS)["P4"]
    np.testing.assert_allclose(found, [[[16 * math.exp(9)] * 4]], rtol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        Points((4, 9), (7,), 2.5, 0.25, True, name="other"),
        Distances("relu", False, True, name="other"),
    ],
)
def test_config_round_trip(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    assert again.name == "other"
    names = (
        ("strides", "ranges", "radius", "offset", "steps_from_image")
        if isinstance(layer, Points)
        else ("activation", "scaled", "normalized")
    )
    for name in names:
        assert getattr(again, name) == getattr(layer, name)


def test_large_objects_do_not_crowd_on_the_finest_level():
    # 300 pixels, or 400 and 15: eight cells of the finest map at most, the papers' 64 pixels on P3.
    assert Points.fitted([[0, 0, 300, 300]] * 9).ranges == (64, 128, 256, 512)
    mixed = [[0, 0, 15, 15]] * 6 + [[0, 0, 40, 4]] * 4 + [[0, 0, 400, 400]] * 90
    assert Points.fitted(mixed).strides[0] == 4
    assert Points.fitted(mixed).ranges[0] == 30
    assert Points.fitted([[0, 0, 60, 3]] * 9).ranges[0] == 32
