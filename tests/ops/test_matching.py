"""Matching by IoU, by tables worked by hand and a slow loop."""

import numpy as np
import pytest
import tensorflow as tf

from kerasdet.ops.boxes import box_iou
from kerasdet.ops.matching import BACKGROUND, BETWEEN, match_iou


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
