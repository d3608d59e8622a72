from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kerasdet.metrics import (
    confusion_matrix,
    confusion_table,
    format_table,
    metrics_table,
    plot_confusion,
    plot_history,
    plot_precision_recall,
    precision_recall_curves,
    precision_recall_table,
)

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]


def image(boxes, labels, ignore):
    boxes = np.array(boxes, "float32").reshape(-1, 4)
    return SimpleNamespace(boxes=boxes, labels=np.array(labels), ignore=np.array(ignore, bool))


def found(boxes, labels, confidence):
    boxes = np.array(boxes, "float32").reshape(-1, 4)
    return {"boxes": boxes, "labels": np.array(labels), "confidence": np.array(confidence)}


def scene():
    records = [image([A, B, C], [0, 1, 1], [0, 0, 1]), image([A, B], [0, 1], [0, 0])]
    detections = [
        # A as 0; A again as 1 (background); B as 0 (confused); on the ignored C: nothing.
        found([A, A, B, C], [0, 1, 0, 1], [0.9, 0.8, 0.7, 0.95]),
        # A too weak (missed); B shifted to IoU 1/3 (missed, and background as 1).
        found([A, [25, 0, 35, 10]], [0, 1], [0.4, 0.9]),
    ]
    return records, detections


def test_confusion_matrix_by_hand():
    records, detections = scene()
    matrix = confusion_matrix(records, detections, ["a", "b"])
    np.testing.assert_array_equal(matrix, [[1, 0, 1], [1, 0, 1], [0, 2, 0]])
    lower = confusion_matrix(records, detections, ["a", "b"], 0.3, 0.4)
    np.testing.assert_array_equal(lower, [[2, 0, 0], [1, 1, 0], [0, 1, 0]])
    none = [found([], [], [])] * 2
    np.testing.assert_array_equal(
        confusion_matrix(records, none, ["a", "b"]), [[0, 0, 2], [0, 0, 2], [0, 0, 0]]
    )


def test_confusion_table():
    rows = confusion_table(np.array([[1, 0, 1], [1, 0, 1], [0, 2, 0]]), ["a", "b"])
    assert rows == [
        ["true \\ detected", "a", "b", "missed"],
        ["a", "1", "0", "1"],
        ["b", "1", "0", "1"],
        ["background", "0", "2", "0"],
    ]


def test_metrics_table():
    metrics = {
        "AP": 0.25,
        "AP50": 0.5,
        "APs": None,
        "per_class": {
            "a": {"AP": 0.25, "AP50": 0.5, "objects": 3},
            "long": {"AP": None, "AP50": None, "objects": 0},
        },
    }
    rows = metrics_table(metrics)
    assert rows == [
        ["class", "objects", "AP", "AP50", "APs"],
        ["a", "3", "0.250", "0.500", ""],
        ["long", "0", "-", "-", ""],
        ["all", "3", "0.250", "0.500", "-"],
    ]
    assert format_table(rows).splitlines() == [
        "class  objects     AP   AP50  APs",
        "-----  -------  -----  -----  ---",
        "a            3  0.250  0.500",
        "long         0      -      -",
        "all          3  0.250  0.500    -",
    ]
    voc = {"mAP": 0.5, "per_class": {"a": {"AP": 0.5, "objects": 1}}}
    assert metrics_table(voc)[1:] == [["a", "1", "0.500"], ["all", "1", "0.500"]]


def test_precision_recall_table():
    records, detections = scene()
    rows = precision_recall_table(precision_recall_curves(records, detections, ["a", "b"]))
    assert rows[0] == ["class", "recall", "precision", "score"]
    # "a": 0.9 hit, 0.7 false, 0.4 hit, of two objects.
    assert rows[5] == ["a", "0.5", "1.000", "0.900"]
    assert rows[10] == ["a", "1.0", "0.667", "0.400"]
    assert rows[11] == ["b", "0.1", "-", "-"]


def ink(path, color, tolerance=40):
    """Share of the image's pixels in about this colour."""
    pixels = np.array(Image.open(path).convert("RGB"), int)
    return float(np.mean(np.abs(pixels - color).max(-1) < tolerance))


@pytest.mark.parametrize("classes", [2, 30])
def test_plots_are_images_of_the_data(tmp_path, classes):
    records, detections = scene()
    names = ["a", "b"] + [f"class {i}" for i in range(2, classes)]
    curves = precision_recall_curves(records, detections, names)
    plot_precision_recall(tmp_path / "pr.png", curves)
    assert ink(tmp_path / "pr.png", (230, 159, 0)) > 1e-3  # the curve of "a", in its colour
    matrix = confusion_matrix(records, detections, names)
    plot_confusion(tmp_path / "confusion.png", matrix, names)
    assert ink(tmp_path / "confusion.png", (8, 48, 107)) > 1e-4  # a full share: darkest blue
    assert len(list(tmp_path.iterdir())) == 2


def test_plots_of_nothing(tmp_path):
    plot_precision_recall(tmp_path / "pr.png", {})
    plot_confusion(tmp_path / "confusion.png", np.zeros((2, 2), int), ["a"])
    empty = precision_recall_curves([image([A], [0], [0])], [found([], [], [])], ["a"])
    plot_precision_recall(tmp_path / "pr.png", empty)


def test_plot_history(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text(
        "epoch,loss,val_loss,val_mAP,val_AP50\n0,2.0,NA,0.1,0.3\n1,1.5,1.8,0.3,0.6\n2,1.2,1.7,,\n"
    )
    plot_history(log, tmp_path / "epochs.png")
    lines = log.read_text().splitlines()
    minutes = ["minutes", "0.5", "1.1", "1.6"]
    log.write_text("\n".join(f"{line},{m}" for line, m in zip(lines, minutes)))
    plot_history(log, tmp_path / "both.png")
    one, two = (Image.open(tmp_path / f"{name}.png") for name in ("epochs", "both"))
    assert (two.width, two.height) == (2 * one.width, one.height)
    assert ink(tmp_path / "both.png", (0, 114, 178)) > 1e-3


def test_plot_history_of_masks_and_keypoints(tmp_path):
    log = tmp_path / "log.csv"
    for kind, color in (("mask", (204, 121, 167)), ("keypoint", (86, 180, 233))):
        log.write_text(f"epoch,val_mAP,val_{kind}_mAP\n0,0.2,0.5\n1,0.4,0.8\n")
        plot_history(log, tmp_path / "history.png")
        assert ink(tmp_path / "history.png", color) > 1e-3


def test_plot_history_of_segmentation(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss,val_mIU,val_pixel_accuracy\n0,2.0,0.2,0.5\n1,1.0,0.4,0.8\n")
    plot_history(log, tmp_path / "both.png")
    for color in ((0, 114, 178), (213, 94, 0)):
        assert ink(tmp_path / "both.png", color) > 1e-3
    log.write_text("epoch,val_mIU\n0,0.2\n1,0.4\n")
    plot_history(log, tmp_path / "one.png")
    one, both = (Image.open(tmp_path / f"{name}.png") for name in ("one", "both"))
    assert both.height == 2 * one.height


def test_plot_history_of_no_log_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such training log"):
        plot_history(tmp_path / "log.csv", tmp_path / "a.png")
    (tmp_path / "log.csv").write_text("step,accuracy\n1,2\n")
    with pytest.raises(ValueError, match="needs `epoch` and one of loss"):
        plot_history(tmp_path / "log.csv", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
