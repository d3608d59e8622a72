"""Checks that refuse wrong arguments while a graph is built; errors name the argument, value and fix."""


def check_axes(name, tensor, axes):
    """Refuse a tensor of another rank, or of another size where `axes` contains a number.

    Args:
        name: the argument's name.
        tensor: what was given.
        axes: names of the axes, such as "B R 4"; a number is a required size.

    Raises:
        ValueError: the shape is wrong; the message names the argument, its shape and the required one.
    """
    shape, wanted = tuple(getattr(tensor, "shape", ())), axes.split()
    fits = len(shape) == len(wanted) and all(
        size is None or not axis.isdigit() or size == int(axis) for size, axis in zip(shape, wanted)
    )
    if not fits:
        raise ValueError(f"{name} has the shape {shape}; give ({', '.join(wanted)}).")


def check_choice(name, value, choices):
    """Refuse a value that is not among the choices.

    Args:
        name: the argument's name.
        value: what was given.
        choices: the allowed values.

    Raises:
        ValueError: the value is not a choice; the message names the argument, the value and the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; give one of {', '.join(map(repr, choices))}.")


def check_part(name, part, kind):
    """Refuse an argument that is not a part of a kind.

    Args:
        name: the argument's name.
        part: what was given.
        kind: the class of which it must be an instance.

    Raises:
        ValueError: the message names the argument, the value and the class.
    """
    if not isinstance(part, kind):
        raise ValueError(f"{name} is {part!r:.80}; give a {kind.__name__} of {kind.__module__}.")


def check_positive(name, value):
    """Refuse a value that is not a positive finite number.

    Args:
        name: the argument's name.
        value: what was given.

    Raises:
        ValueError: the value is not positive and finite; the message names the argument and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
        raise ValueError(f"{name} is {value!r}; give a positive number.")


def check_count(name, value):
    """Refuse a value that is not a positive integer.

    Args:
        name: the argument's name.
        value: what was given.

    Raises:
        ValueError: the value is not a positive integer; the message names the argument and the value.
    """
    if not hasattr(value, "__index__") or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r}; give a positive integer.")


def check_whole(name, value, least=1, most=1 << 16):
    """Refuse what is not an integer in a range, such as channels that no memory could hold.

    Args:
        name: the argument's name.
        value: what was given.
        least: the smallest that is allowed.
        most: the largest.

    Raises:
        ValueError: names the argument, the value and the range.
    """
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        raise ValueError(f"{name} is {value!r:.80}; give a whole number from {least} to {most}.")


def pair(name, value, least=1):
    """Read one or two integers as (vertical, horizontal).

    Args:
        name: the argument's name.
        value: one or two integers.
        least: the smallest allowed value.

    Returns:
        Tuple of two integers.

    Raises:
        ValueError: a wrong length, a value that is not an integer, or one below `least`.
    """
    values = tuple(value) if isinstance(value, list | tuple) else (value, value)
    integers = all(hasattr(v, "__index__") and not isinstance(v, bool) for v in values)
    if len(values) != 2 or not integers or min(values) < least:
        raise ValueError(f"{name} is {value!r}; give one or two integers of at least {least}.")
    return tuple(int(v) for v in values)
