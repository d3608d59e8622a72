"""COCO files as annotation tools and hand-written converters write them, and hostile ones."""

import json
import math

import pytest

from kerasdet.data import coco
from kerasdet.data.records import DataError
from tests.data.folders import HEIGHT, WIDTH, annotation, coco_folder, image, kinds


def entry(number, name="a.png", **fields):
    return {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH, **fields}


def test_ids_are_compared_as_what_they_denote(tmp_path):
    images = [entry("0"), entry(7.0, "b.png")]
    entries = [
        annotation("1", image_id=0, category_id="3"),
        annotation(2, image_id="7", category_id=90.0),
        annotation(2.0, image_id="7"),
    ]
    categories = [{"id": "3", "name": "cat"}, {"id": 90, "name": "dog"}]
    data = coco(*coco_folder(tmp_path, entries, images=images, categories=categories), strict=False)
    assert [data.record(i).image_id for i in range(2)] == [0, 7]
    assert [data.record(i).labels.tolist() for i in range(2)] == [[0], [1]]
    assert data.category_ids == (3, 90)
    assert kinds(data.faults) == [(2, "duplicate_id")]


def test_other_texts_are_ids_of_their_own(tmp_path):
    images = [entry("007"), entry("img", "b.png")]
    entries = [annotation(1, image_id="007"), annotation(2, image_id="img")]
    data = coco(*coco_folder(tmp_path, entries, images=images))
    assert [data.record(i).image_id for i in range(2)] == ["007", "img"]
    assert data.box_counts().tolist() == [1, 1]


def test_ids_beyond_64_bits_become_texts(tmp_path):
    """2**70 is the same id as an integer and as a text."""
    for spelling in (2**70, str(2**70)):
        files = coco_folder(tmp_path, [annotation(1, image_id=spelling)], images=[entry(2**70)])
        data = coco(*files)
        assert data.record(0).image_id == "1180591620717411303424"
        assert data.box_counts().tolist() == [1]
    data = coco(*coco_folder(tmp_path, images=[entry(2**63 - 1)]))
    assert data.record(0).image_id == 9223372036854775807


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**70 + 1, 2**127])
def test_floats_that_stand_for_several_integers_are_no_ids(tmp_path, number):
    entries = [annotation(1, image_id=float(number)), annotation(2, category_id=float(number))]
    entries += [annotation(float(number)), annotation(4, image_id=float(2**53 - 1))]
    images = [entry(2**53 - 1), entry(float(number), "b.png")]
    files = coco_folder(tmp_path, entries, images=images)
    with pytest.raises(
        DataError, match=r"image 'b\.png': id is .*, a float that stands for several"
    ):
        coco(*files)
    data = coco(*files, strict=False)
    assert kinds(data.faults) == [(None, "bad_value"), *[(i, "bad_value") for i in (1, 2, "#3")]]
    assert data.box_counts().tolist() == [1]


def test_annotations_without_ids_are_numbered(tmp_path):
    entries = [annotation(None), annotation(None), annotation(None, (1, 1, 0, 5))]
    del entries[0]["id"]
    data = coco(*coco_folder(tmp_path, entries))
    assert data.box_counts().tolist() == [2, 0]
    assert kinds(data.faults) == [("#3", "zero_size")]


def test_numbers_may_be_texts(tmp_path):
    entries = [annotation(1, ["10", "5", "20.5", "10"], iscrowd="1", area="77"), annotation(2)]
    data = coco(*coco_folder(tmp_path, entries))
    assert data.record(0).boxes.tolist() == [[10, 5, 30.5, 15], [10, 10, 30, 20]]
    assert data.record(0).ignore.tolist() == [True, False]
    assert data.record(0).area.tolist() == [77, 200]


