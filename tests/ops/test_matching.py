"""Matching by IoU, by tables worked by hand and a slow loop."""

import numpy as np
import pytest
import tensorflow as tf

from kerasdet.ops.boxes import box_iou
from kerasdet.ops.matching import (
    BACKGROUND,
    BETWEEN,
    assign,
    assign_bipartite,
    assign_by_centre,
    assign_one_to_one,
    in_ignored,
    match_iou,
    match_one_to_one,
)


def slow_match(iou, low, high, allow_low_quality):
    objects, anchors = iou.shape
    matches = np.full(anchors, BACKGROUND)
    for a in range(anchors):
        best = max(range(objects), key=lambda g: iou[g, a])
        is_best_of_an_object = any(
            iou[g, a] == iou[g].max() and iou[g].max() > 0 for g in range(objects)
        )
        if iou[best, a] >= high or (allow_low_quality and is_best_of_an_object):
            matches[a] = best
        elif iou[best, a] >= low:
            matches[a] = BETWEEN
    return matches


IOU = np.array([[[0.6, 0.5, 0.4, 0.39, 0.0, 0.0], [0.0, 0.1, 0.3, 0.2, 0.3, 0.0]]], "float32")


def test_thresholds():
    # Object 0 reaches `high` exactly at anchor 1; anchor 2 lies between; 0.39 is background.
    matches = match_iou(IOU, 0.4, 0.5, allow_low_quality=False)
    np.testing.assert_array_equal(matches, [[0, 0, BETWEEN, BACKGROUND, BACKGROUND, BACKGROUND]])


def test_low_quality_restores_each_tied_anchor_to_its_own_best():
    # Object 1's highest IoU, 0.3, is reached at anchors 2 and 4; anchor 2 overlaps object 0 more.
    matches = match_iou(IOU, 0.4, 0.5)
    np.testing.assert_array_equal(matches, [[0, 0, 0, BACKGROUND, 1, BACKGROUND]])


def test_padded_objects_never_match():
    iou = np.array([[[-1, -1, -1], [0.1, 0.6, 0.0]], [[-1, -1, -1], [-1, -1, -1]]], "float32")
    np.testing.assert_array_equal(match_iou(iou, 0.4, 0.5), [[BACKGROUND, 1, BACKGROUND], [-1] * 3])


def test_object_that_overlaps_nothing_stays_unmatched():
    iou = np.array([[[0.0, 0.0], [0.0, 0.7]]], "float32")
    np.testing.assert_array_equal(match_iou(iou, 0.4, 0.5), [[BACKGROUND, 1]])


def test_no_objects_at_all():
    matches = match_iou(np.zeros((2, 0, 5), "float32"), 0.4, 0.5)
    np.testing.assert_array_equal(matches, np.full((2, 5), BACKGROUND))


@pytest.mark.parametrize("allow_low_quality", [True, False])
def test_against_a_slow_loop(allow_low_quality):
    rng = np.random.default_rng(0)
    iou = rng.choice(np.linspace(0, 0.9, 19), (3, 6, 40), p=[0.4] + [0.6 / 18] * 18)
    iou = iou.astype("float32")
    iou[:, 4:] = -1
    iou[2] = -1
    expected = [slow_match(image, 0.4, 0.5, allow_low_quality) for image in iou]
    matches = match_iou(iou, 0.4, 0.5, allow_low_quality)
    assert "int32" in str(matches.dtype)
    np.testing.assert_array_equal(matches, expected)


def test_xla_gives_the_same_with_tied_anchors():
    # On a regular grid many anchors reach an object's highest IoU together; the comparison must
    # hold for IoUs that the compiler computes itself.
    ys, xs = np.mgrid[0:160:8, 0:160:8].astype("float32")
    corners = np.stack([xs, ys], -1).reshape(-1, 2)
    anchors = np.concatenate([corners - 16.3, corners + 16.3], -1)
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 60, (2, 5, 2)).astype("float32")
    boxes = np.concatenate([starts, starts + rng.uniform(5, 60, (2, 5, 2))], -1).astype("float32")
    boxes[0, 0] = [
        140,
        140,
        148,
        148,
    ]  # inside the 3 x 3 anchors around (144, 144), far from others

    def match(boxes):
        return match_iou(box_iou(boxes, anchors), 0.4, 0.5)

    expected = match(boxes)
    assert (np.asarray(expected)[0] == 0).sum() == 9
    np.testing.assert_array_equal(tf.function(match)(boxes), expected)
    np.testing.assert_array_equal(tf.function(match, jit_compile=True)(boxes), expected)


