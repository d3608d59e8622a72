"""Keras callbacks: metrics of detection and segmentation during `fit`, and guards of a training run."""

from pathlib import Path

import keras
import numpy as np

from kerasdet.metrics import evaluate, evaluate_segmentation, iou_types

KINDS = {"bbox": "", "segm": "mask_", "keypoints": "keypoint_"}  # prefix of the names in the logs


class _Measurement(keras.callbacks.Callback):
    """Figures of a data set in the logs at the end of epochs; see `CocoMetrics` for the arguments."""

    def __init__(self, dataset, prefix, every, monitored):
        super().__init__()
        if every < 1:
            raise ValueError(f"`every` must be 1 or more epochs, got {every}.")
        self.dataset = dataset
        self.prefix = prefix
        self.every = every
        self.monitor = prefix + monitored
        self.metrics = None

    def on_train_begin(self, logs=None):
        """Forget the figures of an earlier `fit`."""
        self.metrics = None

    def on_epoch_end(self, epoch, logs=None):
        """Measure, and add the figures to `logs`."""
        is_last = epoch + 1 == self.params.get("epochs")
        if self.metrics is None or (epoch + 1) % self.every == 0 or is_last:
            self._measure()
        if logs is not None:
            logs.update({self.prefix + name: value for name, value in self._figures().items()})

    def _measure(self):
        """Measure, and set `metrics`."""
        raise NotImplementedError

    def _figures(self):
        """Return {name in the logs, without the prefix: figure} for the figures that could be measured."""
        raise NotImplementedError


class CocoMetrics(_Measurement):
    """Measure COCO average precision at the end of epochs and write it into the logs.

    The callback puts `val_mAP` (mean over IoU 0.5 to 0.95), `val_AP50`, `val_AP75`, `val_APs`, `val_APm`,
    `val_APl` and `val_AR100` where Keras' other callbacks look. Put it *before* them, and give them
    `mode="max"`. It needs no `validation_data`. Object sizes that the data does not have are left out.
    If the model predicts masks or keypoints and the data has them, it adds the same figures for the
    masks, `val_mask_mAP`, `val_mask_AP50` and so on, or for the keypoints, `val_keypoint_mAP` and so on.

    ```python
    callbacks=[
        CocoMetrics(dataset),
        keras.callbacks.EarlyStopping(monitor="val_mAP", mode="max", patience=10),
        keras.callbacks.ModelCheckpoint("best.keras", monitor="val_mAP", mode="max",
                                        save_best_only=True),
    ]
    ```

    The model is measured with its current weights: a callback that swaps in averaged weights must come
    before this one.

    Args:
        dataset: `kerasdet.data` data set to measure on.
        prefix: start of every name in the logs.
        every: epochs from one measurement to the next. The first and the last epoch are always
            measured; the epochs between repeat the last figures, so that logs have no gaps.
        batch_size: images per step of detection.
        iou_type: "bbox", "segm" (masks), "keypoints", or several; None for everything that the model
            predicts and the data has.

    Attributes:
        monitor: the name to watch in the logs, "val_mAP".
        metrics: the complete last measurement, with figures per class: {"bbox": the result of
            `coco_metrics`, "segm": likewise, ...}.
        detections: the detections that were measured, from `evaluate`.
    """

    def __init__(self, dataset, prefix="val_", every=1, batch_size=8, iou_type=None):
        super().__init__(dataset, prefix, every, "mAP")
        self.batch_size = batch_size
        self.iou_type = (iou_type,) if isinstance(iou_type, str) else iou_type
        self.detections = None

    def _measure(self):
        measured = self.iou_type or iou_types(self.model, self.dataset)
        self.metrics, self.detections = evaluate(
            self.model, self.dataset, self.batch_size, iou_type=measured
        )

    def _figures(self):
        return {
            KINDS[iou_type] + ("mAP" if name == "AP" else name): value
            for iou_type, metrics in self.metrics.items()
            for name, value in metrics.items()
            if isinstance(value, float) and name not in ("AR1", "AR10")
        }


