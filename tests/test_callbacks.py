from types import SimpleNamespace

import keras
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from kerasdet.callbacks import CocoMetrics, SemanticMetrics

BOX = np.array([[0, 0, 40, 40]], "float32")


class Scenes:
    """Two images, one of them empty; one object of the class "b"."""

    class_names = ("b",)
    keypoint_sigmas = ()

    def __len__(self):
        return 2

    def record(self, index):
        count = 1 - index
        return SimpleNamespace(
            image_id=index,
            height=64,
            width=64,
            boxes=BOX[:count],
            labels=np.zeros(count, "int32"),
            ignore=np.zeros(count, bool),
            area=np.full(count, 1600.0),
            masks=None,
            keypoints=None,
        )

    def images(self):
        yield from np.zeros((2, 64, 64, 3), "uint8")


class Stub(keras.Sequential):
    """Trains one weight; its detections are right from the epoch `good` to before `bad`."""

    class_names = ("a", "b")

    def __init__(self, good=0, bad=99):
        super().__init__([keras.Input((1,)), keras.layers.Dense(1)])
        self.good, self.bad, self.measured = good, bad, 0
        self.compile("sgd", "mse")

    def detect(self, images, batch_size=1):
        shift = 0 if self.good <= self.measured < self.bad else 20
        self.measured += 1
        none = {"boxes": BOX[:0], "labels": np.zeros(0, int), "confidence": np.zeros(0)}
        found = {"boxes": BOX + shift, "labels": np.array([1]), "confidence": np.array([0.9])}
        assert [image.shape for image in images] == [(64, 64, 3)] * 2
        return [found, none]


def train(model, callbacks, epochs):
    x = np.ones((4, 1), "float32")
    return model.fit(x, x, epochs=epochs, verbose=0, callbacks=callbacks)


def test_early_stopping_and_checkpoint_follow_the_map(tmp_path):
    model = Stub(good=1, bad=2)
    callbacks = [
        CocoMetrics(Scenes()),
        keras.callbacks.EarlyStopping(monitor="val_mAP", mode="max", patience=2),
        keras.callbacks.ModelCheckpoint(
            str(tmp_path / "{epoch}_{val_mAP:.2f}.weights.h5"),
            monitor="val_mAP",
            mode="max",
            save_best_only=True,
            save_weights_only=True,
        ),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
    ]
    history = train(model, callbacks, epochs=9).history
    assert history["val_mAP"] == pytest.approx([0, 1, 0, 0])  # stopped two after the best
    assert history["val_AP50"] == history["val_AR100"] == history["val_mAP"]
    assert "val_APs" not in history  # no object is small
    assert sorted(p.name for p in tmp_path.glob("*.h5")) == [
        "1_0.00.weights.h5",
        "2_1.00.weights.h5",
    ]
    assert "val_mAP" in (tmp_path / "log.csv").read_text().splitlines()[0]
    assert callbacks[0].metrics["bbox"]["per_class"]["b"]["objects"] == 1
    np.testing.assert_array_equal(callbacks[0].detections[0]["labels"], [0])


class WithParts(Scenes):
    """The object's mask is its box, its keypoints two corners of it."""

    keypoint_sigmas = (0.05, 0.05)

    def record(self, index):
        record = super().record(index)
        count = len(record.labels)
        mask = np.zeros((64, 64), "uint8", order="F")
        mask[:40, :40] = 1
        record.masks = (coco_mask.encode(mask),) * count
        record.keypoints = np.array([[[0, 0, 2], [40, 40, 2]]] * count).reshape(-1, 2, 3)
        return record


class StubWithParts(Stub):
    """Right boxes with right keypoints, and masks of which the lower third is missing."""

    EXTRAS = ("masks", "keypoints")

    def detect(self, images, batch_size=1):
        masks = np.ones((1, 60, 60), "float32")
        masks[:, 40:] = 0
        keypoints = np.array([[[0, 0, 9.0], [40, 40, 8.0]]])
        found, none = super().detect(images, batch_size)
        found |= {"masks": masks, "keypoints": keypoints}
        return [found, none | {"masks": masks[:0], "keypoints": keypoints[:0]}]


