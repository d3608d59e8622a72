"""Darknet's files: the original Darknet's and OpenCV's numbers, and files that do not fit."""

import numpy as np
import pytest

from kerasdet.backbones import ImageClassifier
from kerasdet.models import YOLO, YOLOv2
from kerasdet.zoo.origins.darknet import load_darknet
from tests.golden.store import FOLDER
from tests.parity.darknet import differences

KINDS = {
    "yolov2": YOLOv2,
    "yolov2-tiny": YOLOv2,
    "yolov1": YOLO,
    "yolov1-local": YOLO,
    "classifier": ImageClassifier,
}


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "darknet.npz") as file:
        arrays = {key: file[key] for key in file.files}
    names = {key.partition("/")[0] for key in arrays}
    return {
        name: {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith(f"{name}/")}
        for name in names
    }


def written(values, folder, cfg=None, weights=None):
    """The two files of a network, or others in their place."""
    paths = folder / "net.cfg", folder / "net.weights"
    paths[0].write_text(str(values["cfg"]) if cfg is None else cfg)
    paths[1].write_bytes(values["weights"].tobytes() if weights is None else weights)
    return paths


@pytest.mark.parametrize("name", KINDS)
def test_darknets_and_opencvs_numbers(golden, name, tmp_path):
    values = golden[name]
    model = load_darknet(*written(values, tmp_path))
    assert type(model) is KINDS[name]
    found = differences(model, values)
    wanted = {
        "YOLOv2": {"raw", "boxes", "scores", "opencv boxes", "opencv scores"},
        "YOLO": {"raw", "boxes", "scores"},
        "ImageClassifier": {"raw"},
    }
    assert set(found) == wanted[type(model).__name__]
    assert max(found.values()) < 1e-4, found
