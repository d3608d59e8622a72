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
    (L.OnlineHardExamples(), ops.alpha_balanced_cross_entropy(TARGETS, LOGITS, None)),
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
    anchor_losses = np.array([[1.0, 2.0, 0.5, 0.0]], "float32")
    kept, count = L.OnlineHardExamples(batch_size=3).select(
        anchor_losses, boxes, np.zeros((1, 4), bool)
    )
    np.testing.assert_array_equal(kept, [[0, 2, 0.5, 0]])
    assert float(count) == 2