def test_masks_and_keypoints_are_measured_beside_boxes():
    callback = CocoMetrics(WithParts())
    history = train(StubWithParts(), [callback], epochs=1).history
    assert history["val_mAP"] == history["val_keypoint_mAP"] == pytest.approx([1])
    # IoU 2/3, less the pixels that a pasted mask reaches beyond its box: above 0.5, 0.55, 0.6 of the
    # ten thresholds, and perhaps 0.65.
    assert 0.3 <= round(history["val_mask_mAP"][0], 6) <= 0.4
    assert (history["val_mask_AP50"], history["val_mask_AP75"]) == ([1], [0])
    assert {"val_mask_APm", "val_mask_AR100", "val_keypoint_AP75", "val_keypoint_AR20"} <= set(
        history
    )
    assert list(callback.metrics) == ["bbox", "segm", "keypoints"]
    assert callback.detections[0]["masks"][0]["size"] == [64, 64]


def test_what_the_data_has_not_or_is_not_asked_for_is_not_measured():
    history = train(StubWithParts(), [CocoMetrics(Scenes())], epochs=1).history
    assert not {name for name in history if "mask" in name or "keypoint" in name}
    history = train(StubWithParts(), [CocoMetrics(WithParts(), iou_type="segm")], epochs=1).history
    assert "val_mask_mAP" in history
    assert "val_mAP" not in history
    with pytest.raises(ValueError, match="Stub predicts no masks"):
        train(Stub(), [CocoMetrics(WithParts(), iou_type="segm")], epochs=1)


def test_every_measures_the_first_and_the_last_epoch_too():
    model = Stub(good=1, bad=2)
    history = train(model, [CocoMetrics(Scenes(), prefix="test_", every=3)], epochs=5).history
    assert model.measured == 3  # epochs 1, 3 and 5
    assert history["test_mAP"] == pytest.approx([0, 0, 1, 1, 0])


def test_a_class_the_model_does_not_know_is_an_error():
    model = Stub()
    model.class_names = ("a", "c")
    with pytest.raises(ValueError, match=r"does not know the data's class\(es\) 'b'"):
        train(model, [CocoMetrics(Scenes())], epochs=1)
    with pytest.raises(ValueError, match="1 or more epochs, got 0"):
        CocoMetrics(Scenes(), every=0)


class Maps(Scenes):
    """One image of two pixels, a 0 and a 1."""

    name = "maps"
    semantic_names = ()

    def __len__(self):
        return 1

    def semantic(self, index):
        return np.array([[0, 1]])

    def images(self):
        yield np.zeros((1, 2, 3), "uint8")


class Segmenter(Stub):
    """Right in the first measurement, half wrong from then on."""

    def segment(self, images):
        self.measured += 1
        return [np.array([[0, 1]]) if self.measured == 1 else np.array([[0, 0]])]


def test_segmenters_are_measured_by_iu():
    model, callback = Segmenter(), SemanticMetrics(Maps())
    history = train(model, [callback], epochs=2).history
    assert history["val_mIU"] == pytest.approx([1, 1 / 4])  # IU 1/2 and 0
    assert history["val_pixel_accuracy"] == history["val_mean_accuracy"] == [1, 1 / 2]
    assert history["val_fwIU"] == [1, 1 / 4]
    assert callback.metrics["per_class"]["b"] == {"IU": 0, "accuracy": 0, "pixels": 1}
    assert callback.matrix.tolist() == [[1, 0], [1, 0]]
    model, callback = Segmenter(), SemanticMetrics(Maps(), prefix="test_", every=3)
    assert train(model, [callback], epochs=4).history["test_mIU"] == [1, 1, 1 / 4, 1 / 4]
    assert model.measured == 3
    with pytest.raises(ValueError, match="1 or more epochs, got 0"):
        SemanticMetrics(Maps(), every=0)


def test_monitor_is_the_name_to_watch():
    assert CocoMetrics(Scenes()).monitor == "val_mAP"
    assert CocoMetrics(Scenes(), prefix="test_").monitor == "test_mAP"
    assert SemanticMetrics(Maps()).monitor == "val_mIU"
    # Keras compares it with the logs' names.
    monitor = CocoMetrics(Scenes()).monitor
    stop = keras.callbacks.EarlyStopping(monitor=monitor, mode="max", patience=1)
    history = train(Stub(good=0, bad=1), [CocoMetrics(Scenes()), stop], epochs=9).history
    assert history["val_mAP"] == pytest.approx([1, 0])
