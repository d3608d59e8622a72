"""Whose loss it is: easy background by the cross entropy, few hard anchors by the focal loss."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

import kerasdet
from kerasdet.data import digit_scenes
from kerasdet.ops.losses import sigmoid_focal_loss

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from focal_loss import anchors_of, cumulative_loss


@pytest.mark.parametrize(
    ("gamma", "easy_to_hard"),
    # 100 000 x -log(0.9) to 100 x -log(0.1): 10 536 to 230; with gamma 2, 0.1^2 and 0.9^2 times as much.
    [(0.0, 45.8), (2.0, 0.565)],
)
def test_100_000_easy_examples_against_100_hard_ones(gamma, easy_to_hard):
    easy = np.full(100_000, math.log(9), "float32")  # p_t = 0.9
    hard = np.full(100, -math.log(9), "float32")  # p_t = 0.1
    easy, hard = (np.sum(sigmoid_focal_loss(1, logits, None, gamma)) for logits in (easy, hard))
    assert easy / hard == pytest.approx(easy_to_hard, rel=2e-3)


def test_cumulative_loss_by_hand():
    # p = 0.5, 0.8 and 0.9 of background: losses 0.6931, 1.6094, 2.3026, in all 4.6052.
    logits = np.array([0.0, math.log(9), math.log(4)], "float32")
    np.testing.assert_allclose(cumulative_loss(0, logits, 0.0), [0.1505, 0.5, 1.0], atol=1e-4)
    # gamma 1: times p, 0.3466, 1.2876, 2.0723, in all 3.7064.
    np.testing.assert_allclose(cumulative_loss(0, logits, 1.0), [0.0935, 0.4409, 1.0], atol=1e-4)


def test_gamma_moves_the_loss_of_background_to_the_hardest_anchors():
    pytest.importorskip("sklearn")
    model = kerasdet.load("retinanet_mobilenetv2_digits")
    foreground, background = anchors_of(model, digit_scenes("test", size=4), 4)
    assert len(background) > 1000 * len(foreground)

    def of_the_easiest(share, target, logits, gamma):
        return cumulative_loss(target, logits, gamma)[int(share * len(logits)) - 1]

    plain, focal = (of_the_easiest(0.99, 0, background, gamma) for gamma in (0.0, 2.0))
    assert plain > 0.4
    assert focal < 0.02
    # Foreground changes much less (the paper's figure 4, left).
    plain, focal = (of_the_easiest(0.8, 1, foreground, gamma) for gamma in (0.0, 2.0))
    assert 0.05 < focal < plain < 0.6
