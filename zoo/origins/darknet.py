"""Networks of Darknet: a `.cfg` file says what they are, a `.weights` file has their numbers.

    load_darknet("yolov2-voc.cfg", "yolov2-voc.weights")

gives a `YOLO` ([detection]), a `YOLOv2` ([region]; tiny YOLOv2 too) or an `ImageClassifier` ([softmax]).
The sections are read by `kerasdet.zoo.checkpoints.darknet_layers`.
"""

import numpy as np

from kerasdet.zoo.checkpoints.darknet_layers import pieces, read_layers
from kerasdet.zoo.checkpoints.darknet_weights import read_darknet_weights

NORM_EPSILON = 1e-6  # Darknet divides by sqrt(variance) + epsilon
THRESHOLD_IOU = 0.45  # of Darknet's suppression in `detect`


def load_darknet(cfg, weights, **settings):
    """Build the model of a configuration file and fill it.

    Args:
        cfg: the `.cfg` file.
        weights: the `.weights` file.
        **settings: further arguments of the model's constructor, such as `class_names`.

    Returns:
        A `YOLO`, `YOLOv2` or `ImageClassifier`, built, not compiled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the network is unknown, or the weights are not its own; names file, section, line and fix.
    """
    layers = read_layers(cfg)
    arrays = read_darknet_weights(weights, pieces(layers))
    model, owners = build(layers, settings)
    _fill(owners, arrays, weights)
    return model


def load(model, cfg, weights):
    """Fill a model with the weights of a file; see `kerasdet.zoo.origins`.

    Args:
        model: a model that `load_darknet` builds from the same configuration.
        cfg: the `.cfg` file.
        weights: the `.weights` file.

    Returns:
        The model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `load_darknet`, or the configuration is of another model, which is then unchanged.
    """
    source = load_darknet(cfg, weights)
    shapes = [[tuple(w.shape) for w in m.weights] for m in (source, model)]
    if type(source) is not type(model) or shapes[0] != shapes[1]:
        raise ValueError(
            f"{cfg} describes a {type(source).__name__} of {source.count_params()} numbers, not this "
            f"{type(model).__name__} of {model.count_params()}. Fix: give the .cfg of this model."
        )
    model.set_weights(source.get_weights())
    return model


# -- models ----------------------------------------------------------------------------------------


def build(layers, settings):
    """Build the model of a network.

    Args:
        layers: the result of `read_layers`.
        settings: further arguments of the constructor.

    Returns:
        The model, and its layers with weights in the order of the file.

    Raises:
        CheckpointError: the sections are no network that is known; names one of them.
    """
    builders = {"region": _yolo_v2, "detection": _yolo, "softmax": _classifier}
    last = layers[-1]
    if last.kind not in builders:
        raise last.section.fault(
            "the network ends here", "give one that ends in [region], [detection] or [softmax]"
        )
    if len(layers) < 3:
        raise last.section.fault("the network is too short", "give a whole network")
    return builders[last.kind](layers, settings)


def _yolo_v2(layers, settings):
    from kerasdet.layers.passthrough import PassthroughHead
    from kerasdet.layers.resizing import Letterbox
    from kerasdet.models import YOLOv2

    *body, output, last = layers
    _check_output(output, "convolutional", (1, 1))
    chain, rest = _split(body)
    fine, joined = _passthrough(chain, rest) if rest else (None, None)
    hidden = joined or next(layer for layer in reversed(chain) if layer.kind == "convolutional")
    run = _run(chain, hidden.row, 2 if fine else 1)
    trunk, before = chain[: len(chain) - run], chain[len(chain) - run :]
    stage = _stage(trunk)
    levels = (f"C{stage - 1}", f"C{stage}") if fine else (f"C{stage}",)
    height, width = layers[0].source[1:]
    if height % 2**stage or width % 2**stage:
        raise last.section.fault(
            f"a cell has {2**stage} pixels, and [net] {height} x {width}", "give multiples of it"
        )
    section = last.section
    sides = np.array(section.numbers("anchors")).reshape(-1, 2) * 2**stage
    arguments = {
        "num_classes": section.integer("classes", 20),
        "backbone": _backbone(trunk, levels),
        "head": PassthroughHead(
            hidden.row[0],
            len(before) + bool(joined),
            fine.row[0] if fine else 0,
            levels,
            "darknet" if fine else "adjacent",
            0.0,
            name="head",
        ),
        "anchors": sides.tolist(),
        "resize": Letterbox(height, width),
        "iou_threshold": THRESHOLD_IOU,
    }
    model = YOLOv2(**{**arguments, **settings})
    convs, count = model.head.convs, len(before)
    owners = [*_convs(model.backbone), *convs[:count]]
    owners += [model.head.fine_conv, *convs[count:]] if fine else []
    return model, [*owners, model.output_conv]


