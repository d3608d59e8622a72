"""torchvision's boxes from torchvision's weights, on small pictures, against values that it has given.

The golden files hold those values; weights and pictures follow from seeds. Where PyTorch is, they are
written by

    python -m tests.parity.reference tests/parity/golden --golden --limit 4000 --edges 256 341 \
        --models retinanet_resnet50_fpn_coco retinanet_resnet50_fpn_v2_coco --sizes 240x320 320x214
    python -m tests.parity.reference tests/parity/golden --golden --limit 4000 \
        --models resnet18_imagenet mobilenet_v2_imagenet --sizes 224x224 161x203

`run.py` compares all models on large pictures, by their files.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.parity.compare import compare, match, unexplained, within_bounds
from tests.parity.lively import lively_state, picture
from tests.parity.models import MODELS

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.npz"))
LABELS = 5


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_outputs_and_boxes_are_torchvisions(path):
    rows = list(compare(path))
    detector = MODELS[path.stem].calibrated
    assert len(rows) == (3 if detector else 2)  # two pictures, alone and for detectors in one batch
    for row in rows:
        assert within_bounds(row), row
        if detector:
            assert row["found"] >= 200
            assert row["labels"] >= LABELS


def test_there_are_golden_files():
    assert [path.stem for path in GOLDEN] == [
        "mobilenet_v2_imagenet",
        "resnet18_imagenet",
        "retinanet_resnet50_fpn_coco",
        "retinanet_resnet50_fpn_v2_coco",
    ]
    assert sum(path.stat().st_size for path in GOLDEN) < 2.5e6


def test_weights_and_pictures_are_the_same_everywhere():
    shapes = {"conv1.weight": (2, 1, 1, 1), "bn1.running_var": (2,), "bn1.num_batches_tracked": ()}
    state = lively_state(shapes, seed=3)
    np.testing.assert_allclose(state["conv1.weight"].ravel(), [-1.9943004, -1.0097991], rtol=1e-6)
    np.testing.assert_allclose(state["bn1.running_var"], [0.59983563, 1.6779317], rtol=1e-6)
    assert state["bn1.num_batches_tracked"] == 1000
    assert picture(3, 4, seed=5)[1, 2].tolist() == [33, 81, 16]


class Settings:
    score_threshold, iou_threshold, max_detections = 0.05, 0.5, 9


def detections(*rows):
    """From (x1, score, label): boxes of 10 x 10 pixels."""
    return {
        "boxes": np.array([[x, 0, x + 10, 10] for x, _, _ in rows], np.float64).reshape(-1, 4),
        "scores": np.array([score for _, score, _ in rows]),
        "labels": np.array([label for _, _, label in rows], int),
    }


def test_pairs_agree_in_label_box_and_score():
    theirs = detections((0, 0.9, 1), (20, 0.8, 1), (40, 0.7, 1), (60, 0.6, 1), (60, 0.6, 1))
    ours = detections((0.04, 0.9, 1), (20.06, 0.8, 1), (40, 0.7002, 1), (60, 0.6, 2), (60, 0.6, 1))
    assert match(theirs, ours) == [(0, 0), (3, 4)]


@pytest.mark.parametrize(
    ("theirs", "ours", "cuts", "count"),
    [
        ([(0, 0.9, 1)], [], [], 1),
        ([(0, 0.05009, 1)], [], [], 0),  # at the score's threshold
        ([(0, 0.3, 1)], [], [0.3001], 0),  # the last candidate
        ([(0, 0.9, 1), (10 / 3, 0.8, 1)], [(0, 0.9, 1)], [], 0),  # IoU 0.5
        ([(0, 0.9, 1), (3, 0.8, 1)], [(0, 0.9, 1)], [], 1),
        ([(0, 0.9, 1)], [(2, 0.9, 1)], [], 0),  # a tie
        ([(0, 0.9, 1)], [(2, 0.9, 2)], [], 2),  # of another label
        ([(0, 0.9, 1)], [(0.5, 0.9, 1)], [], 2),  # the same detection, inexact
        ([(0, 0.9, 1), (4, 0.8, 1)], [(2, 0.9, 1)], [], 0),  # 4 overlaps the tie's 2, IoU 2/3
    ],
)
def test_what_explains_a_missing_detection(theirs, ours, cuts, count):
    theirs, ours = detections(*theirs), detections(*ours)
    assert unexplained(theirs, ours, match(theirs, ours), Settings, cuts) == count
