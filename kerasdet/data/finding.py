"""Where a data set's images and splits are: names written on another machine, or by exporters."""

import os
from urllib.parse import unquote

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif")
# Names that exporters give the three splits.
_SAME = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))
SPLITS = frozenset(name for same in _SAME for name in same)


def split_names(split):
    """The names that a split may have: its own first, then other words for it."""
    same = next((names for names in _SAME if split in names), ())
    return list(dict.fromkeys([split, *same]))


def find_image(folder, name):
    """The file that an annotation names, or None.

    Tried are the name as it is written, with "/" for a backslash, with "%2F" and the like decoded, below
    the folder where the name repeats the folder's own ("images/a.jpg" in images/), and the name
    without its folders.

    Args:
        folder: that the name is relative to.
        name: as in the annotation file.

    Returns:
        A path, or None.
    """
    first = os.path.join(folder, name)
    if os.path.isfile(first):
        return first
    return next(filter(os.path.isfile, _candidates(os.fspath(folder), name)), None)


def is_claimed(claimed, path, name):
    """Whether another name has led to the same file before; remembers this one.

    Args:
        claimed: {path: name}, filled here.
        path: the file that was found.
        name: as in the annotation file.
    """
    return claimed.setdefault(path, name) != name


def _candidates(folder, name):
    spellings = [name, unquote(name)]
    spellings = list(dict.fromkeys(spellings + [text.replace("\\", "/") for text in spellings]))
    own = os.path.abspath(folder).split(os.sep)
    for text in spellings:
        yield os.path.join(folder, text)
        parts = text.split("/")
        for shared in range(1, min(len(parts), len(own) + 1)):
            if parts[:shared] == own[-shared:]:
                yield os.path.join(folder, *parts[shared:])
    for text in spellings:
        yield os.path.join(folder, text.rpartition("/")[2])
