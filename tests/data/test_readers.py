import numpy as np
import pytest
from PIL import Image
from pycocotools import mask

from kerasdet.data import coco, csv, voc, yolo
from kerasdet.data.records import DataError
from tests.data.folders import (
    HEIGHT,
    WIDTH,
    annotation,
    coco_folder,
    image,
    kinds,
    voc_folder,
    voc_object,
    yolo_folder,
)


def test_coco_ids_with_gaps_become_labels(tmp_path):
    data = coco(*coco_folder(tmp_path, [annotation(5), annotation(6, category_id=90)]))
    assert (data.class_names, data.category_ids) == (("cat", "dog"), (3, 90))
    record = data.record(0)
    assert record.labels.tolist() == [0, 1]
    assert record.boxes.tolist() == [[10, 10, 30, 20]] * 2
    assert record.area.tolist() == [200, 200]
    assert data.record(1).boxes.shape == (0, 4)
    assert data.record(1).image_id == 7
    assert record.boxes.dtype == "float32"
    assert record.labels.dtype == "int32"
    assert data.image(1).shape == (HEIGHT, WIDTH, 3)


def test_coco_crowds_are_ignored_and_areas_kept(tmp_path):
    data = coco(*coco_folder(tmp_path, [annotation(1, iscrowd=1, area=55.5), annotation(2)]))
    assert data.record(0).ignore.tolist() == [True, False]
    assert data.record(0).area.tolist() == [55.5, 200]


def test_coco_masks_in_three_spellings(tmp_path):
    square = np.zeros((HEIGHT, WIDTH), "uint8", order="F")
    square[10:20, 10:30] = 1
    compressed = mask.encode(square)
    compressed["counts"] = compressed["counts"].decode()
    # Columns first: 10 columns of 40 and 10 more, then 20 times 10 inside and 30 outside.
    counts = [410] + [10, 30] * 19 + [10, HEIGHT * WIDTH - 410 - 40 * 19 - 10]
    spellings = [
        [[10, 10, 30, 10, 30, 20, 10, 20]],
        {"size": [HEIGHT, WIDTH], "counts": counts},
        compressed,
        [],
        {"size": [WIDTH, HEIGHT], "counts": counts},
        [[1, 2, 3]],
    ]
    entries = [annotation(k, segmentation=value) for k, value in enumerate(spellings)]
    data = coco(*coco_folder(tmp_path, entries))
    masks = mask.decode(list(data.record(0).masks))
    assert masks.shape == (HEIGHT, WIDTH, 6)
    for k in range(3):
        assert masks[..., k].tolist() == square.tolist()
    assert masks[..., 3:].sum() == 0
    assert kinds(data.faults) == [(3, "no_mask"), (4, "bad_mask"), (5, "bad_mask")]
    assert data.record(1).masks == ()