class SemanticMetrics(_Measurement):
    """Measure a segmenter at the end of epochs and write the figures into the logs.

    The callback puts `val_mIU`, `val_pixel_accuracy`, `val_mean_accuracy` and `val_fwIU` (see
    `kerasdet.metrics.semantic_figures`) where Keras' other callbacks look. Put it *before* them, and
    give them `monitor="val_mIU", mode="max"`. It needs no `validation_data`.

    Args:
        dataset: `kerasdet.data` data set with semantic maps, to measure on.
        prefix: start of every name in the logs.
        every: epochs from one measurement to the next, as in `CocoMetrics`.

    Attributes:
        monitor: the name to watch in the logs, "val_mIU".
        metrics: the complete last measurement, with figures per class, from `semantic_figures`.
        matrix: (K, K) pixels that were measured.
    """

    def __init__(self, dataset, prefix="val_", every=1):
        super().__init__(dataset, prefix, every, "mIU")
        self.matrix = None

    def _measure(self):
        self.metrics, self.matrix = evaluate_segmentation(self.model, self.dataset)

    def _figures(self):
        return {name: value for name, value in self.metrics.items() if isinstance(value, float)}


class AveragedWeights(keras.callbacks.Callback):
    """Show the moving average of the weights to validation and to the callbacks that follow.

    The average is Keras' own (`use_ema=True` in the optimizer). Three things differ from Keras'
    `SwapEMAWeights`. Weights are exchanged exactly (not by additions, which round). The raw weights are
    restored when the epoch ends, so a checkpoint holds both, in the last epoch too. Until the average has
    seen 1 / (1 - ema_momentum) steps, it restarts from the raw weights at the end of each epoch, because
    it still consists mostly of the first step's weights.

    Put it first in `callbacks`, and its `restored()` after all callbacks that must see the average. It does
    nothing if the optimizer does not average.
    """

    def __init__(self):
        super().__init__()
        self._swapped = False

    def restored(self):
        """Return the callback that restores the raw weights at the end of an epoch."""
        return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self._show(False))

    def on_test_begin(self, logs=None):
        """Show the average to validation."""
        self._restart_early()
        self._show(True)

    def on_test_end(self, logs=None):
        """Restore the raw weights."""
        self._show(False)

    def on_epoch_end(self, epoch, logs=None):
        """Show the average to the callbacks that follow."""
        self._restart_early()
        self._show(True)

    def _optimizer(self):
        # mixed_float16 wraps the optimizer in one that scales the loss.
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)

    def _pairs(self):
        averages = getattr(self._optimizer(), "_model_variables_moving_average", ())
        return zip(self._optimizer()._trainable_variables, averages)

    def _restart_early(self):
        optimizer = self._optimizer()
        if int(optimizer.iterations) * (1 - optimizer.ema_momentum) < 1 and not self._swapped:
            for variable, average in self._pairs():
                average.assign(variable)

    def _show(self, average):
        if average == self._swapped:
            return
        self._swapped = average
        for variable, average_variable in self._pairs():
            value = keras.ops.convert_to_numpy(variable).copy()
            variable.assign(average_variable)
            average_variable.assign(value)


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Stop `fit` with an error that names epoch and step as soon as the loss is NaN or infinite.

    Args:
        checkpoint: file with the last good state, for the message; None if there is none.
    """

    def __init__(self, checkpoint=None):
        super().__init__()
        self.checkpoint = checkpoint

    def on_epoch_begin(self, epoch, logs=None):
        """Remember the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Check the running mean of the loss, which stays non-finite once it was.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        loss = float(np.mean((logs or {}).get("loss", 0.0)))
        if np.isfinite(loss):
            return
        kept = "no checkpoint was written yet"
        if self.checkpoint is not None and Path(self.checkpoint).exists():
            kept = f"the state after epoch {self._epoch} is in {self.checkpoint}"
        raise FloatingPointError(
            f"The loss became {loss} in epoch {self._epoch + 1}, step {batch + 1}; {kept}. "
            "Lower the learning rate or clip_norm, and look for faulty boxes (`kerasdet check`)."
        )
