"""YOLO folders as exporters and annotation tools write them, and hostile ones."""

import os
import time

import numpy as np
import pytest
import yaml
from pycocotools import mask

from kerasdet.cli.data import open_validation
from kerasdet.data import yolo, yolo_settings
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
        ("[no, 010, 1.0, 'null', 12:30]", ("no", "010", "1.0", "null", "12:30"), (0, 1, 2, 3, 4)),
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
        ("names: cup, box\n", "'names' is 'cup, box'; it must be a list, as 'names: .cup, box.'"),
        ("names: |\n  cup\n  box\n", "or a mapping, as 'names: {0: cup, 1: box}'"),
        ("names: [cup, '']\n", "'names': class 1 has no name"),
        ("names: [cup, ' ']\n", "'names': class 1 has no name"),
        ("names: [~, cup]\n", "'names': class 0 has no name"),
        ("names: [cup, null]\n", "'names': class 1 has no name; .* in quotes if it is 'null'"),
        ("names:\n  0: cup\n  4:\n", "'names': class 4 has no name"),
        ("names:\n", "no class names"),
        ("nc: 2\n", "no class names"),
        ("names: [a, a]\n", "class name 'a' appears twice"),
        ("just text\n", "holds no 'key: value' lines"),
        ("names: [a\nnc: 2\n", "line 2: not YAML"),
        ("names: [a]\n\tx: 1\n", "line 2: not YAML"),
        ("[" * 100_000, "lists more than 50 deep|maximum nesting depth"),
        ("names: [a]\nx: " + "- " * 5000, "not YAML"),
        ("- " * 450_000, "lists more than 50 deep"),
        ("? " * 450_000, "lists more than 50 deep"),
        ("names: [" + "cup," * 200_000, "more than 30000 entries"),
        ("names: [" + "{}," * 300_000, "more than 30000 entries"),
        ("names: [a]\n#" + "x" * 1_000_000, "longer than 1000000 bytes"),
        ("names: &a [*a, *a]\n", "line 1: not YAML"),
        ("names: *b\n", "line 1: not YAML"),
        ("names: {[a]: b}\n", "line 1: not YAML .a key is a list"),
        ("names: [a]\n---\nnames: [b]\n", "line 2: not YAML .a second document"),
        ("names: [a]\nkpt_shape: [4]\n", r"kpt_shape is \['4'\]"),
        ("names: [a]\nkpt_shape: [4, 5]\n", "it must be .number of keypoints, 2 or 3"),
        ("names: [a]\nkpt_shape: text\n", "kpt_shape is 'text'"),
        ("names: [a]\nkpt_shape: [1, 2]\nkpt_names: [p, q]\n", "kpt_shape says 1 names"),
    ],
)
@pytest.mark.parametrize("parser", [yaml.BaseLoader, yolo_settings._PARSER])
def test_broken_data_yaml(tmp_path, monkeypatch, text, message, parser):
    monkeypatch.setattr(yolo_settings, "_PARSER", parser)
    root = yolo_folder(tmp_path, [], text)
    start = time.perf_counter()
    with pytest.raises(ValueError, match=message) as caught:
        yolo(root)
    assert time.perf_counter() - start < 5
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("parser", [yaml.BaseLoader, yolo_settings._PARSER])
def test_the_longest_names_take_little_time(tmp_path, monkeypatch, parser):
    monkeypatch.setattr(yolo_settings, "_PARSER", parser)
    names = "".join(f"- class {number}\n" for number in range(29_900))
    root = yolo_folder(tmp_path, [], f"names:\n{names}")
    start = time.perf_counter()
    assert len(yolo(root).class_names) == 29_900
    assert time.perf_counter() - start < 5


def test_aliases_and_nulls_of_data_yaml(tmp_path):
    text = "classes: &all {1: box, 0: cup}\nnames: *all\nnc: ~\nkpt_shape: null\nval:\n"
    root = yolo_folder(tmp_path, [BOX], text)
    assert yolo(root).class_names == ("cup", "box")
    assert not has_split(root, "val")


NESTED = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 9)}]\n" for i in range(12)
)
LONG = "x" * 300_000


@pytest.mark.parametrize(
    "text",
    [
        f"{NESTED}names: *a12\n",
        f"names: [{LONG}, {LONG}]\n",
        f"names: {LONG}\n",
        f"names: {{{LONG}: a}}\n",
        f"names: *{LONG}\n",
        f"names: [a]\nnc: {LONG}\n",
        f"names: [a]\nval: {LONG}\n",
        f"{NESTED}names: [a]\nval: *a12\n",
        f"{NESTED}names: [a]\nkpt_shape: *a12\n",
        f"names: [a]\nkpt_shape: [1, 2]\nkpt_names: [{LONG}, b]\n",
        "names:\n" + "".join(f"  {2 * number}: c{number}\n" for number in range(20_000)),
    ],
)
def test_messages_about_data_yaml_are_short(tmp_path, text):
    root = yolo_folder(tmp_path, ["1 0.5 0.5 0.5 0.5"], text, "images/val")
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        yolo(root, "val")
    assert len(str(caught.value)) < 700


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


