"""What a functional Keras model tells of itself: its preprocessing, and its maps by stride."""

import re

import keras
import numpy as np

from kerasdet.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD

HALF = (127.5, 127.5, 127.5)
CAFFE_MEAN = (123.68, 116.779, 103.939)
# Name of a model of `keras.applications`: mean, std, and whether its channels are blue, green, red; as its
# `preprocess_input` does, and for models that bring their own, as they need it without.
APPLICATIONS = {
    r"resnet\d+v2|inception|xception|mobilenet|nasnet|efficientnetv2": (HALF, HALF, False),
    r"densenet|convnext": (IMAGENET_MEAN, IMAGENET_STD, False),
    r"resnet|vgg": (CAFFE_MEAN, (1.0, 1.0, 1.0), True),
}
SIDE = (
    512  # of the image on which maps are measured: what is pooled to 1 x 1 has none of the strides
)
STAGES = range(1, 6)


def preprocessing(model, mean=None, std=None, reverse_channels=False):
    """What turns pixels 0..255 into the values of `first_map`.

    Args:
        model: functional model of one input (B, H, W, C).
        mean: C values, or one, subtracted from pixels before the model's input. None, with `std`: none, of
            a model that begins with preprocessing layers; else known by the model's name.
        std: C values, or one, by which they are then divided.
        reverse_channels: whether the input's channels are blue, green, red; used with `mean` or `std`.

    Returns:
        Tuple (mean, std, reverse_channels): C floats, C floats, bool.

    Raises:
        ValueError: the model has neither preprocessing layers nor a name of `keras.applications`.
    """
    x, _, scale, offset = first_map(model)
    if mean is None and std is None and x is model.inputs[0]:
        mean, std, reverse_channels = _by_name(model.name)
    mean = np.broadcast_to(0.0 if mean is None else mean, scale.shape)
    std = np.broadcast_to(1.0 if std is None else std, scale.shape)
    # scale (pixel - mean) / std + offset = (pixel - (mean - offset std / scale)) / (std / scale)
    std = std / scale
    return tuple((mean - offset * std).tolist()), tuple(std.tolist()), bool(reverse_channels)


def first_map(model):
    """Where a model begins behind the `Rescaling` and `Normalization` layers at its input.

    Args:
        model: functional model of one input (B, H, W, C).

    Returns:
        Tuple of that tensor, those layers' names, and their joint scale and offset, (C,) each: the tensor is
        `input * scale + offset`.
    """
    x, names = model.inputs[0], []
    scale, offset = np.ones(x.shape[-1]), np.zeros(x.shape[-1])
    for layer in model.layers:
        scales = isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization))
        if scales and layer.input is x:
            factor, shift = _affine(layer, len(scale))
            scale, offset, x = scale * factor, offset * factor + shift, layer.output
            names.append(layer.name)
    return x, names, scale, offset


def _affine(layer, channels):
    """The factor and the summand, (C,) float64 each, of a layer that scales."""
    if isinstance(layer, keras.layers.Rescaling):
        factor, shift = np.asarray(layer.scale, "float64"), np.asarray(layer.offset, "float64")
    else:
        mean, variance = (
            np.asarray(keras.ops.convert_to_numpy(x), "float64").ravel()
            for x in (layer.mean, layer.variance)
        )
        deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
        factor, shift = 1 / deviation, -mean / deviation
        if layer.invert:
            factor, shift = deviation, mean
    return np.broadcast_to(factor, channels), np.broadcast_to(shift, channels)


def _by_name(name):
    for pattern, found in APPLICATIONS.items():
        if re.match(pattern, name.lower()):
            return found
    raise ValueError(
        f"{name!r} has no preprocessing layers and is no name of keras.applications, so that nothing tells "
        "which values it takes: give mean= and std= for pixels 0..255, such as 127.5 and 127.5 for -1..1."
    )


def find_levels(model):
    """The last layer of each stride.

    Args:
        model: functional model of one input (B, None, None, C).

    Returns:
        {"C1": name of the layer, ...}, of the strides 2 to 32 that there are.
    """
    names = {}
    for name, size in map_sizes(model).items():
        names |= {f"C{n}": name for n in STAGES if size == (SIDE >> n, SIDE >> n)}
    return dict(sorted(names.items()))


def check_levels(model, levels):
    """Whether the maps of layers lie where those of levels must.

    Args:
        model: functional model of one input (B, None, None, C).
        levels: {"C3": name of a layer, ...}.

    Raises:
        ValueError: no such level or layer, or a map that is not H / 2**n x W / 2**n.
    """
    sizes = map_sizes(model)
    for level, name in levels.items():
        if not re.fullmatch("C[1-7]", level):
            raise ValueError(f"levels: {level!r} is none of C1 to C7, Cn for stride 2**n.")
        if name not in sizes:
            raise ValueError(
                f"levels: {level} is {name!r}, and {model.name} has no layer so named that gives one map."
            )
        cells = SIDE >> int(level[1])
        if sizes[name] != (cells, cells):
            height, width = sizes[name]
            raise ValueError(
                f"levels: {level} is {name!r}, whose map of an image of {SIDE} x {SIDE} is "
                f"{height} x {width}, not {cells} x {cells}: it has another stride, or convolutions without "
                "padding, which move its cells away from the pixels that they see. Give another layer."
            )


def map_sizes(model):
    """{layer's name: (height, width)} of a model's maps of an image of 512 x 512, in order."""
    whole = keras.Model(model.inputs[0], maps(model))
    image = keras.KerasTensor((1, SIDE, SIDE, model.inputs[0].shape[-1]))
    return {name: x.shape[1:3] for name, x in whole.compute_output_spec(image).items()}


def maps(model):
    """{layer's name: its output} of the layers of a model that give one map (B, H, W, C), in order."""
    outputs = {
        layer.name: layer.output
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer)
    }
    return {
        name: x
        for name, x in outputs.items()
        if isinstance(x, keras.KerasTensor) and len(x.shape) == 4
    }
