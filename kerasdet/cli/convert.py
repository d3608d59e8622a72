"""`kerasdet convert`."""

from pathlib import Path
from typing import Annotated

import typer

from kerasdet.cli.parts import start_quietly


def convert(
    files: Annotated[list[Path], typer.Argument(help="A checkpoint, as published, and its parts.")],
    preset: Annotated[str, typer.Option(help="A name of `kerasdet list`: the model it is of.")],
    out: Annotated[Path, typer.Option(help="The .keras file to write.")],
):
    """Turn a published checkpoint into a model that `kerasdet.load` opens.

    PyTorch's files are read without PyTorch and without running what they hold; safetensors and
    Keras' .h5 files are read too.
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
