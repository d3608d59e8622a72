"""Data sets after public reports of people who train detectors; what is right stands in each.

Every value here is also tested on a small input made by the test, beside the reader it concerns.
"""

from collections import Counter

import pytest

from kerasdet.data import check, coco, csv, voc, yolo

CUP_BOX_PEN = ("cup", "box", "pen")
SORTED = ("box", "cup", "pen")
# Case: images, objects, class names, faults of `check` by kind.
COCO = {
    "coco_backslash": (3, 9, CUP_BOX_PEN, {}),
    "coco_badrle": (2, 6, CUP_BOX_PEN, {"bad_mask": 6}),
    "coco_masks": (3, 9, CUP_BOX_PEN, {"bad_mask": 2, "no_mask": 2}),
    "coco_noid": (3, 9, CUP_BOX_PEN, {}),
    "coco_normalised": (3, 9, CUP_BOX_PEN, {"shares": 1}),
    "coco_strings": (3, 9, CUP_BOX_PEN, {}),
    "coco_via": (3, 9, CUP_BOX_PEN, {}),
    "coco_xyxy": (3, 9, CUP_BOX_PEN, {"clipped": 7, "corners": 1}),
    "exif_as_stored": (5, 10, CUP_BOX_PEN, {"orientation": 4}),
    "roboflow_coco_root": (3, 9, CUP_BOX_PEN, {"root_category": 1}),
    "roboflow_coco_single": (3, 9, ("cup",), {"root_category": 1}),
}
VOC = {
    "voc_odd": (5, 5, ("Box", "box", "cup"), {}),
    "voc_size_wrong": (1, 3, SORTED, {"unreadable_image": 1}),
    "voc_spaces": (3, 9, SORTED, {}),
    "voc_subfolders": (3, 9, SORTED, {}),
}
YOLO = {
    ("roboflow_yolo", "train"): (12, 36, CUP_BOX_PEN, {}),
    ("roboflow_yolo", "val"): (4, 12, CUP_BOX_PEN, {}),
    ("roboflow_yolo", "test"): (2, 6, CUP_BOX_PEN, {}),
    ("yaml_comma", "train"): (3, 9, ("cup, red", "box", "pen"), {}),
    ("yaml_gap", "train"): (3, 6, ("cup", "pen"), {"unknown_category": 3}),
    ("yaml_unordered", "train"): (3, 9, CUP_BOX_PEN, {}),
    ("yolo_mac", "train"): (3, 9, CUP_BOX_PEN, {}),
    ("yolo_misc", None): (6, 15, CUP_BOX_PEN, {"upper_case": 1}),
    ("yolo_nested", "train"): (4, 12, CUP_BOX_PEN, {}),
    ("yolo_pose", "train"): (1, 1, ("cup",), {}),
    ("yolo_yaml_training", "train"): (1, 3, CUP_BOX_PEN, {}),
    ("yolo_yaml_training", "val"): (1, 3, CUP_BOX_PEN, {}),
}


@pytest.fixture
def cases(shared_data):
    folder = shared_data / "cases"
    if not folder.is_dir():
        pytest.skip(f"the cases are not at {folder}")
    return folder


def figures(data):
    kinds = Counter(fault.kind for fault in check(data).faults)
    return len(data), data.box_counts().sum(), data.class_names, kinds


@pytest.mark.parametrize("case", COCO)
def test_coco_cases(cases, case):
    data = coco(cases / case / "ann.json", cases / case / "images", strict=False)
    assert figures(data) == COCO[case]


@pytest.mark.parametrize("case", VOC)
def test_voc_cases(cases, case):
    assert figures(voc(cases / case, strict=False)) == VOC[case]


@pytest.mark.parametrize(("case", "split"), YOLO)
def test_yolo_cases(cases, case, split):
    assert figures(yolo(cases / case, split, strict=False)) == YOLO[case, split]


def test_csv_cases(cases):
    assert figures(csv(cases / "csv_classes" / "train.csv")) == (10, 30, SORTED, {})


def test_the_box_of_a_pose_label(cases):
    record = yolo(cases / "yolo_pose", "train").record(0)
    assert record.boxes.tolist() == [[40, 30, 80, 90]]
    assert record.keypoints.shape == (1, 4, 3)
