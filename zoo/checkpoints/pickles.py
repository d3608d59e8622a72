"""A reader of pickles that runs nothing: plain values, and the few names that its caller admits.

It interprets the opcodes that pickle protocols 2 to 5 write for plain containers. A name is looked
up in the caller's table and never imported; every other name and opcode is refused. Nothing here
recurses, keys are never containers (the hash of a nested tuple would recurse), and each value is
charged to the file's memory before it is made.
"""

import pickletools
import struct
from collections.abc import Callable
from typing import NamedTuple

from kerasdet.zoo.checkpoints.errors import RESAVE, printable, refusal

LONGEST_NAME = 256
KEYS = (str, bytes, int, float, bool, type(None))
PAIR = 160  # bytes of an entry of a dict or set at the moment when its table grows
OPCODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


class Name(NamedTuple):
    """A name that a pickle may use.

    `call(source, args)` returns the value of a call; None: it must not be called.
    """

    text: str
    call: Callable | None = None


def keys(source, values):
    """Check the keys of a dict or the members of a set.

    Args:
        source: the `Source`.
        values: list of the keys or members.

    Returns:
        The list.

    Raises:
        CheckpointError: one is not a text, number or None.
    """
    for value in values:
        if type(value) not in KEYS:
            raise source.fault(
                f"has a {type(value).__name__} as a key: refused; keys are texts and numbers",
                RESAVE,
            )
    return values


def interpret(source, names, persistent, build):
    """Read one pickle to its end.

    Args:
        source: the `Source`, at the pickle's first byte.
        names: {dotted name: `Name`} that may be used.
        persistent: function (source, id) that returns the value of a persistent id.
        build: function (source, value, state) that checks the state set on a value; it changes nothing.

    Returns:
        Its value.

    Raises:
        CheckpointError: the pickle is damaged, too large, or asks for something that is not admitted.
    """
    return _Machine(source, names, persistent, build).run()


class _Machine:
    def __init__(self, source, names, persistent, build):
        self.source = source
        self.names = names
        self.persistent = persistent
        self.build = build
        self.stack = []
        self.marked = []
        self.memo = {}

    def run(self):
        while True:
            name = OPCODES.get(self.number(1))
            if name == "STOP":
                return self.pop()
            operation = OPERATIONS.get(name)
            if operation is None:
                self.refuse(f"the pickle opcode {name or 'that no protocol has'}")
            operation(self)

    def fault(self, what):
        return self.source.fault(f"has a damaged pickle: {what} at byte {self.source.position}")

    def refuse(self, what):
        raise refusal(self.source, what)

    def number(self, count, signed=False):
        return int.from_bytes(self.source.take(count), "little", signed=signed)

    def push(self, value, cost=0):
        self.source.charge(cost + 16)
        self.stack.append(value)

    def pop(self):
        self.top()
        return self.stack.pop()

    def top(self, kind=None):
        if not self.stack or kind not in (None, type(self.stack[-1])):
            raise self.fault(f"no {kind.__name__ if kind else 'value'} to work on")
        return self.stack[-1]

    def mark(self):
        self.source.charge(96)
        self.marked.append(self.stack)
        self.stack = []

    def pop_mark(self):
        if not self.marked:
            raise self.fault("no mark")
        items, self.stack = self.stack, self.marked.pop()
        return items

    def raw(self, length):
        count = self.number(length)
        self.source.charge(64 + count)
        return self.source.take(count)

    def text(self, length):
        count = self.number(length)
        self.source.charge(64 + 5 * count)  # the bytes, and up to four for each of them
        return self.decode(self.source.take(count))

    def decode(self, data):
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise self.fault("a text that is not UTF-8") from None

    def old_string(self, length):
        """Read a string of Python 2, which was text or bytes: text if it is ASCII."""
        data = self.raw(length)
        self.push(data.decode("ascii") if data.isascii() else data, len(data) + 64)

    def line(self):
        data = b""
        while not data.endswith(b"\n"):
            data += self.source.take(1)
            if len(data) > LONGEST_NAME:
                raise self.fault(f"a name longer than {LONGEST_NAME} bytes")
        return self.decode(data[:-1])

    def name(self, module, name):
        text = f"{module}.{name}"
        if text not in self.names:
            self.refuse(printable(text))
        self.push(self.names[text])

    def stack_name(self):
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise self.fault("a name that is not a text")
        self.name(module, name)

    def call(self):
        args, name = self.pop(), self.pop()
        if type(args) is not tuple or not isinstance(name, Name) or name.call is None:
            raise self.fault(f"a call of {getattr(name, 'text', type(name).__name__)}")
        self.push(name.call(self.source, args), 512)

    def set_state(self):
        state = self.pop()
        self.build(self.source, self.top(), state)

    def remember(self, index):
        self.source.charge(PAIR + 32)
        self.memo[index] = self.top()

    def recall(self, index):
        if index not in self.memo:
            raise self.fault(f"no value number {index}")
        self.push(self.memo[index])

    def bundle(self, items):
        self.push(tuple(items), 64 + 8 * len(items))

    def last(self, count):
        return [self.pop() for _ in range(count)][::-1]

    def append(self, items):
        self.source.charge(24 * len(items))
        self.top(list).extend(items)

    def set_items(self, items):
        if len(items) % 2:
            raise self.fault("a key without a value")
        self.source.charge(PAIR * len(items))
        self.top(dict).update(zip(keys(self.source, items[::2]), items[1::2]))

    def add_items(self, items):
        self.source.charge(PAIR * len(items))
        self.top(set).update(keys(self.source, items))


