"""Tables of one paper's page: where its parts stand, its departures, and what was measured."""

import re

import equations

from _tables.figures import inference_row, learning_rows, timed, training_row
from _tables.models import page_of_class, trained, trained_row
from _tables.text import link, markdown


def code(sources, folder, name):
    """Where a paper's parts stand: its files in reading order, and the functions of its equations."""
    lines = []
    for model in sources.files_of(sources.page(name)):
        order = " ".join((model.paragraph("Reading order") or "").split())
        path = model.path.relative_to(sources.root).as_posix()
        lines.append(f"- {link(path, model.path, folder)}: {order}\n")
    rows = [
        {
            "equation": equation.reference,
            "formula": "`" + equation.formula.replace("|", "\\|") + "`",
            "function": link(equation.owner, sources.root / equation.path, folder),
        }
        for equation in equations.collect(sources.root)
        if equation.paper == name
    ]
    return "\n".join(filter(None, ["".join(lines), markdown(rows)]))


def departures(sources, folder, name):
    """The departures from the paper that the headers of its files list."""
    items = []
    for model in sources.files_of(sources.page(name)):
        listed = model.paragraph("Departures") or ""
        items += [" ".join(item.split()) for item in re.split(r"^ *- ", listed, flags=re.M)[1:]]
    return "".join(f"- {item}\n" for item in items) or "None.\n"


def results(sources, folder, name):
    """What was measured of a paper: weights trained here, learning in equal minutes, speed."""
    page, parts = sources.page(name), []

    def own(key):
        model, _ = sources.split_key(key)
        return model is not None and sources.page_of(model) is page

    rows = [
        trained_row(manifest, sources, folder)
        for manifest in trained(sources)
        if page_of_class(sources, manifest["class"]) is page
    ]
    parts.append(("Weights that come with the package", "models.md", markdown(rows)))
    entries = sources.results.get("learning", {}).get("models", {})
    entries = {key: entry for key, entry in entries.items() if own(key)}
    rows = learning_rows(sources, entries)
    parts.append(("From scratch on digit scenes", "learning.md", markdown(rows)))
    runs = [run for run in sources.runs if own(run.key)]
    for title, chosen, row in (
        ("One image", [run for run in runs if not run.is_training], inference_row),
        ("One training step", [run for run in runs if run.is_training], training_row),
    ):
        parts.append((title, "speed.md", timed(sources, chosen, row)))
    docs = sources.root / "docs"
    texts = [
        f"{title} ({link('how', docs / where, folder)}):\n\n{table}"
        for title, where, table in parts
        if table
    ]
    return "\n".join(texts) or "Nothing was measured yet.\n"
