"""Second stages compared: proposals pair by pair, masks in their boxes and pasted, keypoints."""

import numpy as np

from kerasdet.ops.masks import paste_masks
from tests.parity.lively import MASKS, step_of

PROPOSAL_BOUND = 0.05  # pixels
KEYPOINT_BOUND = 0.1


def proposals(theirs, ours, limit=None):
    """Pair the proposals of an image and compare what the second stage says of each.

    Suppression decides between boxes of equal scores, so that each side may have some that the other
    has not, and they come in different orders.

    Args:
        theirs: {"proposals" (P, 4), "class_logits" (P, C)}, or the logits of every n-th proposal only.
        ours: likewise, of all.
        limit: about how many values of the logits there are; None: all.

    Returns:
        share of the proposals that both sides have; largest difference of the pairs' logits as a share of
        the largest logit; and of each side the class probabilities (U, C) of proposals that it alone has.
    """
    logits = np.full((len(theirs["proposals"]), theirs["class_logits"].shape[1]), np.nan)
    step = step_of(logits.size, limit)
    logits[::step] = theirs["class_logits"]
    away = np.abs(theirs["proposals"][:, None] - ours["proposals"]).max(axis=-1)
    close = np.argwhere(away <= PROPOSAL_BOUND)
    pairs, taken = {}, set()
    for a, b in close[np.argsort(away[tuple(close.T)], kind="stable")].tolist():
        if a not in pairs and b not in taken:
            pairs[a] = b
            taken.add(b)
    error = np.abs(logits[list(pairs)] - ours["class_logits"][list(pairs.values())])
    largest = np.max(error[~np.isnan(logits[list(pairs)])], initial=0.0)
    strangers = (
        _softmax(np.delete(logits, list(pairs), axis=0)),
        _softmax(np.delete(ours["class_logits"], list(taken), axis=0)),
    )
    count = max(len(logits), len(ours["class_logits"]))
    return len(pairs) / count, float(largest / np.nanmax(np.abs(logits))), strangers


def _softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def masks(theirs, ours, pairs, size, limit=None):
    """Compare the masks of paired detections.

    Args:
        theirs: {"boxes" (D, 4), "masks" (D, m, m) or of every n-th detection only, "pasted", bits of
            (D, H, W)}; without "pasted" there is no IoU.
        ours: {"masks" (D, m, m), "boxes" (D, 4)}.
        pairs: list of (their row, our row).
        size: (H, W) of the image.
        limit: as for `proposals`; there are `MASKS` times as many values of masks.

    Returns:
        the largest difference of probabilities, and the least IoU of two pasted masks or None.
    """
    a, b = np.array(pairs, int).reshape(-1, 2).T
    count, drawn = len(theirs["boxes"]), theirs["masks"]
    step = step_of(ours["masks"][:1].size * count, limit and MASKS * limit)
    known = a % step == 0
    error = np.abs(drawn[a[known] // step] - ours["masks"][b[known]]).max(initial=0.0)
    if "pasted" not in theirs:
        return float(error), None
    pasted = np.unpackbits(theirs["pasted"], count=count * size[0] * size[1]).astype(bool)
    pasted = pasted.reshape(count, *size)[a]
    mine = paste_masks(ours["masks"][b], ours["boxes"][b], size)
    union = np.sum(pasted | mine, axis=(1, 2))
    iou = np.where(union > 0, np.sum(pasted & mine, axis=(1, 2)) / np.maximum(union, 1), 1.0)
    return float(error), float(iou.min(initial=1.0))


def keypoints(theirs, ours, pairs):
    """Share of paired detections' keypoints that lie within `KEYPOINT_BOUND` pixels in x and y.

    Args:
        theirs: {"keypoints" (D, P, 2)}.
        ours: {"keypoints" (D, P, 3)}.
        pairs: list of (their row, our row).
    """
    a, b = np.array(pairs, int).reshape(-1, 2).T
    away = np.abs(theirs["keypoints"][a] - ours["keypoints"][b, :, :2]).max(axis=-1)
    return float(np.mean(away <= KEYPOINT_BOUND)) if away.size else 1.0
