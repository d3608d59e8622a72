"""The suppression layer, through Keras' own layer test."""

import keras
import numpy as np
from keras.src.testing import TestCase

from kerasdet.layers.nms import NonMaxSuppression
from kerasdet.ops.nms import batched_nms, nms

RNG = np.random.default_rng(0)
STARTS = RNG.uniform(0, 60, (2, 30, 2))
BOXES = np.concatenate([STARTS, STARTS + 30], -1).astype("float32")
SCORES = RNG.uniform(0, 1, (2, 30)).astype("float32")
LABELS = RNG.integers(0, 3, (2, 30)).astype("int32")
OPTIONS = {"iou_threshold": 0.4, "max_output_size": 12, "score_threshold": 0.2}


class NonMaxSuppressionTest(TestCase):
    def test_layer(self):
        self.run_layer_test(
            NonMaxSuppression,
            init_kwargs=OPTIONS,
            input_shape={
                "boxes_shape": (2, 30, 4),
                "scores_shape": (2, 30),
                "labels_shape": (2, 30),
            },
            expected_output_shape=((2, 12), (2,)),
            expected_output_dtype=("int32", "int32"),
            expected_num_trainable_weights=0,
            expected_num_non_trainable_weights=0,
            run_training_check=False,
        )


def test_values():
    layer = NonMaxSuppression(**OPTIONS)
    expected = batched_nms(BOXES, SCORES, LABELS, 0.4, 12, 0.2)
    np.testing.assert_array_equal(layer(BOXES, SCORES, LABELS)[0], expected[0])
    np.testing.assert_array_equal(layer(BOXES, SCORES)[0], nms(BOXES, SCORES, 0.4, 12, 0.2)[0])


def test_config_round_trip():
    layer = NonMaxSuppression(**OPTIONS, name="other")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert {name: getattr(again, name) for name in OPTIONS} == OPTIONS
