"""Candidates of dense detectors: the best pairs and what suppression keeps, by hand and by a slow loop."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from kerasdet.ops import native
from kerasdet.ops.candidates import best_pairs, suppress, suppress_each_class
from kerasdet.ops.nms import best_of_each_class


def test_best_pairs_by_hand():
    # Three places, two classes.
    logits = np.array([[[0.1, 0.9], [0.8, 0.7], [0.2, -0.5]]], np.float32)
    rows, labels, best = best_pairs(logits, 3)
    assert np.asarray(rows)[0].tolist() == [0, 1, 1]
    assert np.asarray(labels)[0].tolist() == [1, 0, 1]
    np.testing.assert_array_equal(best, np.array([[0.9, 0.8, 0.7]], np.float32))
    assert "int32" in str(rows.dtype)
    assert "int32" in str(labels.dtype)


def test_there_are_no_more_pairs_than_places_and_classes():
    rows, labels, best = best_pairs(np.array([[[3.0, 1.0]], [[0.0, 2.0]]], np.float32), 1000)
    assert np.asarray(rows).tolist() == [[0, 0], [0, 0]]
    assert np.asarray(labels).tolist() == [[0, 1], [1, 0]]
    assert np.asarray(best).tolist() == [[3, 1], [2, 0]]


@pytest.mark.parametrize("limit", [1, 20, 90])
def test_best_pairs_are_those_of_a_whole_sort(limit):
    logits = np.random.default_rng(0).normal(size=(3, 50, 7)).astype(np.float32)
    rows, labels, best = best_pairs(logits, limit)
    for i, flat in enumerate(logits.reshape(3, -1)):
        order = np.argsort(-flat)[:limit]
        np.testing.assert_array_equal(rows[i], order // 7)
        np.testing.assert_array_equal(labels[i], order % 7)
        np.testing.assert_array_equal(best[i], flat[order])


def test_pairs_of_an_unknown_number_of_places():
    logits = np.random.default_rng(1).normal(size=(2, 9, 3)).astype(np.float32)
    spec = tf.TensorSpec((None, None, 3))
    found = tf.function(lambda x: best_pairs(x, 5), input_signature=[spec])(logits)
    for value, expected in zip(found, best_pairs(logits, 5)):
        np.testing.assert_array_equal(value, expected)


BOXES = np.array(
    [
        [
            [0, 0, 10, 10],
            [0, 0, 10, 8],  # IoU 0.8 with the first, of its class
            [0, 0, 10, 6],  # IoU 0.6 with the first, of another class
            [0, 0, 10, 4],  # IoU 0.4 with the first, of its class
            [50, 50, 60, 60],
        ]
    ],
    np.float32,
)
LABELS = np.array([[1, 1, 0, 1, 2]])
SCORES = np.array([[0.6, 0.9, 0.7, 0.5, 0.05]], np.float32)


def kept(iou_threshold, max_detections=6, score_threshold=0.05):
    found = suppress(BOXES, LABELS, SCORES, iou_threshold, max_detections, score_threshold)
    return {name: np.asarray(value) for name, value in found.items()}


def test_suppression_by_hand():
    found = kept(0.5)
    # The second, 0.9, drops the first; with the last of its class it has IoU 0.5, which is not greater. The
    # fifth's score is the threshold.
    assert found["num_detections"].tolist() == [3]
    assert found["labels"].tolist() == [[1, 0, 1, -1, -1, -1]]
    np.testing.assert_allclose(found["confidence"], [[0.9, 0.7, 0.5, -1, -1, -1]], rtol=1e-6)
    assert found["boxes"][0].tolist() == [*BOXES[0, [1, 2, 3]].tolist(), *[[-1] * 4] * 3]
    assert found["labels"].dtype == found["num_detections"].dtype == np.int32


def test_overlap_score_and_number_limit_what_is_kept():
    assert kept(0.9)["labels"].tolist() == [[1, 0, 1, 1, -1, -1]]
    assert kept(0.3)["labels"].tolist() == [[1, 0, -1, -1, -1, -1]]
    assert kept(0.5, max_detections=2)["labels"].tolist() == [[1, 0]]
    assert kept(0.5, score_threshold=0.04)["num_detections"].tolist() == [4]
    assert kept(0.5, score_threshold=0.95)["num_detections"].tolist() == [0]
    assert (kept(0.5, score_threshold=0.95)["boxes"] == -1).all()


def test_best_of_each_class_by_hand():
    # Three places, two classes, two images.
    one = [[0.1, 0.9], [0.8, 0.7], [0.2, 0.5]]
    two = [[0.3, 0.0], [0.1, 0.6], [0.2, 0.4]]
    rows, labels, best = best_of_each_class(np.array([one, two], np.float32), 2)
    assert np.asarray(rows).tolist() == [[1, 2, 0, 1], [0, 2, 1, 2]]
    assert np.asarray(labels).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    expected = np.array([[0.8, 0.2, 0.9, 0.7], [0.3, 0.2, 0.6, 0.4]], np.float32)
    np.testing.assert_array_equal(best, expected)


def test_best_of_each_class_of_an_unknown_number_of_places():
    scores = np.random.default_rng(1).normal(size=(2, 9, 3)).astype(np.float32)
    traced = tf.function(
        lambda x: best_of_each_class(x, 20),
        input_signature=[tf.TensorSpec((None, None, 3), tf.float32)],
    )
    for result, expected in zip(traced(scores), best_of_each_class(scores, 20)):
        assert result.shape == (2, 27)
        np.testing.assert_array_equal(result, expected)


def test_suppression_of_each_class_by_hand():
    # Places 0 and 1 overlap by more than a half; place 2 lies apart. Two classes.
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30]]], np.float32)
    scores = np.array([[[0.9, 0.2], [0.8, 0.7], [0.3, 0.01]]], np.float32)
    for context in (contextlib.nullcontext, native.portable):
        with context():
            found = suppress_each_class(boxes, scores, 3, 0.5, 5, 0.05)
            two = suppress_each_class(boxes, scores, 2, 0.5, 5, 0.05)
        assert np.asarray(found["labels"]).tolist() == [[0, 1, 0, -1, -1]]
        np.testing.assert_array_equal(
            found["confidence"], np.array([[0.9, 0.7, 0.3, -1, -1]], np.float32)
        )
        assert np.asarray(found["boxes"])[0, :3].tolist() == boxes[0, [0, 1, 2]].tolist()
        assert (np.asarray(found["boxes"])[0, 3:] == -1).all()
        assert np.asarray(found["num_detections"]).tolist() == [3]
        # The best two places of class 0 overlap: the third took no part.
        assert np.asarray(two["labels"]).tolist() == [[0, 1, -1, -1, -1]]


@pytest.mark.parametrize(("count", "threshold"), [(1, 0.15), (40, 0.15), (40, 2.0)])
def test_both_forms_of_suppressing_each_class_agree(count, threshold):
    random = np.random.default_rng(count)
    corner = random.uniform(0, 30, (3, count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(-1, 20, (3, count, 2))], -1)
    boxes = boxes.astype(np.float32)
    # Few different scores, so that many are equal; one image has none above the threshold.
    scores = random.integers(2, 9, (3, count, 4)).astype(np.float32) / 10
    scores[1] = 0.0
    scores[2, 0, 1], boxes[2, -1, 0] = np.nan, np.inf
    arguments = (boxes, scores, 7, 0.4, 10, threshold)
    eager = suppress_each_class(*arguments)
    traced = tf.function(lambda *x: suppress_each_class(*x, *arguments[2:]))(boxes, scores)
    with native.portable():
        portable = suppress_each_class(*arguments)
    for name, expected in portable.items():
        np.testing.assert_array_equal(eager[name], expected, err_msg=name)
        np.testing.assert_array_equal(traced[name], expected, err_msg=name)
    assert (np.asarray(portable["num_detections"]) > 0).tolist() == [
        threshold < 1,
        False,
        threshold < 1 and count > 1,
    ]
