"""Points: grid, distances and centre-ness by hand, the objects they learn by hand and by a slow loop."""

import math

import numpy as np
import pytest
import tensorflow as tf

from kerasdet.ops.matching import BACKGROUND, BETWEEN
from kerasdet.ops.points import (
    assign_points,
    centerness,
    decode_distances,
    encode_distances,
    grid_points,
    side_distances,
)


def test_grid_points_by_hand():
    # Two rows of three columns, 16 pixels high and 8 wide.
    points = grid_points((2, 3), (16, 8))
    assert np.asarray(points).tolist() == [
        [[4, 8], [12, 8], [20, 8]],
        [[4, 24], [12, 24], [20, 24]],
    ]
    assert np.asarray(grid_points((1, 2), (8, 8), 0.0)).tolist() == [[[0, 0], [8, 0]]]


def test_distances_by_hand():
    box = np.float32([10, 20, 50, 80])
    points = np.float32([[20, 50, 8], [0, 90, 8]])
    # Left, top, right, bottom; the second point lies left of the box and below it.
    expected = [[10, 30, 30, 30], [-10, 70, 50, -10]]
    assert np.asarray(encode_distances(box, points)).tolist() == expected
    assert np.stack(side_distances(box, points)).T.tolist() == expected
    np.testing.assert_array_equal(decode_distances(np.float32(expected), points), [box, box])


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        ([10, 30, 30, 30], math.sqrt(1 / 3)),
        ([1, 2, 4, 8], 0.25),  # the root of 1/4 times 1/4
        ([4, 8, 1, 2], 0.25),
        ([7, 3, 7, 3], 1),
        ([0, 3, 7, 3], 0),
        ([-1, -2, 4, 8], 0),  # outside on both sides
        ([0, 0, 0, 0], 0),
    ],
)
def test_centerness_by_hand(distances, expected):
    assert float(centerness(np.float32(distances))) == pytest.approx(expected, rel=1e-6)


def targets(boxes, labels=None, ignore=None):
    boxes = np.float32([boxes])
    labels = np.zeros(boxes.shape[:2], np.int32) if labels is None else np.int32([labels])
    ignore = np.zeros(boxes.shape[:2], bool) if ignore is None else np.array([ignore])
    return {"boxes": boxes, "labels": labels, "ignore": ignore}


def assigned(truth, *levels, ranges=(), radius=None):
    return np.asarray(assign_points(truth, [np.float32(p) for p in levels], ranges, radius))[0]


def test_points_inside_learn_and_others_are_background():
    points = [[5, 5, 8], [10, 5, 8], [11, 5, 8], [5, 0, 8]]  # inside, on two sides, outside
    matches = assigned(targets([[0, 0, 10, 10]]), points)
    assert matches.tolist() == [0, BACKGROUND, BACKGROUND, BACKGROUND]
    assert matches.dtype == np.int32


def test_of_two_objects_the_smaller_is_learnt():
    boxes = [[0, 0, 30, 30], [5, 5, 25, 25], [0, 0, 90, 90]]
    assert assigned(targets(boxes), [[15, 15, 8], [2, 2, 8], [40, 40, 8]]).tolist() == [1, 0, 2]
    # The area decides, not a side: 40 x 5 is less than 20 x 20.
    boxes = [[0, 0, 20, 20], [0, 8, 40, 13]]
    assert assigned(targets(boxes), [[10, 10, 8]]).tolist() == [1]


def test_each_level_has_its_range_of_distances():
    # From (15, 15) the farthest side of the first is 15 pixels away, of the second 45, of the third 20.
    boxes = [[0, 0, 30, 30], [0, 0, 60, 60], [100, 100, 120, 140]]
    fine, coarse = [[15, 15, 8], [110, 120, 8]], [[15, 15, 16], [110, 120, 16]]
    # A distance that equals the limit belongs to both.
    assert assigned(targets(boxes), fine, coarse, ranges=(20,)).tolist() == [0, 2, 1, 2]
    assert assigned(targets(boxes), fine, coarse, ranges=(19,)).tolist() == [0, -1, 1, 2]
    assert assigned(targets(boxes), fine, coarse, ranges=(45,)).tolist() == [0, 2, 1, -1]


