"""Crop-and-resize by hand, against slow NumPy loops and TensorFlow's own kernel."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from kerasdet import ops as K
from kerasdet.ops import native
from kerasdet.ops.neighbours import clamped_neighbours
from tests.golden import object_detection_numpy as api
from tests.ops.operations import INF, NAN
from tests.ops.test_roi import one_box, ramp

FORMS = {"native": contextlib.nullcontext, "portable": native.portable}
CANVAS = np.float32([[140, 200], [120, 90]])
RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(2, 9, 13, 18)).astype("float32")
CORNERS = np.sort(RNG.uniform(0, 1, (2, 6, 2, 2)), axis=2).reshape(2, 6, 4)
BOXES = (CORNERS * np.tile(CANVAS[:, None, ::-1], (1, 1, 2))).astype("float32")
BOXES[0, 0] = [0, 0, 200, 140]


@pytest.fixture(params=sorted(FORMS))
def form(request):
    with FORMS[request.param]():
        yield request.param


def shares(boxes, canvas=CANVAS):
    """Boxes of each image as the API has them: y1, x1, y2, x2, shares of the canvas."""
    scales = np.float32(1) / np.tile(canvas[:, None], (1, 1, 2))
    return (boxes[..., [1, 0, 3, 2]] * scales).astype("float32")


def test_points_lie_from_corner_to_corner(form):
    # The whole canvas of 70 x 70 pixels is the whole map of 8 x 8 cells: cells 0 and 7 are its ends.
    canvas = np.float32([[70, 70]])
    found = K.crop_and_resize(ramp(), one_box(0, 0, 70, 70), canvas, 2)
    np.testing.assert_allclose(found[0, 0, :, :, 0], [[1, 8], [71, 78]])
    # x from 10 to 30 of 70 pixels: cells 1 and 3; y from 20 to 60: cells 2, 4, 6.
    found = K.crop_and_resize(ramp(), one_box(10, 20, 30, 60), canvas, (3, 2))
    np.testing.assert_allclose(found[0, 0, :, :, 0], [[22, 24], [42, 44], [62, 64]], rtol=1e-6)
    # The only point is the middle: y 4, x 2.
    found = K.crop_and_resize(ramp(), one_box(10, 20, 30, 60), canvas, 1)
    np.testing.assert_allclose(found, [[[[[43]]]]], rtol=1e-6)


def test_bins_of_several_points(form):
    canvas, box = np.float32([[70, 70]]), one_box(10, 20, 40, 50)  # cells x 1 to 4, y 2 to 5
    found = K.crop_and_resize(ramp(), box, canvas, 2, 2, "max")
    np.testing.assert_allclose(found[0, 0, :, :, 0], [[33, 35], [53, 55]], rtol=1e-6)
    found = K.crop_and_resize(ramp(), box, canvas, 2, 2, "mean")
    np.testing.assert_allclose(found[0, 0, :, :, 0], [[27.5, 29.5], [47.5, 49.5]], rtol=1e-6)


def test_an_inverted_box_is_read_backwards_and_beyond_the_map_is_nothing(form):
    canvas = np.float32([[70, 70]])
    found = K.crop_and_resize(ramp(), one_box(30, 20, 10, 60), canvas, 2)
    np.testing.assert_allclose(found[0, 0, :, :, 0], [[24, 22], [64, 62]], rtol=1e-6)
    # x from -10 to 80 pixels: cells -1, 3.5 and 8, of which only the middle is on the map.
    found = K.crop_and_resize(ramp(), one_box(-10, 0, 80, 10), canvas, (1, 3))
    np.testing.assert_allclose(found[0, 0, 0, :, 0], [0, 9.5, 0], rtol=1e-6)
    for value in (NAN, INF, -INF):
        assert not np.any(K.crop_and_resize(ramp(), one_box(value, 0, 10, 10), canvas, 2))


def test_clamped_neighbours_end_where_they_reach():
    coordinates = np.float32([-0.1, 0, 1.5, 2, 2.1])
    _, _, (by_before, by_after) = clamped_neighbours(coordinates, np.int32(3), 0.0)
    np.testing.assert_allclose(by_before, [0, 1, 0.5, 1, 0])
    np.testing.assert_allclose(by_after, [0, 0, 0.5, 0, 0])


@pytest.mark.parametrize(("size", "ratio", "reduction"), [(14, 1, "mean"), (7, 2, "max")])
def test_crops_are_tensorflows_and_numpys(size, ratio, reduction, form):
    found = np.asarray(K.crop_and_resize(MAPS, BOXES, CANVAS, size, ratio, reduction))
    own = shares(BOXES)
    theirs = tf.image.crop_and_resize(MAPS, own.reshape(-1, 4), np.repeat([0, 1], 6), (14, 14))
    slow = [api.crop_and_resize(*both, 14) for both in zip(MAPS, own)]
    for expected in (np.asarray(theirs), np.concatenate(slow)):
        if reduction == "max":
            expected = expected.reshape(12, 7, 2, 7, 2, 18).max((2, 4))
        np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=2e-6)


def test_position_sensitive_crops_are_numpys(form):
    found = np.asarray(K.ps_crop_and_resize(MAPS, BOXES, CANVAS, 3, 6))
    assert found.shape == (2, 6, 3, 3, 2)
    # Ours are class by class, the API's bin by bin.
    theirs = MAPS.reshape(2, 9, 13, 2, 9).swapaxes(-1, -2).reshape(MAPS.shape)
    slow = [api.position_sensitive(*both) for both in zip(theirs, shares(BOXES))]
    np.testing.assert_allclose(found.mean((2, 3)), slow, atol=2e-6)


def test_each_bin_reads_its_own_channels_from_its_corner_to_its_corner(form):
    # Channel c 4 + 2 i + j is ramp + 1000 (c 4 + 2 i + j). The box has cells x 1 to 5, y 2 to 6.
    features = ramp(channels=8) + 1000 * np.arange(8, dtype="float32")
    found = K.ps_crop_and_resize(features, one_box(10, 20, 50, 60), np.float32([[70, 70]]), 2, 3)
    middles = np.array([[33, 35], [53, 55]])  # of bins of 2 x 2 cells: y 3, 5 and x 2, 4
    numbers = 1000 * np.arange(8).reshape(2, 2, 2).transpose(1, 2, 0)
    np.testing.assert_allclose(found[0, 0], middles[..., None] + numbers, rtol=1e-5)


@pytest.mark.parametrize(
    ("operation", "features", "options", "message"),
    [
        (K.crop_and_resize, MAPS, {"output_size": 0}, "output_size is 0"),
        (K.crop_and_resize, MAPS[0], {"output_size": 2}, "features"),
        (K.crop_and_resize, MAPS, {"output_size": 2, "sampling_ratio": 0}, "sampling_ratio is 0"),
        (K.crop_and_resize, MAPS, {"output_size": 2, "reduction": "sum"}, "reduction is 'sum'"),
        (K.ps_crop_and_resize, MAPS, {"output_size": 4}, "18 channels; 4 x 4 bins need"),
        (K.ps_crop_and_resize, MAPS, {"output_size": (2, 3)}, "has k x k bins"),
    ],
)
def test_what_cannot_be_right_is_refused(operation, features, options, message):
    with pytest.raises(ValueError, match=message):
        operation(features, BOXES, CANVAS, **options)
