import csv
import dataclasses
import errno
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import kerasdet.training.checkpoints
import kerasdet.training.run_folder
from kerasdet.callbacks import AveragedWeights, StopOnNonFiniteLoss
from kerasdet.data import digit_scenes
from kerasdet.data.views import View
from kerasdet.layers.resizing import Stretch
from kerasdet.training import Recipe, WarmupSteps, train
from kerasdet.training.checkpoints import load_checkpoint, save_checkpoint
from kerasdet.training.recipe import learning_rate_schedule, make_optimizer
from tests.contract.detectors import keypoint_rcnn, mask_rcnn
from tests.training_parts import OneBox, Squares, one_box, run


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_warmup_steps():
    schedule = WarmupSteps(0.1, boundaries=(10, 20), factor=0.1, warmup_steps=4)
    # Rises by quarters, then 0.1, 0.01 from step 10, 0.001 from step 20.
    wanted = [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001]
    np.testing.assert_allclose(rates(schedule, [0, 1, 2, 3, 4, 9, 10, 19, 20]), wanted, rtol=1e-5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert copy.get_config() == schedule.get_config()
    assert float(WarmupSteps(0.1, (5,))(0)) == pytest.approx(0.1)


def test_schedules_of_recipes():
    cosine = Recipe(epochs=10, learning_rate=1.0, warmup_steps=20).resolved(10)
    # 100 steps: up over 20, half way down (to 0.505) at 60, a hundredth at the end.
    np.testing.assert_allclose(
        rates(learning_rate_schedule(cosine, 10), [0, 20, 60, 100]),
        [1 / 21, 1.0, 0.505, 0.01],
        rtol=1e-4,
    )
    step = Recipe(epochs=12, learning_rate=1.0, schedule="step", warmup_steps=0).resolved(10)
    np.testing.assert_allclose(
        rates(learning_rate_schedule(step, 10), [0, 79, 80, 109, 110]),
        [1, 1, 0.1, 0.1, 0.01],
        rtol=1e-5,
    )


def test_recipe_defaults_follow_the_run():
    short = Recipe(epochs=10).resolved(20)
    assert short.warmup_steps == 10  # a twentieth of 200 steps
    assert short.ema_momentum == pytest.approx(0.9)  # 1 - 1 / 10
    long = Recipe(epochs=1000).resolved(1000)
    assert (long.warmup_steps, long.ema_momentum) == (500, 0.9998)
    kept = Recipe(epochs=10, warmup_steps=3, ema_momentum=0.0).resolved(20)
    assert (kept.warmup_steps, kept.ema_momentum) == (3, 0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("optimizer", "adam"), ("learning_rate", 0.0), ("ema_momentum", 1.0)],
)
def test_recipe_names_what_is_wrong(field, value):
    with pytest.raises(ValueError, match=field):
        Recipe(**{field: value})


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_and_norms_do_not_decay(name):
    kernel = keras.Variable(np.ones((2, 2), "float32"))
    bias = keras.Variable(np.ones(2, "float32"))
    recipe = Recipe(
        optimizer=name, learning_rate=0.1, weight_decay=0.5, warmup_steps=0, ema_momentum=0.0
    ).resolved(10)
    optimizer = make_optimizer(recipe, 10, [kernel, bias])
    optimizer.apply([keras.ops.zeros((2, 2)), keras.ops.zeros(2)], [kernel, bias])
    # Without a gradient only the decay acts: 1 - 0.1 * 0.5.
    np.testing.assert_allclose(kernel.numpy(), 0.95, rtol=1e-5)
    np.testing.assert_array_equal(bias.numpy(), 1.0)


def test_gradient_is_clipped_as_a_whole():
    a, b = (keras.Variable(np.zeros(1, "float32")) for _ in range(2))
    recipe = Recipe(
        optimizer="sgd", learning_rate=1.0, weight_decay=0.0, clip_norm=1.0, ema_momentum=0.0
    ).resolved(100)
    optimizer = make_optimizer(recipe, 100, [a, b])
    rate = float(optimizer.learning_rate)
    optimizer.apply([keras.ops.array([3.0]), keras.ops.array([4.0])], [a, b])
    # The norm 5 becomes 1.
    np.testing.assert_allclose([a.numpy()[0], b.numpy()[0]], [-0.6 * rate, -0.8 * rate], rtol=1e-5)


def averaging_model():
    """One weight w, gradient -1 and rate 1: after step n it is n."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[0.0]])
    model.compile(
        keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5),
        loss=lambda y, prediction: -prediction,
    )
    return model


class Note(keras.callbacks.Callback):
    """The weight as callbacks see it at the end of epochs."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(float(self.model.layers[0].kernel.numpy()[0, 0]))


