"""`kerasdet convert`."""

from pathlib import Path
from typing import Annotated

import typer

from kerasdet.cli.console import start_quietly


def convert(
    files: Annotated[list[Path], typer.Argument(help="A checkpoint, as published, and its parts.")],
    preset: Annotated[str, typer.Option(help="A name of `kerasdet list`: the model it is of.")],
    out: Annotated[Path, typer.Option(help="The .keras file to write.")],
):
    """Turn a published checkpoint into a model that `kerasdet.load` opens.

    It reads PyTorch's files (without PyTorch, and without running any code in them), safetensors and
    Keras' .h5 files.
    """
    start_quietly()
    from kerasdet import zoo
    from kerasdet.files import atomic_write
    from kerasdet.zoo.models import convert_file

    if out.suffix != ".keras":
        raise ValueError(f"--out {out} must end in .keras.")
    model = convert_file(zoo.info(preset), *files)
    with atomic_write(out) as temporary:
        model.save(temporary)
    print(f"{preset}, {model.count_params():,} parameters: {out}")
