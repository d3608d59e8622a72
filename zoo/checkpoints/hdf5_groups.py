"""The metadata of an HDF5 file: an object's header messages, and a group's links.

It follows the "HDF5 File Format Specification Version 3.0": headers of both versions; groups as symbol
tables (h5py's default), as links in the header and in a heap (`hdf5_heaps`). Soft and external links
are refused.
"""

from kerasdet.zoo.checkpoints.errors import REWRITE, printable
from kerasdet.zoo.checkpoints.hdf5_heaps import stored_links
from kerasdet.zoo.checkpoints.source import Fields

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL_FILES, LAYOUT = 1, 2, 3, 6, 7, 8
GROUP_INFO, CONTINUATION, SYMBOL_TABLE = 10, 16, 17
MOST_BLOCKS = 256  # of one object's header
SHARED = 2  # message flag: the message is elsewhere
SYMBOLIC = 2  # kind of a symbol table's entry


def messages(source, address):
    """Return the messages of an object's header.

    Args:
        source: the `Source`.
        address: address of the header.

    Returns:
        {message type: list of bytes}.

    Raises:
        CheckpointError: damaged, or a message that is shared between objects.
    """
    newer = source.read(address, 4) == b"OHDR"
    start, size, tracked = (_new_prefix if newer else _old_prefix)(source, address)
    blocks, found = [(start, size)], {}
    for block in blocks:  # grows while it is read
        for kind, flags, data in _block(source, *block, newer, tracked):
            if flags & SHARED and kind in (DATASPACE, DATATYPE, LAYOUT):
                raise source.fault(f"shares a header message of type {kind}", REWRITE)
            found.setdefault(kind, []).append(data)
            if kind == CONTINUATION:
                blocks.append(_next_block(source, Fields(source, data), newer))
        if len(blocks) > MOST_BLOCKS:
            raise source.fault(
                f"has an object of more than {MOST_BLOCKS} header blocks at {address}"
            )
    return found


def _block(source, start, size, newer, tracked):
    """Return (type, flags, bytes) of each message in a block of a header."""
    fields = Fields(source, source.read(start, size))
    least = (6 if tracked else 4) if newer else 8
    while len(fields.data) - fields.position >= least:
        kind, length = fields.number(1 if newer else 2), fields.number(2)
        flags = fields.number(1)
        fields.take(least - (4 if newer else 5))
        source.charge(64 + length)
        yield kind, flags, fields.take(length)


def _old_prefix(source, address):
    fields = Fields(source, source.read(address, 16))
    if fields.number(1) != 1:
        raise source.fault(f"has no object header at {address}")
    fields.take(7)
    return address + 16, fields.number(4), False


def _new_prefix(source, address):
    flags = source.read(address + 5, 1)[0]
    start = address + 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
    width = 1 << (flags & 3)
    size = int.from_bytes(source.read(start, width), "little")
    return start + width, size, bool(flags & 4)


def _next_block(source, place, newer):
    """Find where a header continues, without the signature and checksum of newer headers."""
    start, size = place.number(8), place.number(8)
    if not newer:
        return start, size
    if source.read(start, 4) != b"OCHK" or size < 8:
        raise source.fault(f"has no continued object header at {start}")
    return start + 4, size - 8


def links(source, found):
    """Return the links of a group.

    Args:
        source: the `Source`.
        found: the group's `messages`.

    Returns:
        List of (name, address of the object's header), by name.

    Raises:
        CheckpointError: damaged, or a link that is soft or leads to another file.
    """
    entries = [_link(source, data) for data in found.get(LINK, ())]
    for data in found.get(SYMBOL_TABLE, ()):
        entries += _symbols(source, Fields(source, data))
    for data in found.get(LINK_INFO, ()):
        entries += [_link(source, data) for data in stored_links(source, Fields(source, data))]
    return sorted(entries)


def _link(source, data):
    """Return (name, address) of a link message."""
    fields = Fields(source, data)
    version, flags = fields.number(1), fields.number(1)
    kind = fields.number(1) if flags & 8 else 0
    fields.take((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    name = fields.take(fields.number(1 << (flags & 3)))
    if version != 1 or kind != 0:
        raise _refused(source, name)
    return _decoded(source, name), fields.number(8)


def _symbols(source, message):
    """Return (name, address) of every symbol table entry: a B-tree over nodes, names in a heap."""
    todo, names = [(message.number(8), None)], _local_heap(source, message.number(8))
    while todo:
        address, level = todo.pop()
        if level == 0:
            yield from _symbol_node(source, address, names)
            continue
        head = Fields(source, source.read(address, 24))
        signature, kind, height = head.take(4), head.number(1), head.number(1)
        # Heights decrease, so that no cycle is followed; leaves of the tree lead to symbol nodes.
        if signature != b"TREE" or kind != 0 or (level is not None and height + 1 != level):
            raise source.fault(f"has no B-tree of a group at {address}")
        used = head.number(2)
        source.charge(128 * used)
        fields = Fields(source, source.read(address + 24, 16 * used))
        while fields.position < len(fields.data):
            fields.take(8)
            todo.append((fields.number(8), height))


def _symbol_node(source, address, names):
    head = Fields(source, source.read(address, 8))
    if head.take(4) != b"SNOD":
        raise source.fault(f"has no symbol table node at {address}")
    head.take(2)
    count = head.number(2)
    fields = Fields(source, source.read(address + 8, 40 * count))
    for _ in range(count):
        start, header, kind = fields.number(8), fields.number(8), fields.number(4)
        fields.take(20)
        end = names.find(b"\0", start)
        if end < 0:
            raise source.fault(f"has a link whose name is not in the heap, at {address}")
        if kind == SYMBOLIC:
            raise _refused(source, names[start:end])
        yield _decoded(source, names[start:end]), header


def _local_heap(source, address):
    head = Fields(source, source.read(address, 32))
    if head.take(4) != b"HEAP":
        raise source.fault(f"has no heap of names at {address}")
    head.take(4)
    size = head.number(8)
    head.take(8)
    return source.read(head.number(8), size)


def _refused(source, name):
    return source.fault(
        f"links {_decoded(source, name[:80], 'replace')} softly or to another file: refused",
        REWRITE,
    )


def _decoded(source, name, errors="strict"):
    source.charge(256 + 5 * len(name))
    try:
        text = name.decode("utf-8", errors)
    except UnicodeDecodeError:
        text = ""
    if not text or "/" in text or "\0" in text:
        raise source.fault(f"has a link with the impossible name {printable(name)}")
    return text
