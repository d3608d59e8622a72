"""The names that PyTorch's pickles may use, and what each of them stands for here."""

from typing import NamedTuple

import numpy as np

from kerasdet.zoo.checkpoints.errors import printable, refusal
from kerasdet.zoo.checkpoints.pickles import Name, interpret, keys
from kerasdet.zoo.checkpoints.source import STORED, is_possible


class Storage(NamedTuple):
    """Elements outside the pickle, or a part of them."""

    key: str
    dtype: str
    count: int  # of the whole storage
    begin: int  # the part's first element
    end: int  # the element after the part's last one


class Tensor(NamedTuple):
    """A view of a storage, in elements."""

    storage: Storage
    offset: int
    size: tuple
    stride: tuple


class NumpyType(NamedTuple):
    """The element type of a NumPy number."""

    code: str


def load(source):
    """Read one pickle of a PyTorch file.

    Args:
        source: the `Source`, at the pickle's first byte.

    Returns:
        Its value, made of dicts, lists, tuples, sets, texts, numbers and `Tensor`s; and the storages that
        it mentions, {key: `Storage`}.

    Raises:
        CheckpointError: the pickle is damaged, or asks for anything else.
    """
    storages = {}

    def persistent(source, value):
        storage = _storage(source, value)
        known = storages.setdefault(storage.key, storage)
        if (known.dtype, known.count) != (storage.dtype, storage.count):
            raise source.fault(f"describes the storage {printable(storage.key)} in two ways")
        return storage

    return interpret(source, NAMES, persistent, _check_state), storages


def _take(source, what, args, *kinds):
    """Check the types of a call's first arguments."""
    if len(args) < len(kinds) or any(type(arg) is not kind for arg, kind in zip(args, kinds)):
        found = ", ".join(map(printable, args[: len(kinds)]))
        raise source.fault(f"has a damaged pickle: {what} of ({found})")
    return args[: len(kinds)]


def _storage(source, value):
    """Return a persistent id's storage: (zip) five entries, (legacy) a sixth, the part or None."""
    value = value if type(value) is tuple else ()
    mark, kind, key, _, count = _take(source, "a storage", value, str, Name, str, str, int)
    part = value[5] if len(value) > 5 else None
    if mark != "storage" or kind.text not in STORAGES or count < 0:
        raise source.fault(f"has a damaged pickle: a storage of {printable(count)} {kind.text}")
    begin, end = 0, count
    if part is not None:
        part = part if type(part) is tuple else ()
        _, begin, length = _take(source, "a part of a storage", part, str, int, int)
        end = begin + length
    if not 0 <= begin <= end <= count:
        raise source.fault(f"has a part of the storage {printable(key)} that exceeds it")
    return Storage(key, STORAGES[kind.text], count, begin, end)


def _tensor(source, args):
    storage, offset, size, stride = _take(source, "a tensor", args, Storage, int, tuple, tuple)
    if any(type(n) is not int or n < 0 for numbers in ((offset,), size, stride) for n in numbers):
        raise source.fault("has a tensor whose offset, size or stride is not a count")
    if len(size) != len(stride) or not is_possible(size):
        raise source.fault(f"has a tensor of {len(size)} axes in an impossible shape")
    return Tensor(storage, offset, size, stride)


def _tensor_v2(source, args):
    _check_metadata(source, args[6:])
    return _tensor(source, args)


def _tensor_v3(source, args):
    """Return a tensor of a newer dtype, whose storage is plain bytes."""
    _take(source, "a tensor", args, Storage, int, tuple, tuple, bool, dict, Name)
    _check_metadata(source, args[7:])
    storage, dtype = args[0], args[6].text.removeprefix("torch.")
    if dtype not in STORED or storage.dtype != "uint8":
        raise source.fault(f"has a damaged pickle: a tensor of {dtype} in {storage.dtype}")
    whole, *rest = (number // STORED[dtype].itemsize for number in storage[2:])
    return _tensor(source, (Storage(storage.key, dtype, whole, *rest), *args[1:4]))


def _check_metadata(source, args):
    """Refuse metadata, which would say that the elements are to be negated or conjugated."""
    if any(args):
        raise refusal(source, "a tensor with metadata (a negated or conjugated view)")


def _parameter(source, args):
    return _take(source, "a parameter", args, Tensor)[0]


def _ordered_dict(source, args):
    pairs = _take(source, "OrderedDict", args, list)[0] if args else []
    if any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
        raise source.fault("has a damaged pickle: an OrderedDict of items that are not pairs")
    source.charge(256 * len(pairs))
    return dict(zip(keys(source, [key for key, _ in pairs]), [value for _, value in pairs]))


def _counter(source, args):
    return _take(source, "Counter", args, dict)[0] if args else {}


def _set(source, args):
    (members,) = _take(source, "a set", args, list)
    source.charge(256 * len(members))
    return set(keys(source, members))


def _size(source, args):
    return _take(source, "torch.Size", args, tuple)[0]


def _device(source, args):
    return _take(source, "torch.device", args, str)[0]


def _bytes(source, args):
    """Return bytes as protocol 2 stores them: a text of the characters 0 to 255."""
    text, _ = _take(source, "bytes", args, str, str)
    source.charge(len(text))
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise source.fault("has a damaged pickle: bytes beyond 255") from None


def _numpy_type(source, args):
    (code,) = _take(source, "numpy.dtype", args, str)
    if code not in NUMPY_TYPES:
        raise refusal(source, f"numpy.dtype({printable(code)})")
    return NumpyType(code)


def _numpy_number(source, args):
    """Convert a NumPy number, which optimizers and schedulers hold, to Python's."""
    kind, data = args if len(args) == 2 else (None, None)
    fits = (
        type(kind) is NumpyType and type(data) in (bytes, str) and len(data) == int(kind.code[1:])
    )
    if not fits or (type(data) is str and not data.isascii()):
        raise source.fault("has a damaged pickle: a NumPy number of another size than its type")
    data = data.encode() if type(data) is str else data  # a string of Python 2
    return np.frombuffer(data, f"<{kind.code}")[0].item()


def _check_state(source, value, state):
    """Allow state on state dicts (`_metadata`) and on NumPy's types (byte order) only."""
    if type(value) is NumpyType:
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", "|"):
            raise refusal(source, "a NumPy number that is not little-endian")
    elif type(value) is not dict or type(state) is not dict:
        raise refusal(source, f"state on a {type(value).__name__}")


STORAGES = {
    "torch.BoolStorage": "bool",
    "torch.ByteStorage": "uint8",
    "torch.CharStorage": "int8",
    "torch.ShortStorage": "int16",
    "torch.IntStorage": "int32",
    "torch.LongStorage": "int64",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.FloatStorage": "float32",
    "torch.DoubleStorage": "float64",
    "torch.storage.UntypedStorage": "uint8",
    "torch.storage._UntypedStorage": "uint8",
}
NUMPY_TYPES = (*("b1", "i1", "i2", "i4", "i8"), *("u1", "u2", "u4", "u8", "f2", "f4", "f8"))
CALLS = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "collections.OrderedDict": _ordered_dict,
    "collections.Counter": _counter,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "_codecs.encode": _bytes,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_number,
    "numpy._core.multiarray.scalar": _numpy_number,
}
NAMES = {text: Name(text) for text in (*STORAGES, *(f"torch.{dtype}" for dtype in STORED))}
NAMES |= {text: Name(text, call) for text, call in CALLS.items()}
