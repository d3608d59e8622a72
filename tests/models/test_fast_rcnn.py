"""Fast R-CNN against its paper: constants, sampling of regions, multi-task loss, decoding, proposals."""

import keras
import numpy as np
import pytest

from kerasdet.backbones import VGG16
from kerasdet.layers import DenseHead, MultilevelRoIPool
from kerasdet.models import FastRCNN, RegionWise
from kerasdet.models import fast_rcnn as paper
from kerasdet.models.detector import prepare
from kerasdet.models.fast_rcnn import (
    RegionClassifier,
    decode_regions,
    losses_of_regions,
    region_losses,
    sample_regions,
)
from kerasdet.ops.boxes import clip_pixels
from kerasdet.ops.sampling import random_keys
from tests.contract.detectors import SIZE, batch, cascade_rcnn, fast_rcnn
from tests.tiny import TinyBackbone, cheap_weights, parameters

CONSTANTS = {
    "FOREGROUND_IOU": 0.5,  # section 2.3: at least 0.5
    "BACKGROUND_IOU": 0.1,  # [0.1, 0.5)
    "POSITIVES": 0.25,
    "REGIONS_PER_IMAGE": 64,  # 128 of two images
    "DELTA_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
    "CLASS_STD": 0.01,
    "BOX_STD": 0.001,
    "SMALLEST_DETECTION": 0.01,
}


def targets(boxes, labels, ignore=None):
    rows = {"boxes": np.array([boxes], np.float32), "labels": np.array([labels], np.int32)}
    return prepare(rows if ignore is None else {**rows, "ignore": np.array([ignore])})


def proposed(boxes, missing=()):
    """Outputs with proposals, of which some rows are none."""
    is_proposal = np.ones((1, len(boxes)), bool)
    is_proposal[0, list(missing)] = False
    return {"proposals": np.array([boxes], np.float32), "is_proposal": is_proposal}


def falling(count):
    """An order for the sampling: the first rows are drawn first."""
    return np.linspace(0.9, 0.1, count, dtype=np.float32)[None]


def rising(count):
    return falling(count)[:, ::-1]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return fast_rcnn(score_threshold=0.0)


def test_constants_are_the_papers(monkeypatch):
    assert {name: getattr(paper, name) for name in CONSTANTS} == CONSTANTS
    cheap_weights(monkeypatch)
    model = FastRCNN(20)
    assert type(model.backbone) is VGG16
    assert model.backbone.levels == ("C4",)
    assert type(model.pooling) is MultilevelRoIPool
    assert model.pooling.output_size == 7
    assert (model.head.units, model.head.dropout) == ((4096, 4096), 0.5)
    assert model.regions_per_image == 64
    assert parameters(model.backbone) == 14_714_688
    assert parameters(model.head) == (25088 + 1) * 4096 + (4096 + 1) * 4096
    assert parameters(model.classifier) - parameters(model.head) == 4097 * (21 + 80)


def test_last_layers_begin_by_the_papers_spreads():
    keras.utils.set_random_seed(0)
    classifier = RegionClassifier(20, MultilevelRoIPool(1), DenseHead((512,)))
    classifier.build({"C4": (None, None, None, 4)})
    assert np.std(classifier.class_output.kernel) == pytest.approx(0.01, rel=0.05)
    assert np.std(classifier.box_output.kernel) == pytest.approx(0.001, rel=0.05)
    assert not np.any(classifier.class_output.bias)
    assert not np.any(classifier.box_output.bias)


def test_classifier_by_hand():
    # Two by two cells of 16 pixels; each region is pooled to its one highest value, the head keeps it.
    classifier = RegionClassifier(2, MultilevelRoIPool(1), DenseHead((1,)))
    classifier.build({"C4": (None, None, None, 1)})
    classifier.head.set_weights([np.ones((1, 1)), np.zeros(1)])
    classifier.class_output.set_weights([np.array([[1.0, 2.0, 3.0]]), np.array([0.0, 0.5, 0.0])])
    classifier.box_output.set_weights([np.arange(8.0)[None], np.zeros(8)])
    maps = {"C4": np.array([[1, 2], [3, 4]], np.float32)[None, ..., None]}
    boxes = np.array([[[0, 0, 7, 7], [0, 0, 31, 31]]], np.float32)
    predicted = classifier(maps, boxes)
    np.testing.assert_allclose(predicted["class_logits"], [[[1, 2.5, 3], [4, 8.5, 12]]])
    deltas = [[[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 4, 8, 12], [16, 20, 24, 28]]]
    np.testing.assert_allclose(predicted["box_deltas"], [deltas])


