"""`kerasdet export`: a model as one file."""

from pathlib import Path
from typing import Annotated

import typer

from kerasdet.cli.console import load_model
from kerasdet.cli.data import parse_size


def export(
    model: Annotated[
        str, typer.Option(help="A name of `kerasdet list`, a .keras file or a run's folder.")
    ],
    out: Annotated[Path, typer.Option(help="File, or folder of a SavedModel, to write.")],
    format: Annotated[str, typer.Option(help="saved_model, litert or onnx.")] = "saved_model",
    size: Annotated[str | None, typer.Option(help="Fixed image size, HEIGHTxWIDTH.")] = None,
    num_proposals: Annotated[
        int | None, typer.Option(help="Fixed number of proposals, for a model that takes them.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least confidence; default the model's own.")
    ] = None,
):
    """Write a model as one file that goes from raw pixels to final boxes.

    A model with keypoints also gives keypoints in the image's pixels; a model with masks gives masks
    relative to the boxes.
    """
    from kerasdet.export import export_model

    fixed = None if size is None else parse_size(size)
    detector = load_model(model, threshold)
    export_model(detector, out, format=format, size=fixed, num_proposals=num_proposals)
    print(f"{format}: {out}")
