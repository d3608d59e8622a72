"""Reading the image files of a data set: their EXIF orientation and their gray levels.

Whether boxes were drawn on stored or on turned pixels is decided once for a data set, because one
annotation tool made it. The images whose size a quarter turn changes decide: their annotated size
shows what the tool saw.
"""

import functools

from kerasdet.images import darkness, load_classes, load_image, stored_size


class ImageFiles:
    """The image files of a data set.

    Args:
        records: list of `Record`, each with its `path`.
        measured: indices of the records whose size was read from the file and not annotated.
        gray_max: as in `load_image`.
        semantic_paths: None, or one file per record with the class of each pixel.
    """

    def __init__(self, records, measured=(), gray_max=None, semantic_paths=None):
        self.records = records
        self.measured = frozenset(measured)
        self.gray_max = gray_max
        self.semantic_paths = semantic_paths

    def image(self, index):
        """Return image `index`, (H, W, 3) uint8, turned as annotated.

        Raises:
            FileNotFoundError, ValueError: a missing or broken file, or a size that is not the annotated one.
        """
        record = self.records[index]
        image = load_image(record.path, self._is_turned(index), self.gray_max)
        if image.shape[:2] == (record.height, record.width):
            return image
        raise ValueError(
            f"{record.path}: the image is {image.shape[1]}x{image.shape[0]} pixels, but its "
            f"annotation says {record.width}x{record.height}; correct the annotation's width and "
            "height, or restore the image that was annotated."
        )

    def semantic(self, index):
        """Return the class of each pixel of image `index`, (H, W) int32, or None."""
        return self.semantic_paths and load_classes(self.semantic_paths[index])

    def faults(self, index):
        """Return a list of (kind, message): the faults that `check` reports for a readable image."""
        path = self.records[index].path
        found = {
            "dark_image": darkness(path, self.gray_max),
            "orientation": self._orientation(index),
        }
        return [(kind, message) for kind, message in found.items() if message]

    def _is_turned(self, index):
        """Tell whether the image is turned by its orientation."""
        orientation, turned = self._vote(index)
        if orientation == 1:
            return True
        return self._set_is_turned if turned is None else turned

    def _vote(self, index):
        """Return the orientation, and True if annotated as turned, False if as stored, None if unknown.

        If only one way of reading gives the annotated size, that way is taken for the image.
        """
        record = self.records[index]
        height, width, orientation = stored_size(record.path)
        if orientation < 5 or height == width or index in self.measured:
            return orientation, None
        as_turned = {(width, height): True, (height, width): False}
        return orientation, as_turned.get((record.height, record.width))

    @functools.cached_property
    def _votes(self):
        """Count (images annotated as turned, images annotated as stored); read every header once."""
        votes = []
        for index in range(len(self.records)):
            try:
                votes.append(self._vote(index)[1])
            except (OSError, ValueError):
                continue  # reading the image reports it
        return votes.count(True), votes.count(False)

    @property
    def _set_is_turned(self):
        turned, stored = self._votes
        return turned >= stored

    def _orientation(self, index):
        orientation, vote = self._vote(index)
        if orientation == 1:
            return None
        turned, stored = self._votes
        if vote is None and not (turned or stored):
            return (
                f"EXIF orientation {orientation}, and no annotated size of the data set shows "
                "whether its boxes were drawn on turned pixels; it is read as turned: look at it, "
                "and turn the pixels or remove the EXIF tag"
            )
        if vote is None and turned and stored:
            return (
                f"EXIF orientation {orientation}; {turned} images are annotated as turned and "
                f"{stored} as stored; it is read as {'turned' if turned >= stored else 'stored'}: "
                "look at it, and turn the pixels or remove the EXIF tag"
            )
        if self._is_turned(index):
            return None
        return (
            "annotated as stored, although its EXIF orientation turns it; it is read as stored "
            "here, other programs will turn it: rotate the pixels and remove the EXIF tag"
        )