def _passthrough(chain, rest):
    """Return the 1x1 convolution of a passthrough, and the convolution behind it."""
    first, section = len(chain), rest[0].section
    kinds = ["route", "convolutional", "reorg", "route", "convolutional"]
    if [layer.kind for layer in rest] != kinds:
        raise section.fault(
            "this is no passthrough of YOLOv2",
            f"use {', '.join(f'[{kind}]' for kind in kinds)} before the last [convolutional]",
        )
    source, fine, _, join, joined = rest
    pools = [i for i, layer in enumerate(chain) if _halves(layer)]
    if not pools or source.row != (pools[-1] - 1,):
        raise section.fault(
            "it does not read the last map of twice the resolution",
            "name the layer before the last [maxpool]",
        )
    if join.row != (first + 2, first - 1):
        raise join.section.fault(
            "it joins other layers than the passthrough and the chain", "use layers=-1,-4"
        )
    for layer, shape in ((fine, (1, 1)), (joined, (3, 1))):
        if layer.row[1:] != shape or not (layer.normed and layer.leaky):
            raise layer.section.fault(
                "this convolution is not the passthrough's",
                f"make it {shape[0]}x{shape[0]}, leaky, with batch_normalize=1",
            )
    return fine, joined


def _yolo(layers, settings):
    from kerasdet.layers.grid_head import GridHead
    from kerasdet.layers.resizing import Stretch
    from kerasdet.models import YOLO

    *body, output, last = layers
    _check_output(output, "connected")
    chain, rest = _split(body)
    local = bool(rest) and rest[0].kind == "local"
    dense = [layer for layer in rest[local:] if layer.kind == "connected"]
    drops = [layer for layer in rest[local:] if layer.kind == "dropout"]
    for layer in rest[local:]:
        early = layer.kind == "dropout" and layer is not rest[-1]
        if layer.kind not in ("connected", "dropout") or early:
            raise layer.section.fault(
                f"[{layer.kind}] does not belong here",
                "use [local], [connected] ..., [dropout] and the last [connected], in this order",
            )
        if layer.kind == "connected" and not layer.leaky:
            raise layer.section.fault("a hidden layer is linear", "use activation=leaky")
    split = _yolo_split(chain)
    trunk, convs = chain[:split], chain[split:]
    normed = _are_normed(chain)
    height, width = layers[0].source[1:]
    section = last.section
    arguments = {
        "num_classes": section.integer("classes", 1),
        "backbone": _backbone(trunk, (f"C{_stage(trunk)}",)),
        "head": GridHead(
            [layer.row for layer in convs],
            [layer.output[0] for layer in dense],
            rest[0].output[0] if local else 0,
            drops[0].section.number("probability", 0.5) if drops else 0.0,
            "batch" if normed else None,
            0.0,
            name="head",
        ),
        "grid": section.integer("side", 7),
        "boxes_per_cell": section.integer("num", 1),
        "resize": Stretch(height, width),
        "iou_threshold": THRESHOLD_IOU,
    }
    model = YOLO(**{**arguments, **settings})
    parts = [part for part in model.head.parts if part.weights]
    return model, [*_convs(model.backbone), *parts, *model.head.dense, model.output_dense]


def _yolo_split(chain):
    """Return how many rows belong to the backbone: those of a known one, or up to stride 32."""
    from kerasdet.backbones.darknet import YOLO20

    rows = [layer.row for layer in chain]
    known = [row if isinstance(row, str) else (*row, 1)[:3] for row in YOLO20]
    if rows[: len(known)] == known:
        return len(known)
    halves = [i for i, layer in enumerate(chain) if _halves(layer)]
    return halves[5] if len(halves) > 5 else len(chain)


def _classifier(layers, settings):
    from kerasdet.backbones import ImageClassifier

    *body, output, pool, _ = layers
    _check_output(output, "convolutional", (1, 1))
    if pool.kind != "avgpool":
        raise pool.section.fault("it comes before [softmax]", "use [avgpool] there")
    chain, rest = _split(body)
    if rest:
        raise rest[0].section.fault(
            f"[{rest[0].kind}] does not belong here", "use a chain of convolutions and poolings"
        )
    if _stage(chain) != 5:
        raise output.section.fault(
            f"the classes are found on a map of stride {2 ** _stage(chain)}", "use stride 32"
        )
    backbone = _backbone(chain, ("C5",))
    model = ImageClassifier(**{"backbone": backbone, "num_classes": output.output[0], **settings})
    return model, [*_convs(model.backbone), model.fc]


