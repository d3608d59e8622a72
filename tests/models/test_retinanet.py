"""RetinaNet against its paper: anchors, assignment, losses, candidates, parameters."""

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from kerasdet.backbones import ResNet50
from kerasdet.layers import AlphaBalancedCrossEntropy, FocalLoss, GIoULoss, OnlineHardExamples
from kerasdet.models import RetinaHead, RetinaNet
from kerasdet.models.detector import prepare
from kerasdet.models.retinanet import assign, best_candidates
from tests.contract.detectors import batch, retinanet
from tests.tiny import TinyBackbone

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "state_dicts"


def paper_size(**settings):
    return RetinaNet(91, backbone=ResNet50(), **settings)


def trainable(model):
    return sum(math.prod(w.shape) for w in model.trainable_weights)


def test_parameters():
    model = paper_size(p6_from="P5")
    assert trainable(model) == 34_068_119  # torchvision's retinanet_resnet50_fpn
    # P6 reads C5's 2048 channels instead of P5's 256, by 3x3 to 256: the paper's 38.2 M.
    assert trainable(paper_size()) == 34_068_119 + 9 * 256 * (2048 - 256) == 38_196_887
    path = FACTS / "retinanet_resnet50_fpn.json"
    if not path.exists():
        pytest.skip(f"no state dict at {path}")
    state = json.loads(path.read_text())["state_dict"]
    theirs = sorted(
        tuple(shape) if len(shape) < 4 else (*shape[2:], shape[1], shape[0])
        for name, shape in state.items()
        if not name.endswith("num_batches_tracked")
    )
    assert sorted(tuple(w.shape) for w in model.weights if "seed" not in w.path) == theirs


def test_anchors_per_image():
    model = retinanet()
    outputs = model(np.zeros((1, 256, 256, 3), np.uint8))
    cells = [32 * 32, 16 * 16, 8 * 8, 4 * 4, 2 * 2]
    assert [len(a) for a in outputs["anchors"].values()] == [9 * c for c in cells]
    assert sum(9 * c for c in cells) == 12_276
    for level, anchors in outputs["anchors"].items():
        assert outputs["logits"][level].shape == (1, len(anchors), 3)
        assert outputs["deltas"][level].shape == (1, len(anchors), 4)


def test_prior_bias_makes_every_anchor_one_percent():
    head = RetinaHead(num_classes=5, num_anchors=2, channels=8, depth=1)
    features = {"P3": ops.zeros((1, 2, 3, 8)), "P4": ops.zeros((1, 1, 2, 8))}
    logits, deltas = head(features)
    np.testing.assert_allclose(ops.sigmoid(logits["P3"]), np.full((1, 12, 5), 0.01), rtol=1e-5)
    assert not np.any(deltas["P4"])
    # b = -log(0.99 / 0.01)
    assert float(head.class_output.bias[0]) == pytest.approx(-4.59512, abs=1e-5)


def test_subnets_are_shared_by_the_levels_and_norms_are_not():
    counts = {}
    for norm in (None, "batch", "group"):
        head = RetinaHead(3, 9, channels=32, depth=2, norm=norm)
        head.build({f"P{i}": (None, None, None, 32) for i in range(3, 8)})
        counts[norm] = len(head.weights)
    assert counts[None] == 2 * (2 + 1) * 2  # subnets x convolutions x (kernel, bias)
    assert (
        counts["batch"] == 2 * 2 + 4 + 2 * 2 * 5 * 4
    )  # a norm per level: gamma, beta, two moments
    assert counts["group"] == 2 * 2 + 4 + 2 * 2 * 2


def targets(boxes, labels, ignore=None):
    values = {"boxes": np.array([boxes], np.float32), "labels": np.array([labels], np.int32)}
    return prepare(values | ({} if ignore is None else {"ignore": np.array([ignore])}))


def test_assignment_by_hand():
    anchors = np.array(
        [
            [0, 0, 10, 10],  # the object itself: IoU 1
            [0, 0, 10, 5],  # IoU 0.5: foreground
            [0, 0, 10, 4.5],  # IoU 0.45: neither
            [0, 0, 10, 3],  # IoU 0.3: background
            [50, 50, 60, 60],  # IoU 0: background
        ],
        np.float32,
    )
    matches, counted = assign(targets([[0, 0, 10, 10], [-1] * 4], [2, -1]), anchors)
    assert np.asarray(matches)[0].tolist() == [0, 0, -2, -1, -1]
    assert np.asarray(counted)[0].tolist() == [True, True, False, True, True]


def test_an_object_keeps_its_best_anchor_and_crowds_hide_background():
    anchors = np.array([[0, 0, 10, 3], [0, 0, 10, 2], [50, 50, 60, 60]], np.float32)
    boxes = [[0, 0, 10, 10], [40, 40, 70, 70]]
    matches, counted = assign(targets(boxes, [1, 0], [False, True]), anchors)
    assert np.asarray(matches)[0].tolist() == [0, -1, -1]
    assert np.asarray(counted)[0].tolist() == [True, True, False]


