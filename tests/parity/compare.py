"""Our side: the same weights and images through our models, and the differences as a table.

Started by `run.py` on the folder that `reference.py` has written. Bounds: outputs of the modules agree to
1e-4 of their largest value; 99 % of the detections agree in label, to 0.05 pixel and 1e-4 of score; every
other one lies within 1e-4 of a threshold or is a tie. Of two stages, 99 % of the proposals are the same to
0.05 pixel, and their class logits agree as outputs do. Masks agree to 1e-3 in their box, and pasted to an
IoU of 0.99; 99 % of the keypoints to 0.1 pixel.

The columns: largest difference of the outputs ("raw", a share of their largest value, the logits of paired
proposals among them), share of proposals paired, detections of the side that has more, pairs that agree, the
others that nothing explains, largest differences of the pairs in pixels and score, how many labels the
image with the fewest has; largest difference of the pairs' masks, their least IoU, share of keypoints.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasdet.layers import RoundedShortestEdge, ShortestEdge
from kerasdet.zoo import untrained
from kerasdet.zoo.origins import mmdetection, torchvision
from tests.parity import branches
from tests.parity.lively import image, lively_state, sample
from tests.parity.models import MODELS

RAW_BOUND = 1e-4  # of the largest value
BOX_BOUND = 0.05  # pixels
SCORE_BOUND = 1e-4
MATCHED_BOUND = 0.99
ANOTHER_BOX = 1.0  # pixels by which a rival differs from a detection's inexact copy
PROPOSALS_BOUND = 0.99
MASK_BOUND = 1e-3
IOU_BOUND = 0.99
KEYPOINTS_BOUND = 0.99
COLUMNS = (
    *("model", "batch", "raw", "proposals", "found", "matched", "unexplained", "box", "score"),
    *("labels", "mask", "pasted", "keypoints"),
)
# A batch's figure from its images'.
WORST = {
    **dict.fromkeys(("found", "matched", "unexplained"), sum),
    **dict.fromkeys(("raw", "box", "score", "mask"), lambda values: np.max(list(values))),
    **dict.fromkeys(("proposals", "labels", "pasted", "keypoints"), min),
}
ORIGINS = {
    "torchvision": (torchvision.fill, ShortestEdge),
    "mmdetection": (mmdetection.fill, RoundedShortestEdge),
}
NONE = dict.fromkeys(COLUMNS, 0) | dict.fromkeys(("proposals", "mask", "pasted", "keypoints"))


def main():
    """Compare every model of a folder, print the table, fail beyond the bounds."""
    from kerasdet.zoo.checkpoints import read_checkpoint

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what reference.py has written")
    folder = parser.parse_args().folder
    rows = []
    print(" | ".join(COLUMNS))
    for path in sorted(folder.glob("*.npz")):
        for row in compare(path, read_checkpoint(path.with_suffix(".pth"))):
            print(" | ".join(_text(row[name]) for name in COLUMNS), flush=True)
            rows.append(row)
    faults = [row for row in rows if not within_bounds(row)]
    sys.exit(f"{len(faults)} of {len(rows)} rows are out of bounds" if faults else 0)


def compare(path, tensors=None):
    """Run our model on a reference file's batches.

    Args:
        path: NAME.npz.
        tensors: the state dict; None: from the file's seed.

    Yields:
        For each batch a dict of `COLUMNS`.
    """
    with np.load(path) as file:
        reference = dict(file)
    meta = json.loads(str(reference.pop("meta")))
    entry = MODELS[meta["name"]]
    if tensors is None:
        tensors = _state(meta, reference, entry)
    images = [_image(i, meta, reference) for i in range(len(meta["images"]))]
    resized = entry.calibrated and meta["edges"]
    fill, resize = ORIGINS[entry.origin]
    settings = {"resize": resize(*meta["edges"])} if resized else {}
    model = untrained(meta["name"], **settings)
    fill(model, tensors, path.name)
    for number, batch in enumerate(meta["batches"]):
        expected = _under(reference, f"{number}/")
        run = _detect if entry.calibrated else _classify
        yield {
            **NONE,
            "model": meta["name"],
            "batch": " + ".join(meta["images"][i] for i in batch),
            **run(model, entry, [images[i] for i in batch], batch, expected, meta["limit"]),
        }


def within_bounds(row):
    """Whether a row of the table meets the bounds; None: there is no such thing."""
    agreed = row["matched"] >= MATCHED_BOUND * row["found"] and row["unexplained"] == 0
    at_most = {"raw": RAW_BOUND, "mask": MASK_BOUND}
    at_least = {
        "proposals": PROPOSALS_BOUND,
        "pasted": IOU_BOUND,
        "keypoints": KEYPOINTS_BOUND,
    }
    return (
        agreed
        and all(row[name] is None or row[name] <= bound for name, bound in at_most.items())
        and all(row[name] is None or row[name] >= bound for name, bound in at_least.items())
    )


def _under(arrays, prefix):
    """The entries whose names begin so, without that beginning."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _state(meta, reference, entry):
    """The state dict of a file that has none beside it."""
    state = lively_state(meta["shapes"], meta["seed"], dead_channels=entry.norm_epsilon == 0)
    for key, value in _under(reference, "scale/").items():
        state[key] *= value
    return state | _under(reference, "bias/")


