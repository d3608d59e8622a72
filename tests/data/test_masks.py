import math
import re

import numpy as np
import pytest
from pycocotools import mask

from kerasdet.data import coco
from kerasdet.data.masks import clean_mask, run_lengths
from kerasdet.metrics import coco_metrics
from tests.data.folders import HEIGHT, WIDTH, annotation, coco_folder, kinds

SIZE = (HEIGHT, WIDTH)
SQUARE = [10, 10, 30, 10, 30, 20, 10, 20]


def run_length(counts, size=SIZE):
    return {"size": list(size), "counts": counts}


@pytest.mark.parametrize(
    ("segmentation", "kind"),
    [
        ([SQUARE], None),
        (SQUARE, None),
        ([[SQUARE]], None),
        ([[str(value) for value in SQUARE]], None),
        ([SQUARE, [10, 10, 30, 20]], "bad_mask"),
        ([SQUARE, [70, 10, 80, 10, 80, 20]], None),
    ],
)
def test_usable_spellings_of_a_polygon(segmentation, kind):
    polygons, found, _ = clean_mask(segmentation, SIZE)
    assert found == kind
    assert mask.area(run_lengths(polygons, SIZE)) == 200
    assert mask.toBbox(run_lengths(polygons, SIZE)).tolist() == [10, 10, 20, 10]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, None, 5, 7, 7]], "values that are not numbers"),
        ([[0, 0, True, 5, 7, 7]], "values that are not numbers"),
        ([[0, 0, float("nan"), 5, 7, 7]], "not finite"),
        ([[0, 0, float("inf"), 5, 7, 7]], "reaches from 0 to inf"),
        ([[0, 0, 1e7, 5, 7, 7]], r"reaches from 0 to 1e\+07"),
        ([[0, 0, -1e12, 5, 7, 7]], r"reaches from -1e\+12 to 7"),
        ([[0, 0, 10**400, 5, 7, 7]], "reaches from 0 to inf"),
        ([[0, 0, WIDTH, HEIGHT] * 50_000], "pixels is too long for its image"),
        ([SQUARE] * 50_000, "pixels is too long for its image"),
        ([[1, 2, 3, 4]], "3 points or more"),
        ([[1, 2, 3, 4, 5, 6, 7]], "3 points or more"),
        ([[]], "3 points or more"),
        ([None], "3 points or more"),
        ("text", "segmentation is 'text'"),
        (3.5, "segmentation is 3.5"),
        (run_length([10, 20]), "do not add up to the 2400 pixels"),
        (run_length([5, -3, 2398]), "do not add up"),
        (run_length([10**18]), "do not add up"),
        (run_length([2400.0]), "neither integers nor"),
        (run_length(None), "neither integers nor"),
        (run_length("hello w\u00f6rld"), "neither integers nor"),
        (run_length("zzzzzzzz"), "neither integers nor"),
        (run_length("o" * 9), "neither integers nor"),
        (run_length("5:"), "do not add up"),
        (run_length([2400], (WIDTH, HEIGHT)), r"RLE of size \[60, 40\] in an image of \[40, 60\]"),
        (run_length([10**18], (10**9, 10**9)), r"RLE of size \[1000000000, 1000000000\]"),
        (run_length([2400]), "RLE of background alone"),
        (run_length([1000, 0, 1400]), "RLE of background alone"),
        (run_length(mask.encode(np.zeros(SIZE, "uint8", "F"))["counts"].decode()), "of background"),
        ([[70, 10, 80, 10, 80, 20]], "covers no pixel of the 60x40 image"),
        ([[10, -20, 30, -20, 30, -5]], "covers no pixel of the 60x40 image"),
        ([[10, 10, 30, 30, 20, 20]], "covers no pixel of the 60x40 image"),
        ([[10, 10, 10, 10, 10, 10]], "covers no pixel of the 60x40 image"),
        ([[10, 10, 10.1, 10, 10.1, 10.1]], "covers no pixel of the 60x40 image"),
        ([[10, 10, 30, 30, 20, 20], [70, 10, 80, 10, 80, 20]], "covers no pixel"),
        ({}, "no segmentation"),
        ({"counts": [2400]}, "RLE of size None"),
    ],
)
def test_what_is_no_mask_is_told_and_left_empty(segmentation, message):
    found, kind, text = clean_mask(segmentation, SIZE)
    assert found is None
    assert kind == ("bad_mask" if segmentation else "no_mask")
    assert re.search(message, text)
    assert mask.area(run_lengths(None, SIZE)) == 0