def outputs_of(logits, deltas, anchors, size=100):
    return {
        "logits": {"P3": np.array([logits], np.float32)},
        "deltas": {"P3": np.array([deltas], np.float32)},
        "anchors": {"P3": np.array(anchors, np.float32)},
        "image_sizes": np.array([[size, size]], np.float32),
    }


def test_losses_by_hand():
    # One object of class 1 on the first anchor, the second anchor is background.
    # The third class is out of the question: sigmoid(-40) is 0.
    outputs = outputs_of(
        [[0.0, 0.0, -40], [-2.0, 1.0, -40]],
        [[0.5, 0.0, 0.0, 0.05], [9] * 4],
        [[0, 0, 10, 10], [50, 50, 60, 60]],
    )
    terms = retinanet().loss_terms(outputs, targets([[0, 0, 10, 10]], [1]))
    # FL(p_t) = -alpha_t (1 - p_t)^2 log p_t; p = 1/2: (1/4) log 2 times 1/4 for the one, 3/4 for the zero.
    object_anchor = (0.25 + 0.75) * 0.25 * math.log(2)
    background = sum(
        0.75 * p**2 * -math.log(1 - p) for p in (1 / (1 + math.exp(2)), 1 / (1 + math.exp(-1)))
    )
    value, count = terms["classification_loss"]
    assert float(value) == pytest.approx(object_anchor + background, rel=1e-5)
    assert float(count) == 1
    # Smooth L1, beta 1/9: 0.5 - 1/18 beyond beta; 0.05^2 / 2 * 9 within.
    value, count = terms["box_loss"]
    assert float(value) == pytest.approx(0.5 - 1 / 18 + 0.5 * 0.05**2 * 9, rel=1e-5)
    assert float(count) == 1


def test_giou_box_loss_by_hand():
    # dx = 0.5 moves the box by half its width: IoU 1/3, enclosing box 15 x 10 has no empty part.
    outputs = outputs_of([[0.0] * 3], [[0.5, 0, 0, 0]], [[0, 0, 10, 10]])
    model = retinanet(box_loss=GIoULoss())
    value, _ = model.loss_terms(outputs, targets([[0, 0, 10, 10]], [0]))["box_loss"]
    assert float(value) == pytest.approx(2 / 3, rel=1e-5)


def test_decode_by_hand():
    logit = math.log(0.8 / 0.2)
    outputs = outputs_of(
        [[logit, -9], [logit - 0.1, -9], [-9, 0.0], [-9, -4.0]],
        [[0, 0, 0, 0], [0.1, 0, 0, 0], [0, 0, math.log(2), 0], [0, 0, 0, 0]],
        [[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [90, 90, 99, 99]],
    )
    model = retinanet(max_detections=4, score_threshold=0.05)
    result = {name: np.asarray(value)[0] for name, value in model.decode(outputs).items()}
    # The second is suppressed (IoU 9/11), the third is of another class and clipped, the fourth too weak.
    assert result["num_detections"] == 2
    assert result["labels"].tolist() == [0, 1, -1, -1]
    np.testing.assert_allclose(result["confidence"], [0.8, 0.5, -1, -1], rtol=1e-5)
    np.testing.assert_allclose(result["boxes"][:2], [[0, 0, 10, 10], [0, 0, 15, 10]], atol=1e-4)


def test_candidates_are_the_best_pairs():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 50, 7)).astype(np.float32)
    anchors = np.tile([[0.0, 0, 8, 8]], (50, 1)).astype(np.float32) + np.arange(50)[:, None]
    boxes, labels, scores = best_candidates(logits, np.zeros((2, 50, 4), np.float32), anchors, 20)
    for i in range(2):
        order = np.argsort(-logits[i].reshape(-1))[:20]
        np.testing.assert_array_equal(labels[i], order % 7)
        np.testing.assert_allclose(boxes[i], anchors[order // 7], atol=1e-4)
        np.testing.assert_allclose(
            scores[i], 1 / (1 + np.exp(-logits[i].reshape(-1)[order])), rtol=1e-5
        )


@pytest.mark.parametrize(
    "loss",
    [
        AlphaBalancedCrossEntropy(0.75),
        OnlineHardExamples(batch_size=64),
        OnlineHardExamples(batch_size=64, negatives_per_positive=3),
        FocalLoss(gamma=0.5),
    ],
    ids=["balanced", "ohem", "ohem 1:3", "gamma 0.5"],
)
def test_the_papers_baselines_train_and_survive_saving(loss):
    keras.utils.set_random_seed(0)
    model = retinanet(classification_loss=loss)
    model.compile(keras.optimizers.Adam(2e-3))
    history = model.fit(*batch(), epochs=12, verbose=0).history["classification_loss"]
    assert np.isfinite(history).all()
    assert history[-1] < 0.8 * history[0]
    copy = RetinaNet.from_config(model.get_config())
    assert copy.classification_loss.get_config() == loss.get_config()


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="p6_from"):
        RetinaNet(3, backbone=TinyBackbone(), p6_from="C4")
    with pytest.raises(ValueError, match="norm must be"):
        RetinaNet(3, backbone=TinyBackbone(), norm="layer")
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        RetinaNet(0, backbone=TinyBackbone())
