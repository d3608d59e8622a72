"""Formats, overlaps and clipping, by numbers worked by hand."""

import math

import numpy as np
import pytest
from keras import ops

from kerasdet.ops import boxes as B

# One square of side 2, the same moved by (1, 1), one far off, a flat one and an inverted one.
SQUARE, MOVED, FAR = [0, 0, 2, 2], [1, 1, 3, 3], [10, 0, 12, 2]
FLAT, INVERTED = [0, 0, 0, 2], [2, 2, 0, 0]


def test_valid_mask_is_false_on_padding():
    np.testing.assert_array_equal(B.valid_mask(np.array([0, 5, -1])), [True, True, False])


def test_box_area():
    boxes = [[0, 0, 2, 3], FLAT, INVERTED]
    np.testing.assert_array_equal(B.box_area(boxes), [6, 0, 0])


def test_box_iou():
    # Intersection 1, union 4 + 4 - 1.
    expected = [[1, 1 / 7, 0, 0, 0], [1 / 7, 1, 0, 0, 0]]
    iou = B.box_iou([SQUARE, MOVED], [SQUARE, MOVED, FAR, FLAT, INVERTED])
    np.testing.assert_allclose(iou, expected, rtol=1e-6)
    np.testing.assert_array_equal(B.box_iou([FLAT, INVERTED], [FLAT, INVERTED]), np.zeros((2, 2)))


def test_box_giou():
    # Hulls: 3 x 3 of union 7, and 12 x 2 of union 8.
    giou = B.box_giou([SQUARE], [SQUARE, MOVED, FAR])
    np.testing.assert_allclose(giou, [[1, 1 / 7 - 2 / 9, 0 - 16 / 24]], rtol=1e-6)


def test_box_diou():
    # Squared distances of the centres over squared diagonals: 2 / 18 and 100 / (144 + 4).
    diou = B.box_diou([SQUARE], [SQUARE, MOVED, FAR])
    np.testing.assert_allclose(diou, [[1, 1 / 7 - 1 / 9, -100 / 148]], rtol=1e-6)


def test_box_ciou():
    # [0, 0, 4, 2] against SQUARE: IoU 1/2, centres 1 apart, diagonal^2 20, aspect 2 against 1.
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(1)) ** 2
    expected = 0.5 - 1 / 20 - v * v / (0.5 + v)
    ciou = B.box_ciou([[0, 0, 4, 2], SQUARE], [SQUARE])
    np.testing.assert_allclose(ciou, [[expected], [1]], rtol=1e-6)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_paired_form_is_the_diagonal(kind):
    rng = np.random.default_rng(0)
    boxes1, boxes2 = rng.uniform(0, 9, (2, 3, 6, 4)).astype("float32")
    pairwise = ops.convert_to_numpy(getattr(B, f"box_{kind}")(boxes1, boxes2))
    paired = getattr(B, f"paired_{kind}")(boxes1, boxes2)
    assert pairwise.shape == (3, 6, 6)
    np.testing.assert_allclose(paired, np.einsum("bii->bi", pairwise), atol=1e-6)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_overlaps_are_finite_on_degenerate_boxes(kind):
    boxes = [SQUARE, FLAT, INVERTED, [0, 0, 0, 0], [0, 0, 1e6, 1e6], [-1, -1, -1, -1]]
    assert np.isfinite(getattr(B, f"box_{kind}")(boxes, boxes)).all()


def test_float16_areas_do_not_overflow():
    boxes = np.array([[0, 0, 1000, 1000]], "float16")
    assert float(B.box_area(boxes)[0]) == 1e6
    assert float(B.box_iou(boxes, boxes)[0, 0]) == 1


def test_intersection_over_area():
    # Half of the first box, and all of the second, lie in the region; the flat box has no area.
    boxes = [[0, 0, 4, 2], [1, 1, 2, 2], FLAT]
    np.testing.assert_array_equal(
        B.intersection_over_area(boxes, [SQUARE, FAR]), [[0.5, 0], [1, 0], [0, 0]]
    )


def test_clip_boxes_to_each_image():
    boxes = np.array([[[-5, -5, 50, 50], [1, 2, 3, 4]]] * 2, "float32")
    clipped = B.clip_boxes(boxes, np.array([[10, 20], [30, 40]]))
    np.testing.assert_array_equal(
        clipped, [[[0, 0, 20, 10], [1, 2, 3, 4]], [[0, 0, 40, 30], [1, 2, 3, 4]]]
    )


def test_clip_pixels_to_each_image():
    # Pixels 3 to 7 of x and 2 to 5 of y; pixels beyond an image of 10 x 20 become its first or its last.
    boxes = np.array([[[3, 2, 7, 5], [-5, 9.5, 50, 50], [60, -9, 70, -3]]], "float32")
    clipped = B.clip_pixels(boxes, np.array([[10, 20]]))
    np.testing.assert_array_equal(clipped, [[[3, 2, 8, 6], [0, 9, 20, 10], [19, 0, 20, 1]]])


def test_an_inverted_box_has_no_area_in_a_hull():
    # The hull of SQUARE and the inverted one of the same corners is SQUARE, which is their union too.
    np.testing.assert_array_equal(B.box_giou([SQUARE], [INVERTED]), [[0]])


def test_both_sides_reach_the_least():
    boxes = [[0, 0, 3, 3], [0, 0, 2.9, 9], [5, 5, 14, 7.5], [4, 4, 1, 1]]
    np.testing.assert_array_equal(B.sides_reach(np.float32(boxes), 3), [True, False, False, False])


def test_formats():
    boxes = [[1, 2, 4, 8]]
    np.testing.assert_array_equal(B.xyxy_to_xywh(boxes), [[1, 2, 3, 6]])
    np.testing.assert_array_equal(B.xywh_to_xyxy([[1, 2, 3, 6]]), boxes)
    np.testing.assert_array_equal(B.xyxy_to_cxcywh(boxes), [[2.5, 5, 3, 6]])
    np.testing.assert_array_equal(B.cxcywh_to_xyxy([[2.5, 5, 3, 6]]), boxes)
