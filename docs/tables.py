"""Write the tables of README.md and docs/: models from zoo/*.json, figures from benchmarks/results/*.json.

A page asks for a table between two comments; what stands between them is written here:

    <!-- table: NAME ARGUMENTS -->
    <!-- end -->

    python docs/tables.py
"""

import re
from pathlib import Path

from _tables import detectors, figures, models, papers
from _tables.sources import Sources

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
TABLES = {
    function.__name__: function
    for function in (
        *(models.papers, models.ablations, models.models, models.published),
        *(figures.inference, figures.training, figures.operations, figures.imports),
        *(detectors.detectors, detectors.boxes),
        *(figures.learning, papers.code, papers.departures, papers.results),
    )
}


def pages(root=ROOT):
    """The files that may ask for tables."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def render(text, folder, sources):
    """A page's text with its tables written.

    Args:
        text: the page.
        folder: Path of the page's folder, which links start from.
        sources: `Sources`.

    Raises:
        ValueError: a table has an unknown name, or its source is missing.
    """

    def write(match):
        name, *arguments = match[2].split()
        if name not in TABLES:
            raise ValueError(f"there is no table {name!r}; there are {', '.join(TABLES)}.")
        lines = TABLES[name](sources, folder, *arguments)
        return f"{match[1]}\n{lines}\n{match[3]}"

    return MARKED.sub(write, text)


if __name__ == "__main__":
    sources = Sources(ROOT)
    for page in pages():
        before = page.read_text("utf-8")
        after = render(before, page.parent, sources)
        if after != before:
            page.write_text(after, "utf-8")
            print(f"{page.relative_to(ROOT)} written")
