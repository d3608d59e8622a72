"""What a prototxt says of a network, compared with what a model computes.

The shapes of kernels are in the weights. A prototxt tells what they do not: strides, padding, dilation,
poolings, normalisations. Each layer must be of a known type, and its numbers the model's; how layers are
wired is not compared.
"""

from kerasdet.zoo.checkpoints.errors import printable

# Layers that compute nothing of their own in inference, or only what their type says.
PLAIN = {
    *("ReLU", "Softmax", "Reshape", "Eltwise", "Split", "Silence", "Scale", "Input", "Python"),
    *("Proposal", "Data", "DummyData"),
}
FIX = "give the prototxt of this very model, as its authors publish it for testing"


def check_network(net, expected, aliases=None):
    """Refuse a network whose layers compute something else than a model's.

    Args:
        net: the `Message` that `read_prototxt` gave.
        expected: {name of a layer: its numbers}, see the functions of `READ`: all convolutions and dense
            layers; and {type of a layer: its numbers} for layers that are all alike.
        aliases: {name there: name in `expected`}.

    Raises:
        CheckpointError: a layer is unknown, missing or another one; names the file, the line and the fix.
    """
    found, aliases = set(), aliases or {}
    if net.messages("layers"):
        raise net.fault("it is of Caffe's old format, with layers", FIX)
    for layer in net.messages("layer"):
        name, kind = layer.text("name"), layer.text("type")
        place = f"the layer {printable(name)!r} of the type {printable(kind)!r}"
        if kind in PLAIN:
            continue
        if kind not in READ:
            raise layer.fault(f"{place} is unknown", FIX)
        name = aliases.get(name, name)
        wanted = expected.get(name, expected.get(kind))
        if wanted is None:
            raise layer.fault(f"{place} is not in the model", FIX)
        given = READ[kind](layer)
        for what, value in given.items():
            if what not in wanted or wanted[what] != value:
                raise layer.fault(
                    f"{place} has {what} {value}, the model {wanted.get(what, 'none')}", FIX
                )
        found.add(name)
    missing = sorted(set(expected) - found - set(READ))
    if missing:
        raise net.fault(f"the layer {missing[0]!r} of the model is missing", FIX)


def _sides(parameters, what, short, default):
    """Return the (height, width) of a kernel, stride, padding or dilation, however it is given."""
    values = parameters.integers(what)
    height, width = (parameters.integer(f"{short}_{axis}", 0) for axis in "hw")
    if height or width:
        return height, width
    return (values[0], values[-1]) if values else (default, default)


def convolution(layer):
    """Numbers of a convolution."""
    parameters = layer.message("convolution_param")
    return {
        "outputs": parameters.integer("num_output", 0),
        "kernel": _sides(parameters, "kernel_size", "kernel", 1),
        "stride": _sides(parameters, "stride", "stride", 1),
        "padding": _sides(parameters, "pad", "pad", 0),
        "dilation": _sides(parameters, "dilation", "dilation", 1),
        "groups": parameters.integer("group", 1),
    }


def dense(layer):
    """Numbers of a dense layer."""
    return {"outputs": layer.message("inner_product_param").integer("num_output", 0)}


def pooling(layer):
    """Numbers of a pooling of a map."""
    parameters = layer.message("pooling_param")
    return {
        "pool": parameters.text("pool", "MAX"),
        "kernel": _sides(parameters, "kernel_size", "kernel", 1),
        "stride": _sides(parameters, "stride", "stride", 1),
        "padding": _sides(parameters, "pad", "pad", 0),
    }


def region_pooling(layer):
    """Numbers of a RoI pooling."""
    parameters = layer.message("roi_pooling_param")
    return {
        "bins": (parameters.integer("pooled_h", 0), parameters.integer("pooled_w", 0)),
        "scale": parameters.number("spatial_scale", 1.0),
    }


def sensitive_pooling(layer):
    """Numbers of a position-sensitive RoI pooling."""
    parameters = layer.message("psroi_pooling_param")
    return {
        "outputs": parameters.integer("output_dim", 0),
        "bins": parameters.integer("group_size", 0),
        "scale": parameters.number("spatial_scale", 1.0),
    }


def batch_norm(layer):
    """Numbers of a batch normalisation."""
    return {"epsilon": layer.message("batch_norm_param").number("eps", 1e-5)}


def local_norm(layer):
    """Numbers of a local response normalisation."""
    parameters = layer.message("lrn_param")
    return {
        "size": parameters.integer("local_size", 5),
        "alpha": parameters.number("alpha", 1.0),
        "beta": parameters.number("beta", 0.75),
        "k": parameters.number("k", 1.0),
        "region": parameters.text("norm_region", "ACROSS_CHANNELS"),
    }


def dropout(layer):
    """The factor that a dropout has in inference: 1, unless training does not scale."""
    parameters = layer.message("dropout_param")
    scaled = parameters.flag("scale_train", True)
    return {"factor": 1.0 if scaled else 1.0 - parameters.number("dropout_ratio", 0.5)}


READ = {
    "Convolution": convolution,
    "InnerProduct": dense,
    "Pooling": pooling,
    "ROIPooling": region_pooling,
    "PSROIPooling": sensitive_pooling,
    "BatchNorm": batch_norm,
    "LRN": local_norm,
    "Dropout": dropout,
}
