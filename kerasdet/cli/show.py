"""`kerasdet list` and `kerasdet info`."""

import re
from typing import Annotated

import typer

from kerasdet.cli.console import load_model, print_table

# What `info` tells of a saved model, where the model has it.
SHOWN = {
    "class_names": list,
    "backbone": lambda backbone: type(backbone).__name__,
    "resize": repr,
    "score_threshold": float,
    "iou_threshold": float,
    "max_detections": int,
}


def list_models(
    detectors: Annotated[
        bool, typer.Option("--detectors", help="List what `kerasdet train` makes, with options.")
    ] = False,
):
    """List the weights that come with the package, and those that it downloads."""
    if detectors:
        _list_detectors()
        return
    from kerasdet import zoo
    from kerasdet.zoo.manifest import METRICS

    entries = [zoo.summary(name) for name in zoo.list_models()]
    for task in sorted({entry["task"] for entry in entries}, reverse=True):
        figures = METRICS[task][:1]  # `info` has all
        columns = [column for figure in figures for column in (figure, "published")]
        rows = [[task, "paper", "licence", *columns, "params", "MB"]]
        rows += [_line(entry, figures) for entry in entries if entry["task"] == task]
        print_table(rows, left=3)


def _list_detectors():
    from kerasdet.cli import detectors

    for name, kind in detectors.detectors().items():
        rows = [[name, "default", ""]]
        for option, default in detectors.options_of(kind).items():
            rows.append(
                [detectors.flag(option), detectors.text(default), detectors.help_of(kind, option)]
            )
        print_table(rows, left=3)


def _line(entry, figures):
    """A row of the table: an arXiv number without its version, an address by its host."""
    found = [entry[side].get(name) for name in figures for side in ("metrics", "published")]
    return [
        entry["name"],
        re.sub(r"^https?://([^/]+).*|^([\d.]+)v\d+$", r"\1\2", entry["source"]),
        entry["licence"],
        *("-" if value is None else f"{value:.3f}" for value in found),
        f"{entry['parameters'] / 1e6:.1f} M",
        f"{entry['bytes'] / 1e6:.0f}",
    ]


def info(
    name: Annotated[str, typer.Argument(help="A name of `kerasdet list`, a .keras file or a run.")],
):
    """Show everything that is known about a model."""
    from kerasdet import zoo

    if name in zoo.list_models():
        fields = zoo.info(name)
    else:
        model = load_model(name)
        fields = {"class": type(model).__name__, "parameters": model.count_params()}
        fields |= {
            field: show(getattr(model, field))
            for field, show in SHOWN.items()
            if hasattr(model, field)
        }
    rows = [["field", "value"]]
    rows += [[field, _text(value)] for field, value in fields.items() if field != "config"]
    print_table(rows, title=name, left=2)


def _text(value):
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_text(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
