"""Exports of models that give masks or keypoints: what comes out is what `detect` gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.export import export_model
from kerasdet.export.endpoint import make_endpoint
from kerasdet.layers.resizing import Fit, ShortestEdge
from tests.contract.detectors import keypoint_rcnn, mask_rcnn

from .conftest import colour_blocks

SIZE = (90, 130)  # neither square nor of the canvas's shape


def lively(model):
    """The same model with classes and boxes that differ from region to region."""
    rng = np.random.default_rng(0)
    for layer in (model.classifier.class_output, model.classifier.box_output):
        layer.kernel.assign(rng.normal(0, 0.3, layer.kernel.shape))
    return model


@pytest.fixture(scope="module")
def mask_model():
    keras.utils.set_random_seed(0)
    return lively(mask_rcnn(resize=Fit(64, 64), max_detections=8))


@pytest.fixture(scope="module")
def keypoint_model():
    keras.utils.set_random_seed(0)
    return lively(keypoint_rcnn(resize=Fit(64, 64), max_detections=8))


def check(exported, wanted, name, tolerance):
    """One image's export against `detect`; returns the number of detections."""
    count = len(wanted["labels"])
    assert int(exported["num_detections"][0]) == count > 0
    values = np.asarray(exported[name])[0]
    np.testing.assert_allclose(np.asarray(exported["boxes"])[0, :count], wanted["boxes"], atol=1e-3)
    np.testing.assert_allclose(values[:count], wanted[name], rtol=0, atol=tolerance)
    assert (values[count:] == -1).all()
    return count


def test_saved_model_gives_keypoints_in_the_images_pixels(keypoint_model, tmp_path):
    export_model(keypoint_model, tmp_path / "model")
    exported = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    assert exported.structured_outputs["keypoints"].shape.as_list() == [None, 8, 4, 3]
    for seed in range(2):
        image = colour_blocks(*SIZE, seed)
        (wanted,) = keypoint_model.detect([image])
        check(exported(images=tf.constant(image[None])), wanted, "keypoints", 1e-3)
        # They are the image's, not the canvas's of half its size.
        x, y = np.moveaxis(wanted["keypoints"], -1, 0)[:2]
        assert x.max() > 64
        x1, y1, x2, y2 = (wanted["boxes"][:, i, None] for i in range(4))
        pixel = SIZE[1] / 64  # a box thinner than a canvas pixel counts as one
        assert ((x1 <= x) & (x <= x2 + pixel) & (y1 <= y) & (y <= y2 + pixel)).all()


def test_saved_model_gives_masks_relative_to_their_boxes(mask_model, tmp_path):
    export_model(mask_model, tmp_path / "model")
    exported = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    assert exported.structured_outputs["masks"].shape.as_list() == [None, 8, 28, 28]
    image = colour_blocks(*SIZE)
    (wanted,) = mask_model.detect([image])
    check(exported(images=tf.constant(image[None])), wanted, "masks", 1e-4)
    assert np.ptp(wanted["masks"]) > 1e-3


def test_padding_stays_minus_one(keypoint_model):
    """A canvas of another shape in the graph, and fewer detections than rows."""
    settings = keypoint_model.resize, keypoint_model.score_threshold
    keypoint_model.resize = ShortestEdge(48, 90)
    try:
        image = colour_blocks(*SIZE)
        scores = keypoint_model.detect([image])[0]["confidence"]
        keypoint_model.score_threshold = float(scores[2])
        function, _ = make_endpoint(keypoint_model, portable=False)
        (wanted,) = keypoint_model.detect([image])
        assert check(function(tf.constant(image[None])), wanted, "keypoints", 1e-3) < 8
    finally:
        keypoint_model.resize, keypoint_model.score_threshold = settings
