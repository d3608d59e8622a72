"""PyTorch's container since 1.6, and others that are a zip archive of uncompressed members.

`NAME/data.pkl` is the content, `NAME/data/KEY` are the storages, `NAME/byteorder` (since 2.1) is the
order of their bytes. The archive is read here, not by `zipfile`, so that each number in it is
checked against the file.
"""

from typing import NamedTuple

from kerasdet.zoo.checkpoints.admitted import load
from kerasdet.zoo.checkpoints.errors import RESAVE, printable
from kerasdet.zoo.checkpoints.source import Fields
from kerasdet.zoo.checkpoints.tensors import Region, arrays, state_dict

PICKLE = "/data.pkl"
END, LOCATOR, END64 = 22, 20, 56  # sizes of the records at the archive's end
ENTRY, LOCAL = 46, 30  # sizes of a member's two headers, without their variable parts
IN_EXTRA = 0xFFFFFFFF  # the number is in the extra field, in eight bytes


class Member(NamedTuple):
    """A file in the archive."""

    header: int  # place of its local header
    size: int
    crc: int
    plain: bool  # neither compressed nor encrypted


def read_zip(source):
    """Read a state dict from the zip container.

    Args:
        source: the `Source`.

    Returns:
        {name: array}.

    Raises:
        CheckpointError: damaged, refused, or without a state dict.
    """
    members = list_members(source)
    pickles = [name for name in members if name.endswith(PICKLE) and name.count("/") == 1]
    if len(pickles) != 1:
        raise source.fault(
            f"is a zip archive, but not one of torch.save: it has {len(pickles)} members "
            f"NAME{PICKLE}; its first is {printable(next(iter(members), None))}",
            "give a file that torch.save wrote",
        )
    folder = pickles[0].removesuffix(PICKLE)
    if f"{folder}/constants.pkl" in members:
        raise source.fault("is a TorchScript archive, which holds code", RESAVE)
    order = members.get(f"{folder}/byteorder")
    if order is not None:
        start, size, _ = region(source, f"{folder}/byteorder", order)
        if source.read(start, size) != b"little":
            raise source.fault("comes from a big-endian machine, by its member byteorder", RESAVE)
    pickle = region(source, pickles[0], members[pickles[0]])
    source.verify(*pickle)
    source.seek(pickle.start)
    content, _ = load(source)
    if source.position != pickle.start + pickle.size:
        raise source.fault("has a pickle whose length is not that of its member")
    tensors = state_dict(source, content)
    used = {tensor.storage.key for tensor in tensors.values()}
    names = {key: f"{folder}/data/{key}" for key in used}
    regions = {
        key: region(source, name, members[name]) for key, name in names.items() if name in members
    }
    return arrays(source, tensors, regions)


def list_members(source):
    """Read an archive's directory.

    Args:
        source: the `Source`.

    Returns:
        {name: `Member`}.

    Raises:
        CheckpointError: it is damaged, or names a member twice.
    """
    count, size, start = _directory(source)
    if start + size > source.size or count * ENTRY > size:
        raise source.fault(
            f"has a zip directory of {count} members at {start} that exceeds the file"
        )
    fields, members = Fields(source, source.read(start, size)), {}
    for _ in range(count):
        name, member = _entry(source, fields)
        if name in members:
            raise source.fault(f"has two members {printable(name)}")
        members[name] = member
    return members


def _directory(source):
    """Return (members, bytes, first byte) of the directory, from the records at the archive's end."""
    end = Fields(source, source.read(source.size - END, END))
    if end.take(4) != b"PK\x05\x06":
        raise source.fault("is cut short: there is no record of a zip archive at its end")
    end.take(6)
    count, size, start = end.number(2), end.number(4), end.number(4)
    if source.size < END + LOCATOR + END64:
        return count, size, start
    locator = Fields(source, source.read(source.size - END - LOCATOR, LOCATOR))
    if locator.take(8) != b"PK\x06\x07" + bytes(4):
        return count, size, start
    large = Fields(source, source.read(locator.number(8), END64))
    if large.take(4) != b"PK\x06\x06":
        raise source.fault("has a damaged zip directory: its record of 64 bits is elsewhere")
    large.take(28)
    return large.number(8), large.number(8), large.number(8)


def _entry(source, fields):
    """Read one entry of the directory: (name, Member)."""
    if fields.take(4) != b"PK\x01\x02":
        raise source.fault("has a damaged zip directory")
    fields.take(4)
    encrypted, method = fields.number(2) & 1, fields.number(2)
    fields.take(4)
    crc, *numbers = (fields.number(4) for _ in range(3))
    length, extra_length, comment_length = (fields.number(2) for _ in range(3))
    fields.take(8)
    numbers.append(fields.number(4))
    source.charge(512 + 5 * length)
    try:
        name = fields.take(length).decode("utf-8")
    except UnicodeDecodeError:
        raise source.fault("has a member whose name is not UTF-8") from None
    stored, size, header = _widened(Fields(source, fields.take(extra_length)), numbers)
    fields.take(comment_length)
    return name, Member(header, size, crc, method == 0 and not encrypted and stored == size)


def _widened(extra, numbers):
    """Return sizes and place of a member; those of 64 bits come from the extra field."""
    stored, size, header = numbers
    while IN_EXTRA in numbers and extra.position < len(extra.data):
        kind, length = extra.number(2), extra.number(2)
        field = Fields(extra.source, extra.take(length))
        if kind == 1:
            size = field.number(8) if size == IN_EXTRA else size
            stored = field.number(8) if stored == IN_EXTRA else stored
            header = field.number(8) if header == IN_EXTRA else header
            break
    return stored, size, header


def region(source, name, member, writer="torch.save", fix=RESAVE):
    """Find a member's bytes.

    Args:
        source: the `Source`.
        name: the member's name, for errors.
        member: the `Member`.
        writer: what writes such archives, for errors.
        fix: what the reader of an error should do.

    Returns:
        `Region`.

    Raises:
        CheckpointError: it is compressed or encrypted, or lies elsewhere.
    """
    if not member.plain:
        raise source.fault(
            f"has {printable(name)} compressed or encrypted, which {writer} never does", fix
        )
    local = Fields(source, source.read(member.header, LOCAL))
    if local.take(4) != b"PK\x03\x04":
        raise source.fault(f"has no member {printable(name)} at byte {member.header}")
    local.take(22)
    return Region(
        member.header + LOCAL + local.number(2) + local.number(2), member.size, member.crc
    )