def _split(body):
    """Return the convolutions and poolings with which a network begins, and what follows."""
    first = next((i for i, layer in enumerate(body) if not _is_row(layer)), len(body))
    chain = body[:first]
    if not any(layer.kind == "convolutional" for layer in chain):
        raise (
            body[0].section.fault("no convolution comes first", "give a whole network")
            if body
            else ValueError("the network has one layer. Fix: give a whole configuration file.")
        )
    for layer in chain:
        if layer.kind == "convolutional" and not layer.leaky:
            raise layer.section.fault("a hidden convolution is not leaky", "use activation=leaky")
    return chain, body[first:]


def _is_row(layer):
    return layer.kind in ("convolutional", "maxpool")


def _halves(layer):
    return layer.row == "pool" or (layer.kind == "convolutional" and layer.row[2] == 2)


def _stage(chain):
    """Return n of the level "Cn" with which a chain ends."""
    return sum(map(_halves, chain))


def _run(chain, row, most):
    """Return how many convolutions at the end of a chain can be the head's, and leave the backbone one."""
    count = 0
    while count < min(most, len(chain) - 1) and chain[-1 - count].row == row:
        if row[1:] != (3, 1) or not chain[-1 - count].normed:
            break
        count += 1
    return count


def _are_normed(chain):
    """Return whether the convolutions of a chain have batch normalisation: all, or none."""
    convs = [layer for layer in chain if layer.kind == "convolutional"]
    for layer in convs:
        if layer.normed != convs[0].normed:
            raise layer.section.fault(
                "some convolutions have batch normalisation, others have none",
                "use batch_normalize=1 in all, or in none",
            )
    return convs[0].normed


def _backbone(trunk, levels):
    from kerasdet.backbones import Darknet

    norm = "batch" if _are_normed(trunk) else None
    channels = trunk[0].source[0]
    pixels = {"mean": (0.0,) * channels, "std": (255.0,) * channels}
    return Darknet([layer.row for layer in trunk], levels, norm, **pixels, norm_epsilon=0.0)


def _convs(backbone):
    """Return the convolutions of a backbone, in their order."""
    return [layer for layer in backbone.layers if layer.weights]


def _check_output(layer, kind, shape=None):
    """Refuse a last layer with weights that does not give plain numbers."""
    good = layer.kind == kind and (shape is None or layer.row[1:] == shape)
    if not good or layer.leaky or (kind == "convolutional" and layer.normed):
        size = f" of {shape[0]}x{shape[0]}" if shape else ""
        raise layer.section.fault(
            "it should give the network's numbers",
            f"use a [{kind}]{size}, activation=linear, without batch_normalize",
        )


def _fill(owners, arrays, weights):
    """Assign the arrays of a file, in its order, to the layers of a model."""
    arrays = list(arrays)
    for layer in owners:
        for variable, array in _assignments(layer, arrays, weights):
            variable.assign(array)


def _assignments(layer, arrays, weights):
    """Take a layer's arrays from the front of the list, and yield (variable, value)."""
    bias = arrays.pop(0)
    if hasattr(layer, "norm") and not isinstance(layer.norm, str):
        scales, means, variances = (arrays.pop(0) for _ in range(3))
        if (variances < 0).any():
            raise ValueError(
                f"{weights} has negative variances: it is of another network. Fix: give the weights of this "
                "very .cfg."
            )
        # Darknet divides by sqrt(variance) + epsilon, kerasdet by sqrt(variance + 0).
        variances = (np.sqrt(variances.astype("float64")) + NORM_EPSILON) ** 2
        yield layer.norm.beta, bias
        yield layer.norm.gamma, scales
        yield layer.norm.moving_mean, means
        yield layer.norm.moving_variance, variances
        yield layer.kernel, arrays.pop(0).transpose(2, 3, 1, 0)
        return
    kernel = arrays.pop(0)
    if kernel.ndim == 6:  # a locally connected layer
        yield layer.bias, bias.transpose(1, 2, 0)
        yield layer.kernel, kernel.transpose(0, 1, 4, 5, 3, 2).reshape(layer.kernel.shape)
        return
    yield layer.bias, bias
    # Darknet flattens a map by channels, rows and columns.
    yield layer.kernel, kernel.transpose(2, 3, 1, 0).reshape(layer.kernel.shape)
