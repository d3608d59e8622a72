"""Faster R-CNN against its paper: proposals and what they learn, and both stages together."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerasdet.backbones import (
    VGG16,
    MobileNetV2,
    MobileNetV3Large,
    ResNet18,
    ResNet50,
    ResNetHead,
    ResNeXt50,
)
from kerasdet.layers import (
    AnchorGenerator,
    CropAndResize,
    DenseHead,
    MaskHead,
    MultilevelRoIAlign,
    MultilevelRoIPool,
    RoIAlign,
    RoIPool,
)
from kerasdet.models import (
    FasterRCNN,
    KeypointBranch,
    KeypointRCNN,
    MaskBranch,
    MaskRCNN,
    RegionProposalNetwork,
    region_proposals,
)
from kerasdet.models import (
    faster_rcnn as paper,
)
from kerasdet.models.detector import prepare
from kerasdet.models.fast_rcnn import sample_regions
from kerasdet.models.region_proposals import (
    default_rpn,
    paper_location,
    proposal_losses,
    propose,
)
from kerasdet.ops import crop_and_resize
from kerasdet.ops.boxes import clip_pixels
from tests.contract.detectors import batch, faster_rcnn
from tests.tiny import TinyBackbone, cheap_weights, parameters

CONSTANTS = {
    paper: {
        "REGIONS_PER_IMAGE": 512,  # FPN, section 5.2
        "STAGES": ("proposals", "regions"),
        "FIRST_STAGE_TERMS": ("objectness_loss", "proposal_loss"),
    },
    region_proposals: {
        "ANCHOR_FOREGROUND_IOU": 0.7,  # section 3.1.2
        "ANCHOR_BACKGROUND_IOU": 0.3,
        "ANCHORS_PER_IMAGE": 256,
        "ANCHOR_POSITIVES": 0.5,
        "PROPOSAL_IOU": 0.7,  # section 3.3
        "PROPOSAL_BETA": 1 / 9,
        "SMALLEST_PROPOSAL": 0.001,
    },
}

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


@pytest.mark.parametrize("module", CONSTANTS, ids=lambda module: module.__name__)
def test_constants_are_the_papers(module):
    wanted = CONSTANTS[module]
    assert {name: getattr(module, name) for name in wanted} == wanted


def test_default_networks_are_those_of_the_papers(model):
    pyramid = default_rpn(model)
    assert (pyramid.channels, len(pyramid.convs)) == (256, 1)
    assert pyramid.candidates == pyramid.proposals == (2000, 1000)  # in training, at test
    assert pyramid.score_threshold == 0
    assert pyramid.anchors.sizes == ((32,), (64,), (128,), (256,), (512,))
    assert pyramid.anchors.num_anchors == 3
    single = FasterRCNN(
        2, backbone=TinyBackbone(levels=("C5",)), neck=False, head=DenseHead((8,))
    ).rpn
    assert single.anchors.sizes == ((128, 256, 512),)
    assert single.anchors.num_anchors == 9
    assert single.anchors.strides == (32,)
    assert (single.channels, single.candidates, single.proposals) == (
        512,
        (12000, 6000),
        (2000, 300),
    )


def test_the_proposal_networks_layers_begin_by_a_hundredth():
    keras.utils.set_random_seed(0)
    rpn = RegionProposalNetwork(AnchorGenerator([[8] * 9], [1.0]), channels=64)
    rpn.build({"P2": (None, None, None, 64)})
    for layer, shape in (
        (rpn.convs[0], (3, 3, 64, 64)),
        (rpn.logits, (1, 1, 64, 9)),
        (rpn.deltas, (1, 1, 64, 36)),
    ):
        assert layer.kernel.shape == shape
        assert np.std(layer.kernel) == pytest.approx(0.01, rel=0.15)  # 576 numbers and more
        assert not np.any(layer.bias)


def test_the_proposal_network_by_hand():
    # One channel; the hidden convolution doubles a cell and is cut off below zero.
    rpn = RegionProposalNetwork(AnchorGenerator([[8]], [0.5, 2.0]), channels=1)
    rpn.build({"P2": (None, None, None, 1)})
    middle = np.zeros((3, 3, 1, 1))
    middle[1, 1] = 2
    rpn.convs[0].set_weights([middle, np.zeros(1)])
    rpn.logits.set_weights([np.array([1.0, -1.0]).reshape(1, 1, 1, 2), np.array([0.0, 5.0])])
    rpn.deltas.set_weights([np.arange(8.0).reshape(1, 1, 1, 8), np.zeros(8)])
    logits, deltas = rpn({"P2": np.array([[[[1.0], [-3.0]]]], np.float32)})
    np.testing.assert_allclose(logits["P2"], [[2, 3, 0, 5]])
    np.testing.assert_allclose(deltas["P2"][0], [[0, 2, 4, 6], [8, 10, 12, 14], *[[0] * 4] * 2])


@pytest.mark.parametrize(("activation", "expected"), [("relu", 20), ("relu6", 6)])
def test_the_hidden_maps_may_end_at_six(activation, expected):
    rpn = RegionProposalNetwork(AnchorGenerator([[8]], [1.0]), 1, activation=activation)
    rpn.build({"P2": (None, None, None, 1)})
    rpn.convs[0].set_weights([np.full((3, 3, 1, 1), 2.0), np.zeros(1)])
    rpn.logits.set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    logits, _ = rpn({"P2": np.full((1, 1, 1, 1), 10.0, np.float32)})
    np.testing.assert_allclose(logits["P2"], [[expected]])
    assert RegionProposalNetwork.from_config(rpn.get_config()).activation == activation
    with pytest.raises(ValueError, match="activation is 'tanh'; give one of 'relu', 'relu6'"):
        RegionProposalNetwork(AnchorGenerator([[8]], [1.0]), activation="tanh")


def test_regions_may_be_shares_of_the_canvas():
    # Images of 64 x 64 and 48 x 64 pixels on canvases of 64 x 64: the map's ends are the canvas's.
    keras.utils.set_random_seed(0)
    backbone, pooling = TinyBackbone(levels=("C4",)), CropAndResize(2, 2, "max", name="pooling")
    head = DenseHead((8,), name="head")
    model = FasterRCNN(3, backbone, neck=False, pooling=pooling, head=head)
    inputs, truth = batch(2)
    inputs["image_sizes"] = np.float32([[64, 64], [48, 64]])
    outputs = model(inputs)
    assert list(outputs["maps"]) == ["C4", "canvas"]
    np.testing.assert_array_equal(outputs["maps"]["canvas"], [[64, 64], [64, 64]])
    canvas = np.full((2, 2), 64, np.float32)
    regions = crop_and_resize(outputs["maps"]["C4"], outputs["proposals"], canvas, 2, 2, "max")
    expected = model.classifier.class_output(model.head(regions))
    np.testing.assert_allclose(outputs["class_logits"], expected, rtol=1e-5, atol=1e-6)
    terms = model.loss_terms(model(inputs, training=True), prepare(truth), training=True)
    assert all(np.isfinite(float(value)) for value, _ in terms.values())


def test_levels_with_different_numbers_of_anchors_share_no_network():
    with pytest.raises(ValueError, match=r"have \[1, 2\] anchors; to share a network"):
        RegionProposalNetwork(AnchorGenerator([[8], [8, 16]], [1.0]))


def undecoded(logits, anchors):
    """What a proposal network that moves no anchor gives."""
    deltas = {level: np.zeros((1, len(boxes), 4), "float32") for level, boxes in anchors.items()}
    return {
        "objectness": logits,
        "proposal_deltas": deltas,
        "anchors": anchors,
        "image_sizes": SIZES,
    }


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
    rpn = network(proposals=(6, 6))
    boxes, is_proposal = propose(undecoded(logits, anchors), rpn, False)
    expected = [[0, 0, 10, 10], [1, 1, 11, 11], [0, 0, 10, 10], [95, 95, 100, 100]]
    np.testing.assert_array_equal(is_proposal[0], [True] * 4 + [False] * 2)
    np.testing.assert_allclose(boxes[0, :4], expected, atol=1e-5)
    np.testing.assert_array_equal(boxes[0, 4:], 0)


def test_proposals_are_suppressed_from_an_iou_of_seven_tenths():
    # A box of 10 x 10 moved down by d overlaps with IoU (10 - d) / (10 + d): 0.695 and 0.709.
    for d, kept in ((1.8, 2), (1.7, 1)):
        anchors = {"P2": np.array([[0, 0, 10, 10], [0, d, 10, 10 + d]], "float32")}
        outputs = undecoded({"P2": np.array([[1.0, 0.0]], "float32")}, anchors)
        _, is_proposal = propose(outputs, network(proposals=(5, 5)), True)
        assert np.asarray(is_proposal).sum() == kept


def test_what_clipping_leaves_must_be_a_thousandth_of_a_pixel():
    right = [[99.998, 0, 110, 10], [99.9995, 20, 110, 30]]  # 0.002 and 0.0005 pixels are left
    outputs = undecoded({"P2": np.array([[1.0, 0.0]], "float32")}, {"P2": np.float32(right)})
    boxes, is_proposal = propose(outputs, network(proposals=(5, 5)), True)
    assert np.asarray(is_proposal)[0].tolist() == [True] + [False] * 4
    np.testing.assert_allclose(boxes[0, 0], [99.998, 0, 100, 10], rtol=1e-6)


def test_proposals_of_the_authors_code_are_whole_pixels_and_have_a_shortest_side():
    # Pixels 20 to 36 and 10 to 25 are 17 x 16; 20 to 34 are 15. The last pixel of the image is 99.
    anchors = [[20, 10, 36, 25], [20, 50, 34, 70], [80, 80, 120, 120]]
    logits = np.array([[2.0, 1.0, 0.0]], "float32")
    outputs = undecoded({"P2": logits}, {"P2": np.float32(anchors)})
    rpn = network(proposals=(5, 5), smallest=16.0)
    boxes, is_proposal = propose(outputs, rpn, False, clip_pixels)
    assert np.asarray(is_proposal)[0].tolist() == [True, True] + [False] * 3
    np.testing.assert_allclose(boxes[0, :2], [[20, 10, 37, 26], [80, 80, 100, 100]], rtol=1e-6)


def test_proposals_need_a_probability_only_where_it_is_asked_for():
    anchors = {"P2": np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(3)], "float32")}
    outputs = undecoded({"P2": np.array([[logit(0.4), logit(0.2), -90.0]], "float32")}, anchors)
    for threshold, kept in ((0.0, 3), (0.3, 1)):
        rpn = network(proposals=(9, 9), score_threshold=threshold)
        assert np.asarray(propose(outputs, rpn, False)[1]).sum() == kept


def test_proposals_are_decoded_and_have_no_gradient():
    deltas = tf.constant([[[0.1, 0.0, np.log(2.0), 0.0]]], tf.float32)
    outputs = undecoded({"P2": np.zeros((1, 1), "float32")}, {"P2": np.float32([[20, 20, 30, 30]])})
    with tf.GradientTape() as tape:
        tape.watch(deltas)
        boxes, _ = propose({**outputs, "proposal_deltas": {"P2": deltas}}, network(), True)
    # The middle moves by one pixel to x = 26, the width doubles to 20.
    np.testing.assert_allclose(boxes[0, 0], [16, 20, 36, 30], rtol=1e-5)
    assert tape.gradient(boxes, deltas) is None


def test_numbers_of_candidates_and_proposals_differ_in_training():
    anchors = {"P2": np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(5)], "float32")}
    outputs = undecoded({"P2": np.arange(5, dtype="float32")[None]}, anchors)
    rpn = network(candidates=(5, 4), proposals=(5, 2))
    count = {
        training: int(ops.sum(ops.cast(propose(outputs, rpn, training)[1], "int32")))
        for training in (True, False)
    }
    assert count == {True: 5, False: 2}


def test_proposal_losses_by_hand():
    # One anchor on the object, one away from it, one between the thresholds (IoU 0.5).
    anchors = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 20]], "float32")
    deltas = np.zeros((1, 3, 4), "float32")
    deltas[0, 1:] = 9  # of anchors without an object: without effect
    outputs = {
        "objectness": {"P2": np.array([[logit(0.8), logit(0.3), 5.0]], "float32")},
        "proposal_deltas": {"P2": deltas},
    }
    truth = targets([[1, 0, 11, 10]], [0])
    keys = np.array([[0.1, 0.2, 0.3]], "float32")
    terms = proposal_losses(outputs, truth, anchors, keys, paper_location())
    loss, count = terms["objectness_loss"]
    assert float(count) == 2
    assert float(loss) == pytest.approx(-np.log(0.8) - np.log(0.7), rel=1e-5)
    # t_x = 0.1 lies below beta = 1/9: 0.5 * 0.01 * 9.
    loss, count = terms["proposal_loss"]
    assert (float(loss), float(count)) == pytest.approx((0.045, 2), rel=1e-4)


def test_anchors_are_positive_from_seven_tenths_and_background_below_three():
    # Boxes as wide as the object and of these heights in tenths: their IoU. The first is the object.
    heights = [10, 7.01, 6.99, 3.01, 2.99]
    anchors = np.array([[0, 0, 10, height] for height in heights], "float32")
    outputs = {
        "objectness": {"P2": np.zeros((1, 5), "float32")},
        "proposal_deltas": {"P2": np.zeros((1, 5, 4), "float32")},
    }
    keys = np.full((1, 5), 0.5, "float32")
    terms = proposal_losses(
        outputs, targets([[0, 0, 10, 10]], [0]), anchors, keys, paper_location()
    )
    loss, count = terms["objectness_loss"]
    assert (float(loss), float(count)) == pytest.approx((3 * np.log(2), 3), rel=1e-5)
    # Of the second, t_y = (5 - 3.505) / 7.01 = 0.21327 and t_h = log(10 / 7.01) = 0.35525, beyond beta.
    expected = (5 - 3.505) / 7.01 + np.log(10 / 7.01) - 2 / 18
    loss, count = terms["proposal_loss"]
    assert (float(loss), float(count)) == pytest.approx((expected, 3), rel=1e-4)


def test_an_object_teaches_its_best_anchor_even_when_they_overlap_little():
    anchors = np.array([[0, 0, 10, 2], [0, 0, 10, 1]], "float32")  # IoU 0.2 and 0.1
    outputs = {
        "objectness": {"P2": np.array([[logit(0.8), logit(0.3)]], "float32")},
        "proposal_deltas": {"P2": np.zeros((1, 2, 4), "float32")},
    }
    keys = np.full((1, 2), 0.5, "float32")
    terms = proposal_losses(
        outputs, targets([[0, 0, 10, 10]], [0]), anchors, keys, paper_location()
    )
    loss, _ = terms["objectness_loss"]
    assert float(loss) == pytest.approx(-np.log(0.8) - np.log(0.7), rel=1e-5)


@pytest.mark.parametrize(("on_object", "positive"), [(300, 128), (40, 40)])
def test_two_hundred_and_fifty_six_anchors_of_which_half_may_be_positive(on_object, positive):
    anchors = np.float32([[0, 0, 10, 10]] * on_object + [[50, 50, 60, 60]] * 300)
    # Anchors on the object are sure of it: the loss is log 2 of each background.
    logits = np.where(np.arange(len(anchors)) < on_object, 60.0, 0.0)[None].astype("float32")
    outputs = {
        "objectness": {"P2": logits},
        "proposal_deltas": {"P2": np.zeros((1, len(anchors), 4), "float32")},
    }
    keys = np.linspace(0, 0.99, len(anchors), dtype="float32")[None]
    terms = proposal_losses(
        outputs, targets([[0, 0, 10, 10]], [0]), anchors, keys, paper_location()
    )
    loss, count = terms["objectness_loss"]
    assert float(count) == 256
    assert float(loss) == pytest.approx((256 - positive) * np.log(2), rel=1e-5)


def test_five_hundred_and_twelve_regions_of_which_a_quarter_has_an_object():
    model = FasterRCNN(2, TinyBackbone(), head=DenseHead((8,)))
    assert model.regions_per_image == 512
    inputs, _ = batch(1)
    # 200 regions on the object, 500 far away: background without a least IoU.
    boxes = np.float32([[8, 8, 24, 24]] * 200 + [[40, 40, 56, 56]] * 500)[None]
    outputs = model({**inputs, "proposals": boxes}, training=True)
    truth = targets([[8, 8, 24, 24]], [1])
    assert float(model.loss_terms(outputs, truth)["classification_loss"][1]) == 512
    _, objects, counted = sample_regions(
        truth, outputs, lambda count: np.full((1, count), 0.5, "float32"), model.regions_per_image
    )
    assert np.asarray(counted).sum() == 512
    assert (np.asarray(objects) >= 0).sum() == 128


def test_given_proposals_take_the_place_of_its_own(model):
    inputs, truth = batch(1)
    boxes = np.where(truth["labels"][..., None] >= 0, truth["boxes"], 0)
    outputs = model({**inputs, "proposals": boxes})
    np.testing.assert_array_equal(outputs["proposals"], boxes)
    np.testing.assert_array_equal(outputs["is_proposal"], truth["labels"] >= 0)
    assert outputs["class_logits"].shape == (1, 4, 4)


def test_regions_are_pooled_from_all_maps_but_the_added_one(model):
    maps = model(batch(1)[0], training=True)["maps"]
    assert list(maps) == ["P2", "P3", "P4", "P5", "P6"]
    assert list(model.region_maps(maps)) == ["P2", "P3", "P4", "P5"]


def test_training_stops_at_the_proposals(model):
    inputs, _ = batch(1)
    assert "class_logits" not in model(inputs, training=True)
    assert model(inputs, training=True)["proposals"].shape == (1, 100, 4)
    assert model(inputs)["proposals"].shape == (1, 30, 4)


def vgg():
    """The paper's own: one map of stride 16, fc6 and fc7 with dropout (here of fewer units)."""
    return {
        "backbone": VGG16(levels=("C4",)),
        "pooling": MultilevelRoIPool(7, name="pooling"),
        "head": DenseHead((32, 32), dropout=0.5, name="head"),
    }