@pytest.mark.parametrize("root", ["mine", "./mine", ".", "data.yaml"])
@pytest.mark.parametrize(
    ("place", "labels", "split"),
    [
        ("images", "labels", None),
        (".", ".", None),
        ("train", "train", "train"),
        ("train/images", "train/labels", "train"),
        ("images/train", "labels/train", "train"),
    ],
)
def test_a_relative_folder(tmp_path, monkeypatch, root, place, labels, split):
    mine = tmp_path / "mine"
    image(mine / place / "a.png")
    (mine / labels).mkdir(parents=True, exist_ok=True)
    (mine / labels / "a.txt").write_text(f"{BOX}\n")
    (mine / "data.yaml").write_text("names: [cat]\n")
    monkeypatch.chdir(tmp_path if "mine" in root else mine)
    data = yolo(root, split)
    assert (ids(data), data.box_counts().tolist()) == (["a"], [1])
    assert has_split(root, "train") == (split == "train")


def test_a_flat_folder_below_another_images_folder(tmp_path):
    (tmp_path / "labels").mkdir()
    mine = tmp_path / "images" / "mine"
    image(mine / "a.png")
    (mine / "a.txt").write_text(f"{BOX}\n")
    (mine / "classes.txt").write_text("cat\n")
    assert yolo(mine).box_counts().tolist() == [1]


def test_what_is_inside_comes_before_a_neighbour(tmp_path):
    labelled(tmp_path / "valid", "other")
    root = labelled(tmp_path / "mine" / "valid", "v0").parent
    (root / "data.yaml").write_text("val: ../valid/images\nnames: [cat]\n")
    assert ids(yolo(root, "val")) == ["v0"]
    (root / "data.yaml").write_text(f"val: {tmp_path}/valid/images\nnames: [cat]\n")
    assert ids(yolo(root, "val")) == ["other"]
    labelled(tmp_path / "beside", "b0")
    (root / "data.yaml").write_text("val: ../beside/images\nnames: [cat]\n")
    assert ids(yolo(root, "val")) == ["b0"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("images/nope", "'val': no images in images/nope; correct the entry"),
        ("images/empty", "'val': no images in images/empty"),
        ("[images/val, images/nope]", "'val': no images in images/nope"),
        ("gone.txt", "'val': no images in gone.txt"),
        ("empty.txt", "'val': no images in empty.txt"),
        ("latin.txt", r"latin\.txt: byte 8 is not UTF-8"),
        ("long.txt", r"long\.txt: line 1 has 5000 characters; it must be the path of an image"),
        ("{a: b}", "'val' is {'a': 'b'}; it must be a folder, a text file"),
        ("[[images/val]]", r"'val' is \[\['images/val'\]\]; it must be"),
        ("../..", r"'val': no images in \.\./\.\.; correct"),
        ("/", "'val': no images in /; correct"),
    ],
)
def test_an_entry_that_cannot_be_read_is_an_error(tmp_path, entry, message):
    root = labelled(tmp_path / "mine", "val/a", *(f"train/{number}" for number in range(10)))
    image(tmp_path / "elsewhere.png")
    (root / "images" / "empty").mkdir()
    (root / "empty.txt").write_text("\n")
    (root / "latin.txt").write_bytes(b"images/\n\xfc.png\n")
    (root / "long.txt").write_text("x" * 5000)
    (root / "data.yaml").write_text(f"train: images/train\nval: {entry}\nnames: [cat]\n")
    for read in (
        lambda: yolo(root, "val"),
        lambda: open_validation(yolo(root, "train"), f"yolo:{root}"),
    ):
        with pytest.raises((FileNotFoundError, ValueError), match=message) as caught:
            read()
        assert str(root) in str(caught.value)


def test_an_absolute_folder_of_another_machine(tmp_path):
    root = labelled(tmp_path / "train", "a").parent
    (root / "data.yaml").write_text("train: /content/mine/train\nnames: [cat]\n")
    assert ids(yolo(root, "train")) == ["a"]
    (root / "data.yaml").write_text("train: mine/train\nnames: [cat]\n")
    with pytest.raises(FileNotFoundError, match="no images in mine/train"):
        yolo(root, "train")


@pytest.mark.parametrize("entry", ["train.txt", "[train.txt, images/x]", "[images, images/x]"])
def test_an_image_that_is_named_twice_is_one(tmp_path, monkeypatch, entry):
    root = labelled(tmp_path / "mine", "x/a", "x/b")
    (root / "data.yaml").write_text(f"train: {entry}\nnames: [cat]\n")
    lines = ["images/x/a.png", "./images/x/b.png", "images/x/a.png", f"{root}/images/x/b.png"]
    (root / "train.txt").write_text("\n".join(lines))
    for place in (root, "mine"):
        monkeypatch.chdir(tmp_path)
        data = yolo(place, "train")
        assert [name.rpartition("/")[2] for name in ids(data)] == ["a", "b"]


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


def test_kpt_shape_of_no_points_means_polygons(tmp_path):
    data = pose(tmp_path, ["0 .5 .4 .6 .6 .4 .6"], "kpt_shape: [0, 2]\n")
    np.testing.assert_allclose(data.record(0).boxes, [[24, 16, 36, 24]], rtol=1e-6)
    assert len(data.record(0).masks) == 1
    assert (data.keypoint_names, data.faults) == ((), [])


def test_pose_labels_without_visibility(tmp_path):
    lines = ["0 .5 .5 .2 .25 .55 .6 .45 .4 .5 .5", "0 .7 .3 .2 .25 .75 .3 .65 .25 .7 .2"]
    data = pose(tmp_path, lines * 5)
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
