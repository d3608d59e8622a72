"""The parts of a `Location` by hand, and in the detectors that take it."""

import math

import keras
import numpy as np
import pytest

from kerasdet.layers import (
    AnchorDeltas,
    AnchorGenerator,
    Argmax,
    Bipartite,
    BoxCenter,
    CenterRoots,
    Corners,
    DenseHead,
    FeaturePyramid,
    GIoULoss,
    Location,
    SmoothL1,
    SquaredError,
)
from kerasdet.models import FasterRCNN
from kerasdet.models.detector import prepare
from kerasdet.models.region_proposals import RegionProposalNetwork, proposal_losses
from kerasdet.ops.matching import BACKGROUND, BETWEEN
from tests.contract.detectors import batch, ssd
from tests.tiny import TinyBackbone

OBJECT = [0, 0, 10, 10]
# As wide as the object: IoU 0.9, 0.8 and 0.4; the last holds no centre and overlaps nothing.
ANCHORS = np.float32([[0, 0, 10, 9], [0, 0, 10, 8], [0, 0, 10, 4], [50, 0, 60, 9]])


def targets(boxes=(OBJECT,), labels=(1,)):
    return prepare({"boxes": np.float32([boxes]), "labels": np.int32([labels])})


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Argmax(), [0, 0, BACKGROUND, BACKGROUND]),
        (Argmax(0.3, 0.85), [0, BETWEEN, BETWEEN, BACKGROUND]),
        (Argmax(0.3, 0.95), [0, BETWEEN, BETWEEN, BACKGROUND]),  # the best of its object
        (Argmax(0.95, 0.95, one_to_one=True), [0, BACKGROUND, BACKGROUND, BACKGROUND]),
        (Argmax(0.3, 0.7, one_to_one=True), [0, 0, BETWEEN, BACKGROUND]),
        (Bipartite(), [0, BACKGROUND, BACKGROUND, BACKGROUND]),
        (BoxCenter(), [0, 0, BACKGROUND, BACKGROUND]),
    ],
    ids=lambda part: type(part).__name__,
)
def test_matching_by_hand(part, expected):
    np.testing.assert_array_equal(part.assign(targets(), ANCHORS), [expected])
    np.testing.assert_array_equal(Location(part).assign(targets(), ANCHORS), [expected])


def test_argmax_differs_where_anchors_are_equally_good():
    twins = np.float32([[0, 0, 10, 3], [0, 0, 10, 3]])
    np.testing.assert_array_equal(Argmax().assign(targets(), twins), [[0, 0]])
    own = Argmax(one_to_one=True).assign(targets(), twins)
    np.testing.assert_array_equal(own, [[0, BACKGROUND]])


# A box of 20 x 40 about (15, 30), its anchor 10 x 20 about (5, 10).
BOX, ANCHOR = [[[5, 10, 25, 50]]], np.float32([[0, 0, 10, 20]])


@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        (AnchorDeltas(), [10, 10, 5 * math.log(2), 5 * math.log(2)]),
        (AnchorDeltas((1, 2, 3, 4)), [1, 2, 3 * math.log(2), 4 * math.log(2)]),
        (Corners(), [0.5, 1, 1.5, 3]),
        (Corners(5), [1, 2, 3, 6]),
        (CenterRoots(), [1, 2, math.sqrt(2) - 1, 2 - math.sqrt(2)]),
        (CenterRoots(2), [5, 10, math.sqrt(10) - math.sqrt(5), math.sqrt(20) - math.sqrt(10)]),
    ],
    ids=lambda part: type(part).__name__,
)
def test_encodings_by_hand(part, numbers):
    np.testing.assert_allclose(part.encode(BOX, ANCHOR), [[numbers]], rtol=1e-5)
    np.testing.assert_allclose(part.decode([[numbers]], ANCHOR), BOX, rtol=1e-5)
    location = Location(encoding=part)
    np.testing.assert_allclose(location.decode([[numbers]], ANCHOR), BOX, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (None, 0 + 0.5 + 1 + 2.5),  # of the errors 0.5, 1, 1.5 and 3
        (SquaredError(), 0.25 + 1 + 2.25 + 9),
        (SmoothL1(0), 0.5 + 1 + 1.5 + 3),
    ],
    ids=["smooth L1", "L2", "L1"],
)
def test_location_losses_by_hand(loss, expected):
    found = Location(encoding=Corners(), loss=loss).losses(BOX, np.zeros((1, 1, 4)), ANCHOR)
    if loss is None:
        expected = 0.125 + 0.5 + 1.0 + 2.5
    np.testing.assert_allclose(found, [[expected]], rtol=1e-5)


