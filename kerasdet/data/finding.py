"""Finding a data set's images and splits, whose names come from another machine or an exporter."""

import os
from urllib.parse import unquote

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif")
# Names that exporters give to the three splits.
_SAME = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))
SPLITS = frozenset(name for same in _SAME for name in same)


def split_names(split):
    """Return the names that a split may have: its own first, then synonyms."""
    same = next((names for names in _SAME if split in names), ())
    return list(dict.fromkeys([split, *same]))


def find_image(folder, name):
    """Find the file that an annotation names, or return None.

    The name is tried as it is written, with "/" for a backslash, with "%2F" and the like decoded, without
    the folder's own name at its start ("images/a.jpg" in images/), and without any folders.

    Args:
        folder: the folder that the name is relative to.
        name: as in the annotation file.

    Returns:
        A path, or None.
    """
    first = os.path.join(folder, name)
    if os.path.isfile(first):
        return first
    return next(filter(os.path.isfile, _candidates(os.fspath(folder), name)), None)


def is_claimed(claimed, path, name):
    """Tell whether another name has led to the same file before; remember this one.

    Args:
        claimed: {path: name}, extended here.
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
