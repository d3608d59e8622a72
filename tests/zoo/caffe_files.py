"""Caffe's files as tests write them: `.caffemodel` in protobuf's wire format, `.prototxt` as text.

Needs NumPy alone: the scripts that run OpenCV write their networks with it, too.
"""

import struct

import numpy as np

WORDS = ("pool", "norm_region")  # fields whose values are words
OLD_TYPES = {"Convolution": 4, "InnerProduct": 14, "Deconvolution": 39}


def varint(number):
    """A number of variable length; negative ones as 64 bits."""
    number, out = number % (1 << 64), b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number, content, kind=2):
    """A field of bytes, or of another kind whose content is given as it stands in the file."""
    length = varint(len(content)) if kind == 2 else b""
    return varint(8 * number + kind) + length + content


def blob(array, old=False, packed=True):
    """An array; `old`: with four axes and their own fields; float64 arrays as double_data."""
    array = np.asarray(array)
    double = array.dtype == np.float64
    number, code = (8, "<d") if double else (5, "<f")
    data = array.astype(code).tobytes()
    if packed:
        data = field(number, data)
    else:
        size = struct.calcsize(code)
        key = varint(8 * number + (1 if double else 5))
        data = b"".join(key + data[i : i + size] for i in range(0, len(data), size))
    if not old:
        return field(7, field(1, b"".join(map(varint, array.shape)))) + data
    sides = (1,) * (4 - array.ndim) + array.shape
    return b"".join(field(1 + i, varint(side), 0) for i, side in enumerate(sides)) + data


def layer(name, kind, arrays, old=False, packed=True):
    """A layer of a network."""
    blobs = [blob(array, old, packed) for array in arrays]
    if old:
        content = field(4, name.encode()) + field(5, varint(OLD_TYPES.get(kind, 0)), 0)
        return field(2, content + b"".join(field(6, content) for content in blobs))
    content = field(1, name.encode()) + field(2, kind.encode())
    return field(100, content + b"".join(field(7, content) for content in blobs))


def caffemodel(layers, old=False, packed=True):
    """A `.caffemodel`.

    Args:
        layers: {name: (type, [arrays])}.
        old: as Caffe wrote them before 2015.
        packed: whether numbers stand together, as Caffe writes them.

    Returns:
        bytes.
    """
    parts = (layer(name, kind, arrays, old, packed) for name, (kind, arrays) in layers.items())
    return field(1, b"a network") + b"".join(parts)


def text(value):
    """A message as text: dicts are messages, lists repeated fields, texts quoted but for those of `WORDS`."""
    parts = []
    for name, values in value.items():
        for one in values if isinstance(values, list) else [values]:
            if isinstance(one, dict):
                parts.append(f"{name} {{ {text(one)} }}")
            elif isinstance(one, str) and name not in WORDS:
                parts.append(f'{name}: "{one}"')
            else:
                parts.append(f"{name}: {str(one).lower() if isinstance(one, bool) else one}")
    return " ".join(parts)


def prototxt(inputs, layers):
    """A `.prototxt`.

    Args:
        inputs: {name: shape}.
        layers: list of dicts, as `text` takes them.

    Returns:
        str.
    """
    heads = [
        text({"input": name, "input_shape": {"dim": list(shape)}}) for name, shape in inputs.items()
    ]
    return "\n".join(['name: "net"', *heads, *(f"layer {{ {text(one)} }}" for one in layers), ""])
