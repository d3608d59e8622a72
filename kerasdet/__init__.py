"""Object detectors in Keras 3, one file per paper, from raw pixels to final boxes."""

import importlib

__version__ = "0.1.0"

_SUBMODULES = (
    "backbones",
    "callbacks",
    "data",
    "distribute",
    "export",
    "layers",
    "metrics",
    "models",
    "ops",
    "training",
    "visualize",
    "zoo",
)
_FUNCTIONS = {"list_models": "zoo", "load": "zoo", "truncate_dense": "models"}


def __getattr__(name):
    """Import a submodule on first use, so that `import kerasdet` itself costs almost nothing."""
    if name in _SUBMODULES:
        return importlib.import_module(f"kerasdet.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"kerasdet.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'kerasdet' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_SUBMODULES, *_FUNCTIONS])
