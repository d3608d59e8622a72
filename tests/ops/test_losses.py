"""Losses, elementwise, by numbers worked by hand and by float64 formulas."""

import math

import numpy as np
import pytest
import tensorflow as tf

from kerasdet.ops import losses

LOGITS = np.array([-30.0, -4.6, -0.5, 0.0, 0.3, 2.0, 30.0])


def slow_focal(target, logit, alpha, gamma):
    odds = math.exp(-logit if target else logit)  # (1 - p_t) / p_t: 1 - p_t itself would cancel
    alpha_t = alpha if target else 1 - alpha
    return alpha_t * (odds / (1 + odds)) ** gamma * math.log1p(odds)


def gradient(loss, *inputs):
    """Gradient of the summed loss to the last input."""
    inputs = [tf.constant(value, "float32") for value in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs[-1])
        value = loss(*inputs)
    return tape.gradient(value, inputs[-1]).numpy()


def test_focal_loss_by_hand():
    # At logit 0: p = 1/2, so 0.25 (1/2)^2 log 2 for a one and 0.75 (1/2)^2 log 2 for a zero.
    loss = losses.sigmoid_focal_loss([1.0, 0.0], [0.0, 0.0])
    np.testing.assert_allclose(loss, [0.0625 * math.log(2), 0.1875 * math.log(2)], rtol=1e-6)


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.75, 0.5), (0.5, 0.0), (0.25, 5.0)])
def test_focal_loss_against_its_formula(target, alpha, gamma):
    expected = [slow_focal(target, x, alpha, gamma) for x in LOGITS]
    targets = np.full(LOGITS.shape, target)
    loss = losses.sigmoid_focal_loss(targets, LOGITS, alpha, gamma)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-30)
    scalar = losses.sigmoid_focal_loss(target, LOGITS, alpha, gamma)
    np.testing.assert_array_equal(scalar, loss)


@pytest.mark.parametrize("gamma", [2.0, 0.5, 0.0])
def test_focal_loss_gradient(gamma):
    step = 1e-5
    for target in (0, 1):
        expected = [
            (slow_focal(target, x + step, 0.25, gamma) - slow_focal(target, x - step, 0.25, gamma))
            / (2 * step)
            for x in LOGITS[1:-1]
        ]
        slope = gradient(
            lambda y, x: losses.sigmoid_focal_loss(y, x, gamma=gamma),
            np.full(5, target),
            LOGITS[1:-1],
        )
        np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("gamma", [2.0, 0.5, 0.0])
def test_focal_loss_of_extreme_logits_is_finite(gamma):
    logits, targets = [-1e4, -200.0, 200.0, 1e4] * 2, [0.0] * 4 + [1.0] * 4
    loss = losses.sigmoid_focal_loss(targets, logits, gamma=gamma)
    np.testing.assert_allclose(loss[4], 2500, rtol=1e-6)  # 0.25 * 1e4
    assert np.isfinite(loss).all()
    slopes = gradient(lambda y, x: losses.sigmoid_focal_loss(y, x, gamma=gamma), targets, logits)
    assert np.isfinite(slopes).all()


def test_alpha_balanced_cross_entropy():
    loss = losses.alpha_balanced_cross_entropy([1.0, 0.0, 1.0], [0.0, 0.0, 1e4], 0.75)
    np.testing.assert_allclose(loss, [0.75 * math.log(2), 0.25 * math.log(2), 0], rtol=1e-6)
    papers = losses.alpha_balanced_cross_entropy([1.0, 0.0], [0.0, 0.0])
    np.testing.assert_array_equal(papers, loss[:2])
    plain = losses.alpha_balanced_cross_entropy([1.0, 0.0], [0.0, 1e4], None)
    np.testing.assert_allclose(plain, [math.log(2), 1e4], rtol=1e-6)