@pytest.mark.parametrize(
    ("value", "ignore"),
    [
        *[(value, True) for value in (1, 1.0, True, "1", "1.0", "true", "True", " yes ")],
        *[(value, False) for value in (0, 0.0, False, None, "", "0", "false", "No")],
    ],
)
def test_spellings_of_iscrowd(tmp_path, value, ignore):
    data = coco(*coco_folder(tmp_path, [annotation(1, iscrowd=value)]))
    assert data.record(0).ignore.tolist() == [ignore]


@pytest.mark.parametrize("value", [2, -1, 0.5, "2", "perhaps", [1], {}, [], math.nan, 10**400])
def test_an_iscrowd_that_is_neither_yes_nor_no(tmp_path, value):
    files = coco_folder(tmp_path, [annotation(1, iscrowd=value)])
    with pytest.raises(DataError, match=r"annotation 1: iscrowd is .*; it must be 0 or 1"):
        coco(*files)
    assert coco(*files, strict=False).box_counts().tolist() == [0, 0]


@pytest.mark.parametrize("size", [(-1, -1), (0, 0), (None, None), ("", ""), (-1, WIDTH)])
def test_sizes_that_are_unknown_come_from_the_file(tmp_path, size):
    data = coco(*coco_folder(tmp_path, images=[entry(1, height=size[0], width=size[1])]))
    assert (data.record(0).height, data.record(0).width) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("size", [(40.0, 60.0), ("40", "60"), ("40.0", 60)])
def test_sizes_may_be_written_in_other_ways(tmp_path, size):
    data = coco(*coco_folder(tmp_path, images=[entry(1, height=size[0], width=size[1])]))
    assert (data.record(0).height, data.record(0).width) == (HEIGHT, WIDTH)
    assert isinstance(data.record(0).height, int)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            (10**9, 10**9),
            "the annotated size is 1000000000x1000000000, above the limit of 67108864",
        ),
        ((40.5, 60), r"height, width are 40\.5, 60; they must be integers"),
        ((math.inf, 60), "height, width are inf, 60; they must be integers"),
        ((math.nan, 60), "height, width are nan, 60"),
        (("x", 60), "height, width are 'x', 60"),
        ((True, 60), "height, width are True, 60"),
        (([40], 60), r"height, width are \[40\], 60"),
        ((10**400, 60), "they must be integers"),
    ],
)
def test_sizes_that_no_image_has(tmp_path, size, message):
    files = coco_folder(tmp_path, images=[entry(1, height=size[0], width=size[1])])
    with pytest.raises(DataError, match=rf"a\.png: image 1: .*{message}") as caught:
        coco(*files)
    assert kinds(caught.value.faults) == [(None, "bad_size")]


def test_a_root_category_without_objects_is_left_out(tmp_path):
    categories = [
        {"id": 0, "name": "things", "supercategory": "none"},
        {"id": 3, "name": "cat", "supercategory": "things"},
        {"id": 4, "name": "things2", "supercategory": "none"},
    ]
    data = coco(*coco_folder(tmp_path, [annotation(1)], categories=categories))
    assert (data.class_names, data.category_ids) == (("cat", "things2"), (3, 4))
    assert data.record(0).labels.tolist() == [0]
    assert kinds(data.faults) == [(None, "root_category")]
    assert "category 0, 'things', has no objects" in data.faults[0].message


@pytest.mark.parametrize("above", [None, "", "none", "None", "root", "things", ["x"], 5])
def test_spellings_of_a_root_category(tmp_path, above):
    categories = [
        {"id": 0, "name": "things", "supercategory": above},
        {"id": 3, "name": "cat", "supercategory": "things"},
    ]
    assert coco(*coco_folder(tmp_path, categories=categories)).class_names == ("cat",)


def test_a_root_category_may_have_the_name_of_a_class(tmp_path):
    categories = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 3, "name": "cat", "supercategory": "cat"},
    ]
    data = coco(*coco_folder(tmp_path, [annotation(1)], categories=categories))
    assert (data.class_names, data.category_ids) == (("cat",), (3,))


