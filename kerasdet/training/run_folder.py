"""The folder of a training run: its files, and the callback that writes them at an epoch's end."""

import csv
import math
import time
from pathlib import Path

import keras
import numpy as np

from kerasdet import metrics, visualize
from kerasdet.files import atomic_write
from kerasdet.training.checkpoints import save_checkpoint
from kerasdet.training.event_file import EventFile

SHEET_IMAGES = 8
SHEET_THRESHOLD = 0.3
DRAWING_SECONDS = 60  # Curves and predictions are drawn no more often than this.


class RunFolder:
    """Where a run's files lie, and what the run has measured so far.

    Args:
        path: the folder; made if missing.

    Attributes:
        rows: one dict per finished epoch: "epoch" (from 1), "minutes", "lr", the losses, `val_*`.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.recipe = self.path / "recipe.json"
        self.checkpoint = self.path / "checkpoint.npz"
        self.best_model = self.path / "best.keras"
        self.last = self.path / "last.keras"
        self.csv = self.path / "history.csv"
        self.rows = []

    def restore(self, progress):
        """Take the rows that a checkpoint holds.

        Raises:
            ValueError: it holds none, or others than a run writes; names the file.
        """
        rows = progress.get("rows")
        if not isinstance(rows, list) or not all(map(_is_row, rows)):
            raise ValueError(
                f"{self.checkpoint} holds no rows of a training run: start a new run in another folder."
            )
        self.rows = rows

    def best(self, figure):
        """Highest value of a figure so far; -1 if none was measured."""
        return max((row[figure] for row in self.rows if figure in row), default=-1.0)

    def history(self):
        """The rows as columns, with None where an epoch measured nothing."""
        return {name: [row.get(name) for row in self.rows] for name in _columns(self.rows)}

    def write_csv(self):
        """Write history.csv whole, and atomically: the table is short."""
        with atomic_write(self.csv) as new, open(new, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _columns(self.rows))
            writer.writeheader()
            writer.writerows(self.rows)


class WriteRunFolder(keras.callbacks.Callback):
    """Write an epoch's row, curves, predictions, TensorBoard events and, if best, the model.

    Args:
        folder: `RunFolder`.
        measurement: callback such as `CocoMetrics`, run before this one: the figure that it monitors
            decides which model is the best, and the first images of its data are drawn with what
            the model finds; or None.
    """

    def __init__(self, folder, measurement=None):
        super().__init__()
        self.folder = folder
        self.measurement = measurement

    def on_train_begin(self, logs=None):
        """Start the clock where an interrupted run left it."""
        rows = self.folder.rows
        self._start = time.monotonic() - (rows[-1]["minutes"] * 60 if rows else 0)
        self._drawn = -math.inf
        self._events = EventFile(self.folder.path)

    def on_epoch_end(self, epoch, logs=None):
        """Write what the epoch gave."""
        best = self.folder.best(self.monitor)
        row = {
            "epoch": epoch + 1,
            "minutes": round((time.monotonic() - self._start) / 60, 4),
            **self._learning_rate(),
            **{name: float(np.mean(value)) for name, value in (logs or {}).items()},
        }
        self.folder.rows.append(row)
        self.folder.write_csv()
        self._events.scalars(epoch + 1, {k: v for k, v in row.items() if k != "epoch"})
        if row.get(self.monitor, -1.0) > best:
            save_without_optimizer(self.model, self.folder.best_model)
        if time.monotonic() - self._drawn > DRAWING_SECONDS:
            self._draw(epoch + 1)

    def on_train_end(self, logs=None):
        """Draw the end."""
        self._draw(len(self.folder.rows))
        self._events.close()

    def _learning_rate(self):
        """Of a model that is trained by gradients."""
        if not self.model.compiled:
            return {}
        return {"lr": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))}

    def _draw(self, epoch):
        self._drawn = time.monotonic()
        metrics.plot_history(self.folder.csv, self.folder.path / "history.png")
        if self.measurement is None:
            return
        drawn = draw_predictions(self.model, self.measurement.dataset, SHEET_IMAGES)
        path = self.folder.path / "predictions.png"
        with atomic_write(path) as temporary:
            visualize.contact_sheet(drawn, columns=4).save(temporary)
        self._events.image(epoch, "predictions", path.read_bytes())


class WriteCheckpoint(keras.callbacks.Callback):
    """Write the whole state of the training at an epoch's end; the last of all callbacks.

    Args:
        folder: `RunFolder`.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs=None):
        """Write the checkpoint."""
        save_checkpoint(self.folder.checkpoint, self.model, {"rows": self.folder.rows})


def draw_predictions(model, data, count):
    """Draw what a model finds in the first images of a data set.

    Args:
        model: an `ImageModel`.
        data: `Dataset`.
        count: number of images.

    Returns:
        List of PIL images.
    """
    data = data.subset(range(min(count, len(data))))
    images = list(data.images())
    if "semantic" in model.TARGETS:
        pairs = zip(images, model.segment(images))
        return [
            visualize.draw_classes(visualize.as_rgb(image), found, model.class_names)
            for image, found in pairs
        ]
    proposals = {"proposals": data.proposals()} if "proposals" in model.INPUTS else {}
    pairs = zip(images, model.detect(images, batch_size=count, **proposals))
    return [
        visualize.draw(visualize.as_rgb(image), found, model.class_names, threshold=SHEET_THRESHOLD)
        for image, found in pairs
    ]


def save_without_optimizer(model, path):
    """Save a model for use: what concerns training only (thrice the weights) is left out."""
    if not model.compiled:  # fitted without gradients
        model.save(path)
        return
    optimizer, model.optimizer, model.compiled = model.optimizer, None, False
    try:
        model.save(path)
    finally:
        model.optimizer, model.compiled = optimizer, True


def _is_row(row):
    """Whether this is a finished epoch: a number in each column."""
    if not isinstance(row, dict) or not {"epoch", "minutes"} <= row.keys():
        return False
    return all(isinstance(value, int | float) for value in row.values())


def _columns(rows):
    """Names of all rows' entries, in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))
