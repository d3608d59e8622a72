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


def test_two_names_that_lead_to_one_file(tmp_path):
    file = written(tmp_path, "images/a.png,1,2,30,20,cat", "images\\a.png,1,2,30,20,cat")
    with pytest.raises(DataError, match=r"annotation 3: .* are both found as"):
        csv(file)


def test_carriage_returns_marks_and_quotes(tmp_path):
    file = written(tmp_path, 'images/a.png,1,2,30,20,"hot, dog"\r', "", header="\ufeff" + HEADER)
    assert csv(file).class_names == ("hot, dog",)


def test_shares_are_a_fault(tmp_path):
    file = written(tmp_path, "images/a.png,0.1,0.2,0.5,1,cat")
    with pytest.raises(DataError, match=r"boxes\.csv: all 1 boxes lie within 0\.\.1"):
        csv(file)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("images/a.png,1,2,30,20," + "x" * 140_000, r"boxes\.csv: line 2: not CSV \(field larger"),
        ('images/a.png,1,2,30,20,"' + "x" * 140_000, r"line 2: not CSV .*quotation mark left open"),
        (",1,2,30,20,cat", "line 2: the column 'image' is empty"),
    ],
)
def test_lines_that_are_no_csv(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        csv(written(tmp_path, line))


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
    lines = [f"{name},1,2,30,20,cat" for name in ("a\0b.png", "x" * 5000, "/", "images")]
    data = csv(written(tmp_path, *lines), strict=False)
    assert [fault.kind for fault in data.faults] == ["unreadable_image"] * 4
    assert all(f"boxes.csv, line {2 + i}" in str(f) for i, f in enumerate(data.faults))
    assert len(data) == 0
