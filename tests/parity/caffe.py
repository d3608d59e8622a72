"""The authors' Caffe detectors in kerasdet: `python -m tests.parity.caffe FOLDER`.

The folder is what `tests/golden/make_caffe.py --large FOLDER` has written: each network's two files, and what
OpenCV computes with them. Bounds and columns are those of `compare.py`; "raw" covers the proposal network's
logits and deltas, and of paired proposals the class logits and the deltas.
"""

import copy
import sys
from pathlib import Path

import numpy as np

from kerasdet.layers import KeepSize
from kerasdet.zoo import info
from kerasdet.zoo.models import empty_model
from kerasdet.zoo.origins import load
from tests.golden.caffe_networks import SMALL, network, write
from tests.parity import branches
from tests.parity.compare import (
    COLUMNS,
    NONE,
    match,
    unexplained,
    within_bounds,
    without_partner,
)
from tests.parity.lively import image

LAST_PIXEL = np.float32([0, 0, 1, 1])  # from the last pixel to the box's end


# OpenCV keeps proposals of any size, but for those of which the first pixel is the last one.
MORE_THAN_A_PIXEL = 1.001


def compare(name, values, folder, small=False):
    """Run our model on a picture that OpenCV has seen.

    Args:
        name: of the model's manifest.
        values: what `make_caffe.made` returned.
        folder: where the network's two files are, or are written.
        small: whether the heads are small, as in the golden file, where the files follow from the values.

    Returns:
        Dict of `COLUMNS`.
    """
    size = tuple(values["size"].tolist())
    model = small_model(name) if small else empty_model(info(name), info(name)["config"])
    paths = [Path(folder) / f"{name}.{ending}" for ending in ("caffemodel", "prototxt")]
    if small:
        calibration = (
            {k.partition("/")[2]: v for k, v in values.items() if k.startswith(kind)}
            for kind in ("factor/", "shift/")
        )
        write(network(name, **SMALL[name]), folder, name, *calibration)
    load("caffe", model, *paths)
    if hasattr(model, "rpn"):
        model.rpn.smallest = MORE_THAN_A_PIXEL
    return row(name, model, image(*size, seed=3), values)


def small_model(name):
    """A published detector with small heads, for images of any size."""
    manifest = info(name)
    config = copy.deepcopy(manifest["config"])
    parts = SMALL[name]
    config |= {"num_classes": parts["classes"], "class_names": None, "category_ids": None}
    if "rpn" in config:
        config["rpn"]["config"]["channels"] = parts["width"]
        config["rpn"].pop("build_config", None)
    if config["head"]["class_name"] == "DenseHead":
        config["head"]["config"]["units"] = [parts["units"]] * 2
    else:
        config["head"]["config"]["filters"] = 2 * parts["width"]
    config["head"].pop("build_config", None)
    model = empty_model(manifest, config)
    model.resize = KeepSize(1)
    return model


def row(name, model, picture, values):
    """Compare one picture's outputs."""
    rois = values["rois"] + LAST_PIXEL
    inputs, given = {"images": picture[None].astype("float32")}, None
    if "proposals" in model.INPUTS:
        inputs["proposals"], given = rois[None], rois
    outputs = model(inputs)
    count = int(np.sum(np.asarray(outputs["is_proposal"])))
    ours = {
        "proposals": np.asarray(outputs["proposals"])[0, :count],
        "class_logits": np.asarray(outputs["class_logits"])[0, :count],
    }
    theirs = {"proposals": rois, "class_logits": values["cls_score"]}
    share, error, strangers = branches.proposals(theirs, ours)
    errors = [error, *first_stage(outputs, values)]
    deltas = np.asarray(outputs["box_deltas"])[0, :count] / np.float32([10, 10, 5, 5])
    pair = {"class_logits": values["bbox_pred"][:, 4:]}, {"class_logits": deltas.reshape(count, -1)}
    errors.append(branches.proposals(theirs | pair[0], ours | pair[1])[1])

    found = model.detect(picture, proposals=given)[0]
    found |= {"scores": found["confidence"]}
    wanted = {key: values[f"detections/{key}"] for key in ("boxes", "scores", "labels")}
    wanted["boxes"] = wanted["boxes"] + LAST_PIXEL
    pairs = match(wanted, found)
    strangers = [rows[:, 1:] for rows in strangers]  # labels do not count the background
    alone = without_partner(wanted, found, pairs, strangers)
    a, b = np.array(pairs, int).reshape(-1, 2).T
    return NONE | {
        "model": name,
        "batch": "x".join(map(str, picture.shape[:2])),
        "raw": max(errors),
        "proposals": share,
        "found": len(pairs) + max(sum(not known for *_, known in side) for side in alone),
        "matched": len(pairs),
        "unexplained": unexplained(wanted, found, alone, model, []),
        "box": np.abs(wanted["boxes"][a] - found["boxes"][b]).max(initial=0.0),
        "score": np.abs(wanted["scores"][a] - found["scores"][b]).max(initial=0.0),
        "labels": len(set(wanted["labels"].tolist())),
    }


def first_stage(outputs, values):
    """Differences of the proposal network's logits and deltas, as shares of the largest."""
    if "rpn_cls_score" not in values:
        return []
    (logits,), (deltas,) = (outputs[k].values() for k in ("objectness", "proposal_deltas"))
    background, objects = np.split(values["rpn_cls_score"][0].transpose(1, 2, 0), 2, axis=-1)
    wanted = values["rpn_bbox_pred"][0].transpose(1, 2, 0)
    pairs = (logits, objects - background), (deltas, wanted)
    return [
        float(np.abs(np.asarray(ours).ravel() - theirs.ravel()).max() / np.abs(theirs).max())
        for ours, theirs in pairs
    ]


def main():
    folder, faults = Path(sys.argv[1]), 0
    columns = [column for column in COLUMNS if column not in ("mask", "pasted", "keypoints")]
    print(" | ".join(columns))
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            found = compare(path.stem, dict(file), folder)
        texts = (found[column] for column in columns)
        print(" | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in texts), flush=True)
        faults += not within_bounds(found)
    sys.exit(f"{faults} rows are out of bounds" if faults else 0)


if __name__ == "__main__":
    main()
