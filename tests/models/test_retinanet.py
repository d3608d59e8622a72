"""RetinaNet against its paper: anchors, assignment, losses, candidates, parameters."""

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerasdet.backbones import ResNet50
from kerasdet.layers import (
    AlphaBalancedCrossEntropy,
    AnchorGenerator,
    CIoULoss,
    FeaturePyramid,
    FocalLoss,
    GIoULoss,
    OnlineHardExamples,
    Subnets,
)
from kerasdet.models import RetinaNet
from kerasdet.models import retinanet as paper
from kerasdet.models.detector import prepare
from tests.contract.detectors import batch, retinanet
from tests.tiny import TinyBackbone, candidates_seen, cheap_weights

CONSTANTS = {
    "FOREGROUND_IOU": 0.5,  # section 4, Anchors
    "BACKGROUND_IOU": 0.4,
    "PRIOR": 0.01,  # section 4.1, Initialization
    "OUTPUT_STD": 0.01,
    "CANDIDATES_PER_LEVEL": 1000,  # section 4.1, Inference
    "SMOOTH_L1_BETA": 1 / 9,
}

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "state_dicts"


def test_constants_are_the_papers(monkeypatch):
    assert {name: getattr(paper, name) for name in CONSTANTS} == CONSTANTS
    cheap_weights(monkeypatch)
    model = RetinaNet(80)
    assert type(model.backbone) is type(ResNet50())
    assert (model.classification_loss.alpha, model.classification_loss.gamma) == (0.25, 2.0)
    assert model.box_loss.beta == 1 / 9
    assert (model.head.channels, model.head.depth, model.head.norm) == (256, 4, None)
    assert (model.neck.channels, model.neck.p6_from, model.neck.norm) == (256, "C5", None)
    assert model.neck.levels == ("C3", "C4", "C5")
    # Three sizes an octave from 32 on P3 to 512 on P7, three shapes each.
    assert [round(size, 2) for size in model.anchors.sizes[0]] == [32, 40.32, 50.8]
    assert [round(size, 2) for size in model.anchors.sizes[4]] == [512, 645.08, 812.75]
    assert set(model.anchors.aspect_ratios) == {(0.5, 1.0, 2.0)}
    assert model.anchors.strides == (8, 16, 32, 64, 128)
    assert (model.score_threshold, model.iou_threshold) == (0.05, 0.5)  # section 4.1, Inference


def paper_size(**settings):
    return RetinaNet(91, backbone=ResNet50(), **settings)


def trainable(model):
    return sum(math.prod(w.shape) for w in model.trainable_weights)


def test_parameters():
    model = paper_size(neck=FeaturePyramid(p6_from="P5"))
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


def test_every_anchor_begins_as_an_object_by_one_percent():
    keras.utils.set_random_seed(0)
    model = retinanet()
    # b = -log(0.99 / 0.01)
    np.testing.assert_allclose(model.class_output.bias, [-4.59512] * 27, atol=1e-5)
    np.testing.assert_allclose(ops.sigmoid(model.class_output.bias), [0.01] * 27, rtol=1e-5)
    assert not np.any(model.box_output.bias)
    for conv, outputs in ((model.class_output, 9 * 3), (model.box_output, 9 * 4)):
        assert conv.kernel.shape == (3, 3, 16, outputs)
        assert np.std(conv.kernel) == pytest.approx(0.01, rel=0.05)  # 3888 numbers and more


def test_towers_and_rows_of_anchors_by_hand():
    # Two anchors of two classes at each cell: the channels are theirs in turn.
    anchors = AnchorGenerator([[8], [8]], [0.5, 2.0], strides=[8, 16])
    neck = FeaturePyramid(1, levels=("C3", "C4"), p6_from=None)
    model = RetinaNet(2, TinyBackbone(), neck=neck, head=Subnets(1, 0), anchors=anchors)
    for conv, biases in ((model.class_output, [1, 2, 3, 4]), (model.box_output, np.arange(8))):
        conv.kernel.assign(np.zeros(conv.kernel.shape))
        conv.bias.assign(biases)
    outputs = model(np.zeros((1, 16, 32, 3), np.uint8))
    assert list(outputs["logits"]) == ["P3", "P4"]
    np.testing.assert_array_equal(outputs["logits"]["P3"][0], [[1, 2], [3, 4]] * 8)
    np.testing.assert_array_equal(outputs["logits"]["P4"][0], [[1, 2], [3, 4]] * 2)
    np.testing.assert_array_equal(outputs["deltas"]["P4"][0], [[0, 1, 2, 3], [4, 5, 6, 7]] * 2)
    assert outputs["anchors"]["P3"].shape == (16, 4)


def test_each_tower_has_the_output_of_its_own():
    model = retinanet(norm="none")
    image = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3)).astype(np.uint8)
    with tf.GradientTape(persistent=True) as tape:
        outputs = model(image)
        logits, deltas = (
            sum(ops.sum(x) for x in outputs[name].values()) for name in ("logits", "deltas")
        )
    for value, own, other in (
        (logits, model.head.class_convs, model.head.box_convs),
        (deltas, model.head.box_convs, model.head.class_convs),
    ):
        assert np.abs(tape.gradient(value, own[0].kernel)).max() > 0
        assert tape.gradient(value, other[0].kernel) is None


