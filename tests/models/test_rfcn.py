"""R-FCN against its paper: score maps, the vote, one box for all classes, which maps propose and classify."""

import keras
import numpy as np
import pytest

from kerasdet.backbones import ResNet101
from kerasdet.layers import FeaturePyramid, MultilevelPSRoIAlign, PSCropAndResize, PSRoIPool
from kerasdet.models import RFCN, CascadeRFCN, PositionSensitiveClassifier
from kerasdet.models import rfcn as paper
from kerasdet.models.detector import prepare
from kerasdet.models.fast_rcnn import decode_regions, region_losses
from kerasdet.models.rfcn import map_head
from kerasdet.ops import ps_crop_and_resize
from tests.contract.detectors import batch, rfcn
from tests.tiny import TinyBackbone, cheap_weights, parameters

CONSTANTS = {
    "BINS": 7,  # section 2
    "CHANNELS": 1024,
    "REGIONS_PER_IMAGE": 128,
    "LEVELS": ("C4", "C4_conv5"),
    "IOU_THRESHOLD": 0.3,
    "OUTPUT_STD": 0.01,
}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return rfcn(score_threshold=0.0)


def test_constants_are_the_papers(monkeypatch):
    assert {name: getattr(paper, name) for name in CONSTANTS} == CONSTANTS
    cheap_weights(monkeypatch)
    model = RFCN(20)
    assert model.backbone.blocks == ResNet101(levels=("C2",)).blocks
    assert model.backbone.strides == {"C4": 16, "C4_conv5": 16}
    assert type(model.pooling) is PSRoIPool
    assert (model.pooling.output_size, model.pooling.spatial_scale) == (7, 1 / 16)
    assert (model.regions_per_image, model.iou_threshold) == (128, 0.3)
    # Section 2: 1x1 to 1024 channels, then k^2 (C + 1) and 4 k^2 maps; no weight after the pooling.
    assert parameters(model.head) == (2048 + 1) * 1024
    outputs = model.classifier.class_output, model.classifier.box_output
    assert [conv.kernel.shape for conv in outputs] == [(1, 1, 1024, 49 * 21), (1, 1, 1024, 49 * 4)]
    assert parameters(model.classifier) == sum(map(parameters, (model.head, *outputs)))
    # The proposal network stands on conv4.
    assert list(model.proposal_maps_shape()) == ["C4"]
    assert list(model.region_maps_shape()) == ["C4_conv5"]
    assert model.rpn.convs[0].kernel.shape == (3, 3, 1024, 512)
    assert (model.rpn.anchors.sizes, model.rpn.anchors.strides) == (((128, 256, 512),), (16,))


def test_last_layers_begin_by_a_hundredth():
    keras.utils.set_random_seed(0)
    classifier = PositionSensitiveClassifier(3, PSRoIPool(3, 1.0), map_head(64))
    classifier.build({"C4": (None, None, None, 4)})
    for conv in (classifier.class_output, classifier.box_output):
        assert np.std(conv.kernel) == pytest.approx(0.01, rel=0.1)
        assert not np.any(conv.bias)


def test_the_vote_by_hand():
    # Four by four cells of 16 pixels, whose quadrants are 1, 2, 3 and 4; the head doubles them.
    classifier = PositionSensitiveClassifier(1, PSRoIPool(2, 1 / 16), map_head(1))
    classifier.build({"C4": (None, None, None, 1)})
    classifier.head.set_weights([np.full((1, 1, 1, 1), 2.0), np.zeros(1)])
    # Background reads the first bin alone; the class reads bin b times b, and half a point in every bin.
    weights = np.array([1, 0, 0, 0, 0, 1, 2, 3], "float32")
    classifier.class_output.set_weights(
        [weights.reshape(1, 1, 1, 8), np.repeat([0, 0.5], 4).astype("float32")]
    )
    classifier.box_output.set_weights(
        [np.repeat(np.arange(4.0), 4).reshape(1, 1, 1, 16), np.zeros(16)]
    )
    quadrants = np.kron([[1, 2], [3, 4]], np.ones((2, 2))).astype("float32")
    boxes = np.array([[[0, 0, 64, 64], [0, 0, 32, 32]]], "float32")
    predicted = classifier({"C4": quadrants[None, ..., None]}, boxes)
    # Of the whole map: 2 / 4, and (0.5 + 4.5 + 12.5 + 24.5) / 4. Of the first quadrant every bin sees 2.
    np.testing.assert_allclose(predicted["class_logits"], [[[0.5, 10.5], [0.5, 3.5]]], rtol=1e-5)
    # Delta c is c times the mean, 5 or 2.
    expected = [[[[0, 5, 10, 15]], [[0, 2, 4, 6]]]]
    np.testing.assert_allclose(predicted["box_deltas"], expected, rtol=1e-5)


def test_every_class_may_have_its_own_box():
    # Two classes, one bin: the maps of class k are 4 k to 4 k + 3 times the features.
    pooling = PSRoIPool(1, 1 / 16)
    classifier = PositionSensitiveClassifier(2, pooling, map_head(1), box_of_each_class=True)
    classifier.build({"C4": (None, None, None, 1)})
    classifier.head.set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    classifier.box_output.set_weights([np.arange(8.0).reshape(1, 1, 1, 8), np.zeros(8)])
    boxes = np.array([[[0, 0, 16, 16]]], "float32")
    predicted = classifier({"C4": np.full((1, 1, 1, 1), 2, "float32")}, boxes)
    np.testing.assert_allclose(predicted["box_deltas"], [[[[0, 2, 4, 6], [8, 10, 12, 14]]]])


