"""Weights of `keras.applications`, in the `.h5` files that Keras publishes.

The convolutions and normalisations of the two Inception networks have no names there: Keras has numbered them
as they were made, from any number on. `conv_names` has ours in that order. Normalisations without a scale get
1.
"""

import re

import numpy as np

from kerasdet.zoo.checkpoints import read_checkpoint
from kerasdet.zoo.filling import fill_weights, name_weights

WEIGHTS = {
    name: f"/{name}"
    for name in ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
}
CLASSIFIER = "predictions"
STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
# Layers with names, as `re` expands them; all others have their own.
RENAMED = {
    "InceptionResNetV2": (
        (r"conv_7b(_bn)?", r"Conv2d_7b_1x1"),
        (r"block8_10_conv", r"Block8_Conv2d_1x1"),
        (r"(block\d+_\d+)_conv", r"\1_Conv2d_1x1"),
    ),
    "MobileNetV1": (
        (r"conv1(_bn)?", r"stem"),
        (r"conv_dw_(\d+)(_bn)?", r"block\1_depthwise"),
        (r"conv_pw_(\d+)(_bn)?", r"block\1_pointwise"),
        (r"conv_preds", CLASSIFIER),
    ),
}
NUMBERED = r"(conv2d|batch_normalization)(?:_(\d+))?"


def load(model, path):
    """Fill a model with the weights of a file that `keras.applications` has published.

    Args:
        model: a built `ImageClassifier` on one of the backbones of `TABLE`, or such a backbone with level
            "C5", for which a file with or without the classifier serves.
        path: the `.h5` file.

    Returns:
        The model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read or does not fit the model, which is then unchanged.
    """
    slots = name_weights(model, TABLE, WEIGHTS, "keras_applications")
    arrays = _named_as_ours(model, read_checkpoint(path), path)
    if not hasattr(model, "backbone"):
        arrays = {name: a for name, a in arrays.items() if not name.startswith(f"{CLASSIFIER}/")}
    return fill_weights(model, slots, arrays, path)


def conv_names(backbone):
    """List the normalised convolutions of an Inception network in the order in which Keras numbers them.

    Args:
        backbone: `InceptionV3` or `InceptionResNetV2`.

    Returns:
        The names of our layers; of `InceptionResNetV2`, whose last convolution has a name, all but that.
    """
    from kerasdet.backbones import inception_resnet_v2, inception_v3
    from kerasdet.backbones.inception import names_of

    if type(backbone).__name__ == "InceptionV3":
        blocks = [block for stage in inception_v3.STAGES.values() for block in stage.items()]
    else:
        blocks = inception_resnet_v2.all_blocks()
    return [*STEM, *(name for block, rows in blocks for name in names_of(block, rows))]


def _named_as_ours(model, published, path):
    """{our layer/weight: array} of a file's {path in it: array}."""
    backbone = getattr(model, "backbone", model)
    kind = type(backbone).__name__
    found = {}
    for name, array in published.items():
        *_, layer, weight = name.removesuffix(":0").split("/")
        found[layer, weight.removeprefix("depthwise_")] = array
    numbers = _numbers(backbone, {layer for layer, _ in found}, path)
    arrays = {}
    for (layer, weight), array in found.items():
        ours = numbers.get(layer) or _renamed(layer, RENAMED.get(kind, ()))
        arrays[f"{ours}/{weight}"] = array
    for name in [name for name in arrays if name.endswith("/beta")]:
        arrays.setdefault(name.replace("/beta", "/gamma"), np.ones_like(arrays[name]))
    return arrays


def _numbers(backbone, layers, path):
    """{layer that Keras has numbered: our layer}."""
    numbered = {"conv2d": [], "batch_normalization": []}
    for layer in layers:
        if match := re.fullmatch(NUMBERED, layer):
            numbered[match[1]].append((int(match[2] or 0), layer))
    if not any(numbered.values()):
        return {}
    names, found = conv_names(backbone), {}
    for kind, those in numbered.items():
        if len(those) != len(names):
            raise ValueError(
                f"{path} has {len(those)} layers named {kind}, and {type(backbone).__name__} has "
                f"{len(names)} of that kind; give the file of this network."
            )
        found |= dict(zip((layer for _, layer in sorted(those)), names))
    return found


def _renamed(layer, rows):
    for theirs, ours in rows:
        if match := re.fullmatch(theirs, layer):
            return match.expand(ours)
    return layer


def depthwise(array):
    """Put the one output of each channel before the channels; a normalisation's vectors stay."""
    return array.transpose(0, 1, 3, 2) if array.ndim == 4 else array


def dense(array):
    """Make a dense kernel of MobileNet's last convolution, (1, 1, C, K)."""
    return array.reshape(array.shape[-2:]) if array.ndim == 4 else array


SAME_NAMES = ((r"(.+?)(?:/norm)?", r"\1"),)
TABLE = {
    "ImageClassifier": (("backbone", ""), ("fc", CLASSIFIER, dense)),
    "InceptionV3": SAME_NAMES,
    "InceptionResNetV2": SAME_NAMES,
    "MobileNetV1": ((r"(block\d+_depthwise)(?:/norm)?", r"\1", depthwise), *SAME_NAMES),
}
