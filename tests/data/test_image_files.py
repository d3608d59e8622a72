import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from kerasdet.data import check, coco, csv, voc, yolo
from kerasdet.images import darkness, load_image
from tests.data.folders import HEIGHT, WIDTH, coco_folder, voc_folder, voc_object


def turned(path, orientation, size=(HEIGHT, WIDTH)):
    """An image stored with its left half dark; `size` is (height, width) as stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.full((*size, 3), 250, "uint8")
    pixels[:, : size[1] // 2] = 10
    Image.fromarray(pixels).save(path, exif=exif)


def exif_set(tmp_path, orientations, sizes):
    """A COCO set of images of those orientations and annotated (height, width) or None."""
    entries = []
    for number, (orientation, size) in enumerate(zip(orientations, sizes)):
        turned(tmp_path / "images" / f"{number}.png", orientation)
        entry = {"id": number, "file_name": f"{number}.png"}
        entries.append(entry | (dict(zip(("height", "width"), size)) if size else {}))
    return coco(*coco_folder(tmp_path, images=entries))


def dark_side(image):
    """Which side of an image is dark."""
    sides = {"left": image[:, :5], "right": image[:, -5:], "top": image[:5], "bottom": image[-5:]}
    return min(sides, key=lambda name: sides[name].mean())


STORED, TURNED = (HEIGHT, WIDTH), (WIDTH, HEIGHT)


def test_a_set_annotated_as_stored_is_read_as_stored(tmp_path):
    """Quarter turns (6, 8) decide for the half turn (3) and the mirror image (2)."""
    data = exif_set(tmp_path, (1, 6, 8, 3, 2), [STORED] * 5)
    assert [dark_side(data.image(index)) for index in range(5)] == ["left"] * 5
    report = check(data)
    assert [fault.file[-5:] for fault in report.faults] == ["1.png", "2.png", "3.png", "4.png"]
    assert {fault.kind for fault in report.faults} == {"orientation"}
    assert "annotated as stored" in report.faults[2].message


def test_a_set_annotated_as_shown_is_turned(tmp_path):
    data = exif_set(tmp_path, (1, 6, 8, 3, 2), [STORED, TURNED, TURNED, STORED, STORED])
    shown = ["left", "top", "bottom", "right", "right"]
    assert [dark_side(data.image(index)) for index in range(5)] == shown
    assert check(data).faults == []
    assert dark_side(data.subset([3]).image(0)) == "right"


def test_where_nothing_decides_images_are_turned_and_listed(tmp_path):
    data = exif_set(tmp_path, (1, 3), [STORED] * 2)
    assert dark_side(data.image(1)) == "right"
    (fault,) = check(data).faults
    assert (fault.file[-5:], fault.kind) == ("1.png", "orientation")
    assert "EXIF orientation 3, and no annotated size of the data set shows" in fault.message
    # In a subset the same images are listed.
    assert len(check(data.subset([1])).faults) == 1


def test_sizes_read_from_the_files_decide_nothing(tmp_path):
    data = exif_set(tmp_path, (6, 6), [None, None])
    assert [dark_side(data.image(index)) for index in range(2)] == ["top", "top"]
    assert [fault.kind for fault in check(data).faults] == ["orientation"] * 2
    turned(tmp_path / "a.png", 6)
    (tmp_path / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax,label\na.png,1,1,9,50,cat\n")
    data = csv(tmp_path / "boxes.csv")
    assert data.record(0).height == WIDTH
    assert [fault.kind for fault in check(data).faults] == ["orientation"]


def test_contradicting_sizes_are_obeyed_and_the_others_listed(tmp_path):
    data = exif_set(tmp_path, (6, 8, 6, 3), [STORED, STORED, TURNED, STORED])
    sides = [dark_side(data.image(index)) for index in range(4)]
    assert sides == ["left", "left", "top", "left"]
    messages = {fault.file[-5:]: fault.message for fault in check(data).faults}
    assert (
        "1 images are annotated as turned and 2 as stored; it is read as stored"
        in (messages["3.png"])
    )
    assert sorted(messages) == ["0.png", "1.png", "3.png"]


def gray_file(path, highest, dtype="uint16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.linspace(0, highest, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    Image.fromarray(levels.astype(dtype)).save(path)


@pytest.mark.parametrize(
    ("highest", "dtype", "likely"),
    [(255, "uint16", 255), (4095, "uint16", 4095), (200, "int32", 255), (1000, "uint16", 1023)],
)
def test_gray_levels_far_below_white_are_listed(tmp_path, highest, dtype, likely):
    files = coco_folder(tmp_path)
    gray_file(tmp_path / "images" / "b.tif", highest, dtype)
    entry = {"id": 1, "file_name": "b.tif", "height": HEIGHT, "width": WIDTH}
    files = coco_folder(tmp_path, images=[entry])
    (fault,) = check(coco(*files)).faults
    assert fault.kind == "dark_image"
    assert f"levels reach {highest} where white is 65535" in fault.message
    assert f"gray_max={likely} (--gray-max {likely})" in fault.message
    scaled = coco(*files, gray_max=likely)
    assert check(scaled).faults == []
    assert scaled.image(0).max() == round(255 * highest / likely)


def test_the_full_range_is_not_listed(tmp_path):
    gray_file(tmp_path / "images" / "b.tif", 40000)
    entry = {"id": 1, "file_name": "b.tif", "height": HEIGHT, "width": WIDTH}
    assert check(coco(*coco_folder(tmp_path, images=[entry]))).faults == []


def test_levels_above_white_are_an_error(tmp_path):
    gray_file(tmp_path / "a.png", 5000)
    with pytest.raises(ValueError, match=r"a\.png: gray levels 0\.\.5000 are outside 0\.\.4095"):
        load_image(tmp_path / "a.png", gray_max=4095)


@pytest.mark.parametrize("kind", ["voc", "yolo", "csv"])
def test_every_reader_scales_gray_levels(tmp_path, kind):
    if kind == "voc":
        root = voc_folder(tmp_path, train={"a": [voc_object()]})
        (root / "JPEGImages" / "a.jpg").unlink()
        gray_file(root / "JPEGImages" / "a.png", 4095)
        data = voc(root, gray_max=4095)
    elif kind == "yolo":
        gray_file(tmp_path / "images" / "a.png", 4095)
        (tmp_path / "labels").mkdir()
        (tmp_path / "classes.txt").write_text("cat\n")
        data = yolo(tmp_path, gray_max=4095)
    else:
        gray_file(tmp_path / "a.png", 4095)
        (tmp_path / "a.csv").write_text("image,xmin,ymin,xmax,ymax,label\na.png,1,1,9,9,cat\n")
        data = csv(tmp_path / "a.csv", gray_max=4095)
    assert data.image(0).max() == 255


def deep_colour_file(path, highest):
    """Pillow writes no PNG of 16-bit colours."""
    levels = np.linspace(0, highest, HEIGHT * WIDTH * 3).astype(">u2").reshape(HEIGHT, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )


@pytest.mark.parametrize("gray_max", [None, 4095])
def test_dark_colours_of_16_bits_are_listed_whatever_white_is_in_gray_images(tmp_path, gray_max):
    entry = {"id": 1, "file_name": "b.png", "height": HEIGHT, "width": WIDTH}
    files = coco_folder(tmp_path, images=[entry])
    deep_colour_file(tmp_path / "images" / "b.png", 4095)
    (fault,) = check(coco(*files, gray_max=gray_max)).faults
    assert fault.kind == "dark_image"
    assert "levels reach 4095 where white is 65535" in fault.message
    assert "save it with 8 bits" in fault.message
    with pytest.warns(UserWarning, match=r"b\.png: its levels reach 4095 .* save it with 8 bits"):
        load_image(tmp_path / "images" / "b.png", gray_max=gray_max)


def test_bright_colours_of_16_bits_are_not_listed(tmp_path):
    deep_colour_file(tmp_path / "b.png", 65535)
    assert darkness(tmp_path / "b.png") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(tmp_path / "b.png").max() == 255


def test_loading_a_dark_gray_image_warns(tmp_path):
    gray_file(tmp_path / "a.tif", 4095)
    with pytest.warns(UserWarning, match=r"a\.tif: its levels reach 4095 .*--gray-max 4095"):
        load_image(tmp_path / "a.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image(tmp_path / "a.tif", gray_max=4095)
