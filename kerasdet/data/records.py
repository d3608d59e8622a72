"""The parts of a data set: records (the annotation of one image), faults, and the `Dataset` base.

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
    """One fault of a data set.

    Args:
        file: the file to correct.
        annotation_id: the object's id there (COCO; "#3" for the third if it has no id), its
            position from 1 (VOC) or its line (YOLO, CSV); None if the fault does not belong to an object.
        message: what was found, and what was done or must be done.
    """

    file: str
    annotation_id: int | str | None
    kind: str
    message: str

    def __str__(self):
        place = "" if self.annotation_id is None else f", annotation {self.annotation_id}"
        return f"{self.file}{place}: {self.message}"


class DataError(ValueError):
    """A data set that cannot be read as it is; `faults` lists everything that was found."""

    def __init__(self, faults):
        self.faults = list(faults)
        lines = [str(fault) for fault in self.faults[:10]]
        if len(self.faults) > len(lines):
            lines.append(f"... and {len(self.faults) - len(lines)} more")
        super().__init__("\n".join(lines))


@dataclasses.dataclass(frozen=True)
class Record:
    """Annotation of one image, in its own pixels (after EXIF orientation).

    Args:
        image_id: number or name, unique in its data set.
        height, width: size in pixels.
        boxes: (G, 4) float32 xyxy.
        labels: (G,) int32, 0..K-1.
        ignore: (G,) bool, True for crowd regions and difficult objects.
        area: (G,) float32, the area of the mask if there is one, otherwise of the box.
        masks: G COCO RLE dicts (pycocotools.mask, compressed counts), or None.
        keypoints: (G, P, 3) float32 of (x, y, visibility 0..2), or None.
        path: the image's file, for messages.
        proposals: (N, 4) float32 xyxy, boxes that may contain an object, the best first; or None.
            `Dataset.with_proposals` adds them.
        semantic: (H, W) int32, class of each pixel, -1 for void; or None. On request, the pipeline
            takes it from `Dataset.semantic`, so that augmentation moves it.

    Raises:
        ValueError: the arrays have different numbers of objects, proposals are not (N, 4), or the
            semantic map does not have the image's size.
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
    proposals: np.ndarray | None = None
    semantic: np.ndarray | None = None

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
        if self.proposals is not None and np.shape(self.proposals)[1:] != (4,):
            raise ValueError(
                f"image {self.image_id}: proposals have shape {np.shape(self.proposals)}, "
                "expected (N, 4)."
            )
        size = (self.height, self.width)
        if self.semantic is not None and np.shape(self.semantic) != size:
            raise ValueError(
                f"image {self.image_id}: the semantic map has shape {np.shape(self.semantic)}, "
                f"the image is {size} (height, width); they move together."
            )

    def select(self, objects):
        """Return the same image with some of its objects.

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
        name: name for messages and reports.
        class_names: K names; a record's label indexes them.
        category_ids: K ids, as written in COCO files.
        channels: number of channels of the images; 3 is RGB.
        faults: list of `Fault`: what the reader dropped or changed.
        keypoint_names, keypoint_sigmas: P names and P OKS sigmas, or empty.
        semantic_names: names of the classes 0.. of the semantic maps; empty if a model chooses what
            their numbers mean.
    """

    name = ""
    class_names = ()
    category_ids = ()
    channels = 3
    faults = ()
    keypoint_names = ()
    keypoint_sigmas = ()
    semantic_names = ()

    @abc.abstractmethod
    def __len__(self):
        """Return the number of images."""

    @abc.abstractmethod
    def record(self, index):
        """Return the `Record` of image `index`."""

    @abc.abstractmethod
    def image(self, index):
        """Return image `index`, (H, W, C) uint8, with `channels` channels."""

    def semantic(self, index):
        """Return the class of each pixel, (H, W) int32, -1 for void; or None."""
        return None

    def image_faults(self, index):
        """List (kind, message) of the faults that `kerasdet.data.check` reports for a readable image."""
        return []

    def box_counts(self):
        """Count the objects in each image, (len(self),) int64; read every record once."""
        if getattr(self, "_box_counts", None) is None:
            counts = [len(self.record(i).labels) for i in range(len(self))]
            self._box_counts = np.asarray(counts, "int64")
        return self._box_counts

    def image_ids(self):
        """List the images' ids, in order; read every record."""
        return [self.record(index).image_id for index in range(len(self))]

    def images(self):
        """Generate the images in order, as `Detector.detect` takes them."""
        for index in range(len(self)):
            yield self.image(index)

    def proposals(self):
        """Generate the images' proposals in order, (N, 4) each, as `Detector.detect` takes them."""
        for index in range(len(self)):
            yield self.record(index).proposals

    def proposal_counts(self):
        """Count the proposals of each image, (len(self),) int64; read every record."""
        return np.array([len(boxes) for boxes in self.proposals()], "int64")

    def with_proposals(self, source):
        """Return the same data set with proposals in its records.

        Args:
            source: {image id: boxes}, by the records' `image_id`; a file that
                `kerasdet.data.save_proposals` wrote; or a function from an image (H, W, C) uint8 to
                boxes, which is called once per image, when its proposals are first needed. Boxes are
                (N, 4) xyxy in the image's own pixels, the best first, or a tuple (boxes, scores
                (N,)). Entries for other images are ignored.

        Returns:
            A `Dataset`. Its records' proposals are clipped to the image, as detectors clip boxes.

        Raises:
            ValueError: an image has no entry; or, when a record is read, its proposals do not have the
                shape (N, 4), or one of them is outside the image, has no size or is not finite.
        """
        from kerasdet.data.proposals import WithProposals

        return WithProposals(self, source)

    def subset(self, indices):
        """Return a data set of some of the images, in the given order."""
        from kerasdet.data.views import Subset

        return Subset(self, indices)

    def with_classes(self, class_names):
        """The same data set with other classes, among which its own are found by name.

        Args:
            class_names: K names, in order, such as those of a model.

        Raises:
            ValueError: a class of the data set is not among them.
        """
        from kerasdet.data.views import WithClasses

        return WithClasses(self, class_names)

    # A function of its own, because it is a pipeline and not a property of a data set.
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


class FileDataset(Dataset):
    """Images in files with their records in memory; the result of the readers.

    Args:
        name: name for messages and reports.
        records: list of `Record`, each with its `path`.
        class_names, category_ids: as in `Dataset`.
        faults: list of `Fault`.
        masks: None, or a function from an index to that record's RLE masks, computed on demand.
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
        """Count the objects in each image; see `Dataset.box_counts`."""
        return np.asarray([len(record.labels) for record in self.records], "int64")

    def image_ids(self):
        """List the images' ids; see `Dataset.image_ids`."""
        return [record.image_id for record in self.records]

    def record(self, index):
        """Return the record; see `Dataset.record`."""
        record = self.records[index]
        if self._masks is None:
            return record
        return dataclasses.replace(record, masks=self._masks(index))

    def image(self, index):
        """Return the image, in the size that its annotation states; see `Dataset.image`.

        Raises:
            FileNotFoundError, ValueError: a missing or broken file, or a size that is not the annotated one.
        """
        return self.files.image(index)

    def semantic(self, index):
        """Return the semantic map; see `Dataset.semantic`."""
        return self.files.semantic(index)

    def image_faults(self, index):
        """Return the faults of a readable image; see `Dataset.image_faults`."""
        return self.files.faults(index)
