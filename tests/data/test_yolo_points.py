"""Which long lines of YOLO text files are keypoints, and which are polygons."""

import numpy as np
import pytest
from pycocotools import mask

from kerasdet.data import yolo
from kerasdet.data.records import DataError
from tests.data.folders import HEIGHT, WIDTH, kinds, yolo_folder

# A box of 24..36 x 15..25 pixels in 60x40 with two points, one of which is not labelled.
POSE3 = "0 0.5 0.5 0.2 0.25 0.45 0.4 2 0 0 0"
POSE2 = "0 0.5 0.5 0.2 0.25 0.45 0.4 0.5 0.5 0.55 0.6"
# Boxes with three points; as polygons, their second points would be far from the others.
TWO = ["0 .5 .5 .2 .25 .55 .6 .45 .4 .5 .5", "0 .7 .3 .2 .25 .75 .3 .65 .25 .7 .2"]


def pose(tmp_path, lines, settings=""):
    root = yolo_folder(tmp_path, lines, f"names: [cat]\n{settings}")
    return yolo(root)


@pytest.mark.parametrize("settings", ["kpt_shape: [2, 3]\n", ""])
def test_pose_labels_are_boxes_with_keypoints(tmp_path, settings):
    data = pose(tmp_path, [POSE3], settings)
    np.testing.assert_allclose(data.record(0).boxes, [[24, 15, 36, 25]], rtol=1e-6)
    np.testing.assert_allclose(data.record(0).keypoints, [[[27, 16, 2], [0, 0, 0]]], rtol=1e-6)
    assert data.record(1).keypoints.shape == (0, 2, 3)
    assert data.record(0).masks is None
    assert data.keypoint_names == ("point_0", "point_1")
    assert data.keypoint_sigmas == (0.05, 0.05)
    assert [fault.kind for fault in data.faults] == ([] if settings else ["pose"])


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        (["0 .5 .5 .4 .4 .4 .4 2 .75 .4 2"], 2),
        (["0 .5 .5 .4 .4 .4 .4 2 .9 .9 0"], 2),
        (["0 .5 .5 .4 .4 0 0 0 0 0 0"], 2),
        (["0 .5 .5 .4 .4 .4 .4 2.0"], 1),
        (["0 .5 .5 .4 .4" + " .9 .5 1.000000" * 17], 17),
        ([*["0 .5 .5 .4 .4 .6 .6 2 .4 .4 1"] * 10, "0 .9 .5 .4 .4 .6 .6 2 .4 .4 1"], 2),
        (["0 .5 .5 .4 .4 .4 .4 2 .6 .6 1", "0 .2 .2 .1 .1"], 2),
        (["0 .5 .5 .4 .4 .4 .4 2 .6 .6 1", "0 x .5 .4 .4 .4 .4 2 .6 .6 1"], 2),
    ],
)
def test_visibility_tells_pose_labels(tmp_path, lines, count):
    root = yolo_folder(tmp_path, lines, "names: [cat]\n")
    data = yolo(root, strict=False)
    assert data.record(0).keypoints.shape[1:] == (count, 3)
    assert data.record(0).masks is None
    assert "pose" in [fault.kind for fault in data.faults]


@pytest.mark.parametrize(
    "lines",
    [
        ["0 .5 .3 .7 .4 .7 .6 .5 .7 .3 .6 .3 .4"],
        ["0 .7 .7 .9 .7 .9 .9", "0 .5 .4 .6 .6 .4 .6"],
        [*["0 .5 .4 .6 .6 .4 .6"] * 8, "0 .7 .7 .9 .7 .9 .9"],
        ["0 .5 .4 .6 .6 .4 .6", "0 .5 .4 .6 .6 .4 .6 .4 .5"],
        ["0 .4 .4 .6 .4 .6 .6 .4 .6", "1 .1 .1 .2 .1 .2 .2 .1 .2"],
        ["0 .30 .20 .40 .30 .30 .40 .20 .30"],
        ["0 .3 .2 .4 .3 .3 .4 0 .3 .2 1 .1 .2"] * 2,
    ],
)
def test_lines_that_can_only_be_polygons(tmp_path, lines):
    data = yolo(yolo_folder(tmp_path, lines))
    assert len(data.record(0).masks) == len(lines)
    assert data.keypoint_names == ()


