"""Training a detector on a data set, from recipe to a folder with the best weights, logs and curves.

`train` is plain Keras underneath: `model.compile(optimizer)`, then `model.fit(batches, callbacks=...)`.
Everything that it writes lies in one folder:

    recipe.json      the recipe, with its defaults filled in
    checkpoint.npz   the unfinished training: `resume=True` continues from it
    best.keras       the model at its best validation mAP so far (averaged weights)
    last.keras       the model after the last epoch (averaged weights)
    history.csv      one row per epoch; history.png its curves
    predictions.png  detections on a few validation pictures, after the latest validation
    events.out.*     the same for TensorBoard
"""

import contextlib
import dataclasses
import itertools
from pathlib import Path

import keras
import numpy as np

from kerasdet import callbacks as kerasdet_callbacks
from kerasdet import run_folder
from kerasdet.checkpoints import load_checkpoint
from kerasdet.recipe import Recipe, load_recipe, make_optimizer, save_recipe


def train(
    model,
    data,
    recipe=None,
    *,
    validation=None,
    out,
    resize=None,
    augment=None,
    resume=False,
    validate_every=1,
    callbacks=(),
    verbose="auto",
):
    """Train a detector.

    The precision is the model's own: set `keras.config.set_dtype_policy` before building it. For
    several devices build the model under a `tf.distribute.MirroredStrategy().scope()`.

    Args:
        model: a `Detector`; compiled here.
        data: `Dataset` to learn from.
        recipe: `Recipe`, default `Recipe()`.
        validation: `Dataset` on which the loss and COCO's AP are measured, or None.
        out: folder of the run.
        resize: `Resize` for the training batches, or a list from which each batch takes one
            (multi-scale training); default `model.resize`.
        augment: `augment(rng, image, record) -> (image, record)`, or None.
        resume: continue the run that `out` holds, as if it had never stopped; starts it if there is none.
        validate_every: epochs between two validations.
        callbacks: further Keras callbacks; they see the averaged weights and `val_mAP` at an epoch's end.
        verbose: Keras' progress bar, as in `fit`.

    Returns:
        {"epoch": [...], "minutes": [...], "loss": [...], "val_mAP": [...], ...}, one entry per
        epoch, None where nothing was measured. The model holds the averaged weights.

    Raises:
        FileExistsError: `out` holds a run and `resume` is False.
        ValueError: classes of data and model differ, or `out` holds a run with another recipe.
        FloatingPointError: the loss became NaN or infinite; names epoch, step and last checkpoint.
    """
    folder = run_folder.RunFolder(out)
    recipe = recipe or Recipe()
    _check_classes(model, data, validation)
    keras.utils.set_random_seed(recipe.seed)
    steps = max(1, len(data) // recipe.batch_size)
    recipe = recipe.resolved(steps)
    resuming = _prepare(folder, recipe, resume)
    with _scope(model):
        model.compile(make_optimizer(recipe, steps, model.trainable_variables))
        if resuming:
            folder.progress = load_checkpoint(folder.checkpoint, model)
    if len(folder.rows) < recipe.epochs:
        _fit(model, data, recipe, steps, folder, validation, resize, augment, validate_every, callbacks, verbose)
    return folder.history()
