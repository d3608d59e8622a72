"""`kerasdet list` and `kerasdet info`."""

import re
from typing import Annotated

import typer

from kerasdet.cli.console import load_model, print_table


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

    entries = [zoo.summary(name) for name in zoo.list_models()]
    for task in sorted({entry["task"] for entry in entries}, reverse=True):
        rows = [[task, "arXiv", "licence", "AP", "published", "params", "MB"]]
        rows += [_line(entry) for entry in entries if entry["task"] == task]
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


def _line(entry):
    return [
        entry["name"],
        entry["arxiv"].partition("v")[0],
        entry["licence"],
        "-" if entry["AP"] is None else f"{entry['AP']:.3f}",
        # The first figure, box AP or top-1 accuracy; `info` shows all.
        re.sub(r"[^ ]+ ([\d.]+).*", r"\1", entry["published"] or "-"),
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
        fields = {
            "class": type(model).__name__,
            "parameters": model.count_params(),
            "classes": list(model.class_names),
            "backbone": type(model.backbone).__name__,
            "resize": repr(model.resize),
            "score_threshold": model.score_threshold,
            "iou_threshold": model.iou_threshold,
            "max_detections": model.max_detections,
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