def test_classifier_keeps_its_config():
    classifier = RegionClassifier(2, MultilevelRoIPool(3), DenseHead((5,)), name="mine")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(classifier))
    assert copy.get_config() == classifier.get_config()
    assert (copy.num_classes, copy.pooling.output_size, copy.head.units) == (2, 3, (5,))


# -- section 2.3, mini-batch sampling ------------------------------------------------------------


def test_regions_are_sampled_one_to_three():
    objects = [[0, 0, 10, 10]]
    near = [[0, 0, 10, 10 + i / 10] for i in range(6)]  # IoU over 0.9
    far = [[50, 50, 60, 60 + i] for i in range(9)]
    outputs = proposed(near + far, missing=[7])
    regions, matches, counted = sample_regions(targets(objects, [2]), outputs, falling, 8)
    np.testing.assert_array_equal(matches[0], [0, 0, -1, -1, -1, -1, -1, -1])
    boxes = outputs["proposals"][0]
    np.testing.assert_array_equal(regions[0], boxes[[0, 1, 6, 8, 9, 10, 11, 12]])
    assert np.asarray(counted).all()
    # Background inside an ignored region does not count.
    truth = targets([*objects, [40, 40, 90, 90]], [2, 0], [False, True])
    _, _, counted = sample_regions(truth, outputs, falling, 8)
    assert np.asarray(counted)[0].tolist() == [True] * 2 + [False] * 6


def test_sixty_four_regions_of_which_a_quarter_has_an_object(model):
    boxes = [[0, 0, 10, 10]] * 100 + [[0, 0, 10, 4]] * 100  # IoU 1 and 0.4
    truth, outputs = targets([[0, 0, 10, 10]], [0]), proposed(boxes)
    _, objects, counted = sample_regions(truth, outputs, falling, paper.REGIONS_PER_IMAGE, 0.1)
    assert np.asarray(counted).sum() == 64
    assert (np.asarray(objects) >= 0).sum() == 16
    # Without enough objects, background takes their places.
    _, objects, counted = sample_regions(truth, proposed(boxes[90:]), falling, 64, 0.1)
    assert (np.asarray(objects) >= 0).sum() == 11  # ten and the object itself
    assert np.asarray(counted).sum() == 64


def test_background_has_an_iou_from_a_tenth_to_a_half():
    tall = [[0, 0, 10, height] for height in (0.9, 1.1, 4.9, 5.1)]  # IoU 0.09, 0.11, 0.49, 0.51
    outputs, truth = proposed([*tall, [20, 20, 30, 30]]), targets([[0, 0, 10, 10]], [0])
    regions, objects, counted = sample_regions(truth, outputs, falling, 16, 0.1)
    assert np.asarray(objects)[0].tolist() == [0, 0, *[-1] * 4]
    assert np.asarray(counted)[0].tolist() == [True] * 4 + [False] * 2
    np.testing.assert_allclose(regions[0, :4, 3], [5.1, 10, 1.1, 4.9], rtol=1e-6)
    # By default, as Faster R-CNN asks for it, there is no least IoU.
    _, objects, counted = sample_regions(truth, outputs, falling, 16)
    assert np.asarray(counted).sum() == 6
    assert (np.asarray(objects) >= 0).sum() == 2


def test_the_model_asks_for_that_background(model):
    inputs, _ = batch(1, given=model.INPUTS)
    far = [[40, 40, 50, 50 + i] for i in range(5)]
    near = [[8, 8, 18, 11]]  # IoU 0.3 with the object
    outputs = model({**inputs, "proposals": np.float32([near + far])}, training=True)
    terms = model.loss_terms(outputs, targets([[8, 8, 18, 18]], [0]))
    assert float(terms["classification_loss"][1]) == 2  # the near one, and the object itself


