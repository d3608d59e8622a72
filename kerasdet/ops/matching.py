"""Matching: which object each anchor, default box or region learns.

`assign` is the entry point; `assign_one_to_one` is SSD's, where each object also has one box of its own. By
the names of Speed/accuracy trade-offs (arXiv 1611.10012v3, section 3.2.1 and table 1) both are Argmax;
`assign_bipartite` is Bipartite, `assign_by_centre` Box Center.
"""

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
    learnt, iou = _learnt_iou(targets, boxes)
    matches = match_iou(iou, low, high, allow_low_quality)  # (B, A)
    no_part = in_ignored(boxes, targets["boxes"], targets["ignore"])
    if lowest:
        best = ops.max(iou, axis=1, initial=-1.0)
        far = (best < lowest) & ops.any(learnt, axis=1, keepdims=True)
        no_part = no_part | far
    return _spared(matches, no_part)


def assign_one_to_one(targets, boxes, threshold, low=None):
    """Return the object that each default box learns (SSD, arXiv 1512.02325v5, section 2.2).

    Every object has one box of its own, by `match_one_to_one`. Every other box learns the object that it
    overlaps most, if their IoU is at least the threshold. Ignored objects count as in `assign`.

    Args:
        targets: prepared targets, as for `assign`.
        boxes: (A, 4) or (B, A, 4) xyxy.
        threshold: IoU from which a box is matched.
        low: IoU below which a box is background; default `threshold`.

    Returns:
        (B, A) int32: the object's row, `BACKGROUND` (-1) or `BETWEEN` (-2).
    """
    _, iou = _learnt_iou(targets, boxes)
    own = match_one_to_one(iou)  # (B, A)
    low = threshold if low is None else low
    matches = match_iou(iou, low, threshold, allow_low_quality=False)
    matches = ops.where(own >= 0, own, matches)
    return _spared(matches, in_ignored(boxes, targets["boxes"], targets["ignore"]))


def assign_bipartite(targets, boxes):
    """Return the object that each box learns, where every object has one box alone (MultiBox).

    Objects and boxes are paired by `match_one_to_one`; all other boxes are background. Ignored objects count
    as in `assign`.

    Args:
        targets: prepared targets, as for `assign`.
        boxes: (A, 4) or (B, A, 4) xyxy.

    Returns:
        (B, A) int32: the object's row, `BACKGROUND` (-1) or `BETWEEN` (-2).
    """
    _, iou = _learnt_iou(targets, boxes)
    # Eq: tradeoffs §3.2.1 | Bipartite: greedy pairs of object and anchor by Jaccard overlap
    matches = match_one_to_one(iou)  # (B, A)
    return _spared(matches, in_ignored(boxes, targets["boxes"], targets["ignore"]))


def assign_by_centre(targets, boxes):
    """Return the object that each box learns, where it must hold the object's centre (YOLO).

    A centre on the left or upper side lies in the box, on the right or lower side it does not. Of several
    objects, a box learns the one that it overlaps most. Ignored objects count as in `assign`.

    Args:
        targets: prepared targets, as for `assign`.
        boxes: (A, 4) or (B, A, 4) xyxy.

    Returns:
        (B, A) int32: the object's row, `BACKGROUND` (-1) or `BETWEEN` (-2).
    """
    _, iou = _learnt_iou(targets, boxes)  # (B, G, A)
    objects, boxes = targets["boxes"], ops.cast(boxes, "float32")
    centres = (objects[..., None, :2] + objects[..., None, 2:]) / 2  # (B, G, 1, 2)
    rows = boxes if len(boxes.shape) == 2 else boxes[:, None]  # (A, 4) or (B, 1, A, 4)
    # Eq: tradeoffs §3 | BoxCenter: an anchor has the object whose centre falls inside the anchor
    inside = ops.all((rows[..., :2] <= centres) & (centres < rows[..., 2:]), axis=-1)  # (B, G, A)
    overlap = ops.where(inside, iou, -1.0)
    owner = ops.cast(ops.argmax(overlap, axis=1), "int32")  # (B, A)
    matches = ops.where(ops.max(overlap, axis=1) > 0.0, owner, BACKGROUND)
    return _spared(matches, in_ignored(boxes, objects, targets["ignore"]))


def match_one_to_one(iou):
    """Pair objects with boxes, the pair of highest IoU first (bipartite matching; SSD, section 2.2).

    A round pairs every object and box that are each other's best among those that are left. The result is
    that of taking one pair after another. Of equal pairs, the first object and the first box are taken.

    Args:
        iou: (B, G, A), IoU of objects and boxes; rows of padded objects are -1.

    Returns:
        (B, A) int32: object index or -1. An object without a box that it overlaps has none.
    """
    iou = ops.stop_gradient(ops.cast(iou, "float32"))
    if iou.shape[-2] == 0:
        iou = ops.pad(iou, [(0, 0), (0, 1), (0, 0)], constant_values=-1.0)
    objects = ops.arange(ops.shape(iou)[1], dtype="int32")[:, None]  # (G, 1)
    places = ops.arange(ops.shape(iou)[2], dtype="int32")  # (A,)

    def unfinished(left, _):
        return ops.any(left > 0.0)

    def pair_the_best(left, matched):
        best_box = ops.cast(ops.argmax(left, axis=2), "int32")[..., None]  # (B, G, 1)
        best_object = ops.cast(ops.argmax(left, axis=1), "int32")[:, None]  # (B, 1, A)
        mutual = (best_box == places) & (best_object == objects) & (left > 0.0)  # (B, G, A)
        taken = ops.any(mutual, axis=2, keepdims=True) | ops.any(mutual, axis=1, keepdims=True)
        matched = ops.maximum(matched, ops.max(ops.where(mutual, objects, -1), axis=1))
        return ops.where(taken, 0.0, left), matched

    nobody = ops.cast(ops.zeros_like(iou[:, 0]), "int32") - 1  # (B, A)
    return ops.while_loop(unfinished, pair_the_best, (iou, nobody))[1]


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


def _spared(matches, no_part):
    """Take background that has no part in the loss out of it."""
    return ops.where((matches == BACKGROUND) & no_part, BETWEEN, matches)


def _learnt_iou(targets, boxes):
    """Which objects are learnt (B, G), and their IoU with all boxes (B, G, A), -1 in the others' rows."""
    learnt = valid_mask(targets["labels"]) & ~targets["ignore"]
    iou = box_iou(targets["boxes"], boxes)
    return learnt, ops.where(learnt[..., None], iou, -1.0)
