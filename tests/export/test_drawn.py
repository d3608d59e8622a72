"""Exports of models whose resize part draws the canvas: each format gives the boxes of `detect`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.export import export_model
from kerasdet.layers import Letterbox, PaddedSquare, PassthroughHead
from kerasdet.models import YOLOv2
from tests.contract.detectors import fast_rcnn
from tests.tiny import TinyBackbone

from .conftest import assert_same, colour_blocks
from .test_proposals import regions

SIZES = ((20, 90), (141, 70), (64, 64))


@pytest.fixture(scope="module", params=[Letterbox(64), PaddedSquare(64)], ids=repr)
def lively_model(request):
    """A detector whose scores differ by more than the precision of any format."""
    keras.utils.set_random_seed(0)
    head = PassthroughHead(8, 2, 4, ("C3", "C4"))
    settings = {"max_detections": 60, "score_threshold": 0.02}
    model = YOLOv2(3, TinyBackbone(), head, [(6, 9), (16, 12)], resize=request.param, **settings)
    rng = np.random.default_rng(0)
    last = model.output_conv
    last.kernel.assign(rng.normal(0, 0.3, last.kernel.shape))
    last.bias.assign(rng.normal(0.2, 0.5, last.bias.shape))
    return model


def test_any_size_as_saved_model_and_onnx(lively_model, tmp_path):
    export_model(lively_model, tmp_path / "model")
    run = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    runtime = pytest.importorskip("onnxruntime")
    export_model(lively_model, tmp_path / "model.onnx", format="onnx")
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    names = [output.name for output in session.get_outputs()]
    for size in SIZES:
        images = np.stack([colour_blocks(*size, seed) for seed in (0, 1)])
        wanted = lively_model.detect(list(images))
        assert len(wanted[0]["labels"]) > 3
        assert_same(run(images=tf.constant(images)), wanted)
        assert_same(dict(zip(names, session.run(names, {"images": images}))), wanted)


@pytest.mark.parametrize("size", SIZES)
def test_litert(lively_model, size, tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    export_model(lively_model, tmp_path / "m.tflite", format="litert", size=size)
    image = colour_blocks(*size)
    run = interpreter.Interpreter(str(tmp_path / "m.tflite")).get_signature_runner()
    wanted = lively_model.detect([image])
    assert len(wanted[0]["labels"]) > 3
    assert_same(run(images=image[None]), wanted)


def test_boxes_in_the_padding_are_dropped(lively_model):
    """A box wholly in the padding is no detection, in `detect` and in exports."""
    size = (20, 90)
    image = colour_blocks(*size)
    wanted = lively_model.detect([image])[0]["boxes"]
    assert (wanted[:, 2:] > wanted[:, :2]).all()
    canvas = lively_model.predict_on_batch(lively_model.to_canvas([image]))
    assert len(wanted) < canvas["num_detections"][0]


@pytest.mark.parametrize("part", [Letterbox(64), PaddedSquare(64)], ids=repr)
def test_proposals_are_moved_to_the_canvas(part, tmp_path):
    keras.utils.set_random_seed(0)
    model = fast_rcnn(resize=part, max_detections=8)
    rng = np.random.default_rng(0)
    for layer in (model.classifier.class_output, model.classifier.box_output):
        layer.kernel.assign(rng.normal(0, 0.3, layer.kernel.shape))
    export_model(model, tmp_path / "model")
    run = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    image, boxes = colour_blocks(90, 130), regions()
    wanted = model.detect([image], proposals=[boxes])
    assert len(wanted[0]["labels"]) > 0
    padded = np.concatenate([boxes, np.zeros((5, 4), "float32")])  # rows of zeros are none
    assert_same(run(images=image[None], proposals=padded[None]), wanted)
