"""Exports of models of the Object Detection API: crops, and canvases of any size without padding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.export import export_model
from kerasdet.layers import (
    AnchorGenerator,
    CropAndResize,
    DenseHead,
    PSCropAndResize,
    ShortestEdgeFromCorner,
)
from kerasdet.models import RFCN, FasterRCNN, RegionProposalNetwork
from kerasdet.models.rfcn import map_head
from tests.tiny import TinyBackbone

from .conftest import assert_same, colour_blocks

SIZES = ((60, 90), (141, 70))


def make(kind):
    """A detector whose scores differ by more than the precision of any format."""
    keras.utils.set_random_seed(0)
    anchors = AnchorGenerator([[12, 24]], [1.0, 2.0], [8], clip=True)
    rpn = RegionProposalNetwork(anchors, 8, 1, (400, 400), (20, 20), activation="relu6", name="rpn")
    backbone = TinyBackbone(levels=("C3",), mean=(120,) * 3, std=(60,) * 3)
    parts = {"rpn": rpn, "resize": ShortestEdgeFromCorner(48, 64), "score_threshold": 0.02}
    if kind is RFCN:
        crops = {"pooling": PSCropAndResize(2, 3, dtype="float32"), "head": map_head(8)}
        model = RFCN(3, backbone, box_of_each_class=True, **parts, **crops)
    else:
        crops = {"pooling": CropAndResize(2, 2, "max"), "head": DenseHead((8,))}
        model = FasterRCNN(3, backbone, neck=False, **parts, **crops)
    rng = np.random.default_rng(0)
    for layer, spread in (
        (model.rpn.convs[0], 0.2),
        (model.rpn.logits, 0.5),
        (model.rpn.deltas, 0.1),
        (model.classifier.class_output, 0.5),
        (model.classifier.box_output, 0.3),
    ):
        layer.kernel.assign(rng.normal(0, spread, layer.kernel.shape))
    return model


@pytest.mark.parametrize("kind", [FasterRCNN, RFCN])
def test_any_size_as_saved_model_and_onnx(kind, tmp_path):
    model = make(kind)
    export_model(model, tmp_path / "model")
    run = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    runtime = pytest.importorskip("onnxruntime")
    export_model(model, tmp_path / "model.onnx", format="onnx")
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    names = [output.name for output in session.get_outputs()]
    for size in SIZES:
        images = colour_blocks(*size)[None]
        wanted = model.detect(list(images))
        assert len(wanted[0]["labels"]) > 3
        assert_same(run(images=tf.constant(images)), wanted)
        assert_same(dict(zip(names, session.run(names, {"images": images}))), wanted)
