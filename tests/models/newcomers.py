"""What papers to come are like: the least model that needs each, on a data set that fits it.

`Spots` has no backbone, sees four channels at two scales, and is fitted without gradients; `Painter` tells
the class of each pixel. Both stand on the contract alone.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from kerasdet.data import Dataset, Record
from kerasdet.layers import Fit, ImagePyramid
from kerasdet.layers.conv import Conv
from kerasdet.models import Detector, ImageModel
from kerasdet.ops.candidates import best_pairs
from kerasdet.ops.gather import gather_rows

SIDE = 64
WIDTHS = (8, 16)  # of the squares, which lie on cells of their own width


class Scans(Dataset):
    """Images of four channels: a square of 8 pixels, or a striped one of 16, in channel 1 or 3 by its class.

    The stripes are one pixel wide, so that the large square is an even surface at half the size alone.
    """

    name = "scans"
    class_names = ("one", "three")
    category_ids = (1, 2)
    channels = 4
    faults = ()
    semantic_names = ("one", "three")

    def __init__(self, length, seed=0):
        self.length, self.seed = length, seed

    def __len__(self):
        return self.length

    def record(self, index):
        rng = np.random.default_rng((self.seed, index))
        width = WIDTHS[rng.integers(2)]
        x, y = width * rng.integers(0, SIDE // width, 2)
        return Record(
            image_id=index,
            height=SIDE,
            width=SIDE,
            boxes=np.array([[x, y, x + width, y + width]], "float32"),
            labels=np.array([index % 2], "int32"),
            ignore=np.array([False]),
            area=np.array([width * width], "float32"),
        )

    def image(self, index):
        image = np.full((SIDE, SIDE, 4), 20, "uint8")
        x1, y1, x2, y2 = self.record(index).boxes[0].astype(int)
        square = image[y1:y2, x1:x2, 1 + 2 * (index % 2)]
        square[:] = 120
        if x2 - x1 == WIDTHS[1]:
            square[:, ::2], square[:, 1::2] = 220, 20
        return image

    def semantic(self, index):
        bright = self.image(index).max(-1) > 20  # not the dark stripes
        return np.where(bright, index % 2, -1).astype("int32")

    def with_ids(self, ids):
        """The same images under other ids."""
        other = Scans(self.length, self.seed)
        record = other.record
        other.record = lambda index: dataclasses.replace(record(index), image_id=ids[index])
        return other


@keras.saving.register_keras_serializable("kerasdet_tests")
class Spots(Detector):
    """Finds cells of 8 pixels, at two scales, that are as bright in a channel as a class was found to be."""

    GRADIENTS = False
    MEAN, STD = (0.0,) * 4, (255.0,) * 4

    def __init__(self, num_classes, factors=(1.0, 0.5), **detector):
        super().__init__(num_classes, **detector)
        self.pyramid = ImagePyramid(factors)
        self.factors = tuple(factors)
        # What each class looks like: the mean of its objects.
        self.looks = self.add_weight((self.num_classes, 4), name="looks", trainable=False)
        self.built = True

    @classmethod
    def for_data(cls, data, resize=None, backbone=None, factors=(1.0, 0.5)):
        """Build one for a data set.

        Args:
            factors: scales to look at.
        """
        return cls(len(data.class_names), factors, class_names=data.class_names, resize=resize)

    def fit(self, data):
        """Learn the mean colour of each class from a `Dataset`."""
        colours = [[] for _ in range(self.num_classes)]
        for index in range(len(data)):
            record, image = data.record(index), data.image(index)
            for (x1, y1, x2, y2), label in zip(record.boxes.astype(int), record.labels):
                colours[label].append(image[y1:y2, x1:x2].reshape(-1, 4).mean(0) / 255)
        self.looks.assign([np.mean(colour, axis=0) for colour in colours])

    def call(self, inputs, training=False):
        images, image_sizes = self.normalize(inputs)
        boxes, scores = [], []
        for level, _, scale in self.pyramid(images, image_sizes):
            means = ops.average_pool(level, 8, 8, padding="valid", data_format="channels_last")
            spread = ops.max_pool(level, 8, 8, padding="valid", data_format="channels_last") - means
            batch, rows, columns, channels = ops.shape(means)
            means = ops.reshape(means, (batch, rows * columns, 1, channels))  # (B, A, 1, C)
            spread = ops.reshape(spread, (batch, rows * columns, 1, channels))
            distance = ops.sum(ops.abs(means - self.looks) + spread, axis=-1)  # (B, A, K)
            scores.append(ops.exp(-10.0 * distance))
            place = ops.arange(rows * columns, dtype="int32")
            corner = 8 * ops.stack([place % columns, place // columns], axis=-1)  # (A, 2)
            box = ops.cast(ops.concatenate([corner, corner + 8], axis=-1), "float32") * scale
            boxes.append(ops.broadcast_to(box[None], (batch, rows * columns, 4)))
        return {"boxes": ops.concatenate(boxes, axis=1), "scores": ops.concatenate(scores, axis=1)}

    def decode(self, outputs):
        places, labels, scores = best_pairs(outputs["scores"], 50)
        return self.suppress(gather_rows(outputs["boxes"], places), labels, scores)


@keras.saving.register_keras_serializable("kerasdet_tests")
class Painter(ImageModel):
    """Tells the class of each pixel by one 1x1 convolution of its four channels."""

    LOSS_TERMS = ("pixel_loss",)
    TARGETS = ("semantic",)
    MEAN, STD = (0.0,) * 4, (255.0,) * 4

    def __init__(self, num_classes, **model):
        super().__init__(num_classes, **model)
        self.output_conv = Conv(num_classes, 1, dtype="float32", name="output_conv")
        self.output_conv.build((None, None, None, 4))
        self.built = True

    @classmethod
    def for_data(cls, data, resize=None, backbone=None):
        """Build one for a data set."""
        return cls(len(data.class_names), class_names=data.class_names, resize=resize)

    def call(self, inputs, training=False):
        images, image_sizes = self.normalize(inputs)
        return {"logits": self.output_conv(images), "image_sizes": image_sizes}

    def prepare(self, inputs, targets):
        return targets

    def loss_terms(self, outputs, targets, training=False):
        known = targets["semantic"] >= 0
        losses = ops.sparse_categorical_crossentropy(
            ops.maximum(targets["semantic"], 0), outputs["logits"], from_logits=True
        )
        count = ops.sum(ops.cast(known, "float32"))
        return {"pixel_loss": (ops.sum(ops.where(known, losses, 0.0)), count)}

    def decode(self, outputs):
        return {"semantic": ops.cast(ops.argmax(outputs["logits"], axis=-1), "int32")}

    def segment(self, images):
        """Classes of each pixel of images of the canvas's size, a list of (H, W) int32."""
        return list(
            self.predict_on_batch(self.to_canvas([*map(self.read_image, images)]))["semantic"]
        )


def spots():
    return Spots.for_data(Scans(8), Fit(SIDE, SIDE))


def painter():
    keras.utils.set_random_seed(0)
    return Painter.for_data(Scans(8), Fit(SIDE, SIDE))