def targets(boxes, labels, ignore=None):
    values = {"boxes": np.array([boxes], np.float32), "labels": np.array([labels], np.int32)}
    return prepare(values | ({} if ignore is None else {"ignore": np.array([ignore])}))


def test_anchors_are_foreground_from_a_half_and_background_below_two_fifths():
    # Boxes as wide as the object and of these heights in tenths: their IoU. The first is the object.
    heights = [10, 5.1, 4.9, 4.1, 3.9]
    outputs = outputs_of([[0.0] * 3] * 5, [[0.0] * 4] * 5, [[0, 0, 10, h] for h in heights])
    truth = targets([[0, 0, 10, 10], [-1] * 4], [2, -1])
    value, count = retinanet().loss_terms(outputs, truth)["classification_loss"]
    # At p = 1/2 a zero costs 3/4 and a one 1/4 of (1/2)^2 log 2; an anchor between costs nothing.
    foreground, background = 0.25 + 2 * 0.75, 3 * 0.75
    assert float(value) == pytest.approx((2 * foreground + background) * math.log(2) / 4, rel=1e-5)
    assert float(count) == 2


def test_an_object_keeps_its_best_anchor_and_crowds_hide_background():
    anchors = [[0, 0, 10, 3], [0, 0, 10, 2], [50, 50, 60, 60]]
    outputs = outputs_of([[0.0] * 3] * 3, [[0.0] * 4] * 3, anchors)
    truth = targets([[0, 0, 10, 10], [40, 40, 70, 70]], [1, 0], [False, True])
    value, count = retinanet().loss_terms(outputs, truth)["classification_loss"]
    # The first has the object, the second is background, the third takes no part.
    assert float(value) == pytest.approx((1.75 + 2.25) * math.log(2) / 4, rel=1e-5)
    assert float(count) == 1


def test_images_without_objects_teach_background_alone():
    outputs = outputs_of([[0.0] * 3] * 2, [[9.0] * 4] * 2, [[0, 0, 10, 10], [50, 50, 60, 60]])
    terms = retinanet().loss_terms(outputs, targets([[-1] * 4], [-1]))
    value, count = terms["classification_loss"]
    assert float(value) == pytest.approx(2 * 2.25 * math.log(2) / 4, rel=1e-5)
    assert float(count) == 0
    assert [float(x) for x in terms["box_loss"]] == [0, 0]


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
    model = retinanet(box_loss="giou")
    assert type(model.box_loss) is GIoULoss
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


def test_a_thousand_candidates_of_each_level(monkeypatch):
    # 1500 boxes of a pixel, apart from each other, on each of two levels; all of one class.
    places = np.arange(1500)
    corners = np.stack([places % 100, places // 100 * 2], axis=-1).astype(np.float32)
    boxes = np.concatenate([corners, corners + 0.9], axis=-1)
    one = outputs_of(np.full((1500, 2), [3.0, -9.0]), np.zeros((1500, 4)), boxes)
    two = outputs_of(np.full((1500, 2), [-9.0, 3.0]), np.zeros((1500, 4)), boxes)
    both = {
        name: {"P3": one[name]["P3"], "P4": two[name]["P3"]}
        for name in ("logits", "deltas", "anchors")
    }
    model = retinanet(max_detections=4000)
    found = model.decode({**both, "image_sizes": one["image_sizes"]})
    assert np.bincount(np.asarray(found["labels"])[0][:3000]).tolist() == [1500, 1500]
    # For many detections there is room for four candidates of each.
    assert candidates_seen(monkeypatch, model, one, (100, 300)) == [1000, 1200]


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "layer"}, "norm is 'layer'; give one of 'batch', 'group', 'none'"),
        ({"box_loss": "iou"}, "box_loss is 'iou'; give one of 'smooth_l1', 'giou', 'diou', 'ciou'"),
        ({"anchors": "small"}, "anchors is 'small'; give one of 'fitted', 'paper'"),
        ({"num_classes": 0, "class_names": ()}, "num_classes must be at least 1 .*, not 0"),
    ],
    ids=str,
)
def test_arguments_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        retinanet(**settings)


def test_options_reach_the_parts():
    model = retinanet(channels=32, depth=2, norm="batch", box_loss="ciou")
    assert (model.neck.channels, model.neck.norm) == (32, "batch")
    assert (model.head.channels, model.head.depth, model.head.norm) == (32, 2, "batch")
    assert type(model.box_loss) is CIoULoss
    model = retinanet(channels=32, norm="group")
    assert (model.neck.norm, model.head.norm) == (None, "group")
    assert model.box_loss.beta == 1 / 9
    model = retinanet(norm="none")
    assert (model.neck.norm, model.head.norm) == (None, None)


@pytest.mark.parametrize("name", ["classification_loss", "box_loss"])
def test_a_loss_that_is_none_is_refused(name):
    with pytest.raises(
        ValueError, match=rf"{name} is 1000000000; give a (Class|Box)Loss of kerasdet"
    ):
        RetinaNet(3, backbone=TinyBackbone(), **{name: 1000000000})
