"""FCOS in the three formats, on the paper's points and on torchvision's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.export import export_model
from kerasdet.layers import Distances, FeaturePyramid, Fit, Points, Subnets
from kerasdet.models import FCOS
from tests.tiny import TinyBackbone

from .conftest import assert_same, colour_blocks

TORCHVISIONS = {
    "points": Points(offset=0.0, steps_from_image=True),
    "regression": Distances("relu", scaled=False, normalized=True),
    "score_power": 0.5,
}


@pytest.fixture(scope="module", params=[{}, TORCHVISIONS], ids=["paper", "torchvision"])
def fcos(request):
    """A detector whose scores differ by more than the precision of any format."""
    keras.utils.set_random_seed(0)
    model = FCOS(
        3,
        TinyBackbone(mean=(120,) * 3, std=(60,) * 3),
        neck=FeaturePyramid(8, p6_from="P5"),
        head=Subnets(8, 1),
        resize=Fit(64, 64),
        max_detections=20,
        **request.param,
    )
    rng = np.random.default_rng(0)
    for conv, std in (
        (model.head.class_convs[0], 0.2),
        (model.class_output, 0.2),
        (model.head.box_convs[0], 0.2),
        (model.box_output, 0.02),
        (model.centerness_output, 0.2),
    ):
        conv.kernel.assign(rng.normal(0, std, conv.kernel.shape))
    model.class_output.bias.assign([-3, -2.5, -2])
    model.box_output.bias.assign([2] * 4)
    return model


def on_saved_model(path, images):
    return tf.saved_model.load(path).signatures["serving_default"](images=tf.constant(images))


def on_litert(path, images):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    runner = interpreter.Interpreter(str(path)).get_signature_runner("serving_default")
    return runner(images=images)


def on_onnx(path, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images})))


@pytest.mark.parametrize(
    ("kind", "name", "run", "settings"),
    [
        ("saved_model", "model", on_saved_model, {}),
        ("litert", "model.tflite", on_litert, {"size": (80, 100)}),
        ("onnx", "model.onnx", on_onnx, {"size": (80, 100)}),
    ],
    ids=["saved_model", "litert", "onnx"],
)
def test_the_file_gives_the_models_boxes(fcos, tmp_path, kind, name, run, settings):
    path = tmp_path / name
    export_model(fcos, path, format=kind, **settings)
    for seed in range(2):
        image = colour_blocks(80, 100, seed)
        wanted = fcos.detect([image])
        assert len(wanted[0]["labels"]) > 5
        assert_same(run(path, image[None]), wanted)
