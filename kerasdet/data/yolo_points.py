"""Keypoints in YOLO text files: "class cx cy width height x y v ...", or without the v.

data.yaml's `kpt_shape: [P, 3 or 2]` says that lines have them, `[0, 2]` that long lines are polygons.
Without it, all long lines of the data set together decide. They are pose labels if all have one length,
their first four numbers are boxes in the image, and every third number after them is 0, 1 or 2. Lines
that could be both are an error.
"""

import dataclasses
import math
from collections import Counter

import numpy as np

from kerasdet.data.cleaning import fault, shown, usual_sigmas

_SLACK = 0.02  # share of the image's side that a box or point may be outside
_FEW = 0.1  # share of the lines that may be exceptions
_MANY = 10  # lines that are not alike by chance


@dataclasses.dataclass(frozen=True)
class Points:
    """The keypoints in a data set's lines.

    Args:
        count: number of keypoints P.
        size: numbers per keypoint: 2 (x, y) or 3 (x, y, visibility).
        names: P names.
    """

    count: int
    size: int
    names: tuple

    @property
    def sigmas(self):
        """The P OKS sigmas."""
        return usual_sigmas(self.count)

    def read(self, values, size):
        """Read the keypoints of one line.

        Args:
            values: the numbers after the box.
            size: (height, width) of the image.

        Returns:
            ((P, 3) float32 of x, y in pixels and visibility, or None; what is wrong, or None).
        """
        if len(values) != self.count * self.size:
            return None, (
                f"{4 + len(values)} numbers after the class; a box has 4, and {self.count} "
                f"keypoints have {self.count * self.size}"
            )
        values = np.asarray(values, "float64").reshape(self.count, self.size)
        xy = values[:, :2]
        seen = values[:, 2] if self.size == 3 else np.where(_labelled(xy), 2, 0)
        if not np.isin(seen, (0, 1, 2)).all():
            return None, "a keypoint's visibility must be 0, 1 or 2; correct it"
        if not (np.abs(xy[seen > 0]) <= 2).all():  # NaN fails too
            return None, "keypoints are not shares of the sides; divide pixels by the sides"
        points = np.column_stack([xy * [size[1], size[0]], seen])
        return np.where(seen[:, None] > 0, points, 0).astype("float32"), None


def find_points(root, settings, files, others, faults):
    """Return the `Points` of a data set's lines, or None.

    Args:
        root: the data set's folder, for messages.
        settings: the result of `read_settings`.
        files: {text file: its [(line number, words)]} of the split.
        others: function that returns the same of the data set's other splits.
        faults: list, extended if only the lines show that there are keypoints.

    Returns:
        `Points` or None.

    Raises:
        ValueError: `kpt_shape` is not two numbers, or there are not as many `kpt_names` as points; or
            there is no `kpt_shape`, and long lines may have keypoints or be polygons.
    """
    shape = settings.get("kpt_shape", "")
    if shape == "":
        shape = _shape_of(files, others)
        if shape is None:
            return None
        count, size = shape
        message = (
            f"lines of {1 + 4 + count * size} numbers are read as boxes with {count} keypoints; write "
            f"kpt_shape: [{count}, {size}] into data.yaml"
        )
        faults.append(fault(root, None, "pose", message))
    else:
        count, size = _numbers(shape) or (-1, 0)
        if count < 0 or size not in (2, 3):
            raise ValueError(
                f"{settings['file']}: kpt_shape is {shown(shape)}; it must be [number of keypoints, 2 or "
                "3], or [0, 2] for polygons."
            )
    return Points(count, size, _names(settings, count)) if count else None


def _numbers(words):
    """Return the two numbers of a list of two texts, or None."""
    if not isinstance(words, list) or len(words) != 2:
        return None
    if not all(isinstance(word, str) and word.isdecimal() and len(word) < 5 for word in words):
        return None
    return tuple(map(int, words))


def _names(settings, count):
    """Return `kpt_names`, or else "left_2" and "right_2" for a pair of `flip_idx`, and "point_3"."""
    names = settings.get("kpt_names")
    if isinstance(names, dict):  # by class; the names of one class are used for all
        names = next(iter(names.values()), None)
    if isinstance(names, list):
        if len(names) != count or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f"{settings['file']}: kpt_names are {shown(names)}; kpt_shape says {count} names."
            )
        return tuple(names)
    flip = settings.get("flip_idx")
    if (
        not isinstance(flip, list)
        or len(flip) != count
        or set(filter(_is_text, flip)) != set(map(str, range(count)))
    ):
        flip = range(count)
    pairs = [(index, int(other)) for index, other in enumerate(flip)]
    return tuple(
        f"point_{i}" if i == j else f"{'left' if i < j else 'right'}_{min(i, j)}" for i, j in pairs
    )