# -- assign: of boxes and targets ----------------------------------------------------------------


def targets(boxes, labels, ignore=None):
    """Prepared targets of one image."""
    ignore = [False] * len(labels) if ignore is None else ignore
    return {
        "boxes": np.array([boxes], "float32"),
        "labels": np.array([labels], "int32"),
        "ignore": np.array([ignore]),
    }


def strips(*heights):
    """Boxes that share an object of 10 x 10 pixels by these heights: IoU a tenth of each."""
    return np.array([[0, 0, 10, height] for height in heights], "float32")


OBJECT, PADDING = [0, 0, 10, 10], [-1] * 4


def assigned(truth, boxes, low=0.4, high=0.5, **options):
    return np.asarray(assign(truth, boxes, low, high, **options)).tolist()


def test_thresholds_of_assign():
    truth, boxes = targets([PADDING, OBJECT], [-1, 3]), strips(10, 5.1, 4.9, 4.1, 3.9)
    expected = [1, 1, BETWEEN, BETWEEN, BACKGROUND]
    assert assigned(truth, boxes) == [expected]
    assert assigned(truth, boxes[None]) == [expected]  # each image with boxes of its own
    assert (BACKGROUND, BETWEEN) == (-1, -2)


def test_padding_is_no_object_wherever_its_box_lies():
    truth = targets([OBJECT, [50, 50, 60, 60]], [-1, 0])
    assert assigned(truth, strips(10, 2)) == [[BACKGROUND, BACKGROUND]]


def test_images_are_assigned_one_by_one():
    truth = {
        "boxes": np.array([[OBJECT], [[50, 50, 60, 60]], [OBJECT]], "float32"),
        "labels": np.array([[0], [0], [-1]], "int32"),
        "ignore": np.zeros((3, 1), bool),
    }
    assert assigned(truth, strips(10, 2)) == [[0, BACKGROUND], [-1, -1], [-1, -1]]
    own = np.stack([strips(2, 10), np.float32([[50, 50, 60, 60]] * 2), strips(10, 10)])
    assert assigned(truth, own) == [[BACKGROUND, 0], [0, 0], [-1, -1]]


def test_low_quality_matches_are_a_choice():
    truth, boxes = targets([OBJECT], [0]), strips(3, 2, 0.5)
    assert assigned(truth, boxes) == [[0, BACKGROUND, BACKGROUND]]
    assert assigned(truth, boxes, allow_low_quality=False) == [[BACKGROUND] * 3]


def test_ignored_objects_are_neither_learnt_nor_background():
    # The ignored object is 10 x 10 at (50, 50); boxes lie inside it by 100, 60, 40 and 0 per cent.
    crowd = [50, 50, 60, 60]
    boxes = np.array(
        [crowd, [54, 50, 64, 60], [56, 50, 66, 60], [80, 80, 90, 90], OBJECT, [0, 0, 10, 4.5]],
        "float32",
    )
    expected = [[BETWEEN, BETWEEN, BACKGROUND, BACKGROUND, 1, BETWEEN]]
    assert assigned(targets([crowd, OBJECT], [0, 1], [True, False]), boxes) == expected
    # A box inside a crowd that matches an object of its own is learnt all the same.
    truth = targets([[0, 0, 90, 90], OBJECT], [0, 1], [True, False])
    assert assigned(truth, boxes)[0] == [BETWEEN] * 4 + [1, BETWEEN]


def test_half_of_a_box_inside_an_ignored_object_is_enough():
    objects, ignore = np.float32([[[0, 0, 10, 10], [30, 0, 40, 10]]]), np.array([[True, False]])
    boxes = np.float32([[5, 0, 15, 10], [5.1, 0, 15.1, 10], [2, 2, 3, 3], [30, 0, 40, 10]])
    assert np.asarray(in_ignored(boxes, objects, ignore)).tolist() == [[True, False, True, False]]
    assert np.asarray(in_ignored(boxes[None], objects, ignore)).shape == (1, 4)


