"""Links of larger groups in newer HDF5 files: messages in a fractal heap, found by a B-tree.

It follows the "HDF5 File Format Specification Version 3.0", sections III.A.2 (version 2 B-trees) and
III.G (fractal heap). Heaps with more than one level of blocks, which hold tens of thousands of links,
are refused.
"""

from kerasdet.zoo.checkpoints.errors import REWRITE
from kerasdet.zoo.checkpoints.source import Fields

NOWHERE = (1 << 64) - 1  # the address of objects that do not exist


def stored_links(source, message):
    """Generate the link messages of a large group.

    Args:
        source: the `Source`.
        message: `Fields` of the group's link info message.

    Yields:
        bytes of one link message.

    Raises:
        CheckpointError: damaged, or larger than any group of weights.
    """
    message.take(1)
    message.take(8 if message.number(1) & 1 else 0)
    heap_address, tree_address = message.number(8), message.number(8)
    if heap_address == NOWHERE:
        return
    width, length_width, blocks = _fractal_heap(source, heap_address)
    for identity in _records(source, tree_address):
        fields = Fields(source, identity)
        if fields.number(1) >> 4 & 3:
            raise source.fault("has a link with a very long name", REWRITE)
        offset, length = fields.number(width), fields.number(length_width)
        for first, size, address in blocks:
            if first <= offset and offset + length <= first + size:
                yield source.read(address + offset - first, length)
                break
        else:
            raise source.fault(f"has a link outside its heap at {heap_address}")


def _fractal_heap(source, address):
    """Return the bytes of an offset and of a length in it, and its blocks (first offset, size, address)."""
    head = Fields(source, source.read(address, 142))
    signature, _, _, filters, _ = (head.take(4), *(head.number(n) for n in (1, 2, 2, 1)))
    largest = head.number(4)
    head.take(96)
    columns, size, largest_block = head.number(2), head.number(8), head.number(8)
    bits = head.number(2)
    head.take(2)
    root, rows = head.number(8), head.number(2)
    powers = all(value & (value - 1) == 0 < value for value in (size, largest_block))
    if signature != b"FRHP" or filters or not powers or not largest or rows > 64:
        raise source.fault(f"has no plain fractal heap at {address}")
    width = (bits + 7) // 8
    length_width = min((largest_block.bit_length() + 6) // 8, (largest.bit_length() + 7) // 8)
    if rows == 0:
        return width, length_width, [(0, size, root)]
    source.charge(128 * rows * columns)
    table = Fields(source, source.read(root, 13 + width + 8 * rows * columns))
    if table.take(13 + width)[:4] != b"FHIB":
        raise source.fault(f"has no indirect block at {root}")
    blocks, first = [], 0
    for row in range(rows):
        block = size << max(row - 1, 0)
        if block > largest_block:
            raise source.fault("has a group of too many links", REWRITE)
        for _ in range(columns):
            blocks.append((first, block, table.number(8)))
            first += block
    return width, length_width, [entry for entry in blocks if entry[2] != NOWHERE]


def _records(source, address):
    """Return the heap's identities of links, from a B-tree of version 2, type 5."""
    head = Fields(source, source.read(address, 34))
    signature, _, kind, node, record, depth = (
        *(head.take(4), head.number(1), head.number(1)),
        *(head.number(4), head.number(2), head.number(2)),
    )
    head.take(2)
    todo = [(head.number(8), head.number(2), depth)]
    if signature != b"BTHD" or kind != 5 or depth > 8 or record < 8 or node < 64:
        raise source.fault(f"has no B-tree of links at {address}")
    widths, pointer = _widths(node, record, depth)
    while todo:
        address, count, level = todo.pop()
        if address == NOWHERE or count == 0:
            continue
        source.charge(128 * (count + 1))
        fields = Fields(source, source.read(address, node))
        if fields.take(6)[:4] != (b"BTIN" if level else b"BTLF"):
            raise source.fault(f"has no node of a B-tree at {address}")
        for _ in range(count):
            yield fields.take(record)[4:]
        for _ in range(count + 1 if level else 0):
            todo.append((fields.number(8), fields.number(pointer), level - 1))
            fields.take(widths[level - 1])


def _widths(node, record, depth):
    """Return the bytes of a subtree's total count, by the subtree's depth, and of a node's own count."""
    most = total = (node - 10) // record
    pointer = _bytes_for(most)
    widths = [0]  # a leaf's total is its own count and is not repeated
    for level in range(1, depth + 1):
        child = 8 + pointer + widths[level - 1]
        most = (node - 10 - child) // (record + child)
        total = (most + 1) * total + most
        widths.append(_bytes_for(total))
    return widths, pointer


def _bytes_for(number):
    return (max(number, 1).bit_length() + 7) // 8
