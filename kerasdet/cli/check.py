"""`kerasdet check`: what is wrong in a data set."""

from pathlib import Path
from typing import Annotated

import typer

from kerasdet.cli.data import DATA_HELP, open_data


def check(
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    split: Annotated[str | None, typer.Option(help="Split of voc, yolo and digits.")] = None,
    out: Annotated[Path, typer.Option(help="Contact sheet to write.")] = Path("check.png"),
):
    """Report a data set's figures and faults, and draw some of its images with their boxes."""
    from rich.progress import Progress

    from kerasdet.data import check as look

    dataset = open_data(data, split, strict=False)
    with Progress(transient=True) as progress:
        task = progress.add_task("reading images", total=len(dataset))
        report = look(dataset, lambda done, total: progress.update(task, completed=done))
    print(report)
    if len(dataset):
        report.contact_sheet(out)
        print(f"contact sheet: {out}")
