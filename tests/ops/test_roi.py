"""Region pooling by hand: levels, lattices, rounding, boxes that are no boxes, arguments refused."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasdet import ops as K
from kerasdet.ops import native
from kerasdet.ops.adaptive import points_of_bins
from kerasdet.ops.bilinear import pool_lattice
from kerasdet.ops.native import windows
from kerasdet.ops.neighbours import clamped_neighbours
from kerasdet.ops.roi import rounded_regions
from kerasdet.ops.windows import bins
from tests.ops.operations import BOXES, INF, NAN

MXNET = Path(__file__).parents[3] / "shared" / "reference" / "out" / "mxnet_ops.npz"
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


def one_box(*box):
    return np.array([[box]], "float32")


# --- Levels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "level"),
    [
        (224, 224, 4),
        (223.9, 223.9, 3),
        (112, 448, 4),  # the geometric mean of the sides counts
        (448, 448, 5),
        (447.9, 447.9, 4),
        (112, 112, 3),
        (111.9, 111.9, 2),
        (0.01, 0.01, 2),
        (1e6, 1e6, 5),
        (1e30, 1e30, 5),
        (500, 0, 2),
        (-500, 500, 2),
        (-500, -500, 2),
    ],
)
def test_region_levels_by_hand(width, height, level):
    boxes = np.array([[13, 7, 13 + width, 7 + height]], "float32")
    assert K.region_levels(boxes, 2, 5).numpy().tolist() == [level]
    assert K.region_levels(boxes, 3, 4).numpy().tolist() == [min(max(level, 3), 4)]


def constant_pyramid():
    """P2 to P5 of an image of 512 pixels, each filled with its number."""
    return {f"P{k}": np.full((1, 512 // 2**k, 512 // 2**k, 1), k, "float32") for k in (4, 2, 5, 3)}


def test_multilevel_roi_align_reads_each_region_from_its_level(form):
    boxes = np.array([[[9, 9, 9 + side, 9 + side] for side in (20, 120, 230, 460)]], "float32")
    pooled = K.multilevel_roi_align(constant_pyramid(), boxes, 1)
    np.testing.assert_allclose(np.ravel(pooled), [2, 3, 4, 5], rtol=1e-6)
    from_list = [constant_pyramid()[f"P{k}"] for k in (2, 3, 4, 5)]
    np.testing.assert_array_equal(K.multilevel_roi_align(from_list, boxes, 1), pooled)


def test_of_several_maps_of_one_level_the_first_is_pooled_from(form):
    # As torchvision does, whose MobileNetV3 detectors have two maps of stride 32.
    first, second = np.full((1, 4, 4, 1), 5, "float32"), np.full((1, 4, 4, 1), 6, "float32")
    boxes = np.float32([[[9, 9, 29, 29], [1, 1, 120, 120]]])
    pooled = K.multilevel_roi_align({"P5_first": first, "P5": second}, boxes, 1)
    np.testing.assert_allclose(np.ravel(pooled), [5, 5], rtol=1e-6)
    pooled = K.multilevel_roi_align(constant_pyramid() | {"P4_last": second}, boxes, 1)
    np.testing.assert_allclose(np.ravel(pooled), [2, 3], rtol=1e-6)


def test_multilevel_roi_align_equals_roi_align_of_the_level(form):
    rng = np.random.default_rng(0)
    pyramid = {f"P{k}": rng.normal(size=(2, 64 // 2**k, 64 // 2**k, 3)) for k in (3, 4)}
    pyramid = {name: level.astype("float32") for name, level in pyramid.items()}
    boxes = np.float32([[[1, 2, 30, 40], [-5, 3, 300, 270]], [[9, 9, 50, 60], [0, 0, 9, 9]]])
    for options in ({"aligned": True, "reduction": "max"}, {"sampling_ratio": 3}):
        pooled = K.multilevel_roi_align(pyramid, boxes, (3, 2), **options)
        small, large = (
            K.roi_align(pyramid[name], boxes, (3, 2), scale, **options)
            for name, scale in (("P3", 1 / 8), ("P4", 1 / 16))
        )
        expected = np.array(small)
        expected[0, 1] = large[0, 1]  # the one of more than 224 pixels
        np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)


def test_multilevel_ps_roi_align_equals_ps_roi_align_of_the_level(form):
    rng = np.random.default_rng(0)
    pyramid = {f"P{k}": rng.normal(size=(2, 64 // 2**k, 64 // 2**k, 8)) for k in (3, 4)}
    pyramid = {name: level.astype("float32") for name, level in pyramid.items()}
    boxes = np.float32([[[1, 2, 30, 40], [-5, 3, 300, 270]], [[9, 9, 50, 60], [0, 0, 9, 9]]])
    for ratio in (1, 3):
        pooled = K.multilevel_ps_roi_align(pyramid, boxes, 2, ratio)
        small, large = (
            K.ps_roi_align(pyramid[name], boxes, 2, scale, ratio)
            for name, scale in (("P3", 1 / 8), ("P4", 1 / 16))
        )
        expected = np.array(small)
        expected[0, 1] = large[0, 1]  # the one of more than 224 pixels
        assert expected.shape == (2, 2, 2, 2, 2)
        np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)


def test_a_level_without_regions_has_a_gradient_of_zeros(form):
    pyramid = {name: tf.constant(level) for name, level in constant_pyramid().items()}
    boxes = np.float32([[[9, 9, 29, 29], [40, 9, 60, 29]]])
    for reduction in ("mean", "max"):
        with tf.GradientTape() as tape:
            tape.watch(pyramid)
            pooled = K.multilevel_roi_align(pyramid, boxes, 2, reduction=reduction)
            total = tf.reduce_sum(pooled)
        slopes = tape.gradient(total, pyramid)
        sums = {name: float(tf.reduce_sum(tf.convert_to_tensor(slopes[name]))) for name in slopes}
        assert sums == {"P2": pytest.approx(8), "P3": 0, "P4": 0, "P5": 0}


# --- Lattices ---------------------------------------------------------------------------------------


def test_clamped_neighbours_by_hand():
    coordinates = np.array([-1.1, -1, -0.5, 0, 1.25, 2, 2.5, 3, 3.1], "float32")
    before, after, (by_before, by_after) = clamped_neighbours(coordinates, np.int32(3))
    inside = np.array([0, 1, 1, 1, 1, 1, 1, 1, 0], bool)  # up to a cell beyond the border
    np.testing.assert_array_equal(np.array(before)[inside], [0, 0, 0, 1, 2, 2, 2])
    np.testing.assert_array_equal(np.array(after)[inside], [1, 1, 1, 2, 2, 2, 2])
    np.testing.assert_allclose(by_before, [0, 1, 1, 1, 0.75, 1, 1, 1, 0])
    np.testing.assert_allclose(by_after, [0, 0, 0, 0, 0.25, 0, 0, 0, 0])


def test_pool_lattice_by_hand(form):
    first, second = ramp(4, 5), 100 * ramp(2, 3)
    # On the first map the points y 0.5, 1.5 and x 1.25, 1.75; on the second y 1, 2 and x 0, 1.
    found = pool_lattice(
        [first, second],
        np.array([0, 1], "int32"),
        np.array([[0.5, 1.25], [1, 0]], "float32"),
        np.array([[1, 0.5], [1, 1]], "float32"),
        *((2, 1), 1, "mean"),
    )
    # y = 2 lies a cell below the second map's last row: the row's value goes on.
    np.testing.assert_allclose(found[:, :, 0, 0], [[7.25, 17.25], [1100, 1100]], rtol=1e-5)
    found = pool_lattice(
        first,
        np.array([0], "int32"),
        np.array([[0.5, 1.25]], "float32"),
        np.array([[1, 0.5]], "float32"),
        *((1, 1), 2, "max"),
    )
    np.testing.assert_allclose(found, [[[[17.75]]]], rtol=1e-5)
    # A point a quarter of a cell below row 0 and three quarters beside column 1: 1 + 2.5 + 1.75.
    found = pool_lattice(
        first,
        np.array([0], "int32"),
        np.array([[0.25, 1.75]], "float32"),
        np.array([[1, 1]], "float32"),
        *((1, 1), 1, "mean"),
    )
    np.testing.assert_allclose(found, [[[[5.25]]]], rtol=1e-5)


@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align_of_a_ramp_is_the_ramp_at_the_bins_centres(aligned, sampling_ratio, form):
    # Bins of 2 rows and 1.5 columns: centres at y 2, 4 and x 2.75, 4.25; aligned, half a cell less.
    pooled = K.roi_align(ramp(), one_box(2, 1, 5, 5), 2, 1.0, sampling_ratio, aligned)
    expected = np.array([[23.75, 25.25], [43.75, 45.25]]) - 5.5 * aligned
    np.testing.assert_allclose(pooled[0, 0, :, :, 0], expected, rtol=1e-5)
    # The same region in pixels of an image four times as large.
    again = K.roi_align(ramp(), one_box(8, 4, 20, 20), 2, 1 / 4, sampling_ratio, aligned)
    np.testing.assert_allclose(again, pooled, rtol=1e-5)


def test_roi_align_maximum_of_a_ramp_is_its_last_point(form):
    # Points of a bin lie 1 row and 0.75 columns apart, half of that from the centre.
    pooled = K.roi_align(ramp(), one_box(2, 1, 5, 5), 2, 1.0, reduction="max")
    expected = np.array([[23.75, 25.25], [43.75, 45.25]]) + 5 + 0.375
    np.testing.assert_allclose(pooled[0, 0, :, :, 0], expected, rtol=1e-5)


def test_roi_align_with_as_many_points_as_cells_is_the_mean_of_the_cells(form):
    features = np.random.default_rng(0).normal(size=(1, 6, 8, 3)).astype("float32")
    # Two rows of three bins: 2 x 2 cells each, from cell (1, 2) on.
    boxes = one_box(2, 1, 8, 5)
    pooled = K.roi_align(features, boxes, (2, 3), 1.0, None, aligned=True)
    cells = features[0, 1:5, 2:8].reshape(2, 2, 3, 2, 3).mean((1, 3))
    np.testing.assert_allclose(pooled[0, 0], cells, rtol=1e-5, atol=1e-6)
    # Bins of 1.5 rows and 3 columns take two rows of points, 0.875 and 1.625, and three columns.
    pooled = K.roi_align(features, one_box(2, 1, 8, 4), 2, 1.0, None, aligned=True)
    rows = features[0, :4, 2:8].reshape(4, 2, 3, 3).mean(2)  # (4, 2, C)
    first = (0.125 * rows[0] + 0.875 * rows[1]) / 2 + (0.375 * rows[1] + 0.625 * rows[2]) / 2
    np.testing.assert_allclose(pooled[0, 0, 0], first, rtol=1e-5, atol=1e-6)


def test_regions_of_different_numbers_of_points_are_pooled_as_if_alone(form):
    pyramid = {
        f"P{k}": np.random.default_rng(k).normal(size=(2, 96 // 2**k, 96 // 2**k, 3))
        for k in (2, 3)
    }
    pyramid = {name: level.astype("float32") for name, level in pyramid.items()}
    boxes = np.float32([[[1, 2, 90, 40], [3, 3, 9, 90]], [[9, 9, 50, 60], [0, 0, 90, 250]]])
    pooled = K.multilevel_roi_align(pyramid, boxes, (3, 2), None, aligned=True)
    for image in range(2):
        maps = {name: level[image : image + 1] for name, level in pyramid.items()}
        for region in range(2):
            own = boxes[image : image + 1, region : region + 1]
            alone = K.multilevel_roi_align(maps, own, (3, 2), None, aligned=True)
            np.testing.assert_allclose(pooled[image, region], alone[0, 0], rtol=1e-5, atol=1e-6)


def test_points_of_bins_by_hand():
    sides = np.float32([[14, 7.01], [3, -2], [0, 700]])
    counts, steps = points_of_bins(sides, np.int32([[50, 50]] * 3), (7, 7))
    # 14 / 7 = 2 points; 1.0014 cells need two; a bin of 100 cells has no more points than its map.
    np.testing.assert_array_equal(counts, [[2, 2], [1, 0], [0, 50]])
    expected = [[1, 7.01 / 14], [3 / 7, -2 / 7], [0, 2]]
    np.testing.assert_allclose(steps, expected, rtol=1e-5)


@pytest.mark.parametrize("box", [(3, 2, 3, 5), (5, 4, 2, 1), (NAN, 1, 5, 5)])
def test_a_region_without_area_has_no_points(box, form):
    pooled = K.roi_align(ramp() + 1.0, one_box(*box), 2, 1.0, None, aligned=True)
    np.testing.assert_array_equal(pooled, np.zeros((1, 1, 2, 2, 1)))


def test_ps_roi_align_of_ramps_is_each_bins_own_at_its_centre(form):
    # Channel c k k + i k + j is ramp + 1000 (c k k + i k + j).
    features = ramp(channels=8) + 1000 * np.arange(8, dtype="float32")
    pooled = K.ps_roi_align(features, one_box(2, 1, 5, 5), 2, 1.0)
    centres = np.array([[18.25, 19.75], [38.25, 39.75]])
    for c in range(2):
        expected = centres + 1000 * (4 * c + np.array([[0, 1], [2, 3]]))
        np.testing.assert_allclose(pooled[0, 0, :, :, c], expected, rtol=1e-5)


# --- Whole cells ------------------------------------------------------------------------------------


def test_corners_are_rounded_half_away_from_zero():
    boxes = np.float32([[2.5, -2.5, 6.4, -0.5]])  # cells 3, -3, 6, -1
    starts, sizes = rounded_regions(boxes, 1.0, last_included=True)
    np.testing.assert_array_equal([starts[0], sizes[0]], [[-3, 3], [3, 4]])
    starts, sizes = rounded_regions(2 * boxes, 0.5, last_included=False)
    np.testing.assert_array_equal([starts[0], sizes[0]], [[-3, 3], [2, 3]])


def test_roi_pool_by_hand(form):
    # Rows 1 to 4, columns 2 to 6: both corners' cells belong to the region.
    pooled = K.roi_pool(ramp(), one_box(2, 1, 6, 4), 2, 1.0)
    np.testing.assert_array_equal(pooled[0, 0, :, :, 0], [[25, 27], [45, 47]])
    # Three bins of four rows: [0, 2), [1, 3), [2, 4).
    pooled = K.roi_pool(ramp(), one_box(2, 1, 6, 4), (3, 1), 1.0)
    np.testing.assert_array_equal(pooled[0, 0, :, 0, 0], [27, 37, 47])
    # Rows -2 to 1: the first bin lies above the map.
    pooled = K.roi_pool(ramp(), one_box(0, -2, 0, 1), (2, 1), 1.0)
    np.testing.assert_array_equal(pooled[0, 0, :, 0, 0], [0, 11])


def test_roi_pool_of_whole_pixels_by_hand(form):
    # Cells of four pixels; the last pixels are 22 and 17: columns 2 to 6 (22 / 4 = 5.5), rows 1 to 4.
    box = one_box(8, 4, 23, 18)
    pooled = K.roi_pool(ramp(), box, 2, 1 / 4, rounding="pixels")
    np.testing.assert_array_equal(pooled[0, 0, :, :, 0], [[25, 27], [45, 47]])
    cells = K.roi_pool(ramp(), one_box(8, 4, 21, 18), 2, 1 / 4, rounding="pixels")
    np.testing.assert_array_equal(
        cells[0, 0, 0, :, 0], [24, 26]
    )  # the last pixel is 20: columns 2 to 5


def test_bins_of_whole_pixels_are_divided_in_float32(form):
    # 57 cells in 7 bins: 7 * float32(57 / 7) is more than 57. The cell behind the last one is the largest.
    features = np.arange(64.0, dtype="float32").reshape(1, 1, 64, 1)
    box = one_box(0, 0, 57, 1)
    assert K.roi_pool(features, box, (1, 7), 1.0, rounding="pixels")[0, 0, 0, 6, 0] == 57
    assert K.roi_pool(features, one_box(0, 0, 56, 1), (1, 7), 1.0)[0, 0, 0, 6, 0] == 56
    sizes = np.arange(1, 64, dtype="int32")
    for count in (6, 7, 14):
        first, cells = bins(np.zeros_like(sizes), sizes, count, None, in_float32=True)
        index, side = np.arange(count, dtype="float32"), sizes.astype("float32")[:, None] / count
        side = side.astype("float32")
        np.testing.assert_array_equal(first, np.floor(index * side))
        np.testing.assert_array_equal(first + cells, np.ceil((index + np.float32(1)) * side))
        if count == 7:
            assert int(first[56, 6] + cells[56, 6]) == 58


def test_ps_roi_pool_of_whole_pixels_by_hand(form):
    # Cells of four pixels; pixels 6 to 13 of x and 4 to 11 of y: columns 1.5 to 3.5, rows 1 to 3.
    features = ramp(channels=8) + 1000 * np.arange(8, dtype="float32")
    box = one_box(6.4, 3.5, 13.6, 12.4)
    pooled = K.ps_roi_pool(features, box, 2, 1 / 4, rounding="pixels")
    # Bins of one row and one column, from 1.5 and from 2.5: each touches two columns.
    means = np.array([[12.5, 13.5], [22.5, 23.5]])
    for c in range(2):
        expected = means + 1000 * (4 * c + np.array([[0, 1], [2, 3]]))
        np.testing.assert_allclose(pooled[0, 0, :, :, c], expected, rtol=1e-6)
    # Beside the map, or with corners in the wrong order: nothing, and the cell of the first corner.
    beside = K.ps_roi_pool(features, one_box(-90, -90, -40, -40), 2, 1 / 4, rounding="pixels")
    np.testing.assert_array_equal(beside, 0)
    inverted = K.ps_roi_pool(features, one_box(9, 5, 2, 1), 1, 1 / 4, rounding="pixels")
    np.testing.assert_array_equal(inverted[0, 0, 0, 0], 13 + 1000 * np.arange(8))


@pytest.mark.skipif(not MXNET.exists(), reason="shared/reference is not there")
def test_ps_roi_pool_of_whole_pixels_is_mxnets(form):
    with np.load(MXNET) as file:
        features, regions, expected = file["x"], file["r"], file["psroi"]
    pooled = K.ps_roi_pool(
        features.transpose(0, 2, 3, 1),
        regions[None, :, 1:] + np.float32([0, 0, 1, 1]),  # from the last pixel to the box's end
        3,
        1 / 8,
        rounding="pixels",
    )
    np.testing.assert_allclose(pooled[0], expected.transpose(0, 2, 3, 1), atol=1e-6)


def test_ps_roi_pool_by_hand(form):
    # Rows 1 to 4, columns 2 to 5; the second corner's cell does not belong to the region.
    features = ramp(channels=8) + 1000 * np.arange(8, dtype="float32")
    pooled = K.ps_roi_pool(features, one_box(2, 1, 6, 5), 2, 1.0)
    means = np.array([[18.5, 20.5], [38.5, 40.5]])
    for c in range(2):
        expected = means + 1000 * (4 * c + np.array([[0, 1], [2, 3]]))
        np.testing.assert_allclose(pooled[0, 0, :, :, c], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["roi_pool", "roi_align", "ps_roi_pool", "ps_roi_align"])
def test_boxes_have_no_gradient(name, form):
    boxes = tf.constant(one_box(2, 1, 6, 5))
    with tf.GradientTape() as tape:
        tape.watch(boxes)
        total = tf.reduce_sum(getattr(K, name)(ramp(channels=4), boxes, 2, 1.0))
    assert tape.gradient(total, boxes) is None


# --- Boxes that are no boxes ------------------------------------------------------------------------

POOLS = {
    "roi_pool": lambda features, boxes: K.roi_pool(features, boxes, 2, 1.0),
    "roi_align": lambda features, boxes: K.roi_align(features, boxes, 2, 1.0),
    "max": lambda features, boxes: K.roi_align(features, boxes, 2, 1.0, reduction="max"),
    "aligned": lambda features, boxes: K.roi_align(features, boxes, 2, 1.0, aligned=True),
    "multilevel": lambda features, boxes: K.multilevel_roi_align([features, features], boxes, 2),
    "ps_roi_pool": lambda features, boxes: K.ps_roi_pool(features, boxes, 2, 1.0),
    "ps_roi_align": lambda features, boxes: K.ps_roi_align(features, boxes, 2, 1.0),
    "pyramid": lambda features, boxes: K.spatial_pyramid_pool(features, (2,), "max", boxes),
    "average": lambda features, boxes: K.spatial_pyramid_pool(features, (2,), "average", boxes),
    "deform": lambda features, boxes: K.deform_roi_pool(
        features, boxes, np.zeros((*boxes.shape[:2], 2, 2, 2), "float32"), 2, 1.0
    ),
    "deform_ps": lambda features, boxes: K.deform_ps_roi_pool(
        features, boxes, np.zeros((*boxes.shape[:2], 2, 2, 2), "float32"), 2, 1.0
    ),
}


@pytest.mark.parametrize("name", POOLS)
def test_a_box_that_is_not_finite_gives_zeros(name, form):
    boxes = []
    for value in (NAN, INF, -INF):
        boxes += [np.where(np.arange(4) == i, value, [2, 1, 6, 5]) for i in range(4)]
        boxes.append([value] * 4)
    boxes = np.array([[*boxes, [2, 1, 6, 5]]], "float32")
    pooled = np.asarray(POOLS[name](ramp(channels=4), boxes))
    np.testing.assert_array_equal(pooled[:, :-1], np.zeros_like(pooled[:, :-1]))
    assert pooled[:, -1].min() > 0, "a box beside them is pooled as ever"


SMALLEST = {
    # Box of the smallest region at (5, 4): a cell, or for points between cells a cell's extent.
    "roi_pool": (5, 4, 5, 4),
    "roi_align": (5, 4, 6, 5),
    "max": (5, 4, 6, 5),
    "multilevel": (5, 4, 9, 8),  # P2 has cells of four pixels
    "ps_roi_pool": (5, 4, 6, 5),
    "deform": (5, 4, 5, 4),
    "deform_ps": (5, 4, 6, 5),
    "pyramid": (5, 4, 7, 6),  # the cell after the corner: the appendix takes the window's inside
    "average": (5, 4, 7, 6),
}


@pytest.mark.parametrize("name", SMALLEST)
@pytest.mark.parametrize("box", [(5, 4, 1, 2), (5, 4, 5, 4), (5, 4, 5.25, 1)])
def test_inverted_and_flat_boxes_are_the_smallest_region_at_their_first_corner(name, box, form):
    features = ramp(channels=4)
    found, expected = (POOLS[name](features, one_box(*b)) for b in (box, SMALLEST[name]))
    np.testing.assert_array_equal(found, expected)
    assert np.min(found) > 0


def test_aligned_points_have_no_smallest_region(form):
    # A flat box is a point; an inverted one is read backwards, as torchvision has it.
    features = ramp(channels=4)
    for name in ("aligned", "ps_roi_align"):
        flat = POOLS[name](features, one_box(5, 4, 5, 4))
        np.testing.assert_allclose(flat, np.full_like(flat, 1 + 35 + 4.5), rtol=1e-5)
        inverted = POOLS[name](features, one_box(5, 5, 2, 1))[0, 0, :, :, 0]
        forward = POOLS[name](features, one_box(2, 1, 5, 5))[0, 0, :, :, 0]
        np.testing.assert_allclose(inverted, np.asarray(forward)[::-1, ::-1], rtol=1e-5)


@pytest.mark.parametrize("side", [1e6, 1e30, 3e38])
def test_a_region_larger_than_any_image(side, form):
    features, boxes = ramp(channels=1), one_box(-side, -side, side, side)
    # One bin holds the whole map; points that far apart all miss it.
    np.testing.assert_array_equal(np.ravel(K.roi_pool(features, boxes, 1, 1.0)), [78])
    np.testing.assert_allclose(np.ravel(K.ps_roi_pool(features, boxes, 1, 1.0)), [39.5], rtol=1e-5)
    np.testing.assert_array_equal(np.ravel(K.roi_align(features, boxes, 1, 1.0)), [0])


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("box", [(20, 20, 30, 30), (-30, 2, -20, 6), (1e20, 0, 1e30, 5)])
def test_a_region_beyond_the_map_gives_zeros(name, box, form):
    if name == "multilevel":
        box = tuple(4 * edge for edge in box)
    assert not np.any(POOLS[name](ramp(channels=4), one_box(*box)))


@pytest.mark.parametrize("name", [n for n in POOLS if n != "multilevel"])
def test_a_map_of_one_cell(name, form):
    features = np.full((1, 1, 1, 4), 7, "float32")
    box = (-0.5, -0.5, 1, 1) if name in ("pyramid", "average") else (0, 0, 1, 1)
    pooled = np.asarray(POOLS[name](features, one_box(*box)))
    assert pooled.max() == pytest.approx(7, rel=1e-5)
    assert pooled.min() >= 0


# --- Pieces -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["roi_pool", "pyramid"])
def test_work_in_pieces_gives_the_same(name, monkeypatch):
    def pool():
        features = tf.constant(ramp(6, 7, 4) * np.cos(np.arange(4, dtype="float32")))
        features = tf.concat([features, -features], 0)
        with tf.GradientTape() as tape:
            tape.watch(features)
            pooled = POOLS[name](features, BOXES / 4)
            total = tf.reduce_sum(pooled * tf.sin(pooled))
        return pooled, tf.convert_to_tensor(tape.gradient(total, features))

    expected = pool()
    monkeypatch.setattr(windows, "TOGETHER", 100)
    for found, reference in zip(pool(), expected):
        np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-5)


# --- Arguments that are refused -----------------------------------------------------------------------

FEATURES, BOX = ramp(channels=4), one_box(2, 1, 6, 5)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "roi_pool",
            (FEATURES[0], BOX, 2, 1.0),
            r"features has the shape \(8, 8, 4\); give \(B, H",
        ),
        ("roi_align", (FEATURES[0], BOX, 2, 1.0), r"features has the shape \(8, 8, 4\)"),
        ("ps_roi_pool", (FEATURES[0], BOX, 2, 1.0), r"features has the shape \(8, 8, 4\)"),
        ("ps_roi_align", (FEATURES[0], BOX, 2, 1.0), r"features has the shape \(8, 8, 4\)"),
        ("roi_pool", (FEATURES, BOX[0], 2, 1.0), r"boxes has the shape \(1, 4\); give \(B, R, 4\)"),
        ("roi_align", (FEATURES, BOX[..., :3], 2, 1.0), r"boxes has the shape \(1, 1, 3\)"),
        ("ps_roi_pool", (FEATURES, BOX[0], 2, 1.0), r"boxes has the shape \(1, 4\)"),
        ("ps_roi_align", (FEATURES, BOX[0], 2, 1.0), r"boxes has the shape \(1, 4\)"),
        ("roi_pool", (FEATURES, BOX, 0, 1.0), "output_size is 0; give one or two integers of at"),
        ("roi_pool", (FEATURES, BOX, 7.0, 1.0), "output_size is 7.0"),
        ("roi_align", (FEATURES, BOX, (7, 7, 7), 1.0), r"output_size is \(7, 7, 7\)"),
        ("roi_align", (FEATURES, BOX, (2, -1), 1.0), r"output_size is \(2, -1\)"),
        ("roi_align", (FEATURES, BOX, True, 1.0), "output_size is True"),
        ("ps_roi_pool", (FEATURES, BOX, (2, 3), 1.0), r"output_size is \(2, 3\).* k x k bins"),
        (
            "ps_roi_pool",
            (FEATURES, BOX, 3, 1.0),
            "features have 4 channels; 3 x 3 bins need .* of 9",
        ),
        ("ps_roi_align", (FEATURES, BOX, 3, 1.0), "features have 4 channels; 3 x 3 bins"),
        ("roi_pool", (FEATURES, BOX, 2, 0.0), "spatial_scale is 0.0; give a positive number"),
        ("roi_align", (FEATURES, BOX, 2, -0.25), "spatial_scale is -0.25"),
        ("ps_roi_pool", (FEATURES, BOX, 2, "1/16"), "spatial_scale is '1/16'"),
        ("ps_roi_align", (FEATURES, BOX, 2, NAN), "spatial_scale is nan"),
        ("roi_pool", (FEATURES, BOX, 2, INF), "spatial_scale is inf"),
        ("roi_align", (FEATURES, BOX, 2, 1.0, 0), "sampling_ratio is 0; give a positive integer"),
        ("roi_align", (FEATURES, BOX, 2, 1.0, 1.5), "sampling_ratio is 1.5"),
        ("roi_align", (FEATURES, BOX, 2, 1.0, (2, 2)), r"sampling_ratio is \(2, 2\)"),
        ("ps_roi_align", (FEATURES, BOX, 2, 1.0, -1), "sampling_ratio is -1"),
        ("ps_roi_align", (FEATURES, BOX, 2, 1.0, None), "sampling_ratio is None"),
        ("roi_align", (FEATURES, BOX, 2, 1.0, None, False, "max"), "sampling_ratio is None; give"),
        (
            "roi_align",
            (FEATURES, BOX, 2, 1.0, 2, False, "median"),
            "reduction is 'median'; give one of 'mean', 'max'",
        ),
        (
            "multilevel_roi_align",
            ([], BOX, 2),
            "pyramid has the levels none; give consecutive ones",
        ),
        ("multilevel_roi_align", ({}, BOX, 2), "pyramid has the levels none"),
        (
            "multilevel_roi_align",
            ({"P2": FEATURES, "P4": FEATURES}, BOX, 2),
            "pyramid has the levels P2, P4; give consecutive ones by name, such as P2, P3",
        ),
        ("multilevel_roi_align", ({"C": FEATURES}, BOX, 2), "pyramid has the levels C;"),
        ("multilevel_roi_align", ({2: FEATURES}, BOX, 2), "pyramid has the levels 2;"),
        ("multilevel_roi_align", ({"P3": FEATURES[0]}, BOX, 2), r"pyramid\[P3\] has the shape"),
        ("multilevel_roi_align", ([FEATURES], BOX[0], 2), r"boxes has the shape \(1, 4\)"),
        ("multilevel_roi_align", ([FEATURES], BOX, 0), "output_size is 0"),
        ("multilevel_ps_roi_align", ({}, BOX, 2), "pyramid has the levels none"),
        ("multilevel_ps_roi_align", ([FEATURES], BOX, 3), "features have 4 channels; 3 x 3 bins"),
        ("multilevel_ps_roi_align", ([FEATURES], BOX, 2, 0), "sampling_ratio is 0"),
        (
            "ps_roi_pool",
            (FEATURES, BOX, 2, 1.0, "up"),
            "rounding is 'up'; give one of 'cells', 'pixels'",
        ),
        ("multilevel_roi_align", ([FEATURES], BOX, 2, 0), "sampling_ratio is 0"),
        ("multilevel_roi_align", ([FEATURES], BOX, 2, 2, False, "sum"), "reduction is 'sum'"),
    ],
)
def test_what_cannot_be_right_is_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(K, name)(*arguments)