def test_boxes_far_from_every_object_take_no_part_if_asked():
    truth, boxes = targets([OBJECT], [0]), strips(10, 4, 1.1, 0.9)
    options = {"low": 0.5, "high": 0.5, "allow_low_quality": False}
    assert assigned(truth, boxes, **options) == [[0, BACKGROUND, BACKGROUND, BACKGROUND]]
    expected = [[0, BACKGROUND, BACKGROUND, BETWEEN]]
    assert assigned(truth, boxes, **options, lowest=0.1) == expected


def test_every_box_is_background_where_there_is_no_object_to_learn():
    options = {"low": 0.5, "high": 0.5, "lowest": 0.1}
    boxes = np.float32([[0, 0, 10, 10], [50, 50, 60, 60]])
    assert assigned(targets([PADDING], [-1]), boxes, **options) == [[BACKGROUND] * 2]
    # One object alone, and it is to be ignored: there is none to learn either.
    assert assigned(targets([OBJECT], [0], [True]), boxes, **options) == [[BETWEEN, BACKGROUND]]
    none = {name: value[:, :0] for name, value in targets([OBJECT], [0]).items()}
    assert assigned(none, boxes, **options) == [[BACKGROUND] * 2]


def slow_one_to_one(iou):
    """One pair after another, the highest first."""
    left, matches = iou.copy(), np.full(iou.shape[1], -1)
    while left.max() > 0:
        g, a = np.unravel_index(left.argmax(), left.shape)
        matches[a] = g
        left[g], left[:, a] = 0, 0
    return matches


def test_one_to_one_by_hand():
    # Both objects overlap box 0 most; the second does more, so the first takes box 2, its next best.
    # The third overlaps nothing that is left, and the fourth is padding.
    iou = np.array(
        [[[0.6, 0.1, 0.5, 0.0], [0.7, 0.2, 0.6, 0.0], [0.3, 0, 0, 0], [-1, -1, -1, -1]]], "float32"
    )
    np.testing.assert_array_equal(match_one_to_one(iou), [[1, -1, 0, -1]])


def test_one_to_one_waits_for_an_object_that_may_come_back():
    # Object 0 prefers box 0 and loses it to object 1; of box 1 it has more than object 2 has.
    iou = np.array([[[0.8, 0.6, 0.0], [0.9, 0.0, 0.0], [0.0, 0.5, 0.1]]], "float32")
    np.testing.assert_array_equal(match_one_to_one(iou), [[1, 0, 2]])


def test_one_to_one_against_a_slow_loop():
    rng = np.random.default_rng(3)
    for ties in (False, True):
        iou = rng.uniform(0, 1, (4, 7, 12)).astype("float32")
        iou = np.round(iou * 4) / 4 if ties else iou
        expected = [slow_one_to_one(one) for one in iou]
        np.testing.assert_array_equal(match_one_to_one(iou), expected)
        traced = tf.function(match_one_to_one, jit_compile=True)
        np.testing.assert_array_equal(traced(iou), expected)


def test_one_to_one_without_objects():
    np.testing.assert_array_equal(match_one_to_one(np.zeros((2, 0, 3), "float32")), [[-1] * 3] * 2)


def one_to_one(objects, boxes, ignore=None):
    targets = {
        "boxes": np.array([objects], "float32"),
        "labels": np.zeros((1, len(objects)), "int32"),
        "ignore": np.array([ignore or [False] * len(objects)]),
    }
    return np.asarray(assign_one_to_one(targets, np.array(boxes, "float32"), 0.5))[0].tolist()


def test_one_to_one_then_every_box_from_the_threshold_on():
    # Boxes as wide as the object and of these heights in tenths: their IoU.
    boxes = [[0, 0, 10, height] for height in (9, 6, 5, 4.9)]
    assert one_to_one([[0, 0, 10, 10]], boxes) == [0, 0, 0, BACKGROUND]
    assert one_to_one([[0, 0, 10, 10]], boxes[3:]) == [0]  # its best, however weak
    assert one_to_one([[50, 50, 60, 60]], boxes) == [BACKGROUND] * 4


def test_an_object_keeps_its_own_box_though_another_overlaps_it_more():
    # The large object takes the first box; the second, which it overlaps by 0.6, is the small object's only.
    objects = [[0, 0, 10, 10], [0, 0, 10, 2]]
    assert one_to_one(objects, [[0, 0, 10, 10], [0, 0, 10, 6]]) == [0, 1]


