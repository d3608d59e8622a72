"""Exports of SSD and SSDLite: a softmax, and candidates of each class."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.export import export_model
from kerasdet.layers.resizing import Stretch
from tests.contract.detectors import ssd, ssdlite

from .conftest import assert_same, colour_blocks

SIZE = (80, 100)


@pytest.fixture(scope="module", params=[ssd, ssdlite], ids=["ssd", "ssdlite"])
def detector(request):
    """A detector whose scores differ by more than the precision of any format."""
    keras.utils.set_random_seed(0)
    model = request.param(resize=Stretch(64), max_detections=20, score_threshold=0.05)
    rng = np.random.default_rng(0)
    for outputs, spread in ((model.class_outputs, 3.0), (model.box_outputs, 0.5)):
        for conv in outputs.values():
            fan_in = np.prod(conv.kernel.shape[:3])
            conv.kernel.assign(rng.normal(0, spread / np.sqrt(fan_in), conv.kernel.shape))
    return model


def test_saved_model(detector, tmp_path):
    export_model(detector, tmp_path / "model")
    exported = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    images = [colour_blocks(*SIZE, seed) for seed in range(2)]
    wanted = detector.detect(images)
    assert all(len(found["labels"]) > 3 for found in wanted)
    assert_same(exported(images=tf.constant(np.stack(images))), wanted)


def test_litert(detector, tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    path = tmp_path / "model.tflite"
    export_model(detector, path, format="litert", size=SIZE)
    run = interpreter.Interpreter(str(path)).get_signature_runner("serving_default")
    image = colour_blocks(*SIZE)
    assert_same(run(images=image[None]), detector.detect([image]))


def test_onnx(detector, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    path = tmp_path / "model.onnx"
    export_model(detector, path, format="onnx", size=SIZE)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    images = [colour_blocks(*SIZE, seed) for seed in range(2)]
    found = dict(zip(names, session.run(None, {"images": np.stack(images)})))
    assert_same(found, detector.detect(images))