def test_boxes_of_each_class_on_crops():
    keras.utils.set_random_seed(0)
    parts = {"pooling": PSCropAndResize(2, 3, dtype="float32"), "head": map_head(8)}
    backbone = TinyBackbone(levels=("C4",))
    model = RFCN(3, backbone, box_of_each_class=True, score_threshold=0.0, **parts)
    inputs, truth = batch(1)
    outputs = model(inputs)
    assert outputs["box_deltas"].shape == (1, 300, 3, 4)
    classifier, maps = model.classifier, outputs["maps"]
    scores = classifier.class_output(classifier.head(maps["C4"]))
    votes = ps_crop_and_resize(scores, outputs["proposals"], np.float32([[64, 64]]), 2, 3)
    expected = np.mean(votes, axis=(2, 3))
    np.testing.assert_allclose(outputs["class_logits"], expected, rtol=1e-5, atol=1e-6)
    terms = model.loss_terms(model(inputs, training=True), prepare(truth), training=True)
    assert all(np.isfinite(float(value)) for value, _ in terms.values())
    again = RFCN.from_config(model.get_config())
    assert again.box_of_each_class is again.classifier.box_of_each_class is True


def test_a_cascade_hands_on_one_box():
    with pytest.raises(ValueError, match="the stages of a cascade hand on one box"):
        CascadeRFCN(2, TinyBackbone(levels=("C4",)), head=map_head(8), box_of_each_class=True)


def test_a_map_head_is_cut_off_below_zero():
    head = map_head(1)
    head.build((None, None, None, 1))
    head.set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    x = np.float32([2, -3]).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(np.ravel(head(x)), [2, 0])


def test_every_class_has_the_one_box():
    outputs = {
        "class_logits": np.zeros((1, 2, 4), "float32"),
        "box_deltas": np.float32([[[[1, 0, 0, 0]], [[0, 0, 0, 0]]]]),
        "proposals": np.float32([[[10, 10, 30, 30], [40, 40, 60, 60]]]),
        "is_proposal": np.array([[True, True]]),
        "image_sizes": np.float32([[100, 100]]),
    }
    boxes, labels, scores = decode_regions(outputs)
    assert np.asarray(labels)[0].tolist() == [0, 1, 2, 0, 1, 2]
    np.testing.assert_allclose(scores, np.full((1, 6), 0.25))
    # A tenth of the width to the right.
    np.testing.assert_allclose(boxes[0, :3], [[12, 10, 32, 30]] * 3, rtol=1e-5)
    np.testing.assert_allclose(boxes[0, 3:], [[40, 40, 60, 60]] * 3, rtol=1e-5)


def test_the_one_box_learns_every_class_but_not_background():
    # Classes 0 and 2 on their objects, and background; 10 t_x = 1: smooth L1 is 0.5.
    truth = prepare(
        {"boxes": np.float32([[[1, 0, 11, 10], [31, 30, 41, 40]]]), "labels": np.int32([[0, 2]])}
    )
    regions = np.float32([[[0, 0, 10, 10], [30, 30, 40, 40], [60, 60, 70, 70]]])
    predicted = {
        "class_logits": np.zeros((1, 3, 4), "float32"),
        "box_deltas": np.zeros((1, 3, 1, 4), "float32"),
    }
    predicted["box_deltas"][0, 2] = 9  # of background: without effect
    sampled = regions, np.array([[0, 1, -1]]), np.ones((1, 3), bool)
    loss, count = region_losses(predicted, truth, *sampled)["box_loss"]
    assert (float(loss), float(count)) == pytest.approx((1.0, 3), rel=1e-4)


def test_the_first_map_proposes_and_the_last_classifies():
    keras.utils.set_random_seed(0)
    model = RFCN(2, TinyBackbone(levels=("C3", "C4")), head=map_head(8))
    assert model.rpn.anchors.strides == (8,)
    assert model.pooling.spatial_scale == 1 / 16
    inputs, _ = batch(1)
    outputs = model(inputs)
    assert [(level, x.shape[1:3]) for level, x in outputs["maps"].items()] == [
        ("C3", (8, 8)),
        ("C4", (4, 4)),
    ]
    assert list(outputs["objectness"]) == list(outputs["anchors"]) == ["C3"]
    before = np.asarray(outputs["proposals"]), np.asarray(outputs["class_logits"])
    stage4 = model.backbone.get_layer("stage4")
    stage4.kernel.assign(2 * stage4.kernel)
    outputs = model(inputs)
    np.testing.assert_array_equal(outputs["proposals"], before[0])
    assert not np.allclose(outputs["class_logits"], before[1])


def test_small_detectors_vote_on_a_pyramid(model):
    assert type(model.pooling) is MultilevelPSRoIAlign
    assert list(model.proposal_maps_shape()) == ["P2", "P3", "P4", "P5", "P6"]
    assert list(model.region_maps_shape()) == ["P2", "P3", "P4", "P5"]
    outputs = model(batch(1)[0])
    assert outputs["class_logits"].shape == (1, 30, 4)
    assert outputs["box_deltas"].shape == (1, 30, 1, 4)


def test_options_reach_the_parts():
    model = rfcn(channels=24, bins=3, regions=7)
    assert (model.head.filters, model.neck.channels, model.rpn.channels) == (24, 24, 24)
    assert model.classifier.class_output.filters == 9 * 4
    assert model.regions_per_image == 7
    assert type(model.neck) is FeaturePyramid


def test_score_maps_are_float32_under_every_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for model in (rfcn(), RFCN(3, TinyBackbone(levels=("C4", "C5")), head=map_head(8))):
            outputs = model(batch(1)[0])
            assert model.pooling.compute_dtype == "float32"
            assert model.classifier.class_output.compute_dtype == "float32"
            assert outputs["class_logits"].dtype == outputs["box_deltas"].dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)
