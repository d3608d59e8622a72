"""The layers of a Darknet configuration: what each section reads and gives, and the arrays that it needs.

What is read is a chain of convolutions and poolings, with YOLOv2's passthrough or YOLO's dense layers at
its end. Other sections, and options that would change the arithmetic, are refused by file and line.
"""

from typing import NamedTuple

from kerasdet.zoo.checkpoints.darknet_cfg import read_cfg
from kerasdet.zoo.checkpoints.darknet_weights import Piece

MOST_SIDE = 8192  # pixels of an image

# Options that only training, or only Darknet's own printing, looks at.
TRAINED = (
    *("jitter", "rescore", "object_scale", "noobject_scale", "class_scale", "coord_scale"),
    *("absolute", "thresh", "random", "bias_match", "max", "forced"),
)


class Layer(NamedTuple):
    """A section that has been understood.

    Fields:
        section: the `Section`.
        row: a row of a plan: (filters, size, stride), "pool" or "pool1"; None for others.
        source: (channels, height, width) of what it reads.
        output: (channels, height, width) of what it gives.
    """

    section: object
    row: object
    source: tuple
    output: tuple

    @property
    def kind(self):
        """Name of the section, in its long form."""
        return {"conv": "convolutional", "max": "maxpool", "conn": "connected"}.get(
            self.section.kind, self.section.kind
        )

    @property
    def normed(self):
        """Whether batch normalisation follows."""
        return bool(self.section.integer("batch_normalize", 0, 0, 1))

    @property
    def leaky(self):
        """Whether leaky ReLU follows, and not nothing."""
        return self.section.word("activation", ("leaky", "linear"), "logistic") == "leaky"


def read_layers(cfg):
    """Read a configuration and follow the shapes of its maps.

    Args:
        cfg: the `.cfg` file.

    Returns:
        List of `Layer`, one for each section after [net].

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: a section or option is unknown or impossible; names file, line and fix.
    """
    net, *sections = read_cfg(cfg)
    shape = (
        net.integer("channels", 3, 1, 1024),
        net.integer("height", None, 1, MOST_SIDE),
        net.integer("width", None, 1, MOST_SIDE),
    )
    if sections and sections[-1].kind == "cost":  # what training compares with
        sections = sections[:-1]
    layers = []
    for section in sections:
        reader = READERS.get(section.kind)
        if reader is None:
            known = ", ".join(f"[{kind}]" for kind in READERS)
            raise section.fault("this kind of section is unknown", f"use {known}")
        layer = reader(section, shape, layers)
        layers.append(layer)
        shape = layer.output
        if min(shape) < 1:
            raise section.fault(
                f"the map would be {shape[1]} x {shape[2]}",
                "give a larger width and height in [net]",
            )
    if not layers:
        raise net.fault("no section follows", "give a whole configuration file")
    return layers


