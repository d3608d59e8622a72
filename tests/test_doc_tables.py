"""The generated tables, on a small repository: papers, models and benchmarks join by their own files."""

import importlib
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs"))
tables = importlib.import_module("tables")
Sources = importlib.import_module("_tables.sources").Sources

PAGE = """# New Paper

It finds things.

> Somebody. New Paper. XYZ 2031. arXiv 3101.00001v1.
"""
MODEL = '''"""New Paper: it finds.

    Somebody. New Paper. arXiv 3101.00001v1.

Reading order: `New.call`, then
`New.decode`.

Departures from the paper:
    - One that is
      long.
    - Another.
"""


class New:
    """A model."""

    def call(self):
        # Eq: new_paper 1 | y = |x|
        return 0
'''


def manifest(**fields):
    return {
        "name": "new_small",
        "task": "detection",
        "class": "New",
        "parameters": 1_500_000,
        "weights": {"file": "w.h5", "bytes": 2_340_000, "licence": "MIT"},
        "data": {"name": "toys"},
        "training": {"minutes": 3},
        "evaluation": {"data": "9 toys"},
        "metrics": {"AP": 0.5, "AP50": 0.75},
        **fields,
    }


def run(*runs, **facts):
    return {"matmul_flops_per_second": [100e9, 200e9], "facts": facts, "answers": dict(runs)}


@pytest.fixture
def small(tmp_path):
    """A repository of one paper, with weights, a benchmark and equal minutes."""
    results = tmp_path / "benchmarks" / "results"
    for folder in ("docs/papers", "kerasdet/models", "zoo", "export", "tests"):
        (tmp_path / folder).mkdir(parents=True)
    results.mkdir(parents=True)
    (tmp_path / "docs/papers/new_paper.md").write_text(PAGE, "utf-8")
    (tmp_path / "kerasdet/models/new_paper.py").write_text(MODEL, "utf-8")
    (tmp_path / "zoo/new_small.json").write_text(json.dumps(manifest()), "utf-8")
    machine = {"processor": "P", "cores": 2}
    image = run(
        ("kerasdet", [{"seconds": 1.0}, {"seconds": 4.0}, {"seconds": 2.0}]),
        ("torchvision", [{"seconds": 8.0}]),
        kerasdet={"flops": 300e9},
        torchvision={"flops": 310e9},
    )
    step = run(("kerasdet", [{"seconds": 3.0, "loss": 1.0}]), kerasdet={})
    report = {"machine": machine, "inference": {"newpaper": image}, "training": {"newpaper": step}}
    (results / "fresh.json").write_text(json.dumps(report), "utf-8")
    entry = {"parameters": 10**6, "minutes": 2.04, "figures": {"semantic": {"mIU": 0.25}}}
    (results / "learning.json").write_text(json.dumps({"models": {"new_paper_wide": entry}}))
    return tmp_path


def table(root, *name, folder=""):
    text = f"a\n<!-- table: {' '.join(name)} -->\nold\n<!-- end -->\nb\n"
    rendered = tables.render(text, root / folder, Sources(root))
    head, tail = f"a\n<!-- table: {' '.join(name)} -->\n\n", "\n<!-- end -->\nb\n"
    assert rendered.startswith(head)
    assert rendered.endswith(tail)
    return rendered[len(head) : -len(tail)].splitlines()


def test_a_new_paper_joins_the_list(small):
    assert table(small, "papers") == [
        "| paper | what it is | weights in the package |",
        "| --- | --- | --- |",
        "| [New Paper](docs/papers/new_paper.md), 2031 | It finds things. | "
        "[new_small](zoo/new_small.md), AP 0.500 on toys |",
    ]


def test_new_weights_join_the_models(small):
    assert table(small, "models", folder="docs")[2:] == [
        "| [new_small](../zoo/new_small.md) | [New Paper](papers/new_paper.md) | 9 toys | "
        "AP 0.500, AP50 0.750 | 1.50 M | 2.3 MB | 3 | MIT |"
    ]


def test_published_weights_say_whose_figures_they_have(small):
    weights = {"url": "u", "mebibytes": 100.0, "licence": "not stated"}
    published = {"data": "COCO", "metrics": {"AP": 0.364, "mask_AP": 0.2}}
    found = manifest(name="theirs", weights=weights, published=published, metrics=None)
    (small / "zoo/theirs.json").write_text(json.dumps(found), "utf-8")
    assert table(small, "published", folder="docs")[2:] == [
        "| `theirs` | [New Paper](papers/new_paper.md) | COCO | AP 0.364, mask AP 0.200 | 1.50 M | "
        "105 MB | not stated |"
    ]
    assert len(table(small, "models")) == 3, "no row for what others have trained"
    # Where no size is published, four bytes for each of the 1.5 million parameters.
    found["weights"]["mebibytes"] = None
    (small / "zoo/theirs.json").write_text(json.dumps(found), "utf-8")
    assert "| 1.50 M | 6.0 MB |" in table(small, "published", folder="docs")[2]


