"""TensorFlow.js weights: a manifest in JSON, and the shards that it names, which hold the numbers.

    [{"paths": ["model.bin"], "weights": [{"name": "conv/bias", "shape": [32], "dtype": "float32",
      "quantization": {"dtype": "uint8", "scale": 0.01, "min": -1.2}}, ...]}, ...]

The shards of a group are one stream of bytes, and its tensors follow each other in it without gaps. A
quantised tensor stands for min + scale * integer. A `model.json` with a "weightsManifest" is read, too.
"""

import json
import math
from pathlib import Path

import numpy as np

from kerasdet.zoo.checkpoints.errors import DAMAGED, CheckpointError, printable

LARGEST_MANIFEST = 8 << 20  # bytes
MOST_AXES = 8
LARGEST_SCALE = 1e30  # of quantised numbers
DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "u1"}
QUANTISED = {"uint8": "u1", "uint16": "<u2", "float16": "<f2"}


def read(manifest_path, *shards):
    """Read the weights of a TensorFlow.js model without TensorFlow.js.

    Args:
        manifest_path: the manifest.
        *shards: its shards in the manifest's order; default: the files that it names, beside it.

    Returns:
        {name: float32 array}, all tensors in the manifest's order.

    Raises:
        FileNotFoundError: there is no such manifest or shard; names it.
        CheckpointError: the manifest is no manifest, or a shard is longer or shorter than its tensors; the
            message names the file, what is wrong and the fix.
    """
    path = Path(manifest_path)
    groups = _groups(path)
    names = [name for group in groups for name in group["paths"]]
    files = [Path(shard) for shard in shards] or [path.parent / name for name in names]
    if len(files) != len(names):
        raise _fault(path, f"names {len(names)} shards, not {len(files)}", "give each of them")
    arrays, files = {}, iter(files)
    for group in groups:
        tensors = [_tensor(path, entry) for entry in group["weights"]]
        data = _joined([next(files) for _ in group["paths"]], sum(size for *_, size in tensors))
        start = 0
        for name, shape, stored, quantisation, size in tensors:
            if name in arrays:
                raise _fault(path, f"has {printable(name)} twice")
            values = np.frombuffer(data, stored, math.prod(shape), start).astype(np.float32)
            if quantisation:
                # In float64, then rounded: so the runtime's own numbers are.
                scale, least = quantisation
                values = (values.astype(np.float64) * scale + least).astype(np.float32)
            arrays[name] = values.reshape(shape)
            start += size
    if not arrays:
        raise _fault(path, "names no tensors", "give the manifest of a model's weights")
    return arrays


def _groups(path):
    """The manifest's groups, their form checked."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no manifest {path}.")
    if path.stat().st_size > LARGEST_MANIFEST:
        raise _fault(path, f"is larger than the {LARGEST_MANIFEST} bytes that a manifest may have")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _fault(path, "is no JSON") from error
    groups = content.get("weightsManifest") if isinstance(content, dict) else content
    good = isinstance(groups, list) and all(
        isinstance(group, dict)
        and isinstance(group.get("weights"), list)
        and isinstance(group.get("paths"), list)
        and all(isinstance(name, str) for name in group["paths"])
        for group in groups
    )
    if not good:
        raise _fault(path, 'is no list of {"paths", "weights"}', "give a weights manifest")
    for name in (name for group in groups for name in group["paths"]):
        if name != Path(name).name or "\\" in name or "\0" in name or name in ("", ".", ".."):
            raise _fault(
                path,
                f"names the shard {printable(name)}, outside its folder: refused",
                "put the shards beside the manifest",
            )
    return groups


def _tensor(path, entry):
    """Name, shape, stored dtype, (scale, min) or None, and number of bytes of a tensor."""
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise _fault(path, f"has a tensor without a name: {printable(str(entry))}")
    shape, kind = entry.get("shape"), entry.get("dtype")
    if (
        not isinstance(shape, list)
        or len(shape) > MOST_AXES
        or not all(type(side) is int and 0 <= side < 1 << 31 for side in shape)
    ):
        raise _fault(path, f"gives {printable(name)} the shape {printable(str(shape))}")
    if kind not in DTYPES:
        raise _fault(
            path,
            f"gives {printable(name)} the dtype {printable(kind)}",
            f"convert the model with one of {', '.join(DTYPES)}",
        )
    stored, quantisation = DTYPES[kind], None
    if "quantization" in entry:
        stored, quantisation = _quantisation(path, name, entry["quantization"])
    size = math.prod(shape) * np.dtype(stored).itemsize
    return name, tuple(shape), stored, quantisation, size


def _quantisation(path, name, given):
    kind = given.get("dtype") if isinstance(given, dict) else None
    if kind not in QUANTISED:
        raise _fault(
            path,
            f"quantises {printable(name)} as {printable(kind)}",
            f"convert the model with one of {', '.join(QUANTISED)}",
        )
    if kind == "float16":
        return QUANTISED[kind], None
    numbers = given.get("scale"), given.get("min")
    if not all(type(n) in (int, float) and abs(n) < LARGEST_SCALE for n in numbers):
        raise _fault(path, f"quantises {printable(name)} without a finite scale and min")
    return QUANTISED[kind], numbers


def _joined(files, size):
    """The bytes of a group's shards, which must be as many as its tensors take."""
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"There is no shard {file}.")
    found = sum(file.stat().st_size for file in files)
    if found != size:
        names = ", ".join(map(str, files))
        raise _fault(names, f"has {found} bytes, but its tensors take {size}")
    data = b"".join(file.read_bytes() for file in files)
    if len(data) != size:
        raise _fault(files[0], "changed while it was read")
    return data


def _fault(path, what, fix=DAMAGED):
    return CheckpointError(f"{path} {what}. Fix: {fix}.")
