"""Cascade R-CNN against its paper: what each stage sees and learns, and the cascade at test."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.layers import DenseHead, MaskHead
from kerasdet.models import CascadeRCNN, CascadeRFCN, MaskBranch
from kerasdet.models import cascade_rcnn as paper
from kerasdet.models.detector import prepare
from kerasdet.models.fast_rcnn import (
    RandomRegions,
    best_deltas,
    decode_regions,
    refine_regions,
)
from tests.contract.detectors import (
    batch,
    cascade_rcnn,
    cascade_rfcn,
    fast_rcnn,
    faster_rcnn,
    rfcn,
)
from tests.tiny import TinyBackbone, cheap_weights, parameters

CONSTANTS = {
    "IOUS": (0.5, 0.6, 0.7),  # section 5.1
    "DELTA_WEIGHTS": ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0)),
    "LOSS_WEIGHTS": (1.0, 0.5, 0.25),
    "REGION_TERMS": ("classification_loss", "box_loss"),
}
SIZES = np.float32([[64, 64]])
# A region of 20 x 10 pixels, moved to the right by a tenth of its width in every stage.
REGION, MOVED = [10, 10, 30, 20], [[10, 10, 30, 20], [12, 10, 32, 20], [14, 10, 34, 20]]


class Recorder(RandomRegions):
    """Samples as usual, and keeps what it was given."""

    def sample(self, targets, outputs, count, keys, losses, foreground_iou):
        self.calls.append((foreground_iou, outputs["proposals"], outputs["is_proposal"]))
        return super().sample(targets, outputs, count, keys, losses, foreground_iou)


def moving(make=cascade_rcnn, **settings):
    """A detector whose stages move every region by a tenth of its width, and whose logits are zero."""
    keras.utils.set_random_seed(0)
    model = make(score_threshold=0.0, **settings)
    for classifier, weights in zip(model.classifiers, model.delta_weights):
        for layer in (classifier.class_output, classifier.box_output):
            layer.set_weights([np.zeros(weight.shape) for weight in layer.weights])
        bias = np.zeros(classifier.box_output.bias.shape)
        bias[: len(bias) // 4] = 0.1 * weights[0]
        classifier.box_output.bias.assign(bias)
    return model


def given(boxes):
    inputs, _ = batch(1)
    return {**inputs, "proposals": np.float32([boxes])}


def targets(boxes, labels):
    return prepare({"boxes": np.float32([boxes]), "labels": np.int32([labels])})


@pytest.fixture(scope="module")
def model():
    return moving(regions=8)


def test_constants_are_the_papers(monkeypatch):
    assert {name: getattr(paper, name) for name in CONSTANTS} == CONSTANTS
    cheap_weights(monkeypatch)
    model = CascadeRCNN(80, TinyBackbone())
    assert (model.ious, model.delta_weights, model.loss_weights) == tuple(CONSTANTS.values())[:3]
    first, *later = model.classifiers
    assert len(later) == 2
    # Two dense layers of 1024 on 7 x 7 x 256, then 81 classes and one box.
    count = (49 * 256 + 1) * 1024 + (1024 + 1) * 1024 + (1024 + 1) * (81 + 4)
    assert [parameters(part) for part in (first, *later)] == [count] * 3
    assert (
        *("objectness_loss", "proposal_loss", "classification_loss", "box_loss"),
        *("classification_loss_2", "box_loss_2", "classification_loss_3", "box_loss_3"),
    ) == model.LOSS_TERMS


@pytest.mark.parametrize("make", [cascade_rcnn, cascade_rfcn], ids=["rcnn", "rfcn"])
def test_every_stage_moves_the_boxes_of_the_one_before(make):
    model = moving(make)
    for classifier, bias in zip(model.classifiers, (0.0, 3.0, 6.0)):
        classes = np.zeros(classifier.class_output.bias.shape)
        classes[len(classes) // 4 * 3 :] = bias  # of the last class
        classifier.class_output.bias.assign(classes)
    outputs = model(given([REGION]))
    np.testing.assert_allclose(outputs["proposals"][0], MOVED[2:], rtol=1e-5)
    # The mean of the stages' logits.
    np.testing.assert_allclose(outputs["class_logits"], [[[0, 0, 0, 3]]], rtol=1e-5)
    boxes, labels, _ = model.refined(outputs)
    assert np.asarray(labels)[0].tolist() == [0, 1, 2]
    np.testing.assert_allclose(boxes[0], [[16, 10, 36, 20]] * 3, rtol=1e-5)
    found = model.decode(outputs)
    assert int(found["labels"][0, 0]) == 2
    expected = np.exp(3) / (3 + np.exp(3))
    np.testing.assert_allclose(found["confidence"][0, 0], expected, rtol=1e-5)


def test_every_stage_of_whole_pixels_ends_its_boxes_one_pixel_further():
    # 20 x 10 pixels are moved by 2 and become 21 x 11; these are moved by 2.1, and so on.
    model = moving(whole_pixels=True)
    outputs = model(given([REGION]))
    np.testing.assert_allclose(outputs["proposals"][0], [[14.1, 10, 36.1, 22]], rtol=1e-5)
    boxes, _, _ = model.refined(outputs)
    np.testing.assert_allclose(boxes[0], [[16.3, 10, 39.3, 23]] * 3, rtol=1e-5)


def test_boxes_between_stages_are_clipped_and_have_no_gradient():
    deltas = tf.constant([[[[5.0, 0, 0, 0]]]])
    with tf.GradientTape() as tape:
        tape.watch(deltas)
        boxes = refine_regions(np.float32([[[40, 10, 60, 20]]]), deltas, SIZES)
    np.testing.assert_allclose(boxes, [[[50, 10, 64, 20]]], rtol=1e-5)
    assert tape.gradient(boxes, deltas) is None


def test_stages_learn_by_rising_ious_on_each_others_boxes(model):
    model.sampler.__class__, model.sampler.calls = Recorder, []
    try:
        raw = model(given([REGION, [40, 40, 60, 60]]), training=True)
        model.region_terms(raw, targets([[50, 2, 60, 8]], [1]), in_order, False)
        calls = model.sampler.calls
    finally:
        model.sampler.__class__ = RandomRegions
    assert [call[0] for call in calls] == [0.5, 0.6, 0.7]
    # The object itself is sampled first, and does not go on: it is added to each stage anyway.
    for stage, (_, proposals, is_proposal) in enumerate(calls[1:], start=1):
        boxes = np.asarray(proposals)[np.asarray(is_proposal)]
        assert len(boxes) == 2
        np.testing.assert_allclose(boxes[0], MOVED[stage], rtol=1e-5)


def test_samplers_see_the_losses_of_their_stage(monkeypatch, model):
    seen, original = [], paper.losses_of

    def recorded(classify, targets, each):
        seen.append(each.keywords["delta_weights"])
        return original(classify, targets, each)

    monkeypatch.setattr(paper, "losses_of", recorded)
    raw = model(given([REGION]), training=True)
    model.region_terms(raw, targets([[50, 2, 60, 8]], [1]), in_order, False)
    assert tuple(seen) == model.delta_weights


def in_order(count):
    """The first rows are drawn first."""
    return np.linspace(0.9, 0.1, count, dtype=np.float32)[None]


def test_what_goes_on_to_the_next_stage(model):
    truth = targets([[10, 10, 30, 20], [40, 40, 50, 50]], [0, 1])
    regions = np.float32(
        [[[10, 10, 30, 20], [12, 10, 30, 20], [40, 40, 50, 50], [0, 0, 0, 0], [60, 5, 64, 9]]]
    )
    # The first is its own object; the third lies on an object but is background; the fourth is padding.
    sampled = regions, np.array([[0, 0, -1, -1, -1]]), np.array([[True, True, True, False, True]])
    deltas = np.zeros((1, 5, 1, 4), "float32")
    deltas[0, 4, 0, 0] = 50  # five widths to the right: nothing is left within the image
    outputs = {"image_sizes": SIZES, "maps": "kept"}
    found = model.next_regions(outputs, truth, sampled, {"box_deltas": deltas}, (10, 10, 5, 5))
    assert found["maps"] == "kept"
    assert np.asarray(found["is_proposal"])[0].tolist() == [False, True, True, False, False]
    np.testing.assert_allclose(found["proposals"][0, :3], regions[0, :3], rtol=1e-5)


def test_background_beside_the_first_object_goes_on():
    # Background has no object: row 0, which its mark picks, must not be taken for one.
    truth = targets([[10, 10, 30, 20]], [0])
    regions = np.float32([[[10, 10, 30, 20]]])
    sampled = regions, np.array([[-1]]), np.array([[True]])
    deltas = {"box_deltas": np.zeros((1, 1, 1, 4), "float32")}
    outputs = {"image_sizes": SIZES}
    found = cascade_rcnn().next_regions(outputs, truth, sampled, deltas, (10, 10, 5, 5))
    assert np.asarray(found["is_proposal"]).tolist() == [[True]]


def test_padding_does_not_go_on():
    truth = targets([[10, 10, 30, 20]], [0])
    sampled = np.float32([[REGION]]), np.array([[-1]]), np.array([[False]])
    deltas = {"box_deltas": np.zeros((1, 1, 1, 4), "float32")}
    outputs = {"image_sizes": SIZES}
    found = cascade_rcnn().next_regions(outputs, truth, sampled, deltas, (10, 10, 5, 5))
    assert np.asarray(found["is_proposal"]).tolist() == [[False]]


def test_stages_do_not_share_their_spread():
    # Nothing moves: the region is a tenth of its width off, which is 1, 2 and 3 in the stages' units.
    model = moving()
    for classifier in model.classifiers:
        classifier.box_output.bias.assign(np.zeros(4))
    raw = model(given([REGION]), training=True)
    terms = model.loss_terms(raw, targets([MOVED[1]], [1]))
    losses = [float(terms[name][0]) for name in ("box_loss", "box_loss_2", "box_loss_3")]
    np.testing.assert_allclose(losses, [0.5, 0.5 * 1.5, 0.25 * 2.5], rtol=1e-4)


def test_later_stages_count_less(model):
    raw = model(given([REGION, [40, 40, 60, 60]]), training=True)
    terms = model.loss_terms(raw, targets([[12, 10, 32, 20]], [1]))
    # Zero logits: log 4 for each region, two proposals and the object. IoU 0.82 with the object. From the
    # second stage on the first proposal is the object's own box, and does not go on.
    for name, weight, wanted in (("", 1.0, 3), ("_2", 0.5, 3), ("_3", 0.25, 2)):
        loss, count = terms[f"classification_loss{name}"]
        assert float(count) == wanted
        assert float(loss) == pytest.approx(wanted * weight * np.log(4), rel=1e-5)
    # The first region should move by a tenth and does, the object should not: smooth L1 of 1 is a half.
    assert float(terms["box_loss"][0]) == pytest.approx(0.5, rel=1e-4)
    # Then the region is the object's box, both should stay, and both move by 2 in their unit: 1.5 each.
    assert float(terms["box_loss_2"][0]) == pytest.approx(0.5 * (1.5 + 1.5), rel=1e-3)


def test_copies_of_a_trained_head_are_trained():
    head = DenseHead((8,), name="head")
    head.build((None, None, 7, 7, 16))
    head.set_weights([np.full(weight.shape, 3.0) for weight in head.weights])
    model = cascade_rcnn(head=head)
    for classifier in model.classifiers:
        np.testing.assert_array_equal(classifier.head.dense_layers[0].kernel, 3.0)
    fresh = cascade_rcnn()
    first, second, _ = (np.asarray(c.head.dense_layers[0].kernel) for c in fresh.classifiers)
    assert not np.allclose(first, second)


def test_masks_are_the_mean_of_all_stages():
    values = [np.log(p / (1 - p)) for p in (0.2, 0.6)]
    mean = MaskBranch().mean([np.float32([value]) for value in values])
    np.testing.assert_allclose(mean, [np.log(0.4 / 0.6)], rtol=1e-4)
    assert np.isfinite(MaskBranch().mean([np.float32([99.0])] * 2)).all()
    model = moving(branches=(MaskBranch(head=MaskHead((4,), 4)),))
    assert [name for name in model.LOSS_TERMS if "mask" in name] == [
        *("mask_loss", "mask_loss_2", "mask_loss_3"),
    ]
    for stage, branches in enumerate([model.branches, *model.later_branches]):
        output = branches[0].output_conv
        output.kernel.assign(np.zeros(output.kernel.shape))
        output.bias.assign(np.full(3, values[0] if stage else values[1]))
    found = model.predict(given([REGION]), verbose=0)
    np.testing.assert_allclose(found["masks"][0, 0], (0.2 + 0.2 + 0.6) / 3, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"ious": (0.5, 0.6)},
            "ious, delta_weights and loss_weights have 2, 3, 3 entries; give each",
        ),
        ({"ious": (), "delta_weights": (), "loss_weights": ()}, "have 0, 0, 0 entries"),
        ({"ious": (0.5, 0.6, 1.7)}, r"ious are \(0.5, 0.6, 1.7\); give numbers between 0 and 1"),
        ({"delta_weights": ((1, 2, 3),) * 3}, "give four positive numbers for each stage"),
        ({"loss_weights": (1, 1, -1)}, "loss_weights are .* give numbers of 0 or more"),
    ],
    ids=str,
)
def test_arguments_are_checked(settings, message):
    for make in (cascade_rcnn, cascade_rfcn):
        with pytest.raises(ValueError, match=message):
            make(**settings)


def test_two_stages_or_four():
    for count in (1, 2, 4):
        stages = {
            "ious": (0.5,) * count,
            "delta_weights": (paper.DELTA_WEIGHTS[0],) * count,
            "loss_weights": (1.0,) * count,
        }
        model = cascade_rcnn(**stages)
        assert len(model.classifiers) == count
        assert model(given([REGION]))["class_logits"].shape == (1, 1, 4)


def test_rfcn_has_score_maps_for_every_stage():
    model = cascade_rfcn()
    assert type(model) is CascadeRFCN
    kernels = [classifier.class_output.kernel for classifier in model.classifiers]
    assert [kernel.shape for kernel in kernels] == [(1, 1, 16, 4 * 4)] * 3
    assert model.classifiers[1].head is not model.classifiers[0].head


# -- section 3.1, iterative bounding box regression, on any two-stage detector --------------------


def with_class_boxes(make, **settings):
    """A detector whose last class is the best object, and moves every region by half its width.

    The other classes move it down by half its height. Background is likelier than all classes.
    """
    keras.utils.set_random_seed(0)
    model = make(score_threshold=0.0, **settings)
    classifier = model.classifier
    classifier.box_output.kernel.assign(np.zeros(classifier.box_output.kernel.shape))
    classifier.box_output.bias.assign([0, 5, 0, 0, 0, 5, 0, 0, 5, 0, 0, 0])
    classifier.class_output.bias.assign([9, 0, 0, 4])
    return model


@pytest.mark.parametrize("make", [fast_rcnn, faster_rcnn], ids=["fast", "faster"])
def test_the_same_head_refines_boxes_several_times(make):
    model = with_class_boxes(make, refinements=3)
    outputs = model(given([REGION]))
    # Twice by the best class's deltas, and a third time by each class's own.
    there = [[30, 10, 50, 20]]
    np.testing.assert_allclose(outputs["proposals"][0], there, rtol=1e-5)
    boxes, _, _ = decode_regions(outputs)
    expected = [[30, 15, 50, 25], [30, 15, 50, 25], [40, 10, 60, 20]]
    np.testing.assert_allclose(boxes[0], expected, rtol=1e-5)
    # The scores are those of the last place, not of the first.
    model.refinements = 1
    last, first = model(given(there)), model(given([REGION]))
    np.testing.assert_allclose(outputs["class_logits"], last["class_logits"], rtol=1e-5)
    assert np.abs(np.asarray(last["class_logits"] - first["class_logits"])).max() > 1e-4
    np.testing.assert_allclose(first["proposals"], [[REGION]])


def test_one_box_of_all_classes_is_refined_several_times():
    model = rfcn(score_threshold=0.0, refinements=3)
    output = model.classifier.box_output
    output.kernel.assign(np.zeros(output.kernel.shape))
    bins = len(np.asarray(output.bias)) // 4
    output.bias.assign(np.repeat([1.0, 0, 0, 0], bins))
    outputs = model(given([REGION]))
    np.testing.assert_allclose(outputs["proposals"][0], MOVED[2:], rtol=1e-5)
    np.testing.assert_allclose(decode_regions(outputs)[0][0], [[16, 10, 36, 20]] * 3, rtol=1e-5)


def test_refined_boxes_stay_in_their_image():
    model = with_class_boxes(faster_rcnn, refinements=3)
    raw = model(given([[40, 10, 60, 20], [62, 10, 64, 20]]), training=True)
    outputs = model.classify(model.region_maps(raw["maps"]), raw)
    # From 50 to 64 instead of 70, then from 57; the other is 2 pixels wide, 1, then a half.
    expected = [[57, 10, 64, 20], [63.5, 10, 64, 20]]
    np.testing.assert_allclose(outputs["proposals"][0], expected, rtol=1e-5)


def test_best_deltas_are_those_of_the_best_class_but_background():
    deltas = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    logits = np.float32([[[9, 1, 3, 2], [9, 5, 1, 1]]])
    found = best_deltas({"class_logits": logits, "box_deltas": deltas})
    np.testing.assert_array_equal(found, [[[[4, 5, 6, 7]], [[12, 13, 14, 15]]]])
    one = best_deltas({"class_logits": logits, "box_deltas": deltas[:, :, :1]})
    np.testing.assert_array_equal(one, deltas[:, :, :1])


def test_without_refinement_the_boxes_are_the_proposals():
    model = with_class_boxes(fast_rcnn)
    refined = model(given([REGION]))
    model.refinements = 0
    outputs = model(given([REGION]))
    np.testing.assert_array_equal(outputs["class_logits"], refined["class_logits"])
    np.testing.assert_allclose(decode_regions(outputs)[0], [[REGION] * 3], rtol=1e-6)


def test_refinements_are_saved_and_can_be_set_on_a_trained_model(tmp_path):
    model = with_class_boxes(faster_rcnn)
    once = model.predict(given([REGION]), verbose=0)
    model.refinements = 2
    twice = model.predict(given([REGION]), verbose=0)  # not by the graph that was traced before
    assert abs(twice["boxes"][0, 0, 0] - once["boxes"][0, 0, 0]) == pytest.approx(10, rel=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = type(model).from_preset(tmp_path / "model.keras")
    assert loaded.refinements == 2
    found = loaded.predict(given([REGION]), verbose=0)
    np.testing.assert_array_equal(found["boxes"], twice["boxes"])
    assert type(model).from_preset(tmp_path / "model.keras", refinements=3).refinements == 3


def test_refinements_are_checked():
    model = faster_rcnn()
    for wrong in (-1, 1.5, 101, "two"):
        with pytest.raises(ValueError, match="refinements must be a whole number of at least 0"):
            model.refinements = wrong
    with pytest.raises(ValueError, match=r"refinements must be 1, because each stage .*, not 3"):
        cascade_rcnn(refinements=3)
