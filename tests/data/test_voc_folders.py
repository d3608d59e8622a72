"""VOC folders as annotation tools write them, and hostile XML."""

import os

import pytest
from PIL import Image

from kerasdet.data import voc
from kerasdet.data.records import DataError
from kerasdet.data.voc_folders import has_split
from tests.data.folders import HEIGHT, WIDTH, image, kinds, voc_folder, voc_object


def ids(data):
    return [data.record(index).image_id for index in range(len(data))]


def test_names_with_spaces(tmp_path):
    names = ("shot 2024-01-01 10.00.00", "shot 2", "plain")
    root = voc_folder(tmp_path, train={name: [voc_object()] for name in names})
    assert ids(voc(root)) == list(names)


def test_lists_of_one_class_have_a_second_column(tmp_path):
    root = voc_folder(tmp_path, train={"a": [], "b 1": [], "c": []})
    (root / "ImageSets" / "Main" / "cat_train.txt").write_text("a  1\nb 1 -1\nc   0\nb 1\n")
    data = voc(root, "cat_train", class_names=["cat"], strict=False)
    assert ids(data) == ["a", "b 1", "c"]
    assert kinds(data.faults) == [(None, "duplicate_id")]


@pytest.mark.parametrize(
    "line", ["cam1/f0", "cam1\\f0", "./cam1/f0", "f0", "cam1/f0.jpg", "f0.xml"]
)
def test_sub_folders(tmp_path, line):
    root = voc_folder(tmp_path, train={})
    (root / "Annotations" / "cam1").mkdir()
    (root / "ImageSets" / "Main" / "train.txt").write_text(f"{line}\n")
    image(root / "JPEGImages" / "cam1" / "f0.jpg")
    (root / "Annotations" / "cam1" / "f0.xml").write_text(f"<a>{voc_object()}</a>")
    data = voc(root)
    assert ids(data) == ["cam1/f0"]
    assert data.class_names == ("cat",)
    assert data.image(0).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    "suffix", [".tif", ".TIF", ".tiff", ".JPG", ".Png", ".webp", ".bmp", ".gif"]
)
def test_every_suffix(tmp_path, suffix):
    root = voc_folder(tmp_path, train={"a": [voc_object()]})
    (root / "JPEGImages" / "a.jpg").unlink()
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "JPEGImages" / f"a{suffix}")
    assert voc(root).record(0).path.endswith(f"a{suffix}")


def test_the_stated_file_decides_between_two_of_one_stem(tmp_path):
    root = voc_folder(tmp_path, train={"a": [voc_object()]})
    image(root / "JPEGImages" / "a.png")
    assert voc(root).record(0).path.endswith("a.jpg")
    xml = root / "Annotations" / "a.xml"
    whole = xml.read_text().replace("<size>", r"<filename>C:\x\a.png</filename><size>")
    xml.write_text(whole)
    assert voc(root).record(0).path.endswith("a.png")


def test_an_image_of_another_name_is_the_stated_one(tmp_path):
    root = voc_folder(tmp_path, train={"a": [voc_object()]})
    os.rename(root / "JPEGImages" / "a.jpg", root / "JPEGImages" / "frame7.jpg")
    xml = root / "Annotations" / "a.xml"
    xml.write_text(xml.read_text().replace("<size>", "<filename>frame7.png</filename><size>"))
    assert voc(root).record(0).path.endswith("frame7.jpg")


def flat_folder(root, *names, split=""):
    for name in names:
        image(root / split / f"{name}.jpg")
        (root / split / f"{name}.xml").write_text(f"<a>{voc_object(name[0])}</a>")
    return root


def test_images_and_xml_side_by_side(tmp_path):
    root = flat_folder(tmp_path, "b1", "a1", "sub/a2")
    image(root / "without.jpg")
    image(root / "._b1.jpg")
    (root / "._b1.xml").write_bytes(b"\0\5\x16\7")
    data = voc(root)
    assert ids(data) == ["a1", "b1", "sub/a2"]
    assert data.class_names == ("a", "b", "s")
    assert [(f.file[-11:], f.kind) for f in data.faults] == [("without.jpg", "not_annotated")]
    with pytest.raises(
        FileNotFoundError, match=r"val\.txt: .*splits here: none; expected are lists"
    ):
        voc(root, "val")