def _is_text(value):
    return isinstance(value, str)


def _shape_of(files, others):
    """Return (P, 2 or 3) if the long lines are boxes with keypoints; None for polygons."""
    lines = _long_lines(files)
    if len(_lengths(lines)) > 1 and not any(_has_visibility(words) for _, _, words in lines):
        return None
    lines = [line for line in lines and lines + _long_lines(others()) if _is_finite(line[2])]
    if not lines:
        return None
    lengths = _lengths(lines)
    usual = max(lengths, key=lengths.get)
    boxes = np.array([[float(word) for word in words[1:5]] for _, _, words in lines])
    pose = _in_image(boxes) & [_has_visibility(words) for _, _, words in lines]
    if pose.mean() > _FEW:
        if len(lengths) == 1 and pose.mean() > 1 - _FEW:
            return (usual - 5) // 3, 3
        odd = (line for line, is_pose in zip(lines, pose) if not is_pose or len(line[2]) != usual)
        raise _undecided(next(odd), usual)
    if len(lengths) > 1:
        return None
    values = np.array([[float(word) for word in words[1:]] for _, _, words in lines])
    sizes = _possible_sizes(values)
    if not sizes or _are_oriented_boxes(values):
        return None
    if _are_points(values, sizes):
        return (usual - 5) // 2, 2
    raise _undecided(lines[0], usual)


def _undecided(line, usual):
    file, number, words = line
    shapes = [f"[{(usual - 5) // size}, {size}]" for size in (3, 2) if (usual - 5) % size == 0]
    return ValueError(
        f"{file}, line {number}: the {len(words) - 1} numbers after the class can be a box with "
        "keypoints or a polygon; all lines together do not tell which. Write kpt_shape: [P, 2 or 3] into "
        f"data.yaml (here {' or '.join(shapes)}), or kpt_shape: [0, 2] if they are polygons."
    )


def _long_lines(files):
    return [(file, *line) for file, some in files.items() for line in some if len(line[1]) > 6]


def _lengths(lines):
    return Counter(len(words) for _, _, words in lines)


def _is_finite(words):
    try:
        return all(math.isfinite(float(word)) for word in words)
    except ValueError:
        return False


def _has_visibility(words):
    """Tell whether every third number after a box is 0, 1 or 2."""
    try:
        return len(words) % 3 == 2 and all(float(word) in (0, 1, 2) for word in words[7::3])
    except ValueError:
        return False


def _labelled(points):
    """Tell which points (..., 2) are labelled; programs write 0 0 or -1 -1 for the others."""
    return ~((points == 0) | (points == -1)).all(axis=-1)


def _in_image(boxes):
    """Tell which boxes (L, 4), cx cy width height, are in the image."""
    centres, sides = boxes[:, :2], boxes[:, 2:]
    return ((np.abs(centres - 0.5) + sides / 2 <= 0.5 + _SLACK) & (sides > 0)).all(axis=1)


def _inside(values, size):
    """Tell which points (L, P) of boxes with keypoints are in their box or not labelled."""
    points = values[:, 4:].reshape(len(values), -1, size)[..., :2]
    near = np.abs(points - values[:, None, :2]) <= values[:, None, 2:4] / 2 + _SLACK
    return near.all(axis=-1) | ~_labelled(points)


def _possible_sizes(values):
    """Return the sizes of keypoints that lines (L, 4 + P * size) can have; [] for polygons.

    The first two points of a polygon are no box in the image, unless it is above and left. Most of
    the points of a box are in it.
    """
    boxes = _in_image(values[:, :4])
    if boxes.mean() <= 1 - _FEW:
        return []
    return [
        size
        for size in (2, 3)
        if (values.shape[1] - 4) % size == 0
        and (boxes & (_inside(values, size).mean(axis=1) >= 0.5)).mean() >= 0.5
    ]


def _are_oriented_boxes(values):
    """Tell whether most lines are four corners whose diagonals halve each other."""
    if values.shape[1] != 8:
        return False
    corners = values.reshape(-1, 4, 2)
    gaps = np.abs(corners[:, 0] + corners[:, 2] - corners[:, 1] - corners[:, 3]) / 2
    return (gaps <= 0.1 * np.ptp(corners, axis=1)).all(axis=1).mean() >= 0.5


def _are_points(values, sizes):
    """Tell whether many lines of three or more points x y cannot be polygons, or points x y v.

    The second point of the polygons would be far outside of the box that has all other points.
    """
    inside = [size for size in sizes if _inside(values, size).mean() > 1 - _FEW]
    if len(values) < _MANY or values.shape[1] < 10 or inside != [2]:
        return False
    centres, sides = values[:, :2], values[:, 2:4]
    return (np.abs(sides - centres) > sides / 2 + _SLACK).any(axis=1).mean() >= 0.5
