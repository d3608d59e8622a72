"""The whole state of a training in one file: model, optimizer, averaged weights, progress."""

import io
import json
import math
from typing import NamedTuple

import keras
import numpy as np

from kerasdet.files import atomic_write
from kerasdet.zoo.checkpoints.errors import CheckpointError, printable
from kerasdet.zoo.checkpoints.source import Source
from kerasdet.zoo.checkpoints.zipped import list_members, region

FORMAT = 1
FLOATS = {"float16", "bfloat16", "float32", "float64"}
LARGEST_PROGRESS = 64 << 20
LONGEST_HEADER = 12_000  # of an array; NumPy's own limit is 10 000
RESUME = "start a new run in another folder, or take a copy of the file"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def save_checkpoint(path, model, progress):
    """Write the whole state of a training, atomically.

    Args:
        path: file to write.
        model: a built and compiled `keras.Model`; the moving averages of its weights are part of
            the optimizer's variables, the states of its random generators part of the model's.
        progress: JSON-able dict that comes back from `load_checkpoint`.

    Raises:
        OSError: the file cannot be written; names it, and the earlier file stays.
    """
    arrays = {name: keras.ops.convert_to_numpy(value) for name, value in _variables(model).items()}
    about = json.dumps({"format": FORMAT, **progress})
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, about=np.frombuffer(about.encode(), np.uint8), **arrays)


def load_checkpoint(path, model):
    """Restore the state that `save_checkpoint` wrote.

    Args:
        path: file to read.
        model: the same model, compiled with the same optimizer; its variables are overwritten.

    Returns:
        The `progress` dict.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another format, or of another model or optimizer, or holds
            values that are not finite; names it, and the variables keep their values.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    variables = _variables(model)
    with open(path, "rb") as file:
        source = Source(path, file)
        try:
            places = _places(source)
            progress = _progress(source, places.pop("about", None))
            _check_same(path, places, variables)
            arrays = {
                name: _array(source, name, places[name], variable)
                for name, variable in variables.items()
            }
        except CheckpointError as error:
            raise ValueError(
                f"{path} is not a training checkpoint or is damaged: {error}"
            ) from error
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return progress


class _Place(NamedTuple):
    """Where an array lies in the file, and what its header says of it."""

    start: int
    size: int
    shape: tuple
    dtype: np.dtype
    in_fortran_order: bool


def _places(source):
    """{name: _Place} of every array in an .npz file, of which only the headers are read."""
    places = {}
    for member, found in list_members(source).items():
        start, size, crc = region(source, member, found, "kerasdet", RESUME)
        source.verify(start, size, crc)
        head = io.BytesIO(source.read(start, min(size, LONGEST_HEADER)))
        try:
            version = np.lib.format.read_magic(head)
            shape, in_fortran_order, dtype = _HEADERS[version](head)
        # NumPy's reader takes the header's Python literal as it is.
        except Exception as error:
            raise source.fault(f"has no array {printable(member)} ({error})", RESUME) from error
        start, size = start + head.tell(), size - head.tell()
        if dtype.hasobject or min(shape, default=1) < 0:
            raise source.fault(f"has no numbers in {printable(member)}", RESUME)
        if size != math.prod(shape) * dtype.itemsize:
            raise source.fault(f"has {size} bytes of {printable(member)}, {shape} {dtype}", RESUME)
        name = member.removesuffix(".npy")
        places[name] = _Place(start, size, shape, dtype, in_fortran_order)
    return places


def _progress(source, place):
    """The dict that `save_checkpoint` was given."""
    if place is None or place.size > LARGEST_PROGRESS:
        raise source.fault("holds no progress of a training", RESUME)
    try:
        progress = json.loads(source.read(place.start, place.size))
    except (ValueError, RecursionError) as error:
        raise source.fault(f"holds no progress of a training ({error})", RESUME) from error
    if not isinstance(progress, dict):
        raise source.fault("holds no progress of a training", RESUME)
    if progress.pop("format", None) != FORMAT:
        raise ValueError(
            f"{source.path} was written by another version of kerasdet; start a new run."
        )
    return progress


def _array(source, name, place, variable):
    """The values of a variable."""
    wanted = np.dtype(keras.backend.standardize_dtype(variable.dtype))
    # NumPy writes bfloat16 as two opaque bytes.
    dtype = wanted if place.dtype.kind == "V" else place.dtype
    if dtype != wanted or dtype.itemsize != place.dtype.itemsize:
        raise ValueError(
            f"{source.path} belongs to another model or optimizer: for {variable.path} it holds "
            f"{place.dtype}, here {wanted} is expected. Give the same precision as before."
        )
    values = np.frombuffer(source.read(place.start, place.size), dtype)
    if dtype.name in FLOATS:
        _check_finite(source.path, variable.path, values)
    return values.reshape(place.shape, order="F" if place.in_fortran_order else "C")


def _check_finite(path, name, values):
    if not np.isfinite(values).all():
        raise ValueError(
            f"{path}: {name} holds NaN or infinite values, with which no training can go on. Start a new "
            "run with a lower learning rate."
        )


def _variables(model):
    """Every variable of a training by a name that two processes give alike."""
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {
        f"{group}_{index:05d}": variable
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def _check_same(path, places, variables):
    for name in sorted({*places, *variables}):
        saved = places[name].shape if name in places else "nothing"
        wanted = tuple(variables[name].shape) if name in variables else "nothing"
        if saved != wanted:
            label = getattr(variables.get(name), "path", printable(name))
            raise ValueError(
                f"{path} belongs to another model or optimizer: for {label} it holds {saved}, "
                f"here {wanted} is expected. Give the same arguments as before, or a new folder."
            )
