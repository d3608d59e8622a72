"""The entry point to all readers: a file's first bytes determine which kind of checkpoint it is."""

from pathlib import Path

from kerasdet.zoo.checkpoints.errors import CheckpointError
from kerasdet.zoo.checkpoints.hdf5 import read_hdf5
from kerasdet.zoo.checkpoints.legacy import read_legacy
from kerasdet.zoo.checkpoints.safetensors import read_safetensors
from kerasdet.zoo.checkpoints.source import Source
from kerasdet.zoo.checkpoints.zipped import read_zip

HEAD = 512
LARGEST_HEADER = 100_000_000  # bytes of a safetensors header, by the format's own rule


def read_checkpoint(path):
    """Read a published checkpoint without the framework that wrote it.

    The function reads PyTorch's files (the zip container and the one before it), safetensors and Keras'
    HDF5; the content determines the kind. No code in the file is run. Memory stays below twice the
    file's size plus a few MiB.

    In a PyTorch file, the state dict is the top level, or the value of "model", "state_dict" or
    "model_state_dict": the first of these that is a dict of tensors alone. The rest (optimizer,
    epoch) is interpreted but not returned, and may hold tensors, texts, numbers (also NumPy's),
    dicts, lists, tuples and sets; anything else, such as argparse.Namespace, is refused by name.

    Args:
        path: the file.

    Returns:
        {name: array}, not empty: names as in the state dict, or for HDF5 the paths in the
        file. Arrays are read-only; tensors that share a storage share its memory, and tensors that
        are not a contiguous piece of it are strided views. bfloat16 becomes float32; the other dtypes
        are kept.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: damaged, of an unknown kind, or asking for something that is refused; the
            message names the file, what is wrong and the fix.
        OSError: the file must not be read.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    if not path.is_file():
        raise CheckpointError(f"{path} is a folder or a device. Fix: give a file.")
    with open(path, "rb") as file:
        source = Source(path, file)
        arrays = _reader(source)(source)
    if not arrays:
        raise source.fault("holds no arrays", "give a file of weights")
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def _reader(source):
    head = source.read(0, min(source.size, HEAD))
    length = int.from_bytes(head[:8], "little")
    if head.startswith(b"PK\x03\x04"):
        return read_zip
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return read_hdf5
    if head[8:9] == b"{" and length <= LARGEST_HEADER:
        return read_safetensors
    if head.startswith(b"\x80"):
        return read_legacy
    if head[257:262] == b"ustar":
        raise source.fault(
            "is a tar archive, as PyTorch wrote before 0.1.10",
            "load it with torch.load and save it again with torch.save",
        )
    raise source.fault(
        f"begins with {head[:16]!r}, unlike any kind of checkpoint",
        "give a file of PyTorch (torch.save), safetensors or Keras (.h5)",
    )
