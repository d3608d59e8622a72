"""What a YOLO data set's data.yaml says, or its classes.txt: text, lists and mappings of text."""

import os
from collections import Counter

import yaml

from kerasdet.data.cleaning import read_text, shown, unique_names

# The parser in C is fifty times as fast; both give the same events.
_PARSER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
# Limits of a data.yaml: bytes, values with the ends of lists and mappings, depth.
_LONGEST, _MOST, _DEEPEST = 1_000_000, 30_000, 50
_NULL = ("~", "null", "Null", "NULL")


def read_settings(root):
    """Read a YOLO folder's data.yaml or classes.txt.

    Args:
        root: the folder, or the YAML file itself.

    Returns:
        (folder, settings): the folder, and a dict with "names" ({class number: name}) and "file" (the
        path of what was read); for a YAML file also its other entries, as text, list or dict.

    Raises:
        FileNotFoundError: there is neither file.
        ValueError: not YAML, or unusable names; the message names file and line.
    """
    if root.lower().endswith((".yaml", ".yml")) and os.path.isfile(root):
        return os.path.dirname(root) or ".", _read_yaml(root)
    names = sorted(os.listdir(root)) if os.path.isdir(root) else []
    names = [n for n in names if n.lower().endswith((".yaml", ".yml")) and n[:2] != "._"]
    usual = [name for name in names if name.lower().startswith("data")]
    if usual:
        return root, _read_yaml(os.path.join(root, usual[0]))
    for file in (os.path.join(root, "classes.txt"), os.path.join(root, "labels", "classes.txt")):
        if os.path.isfile(file):
            lines = [line.strip() for line in read_text(file).rstrip().splitlines()]
            if "" in lines:
                raise ValueError(f"{file}: line {lines.index('') + 1} is empty; name its class.")
            return root, {"names": dict(enumerate(unique_names(lines, file))), "file": file}
    if len(names) > 1:
        raise ValueError(f"{root}: which of {', '.join(names[:10])} is meant? Name one data.yaml.")
    if names:
        return root, _read_yaml(os.path.join(root, names[0]))
    raise FileNotFoundError(
        f"{root}: there is neither data.yaml nor classes.txt; write the class names, one per line, "
        "into classes.txt."
    )


def _read_yaml(file):
    if os.path.isfile(file) and os.path.getsize(file) > _LONGEST:
        raise ValueError(
            f"{file}: longer than {_LONGEST} bytes: not the data.yaml of a data set; restore it."
        )
    try:
        settings = _content(yaml.parse(read_text(file), Loader=_PARSER))
    except yaml.MarkedYAMLError as error:
        place = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ValueError(f"{file}: {place}not YAML ({error.problem:.200}); correct it.") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not YAML ({error!s:.200}); correct it.") from None
    except _TooMuchError as error:
        raise ValueError(f"{file}: {error}: not the data.yaml of a data set; restore it.") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: holds no 'key: value' lines; it needs 'names'.")
    names = _names(file, settings.get("names"))
    count = settings.get("nc", "")
    if count != "" and count != str(max(names) + 1) and count != str(len(names)):
        raise ValueError(f"{file}: nc is {shown(count)}, but names has {len(names)}; correct one.")
    return settings | {"names": names, "file": file}


class _TooMuchError(Exception):
    """The content is above a limit."""


def _content(events):
    """Return the content of a YAML document.

    Tags are disregarded, and scalars stay text: "no" is not False, "010" not 8. A null is "". Nothing
    recurses, so that no document is too deep for the stack.

    Args:
        events: the events of PyYAML's parser.

    Raises:
        _TooMuchError, yaml.YAMLError: above a limit, or not one valid document.
    """
    values, around, anchors = [], [], {}
    for count, event in enumerate(events):
        if count > _MOST or len(around) > _DEEPEST:
            raise _TooMuchError(f"more than {_MOST} entries, or lists more than {_DEEPEST} deep")
        if isinstance(event, yaml.DocumentStartEvent) and values:
            raise _problem(event, "a second document")
        if isinstance(event, yaml.CollectionStartEvent):
            around.append((values, event))
            values = []
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            inner = values
            values, event = around.pop()
            value = _mapping(inner, event) if isinstance(event, yaml.MappingStartEvent) else inner
        elif isinstance(event, yaml.ScalarEvent):
            value = "" if event.implicit[0] and event.value in _NULL else event.value
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise _problem(event, f"*{event.anchor} is used before its end")
            value = anchors[event.anchor]
        else:
            continue
        anchors[event.anchor] = value
        values.append(value)
    return values[0] if values else ""


def _mapping(inner, event):
    """Return a dict of alternate keys and values; the keys must be text, each once."""
    keys = inner[0::2]
    if not all(isinstance(key, str) for key in keys):
        raise _problem(event, "a key is a list or a mapping")
    for key, count in Counter(keys).items():
        if count > 1:
            raise _problem(event, f"the key {shown(key)} appears twice")
    return dict(zip(keys, inner[1::2]))


def _problem(event, message):
    return yaml.constructor.ConstructorError(None, None, message, event.start_mark)


def _names(file, names):
    """Return {class number: name} in the order of the numbers."""
    if isinstance(names, str) and names:
        raise ValueError(
            f"{file}: 'names' is {shown(names)}; it must be a list, as 'names: [cup, box]', or a "
            "mapping, as 'names: {0: cup, 1: box}'."
        )
    if not names:
        raise ValueError(f"{file}: 'names': no class names; list at least one.")
    numbers = {}
    for key, name in names.items() if isinstance(names, dict) else enumerate(names):
        number = int(key) if str(key).isdecimal() and len(str(key)) < 10 else None
        if number is None or number in numbers or not isinstance(name, str):
            raise ValueError(
                f"{file}: 'names' has {shown(key)}: {shown(name)}; it must be a unique number from 0 and "
                "a name."
            )
        if not name.strip():
            raise ValueError(
                f"{file}: 'names': class {number} has no name; write one, in quotes if it is 'null' or "
                "'~'."
            )
        numbers[number] = name
    names = unique_names(numbers.values(), f"{file}: 'names'")
    return dict(sorted(zip(numbers, names)))
