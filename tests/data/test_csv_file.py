"""CSV files as spreadsheets and scripts write them, and hostile ones."""

import pytest

from kerasdet.data import csv
from kerasdet.data.records import DataError
from tests.data.folders import HEIGHT, WIDTH, image, kinds

HEADER = "image,xmin,ymin,xmax,ymax,label\n"


def written(tmp_path, *lines, header=HEADER):
    image(tmp_path / "images" / "a.png")
    file = tmp_path / "boxes.csv"
    file.write_bytes((header + "\n".join(lines) + "\n").encode("utf-8"))
    return file


@pytest.mark.parametrize("name", ["images\\a.png", "images%2Fa.png", "./images/a.png"])
def test_names_from_other_machines(tmp_path, name):
    data = csv(written(tmp_path, f"{name},1,2,30,20,cat"))
    assert data.image(0).shape == (HEIGHT, WIDTH, 3)
    assert data.record(0).boxes.tolist() == [[1, 2, 30, 20]]


@pytest.mark.parametrize(
    "name",
    ["./images/a.png", "images\\a.png", "images%2Fa.png", "images/../images/a.png", "link/a.png"],
)
def test_spellings_of_one_file_are_one_image(tmp_path, name):
    file = written(
        tmp_path,
        *("images/a.png,1,2,30,20,cat", f"{name},3,4,50,40,dog", "./images/a.png,,,,,"),
    )
    (tmp_path / "link").symlink_to(tmp_path / "images")
    data = csv(file)
    assert [data.record(i).image_id for i in range(len(data))] == ["images/a.png"]
    assert data.record(0).boxes.tolist() == [[1, 2, 30, 20], [3, 4, 50, 40]]
    assert data.faults == []


def test_two_names_whose_folders_are_lost(tmp_path):
    lines = ["cam1/a.png,1,2,30,20,cat", "cam2/a.png,1,2,30,20,cat", "cam2/a.png,5,2,30,20,cat"]
    file = written(tmp_path, *lines)
    image(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"annotation 3: .* are both found as") as caught:
        csv(file)
    assert kinds(caught.value.faults) == [(3, "missing_image")]
    assert csv(file, strict=False).record(0).boxes.tolist() == [[1, 2, 30, 20]]


def test_carriage_returns_marks_and_quotes(tmp_path):
    file = written(tmp_path, 'images/a.png,1,2,30,20,"hot, dog"\r', "", header="\ufeff" + HEADER)
    assert csv(file).class_names == ("hot, dog",)


@pytest.mark.parametrize("xmax", [0.5, 1, 1.001])
def test_shares_are_a_fault(tmp_path, xmax):
    file = written(tmp_path, f"images/a.png,0.1,0.2,{xmax},1,cat", "images/a.png,1,1,1,1,cat")
    with pytest.raises(DataError, match=r"boxes\.csv: all 1 boxes lie within 0\.\.1"):
        csv(file)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("images/a.png,1,2,30,20," + "x" * 140_000, r"boxes\.csv: line 2: not CSV \(field larger"),
        ('images/a.png,1,2,30,20,"' + "x" * 140_000, r"line 2: not CSV .*quotation mark left open"),
        (",1,2,30,20,cat", "line 2: the column 'image' is empty"),
        (
            '\n\nimages/a.png,1,2,30,20,"cat\nimages/a.png,1,2,3,4,cat',
            r"line 4: not CSV .* left open",
        ),
        ('images/a.png,1,2,30,20,"cat\nimages/a.png,1,2,3,4,"c', r"line 2: not CSV"),
        ('images/a.png,1,2,30,20,"cat\ndog"', r"line 2: the column 'label' .* break, 'cat\\ndog'"),
        ('"images/\na.png",1,2,30,20,cat', "line 2: the column 'image' holds a line break"),
    ],
)
def test_lines_that_are_no_csv(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        csv(written(tmp_path, line))


def test_a_quoted_line_break_in_another_column(tmp_path):
    lines = ['images/a.png,1,2,30,20,cat,"two\nlines"', "images/a.png,1,2,1,20,cat,"]
    data = csv(written(tmp_path, *lines, header=HEADER.replace("label", "label,note")))
    assert data.record(0).boxes.tolist() == [[1, 2, 30, 20]]
    assert kinds(data.faults) == [(4, "zero_size")]


def test_class_names_are_a_list(tmp_path):
    file = written(tmp_path, "images/a.png,1,2,30,20,cat")
    with pytest.raises(ValueError, match=r"class_names='classes\.txt' is one text; give a list"):
        csv(file, class_names="classes.txt")


def test_another_separator_is_told(tmp_path):
    file = written(tmp_path, header=HEADER.replace(",", ";"))
    with pytest.raises(ValueError, match=r"line 1: the header .* lacks image, .*, with commas"):
        csv(file)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *[("1e400", "not_finite"), ("nan", "not_finite"), ("9" * 5000, "not_finite")],
        *[("null", "bad_value"), ("", "bad_value"), ("1e9", "clipped"), ("-1", "negative_size")],
    ],
)
def test_hostile_values(tmp_path, value, kind):
    data = csv(written(tmp_path, f"images/a.png,1,2,{value},20,cat"), strict=False)
    assert kinds(data.faults) == [(2, kind)]
    assert len(data.faults[0].message) < 300


def test_hostile_names(tmp_path):
    lines = [
        f"{name},1,2,30,20,cat" for name in ("a\0b.png", "x" * 5000, "/", "images", "a\0/b.png")
    ]
    data = csv(written(tmp_path, *lines), strict=False)
    assert [fault.kind for fault in data.faults] == ["unreadable_image"] * 5
    assert all(f"boxes.csv, line {2 + i}" in str(f) for i, f in enumerate(data.faults))
    assert len(data) == 0
