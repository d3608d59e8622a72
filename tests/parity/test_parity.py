"""The boxes of published models from their weights, on small images, against values that their origin gave.

The golden files hold those values; weights and images follow from seeds. Where PyTorch is, they are
written by

    python -m tests.parity.reference tests/parity/golden --golden --limit 4000 --edges 256 341 \
        --models retinanet_resnet50_fpn_coco retinanet_resnet50_fpn_v2_coco --sizes 240x320 320x214
    python -m tests.parity.reference tests/parity/golden --golden --limit 4000 \
        --models resnet18_imagenet mobilenet_v2_imagenet --sizes 224x224 161x203
    python -m tests.parity.reference tests/parity/golden --golden --limit 1500 \
        --models googlenet_imagenet inception_v3_imagenet --sizes 107x131 128x96
    python -m tests.parity.reference tests/parity/golden --golden --limit 1500 --edges 192 256 \
        --models fasterrcnn_mobilenet_v3_large_320_fpn_coco fcos_resnet50_fpn_coco --sizes 240x320 320x214
    python -m tests.parity.reference tests/parity/golden --golden --limit 1500 \
        --models ssd300_vgg16_coco ssdlite320_mobilenet_v3_large_coco --sizes 240x320 320x214
    python -m tests.parity.mmdetection tests/parity/golden --golden --limit 1500 --edges 192 256 \
        --models cascade_mask_rcnn_r50_fpn_20e_coco faster_rcnn_r50_fpn_mdconv_c3_c5_1x_coco \
        --sizes 240x320

`run.py` compares all models on large images, by their files.
"""

from pathlib import Path

import numpy as np
import pytest

from kerasdet.ops.masks import paste_masks
from kerasdet.zoo.manifest import is_published, manifest_paths, read_manifest
from tests.parity import branches
from tests.parity.compare import (
    NONE,
    ORIGINS,
    compare,
    match,
    unexplained,
    within_bounds,
    without_partner,
)
from tests.parity.lively import image, lively_state
from tests.parity.models import MODELS

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.npz"))
LABELS = 5


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_outputs_and_boxes_are_the_origins(path):
    rows = list(compare(path))
    detector = MODELS[path.stem].calibrated
    # Two images, alone and for detectors in one batch; of mmdetection's, which are large, one.
    pair = MODELS[path.stem].origin == "torchvision"
    assert len(rows) == ((3 if detector else 2) if pair else 1)
    for row in rows:
        assert within_bounds(row), row
        if detector:
            assert row["found"] >= 100  # all that a Faster R-CNN gives of one image
            assert row["labels"] >= LABELS


@pytest.mark.parametrize("name", ["googlenet_imagenet", "inception_v3_imagenet"])
def test_inception_networks_are_torchvisions_to_a_hundred_thousandth(name):
    (path,) = (path for path in GOLDEN if path.stem == name)
    assert max(row["raw"] for row in compare(path)) < 1e-5


def nameless(config):
    """A config without the names of models and layers, which change nothing."""
    if isinstance(config, dict):
        return {key: nameless(value) for key, value in config.items() if key != "name"}
    return [nameless(value) for value in config] if isinstance(config, list) else config


def test_what_loads_is_what_is_compared():
    manifests = {name: read_manifest(path) for name, path in manifest_paths().items()}
    compared = [(manifests[name]["class"], nameless(manifests[name]["config"])) for name in MODELS]
    alone = {
        name
        for name, manifest in manifests.items()
        if is_published(manifest)
        and manifest["conversion"] in ORIGINS
        and (manifest["class"], nameless(manifest["config"])) not in compared
    }
    # Its classifier is unusable: what is compared is the same backbone with another mean and std.
    assert alone == {"vgg16_imagenet_features"}
    features = nameless(manifests["vgg16_imagenet_features"]["config"])
    backbone = nameless(manifests["vgg16_imagenet"]["config"]["backbone"]["config"])
    changed = {key for key in features if features[key] != backbone[key]}
    assert changed == {"mean", "std"}


def test_there_are_golden_files():
    assert [path.stem for path in GOLDEN] == [
        "cascade_mask_rcnn_r50_fpn_20e_coco",
        "faster_rcnn_r50_fpn_mdconv_c3_c5_1x_coco",
        "fasterrcnn_mobilenet_v3_large_320_fpn_coco",
        "fcos_resnet50_fpn_coco",
        "googlenet_imagenet",
        "inception_v3_imagenet",
        "mobilenet_v2_imagenet",
        "resnet18_imagenet",
        "retinanet_resnet50_fpn_coco",
        "retinanet_resnet50_fpn_v2_coco",
        "ssd300_vgg16_coco",
        "ssdlite320_mobilenet_v3_large_coco",
    ]
    assert sum(path.stat().st_size for path in GOLDEN) < 3e6