def test_a_new_benchmark_joins_the_speed(small):
    # Median 2 s of 8; 300 GFLOP in 2 s at 200 GFLOP/s.
    assert table(small, "inference") == [
        "| model | kerasdet, s | torchvision, s | kerasdet / torchvision "
        "| share of the matrix-product rate | GFLOP/s |",
        "| --- | --- | --- | --- | --- | --- |",
        "| New Paper | 2.00 | 8.00 | 0.25 | 0.75 | 200 |",
        "",
        "Machine: P, 2 cores.",
    ]
    assert table(small, "training")[2] == "| New Paper | 3.00 | 200 |"


FIGURES = """
## Results

### Published figures

| detector | year | AP, % | measured on | seconds an image | source | here |
|---|---|---|---|---|---|---|
| New, wide | 2031 | 71.0 | VOC 2007 | 0.1 (10 FPS) | table 1 | `newpaper` |
| New, narrow | 2030 | 9.5 | VOC 2007 | | table 2 | |

Text.
"""


def test_published_figures_join_the_detectors(small):
    (small / "docs/papers/new_paper.md").write_text(PAGE + FIGURES, "utf-8")
    entry = {"figures": {"bbox": {"AP": 0.125}}}
    report = {"models": {"new_paper": entry, "new_paper_wide": {}}}
    (small / "benchmarks/results/learning.json").write_text(json.dumps(report))
    # The oldest first; the median of our seconds is 2.
    assert table(small, "detectors", folder="docs")[2:] == [
        "| [New, narrow](papers/new_paper.md) | 2030 | 9.5 | VOC 2007 |  | table 2 |  |  |",
        "| [New, wide](papers/new_paper.md) | 2031 | 71.0 | VOC 2007 | 0.1 (10 FPS) | table 1 | 0.125 "
        "| 2.00 |",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("| source |", "|", "must have the columns detector | year"),
        ("71.0", "0.71", "AP in percent with one decimal"),
        ("`newpaper`", "`older`", r"'older' under 'here' must begin with"),
    ],
)
def test_wrong_published_figures_are_named(small, old, new, message):
    text = PAGE + FIGURES.replace(old, new)
    (small / "docs/papers/new_paper.md").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message):
        table(small, "detectors")


def test_the_same_network_elsewhere_has_a_ratio(small):
    image = run(
        ("kerasdet", [{"seconds": 1.0}]), ("opencv", [{"seconds": 4.0}]), kerasdet={"flops": 100e9}
    )
    report = {"machine": {"processor": "P", "cores": 2}, "inference": {"newpaper_9": image}}
    (small / "benchmarks/results/fresh.json").write_text(json.dumps(report), "utf-8")
    assert table(small, "inference")[:3] == [
        "| model | kerasdet, s | opencv, s | kerasdet / opencv | share of the matrix-product rate "
        "| GFLOP/s |",
        "| --- | --- | --- | --- | --- | --- |",
        "| New Paper, 9 | 1.00 | 4.00 | 0.25 | 0.50 | 200 |",
    ]


def test_boxes_are_sorted_by_number(small):
    row = {"detector": "Many", "canvas": [8, 9], "boxes": 12345, "proposals": 300}
    rows = {"many": row, "few": {**row, "detector": "Few", "boxes": 98, "proposals": None}}
    (small / "benchmarks/results/box_counts.json").write_text(json.dumps({"rows": rows}))
    assert table(small, "boxes")[2:] == [
        "| Few | 8 x 9 | 98 |  |",
        "| Many | 8 x 9 | 12 345 | 300 |",
    ]


def test_figures_of_another_kind_have_their_own_columns(small):
    assert table(small, "learning") == [
        "| model | parameters | minutes | semantic mIU |",
        "| --- | --- | --- | --- |",
        "| New Paper, wide | 1.00 M | 2.0 | 0.250 |",
    ]


def test_a_papers_page_follows_its_code(small):
    assert table(small, "code", "new_paper", folder="docs/papers") == [
        "- [kerasdet/models/new_paper.py](../../kerasdet/models/new_paper.py): `New.call`, then "
        "`New.decode`.",
        "",
        "| equation | formula | function |",
        "| --- | --- | --- |",
        "| 1 | `y = \\|x\\|` | [New.call](../../kerasdet/models/new_paper.py) |",
    ]
    assert table(small, "departures", "new_paper") == ["- One that is long.", "- Another."]


def test_a_papers_results_are_its_own(small):
    (small / "docs/papers/old.md").write_text(PAGE.replace("3101.00001", "3000.00001"), "utf-8")
    assert table(small, "results", "old") == ["Nothing was measured yet."]
    titles = [line for line in table(small, "results", "new_paper") if line.endswith("):")]
    assert titles == [
        "Weights that come with the package ([how](docs/models.md)):",
        "From scratch on digit scenes ([how](docs/learning.md)):",
        "One image ([how](docs/speed.md)):",
        "One training step ([how](docs/speed.md)):",
    ]


def test_an_unknown_table_and_a_headless_page_are_named(small):
    with pytest.raises(ValueError, match=r"no table 'modles'; there are papers, "):
        table(small, "modles")
    with pytest.raises(ValueError, match=r"docs/papers/none\.md is missing"):
        table(small, "code", "none")
    (small / "docs/papers/new_paper.md").write_text("# New\n\nText.\n\nMore.\n", "utf-8")
    with pytest.raises(ValueError, match=r"new_paper\.md must begin with '# Title'"):
        table(small, "papers")
