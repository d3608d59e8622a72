"""The smallest backbone there can be, for tracing takes seconds, and what keeps other models cheap."""

import math

import keras

from kerasdet.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, LEVELS, Backbone
from kerasdet.layers.deform import conv_norm_of


@keras.saving.register_keras_serializable("kerasdet_tests")
class TinyBackbone(Backbone):
    """One stride-2 convolution per stage."""

    def __init__(
        self,
        levels=LEVELS,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        deformable=None,
        dtype=None,
        **kwargs,
    ):
        inputs = x = keras.Input((None, None, 3), name="images")
        outputs = {}
        for stage in range(1, 6):
            conv = conv_norm_of(deformable, stage)
            x = conv(8, 3, stride=2, activation="relu", name=f"stage{stage}", dtype=dtype)(x)
            outputs[f"C{stage}"] = x
        super().__init__(inputs, outputs, levels, mean, std, dtype=dtype, **kwargs)
        self.deformable = deformable

    def get_config(self):
        deformable = keras.saving.serialize_keras_object(self.deformable)
        return {**super().get_config(), "deformable": deformable}


def cheap_weights(monkeypatch):
    """Draw no random numbers: for models whose weights are only counted."""
    zeros = keras.initializers.Zeros()
    kinds = [keras.initializers.RandomNormal, keras.initializers.VarianceScaling]
    for kind in (*kinds, keras.initializers.HeNormal, keras.initializers.HeUniform):
        monkeypatch.setattr(kind, "__call__", lambda _, shape, dtype=None: zeros(shape, dtype))


def parameters(part):
    """Number of a part's trainable weights."""
    return sum(math.prod(weight.shape) for weight in part.trainable_weights)


def candidates_seen(monkeypatch, model, outputs, most):
    """How many boxes of the outputs go into suppression, for each of several `max_detections`."""
    seen = []
    monkeypatch.setattr(
        type(model), "suppress", lambda self, boxes, *_: seen.append(boxes.shape[1])
    )
    for count in most:
        model.max_detections = count
        model.decode(outputs)
    return seen
