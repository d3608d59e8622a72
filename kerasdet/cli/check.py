"""`kerasdet check`: what is wrong in a data set."""

from pathlib import Path
from typing import Annotated

import typer

from kerasdet.cli.data import DATA_HELP, GRAY_MAX_HELP, VOC_ZERO_BASED_HELP, open_data


def check(
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    split: Annotated[str | None, typer.Option(help="Split of voc, yolo and digits.")] = None,
    voc_zero_based: Annotated[
        bool, typer.Option("--voc-zero-based", help=VOC_ZERO_BASED_HELP)
    ] = False,
    gray_max: Annotated[int | None, typer.Option(help=GRAY_MAX_HELP)] = None,
    out: Annotated[Path, typer.Option(help="Contact sheet to write.")] = Path("check.png"),
):
    """Report a data set's figures and faults, and draw some of its images with their boxes."""
    from rich.progress import Progress

    from kerasdet.data import check as look

    dataset = open_data(data, split, strict=False, voc_zero_based=voc_zero_based, gray_max=gray_max)
    with Progress(transient=True) as progress:
        task = progress.add_task("reading images", total=len(dataset))
        report = look(dataset, lambda done, total: progress.update(task, completed=done))
    print(report)
    drawn = report.contact_sheet(out)
    print(f"contact sheet: {out}" if drawn else "no contact sheet: no image can be drawn")
