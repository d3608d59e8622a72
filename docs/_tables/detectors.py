"""Tables that set the detectors side by side: what is published of each, and how many boxes it looks at."""

import re

from _tables.figures import OWN, middle
from _tables.text import decimals, link, markdown

SECTION = re.compile(r"^### Published figures\n+(.*?)(?=^##|\Z)", re.M | re.S)
COLUMNS = ("detector", "year", "AP, %", "measured on", "seconds an image", "source", "here")


def detectors(sources, folder):
    """A row for each published figure on the papers' pages, the oldest first; beside it our own."""
    rows = [row for page in sources.pages for row in page_rows(sources, page, folder)]
    return markdown(sorted(rows, key=lambda row: row["year"]))


def page_rows(sources, page, folder):
    """One page's rows; what the detector learnt here stands in the first of the model's own."""
    rows, learnt = [], learnt_ap(sources, page)
    for row in published(page):
        key = row.pop("here").strip("`")
        row["detector"] = link(row["detector"], page.path, folder)
        row["AP on digits after 20 minutes, here"] = learnt if key else ""
        row["seconds an image, here"] = decimals(seconds(sources, page, key)) if key else ""
        learnt = "" if key else learnt
        rows.append(row)
    return rows


def published(page):
    """The rows of a page's table of published figures, dicts by column; none without such a section.

    Raises:
        ValueError: the table has other columns, or a row has no number as AP or year.
    """
    section = SECTION.search(page.path.read_text("utf-8"))
    if not section:
        return []
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    head, _, *cells = [tuple(map(str.strip, line.strip("|").split("|"))) for line in lines]
    if head != COLUMNS or not all(map(is_complete, cells)):
        raise ValueError(
            f"{page.path}: the table of 'Published figures' must have the columns {' | '.join(COLUMNS)}, "
            "a year, and an AP in percent with one decimal."
        )
    return [dict(zip(COLUMNS, row)) for row in cells]


def is_complete(row):
    """Whether a row has every column, a year, and an AP in percent."""
    return len(row) == len(COLUMNS) and bool(re.fullmatch(r"\d{4} \d+\.\d", f"{row[1]} {row[2]}"))


def learnt_ap(sources, page):
    """AP of the page's own model in the report of equal minutes; "" where it has none."""
    entry = sources.results.get("learning", {}).get("models", {}).get(page.path.stem)
    return f"{entry['figures']['bbox']['AP']:.3f}" if entry else ""


def seconds(sources, page, key):
    """Median seconds of one image of the result KEY or KEY_inference; None where it is not measured.

    Raises:
        ValueError: the key is no result of this page's model.
    """
    model, _ = sources.split_key(key)
    if model is None or sources.page_of(model) is not page:
        raise ValueError(
            f"{page.path}: {key!r} under 'here' must begin with the name of the model's file."
        )
    runs = [run for run in sources.runs if run.key.removesuffix("_inference") == key]
    return next((middle(run, OWN) for run in runs if not run.is_training), None)


def boxes(sources, folder):
    """How many boxes each detector looks at, the fewest first."""
    entries = sources.results["box_counts"]["rows"].values()
    return markdown(
        [
            {
                "detector": entry["detector"],
                "canvas": "{} x {}".format(*entry["canvas"]),
                "boxes": f"{entry['boxes']:,}".replace(",", " "),
                "of these, proposals": entry["proposals"] or "",
            }
            for entry in sorted(entries, key=lambda entry: entry["boxes"])
        ]
    )
