"""One endless stream of training batches whose every epoch depends on its number alone."""

import itertools

import numpy as np
import tensorflow as tf


def epochs_of(data, batch_size, resize, augment=None, seed=0, first_epoch=0):
    """Shuffled, augmented batches, epoch after epoch.

    Order and augmentation of epoch e follow from (seed, e), so a training that is resumed at epoch e
    sees what it would have seen without the interruption. The last incomplete batch of an epoch is
    left out, unless it is the only one.

    Args:
        data: `Dataset`.
        batch_size: pictures per batch.
        resize: a `Resize`, or a list of which every batch takes one.
        augment: `augment(rng, image, record)`, or None.
        seed: non-negative integer.
        first_epoch: number of the epoch with which the stream begins.

    Returns:
        An infinite `tf.data.Dataset` of (inputs, targets), `max(1, len(data) // batch_size)` batches
        per epoch.
    """

    def one_epoch(epoch):
        return data.batches(
            batch_size,
            resize,
            augment=augment,
            shuffle=True,
            seed=int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0] >> 1),
            drop_remainder=len(data) >= batch_size,
        )

    def stream():
        for epoch in itertools.count(first_epoch):
            yield from one_epoch(epoch)

    spec = one_epoch(first_epoch).element_spec
    return tf.data.Dataset.from_generator(stream, output_signature=spec).prefetch(1)
