"""Truncated SVD of a trained detector: the dense layers of its regions become two thin ones each.

    Girshick. Fast R-CNN. ICCV 2015. arXiv 1504.08083v2, section 3.1.

Reading order: `truncate_dense`; the factors are `kerasdet.layers.truncated.truncated_svd`.
"""

import math

import keras

from kerasdet.layers.region_heads import DenseHead
from kerasdet.models.fast_rcnn import RegionDetector


def truncate_dense(model, ranks):
    """Return a detector whose dense layers on each region have kernels of a low rank.

    A layer of u outputs and v inputs keeps its t largest singular values, and has t (u + v) parameters in the
    place of u v. The other weights are the model's. At full rank the result is the same within rounding.

    Args:
        model: a trained two-stage detector whose `head` is a `DenseHead`, which most are: `FastRCNN`,
            `FasterRCNN`, `MaskRCNN`, `CascadeRCNN`, ... It stays as it is.
        ranks: for each dense layer t, or None to keep it whole (the paper: 1024 and 256 of VGG-16's fc6 and
            fc7); or one share of each layer's full rank, such as 0.25.

    Returns:
        A model of the same class, not compiled.

    Raises:
        ValueError: the model has no dense layers on its regions, or ranks are not one for each, from 1 to
            the full rank.

    Example:
        >>> model = FasterRCNN.from_preset("fasterrcnn_mobilenetv2_bccd")
        >>> faster = kerasdet.truncate_dense(model, (64, 64))
        >>> faster.save("faster.keras")
    """
    head = model.head if isinstance(model, RegionDetector) else None
    if not isinstance(head, DenseHead) or head.ranks:
        raise ValueError(
            f"{type(model).__name__} has no whole dense layers on its regions: its head is a "
            f"{type(head).__name__}. Give a detector with a DenseHead that was not truncated yet."
        )
    ranks = _checked(ranks, _full_ranks(head))
    thin = DenseHead.from_config({**head.get_config(), "ranks": ranks})
    config = {**model.get_config(), "head": keras.saving.serialize_keras_object(thin)}
    result = type(model).from_config(config)
    heads, thin_heads = (_heads(one) for one in (model, result))
    for target, source in zip(_without(result, thin_heads), _without(model, heads)):
        target.assign(source)
    for target, source in zip(thin_heads, heads):
        _fill(target, source)
    return result


def _full_ranks(head):
    """The full rank of each dense layer: the smaller of its inputs and outputs."""
    return [min(layer.kernel.shape) for layer in head.dense_layers]


def _checked(ranks, full):
    if isinstance(ranks, float):
        if not 0 < ranks <= 1:
            raise ValueError(f"ranks is {ranks}; a share is above 0 and at most 1.")
        return tuple(math.ceil(ranks * most) for most in full)
    ranks = tuple(ranks) if isinstance(ranks, (list, tuple)) else (ranks,)
    good = len(ranks) == len(full) and all(
        rank is None or (isinstance(rank, int) and 1 <= rank <= most)
        for rank, most in zip(ranks, full)
    )
    if not good:
        raise ValueError(
            f"ranks are {ranks!r:.80}; give one for each dense layer, None or at most {full}."
        )
    return ranks


def _heads(model):
    """The heads of all classifiers of a model, in order."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, DenseHead)]


def _without(model, heads):
    """The weights of a model but those of heads, in order."""
    own = {id(weight) for head in heads for weight in head.weights}
    return [weight for weight in model.weights if id(weight) not in own]


def _fill(target, source):
    """Give a truncated head the weights of a whole one."""
    for thin, whole in zip(target.conv_layers, source.conv_layers):
        thin.set_weights(whole.get_weights())
    for rank, thin, whole in zip(target.ranks, target.dense_layers, source.dense_layers):
        if rank:
            thin.factorize(*whole.get_weights())
        else:
            thin.set_weights(whole.get_weights())