@pytest.mark.parametrize(
    ("lines", "number", "shapes"),
    [
        (["0 .5 .5 .4 .4 .4 .4 .6 .6 .5 .5"], 1, r"\[2, 3\] or \[3, 2\]"),
        (["0 .5 .5 .4 .4 .4 .4 .6 .6 .5 .5 .9 .9"], 1, r"\[4, 2\]"),
        (["0 .5 .5 .4 .4 .4 .4"], 1, r"\[1, 2\]"),
        (["0 .5 .5 .4 .4 .4 .4 .6 .6"], 1, r"\[2, 2\]"),
        (["0 .5 .5 .4 .4 -1 -1 .6 .6 .5 .5"], 1, r"\[2, 3\] or \[3, 2\]"),
        (["0 .5 .4 .6 .7 .4 .75 .3 .6"], 1, r"\[2, 2\]"),
        (["0 .5 .4 .6 .6 .4 .6"], 1, r"\[1, 2\]"),
        (["0 .5 .4 .6 .7 .4 .75 .3 .6 .35 .45"], 1, r"\[2, 3\] or \[3, 2\]"),
        (["0 .5 .5 .4 .4 .4 .4 .98 .6 .4 .7"], 1, r"\[2, 3\] or \[3, 2\]"),
        (["0 .5 .5 .4 .4 .4 .4 -1 .6 .4 2"], 1, r"\[2, 3\] or \[3, 2\]"),
        (["0 .5 .5 .4 .4 .4 .4 .9"], 1, r"\[1, 3\]"),
        ([POSE3, POSE3, "0 .5 .5 .4 .4 .4 .4 1"], 3, r"\[2, 3\] or \[3, 2\]"),
        ([POSE3, POSE3, "0 .1 .2 .5 .2 .5 .6"], 3, r"\[2, 3\] or \[3, 2\]"),
        (["0 .5 .5 .2 .2", POSE2, POSE2], 2, r"\[2, 3\] or \[3, 2\]"),
    ],
)
def test_lines_that_can_be_both_ask_for_kpt_shape(tmp_path, lines, number, shapes):
    message = (
        rf"a\.txt, line {number}: .*Write kpt_shape: \[P, 2 or 3\] into data.yaml \(here {shapes}\), or "
        r"kpt_shape: \[0, 2\] if they are polygons"
    )
    with pytest.raises(ValueError, match=message):
        yolo(yolo_folder(tmp_path, lines))


POLYGON = "0 .5 .4 .6 .7 .4 .75 .3 .6 .35 .45"


@pytest.mark.parametrize(
    ("train", "val", "points"),
    [
        (TWO * 5, [TWO[0]], 3),
        (TWO * 5, ["0 .5 .5 .9 1.25 .55 .6 .45 .4 .5 .5"], 3),
        ([POLYGON, "0 .1 .2 .5 .2 .5 .6"], [POLYGON], 0),
        ([POSE3], [POSE3], 2),
    ],
)
def test_all_splits_decide_together(tmp_path, train, val, points):
    for split, lines in (("train", train), ("val", val)):
        yolo_folder(tmp_path, lines, "names: [cat]\n", f"images/{split}")
    for split in ("train", "val"):
        assert len(yolo(tmp_path, split).keypoint_names) == points


def test_kpt_shape_of_no_points_means_polygons(tmp_path):
    data = pose(tmp_path, ["0 .5 .4 .6 .6 .4 .6"], "kpt_shape: [0, 2]\n")
    np.testing.assert_allclose(data.record(0).boxes, [[24, 16, 36, 24]], rtol=1e-6)
    assert len(data.record(0).masks) == 1
    assert (data.keypoint_names, data.faults) == ((), [])


