"""A data set's faults and figures, which `kerasdet check` prints and draws."""

import dataclasses
import os

import numpy as np

from kerasdet.data.records import Dataset, Fault

# Two boxes of one class with a higher IoU than this are one object annotated twice.
_SAME = 0.95


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `check`.

    Args:
        dataset: the `Dataset`.
        faults: list of `Fault`, the reader's first.
        objects: {class name: number of objects}.
        ignored: number of crowd regions and difficult objects.
        empty: number of images without objects.
        sides: (N,) square roots of the boxes' areas in pixels, sorted.
        marked: indices of images that have a fault.
    """

    dataset: Dataset
    faults: list
    objects: dict
    ignored: int
    empty: int
    sides: np.ndarray
    marked: list

    def rows(self):
        """Return the faults as a list of (file, annotation id or "", kind, message)."""
        return [(fault.file, _id(fault), fault.kind, fault.message) for fault in self.faults]

    def contact_sheet(self, path, count=16, columns=4):
        """Write a PNG of images with their boxes: first those with faults, then evenly spaced.

        Args:
            path: the file to write.
            count: number of images.
            columns: images per row.

        Returns:
            False, without a file, if no image can be drawn; True otherwise.
        """
        from kerasdet.files import atomic_write
        from kerasdet.visualize import as_rgb, contact_sheet, draw

        spaced = np.linspace(0, len(self.dataset) - 1, min(count, len(self.dataset)))
        wanted = dict.fromkeys([*self.marked, *spaced.round().astype(int).tolist()])
        drawn = []
        for index in wanted:
            if len(drawn) == count:
                break
            try:
                image = as_rgb(self.dataset.image(index))
            except (OSError, ValueError):
                continue  # `faults` has it
            drawn.append(draw(image, self.dataset.record(index), self.dataset.class_names))
        if not drawn:
            return False
        with atomic_write(path) as temporary:
            contact_sheet(drawn, columns).save(temporary, format="PNG")
        return True

    def __str__(self):
        width = max(map(len, self.objects), default=0)
        lines = [repr(self.dataset), f"images without objects: {self.empty}"]
        lines += [f"crowd or difficult objects: {self.ignored}", "objects per class:"]
        lines += [f"  {name:<{width}} {number:>8}" for name, number in self.objects.items()]
        if len(self.sides):
            quantiles = np.quantile(self.sides, [0, 0.05, 0.5, 0.95, 1])
            text = ", ".join(f"{value:.1f}" for value in quantiles)
            lines.append(
                f"square root of box area, pixels (least, 5 %, median, 95 %, most): {text}"
            )
        lines.append(f"faults: {len(self.faults) or 'none'}")
        lines += [f"  {fault.kind:<18} {fault}" for fault in self.faults]
        return "\n".join(lines)


def check(dataset, progress=None):
    """Read every record and decode every image.

    Args:
        dataset: a `Dataset`; if read with `strict=False`, the report includes faults of structure.
        progress: None, or a function called with (images done, images in total).

    Returns:
        A `Report`. Besides the reader's faults it finds images that cannot be decoded or whose size is not
        the annotated one, images of 16 bits that use less than a quarter of their range, EXIF
        orientations that the annotations disregard or leave open, and boxes annotated twice
        (IoU above 0.95, same class).
    """
    faults, sides, marked = list(dataset.faults), [], []
    objects = dict.fromkeys(dataset.class_names, 0)
    ignored = empty = 0
    for index in range(len(dataset)):
        record = dataset.record(index)
        for label in record.labels:
            objects[dataset.class_names[label]] += 1
        ignored += int(record.ignore.sum())
        empty += len(record.labels) == 0
        sides.extend(np.sqrt(_areas(record.boxes)))
        found = [*_image_faults(dataset, index, record), *_double_boxes(record)]
        faults += found
        if found or any(_concerns(fault, record) for fault in dataset.faults[:100]):
            marked.append(index)
        if progress is not None:
            progress(index + 1, len(dataset))
    return Report(dataset, faults, objects, ignored, empty, np.sort(sides), marked)


def _id(fault):
    return "" if fault.annotation_id is None else fault.annotation_id


def _place(record):
    return record.path or f"image {record.image_id}"


def _concerns(fault, record):
    """Tell whether a reader's fault is about this image, by the file's name or its mention."""
    if record.path is None:
        return False
    name = os.path.basename(record.path)
    stem = os.path.splitext(name)[0]
    return os.path.splitext(os.path.basename(fault.file))[0] == stem or name in fault.message


def _image_faults(dataset, index, record):
    try:
        dataset.image(index)
    except FileNotFoundError as error:
        return [Fault(_place(record), None, "missing_image", _without_path(error, record))]
    except ValueError as error:
        return [Fault(_place(record), None, "unreadable_image", _without_path(error, record))]
    return [Fault(_place(record), None, *found) for found in dataset.image_faults(index)]


def _without_path(error, record):
    return str(error).removeprefix(f"{record.path}: ")


def _double_boxes(record):
    """Return one fault for each box that nearly equals an earlier one of its class."""
    return [
        Fault(
            _place(record),
            None,
            "double_box",
            f"objects {i + 1} and {j + 1} have one class and nearly one box, "
            f"{record.boxes[i].tolist()} and {record.boxes[j].tolist()}; remove one",
        )
        for j, i in enumerate(_doubles(record))
        if i < j
    ]


def _doubles(record):
    """Return (G,) the first object that each one doubles, or itself, without a table of all pairs."""
    order = np.argsort(record.boxes[:, 0], kind="stable")
    boxes, labels, ignore = (a[order] for a in (record.boxes, record.labels, record.ignore))
    # Boxes that start further right than this have less than _SAME in common with this one.
    reach = boxes[:, 0] + (1 - _SAME) * (boxes[:, 2] - boxes[:, 0])
    first, rows = np.arange(len(boxes)), np.arange(len(boxes))
    for step in range(1, len(boxes)):
        rows = rows[rows + step < len(boxes)]
        rows = rows[boxes[rows + step, 0] <= reach[rows]]
        if not len(rows):
            break
        other = rows + step
        same = (labels[rows] == labels[other]) & ~(ignore[rows] | ignore[other])
        same &= _iou(boxes[rows], boxes[other]) > _SAME
        one, two = order[rows[same]], order[other[same]]
        np.minimum.at(first, np.maximum(one, two), np.minimum(one, two))
    return first


def _areas(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _iou(first, second):
    """Return the IoU of (N, 4), (N, 4) as (N,), in NumPy: data sets are checked without a Keras backend."""
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, 2:], second[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    return shared / (_areas(first) + _areas(second) - shared)
