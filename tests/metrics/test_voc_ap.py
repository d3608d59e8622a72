from types import SimpleNamespace

import numpy as np
import pytest

from kerasdet.metrics import average_precision, precision_recall, precision_recall_curves, voc_ap
from kerasdet.metrics.voc import box_iou

# The example of Padilla et al., A Survey on Performance Metrics for Object-Detection Algorithms:
# 24 detections by falling confidence, 15 objects; (name, confidence, TP so far).
SURVEY = [
    ("R", 0.95, 1),
    ("Y", 0.95, 1),
    ("J", 0.91, 2),
    ("A", 0.88, 2),
    ("U", 0.84, 2),
    ("C", 0.80, 2),
    ("M", 0.78, 2),
    ("F", 0.74, 2),
    ("D", 0.71, 2),
    ("B", 0.70, 3),
    ("H", 0.67, 3),
    ("P", 0.62, 4),
    ("E", 0.54, 5),
    ("X", 0.48, 6),
    ("N", 0.45, 6),
    ("T", 0.45, 6),
    ("K", 0.44, 6),
    ("Q", 0.44, 6),
    ("V", 0.43, 6),
    ("I", 0.38, 6),
    ("L", 0.35, 6),
    ("S", 0.23, 6),
    ("G", 0.18, 7),
    ("O", 0.14, 7),
]
# Precision and recall row by row, four decimals.
SURVEY_PRECISION = """
    1.0000 0.5000 0.6667 0.5000 0.4000 0.3333 0.2857 0.2500 0.2222 0.3000 0.2727 0.3333
    0.3846 0.4286 0.4000 0.3750 0.3529 0.3333 0.3158 0.3000 0.2857 0.2727 0.3043 0.2917
"""
SURVEY_RECALL = """
    0.0667 0.0667 0.1333 0.1333 0.1333 0.1333 0.1333 0.1333 0.1333 0.2000 0.2000 0.2667
    0.3333 0.4000 0.4000 0.4000 0.4000 0.4000 0.4000 0.4000 0.4000 0.4000 0.4667 0.4667
"""


def survey():
    scores = np.array([score for _, score, _ in SURVEY])
    hits = np.array([name in "RJBPEXG" for name, _, _ in SURVEY])
    return scores, hits


def test_survey_row_by_row():
    precision, recall = precision_recall(*survey(), 15)
    np.testing.assert_allclose(precision, np.fromstring(SURVEY_PRECISION, sep=" "), atol=5e-5)
    np.testing.assert_allclose(recall, np.fromstring(SURVEY_RECALL, sep=" "), atol=5e-5)
    found = np.array([so_far for _, _, so_far in SURVEY])
    np.testing.assert_array_equal(precision, found / np.arange(1, 25))
    np.testing.assert_array_equal(recall, found / 15)


def test_survey_average_precision():
    precision, recall = precision_recall(*survey(), 15)
    assert round(100 * average_precision(precision, recall, 11), 2) == 26.84
    assert round(100 * average_precision(precision, recall, "all"), 2) == 24.57


def test_survey_in_any_order():
    scores, hits = survey()
    order = np.random.default_rng(0).permutation(24)
    order = order[np.argsort(~hits[order], kind="stable")]  # R before Y, whose score is equal
    precision, _ = precision_recall(scores[order], hits[order], 15)
    expected, _ = precision_recall(scores, hits, 15)
    np.testing.assert_array_equal(precision, expected)


def test_recalls_that_are_no_binary_fractions_are_reached():
    # Ten objects, found one after the other: recall is 0.1, 0.2, 0.3, ... exactly.
    precision, recall = precision_recall(np.arange(3)[::-1], [True] * 3, 10)
    assert average_precision(precision, recall, 11) == pytest.approx(4 / 11, abs=1e-12)
    assert average_precision(precision, recall, "all") == pytest.approx(0.3, abs=1e-12)


def test_nothing_found():
    precision, recall = precision_recall([], [], 3)
    assert average_precision(precision, recall) == average_precision(precision, recall, "all") == 0
    with pytest.raises(ValueError, match="11 or"):
        average_precision(precision, recall, 101)


def image(boxes, labels, ignore=None):
    ignore = np.zeros(len(labels), bool) if ignore is None else np.array(ignore)
    boxes = np.array(boxes, "float32").reshape(-1, 4)
    return SimpleNamespace(boxes=boxes, labels=np.array(labels, int), ignore=ignore)


def found(boxes, labels, confidence):
    boxes = np.array(boxes, "float32").reshape(-1, 4)
    return {"boxes": boxes, "labels": np.array(labels, int), "confidence": np.array(confidence)}


def test_iou_of_continuous_boxes():
    iou = box_iou([[0, 0, 10, 10], [5, 5, 5, 9]], [[5, 0, 15, 10], [20, 20, 30, 30]])
    np.testing.assert_allclose(iou, [[1 / 3, 0], [0, 0]], atol=1e-12)
    assert box_iou(np.zeros((0, 4)), [[0, 0, 1, 1]]).shape == (0, 1)


def test_voc_rule():
    near, far, difficult = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]
    records = [
        image([near, far, difficult], [0, 0, 0], [False, False, True]),
        image([], []),
    ]
    first = found(
        [near, [0, 0, 10, 9], difficult, difficult, [20, 0, 30, 4], far],
        [0, 0, 0, 0, 0, 1],
        [0.6, 0.9, 0.8, 0.7, 0.5, 0.95],
    )
    detections = [first, found([near], [0], [0.85])]
    # By score: 0.9 hit; 0.85 in the empty image false; 0.8, 0.7 on the difficult one do not
    # count; 0.6 is the near one a second time, though exact: false; 0.5 has IoU 0.4: false.
    curves = precision_recall_curves(records, detections, ["a", "b"])
    np.testing.assert_array_equal(curves["a"]["scores"], [0.9, 0.85, 0.6, 0.5])
    np.testing.assert_allclose(curves["a"]["precision"], [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(curves["a"]["recall"], [0.5] * 4)
    assert curves["a"]["objects"] == 2
    result = voc_ap(records, detections, ["a", "b"])
    # "b" has no object: a false alarm there has nothing to be measured against.
    assert result["per_class"]["b"] == {"AP": None, "objects": 0}
    assert result["mAP"] == result["per_class"]["a"]["AP"] == pytest.approx(6 / 11)
    assert voc_ap(records, detections, ["a", "b"], points="all")["mAP"] == pytest.approx(0.5)
    # At IoU 0.4 the last one hits the far object: precision 2/4 at recall 1.
    lower = voc_ap(records, detections, ["a", "b"], iou_threshold=0.4, points="all")
    assert lower["mAP"] == pytest.approx(0.5 * 1 + 0.5 * 0.5)


def test_a_detection_takes_its_nearest_object_even_if_that_is_taken():
    # The devkit's rule: the second one's nearest object is taken, so it is false, though it
    # overlaps another that is free by 0.6.
    records = [image([[0, 0, 10, 10], [0, 0, 10, 6]], [0, 0])]
    detections = [found([[0, 0, 10, 10], [0, 0, 10, 9]], [0, 0], [0.9, 0.8])]
    curve = precision_recall_curves(records, detections, ["a"])["a"]
    np.testing.assert_allclose(curve["recall"], [0.5, 0.5])


def test_no_objects():
    empty, nothing = image([], []), found([], [], [])
    assert voc_ap([empty], [nothing], ["a"])["mAP"] is None
    with pytest.raises(ValueError, match="1 annotated images, but detections for 0"):
        voc_ap([empty], [], ["a"])
