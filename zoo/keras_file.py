"""The loading of a `.keras` file that nobody has vouched for.

Such a file is a zip archive of three uncompressed members. Its directory, its config and the header of
its weights are read and compared before anything is built or a weight is read, by readers that stay
within the file: neither `zipfile` nor libhdf5 nor `pickle` sees it. A model takes no more memory than
its file has weights. Whatever is wrong is one ValueError that names the file.
"""

import contextlib
import math
import threading

import keras

from kerasdet.zoo.admission import LARGEST, read_config
from kerasdet.zoo.checkpoints.errors import CheckpointError, printable
from kerasdet.zoo.checkpoints.hdf5 import list_hdf5
from kerasdet.zoo.checkpoints.source import Source
from kerasdet.zoo.checkpoints.zipped import list_members, region
from kerasdet.zoo.weights import fill_weights, is_training_state

METADATA, CONFIG, WEIGHTS = MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
LARGEST_METADATA = 1 << 16
AGAIN = "save the model again or take another copy"
# What layers may create beyond the file's weights: some throw away what they made first.
MORE_WEIGHTS, MORE_NUMBERS = 100, 1 << 20
_BUILDING = threading.RLock()


def load_keras_file(path):
    """Load a model from a `.keras` file.

    Args:
        path: the file. The classes that it names are registered already.

    Returns:
        The model, built, not compiled.

    Raises:
        ValueError: the file is cut short or damaged, asks for what is not admitted, describes a model
            that cannot be built, or its weights are not those of that model or not finite; names the
            file.
    """
    with open(path, "rb") as file:
        source = Source(path, file)
        try:
            regions = _regions(source)
            config = read_config(path, _content(source, regions[CONFIG]))
            weights = Source(path, file, *regions[WEIGHTS][:2])
            found = list_hdf5(weights)
            model = _build(path, config, _sizes(found))
            own = {k: v for k, v in found.items() if not is_training_state(model, k)}
            return fill_weights(model, weights, own)
        except CheckpointError as error:
            raise ValueError(str(error)) from error


def _regions(source):
    """Where the members lie, once they are known to be the three, whole and of bearable sizes."""
    if source.size < 22 or source.read(source.size - 22, 4) != b"PK\x05\x06":
        raise source.fault("is cut short or no Keras model: no zip archive ends at its end", AGAIN)
    members = list_members(source)
    for name in members:
        if name not in MEMBERS:
            raise source.fault(
                f"holds {printable(name)} beside {', '.join(MEMBERS)}, which no model of kerasdet has",
                AGAIN,
            )
    for name in (CONFIG, WEIGHTS):
        if name not in members:
            raise source.fault(f"is no Keras model: it holds no {name}", AGAIN)
    for name, most in ((METADATA, LARGEST_METADATA), (CONFIG, LARGEST)):
        if name in members and members[name].size > most:
            raise source.fault(f"has a {name} of {members[name].size} bytes, over {most}", AGAIN)
    regions = {name: region(source, name, found, "Keras", AGAIN) for name, found in members.items()}
    for name, place in regions.items():
        try:
            source.verify(*place)
        except CheckpointError as error:
            raise source.fault(f"is damaged: {name} does not fit its checksum", AGAIN) from error
    return regions


def _content(source, place):
    return source.read(place.start, place.size)


def _sizes(found):
    """How many numbers each weight has, the optimizer's left out."""
    mine = (stored for key, stored in found.items() if not key.startswith("optimizer/"))
    return [math.prod(stored.shape) for stored in mine]


def _build(path, config, sizes):
    """Build the model that an admitted config describes, with weights about as the file's `sizes`."""
    # Private to Keras, as it is in `load_model`: parts that were one object become one again.
    from keras.src.saving.serialization_lib import ObjectSharingScope

    try:
        with _bounded(len(sizes), sum(sizes)), ObjectSharingScope():
            model = keras.saving.deserialize_keras_object(config)
            if not model.built:
                model.build()
    # A constructor that is given what it does not expect may raise anything.
    except Exception as error:
        # Keras puts the whole config around what a constructor says.
        _, wrapped, reason = str(error).rpartition("Exception encountered: ")
        reason = reason if wrapped else f"{type(error).__name__}: {error}"
        reason = reason.encode("utf-8", "backslashreplace").decode()
        raise ValueError(
            f"{path} describes a model that cannot be built: {reason[:500]}"
        ) from error
    return model


@contextlib.contextmanager
def _bounded(weights, numbers):
    """Let this thread's layers create hardly more weights, and numbers in them, than a file has.

    A config of a few bytes can ask for weights of any number and size, and Keras would take the memory
    for all of them before it looks at the file's.
    """
    me = threading.get_ident()
    left, numbers_left = weights + MORE_WEIGHTS, numbers + MORE_NUMBERS

    def add_weight(layer, shape=None, *args, **kwargs):
        nonlocal left, numbers_left
        if threading.get_ident() == me:
            axes = shape if isinstance(shape, (tuple, list)) else (shape or 1,)
            left, numbers_left = left - 1, numbers_left - math.prod(axes)
            if min(left, numbers_left) < 0:
                raise ValueError(
                    f"the layer {layer.name} asks for a weight of shape {tuple(axes)}, and the file has "
                    f"{weights} weights of {numbers} numbers in all"
                )
        return create(layer, shape, *args, **kwargs)

    with _BUILDING:
        create = keras.layers.Layer.add_weight
        keras.layers.Layer.add_weight = add_weight
        try:
            yield
        finally:
            keras.layers.Layer.add_weight = create
