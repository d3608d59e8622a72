"""Our models on the checkpoints of the Object Detection API, against what its networks of tf-slim detect.

The references come from `tests/golden/make_tf_slim.py`. With checkpoints of full size:

    python -m tests.parity.object_detection FOLDER

compares each FOLDER/NAME.tar.gz, loaded as published files are, with FOLDER/NAME.npz. Bounds: maps agree to
1e-4 of their largest value, 99 % of the proposals to 0.05 pixel, 99 % of the detections in label, to 0.05
pixel and 1e-4 of score.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from kerasdet.layers import ShortestEdgeFromCorner
from kerasdet.zoo import untrained
from kerasdet.zoo.origins import object_detection_api
from tests.parity.compare import BOX_BOUND, MATCHED_BOUND, PROPOSALS_BOUND, RAW_BOUND, match
from tests.parity.lively import image, lively_variables, sample


def compare(path, checkpoint=None):
    """Run our model on a reference file's images.

    Args:
        path: the .npz file.
        checkpoint: what `origins.load` takes; None: the weights follow from the reference's seed.

    Yields:
        For each image {"model", "image", "raw" (largest error of the maps, a share of their largest value),
        "proposals" (share that agrees; None without any), "found" (detections), "matched", "box" and "score"
        (largest differences of the matched, in pixels and score), "labels" (how many there are)}.
    """
    with np.load(path) as file:
        reference = dict(file)
    meta = json.loads(str(reference.pop("meta")))
    resize = {"resize": ShortestEdgeFromCorner(**meta["sizes"])} if meta["sizes"] else {}
    model = untrained(meta["name"], **resize)
    if checkpoint is None:
        object_detection_api.fill(model, variables(meta, reference), path.name)
    else:
        object_detection_api.load(model, checkpoint)
    for number, name in enumerate(meta["images"]):
        picture = image(*map(int, name.split("x")), meta["seed"] + number)
        theirs = {
            key.partition("/")[2]: value
            for key, value in reference.items()
            if key.startswith(f"{number}/")
        }
        yield {"model": meta["name"], "image": name, **_row(model, picture, theirs, meta["limit"])}


def variables(meta, reference):
    """Return a checkpoint's content from the reference's seed.

    Args:
        meta: the file's header.
        reference: its arrays.

    Returns:
        {name: array}.
    """
    shapes = {name: tuple(shape) for name, shape in meta["shapes"].items()}
    values = lively_variables(shapes, meta["seed"])
    for key, value in reference.items():
        kind, _, name = key.partition("/")
        if kind == "scale":
            values[name] *= value
        elif kind == "bias":
            values[name] = value
    return values


def within_bounds(row):
    """Whether a row meets the bounds."""
    return (
        row["raw"] <= RAW_BOUND
        and (row["proposals"] is None or row["proposals"] >= PROPOSALS_BOUND)
        and row["matched"] >= MATCHED_BOUND * row["found"]
    )


def _row(model, picture, theirs, limit):
    inputs = model.to_canvas([picture])
    ours = model.detect([picture])[0]
    ours["scores"] = ours["confidence"]
    outputs = model(inputs, training=False)
    pairs = match(theirs, ours)
    rows = [list(column) for column in zip(*pairs)]
    differences = {
        name: float(np.abs(theirs[key][rows[0]] - ours[key][rows[1]]).max()) if pairs else np.inf
        for name, key in (("box", "boxes"), ("score", "scores"))
    }
    return {
        "raw": _map_error(model, inputs, theirs, limit),
        "proposals": _share(theirs["proposals"], outputs) if "proposals" in theirs else None,
        "found": max(len(theirs["labels"]), len(ours["labels"])),
        "matched": len(pairs),
        **differences,
        "labels": len(np.unique(ours["labels"])),
    }


def _map_error(model, inputs, theirs, limit):
    """The largest difference of the maps' values, as a share of their largest value."""
    images, _ = model.normalize(inputs)
    maps = model.backbone(images, training=False)
    maps = model.extras(maps) if hasattr(model, "extras") else maps
    wanted = {
        key.removeprefix("raw/"): value for key, value in theirs.items() if key.startswith("raw/")
    }
    if not wanted or wanted.keys() - maps.keys():
        raise ValueError(f"The reference has the maps {sorted(wanted)}, the model {sorted(maps)}.")
    return max(
        float(np.abs(sample(np.asarray(maps[level]), limit, level) - value.reshape(-1)).max())
        / float(np.abs(value).max())
        for level, value in wanted.items()
    )


def _share(theirs, outputs):
    """The share of proposals that are the same, in any order."""
    ours = np.asarray(outputs["proposals"])[0][np.asarray(outputs["is_proposal"])[0]]
    far = np.abs(theirs[:, None] - ours).max(axis=-1).min(axis=1)
    return float((far <= BOX_BOUND).sum() / max(len(theirs), len(ours)))


def main():
    """Compare every model of a folder, print the rows, fail beyond the bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what make_tf_slim.py --full has written")
    faults = 0
    for path in sorted(parser.parse_args().folder.glob("*.npz")):
        for row in compare(path, path.with_suffix(".tar.gz")):
            print(row, flush=True)
            faults += not within_bounds(row)
    sys.exit(f"{faults} rows are out of bounds" if faults else 0)


if __name__ == "__main__":
    main()
