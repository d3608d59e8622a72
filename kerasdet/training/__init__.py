"""Training: a recipe of numbers, plain Keras underneath, and a folder with all files of a run.

train.py         `train`: compile, fit, resume
classifier.py    `train_classifier`: a backbone with its classifier, on folders of images
alternating.py   `train_alternating`: Faster R-CNN's stages in turn
recipe.py        `Recipe`: the numbers, and the optimizer they define
schedules.py     learning rates that Keras does not have
run_folder.py    what a run writes at the end of an epoch
checkpoints.py   the whole state in one file
event_file.py    TensorBoard's log
"""

from kerasdet.training.alternating import train_alternating
from kerasdet.training.classifier import (
    classifier_recipe,
    evaluate_classifier,
    train_classifier,
)
from kerasdet.training.recipe import Recipe
from kerasdet.training.schedules import WarmupSteps
from kerasdet.training.train import train

__all__ = [
    "Recipe",
    "WarmupSteps",
    "classifier_recipe",
    "evaluate_classifier",
    "train",
    "train_alternating",
    "train_classifier",
]