def _convolutional(section, shape, layers):
    section.admit(*("batch_normalize", "filters", "size", "stride", "pad", "padding", "activation"))
    filters = section.integer("filters", 1)
    size, stride = section.integer("size", 1, 1, 31), section.integer("stride", 1, 1, 2)
    pad = section.integer("padding", 0, 0, 31)
    pad = size // 2 if section.integer("pad", 0, 0, 1) else pad
    if size % 2 == 0 or pad != size // 2:
        raise section.fault(
            f"the kernel of {size} is padded by {pad}", "give an odd size and pad=1"
        )
    height, width = ((side + 2 * pad - size) // stride + 1 for side in shape[1:])
    layer = Layer(section, (filters, size, stride), shape, (filters, height, width))
    section.integer("batch_normalize", 0, 0, 1)
    section.word("activation", ("leaky", "linear"), "logistic")
    return layer


def _maxpool(section, shape, layers):
    section.admit("size", "stride")
    stride = section.integer("stride", 1, 1, 2)
    section.integer("size", stride, 2, 2)
    row = "pool" if stride == 2 else "pool1"
    return Layer(section, row, shape, (shape[0], *(-(-side // stride) for side in shape[1:])))


def _local(section, shape, layers):
    section.admit("filters", "size", "stride", "pad", "activation")
    section.integer("stride", 1, 1, 1)
    section.integer("pad", 0, 1, 1)
    section.integer("size", 1, 3, 3)
    section.word("activation", ("leaky",), "logistic")
    return Layer(section, None, shape, (section.integer("filters", 1), *shape[1:]))


def _connected(section, shape, layers):
    section.admit("output", "activation")
    section.word("activation", ("leaky", "linear"), "logistic")
    return Layer(section, None, shape, (section.integer("output", 1), 1, 1))


def _dropout(section, shape, layers):
    section.admit("probability")
    section.number("probability", 0.5, 0, 0.999)
    return Layer(section, None, shape, shape)


def _route(section, shape, layers):
    section.admit("layers")
    places = []
    for number in section.numbers("layers"):
        place = number if number >= 0 else len(layers) + number
        if place != int(place) or not 0 <= place < len(layers):
            raise section.fault(
                f"layers has {number:g}, and {len(layers)} layers come before",
                "name layers before this one",
            )
        places.append(int(place))
    outputs = [layers[place].output for place in places]
    if any(output[1:] != outputs[0][1:] for output in outputs):
        raise section.fault("its layers have different sizes", "name layers of one size")
    total = (sum(output[0] for output in outputs), *outputs[0][1:])
    return Layer(section, tuple(places), outputs[0], total)


def _reorg(section, shape, layers):
    section.admit("stride")
    section.integer("stride", 1, 2, 2)
    channels, height, width = shape
    if channels % 4 or height % 2 or width % 2:
        raise section.fault(
            f"the map is {channels} x {height} x {width}", "give channels in fours and even sides"
        )
    return Layer(section, None, shape, (4 * channels, height // 2, width // 2))


def _avgpool(section, shape, layers):
    section.admit()
    return Layer(section, None, shape, (shape[0], 1, 1))


def _softmax(section, shape, layers):
    section.admit("groups")
    section.integer("groups", 1, 1, 1)
    return Layer(section, None, shape, shape)


def _region(section, shape, layers):
    section.admit(*TRAINED, "anchors", "classes", "coords", "num", "softmax", "log", "sqrt")
    section.integer("coords", 4, 4, 4)
    section.integer("softmax", 0, 1, 1)
    count, classes = section.integer("num", 1, 1, 100), section.integer("classes", 20, 1, 100_000)
    anchors = section.numbers("anchors")
    if len(anchors) != 2 * count or not all(0 < side < 1e6 for side in anchors):
        raise section.fault(
            f"num={count}, and there are {len(anchors)} numbers in anchors",
            "give width and height of each anchor, positive",
        )
    if shape[0] != count * (5 + classes):
        raise section.fault(
            f"it reads {shape[0]} channels, not {count} (5 + {classes})",
            "give the layer before it as many filters",
        )
    return Layer(section, None, shape, shape)


def _detection(section, shape, layers):
    section.admit(*TRAINED, "classes", "coords", "side", "num", "softmax", "sqrt", "reorg")
    section.integer("coords", 1, 4, 4)
    section.integer("softmax", 0, 0, 0)
    section.integer("sqrt", 0, 1, 1)
    side, count = section.integer("side", 7, 1, 1000), section.integer("num", 1, 1, 100)
    wanted = side**2 * (5 * count + section.integer("classes", 1, 1, 100_000))
    if shape != (wanted, 1, 1):
        raise section.fault(
            f"it reads {shape[0]} x {shape[1]} x {shape[2]} numbers, not {wanted}",
            f"give the [connected] before it output={wanted}",
        )
    return Layer(section, None, shape, shape)


READERS = {
    "convolutional": _convolutional,
    "conv": _convolutional,
    "maxpool": _maxpool,
    "max": _maxpool,
    "local": _local,
    "connected": _connected,
    "conn": _connected,
    "dropout": _dropout,
    "route": _route,
    "reorg": _reorg,
    "avgpool": _avgpool,
    "softmax": _softmax,
    "region": _region,
    "detection": _detection,
}


def pieces(layers):
    """List the arrays of a weights file, in its order.

    Args:
        layers: the result of `read_layers`.

    Returns:
        List of `Piece`.

    Raises:
        CheckpointError: no layer has weights.
    """
    found = []
    for layer in layers:
        channels, height, width = layer.source
        filters = layer.output[0]
        if layer.kind == "convolutional":
            size = layer.row[1]
            names = ("biases", *(("scales", "means", "variances") if layer.normed else ()))
            shapes = {name: (filters,) for name in names}
            shapes["weights"] = (filters, channels, size, size)
        elif layer.kind == "connected":
            shapes = {"biases": (filters,), "weights": (filters, channels, height, width)}
        elif layer.kind == "local":
            shapes = {
                "biases": (filters, height, width),
                "weights": (height, width, filters, channels, 3, 3),
            }
        else:
            continue
        owner = f"[{layer.kind}] at line {layer.section.line}"
        found += [Piece(owner, name, shape) for name, shape in shapes.items()]
    if not found:
        raise layers[-1].section.fault("no layer has weights", "give a whole network")
    return found