def test_a_folder_for_each_split(tmp_path):
    flat_folder(tmp_path, "a1", "a2", split="train")
    root = flat_folder(tmp_path, "b1", split="valid")
    assert ids(voc(root, "train")) == ["a1", "a2"]
    assert ids(voc(root, "val")) == ["b1"]
    assert voc(root, "val").class_names == voc(root, "train").class_names == ("a", "b")
    assert voc(root, "val").record(0).labels.tolist() == [1]
    assert [has_split(root, name) for name in ("train", "val", "valid", "test")] == [1, 1, 1, 0]
    with pytest.raises(FileNotFoundError, match="splits here: train, valid"):
        voc(root)


def test_folders_of_other_tools(tmp_path):
    image(tmp_path / "images" / "a.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.xml").write_text(f"<a>{voc_object()}</a>")
    assert ids(voc(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    "names", [("annotations", "images"), ("Annotations", "JPEGImages"), ("Annotations", "images")]
)
def test_a_folder_for_each_split_below_annotations_and_images(tmp_path, names):
    for split, name in (("train", "cat1"), ("valid", "dog1")):
        image(tmp_path / names[1] / split / f"{name}.jpg")
        (tmp_path / names[0] / split).mkdir(parents=True)
        xml = tmp_path / names[0] / split / f"{name}.xml"
        xml.write_text(f"<a>{voc_object(name[:3])}</a>")
    assert ids(voc(tmp_path, "train")) == ["cat1"]
    assert ids(voc(tmp_path, "val")) == ["dog1"]
    assert voc(tmp_path, "train").class_names == voc(tmp_path, "val").class_names == ("cat", "dog")
    assert voc(tmp_path, "val").faults == []
    assert [has_split(tmp_path, name) for name in ("train", "val", "test")] == [1, 1, 0]
    with pytest.raises(FileNotFoundError, match="name a split; splits here: train, valid"):
        voc(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such split; splits here: train, valid"):
        voc(tmp_path, "test")


def test_layouts_that_are_not_known(tmp_path):
    expected = r"; expected are lists .* or in annotations/<split> and images/<split>"
    with pytest.raises(FileNotFoundError, match=f"there are no XML files here; .*none{expected}"):
        voc(tmp_path)
    image(tmp_path / "images" / "a.jpg")
    (tmp_path / "annotations" / "train").mkdir(parents=True)
    (tmp_path / "annotations" / "train" / "a.xml").write_text(f"<a>{voc_object()}</a>")
    for split in (None, "train"):
        with pytest.raises(FileNotFoundError, match=f"splits here: none{expected}"):
            voc(tmp_path, split)


@pytest.mark.parametrize(
    "names", [("a.jpg", "a.jpg"), ("a.jpg", r"C:\x\a.jpg"), ("a", "cam/a.png")]
)
def test_two_xml_files_for_one_image(tmp_path, names):
    root = voc_folder(tmp_path, train={"x": [voc_object()], "y": [voc_object()]})
    image(root / "JPEGImages" / "a.jpg")
    for stem, name in zip("xy", names):
        (root / "JPEGImages" / f"{stem}.jpg").unlink()
        xml = root / "Annotations" / f"{stem}.xml"
        xml.write_text(xml.read_text().replace("<size>", f"<filename>{name}</filename><size>"))
    with pytest.raises(DataError, match=r"y\.xml: its image, .*a\.jpg, is also that of .*x\.xml"):
        voc(root)
    data = voc(root, strict=False)
    assert kinds(data.faults) == [(None, "duplicate_image")]
    assert ids(data) == ["x"]


def test_shares_are_a_fault(tmp_path):
    root = voc_folder(tmp_path, train={"a": [voc_object(box=(0.1, 0.2, 0.5, 1.001))]})
    for one_based in (True, False):
        with pytest.raises(DataError, match=r"all 1 boxes lie within 0\.\.1: shares"):
            voc(root, one_based=one_based)
    # The first pixel in VOC's own counting.
    root = voc_folder(tmp_path, train={"a": [voc_object(box=(1, 1, 2, 2))]})
    assert voc(root).faults == []


@pytest.mark.parametrize(
    ("value", "ignore"), [("1", 1), ("True", 1), ("yes", 1), ("0", 0), ("false", 0), ("", 0)]
)
def test_spellings_of_difficult(tmp_path, value, ignore):
    root = voc_folder(tmp_path, train={"a": [voc_object(difficult=value)]})
    assert voc(root).record(0).ignore.tolist() == [ignore]


def test_difficult_that_is_neither_yes_nor_no(tmp_path):
    root = voc_folder(tmp_path, train={"a": [voc_object(), voc_object(difficult="2")]})
    with pytest.raises(
        DataError, match=r"a\.xml, annotation 2: difficult is '2'; it must be 0 or 1"
    ):
        voc(root)


def test_boxes_of_files_that_count_from_zero(tmp_path):
    root = voc_folder(tmp_path, train={"a": [voc_object(box=(0, 0, 20, 10))]})
    (fault,) = voc(root).faults
    assert fault.kind == "clipped"
    assert "one_based=False, --voc-zero-based" in fault.message
    data = voc(root, one_based=False)
    assert data.record(0).boxes.tolist() == [[0, 0, 20, 10]]
    assert data.faults == []


def test_odd_but_whole_xml(tmp_path):
    """A byte order mark, no size, coordinates with decimals, parts, a polygon, no "difficult"."""
    root = voc_folder(tmp_path, train={"a": []})
    (root / "Annotations" / "a.xml").write_text(
        "\ufeff<annotation><object><name> Cup </name><polygon><x1>1</x1></polygon><part><name>h"
        "</name><bndbox><xmin>1</xmin></bndbox></part><bndbox><ymax>30.5</ymax><xmax>20.75</xmax>"
        "<xmin>10.5</xmin><ymin>20.25</ymin></bndbox></object></annotation>"
    )
    data = voc(root)
    assert data.class_names == ("Cup",)
    assert data.record(0).boxes.tolist() == [[9.5, 19.25, 20.75, 30.5]]
    assert data.record(0).ignore.tolist() == [False]


def test_a_size_that_is_not_the_image_s(tmp_path):
    root = voc_folder(tmp_path, train={"a": [voc_object()]})
    image(root / "JPEGImages" / "a.jpg", (20, 30))
    with pytest.raises(ValueError, match=r"a\.jpg: the image is 30x20 .* says 60x40"):
        voc(root).image(0)


BOMB = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "ha"}">' for i in range(9))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'<?xml version="1.0" encoding="x-none"?><a/>', r"not XML \(unknown encoding"),
        (b'<?xml version="1.0" encoding="utf-32"?><a/>', "not XML"),
        (b'<?xml version="1.0" encoding="idna"?><a/>', "not XML"),
        (b"", "line 1, column 1: not XML"),
        (b"\xff\xfe\x00", "not XML"),
        (f"<!DOCTYPE a [{BOMB}]><a>&a8;</a>".encode(), "it declares entities"),
        (f"<!DOCTYPE a [{BOMB}]><a>&a8;</a>".encode("utf-16"), "not XML"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "/etc/passwd">]><a>&x;</a>', "it declares entities"),
        (b"<a>&x;</a>", "undefined entity"),
        (b"<a>" * 100_000, "more than 64 nested elements"),
        (b"<a>" + b"<b/>" * 300_000, "200000 in total"),
        (b"<a>" + "ä".encode("latin-1") + b"</a>", "not well-formed"),
    ],
)
def test_hostile_xml(tmp_path, content, message):
    root = voc_folder(tmp_path, train={"a": []})
    (root / "Annotations" / "a.xml").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.xml: .*{message}") as caught:
        voc(root, class_names=["cat"])
    assert kinds(caught.value.faults) == [(None, "broken_xml")]


