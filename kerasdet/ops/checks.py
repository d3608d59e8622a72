"""Arguments that cannot be right are refused while a graph is built, by name, value and fix."""


def check_axes(name, tensor, axes):
    """Refuse a tensor of another rank, or of another size where `axes` gives one.

    Args:
        name: the argument's name.
        tensor: what was given.
        axes: the axes' names, such as "B R 4"; a number is a size that must be met.

    Raises:
        ValueError: names the argument, its shape and the shape that is asked.
    """
    shape, wanted = tuple(getattr(tensor, "shape", ())), axes.split()
    fits = len(shape) == len(wanted) and all(
        size is None or not axis.isdigit() or size == int(axis) for size, axis in zip(shape, wanted)
    )
    if not fits:
        raise ValueError(f"{name} has the shape {shape}; give ({', '.join(wanted)}).")


def check_choice(name, value, choices):
    """Refuse a value that is none of the choices.

    Args:
        name: the argument's name.
        value: what was given.
        choices: the values that are known.

    Raises:
        ValueError: names the argument, the value and the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; give one of {', '.join(map(repr, choices))}.")


def check_positive(name, value):
    """Refuse what is not a positive finite number.

    Args:
        name: the argument's name.
        value: what was given.

    Raises:
        ValueError: names the argument and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
        raise ValueError(f"{name} is {value!r}; give a positive number.")


def check_count(name, value):
    """Refuse what is not a positive integer.

    Args:
        name: the argument's name.
        value: what was given.

    Raises:
        ValueError: names the argument and the value.
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
    """Read an integer, or two, as (vertical, horizontal).

    Args:
        name: the argument's name.
        value: an integer or two.
        least: the smallest that is allowed.

    Returns:
        Tuple of two integers.

    Raises:
        ValueError: another length, no integer, or below `least`; names argument and value.
    """
    values = tuple(value) if isinstance(value, list | tuple) else (value, value)
    integers = all(hasattr(v, "__index__") and not isinstance(v, bool) for v in values)
    if len(values) != 2 or not integers or min(values) < least:
        raise ValueError(f"{name} is {value!r}; give one or two integers of at least {least}.")
    return tuple(int(v) for v in values)
