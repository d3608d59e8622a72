"""Darknet's `.weights` files: a header, and float32 numbers in the order of the network, without names.

The header has three int32 (major, minor, revision) and the number of images seen in training: int32 in
files before version 0.2, int64 since.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasdet.zoo.checkpoints.errors import CheckpointError
from kerasdet.zoo.checkpoints.source import Source

OTHER_NETWORK = "give the weights of this very .cfg; this file is of another network or cut short"


class Piece(NamedTuple):
    """An array of the file.

    Fields:
        owner: the section that it belongs to, for errors.
        name: what it is, such as "biases".
        shape: in the file.
    """

    owner: str
    name: str
    shape: tuple


def read_darknet_weights(path, pieces):
    """Read all arrays of a file.

    The sizes are compared with the file's before anything is allocated.

    Args:
        path: the file.
        pieces: list of `Piece`, in the order of the file.

    Returns:
        List of float32 arrays, one for each piece.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is too short, has bytes left over, is of an unknown version, or holds a
            number that is not finite; names the file, the section and the fix.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {path}.")
    with open(path, "rb") as file:
        source = Source(path, file)
        start = _header_size(source)
        _check_size(source, start, pieces)
        arrays = []
        for piece in pieces:
            array = source.array(start, math.prod(piece.shape), "float32")
            if not np.isfinite(array).all():
                raise source.fault(f"has {piece.name} of {piece.owner} that are not finite")
            arrays.append(array.reshape(piece.shape))
            start += array.nbytes
    return arrays


def _header_size(source):
    """Return the bytes of the header."""
    major, minor, _ = np.frombuffer(source.read(0, 12), "<i4")
    if not (0 <= major < 1000 and 0 <= minor < 1000):
        raise source.fault(
            f"has the version {major}.{minor}, which Darknet has not written for these layers",
            "give a .weights file of Darknet, version 0.1 or 0.2",
        )
    return 20 if major * 10 + minor >= 2 else 16


def _check_size(source, start, pieces):
    """Refuse a file that has fewer or more bytes than the pieces need."""
    end = start
    for piece in pieces:
        end += 4 * math.prod(piece.shape)
        if end > source.size:
            raise CheckpointError(
                f"{source.path} has {source.size} bytes and ends within the {piece.name} of {piece.owner}, "
                f"which end at byte {end}. Fix: {OTHER_NETWORK}."
            )
    if end < source.size:
        raise CheckpointError(
            f"{source.path} has {source.size - end} bytes left over after {pieces[-1].owner}, the last "
            f"layer with weights. Fix: {OTHER_NETWORK}."
        )
