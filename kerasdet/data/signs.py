"""Signs that all boxes of a data set are written in another way than its format says."""

from kerasdet.data.cleaning import ROUNDING, fault

# What `clean_box` says of boxes that are no boxes in any way of writing them.
_BROKEN = ("not_finite", "negative_size", "zero_size")


def share_fault(file, found):
    """Return the fault of a data set whose boxes are all shares of the sides; None for other boxes.

    Args:
        file: the annotation file.
        found: list of (the four numbers of a box as written, (height, width) of its image, kind of
            fault from `clean_box`).
    """
    whole = [(box, min(size)) for box, size, kind in found if kind not in _BROKEN]
    if not whole or min(side for _, side in whole) < 4:
        return None
    numbers = [number for box, _ in whole for number in box]
    if min(numbers) < -ROUNDING or max(numbers) > 1 + ROUNDING:
        return None
    message = (
        f"all {len(whole)} boxes lie within 0..1: shares of the sides; multiply x by the image's "
        "width and y by its height, because boxes here are in pixels"
    )
    return fault(file, None, "shares", message)


def corner_fault(file, found):
    """Return the fault of COCO boxes that are all corners; None for other boxes.

    Args:
        file: the annotation file.
        found: as for `share_fault`.
    """
    over = 0
    for (x, y, w, h), (height, width), _ in found:
        if not (x < w <= width and y < h <= height):
            return None
        over += x + w > width or y + h > height
    if 2 * over <= len(found):
        return None
    message = f"{over} of {len(found)} boxes extend beyond the edge, and all could be "
    message += "[xmin, ymin, xmax, ymax]; COCO's are [x, y, width, height]"
    return fault(file, None, "corners", message)