def _image(index, meta, reference):
    if f"image/{index}" in reference:
        return reference[f"image/{index}"]
    height, width = map(int, meta["images"][index].split("x"))
    return image(height, width, meta["seed"] + index)


def _classify(model, entry, images, batch, expected, limit):
    outputs, _ = entry.ours(model, np.stack(images))
    return {"raw": _raw_error(outputs, expected, limit)}


def _detect(model, entry, images, batch, expected, limit):
    canvases = []
    predict = model.predict_on_batch
    model.predict_on_batch = lambda inputs: canvases.append(inputs) or predict(inputs)
    detections = model.detect(images, batch_size=len(images))
    del model.predict_on_batch
    # A graph frees what is not needed any more; a functional model run step by step keeps every map.
    outputs, ranked = entry.ours(tf.function(model), canvases[0])
    stages = [{} for _ in images]
    for key in ("proposals", "class_logits") if entry.two_stages else ():
        for stage, rows in zip(stages, outputs.pop(key)):
            stage[key] = rows
    rows = []
    for position, (i, ours, stage) in enumerate(zip(batch, detections, stages)):
        theirs = _under(expected, f"{i}/")
        cuts = [_last_of_best(scores[position], limit) for scores, limit in ranked]
        # Columns of the logits: torchvision's are COCO's ids, mmdetection's follow the background.
        ids = (
            model.category_ids if entry.origin == "torchvision" else range(1, model.num_classes + 1)
        )
        ours = ours | {"scores": ours["confidence"], "labels": np.asarray(ids)[ours["labels"]]}
        size = images[position].shape[:2]
        rows.append(_image_row(model, theirs, ours, stage, cuts, size, limit))
    row = {
        name: None if rows[0][name] is None else WORST[name](row[name] for row in rows)
        for name in rows[0]
    }
    # NumPy's maximum, because it keeps NaN.
    return row | {"raw": np.maximum(row.get("raw", 0.0), _raw_error(outputs, expected, limit))}


def _image_row(model, theirs, ours, stage, cuts, size, limit):
    """One image's columns."""
    pairs = match(theirs, ours)
    a, b = np.array(pairs, int).reshape(-1, 2).T
    row, strangers = {}, None
    if stage:
        row["proposals"], row["raw"], strangers = branches.proposals(theirs, stage, limit)
    alone = without_partner(theirs, ours, pairs, strangers)
    row |= {
        "found": len(pairs) + max(sum(not known for *_, known in side) for side in alone),
        "matched": len(pairs),
        "unexplained": unexplained(theirs, ours, alone, model, cuts),
        "box": np.abs(theirs["boxes"][a] - ours["boxes"][b]).max(initial=0.0),
        "score": np.abs(theirs["scores"][a] - ours["scores"][b]).max(initial=0.0),
        "labels": len(set(theirs["labels"].tolist())),
    }
    if "masks" in ours:
        row["mask"], row["pasted"] = branches.masks(theirs, ours, pairs, size, limit)
    if "keypoints" in ours:
        row["keypoints"] = branches.keypoints(theirs, ours, pairs)
    return row


