"""The contract holds for what papers to come are like: each wall that once stood is walked through."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet import metrics
from kerasdet.cli import detectors
from kerasdet.data import augment
from kerasdet.export import export_model
from kerasdet.layers import Fit
from kerasdet.training import Recipe, train
from tests.contract.detectors import batch, fast_rcnn
from tests.models.newcomers import SIDE, Scans, Spots, painter, spots


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A detector without backbone, of four channels and two scales, fitted without gradients."""
    folder = tmp_path_factory.mktemp("spots")
    model = spots()
    history = train(model, Scans(20), validation=Scans(8, seed=1), out=folder)
    return model, history, folder


def test_a_model_is_fitted_without_gradients_and_measured(run):
    _, history, folder = run
    assert history["val_mAP"] == [1.0]
    assert "lr" not in history
    assert "loss" not in history
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events")}
    assert names == {
        *(
            "best.keras",
            "last.keras",
            "history.csv",
            "history.png",
            "predictions.png",
            "recipe.json",
        )
    }
    with open(folder / "history.csv", encoding="utf-8") as file:
        assert [row["val_mAP"] for row in csv.DictReader(file)] == ["1.0"]


def test_its_folder_is_not_overwritten(run):
    model, _, folder = run
    with pytest.raises(FileExistsError, match="holds a training run"):
        train(model, Scans(4), out=folder)
    assert train(model, Scans(4), out=folder, resume=True) == {}


def test_four_channels_and_two_scales_are_detected_saved_and_loaded(run):
    model, _, folder = run
    data = Scans(6, seed=2)
    loaded = keras.saving.load_model(folder / "best.keras")
    for index in range(6):
        (found,) = loaded.detect(data.image(index))
        record = data.record(index)
        np.testing.assert_allclose(found["boxes"][0], record.boxes[0], atol=1e-3)
        assert found["labels"][0] == record.labels[0]
    widths = {int(data.record(i).boxes[0, 2] - data.record(i).boxes[0, 0]) for i in range(6)}
    assert widths == {8, 16}, "both scales are needed"
    figures, _ = metrics.evaluate(loaded, data)
    assert figures["AP"] == 1.0
    with pytest.raises(ValueError, match=r"takes arrays \(height, width, 4\), not an array of"):
        loaded.detect(np.zeros((SIDE, SIDE, 3), np.uint8))
    copy = Spots.from_config(model.get_config())
    assert copy.factors == (1.0, 0.5)


@pytest.mark.parametrize("format", ["saved_model", "litert", "onnx"])
def test_exports_hold_all_scales_and_channels(run, format, tmp_path):
    model = run[0]
    suffix = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}[format]
    path = tmp_path / f"spots{suffix}"
    export_model(model, path, format, size=(SIDE, SIDE))
    image = Scans(6, seed=2).image(3)
    found, (wanted,) = called(path, format, images=image[None]), model.detect(image)
    count = int(found["num_detections"][0])
    assert count == len(wanted["labels"]) > 0
    np.testing.assert_allclose(found["boxes"][0, :count], wanted["boxes"], atol=1e-3)
    np.testing.assert_array_equal(found["labels"][0, :count], wanted["labels"])


def called(path, format, **inputs):
    """What an exported file returns."""
    if format == "saved_model":
        loaded = tf.saved_model.load(str(path))  # kept: its function does not hold its variables
        found = loaded.serve(*map(tf.constant, inputs.values()))
        return {name: value.numpy() for name, value in found.items()}
    if format == "litert":
        interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
        return interpreter.get_signature_runner("serving_default")(**inputs)
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs)))


@pytest.mark.parametrize("format", ["saved_model", "litert", "onnx"])
def test_proposals_reach_exports(format, tmp_path):
    keras.utils.set_random_seed(0)
    model = fast_rcnn(score_threshold=0.0, max_detections=20)
    inputs, targets = batch(2, given=model.INPUTS)
    model.compile(keras.optimizers.Adam(2e-3))
    model.fit(inputs, targets, epochs=20, verbose=0)
    suffix = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}[format]
    path = tmp_path / f"fast{suffix}"
    image, boxes = inputs["images"][0], inputs["proposals"][0]
    if format == "litert":
        with pytest.raises(ValueError, match="give num_proposals="):
            export_model(model, path, format, size=image.shape[:2])
    export_model(model, path, format, size=image.shape[:2], num_proposals=len(boxes))
    found = called(path, format, images=image[None], proposals=boxes[None])
    (wanted,) = model.detect(image, proposals=boxes)
    count = int(found["num_detections"][0])
    assert count == len(wanted["labels"]) > 0
    np.testing.assert_allclose(found["confidence"][0, :count], wanted["confidence"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"][0, :3], wanted["boxes"][:3], atol=0.05)


def test_proposals_of_images_that_are_resized_move_with_them():
    keras.utils.set_random_seed(0)
    model = fast_rcnn(score_threshold=0.0)
    inputs, _ = batch(1, given=model.INPUTS)
    image, boxes = inputs["images"][0], inputs["proposals"][0]
    (small,) = model.detect(image, proposals=boxes)
    model.resize = Fit(SIDE, SIDE)
    large = np.kron(image, np.ones((2, 2, 1))).astype(np.uint8)
    (found,) = model.detect(large, proposals=2 * boxes)
    # Halving the doubled image gives the image: the same detections, in its own pixels.
    np.testing.assert_allclose(found["boxes"][:5], 2 * small["boxes"][:5], atol=0.01)


def test_a_number_of_proposals_is_refused_where_there_are_none(run, tmp_path):
    with pytest.raises(ValueError, match="num_proposals=5: Spots takes none"):
        export_model(run[0], tmp_path / "m", num_proposals=5)


def test_a_segmenter_is_trained_and_measured_by_iu(tmp_path):
    model = painter()
    flip = augment.Compose([augment.HorizontalFlip()])
    history = train(
        model,
        Scans(32),
        Recipe(epochs=12, batch_size=8, learning_rate=0.1, weight_decay=0.0),
        validation=Scans(8, seed=1),
        out=tmp_path,
        augment=flip,
        verbose=0,
    )
    assert history["pixel_loss"][-1] < 0.5 * history["pixel_loss"][0]
    assert history["val_mIU"][-1] == 1.0
    assert "val_mAP" not in history
    assert (tmp_path / "predictions.png").stat().st_size > 0
    loaded = keras.saving.load_model(tmp_path / "best.keras")
    data = Scans(2, seed=3)
    for index, found in enumerate(loaded.segment(data.images())):
        truth = data.semantic(index)
        assert (found[truth >= 0] == truth[truth >= 0]).all()


def test_data_without_what_a_model_needs_are_refused(tmp_path):
    data = Scans(4)
    with pytest.raises(ValueError, match=r"FastRCNN needs proposals \(data.with_proposals\)"):
        train(fast_rcnn(class_names=("one", "three", "x")), renamed(data), out=tmp_path)
    data.semantic = lambda index: None
    with pytest.raises(ValueError, match="Painter needs semantic maps, and scans has none"):
        train(painter(), data, out=tmp_path)


def renamed(data):
    data = data.with_ids(list("abcd"))
    data.class_names = ("one", "three", "x")
    data.category_ids = (1, 2, 3)
    return data


def test_options_of_a_new_detector_are_found():
    assert detectors.options_of(Spots) == {"factors": (1.0, 0.5)}
    assert detectors.help_of(Spots, "factors") == "scales to look at."
