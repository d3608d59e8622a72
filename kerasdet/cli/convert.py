"""`kerasdet convert`."""

from pathlib import Path
from typing import Annotated

import typer

from kerasdet.cli.console import start_quietly


def convert(
    files: Annotated[
        list[Path],
        typer.Argument(help="A checkpoint, as published, and its parts; or .cfg .weights."),
    ],
    out: Annotated[Path, typer.Option(help="The .keras file to write.")],
    preset: Annotated[
        str | None, typer.Option(help="A name of `kerasdet list`: the model it is of.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="Darknet's .names file: the classes, one a line.")
    ] = None,
):
    """Turn a published checkpoint, or Darknet's two files, into a model that `kerasdet.load` opens.

    With --preset it reads PyTorch's files (without PyTorch, and without running any code in them),
    safetensors, Keras' .h5 files, TensorFlow.js, Caffe's .caffemodel files, with which a prototxt may be
    given to be compared, and TensorFlow 1's checkpoints (a .tar.gz, a folder, or a prefix). Without, it reads
    Darknet's configuration and weights
    of YOLO, YOLOv2, tiny YOLOv2 or a classifier: `kerasdet convert net.cfg net.weights --out net.keras`.
    """
    start_quietly()
    from kerasdet import zoo
    from kerasdet.files import atomic_write
    from kerasdet.zoo.models import convert_file

    if out.suffix != ".keras":
        raise ValueError(f"--out {out} must end in .keras.")
    if preset is None:
        source, model = _darknet(files, names)
    elif names is not None:
        raise ValueError(f"--names {names} belongs to Darknet's files; {preset} has its own names.")
    else:
        source, model = preset, convert_file(zoo.info(preset), *files)
    with atomic_write(out) as temporary:
        model.save(temporary)
    print(f"{source}, {model.count_params():,} parameters: {out}")


def _darknet(files, names):
    """Name and build the model of Darknet's two files.

    Raises:
        ValueError: these are not two files of Darknet, or the classes are not as many as the model's.
    """
    from kerasdet.zoo.models import load_darknet

    if len(files) != 2 or files[0].suffix != ".cfg":
        given = ", ".join(map(str, files))
        raise ValueError(
            f"{given}: give Darknet's .cfg and .weights, in this order, or --preset NAME for a published "
            "checkpoint."
        )
    model = load_darknet(*files)
    if names is not None:
        model.class_names = _read_names(names, model)
    return files[0].name, model


def _read_names(path, model):
    from kerasdet.data.cleaning import read_text, unique_names

    if not hasattr(model, "class_names"):
        raise ValueError(f"--names {path}: an {type(model).__name__} has no names; leave them out.")
    names = unique_names([line.strip() for line in read_text(path).rstrip().splitlines()], path)
    if len(names) != model.num_classes:
        raise ValueError(
            f"{path} has {len(names)} names, the network {model.num_classes} classes: give one a line."
        )
    return tuple(names)
