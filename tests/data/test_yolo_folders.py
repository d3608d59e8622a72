"""YOLO folders as exporters and annotation tools write them, and hostile ones."""

import os

import numpy as np
import pytest
from pycocotools import mask

from kerasdet.data import yolo
from kerasdet.data.records import DataError
from kerasdet.data.yolo_folders import has_split
from tests.data.folders import HEIGHT, WIDTH, image, kinds, yolo_folder

BOX = "0 0.5 0.5 0.5 0.5"


def ids(data):
    return [data.record(index).image_id for index in range(len(data))]


def labelled(root, *stems, line=BOX, suffix=".png"):
    """Images <stem> below images/ with one line each below labels/."""
    for stem in stems:
        image(root / "images" / f"{stem}{suffix}")
        text = root / "labels" / f"{stem}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(f"{line}\n")
    return root


@pytest.mark.parametrize(
    ("names", "expected", "numbers"),
    [
        ("{2: pen, 0: cup, 1: box}", ("cup", "box", "pen"), (0, 1, 2)),
        ("\n  1: box\n  2: pen\n  0: cup", ("cup", "box", "pen"), (0, 1, 2)),
        ("['cup, red', \"box # 1\", pen]", ("cup, red", "box # 1", "pen"), (0, 1, 2)),
        ("[cup,\n  box, # two\n  pen]", ("cup", "box", "pen"), (0, 1, 2)),
        ("\n  0: cup\n  2: pen", ("cup", "pen"), (0, 2)),
        ("[no, 010, 1.0, null, 12:30]", ("no", "010", "1.0", "null", "12:30"), (0, 1, 2, 3, 4)),
        ("\n- cup\n-  box", ("cup", "box"), (0, 1)),
    ],
)
def test_names_of_data_yaml(tmp_path, names, expected, numbers):
    data = yolo(yolo_folder(tmp_path, [BOX], f"names: {names}\n", "images/train"), "train")
    assert data.class_names == expected
    assert data.category_ids == numbers


def test_a_gap_in_the_numbers_shifts_nothing(tmp_path):
    lines = ["2 0.5 0.5 0.5 0.5", "1 0.5 0.5 0.5 0.5"]
    root = yolo_folder(tmp_path, lines, "names: {0: cup, 2: pen}\n")
    with pytest.raises(DataError, match="annotation 2: class 1 is not in 0, 2 of 'names'"):
        yolo(root)
    assert yolo(root, strict=False).record(0).labels.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a, b]\nnc: 3\n", "nc is '3', but names has 2"),
        ("names: {0: a, 0: b}\n", "line 1: not YAML .*appears twice"),
        ("names: {0: a, 00: b}\n", "'names' has '00': 'b'; it must be a unique number from 0"),
        ("names: {a: 0}\n", "'names' has 'a': '0'"),
        ("names: {-1: a}\n", "'names' has '-1'"),
        ("names: [[a, b]]\n", r"'names' has 0: \['a', 'b'\]"),
        ("names: cup\n", "no class names"),
        ("names:\n", "no class names"),
        ("nc: 2\n", "no class names"),
        ("names: [a, a]\n", "class name 'a' appears twice"),
        ("just text\n", "holds no 'key: value' lines"),
        ("names: [a\nnc: 2\n", "line 2: not YAML"),
        ("names: [a]\n\tx: 1\n", "line 2: not YAML"),
        ("[" * 100_000, "brackets more than 50 deep"),
        ("names: [a]\nx: " + "- " * 5000, "not YAML"),
        ("- " * 5000, "not YAML"),
        ("names: [a]\n#" + "x" * 1_000_000, "longer than 1000000 characters"),
        ("names: &a [*a, *a]\n", "line 1: not YAML"),
        ("names: [a]\nkpt_shape: [4]\n", r"kpt_shape is \['4'\]"),
        ("names: [a]\nkpt_shape: [4, 5]\n", "it must be .number of keypoints, 2 or 3"),
        ("names: [a]\nkpt_shape: text\n", "kpt_shape is 'text'"),
        ("names: [a]\nkpt_shape: [1, 2]\nkpt_names: [p, q]\n", "kpt_shape says 1 names"),
    ],
)
def test_broken_data_yaml(tmp_path, text, message):
    root = yolo_folder(tmp_path, [], text)
    with pytest.raises(ValueError, match=message) as caught:
        yolo(root)
    assert str(tmp_path) in str(caught.value)


