"""Online hard example mining, by a scene worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from kerasdet.ops.sampling import (
    hard_negatives,
    minibatch_cost,
    ohem,
    random_keys,
    sample_quota,
)

# Eight places far apart; box 1 nearly covers box 0, and box 7 box 6.
STARTS = np.array([0, 1, 100, 200, 300, 400, 500, 501], "float32")
BOXES = np.stack([STARTS, 0 * STARTS, STARTS + 20, 0 * STARTS + 20], -1)
LOSSES = np.array([[5, 4, 0.5, 3, 2, 1, 0.2, 0.3]], "float32")
POSITIVES = np.array([[False, True, True, False, False, False, False, False]])


def chosen(*arguments, **options):
    return np.flatnonzero(np.asarray(ohem(LOSSES, BOXES, POSITIVES, *arguments, **options))[0])


def test_hardest_of_the_survivors():
    # Box 1 falls to the harder box 0, box 6 to box 7.
    np.testing.assert_array_equal(chosen(4, 0.7), [0, 3, 4, 5])
    np.testing.assert_array_equal(chosen(100, 0.7), [0, 2, 3, 4, 5, 7])


def test_one_to_three():
    # One positive survives (box 2), with it the three hardest negatives.
    np.testing.assert_array_equal(chosen(8, 0.7, negatives_per_positive=3), [0, 2, 3, 4])
    np.testing.assert_array_equal(chosen(8, 0.7, negatives_per_positive=1), [0, 2])


def test_positives_have_a_quota():
    positives = np.array([[True, False, True, True, False, False, False, False]])
    picked = ohem(LOSSES, BOXES, positives, 4, 0.7, negatives_per_positive=3)
    # A quarter of four: the hardest positive, and three negatives.
    np.testing.assert_array_equal(np.flatnonzero(picked[0]), [0, 4, 5, 7])


def test_image_without_positives():
    picked = ohem(LOSSES, BOXES, np.zeros((1, 8), bool), 8, 0.7, negatives_per_positive=3)
    np.testing.assert_array_equal(np.flatnonzero(picked[0]), [0, 3, 4])


def test_no_loss_takes_no_part():
    picked = ohem(np.zeros((1, 8), "float32"), BOXES, POSITIVES, 8, 0.7)
    assert not np.asarray(picked).any()


@pytest.mark.parametrize("ratio", [None, 3])
def test_batch_under_xla(ratio):
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 200, (3, 60, 2))
    boxes = np.concatenate([starts, starts + 40], -1).astype("float32")
    losses = rng.uniform(0, 1, (3, 60)).astype("float32")
    positives = rng.uniform(0, 1, (3, 60)) < 0.2
    single = [
        ohem(*(x[i : i + 1] for x in (losses, boxes, positives)), 8, 0.5, ratio)[0]
        for i in range(3)
    ]
    compiled = tf.function(lambda *x: ohem(*x, 8, 0.5, ratio), jit_compile=True)
    np.testing.assert_array_equal(compiled(losses, boxes, positives), np.stack(single))


def test_quota_takes_the_highest_keys_and_fills_up_with_negatives():
    positive = np.array([[True, True, True, False, False, False]])
    negative = np.array([[False, False, False, True, False, True]])
    keys = np.array([[0.1, 0.9, 0.5, 0.3, 0.99, 0.7]], "float32")
    # Two of four may be positive: rows 1 and 2; row 4 is neither.
    indices, valid = sample_quota(positive, negative, keys, 4, 0.5)
    np.testing.assert_array_equal(indices[0], [1, 2, 5, 3])
    assert np.asarray(valid).all()
    # Fewer examples than places: without positives, the two negatives.
    indices, valid = sample_quota(positive & False, negative, keys, 4, 0.5)
    np.testing.assert_array_equal(np.asarray(indices)[np.asarray(valid)], [5, 3])


def test_random_keys_are_uniform_and_differ_by_seed_step_and_image():
    keys = np.asarray(random_keys(3, 7, np.arange(4), 20000))
    assert keys.dtype == np.float32
    assert (keys >= 0).all()
    assert (keys < 1).all()
    np.testing.assert_allclose(np.histogram(keys, 10, (0, 1))[0] / keys.size, 0.1, atol=0.005)
    others = [random_keys(4, 7, np.arange(4), 20000), random_keys(3, 8, np.arange(4), 20000)]
    for other in [np.asarray(value) for value in others] + [keys[::-1]]:
        assert abs(np.corrcoef(keys[0], other[0])[0, 1]) < 0.03
    np.testing.assert_array_equal(keys, random_keys(3, 7, np.arange(4), 20000))
    # The same on every backend.
    np.testing.assert_allclose(keys[0, :3], [0.24903554, 0.62133533, 0.20770723], rtol=1e-6)


def test_hard_negatives_by_hand():
    # Two images: one positive and seven negatives, one of which takes no part; four negatives alone.
    losses = np.array([[9, 1, 5, 3, 8, 2, 4, 7], [1, 2, 3, 4, 0, 0, 0, 0]], "float32")
    positive = np.zeros((2, 8), bool)
    positive[0, 0] = True
    negative = ~positive
    negative[0, 7] = False
    negative[1, 4:] = False
    found = np.asarray(hard_negatives(losses, negative, positive))
    assert np.flatnonzero(found[0]).tolist() == [2, 4, 6]  # the losses 8, 5 and 4
    assert np.flatnonzero(found[1]).tolist() == [1, 2, 3]  # as for one positive
    few = np.asarray(hard_negatives(losses, negative, positive, ratio=1))
    assert np.flatnonzero(few[0]).tolist() == [4]
    positive[0, 1:3], negative[0, 1:3] = True, False
    # Nine negatives for three positives: all that there are.
    found = np.asarray(hard_negatives(losses, negative, positive))
    assert np.flatnonzero(found[0]).tolist() == [3, 4, 5, 6]


def test_equal_losses_do_not_add_negatives():
    positive = np.array([[True] + [False] * 9])
    found = np.asarray(hard_negatives(np.ones((1, 10), "float32"), ~positive, positive))
    assert found.sum() == 3


# -- Fast R-CNN, section 2.3: what a mini-batch costs beside R-CNN's ------------------------------


def test_region_wise_sampling_costs_twelve_times_as_much():
    # 128 * 600 * 1000 / (128 * 224 * 224) and 2 * 600 * 1000 / (128 * 224 * 224)
    assert minibatch_cost(128) == pytest.approx(11.958, abs=5e-4)
    assert minibatch_cost(2) == pytest.approx(0.18684, abs=5e-6)
    # "roughly 64x faster than sampling one RoI from 128 different images"
    assert minibatch_cost(128) / minibatch_cost(2) == pytest.approx(64)
    assert minibatch_cost(1, regions=2, image_size=(10, 30), crop=5) == pytest.approx(300 / 50)
