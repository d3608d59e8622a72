"""The command line: `kerasdet COMMAND ...`. One file per group of commands.

Commands import Keras and TensorFlow when they run, so that `--help` and `list` answer at once.
"""

import os
import re
import sys
import warnings

import typer

from kerasdet.cli import anchors, check, convert, demo, detect, evaluate, export, show, train

app = typer.Typer(
    help="Detect objects in images, and train, measure and export the detectors that do it.",
    epilog="Each command explains itself: kerasdet COMMAND --help. With --debug, errors show their "
    "traceback.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("list")(show.list_models)
app.command("info")(show.info)
app.command("detect")(detect.detect)
app.command("check")(check.check)
app.command("anchors")(anchors.anchors)
app.command("train", context_settings=train.SETTINGS)(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("convert")(convert.convert)
app.command("demo")(demo.demo)

# What TensorFlow puts around an error that was raised while it read an image.
_WRAPPED = re.compile(r"\b(\w*Error): (.+?)(?:\n\s*Traceback|\n\s*\n|$)", re.DOTALL)


def main(arguments=None):
    """Run a command; an error is one line on stderr and exit code 1.

    Args:
        arguments: list of str, default those of the process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if debug else "3")
    # TensorFlow uses oneDNN by itself only on processors with AVX-512; it is the faster one on others, too.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    try:
        with warnings.catch_warnings():
            if not debug:
                warnings.showwarning = _show_warning
            app([argument for argument in arguments if argument != "--debug"], prog_name="kerasdet")
    except Exception as error:
        if debug:
            raise
        print(f"kerasdet: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _show_warning(message, category, *_, **__):
    """Print a warning for the user as one line; those for programmers are left to --debug."""
    if issubclass(category, UserWarning):
        print(f"kerasdet: warning: {' '.join(str(message).split())}", file=sys.stderr)


def one_line(error):
    """An error's message on one line, without the layers that TensorFlow wraps around it."""
    kind, text = type(error).__name__, str(error)
    if type(error).__module__.startswith("tensorflow") and (found := _WRAPPED.search(text)):
        kind, text = found.groups()
    text = " ".join(text.split())
    # Messages of these types are written for the user; other errors need the name of their type.
    expected = (ValueError, OSError, ImportError, FloatingPointError)
    return text if text and isinstance(error, expected) else f"{kind}: {text}"
