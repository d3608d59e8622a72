"""Caffe's `.prototxt` files: protobuf's text format, read into messages.

    layer { name: "conv1" type: "Convolution" convolution_param { num_output: 96 stride: 2 } }

A field is a name with a value or a message, and may stand several times. Values are texts in quotation
marks, numbers, and words (true, MAX); they are checked where they are asked for.
"""

import math
import re
from pathlib import Path

from kerasdet.zoo.checkpoints.errors import CheckpointError, printable

LARGEST = 4 << 20  # bytes; R-FCN on ResNet-101 has 150 kB
DEEPEST = 16
MOST_FIELDS = 200_000
LONGEST = 40  # characters of a number
TOKEN = re.compile(
    r"""[ \t\r\n\f\v]+ | \#[^\n]*"""
    r""" | (?P<word>[A-Za-z_][A-Za-z0-9_./]*) | (?P<number>[-+]?[0-9.][A-Za-z0-9_.+-]*|-[A-Za-z]+)"""
    r""" | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*') | (?P<sign>[{}<>:;,\[\]])""",
    re.VERBOSE,
)
CLOSING = {"{": "}", "<": ">"}


class Message:
    """A message of a prototxt.

    Args:
        path: the file's name, for errors.
        name: the field that holds it; "" for the whole file.
        line: number of the line where it begins.
    """

    def __init__(self, path, name, line):
        self.path = path
        self.name = name
        self.line = line
        self.fields = {}  # name: list of (value, line)

    def fault(self, what, fix, line=None):
        """Return the error to raise.

        Args:
            what: what is wrong.
            fix: what the reader should do.
            line: number of the line; default where the message begins.

        Returns:
            `CheckpointError`.
        """
        place = f", {printable(self.name)}" if self.name else ""
        return CheckpointError(f"{self.path}, line {line or self.line}{place}: {what}. Fix: {fix}.")

    def messages(self, name):
        """Return the messages of a field.

        Raises:
            CheckpointError: one of them is a plain value.
        """
        return [self._message(name, *entry) for entry in self.fields.get(name, ())]

    def message(self, name):
        """Return the message of a field that stands at most once; an empty one where it is missing.

        Raises:
            CheckpointError: it is a plain value, or there are several.
        """
        found = self.fields.get(name, ())
        self._check_single(name, found)
        return self._message(name, *found[0]) if found else Message(self.path, name, self.line)

    def text(self, name, default=""):
        """Return a text or word.

        Raises:
            CheckpointError: it is a message, or stands several times.
        """
        return self._single(name, default)[0]

    def integer(self, name, default):
        """Return a whole number that is not negative.

        Raises:
            CheckpointError: it is something else, or stands several times.
        """
        text, line = self._single(name, str(default))
        return self._whole(name, text, line)

    def integers(self, name):
        """Return all whole numbers of a field.

        Raises:
            CheckpointError: one of them is something else.
        """
        return [
            self._whole(name, self._plain(name, value, line), line)
            for value, line in self.fields.get(name, ())
        ]

    def number(self, name, default):
        """Return a finite number.

        Raises:
            CheckpointError: it is something else, or stands several times.
        """
        text, line = self._single(name, str(default))
        try:
            value = float(text.rstrip("fF")) if len(text) <= LONGEST else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.fault(f"{name} is {printable(text)!r}", "give a number", line)
        return value

    def flag(self, name, default):
        """Return true or false.

        Raises:
            CheckpointError: it is something else, or stands several times.
        """
        text, line = self._single(name, str(default).lower())
        if text not in ("true", "false", "1", "0"):
            raise self.fault(f"{name} is {printable(text)!r}", "give true or false", line)
        return text in ("true", "1")

    def _whole(self, name, text, line):
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise self.fault(f"{name} is {printable(text)!r}", "give a whole number", line)
        return int(text)

    def _single(self, name, default):
        found = self.fields.get(name, ())
        self._check_single(name, found)
        if not found:
            return default, self.line
        value, line = found[0]
        return self._plain(name, value, line), line

    def _check_single(self, name, found):
        if len(found) > 1:
            raise self.fault(f"{name} stands {len(found)} times", "give it once", found[1][1])

    def _plain(self, name, value, line):
        if isinstance(value, Message):
            raise self.fault(f"{name} is a message", "give a plain value", line)
        return value

    def _message(self, name, value, line):
        if not isinstance(value, Message):
            raise self.fault(f"{name} is {printable(value)!r}", "give a message { ... }", line)
        return value