def test_averaged_weights_are_shown_and_taken_away():
    model, averaged, shown, raw = averaging_model(), AveragedWeights(), Note(), Note()
    x = np.ones((1, 1), "float32")
    callbacks = [averaged, shown, averaged.restored(), raw]
    model.fit(x, x, epochs=4, batch_size=1, verbose=0, callbacks=callbacks)
    assert raw.seen == [1, 2, 3, 4]
    # Momentum 0.5 has a window of 2 steps: in epoch 1 the average starts afresh, from 1; then
    # (1 + 2) / 2 = 1.5, (1.5 + 3) / 2 = 2.25, (2.25 + 4) / 2 = 3.125.
    assert shown.seen == [1, 1.5, 2.25, 3.125]
    assert model.layers[0].kernel.numpy()[0, 0] == 3.125  # what fit leaves


def test_validation_sees_the_average():
    model, averaged = averaging_model(), AveragedWeights()
    x = np.ones((1, 1), "float32")
    history = model.fit(
        x,
        x,
        epochs=3,
        batch_size=1,
        verbose=0,
        validation_data=(x, x),
        callbacks=[averaged, averaged.restored()],
    )
    assert history.history["val_loss"] == [-1, -1.5, -2.25]


def test_averaging_callback_without_averages_changes_nothing():
    model, averaged, shown = averaging_model(), AveragedWeights(), Note()
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, prediction: -prediction)
    x = np.ones((1, 1), "float32")
    callbacks = [averaged, shown, averaged.restored()]
    model.fit(x, x, epochs=2, batch_size=1, verbose=0, callbacks=callbacks)
    assert shown.seen == [1, 2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, *run(folder, epochs=8)


def test_training_lowers_the_loss(finished):
    _, _, history = finished
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["val_loss"][-1] < history["val_loss"][0]


def test_log_has_a_row_per_epoch(finished):
    folder, _, history = finished
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    assert {"minutes", "lr", "loss", "classification_loss", "box_loss"} <= set(rows[0])
    assert {"val_loss", "val_mAP", "val_AP50"} <= set(rows[0])
    assert [float(row["val_mAP"]) for row in rows] == history["val_mAP"]
    # 26 images by 4: six steps an epoch; the first rate lies below the warm-up's end.
    assert float(rows[-1]["lr"]) == pytest.approx(3e-5, rel=0.01)


def test_saved_models_hold_the_averaged_weights(finished):
    folder, model, history = finished
    images = list(Squares(6, seed=1).images())
    last = keras.saving.load_model(folder / "last.keras")
    for a, b in zip(last.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(last.detect(images), model.detect(images), strict=True):
        np.testing.assert_allclose(a["boxes"], b["boxes"], atol=1e-5)
    best = keras.saving.load_model(folder / "best.keras")
    evaluated = kerasdet_map(best)
    assert evaluated == pytest.approx(max(history["val_mAP"]), abs=1e-6)
    assert getattr(last, "optimizer", None) is None


def kerasdet_map(model):
    from kerasdet.metrics import evaluate

    return evaluate(model, Squares(6, seed=1))[0]["AP"]


def test_images_are_written(finished):
    folder, _, _ = finished
    assert Image.open(folder / "history.png").size[0] > 400
    sheet = Image.open(folder / "predictions.png")
    # Six images of 64 pixels in four columns and two rows, with gaps of 4.
    assert sheet.size == (4 * 68 + 4, 2 * 68 + 4)


def test_tensorboard_log(finished):
    folder, _, history = finished
    (path,) = folder.glob("events.out.tfevents.*")
    events = [
        tf.compat.v1.Event.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(path))
    ]
    assert events[0].file_version == "brain.Event:2"
    scalars = {
        (event.step, value.tag): value.simple_value
        for event in events
        for value in event.summary.value
    }
    for step, loss in zip(history["epoch"], history["val_loss"], strict=True):
        assert scalars[step, "val_loss"] == pytest.approx(loss, rel=1e-5)
    images = [v.image for e in events for v in e.summary.value if v.tag == "predictions"]
    assert len(images) >= 2  # after the first epoch and at the end
    assert images[0].encoded_image_string.startswith(b"\x89PNG")


def test_classes_must_agree(tmp_path):
    model = OneBox(2, class_names=("green", "red"))
    with pytest.raises(ValueError, match="red, green"):
        train(model, Squares(4), Recipe(epochs=1), out=tmp_path)


class Swapped(Squares):
    """The same images with their two classes in the other order."""

    class_names = ("green", "red")

    def record(self, index):
        record = super().record(index)
        return dataclasses.replace(record, labels=1 - record.labels)


class OnlyGreen(View):
    """Green squares, as a data set that knows no other class."""

    def __init__(self, greens):
        super().__init__(greens)
        self.class_names, self.category_ids = ("green",), (1,)

    def record(self, index):
        return dataclasses.replace(super().record(index), labels=np.zeros(1, "int32"))


def validated_on(validation, out):
    recipe = Recipe(epochs=1, batch_size=4, learning_rate=3e-3, ema_momentum=0.0)
    return train(one_box(), Squares(26), recipe, validation=validation, out=out, verbose=0)


def test_validation_classes_are_matched_by_name(tmp_path):
    wanted = validated_on(Squares(6, seed=1), tmp_path / "same")
    swapped = validated_on(Swapped(6, seed=1), tmp_path / "swapped")
    greens = Squares(6, seed=1).subset([1, 3, 5])
    some = validated_on(greens, tmp_path / "greens")
    alone = validated_on(OnlyGreen(greens), tmp_path / "alone")
    for name in ("val_loss", "val_classification_loss", "val_mAP", "val_AP50"):
        assert swapped[name] == pytest.approx(wanted[name], rel=1e-5)
        assert alone[name] == pytest.approx(some[name], rel=1e-5)
    assert wanted["val_loss"] != pytest.approx(some["val_loss"], rel=1e-5)


def test_a_class_of_the_validation_data_alone_is_named(tmp_path):
    validation = Squares(4)
    validation.class_names = ("red", "mauve")
    with pytest.raises(ValueError, match="'mauve', which are not among 'red', 'green'"):
        validated_on(validation, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def of_digits(make):
    """A small detector of digits."""
    keras.utils.set_random_seed(0)
    return make(data=digit_scenes("val", 2), resize=Stretch(64), max_detections=5)


def train_a_step(model, out, **data):
    data = {"data": digit_scenes("train", 2), "validation": digit_scenes("val", 2)} | data
    recipe = Recipe(epochs=1, batch_size=2, ema_momentum=0.0, warmup_steps=0)
    return train(model, recipe=recipe, out=out, verbose=0, **data)


def test_masks_are_learnt_measured_and_drawn(tmp_path, monkeypatch):
    model = of_digits(mask_rcnn)
    monkeypatch.setattr(kerasdet.training.run_folder, "SHEET_THRESHOLD", 0.0)
    history = train_a_step(model, tmp_path)
    assert {"mask_loss", "val_mask_loss", "val_mAP", "val_mask_mAP", "val_mask_AP50"} <= set(
        history
    )
    assert 0.5 < history["mask_loss"][0] < 0.9  # log 2 before anything is learnt
    assert not {name for name in history if "keypoint" in name}
    header = (tmp_path / "history.csv").read_text().splitlines()[0]
    assert "val_mask_mAP" in header.split(",")
    assert (tmp_path / "predictions.png").exists()
    assert model.detect([digit_scenes("val", 1).image(0)])[0]["masks"].shape[1:] == (28, 28)


def test_keypoints_are_learnt_and_measured(tmp_path):
    model = of_digits(keypoint_rcnn)
    history = train_a_step(model, tmp_path)
    assert {"keypoint_loss", "val_keypoint_loss", "val_mAP", "val_keypoint_mAP"} <= set(history)
    assert np.isfinite(history["keypoint_loss"][0])


def test_data_without_what_the_model_learns_is_refused(tmp_path):
    model = one_box()
    for part in ("masks", "keypoints"):
        model.TARGETS = (part,)
        with pytest.raises(ValueError, match=f"OneBox needs {part}, but squares has none"):
            train(model, Squares(4), Recipe(epochs=1), out=tmp_path)
    assert not list(tmp_path.iterdir())


class Poison(keras.callbacks.Callback):
    """Makes a weight NaN in the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.out.bias.assign(self.model.out.bias * np.nan)


def test_non_finite_loss_stops(tmp_path):
    with pytest.raises(FloatingPointError, match=r"epoch 2, step 1;.*after epoch 1.*checkpoint"):
        run(tmp_path, callbacks=[Poison()])


def test_non_finite_loss_without_checkpoint():
    callback = StopOnNonFiniteLoss()
    callback.on_epoch_begin(0)
    callback.on_train_batch_end(0, {"loss": 1.0})
    with pytest.raises(FloatingPointError, match="epoch 1, step 5; no checkpoint"):
        callback.on_train_batch_end(4, {"loss": np.inf})


def test_full_disk_keeps_the_earlier_checkpoint(tmp_path, monkeypatch):
    model = one_box()
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, model, {"rows": [1]})
    before = path.read_bytes()

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kerasdet.training.checkpoints.np, "savez", full)
    with pytest.raises(OSError, match="disk full") as caught:
        save_checkpoint(path, model, {"rows": [1, 2]})
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.npz"]
    monkeypatch.undo()
    assert load_checkpoint(path, model) == {"rows": [1]}