def test_objects_join_the_proposals():
    objects = [[0, 0, 10, 10], [30, 30, 40, 50], [-1] * 4]
    outputs = proposed([[60, 60, 70, 70]] * 3, missing=[0, 1, 2])
    regions, matches, counted = sample_regions(targets(objects, [1, 0, -1]), outputs, falling, 8)
    assert np.asarray(matches)[0].tolist() == [0, 1, *[-1] * 4]
    assert np.asarray(counted)[0].tolist() == [True, True, *[False] * 4]
    np.testing.assert_array_equal(regions[0, :2], objects[:2])


def test_every_region_of_an_image_without_objects_is_background():
    outputs = proposed([[10 * i, 0, 10 * i + 8, 8] for i in range(6)], missing=[4])
    _, objects, counted = sample_regions(targets([[-1] * 4], [-1]), outputs, falling, 4, 0.1)
    assert np.asarray(objects)[0].tolist() == [-1] * 4
    assert np.asarray(counted).all()
    regions, _, counted = sample_regions(targets([[-1] * 4], [-1]), outputs, rising, 8, 0.1)
    assert np.asarray(counted).sum() == 5
    np.testing.assert_array_equal(regions[0, 0], [50, 0, 58, 8])  # the highest key is drawn first


def test_sampling_follows_seed_and_image(model):
    inputs, truth = batch(2, given=model.INPUTS)
    outputs, truth = model(inputs, training=True), prepare(truth)

    def loss():
        return float(model.loss_terms(outputs, truth)["classification_loss"][0])

    regions, model.regions_per_image = model.regions_per_image, 8  # fewer than there are
    try:
        first = loss()
        assert loss() == first
        model.seed = 5
        assert loss() != first
    finally:
        model.seed, model.regions_per_image = 0, regions


# -- section 2.3, region-wise sampling -----------------------------------------------------------


def one_region(truth, outputs, keys, **settings):
    sampler = RegionWise(**settings)
    regions, objects, counted = sampler.sample(truth, outputs, 1, keys, None)
    assert np.asarray(regions).shape[1] == 1
    return np.asarray(regions)[0, 0].tolist(), int(objects[0, 0]), bool(counted[0, 0])


def test_one_region_of_each_image_with_an_object_or_without():
    truth, far = targets([[0, 0, 10, 10]], [2]), [50, 50, 60, 60]
    outputs = proposed([[0, 0, 10, 9], far])
    # Three regions: two proposals and the object; the fourth key decides: 0.1 wants an object.
    assert one_region(truth, outputs, falling) == ([0, 0, 10, 9], 0, True)
    assert one_region(truth, outputs, rising) == (far, -1, True)
    # 0.25 is background already.
    assert one_region(truth, outputs, lambda n: np.float32([[0.9, 0.8, 0.7, 0.25]]))[1] == -1
    # Nothing to choose from: no object, then no background, of which the least IoU is asked for.
    empty = targets([[-1] * 4], [-1])
    assert one_region(empty, outputs, falling) == ([0, 0, 10, 9], -1, True)
    near = proposed([[0, 0, 10, 9], far], missing=[1])
    assert one_region(truth, near, rising)[1:] == (-1, False)
    tall = proposed([[0, 0, 10, 0.9], far])
    assert one_region(truth, tall, rising, background_iou=0.1)[1:] == (-1, False)


def test_a_quarter_of_many_images_gives_an_object():
    boxes = np.float32([[[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]]] * 4000)
    outputs = {"proposals": boxes, "is_proposal": np.ones((4000, 3), bool)}
    truth = prepare({"boxes": boxes[:, :1], "labels": np.zeros((4000, 1), np.int32)})

    def keys(count):
        return random_keys(0, 5, np.arange(4000, dtype=np.int32), count)

    _, objects, counted = RegionWise().sample(truth, outputs, 1, keys, None)
    assert np.asarray(counted).all()
    # 1000 are expected, with a standard deviation of 27.
    assert abs((np.asarray(objects) >= 0).sum() - 1000) < 4 * 27


