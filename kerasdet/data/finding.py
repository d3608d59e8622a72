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


class Claims:
    """The files that the entries of an annotation file have led to.

    A file is known by its folder, links resolved, and its name; two links of one folder are two files.
    """

    def __init__(self):
        self._owners, self._folders = {}, {}

    def owner(self, path, entry):
        """Return the first entry that claimed a file: this one, or one that came before.

        Args:
            path: the file that was found.
            entry: what names it, of any type.
        """
        folder, name = os.path.split(path)
        if folder not in self._folders:  # looked up once, not for each image
            self._folders[folder] = os.path.realpath(folder)
        key = os.path.normcase(os.path.join(self._folders[folder], name))
        return self._owners.setdefault(key, entry)


def is_same(folder, path, first, second):
    """Tell whether two names that lead to one file are spellings of it, and neither was guessed.

    Args:
        folder: the folder that the names are relative to.
        path: the file that `find_image` has found.
        first: a name in the annotation file.
        second: another.
    """
    first, second = (os.path.normpath(_spellings(name)[-1]) for name in (first, second))
    if first == second:
        return True
    path = _resolved(path)
    return all(
        _resolved(os.path.join(folder, name)) == path or path.endswith(f"{os.sep}{name}")
        for name in (first, second)
    )


def _resolved(path):
    """Return a path whose folder is free of links; the file itself may be one."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _candidates(folder, name):
    spellings = _spellings(name)
    own = os.path.abspath(folder).split(os.sep)
    for text in spellings:
        yield os.path.join(folder, text)
        parts = text.split("/")
        for shared in range(1, min(len(parts), len(own) + 1)):
            if parts[:shared] == own[-shared:]:
                yield os.path.join(folder, *parts[shared:])
    for text in spellings:
        yield os.path.join(folder, text.rpartition("/")[2])


def _spellings(name):
    decoded = [name, unquote(name)]
    return list(dict.fromkeys(decoded + [text.replace("\\", "/") for text in decoded]))
