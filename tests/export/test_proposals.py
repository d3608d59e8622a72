"""Exports of models that take proposals: they are a second input, in the image's own pixels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.export import export_model
from kerasdet.export.endpoint import make_endpoint
from kerasdet.layers.resizing import Fit
from tests.contract.detectors import fast_rcnn, retinanet

from .conftest import assert_same, colour_blocks

SIZE = (90, 130)


@pytest.fixture(scope="module")
def fast():
    """A model whose classes and boxes differ from region to region."""
    keras.utils.set_random_seed(0)
    model = fast_rcnn(resize=Fit(64, 64), max_detections=8)
    rng = np.random.default_rng(0)
    for layer in (model.classifier.class_output, model.classifier.box_output):
        layer.kernel.assign(rng.normal(0, 0.3, layer.kernel.shape))
    return model


def regions(count=12):
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(10, 30, (count, 2))], 1).astype("float32")


@pytest.mark.parametrize("refinements", [1, 3])
def test_saved_model_takes_proposals(fast, tmp_path, monkeypatch, refinements):
    monkeypatch.setattr(fast, "refinements", refinements)
    export_model(fast, tmp_path / "model")
    exported = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    specs = exported.structured_input_signature[1]
    assert specs["proposals"].shape.as_list() == [None, None, 4]
    image, boxes = colour_blocks(*SIZE), regions()
    wanted = fast.detect([image], proposals=[boxes])
    assert len(wanted[0]["labels"]) > 0
    padded = np.concatenate([boxes, np.zeros((5, 4), "float32")])  # rows of zeros are none
    assert_same(exported(images=image[None], proposals=padded[None]), wanted)


def test_their_number_may_be_fixed(fast):
    _, (images, proposals) = make_endpoint(fast, size=SIZE, batch_size=1, num_proposals=12)
    assert images.shape.as_list() == [1, 90, 130, 3]
    assert proposals.shape.as_list() == [1, 12, 4]
    with pytest.raises(ValueError, match="num_proposals=12: RetinaNet takes none"):
        make_endpoint(retinanet(), num_proposals=12)
