"""The losses as Keras losses: values, reduction, configuration."""

import keras
import numpy as np
import pytest

from kerasdet import ops
from kerasdet.layers import losses as L

TARGETS, LOGITS = np.array([[1.0, 0.0, 1.0]]), np.array([[0.5, -2.0, 3.0]])
TRUE, PREDICTED = np.array([[[0, 0, 2, 2], [0, 0, 4, 2]]]), np.array([[[1, 1, 3, 3], [0, 0, 2, 2]]])

CASES = [
    (L.FocalLoss(alpha=0.4, gamma=1.5), ops.sigmoid_focal_loss(TARGETS, LOGITS, 0.4, 1.5)),
    (L.AlphaBalancedCrossEntropy(0.6), ops.alpha_balanced_cross_entropy(TARGETS, LOGITS, 0.6)),
    (L.SmoothL1(beta=0.3), ops.smooth_l1(TARGETS, LOGITS, 0.3)),
    (L.SquaredError(), np.array([[0.25, 4.0, 4.0]])),
    (L.OnlineHardExamples(), ops.alpha_balanced_cross_entropy(TARGETS, LOGITS, None)),
    (L.LogIoULoss(), ops.log_iou_loss(TRUE, PREDICTED)),
    (L.IoULoss(), ops.iou_loss(TRUE, PREDICTED)),
    (L.GIoULoss(), ops.giou_loss(TRUE, PREDICTED)),
    (L.DIoULoss(), ops.diou_loss(TRUE, PREDICTED)),
    (L.CIoULoss(), ops.ciou_loss(TRUE, PREDICTED)),
]
IDS = [type(loss).__name__ for loss, _ in CASES]


@pytest.mark.parametrize(("loss", "elementwise"), CASES, ids=IDS)
def test_value_and_reduction(loss, elementwise):
    inputs = (TRUE, PREDICTED) if "IoU" in type(loss).__name__ else (TARGETS, LOGITS)
    np.testing.assert_allclose(loss.call(*inputs), elementwise, rtol=1e-6)
    np.testing.assert_allclose(loss(*inputs), np.mean(elementwise), rtol=1e-6)


@pytest.mark.parametrize("kind", [type(loss) for loss, _ in CASES], ids=IDS)
def test_config_round_trip(kind):
    options = {
        "FocalLoss": {"alpha": 0.4, "gamma": 1.5},
        "AlphaBalancedCrossEntropy": {"alpha": None},
        "SmoothL1": {"beta": 1 / 9},
        "OnlineHardExamples": {
            "batch_size": 256,
            "iou_threshold": 0.5,
            "negatives_per_positive": 3,
        },
    }.get(kind.__name__, {})
    options = {**options, "reduction": "sum", "name": "other", "dtype": "float32"}
    config = kind(**options).get_config()
    assert config == options
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(kind(**options))
    )
    assert type(again) is kind
    assert again.get_config() == options


def test_online_hard_examples_select():
    # Anchors 0 and 1 are the same box, and anchor 3 takes no part.
    boxes = np.array([[[0, 0, 9, 9], [0, 0, 9, 9], [50, 0, 59, 9], [90, 0, 99, 9]]], "float32")
    # Of one class, which none of them has: log(1 + e^x) is 1, 2, 0.5 and 4.
    logits = np.log(np.expm1(np.array([[[1.0], [2.0], [0.5], [4.0]]], "float32")))
    counted = np.array([[True, True, True, False]])
    kept, count = L.OnlineHardExamples(batch_size=3).over_anchors(
        np.zeros((1, 4, 1), "float32"), logits, counted, np.zeros((1, 4), bool), lambda: boxes
    )
    np.testing.assert_allclose(kept, [[0, 2, 0.5, 0]], rtol=1e-5)
    assert float(count) == 2


def test_class_losses_are_summed_by_anchor_and_divided_by_the_positive():
    # Cross entropy of two classes at logit 0 is 2 log 2; the last anchor takes no part.
    zeros, counted = np.zeros((1, 3, 2), "float32"), np.array([[True, True, False]])
    positive = np.array([[True, False, False]])
    values, count = L.AlphaBalancedCrossEntropy(alpha=None).over_anchors(
        zeros, zeros, counted, positive, boxes=None
    )
    np.testing.assert_allclose(values, [[2 * np.log(2), 2 * np.log(2), 0]], rtol=1e-6)
    assert float(count) == 1


def test_box_losses_of_deltas():
    # The first delta, a tenth of the side, moves the anchor by one pixel: the boxes' IoU is 9 / 11.
    anchors = np.array([[0, 0, 10, 10]], "float32")
    boxes, deltas = anchors[None], np.array([[[0.1, 0, 0, 0]]], "float32")
    np.testing.assert_allclose(L.IoULoss().of_deltas(boxes, deltas, anchors), [[2 / 11]], rtol=1e-5)
    # Smooth L1 compares the deltas themselves: 0.1 less half of 0.05 above beta, and its square below.
    np.testing.assert_allclose(
        L.SmoothL1(beta=0.05).of_deltas(boxes, deltas, anchors), [[0.1 - 0.025]], rtol=1e-5
    )
    np.testing.assert_allclose(
        L.SmoothL1(beta=1.0).of_deltas(boxes, deltas, anchors), [[0.005]], rtol=1e-5
    )
    np.testing.assert_allclose(
        L.SquaredError().of_deltas(boxes, deltas, anchors), [[0.01]], rtol=1e-5
    )


def test_box_losses_of_distances():
    # The object's sides are 4, 4, 6 and 2 pixels from the point, a stride is 4; the right is predicted at 2.
    boxes, points = np.array([[[0, 0, 10, 6]]], "float32"), np.array([[4, 4, 4]], "float32")
    distances = np.array([[[4, 4, 2, 2]]], "float32")
    for loss, expected in (
        (L.IoULoss(), 0.4),  # 6 x 6 of 10 x 6 pixels
        (L.LogIoULoss(), -np.log(0.6)),
        (L.GIoULoss(), 0.4),
        (L.SquaredError(), 1.0),
        (L.SmoothL1(beta=1.0), 0.5),
        (L.SmoothL1(beta=2.0), 0.25),
    ):
        found = loss.of_distances(boxes, distances, points)
        np.testing.assert_allclose(found, [[expected]], rtol=1e-5)


def test_confidences_by_hand():
    # Odds 1 : 3 : 4 of background and two classes; by themselves 1/2, 3/4 and 4/5.
    logits = np.log(np.array([[[1.0, 3, 4], [1, 3, 4]]], "float32"))
    labels = np.array([[0, 2]])
    softmax, sigmoid = L.SoftmaxConfidence(), L.SigmoidConfidence()
    np.testing.assert_allclose(softmax.losses(labels, logits), np.log([[8, 2]]), rtol=1e-6)
    np.testing.assert_allclose(softmax.scores(logits), [[[3 / 8, 1 / 2]] * 2], rtol=1e-6)
    # -log(1/2 1/4 1/5) = log 40, and -log(1/2 1/4 4/5) = log 10.
    np.testing.assert_allclose(sigmoid.losses(labels, logits), np.log([[40, 10]]), rtol=1e-6)
    np.testing.assert_allclose(sigmoid.scores(logits), [[[3 / 4, 4 / 5]] * 2], rtol=1e-6)


@pytest.mark.parametrize("kind", [L.SoftmaxConfidence, L.SigmoidConfidence])
def test_a_confidence_survives_its_config(kind):
    config = keras.saving.serialize_keras_object(kind())
    assert type(keras.saving.deserialize_keras_object(config)) is kind
