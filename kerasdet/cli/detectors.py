"""The detectors that `kerasdet train` makes, and their own options: what each paper's `for_data` takes."""

import inspect
import re

from kerasdet.cli.console import start_quietly

OWN = {"data", "resize", "backbone"}  # arguments of `for_data` that the command itself gives
HANDED_ON = "options"  # `**options` of a `for_data` are those of the class below it


def detectors():
    """{name of the paper's file: class} of all that can be made for a data set."""
    start_quietly()
    from kerasdet import models

    kinds = [getattr(models, name) for name in models.__all__]
    return {kind.__module__.rpartition(".")[2]: kind for kind in kinds if hasattr(kind, "for_data")}


def find_detector(name):
    """The class of a detector.

    Raises:
        ValueError: there is none of that name; names those there are.
    """
    known = detectors()
    if name not in known:
        raise ValueError(f"unknown detector {name!r}; there are {', '.join(known)}.")
    return known[name]


def options_of(kind):
    """The options of a detector: {name: default}; with `**options`, those of the class below it, too."""
    options = {}
    for ancestor in kind.__mro__:
        if "for_data" in vars(ancestor):
            parameters = inspect.signature(ancestor.for_data).parameters.values()
            options |= {
                p.name: p.default
                for p in parameters
                if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in OWN | options.keys()
            }
            if HANDED_ON not in [p.name for p in parameters]:
                break
    return options


def help_of(kind, option):
    """What `for_data` says of an option: the first sentence of its entry under Args."""
    for ancestor in kind.__mro__:
        if "for_data" in vars(ancestor):
            entry = re.search(
                rf"^\s+{option}: (.+?)(?=^\s+\*?\*?\w+: |^\s*$|\Z)",
                inspect.getdoc(ancestor.for_data) or "",
                re.DOTALL | re.MULTILINE,
            )
            if entry:
                return " ".join(entry[1].split())
    return ""


def detector_options(name, words):
    """Read a detector's own options from what the command line did not know.

    Args:
        name: of the detector.
        words: list such as ["--channels", "64", "--proposals-per-image=300,100"].

    Returns:
        {option: value}, of the type that the option's default has.

    Raises:
        ValueError: a word that is no option, one that the detector does not take, or a value of
            another type; names those it takes.
    """
    if not words:
        return {}
    known, given = options_of(find_detector(name)), {}
    words = [
        part for word in words for part in (word.split("=", 1) if word[:2] == "--" else [word])
    ]
    while words:
        word = words.pop(0)
        option = word.removeprefix("--").replace("-", "_")
        if not word.startswith("--") or option not in known:
            listed = ", ".join(f"{flag(o)} (default {text(d)})" for o, d in known.items())
            raise ValueError(f"{name} takes no {word!r}; its own options are {listed}.")
        if not words:
            raise ValueError(f"{word} lacks its value; the default is {text(known[option])}.")
        given[option] = _value(word, words.pop(0), known[option])
    return given


def _value(option, given, default):
    """A text as the type of a default: a number, a text, a tuple of numbers with commas, or None: a count."""
    example = "64" if default is None else text(default)
    try:
        if isinstance(default, tuple):
            return [type(default[0])(part) for part in given.split(",")]
        return (int if default is None else type(default))(given)
    except ValueError:
        raise ValueError(f"{option} is {given!r}; give a value such as {example}.") from None


def flag(option):
    """An option as it is written on the command line."""
    return f"--{option.replace('_', '-')}"


def text(default):
    """A default as it is written on the command line."""
    if default is None:
        return "from the data"
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