def test_coco_keypoints(tmp_path):
    categories = [
        {"id": 3, "name": "cat", "keypoints": ["nose", "tail"]},
        {"id": 90, "name": "dog"},
    ]
    entries = [
        annotation(1, keypoints=[11, 12, 2, 0, 0, 0]),
        annotation(2, category_id=90),
        annotation(3, bbox=(1, 1, 0, 5), keypoints=[5, 5, 2, 5, 5, 2]),
    ]
    files = coco_folder(tmp_path, entries, categories=categories)
    data = coco(*files)
    assert data.keypoint_names == ("nose", "tail")
    assert data.keypoint_sigmas == (0.05, 0.05)
    points = data.record(0).keypoints
    assert points.tolist() == [[[11, 12, 2], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]
    assert data.record(1).keypoints.shape == (0, 2, 3)
    assert coco(*files, keypoint_sigmas=(0.1, 0.2)).keypoint_sigmas == (0.1, 0.2)
    with pytest.raises(ValueError, match="1 keypoint_sigmas for 2"):
        coco(*files, keypoint_sigmas=(0.1,))


def test_coco_boxes_over_the_edge_are_clipped_and_counted(tmp_path):
    entries = [
        annotation(1, (-5, 30, 20, 20)),
        annotation(2, (50, 10, 10.01, 5)),
        annotation(3, (70, 10, 10, 5)),
        annotation(4, (10, 10, 0, 5)),
    ]
    data = coco(*coco_folder(tmp_path, entries))
    assert data.record(0).boxes.tolist() == [[0, 30, 15, 40], [50, 10, 60, 15]]
    assert kinds(data.faults) == [(1, "clipped"), (3, "outside"), (4, "zero_size")]
    assert "1 clipped, 1 outside, 1 zero_size" in repr(data)


def test_coco_faults_of_structure_are_all_named(tmp_path):
    entries = [
        annotation(1, (float("nan"), 1, 2, 3)),
        annotation(2, (10, 10, -4, 3)),
        annotation(3, image_id=99),
        annotation(4, category_id=1),
        annotation(4),
        annotation(5, ["a", 1, 2, 3]),
        annotation(6, (1, 2, 3)),
        annotation(7, (float("inf"), 1, 2, 3)),
        annotation(8, image_id=[1]),
        {"id": 9, "image_id": 1, "category_id": 3},
        annotation(10),
    ]
    files = coco_folder(tmp_path, entries)
    expected = [
        *[(1, "not_finite"), (2, "negative_size"), (3, "unknown_image"), (4, "unknown_category")],
        *[(4, "duplicate_id"), (5, "bad_value"), (6, "bad_value"), (7, "not_finite")],
        *[(8, "bad_value"), (9, "missing_field")],
    ]
    with pytest.raises(DataError) as caught:
        coco(*files)
    assert kinds(caught.value.faults) == expected
    message = str(caught.value)
    assert f"{files[0]}, annotation 1: a.png: box [nan, 1, nan, 4] is not finite" in message
    assert "annotation 3: image_id is 99, which is not in 'images'" in message
    assert "annotation 4: category_id is 1, which is not in 'categories'" in message
    lenient = coco(*files, strict=False)
    assert kinds(lenient.faults) == expected
    assert len(lenient.record(0).labels) == 1


def test_coco_missing_images_and_ids_twice(tmp_path):
    images = [
        {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
        {"id": 1, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        {"id": 2, "file_name": "gone.png", "height": HEIGHT, "width": WIDTH},
        {"id": 3, "file_name": "b.png", "height": 40.5, "width": WIDTH},
        {"file_name": "b.png"},
    ]
    files = coco_folder(tmp_path, [annotation(1), annotation(2, image_id=2)], images=images)
    with pytest.raises(DataError, match=r"gone\.png: there is no such image") as caught:
        coco(*files)
    found = [fault.kind for fault in caught.value.faults]
    assert found == ["duplicate_id", "missing_image", "bad_size", "missing_field"]
    assert len(coco(*files, strict=False)) == 1


def test_coco_size_comes_from_the_image_where_it_is_not_annotated(tmp_path):
    data = coco(*coco_folder(tmp_path, images=[{"id": 1, "file_name": "a.png"}]))
    assert (data.record(0).height, data.record(0).width) == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [],\n "annot', r"x\.json: line 2, column 2: not JSON"),
        ("[]", "perhaps of detections"),
        ('{"images": [], "annotations": []}', "no list 'categories'"),
        ('{"images": [3], "annotations": [], "categories": []}', "'images' holds 3"),
        ('{"images": [], "annotations": [], "categories": []}', "no class names"),
        ('{"images": [], "annotations": [], "categories": [{"name": "a"}]}', "integer 'id'"),
        (
            '{"images": [], "annotations": [], "categories": '
            '[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "category id 1 stands for 'a' and for 'b'",
        ),
        (
            '{"images": [], "annotations": [], "categories": '
            '[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "class name 'a' appears twice",
        ),
    ],
)
def test_broken_coco_files(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        coco(tmp_path / "x.json", tmp_path)


def test_missing_coco_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.json: there is no such file"):
        coco(tmp_path / "x.json", tmp_path)
    file, _ = coco_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        coco(file, tmp_path / "nowhere")


def exif_dataset(tmp_path, height, width):
    exif = Image.Exif()
    exif[0x0112] = 6
    image(tmp_path / "images" / "turned.jpg", exif=exif)
    images = [{"id": 1, "file_name": "turned.jpg", "height": height, "width": width}]
    return coco(*coco_folder(tmp_path, images=images))


def test_the_image_has_the_size_of_its_annotation(tmp_path):
    assert exif_dataset(tmp_path, WIDTH, HEIGHT).image(0).shape == (WIDTH, HEIGHT, 3)
    # Annotated without regard to the orientation: read as stored.
    assert exif_dataset(tmp_path, HEIGHT, WIDTH).image(0).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(ValueError, match=r"turned\.jpg: the image is 40x60 .* says 61x40"):
        exif_dataset(tmp_path, HEIGHT, WIDTH + 1).image(0)


def test_voc_counts_pixels_from_one(tmp_path):
    objects = [voc_object(box=(1, 1, WIDTH, HEIGHT)), voc_object("ant", (11, 21, 11.5, 30), 1)]
    root = voc_folder(tmp_path, train={"a": objects, "b": []})
    data = voc(root, "train")
    assert data.record(0).boxes.tolist() == [[0, 0, WIDTH, HEIGHT], [10, 20, 11.5, 30]]
    assert data.record(0).ignore.tolist() == [False, True]
    assert data.record(0).labels.tolist() == [1, 0]
    assert data.record(0).image_id == "a"
    assert data.category_ids == (1, 2)
    assert data.record(1).labels.shape == (0,)
    assert not data.faults
    assert voc(root, one_based=False).record(0).boxes.tolist()[0] == [1, 1, WIDTH, HEIGHT]


def test_voc_splits_have_the_same_classes(tmp_path):
    root = voc_folder(
        tmp_path,
        train={"a": [voc_object("dog")]},
        val={"b": [voc_object("cat"), voc_object("ant")]},
    )
    assert voc(root, "train").class_names == voc(root, "val").class_names == ("ant", "cat", "dog")
    assert voc(root, "val", class_names=("cat", "ant")).record(0).labels.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"a\.xml, annotation 1: name is 'dog', which is not in"):
        voc(root, "train", class_names=("cat", "ant"))


def test_voc_faults(tmp_path):
    objects = [
        voc_object(box=(5, 5, 5, 5)),
        voc_object(box=(0, 5, 10, 10)),
        voc_object(box=(9, 5, 4, 10)),
        voc_object(box=("nan", 5, 4, 10)),
        voc_object(box=("x", 5, 4, 10)),
        "<object><name>cat</name></object>",
        voc_object(),
    ]
    root = voc_folder(tmp_path, train={"a": objects, "b": [], "c": []})
    (root / "Annotations" / "b.xml").write_text("<annotation>\n<size>\n</annotation>")
    (root / "JPEGImages" / "c.jpg").unlink()
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\nb\nc\na\nd\n")
    with pytest.raises(DataError, match=r"b\.xml: line 3, column 3: not XML"):
        voc(root)
    data = voc(root, strict=False)
    assert kinds(data.faults) == [
        *[(1, "zero_size"), (2, "clipped"), (3, "negative_size"), (4, "not_finite")],
        *[(5, "bad_value"), (6, "bad_value"), (None, "broken_xml"), (None, "missing_image")],
        *[(None, "duplicate_id"), (None, "missing_annotation")],
    ]
    assert data.record(0).boxes.tolist() == [[0, 4, 10, 10], [0, 0, 20, 10]]
    assert len(data) == 1


def test_voc_size_from_the_image_and_other_suffixes(tmp_path):
    root = voc_folder(tmp_path, train={"a": [voc_object()]})
    file = root / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace(f"<width>{WIDTH}</width>", "<width>0</width>"))
    (root / "JPEGImages" / "a.jpg").unlink()
    image(root / "JPEGImages" / "a.png")
    record = voc(root).record(0)
    assert (record.height, record.width) == (HEIGHT, WIDTH)