@pytest.mark.parametrize("side", ["1e9", "nan", "inf", "40.5", "x", "9" * 400])
def test_hostile_sizes(tmp_path, side):
    root = voc_folder(tmp_path, train={"a": []})
    xml = root / "Annotations" / "a.xml"
    xml.write_text(xml.read_text().replace(str(WIDTH), side).replace(str(HEIGHT), side))
    with pytest.raises(DataError, match=r"a\.xml: .*(above the limit of|they must be integers)"):
        voc(root, class_names=["cat"])


@pytest.mark.parametrize(
    ("value", "kind"),
    [("1e400", "not_finite"), ("9" * 5000, "not_finite"), ("0x10", "bad_value"), ("", "bad_value")],
)
def test_hostile_corners(tmp_path, value, kind):
    root = voc_folder(tmp_path, train={"a": [voc_object(box=(1, 1, value, 10))]})
    assert kinds(voc(root, strict=False).faults) == [(1, kind)]


def test_pipes_and_folders_in_place_of_files(tmp_path):
    root = voc_folder(tmp_path, train={"a": [], "b": [], "c": []})
    for name, make in (("a", os.mkfifo), ("b", os.mkdir)):
        (root / "Annotations" / f"{name}.xml").unlink()
        make(root / "Annotations" / f"{name}.xml")
    (root / "JPEGImages" / "c.jpg").unlink()
    os.mkfifo(root / "JPEGImages" / "c.jpg")
    xml = root / "Annotations" / "c.xml"
    xml.write_text("<annotation></annotation>")
    data = voc(root, class_names=["cat"], strict=False)
    assert [f.kind for f in data.faults] == ["broken_xml", "broken_xml", "unreadable_image"]
    assert data.faults[0].message.startswith("is not a regular file but a pipe or device")
    assert data.faults[1].message.startswith("is a folder")
    assert "pipe or device" in data.faults[2].message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<wrong>", r"line 1, column 8: not XML .*restore the file"),
        (
            f'<?xml version="1.0" encoding="gbk"?><a>{voc_object("杯")}</a>'.encode("gbk"),
            "not XML .*save it as UTF-8",
        ),
        (f"<a>{voc_object('ä')}</a>".encode("latin-1"), "not XML .*save it as UTF-8"),
        (f"<a><annotation>{voc_object()}</annotation></a>", "its objects stand deeper"),
        (f'<annotation xmlns="http://x">{voc_object()}</annotation>', "or in a namespace"),
        ("<images><image><box/></image></images>", "its first element is 'images'; VOC's form is"),
        ("<annotation><object/></annotation>", "annotation 1: the object has no name"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_the_reason_why_there_are_no_classes(tmp_path, content, message, strict):
    root = voc_folder(tmp_path, train={"a": [], "b": []})
    for name in "ab":
        file = root / "Annotations" / f"{name}.xml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    first = rf"Annotations: no class names; 2 fault\(s\), the first: .*a\.xml.*{message}"
    with pytest.raises(ValueError, match=first):
        voc(root, strict=strict)


def test_files_of_another_form_among_others(tmp_path):
    root = voc_folder(tmp_path, train={"a": [voc_object()], "b": [], "c": [], "d": []})
    (root / "Annotations" / "b.xml").write_text(f"<a><annotation>{voc_object()}</annotation></a>")
    (root / "Annotations" / "c.xml").write_text("<a><filename>c.jpg</filename></a>")
    data = voc(root, strict=False)
    assert kinds(data.faults) == [(None, "other_form")]
    assert ids(data) == ["a", "c", "d"]


def test_files_without_objects_need_class_names(tmp_path):
    root = voc_folder(tmp_path, train={"a": [], "b": []})
    with pytest.raises(ValueError, match="no XML file names an object; give class_names"):
        voc(root)
    assert len(voc(root, class_names=["cat"])) == 2
    with pytest.raises(ValueError, match=r"class_names='classes\.txt' is one text; give a list"):
        voc(root, class_names="classes.txt")
