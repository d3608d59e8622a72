"""Models with trained weights: a list of them, facts about them, and the models themselves.

Listing reads only small JSON files; Keras and the models are imported when a model is built.
"""

from kerasdet.zoo.models import build, info, list_models, load, load_darknet, summary, untrained

__all__ = ["build", "info", "list_models", "load", "load_darknet", "summary", "untrained"]
