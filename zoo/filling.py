r"""From the arrays of a published file to a model's weights: names by tables, and all or nothing.

All origins (`kerasdet.zoo.origins`) share this module. A table gives an origin's names of the layers:

    TABLE = {
        "RetinaNet": (("backbone", "backbone.body."), ("head", "head.")),
        "ResNet": ((r"layer(\d)_(\d+)_conv(\d)", r"layer\1.\2.conv\3"), ...),
        "FeaturePyramid": feature_pyramid,
    }

Its keys are the classes of models and of their parts. Its values are rows, or functions from a part
to its rows. A row has two or three entries:

    ours    an attribute with a part that has rows of its own, or one of its list, such as "branches.0";
            or a pattern for the paths of layers
    theirs  the start of the names of that part; or the name of the layer, as `re` expands it
    change  a function of the file's arrays of this layer, called before their axes are reordered

Names are joined unchanged: separators, if an origin uses any, are part of the rows.
"""

import re
from typing import NamedTuple

import numpy as np

SHOWN = 10  # largest number of faults in a message


class Slot(NamedTuple):
    """A place for one array of a file.

    Fields:
        variable: the weight that receives it.
        change: a function of the array, called before its axes are reordered; None: no change.
    """

    variable: object
    change: object = None


def name_weights(model, table, suffixes, origin):
    """Find an origin's name for each weight of a model.

    Args:
        model: a built model, with or without backbone and neck.
        table: rows by class, as the module's docstring describes them. A class without rows uses
            those of its nearest base class.
        suffixes: {our weight's name: the end of its name there}, such as {"kernel": ".weight"}.
        origin: name of the origin, for the error message.

    Returns:
        {the origin's name: `Slot`}, one for every weight of the model, in the order of its weights.

    Raises:
        ValueError: no row names a layer, or two weights have the same name; the message names the layer,
            the classes and the file that lacks the row.
    """
    found = _named(model, table, suffixes, "", "")
    found, slots = {id(slot.variable): (name, path, slot) for name, path, slot in found}, {}
    for name, path, slot in (found[id(variable)] for variable in model.weights):
        if name is None or name in slots:
            fault = f"shares the name {name!r} with another" if name else "has no name"
            raise ValueError(
                f"The layer {path!r} of this {type(model).__name__} {fault} at the origin {origin}: it "
                f"has no such model, or zoo/origins/{origin}.py lacks a row for this layer."
            )
        slots[name] = slot
    return slots


def fill_weights(model, slots, arrays, source, axes=None, faults=()):
    """Assign the arrays of a file to the weights of a model: all of them, or none.

    Args:
        model: the model, for the error message.
        slots: {name: `Slot`}, one for every weight of the model.
        arrays: {name: array}, as in the file.
        source: name of the file, for the error message.
        axes: {number of axes: the file's axes in our order}; default: the same order.
        faults: sentences about known faults of the file.

    Returns:
        The model.

    Raises:
        ValueError: an array is missing, left over or of another shape; the message names file, model and
            the first ten names and shapes. The model is then unchanged.
    """
    faults, ready = list(faults), {}
    for name in sorted(slots.keys() | arrays.keys()):
        if name not in arrays:
            faults.append(f"{name} is missing")
        elif name not in slots:
            faults.append(f"{name} is left over")
        else:
            variable, change = slots[name]
            given = np.asarray(arrays[name])
            try:
                array = change(given) if change else given
            except ValueError:  # the change is of another shape
                faults.append(f"{name} has the shape {given.shape}, which is not this layer's")
                continue
            order = (axes or {}).get(len(variable.shape), range(len(variable.shape)))
            expected = tuple(variable.shape[list(order).index(axis)] for axis in sorted(order))
            if array.shape == expected:
                ready[name] = np.transpose(array, tuple(order))
            else:
                changed = "" if array.shape == given.shape else f" (from {given.shape})"
                faults.append(f"{name} has the shape {array.shape}{changed} instead of {expected}")
    if faults:
        raise ValueError(
            f"{source} does not fit this {type(model).__name__}: {'; '.join(faults[:SHOWN])}"
            f"{'; ...' if len(faults) > SHOWN else ''} ({len(faults)} faults, {len(slots)} weights). Give "
            "the file of this model, or build the model with the arguments that the file was trained with."
        )
    for name, array in ready.items():
        slots[name].variable.assign(array)
    return model


def _named(part, table, suffixes, place, prefix, outer=None):
    """Yield (name or None, path of the layer, slot) for each weight of a part.

    `place` is the part's path in the model, `prefix` the start of its names. The weights of a part that the
    model has built layer by layer are called by the path of the model, `outer`.
    """
    patterns, inside = [], set()
    for row in _rows(part, table):
        child = _child(part, row[0])
        if _rows(child, table):
            names = (f"{place}{row[0]}/", prefix + row[1])
            for found in _named(child, table, suffixes, *names, part.path):
                inside.add(id(found[2].variable))
                yield found
        else:
            patterns.append(row)
    for variable in part.weights:
        if id(variable) not in inside:
            path = variable.path.removeprefix(f"{part.path}/").removeprefix(f"{outer}/")
            path, _, weight = path.rpartition("/")
            name, change = _match(path, patterns)
            known = name is not None and weight in suffixes
            name = f"{prefix}{name}{suffixes[weight]}" if known else None
            yield name, place + path, Slot(variable, change)


def _child(part, name):
    """Return the attribute of a part, or what a list there has at the numbers after the points, or None."""
    name, *numbers = name.split(".")
    child = vars(part).get(name)  # not getattr: Keras has properties such as `output`
    for number in numbers:
        if not (isinstance(child, list) and number.isdigit() and int(number) < len(child)):
            return None
        child = child[int(number)]
    return child


def _rows(part, table):
    """Return the rows of a part, by its class or the nearest base class that has some."""
    for kind in type(part).__mro__:
        if kind.__name__ in table:
            rows = table[kind.__name__]
            return rows(part) if callable(rows) else rows
    return ()


def _match(path, rows):
    for ours, theirs, *change in rows:
        if match := re.fullmatch(ours, path):
            return match.expand(theirs), change[0] if change else None
    return None, None
