"""Where a YOLO data set says that its classes, images and text files are: data.yaml and folders."""

import dataclasses
import itertools
import os
import re

import yaml

from kerasdet.data.cleaning import printable, read_text, shown, unique_names, walk
from kerasdet.data.finding import IMAGE_SUFFIXES, SPLITS, split_names

_LONGEST, _DEEPEST = 1_000_000, 50  # Of a data.yaml: characters, brackets in brackets.


def read_settings(root):
    """The content of a YOLO folder's data.yaml, or what its classes.txt says.

    Args:
        root: the folder, or the YAML file itself.

    Returns:
        (folder, settings): the folder and a dict with "names" ({class number: name}); of a YAML
        file also its other entries, as text, list or dict.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: not YAML, or names that cannot be used; the message names file and line.
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
            return root, {"names": dict(enumerate(unique_names(lines, file)))}
    if len(names) > 1:
        raise ValueError(f"{root}: which of {', '.join(names)} is meant? Name one data.yaml.")
    if names:
        return root, _read_yaml(os.path.join(root, names[0]))
    raise FileNotFoundError(
        f"{root}: there is neither data.yaml nor classes.txt; write the class names, one per line, "
        "into classes.txt."
    )


class _TextLoader(yaml.BaseLoader):
    """Safe, and scalars stay text: a class "no" is not False, "010" not 8. Keys stand once."""

    def construct_mapping(self, node, deep=False):
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise yaml.constructor.ConstructorError(
                None, None, f"a key of {shown(list(mapping))} appears twice", node.start_mark
            )
        return mapping


def _read_yaml(file):
    text = read_text(file)
    # PyYAML's time grows with the square of the depth, and is a second for 0.3 MB.
    if len(text) > _LONGEST or _depth(text) > _DEEPEST:
        raise ValueError(
            f"{file}: longer than {_LONGEST} characters, or brackets more than {_DEEPEST} deep: "
            "not the data.yaml of a data set; restore it."
        )
    try:
        settings = yaml.load(text, Loader=_TextLoader)
    except yaml.MarkedYAMLError as error:
        place = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ValueError(f"{file}: {place}not YAML ({error.problem}); mend it.") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{file}: not YAML ({str(error)[:200]}); mend it.") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: holds no 'key: value' lines; it needs 'names'.")
    names = _names(file, settings.get("names"))
    count = settings.get("nc", "")
    if count != "" and count != str(max(names) + 1) and count != str(len(names)):
        raise ValueError(f"{file}: nc is {shown(count)}, but names has {len(names)}; mend one.")
    return settings | {"names": names}


def _depth(text):
    """How many brackets are open at once, at most."""
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", text))
    return max(itertools.accumulate(steps), default=0)


def _names(file, names):
    """{class number: name} in the order of the numbers."""
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not names or not isinstance(names, dict):
        raise ValueError(f"{file}: 'names': no class names; list at least one.")
    numbers = {}
    for key, name in names.items():
        number = int(key) if str(key).isdecimal() and len(str(key)) < 10 else None
        if number is None or number in numbers or not isinstance(name, str):
            raise ValueError(
                f"{file}: 'names' has {shown(key)}: {shown(name)}; it is a number from 0, once, and "
                "a name."
            )
        numbers[number] = name
    names = unique_names(numbers.values(), f"{file}: 'names'")
    return dict(sorted(zip(numbers, names)))


@dataclasses.dataclass(frozen=True)
class Place:
    """Where one image is.

    Args:
        base: the folder of the split or, for an image from a list, the image's own.
        below: path below `base`, with "/".
        name: the image's name in its data set, with suffix.
        listed: where a list names it, for messages; "" where the split is all images of `base`.
    """

    base: str
    below: str
    name: str
    listed: str = ""

    @property
    def path(self):
        """The image file."""
        return os.path.join(self.base, self.below)

    @property
    def stem(self):
        """The name without suffix."""
        return os.path.splitext(self.name)[0]


def has_split(root, split):
    """Whether a YOLO folder has a split of that name, in data.yaml or as a folder."""
    try:
        folder, settings = read_settings(os.fspath(root))
        return bool(find_images(folder, split, settings))
    except (OSError, ValueError):
        return False


def find_images(root, split, settings):
    """The images of a split.

    Args:
        root: the folder.
        split: name of the split, or None for all images of a folder without splits.
        settings: as `read_settings` gives.

    Returns:
        List of `Place`, each once.

    Raises:
        FileNotFoundError: there are none; the places that were looked at are named.
        ValueError: all images are asked for, but they lie in splits.
    """
    places = []
    for entries in _places(root, split, settings):
        found, missing = [], []
        for entry in entries:
            here = _expand(root, settings, entry)
            found += here
            missing += [] if here else [entry]
        if found and missing:
            missing = printable(" or ".join(missing))
            raise FileNotFoundError(f"{root}: no images in {missing}, of {split}.")
        if found:
            _refuse_splits(root, split, found)
            return list(dict.fromkeys(found))
        places += entries
    hint = "; name a split" if split is None else ""
    looked = printable(" or ".join(dict.fromkeys(places)))
    raise FileNotFoundError(f"{root}: no images in {looked}{hint}.")


def label_folder(folder):
    """Where the text files of a folder of images lie: in labels/ for images/, or beside them.

    Args:
        folder: path of the images.

    Returns:
        (folder of the text files, the labels/ that it is in); the second is None where the text
        files lie beside the images.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    parts = os.path.normpath(folder).split(os.sep)
    beside = any(
        name.lower().endswith(".txt") and not name.startswith(("._", "classes."))
        for name in os.listdir(folder)
    )
    if "images" not in parts:
        if beside:
            return folder, None
        raise FileNotFoundError(
            f"{folder}: images belong into a folder images/, text files into labels/."
        )
    last = len(parts) - 1 - parts[::-1].index("images")
    labels = os.sep.join([*parts[:last], "labels"])
    if not os.path.isdir(labels):
        if beside:
            return folder, None
        raise FileNotFoundError(f"{labels}: there is no such folder; the text files belong there.")
    return os.sep.join([labels, *parts[last + 1 :]]), labels


