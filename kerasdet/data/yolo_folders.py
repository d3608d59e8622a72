"""Where a YOLO data set keeps its images and text files: the entries of data.yaml, or usual folders."""

import dataclasses
import os

from kerasdet.data.cleaning import printable, read_text, shown, walk
from kerasdet.data.finding import IMAGE_SUFFIXES, SPLITS, split_names
from kerasdet.data.yolo_settings import read_settings

_LONGEST = 4096  # characters of a path


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of one image.

    Args:
        base: the folder of the split or, for an image from a list, of the image.
        below: path below `base`, with "/".
        name: the image's name in its data set, with suffix.
        listed: the list that names it, for messages; "" if the split is all images of `base`.
    """

    base: str
    below: str
    name: str
    listed: str = ""

    @property
    def path(self):
        """The path of the image file."""
        return os.path.join(self.base, self.below)

    @property
    def stem(self):
        """The name without suffix."""
        return os.path.splitext(self.name)[0]


def has_split(root, split):
    """Tell whether a YOLO folder has a split of that name: data.yaml names it, or there are its images.

    Raises:
        FileNotFoundError, ValueError: as for `read_settings`.
    """
    root, settings = read_settings(os.fspath(root))
    _, entries = _entries(split, settings)
    return bool(entries or _usual(root, split)[0])


def find_images(root, split, settings):
    """Find the images of a split.

    Args:
        root: the folder.
        split: name of the split, or None for all images of a folder without splits.
        settings: the result of `read_settings`.

    Returns:
        List of `Place`, each image once.

    Raises:
        FileNotFoundError: there are no images; the message names the places that were searched.
        ValueError: all images are requested, but they are in splits; or what data.yaml says of the
            split is not understood.
    """
    name, entries = _entries(split, settings)
    if entries:
        found = []
        for entry in entries:
            here = _expand(root, settings, entry)
            if not here:
                raise FileNotFoundError(
                    f"{settings['file']}: '{name}': no images in {printable(entry[:200])}; correct "
                    "the entry, or put the images there."
                )
            found += here
    else:
        found, folders = _usual(root, split)
        if not found:
            hint = "; name a split" if split is None else ""
            raise FileNotFoundError(
                f"{root}: no images in {printable(' or '.join(folders))}{hint}."
            )
        _refuse_splits(root, split, found)
    unique = {}
    for place in found:
        unique.setdefault(os.path.abspath(place.path), place)
    return list(unique.values())


def label_folder(folder):
    """Find the text files of a folder of images: in labels/ for images/, or beside the images.

    Args:
        folder: path of the images.

    Returns:
        (folder of the text files, the labels/ that contains it); the second is None if the text
        files are beside the images.

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
            f"{folder}: put images into a folder images/ and text files into labels/."
        )
    last = len(parts) - 1 - parts[::-1].index("images")
    labels = os.sep.join([*parts[:last], "labels"])
    below = os.sep.join([labels, *parts[last + 1 :]])
    if beside and not os.path.isdir(below):
        return folder, None
    if not os.path.isdir(labels):
        raise FileNotFoundError(f"{labels}: there is no such folder; put the text files there.")
    return below, labels


def _entries(split, settings):
    """Return (name of the split, its entries) in data.yaml; no entries if it does not name the split."""
    for name in split_names(split) if split else ():
        entries = settings.get(name, "")
        entries = entries if isinstance(entries, list) else [entries]
        if not all(isinstance(entry, str) for entry in entries):
            raise ValueError(
                f"{settings['file']}: '{name}' is {shown(settings[name])}; it must be a folder, a text "
                "file that lists images, or a list of them."
            )
        entries = [entry.strip() for entry in entries if entry.strip()]
        if entries:
            return name, entries
    return split, []