def test_region_wise_sampling_learns():
    keras.utils.set_random_seed(0)
    model = fast_rcnn(regions=1, sampler=RegionWise(0.1, name="sampler"))
    inputs, truth = batch(8, given=model.INPUTS)
    model.compile(keras.optimizers.Adam(2e-3))
    history = model.fit(inputs, truth, batch_size=8, epochs=40, verbose=0).history
    first, last = (np.mean(history["classification_loss"][part]) for part in np.s_[:5, -5:])
    assert last < 0.7 * first
    copy = FastRCNN.from_config(model.get_config())
    assert (type(copy.sampler), copy.sampler.background_iou) == (RegionWise, 0.1)
    with pytest.raises(ValueError, match="takes one region of each image, but regions_per_image"):
        RegionWise().sample(prepare(truth), {}, 64, None, None)


# -- section 5.1: does multi-task training help? --------------------------------------------------


def test_lambda_weighs_the_loss_of_boxes():
    predicted = {
        "class_logits": np.zeros((1, 1, 3), "float32"),
        "box_deltas": np.zeros((1, 1, 2, 4), "float32"),
    }
    truth = targets([[2, 0, 12, 10]], [1])
    rest = np.float32([[[0, 0, 10, 10]]]), np.array([[0]]), np.array([[True]])
    # 10 t_x = 2: 1.5 beyond the parabola.
    for weight in (1.0, 0.5, 0.0):
        losses = losses_of_regions(predicted, truth, *rest, box_weight=weight)
        np.testing.assert_allclose(losses["box_loss"], [[1.5 * weight]], rtol=1e-5)
        np.testing.assert_allclose(losses["classification_loss"], [[np.log(3)]], rtol=1e-5)


@pytest.mark.parametrize("make", [fast_rcnn, cascade_rcnn], ids=["fast", "cascade"])
def test_models_heed_lambda(make):
    keras.utils.set_random_seed(0)
    model = make(regions=8)
    inputs, truth = batch(2, given=model.INPUTS)
    outputs, truth = model(inputs, training=True), prepare(truth)

    def losses():
        terms = model.loss_terms(outputs, truth)
        return [float(terms[name][0]) for name in ("box_loss", "classification_loss")]

    whole = losses()
    model.box_weight = 0.5
    half = losses()
    assert half == pytest.approx([whole[0] / 2, whole[1]], rel=1e-4)
    assert whole[0] > 0
    with pytest.raises(ValueError, match="box_weight is -1; give a number of 0 or more"):
        make(box_weight=-1)


def test_classification_alone_then_boxes_alone():
    keras.utils.set_random_seed(0)
    model = fast_rcnn(box_weight=0, refinements=0)
    inputs, truth = batch(4, given=model.INPUTS)
    model.compile(keras.optimizers.Adam(2e-3))

    def weights():
        return [np.array(weight) for weight in model.weights]

    def moved(before):
        changed = zip(model.weights, before)
        return {w.path.split("/", 1)[1] for w, old in changed if not np.array_equal(w, old)}

    boxes = {"classifier/box_output/kernel", "classifier/box_output/bias"}
    before = weights()
    history = model.fit(inputs, truth, verbose=0).history
    assert history["box_loss"] == [0.0]
    assert not moved(before) & boxes
    assert len(moved(before)) > 4
    model.learn_boxes_alone()
    assert (model.box_weight, model.refinements) == (1.0, 1)
    model.compile(keras.optimizers.Adam(2e-3))
    before = weights()
    history = model.fit(inputs, truth, epochs=20, verbose=0).history
    assert history["box_loss"][-1] < history["box_loss"][0]
    assert moved(before) == boxes


def test_the_stages_of_a_cascade_learn_boxes_alone():
    model = cascade_rcnn()
    model.learn_boxes_alone()
    learnt = sorted(weight.path.split("/", 1)[1] for weight in model.trainable_weights)
    assert len(learnt) == 6
    assert all("box_output" in path for path in learnt)


# -- section 4.5: which layers to fine-tune? -------------------------------------------------------


