"""Train a backbone as for ImageNet, by classification, on single handwritten digits.

    python examples/digit_backbone.py --out digit_backbone.keras

It replaces a published backbone if none can be downloaded. Each image holds one digit, cut from a digit
scene with a margin; the classifier says which of the ten digits it is. The script prints the accuracy on
digits of the validation split, and writes the model, whose backbone a detector can then use.
"""

import argparse

import keras
import numpy as np
from PIL import Image

from kerasdet.backbones import ImageClassifier, MobileNetV2
from kerasdet.data import digit_scenes

SIDE = 64  # pixels of an image
MARGIN = 1.5  # side of the cut square, relative to the side of the digit's box


def crops(scenes):
    """Cut single digits: images (N, SIDE, SIDE, 3) uint8 and labels (N,)."""
    cut, labels = [], []
    for index in range(len(scenes)):
        image, record = Image.fromarray(scenes.image(index)), scenes.record(index)
        for (x1, y1, x2, y2), label in zip(record.boxes, record.labels):
            half = MARGIN * max(x2 - x1, y2 - y1) / 2
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
            square = (x - half, y - half, x + half, y + half)
            size = (SIDE, SIDE)
            cut.append(image.transform(size, Image.EXTENT, square, Image.BILINEAR))
            labels.append(label)
    return np.stack([np.asarray(image) for image in cut]), np.array(labels)


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="digit_backbone.keras", help="the .keras file to write")
    parser.add_argument("--scenes", type=int, default=2000, help="digit scenes to cut from")
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    train = crops(digit_scenes("train", arguments.scenes))
    val = crops(digit_scenes("val"))
    print(f"{len(train[1])} digits to train on, {len(val[1])} to validate")

    model = ImageClassifier(MobileNetV2(alpha=0.5), num_classes=10)
    steps = arguments.epochs * -(-len(train[1]) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(*train, batch_size=64, epochs=arguments.epochs, validation_data=val, verbose=2)
    model.save(arguments.out)


if __name__ == "__main__":
    main()