def read_prototxt(path):
    """Read a prototxt.

    Args:
        path: the file.

    Returns:
        `Message`, the whole file.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: too large, no text, or not in protobuf's text format; names the file, the line and
            the fix.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no network file {path}.")
    if path.stat().st_size > LARGEST:
        raise CheckpointError(
            f"{path} has {path.stat().st_size} bytes, more than a network of Caffe. Fix: give the "
            ".caffemodel first and the .prototxt second."
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CheckpointError(
            f"{path} is no text. Fix: give the .caffemodel first and the .prototxt second."
        ) from None
    return _Parser(path, text).whole()


class _Parser:
    """Reads a text from its beginning to its end."""

    def __init__(self, path, text):
        self.path = path
        self.tokens = self._tokens(text)
        self.count = 0
        self._next()

    def whole(self):
        """Return the message that the text is."""
        message = Message(self.path, "", 1)
        self._fields(message, "", 0)
        return message

    def _tokens(self, text):
        """Yield (kind, token, line), at last ("end", "", line)."""
        place, line = 0, 1
        while place < len(text):
            found = TOKEN.match(text, place)
            if not found:
                raise self._fault(f"{printable(text[place : place + 20])!r} is no prototxt", line)
            if found.lastgroup:
                yield found.lastgroup, found.group(), line
            line += found.group().count("\n")
            place = found.end()
        yield "end", "", line

    def _next(self):
        self.kind, self.token, self.line = next(self.tokens)

    def _take(self, *tokens):
        """Move on if the current token is one of these, and return it."""
        token = self.token
        if self.kind != "sign" or token not in tokens:
            return None
        self._next()
        return token

    def _fields(self, message, closing, depth):
        """Read the fields of a message up to its closing sign, or the end of the text."""
        if depth > DEEPEST:
            raise self._fault(f"messages lie deeper than {DEEPEST} levels", self.line)
        while not (self._take(closing) if closing else self.kind == "end"):
            if self.kind != "word":
                wanted = f"a field or {closing!r}" if closing else "a field"
                raise self._fault(f"{wanted} is due, not {self._shown()}", self.line)
            name = self.token
            self._next()
            values = message.fields.setdefault(name, [])
            colon = self._take(":")
            if colon and self._take("["):
                while not self._take("]"):
                    values.append(self._value(name, True, depth))
                    self._take(",")
            else:
                values.append(self._value(name, colon, depth))
            self._take(";", ",")

    def _value(self, name, colon, depth):
        """Read a message or, behind a colon, a plain value: (value, line)."""
        self.count += 1
        if self.count > MOST_FIELDS:
            raise self._fault(f"there are more than {MOST_FIELDS} fields", self.line)
        line = self.line
        if opening := self._take(*CLOSING):
            message = Message(self.path, name, line)
            self._fields(message, CLOSING[opening], depth + 1)
            return message, line
        if not colon or self.kind not in ("word", "number", "text"):
            wanted = "a value" if colon else "':' or '{'"
            raise self._fault(f"{wanted} is due behind {name}, not {self._shown()}", line)
        if self.kind != "text":
            value = self.token
            self._next()
            return value, line
        parts = []
        while self.kind == "text":  # texts that follow each other are one
            parts.append(re.sub(r"\\(.)", r"\1", self.token[1:-1]))
            self._next()
        return "".join(parts), line

    def _shown(self):
        return "the end of the file" if self.kind == "end" else repr(printable(self.token))

    def _fault(self, what, line):
        return CheckpointError(
            f"{self.path}, line {line}: {what}. Fix: give a network file of Caffe in protobuf's text format."
        )
