import json

import numpy as np
from PIL import Image

from kerasdet.data import check, coco, voc
from tests.models.newcomers import Scans


def faulty(tmp_path):
    """Five images: sound, broken, of another size, turned, without objects."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, size in (("sound", (60, 40)), ("other", (50, 40)), ("empty", (60, 40))):
        Image.new("RGB", size, (200, 200, 200)).save(tmp_path / f"{name}.png")
    Image.new("RGB", (60, 40)).save(tmp_path / "turned.png", exif=exif)
    (tmp_path / "broken.png").write_bytes((tmp_path / "sound.png").read_bytes()[:60])
    names = ["sound", "broken", "other", "turned", "empty"]
    boxes = [
        *[(0, [10, 10, 20, 20], 1), (0, [10, 10, 20, 20.5], 1), (0, [10, 10, 20, 20], 2)],
        *[(1, [1, 1, 9, 9], 1), (2, [1, 1, 9, 9], 1), (3, [1, 1, 9, 9], 1), (0, [1, 1, 0, 4], 1)],
        (9, [1, 1, 9, 9], 1),
    ]
    content = {
        "images": [
            {"id": i, "file_name": f"{name}.png", "height": 40, "width": 60}
            for i, name in enumerate(names)
        ],
        "annotations": [
            {"id": 50 + k, "image_id": image, "bbox": box, "category_id": category}
            for k, (image, box, category) in enumerate(boxes)
        ],
        "categories": [
            {"id": 1, "name": "cat"},
            {"id": 2, "name": "dog"},
            {"id": 3, "name": "ant"},
        ],
    }
    (tmp_path / "data.json").write_text(json.dumps(content))
    return coco(tmp_path / "data.json", tmp_path, strict=False)


def test_faults_have_file_and_annotation_id(tmp_path):
    done = []
    report = check(faulty(tmp_path), progress=lambda *count: done.append(count))
    found = [(file.rpartition("/")[2], number, kind) for file, number, kind, _ in report.rows()]
    assert found == [
        ("data.json", 56, "zero_size"),
        ("data.json", 57, "unknown_image"),
        ("sound.png", "", "double_box"),
        ("broken.png", "", "unreadable_image"),
        ("other.png", "", "unreadable_image"),
        ("turned.png", "", "orientation"),
    ]
    assert done == [(i, 5) for i in range(1, 6)]
    assert "objects 1 and 2 have one class" in report.rows()[2][3]
    assert "annotation says 60x40" in report.rows()[4][3]
    assert report.marked == [0, 1, 2, 3]


def test_figures(tmp_path):
    report = check(faulty(tmp_path))
    assert report.objects == {"cat": 5, "dog": 1, "ant": 0}
    assert (report.empty, report.ignored) == (1, 0)
    expected = [9, 9, 9, 20, 20, np.sqrt(20 * 20.5)]
    np.testing.assert_allclose(report.sides, expected, rtol=1e-6)
    text = str(report)
    assert "images without objects: 1" in text
    assert "cat        5" in text
    assert "data.json, annotation 56: sound.png: box [1, 1, 1, 5] has no area: dropped" in text
    assert "9.0, 9.0, 14.5, " in text


def test_contact_sheet_shows_what_can_be_read(tmp_path):
    report = check(faulty(tmp_path))
    assert report.contact_sheet(tmp_path / "sheet.png", columns=3) is True
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    # Three of five images, 60x40 each, side by side: gray 200 and black are their grounds.
    assert 180 <= sheet.shape[1] <= 240
    assert 40 <= sheet.shape[0] <= 60
    assert ((sheet == 200).all(-1)).sum() > 2000
    assert ((sheet == 0).all(-1)).sum() > 1500


def test_there_is_no_contact_sheet_without_an_image(tmp_path):
    report = check(faulty(tmp_path).subset([1, 2]))
    assert report.contact_sheet(tmp_path / "sheet.png") is False
    assert not (tmp_path / "sheet.png").exists()
    assert "unreadable_image" in str(report)


def test_contact_sheet_of_four_channels(tmp_path):
    check(Scans(4)).contact_sheet(tmp_path / "sheet.png", columns=2)
    # Images of 64 pixels in two columns and two rows, with gaps of 4.
    assert Image.open(tmp_path / "sheet.png").size == (2 * 68 + 4, 2 * 68 + 4)


def test_sound_data_has_no_faults(shared_data):
    data = voc(shared_data / "bccd", "train").subset(range(5))
    report = check(data)
    assert [fault.kind for fault in report.faults] == ["zero_size"]
    assert sum(report.objects.values()) == data.box_counts().sum()
