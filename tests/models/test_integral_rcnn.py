"""The integral loss against its paper: what each classifier learns, and the ensemble at test."""

import keras
import numpy as np
import pytest

from kerasdet.layers import DenseHead, MaskHead, MultilevelRoIAlign
from kerasdet.models import HardRegions, IntegralClassifier, IntegralRCNN, MaskBranch
from kerasdet.models import integral_rcnn as paper
from kerasdet.models.detector import prepare
from kerasdet.models.integral_rcnn import ensemble, integral_losses
from tests.contract.detectors import batch, integral_rcnn
from tests.tiny import TinyBackbone, cheap_weights, parameters

OBJECT = [10, 10, 30, 30]  # 20 x 20
# IoU with the object 1, 0.75, 0.6 and 0: cut from below.
REGIONS = np.float32([[[10, 10, 30, 30], [10, 10, 30, 25], [10, 10, 30, 22], [40, 40, 50, 50]]])


def targets(boxes, labels):
    return prepare({"boxes": np.float32([boxes]), "labels": np.int32([labels])})


def given(boxes):
    inputs, _ = batch(1)
    return {**inputs, "proposals": np.float32([boxes])}


def test_constants_are_the_papers(monkeypatch):
    assert paper.IOUS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
    cheap_weights(monkeypatch)
    model = IntegralRCNN(80, TinyBackbone())
    assert model.ious == paper.IOUS
    # Six heads of two dense layers on 7 x 7 x 256 with 81 classes each, and one box.
    head = (49 * 256 + 1) * 1024 + (1024 + 1) * 1024
    assert parameters(model.classifier) == 6 * (head + 1025 * 81) + 1025 * 4
    assert model.LOSS_TERMS[2:] == ("classification_loss", "box_loss")


def test_each_classifier_learns_by_its_own_iou():
    # Three classifiers of two classes, all by one half for each of three columns but the named ones.
    logits = np.zeros((1, 4, 3, 3), "float32")
    logits[0, :, 0, 0] = (
        5.0  # the first is sure of background, the second of class 1, the third undecided
    )
    logits[0, :, 1, 2] = 5.0
    predicted = {"class_logits": logits, "box_deltas": np.zeros((1, 4, 1, 4), "float32")}
    objects, counted = np.array([[0, 0, 0, -1]]), np.array([[True, True, True, True]])
    found = integral_losses(
        predicted, targets([OBJECT], [1]), REGIONS, objects, counted, (0.5, 0.7, 0.8)
    )
    rest = np.log(1 + 2 * np.exp(-5))
    sure, wrong, undecided = rest, rest + 5, np.log(3)
    # The first IoU counts regions 0, 1 and 2 as objects, the second 0 and 1, the third 0.
    first = [wrong, wrong, wrong, sure]
    second = [sure, sure, wrong, wrong]
    expected = np.array(first) + np.array(second) + undecided
    np.testing.assert_allclose(found["classification_loss"][0], expected, rtol=1e-5)
    # The box learns by the first: 5 dy = 5 / 15 * 2.5, 5 log(20 / 15), ... for regions 1 and 2.
    heights = np.array([15.0, 12.0])
    errors = np.array([10 * (20 - heights) / 2 / heights, 5 * np.log(20 / heights)])
    losses = np.where(errors < 1, 0.5 * errors**2, errors - 0.5).sum(axis=0)
    np.testing.assert_allclose(found["box_loss"][0], [0, *losses, 0], rtol=1e-4, atol=1e-6)
    half = integral_losses(
        predicted, targets([OBJECT], [1]), REGIONS, objects, counted, (0.5, 0.7, 0.8), 0.5
    )
    np.testing.assert_allclose(half["box_loss"][0], [0, *losses / 2, 0], rtol=1e-4, atol=1e-6)


def test_padding_has_no_loss():
    predicted = {
        "class_logits": np.zeros((1, 4, 2, 3), "float32"),
        "box_deltas": np.ones((1, 4, 1, 4), "float32"),
    }
    objects, counted = np.array([[0, 0, -1, -1]]), np.array([[True, False, True, False]])
    found = integral_losses(
        predicted, targets([OBJECT], [0]), REGIONS, objects, counted, (0.5, 0.6)
    )
    expected = [2 * np.log(3), 0, 2 * np.log(3), 0]
    np.testing.assert_allclose(found["classification_loss"][0], expected, rtol=1e-5)
    assert np.asarray(found["box_loss"])[0].tolist() == [2.0, 0, 0, 0]  # four times a half


