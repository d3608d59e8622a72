"""Markdown and numbers, as the generated tables write them."""

import os
from pathlib import Path

SHOWN = 3  # figures of a model


def markdown(rows):
    """A table of dicts that share their keys; columns that are empty everywhere are left out."""
    keys = [key for key in (rows[0] if rows else ()) if any(str(row[key]) for row in rows)]
    lines = [keys, ["---"] * len(keys), *([str(row[key]) for key in keys] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines) if rows else ""


def link(text, path, folder):
    """A link from a page in `folder`."""
    return f"[{text}]({Path(os.path.relpath(path, folder)).as_posix()})"


def figures_text(metrics, count=SHOWN):
    """The first figures of a model: "AP 0.617, AP50 0.903"."""
    return ", ".join(f"{name} {value:.3f}" for name, value in list(metrics.items())[:count])


def millions(count):
    return f"{count / 1e6:.2f} M"


def size_text(manifest):
    """Size of all weights files; the publisher's rounded one, or the parameters', where it is not known."""
    weights = manifest["weights"]
    sizes = [file.get("bytes") for file in (weights, *weights.get("parts", ()))]
    known = weights.get("mebibytes")
    count = sum(sizes) if all(sizes) else known * 2**20 if known else 4 * manifest["parameters"]
    return f"{count / 1e6:.1f} MB" if count < 1e7 else f"{count / 1e6:.0f} MB"


def decimals(value):
    return "" if value is None else f"{value:.2f}"


def significant(value):
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
