"""State dicts of PyTorch: axes, ends of names and layers that the origins of such files share."""

import re

from kerasdet.zoo.filling import fill_weights, name_weights

# PyTorch's axes in our order, by number of axes: dense kernels output x input, convolutions OIHW.
AXES = {2: (1, 0), 4: (2, 3, 1, 0)}
WEIGHTS = {
    "kernel": ".weight",
    "bias": ".bias",
    "gamma": ".weight",
    "beta": ".bias",
    "moving_mean": ".running_mean",
    "moving_variance": ".running_var",
    "scale": "",
}
REGION_CELLS = 7 * 7


def fill(model, tensors, source, table, origin, old_names=(), left_out=()):
    """Fill a model with the weights of a state dict, all of them or none.

    Args:
        model: a built model.
        tensors: {name: array}, with names and layouts as in PyTorch.
        source: the file they come from, for the error message.
        table: the origin's rows; see `kerasdet.zoo.filling`.
        origin: name of the origin, for the error message.
        old_names: pairs for `newest_name`.
        left_out: beginnings of names, for training alone, that files have and models do not.

    Returns:
        The model.

    Raises:
        ValueError: names for this model are unknown, or a tensor is missing, left over or of another shape;
            the message names the first ten. The model is then unchanged.
    """
    slots = name_weights(model, table, WEIGHTS, origin)
    arrays, faults = {}, []
    for old, value in tensors.items():
        # A name of today may look like an older one of another layer.
        name = old if old in slots else newest_name(old, old_names)
        if name in arrays:
            faults.append(f"{name} appears twice, once as {old}")
        # Counters of training steps are left out too.
        if not name.endswith(".num_batches_tracked") and not name.startswith(tuple(left_out)):
            arrays[name] = value
    return fill_weights(model, slots, arrays, source, AXES, faults)


def newest_name(name, old_names):
    """Return a name as today's version of its program has it.

    Args:
        name: of a tensor, of any version.
        old_names: pairs of a pattern for whole names of older files, and what `re.sub` replaces them by.
    """
    for pattern, new in old_names:
        name = re.sub(rf"^{pattern}$", new, name)
    return name


def channels_last(array, cells=REGION_CELLS):
    """Reorder a dense layer's columns for regions flattened as H, W, C; PyTorch uses C, H, W.

    Args:
        array: (outputs, C H W).
        cells: H W.
    """
    if array.ndim != 2 or array.shape[1] % cells:
        return array
    columns = array.reshape(len(array), -1, cells)
    return columns.transpose(0, 2, 1).reshape(array.shape)


def normed(ours, theirs, conv="0", norm="1"):
    """Return the rows of a convolution and its normalisation, by default the first two of a module."""
    return (ours, f"{theirs}{conv}"), (f"{ours}/norm", f"{theirs}{norm}")


RESNET = (
    (r"conv1", r"conv1"),
    (r"conv1/norm", r"bn1"),
    *normed(r"layer(\d)_(\d+)_conv(\d)", r"layer\1.\2.", r"conv\3", r"bn\3"),
    *normed(r"layer(\d)_(\d+)_downsample", r"layer\1.\2.downsample."),
)