def test_a_supercategory_with_objects_or_above_it_is_a_class(tmp_path):
    categories = [
        {"id": 3, "name": "vehicle", "supercategory": "none"},
        {"id": 4, "name": "car", "supercategory": "vehicle"},
        {"id": 5, "name": "person", "supercategory": "person"},
        {"id": 6, "name": "van", "supercategory": "truck"},
        {"id": 7, "name": "truck", "supercategory": "vehicle"},
        {"id": 8, "name": "None", "supercategory": "vehicle"},
        {"id": 9, "name": "group", "supercategory": "None"},
        {"id": 10, "name": "one", "supercategory": "group"},
    ]
    data = coco(*coco_folder(tmp_path, [annotation(1)], categories=categories))
    names = ("vehicle", "car", "person", "van", "truck", "None", "group", "one")
    assert data.class_names == names
    assert data.faults == []


@pytest.mark.parametrize(
    "name",
    [
        *("images\\a.png", "images%2Fa.png", "images/a.png", "./a.png", "C:\\mine\\a.png"),
        *("https://host/task/a.png", "/data/upload/a.png", "%61.png"),
    ],
)
def test_file_names_from_other_machines_are_found(tmp_path, name):
    data = coco(*coco_folder(tmp_path, [annotation(1)], images=[entry(1, name)]))
    assert data.image(0).shape == (HEIGHT, WIDTH, 3)
    assert data.box_counts().tolist() == [1]


def test_the_name_as_written_comes_first(tmp_path):
    files = coco_folder(tmp_path, images=[entry(1, "x%2Fa.png"), entry(2, "sub\\a.png")])
    image(tmp_path / "images" / "x%2Fa.png", (20, 30))
    image(tmp_path / "images" / "sub" / "a.png", (10, 30))
    data = coco(*files, strict=False)
    assert [data.record(i).path[len(str(files[1])) + 1 :] for i in range(2)] == [
        "x%2Fa.png",
        "sub/a.png",
    ]


def test_two_names_that_lead_to_one_file_are_told(tmp_path):
    files = coco_folder(tmp_path, images=[entry(1, "cam1/a.png"), entry(2, "cam2/a.png")])
    with pytest.raises(DataError, match=r"cam2/a\.png and cam1/a\.png are both found as .*a\.png"):
        coco(*files)


@pytest.mark.parametrize("name", ["a.png", "./a.png", "images\\a.png"])
def test_an_image_under_two_ids_is_told(tmp_path, name):
    images = [entry(1), entry(5, name), entry(9, "b.png")]
    entries = [annotation(1), annotation(2, image_id=5), annotation(3, image_id=9)]
    files = coco_folder(tmp_path, entries, images=images)
    with pytest.raises(DataError, match=r"image ids 1 and 5 are both .*a\.png, .*one image_id"):
        coco(*files)
    data = coco(*files, strict=False)
    assert kinds(data.faults) == [(None, "duplicate_image")]
    assert [data.record(i).image_id for i in range(len(data))] == [1, 9]


def test_boxes_that_are_all_shares_are_a_fault(tmp_path):
    boxes = [(0.1, 0.2, 0.5, 0.25), (0, 0, 1, 1)]
    entries = [annotation(1 + k, box) for k, box in enumerate(boxes)]
    files = coco_folder(tmp_path, entries)
    with pytest.raises(DataError, match=r"all 2 boxes lie within 0\.\.1: shares of the sides"):
        coco(*files)
    assert kinds(coco(*files, strict=False).faults) == [(None, "shares")]
    # One box in pixels among them: the others are small, not shares.
    assert coco(*coco_folder(tmp_path, [*entries, annotation(3)])).faults == []


@pytest.mark.parametrize(
    "box", [(0.667, 0.5, 0.334, 0.3), (0.9, 0.9, 0.2, 0.2), (0.5, -0.004, 0.5, 1.004)]
)
def test_shares_with_rounding_and_of_centres(tmp_path, box):
    entries = [annotation(1, (0.1, 0.1, 0.2, 0.2)), annotation(2, box), annotation(3, (0, 0, 0, 0))]
    found = coco(*coco_folder(tmp_path, entries), strict=False).faults
    assert kinds(fault for fault in found if fault.kind != "clipped") == [
        (3, "zero_size"),
        (None, "shares"),
    ]
    assert "all 2 boxes" in found[-1].message


