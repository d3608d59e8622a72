"""The entrance to all readers: a file's first bytes tell which kind of checkpoint it is."""

from pathlib import Path

from kerasdet.zoo.checkpoints.errors import CheckpointError
from kerasdet.zoo.checkpoints.hdf5 import read_hdf5
from kerasdet.zoo.checkpoints.legacy import read_legacy
from kerasdet.zoo.checkpoints.safetensors import read_safetensors
from kerasdet.zoo.checkpoints.source import Source
from kerasdet.zoo.checkpoints.zipped import read_zip

HEAD = 512
LARGEST_HEADER = 100_000_000  # of safetensors, by its own rule


def read_checkpoint(path):
    """Read a published checkpoint without the framework that wrote it.

    It reads PyTorch's files (the zip container and the one before it), safetensors and Keras'
    HDF5; the content tells the kind. No code of the file is run. Memory stays below twice the
    file's size and a few MiB.

    In a PyTorch file, the state dict is the top level, or what lies under "model", "state_dict" or
    "model_state_dict": the first of these that is a dict of tensors alone. The rest (optimizer,
    epoch) is interpreted but not returned, and may hold tensors, texts, numbers (NumPy's too),
    dicts, lists, tuples and sets; anything else, such as argparse.Namespace, is refused by name.

    Args:
        path: the file.

    Returns:
        {name: array}, not empty: names as the state dict gives them, in HDF5 the paths in the
        file. Arrays are read-only; tensors that share a storage share its memory, and tensors that
        are no contiguous piece of it are strided views. bfloat16 becomes float32; the other dtypes
        stay.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: damaged, of an unknown kind, or asking for what is refused; names the file,
            what is wrong and the fix.
        OSError: the file may not be read.
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
        f"begins with {head[:16]!r}, which no kind of checkpoint does",
        "give a file of PyTorch (torch.save), safetensors or Keras (.h5)",
    )