def test_weights_and_images_are_the_same_everywhere():
    shapes = {"conv1.weight": (2, 1, 1, 1), "bn1.running_var": (2,), "bn1.num_batches_tracked": ()}
    state = lively_state(shapes, seed=3)
    np.testing.assert_allclose(state["conv1.weight"].ravel(), [-1.9943004, -1.0097991], rtol=1e-6)
    np.testing.assert_allclose(state["bn1.running_var"], [0.59983563, 1.6779317], rtol=1e-6)
    assert state["bn1.num_batches_tracked"] == 1000
    assert image(3, 4, seed=5)[1, 2].tolist() == [33, 81, 16]


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
    alone = without_partner(theirs, ours, match(theirs, ours))
    assert unexplained(theirs, ours, alone, Settings, cuts) == count


def test_a_proposal_that_one_side_has_explains_its_detections():
    theirs, ours = detections((0, 0.9, 1), (20, 0.8, 1)), detections((20, 0.8, 1), (3, 0.7, 1))
    pairs = match(theirs, ours)
    strangers = (np.array([[0.1, 0.9]]), np.zeros((0, 2)))
    alone = without_partner(theirs, ours, pairs, strangers)
    assert [[known for *_, known in side] for side in alone] == [[True], [False]]
    # Theirs suppresses ours: IoU 7/13.
    assert unexplained(theirs, ours, alone, Settings, []) == 0
    alone = without_partner(theirs, ours, pairs, (strangers[1], strangers[1]))
    assert unexplained(theirs, ours, alone, Settings, []) == 2


def test_proposals_are_paired_before_their_logits_are_compared():
    theirs = {
        "proposals": np.array([[0, 0, 8, 8], [0, 0, 8, 9], [0, 0, 8, 8.06]]),
        "class_logits": np.array([[2.0, 0], [0, 4], [1, 1]]),
    }
    ours = {
        "proposals": np.array([[0, 0, 8, 9.02], [0, 0, 8, 8.04], [5, 5, 6, 6]]),
        "class_logits": np.array([[0, 4.0], [1, 1.4], [np.log(3), 0]]),
    }
    # 8.04 is nearer to 8.06 than to 8.
    share, error, (only_theirs, only_ours) = branches.proposals(theirs, ours)
    assert share == pytest.approx(2 / 3)
    assert error == pytest.approx(0.4 / 4)
    np.testing.assert_allclose(only_theirs, [[1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))]])
    np.testing.assert_allclose(only_ours, [[0.75, 0.25]])
    # Of logits of every second proposal, the one in between is left out.
    theirs["class_logits"] = theirs["class_logits"][::2] + np.array([0, 0.4])
    assert branches.proposals(theirs, ours, limit=3)[1] == pytest.approx(0.0, abs=1e-12)


def test_masks_in_their_boxes_and_pasted():
    boxes = np.array([[0, 0, 8, 8], [4, 4, 8, 8]], np.float32)
    masks = np.stack([np.ones((4, 4)), np.zeros((4, 4))]).astype(np.float32)
    pasted = paste_masks(masks[:1], boxes[:1], (10, 10))
    whole, part = pasted.sum(), pasted[:, :, :3].sum()
    pasted[:, :, :3] = False
    theirs = {"boxes": boxes[:1], "masks": masks[:1] * 0.75, "pasted": np.packbits(pasted)}
    ours = {"masks": masks[::-1], "boxes": boxes[::-1]}
    error, iou = branches.masks(theirs, ours, [(0, 1)], (10, 10))
    assert error == 0.25
    assert whole > part > 0
    assert iou == pytest.approx(1 - part / whole)
    assert branches.masks(theirs, ours, [], (10, 10)) == (0.0, 1.0)
    # Of every second detection, and not pasted.
    theirs = {"boxes": np.zeros((3, 4)), "masks": np.stack([masks[0], masks[0] * 0.5])}
    ours = {"masks": np.repeat(masks[:1], 3, axis=0), "boxes": boxes}
    assert branches.masks(theirs, ours, [(0, 2), (1, 1)], (10, 10), 3) == (0.0, None)
    assert branches.masks(theirs, ours, [(2, 0), (1, 1)], (10, 10), 3) == (0.5, None)


def test_share_of_keypoints():
    theirs = {"keypoints": np.zeros((2, 2, 2))}
    ours = {"keypoints": np.array([[[0.05, 0, 9], [0, 0.2, 9]], [[0.2, 0, 9], [0, -0.05, 9]]])}
    assert branches.keypoints(theirs, ours, [(0, 0)]) == 0.5
    assert branches.keypoints(theirs, ours, [(0, 1), (1, 0)]) == 0.5
    assert branches.keypoints(theirs, ours, []) == 1.0


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("raw", 0.9e-4, 1.1e-4),
        ("raw", 0.0, np.nan),
        ("unexplained", 0, 1),
        ("matched", 99, 98),
        ("proposals", 0.991, 0.989),
        ("mask", 0.9e-3, 1.1e-3),
        ("pasted", 0.991, 0.989),
        ("keypoints", 0.991, 0.989),
    ],
)
def test_bounds(column, good, bad):
    row = NONE | {"found": 100, "matched": 100}
    assert within_bounds(row | {column: good})
    assert not within_bounds(row | {column: bad})
