"""Where a folder in VOC's form keeps its lists, XML files and images.

VOC's own layout is ImageSets/Main/<split>.txt, Annotations/*.xml, JPEGImages/*. Annotation tools also
write sub-folders in them, and folders without lists: images and XML files side by side, which form
one set or lie in one folder per split, and folders of annotations and images with one folder per split.
"""

import os
import re

from kerasdet.data.cleaning import read_text, walk
from kerasdet.data.finding import IMAGE_SUFFIXES, SPLITS, split_names

_LAYOUT = (
    "expected are lists ImageSets/Main/<split>.txt beside Annotations and JPEGImages, or without lists "
    "images and XML files in {root} or {root}/<split>, or in annotations/<split> and images/<split>"
)


class VocFiles:
    """The files of one split.

    Args:
        root: the data set's folder.
        split: name of the split, or None: the list "train", or all images if there are no lists.

    Attributes:
        names: names of the images, in order: paths of the XML files below `annotations`, without suffix.
        listing: the file that lists the names, or the folder that contains them.
        annotations, images: the folders of the XML files and the images.
        xml_files: paths of all XML files of the data set, including its other splits.
        unannotated: images without an XML file, if there is no list.

    Raises:
        FileNotFoundError: there is no such split; the message names the existing ones.
    """

    def __init__(self, root, split):
        lists = os.path.join(root, "ImageSets", "Main")
        self.lists = [n[:-4] for n in walk(lists, ".txt")] if os.path.isdir(lists) else []
        self.annotations, self.images = _places(root, None if self.lists else split)
        self._xmls = _Stems(walk(self.annotations, ".xml"))
        everywhere = self.annotations if self.lists or split is None else root
        self.xml_files = [os.path.join(everywhere, name) for name in walk(everywhere, ".xml")]
        self._image_stems = _Stems(walk(self.images, IMAGE_SUFFIXES))
        self.listing = (
            os.path.join(lists, f"{split or 'train'}.txt") if self.lists else self.annotations
        )
        if not self.lists:
            self.names = list(self._xmls.files)
            if not self.names:
                raise _lost(self.annotations, "there are no XML files here", root)
            if split is None and _splits(self.names):
                raise _lost(root, "name a split", root, _folders(root))
        elif os.path.isfile(self.listing):
            lines = read_text(self.listing).splitlines()
            self.names = [self._name(line.strip()) for line in lines if line.strip()]
        else:
            raise _lost(self.listing, "there is no such split", root, self.lists)

    @property
    def unannotated(self):
        """Return the paths of the images without an XML file, in a folder without lists."""
        if self.lists:
            return []
        return [
            os.path.join(self.images, files[0])
            for stem, files in self._image_stems.files.items()
            if stem.rpartition("/")[2] not in self._xmls.by_last
        ]

    def xml(self, name):
        """Return the path of an image's XML file, whether it exists or not."""
        return os.path.join(
            self.annotations, self._xmls.files.get(name, [f"{name}.xml".lstrip("/")])[0]
        )

    def image(self, name, stated):
        """Return the image that a name denotes, or None.

        Args:
            name: one of `names`.
            stated: the image's name in the XML file, or None.
        """
        stated = (stated or "").replace("\\", "/")
        last = stated.rpartition("/")[2]
        for spelling in (name, os.path.splitext(stated)[0], os.path.splitext(last)[0]):
            files = self._image_stems.files.get(self._image_stems.find(spelling), [])
            if files:
                exact = [file for file in files if file.rpartition("/")[2] == last]
                return os.path.join(self.images, (exact or files)[0])
        return None

    def _name(self, line):
        """Return the image's name in one line of a list; lists of one class have a second column."""
        match = re.fullmatch(r"(.*\S)\s+(?:-1|0|1)", line)
        names = [line, match.group(1)] if match else [line]
        for name in names:
            path = name.replace("\\", "/").removeprefix("./")
            stem, suffix = os.path.splitext(path)
            known = suffix.lower() in (*IMAGE_SUFFIXES, ".xml")
            for spelling in (name, path, stem if known else path):
                if self._xmls.find(spelling) is not None:
                    return self._xmls.find(spelling)
        return names[-1]


def has_split(root, split):
    """Tell whether a folder in VOC's form has a split of that name.

    Raises:
        ValueError: its list cannot be read.
    """
    try:
        VocFiles(os.fspath(root), split)
    except FileNotFoundError:
        return False
    return True


def _places(root, split):
    """Return the folders of the XML files and of the images: of a split if there are no lists, or of all."""
    if split is None:
        return _pair(root)
    for name in split_names(split):
        place = os.path.join(root, name)
        if os.path.isdir(place):
            return _pair(place)
        if _is_below(root, name):
            return tuple(os.path.join(folder, name) for folder in _pair(root))
    listing = os.path.join(root, "ImageSets", "Main", f"{split}.txt")
    raise _lost(listing, "there is no such split", root, _folders(root))


def _pair(base):
    names = ("Annotations", "annotations"), ("JPEGImages", "images")
    return tuple(_first_folder(base, *of_one) for of_one in names)


def _is_below(root, name):
    """Tell whether the folders of annotations and of images both have a folder of that name."""
    return all(os.path.isdir(os.path.join(folder, name)) for folder in _pair(root))


def _lost(place, what, root, splits=()):
    """Return the error of data that are not there, with the splits that are, or else the layouts."""
    text = f"{place}: {what}; splits here: {', '.join(splits) or 'none'}"
    return FileNotFoundError(f"{text}." if splits else f"{text}; {_LAYOUT.format(root=root)}.")


def _folders(root):
    names = sorted(SPLITS)
    return [n for n in names if os.path.isdir(os.path.join(root, n)) or _is_below(root, n)]


def _splits(names):
    return {name.partition("/")[0] for name in names if "/" in name} & SPLITS


def _first_folder(base, *names):
    places = [os.path.join(base, name) for name in names]
    return next((place for place in places if os.path.isdir(place)), base)


class _Stems:
    """Files by their paths without suffix.

    Attributes:
        files: {path without suffix: paths}, JPEG files first among those of one stem.
        by_last: {last part of such a path: the path, or None if several paths have it}.
    """

    def __init__(self, names):
        files, self.by_last = {}, {}
        for name in sorted(names, key=_rank):
            files.setdefault(os.path.splitext(name)[0], []).append(name)
        self.files = dict(sorted(files.items()))
        for stem in self.files:
            last = stem.rpartition("/")[2]
            self.by_last[last] = None if last in self.by_last else stem

    def find(self, spelling):
        """Return the stem of that name, in any sub-folder if only one has it; or None."""
        if spelling in self.files:
            return spelling
        return self.by_last.get(spelling.rpartition("/")[2])


def _rank(name):
    suffix = os.path.splitext(name)[1].lower()
    return IMAGE_SUFFIXES.index(suffix) if suffix in IMAGE_SUFFIXES else 0
