"""Where a folder in VOC's form has its lists, XML files and images.

VOC's own: ImageSets/Main/<split>.txt, Annotations/*.xml, JPEGImages/*. Annotation tools also write
sub-folders in them, and folders without lists: images and XML files side by side, all of them one
set or in a folder for each split.
"""

import os
import re

from kerasdet.data.cleaning import read_text, walk
from kerasdet.data.finding import IMAGE_SUFFIXES, SPLITS, split_names


class VocFiles:
    """The files of one split.

    Args:
        root: the data set's folder.
        split: name of the split, or None: the list "train", or all where there are no lists.

    Attributes:
        names: of the images, in order: paths of the XML files below `annotations`, without suffix.
        listing: the file that lists the names, or the folder that has them.
        annotations, images: the folders of the XML files and the images.
        xml_files: paths of all XML files of the data set, of its other splits too.
        unannotated: images without an XML file, where there is no list.

    Raises:
        FileNotFoundError: there is no such split; those that exist are named.
    """

    def __init__(self, root, split):
        lists = os.path.join(root, "ImageSets", "Main")
        self.lists = [n[:-4] for n in walk(lists, ".txt")] if os.path.isdir(lists) else []
        base = root if self.lists else _base(root, split)
        self.annotations = _first_folder(base, "Annotations", "annotations")
        self.images = _first_folder(base, "JPEGImages", "images")
        self._xmls = _Stems(walk(self.annotations, ".xml"))
        everywhere = self.annotations if base == root else root
        self.xml_files = [os.path.join(everywhere, name) for name in walk(everywhere, ".xml")]
        self._image_stems = _Stems(walk(self.images, IMAGE_SUFFIXES))
        self.listing = os.path.join(lists, f"{split or 'train'}.txt") if self.lists else base
        if not self.lists:
            self.names = list(self._xmls.files)
            if not self.names or (split is None and _splits(self.names)):
                raise _no_split(root, self.listing, _folders(root))
        elif os.path.isfile(self.listing):
            lines = read_text(self.listing).splitlines()
            self.names = [self._name(line.strip()) for line in lines if line.strip()]
        else:
            raise _no_split(root, self.listing, self.lists)

    @property
    def unannotated(self):
        """Paths of the images that no XML file stands for, in a folder without lists."""
        if self.lists:
            return []
        return [
            os.path.join(self.images, files[0])
            for stem, files in self._image_stems.files.items()
            if stem.rpartition("/")[2] not in self._xmls.by_last
        ]

    def xml(self, name):
        """The XML file of an image, whether it exists or not."""
        return os.path.join(
            self.annotations, self._xmls.files.get(name, [f"{name}.xml".lstrip("/")])[0]
        )

    def image(self, name, stated):
        """The image that a name stands for, or None.

        Args:
            name: one of `names`.
            stated: what the XML file calls it, or None.
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
        """The image's name in one line of a list; lists of one class have a second column."""
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
    """Whether a folder in VOC's form has a split of that name."""
    try:
        VocFiles(os.fspath(root), split)
    except (OSError, ValueError):
        return False
    return True


def _base(root, split):
    """The folder of a split's files where there are no lists."""
    if split is None:
        return root
    places = [os.path.join(root, name) for name in split_names(split)]
    place = next((place for place in places if os.path.isdir(place)), None)
    if place is None:
        listing = os.path.join(root, "ImageSets", "Main", f"{split}.txt")
        raise _no_split(root, listing, _folders(root))
    return place


def _no_split(root, listing, found):
    return FileNotFoundError(
        f"{listing}: there is no such split; splits here: {', '.join(found) or 'none'}."
    )


def _folders(root):
    names = sorted(os.listdir(root)) if os.path.isdir(root) else []
    return [name for name in names if name in SPLITS and os.path.isdir(os.path.join(root, name))]


def _splits(names):
    return {name.partition("/")[0] for name in names if "/" in name} & SPLITS


def _first_folder(base, *names):
    places = [os.path.join(base, name) for name in names]
    return next((place for place in places if os.path.isdir(place)), base)


class _Stems:
    """Files by their paths without suffix.

    Attributes:
        files: {path without suffix: paths}, JPEG files first among those of one stem.
        by_last: {last part of such a path: the path, or None where several have it}.
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
        """The stem of that name, in whatever sub-folder if only one has it; or None."""
        if spelling in self.files:
            return spelling
        return self.by_last.get(spelling.rpartition("/")[2])


def _rank(name):
    suffix = os.path.splitext(name)[1].lower()
    return IMAGE_SUFFIXES.index(suffix) if suffix in IMAGE_SUFFIXES else 0