def test_smooth_l1():
    predictions, targets = [0.0, 0.5, 1.0, 3.0, -3.0], np.zeros(5)
    loss = losses.smooth_l1(targets, predictions)
    np.testing.assert_allclose(loss, [0, 0.125, 0.5, 2.5, 2.5], rtol=1e-6)
    # With beta 1/9: 4.5 x^2 below 1/9, x - 1/18 above.
    loss = losses.smooth_l1([0.0, 0.0, 0.0], [0.1, 1 / 6, 1.0], beta=1 / 9)
    np.testing.assert_allclose(loss, [0.045, 1 / 9, 17 / 18], rtol=1e-6)
    np.testing.assert_array_equal(losses.smooth_l1(targets, predictions, 0), np.abs(predictions))
    np.testing.assert_array_equal(
        gradient(losses.smooth_l1, targets, predictions), [0, 0.5, 1, 1, -1]
    )


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (losses.iou_loss, 1 - 1 / 7),
        (losses.giou_loss, 1 - 1 / 7 + 2 / 9),
        (losses.diou_loss, 1 - 1 / 7 + 1 / 9),
        (losses.ciou_loss, 1 - 1 / 7 + 1 / 9),
    ],
)
def test_iou_losses(loss, expected):
    square, moved = [[0, 0, 2, 2]], [[1, 1, 3, 3]]
    np.testing.assert_allclose(loss(square, moved), [expected], rtol=1e-6)
    np.testing.assert_allclose(loss(square, square), [0], atol=1e-6)
    # Closer is better: the gradient moves the box to the upper left.
    assert (gradient(loss, square, moved)[0] > 0).any()


def test_ciou_loss_counts_the_aspect_ratio():
    # 4 x 2 against 2 x 2 at the same corner: IoU 1/2, centres 1 apart, diagonal^2 20.
    true, predicted = [[0, 0, 4, 2]], [[0, 0, 2, 2]]
    angle = math.atan(2) - math.atan(1)
    v = 4 / math.pi**2 * angle**2
    alpha = v / (0.5 + v)
    np.testing.assert_allclose(losses.diou_loss(true, predicted), [0.5 + 1 / 20], rtol=1e-6)
    np.testing.assert_allclose(
        losses.ciou_loss(true, predicted), [0.5 + 1 / 20 + alpha * v], rtol=1e-6
    )
    # By x2: IoU grows by 1/4, the distance's term falls by 2 * 2 / 80, and the angle arctan(w / h) turns
    # by h / (w^2 + h^2) = 1/4; alpha is no function of the box.
    slope = -1 / 4 - 1 / 20 - alpha * 8 / math.pi**2 * angle / 4
    np.testing.assert_allclose(gradient(losses.ciou_loss, true, predicted)[0, 2], slope, rtol=1e-5)


@pytest.mark.parametrize(
    "loss", [losses.iou_loss, losses.giou_loss, losses.diou_loss, losses.ciou_loss]
)
def test_iou_losses_are_finite_on_degenerate_boxes(loss):
    boxes = np.array([[0, 0, 2, 2], [0, 0, 0, 2], [2, 2, 0, 0], [1, 1, 1, 1], [-1] * 4], "float32")
    true, predicted = np.repeat(boxes, 5, 0), np.tile(boxes, (5, 1))
    assert np.isfinite(loss(true, predicted)).all()
    assert np.isfinite(gradient(loss, true, predicted)).all()


def test_bfloat16_logits_give_a_float32_loss():
    loss = losses.sigmoid_focal_loss(tf.zeros(1, "bfloat16"), tf.constant([-4.0], "bfloat16"))
    assert loss.dtype == "float32"
    np.testing.assert_allclose(loss, [slow_focal(0, -4.0, 0.25, 2.0)], rtol=1e-5)


def test_log_iou_loss_by_hand():
    box = np.float32([0, 0, 4, 2])
    # Half of it, all of it, nothing of it: an IoU below 1e-6 counts as that.
    others = np.float32([[0, 0, 2, 2], [0, 0, 4, 2], [9, 9, 10, 10]])
    expected = [math.log(2), 0, -math.log(1e-6)]
    np.testing.assert_allclose(losses.log_iou_loss(box, others), expected, rtol=1e-5, atol=1e-7)
    slope = gradient(losses.log_iou_loss, np.stack([box] * 3), others)
    # The IoU is w / 4 where the right side is w: d(-log w) / dw is -1/2 at w = 2.
    np.testing.assert_allclose(slope[0, 2], -0.5, rtol=1e-5)
    assert not np.any(slope[2])


def test_softmax_cross_entropy_by_hand():
    # Of odds 1 : 3 : 4 the shares are 1/8, 3/8 and 1/2.
    logits = np.log(np.array([[1.0, 3, 4], [1, 3, 4]], "float32"))
    values = losses.softmax_cross_entropy(np.array([0, 1]), logits)
    np.testing.assert_allclose(values, [math.log(8), math.log(8 / 3)], rtol=1e-6)