def test_tags_of_data_yaml_call_nothing(tmp_path):
    text = f"names: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n"
    assert yolo(yolo_folder(tmp_path, [], text)).class_names == (f"{tmp_path}/made",)
    assert not (tmp_path / "made").exists()


def test_a_blank_line_in_classes_txt_shifts_nothing(tmp_path):
    root = labelled(tmp_path, "a")
    (root / "classes.txt").write_text("cat\n\ndog\n\n")
    with pytest.raises(ValueError, match=r"classes\.txt: line 2 is empty"):
        yolo(root)


@pytest.mark.parametrize(
    ("entry", "asked"),
    [
        ("val: ../valid/images", "val"),
        ("val: ../valid", "val"),
        ("val: valid/images", "validation"),
        ("valid: ./valid/images", "val"),
        ("path: ../datasets/mine\nval: valid/images", "val"),
        ("val: [valid/images]", "val"),
        ("val: valid\\images", "val"),
        ("val: /content/drive/mine/valid/images", "val"),
        ("path: /content/mine\nval: C:\\mine\\valid\\images", "val"),
        ("", "val"),
        ("", "valid"),
    ],
)
def test_validation_images_are_found(tmp_path, entry, asked):
    root = labelled(tmp_path / "valid", "v0", "v1").parent
    labelled(root / "train", "t0")
    (root / "data.yaml").write_text(f"train: ../train/images\n{entry}\nnames: [cat]\n")
    assert ids(yolo(root, asked)) == ["v0", "v1"]
    assert ids(yolo(root, "train")) == ["t0"]
    assert ids(yolo(root / "data.yaml", "train")) == ["t0"]
    assert has_split(root, "val")
    assert not has_split(root, "test")


def test_folders_are_those_of_data_yaml(tmp_path):
    root = labelled(tmp_path, "training/a", "validation/b", "train/wrong", "val/wrong")
    (root / "data.yaml").write_text(
        "train: images/training\nval: images/validation\nnames: [cat]\n"
    )
    assert ids(yolo(root, "train")) == ["a"]
    assert ids(yolo(root, "val")) == ["b"]


def test_text_files_that_list_images(tmp_path):
    root = labelled(tmp_path, "x/a", "x/b", "y/c")
    (root / "data.yaml").write_text("train: [train.txt, lists/more.txt]\nnames: [cat]\n")
    (root / "train.txt").write_text(f"./images/x/a.png\n\n{root}/images/y/c.png\n")
    (root / "lists").mkdir()
    (root / "lists" / "more.txt").write_text("../images/x/b.png\n")
    data = yolo(root, "train")
    assert ids(data) == ["images/x/a", "images/y/c", "images/x/b"]
    assert data.box_counts().tolist() == [1, 1, 1]
    (root / "train.txt").write_text("/home/someone/mine/images/x/a.png\n")
    assert ids(yolo(root, "train"))[0] == "images/x/a"
    (root / "train.txt").write_text("images/x/a.png\nimages/x/gone.png\n")
    with pytest.raises(DataError, match=r"gone\.png: there is no such image .*train\.txt, line 2"):
        yolo(root, "train")


