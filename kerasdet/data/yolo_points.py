"""Keypoints in YOLO text files: "class cx cy width height x y v ...", or without the v.

data.yaml's `kpt_shape: [P, 3 or 2]` says that lines have them. Without it, lines are read as pose labels
if no other reading is possible: all have one length, with points inside the boxes.
"""

import dataclasses

import numpy as np

from kerasdet.data.cleaning import fault, shown, usual_sigmas

_SLACK = 0.02  # share of the image's side that a point may be outside its box


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
        seen = values[:, 2] if self.size == 3 else np.where((xy != 0).any(axis=1), 2, 0)
        if not np.isin(seen, (0, 1, 2)).all():
            return None, "a keypoint's visibility must be 0, 1 or 2; correct it"
        if not (np.abs(xy[seen > 0]) <= 2).all():  # NaN fails too
            return None, "keypoints are not shares of the sides; divide pixels by the sides"
        points = np.column_stack([xy * [size[1], size[0]], seen])
        return np.where(seen[:, None] > 0, points, 0).astype("float32"), None


def find_points(root, settings, files, faults):
    """Return the `Points` of a data set's lines, or None.

    Args:
        root: the data set's folder, for messages.
        settings: content of data.yaml.
        files: for each text file its [(line number, words)].
        faults: list, extended if only the lines show that there are keypoints.

    Returns:
        `Points` or None.

    Raises:
        ValueError: `kpt_shape` is not two numbers, or there are not as many `kpt_names` as points.
    """
    shape = settings.get("kpt_shape")
    if shape is None:
        shape = _shape_of([words for lines in files for _, words in lines if len(words) > 5])
        if shape is None:
            return None
        message = (
            f"lines of {1 + 4 + shape[0] * shape[1]} numbers are read as boxes with {shape[0]} "
            f"keypoints; write kpt_shape: [{shape[0]}, {shape[1]}] into data.yaml"
        )
        faults.append(fault(root, None, "pose", message))
    words = shape if isinstance(shape, (list, tuple)) else ()
    numbers = [int(word) if str(word).isdecimal() and len(str(word)) < 5 else 0 for word in words]
    if len(numbers) != 2 or numbers[0] < 1 or numbers[1] not in (2, 3):
        raise ValueError(
            f"{root}: kpt_shape is {shown(shape)}; it must be [number of keypoints, 2 or 3]."
        )
    return Points(*numbers, _names(root, settings, numbers[0]))


def _names(root, settings, count):
    """Return `kpt_names`, or else "left_2" and "right_2" for a pair of `flip_idx`, and "point_3"."""
    names = settings.get("kpt_names")
    if isinstance(names, dict):  # by class; the names of one class are used for all
        names = next(iter(names.values()), None)
    if isinstance(names, list):
        if len(names) != count or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{root}: kpt_names are {shown(names)}; kpt_shape says {count} names.")
        return tuple(names)
    flip = settings.get("flip_idx")
    flip = (
        flip
        if isinstance(flip, list) and sorted(map(str, flip)) == sorted(map(str, range(count)))
        else range(count)
    )
    pairs = [(index, int(other)) for index, other in enumerate(flip)]
    return tuple(
        f"point_{i}" if i == j else f"{'left' if i < j else 'right'}_{min(i, j)}" for i, j in pairs
    )


def _shape_of(lines):
    """Return (P, 2 or 3) if all long lines can only be boxes with keypoints; None for polygons."""
    if len({len(words) for words in lines}) != 1:
        return None
    try:
        values = np.asarray([words[1:] for words in lines], "float64")
    except ValueError:
        return None
    length = values.shape[1]
    # Eight numbers may be a wrong line with two points of three numbers each, or a quadrilateral.
    for size in (3,) if length == 8 else (3, 2):
        if length > 4 and (length - 4) % size == 0 and _is_pose(values, size):
            return (length - 4) // size, size
    return None


def _is_pose(values, size):
    """Tell whether (L, 4 + P * size) numbers are boxes in the image with their points inside."""
    centre, sides = values[:, None, :2], values[:, None, 2:4]
    points = values[:, 4:].reshape(len(values), -1, size)
    xy = points[..., :2]
    seen = (xy != 0).any(axis=-1)
    if size == 3:
        if not np.isin(points[..., 2], (0, 1, 2)).all():
            return False
        seen = points[..., 2] > 0
    inside = (np.abs(xy - centre) <= sides / 2 + _SLACK).all(axis=-1)
    in_image = (np.abs(centre - 0.5) + sides / 2 <= 0.5 + _SLACK).all()
    return bool((inside | ~seen).all() and in_image)