def test_one_to_one_leaves_crowds_out():
    objects = [[0, 0, 10, 10], [20, 20, 40, 40]]
    boxes = [[0, 0, 10, 10], [22, 22, 30, 30], [50, 50, 60, 60]]
    assert one_to_one(objects, boxes, [False, True]) == [0, BETWEEN, BACKGROUND]


# -- Speed/accuracy trade-offs, section 3.2.1 and table 1 -----------------------------------------


def truth(boxes, labels, ignore=None):
    rows = {"boxes": np.float32([boxes]), "labels": np.int32([labels])}
    return {**rows, "ignore": np.array([ignore or [False] * len(labels)])}


# Objects of 10 x 10: an anchor's IoU is its height over ten, for those as wide.
TALL = [[0, 0, 10, 9], [0, 0, 10, 8], [0, 0, 10, 2], [50, 0, 60, 1]]


def test_bipartite_gives_each_object_one_anchor():
    # Both objects are alike: the first has the best anchor, the second the next one, 0.2 nobody.
    both = truth([[0, 0, 10, 10], [0, 0, 10, 10]], [1, 0])
    matches = assign_bipartite(both, np.float32(TALL))
    np.testing.assert_array_equal(matches, [[0, 1, BACKGROUND, BACKGROUND]])
    # However little they overlap.
    one = truth([[50, 0, 60, 10]], [1])
    np.testing.assert_array_equal(assign_bipartite(one, np.float32(TALL)), [[BACKGROUND] * 3 + [0]])


def test_bipartite_spares_what_lies_in_a_crowd():
    crowd = truth([[0, 0, 10, 10], [0, 0, 30, 9]], [1, 0], [False, True])
    matches = assign_bipartite(crowd, np.float32(TALL))
    np.testing.assert_array_equal(matches, [[0, BETWEEN, BETWEEN, BACKGROUND]])


def test_an_anchor_holds_the_centre_of_its_object():
    # The centre is (5, 5).
    anchors = np.float32(
        [[0, 0, 10, 10], [4, 4, 6, 6], [5, 5, 9, 9], [0, 0, 5, 9], [0, 0, 9, 5], [6, 0, 10, 10]]
    )
    matches = assign_by_centre(truth([[0, 0, 10, 10]], [2]), anchors)
    np.testing.assert_array_equal(matches, [[0, 0, 0, *[BACKGROUND] * 3]])
    # Anchors of each image of their own.
    own = np.stack([anchors[0]] * 2)[None]
    own[0, 1] += 5
    np.testing.assert_array_equal(assign_by_centre(truth([[0, 0, 10, 10]], [2]), own), [[0, 0]])
    own[0, 1] += 1
    matches = assign_by_centre(truth([[0, 0, 10, 10]], [2]), own)
    np.testing.assert_array_equal(matches, [[0, BACKGROUND]])


def test_of_several_centres_an_anchor_has_the_object_it_overlaps_most():
    objects = [[0, 0, 4, 4], [0, 0, 9, 9], [-5, -5, 35, 35]]  # centres (2, 2), (4.5, 4.5), (15, 15)
    anchors = np.float32([[0, 0, 10, 10], [0, 0, 4, 4], [0, 0, 30, 30]])
    matches = assign_by_centre(truth(objects, [0, 1, 2]), anchors)
    np.testing.assert_array_equal(matches, [[1, 0, 2]])
    padded = truth([objects[0], [-1] * 4], [0, -1])
    np.testing.assert_array_equal(
        assign_by_centre(padded, np.float32([[-3, -3, 3, 3], [-3, -3, 0, 0]])), [[0, BACKGROUND]]
    )


def test_centres_of_crowds_are_neither_learnt_nor_background():
    crowd = truth([[0, 0, 30, 30]], [0], [True])
    anchors = np.float32([[10, 10, 20, 20], [40, 40, 50, 50]])
    np.testing.assert_array_equal(assign_by_centre(crowd, anchors), [[BETWEEN, BACKGROUND]])


def test_one_to_one_leaves_out_what_lies_between_two_thresholds():
    one = truth([[0, 0, 10, 10]], [1])
    matches = assign_one_to_one(one, np.float32([*TALL, [0, 0, 10, 4]]), 0.7, 0.3)
    np.testing.assert_array_equal(matches, [[0, 0, BACKGROUND, BACKGROUND, BETWEEN]])