def test_voc_missing_split_names_the_others(tmp_path):
    root = voc_folder(tmp_path, train={"a": [voc_object()]})
    with pytest.raises(FileNotFoundError, match=r"test\.txt: .* splits here: train"):
        voc(root, "test")


def test_yolo_boxes_and_polygons(tmp_path):
    lines = ["1 0.5 0.5 0.5 0.25", "0 0.1 0.2 0.5 0.2 0.5 0.6", ""]
    data = yolo(yolo_folder(tmp_path, lines))
    assert data.class_names == ("cat", "dog")
    assert data.category_ids == (0, 1)
    np.testing.assert_allclose(data.record(0).boxes, [[15, 15, 45, 25], [6, 8, 30, 24]], rtol=1e-6)
    assert data.record(0).labels.tolist() == [1, 0]
    assert [data.record(i).image_id for i in range(2)] == ["a", "b"]
    assert len(data.record(1).labels) == 0


@pytest.mark.parametrize(
    ("names", "place"),
    [
        ("train: images/train\nnames: [cat, 'hot dog'] # two\n", "images/train"),
        ("path: .\ntrain: images/train\nnames:\n  0: cat\n  1: hot dog\nnc: 2\n", "images/train"),
        ('names:\n- cat\n- "hot dog"\nnc: 2\n', "train/images"),
        ("# mine\nnames: {0: cat, 1: hot dog}\n", "images/train"),
    ],
)
def test_yolo_yaml_and_layouts(tmp_path, names, place):
    data = yolo(yolo_folder(tmp_path, ["1 0.5 0.5 0.5 0.5"], names, place), "train")
    assert data.class_names == ("cat", "hot dog")
    assert data.record(0).labels.tolist() == [1]


