"""One annotation of a COCO file: what its fields must be, and its keypoints."""

import numpy as np

from kerasdet.data.cleaning import ROUNDING, as_flag, as_number, shown
from kerasdet.data.coco_categories import denoted, no_id


def misplaced(entry, listed, labels, number, seen):
    """Find what keeps an annotation from being an object.

    Args:
        entry: the annotation, an object of the JSON file.
        listed: the images, by id.
        labels: the labels, by category id.
        number: the annotation's id.
        seen: ids of the annotations before it.

    Returns:
        (kind of fault, message), or None and None.
    """
    for field in ("image_id", "category_id", "bbox"):
        if field not in entry:
            return "missing_field", f"annotation {shown(entry)} has no {field!r}; add it"
    for field in ("id", "image_id", "category_id"):
        if entry.get(field) is not None and denoted(entry[field]) is None:
            return "bad_value", f"{field} is {no_id(entry[field])}"
    if number in seen:
        return "duplicate_id", "annotation id appears twice; renumber one"
    if denoted(entry["image_id"]) not in listed:
        known = "which is not in 'images'; add the image or remove the annotation"
        return "unknown_image", f"image_id is {shown(entry['image_id'])}, {known}"
    if denoted(entry["category_id"]) not in labels:
        known = "which is not in 'categories'; add the category or remove the annotation"
        return "unknown_category", f"category_id is {shown(entry['category_id'])}, {known}"
    bbox = entry["bbox"]
    if not isinstance(bbox, list) or len(bbox) != 4 or None in map(as_number, bbox):
        return "bad_value", f"bbox is {shown(bbox)}; it must be [x, y, width, height] in pixels"
    if as_flag(entry.get("iscrowd")) is None:
        return "bad_value", f"iscrowd is {shown(entry['iscrowd'])}; it must be 0 or 1"
    return None, None


def read_keypoints(entry, num_points, size):
    """Read the keypoints of an annotation.

    Visible points outside the image are taken as not labelled; a point that is labelled and not visible
    may be there.

    Args:
        entry: the annotation, an object of the JSON file.
        num_points: the number P of keypoints; 0 for a file without.
        size: (height, width) of the image.

    Returns:
        ((P, 3) float32 keypoints, zeros if there are none, or None for a file without; kind of fault
        and message, or None and None).
    """
    if not num_points:
        return None, None, None
    zeros = np.zeros((num_points, 3), "float32")
    points = entry.get("keypoints")
    if points in (None, []):
        return zeros, None, None
    values = [as_number(value) for value in points] if isinstance(points, list) else []
    if len(values) != 3 * num_points or None in values:
        message = f"keypoints are {shown(points)}; they must be {num_points} times x, y, v"
        return zeros, "bad_value", message
    values = np.clip(values, -1e9, 1e9).reshape(-1, 3)  # NaN stays.
    if not np.isfinite(values).all() or np.abs(values).max() == 1e9:
        return zeros, "bad_value", "keypoints are not finite"
    if not np.isin(values[:, 2], (0, 1, 2)).all():
        return zeros, "bad_value", "a keypoint's visibility must be 0, 1 or 2; correct it"
    message = _left_out(values, size)
    return values.astype("float32"), message and "point_outside", message


def _left_out(points, size):
    """Set the visible points outside the image to zero; describe them, or return None."""
    height, width = size
    x, y, visible = points.T
    outside = (np.abs(x - width / 2) > width / 2 + ROUNDING) & (visible == 2)
    outside |= (np.abs(y - height / 2) > height / 2 + ROUNDING) & (visible == 2)
    if not outside.any():
        return None
    first = int(outside.argmax())
    message = (
        f"keypoint {first + 1}, ({x[first]:g}, {y[first]:g}), is visible and lies outside the "
        f"{width}x{height} image: {outside.sum()} such point(s) taken as not labelled"
    )
    points[outside] = 0
    return message
