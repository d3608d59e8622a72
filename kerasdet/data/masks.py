"""Masks in annotation files: polygons and run lengths are checked before pycocotools reads them.

pycocotools trusts its input: if run lengths do not fill the image, it returns memory it never wrote,
and it walks a polygon in steps of a fifth of a pixel, no matter how long it is.
"""

import itertools
import math

import numpy as np

from kerasdet.data.cleaning import as_number, shown

# Longest outline of a mask, in half outlines of its image; a fifth of a pixel costs 20 bytes.
_LONGEST = 64
_NO_MASK = "no segmentation: its mask is empty and not measured"
_POLYGON = "a polygon is a list x, y, x, y, ... of 3 points or more"


def clean_mask(segmentation, size):
    """Apply the rules for one annotated mask.

    Args:
        segmentation: value from an annotation file, of any type. A mask is a list of polygons (one per
            part; also a single polygon, or a list nested too deeply) or run lengths for the image's
            size, as numbers or compressed.
        size: (height, width) of the image.

    Returns:
        (mask, kind, message): a list of polygons or a run-length dict that is safe to decode, or
        None if there is no mask or it has no pixel; the kind of fault and its message, or None and None.
    """
    if not segmentation:
        return None, "no_mask", _NO_MASK
    if isinstance(segmentation, dict):
        message = _run_length_fault(segmentation, size)
        return (None, "bad_mask", message) if message else (segmentation, None, None)
    if not isinstance(segmentation, list):
        return None, "bad_mask", f"segmentation is {shown(segmentation)}: mask left empty"
    polygons, faults = [], []
    for polygon in _polygons(segmentation):
        values, message = _clean_polygon(polygon, size)
        faults += [message] if message else []
        polygons += [values] if values else []
    if not polygons:
        return None, "bad_mask", f"{faults[0] if faults else _POLYGON}: mask left empty"
    outline = _outline(polygons, _LONGEST * sum(size))
    if outline > _LONGEST * sum(size):
        message = f"an outline of {outline:.0f} pixels is too long for its image: mask left empty"
        return None, "bad_mask", message
    if _is_empty(polygons, size):
        message = (
            f"a polygon that covers no pixel of the {size[1]}x{size[0]} image: mask left empty"
        )
        return None, "bad_mask", message
    if faults:
        return polygons, "bad_mask", f"{faults[0]}: this part of the mask is left out"
    return polygons, None, None


def run_lengths(mask, size):
    """Return a mask from `clean_mask` as COCO's compressed run-length dict.

    Args:
        mask: list of polygons, run-length dict, or None (no pixel).
        size: (height, width) of the image.
    """
    from pycocotools import mask as coco_mask

    height, width = size
    if mask is None:
        mask = {"size": [height, width], "counts": [height * width]}
    if isinstance(mask, list):
        return coco_mask.merge(coco_mask.frPyObjects(mask, height, width))
    if isinstance(mask["counts"], list):
        return coco_mask.frPyObjects(mask, height, width)
    return {"size": [height, width], "counts": mask["counts"].encode("ascii")}


def _polygons(segmentation):
    """Return the polygons of a list: of polygons, of one polygon's numbers, or of such a list."""
    if not any(isinstance(part, (list, dict)) for part in segmentation):
        return [segmentation]
    while len(segmentation) == 1 and _holds_lists(segmentation[0]):
        segmentation = segmentation[0]
    return segmentation


def _holds_lists(value):
    return isinstance(value, list) and any(isinstance(part, list) for part in value)


def _clean_polygon(points, size):
    """Return (numbers or None, message or None) for one polygon."""
    if not isinstance(points, list) or len(points) < 6 or len(points) % 2:
        return None, _POLYGON
    if not all(type(value) in (int, float) for value in points):
        points = [as_number(value) for value in points]
        if None in points:
            return None, "a polygon has values that are not numbers"
    # Integers may have any number of digits, so they are compared before any computation.
    reach = 2 * max(size)
    if not (min(points) >= -reach and max(points) <= reach + max(size)):
        return None, f"a polygon reaches from {_short(min(points))} to {_short(max(points))}"
    if not math.isfinite(sum(points)):
        return None, "a polygon has values that are not finite"
    return points, None


def _outline(polygons, enough):
    """Return the length of all outlines in pixels, along the longer side of each step, or an upper bound.

    Args:
        polygons: lists of x, y, x, y, ...
        enough: if the upper bound is less than this, it is returned.
    """
    bound = sum(len(points) * (max(points) - min(points)) for points in polygons)
    if bound <= enough:
        return bound
    steps = 0.0
    for points in polygons:
        xy = np.asarray(points, "float64").reshape(-1, 2)
        steps += np.abs(xy - np.roll(xy, 1, axis=0)).max(axis=1).sum()
    return steps


def _is_empty(polygons, size):
    """Tell whether polygons cover no pixel: they are outside the image, or thinner than a pixel."""
    from pycocotools import mask as coco_mask

    return coco_mask.area(run_lengths(polygons, size)) == 0


def _short(value):
    return f"{as_number(value):.4g}"


def _run_length_fault(mask, size):
    """Describe what is wrong with a run-length dict, or return None."""
    height, width = size
    if mask.get("size") != [height, width]:
        return f"RLE of size {shown(mask.get('size'))} in an image of {[height, width]}: left empty"
    counts = mask.get("counts")
    if isinstance(counts, str):
        counts = _decompressed(counts)
    elif not isinstance(counts, list) or not all(type(count) is int for count in counts):
        counts = None
    if counts is None:
        return "RLE counts are neither integers nor COCO's compressed text: mask left empty"
    if any(count < 0 for count in counts) or sum(counts) != height * width:
        return f"RLE counts do not add up to the {height * width} pixels: mask left empty"
    if not any(counts[1::2]):
        return "RLE of background alone: mask left empty"
    return None


def _decompressed(text):
    """Return the run lengths of COCO's compressed text as a list of int; None for any other text.

    Each character holds six bits, counted from "0": five bits of a number, lowest first, and one for
    "continues". From the fourth number on, a number is the difference to the one before the last
    (rleFrString in COCO's maskApi.c).
    """
    numbers, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        numbers.append(value - (1 << shift) if bits & 0x10 else value)
        value = shift = 0
    if shift:
        return None
    odd = itertools.accumulate(numbers[1::2])
    even = itertools.accumulate(numbers[2::2])
    alternating = itertools.chain.from_iterable(itertools.zip_longest(odd, even))
    return numbers[:1] + [number for number in alternating if number is not None]