OPERATIONS = {
    "PROTO": lambda m: m.number(1),
    "FRAME": lambda m: m.number(8),
    "NONE": lambda m: m.push(None),
    "NEWTRUE": lambda m: m.push(True),
    "NEWFALSE": lambda m: m.push(False),
    "BININT": lambda m: m.push(m.number(4, signed=True), 32),
    "BININT1": lambda m: m.push(m.number(1)),
    "BININT2": lambda m: m.push(m.number(2), 32),
    "LONG1": lambda m: m.push(m.number(m.number(1), signed=True), 320),
    "BINFLOAT": lambda m: m.push(struct.unpack(">d", m.source.take(8))[0], 32),
    "BINUNICODE": lambda m: m.push(m.text(4)),
    "SHORT_BINUNICODE": lambda m: m.push(m.text(1)),
    "BINBYTES": lambda m: m.push(m.raw(4)),
    "SHORT_BINBYTES": lambda m: m.push(m.raw(1)),
    "BINSTRING": lambda m: m.old_string(4),
    "SHORT_BINSTRING": lambda m: m.old_string(1),
    "EMPTY_TUPLE": lambda m: m.push(()),
    "EMPTY_LIST": lambda m: m.push([], 64),
    "EMPTY_DICT": lambda m: m.push({}, 72),
    "EMPTY_SET": lambda m: m.push(set(), 232),
    "MARK": _Machine.mark,
    "TUPLE": lambda m: m.bundle(m.pop_mark()),
    "TUPLE1": lambda m: m.bundle(m.last(1)),
    "TUPLE2": lambda m: m.bundle(m.last(2)),
    "TUPLE3": lambda m: m.bundle(m.last(3)),
    "APPEND": lambda m: m.append(m.last(1)),
    "APPENDS": lambda m: m.append(m.pop_mark()),
    "SETITEM": lambda m: m.set_items(m.last(2)),
    "SETITEMS": lambda m: m.set_items(m.pop_mark()),
    "ADDITEMS": lambda m: m.add_items(m.pop_mark()),
    "BINPUT": lambda m: m.remember(m.number(1)),
    "LONG_BINPUT": lambda m: m.remember(m.number(4)),
    "MEMOIZE": lambda m: m.remember(len(m.memo)),
    "BINGET": lambda m: m.recall(m.number(1)),
    "LONG_BINGET": lambda m: m.recall(m.number(4)),
    "BINPERSID": lambda m: m.push(m.persistent(m.source, m.pop()), 256),
    "GLOBAL": lambda m: m.name(m.line(), m.line()),
    "INST": lambda m: m.refuse(printable(f"{m.line()}.{m.line()}")),
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.set_state,
}