def _usual(root, split):
    """Return the images of the first usual folder that has any, and the folders."""
    if split is None:
        folders = [os.path.join(root, "images"), root]
    else:
        below = [
            place
            for name in split_names(split)
            for place in (("images", name), (name, "images"), (name,))
        ]
        folders = [os.path.join(root, *place) for place in below]
    found = (_in_folder(folder) for folder in folders if os.path.isdir(folder))
    return next(filter(None, found), []), folders


def _in_folder(folder):
    """Return the images of a folder, or of the images/ in it."""
    inner = os.path.join(folder, "images")  # "train: ../train", with the images one level down.
    folder = os.path.normpath(inner if os.path.isdir(inner) else folder)
    return [Place(folder, name, name) for name in walk(folder, IMAGE_SUFFIXES)]


def _expand(root, settings, entry):
    """Return the images of one entry of data.yaml: a folder, a text file with a list, or an image."""
    own = settings.get("path")
    bases = [os.path.join(root, own), root] if isinstance(own, str) else [root]
    least = 1 if _leads_out(entry) else 2
    path = _resolve(root, bases, entry, os.path.exists, least)
    if path is None or _is_above(path, root):
        return []
    if os.path.isdir(path):
        return _in_folder(path)
    if not path.lower().endswith(".txt"):
        return [_alone(root, path, settings["file"])]
    return _in_list(root, path, [os.path.dirname(path), *bases])


def _in_list(root, file, bases):
    """Return the images that a text file lists, one per line."""
    found = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        line = line.strip()
        if len(line) > _LONGEST:
            raise ValueError(
                f"{file}: line {number} has {len(line)} characters; it must be the path of an image."
            )
        if line:
            path = _resolve(root, bases, line, os.path.isfile) or os.path.join(root, line)
            found.append(_alone(root, path, f"{file}, line {number}"))
    return found


def _is_above(path, root):
    """Tell whether a folder holds the whole data set and more, so that it is not a split of it."""
    path, root = os.path.realpath(path), os.path.realpath(root)
    return path != root and os.path.commonpath([path, root]) == path


def _alone(root, path, listed):
    """Return the place of an image from a list."""
    name = os.path.relpath(path, root).replace(os.sep, "/")
    base, below = os.path.split(path)
    return Place(base, below, below if name.startswith("../") else name, listed)


def _leads_out(entry):
    """Tell whether a path is absolute, on any machine, or has "../" parts."""
    parts = entry.replace("\\", "/").split("/")
    return ".." in parts or parts[0] == "" or entry[1:2] == ":"


def _resolve(root, bases, entry, exists, least=2):
    """Return the first path that exists, or None.

    The entry is tried from each base, without "../" parts that lead nowhere, and by its ends, because the
    folders above may be those of another machine. For "../valid/images", what is inside the data set
    comes before what is beside it.

    Args:
        root: the data set's folder.
        bases: the folders that the entry may be relative to.
        entry: a path.
        exists: function from a path to whether it is what is looked for.
        least: number of parts of the shortest end.
    """
    entry = entry.replace("\\", "/")
    parts = [part for part in entry.split("/") if part not in ("", ".", "..")]
    ends = ["/".join(parts[first:]) for first in range(max(1, len(parts) + 1 - least)) if parts]
    paths = [os.path.join(base, name) for name in [entry, *ends[:20]] for base in bases]
    if ".." in entry.split("/"):
        paths.sort(key=lambda path: not _is_inside(path, root))
    return next((os.path.normpath(path) for path in paths if exists(path)), None)


def _is_inside(path, root):
    root = os.path.abspath(root)
    return os.path.commonpath([os.path.abspath(path), root]) == root


def _refuse_splits(root, split, found):
    """Raise an error if all images are requested and some are in folders that are splits."""
    names = {place.below.partition("/")[0] for place in found if "/" in place.below}
    splits = sorted(names & SPLITS)
    if split is None and splits:
        raise FileNotFoundError(
            f"{root}: no images in {found[0].base} itself but in {', '.join(splits)}; name a split."
        )