def _raw_error(outputs, expected, limit):
    """Largest difference of the modules' outputs, as a share of the output's largest value."""
    raw = _under(expected, "raw/")
    if raw.keys() != outputs.keys():
        raise ValueError(f"the reference's outputs are {sorted(raw)}, ours {sorted(outputs)}.")
    errors = [
        np.abs(sample(np.asarray(outputs[name]), limit, name) - value.reshape(-1)).max()
        / np.abs(value).max()
        for name, value in raw.items()
    ]
    return float(np.max(errors))  # NaN stays


def match(theirs, ours):
    """Pair detections of one label whose boxes and scores agree; each is in one pair at most.

    Args:
        theirs: {"boxes" (D, 4), "scores" (D,), "labels" (D,)}.
        ours: likewise.

    Returns:
        List of (their row, our row).
    """
    pairs, free = [], np.ones(len(ours["labels"]), bool)
    for row, (box, score, label) in enumerate(
        zip(theirs["boxes"], theirs["scores"], theirs["labels"])
    ):
        away = np.abs(ours["boxes"] - box).max(axis=-1, initial=0)
        agree = (away <= BOX_BOUND) & (np.abs(ours["scores"] - score) <= SCORE_BOUND)
        agree &= free & (ours["labels"] == label)
        if agree.any():
            best = np.where(agree, away, np.inf).argmin()
            free[best] = False
            pairs.append((row, int(best)))
    return pairs


def _last_of_best(scores, limit):
    """The score that decides who is among the best `limit`."""
    return np.partition(scores, -limit)[-limit] if len(scores) > limit else -np.inf


def without_partner(theirs, ours, pairs, strangers=None):
    """The detections that no pair has.

    Args:
        theirs, ours, pairs: as for `match`.
        strangers: of each side the class probabilities (U, C) of proposals that it alone has.

    Returns:
        Of each side a list of (box, score, label, whether it comes from such a proposal).
    """
    alone = []
    for k, side in enumerate((theirs, ours)):
        rows = np.setdiff1d(np.arange(len(side["labels"])), [pair[k] for pair in pairs])
        alone.append([])
        for i in rows.astype(int):
            score, label = side["scores"][i], side["labels"][i]
            known = strangers and np.any(np.abs(strangers[k][:, label] - score) <= SCORE_BOUND)
            alone[k].append((side["boxes"][i], score, label, bool(known)))
    return alone


def unexplained(theirs, ours, alone, model, cuts):
    """Count the detections without partner that no threshold and no tie explains.

    Args:
        theirs, ours: as for `match`.
        alone: what `without_partner` returned.
        model: its settings are the first thresholds.
        cuts: scores that were other thresholds.
    """
    sides = (theirs, ours)
    everyone = [row for s in sides for row in zip(s["boxes"], s["scores"], s["labels"])]
    alone = sorted(alone[0] + alone[1], key=lambda row: -row[1])
    full = [s["scores"][-1] for s in sides if len(s["scores"]) == model.max_detections]
    thresholds = np.array([model.score_threshold, *cuts, *full])
    explained = set()
    for box, score, label, known in alone:
        rivals = [
            (_iou(box, other), abs(score - s) <= SCORE_BOUND, (k, *other) in explained)
            for other, s, k in everyone
            if k == label and np.abs(other - box).max() > ANOTHER_BOX
        ]
        if (
            known
            or np.any(np.abs(score - thresholds) <= SCORE_BOUND)
            or any(
                abs(iou - model.iou_threshold) <= 1e-4
                # Of two equal scores either may come first, and a detection that is explained explains those
                # which it suppresses, or would have.
                or (iou > model.iou_threshold and (tie or before))
                for iou, tie, before in rivals
            )
        ):
            explained.add((label, *box))
    return len(alone) - len(explained)


def _iou(a, b):
    width, height = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - width * height
    return width * height / union if union > 0 else 0.0


def _text(value):
    if value is None:
        return "-"
    if isinstance(value, float | np.floating) and value > 0.5:  # a share
        return f"{value:.4f}"
    return f"{value:.1e}" if isinstance(value, float | np.floating) else str(value)


if __name__ == "__main__":
    main()
