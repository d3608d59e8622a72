"""From a pickle's value to the state dict's arrays.

A tensor is a view of a storage, and storages are outside the pickle. Only the storages that the
state dict needs are read, each into one array; tensors are views of these arrays.
"""

import math
from itertools import islice
from typing import NamedTuple

import numpy as np

from kerasdet.zoo.checkpoints.admitted import Tensor
from kerasdet.zoo.checkpoints.errors import RESAVE, printable
from kerasdet.zoo.checkpoints.source import STORED

PLACES = ("model", "state_dict", "model_state_dict")


class Region(NamedTuple):
    """Where the bytes of a storage are in the file."""

    start: int
    size: int
    crc: int  # 0: unknown


def state_dict(source, content):
    """Find the state dict: the top level, or the value at one of `PLACES`, in this order.

    Args:
        source: the `Source`.
        content: the pickle's value.

    Returns:
        {name: `Tensor`}, not empty.

    Raises:
        CheckpointError: none of them is a dict of tensors alone; the message says what is there.
    """
    found = [content]
    if type(content) is dict:
        found += [content[key] for key in PLACES if key in content]
    for values in found:
        if type(values) is dict and values and not _others(values):
            for name in values:
                if type(name) is not str:
                    raise source.fault(
                        f"names a tensor {printable(name)}, which is not a text", RESAVE
                    )
            return values
    raise source.fault(
        f"has no state dict, a dict of tensors alone, at the top or under {', '.join(PLACES)}: "
        + "; it has ".join(map(_described, found)),
        RESAVE,
    )


def arrays(source, tensors, regions):
    """Read the storages that tensors need, and view them as the tensors do.

    Args:
        source: the `Source`.
        tensors: {name: `Tensor`}.
        regions: {storage key: `Region`}.

    Returns:
        {name: array}.

    Raises:
        CheckpointError: a storage is missing or of another size, or a tensor exceeds its storage.
    """
    read, result = {}, {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if (storage.key, storage.dtype) not in read:
            read[storage.key, storage.dtype] = _read(source, storage, regions)
        source.charge(512)  # for the view and its entry
        result[name] = _view(source, name, tensor, read[storage.key, storage.dtype])
    return result


def _read(source, storage, regions):
    region = regions.get(storage.key)
    if region is None:
        raise source.fault(f"lacks the storage {printable(storage.key)}")
    if region.size != storage.count * STORED[storage.dtype].itemsize:
        raise source.fault(
            f"has {region.size} bytes of the storage {printable(storage.key)}, which should be "
            f"{printable(storage.count)} elements of {storage.dtype}"
        )
    return source.array(region.start, storage.count, storage.dtype, region.crc)


def _view(source, name, tensor, array):
    """Return a tensor as an array, after checking that it is inside its storage."""
    storage, offset, size, stride = tensor
    count = math.prod(size)
    if count == 0:
        return np.empty(size, array.dtype)
    stride = [step if axis > 1 else 1 for axis, step in zip(size, stride)]
    first = storage.begin + offset
    last = first + sum((axis - 1) * step for axis, step in zip(size, stride))
    if last >= storage.end or storage.end > len(array):
        raise source.fault(
            f"has {printable(name)} reach to element {printable(last)} of a storage that ends at "
            f"{printable(storage.end)}"
        )
    if count > storage.end - storage.begin:
        raise source.fault(
            f"has {printable(name)} repeat its elements: {printable(count)} in shape, fewer stored",
            "call contiguous() on it before it is saved",
        )
    item = array.itemsize
    return np.ndarray(size, array.dtype, array, first * item, [step * item for step in stride])


def _others(values):
    """Describe the first entries of a dict that are not tensors."""
    entries = ((key, value) for key, value in values.items() if type(value) is not Tensor)
    return [f"{printable(key)} ({type(value).__name__})" for key, value in islice(entries, 5)]


def _described(value):
    if type(value) is not dict:
        return f"a {type(value).__name__}"
    return f"a dict with {', '.join(_others(value))}" if value else "an empty dict"
