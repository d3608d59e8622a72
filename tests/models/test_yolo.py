"""YOLO against its paper: the numbers of its output, responsibility, the five terms, scores, sizes."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.backbones import FastYOLO, ImageClassifier, YOLO20Convs
from kerasdet.data import digit_scenes
from kerasdet.layers import Fit, GridHead, KeepSize, LocallyConnected, Stretch
from kerasdet.models import YOLO
from kerasdet.models import yolo as paper
from kerasdet.models.detector import prepare
from kerasdet.training import Recipe, train
from tests.contract.detectors import yolo
from tests.tiny import TinyBackbone, cheap_weights

CONSTANTS = {
    "GRID": 7,  # section 2: S = 7, B = 2
    "BOXES": 2,
    "COORDINATE_WEIGHT": 5.0,  # section 2.2: lambda_coord = 5, lambda_noobj = 0.5
    "BACKGROUND_WEIGHT": 0.5,
    "IMAGE_SIZE": 448,
    "CANDIDATES": 1000,
    "OUTPUT_STD": 0.001,
}


def test_constants_are_the_papers():
    assert {name: getattr(paper, name) for name in CONSTANTS} == CONSTANTS


def test_the_network_of_figure_3(monkeypatch):
    cheap_weights(monkeypatch)
    # Half as many units as the paper's 4096, for memory; 1024 channels of 7 x 7 cells come before.
    model = YOLO(20, head=GridHead(units=(64,)))
    assert GridHead().units == (4096,)
    assert GridHead().dropout == 0.5
    assert model.canvas == (448, 448)
    convs = [layer for layer in model.backbone.layers if layer.weights]
    assert len(convs) + len(model.head.parts) == 24
    assert [part.filters for part in model.head.parts] == [1024] * 4
    assert [part.stride for part in model.head.parts] == [1, 2, 1, 1]
    assert model.head.dense[0].kernel.shape == (7 * 7 * 1024, 64)
    # 7 x 7 x (2 x 5 + 20)
    assert model.output_dense.units == 1470
    assert model.output_dense.bias.shape == (1470,)
    assert all(len(layer.weights) == 2 for layer in convs)  # no batch normalisation


def test_fast_yolo_has_nine_convolutions(monkeypatch):
    cheap_weights(monkeypatch)
    head = GridHead(("pool", (1024, 3), (1024, 3), (1024, 3)), (256, 4096), norm="batch")
    assert len([x for x in FastYOLO().layers if x.weights]) + 3 == 9
    head.build((None, 14, 14, 512))
    assert head.features == 7 * 7 * 1024
    assert head.compute_output_shape((2, 14, 14, 512)) == (2, 4096)


def test_debians_variant_has_1715_numbers(monkeypatch):
    cheap_weights(monkeypatch)
    head = GridHead(((8, 3, 2),), (), local=256, norm="batch")
    model = YOLO(20, FastYOLO(), head, boxes_per_cell=3)
    assert model.output_dense.units == 7 * 7 * (3 * 5 + 20) == 1715
    assert model.output_dense.kernel.shape == (7 * 7 * 256, 1715)
    assert type(model.head.parts[-1]) is LocallyConnected


def small(**settings):
    head = GridHead(((4, 3),), (8,), dropout=0.0)
    settings = {"grid": 2, "resize": Stretch(64), **settings}
    return YOLO(2, TinyBackbone(levels=("C5",)), head, **settings)


def test_98_boxes_and_their_layout():
    assert small(grid=7)(np.zeros((1, 64, 64, 3)))["confidence"].shape == (1, 49, 2)
    model = small()
    model.output_dense.kernel.assign(np.zeros(model.output_dense.kernel.shape))
    model.output_dense.bias.assign(np.arange(4 * 12))
    outputs = model(np.zeros((1, 64, 64, 3), np.uint8))
    # Classes of all cells, then their confidences, then their boxes.
    np.testing.assert_array_equal(outputs["classes"][0], [[0, 1], [2, 3], [4, 5], [6, 7]])
    np.testing.assert_array_equal(outputs["confidence"][0], [[8, 9], [10, 11], [12, 13], [14, 15]])
    np.testing.assert_array_equal(outputs["locations"][0, 0], [[16, 17, 18, 19], [20, 21, 22, 23]])
    np.testing.assert_array_equal(outputs["locations"][0, 3, 1], [44, 45, 46, 47])


def test_boxes_by_hand():
    model = small(resize=Fit(64, 128))
    locations = np.zeros((1, 4, 2, 4), np.float32)
    locations[0, 1, 0] = 0.25, 0.5, 0.5, -0.5
    # Cell of row 0 and column 1: centre ((1 + 1/4) / 2, 1/4) of 128 x 64, size a quarter of each.
    np.testing.assert_allclose(model.boxes(locations)[0, 1, 0], [64, 8, 96, 24], atol=1e-4)
    np.testing.assert_allclose(model.boxes(locations)[0, 2, 1], [0, 32, 0, 32], atol=1e-4)
    boxes = np.float32([[[[0, 0, 64, 16]], [[64, 8, 96, 24]], [[0, 0, 9, 9]], [[0, 0, 9, 9]]]])
    encoded = model.encode(boxes)
    np.testing.assert_allclose(encoded[0, 0, 0], [0.5, 0.25, 0.5**0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(encoded[0, 1, 0], [0.25, 0.5, 0.5, 0.5], atol=1e-6)


def outputs_of(classes=(), confidence=(), locations=()):
    """Raw outputs of two by two cells of two boxes, zero where nothing is given: {place: numbers}."""
    outputs = {
        "classes": np.zeros((1, 4, 2), np.float32),
        "confidence": np.zeros((1, 4, 2), np.float32),
        "locations": np.zeros((1, 4, 2, 4), np.float32),
        "image_sizes": np.float32([[64, 64]]),
    }
    for name, given in (("classes", classes), ("confidence", confidence), ("locations", locations)):
        for place, values in dict(given).items():
            outputs[name][(0, *place)] = values
    return outputs


def targets(boxes, labels, ignore=None):
    values = {"boxes": np.array([boxes], np.float32), "labels": np.array([labels], np.int32)}
    return prepare(values | ({} if ignore is None else {"ignore": np.array([ignore])}))


def sums(outputs, truth):
    terms = small().loss_terms(outputs, truth)
    assert {float(count) for _, count in terms.values()} == {1.0}  # per image
    return {name: float(value) for name, (value, _) in terms.items()}


OBJECT = [32, 0, 64, 32]  # in the cell of row 0 and column 1
HALF = 0.5**0.5  # of the square root of its sides


def test_five_terms_by_hand():
    # The first box is a quarter of the object, the second overlaps by 512 of 1536: it is responsible.
    locations = {(1, 0): [0.5, 0.5, 0.5, 0.5], (1, 1): [0.5, 1.0, HALF, HALF]}
    confidence = {(1, 0): 0.2, (1, 1): 0.1, (3, 0): -0.4}
    outputs = outputs_of({(1,): [0.3, 0.6], (2,): [9, 9]}, confidence, locations)
    found = sums(outputs, targets([OBJECT, [-1] * 4], [1, -1]))
    assert found["centre_loss"] == pytest.approx(5 * 0.5**2, rel=1e-5)
    assert found["size_loss"] == pytest.approx(0, abs=1e-6)
    assert found["object_loss"] == pytest.approx((1 / 3 - 0.1) ** 2, rel=1e-5)
    # The other box of the cell is background, and the boxes of cells without an object.
    assert found["background_loss"] == pytest.approx(0.5 * (0.2**2 + 0.4**2), rel=1e-5)
    # Classes count in the object's cell alone.
    assert found["class_loss"] == pytest.approx(0.3**2 + 0.4**2, rel=1e-5)


def test_sizes_are_compared_by_their_roots():
    locations = {(1, 0): [0.5, 0.5, 0.6, HALF], (1, 1): [0.5, 0.5, 0.1, 0.1]}
    found = sums(outputs_of(locations=locations), targets([OBJECT], [0]))
    assert found["size_loss"] == pytest.approx(5 * (HALF - 0.6) ** 2, rel=1e-4)
    # 0.36 x 64 = 23.04 pixels of 32.
    assert found["object_loss"] == pytest.approx(0.72**2, rel=1e-5)


def test_without_overlap_the_nearest_box_is_responsible():
    locations = {(1, 0): [-3, 0.5, 0.1, 0.1], (1, 1): [-1.5, 0.5, 0.1, 0.1]}
    found = sums(outputs_of(locations=locations), targets([OBJECT], [0]))
    assert found["centre_loss"] == pytest.approx(5 * 2.0**2, rel=1e-5)
    assert found["size_loss"] == pytest.approx(5 * 2 * (HALF - 0.1) ** 2, rel=1e-5)


def test_a_cell_learns_its_largest_object():
    outputs = outputs_of({(1,): [0.0, 1.0]})
    truth = targets([[40, 8, 56, 24], OBJECT, [33, 1, 60, 30]], [0, 1, 0])
    assert sums(outputs, truth)["class_loss"] == pytest.approx(0)


def test_crowds_are_learnt_neither_as_objects_nor_as_background():
    locations = {(1, 0): [0.5, 0.5, 0.5, 0.5]}
    outputs = outputs_of(confidence={(1, 0): 0.2, (0, 0): 0.4}, locations=locations)
    found = sums(outputs, targets([OBJECT], [1], [True]))
    # The first box lies in the crowd; the other has no area, and lies in nothing.
    assert found["background_loss"] == pytest.approx(0.5 * 0.4**2, rel=1e-5)
    assert found["class_loss"] == found["object_loss"] == found["centre_loss"] == 0


def test_images_without_objects_teach_background_alone():
    found = sums(outputs_of(confidence={(0, 0): 1.0}), targets([[-1] * 4], [-1]))
    assert found.pop("background_loss") == pytest.approx(0.5)
    assert set(found.values()) == {0.0}


def test_scores_by_hand():
    model = small(score_threshold=0.05, max_detections=5)
    outputs = outputs_of(
        {(1,): [0.8, 0.1]},
        {(1, 0): 0.5, (1, 1): 0.9},
        {(1, 0): [0.5, 0.5, HALF, HALF], (1, 1): [0.5, 0.5, 1.0, HALF]},
    )
    found = {name: np.asarray(value)[0] for name, value in model.decode(outputs).items()}
    # 0.8 x 0.9, 0.8 x 0.5, 0.1 x 0.9; 0.1 x 0.5 is at the threshold. IoU 1/2 of the whole boxes, 2/3 of
    # those within the image: as in Darknet, whole boxes count, and the second stays.
    assert found["num_detections"] == 3
    np.testing.assert_allclose(found["confidence"][:3], [0.72, 0.4, 0.09], rtol=1e-5)
    assert found["labels"][:3].tolist() == [0, 0, 1]
    large = [16, 0, 64, 32]
    np.testing.assert_allclose(found["boxes"][:3], [large, [32, 0, 64, 32], large], atol=1e-3)


def test_a_box_outside_the_image_is_no_detection():
    # A cell of 32 pixels and a half: from 64 to 96.
    outputs = outputs_of({(1,): [0.8, 0.1]}, {(1, 0): 0.5}, {(1, 0): [1.5, 0.5, HALF, HALF]})
    assert small().decode(outputs)["num_detections"][0] == 0


def test_images_of_another_size_do_not_become_several():
    model = small()

    @tf.function(input_signature=[tf.TensorSpec((1, None, None, 3))])
    def call(images):
        return model(images)["classes"]

    assert call(tf.zeros((1, 64, 64, 3))).shape == (1, 4, 2)
    with pytest.raises(tf.errors.InvalidArgumentError):
        call(tf.zeros((1, 128, 128, 3)))


def test_training_takes_its_own_canvas(tmp_path):
    data = digit_scenes("train", 8)
    model = YOLO.for_data(data, Stretch(64), TinyBackbone(), units=8, channels=4)
    for resize in (Stretch(96), [Stretch(64), Stretch(96)]):
        with pytest.raises(
            ValueError, match=r"this YOLO takes one canvas, \(64, 64\): train it on"
        ):
            train(model, data, Recipe(epochs=1), out=tmp_path, resize=resize)


def test_locally_connected_layer_by_hand():
    layer = LocallyConnected(1, 3)
    layer.build((None, 2, 2, 1))
    kernel = np.zeros((2, 2, 9, 1))
    kernel[0, 0, 4] = 1  # the place itself
    kernel[0, 1, 3] = 2  # twice its left neighbour
    kernel[1, 0, 2] = 3  # three times the upper right one
    kernel[1, 1, 8] = 4  # beyond the map
    layer.set_weights([kernel, np.float32([[[0], [0]], [[-100], [5]]])])
    x = np.float32([[1, 2], [3, 4]]).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(layer(x)[0, :, :, 0], [[1, 2], [-9.4, 5]], rtol=1e-5)
    with pytest.raises(ValueError, match="kernel_size is 2; give an odd number"):
        LocallyConnected(1, 2)


def test_dropout_and_norms_act_in_training_alone():
    keras.utils.set_random_seed(0)
    head = GridHead(((4, 3),), (16,), dropout=0.5, norm="batch")
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    calm = np.asarray(head(x))
    np.testing.assert_allclose(head(x[:1]), calm[:1], rtol=1e-5)
    moved = np.asarray(head(x, training=True))
    assert np.mean(moved == 0) == pytest.approx(0.5, abs=0.25)
    assert np.abs(head.parts[0].norm.moving_mean).max() > 0


def test_the_classifier_at_224_becomes_a_detector_at_448(monkeypatch):
    backbone = TinyBackbone(levels=("C5",))
    classifier = ImageClassifier(backbone, 5)
    assert classifier(np.zeros((1, 224, 224, 3), np.uint8)).shape == (1, 5)
    model = YOLO(2, classifier.backbone, GridHead(((4, 3, 2),), (8,)))
    assert model.head.features == 7 * 7 * 4
    outputs = model(np.zeros((1, 448, 448, 3), np.uint8))
    assert outputs["classes"].shape == (1, 49, 2)
    cheap_weights(monkeypatch)
    assert YOLO20Convs().channels["C5"] == 1024


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resize": KeepSize()}, "resize is KeepSize.* a canvas for each image"),
        ({"grid": 0}, "grid is 0; give a whole number from 1"),
        ({"boxes_per_cell": 0}, "boxes_per_cell is 0; give a whole number from 1"),
        ({"norm": "group"}, "norm is 'group'; give one of 'batch', 'none'"),
        ({"units": -1}, "units is -1; give a whole number from 1"),
    ],
    ids=str,
)
def test_arguments_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        yolo(**settings)


def test_another_canvas_is_refused():
    with pytest.raises(ValueError, match=r"images are \(96, 64\).* canvas of \(64, 64\)"):
        small()(np.zeros((1, 96, 64, 3), np.uint8))


def test_options_reach_the_parts():
    model = yolo(channels=24, units=32, norm="none", grid=5, boxes_per_cell=3, dropout=0.25)
    assert model.head.convs == ((24, 3),)
    assert (model.head.units, model.head.norm, model.head.dropout) == ((32,), None, 0.25)
    assert (model.grid, model.boxes_per_cell) == (5, 3)
    assert model.output_dense.units == 25 * (15 + 3)
    assert yolo().head.norm == "batch"


def test_what_a_grid_can_find_by_hand():
    path = Path(__file__).parents[2] / "benchmarks" / "grid_recall.py"
    spec = importlib.util.spec_from_file_location("grid_recall", path)
    grid_recall = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(grid_recall)
    # Four objects in the first of two by two cells, three of one class; one in the last.
    centres = np.float32([[10, 10], [12, 10], [10, 20], [49, 24], [51, 26]])
    boxes = np.concatenate([centres - 5, centres + 5], axis=1)
    labels = np.array([1, 1, 0, 1, 0])
    for count, found in ((1, 2), (2, 3), (3, 4), (9, 4)):
        assert grid_recall.best_recall(boxes, labels, (50, 100), 2, count) == (found, 2)
    assert grid_recall.best_recall(boxes[:0], labels[:0], (50, 100), 7, 2) == (0, 0)