def test_pose_labels_without_visibility(tmp_path):
    data = pose(tmp_path, TWO * 5)
    expected = [[[33, 24, 2], [27, 16, 2], [30, 20, 2]], [[45, 12, 2], [39, 10, 2], [42, 8, 2]]]
    np.testing.assert_allclose(data.record(0).keypoints, expected * 5, rtol=1e-6)
    (fault,) = data.faults
    assert "lines of 11 numbers are read as boxes with 3 keypoints" in fault.message
    assert "write kpt_shape: [3, 2]" in fault.message


def test_points_at_minus_one_are_not_labelled(tmp_path):
    data = pose(tmp_path, ["0 .5 .5 .4 .4 -1 -1 .6 .6"], "kpt_shape: [2, 2]\n")
    np.testing.assert_allclose(data.record(0).keypoints, [[[0, 0, 0], [36, 24, 2]]], rtol=1e-6)


@pytest.mark.parametrize("sides", [4, 8, 12])
def test_many_polygons_of_one_length(tmp_path, sides):
    rng = np.random.default_rng(sides)
    angles = np.arange(sides) * 2 * np.pi / sides
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    lines = [
        " ".join(map(str, [0, *(centre + size * around).ravel().round(4)]))
        for centre, size in zip(rng.uniform(0.2, 0.8, (40, 2)), rng.uniform(0.02, 0.15, 40))
    ]
    assert len(yolo(yolo_folder(tmp_path, lines)).record(0).masks) == 40


def test_many_boxes_with_points_of_one_length(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for sides in rng.uniform(0.05, 0.4, (40, 2)):
        centre = rng.uniform(sides / 2, 1 - sides / 2)
        points = centre + rng.uniform(-0.5, 0.5, (4, 2)) * sides
        lines.append(" ".join(map(str, [0, *centre, *sides, *points.ravel()])))
    assert pose(tmp_path, lines).record(0).keypoints.shape == (40, 4, 3)


def test_names_of_keypoints(tmp_path):
    data = pose(tmp_path / "a", [POSE3], "kpt_shape: [2, 3]\nkpt_names: {0: [nose, tail]}\n")
    assert data.keypoint_names == ("nose", "tail")
    data = pose(tmp_path / "b", [POSE2], "kpt_shape: [3, 2]\nflip_idx: [0, 2, 1]\n")
    assert data.keypoint_names == ("point_0", "left_1", "right_1")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.25 0.45 0.4", "6 numbers after the class; a box has 4, and 2 keypoints"),
        ("0 0.5 0.5 0.2 0.25 0.45 0.4 3 0 0 0", "visibility must be 0, 1 or 2"),
        ("0 0.5 0.5 0.2 0.25 45 40 2 0 0 0", "keypoints are not shares"),
        ("0 0.5 0.5 0.2 0.25 nan 0.4 2 0 0 0", "keypoints are not shares"),
    ],
)
def test_odd_pose_labels(tmp_path, line, message):
    with pytest.raises(DataError, match=rf"a\.txt, annotation 2: .*{message}"):
        pose(tmp_path, ["0 0.5 0.5 0.2 0.25", line], "kpt_shape: [2, 3]\n")


def test_polygons_are_masks(tmp_path):
    lines = ["0 0.1 0.25 0.5 0.25 0.5 0.5 0.1 0.5", "0 0.5 0.5 0.5 0.5", "0 0 0 1 0 1 1"]
    data = yolo(yolo_folder(tmp_path, lines))
    # 6..30 x 10..20 pixels; the second line has no mask; the third is half the image.
    areas = [mask.area(rle) for rle in data.record(0).masks]
    assert areas[:2] == [240, 0]
    assert abs(areas[2] - HEIGHT * WIDTH / 2) <= HEIGHT
    assert kinds(data.faults) == [(2, "no_mask")]
    assert data.keypoint_names == ()


def test_quadrilaterals_of_one_length_are_polygons(tmp_path):
    data = yolo(yolo_folder(tmp_path, ["0 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6"] * 2))
    np.testing.assert_allclose(data.record(0).boxes[0], [24, 16, 36, 24], rtol=1e-6)
