"""Faster R-CNN's parts by hand: proposals, sampling, both losses, decoding."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdet.layers import AnchorGenerator, DenseHead, RoIAlign, RoIPool
from kerasdet.models import FasterRCNN, RegionProposalNetwork
from kerasdet.models.detector import prepare
from kerasdet.models.faster_rcnn import (
    default_anchors,
    proposal_losses,
    propose,
    region_losses,
    sample_regions,
)
from tests.contract.detectors import SIZE, batch, faster_rcnn
from tests.tiny import TinyBackbone

SIZES = np.array([[100.0, 100.0]], np.float32)


def logit(probability):
    return float(np.log(probability / (1 - probability)))


def network(**settings):
    anchors = AnchorGenerator([[10], [20]], [1.0])
    return RegionProposalNetwork(anchors, channels=4, **settings)


def targets(boxes, labels, ignore=None):
    rows = {"boxes": np.array([boxes], np.float32), "labels": np.array([labels], np.int32)}
    return prepare(rows if ignore is None else {**rows, "ignore": np.array([ignore])})


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return faster_rcnn(score_threshold=0.0)


def test_default_anchors_are_those_of_the_papers(model):
    pyramid = default_anchors(model)
    assert pyramid.sizes == ((32,), (64,), (128,), (256,), (512,))
    assert pyramid.num_anchors == 3
    single = FasterRCNN(
        2,
        backbone=TinyBackbone(levels=("C4",)),
        neck=False,
        pooling=RoIAlign(7, 1 / 16),
        head=DenseHead((8,)),
    )
    assert single.rpn.anchors.sizes == ((128, 256, 512),)
    assert single.rpn.anchors.num_anchors == 9


def test_proposals_by_hand():
    # Two levels. On the first, two overlap with IoU 81/119 = 0.68 (kept) and 90/110 = 0.82 (dropped);
    # the same box on the second level is suppressed by its own level alone.
    anchors = {
        "P2": np.array(
            [[0, 0, 10, 10], [1, 1, 11, 11], [0, 1, 10, 11], [95, 95, 105, 105]], "float32"
        ),
        "P3": np.array([[0, 0, 10, 10]], "float32"),
    }
    logits = {"P2": np.array([[3.0, 2.0, 1.0, 0.0]], "float32"), "P3": np.array([[0.5]], "float32")}
    deltas = {level: np.zeros((1, len(boxes), 4), "float32") for level, boxes in anchors.items()}
    boxes, is_proposal = propose(logits, deltas, anchors, SIZES, network(proposals=(6, 6)), False)
    expected = [[0, 0, 10, 10], [1, 1, 11, 11], [0, 0, 10, 10], [95, 95, 100, 100]]
    np.testing.assert_array_equal(is_proposal[0], [True] * 4 + [False] * 2)
    np.testing.assert_allclose(boxes[0, :4], expected, atol=1e-5)
    np.testing.assert_array_equal(boxes[0, 4:], 0)


def test_numbers_of_candidates_and_proposals_differ_in_training():
    anchors = {"P2": np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(5)], "float32")}
    logits = {"P2": np.arange(5, dtype="float32")[None]}
    deltas = {"P2": np.zeros((1, 5, 4), "float32")}
    rpn = network(candidates=(5, 4), proposals=(5, 2))
    count = {
        training: int(
            ops.sum(ops.cast(propose(logits, deltas, anchors, SIZES, rpn, training)[1], "int32"))
        )
        for training in (True, False)
    }
    assert count == {True: 5, False: 2}


def test_proposal_losses_by_hand():
    # One anchor on the object, one away from it, one between the thresholds (IoU 0.5).
    anchors = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 20]], "float32")
    outputs = {
        "objectness": {"P2": np.array([[logit(0.8), logit(0.3), 5.0]], "float32")},
        "proposal_deltas": {"P2": np.zeros((1, 3, 4), "float32")},
    }
    truth = targets([[1, 0, 11, 10]], [0])
    keys = np.array([[0.1, 0.2, 0.3]], "float32")
    terms = proposal_losses(outputs, truth, anchors, keys)
    loss, count = terms["objectness_loss"]
    assert float(count) == 2
    assert float(loss) == pytest.approx(-np.log(0.8) - np.log(0.7), rel=1e-5)
    # t_x = 0.1 lies below beta = 1/9: 0.5 * 0.01 * 9.
    loss, count = terms["proposal_loss"]
    assert (float(loss), float(count)) == pytest.approx((0.045, 2), rel=1e-4)


def test_regions_are_sampled_one_to_three():
    objects = [[0, 0, 10, 10]]
    near = [[0, 0, 10, 10 + i / 10] for i in range(6)]  # IoU over 0.9
    far = [[50, 50, 60, 60 + i] for i in range(9)]
    boxes = np.array([near + far], "float32")
    keys = np.linspace(0.9, 0.1, 15, dtype="float32")[None]
    is_box = np.ones((1, 15), bool)
    is_box[0, 7] = False
    regions, matches, counted = sample_regions(targets(objects, [2]), boxes, is_box, keys, 8)
    np.testing.assert_array_equal(matches[0], [0, 0, -1, -1, -1, -1, -1, -1])
    np.testing.assert_array_equal(regions[0], boxes[0, [0, 1, 6, 8, 9, 10, 11, 12]])
    assert np.asarray(counted).all()
    # Background inside an ignored region does not count.
    truth = targets([*objects, [40, 40, 90, 90]], [2, 0], [False, True])
    _, _, counted = sample_regions(truth, boxes, is_box, keys, 8)
    assert int(ops.sum(ops.cast(counted, "int32"))) == 2


def test_region_losses_by_hand():
    # Classes 0 and 1. The first region finds class 1, the second is background, the third padding.
    probabilities = np.array([[[0.2, 0.2, 0.6], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]], "float32")
    deltas = np.zeros((1, 3, 2, 4), "float32")
    deltas[0, 0, 0] = 99  # of another class: without effect
    predicted = {"class_logits": np.log(probabilities), "box_deltas": deltas}
    regions = np.array([[[0, 0, 10, 10], [30, 30, 40, 40], [0, 0, 0, 0]]], "float32")
    terms = region_losses(
        predicted,
        targets([[1, 0, 11, 10]], [1]),
        regions,
        np.array([[0, -1, -1]]),
        np.array([[True, True, False]]),
    )
    loss, count = terms["classification_loss"]
    assert (float(loss), float(count)) == pytest.approx((-np.log(0.6) - np.log(0.5), 2), rel=1e-5)
    # 10 t_x = 1 meets the line: 0.5.
    loss, count = terms["box_loss"]
    assert (float(loss), float(count)) == pytest.approx((0.5, 2), rel=1e-4)


def test_decoding_refines_each_class_by_its_own_deltas(model):
    logits = np.full((1, 2, 4), -9.0, "float32")
    logits[0, 0, 1 + 2] = 3.0
    logits[0, 1, 1] = 9.0  # of a row that is no proposal
    deltas = np.zeros((1, 2, 3, 4), "float32")
    deltas[0, 0, 2] = [1, 0, 0, 0]  # a tenth of the width to the right
    outputs = {
        "class_logits": logits,
        "box_deltas": deltas,
        "proposals": np.array([[[10, 10, 30, 30], [40, 40, 60, 60]]], "float32"),
        "is_proposal": np.array([[True, False]]),
        "image_sizes": np.array([[SIZE, SIZE]], "float32"),
    }
    model.score_threshold = 0.5
    try:
        detections = model.decode(outputs)
    finally:
        model.score_threshold = 0.0
    assert int(detections["num_detections"][0]) == 1
    assert int(detections["labels"][0, 0]) == 2
    np.testing.assert_allclose(detections["boxes"][0, 0], [12, 10, 32, 30], rtol=1e-5)
    others = 3 * np.exp(-9.0)
    expected = np.exp(3.0) / (np.exp(3.0) + others)
    np.testing.assert_allclose(detections["confidence"][0, 0], expected, rtol=1e-5)


def test_given_proposals_take_the_place_of_its_own(model):
    inputs, truth = batch(1)
    boxes = np.where(truth["labels"][..., None] >= 0, truth["boxes"], 0)
    outputs = model({**inputs, "proposals": boxes})
    np.testing.assert_array_equal(outputs["proposals"], boxes)
    np.testing.assert_array_equal(outputs["is_proposal"], truth["labels"] >= 0)
    assert outputs["class_logits"].shape == (1, 4, 4)


def test_training_stops_at_the_proposals(model):
    inputs, _ = batch(1)
    assert "class_logits" not in model(inputs, training=True)
    assert model(inputs, training=True)["proposals"].shape == (1, 100, 4)
    assert model(inputs)["proposals"].shape == (1, 30, 4)


@pytest.mark.parametrize("pooling", [RoIAlign, RoIPool])
def test_one_map_and_either_pooling(pooling):
    model = FasterRCNN(
        3,
        backbone=TinyBackbone(levels=("C4",)),
        neck=False,
        rpn=RegionProposalNetwork(AnchorGenerator([[16, 32, 48]], [0.5, 1, 2]), 8, name="rpn"),
        pooling=pooling(3, 1 / 16, name="pooling"),
        head=DenseHead((16, 16), convs=(8,), name="head"),
        regions_per_image=16,
    )
    inputs, truth = batch(2)
    model.compile("adam")
    history = model.fit(inputs, truth, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert model.predict(inputs, verbose=0)["boxes"].shape == (2, 100, 4)
    assert type(model).from_config(model.get_config()).get_config() == model.get_config()


def test_sampling_follows_seed_step_and_image(model):
    inputs, truth = batch(2)
    outputs, truth = model(inputs, training=True), prepare(truth)

    def loss():
        return float(model.loss_terms(outputs, truth)["objectness_loss"][0])

    first = loss()
    assert loss() == first
    model.seed = 5
    try:
        assert loss() != first
    finally:
        model.seed = 0
