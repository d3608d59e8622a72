"""One SGD step of a detector on one CPU, and on two logical CPUs under MirroredStrategy, as JSON.

Batch norm's statistics are of each replica's own images, so it is frozen for the comparison.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[2]))
from kerasdet.layers.conv import BatchNorm
from tests.contract.detectors import DETECTORS, batch


def step(make, scope):
    inputs, targets = batch(4)
    targets["labels"][:2] = -1  # all objects lie on the second replica
    with scope:
        keras.utils.set_random_seed(0)
        model = make()
        for layer in model._flatten_layers():
            if isinstance(layer, BatchNorm):
                layer.trainable = False
        model.compile(keras.optimizers.SGD(0.1))
    before = [w.numpy() for w in model.trainable_variables]
    data = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(4)
    history = model.fit(data, epochs=1, verbose=0).history
    after = [w.numpy() for w in model.trainable_variables]
    return {
        "loss": history["loss"][0],
        "terms": [history[name][0] for name in model.LOSS_TERMS],
        "update": [float(np.sum(b - a)) for a, b in zip(after, before)],
    }


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    make = DETECTORS[sys.argv[1]]
    devices = ["CPU:0", "CPU:1"]
    strategies = [tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(devices)]
    print(json.dumps([step(make, strategy.scope()) for strategy in strategies]))
