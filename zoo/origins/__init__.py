"""Where published weights come from: one file per origin, found by its name.

A manifest's `conversion` is the name of a file in this folder. That file has

    load(model, path)   read a published file, fill a built model with it and return the model: all
                        weights or, with a ValueError that names file, keys and shapes, none

If an origin publishes a model in several files, the function is `load(model, path, *parts)`. If it also takes
files that are only compared with the model, `EXTRA` is their number. The file may contain anything else: a
reader, a table of names. `kerasdet.zoo.filling` has what origins share. A new
origin is a new file here and nothing else.
"""

import importlib
import pkgutil


def origin_names():
    """List the origins.

    Returns:
        The names of the files in this folder, sorted.
    """
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def most_extra(origin):
    """Return how many files an origin takes that are only compared with the model."""
    return getattr(_module(origin), "EXTRA", 0)


def load(origin, model, *paths):
    """Fill a model with the weights of a published file.

    Args:
        origin: one of `origin_names()`.
        model: a built model.
        *paths: the file, as published, and its parts, if any.

    Returns:
        The model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file cannot be read or does not fit the model, which is then unchanged; the message
            names the file and the keys.
    """
    return _module(origin).load(model, *paths)


def _module(origin):
    return importlib.import_module(f"{__name__}.{origin}")
