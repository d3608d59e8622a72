"""Keras callbacks: detection metrics during `fit`, and what a training run keeps of itself."""

import keras

from kerasdet.metrics import evaluate


class CocoMetrics(keras.callbacks.Callback):
    """Measure COCO average precision at the end of epochs and write it into the logs.

    Puts `val_mAP` (mean over IoU 0.5 to 0.95), `val_AP50`, `val_AP75`, `val_APs`, `val_APm`,
    `val_APl` and `val_AR100` where Keras' other callbacks look: give it *before* them, and say
    `mode="max"`. It needs no `validation_data`. Sizes of which the data has no object are left out.

    ```python
    callbacks=[
        CocoMetrics(dataset),
        keras.callbacks.EarlyStopping(monitor="val_mAP", mode="max", patience=10),
        keras.callbacks.ModelCheckpoint("best.keras", monitor="val_mAP", mode="max",
                                        save_best_only=True),
    ]
    ```

    The model is measured with the weights it has at that moment: a callback that swaps in
    averaged weights must stand before this one.

    Args:
        dataset: `kerasdet.data` data set to measure on.
        prefix: start of every name in the logs.
        every: epochs from one measurement to the next. The first and the last epoch are always
            measured; in the epochs between, the last figures stand, so that logs have no gaps.
        batch_size: pictures per step of detection.
        iou_type: "bbox", "segm" or "keypoints".

    Attributes:
        metrics: the last measurement whole, per class too, as `coco_metrics` returns it.
        detections: the detections it was made of.
    """

    def __init__(self, dataset, prefix="val_", every=1, batch_size=8, iou_type="bbox"):
        super().__init__()
        if every < 1:
            raise ValueError(f"`every` must be 1 or more epochs, got {every}.")
        self.dataset = dataset
        self.prefix = prefix
        self.every = every
        self.batch_size = batch_size
        self.iou_type = iou_type
        self.metrics = None
        self.detections = None

    def on_train_begin(self, logs=None):
        """Forget the figures of an earlier `fit`."""
        self.metrics = None

    def on_epoch_end(self, epoch, logs=None):
        """Measure, and add the figures to `logs`."""
        is_last = epoch + 1 == self.params.get("epochs")
        if self.metrics is None or (epoch + 1) % self.every == 0 or is_last:
            self.metrics, self.detections = evaluate(
                self.model, self.dataset, self.batch_size, iou_type=self.iou_type
            )
        if logs is not None:
            logs.update(self._figures())

    def _figures(self):
        """Name in the logs -> figure, of those that could be measured."""
        return {
            self.prefix + ("mAP" if name == "AP" else name): value
            for name, value in self.metrics.items()
            if isinstance(value, float) and name not in ("AR1", "AR10")
        }