@pytest.mark.parametrize("box", [(0, 0, 1.2, 1), (0.5, 1.5, 0.5, 0.5), (0, 0, 0, 0)])
def test_boxes_of_a_pixel_are_no_shares(tmp_path, box):
    found = coco(*coco_folder(tmp_path, [annotation(1, box)]), strict=False).faults
    assert "shares" not in [fault.kind for fault in found]


def test_boxes_that_are_corners_are_told(tmp_path):
    boxes = [(10, 10, 30, 35), (40, 5, 59, 40), (1, 1, 20, 30), (30, 20, 60, 40)]
    entries = [annotation(1 + k, box) for k, box in enumerate(boxes)]
    data = coco(*coco_folder(tmp_path, entries))
    assert [fault.kind for fault in data.faults].count("corners") == 1
    message = next(fault.message for fault in data.faults if fault.kind == "corners")
    assert (
        "3 of 4 boxes extend beyond the edge, and all could be [xmin, ymin, xmax, ymax]" in message
    )
    # One box that cannot be corners: the others do extend beyond the edge.
    data = coco(*coco_folder(tmp_path, [*entries, annotation(5, (30, 10, 20, 5))]))
    assert [fault.kind for fault in data.faults].count("corners") == 0


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        ([1, 2, 2], r"keypoints are \[1, 2, 2\]; they must be 2 times x, y, v"),
        ([1, 2, 2, 3, 4], "they must be 2 times"),
        ([1, 2, 2, 3, None, 2], "they must be 2 times"),
        ("text", "keypoints are 'text'"),
        ({"a": 1}, "keypoints are {'a': 1}"),
        (5, "keypoints are 5"),
        ([1, 2, 2, 3, math.nan, 2], "keypoints are not finite"),
        ([1, 2, 2, 3, 10**400, 2], "keypoints are not finite"),
        ([1, 2, 2, 3, 4, 7], "visibility must be 0, 1 or 2"),
    ],
)
def test_odd_keypoints(tmp_path, keypoints, message):
    categories = [{"id": 3, "name": "cat", "keypoints": ["nose", "tail"]}]
    files = coco_folder(tmp_path, [annotation(1, keypoints=keypoints)], categories=categories)
    with pytest.raises(DataError, match=rf"annotation 1: .*{message}"):
        coco(*files)
    data = coco(*files, strict=False)
    assert data.record(0).keypoints.tolist() == [[[0, 0, 0], [0, 0, 0]]]


def test_visible_points_outside_the_image_are_told_and_not_used(tmp_path):
    categories = [{"id": 3, "name": "cat", "keypoints": ["nose", "tail"]}]
    points = [
        *([WIDTH + 0.04, -0.04, 2, 0, HEIGHT, 2], [WIDTH + 9, 2, 1, -5, -5, 0]),
        *([-1, 4, 2, 3, 4, 2], [3, 4, 2, 5, HEIGHT + 1, 2]),
    ]
    entries = [annotation(1 + k, keypoints=values) for k, values in enumerate(points)]
    data = coco(*coco_folder(tmp_path, entries, categories=categories))
    assert kinds(data.faults) == [(3, "point_outside"), (4, "point_outside")]
    assert "a.png: keypoint 1, (-1, 4), is visible and lies outside" in data.faults[0].message
    assert data.record(0).keypoints[:, :, 2].tolist() == [[2, 2], [1, 0], [0, 2], [2, 0]]
    assert data.record(0).keypoints[2].tolist() == [[0, 0, 0], [3, 4, 2]]


