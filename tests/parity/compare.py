"""Our side: the same weights and pictures through our models, and the differences as a table.

Started by `run.py` on the folder that `reference.py` has written. Bounds: outputs of the modules agree to
1e-4 of their largest value; 99 % of the detections agree in label, to 0.05 pixel and 1e-4 of score; every
other one lies within 1e-4 of a threshold or is a tie.

The columns: largest difference of the outputs ("raw", a share of their largest value), detections of the side
that has more, pairs that agree, the others that nothing explains, largest differences of the pairs in pixels
and score, and how many labels the picture with the fewest has.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasdet.layers import ShortestEdge
from kerasdet.zoo.conversion import CONFIGS, load_torchvision
from tests.parity.lively import lively_state, picture, sample
from tests.parity.models import MODELS, in_order

RAW_BOUND = 1e-4  # of the largest value
BOX_BOUND = 0.05  # pixels
SCORE_BOUND = 1e-4
MATCHED_BOUND = 0.99
ANOTHER_BOX = 1.0  # pixels by which a rival differs from a detection's inexact copy
COLUMNS = ("model", "batch", "raw", "found", "matched", "unexplained", "box", "score", "labels")


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
    pictures = [_picture(i, meta, reference) for i in range(len(meta["pictures"]))]
    settings = {"resize": ShortestEdge(*meta["edges"])} if entry.calibrated else {}
    model = CONFIGS[meta["name"]](**settings)
    load_torchvision(model, tensors, path.name)
    for number, batch in enumerate(meta["batches"]):
        expected = {
            key.removeprefix(f"{number}/"): value
            for key, value in reference.items()
            if key.startswith(f"{number}/")
        }
        run = _detect if entry.calibrated else _classify
        yield {
            "model": meta["name"],
            "batch": " + ".join(meta["pictures"][i] for i in batch),
            **run(model, entry, [pictures[i] for i in batch], batch, expected, meta["limit"]),
        }


def within_bounds(row):
    """Whether a row of the table meets the bounds."""
    agreed = row["matched"] >= MATCHED_BOUND * row["found"] and row["unexplained"] == 0
    return agreed and row["raw"] <= RAW_BOUND


def _state(meta, reference, entry):
    """The state dict of a file that has none beside it."""
    state = lively_state(meta["shapes"], meta["seed"], dead_channels=entry.norm_epsilon == 0)
    for key, value in reference.items():
        if key.startswith("scale/"):
            state[key.removeprefix("scale/")] *= value
        elif key.startswith("bias/"):
            state[key.removeprefix("bias/")] = value
    return state


def _picture(index, meta, reference):
    if f"picture/{index}" in reference:
        return reference[f"picture/{index}"]
    height, width = map(int, meta["pictures"][index].split("x"))
    return picture(height, width, meta["seed"] + index)


def _classify(model, entry, pictures, batch, expected, limit):
    outputs, _ = entry.ours(model, np.stack(pictures))
    error = _raw_error(outputs, expected, limit)
    return dict.fromkeys(COLUMNS[3:], 0) | {"raw": error}


def _detect(model, entry, pictures, batch, expected, limit):
    canvases = []
    predict = model.predict_on_batch
    model.predict_on_batch = lambda inputs: canvases.append(inputs) or predict(inputs)
    detections = model.detect(pictures, batch_size=len(pictures))
    del model.predict_on_batch
    # A graph frees what is not needed any more; a functional model run step by step keeps every map.
    outputs, ranked = entry.ours(tf.function(model), canvases[0])
    outputs = {name: in_order(name, value, entry) for name, value in outputs.items()}
    row = dict.fromkeys(COLUMNS[3:], 0) | {"raw": _raw_error(outputs, expected, limit)}
    row["labels"] = 10**9
    for position, (i, ours) in enumerate(zip(batch, detections)):
        theirs = {key: expected[f"{i}/{key}"] for key in ("boxes", "scores", "labels")}
        labels = np.asarray(model.category_ids)[ours["labels"]]  # torchvision's columns
        ours = {"boxes": ours["boxes"], "scores": ours["confidence"], "labels": labels}
        pairs = match(theirs, ours)
        row["found"] += max(len(theirs["labels"]), len(ours["labels"]))
        row["matched"] += len(pairs)
        cuts = [_last_of_best(scores[position], limit) for scores, limit in ranked]
        row["unexplained"] += unexplained(theirs, ours, pairs, model, cuts)
        for a, b in pairs:
            row["box"] = max(row["box"], np.abs(theirs["boxes"][a] - ours["boxes"][b]).max())
            row["score"] = max(row["score"], abs(theirs["scores"][a] - ours["scores"][b]))
        row["labels"] = min(row["labels"], len(set(theirs["labels"].tolist())))
    return row


def _raw_error(outputs, expected, limit):
    """Largest difference of the modules' outputs, as a share of the output's largest value."""
    raw = {key.removeprefix("raw/"): v for key, v in expected.items() if key.startswith("raw/")}
    if raw.keys() != outputs.keys():
        raise ValueError(f"torchvision's outputs are {sorted(raw)}, ours {sorted(outputs)}.")
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


def unexplained(theirs, ours, pairs, model, cuts):
    """Count the detections without partner that no threshold and no tie explains.

    Args:
        theirs, ours, pairs: as for `match`.
        model: its settings are the first thresholds.
        cuts: scores that were other thresholds.
    """
    rows = [list(zip(side["boxes"], side["scores"], side["labels"])) for side in (theirs, ours)]
    everyone = rows[0] + rows[1]
    alone = [
        row
        for k, side in enumerate(rows)
        for i, row in enumerate(side)
        if i not in {pair[k] for pair in pairs}
    ]
    alone.sort(key=lambda row: -row[1])
    full = [side[-1][1] for side in rows if len(side) == model.max_detections]
    thresholds = np.array([model.score_threshold, *cuts, *full])
    explained = []
    for box, score, label in alone:
        rivals = [
            (_iou(box, other), abs(score - s) <= SCORE_BOUND, any(other is e for e in explained))
            for other, s, k in everyone
            if k == label and np.abs(other - box).max() > ANOTHER_BOX
        ]
        if np.any(np.abs(score - thresholds) <= SCORE_BOUND) or any(
            abs(iou - model.iou_threshold) <= 1e-4
            # Of two equal scores either may come first, and a detection that is explained explains those
            # which it suppresses, or would have.
            or (iou > model.iou_threshold and (tie or known))
            for iou, tie, known in rivals
        ):
            explained.append(box)
    return len(alone) - len(explained)


def _iou(a, b):
    width, height = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - width * height
    return width * height / union if union > 0 else 0.0


def _text(value):
    return f"{value:.1e}" if isinstance(value, float | np.floating) else str(value)


if __name__ == "__main__":
    main()
