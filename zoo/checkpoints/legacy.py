"""PyTorch's container before 1.6: five pickles one after the other, then the storages' bytes.

The pickles are a magic number, the format's version, facts of the machine, the content, and the
storages' keys in the order of their bytes. Each storage is an 8-byte count followed by its elements.
"""

from kerasdet.zoo.checkpoints.admitted import load
from kerasdet.zoo.checkpoints.errors import RESAVE, printable
from kerasdet.zoo.checkpoints.source import STORED
from kerasdet.zoo.checkpoints.tensors import Region, arrays, state_dict

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001


def read_legacy(source):
    """Read a state dict from the legacy container.

    Args:
        source: the `Source`.

    Returns:
        {name: array}.

    Raises:
        CheckpointError: damaged, refused, or without a state dict.
    """
    source.seek(0)
    magic, _ = load(source)
    if magic != MAGIC:
        raise source.fault("is a pickle, but not one of torch.save", RESAVE)
    version, _ = load(source)
    if version != VERSION:
        raise source.fault(f"has version {printable(version)} of the format, not {VERSION}", RESAVE)
    machine, _ = load(source)
    if type(machine) is not dict or machine.get("little_endian") is not True:
        raise source.fault("comes from a big-endian machine", RESAVE)
    content, storages = load(source)
    order, _ = load(source)
    regions = _regions(source, order, storages)
    return arrays(source, state_dict(source, content), regions)


def _regions(source, order, storages):
    """Find where each storage is: {key: Region}."""
    if type(order) is not list or any(type(key) is not str for key in order):
        raise source.fault("has no list of its storages")
    start, regions = source.position, {}
    for key in order:
        if key not in storages or key in regions:
            raise source.fault(f"lists the storage {printable(key)} twice or without a tensor")
        count = int.from_bytes(source.read(start, 8), "little")
        size = count * STORED[storages[key].dtype].itemsize
        source.charge(512)
        regions[key] = Region(start + 8, size, 0)
        start += 8 + size
    if start != source.size:
        raise source.fault(f"is {source.size} bytes long, but its storages end at {start}")
    return regions
