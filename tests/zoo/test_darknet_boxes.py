"""`detect` gives the boxes of the original Darknet: its letterbox, its suppression, the image's pixels."""

import numpy as np
import pytest

from kerasdet.zoo.origins.darknet import load_darknet
from tests.golden.store import FOLDER
from tests.parity.darknet_boxes import THRESHOLD, unmatched

SIZES = ("64x96", "100x141", "141x100", "37x200", "200x37", "5x7", "240x320")


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "darknet_boxes.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("darknet")
    with np.load(FOLDER / "darknet.npz") as file:
        (folder / "net.cfg").write_text(str(file["yolov2/cfg"]))
        (folder / "net.weights").write_bytes(file["yolov2/weights"].tobytes())
    paths = folder / "net.cfg", folder / "net.weights"
    return load_darknet(*paths, score_threshold=THRESHOLD, max_detections=200)


def test_the_sizes_are_those_of_the_file(golden):
    assert sorted({name.partition("/")[0] for name in golden}) == sorted(SIZES)


@pytest.mark.parametrize("size", SIZES)
def test_the_canvas_is_darknets(model, golden, size):
    inputs = model.to_canvas([golden[f"{size}/image"]])
    np.testing.assert_allclose(inputs["images"][0] / 255, golden[f"{size}/canvas"], atol=1e-6)
    np.testing.assert_array_equal(inputs["image_sizes"], [[64, 96]])


@pytest.mark.parametrize("size", SIZES)
def test_boxes_and_scores_are_darknets(model, golden, size):
    image, rows = golden[f"{size}/image"], golden[f"{size}/rows"]
    assert len(rows) > 20
    missing, worst = unmatched(model.detect(image)[0], rows, pixels=0.01, score=1e-4)
    assert missing == 0, worst
