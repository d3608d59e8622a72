"""Darknet's `.cfg` files: sections in the order of the network, each with options.

Every number is checked where it is asked for, and every option must be known to whoever reads the section,
so that a network with unknown arithmetic is refused instead of being computed wrongly.
"""

import math
from pathlib import Path

from kerasdet.zoo.checkpoints.errors import CheckpointError, printable

LARGEST = 1 << 20  # bytes; Darknet's own largest has 14 kB
MOST_SECTIONS = 1000
MOST_NUMBERS = 1000  # of a list
LARGEST_NUMBER = 1 << 24


class Section:
    """A section of a `.cfg` file.

    Args:
        path: the file's name, for errors.
        kind: its name, such as "convolutional".
        line: number of the line where it begins.
    """

    def __init__(self, path, kind, line):
        self.path = path
        self.kind = kind
        self.line = line
        self.options = {}  # name: (text, line); Darknet takes the first of equal names

    def fault(self, what, fix, line=None):
        """Return the error to raise.

        Args:
            what: what is wrong.
            fix: what the reader should do.
            line: number of the line; default where the section begins.

        Returns:
            `CheckpointError`.
        """
        where = f"{self.path}, line {line or self.line}, [{printable(self.kind)}]"
        return CheckpointError(f"{where}: {what}. Fix: {fix}.")

    def admit(self, *names):
        """Refuse options other than these.

        Raises:
            CheckpointError: there is another one; names it and its line.
        """
        for name, (_, line) in self.options.items():
            if name not in names:
                raise self.fault(
                    f"the option {printable(name)!r} is unknown here",
                    "remove it, if the network does not depend on it",
                    line,
                )

    def integer(self, name, default=None, least=1, most=LARGEST_NUMBER):
        """Read a whole number.

        Args:
            name: the option.
            default: Darknet's value where it is missing, checked as well; None: it must not be missing.
            least: the smallest that is allowed.
            most: the largest.

        Raises:
            CheckpointError: it is missing, no whole number or out of its range.
        """
        return int(self._number(name, default, least, most, int, "a whole number"))

    def number(self, name, default=None, least=-LARGEST_NUMBER, most=LARGEST_NUMBER):
        """Read a number; see `integer`."""
        return self._number(name, default, least, most, float, "a number")

    def word(self, name, choices, default):
        """Read a word.

        Args:
            name: the option.
            choices: the words that are known.
            default: the word where it is missing.

        Raises:
            CheckpointError: another word.
        """
        text, line = self.options.get(name, (default, self.line))
        if text not in choices:
            raise self.fault(f"{name} is {printable(text)!r}", f"use {' or '.join(choices)}", line)
        return text

    def numbers(self, name):
        """Read a list of numbers with commas.

        Raises:
            CheckpointError: it is missing, too long, or an entry is no finite number.
        """
        text, line = self._text(name)
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > MOST_NUMBERS:
            raise self.fault(
                f"{name} has {len(parts)} numbers", f"give at most {MOST_NUMBERS}", line
            )
        return [self._parsed(name, part, line, float, "numbers with commas") for part in parts]

    def _text(self, name):
        if name not in self.options:
            raise self.fault(f"the option {name} is missing", f"add a line {name}=...")
        return self.options[name]

    def _number(self, name, default, least, most, kind, what):
        if name not in self.options and default is not None:
            if not least <= default <= most:
                raise self.fault(
                    f"{name} is missing, which means {default}",
                    f"give {what} from {least} to {most}",
                )
            return default
        text, line = self._text(name)
        value = self._parsed(name, text, line, kind, what)
        if not least <= value <= most:
            raise self.fault(f"{name} is {value}", f"give {what} from {least} to {most}", line)
        return value

    def _parsed(self, name, text, line, kind, what):
        try:
            value = kind(text) if len(text) <= 40 else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.fault(f"{name} is {printable(text)!r}", f"give {what}", line)
        return value


def read_cfg(path):
    """Read a `.cfg` file.

    Args:
        path: the file.

    Returns:
        List of `Section`, the first of which is [net].

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is too large, no text, or a line is neither section, option nor comment; names the
            file, the line and the fix.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {path}.")
    if path.stat().st_size > LARGEST:
        raise CheckpointError(
            f"{path} has {path.stat().st_size} bytes, more than a configuration of Darknet. "
            "Fix: give the .cfg first and the .weights second."
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CheckpointError(
            f"{path} is no text. Fix: give the .cfg first and the .weights second."
        ) from None
    sections = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if line and line[0] != ";":
            _read_line(path, sections, line, number)
    if not sections or sections[0].kind not in ("net", "network"):
        raise CheckpointError(
            f"{path} does not begin with [net]. Fix: give a configuration file of Darknet."
        )
    return sections


def _read_line(path, sections, line, number):
    if line[0] == "[":
        kind = line.strip("[]").strip()
        section = Section(path, kind, number)
        if not line.endswith("]") or not kind:
            raise section.fault(f"the line {printable(line)!r} is no section", "write [name]")
        if len(sections) == MOST_SECTIONS:
            raise section.fault(
                f"there are more than {MOST_SECTIONS} sections", "give a smaller network"
            )
        sections.append(section)
        return
    name, separator, value = (part.strip() for part in line.partition("="))
    if not sections or not separator:
        raise (sections[-1] if sections else Section(path, "", number)).fault(
            f"the line {printable(line)!r} is neither a section nor an option",
            "write [name], or name=value under a section",
            number,
        )
    sections[-1].options.setdefault(name, (value, number))
