"""Weights on disk at half their size: Keras' own `.weights.h5` layout, kernels in float16.

Arrays of two or more axes (kernels, nearly all of a file) are float16. Vectors (biases, and the scales
and statistics of batch normalisation, whose small variances float16 would flush to zero) stay float32.
Keys are Keras' structural paths: `model.load_weights` reads these files too.
"""

import tempfile
from pathlib import Path

import h5py
import keras
import numpy as np

from kerasdet.files import atomic_write


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
        ValueError: the file is damaged, or a key is missing, left over or of another shape; the
            model is then unchanged.
    """
    _check_ending(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no weights file {path}.")
    wanted = {key: value.shape for key, value in _arrays(model).items()}
    try:
        with h5py.File(path) as file:
            found = {key: value.shape for key, value in _datasets(file).items()}
    except OSError as error:
        raise ValueError(f"{path} is cut short or not an HDF5 file ({error}).") from error
    for key in sorted(wanted.keys() | found.keys()):
        if found.get(key) != wanted.get(key):
            raise ValueError(
                f"{path} does not fit this {type(model).__name__}: {key} is "
                f"{found.get(key, 'missing')} in the file and {wanted.get(key, 'missing')} in the "
                "model. Build the model with the arguments it was trained with."
            )
    model.load_weights(path)
    return model


def _arrays(model):
    """Return a model's weights by Keras' structural key, as NumPy arrays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        model.save_weights(path)
        with h5py.File(path) as file:
            return {
                key: dataset[...]
                for key, dataset in _datasets(file).items()
                if not _is_training_state(getattr(model, key.split("/")[0], None))
            }


def _datasets(file):
    """Return every dataset of an HDF5 file by its path."""
    datasets = {}

    def collect(key, item):
        if isinstance(item, h5py.Dataset):
            datasets[key] = item

    file.visititems(collect)
    return datasets


def _is_training_state(attribute):
    """Recognise what training adds to a model: optimizer and metrics, alone or in a container."""
    if isinstance(attribute, dict):
        attribute = list(attribute.values())
    if isinstance(attribute, (list, tuple)):
        return any(map(_is_training_state, attribute))
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