def test_centre_sampling_counts_strides():
    box = [[0, 0, 40, 40]]  # its centre is (20, 20); 1.5 strides are 12 pixels
    points = [[31.9, 20, 8], [32, 20, 8], [20, 8.1, 8], [31, 31, 8], [32, 20, 16]]
    assert assigned(targets(box), points, radius=1.5).tolist() == [0, -1, 0, 0, 0]
    assert assigned(targets(box), points).tolist() == [0] * 5
    # Close to the centre, and yet outside.
    assert assigned(targets([[0, 18, 40, 22]]), [[20, 25, 8]], radius=1.5).tolist() == [BACKGROUND]


def test_centre_sampling_decides_before_the_smaller_area():
    boxes = [[0, 0, 40, 40], [19, 19, 49, 49]]  # (20, 20) is a corner of the second, smaller one
    assert assigned(targets(boxes), [[20, 20, 8]], radius=1.5).tolist() == [0]
    assert assigned(targets(boxes), [[20, 20, 8]]).tolist() == [1]


def test_points_in_ignored_objects_take_no_part_unless_they_learn():
    truth = targets([[0, 0, 10, 10], [0, 0, 30, 30]], ignore=[False, True])
    assert assigned(truth, [[5, 5, 8], [20, 20, 8], [40, 40, 8]]).tolist() == [0, BETWEEN, -1]
    # Of the ignored object neither the range nor the centre matters.
    found = assigned(truth, [[29, 29, 8]], [[29, 29, 16]], ranges=(2,), radius=1.5)
    assert found.tolist() == [BETWEEN, BETWEEN]


def test_padding_is_no_object_wherever_its_box_lies():
    truth = targets([[0, 0, 10, 10], [-1] * 4], labels=[-1, -1])
    assert assigned(truth, [[5, 5, 8], [-1, -1, 8]]).tolist() == [BACKGROUND, BACKGROUND]


def slow(truth, points, ranges, radius):
    limits, matches = [0, *ranges, math.inf], []
    for i, level in enumerate(points):
        for x, y, stride in level.tolist():
            best, smallest, ignored = BACKGROUND, math.inf, False
            for g, (x1, y1, x2, y2) in enumerate(truth["boxes"].tolist()):
                sides = (x - x1, y - y1, x2 - x, y2 - y)
                if truth["labels"][g] < 0 or min(sides) <= 0:
                    continue
                if truth["ignore"][g]:
                    ignored = True
                    continue
                away = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
                near = radius is None or away < radius * stride
                area = (x2 - x1) * (y2 - y1)
                if limits[i] <= max(sides) <= limits[i + 1] and near and area < smallest:
                    best, smallest = g, area
            matches.append(BETWEEN if ignored and best < 0 else best)
    return matches


@pytest.mark.parametrize("radius", [None, 1.5])
def test_against_a_slow_loop(radius):
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 100, (3, 9, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.integers(4, 80, (3, 9, 2))], -1)
    truth = {
        "boxes": boxes.astype(np.float32),
        "labels": rng.integers(-1, 3, (3, 9)).astype(np.int32),
        "ignore": rng.random((3, 9)) < 0.2,
    }
    truth["ignore"] &= truth["labels"] >= 0
    points = [
        np.concatenate(
            [np.reshape(grid_points((n, n), (s, s)), (-1, 2)), np.full((n * n, 1), s)], 1
        )
        for n, s in ((16, 8), (8, 16), (4, 32))
    ]
    points = [level.astype(np.float32) for level in points]
    expected = [
        slow({name: value[i] for name, value in truth.items()}, points, (20, 40), radius)
        for i in range(3)
    ]
    assert min(expected[0]) == BETWEEN
    assert len({match for image in expected for match in image}) > 8
    found = assign_points(truth, points, (20, 40), radius)
    np.testing.assert_array_equal(found, expected)
    graph = tf.function(lambda t: assign_points(t, points, (20, 40), radius), jit_compile=True)
    np.testing.assert_array_equal(graph(truth), expected)
