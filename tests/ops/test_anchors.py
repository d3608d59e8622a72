"""Anchors of a cell and of a map, by numbers worked by hand."""

import math

import numpy as np
import tensorflow as tf

from kerasdet.ops.anchors import cell_anchors, default_sides, grid_anchors, regular_scales


def test_ratio_is_height_over_width_and_area_is_kept():
    cell = cell_anchors([32], [0.5, 1, 2])
    half_long, half_short = 16 * math.sqrt(2), 16 / math.sqrt(2)
    expected = [
        [-half_long, -half_short, half_long, half_short],
        [-16, -16, 16, 16],
        [-half_short, -half_long, half_short, half_long],
    ]
    assert cell.dtype == np.float32
    np.testing.assert_allclose(cell, expected, rtol=1e-6)


def test_sizes_vary_fastest():
    cell = cell_anchors([2, 4], [1, 4])
    np.testing.assert_array_equal(
        cell, [[-1, -1, 1, 1], [-2, -2, 2, 2], [-0.5, -2, 0.5, 2], [-1, -4, 1, 4]]
    )


def test_rounded_corners_go_to_even():
    # 32 with ratio 0.5 is 45.25 x 22.63: half sides 22.63 and 11.31. Half of 41 is 20.5.
    np.testing.assert_array_equal(cell_anchors([32], [0.5], rounded=True), [[-23, -11, 23, 11]])
    np.testing.assert_array_equal(cell_anchors([41], [1], rounded=True), [[-20, -20, 20, 20]])


def test_anchors_of_faster_rcnns_code():
    # Of 16 pixels: 23 x 12, 16 x 16, 11 x 22. In a cell of 16 pixels the code's first one reaches from -84
    # to 99 and from -40 to 55, both pixels included.
    cell = cell_anchors([128, 256, 512], [0.5, 1.0, 2.0], base=16)
    sides = [(184, 96), (368, 192), (736, 384), (128, 128), (256, 256), (512, 512)]
    sides += [(88, 176), (176, 352), (352, 704)]
    np.testing.assert_array_equal(cell[:, 2:] - cell[:, :2], sides)
    anchors = grid_anchors(cell, (1, 1), (16, 16), offset=0.5)
    np.testing.assert_array_equal(anchors[0], [-84, -40, 99 + 1, 55 + 1])
    np.testing.assert_array_equal(anchors[8], [-168, -344, 183 + 1, 359 + 1])


def test_grid_order_is_row_column_anchor():
    cell = np.array([[-1, -1, 1, 1], [-2, -1, 2, 1]], "float32")
    anchors = grid_anchors(cell, (2, 3), (10, 5))
    assert anchors.shape == (12, 4)
    np.testing.assert_array_equal(anchors[0], [-1, -1, 1, 1])
    np.testing.assert_array_equal(anchors[1], [-2, -1, 2, 1])
    np.testing.assert_array_equal(anchors[2], [4, -1, 6, 1])  # next column: x + 5
    np.testing.assert_array_equal(anchors[6], [-1, 9, 1, 11])  # next row: y + 10


def test_offset_is_in_cells():
    anchors = grid_anchors(np.array([[-1, -1, 1, 1]]), (1, 2), (8, 4), offset=0.5)
    np.testing.assert_array_equal(anchors, [[1, 3, 3, 5], [5, 3, 7, 5]])


def test_grid_of_unknown_size():
    cell = cell_anchors([32], [1])
    dynamic = tf.function(
        lambda size, stride: grid_anchors(cell, (size[0], size[1]), (stride[0], stride[1])),
        input_signature=[tf.TensorSpec((2,), "int32"), tf.TensorSpec((2,), "float32")],
    )
    result = dynamic(tf.constant([3, 4]), tf.constant([8.0, 7.5]))
    np.testing.assert_array_equal(result, grid_anchors(cell, (3, 4), (8, 7.5)))


def test_regular_scales():
    np.testing.assert_allclose(regular_scales(6), [0.2, 0.34, 0.48, 0.62, 0.76, 0.9])
    np.testing.assert_allclose(regular_scales(2, 0.1, 0.5), [0.1, 0.5])


def test_default_sides_by_hand():
    # Squares of 0.2 and sqrt(0.2 * 0.45) = 0.3; area 0.04 at a ratio of 4.
    expected = [[0.2, 0.2], [0.3, 0.3], [0.4, 0.1], [0.1, 0.4]]
    np.testing.assert_allclose(default_sides(0.2, 0.45, [4]), expected)
    assert default_sides(0.2, 0.45, []).shape == (2, 2)