def test_compressed_run_lengths_are_read_as_pycocotools_reads_them():
    draw = np.random.default_rng(3)
    for share in np.linspace(0, 1, 40)[1:]:
        pixels = np.asfortranarray(draw.random(SIZE) < share, "uint8")
        text = mask.encode(pixels)["counts"].decode()
        rle, kind, _ = clean_mask(run_length(text), SIZE)
        assert kind is None
        assert mask.decode(run_lengths(rle, SIZE)).tolist() == pixels.tolist()
        # One character less or another image: the lengths no longer add up.
        assert clean_mask(run_length(text[:-1]), SIZE)[1] == "bad_mask"
        assert clean_mask(run_length(text, (HEIGHT, WIDTH + 1)), (HEIGHT, WIDTH + 1))[0] is None


def test_polygons_over_the_edge_are_kept():
    polygons, kind, _ = clean_mask([[-10, -10, 70, -10, 70, 50, -10, 50]], SIZE)
    assert kind is None
    assert mask.area(run_lengths(polygons, SIZE)) == HEIGHT * WIDTH


def test_bad_masks_in_a_file_are_listed_by_their_annotation(tmp_path):
    entries = [
        annotation(1, segmentation=[SQUARE]),
        annotation(2, segmentation=run_length([10, 20])),
        annotation(3, segmentation=[[0, 0, None, 5, 7, 7]]),
        annotation(4),
        annotation(5, segmentation=None),
        annotation(6, segmentation=[[70, 10, 80, 10, 80, 20]]),
    ]
    data = coco(*coco_folder(tmp_path, entries))
    assert kinds(data.faults) == [
        *[(2, "bad_mask"), (3, "bad_mask"), (4, "no_mask"), (5, "no_mask"), (6, "bad_mask")],
    ]
    assert [mask.area(rle) for rle in data.record(0).masks] == [200, 0, 0, 0, 0, 0]


def test_objects_without_a_mask_are_neither_found_nor_missed(tmp_path):
    """Three objects of which one has a mask; a perfect detection of each, and one of nothing."""
    boxes = [(2, 2, 20, 10), (30, 20, 20, 10), (40, 2, 10, 10)]
    segmentations = [[[2, 2, 22, 2, 22, 12, 2, 12]], [], None]
    entries = [
        annotation(1 + k, box, segmentation=value)
        for k, (box, value) in enumerate(zip(boxes, segmentations))
    ]
    images = [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}]
    data = coco(*coco_folder(tmp_path, entries, images=images))
    found = np.zeros((3, HEIGHT, WIDTH), "uint8")
    for pixels, (x, y, w, h) in zip(found, boxes):
        pixels[y : y + h, x : x + w] = 1
    detections = {
        "boxes": data.record(0).boxes,
        "labels": np.zeros(3, int),
        "confidence": np.float32([0.7, 0.8, 0.9]),
        "masks": found,
    }
    perfect = coco_metrics(data, [detections], data.class_names, "segm")
    assert math.isclose(perfect["AP"], 1)
    assert perfect["per_class"]["cat"]["objects"] == 1
    # A detection elsewhere, with the highest confidence, is still an error: precision 1 / 2.
    elsewhere = {name: np.concatenate([part, part[:1]]) for name, part in detections.items()}
    elsewhere["confidence"][3], elsewhere["masks"][3] = 1, 0
    elsewhere["masks"][3, 30:38, 2:20] = 1
    worse = coco_metrics(data, [elsewhere], data.class_names, "segm")
    assert math.isclose(worse["AP"], 0.5)
