"""How many boxes each detector looks at: numbers worked by hand, from the models and in the report."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from box_counts import REPORT, ROWS, entry

# Boxes, and proposals for a second stage.
COUNTS = {
    "yolo": (98, None),  # 7 x 7 x 2
    "yolo_v2": (845, None),  # 13 x 13 x 5
    # (20^2 + 10^2 + 5^2 + 3^2 + 2^2 + 1) x 6
    "ssdlite": (3234, None),
    # 38^2 x 4 + 19^2 x 6 + 10^2 x 6 + 5^2 x 6 + 3^2 x 4 + 4
    "ssd300": (5776 + 2166 + 600 + 150 + 36 + 4, None),
    # 64^2 x 4 + (32^2 + 16^2 + 8^2 + 4^2) x 6 + 2^2 x 4 + 4
    "ssd512": (16384 + 6144 + 1536 + 384 + 96 + 16 + 4, None),
    # 76 x 128 + 38 x 64 + 19 x 32 + 10 x 16 + 5 x 8
    "fcos_600": (9728 + 2432 + 608 + 160 + 40, None),
    # 100 x 168 + 50 x 84 + 25 x 42 + 13 x 21 + 7 x 11
    "fcos_800": (16800 + 4200 + 1050 + 273 + 77, None),
    "faster_rcnn": (37 * 62 * 9, 300),
    # 200 x 336 + 100 x 168 + 50 x 84 + 25 x 42 + 13 x 21, times 3
    "faster_rcnn_fpn": ((67200 + 16800 + 4200 + 1050 + 273) * 3, 1000),
    "retinanet_600": ((9728 + 2432 + 608 + 160 + 40) * 9, None),
    "retinanet_800": ((16800 + 4200 + 1050 + 273 + 77) * 9, None),
}


def test_every_row_has_its_number():
    assert set(COUNTS) == set(ROWS)
    assert (COUNTS["ssd300"][0], COUNTS["ssd512"][0]) == (8732, 24564)


@pytest.mark.parametrize("name", COUNTS)
def test_the_model_and_the_report_have_it(name):
    found = entry(ROWS[name])
    assert (found["boxes"], found["proposals"]) == COUNTS[name]
    assert found == json.loads(REPORT.read_text("utf-8"))["rows"][name]