def test_ssd_learns_and_predicts_by_it():
    location = Location(Bipartite(), Corners(5), SquaredError())
    model = ssd(location=location, score_threshold=0.0)
    outputs = {
        "logits": {"C3": np.zeros((1, 4, 4), np.float32)},
        "deltas": {"C3": np.float32([[[0, 0, 0, 1]] + [[9] * 4] * 3])},
        "default_boxes": {"C3": ANCHORS},
        "image_sizes": np.float32([[64, 64]]),
    }
    # The object's one anchor must move its lower side by a pixel, and does so by five.
    loss, count = model.loss_terms(outputs, targets())["box_loss"]
    assert (float(loss), float(count)) == pytest.approx(((0.2 - 1) ** 2, 1), rel=1e-5)
    boxes = np.asarray(model.decode(outputs)["boxes"])[0]
    assert [0, 0, 10, 14] in boxes.round(3).tolist()


def test_the_proposal_network_learns_and_predicts_by_it():
    location = Location(BoxCenter(), CenterRoots(1), SquaredError())
    outputs = {
        "objectness": {"P2": np.zeros((1, 4), "float32")},
        "proposal_deltas": {"P2": np.zeros((1, 4, 4), "float32")},
    }
    keys = np.full((1, 4), 0.5, "float32")
    terms = proposal_losses(outputs, targets(), ANCHORS, keys, location)
    # The first two anchors hold the centre: half a pixel and a pixel too high, and too small.
    roots = [(math.sqrt(10) - math.sqrt(side)) ** 2 for side in (9, 8)]
    expected = 0.5**2 + 1**2 + sum(roots)
    assert float(terms["proposal_loss"][0]) == pytest.approx(expected, rel=1e-4)
    assert float(terms["objectness_loss"][1]) == 4


def network(**settings):
    return RegionProposalNetwork(
        AnchorGenerator.fpn(levels=5), 8, candidates=(50, 20), proposals=(50, 20), **settings
    )


def faster_rcnn(location, **settings):
    backbone, head = TinyBackbone(), DenseHead((16,), name="head")
    neck = FeaturePyramid(16, backbone.levels, p6_from="pool")
    rpn = network(location=location)
    return FasterRCNN(3, backbone, neck, rpn, None, head, 32, **settings)


@pytest.mark.parametrize("make", [ssd, faster_rcnn], ids=["ssd", "faster"])
def test_detectors_learn_with_other_parts_and_are_saved(make, tmp_path):
    keras.utils.set_random_seed(0)
    location = Location(BoxCenter(), CenterRoots(8), SquaredError())
    model = make(location=location, score_threshold=0.0)
    model.compile(keras.optimizers.Adam(2e-3))
    inputs, truth = batch(4)
    term = "box_loss" if make is ssd else "proposal_loss"
    history = model.fit(inputs, truth, batch_size=4, epochs=20, verbose=0).history[term]
    assert history[-1] < history[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    part = loaded.location if make is ssd else loaded.rpn.location
    assert part.get_config() == location.get_config()
    assert part.encoding.unit == 8
    expected = model.predict(inputs, verbose=0)
    for name, value in loaded.predict(inputs, verbose=0).items():
        np.testing.assert_array_equal(value, expected[name])


def test_configs_of_proposal_networks_without_it_are_read():
    config = network().get_config()
    location = config.pop("location")
    copy = RegionProposalNetwork.from_config(config)
    assert copy.get_config()["location"] == location


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Argmax(0.7, 0.3), r"low and high are 0\.7 and 0\.3; give 0 <= low <= high <= 1"),
        (lambda: Argmax(0.7, 1.3), "give 0 <= low <= high <= 1"),
        (lambda: AnchorDeltas((1, 1, 0, 1)), "weights are .*; give four positive numbers"),
        (lambda: AnchorDeltas((1, 1, 1)), "give four positive numbers"),
        (lambda: Corners(0), "unit is 0; give a positive number"),
        (lambda: Location(Corners()), "matching is .*; give a Matching"),
        (lambda: Location(encoding=Argmax()), "encoding is .*; give a Encoding"),
        (lambda: Location(loss=GIoULoss()), "loss is .*; give a CoordinateLoss"),
        (lambda: ssd(location=Argmax()), "location is .*; give a Location"),
        (lambda: network(location=Corners()), "location is .*; give a Location"),
    ],
    ids=range(10),
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