def resnet_c4():
    return {
        "backbone": ResNet18(levels=("C4",)),
        "pooling": MultilevelRoIAlign(14, name="pooling"),
        "head": ResNetHead(2, bottleneck=False, name="head"),
    }


def resnet_c5():
    return {
        "backbone": ResNet18(levels=("C5",)),
        "head": DenseHead((32, 32), name="head"),
    }


def single_map(pooling):
    return {
        "backbone": TinyBackbone(levels=("C4",)),
        "pooling": pooling(3, 1 / 16, name="pooling"),
        "head": DenseHead((16, 16), convs=(8,), name="head"),
    }


@pytest.mark.parametrize(
    "parts",
    [vgg, resnet_c4, resnet_c5, lambda: single_map(RoIAlign), lambda: single_map(RoIPool)],
    ids=["vgg", "resnet_c4", "resnet_c5", "align", "pool"],
)
def test_one_map_learns_and_is_saved(parts, tmp_path):
    keras.utils.set_random_seed(0)
    parts = parts()
    (stride,) = parts["backbone"].strides.values()
    anchors = AnchorGenerator([[16, 32, 48]], [0.5, 1, 2], strides=[stride])
    rpn = RegionProposalNetwork(anchors, 8, 1, (50, 20), (50, 20), name="rpn")
    model = FasterRCNN(3, neck=False, rpn=rpn, regions_per_image=16, score_threshold=0.0, **parts)
    count = len(model.weights)
    inputs, truth = batch(2)
    model.compile(keras.optimizers.Adam(2e-4))
    loss = model.fit(inputs, truth, epochs=6, verbose=0).history["loss"]
    assert loss[-1] < loss[0]
    assert len(model.weights) == count
    expected = model.predict(inputs, verbose=0)
    assert expected["boxes"].shape == (2, 100, 4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert json.dumps(loaded.get_config()) == json.dumps(model.get_config())
    for name, value in loaded.predict(inputs, verbose=0).items():
        np.testing.assert_array_equal(value, expected[name])


def test_vgg_has_the_papers_parameters(monkeypatch):
    cheap_weights(monkeypatch)
    model = FasterRCNN(
        20,
        VGG16(levels=("C4",)),
        neck=False,
        pooling=MultilevelRoIPool(7),
        head=DenseHead((4096, 4096), dropout=0.5),
    )
    assert parameters(model.backbone) == 14_714_688
    # 3x3 to 512 channels, then 9 logits and 36 deltas.
    assert parameters(model.rpn) == (512 * 512 * 9 + 512) + (512 + 1) * 45
    assert parameters(model.head) == (25088 + 1) * 4096 + (4096 + 1) * 4096
    outputs = model.classifier.class_output, model.classifier.box_output
    assert sum(map(parameters, outputs)) == 4097 * (21 + 80)


def test_resnet_c4_and_its_head_are_a_whole_resnet(monkeypatch):
    cheap_weights(monkeypatch)
    model = FasterRCNN(
        80,
        ResNet50(levels=("C4",)),
        neck=False,
        pooling=MultilevelRoIAlign(14),
        head=ResNetHead(),
    )
    # torchvision's resnet50 without its fc: 25,557,032 less 2,049,000.
    assert parameters(model.backbone) + parameters(model.head) == 23_508_032
    assert parameters(model.head) == 14_964_736  # torchvision's layer4
    assert model.head.compute_output_shape((None, None, 14, 14, 1024)) == (None, None, 2048)
    assert model.rpn.anchors.strides == (16,)


# Of a pyramid of 256 channels: lateral 1x1 convolutions from the backbone's widths, four 3x3.
@pytest.mark.parametrize(
    ("backbone", "widths"),
    [
        (ResNet50, (256, 512, 1024, 2048)),
        (ResNeXt50, (256, 512, 1024, 2048)),
        (MobileNetV2, (24, 32, 96, 320)),
        (MobileNetV3Large, (24, 40, 112, 960)),
    ],
)
def test_pyramids_of_every_backbone(backbone, widths, monkeypatch):
    cheap_weights(monkeypatch)
    model = FasterRCNN(2, backbone(), head=DenseHead((8,)))
    assert tuple(model.backbone.channels.values()) == widths
    expected = sum(width * 256 + 256 for width in widths) + 4 * (256 * 256 * 9 + 256)
    assert parameters(model.neck) == expected
    outputs = model.compute_output_spec(keras.KerasTensor((1, 64, 96, 3), "uint8"))
    assert [maps.shape for maps in outputs["maps"].values()] == [
        (1, 64 // 2**n, -(-96 // 2**n), 256) for n in (2, 3, 4, 5, 6)
    ]


@pytest.mark.parametrize("kind", [MaskRCNN, KeypointRCNN])
def test_descendants_pool_from_one_map_by_default(kind):
    rpn = RegionProposalNetwork(AnchorGenerator([[16]], [1.0], strides=[16]), 4, 1, (9, 9), (9, 9))
    branch = {MaskRCNN: MaskBranch, KeypointRCNN: KeypointBranch}[kind]
    branches = (branch(head=MaskHead((4,), upsampled=None)),)
    parts = {"neck": False, "rpn": rpn, "head": DenseHead((4,)), "branches": branches}
    settings = {"max_detections": 5, "score_threshold": 0.0}
    model = kind(1, backbone=TinyBackbone(levels=("C4",)), **parts, **settings)
    outputs = model.predict(batch(1)[0], verbose=0)
    size = {"masks": (14, 14), "keypoints": (17, 3)}
    (name,) = model.EXTRAS
    assert outputs[name].shape == (1, 5, *size[name])


def test_a_stage_learns_alone(model):
    inputs, truth = batch(2)
    model.compile(keras.optimizers.SGD(0.0))
    try:
        for stage, terms in {
            "proposals": {"objectness_loss", "proposal_loss"},
            "regions": {"classification_loss", "box_loss"},
        }.items():
            model.learns = [stage]
            result = model.evaluate(inputs, truth, return_dict=True, verbose=0)
            assert set(result) == {"loss", *terms}
            assert result["loss"] == pytest.approx(sum(result[name] for name in terms), rel=1e-5)
        with pytest.raises(ValueError, match=r"not \['boxes'\]"):
            model.learns = ["boxes"]
    finally:
        model.learns = ["regions", "proposals"]
    assert model.learns == ("proposals", "regions")
    assert len(model.evaluate(inputs, truth, return_dict=True, verbose=0)) == 5


def test_another_models_proposals_take_the_place_of_its_own(model):
    keras.utils.set_random_seed(3)
    other = faster_rcnn()
    inputs, _ = batch(1)
    own = np.asarray(model(inputs)["proposals"])
    model.proposer = other.proposals
    try:
        np.testing.assert_array_equal(model(inputs)["proposals"], other(inputs)["proposals"])
        assert not np.array_equal(own, other(inputs)["proposals"])
        expected, _ = other.proposals(inputs, training=True)
        assert expected.shape == (1, 100, 4)
        np.testing.assert_array_equal(model(inputs, training=True)["proposals"], expected)
    finally:
        model.proposer = None
    assert not np.array_equal(model(inputs)["proposals"], other(inputs)["proposals"])


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


def still_losses(model, count, inputs, truth):
    """Losses of steps that leave the weights as they are: they differ by their samples."""
    history = model.fit(inputs, truth, epochs=count, verbose=0).history
    return history["loss"]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_each_step_samples_anew_and_evaluation_never_counts(jit_compile):
    keras.utils.set_random_seed(0)
    model = faster_rcnn()
    inputs, truth = batch(2)
    model.compile(keras.optimizers.SGD(0.0), jit_compile=jit_compile)
    assert len(set(still_losses(model, 3, inputs, truth))) == 3
    evaluated = [model.evaluate(inputs, truth, verbose=0) for _ in range(2)]
    assert evaluated[0] == evaluated[1]
    assert int(model.steps.state[1]) == 3


def test_replicas_count_a_step_once():
    # Two strategies of one process would mistake each other's collectives.
    reduction = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = faster_rcnn()
        model.compile(keras.optimizers.SGD(0.0))
    data = tf.data.Dataset.from_tensor_slices(batch(2)).batch(2)
    losses = model.fit(data, epochs=3, verbose=0).history["loss"]
    assert len(set(losses)) == 3
    assert [
        int(state[1]) for state in strategy.experimental_local_results(model.steps.state.value)
    ] == [3, 3]


def test_a_loaded_training_samples_on_and_weights_alone_hold_no_steps(tmp_path):
    keras.utils.set_random_seed(0)
    model = faster_rcnn()
    inputs, truth = batch(2)
    model.compile(keras.optimizers.SGD(0.0))
    first = still_losses(model, 2, inputs, truth)
    model.save(tmp_path / "training.keras")
    loaded = keras.saving.load_model(tmp_path / "training.keras")
    expected = still_losses(model, 2, inputs, truth)
    assert still_losses(loaded, 2, inputs, truth) == expected
    assert not set(expected) & set(first)

    fresh = faster_rcnn()
    fresh.save_weights(tmp_path / "alone.weights.h5")
    loaded.load_weights(tmp_path / "alone.weights.h5")
    assert int(loaded.steps.state[1]) == 4
    assert not any("seed" in weight.path for weight in model.weights)
