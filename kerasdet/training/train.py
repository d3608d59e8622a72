"""Training a detector on a data set: from a recipe to a folder with weights, logs and curves.

`train` is plain Keras underneath: `model.compile(optimizer)`, then `model.fit(batches, ...)`.
Everything that it writes is in one folder:

    recipe.json      the recipe, with its defaults filled in
    checkpoint.npz   the complete state: `resume=True` continues from it
    best.keras       the model with the best validation mAP of boxes so far (averaged weights)
    last.keras       the model after the last epoch (averaged weights)
    history.csv      one row per epoch; history.png its curves
    predictions.png  detections (boxes, masks, keypoints) on a few validation images
    events.out.*     the same for TensorBoard
"""

import contextlib
import dataclasses

import keras

from kerasdet.callbacks import (
    AveragedWeights,
    CocoMetrics,
    SemanticMetrics,
    StopOnNonFiniteLoss,
)
from kerasdet.files import claimed, remove_unfinished
from kerasdet.training.checkpoints import load_checkpoint
from kerasdet.training.recipe import Recipe, load_recipe, make_optimizer, save_recipe
from kerasdet.training.run_folder import (
    RunFolder,
    WriteCheckpoint,
    WriteRunFolder,
    save_without_optimizer,
)

CACHE_BYTES = 4e9
# Parts of inputs and targets that not every data set has.
_OWN = {
    "masks": "masks",
    "keypoints": "keypoints",
    "semantic": "semantic maps",
    "proposals": "proposals (data.with_proposals)",
}


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
    resize_every=1,
):
    """Train a model.

    The precision is the model's own: set `keras.config.set_dtype_policy` before building it. For
    several devices, build the model under a `tf.distribute.MirroredStrategy().scope()`. A model that is
    fitted without gradients (`GRADIENTS` is False) makes one pass, `model.fit(data)`, uses only the
    recipe's seed, and takes no `resize`, `augment` or `cache`.

    Args:
        model: an `ImageModel`; this function compiles it.
        data: `Dataset` to train on; it needs what the model's `TARGETS` (masks, keypoints, semantic)
            and `INPUTS` (proposals) name.
        recipe: `Recipe`, default `Recipe()`.
        validation: `Dataset` that is measured, or None. Its classes are among the training data's and are
            matched by name. Measured are the loss, and COCO's AP of boxes, masks and
            keypoints (`val_mAP`, `val_mask_mAP`, `val_keypoint_mAP`) or, for a segmenter, `val_mIU`.
        out: folder of the run.
        resize: `Resize` for the training batches, or a list from which each batch takes one
            (multi-scale training); default `model.resize`.
        augment: `augment(rng, image, record) -> (image, record)`, or None.
        resume: continue the run that `out` holds as if it had never stopped; start it if there
            is none. Of the recipe only `epochs` may differ. More of them continue a run, a finished one
            too, on the schedule of the longer run: after a cosine's end the rate rises again to where
            the longer curve stands at that epoch. Fewer change nothing, and `train` says so.
        validate_every: epochs between two validations.
        cache: keep the decoded images in memory; default: where they take less than 4 GB.
        callbacks: further Keras callbacks; at an epoch's end they see the averaged weights and
            `val_mAP`.
        verbose: Keras' progress bar, as in `fit`.
        resize_every: batches in a row that use the same part of a list `resize`.

    Returns:
        {"epoch": [...], "minutes": [...], "loss": [...], "val_mAP": [...], ...}, one entry per
        epoch, None where nothing was measured. The model holds the averaged weights.

    Raises:
        FileExistsError: `out` holds a run and `resume` is False.
        BlockingIOError: another process trains in `out`; names it.
        ValueError: classes of data and model differ, the validation data has a class of its own, the data
            lacks what the model learns or takes,
            or `out` holds a run with another recipe.
        FloatingPointError: the loss became NaN or infinite; the message names epoch, step and checkpoint.
    """
    _check_classes(model, data)
    if validation is not None and tuple(validation.class_names) != tuple(model.class_names):
        validation = validation.with_classes(model.class_names)
    _check_parts(model, data, validation)
    recipe = recipe or Recipe()
    folder = RunFolder(out)
    with claimed(out):
        remove_unfinished(out)
        keras.utils.set_random_seed(recipe.seed)
        measurement = _measurement(model, validation, validate_every)
        if not model.GRADIENTS:
            return _fit_once(model, data, recipe, folder, measurement, resume, callbacks)
        steps = max(1, len(data) // recipe.batch_size)
        recipe, resuming = prepare(folder, recipe, steps, resume)
        with strategy_of(model):
            model.compile(make_optimizer(recipe, steps, model.trainable_variables))
            if resuming:
                folder.restore(load_checkpoint(folder.checkpoint, model))
        if len(folder.rows) >= recipe.epochs and verbose:
            print(
                f"{folder.path} has finished its {len(folder.rows)} epochs: resuming changes nothing; more "
                "epochs (--epochs) continue it."
            )
        model.fit(
            _training_batches(
                model, data, recipe, resize, resize_every, augment, cache, len(folder.rows)
            ),
            epochs=recipe.epochs,
            initial_epoch=len(folder.rows),
            steps_per_epoch=steps,
            shuffle=False,  # the batches are shuffled already
            validation_data=validation
            and validation.batches(recipe.batch_size, model.resize, **_parts(model)),
            validation_freq=validate_every,
            callbacks=run_callbacks(folder, measurement, callbacks),
            verbose=verbose,
        )
        save_without_optimizer(model, folder.last)
        return folder.history()


def _fit_once(model, data, recipe, folder, measurement, resume, further):
    """Fit a model without gradients, measure it, and write its folder."""
    if folder.last.exists():
        if resume:
            return folder.history()
        raise FileExistsError(_occupied(folder))
    save_recipe(folder.recipe, recipe)
    callbacks = keras.callbacks.CallbackList(
        [*filter(None, [measurement]), WriteRunFolder(folder, measurement), *further],
        model=model,
        epochs=1,
        steps=1,
        verbose=0,
    )
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    model.fit(data)
    callbacks.on_epoch_end(0, {})
    callbacks.on_train_end()
    save_without_optimizer(model, folder.last)
    return folder.history()


def _measurement(model, validation, every):
    """Return the callback that measures the validation data, or None."""
    if not validation:
        return None
    kind = SemanticMetrics if "semantic" in model.TARGETS else CocoMetrics
    return kind(validation, every=every)


def run_callbacks(folder, measurement, further, monitor=None):
    """List the callbacks of a run, in order.

    Args:
        folder: `RunFolder`.
        measurement: callback such as `CocoMetrics`, or None.
        further: the user's callbacks, which see the averaged weights.
        monitor: figure that decides which model is the best; default: the measurement's.
    """
    averaged = AveragedWeights()
    return [
        StopOnNonFiniteLoss(folder.checkpoint),
        averaged,
        *filter(None, [measurement]),
        WriteRunFolder(folder, measurement, monitor),
        *further,
        averaged.restored(),
        WriteCheckpoint(folder),
    ]


def _parts(model):
    """Return the parts of batches besides images and boxes."""
    return {
        "masks": "masks" in model.TARGETS,
        "semantic": "semantic" in model.TARGETS,
        "proposals": "proposals" in model.INPUTS,
    }


def _training_batches(model, data, recipe, resize, resize_every, augment, cache, start_epoch):
    if cache is None:
        cache = _decoded_bytes(data) < CACHE_BYTES
    resize = resize or model.resize
    _check_canvas(model, resize if isinstance(resize, list) else [resize])
    return data.batches(
        recipe.batch_size,
        resize,
        augment=augment,
        shuffle=True,
        repeat=True,
        seed=recipe.seed,
        drop_remainder=len(data) >= recipe.batch_size,
        **_parts(model),
        cache=cache,
        start_epoch=start_epoch,
        resize_every=resize_every,
    )


def _check_canvas(model, resizes):
    for resize in resizes:
        if model.canvas and resize.fixed_canvas() != model.canvas:
            raise ValueError(
                f"resize has {resize}, but this {type(model).__name__} takes one canvas, {model.canvas}: "
                f"train it on {model.resize} alone."
            )


def _decoded_bytes(data):
    """Estimate the memory that the images take from at most 50 of them."""
    records = [data.record(index) for index in range(0, len(data), -(-len(data) // 50))]
    return len(data) * sum(3 * r.height * r.width for r in records) / max(1, len(records))


def _check_classes(model, data):
    if tuple(data.class_names) != tuple(model.class_names):
        raise ValueError(
            f"{data.name} has the classes {', '.join(data.class_names)}, the model "
            f"{', '.join(model.class_names)}: build the model with num_classes="
            f"{len(data.class_names)} and class_names=data.class_names, or rename the data's."
        )


def _check_parts(model, *datasets):
    wanted = [part for part in (*model.INPUTS, *model.TARGETS) if part in _OWN]
    for data in filter(None, datasets):
        for part in wanted if len(data) else ():
            held = data.semantic(0) if part == "semantic" else getattr(data.record(0), part)
            if held is None:
                raise ValueError(
                    f"{type(model).__name__} needs {_OWN[part]}, but {data.name} has none: use data "
                    f"with {_OWN[part]}, or a model that needs none."
                )


def prepare(folder, recipe, steps, resume):
    """Begin or continue a run.

    Args:
        folder: `RunFolder`.
        recipe: `Recipe`.
        steps: steps per epoch.
        resume: whether to continue the run that the folder holds.

    Returns:
        The recipe with its defaults filled in, and whether the folder holds a run that it continues.

    Raises:
        FileExistsError: the folder holds a run and `resume` is False.
        ValueError: the folder holds a run with another recipe.
    """
    if not folder.checkpoint.exists():
        recipe = recipe.resolved(steps)
        save_recipe(folder.recipe, recipe)
        return recipe, False
    if not resume:
        raise FileExistsError(_occupied(folder))
    before = load_recipe(folder.recipe)
    longer = max(before.epochs, recipe.epochs)
    recipe = dataclasses.replace(recipe, epochs=before.epochs).resolved(steps)
    for field in dataclasses.fields(recipe):
        old, new = getattr(before, field.name), getattr(recipe, field.name)
        if old != new:
            raise ValueError(
                f"{folder.recipe} says {field.name}={old!r}, not {new!r}: resume a run with the "
                "same recipe, or start a new one in another folder."
            )
    if longer > before.epochs:
        recipe = dataclasses.replace(recipe, epochs=longer)
        save_recipe(folder.recipe, recipe)
    return recipe, True


def _occupied(folder):
    return f"{folder.path} holds a training run; resume it (resume=True, --resume) or give another folder."


def strategy_of(model):
    """Return the strategy of a model: the optimizer's variables belong on the same devices."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy.scope() if strategy else contextlib.nullcontext()
