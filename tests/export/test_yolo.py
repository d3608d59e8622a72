"""YOLO and YOLOv2 as files: each format gives the boxes of `detect`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.export import export_model
from kerasdet.layers import Fit, PassthroughHead
from kerasdet.models import YOLOv2
from tests.contract.detectors import yolo, yolo_v2
from tests.tiny import TinyBackbone

from .conftest import assert_same, colour_blocks


def darknets_order(**settings):
    """A YOLOv2 whose passthrough has Darknet's order of channels."""
    head = PassthroughHead(8, 2, 4, ("C4", "C5"), "darknet")
    return YOLOv2(3, TinyBackbone(), head, [(20, 30), (50, 40)], **settings)


@pytest.fixture(scope="module", params=[yolo, yolo_v2, darknets_order], ids=["1", "2", "darknet"])
def lively_model(request):
    """A detector whose scores differ by more than the precision of any format."""
    keras.utils.set_random_seed(0)
    model = request.param(resize=Fit(64, 64), max_detections=20, score_threshold=0.02)
    last = model.output_conv if hasattr(model, "output_conv") else model.output_dense
    rng = np.random.default_rng(0)
    last.kernel.assign(rng.normal(0, 0.3, last.kernel.shape))
    last.bias.assign(rng.normal(0.2, 0.5, last.bias.shape))
    return model


@pytest.mark.parametrize("kind", ["saved_model", "litert", "onnx"])
def test_the_file_gives_the_models_boxes(lively_model, kind, tmp_path):
    path = tmp_path / {"saved_model": "model", "litert": "m.tflite", "onnx": "m.onnx"}[kind]
    export_model(
        lively_model, path, format=kind, **({} if kind == "saved_model" else {"size": (64, 64)})
    )
    image = colour_blocks(64, 64)
    if kind == "saved_model":
        run = tf.saved_model.load(path).signatures["serving_default"]
        found = run(images=tf.constant(image[None]))
    elif kind == "litert":
        interpreter = pytest.importorskip("ai_edge_litert.interpreter")
        run = interpreter.Interpreter(str(path)).get_signature_runner("serving_default")
        found = run(images=image[None])
    else:
        session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, {"images": image[None]})))
    wanted = lively_model.detect([image])
    assert len(wanted[0]["labels"]) > 3
    assert_same(found, wanted)