def test_yolo_faults(tmp_path):
    lines = [
        "2 0.5 0.5 0.5 0.5",
        "0.5 0.5 0.5 0.5 0.5",
        "0 0.5 0.5 0.5",
        "0 x 0.5 0.5 0.5",
        "0 0.5 0.5 0 0.5",
        "0 300 200 40 40",
        "0 0.5 0.5 -0.1 0.5",
        "0 0.9 0.5 0.4 0.5",
    ]
    root = yolo_folder(tmp_path, lines)
    (root / "labels" / "gone.txt").write_text("")
    with pytest.raises(DataError, match=r"a\.txt, annotation 1: class 2 is not in 0\.\.1"):
        yolo(root)
    data = yolo(root, strict=False)
    assert kinds(data.faults) == [
        *[(None, "unknown_image"), (1, "unknown_category"), (2, "unknown_category")],
        *[(3, "bad_value"), (4, "bad_value"), (5, "zero_size"), (6, "bad_value")],
        *[(7, "negative_size"), (8, "clipped")],
    ]
    np.testing.assert_allclose(data.record(0).boxes, [[42, 10, 60, 30]], rtol=1e-6)


def test_yolo_missing_parts(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither data\.yaml nor classes\.txt"):
        yolo(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(FileNotFoundError, match=r"no images in .*images or .*; name a split"):
        yolo(tmp_path)
    image(tmp_path / "images" / "a.png")
    with pytest.raises(FileNotFoundError, match="labels: there is no such folder"):
        yolo(tmp_path)


def test_csv(tmp_path):
    image(tmp_path / "p" / "a.png")
    image(tmp_path / "p" / "b.png")
    file = tmp_path / "boxes.csv"
    file.write_text(
        "image,xmin,ymin,xmax,ymax,label,note\n"
        "p/a.png,1.5,2,30,20,dog,x\np/b.png,,,,,,\np/a.png, 0, 0, 60, 40, cat\n"
    )
    data = csv(file)
    assert data.class_names == ("cat", "dog")
    assert data.record(0).boxes.tolist() == [[1.5, 2, 30, 20], [0, 0, 60, 40]]
    assert data.record(0).labels.tolist() == [1, 0]
    assert data.record(0).image_id == "p/a.png"
    assert len(data.record(1).labels) == 0
    assert data.image(1).shape == (HEIGHT, WIDTH, 3)
    assert csv(file, class_names=["dog", "cat", "ant"]).record(0).labels.tolist() == [0, 1]


def test_csv_faults(tmp_path):
    image(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    file = tmp_path / "boxes.csv"
    rows = ["a.png,1,1,1,9,cat", "a.png,1,1,x,9,cat", "a.png,9,1,1,9,cat", "a.png,1,1,9,9,"]
    rows += ["gone.png,1,1,9,9,cat", "b.png,1,1,9,9,cat", "a.png,-3,1,9,9,cat"]
    file.write_text("image,xmin,ymin,xmax,ymax,label\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"boxes\.csv, annotation 3: the box is 1,1,x,9"):
        csv(file)
    data = csv(file, strict=False)
    assert kinds(data.faults) == [
        *[(2, "zero_size"), (3, "bad_value"), (4, "negative_size"), (5, "unknown_category")],
        *[(None, "missing_image"), (None, "unreadable_image"), (8, "clipped")],
    ]
    assert data.record(0).boxes.tolist() == [[0, 1, 9, 9]]
    file.write_text("image,xmin,ymin,xmax\n")
    with pytest.raises(ValueError, match=r"line 1: the header .* lacks ymax, label"):
        csv(file)


def test_bccd(shared_data):
    train, val = voc(shared_data / "bccd", "train"), voc(shared_data / "bccd", "val")
    assert (len(train), len(val)) == (205, 87)
    assert train.class_names == val.class_names == ("Platelets", "RBC", "WBC")
    faults = [*train.faults, *val.faults]
    assert [(fault.file[-7:], fault.annotation_id, fault.kind) for fault in faults] == [
        ("343.xml", 4, "zero_size"),
        ("338.xml", 13, "zero_size"),
    ]
    # 3350 RBC, 301 WBC and 292 Platelets are annotated, two of them without size.
    assert train.box_counts().sum() + val.box_counts().sum() == 3350 + 301 + 292 - 2
    assert train.image(0).shape == (480, 640, 3)


def test_coco_mini(shared_data):
    folder = shared_data / "coco_mini"
    data = coco(folder / "annotations" / "instances.json", folder / "images", folder / "semantic")
    records = [data.record(i) for i in range(len(data))]
    assert (len(records), len(data.class_names), data.box_counts().sum()) == (100, 80, 746)
    assert data.category_ids[79] == 90
    assert sum(record.ignore.sum() for record in records) == 6
    assert max(record.labels.max(initial=0) for record in records) == 79
    assert data.image(0).shape[:2] == data.semantic(0).shape
    for record in records[:10]:
        for rle, box, area in zip(record.masks, record.boxes, record.area, strict=True):
            inside = np.argwhere(mask.decode(rle))
            assert inside.size
            np.testing.assert_allclose(inside.min(0)[::-1], box[:2], atol=1)
            np.testing.assert_allclose(inside.max(0)[::-1] + 1, box[2:], atol=1)
            assert len(inside) == area
