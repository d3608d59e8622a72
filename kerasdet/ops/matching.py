"""Matching: which object each anchor, default box or region learns. `assign` is the only entry point."""

from keras import ops

from kerasdet.ops.boxes import box_iou, intersection_over_area, valid_mask

BACKGROUND = -1  # the anchor must find nothing
BETWEEN = -2  # neither object nor background: it takes no part in the loss
IGNORED_SHARE = 0.5  # of a box's area inside an ignored object


def assign(targets, boxes, low, high, allow_low_quality=True, lowest=0.0):
    """Return the object that each box learns.

    No box learns an object that is ignored (a crowd, a difficult object). A background box takes no part in
    the loss if at least half of it is inside such an object.

    Args:
        targets: prepared targets: "boxes" (B, G, 4), "labels" (B, G) with -1 for padding, "ignore" (B, G).
        boxes: (A, 4) or (B, A, 4) xyxy.
        low: IoU below which a box is background.
        high: IoU from which a box is matched.
        allow_low_quality: match at least one box to every object that overlaps any box.
        lowest: IoU below which a box takes no part (Fast R-CNN: 0.1). It does not apply to images without a
            learnable object, where every box is background.

    Returns:
        (B, A) int32: the object's row, `BACKGROUND` (-1) or `BETWEEN` (-2).
    """
    objects, ignore = targets["boxes"], targets["ignore"]
    learnt = valid_mask(targets["labels"]) & ~ignore  # (B, G)
    iou = ops.where(learnt[..., None], box_iou(objects, boxes), -1.0)  # (B, G, A)
    matches = match_iou(iou, low, high, allow_low_quality)  # (B, A)
    no_part = in_ignored(boxes, objects, ignore)
    if lowest:
        best = ops.max(iou, axis=1, initial=-1.0)
        far = (best < lowest) & ops.any(learnt, axis=1, keepdims=True)
        no_part = no_part | far
    return ops.where((matches == BACKGROUND) & no_part, BETWEEN, matches)


def match_iou(iou, low, high, allow_low_quality=True):
    """Match anchors to objects by IoU thresholds (Faster R-CNN, arXiv 1506.01497, section 3.1.2).

    An anchor whose highest IoU is at least `high` belongs to that object. If its highest IoU is below
    `low`, it is background; otherwise it is between. With `allow_low_quality`, the anchors that reach
    an object's highest IoU (all of them, if equal) belong to the object that *they* overlap most.

    Args:
        iou: (B, G, A), IoU of objects and anchors; rows of padded objects are -1.
        low: IoU below which an anchor is background.
        high: IoU from which an anchor is matched.
        allow_low_quality: match at least one anchor to every object that overlaps any anchor.

    Returns:
        (B, A) int32: object index, `BACKGROUND` (-1) or `BETWEEN` (-2).
    """
    iou = ops.cast(iou, "float32")
    if iou.shape[-2] == 0:
        iou = ops.pad(iou, [(0, 0)] * (len(iou.shape) - 2) + [(0, 1), (0, 0)], constant_values=-1.0)
    best_object = ops.cast(ops.argmax(iou, axis=-2), "int32")  # (B, A)
    best_iou = ops.max(iou, axis=-2)  # (B, A)
    unmatched = ops.where(best_iou < low, BACKGROUND, BETWEEN)
    matched = best_iou >= high
    if allow_low_quality:
        object_best = ops.max(iou, axis=-1, keepdims=True)  # (B, G, 1)
        best_of_object = ops.logical_and(iou >= object_best, object_best > 0.0)  # (B, G, A)
        matched = ops.logical_or(matched, ops.any(best_of_object, axis=-2))  # (B, A)
    return ops.where(matched, best_object, unmatched)


def in_ignored(boxes, objects, ignore):
    """Tell whether at least half the area of each box is inside an ignored object.

    Args:
        boxes: (N, 4) or (B, N, 4) xyxy.
        objects: (B, G, 4) xyxy.
        ignore: (B, G) bool.

    Returns:
        (B, N) bool.
    """
    inside = ops.moveaxis(intersection_over_area(boxes, objects), -1, 1)
    return ops.any(ignore[..., None] & (inside >= IGNORED_SHARE), axis=1)
