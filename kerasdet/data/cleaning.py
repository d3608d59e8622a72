"""What the readers share: the rules for boxes and faults, and opening annotation files.

Faults of structure (an unknown category, a missing image, a box that is no box) stop a reader,
all of them named in one error; with `strict=False` what they concern is left out and they are
listed in `Dataset.faults`, which is how `kerasdet check` sees them. Faults that take nothing of
value away (boxes of zero size, boxes over the edge) are mended and always listed.
"""

import json
import math
import os

import numpy as np

from kerasdet.data.records import DataError, Fault, Record

# Mended and counted; every other kind stops a strict reader.
MENDED = frozenset({"zero_size", "outside", "clipped", "no_mask", "bad_mask"})
# Coordinates are often rounded to 0.01 pixels or 1e-6 of a side: no fault below this many pixels.
ROUNDING = 0.05


def clean_box(box, size):
    """Apply the rules for one annotated box.

    Args:
        box: (xmin, ymin, xmax, ymax), numbers in pixels.
        size: (height, width) of the image.

    Returns:
        (box, kind, message): the box clipped to the image, or None where it is left out; the
        kind of fault and its message, or None twice.
    """
    height, width = size
    if not all(math.isfinite(value) for value in box):
        return None, "not_finite", f"box {_text(box)} is not finite; correct or remove it"
    xmin, ymin, xmax, ymax = box
    if xmax < xmin or ymax < ymin:
        message = f"box {_text(box)} has a negative size; swap its corners or remove it"
        return None, "negative_size", message
    if xmax == xmin or ymax == ymin:
        return None, "zero_size", f"box {_text(box)} has no area: dropped"
    clipped = (max(xmin, 0.0), max(ymin, 0.0), min(xmax, float(width)), min(ymax, float(height)))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        message = f"box {_text(box)} lies outside the {width}x{height} image: dropped"
        return None, "outside", message
    if max(abs(a - b) for a, b in zip(box, clipped)) > ROUNDING:
        message = f"box {_text(box)} reaches over the edge of the {width}x{height} image: clipped"
        return clipped, "clipped", message
    return clipped, None, None


def raise_structural(faults, strict):
    """Raise one `DataError` for all faults that stop a reader, unless it reads leniently."""
    structural = [fault for fault in faults if fault.kind not in MENDED]
    if strict and structural:
        raise DataError(structural)


def make_record(image_id, size, objects, path, keypoints=None):
    """A `Record` from lists.

    Args:
        image_id: number or name.
        size: (height, width).
        objects: list of (box, label, ignore, area or None for the box's).
        path: the image's file.
        keypoints: None or G arrays (P, 3).

    Returns:
        A `Record` without masks.
    """
    boxes = np.asarray([box for box, _, _, _ in objects], "float32").reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    given = [np.nan if area is None else area for _, _, _, area in objects]
    return Record(
        image_id=image_id,
        height=int(size[0]),
        width=int(size[1]),
        boxes=boxes,
        labels=np.asarray([label for _, label, _, _ in objects], "int32"),
        ignore=np.asarray([ignore for _, _, ignore, _ in objects], "bool"),
        area=np.where(np.isnan(given), areas, given).astype("float32"),
        keypoints=keypoints,
        path=os.fspath(path),
    )


def number(value):
    """Whether a JSON value is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_text(path):
    """A text file's contents.

    Raises:
        FileNotFoundError, ValueError: it is missing, a folder, or not UTF-8 text.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file; check the path.") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; name the file in it.") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: byte {error.start} is not UTF-8 text; save it as UTF-8."
        ) from None


def read_json(path):
    """A JSON file's contents.

    Raises:
        FileNotFoundError, ValueError: it is missing or broken; the message names line and column.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: line {error.lineno}, column {error.colno}: not JSON ({error.msg}); "
            "restore the file, it may be cut short."
        ) from None


def unique_names(names, place):
    """The class names as a tuple.

    Raises:
        ValueError: there is none, or one stands twice.
    """
    names = tuple(str(name) for name in names)
    if not names:
        raise ValueError(f"{place}: no class names; name at least one.")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{place}: class name {name!r} stands twice; names must differ.")
    return names


def fault(file, annotation_id, kind, message):
    """A `Fault` whose file is given as any kind of path."""
    return Fault(os.fspath(file), annotation_id, kind, message)


def _text(box):
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
