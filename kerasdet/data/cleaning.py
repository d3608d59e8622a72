"""The rules that the readers share for boxes and faults, and functions that open annotation files.

Faults of structure (an unknown category, a missing image, an impossible box) stop a reader; one error
names all of them. With `strict=False` the affected entries are left out, and the faults are listed in
`Dataset.faults`, where `kerasdet check` sees them. Faults that lose nothing of value (boxes of zero
size, boxes that extend beyond the edge) are always repaired and listed.
"""

import json
import math
import os
import reprlib
import stat
from collections import Counter

import numpy as np

from kerasdet.data.records import DataError, Fault, Record
from kerasdet.images import max_pixels

# Repaired and counted; every other kind stops a strict reader.
MENDED = frozenset(
    {
        *("zero_size", "outside", "clipped", "no_mask", "bad_mask", "corners", "root_category"),
        *("not_annotated", "pose", "upper_case", "point_outside"),
    }
)
# Coordinates are often rounded to 0.01 pixels or 1e-6 of a side; less than this is not a fault.
ROUNDING = 0.05
# OKS sigmas of COCO's 17 person keypoints (its keypoint evaluation page; k = 2 sigma).
_PERSON_SIGMAS = (0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062)
_PERSON_SIGMAS += (0.107, 0.107, 0.087, 0.087, 0.089, 0.089)
_FLAGS = {"": False, "false": False, "no": False, "true": True, "yes": True}
# Most characters of a path or a message; the middle of longer ones is left out.
_LONGEST = 1000
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2


def shown(value):
    """Return a short form of a value from a file, for messages: at most 200 characters."""
    text = _SHORT.repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def clean_box(box, size):
    """Apply the rules for one annotated box.

    Args:
        box: (xmin, ymin, xmax, ymax), numbers in pixels.
        size: (height, width) of the image.

    Returns:
        (box, kind, message): the box clipped to the image, or None if it is left out; the kind of
        fault and its message, or None and None.
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
    left, top, right, bottom = np.float32(clipped)
    if right == left or bottom == top:
        message = f"box {_text(clipped)} is too thin for float32, the type of boxes: dropped"
        return None, "zero_size", message
    if max(abs(a - b) for a, b in zip(box, clipped)) > ROUNDING:
        message = f"box {_text(box)} extends beyond the edge of the {width}x{height} image: clipped"
        return clipped, "clipped", message
    return clipped, None, None


def usual_sigmas(num_points):
    """Return the default OKS sigmas: COCO's for 17 keypoints, otherwise 0.05 each."""
    return _PERSON_SIGMAS if num_points == 17 else (0.05,) * num_points


def raise_structural(faults, strict):
    """Raise one `DataError` for all faults that stop a reader, unless the reader is lenient."""
    structural = [fault for fault in faults if fault.kind not in MENDED]
    if strict and structural:
        raise DataError(structural)


def make_record(image_id, size, objects, path, keypoints=None):
    """Build a `Record` from lists.

    Args:
        image_id: number or name.
        size: (height, width).
        objects: list of (box, label, ignore, area or None for the box's area).
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


def as_number(value):
    """Return a value of an annotation file as a float: a number, or its text; None for anything else.

    NaN, the infinities, and integers too large for a float are not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return math.inf


def as_flag(value):
    """Return a value of an annotation file as a bool; None for anything that is neither yes nor no.

    1, 1.0, "1", true, "True" and "yes" are True, their opposites and absent values are False.
    """
    number = as_number(value)
    if number in (0, 1):
        return bool(number)
    if value is None or isinstance(value, (bool, str)):
        return _FLAGS.get(str(value or "").strip().lower())
    return None


def annotated_size(height, width):
    """Return an image's size as annotated.

    Args:
        height: value from the annotation file, of any type.
        width: the same.

    Returns:
        (height, width) in pixels; None if the annotation does not state it (absent, 0 or -1).

    Raises:
        ValueError: no image can have this size; the message is that of a fault.
    """
    sides = [0.0 if side in (None, "") else as_number(side) for side in (height, width)]
    if any(side is None or not side.is_integer() for side in map(_finite, sides)):
        raise ValueError(f"height, width are {height!r:.40}, {width!r:.40}; they must be integers")
    if min(sides) <= 0:
        return None
    height, width = map(int, sides)
    if height * width > max_pixels():
        raise ValueError(
            f"the annotated size is {width}x{height}, above the limit of {max_pixels()} pixels; "
            "correct it, or set KERASDET_MAX_PIXELS"
        )
    return height, width


def read_bytes(path):
    """Read a regular file.

    Raises:
        FileNotFoundError, ValueError: the file is missing, a folder or a pipe, or must not be read.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ValueError(f"{path} is a folder; name the file in it.")
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is not a regular file but a pipe or device; name a file.")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file; check the path.") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); check the path.") from None


def read_text(path):
    """Read a text file.

    Raises:
        FileNotFoundError, ValueError: as for `read_bytes`, or the file is not UTF-8 text.
    """
    try:
        return read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: byte {error.start} is not UTF-8 text; save it as UTF-8."
        ) from None


def read_json(path):
    """Read a JSON file.

    Raises:
        FileNotFoundError, ValueError: the file is missing or broken; the message names line and column.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: line {error.lineno}, column {error.colno}: not JSON ({error.msg}); "
            "restore the file, it may be cut short."
        ) from None
    except RecursionError:
        raise ValueError(f"{path}: lists nested too deeply to be annotations.") from None
    except ValueError as error:  # An integer of more than 4300 digits.
        raise ValueError(f"{path}: a number that cannot be read ({error}); correct it.") from None


def unique_names(names, place):
    """Return the class names as a tuple.

    Raises:
        ValueError: it is a text and not a list, there are no names, or one appears twice.
    """
    if isinstance(names, (str, bytes, os.PathLike)):
        raise ValueError(
            f"{place}: class_names={shown(names)} is one text; give a list of names, as ['cat', 'dog']."
        )
    names = tuple(printable(str(name)) for name in names)
    if not names:
        raise ValueError(f"{place}: no class names; name at least one.")
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{place}: class name {shown(name)} appears twice; names must differ.")
    return names


def walk(folder, suffixes):
    """List the files below a folder that have one of the suffixes, in upper or lower case.

    Files that macOS adds ("._a.jpg", "__MACOSX") are not files of the data set.

    Args:
        folder: where to look, including sub-folders.
        suffixes: in lower case, with their dots.

    Returns:
        Sorted list of paths relative to `folder`, with "/".
    """
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(place) in seen:  # a link to a parent folder
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        folders[:] = [name for name in folders if name != "__MACOSX" and name[0] != "."]
        below = os.path.relpath(place, folder)
        found += [
            name if below == "." else f"{below}/{name}".replace(os.sep, "/")
            for name in names
            if name.lower().endswith(suffixes) and not name.startswith("._")
        ]
    return sorted(found)


def fault(file, annotation_id, kind, message):
    """Create a `Fault` for a file given as any kind of path.

    Unprintable characters become codes, and endless names are shortened.
    """
    file, message = (_shortened(printable(text)) for text in (os.fspath(file), message))
    return Fault(file, annotation_id, kind, message)


def printable(text):
    """Replace characters that terminals and files cannot hold (halves of characters) by codes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shortened(text):
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]}"


def _finite(value):
    return value if value is not None and math.isfinite(value) else None


def _text(box):
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