def test_the_ensemble_is_the_mean_probability():
    probabilities = np.float32([[[[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]]])
    shifted = np.log(probabilities) + np.float32([[[[3.0], [-2.0]]]])  # logits have no origin
    found = np.exp(ensemble(shifted))
    np.testing.assert_allclose(found, [[[0.4, 0.2, 0.4]]], rtol=1e-5)


def test_the_model_classifies_by_all_and_refines_by_one():
    keras.utils.set_random_seed(0)
    model = integral_rcnn(score_threshold=0.0)
    classifier = model.classifier
    for output, bias in zip(classifier.class_outputs, ([0, 0, 0, 2.0], [0, 0, 2.0, 0])):
        output.set_weights([np.zeros(output.kernel.shape), np.array(bias)])
    classifier.box_output.set_weights(
        [np.zeros(classifier.box_output.kernel.shape), np.array([1.0, 0, 0, 0])]
    )
    outputs = model(given([OBJECT]))
    low, high = 1 / (3 + np.exp(2)), np.exp(2) / (3 + np.exp(2))
    expected = [low, low, (low + high) / 2, (low + high) / 2]
    np.testing.assert_allclose(np.exp(outputs["class_logits"])[0, 0], expected, rtol=1e-5)
    boxes, _, _ = model.refined(outputs)
    np.testing.assert_allclose(boxes[0], [[12, 10, 32, 30]] * 3, rtol=1e-5)
    model.refinements = 2
    np.testing.assert_allclose(model(given([OBJECT]))["proposals"], [[[12, 10, 32, 30]]], rtol=1e-5)


def test_each_classifier_has_its_head_and_pools_once():
    keras.utils.set_random_seed(0)
    classifier = IntegralClassifier(2, MultilevelRoIAlign(1), DenseHead((1,)), 2)
    classifier.build({"C4": (None, None, None, 1)})
    for head, factor in zip((classifier.head, *classifier.later_heads), (1.0, 10.0)):
        head.set_weights([np.full((1, 1), factor), np.zeros(1)])
    for output in classifier.class_outputs:
        output.set_weights([np.array([[1.0, 2.0, 3.0]]), np.zeros(3)])
    classifier.box_output.set_weights([np.array([[1.0, 2.0, 3.0, 4.0]]), np.zeros(4)])
    maps = {"C4": np.full((1, 2, 2, 1), 2.0, np.float32)}
    predicted = classifier(maps, np.float32([[[0, 0, 16, 16]]]))
    np.testing.assert_allclose(predicted["class_logits"], [[[[2, 4, 6], [20, 40, 60]]]], rtol=1e-5)
    np.testing.assert_allclose(predicted["box_deltas"], [[[[2, 4, 6, 8]]]], rtol=1e-5)


def test_copies_of_a_trained_head_are_trained():
    head = DenseHead((8,), name="head")
    head.build((None, None, 7, 7, 16))
    head.set_weights([np.full(weight.shape, 3.0) for weight in head.weights])
    classifier = integral_rcnn(head=head).classifier
    for part in (classifier.head, *classifier.later_heads):
        np.testing.assert_array_equal(part.dense_layers[0].kernel, 3.0)
    fresh = integral_rcnn().classifier
    first, second = (part.dense_layers[0].kernel for part in (fresh.head, *fresh.later_heads))
    assert not np.allclose(first, second)


def test_hard_regions_and_branches_go_with_it():
    branch = MaskBranch(head=MaskHead((4,), 4))
    model = integral_rcnn(branches=(branch,), sampler=HardRegions(name="hard"))
    inputs, truth = batch(1)
    terms = model.loss_terms(model(inputs, training=True), prepare(truth))
    assert set(terms) == set(model.LOSS_TERMS) > {"mask_loss"}
    assert all(np.isfinite(float(loss)) for loss, _ in terms.values())


def test_config_keeps_every_argument():
    config = integral_rcnn(ious=(0.5, 0.6, 0.7)).get_config()
    copy = IntegralRCNN.from_config(config)
    assert copy.get_config() == config
    assert copy.ious == (0.5, 0.6, 0.7)
    assert len(copy.classifier.class_outputs) == copy.classifier.classifiers == 3
    part = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(copy.classifier)
    )
    assert part.get_config() == copy.classifier.get_config()


@pytest.mark.parametrize("ious", [(), (0.4, 0.6), (0.7, 0.6), (0.5, 0.5), (0.5, 1.0)], ids=str)
def test_ious_are_checked(ious):
    with pytest.raises(ValueError, match=r"ious are .*; give rising numbers from 0\.5"):
        integral_rcnn(ious=ious)
