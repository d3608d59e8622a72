"""A data set of drawn squares and a detector of one box, small enough to train in a test."""

import time

import keras
import numpy as np
from keras import ops

from kerasdet.data import Dataset, Record
from kerasdet.layers.resizing import Stretch
from kerasdet.models.detector import Detector
from kerasdet.training import Recipe, train

SIDE = 64


class Squares(Dataset):
    """One red or green square per image."""

    name = "squares"
    class_names = ("red", "green")
    category_ids = (1, 2)
    faults = ()

    def __init__(self, length, seed=0):
        self.length, self.seed = length, seed

    def __len__(self):
        return self.length

    def record(self, index):
        rng = np.random.default_rng((self.seed, index))
        side = rng.integers(16, 40)
        x, y = rng.integers(0, SIDE - side, 2)
        return Record(
            image_id=index,
            height=SIDE,
            width=SIDE,
            boxes=np.array([[x, y, x + side, y + side]], "float32"),
            labels=np.array([index % 2], "int32"),
            ignore=np.array([False]),
            area=np.array([side * side], "float32"),
        )

    def image(self, index):
        image = np.full((SIDE, SIDE, 3), 90, "uint8")
        x1, y1, x2, y2 = self.record(index).boxes[0].astype(int)
        image[y1:y2, x1:x2] = [(220, 20, 20), (20, 220, 20)][index % 2]
        return image


@keras.saving.register_keras_serializable("tests")
class Features(keras.layers.Layer):
    mean, std = (128.0,) * 3, (64.0,) * 3

    def normalize(self, images):
        return (ops.cast(images, "float32") - 128.0) / 64.0

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = keras.layers.Conv2D(8, 8, 8, activation="relu")
        self.norm = keras.layers.BatchNormalization()
        self.build((None, SIDE, SIDE, 3))

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build((None, SIDE // 8, SIDE // 8, 8))
        self.built = True

    def call(self, images, training=False):
        return self.norm(self.conv(images), training=training)


@keras.saving.register_keras_serializable("tests")
class OneBox(Detector):
    """Predicts one box per image, through a dropout that keeps a random state."""

    LOSS_TERMS = ("classification_loss", "box_loss")

    def __init__(self, num_classes, backbone=None, **kwargs):
        super().__init__(num_classes, backbone=backbone or Features(), **kwargs)
        self.dropout = keras.layers.Dropout(0.2)
        self.out = keras.layers.Dense(num_classes + 4)
        self.out.build((None, (SIDE // 8) ** 2 * 8))
        self.built = True

    def call(self, inputs, training=False):
        images, _ = self.normalize(inputs)
        x = self.backbone(images, training=training)
        x = self.out(self.dropout(ops.reshape(x, (ops.shape(x)[0], -1)), training=training))
        return {"logits": x[:, :-4], "boxes": SIDE * ops.sigmoid(x[:, -4:])}

    def loss_terms(self, outputs, targets, training=False):
        wanted = ops.one_hot(targets["labels"][:, 0], self.num_classes)
        entropy = ops.binary_crossentropy(wanted, outputs["logits"], from_logits=True)
        distance = ops.abs(targets["boxes"][:, 0] - outputs["boxes"]) / SIDE
        count = ops.cast(ops.shape(wanted)[0], "float32")
        return {
            "classification_loss": (ops.sum(entropy), count),
            "box_loss": (ops.sum(distance), count),
        }

    def decode(self, outputs):
        scores = ops.sigmoid(outputs["logits"])
        return {
            "boxes": outputs["boxes"][:, None],
            "labels": ops.cast(ops.argmax(scores, axis=-1), "int32")[:, None],
            "confidence": ops.max(scores, axis=-1)[:, None],
            "num_detections": ops.ones_like(scores[:, 0], dtype="int32"),
        }


def one_box(seed=0, class_names=("red", "green")):
    keras.utils.set_random_seed(seed)
    return OneBox(2, class_names=class_names, resize=Stretch(SIDE))


def add_noise(rng, image, record):
    return np.clip(image + rng.normal(0, 20, image.shape), 0, 255), record


class Slow(keras.callbacks.Callback):
    """Says when an epoch begins, and takes its time."""

    def on_epoch_begin(self, epoch, logs=None):
        print(f"epoch {epoch + 1}", flush=True)

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.05)


def run(out, epochs=3, resume=False, seed=0, callbacks=(), verbose=0, **recipe):
    """Train a `OneBox` as every test here does; returns it and the history."""
    model = one_box(seed)
    history = train(
        model,
        Squares(26),
        Recipe(epochs=epochs, batch_size=4, learning_rate=3e-3, ema_momentum=0.8, **recipe),
        validation=Squares(6, seed=1),
        out=out,
        augment=add_noise,
        resume=resume,
        callbacks=callbacks,
        verbose=verbose,
    )
    return model, history
