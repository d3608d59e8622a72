"""The published SSD that finds faces: its network's outputs, from its own weights, and what does not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from kerasdet.layers import PaddedSquare
from kerasdet.ops.candidates import join_levels
from kerasdet.ops.coders import decode_deltas
from kerasdet.zoo import untrained
from kerasdet.zoo.models import convert_file, info
from kerasdet.zoo.origins import face_api
from kerasdet.zoo.origins.object_detection_api import depthwise, xy_first

FACES = Path(__file__).parents[3] / "shared" / "data" / "faces"
NAME = "ssd_mobilenet_v1_face"
MANIFEST = FACES / "ssd_mobilenetv1_model-weights_manifest.json"
SHARD = FACES / "ssd_mobilenetv1_model.bin"


@pytest.fixture(scope="module")
def empty():
    return untrained(NAME)


def test_the_model_is_tensorflows(empty):
    assert empty.backbone.strides == {"C4": 16, "C5": 32}
    assert empty.default_boxes.num_boxes == [3, 6, 6, 6, 6, 6]
    np.testing.assert_allclose(empty.default_boxes.scales, [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0])
    assert (empty.class_names, empty.resize) == (("face", "unused 2"), PaddedSquare(512))
    outputs = empty(np.zeros((1, 512, 512, 3), np.uint8))
    counts = [len(boxes) for boxes in outputs["default_boxes"].values()]
    assert counts == [3072, 1536, 384, 96, 24, 6]
    assert sum(counts) == 5118


def test_every_weight_has_a_name(empty):
    names = face_api.name_weights(empty, face_api.TABLE, face_api.WEIGHTS, "face_api")
    assert len(names) == len(empty.weights)
    assert "MobilenetV1/Conv2d_13_pointwise/BatchNorm/gamma" in names
    assert "Prediction/Conv2d_7_pointwise/biases" in names
    assert "Prediction/BoxPredictor_5/BoxEncodingPredictor/weights" in names


def test_changes_of_arrays_by_hand():
    boxes = np.arange(8.0)  # y x h w of two boxes
    np.testing.assert_array_equal(xy_first(boxes), [1, 0, 3, 2, 5, 4, 7, 6])
    assert depthwise(np.zeros((3, 3, 5, 1))).shape == (3, 3, 1, 5)
    assert depthwise(np.zeros(5)).shape == (5,)


def test_a_file_of_another_network_changes_nothing(empty, tmp_path):
    entry = {"name": "MobilenetV1/Conv2d_0_pointwise/weights", "shape": [1], "dtype": "float32"}
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"paths": ["a.bin"], "weights": [entry]}]))
    (tmp_path / "a.bin").write_bytes(bytes(4))
    before = [np.array(weight) for weight in empty.get_weights()]
    with pytest.raises(ValueError, match=r"a\.json does not fit this SSD: .*is missing"):
        face_api.load(empty, path)
    for old, new in zip(before, empty.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.skipif(not MANIFEST.exists(), reason=f"no weights at {FACES}")
def test_raw_outputs_are_the_published_networks():
    model = convert_file(info(NAME), MANIFEST, SHARD)
    raw = np.load(FACES / "raw.npz")
    photographs = {name.partition("/")[0] for name in raw}
    assert len(photographs) == 2
    for photograph in photographs:
        outputs = model(raw[f"{photograph}/canvas512"][None])
        logits, deltas = (join_levels(outputs[name], 1) for name in ("logits", "deltas"))
        boxes = decode_deltas(deltas, join_levels(outputs["default_boxes"], 0), (10, 10, 5, 5))
        boxes = ops.convert_to_numpy(boxes)[0][:, [1, 0, 3, 2]] / 512
        np.testing.assert_allclose(boxes, raw[f"{photograph}/ssd_boxes"], atol=1e-3)
        scores = ops.convert_to_numpy(model.confidence.scores(logits))[0, :, 0]
        np.testing.assert_allclose(scores, raw[f"{photograph}/ssd_scores"], atol=1e-3)
        assert scores.max() > 0.8
