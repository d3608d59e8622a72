"""Training an image classifier on folders of images: how a backbone of one's own is pretrained.

`train_classifier` writes a folder as `train` does, without predictions, and with `classes.json`, the names of
the classes in the order of the logits. `Backbone.from_preset` opens its `best.keras` and `last.keras`.
"""

from pathlib import Path

import keras
import numpy as np

from kerasdet.data.class_images import ClassBatches, ClassFolders, random_resized_crop
from kerasdet.files import claimed, remove_unfinished, save_json
from kerasdet.training.checkpoints import load_checkpoint
from kerasdet.training.recipe import Recipe, make_optimizer
from kerasdet.training.run_folder import RunFolder, save_without_optimizer
from kerasdet.training.train import prepare, run_callbacks, strategy_of

# ResNet's recipe (arXiv 1512.03385, §3.4), with today's cosine.
CLASSIFIER = {
    "epochs": 90,
    "batch_size": 256,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 1e-4,
    "clip_norm": 0.0,
    "ema_momentum": 0.0,
}
MONITOR = "val_top1"


def classifier_recipe(**numbers):
    """Return the usual recipe of a classifier: SGD with momentum 0.9, rate 0.1 for 256 images, 90 epochs.

    Args:
        **numbers: what differs, as in `Recipe`.
    """
    return Recipe(**{**CLASSIFIER, **numbers})


def train_classifier(
    model,
    data,
    recipe=None,
    *,
    validation=None,
    out,
    size=224,
    augment=random_resized_crop,
    resume=False,
    callbacks=(),
    verbose="auto",
):
    """Train a classifier.

    Args:
        model: `ImageClassifier`; this function compiles it.
        data: a folder with a folder of images for each class, or `ClassFolders`, or `ClassArrays`.
        recipe: `Recipe`, default `classifier_recipe()`.
        validation: the same, with the same classes, whose loss and accuracies are measured after each epoch,
            or None.
        out: folder of the run.
        size: pixels per side of the crops.
        augment: `augment(rng, image, size) -> (size, size, 3)` uint8; for images whose mirror image is of
            another class, such as digits, `functools.partial(random_resized_crop, flip=False)`.
        resume: continue the run that `out` holds, as in `train`.
        callbacks: further Keras callbacks.
        verbose: Keras' progress bar, as in `fit`.

    Returns:
        {"epoch": [...], "loss": [...], "val_top1": [...], "val_top5": [...], ...}, one entry per epoch. The
        model holds the last epoch's weights.

    Raises:
        FileExistsError: `out` holds a run and `resume` is False.
        FileNotFoundError: no such folder of images.
        ValueError: fewer than two classes, a class without images, an unreadable image, or another number of
            classes than the model has; names the folder or the file.
        FloatingPointError: the loss became NaN or infinite.
    """
    data, validation = _opened(data), validation if validation is None else _opened(validation)
    _check_classes(model, data, validation)
    recipe = recipe or classifier_recipe()
    folder = RunFolder(out)
    with claimed(out):
        remove_unfinished(out)
        keras.utils.set_random_seed(recipe.seed)
        steps = max(1, len(data) // recipe.batch_size)
        recipe, resuming = prepare(folder, recipe, steps, resume)
        with strategy_of(model):
            optimizer = make_optimizer(recipe, steps, model.trainable_variables)
            model.compile(optimizer, _loss(), metrics=_accuracies(model))
            if resuming:
                folder.restore(load_checkpoint(folder.checkpoint, model))
        crops = (recipe.batch_size, size)
        save_json(Path(out) / "classes.json", list(data.class_names))
        model.fit(
            ClassBatches(data, *crops, augment, recipe.seed, len(folder.rows)),
            epochs=recipe.epochs,
            initial_epoch=len(folder.rows),
            shuffle=False,  # the batches are shuffled already
            validation_data=validation and ClassBatches(validation, *crops),
            callbacks=run_callbacks(folder, None, callbacks, MONITOR),
            verbose=verbose,
        )
        save_without_optimizer(model, folder.last)
        return folder.history()


def evaluate_classifier(model, data, size=224, batch_size=32):
    """Measure a classifier on central crops.

    Args:
        model: `ImageClassifier`.
        data: as in `train_classifier`.
        size: pixels per side of the crops.
        batch_size: images per step.

    Returns:
        {"top1": share of images whose class is the first guess, "top5": or among the first five}.
    """
    data = _opened(data)
    _check_classes(model, data, None)
    logits = model.predict(ClassBatches(data, batch_size, size), verbose=0)
    # Of equal logits, the class counts as the last.
    better = np.sum(logits >= np.take_along_axis(logits, data.labels[:, None], axis=1), axis=1)
    return {f"top{k}": float(np.mean(better <= k)) for k in (1, 5)}


def _opened(data):
    return ClassFolders(data) if isinstance(data, str | Path) else data


def _check_classes(model, data, validation):
    if model.num_classes != len(data.class_names):
        raise ValueError(
            f"The model has {model.num_classes} classes and the data {len(data.class_names)} "
            f"({', '.join(data.class_names[:5])}, ...): build it with num_classes={len(data.class_names)}."
        )
    if validation is not None and validation.class_names != data.class_names:
        raise ValueError(
            f"The validation data has the classes {validation.class_names[:5]}, the training data "
            f"{data.class_names[:5]}: give both the same, in the same order."
        )


def _loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _accuracies(model):
    k = min(5, model.num_classes)
    return [
        keras.metrics.SparseCategoricalAccuracy(name="top1"),
        keras.metrics.SparseTopKCategoricalAccuracy(k, name="top5"),
    ]
