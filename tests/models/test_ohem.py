"""Online hard example mining against its paper: which regions are learnt."""

import keras
import numpy as np
import pytest

from kerasdet.models import HardRegions
from kerasdet.models.detector import prepare
from kerasdet.models.fast_rcnn import RandomRegions, losses_of, region_losses
from tests.contract.detectors import batch, fast_rcnn, faster_rcnn, mask_rcnn, rfcn

# An object of class 0; a region on it, four on background, of which the second and third overlap by 0.8.
OBJECT = [0, 0, 10, 10]
REGIONS = [[0, 0, 10, 9], [50, 50, 60, 60], [50, 50, 60, 58], [80, 0, 90, 10], [20, 20, 30, 30]]
# Probability of the right column, of the regions and of the object itself.
RIGHT = [0.5, 0.2, 0.1, 0.9, 0.01, 0.99]


def targets(boxes, labels, ignore=None):
    rows = {"boxes": np.float32([boxes]), "labels": np.int32([labels])}
    return prepare(rows if ignore is None else {**rows, "ignore": np.array([ignore])})


def outputs(boxes=REGIONS, missing=(4,)):
    is_proposal = np.ones((1, len(boxes)), bool)
    is_proposal[0, list(missing)] = False
    return {"proposals": np.float32([boxes]), "is_proposal": is_proposal}


def classify(right, on_object):
    """A function that gives every region its probability of the right of two columns, and no deltas."""
    right = np.array(right)
    foreground = np.where(on_object, right, 1 - right)
    logits = np.log(np.stack([1 - foreground, foreground], axis=-1))[None].astype("float32")

    def function(regions):
        assert regions.shape == (1, len(right), 4)
        return {
            "class_logits": logits,
            "box_deltas": np.zeros((1, len(right), 1, 4), "float32"),
        }

    return function


def chosen(count, sampler=None, right=RIGHT, truth=None):
    """Rows of REGIONS and the object (5) that are chosen, objects and counted."""
    sampler = sampler or HardRegions()
    function = classify(right, [True, False, False, False, False, True])
    truth = truth or targets([OBJECT], [0])
    regions, objects, counted = sampler.sample(
        truth, outputs(), count, None, losses_of(function, truth)
    )
    places = [
        [*REGIONS, OBJECT].index(box) if used else None
        for box, used in zip(np.asarray(regions)[0].tolist(), np.asarray(counted)[0])
    ]
    return places, np.asarray(objects)[0].tolist(), np.asarray(counted)[0].tolist()


def test_the_hardest_regions_are_chosen():
    # By loss: 2 (log 10 = 2.30), 1 (log 5, beside 2), 0 (log 2 and its box), 3 (0.11), 5 (0.01, on 0).
    # Row 4 is no proposal, however hard it would be. Those with an object come first.
    assert chosen(2) == ([0, 2], [0, -1], [True, True])
    assert chosen(1) == ([2], [-1], [True])
    assert chosen(3) == ([0, 2, 3], [0, -1, -1], [True] * 3)
    assert chosen(4) == ([0, 2, 3, None], [0, -1, -1, -1], [True] * 3 + [False])


def test_neighbours_are_dropped_from_an_iou_of_seven_tenths():
    assert HardRegions().iou_threshold == 0.7
    assert chosen(3, HardRegions(0.85))[0] == [0, 2, 1]  # IoU 0.8
    assert chosen(5, HardRegions(0.95))[0] == [0, 5, 2, 1, 3]  # and 0.9 of the object
    # An IoU of 0.69 is left alone, one of 0.71 is not.
    for height, kept in ((6.9, 2), (7.1, 1)):
        boxes = [[50, 50, 60, 60], [50, 50, 60, 50 + height]]
        truth = targets([[-1] * 4], [-1])
        function = classify([0.2, 0.2, 0.9], [False] * 3)
        *_, counted = HardRegions().sample(
            truth, outputs(boxes, ()), 5, None, losses_of(function, truth)
        )
        assert np.asarray(counted).sum() == kept


def test_the_box_loss_counts():
    # Of two equally sure regions on objects, the one that is farther off is harder.
    boxes = [[0, 0, 10, 9], [40, 40, 50, 46]]
    truth = targets([[0, 0, 10, 10], [40, 40, 50, 50]], [0, 0])
    function = classify([0.8, 0.8, 0.99, 0.99], [True] * 4)
    regions, *_ = HardRegions().sample(
        truth, outputs(boxes, ()), 1, None, losses_of(function, truth)
    )
    np.testing.assert_array_equal(regions[0], boxes[1:])


def test_there_is_no_quota():
    boxes = [[20 * i, 0, 20 * i + 10, 10] for i in range(4)]
    truth = targets([[20 * i, 0, 20 * i + 10, 9.5] for i in range(4)], [0] * 4)
    function = classify([0.1] * 4 + [0.9] * 4, [True] * 8)
    _, objects, counted = HardRegions().sample(
        truth, outputs(boxes, ()), 4, None, losses_of(function, truth)
    )
    assert sorted(np.asarray(objects)[0].tolist()) == [0, 1, 2, 3]
    assert np.asarray(counted).all()


def test_regions_in_ignored_objects_and_without_certainty_take_no_part():
    truth = targets([OBJECT, [45, 45, 65, 65]], [0, 0], [False, True])
    function = classify([*RIGHT, 0.5], [True, False, False, False, False, True, True])
    regions, objects, counted = HardRegions().sample(
        truth, outputs(), 5, None, losses_of(function, truth)
    )
    assert np.asarray(objects)[0].tolist() == [0, -1, -1, -1, -1]
    assert np.asarray(counted)[0].tolist() == [True, True, False, False, False]
    np.testing.assert_array_equal(regions[0, :2], [REGIONS[0], REGIONS[3]])


def test_its_config_is_kept_and_checked():
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(HardRegions(0.6, name="mine"))
    )
    assert (copy.iou_threshold, copy.name) == (0.6, "mine")
    with pytest.raises(ValueError, match="iou_threshold is 0; give a number above 0"):
        HardRegions(0)
    with pytest.raises(ValueError, match=r"background_iou is 0\.5; give 0 to 0\.5"):
        RandomRegions(0.5)


@pytest.mark.parametrize("make", [fast_rcnn, faster_rcnn, mask_rcnn, rfcn], ids=lambda m: m.args[0])
def test_every_region_detector_takes_it(make):
    keras.utils.set_random_seed(0)
    model, hard = make(regions=8), make(regions=8, sampler=HardRegions(name="hard"))
    hard.set_weights(model.get_weights())
    assert hard.get_config()["sampler"]["config"]["iou_threshold"] == 0.7
    inputs, truth = batch(2, given=model.INPUTS)
    raw, truth = hard(inputs, training=True), prepare(truth)
    maps = hard.region_maps(raw["maps"]) if hasattr(hard, "region_maps") else raw["maps"]
    losses = losses_of(lambda boxes: hard.classifier(maps, boxes), truth)
    sampled = hard.sampler.sample(truth, raw, 8, None, losses)
    expected = region_losses(hard.classifier(maps, sampled[0]), truth, *sampled)
    terms, random = hard.loss_terms(raw, truth), model.loss_terms(raw, truth)
    for name, (loss, count) in expected.items():
        np.testing.assert_allclose(terms[name][0], loss, rtol=1e-4)
        assert float(terms[name][1]) == float(count)
    means = [sum(float(x[n][0] / x[n][1]) for n in expected) for x in (random, terms)]
    assert means[1] > means[0]
