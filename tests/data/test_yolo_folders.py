"""YOLO folders as exporters and annotation tools write them, and hostile ones."""

import os

import pytest

from kerasdet.cli.data import open_validation
from kerasdet.data import yolo
from kerasdet.data.records import DataError
from kerasdet.data.yolo_folders import has_split
from tests.data.folders import image, kinds, yolo_folder

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
