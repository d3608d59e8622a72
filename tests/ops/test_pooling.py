"""Pooling, maxout, L2 and local response normalisation by hand, and the bins that pooling is made of."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from kerasdet import ops as K
from kerasdet.ops import native
from kerasdet.ops.pooling import pooled_side
from kerasdet.ops.windows import bins, window_grid, window_max, window_sum
from tests.golden.store import load

CAFFE_LAYERS = {
    name: case for name, case in load("caffe_layers.npz").items() if hasattr(K, case.op)
}
FORMS = {"native": contextlib.nullcontext, "portable": native.portable}


@pytest.fixture(params=sorted(FORMS))
def form(request):
    with FORMS[request.param]():
        assert native.available() == (request.param == "native")
        yield request.param


def ramp(height, width, channels=1):
    """A map whose cells hold 1, 2, 3, ... row by row, in every channel."""
    cells = np.arange(1, 1 + height * width, dtype="float32").reshape(1, height, width, 1)
    return np.repeat(cells, channels, axis=-1)


# --- Bins and windows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 41))
def test_bins_are_the_papers_windows_and_strides(count):
    # SPP-net, section 2.3: window ceil(a / n), stride floor(a / n), for every a up to 40.
    sides = np.arange(1, 41, dtype="int32")
    first, sizes = (np.asarray(v) for v in bins(np.zeros_like(sides), sides, count, None))
    for side, starts, lengths in zip(sides, first, sizes):
        assert starts.tolist() == [i * side // count for i in range(count)]
        ends = starts + lengths
        assert ends.tolist() == [-(-(i + 1) * side // count) for i in range(count)]
        window, stride = -(-side // count), side // count
        if stride * (count - 1) + window == side:  # the windows reach from border to border
            assert starts.tolist() == [i * stride for i in range(count)]
            assert lengths.tolist() == [window] * count


def test_bins_are_moved_and_clipped_to_the_map():
    # Seven cells from -2 on in three bins: [-2, 1), [0, 3), [2, 5), of a map of four cells.
    first, sizes = bins(np.array([-2], "int32"), np.array([7], "int32"), 3, 4)
    np.testing.assert_array_equal(first, [[0, 0, 2]])
    np.testing.assert_array_equal(sizes, [[1, 3, 2]])
    first, sizes = bins(np.array([-2], "int32"), np.array([7], "int32"), 3, None)
    np.testing.assert_array_equal(first, [[-2, 0, 2]])
    np.testing.assert_array_equal(sizes, [[3, 3, 3]])
    # Beyond the map every bin is empty.
    assert not np.any(bins(np.array([9, -9], "int32"), np.array([4, 4], "int32"), 2, 4)[1])


def test_window_grid_empties_a_window_without_rows_or_columns():
    rows = np.array([[0, 1]], "int32"), np.array([[2, 0]], "int32")
    columns = np.array([[3, 4]], "int32"), np.array([[0, 5]], "int32")
    starts, sizes = window_grid(rows, columns)
    np.testing.assert_array_equal(starts[0], [[[0, 3], [0, 4]], [[1, 3], [1, 4]]])
    np.testing.assert_array_equal(sizes[0], [[[0, 0], [2, 5]], [[0, 0], [0, 0]]])


WINDOWS = {
    "planes": tf.constant([0, 1, 1, 0]),
    "starts": tf.constant([[0, 0], [1, 1], [0, 0], [2, 3]]),
    "sizes": tf.constant([[2, 3], [1, 2], [0, 0], [1, 1]]),
}


def test_window_max_and_its_gradient_by_hand(form):
    # Maps of 3 x 4 cells: 1 to 12, and the same downwards.
    maps = tf.constant(np.concatenate([ramp(3, 4), 13 - ramp(3, 4)]))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        values = window_max(maps, **WINDOWS)
        total = tf.reduce_sum(values[:, 0] * [1.0, 2.0, 4.0, 8.0])
    np.testing.assert_array_equal(values[:, 0], [7, 7, 0, 12])
    slopes = np.zeros((2, 3, 4, 1))
    slopes[0, 1, 2], slopes[1, 1, 1], slopes[0, 2, 3] = 1, 2, 8
    np.testing.assert_array_equal(tf.convert_to_tensor(tape.gradient(total, maps)), slopes)


def test_window_max_of_equal_cells_is_the_first(form):
    maps = tf.constant(np.float32([[-3, -1, -1], [-1, -5, -1]])[None, :, :, None])
    with tf.GradientTape() as tape:
        tape.watch(maps)
        values = window_max(maps, np.int32([0]), np.int32([[0, 0]]), np.int32([[2, 3]]))
        total = tf.reduce_sum(values)
    np.testing.assert_array_equal(values, [[-1]])
    slopes = tf.convert_to_tensor(tape.gradient(total, maps))
    np.testing.assert_array_equal(slopes[0, :, :, 0], [[0, 1, 0], [0, 0, 0]])


def test_window_sum_and_its_gradient_by_hand(form):
    maps = tf.constant(np.concatenate([ramp(3, 4), 13 - ramp(3, 4)]))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        values = window_sum(maps, **WINDOWS)
        total = tf.reduce_sum(values[:, 0] * [1.0, 2.0, 4.0, 8.0])
    np.testing.assert_allclose(values[:, 0], [1 + 2 + 3 + 5 + 6 + 7, 7 + 6, 0, 12])
    slopes = np.zeros((2, 3, 4, 1))
    slopes[0, :2, :3], slopes[1, 1, 1:3], slopes[0, 2, 3] = 1, 2, 8
    np.testing.assert_allclose(tf.convert_to_tensor(tape.gradient(total, maps)), slopes)


def test_window_sum_between_cells_fades_beyond_the_border(form):
    # Two points at x 2.5 and 3.5 of row 1: (7 + 8) / 2, and half of 8.
    starts = np.array([[1.0, 2.5]], "float32")
    sizes = np.array([[1, 2]], "int32")
    found = window_sum(ramp(3, 4), np.array([0], "int32"), starts, sizes)
    np.testing.assert_allclose(found, [[7.5 + 4]], rtol=1e-5)
    far = window_sum(ramp(3, 4), np.array([0], "int32"), starts + 1e6, sizes)
    np.testing.assert_array_equal(far, [[0]])


# --- Spatial pyramids ---------------------------------------------------------------------------------


def test_spatial_pyramid_pool_by_hand(form):
    # Of 3 x 3 cells, two bins are the first two and the last two.
    pooled = K.spatial_pyramid_pool(ramp(3, 3), (1, 2))
    np.testing.assert_array_equal(pooled[0, :, 0], [9, 5, 6, 8, 9])
    pooled = K.spatial_pyramid_pool(ramp(3, 3), (2, 1), "average")
    np.testing.assert_allclose(pooled[0, :, 0], [3, 4, 6, 7, 5], rtol=1e-6)
    # More bins than cells: some cells are read twice.
    pooled = K.spatial_pyramid_pool(ramp(1, 2), (4,))
    np.testing.assert_array_equal(np.reshape(pooled, (4, 4)), [[1, 1, 2, 2]] * 4)


def test_spatial_pyramid_pool_of_a_window_by_hand(form):
    # With S = 4: x from floor(1 / 4) + 1 = 1 to ceil(11 / 4) - 1 = 2, y from 1 to ceil(12 / 4) - 1 = 2.
    boxes = np.array([[[1, 1, 11, 12]]], "float32")
    pooled = K.spatial_pyramid_pool(ramp(3, 4), (1, 2), "max", boxes, 1 / 4)
    np.testing.assert_array_equal(pooled[0, 0, :, 0], [11, 6, 7, 10, 11])
    pooled = K.spatial_pyramid_pool(ramp(3, 4), (1,), "average", boxes, 1 / 4)
    np.testing.assert_allclose(pooled[0, 0, :, 0], [(6 + 7 + 10 + 11) / 4], rtol=1e-6)
    # x from floor(5 / 4) + 1 = 2 to ceil(16 / 4) - 1 = 3, y from 1 to ceil(5 / 4) - 1 = 1: cells 7 and 8.
    boxes = np.array([[[5, 1, 16, 5]]], "float32")
    pooled = K.spatial_pyramid_pool(ramp(3, 4), (1,), "average", boxes, 1 / 4)
    np.testing.assert_allclose(pooled[0, 0, :, 0], [7.5], rtol=1e-6)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_spatial_pyramid_pool_of_the_whole_image_is_that_of_the_map(pooling, form):
    features = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype("float32")
    boxes = np.array([[[-2, -2, 28, 20]]] * 2, "float32")  # from before the first cell's centre
    whole = K.spatial_pyramid_pool(features, (1, 2, 3), pooling)
    window = K.spatial_pyramid_pool(features, (1, 2, 3), pooling, boxes, 1 / 4)
    np.testing.assert_allclose(window[:, 0], whole, rtol=1e-5, atol=1e-6)


def test_spatial_pyramid_pool_has_one_length_for_maps_of_all_sizes(form):
    shapes = {
        K.spatial_pyramid_pool(ramp(height, width, 2), (1, 2, 3, 6)).shape[1:]
        for height, width in ((1, 1), (2, 9), (13, 13), (6, 1))
    }
    assert shapes == {(1 + 4 + 9 + 36, 2)}


# --- Windows ------------------------------------------------------------------------------------------


def test_max_pool_keeps_the_window_that_the_end_cuts_off():
    # Of 4 columns, windows of 3 with stride 2 begin at 0 and 2; the second has two cells.
    maps = -ramp(3, 4)  # zeros of the padding would win
    np.testing.assert_array_equal(K.max_pool(maps, 3, 2)[0, ..., 0], [[-1, -3]])
    np.testing.assert_array_equal(K.max_pool(maps, 3, 2, ceil_mode=False)[0, ..., 0], [[-1]])
    # With one cell before, at -1, 1 and 3 of the columns (5 would lie beyond), at -1 and 1 of the rows.
    found = K.max_pool(maps, 3, 2, padding=1)
    np.testing.assert_array_equal(found[0, ..., 0], [[-1, -2, -4], [-5, -6, -8]])
    found = K.max_pool(maps, 3, 2, padding=1, ceil_mode=False)
    np.testing.assert_array_equal(found[0, ..., 0], [[-1, -2], [-5, -6]])


@pytest.mark.parametrize(
    ("side", "window", "windows"),
    [
        # side, (size, stride, padding): Caffe's, and rounded down
        (14, (3, 2, 0), (7, 6)),
        (13, (3, 2, 0), (6, 6)),
        (112, (3, 2, 0), (56, 55)),
        (112, (3, 2, 1), (57, 56)),
        (111, (3, 2, 1), (56, 56)),
        (5, (2, 2, 0), (3, 2)),
        (14, (3, 3, 1), (5, 5)),  # a sixth would begin at cell 15 of 15, behind the padding
        (3, (3, 2, 1), (2, 2)),
        (4, (2, 3, 0), (2, 1)),
        (3, (2, 3, 0), (1, 1)),  # a second would begin at cell 3 of 3
    ],
)
def test_number_of_windows(side, window, windows):
    for ceil_mode, count in zip((True, False), windows):
        assert pooled_side(side, *window, ceil_mode) == count
        assert K.max_pool(ramp(side, side), *window, ceil_mode).shape == (1, count, count, 1)
    assert pooled_side(None, *window) is None


# --- Responses ----------------------------------------------------------------------------------------


def test_local_response_norm_by_hand():
    # Squares 1, 4, 9; of three neighbours 5, 14, 13; 1 + 6 / 3 times these.
    inputs = np.float32([[[[1, 2, 3]]]])
    found = K.local_response_norm(inputs, 3, alpha=6.0, beta=1.0)
    np.testing.assert_allclose(found, [[[[1 / 11, 2 / 29, 3 / 27]]]], rtol=1e-6)
    found = K.local_response_norm(inputs, 3, alpha=6.0, beta=0.5, k=6.0)
    np.testing.assert_allclose(found, [[[[1 / 4, 2 / 34**0.5, 3 / 32**0.5]]]], rtol=1e-6)
    # Within each channel: of 2 x 2 cells, every window of 3 x 3 has all; 1 + 9 / 9 times 1 + 4 + 9 + 16.
    found = K.local_response_norm(ramp(2, 2, 2), 3, alpha=9.0, beta=1.0, within_channel=True)
    np.testing.assert_allclose(found, ramp(2, 2, 2) / 31, rtol=1e-6)
    # Of one row, the window's other rows are zeros, and count: squares 1, 4, 9, 16.
    found = K.local_response_norm(ramp(1, 4), 3, alpha=9.0, beta=1.0, within_channel=True)
    np.testing.assert_allclose(found[0, 0, :, 0], [1 / 6, 2 / 15, 3 / 30, 4 / 26], rtol=1e-6)


def test_local_response_norm_squares_in_float32():
    # 300 squared leaves float16's range; 1 + 1e-4 / 1 * 9e4 = 10.
    found = K.local_response_norm(tf.constant([[[[300]]]], "float16"), 1, 1e-4, 1.0)
    assert found.dtype == "float16"
    np.testing.assert_allclose(found, [[[[30]]]], rtol=2.0**-10)


@pytest.mark.parametrize("name", CAFFE_LAYERS)
def test_as_opencv_reads_caffes_layers(name):
    case = CAFFE_LAYERS[name]
    found = getattr(K, case.op)(case.inputs["inputs"], **case.options)
    assert found.shape == case.output.shape
    np.testing.assert_allclose(found, case.output, rtol=1e-5, atol=1e-5 * case.output.max())


# --- Channels -----------------------------------------------------------------------------------------


def test_maxout_by_hand():
    # Unit 0 has the channels 0, 2, 4, unit 1 the channels 1, 3, 5.
    inputs = np.array([[1, 2, 3, 4, 5, 6], [9, 1, -3, 0, 2, -8]], "float32")
    np.testing.assert_array_equal(K.maxout(inputs, 2), [[5, 6], [9, 1]])
    np.testing.assert_array_equal(K.maxout(inputs.T, 2, axis=0), [[5, 9], [6, 1]])
    np.testing.assert_array_equal(K.maxout(inputs, 6), inputs)
    np.testing.assert_array_equal(K.maxout(inputs, 1), [[6], [9]])


def test_l2_normalize_by_hand():
    inputs = np.array([[3, 4], [-5, 12], [0, 0]], "float32")
    found = K.l2_normalize(inputs, np.array([10, 26], "float32"))
    np.testing.assert_allclose(found, [[6, 20.8], [-50 / 13, 24], [0, 0]], rtol=1e-6)
    found = K.l2_normalize(inputs, 2.0, epsilon=100.0)  # norms of less than 10 count as 10
    np.testing.assert_allclose(found, [[0.6, 0.8], [-10 / 13, 24 / 13], [0, 0]], rtol=1e-6)


def test_l2_normalize_squares_in_float32():
    # 300 squared leaves float16's range.
    found = K.l2_normalize(tf.constant([[300, 400]], "float16"), 20.0)
    assert found.dtype == "float16"
    np.testing.assert_allclose(found, [[12, 16]], rtol=2.0**-10)


def test_l2_normalize_has_a_finite_gradient_at_zero():
    inputs = tf.zeros((1, 3))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        total = tf.reduce_sum(K.l2_normalize(inputs, 20.0))
    assert np.isfinite(tape.gradient(total, inputs)).all()


# --- Arguments that are refused -----------------------------------------------------------------------

MAP, BOXES = ramp(3, 3, 4), np.array([[[0, 0, 2, 2]]], "float32")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "spatial_pyramid_pool",
            (MAP[0], (1,)),
            r"features has the shape \(3, 3, 4\); give \(B, H",
        ),
        ("spatial_pyramid_pool", (MAP, ()), "levels is empty; give the bins per side"),
        ("spatial_pyramid_pool", (MAP, (1, 0)), "levels is 0; give a positive integer"),
        ("spatial_pyramid_pool", (MAP, (1, -2)), "levels is -2"),
        ("spatial_pyramid_pool", (MAP, (2.5,)), "levels is 2.5"),
        ("spatial_pyramid_pool", (MAP, ((2, 3),)), r"levels is \(2, 3\)"),
        (
            "spatial_pyramid_pool",
            (MAP, (1,), "mean"),
            "pooling is 'mean'; give one of 'max', 'average'",
        ),
        ("spatial_pyramid_pool", (MAP, (1,), "max", BOXES[0]), r"boxes has the shape \(1, 4\)"),
        (
            "spatial_pyramid_pool",
            (MAP, (1,), "max", BOXES, 0),
            "spatial_scale is 0; give a positive",
        ),
        ("spatial_pyramid_pool", (MAP, (1,), "max", BOXES, -1.0), "spatial_scale is -1.0"),
        ("maxout", (MAP, 3), "num_units is 3; it must divide the 4 channels"),
        ("maxout", (MAP, 0), "num_units is 0; give a positive integer"),
        ("maxout", (MAP, -2), "num_units is -2"),
        ("maxout", (MAP, 2.0), "num_units is 2.0"),
        ("maxout", (MAP, (2, 2)), r"num_units is \(2, 2\)"),
        ("l2_normalize", (MAP, 20.0, 0.0), "epsilon is 0.0; give a positive number"),
        ("l2_normalize", (MAP, 20.0, -1e-6), "epsilon is -1e-06"),
        ("maxout", (MAP, 2, 1), "num_units is 2; it must divide the 3 channels"),
    ],
)
def test_what_cannot_be_right_is_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(K, name)(*arguments)
