"""data.yaml as people and programs write it, and hostile ones."""

import time

import pytest
import yaml

from kerasdet.data import yolo, yolo_settings
from kerasdet.data.records import DataError
from kerasdet.data.yolo_folders import has_split
from tests.data.folders import yolo_folder

BOX = "0 0.5 0.5 0.5 0.5"


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
    root = yolo_folder(tmp_path, [])
    (root / "classes.txt").write_text("cat\n\ndog\n\n")
    with pytest.raises(ValueError, match=r"classes\.txt: line 2 is empty"):
        yolo(root)
