"""Categories of COCO files, and the values that ids denote."""

import itertools
import re

from kerasdet.data.cleaning import fault, shown

_EXACT = 2**53  # every smaller integer is a float of its own


def denoted(value):
    """Return what an id denotes: an int for 7, 7.0 and "7", the text for other text, None for no id.

    A float of 2**53 or more is no id, because several integers become this float.
    """
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else None
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"0|-?[1-9][0-9]{0,99}", value) else value
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def no_id(value):
    """Return a value that denotes no id, and what it must be, for a message."""
    if isinstance(value, float) and value.is_integer():
        return f"{value!r}, a float that stands for several integers; write all its digits"
    return f"{shown(value)}; it must be an integer"


def read_categories(annotations, content, faults):
    """Read the classes of a COCO file.

    Args:
        annotations: the file, for messages.
        content: its object, with lists of objects "categories" and "annotations".
        faults: list, extended by the root categories that are left out.

    Returns:
        (categories in the order of their ids, names of their keypoints).

    Raises:
        ValueError: an unusable id or name, an id that appears twice, or keypoints of several kinds.
    """
    categories = content["categories"]
    for category in categories:
        if not isinstance(denoted(category.get("id")), int) or not _is_name(category.get("name")):
            raise ValueError(
                f"{annotations}: category {shown(category)} needs an integer 'id' and a 'name'."
            )
    categories = sorted(categories, key=lambda category: denoted(category["id"]))
    for first, second in itertools.pairwise(categories):
        if denoted(first["id"]) == denoted(second["id"]):
            raise ValueError(
                f"{annotations}: category id {first['id']} stands for {shown(first['name'])} and "
                f"for {shown(second['name'])}; give one of them another id."
            )
    used = {denoted(entry.get("category_id")) for entry in content["annotations"]}
    for root in [c for c in categories if denoted(c["id"]) not in used and _is_root(c, categories)]:
        categories.remove(root)
        message = (
            f"category {root['id']}, {shown(root['name'])}, has no objects and is the supercategory of "
            "others: left out of the classes"
        )
        faults.append(fault(annotations, None, "root_category", message))
    return categories, _keypoint_names(annotations, categories)


def _is_name(name):
    return isinstance(name, (str, int, float)) and not isinstance(name, bool)


def _is_root(category, categories):
    """Tell whether others name the category as theirs, and none of them is above it."""
    name, above = category["name"], category.get("supercategory")
    others = [other for other in categories if other is not category]
    if above != name and any(other["name"] == above for other in others):
        return False
    return any(other.get("supercategory") == name for other in others)


def _keypoint_names(annotations, categories):
    points = [category["keypoints"] for category in categories if category.get("keypoints")]
    for names in points:
        if not isinstance(names, list) or not all(map(_is_name, names)):
            raise ValueError(f"{annotations}: 'keypoints' of a category are not names.")
    if len(set(map(len, points))) > 1:
        raise ValueError(
            f"{annotations}: categories have different numbers of keypoints "
            f"{sorted(set(map(len, points)))}; keep those of one kind."
        )
    return tuple(map(str, points[0])) if points else ()
