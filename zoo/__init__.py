"""Weights that come with the package: what there is, and the models rebuilt from it.

Listing reads small JSON files only; Keras and the models are imported when a model is loaded.
"""

from kerasdet.zoo.models import build, info, list_models, load, summary, untrained

__all__ = ["build", "info", "list_models", "load", "summary", "untrained"]
