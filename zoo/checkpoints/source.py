"""One open file: reads within its bounds, memory within twice its size, errors that name it."""

import math
import os
import zlib

import numpy as np

from kerasdet.zoo.checkpoints.errors import DAMAGED, CheckpointError

SLACK = 8 << 20  # bytes beyond twice the file's size, which small files need
CHUNK = 1 << 18  # elements read at a time
MOST_AXES = 32
MOST_ELEMENTS = 1 << 48

# Element type: how a file stores it.
STORED = {
    "bool": np.dtype("u1"),
    "uint8": np.dtype("u1"),
    "int8": np.dtype("i1"),
    "uint16": np.dtype("<u2"),
    "int16": np.dtype("<i2"),
    "uint32": np.dtype("<u4"),
    "int32": np.dtype("<i4"),
    "uint64": np.dtype("<u8"),
    "int64": np.dtype("<i8"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
}


class Source:
    """An open file that is never read outside its bounds.

    `charge` counts, generously, the memory that its content requires: a request for more than
    twice the file's size (and a few MiB) is refused before it is allocated.

    Args:
        path: the file's name, for errors.
        file: the file, open for reading bytes.
        start: where a file begins that lies inside of this one, such as an archive's member.
        size: bytes of that file; None: all that follow.
    """

    def __init__(self, path, file, start=0, size=None):
        self.path = path
        self.file = file
        self.start = start
        self.size = os.fstat(file.fileno()).st_size - start if size is None else size
        self.position = 0
        self.left = 2 * self.size + SLACK

    def fault(self, what, fix=DAMAGED):
        """Return the error to raise.

        Args:
            what: what is wrong, in words that follow the file's name.
            fix: what the reader should do.

        Returns:
            `CheckpointError`.
        """
        return CheckpointError(f"{self.path} {what}. Fix: {fix}.")

    def charge(self, count):
        """Count memory that is about to be used.

        Args:
            count: bytes.

        Raises:
            CheckpointError: the file has requested more than its size allows.
        """
        self.left -= count
        if self.left < 0:
            raise self.fault(
                f"asks for more memory than twice its size, {self.size} bytes, allows",
                "give a file of the weights alone; a state dict does not have so many small entries",
            )

    def seek(self, position):
        """Go to a place in the file; going beyond its end is an error of the next `take`."""
        self.position = position

    def take(self, count):
        """Read from the current place, and move behind it.

        Args:
            count: bytes.

        Returns:
            That many bytes.

        Raises:
            CheckpointError: the file ends too early.
        """
        self._go(count)
        data = self.file.read(count)
        if len(data) != count:
            raise self.fault("became shorter while it was read")
        return data

    def read(self, start, count):
        """Read from a place of the file.

        Args:
            start: the first byte.
            count: bytes.

        Returns:
            That many bytes.

        Raises:
            CheckpointError: the bytes are not all in the file, or need too much memory.
        """
        self.charge(count + 64)
        self.seek(start)
        return self.take(count)

    def verify(self, start, count, crc):
        """Check bytes against their checksum.

        Args:
            start: the first byte.
            count: bytes.
            crc: their CRC-32; 0 if unknown.

        Raises:
            CheckpointError: the bytes are not all in the file, or do not fit the checksum.
        """
        self.seek(start)
        self._go(count)
        found = 0
        for first in range(0, count, CHUNK):
            found = zlib.crc32(self.file.read(min(CHUNK, count - first)), found)
        if crc not in (0, found):
            raise self.fault(f"has bytes at {start} that do not fit their checksum")

    def array(self, start, count, dtype, crc=0):
        """Read elements into an array of their own.

        They are read piece by piece: bfloat16, which NumPy does not have, is widened to float32 in the
        process, so that the file's bytes and the array are never in memory together.

        Args:
            start: the first byte.
            count: elements.
            dtype: a key of `STORED`.
            crc: CRC-32 of the stored bytes; 0 if unknown.

        Returns:
            (count,) array.

        Raises:
            CheckpointError: the elements are not all in the file, need too much memory, or do not fit
                the checksum.
        """
        stored = STORED[dtype]
        self.seek(start)
        self._go(count * stored.itemsize)
        found, wide = 0, dtype == "bfloat16"
        self.charge(count * (4 if wide else stored.itemsize) + 512)
        array = np.empty(count, "<u4" if wide else stored)
        for first in range(0, count, CHUNK):
            part = array[first : first + CHUNK]
            raw = np.empty(len(part), stored) if wide else part
            if self.file.readinto(raw.view("u1")) != raw.nbytes:
                raise self.fault("became shorter while it was read")
            found = zlib.crc32(raw, found)
            if wide:
                np.left_shift(raw, 16, out=part, dtype="<u4")
            elif dtype == "bool":
                np.not_equal(part, 0, out=part.view("?"))
        if crc not in (0, found):
            raise self.fault(f"has bytes at {start} that do not fit their checksum")
        return array.view({"bfloat16": "<f4", "bool": "?"}.get(dtype, stored))

    def _go(self, count):
        """Move the file to the current place, if enough bytes follow."""
        start, self.position = self.position, self.position + count
        if not 0 <= start <= self.position <= self.size:
            raise self.fault(f"ends at byte {self.size}, but {count} bytes from {start} are needed")
        self.file.seek(self.start + start)


class Fields:
    """Little-endian fields of a short piece of a file, one after the other.

    Args:
        source: the `Source`, for errors.
        data: bytes.
    """

    def __init__(self, source, data):
        self.source = source
        self.data = data
        self.position = 0

    def take(self, count):
        """Return the next bytes.

        Args:
            count: number of bytes.

        Returns:
            bytes.

        Raises:
            CheckpointError: there are fewer.
        """
        start, self.position = self.position, self.position + count
        if self.position > len(self.data):
            raise self.source.fault(f"has a header of {len(self.data)} bytes that is too short")
        return self.data[start : self.position]

    def number(self, count):
        """Return the next unsigned integer.

        Args:
            count: number of its bytes.

        Returns:
            int.

        Raises:
            CheckpointError: there are fewer bytes.
        """
        return int.from_bytes(self.take(count), "little")


def is_possible(shape):
    """Tell whether NumPy can have such an array, if its elements exist.

    Args:
        shape: sequence of counts, none negative.

    Returns:
        bool; also False for shapes without elements whose other axes are immense.
    """
    return len(shape) <= MOST_AXES and math.prod(max(axis, 1) for axis in shape) <= MOST_ELEMENTS