@pytest.mark.parametrize(
    ("category", "message"),
    [
        ({"id": 1, "name": "a", "keypoints": 5}, "'keypoints' of a category are not names"),
        ({"id": 1, "name": "a", "keypoints": [[1]]}, "'keypoints' of a category are not names"),
        ({"id": True, "name": "a"}, "needs an integer 'id' and a 'name'"),
        ({"id": "x", "name": "a"}, "needs an integer 'id' and a 'name'"),
        ({"id": 1, "name": None}, "needs an integer 'id' and a 'name'"),
        ({"id": 1, "name": {}}, "needs an integer 'id' and a 'name'"),
    ],
)
def test_odd_categories(tmp_path, category, message):
    with pytest.raises(ValueError, match=rf"instances\.json: .*{message}"):
        coco(*coco_folder(tmp_path, categories=[category]))


@pytest.mark.parametrize(
    ("bbox", "kind"),
    [
        (None, "bad_value"),
        ("text", "bad_value"),
        ([1, 2, 3, None], "bad_value"),
        ([1, 2, 3, [4]], "bad_value"),
        ([1, 2, 3, "x"], "bad_value"),
        ([1, 2, 3, 10**400], "not_finite"),
        ([1, 2, "nan", 3], "not_finite"),
        ([1e308, 2, 1e308, 3], "not_finite"),
        ([1e300, 1e300, 1, 1], "zero_size"),
        ([-1e9, -1e9, 1e10, 1e10], "clipped"),
        ([59.9999999, 1, 1e-8, 5], "zero_size"),
        ([1, 1, 5, 1e-9], "zero_size"),
    ],
)
def test_hostile_boxes(tmp_path, bbox, kind):
    data = coco(*coco_folder(tmp_path, [annotation(1) | {"bbox": bbox}]), strict=False)
    assert kinds(data.faults) == [(1, kind)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "lists nested too deeply"),
        ('{"images":' * 100_000, "lists nested too deeply"),
        ('{"images": ' + "9" * 5000 + "}", "a number that cannot be read"),
        ('{"images": [], "annotations": [], "categories": 5}', "no list 'categories'"),
        (b"\xff\xfe{".decode("latin-1"), r"line 1, column 1: not JSON"),
    ],
)
def test_hostile_json(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"x\.json: .*{message}"):
        coco(tmp_path / "x.json", tmp_path)


def test_half_characters_can_be_printed(tmp_path):
    images = [entry(1, "\ud800.png"), entry(2, "a.png")]
    categories = [{"id": 3, "name": "c\udfff"}]
    files = coco_folder(tmp_path, images=images, categories=categories)
    data = coco(*files, strict=False)
    assert "\\ud800.png" in str(data.faults[0]).encode("utf-8").decode()
    assert data.class_names == ("c\\udfff",)


def test_deep_values_are_shown_short(tmp_path):
    deep = json.loads("[" * 900 + "]" * 900)
    entries = [annotation(1) | {"bbox": deep}, annotation(2, image_id=deep), annotation(3)]
    entries[2]["segmentation"] = deep
    data = coco(*coco_folder(tmp_path, entries), strict=False)
    assert kinds(data.faults) == [(1, "bad_value"), (2, "bad_value"), (3, "bad_mask")]
    assert max(len(fault.message) for fault in data.faults) < 200


def test_endless_names_are_shown_short(tmp_path):
    long = "a/" * 200_000
    images = [entry(1, long), entry(1, long), entry(2, "x" * 400_000), entry(long, "b.png")]
    images += [entry(long, "b.png"), entry(3, height=long)]
    categories = [{"id": 3, "name": long}, {"id": 4, "name": "dog", "supercategory": long}]
    files = coco_folder(tmp_path, images=images, categories=categories)
    with pytest.raises(DataError) as caught:
        coco(*files)
    assert len(caught.value.faults) == 5
    assert max(len(str(fault)) for fault in coco(*files, strict=False).faults) < 2100
    files = coco_folder(tmp_path, categories=[categories[0], categories[0]])
    with pytest.raises(ValueError, match="category id 3 stands for") as caught:
        coco(*files)
    assert len(str(caught.value)) < 500