def _places(root, split, settings):
    """Lists of folders or list files, one of which has the images; the likeliest first."""
    if split is None:
        yield [os.path.join(root, "images")]
        yield [root]
        return
    names = split_names(split)
    for name in names:
        entries = settings.get(name)
        entries = [entries] if isinstance(entries, str) else entries
        if isinstance(entries, list) and entries and all(isinstance(e, str) for e in entries):
            yield [entry for entry in entries if entry]
    for name in names:
        for place in (("images", name), (name, "images"), (name,)):
            yield [os.path.join(root, *place)]


def _expand(root, settings, entry):
    """The images of one entry of data.yaml: a folder, a text file with a list, or an image."""
    own = settings.get("path")
    bases = [os.path.join(root, own), root] if isinstance(own, str) else [root]
    path = _resolve(bases, entry, os.path.exists)
    if path is None or _is_above(path, root):
        return []
    if os.path.isdir(path):
        inner = os.path.join(path, "images")  # "train: ../train", with the images one level down.
        path = os.path.normpath(inner if os.path.isdir(inner) else path)
        return [Place(path, name, name) for name in walk(path, IMAGE_SUFFIXES)]
    if not path.lower().endswith(".txt"):
        return [_alone(root, path, "data.yaml")]
    bases, found = [os.path.dirname(path), *bases], []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            image = _resolve(bases, line.strip(), os.path.isfile) or os.path.join(
                root, line.strip()
            )
            found.append(_alone(root, image, f"{path}, line {number}"))
    return found


def _is_above(path, root):
    """Whether a folder holds the whole data set and more, so that it is no split of it."""
    path, root = os.path.realpath(path), os.path.realpath(root)
    return path != root and os.path.commonpath([path, root]) == path


def _alone(root, path, listed):
    """The place of an image from a list."""
    name = os.path.relpath(path, root).replace(os.sep, "/")
    base, below = os.path.split(path)
    return Place(base, below, below if name.startswith("../") else name, listed)


def _resolve(bases, entry, exists):
    """The first path that exists, or None.

    Tried are the entry from each base, without "../" that lead nowhere, and its ends of two parts
    or more, as the folders above may be another machine's.
    """
    entry = entry.replace("\\", "/")
    parts = [part for part in entry.split("/") if part not in ("", ".", "..")]
    ends = ["/".join(parts[first:]) for first in range(max(1, len(parts) - 1))]
    paths = (os.path.join(base, name) for name in [entry, *ends[:20]] for base in bases)
    return next((os.path.normpath(path) for path in paths if exists(path)), None)


def _refuse_splits(root, split, found):
    """Raise where all images are asked for and some lie in folders that are splits."""
    names = {place.below.partition("/")[0] for place in found if "/" in place.below}
    splits = sorted(names & SPLITS)
    if split is None and splits:
        raise FileNotFoundError(
            f"{root}: no images in {found[0].base} itself but in {', '.join(splits)}; name a split."
        )
