"""Weights on disk at half their size: Keras' own `.weights.h5` layout, kernels in float16.

Arrays of two or more axes (kernels, nearly all of a file) are float16. Vectors (biases, and the scales
and statistics of batch normalisation, whose small variances float16 would flush to zero) stay float32.
Keys are Keras' structural paths: `model.load_weights` reads these files too.
"""

import tempfile
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np

from kerasdet.files import atomic_write
from kerasdet.zoo.checkpoints.errors import CheckpointError, printable
from kerasdet.zoo.checkpoints.hdf5 import list_hdf5
from kerasdet.zoo.checkpoints.source import Source

FLOATS = {"float16", "bfloat16", "float32", "float64"}


def save_weights_float16(model, path):
    """Write a model's weights, without optimizer and metrics, atomically.

    Args:
        model: a built `keras.Model`.
        path: file to write, ending in `.weights.h5`.

    Raises:
        ValueError: another ending, or a weight that is NaN or beyond float16's range; the message names it.
        OSError: the file cannot be written.
    """
    _check_ending(path)
    arrays = {key: _reduced(key, value) for key, value in _arrays(model).items()}
    with atomic_write(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        for key, value in arrays.items():
            file.create_dataset(key, data=value)


def load_weights(model, path):
    """Load weights into a model, all of them or none.

    Args:
        model: a built `keras.Model`; its variables keep their own dtype.
        path: a file written by `save_weights_float16`.

    Returns:
        The model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, a key is missing, left over or of another shape, or a weight is
            not finite; the model is then unchanged.
    """
    _check_ending(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no weights file {path}.")
    with open(path, "rb") as file:
        source = Source(path, file)
        try:
            found = list_hdf5(source)
        except CheckpointError as error:
            raise ValueError(
                f"{path} is cut short or not an HDF5 file of Keras ({error})"
            ) from error
        return fill_weights(model, source, found, any_float=True)


def fill_weights(model, source, found, any_float=False):
    """Give a model the weights of a file of Keras, all of them or none.

    Libhdf5, which ends the process on some damaged files, sees only a file that Keras has just written
    of this very model: the numbers in it are replaced one weight after the other.

    Args:
        model: a built `keras.Model`.
        source: the `Source` of the file.
        found: what `list_hdf5` found in it.
        any_float: whether a weight may be stored in another floating-point type than its own.

    Returns:
        The model.

    Raises:
        ValueError: a key is missing, left over or of another shape or type, or a weight is not finite;
            names it, and the model is then unchanged.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        keras.Model.save_weights(model, path)
        with h5py.File(path, "r+") as file:
            own = _own_datasets(model, file)
            _check_layout(model, source.path, _described(own), found, any_float)
            for key, dataset in own.items():
                dtype = _dtype(dataset)
                with np.errstate(over="ignore"):
                    array = found[key].read(source).astype(dtype)
                if dtype.name in FLOATS and not np.isfinite(array).all():
                    raise ValueError(
                        f"{source.path}: the weight {key} holds NaN or infinite values, so that the "
                        "model would find nothing. Take a file of an earlier epoch, or train again "
                        "with a lower learning rate."
                    )
                dataset[...] = array
        keras.Model.load_weights(model, path)
    return model


def _described(datasets):
    """{key: (shape, dtype)} of h5py's datasets."""
    return {key: (value.shape, _dtype(value).name) for key, value in datasets.items()}


def _dtype(dataset):
    """NumPy's dtype of a dataset; of two opaque bytes, as Keras writes it, bfloat16."""
    return np.dtype(ml_dtypes.bfloat16) if dataset.dtype.kind == "V" else dataset.dtype


def _check_layout(model, path, wanted, found, any_float):
    for key in sorted(wanted.keys() | found.keys()):
        here = wanted.get(key, (None, None))
        there = found[key][1:] if key in found else (None, None)
        floats = {here[1], there[1]} <= FLOATS
        if here == there or (any_float and floats and here[0] == there[0]):
            continue
        by_type = key in wanted and key in found and here[0] == there[0]
        here, there = (values[int(by_type)] for values in (here, there))
        raise ValueError(
            f"{path} does not fit this {type(model).__name__}: {printable(key)} is "
            f"{'missing' if there is None else there} in the file and "
            f"{'missing' if here is None else here} in the "
            "model. Build the model with the arguments it was trained with."
        )


def _arrays(model):
    """Return a model's weights by Keras' structural key, as NumPy arrays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        model.save_weights(path)
        with h5py.File(path) as file:
            return {key: dataset[...] for key, dataset in _own_datasets(model, file).items()}


def _own_datasets(model, file):
    """The datasets of a file just written by a model, without those of its training."""
    return {
        key: dataset
        for key, dataset in _datasets(file).items()
        if not is_training_state(model, key)
    }


def _datasets(file):
    """Return every dataset of an HDF5 file by its path."""
    datasets = {}

    def collect(key, item):
        if isinstance(item, h5py.Dataset):
            datasets[key] = item

    file.visititems(collect)
    return datasets


def is_training_state(model, key):
    """Tell whether a key of a file is of what training adds to a model.

    Args:
        model: the model.
        key: the path of a dataset.

    Returns:
        bool: True for optimizer, metrics, and the steps that two-stage detectors count.
    """
    first = key.split("/")[0]
    return (
        first == "optimizer" or key == "vars/steps" or _is_of_training(getattr(model, first, None))
    )


def _is_of_training(attribute):
    """True for an optimizer or metrics, alone or in a container."""
    if isinstance(attribute, dict):
        attribute = list(attribute.values())
    if isinstance(attribute, (list, tuple)):
        return any(map(_is_of_training, attribute))
    return isinstance(attribute, (keras.optimizers.Optimizer, keras.metrics.Metric))


def _reduced(key, value):
    if value.ndim < 2:
        return value
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    if not np.isfinite(half).all():
        raise ValueError(f"The weight {key} is NaN, infinite or beyond 65504, float16's limit.")
    return half


def _check_ending(path):
    if not str(path).endswith(".weights.h5"):
        raise ValueError(f"{path}: the name of a weights file must end in .weights.h5.")
