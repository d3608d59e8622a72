"""Training a detector on a data set: from a recipe to a folder with weights, logs and curves.

`train` is plain Keras underneath: `model.compile(optimizer)`, then `model.fit(batches, ...)`.
All that it writes lies in one folder:

    recipe.json      the recipe, with its defaults filled in
    checkpoint.npz   the whole training: `resume=True` continues from it
    best.keras       the model at its best validation mAP, of boxes, so far (averaged weights)
    last.keras       the model after the last epoch (averaged weights)
    history.csv      one row per epoch; history.png its curves
    predictions.png  detections (boxes, masks, keypoints) on a few validation images
    events.out.*     the same for TensorBoard
"""

import contextlib
import dataclasses

import keras

from kerasdet.callbacks import AveragedWeights, CocoMetrics, StopOnNonFiniteLoss
from kerasdet.training.checkpoints import load_checkpoint
from kerasdet.training.recipe import Recipe, load_recipe, make_optimizer, save_recipe
from kerasdet.training.run_folder import (
    RunFolder,
    WriteCheckpoint,
    WriteRunFolder,
    save_without_optimizer,
)

CACHE_BYTES = 4e9


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
    cache=None,
    callbacks=(),
    verbose="auto",
):
    """Train a detector.

    The precision is the model's own: set `keras.config.set_dtype_policy` before building it. For
    several devices build the model under a `tf.distribute.MirroredStrategy().scope()`.

    Args:
        model: a `Detector`; compiled here.
        data: `Dataset` to learn from; it needs what the model's `TARGETS` name (masks, keypoints).
        recipe: `Recipe`, default `Recipe()`.
        validation: `Dataset` on which the loss and COCO's AP are measured, or None; for models that
            give masks or keypoints their AP too (`val_mask_mAP`, `val_keypoint_mAP`).
        out: folder of the run.
        resize: `Resize` for the training batches, or a list from which each batch takes one
            (multi-scale training); default `model.resize`.
        augment: `augment(rng, image, record) -> (image, record)`, or None.
        resume: continue the run that `out` holds as if it had never stopped; start it if there
            is none.
        validate_every: epochs between two validations.
        cache: keep the decoded images in memory; default: where they take less than 4 GB.
        callbacks: further Keras callbacks; at an epoch's end they see the averaged weights and
            `val_mAP`.
        verbose: Keras' progress bar, as in `fit`.

    Returns:
        {"epoch": [...], "minutes": [...], "loss": [...], "val_mAP": [...], ...}, one entry per
        epoch, None where nothing was measured. The model holds the averaged weights.

    Raises:
        FileExistsError: `out` holds a run and `resume` is False.
        ValueError: classes of data and model differ, the data lacks masks or keypoints that the
            model learns, or `out` holds a run with another recipe.
        FloatingPointError: the loss became NaN or infinite; names epoch, step and last checkpoint.
    """
    _check_classes(model, data, validation)
    _check_targets(model, data, validation)
    recipe = recipe or Recipe()
    steps = max(1, len(data) // recipe.batch_size)
    recipe = recipe.resolved(steps)
    folder = RunFolder(out)
    keras.utils.set_random_seed(recipe.seed)
    resuming = _prepare(folder, recipe, resume)
    with strategy_scope(model):
        model.compile(make_optimizer(recipe, steps, model.trainable_variables))
        if resuming:
            folder.rows = load_checkpoint(folder.checkpoint, model)["rows"]
    model.fit(
        _training_batches(
            model, data, recipe, resize, augment, cache, start_epoch=len(folder.rows)
        ),
        epochs=recipe.epochs,
        initial_epoch=len(folder.rows),
        steps_per_epoch=steps,
        shuffle=False,  # the batches are shuffled already
        validation_data=validation
        and validation.batches(recipe.batch_size, model.resize, masks="masks" in model.TARGETS),
        validation_freq=validate_every,
        callbacks=_callbacks(folder, validation, validate_every, callbacks),
        verbose=verbose,
    )
    save_without_optimizer(model, folder.last)
    return folder.history()


def _callbacks(folder, validation, validate_every, further):
    averaged = AveragedWeights()
    metrics = [CocoMetrics(validation, every=validate_every)] if validation else []
    return [
        StopOnNonFiniteLoss(folder.checkpoint),
        averaged,
        *metrics,
        WriteRunFolder(folder, validation),
        *further,
        averaged.restored(),
        WriteCheckpoint(folder),
    ]


def _training_batches(model, data, recipe, resize, augment, cache, start_epoch):
    if cache is None:
        cache = _decoded_bytes(data) < CACHE_BYTES
    return data.batches(
        recipe.batch_size,
        resize or model.resize,
        augment=augment,
        shuffle=True,
        repeat=True,
        seed=recipe.seed,
        drop_remainder=len(data) >= recipe.batch_size,
        masks="masks" in model.TARGETS,
        cache=cache,
        start_epoch=start_epoch,
    )


def _decoded_bytes(data):
    """What the images take in memory, judged by at most 50 of them."""
    records = [data.record(index) for index in range(0, len(data), -(-len(data) // 50))]
    return len(data) * sum(3 * r.height * r.width for r in records) / max(1, len(records))


def _check_classes(model, *datasets):
    for data in datasets:
        if data is not None and tuple(data.class_names) != tuple(model.class_names):
            raise ValueError(
                f"{data.name} has the classes {', '.join(data.class_names)}, the model "
                f"{', '.join(model.class_names)}: build the model with num_classes="
                f"{len(data.class_names)} and class_names=data.class_names, or rename the data's."
            )


def _check_targets(model, *datasets):
    for data in datasets:
        for part in model.TARGETS if data is not None and len(data) else ():
            if getattr(data.record(0), part) is None:
                raise ValueError(
                    f"{type(model).__name__} learns {part}, and {data.name} has none: use data with "
                    f"{part}, or a detector of boxes alone."
                )


def _prepare(folder, recipe, resume):
    """Make the folder, or see that the run in it can be continued; True if there is one."""
    if not folder.checkpoint.exists():
        save_recipe(folder.recipe, recipe)
        return False
    if not resume:
        raise FileExistsError(
            f"{folder.path} holds a training run; resume it (resume=True, --resume) or give "
            "another folder."
        )
    before = load_recipe(folder.recipe)
    for field in dataclasses.fields(recipe):
        old, new = getattr(before, field.name), getattr(recipe, field.name)
        if old != new:
            raise ValueError(
                f"{folder.recipe} says {field.name}={old!r}, not {new!r}: resume a run with the "
                "same recipe, or start a new one in another folder."
            )
    folder.remove_unfinished()
    return True


def strategy_scope(model):
    """Variables of the optimizer belong where the model's are: on all devices of its strategy."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy.scope() if strategy else contextlib.nullcontext()