@pytest.mark.parametrize(
    ("freeze_at", "first"), [("C4", None), ("C1", "features_10"), ("C0", "features_5")]
)
def test_layers_to_fine_tune(monkeypatch, freeze_at, first):
    # torchvision's numbers: conv2_1 is features_5, conv3_1 is features_10.
    cheap_weights(monkeypatch)
    backbone = VGG16(levels=("C4",), freeze_at=freeze_at)
    trained = [layer.name for layer in backbone.layers if layer.trainable_weights]
    assert (trained or [None])[0] == first


# -- section 2.3, multi-task loss ----------------------------------------------------------------


def test_region_losses_by_hand():
    # Classes 0 and 1. The first region finds class 1, the second is background, the third padding.
    probabilities = np.array([[[0.2, 0.2, 0.6], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]], "float32")
    deltas = np.zeros((1, 3, 2, 4), "float32")
    deltas[0, 0, 0] = 99  # of another class: without effect
    deltas[0, 1] = 99  # of background: without effect
    predicted = {"class_logits": np.log(probabilities), "box_deltas": deltas}
    regions = np.array([[[0, 0, 10, 10], [30, 30, 40, 40], [0, 0, 0, 0]]], "float32")
    rest = regions, np.array([[0, -1, -1]]), np.array([[True, True, False]])
    terms = region_losses(predicted, targets([[1, 0, 11, 10]], [1]), *rest)
    loss, count = terms["classification_loss"]
    assert (float(loss), float(count)) == pytest.approx((-np.log(0.6) - np.log(0.5), 2), rel=1e-5)
    each = losses_of_regions(predicted, targets([[1, 0, 11, 10]], [1]), *rest)
    expected = [[-np.log(0.6), -np.log(0.5), 0]]
    np.testing.assert_allclose(each["classification_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(each["box_loss"], [[0.5, 0, 0]], rtol=1e-4)
    # 10 t_x = 1 meets the line: 0.5.
    loss, count = terms["box_loss"]
    assert (float(loss), float(count)) == pytest.approx((0.5, 2), rel=1e-4)
    # 5 t_h = 5 log 1.2 = 0.91161 below the line; the second delta, 2, lies above it: 1.5.
    deltas[0, 0, 1] = [0, 2, 0, 0]
    terms = region_losses(predicted, targets([[0, -1, 10, 11]], [1]), *rest)
    expected = 0.5 * (5 * np.log(1.2)) ** 2 + 1.5
    assert float(terms["box_loss"][0]) == pytest.approx(expected, rel=1e-5)


# -- section 3, Fast R-CNN detection -------------------------------------------------------------


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


def test_boxes_are_clipped_and_slivers_are_none():
    # Three proposals at the right edge of an image 100 wide: 20, 0.02 and 0.005 pixels are left.
    boxes = [[80, 10, 120, 30], [99.98, 10, 140, 30], [99.995, 10, 140, 30]]
    outputs = {
        **proposed(boxes),
        "class_logits": np.zeros((1, 3, 2), np.float32),
        "box_deltas": np.zeros((1, 3, 1, 4), np.float32),
        "image_sizes": np.array([[50, 100]], np.float32),
    }
    boxes, labels, scores = decode_regions(outputs)
    np.testing.assert_allclose(boxes[0, 0], [80, 10, 100, 30], rtol=1e-5)
    assert np.asarray(labels)[0].tolist() == [0, 0, 0]
    assert np.asarray(scores)[0].tolist() == [0.5, 0.5, 0.0]


def test_boxes_of_the_authors_code_end_one_pixel_further():
    outputs = {
        **proposed([[10, 10, 30, 20], [80, 10, 120, 30]]),
        "class_logits": np.zeros((1, 2, 2), np.float32),
        "box_deltas": np.zeros((1, 2, 1, 4), np.float32),
        "image_sizes": np.array([[50, 100]], np.float32),
    }
    model = FastRCNN(1, TinyBackbone(), head=DenseHead((2,)), whole_pixels=True)
    assert model.clip is clip_pixels
    boxes = model.decode(outputs | {"maps": {}})["boxes"][0, :2]
    np.testing.assert_allclose(boxes, [[10, 10, 31, 21], [80, 10, 100, 31]], rtol=1e-5)


# -- proposals as inputs -------------------------------------------------------------------------


def test_proposals_go_through_fit_evaluate_and_predict():
    keras.utils.set_random_seed(0)
    model = fast_rcnn(score_threshold=0.0)
    inputs, truth = batch(4, given=model.INPUTS)
    model.compile(keras.optimizers.Adam(2e-3))
    history = model.fit(inputs, truth, batch_size=4, epochs=30, verbose=0).history
    assert set(history) == {"loss", "classification_loss", "box_loss"}
    assert history["classification_loss"][-1] < 0.5 * history["classification_loss"][0]
    before = model.evaluate(inputs, truth, verbose=0)
    found = model.predict(inputs, verbose=0)
    # Elsewhere there is nothing to be found, and other regions to learn from.
    elsewhere = {**inputs, "proposals": np.full((4, 1, 4), [0, 0, 4, 4], np.float32)}
    assert model.evaluate(elsewhere, truth, verbose=0) != before
    assert (model.predict(elsewhere, verbose=0)["num_detections"] <= 3).all()
    # `detect` takes the same images and proposals, and gives the same.
    several = model.detect(list(inputs["images"]), proposals=inputs["proposals"], batch_size=4)
    for i, detections in enumerate(several):
        assert len(detections["labels"]) == found["num_detections"][i] > 0
        for name, value in detections.items():
            np.testing.assert_allclose(value, found[name][i, : len(value)], atol=1e-4)
    (single,) = model.detect(inputs["images"][1], proposals=inputs["proposals"][1])
    np.testing.assert_allclose(single["boxes"], several[1]["boxes"], atol=1e-3)


def test_training_stops_at_the_proposals(model):
    inputs, _ = batch(1, given=model.INPUTS)
    outputs = model(inputs, training=True)
    assert list(outputs) == ["maps", "proposals", "is_proposal", "image_sizes"]
    assert model(inputs)["class_logits"].shape == (1, 24, 4)


def test_rows_without_an_area_are_no_proposals(model):
    inputs, truth = batch(1, given=model.INPUTS)
    inputs["proposals"] = inputs["proposals"][:, :8]
    flat = [[5, 5, 5, 20], [5, 20, 30, 20], [20, 5, 5, 20], [0, 0, 0, 0], [70, 70, 90, 90]]
    more = {**inputs, "proposals": np.concatenate([inputs["proposals"], [flat]], axis=1)}
    assert np.asarray(model(more)["is_proposal"])[0].tolist() == [True] * 8 + [False] * 5
    expected = model.predict(inputs, verbose=0)
    for name, value in model.predict(more, verbose=0).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5)
    _, count = model.loss_terms(model(more, training=True), prepare(truth))["box_loss"]
    assert float(count) <= 9  # eight proposals and the object


def test_proposals_are_clipped_to_their_image(model):
    inputs, _ = batch(1, given=model.INPUTS)
    inputs["image_sizes"][:] = 40, 30  # height, width
    inputs["proposals"] = np.array([[[-5, -6, 200, 100], [20, 10, 90, 35]]], np.float32)
    expected = [[0, 0, 30, 40], [20, 10, 30, 35]]
    np.testing.assert_array_equal(model(inputs)["proposals"][0], expected)


def test_missing_proposals_are_an_error(model):
    inputs, _ = batch(1)
    for given in (inputs, inputs["images"]):
        with pytest.raises(ValueError, match=r"have no proposals: data\.batches"):
            model(given)
    with pytest.raises(ValueError, match="FastRCNN classifies regions that something else"):
        model.detect(inputs["images"][0])


def test_options_reach_the_parts():
    model = fast_rcnn(channels=12, regions=7)
    assert model.regions_per_image == 7
    assert model.head.units == (12, 12)
    assert model.backbone.levels == ("C4",)
    assert model.num_classes == 3


def test_config_keeps_every_argument():
    config = fast_rcnn(seed=3, regions=7, max_detections=9).get_config()
    copy = FastRCNN.from_config(config)
    assert copy.get_config() == config
    assert (copy.seed, copy.regions_per_image, copy.max_detections) == (3, 7, 9)
    assert copy.head.units == (32, 32)