def test_sub_folders_and_upper_case(tmp_path):
    root = labelled(tmp_path, "train/a", "train/cam1/b", suffix=".JPEG")
    os.rename(root / "labels" / "train" / "a.txt", root / "labels" / "train" / "a.TXT")
    (root / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    data = yolo(root, "train")
    assert ids(data) == ["a", "cam1/b"]
    assert data.box_counts().tolist() == [1, 1]
    assert [(f.file[-5:], f.kind) for f in data.faults] == [("a.TXT", "upper_case")]
    (root / "labels" / "train" / "cam1" / "gone.txt").write_text("")
    with pytest.raises(DataError, match=r"gone\.txt: there is no image cam1/gone in"):
        yolo(root, "train")


def test_what_a_mac_leaves_is_skipped(tmp_path):
    root = labelled(tmp_path, "a")
    (root / "classes.txt").write_text("cat\n")
    for twin in ("images/._a.png", "labels/._a.txt", "labels/._b.txt", "images/.DS_Store"):
        (root / twin).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (root / "images" / "__MACOSX").mkdir()
    (root / "images" / "__MACOSX" / "a.png").write_bytes(b"\0")
    data = yolo(root)
    assert (ids(data), data.faults) == (["a"], [])


def test_images_and_text_files_side_by_side(tmp_path):
    image(tmp_path / "a.png")
    image(tmp_path / "b.jpg")
    (tmp_path / "a.txt").write_text(BOX)
    (tmp_path / "classes.txt").write_text("cat\n")
    data = yolo(tmp_path)
    assert ids(data) == ["a", "b"]
    assert data.box_counts().tolist() == [1, 0]


def test_splits_are_not_mixed(tmp_path):
    root = labelled(tmp_path, "train/a", "val/b")
    (root / "classes.txt").write_text("cat\n")
    with pytest.raises(FileNotFoundError, match="itself but in train, val; name a split"):
        yolo(root)


def test_a_split_without_its_folder_of_text_files_is_told(tmp_path):
    root = labelled(tmp_path, "train/a")
    image(root / "images" / "val" / "b.png")
    (root / "classes.txt").write_text("cat\n")
    with pytest.raises(FileNotFoundError, match=r"labels/val: there is no such folder; the text"):
        yolo(root, "val")


def test_a_folder_around_the_data_set_is_no_split(tmp_path):
    root = labelled(tmp_path / "mine", "a")
    image(tmp_path / "images" / "elsewhere.png")
    (root / "data.yaml").write_text("train: ../..\nval: /\nnames: [cat]\n")
    with pytest.raises(FileNotFoundError, match="mine: no images in"):
        yolo(root, "train")
    assert not has_split(root, "val")


# A box of 24..36 x 15..25 pixels in 60x40 with two points, one of which is not labelled.
POSE3 = "0 0.5 0.5 0.2 0.25 0.45 0.4 2 0 0 0"
POSE2 = "0 0.5 0.5 0.2 0.25 0.45 0.4 0.5 0.5 0.55 0.6"


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


def test_pose_labels_without_visibility(tmp_path):
    data = pose(tmp_path, [POSE2, POSE2])
    expected = [[27, 16, 2], [30, 20, 2], [33, 24, 2]]
    np.testing.assert_allclose(data.record(0).keypoints, [expected] * 2, rtol=1e-6)
    (fault,) = data.faults
    assert "lines of 11 numbers are read as boxes with 3 keypoints" in fault.message
    assert "write kpt_shape: [3, 2]" in fault.message


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


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("nan 0.5 0.5 0.5 0.5", "unknown_category"),
        ("1e400 0.5 0.5 0.5 0.5", "unknown_category"),
        ("-1 0.5 0.5 0.5 0.5", "unknown_category"),
        ("0 nan 0.5 0.5 0.5", "not_finite"),
        ("0 inf 0.5 0.5 0.5", "bad_value"),
        ("0 0.5 0.5 0.5 0.5 0.9", "bad_value"),
        ("0 " + "9" * 5000 + " 0.5 0.5 0.5", "bad_value"),
        ("0", "bad_value"),
        ("0 1 1 null 1", "bad_value"),
        ("0 " + "0.5 " * 100_001, "bad_value"),
    ],
)
def test_hostile_lines(tmp_path, line, kind):
    data = yolo(yolo_folder(tmp_path, [line]), strict=False)
    assert kinds(data.faults) == [(1, kind)]
    assert len(data.faults[0].message) < 300


def test_hostile_text_files(tmp_path):
    root = labelled(tmp_path, "a", "b")
    (root / "classes.txt").write_text("cat\n")
    (root / "labels" / "a.txt").write_bytes(b"\xff\xfe0\x00")
    (root / "labels" / "b.txt").unlink()
    os.mkfifo(root / "labels" / "b.txt")
    data = yolo(root, strict=False)
    assert [fault.kind for fault in data.faults] == ["unreadable_labels"] * 2
    assert "not UTF-8" in data.faults[0].message
    assert "pipe or device" in data.faults[1].message
