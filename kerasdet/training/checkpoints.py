"""The whole state of a training in one file: model, optimizer, averaged weights, progress."""

import json
import zipfile

import keras
import numpy as np

from kerasdet.files import atomic_write

FORMAT = 1


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
        ValueError: the file is damaged, of another format, or of another model or optimizer.
    """
    try:
        with np.load(path) as file:
            arrays = dict(file)
        progress = json.loads(arrays.pop("about").tobytes())
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a training checkpoint or is damaged: {error}") from error
    if progress.pop("format") != FORMAT:
        raise ValueError(f"{path} was written by another version of kerasdet; start a new run.")
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    variables = _variables(model)
    _check_same(path, arrays, variables)
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return progress


def _variables(model):
    """Every variable of a training by a name that two processes give alike."""
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {
        f"{group}_{index:05d}": variable
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def _check_same(path, arrays, variables):
    for name in sorted({*arrays, *variables}):
        saved = arrays[name].shape if name in arrays else "nothing"
        wanted = tuple(variables[name].shape) if name in variables else "nothing"
        if saved != wanted:
            label = getattr(variables.get(name), "path", name)
            raise ValueError(
                f"{path} belongs to another model or optimizer: for {label} it holds {saved}, "
                f"here {wanted} is expected. Give the same arguments as before, or a new folder."
            )
