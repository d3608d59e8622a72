"""Deformable sampling by hand: the cells around a point, moved taps and bins, useless offsets."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet import ops as K
from kerasdet.ops import native
from kerasdet.ops.bilinear import read_points
from kerasdet.ops.neighbours import corners
from tests.ops.operations import INF, NAN, OPERATIONS

FORMS = {"native": contextlib.nullcontext, "portable": native.portable}


@pytest.fixture(params=sorted(FORMS))
def form(request):
    with FORMS[request.param]():
        assert native.available() == (request.param == "native")
        yield request.param


def ramp(height=8, width=8, channels=1):
    """A map whose cell (y, x) holds 1 + 10 y + x, in every channel."""
    y, x = np.mgrid[0:height, 0:width].astype("float32")
    return np.repeat((1 + 10 * y + x)[None, :, :, None], channels, axis=-1)


# --- Points -------------------------------------------------------------------------------------------


def test_corners_by_hand():
    # The second of two maps of 2 x 3 cells begins at row 6 of the table of cells.
    planes = np.array([1, 0], "int32")
    points = np.array([[0.25, 1.5], [1.5, -0.25]], "float32")
    found = corners((2, 3), planes, points)
    weights = np.transpose([weight for _, weight, _ in found])
    np.testing.assert_allclose(weights, [[0.375, 0.375, 0.125, 0.125], [0, 0.375, 0, 0]])
    np.testing.assert_array_equal([rows[0] for rows, _, _ in found], [7, 8, 10, 11])
    assert found[1][0][1] == 3, "cell (1, 0) of the first map"
    slopes = np.transpose([slope for _, _, slope in found], (1, 0, 2))
    # By y: half of each column, upper negative; by x: 0.75 of the upper row, 0.25 of the lower.
    expected = [[-0.5, -0.75], [-0.5, 0.75], [0.5, -0.25], [0.5, 0.25]]
    np.testing.assert_allclose(slopes[0], expected)
    np.testing.assert_allclose(slopes[1], [[0, 0], [-0.75, 0.5], [0, 0], [0, 0]])


def test_corners_of_whole_points_are_their_cells():
    points = np.array([[1, 2], [0, 3]], "int32")
    ((rows, weights, _),) = corners((2, 3), np.array([0, 0], "int32"), points)
    assert rows[0] == 5
    np.testing.assert_array_equal(weights, [1, 0])


def read(points):
    """Values of a map at points, and how they change with the points by y and x."""
    # Steps downwards: 3, then 50; to the right: 7, then 400.
    features = np.array([[0, 7, 407], [3, 10, 410], [53, 60, 460]], "float32")[None, :, :, None]
    points = tf.constant(points, "float32")
    with tf.GradientTape() as tape:
        tape.watch(points)
        values = read_points(features, np.zeros(points.shape[0], "int32"), points)
        total = tf.reduce_sum(values)
    return np.asarray(values)[:, 0], np.asarray(tape.gradient(total, points))


def test_read_points_by_hand(form):
    values, slopes = read([[0.5, 0.25], [1.5, 1.75], [-0.5, 1.5], [2.25, 2.5]])
    # The last two lie beyond the border: half of 7 and 407's mean, and 0.75 * 0.5 of 460.
    np.testing.assert_allclose(values, [3.25, 335, 103.5, 172.5], rtol=1e-5)
    expected = [[3, 7], [50, 400], [207, 200], [-230, -345]]
    np.testing.assert_allclose(slopes, expected, rtol=1e-4)


def test_the_gradient_at_a_whole_position_is_that_of_the_cell_below_and_to_the_right(form):
    values, slopes = read([[0, 0], [1, 1], [2, 2]])
    np.testing.assert_allclose(values, [0, 10, 460], rtol=1e-6)
    # Beyond the last row and column the map goes on as zeros.
    np.testing.assert_allclose(slopes, [[3, 7], [50, 400], [-460, -460]], rtol=1e-3)


# --- Convolution --------------------------------------------------------------------------------------


def test_the_borders_by_hand(form):
    # One tap on a map of 2 x 2 cells, moved from each cell.
    features = np.float32([[1, 2], [3, 40]])[None, :, :, None]
    offsets = np.float32([[[-0.25, 0.5], [0.5, 0.5]], [[0.75, -1.0], [0.5, 0.9]]])[None]
    kernel = np.ones((1, 1, 1, 1), "float32")
    # Fading: 0.75 of the upper two's mean; half of 0.5 * (2 + 40); beyond the corner; 0.5 * 0.1 of 40.
    # The third reads at y 1.75, x -1: nothing.
    faded = K.deform_conv2d(features, offsets, kernel)[0, :, :, 0]
    np.testing.assert_allclose(faded, [[1.125, 10.5], [0, 2]], rtol=1e-5, atol=1e-6)
    # Cut: y -0.25 is outside; x 1.5 reads the last column; x -1 is outside; y 1.5, x 1.9 are the last cell.
    cut = K.deform_conv2d(features, offsets, kernel, border="cut")[0, :, :, 0]
    np.testing.assert_allclose(cut, [[0, 21], [0, 40]], rtol=1e-5, atol=1e-6)


def test_the_cut_border_equals_a_loop():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(6, 7, 3)).astype("float32")
    offsets = rng.normal(size=(6, 7, 9, 2), scale=3).astype("float32")
    kernel = rng.normal(size=(3, 3, 3, 2)).astype("float32")

    def read(y, x):
        if not (0 <= y < 6 and 0 <= x < 7):
            return np.zeros(3)
        y, x = min(y, 5.0), min(x, 6.0)
        top, left = int(y), int(x)
        bottom, right, down, across = min(top + 1, 5), min(left + 1, 6), y - top, x - left
        upper = (1 - across) * features[top, left] + across * features[top, right]
        lower = (1 - across) * features[bottom, left] + across * features[bottom, right]
        return (1 - down) * upper + down * lower

    expected = np.zeros((6, 7, 2))
    for i, j, tap in np.ndindex(6, 7, 9):
        dy, dx = offsets[i, j, tap]
        taps = read(i - 1 + tap // 3 + dy, j - 1 + tap % 3 + dx)
        expected[i, j] += taps @ kernel[tap // 3, tap % 3]
    found = K.deform_conv2d(
        features[None], offsets.reshape(1, 6, 7, 18), kernel, padding=1, border="cut"
    )
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)


def test_a_depthwise_kernel_is_a_diagonal_one(form):
    rng = np.random.default_rng(4)
    features = rng.normal(size=(1, 5, 6, 4)).astype("float32")
    offsets = rng.normal(size=(1, 5, 6, 18)).astype("float32")
    kernel = rng.normal(size=(3, 3, 1, 4)).astype("float32")
    found = K.deform_conv2d(features, offsets, kernel, padding=1)
    dense = kernel * np.eye(4, dtype="float32")  # (3, 3, 4, 4)
    expected = K.deform_conv2d(features, offsets, dense, padding=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_deform_conv2d_of_one_tap_by_hand(form):
    offsets = np.zeros((1, 8, 8, 2), "float32")
    offsets[0, 2, 3] = 0.5, -0.25  # reads at y 2.5, x 2.75
    kernel = np.full((1, 1, 1, 1), 3, "float32")
    outputs = np.asarray(K.deform_conv2d(ramp(), offsets, kernel))[0, :, :, 0]
    expected = 3 * ramp()[0, :, :, 0]
    expected[2, 3] = 3 * (1 + 25 + 2.75)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)
    mask = np.full((1, 8, 8, 1), 0.5, "float32")
    outputs = K.deform_conv2d(ramp(), offsets, kernel, mask)
    np.testing.assert_allclose(outputs[0, :, :, 0], expected / 2, rtol=1e-5)


def test_deform_conv2d_takes_taps_row_by_row_and_moves_each(form):
    # A kernel of 2 x 2 at (3, 4): the tap below to the left, alone, moves by a row and a quarter.
    offsets = np.zeros((1, 7, 7, 2, 2, 2), "float32")
    offsets[0, 3, 4, 1, 0] = 1, 0.25
    offsets = offsets.reshape(1, 7, 7, 8)
    for tap, expected in enumerate((35, 36, 45 + 10 + 0.25, 46)):
        kernel = np.zeros((4, 1, 1), "float32")
        kernel[tap] = 1
        outputs = K.deform_conv2d(ramp(), offsets, kernel.reshape(2, 2, 1, 1))
        np.testing.assert_allclose(outputs[0, 3, 4, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "groups", "strides", "padding", "dilation"),
    [
        ((3, 3), 1, 1, 1, 1),
        ((1, 1), 1, 1, 0, 1),
        ((3, 2), 2, (2, 1), (0, 2), 1),
        ((2, 3), 1, 1, (3, 1), (2, 1)),
        ((3, 3), 4, 2, 2, 1),
    ],
)
def test_deform_conv2d_at_rest_is_the_convolution(size, groups, strides, padding, dilation, form):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, 7, 9, 4)).astype("float32")
    kernel = rng.normal(size=(*size, 4 // groups, 8)).astype("float32")
    vertical, horizontal = np.broadcast_to(padding, 2)
    padded = np.pad(inputs, [(0, 0), (vertical, vertical), (horizontal, horizontal), (0, 0)])
    expected = keras.ops.conv(padded, kernel, strides, "valid", dilation_rate=dilation)
    for offset_groups in (1, 2):
        taps = offset_groups * size[0] * size[1]
        offsets = np.zeros((*expected.shape[:3], 2 * taps), "float32")
        ones = np.ones((*expected.shape[:3], taps), "float32")
        for mask in (None, ones):
            outputs = K.deform_conv2d(inputs, offsets, kernel, mask, strides, padding, dilation)
            np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def test_deformable_groups_move_their_own_channels(form):
    # Channels 0, 1 are moved by a row, channels 2, 3 by two columns; the mask halves the latter.
    offsets = np.broadcast_to(np.float32([1, 0, 0, 2]), (1, 8, 8, 4))
    mask = np.broadcast_to(np.float32([1, 0.5]), (1, 8, 8, 2))
    kernel = np.eye(4, dtype="float32")[None, None]
    features = ramp(channels=4) + 1000 * np.arange(4, dtype="float32")
    outputs = K.deform_conv2d(features, offsets, kernel, mask)
    np.testing.assert_allclose(outputs[0, 2, 3], [34, 1034, 1013, 1513], rtol=1e-5)


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e30, -1e30, 50.0])
def test_a_tap_moved_out_of_the_map_reads_zero(value, form):
    # The second of two taps is lost at (2, 3), in either direction.
    kernel = np.ones((1, 2, 1, 1), "float32")
    for axis in range(2):
        offsets = np.zeros((1, 8, 7, 2, 2), "float32")
        offsets[0, 2, 3, 1, axis] = value
        offsets = tf.constant(offsets.reshape(1, 8, 7, 4))
        with tf.GradientTape() as tape:
            tape.watch(offsets)
            outputs = K.deform_conv2d(ramp(), offsets, kernel)
            total = tf.reduce_sum(outputs)
        expected = 2 * ramp()[0, :, :7, 0] + 1
        expected[2, 3] = 24
        np.testing.assert_allclose(outputs[0, :, :, 0], expected, rtol=1e-5)
        slopes = np.asarray(tape.gradient(total, offsets)).reshape(8, 7, 2, 2)
        assert np.isfinite(slopes).all()
        np.testing.assert_array_equal(slopes[2, 3, 1], [0, 0])


# --- Region pooling -----------------------------------------------------------------------------------

OPS = {"deform_roi_pool": K.deform_roi_pool, "deform_ps_roi_pool": K.deform_ps_roi_pool}

# Rows 1 to 4 and columns 2 to 7, as the one and the other count corners.
REGION = {"deform_roi_pool": (2, 1, 7, 4), "deform_ps_roi_pool": (2, 1, 8, 5)}


def pool(name, offsets, box=None, features=None, **options):
    """One region of 2 x 2 bins of a ramp."""
    boxes = np.array([[box or REGION[name]]], "float32")
    if features is None:
        features = ramp(8, 10, 1 if name == "deform_roi_pool" else 4)
    return OPS[name](features, boxes, offsets, 2, 1.0, **options)


@pytest.mark.parametrize("name", OPS)
def test_bins_are_moved_by_parts_of_the_region(name, form):
    # dy and dx count 0.1 of four rows and six columns; bins' means at rest: 19, 22, 39, 42.
    offsets = np.zeros((1, 1, 2, 2, 2), "float32")
    offsets[0, 0, 0, 1] = 0.5, 0
    offsets[0, 0, 1, 0] = 0, -0.75
    pooled = pool(name, offsets)
    np.testing.assert_allclose(
        pooled[0, 0, :, :, 0], [[19, 22 + 10 * 0.2], [39 - 0.45, 42]], rtol=1e-5
    )
    pooled = pool(name, offsets, gamma=0.2)
    np.testing.assert_allclose(pooled[0, 0, 0, 1, 0], 22 + 10 * 0.4, rtol=1e-5)


@pytest.mark.parametrize("name", OPS)
def test_bins_at_rest_have_a_gradient(name, form):
    offsets = tf.zeros((1, 1, 2, 2, 2))
    with tf.GradientTape() as tape:
        tape.watch(offsets)
        total = tf.reduce_sum(pool(name, offsets))
    # 0.1 of four rows of slope 10, and of six columns of slope 1.
    slopes = np.broadcast_to([4, 0.6], (1, 1, 2, 2, 2))
    np.testing.assert_allclose(tape.gradient(total, offsets), slopes, rtol=1e-3)


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e30, -1e30, 500.0])
@pytest.mark.parametrize("name", OPS)
def test_a_bin_moved_out_of_the_map_is_zero(name, value, form):
    for axis in range(2):
        offsets = np.zeros((1, 1, 2, 2, 2), "float32")
        offsets[0, 0, 0, 1, axis] = value
        offsets = tf.constant(offsets)
        with tf.GradientTape() as tape:
            tape.watch(offsets)
            pooled = pool(name, offsets)
            total = tf.reduce_sum(pooled)
        np.testing.assert_allclose(pooled[0, 0, :, :, 0], [[19, 0], [39, 42]], rtol=1e-5)
        slopes = np.asarray(tape.gradient(total, offsets))
        assert np.isfinite(slopes).all()
        np.testing.assert_array_equal(slopes[0, 0, 0, 1], [0, 0])


@pytest.mark.parametrize("name", OPS)
def test_a_bin_of_more_cells_than_an_integer_counts(name, form):
    # Bins of 65536 x 65536 cells, 2^32, of which the first holds the map.
    features = np.full((1, 4, 4, 1 if name == "deform_roi_pool" else 4), 2.0**28, "float32")
    last = 2 * 65536 - int(name == "deform_roi_pool")
    offsets = np.zeros((1, 1, 2, 2, 2), "float32")
    pooled = pool(name, offsets, (0, 0, last, last), features)
    np.testing.assert_allclose(pooled[0, 0, :, :, 0], [[1, 0], [0, 0]], rtol=1e-6)


# --- Arguments that are refused -----------------------------------------------------------------------


def shaped(*shape):
    return np.zeros(shape, "float32")


CONV = {"inputs": shaped(1, 5, 6, 4), "offsets": shaped(1, 5, 6, 18), "kernel": shaped(3, 3, 4, 2)}
CONV["padding"] = 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"inputs": shaped(5, 6, 4)}, r"inputs has the shape \(5, 6, 4\); give \(B, H, W, C\)"),
        ({"offsets": shaped(5, 6, 18)}, r"offsets has the shape \(5, 6, 18\)"),
        ({"kernel": shaped(3, 4, 2)}, r"kernel has the shape \(3, 4, 2\); give \(kh, kw, C"),
        ({"mask": shaped(5, 6, 9)}, r"mask has the shape \(5, 6, 9\); give \(B, 5, 6, 9\)"),
        ({"mask": shaped(1, 5, 6, 18)}, r"mask has the shape \(1, 5, 6, 18\); give \(B, 5, 6, 9\)"),
        ({"mask": shaped(1, 5, 5, 9)}, r"mask has the shape \(1, 5, 5, 9\)"),
        ({"offsets": shaped(1, 5, 6, 9)}, r"offsets have 9 channels; give 2 G kh kw = G \* 18"),
        ({"offsets": shaped(1, 5, 6, 20)}, "offsets have 20 channels"),
        ({"offsets": shaped(1, 5, 6, 54)}, "offsets have 54 channels; .* divide the 4 channels"),
        (
            {"offsets": shaped(1, 3, 4, 18)},
            r"width \(3, 4\); this convolution's result has \(5, 6\)",
        ),
        ({"padding": 0}, r"width \(5, 6\); this convolution's result has \(3, 4\)"),
        (
            {"kernel": shaped(3, 3, 3, 2)},
            r"kernel has the shape \(3, 3, 3, 2\); its third axis must",
        ),
        ({"kernel": shaped(3, 3, 1, 2)}, "the number of groups must divide its filters"),
        ({"strides": 0}, "strides is 0; give one or two integers of at least 1"),
        ({"strides": 1.5}, "strides is 1.5"),
        ({"strides": (1, 1, 1)}, r"strides is \(1, 1, 1\)"),
        ({"dilation": (1, 0)}, r"dilation is \(1, 0\)"),
        ({"padding": -1}, "padding is -1; give one or two integers of at least 0"),
        ({"padding": "same"}, "padding is 'same'"),
    ],
)
def test_a_convolution_that_does_not_fit_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        K.deform_conv2d(**{**CONV, **changed})


def test_a_mask_of_unknown_size_is_checked_by_its_channels():
    operation = OPERATIONS["deform_conv2d, modulated"]
    specs = [tf.TensorSpec(shape, "float32") for shape in operation.shapes().values()]
    specs[-1] = tf.TensorSpec((None, None, None, 5), "float32")
    traced = tf.function(lambda *inputs: K.deform_conv2d(*inputs, strides=2, padding=1))
    with pytest.raises(ValueError, match=r"mask has the shape .*; give \(B, H', W', 6\)"):
        traced.get_concrete_function(*specs)


POOLED = {
    "features": shaped(1, 8, 8, 4),
    "boxes": shaped(1, 3, 4),
    "offsets": shaped(1, 3, 2, 2, 2),
    "output_size": 2,
    "spatial_scale": 1.0,
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": shaped(8, 8, 4)}, r"features has the shape \(8, 8, 4\); give \(B, H, W, C\)"),
        ({"boxes": shaped(3, 4)}, r"boxes has the shape \(3, 4\); give \(B, R, 4\)"),
        (
            {"offsets": shaped(1, 3, 2, 2)},
            r"offsets has the shape \(1, 3, 2, 2\); give \(B, R, 2, 2",
        ),
        ({"offsets": shaped(1, 3, 3, 2, 2)}, r"offsets has the shape \(1, 3, 3, 2, 2\)"),
        ({"offsets": shaped(1, 3, 2, 2, 3)}, r"offsets has the shape \(1, 3, 2, 2, 3\)"),
        ({"output_size": 0}, "output_size is 0"),
        ({"output_size": 2.0}, "output_size is 2.0"),
        ({"spatial_scale": -1}, "spatial_scale is -1; give a positive number"),
        ({"gamma": 0}, "gamma is 0; give a positive number"),
    ],
)
def test_a_pooling_that_does_not_fit_is_refused(name, changed, message):
    with pytest.raises(ValueError, match=message):
        OPS[name](**{**POOLED, **changed})


def test_deform_ps_roi_pool_asks_for_channels_of_every_bin():
    changed = {"features": shaped(1, 8, 8, 6)}
    with pytest.raises(
        ValueError, match="features have 6 channels; 2 x 2 bins need a multiple of 4"
    ):
        K.deform_ps_roi_pool(**{**POOLED, **changed})
