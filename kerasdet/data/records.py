"""What a data set is: records (the annotation of one image), faults, and the `Dataset` base.

Boxes here are xyxy in the image's own pixels, continuous coordinates (pixel (0, 0) spans [0, 1)).
"""

import abc
import dataclasses
from collections import Counter

import numpy as np

from kerasdet.data.image_files import ImageFiles
from kerasdet.data.pipeline import batches


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that is wrong in a data set.

    Args:
        file: the file to mend.
        annotation_id: the object's id there (COCO; "#3" for the third if it has none), its
            position from 1 (VOC) or its line (YOLO, CSV); None where the fault is not one object's.
        kind: one word, such as "zero_size", "clipped", "unknown_category", "missing_image".
        message: what was found, and what was done or is to be done.
    """

    file: str
    annotation_id: int | str | None
    kind: str
    message: str

    def __str__(self):
        place = "" if self.annotation_id is None else f", annotation {self.annotation_id}"
        return f"{self.file}{place}: {self.message}"


class DataError(ValueError):
    """A data set that cannot be read as it stands; `faults` lists everything that was found."""

    def __init__(self, faults):
        self.faults = list(faults)
        lines = [str(fault) for fault in self.faults[:10]]
        if len(self.faults) > len(lines):
            lines.append(f"... and {len(self.faults) - len(lines)} more")
        super().__init__("\n".join(lines))


@dataclasses.dataclass(frozen=True)
class Record:
    """Annotation of one image, in its own pixels (EXIF orientation applied).

    Args:
        image_id: number or name, unique in its data set.
        height, width: size in pixels.
        boxes: (G, 4) float32 xyxy.
        labels: (G,) int32, 0..K-1.
        ignore: (G,) bool, True for crowd regions and difficult objects.
        area: (G,) float32, of the mask where there is one, else of the box.
        masks: G COCO RLE dicts (pycocotools.mask, compressed counts), or None.
        keypoints: (G, P, 3) float32 of (x, y, visibility 0..2), or None.
        path: the image's file, for messages.

    Raises:
        ValueError: the arrays do not have the same number of objects.
    """

    image_id: int | str
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    area: np.ndarray
    masks: tuple | None = None
    keypoints: np.ndarray | None = None
    path: str | None = None

    def __post_init__(self):
        count = len(self.labels)
        if np.shape(self.boxes) != (count, 4):
            raise ValueError(
                f"image {self.image_id}: boxes have shape {np.shape(self.boxes)}, "
                f"expected ({count}, 4) for {count} labels."
            )
        for name in ("ignore", "area", "masks", "keypoints"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise ValueError(f"image {self.image_id}: {len(values)} {name} for {count} labels.")

    def select(self, objects):
        """The same image with some of its objects.

        Args:
            objects: indices or a (G,) bool mask.

        Returns:
            A `Record`.
        """
        objects = np.arange(len(self.labels))[objects]
        return dataclasses.replace(
            self,
            boxes=self.boxes[objects],
            labels=self.labels[objects],
            ignore=self.ignore[objects],
            area=self.area[objects],
            masks=None if self.masks is None else tuple(self.masks[i] for i in objects),
            keypoints=None if self.keypoints is None else self.keypoints[objects],
        )


class Dataset(abc.ABC):
    """Images and their records, by index.

    Attributes:
        name: for messages and reports.
        class_names: K names; a record's label indexes them.
        category_ids: K ids, as written in COCO files.
        faults: list of `Fault`: what the reader dropped or changed.
        keypoint_names, keypoint_sigmas: P names and P OKS sigmas, or empty.
    """

    name = ""
    class_names = ()
    category_ids = ()
    faults = ()
    keypoint_names = ()
    keypoint_sigmas = ()

    @abc.abstractmethod
    def __len__(self):
        """Number of images."""

    @abc.abstractmethod
    def record(self, index):
        """The `Record` of image `index`."""

    @abc.abstractmethod
    def image(self, index):
        """Image `index`, (H, W, 3) uint8 RGB."""

    def semantic(self, index):
        """Class of each pixel, (H, W) int32, or None."""
        return None

    def image_faults(self, index):
        """List of (kind, message): what `kerasdet.data.check` says of an image that can be read."""
        return []

    def box_counts(self):
        """Number of objects in each image, (len(self),) int64; reads every record once."""
        if getattr(self, "_box_counts", None) is None:
            counts = [len(self.record(i).labels) for i in range(len(self))]
            self._box_counts = np.asarray(counts, "int64")
        return self._box_counts

    def images(self):
        """Generate the images in order: what `Detector.detect` takes."""
        for index in range(len(self)):
            yield self.image(index)

    def subset(self, indices):
        """A data set of some of the images, in the order given."""
        return Subset(self, indices)

    # A function of its own, because it is a pipeline and no property of a data set.
    batches = batches

    def __repr__(self):
        names = ", ".join(self.class_names[:8]) + (", ..." if len(self.class_names) > 8 else "")
        text = (
            f"{self.name}: {len(self)} images, {len(self.class_names)} classes ({names}), "
            f"{int(self.box_counts().sum())} boxes"
        )
        kinds = Counter(fault.kind for fault in self.faults)
        if kinds:
            text += "; faults: " + ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        return text


class Subset(Dataset):
    """Some images of another data set.

    Args:
        parent: a `Dataset`.
        indices: the images, in order.
    """

    def __init__(self, parent, indices):
        self.parent = parent
        self.indices = [range(len(parent))[int(i)] for i in indices]
        self.name = parent.name
        self.class_names = parent.class_names
        self.category_ids = parent.category_ids
        self.faults = parent.faults
        self.keypoint_names = parent.keypoint_names
        self.keypoint_sigmas = parent.keypoint_sigmas

    def __len__(self):
        return len(self.indices)

    def record(self, index):
        """See `Dataset.record`."""
        return self.parent.record(self.indices[index])

    def image(self, index):
        """See `Dataset.image`."""
        return self.parent.image(self.indices[index])

    def semantic(self, index):
        """See `Dataset.semantic`."""
        return self.parent.semantic(self.indices[index])

    def image_faults(self, index):
        """See `Dataset.image_faults`."""
        return self.parent.image_faults(self.indices[index])


class FileDataset(Dataset):
    """Images in files, their records in memory; what the readers return.

    Args:
        name: for messages and reports.
        records: list of `Record`, each with its `path`.
        class_names, category_ids: as in `Dataset`.
        faults: list of `Fault`.
        masks: None, or a function from an index to that record's RLE masks (made when asked for).
        keypoints: pair (names, sigmas).
        files: `ImageFiles`; by default those of the records.
    """

    def __init__(
        self,
        name,
        records,
        class_names,
        category_ids,
        faults=(),
        masks=None,
        keypoints=((), ()),
        files=None,
    ):
        self.name = name
        self.records = records
        self.class_names = tuple(class_names)
        self.category_ids = tuple(category_ids)
        self.faults = list(faults)
        self.keypoint_names, self.keypoint_sigmas = map(tuple, keypoints)
        self._masks = masks
        self.files = ImageFiles(records) if files is None else files

    def __len__(self):
        return len(self.records)

    def box_counts(self):
        """See `Dataset.box_counts`."""
        return np.asarray([len(record.labels) for record in self.records], "int64")

    def record(self, index):
        """See `Dataset.record`."""
        record = self.records[index]
        if self._masks is None:
            return record
        return dataclasses.replace(record, masks=self._masks(index))

    def image(self, index):
        """See `Dataset.image`; the image has the size that its annotation states.

        Raises:
            FileNotFoundError, ValueError: missing or broken file, or another size than annotated.
        """
        return self.files.image(index)

    def semantic(self, index):
        """See `Dataset.semantic`."""
        return self.files.semantic(index)

    def image_faults(self, index):
        """See `Dataset.image_faults`."""
        return self.files.faults(index)
