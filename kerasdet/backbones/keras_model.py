"""A functional Keras model, such as those of `keras.applications`, as a backbone.

Departure from these models: of an odd number of rows some halve to the smaller number, some to the larger (of
97, EfficientNet makes 48, ResNet 49). Here an image is first padded with zeros, below and at the right, to
multiples of the largest stride, where all agree, and each level is then cut to ceil(H / 2**n). Images of such
sizes pass as they are, and give the model's own values.
"""

import json

import keras
import numpy as np
from keras import ops

from kerasdet.backbones.applications import (
    check_levels,
    find_levels,
    first_map,
    maps,
    preprocessing,
)
from kerasdet.backbones.backbone import LEVELS, Backbone, batch_norms, copy_layers


@keras.saving.register_keras_serializable("kerasdet")
class KerasBackbone(Backbone):
    """What `Backbone.from_keras` makes: the layers of a functional model, with their weights.

    Args:
        model: functional model from one input (B, None, None, C) to a dict of maps by level; its layers
            become this backbone's.
        levels: the levels to return; what only those above the highest need is left out.
        mean: C values, in units of 0..255.
        std: C values, in units of 0..255.
        reverse_channels: the model's channels are blue, green, red.
        freeze_at: level, such as "C2": the layers up to it are not trained.
        frozen_norm: whether batch normalisation is not trained and keeps its statistics.

    Raises:
        ValueError: the model does not give one of the levels.
    """

    def __init__(self, model, levels, mean, std, reverse_channels=False, **kwargs):
        stages = model.output
        unknown = [level for level in levels if level not in stages]
        if unknown or not levels:
            raise ValueError(f"levels must be among {tuple(stages)}; got {tuple(levels)}.")
        highest = max(int(level[1]) for level in levels)
        stages = {level: x for level, x in stages.items() if int(level[1]) <= highest}
        model = keras.Model(model.inputs[0], stages, name=model.name)
        # As text, because Keras would track a dict; before anything is frozen, for `with_levels`.
        self._model_config = json.dumps(keras.saving.serialize_keras_object(model))
        policy = next((layer.dtype_policy for layer in model.layers if layer.weights), None)
        super().__init__(model.inputs[0], stages, levels, mean, std, policy, **kwargs)
        self.reverse_channels = reverse_channels

    def call(self, images, training=None, mask=None):
        """Maps by level of normalised images (B, H, W, C); level "Cn" is ceil(H / 2**n) high."""
        size = ops.shape(images)[1:3]
        if self.reverse_channels:
            images = images[..., ::-1]
        padded = _padded_to_multiple(images, max(self.strides.values()))
        features = super().call(padded, training=training, mask=mask)
        cells = {
            level: [-(-side // stride) for side in size] for level, stride in self.strides.items()
        }
        return {level: x[:, : cells[level][0], : cells[level][1]] for level, x in features.items()}

    def compute_output_spec(self, images, training=None, mask=None):
        """Shapes of the maps."""
        batch, *size = images.shape[:3]
        spec = super().compute_output_spec(keras.KerasTensor((batch, None, None, images.shape[3])))
        return {
            level: keras.KerasTensor(
                (batch, *(n and -(-n // self.strides[level]) for n in size), x.shape[-1]), x.dtype
            )
            for level, x in spec.items()
        }

    def get_config(self):
        """Return the constructor's arguments; the layers' types stand in the model's config."""
        config = {name: value for name, value in super().get_config().items() if name != "dtype"}
        return {
            **config,
            "model": json.loads(self._model_config),
            "reverse_channels": self.reverse_channels,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild the backbone, without the weights."""
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(**{**config, "model": model})


def from_keras(
    model,
    levels=None,
    mean=None,
    std=None,
    reverse_channels=False,
    freeze_at=None,
    frozen_norm=None,
    dtype=None,
):
    """See `Backbone.from_keras`."""
    _check_functional(model)
    mean, std, reverse_channels = preprocessing(model, mean, std, reverse_channels)
    named = levels if isinstance(levels, dict) else None
    features = _features(model, named, dtype)
    stages = find_levels(features) if named is None else dict(sorted(named.items()))
    if named is not None:
        check_levels(features, named)
        levels = named
    elif not stages:
        raise ValueError(
            f"{model.name} has no map of H / 2**n x W / 2**n cells: its convolutions have no padding, and "
            "anchors would not lie on what its cells see. Take another model."
        )
    outputs = {level: features.get_layer(name).output for level, name in stages.items()}
    extractor = keras.Model(features.inputs[0], outputs, name=model.name)
    copy_layers(model, extractor)
    if frozen_norm is None:
        frozen_norm = any(map(_is_trained, batch_norms(extractor.layers)))
    if levels is None:
        levels = [level for level in LEVELS if level in stages]
    frozen = {"freeze_at": freeze_at, "frozen_norm": frozen_norm}
    return KerasBackbone(extractor, tuple(levels), mean, std, reverse_channels, **frozen)


def _check_functional(model):
    inputs = getattr(model, "inputs", None)
    if not isinstance(model, keras.Model) or not inputs:
        raise ValueError(
            f"{type(model).__name__} is no functional model with an Input, whose layers could be found; "
            "give one such as keras.applications.MobileNetV3Small()."
        )
    shapes = [tuple(x.shape) for x in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] is None:
        raise ValueError(
            f"{model.name} takes inputs of the shapes {shapes}; a backbone takes one, images (B, H, W, C)."
        )


def _features(model, levels, dtype):
    """A new model, without weights, of the layers that give maps, for images of any size.

    It begins behind the preprocessing. With `levels`, it has the layers that these need.
    """
    first, skipped, _, _ = first_map(model)
    outputs = {name: x for name, x in maps(model).items() if name not in skipped}
    if levels is not None:
        outputs = {name: x for name, x in outputs.items() if name in levels.values()}
    if not outputs:
        raise ValueError(
            f"levels: {model.name} has no layer {levels} that gives one map."
            if levels
            else f"{model.name} has no layer that gives one map (B, H, W, C)."
        )
    return _copied(keras.Model(first, outputs, name=model.name), dtype)


def _copied(layer, dtype):
    """A new layer of the same configuration; of models, one that takes images of any size."""
    if isinstance(layer, keras.layers.Lambda):
        raise ValueError(
            f"{layer.name} is a Lambda layer, which no saved file can bring back: write it as a layer with "
            "keras.saving.register_keras_serializable."
        )
    if isinstance(layer, keras.Sequential):
        return keras.Sequential([_copied(part, dtype) for part in layer.layers], name=layer.name)
    if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
        return keras.models.clone_model(
            layer,
            input_tensors=keras.tree.map_structure(_of_any_size, layer.input),
            clone_function=lambda part: _copied(part, dtype),
        )
    config = layer.get_config()
    return type(layer).from_config(config if dtype is None else config | {"dtype": dtype})


def _of_any_size(x):
    shape = (None, None, None, x.shape[3]) if len(x.shape) == 4 else x.shape
    return keras.Input(batch_shape=shape, dtype=x.dtype)


def _is_trained(norm):
    return bool(np.any(ops.convert_to_numpy(norm.moving_mean)))


def _padded_to_multiple(images, multiple):
    """Images with zeros below and at the right, up to a multiple of pixels in both directions."""
    missing = [-side % multiple for side in ops.shape(images)[1:3]]
    if all(isinstance(pixels, int) and pixels == 0 for pixels in missing):
        return images
    return ops.pad(images, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])
