"""The safetensors format: the header's length in eight bytes, a JSON header, the tensors' bytes.

Tensors fill the bytes behind the header without gap or overlap, as the format asks.
"""

import json
import math

from kerasdet.zoo.checkpoints.errors import printable
from kerasdet.zoo.checkpoints.source import STORED, is_possible

# A header's JSON takes at most this many times its size, once parsed.
GROWTH = 40
CODES = {
    "BOOL": "bool",
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BF16": "bfloat16",
}
RESAVE = "write the file again with safetensors, its tensors in one of " + ", ".join(CODES)


def read_safetensors(source):
    """Read a safetensors file.

    Args:
        source: the `Source`.

    Returns:
        {name: array}.

    Raises:
        CheckpointError: damaged, or with a dtype that is not read.
    """
    length = int.from_bytes(source.read(0, 8), "little")
    source.charge(GROWTH * length)
    header = _parsed(source, source.read(8, length))
    header.pop("__metadata__", None)
    entries = {name: _entry(source, name, entry) for name, entry in header.items()}
    end = 8 + length
    for name, (_, _, first, last) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if 8 + length + first != end:
            raise source.fault(f"has {printable(name)} overlap another tensor, or a gap before it")
        end = 8 + length + last
    if end != source.size:
        raise source.fault(f"is {source.size} bytes long, where its tensors end at {end}")
    return {
        name: source.array(8 + length + first, math.prod(shape), dtype).reshape(shape)
        for name, (dtype, shape, first, _) in entries.items()
    }


def _parsed(source, data):
    def once(pairs):
        values = dict(pairs)
        if len(values) != len(pairs):
            raise ValueError("a name appears twice")
        return values

    try:
        header = json.loads(data.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise source.fault(f"has a header that is not valid JSON ({error})") from None
    if type(header) is not dict:
        raise source.fault(f"has a {type(header).__name__} as its header")
    return header


def _entry(source, name, entry):
    """(dtype, shape, first byte, byte behind the last) of a tensor, its numbers in agreement."""
    name = printable(name)
    if type(entry) is not dict or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise source.fault(f"describes {name} by other fields than dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(code) is not str or code not in CODES:
        raise source.fault(f"has {name} in the dtype {printable(code)}", RESAVE)
    if not _are_counts(shape) or not is_possible(shape):
        raise source.fault(f"has {name} in an impossible shape")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise source.fault(f"gives {name} impossible data_offsets")
    dtype, (first, last) = CODES[code], offsets
    if last - first != math.prod(shape) * STORED[dtype].itemsize:
        raise source.fault(
            f"gives {name} {printable(last - first)} bytes, which do not fit its shape and dtype"
        )
    return dtype, shape, first, last


def _are_counts(values):
    """Whether this is a list of integers of at most 48 bits, not negative."""
    return type(values) is list and all(type(v) is int and 0 <= v < 1 << 48 for v in values)
