"""The smallest backbone there can be: tracing and converting take seconds for each hundred operations."""

import keras

from kerasdet.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, LEVELS, Backbone
from kerasdet.layers.conv import ConvNorm


@keras.saving.register_keras_serializable("kerasdet_tests")
class TinyBackbone(Backbone):
    """One stride-2 convolution per stage."""

    def __init__(self, levels=LEVELS, mean=IMAGENET_MEAN, std=IMAGENET_STD, dtype=None, **kwargs):
        inputs = x = keras.Input((None, None, 3), name="images")
        outputs = {}
        for stage in range(1, 6):
            x = ConvNorm(8, 3, 2, activation="relu", name=f"stage{stage}", dtype=dtype)(x)
            outputs[f"C{stage}"] = x
        super().__init__(inputs, outputs, levels, mean, std, dtype=dtype, **kwargs)
