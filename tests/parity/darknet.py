"""The original Darknet's networks in kerasdet: `python -m tests.parity.darknet FOLDER`.

The folder is what `tests/golden/make_darknet.py --large FOLDER` has written. Prints the largest differences
of raw outputs, boxes (in canvas pixels) and scores.
"""

import sys
from pathlib import Path

import numpy as np
from keras import ops

from kerasdet.models import YOLO, YOLOv2
from kerasdet.ops.boxes import xyxy_to_cxcywh
from kerasdet.ops.coders import decode_locations
from kerasdet.zoo.origins.darknet import load_darknet


def differences(model, values):
    """The largest absolute differences from Darknet and OpenCV.

    Args:
        model: what `load_darknet` gave.
        values: image, and the outputs of Darknet and OpenCV on it, from `make_darknet.py`.

    Returns:
        {what: difference}; raw outputs per the largest of them where that is above 1.
    """
    ours = numbers(model, values["image"])
    found = {}
    for name in ours.keys() & values.keys() - {"opencv"}:
        scale = max(1.0, np.abs(values[name]).max()) if name == "raw" else 1.0
        assert ours[name].shape == values[name].shape, name
        found[name] = float(np.abs(ours[name] - values[name]).max() / scale)
    if "opencv" in values:
        height, width = values["image"].shape[:2]
        theirs = values["opencv"]
        boxes = np.asarray(xyxy_to_cxcywh(ours["boxes"])) / np.float32([width, height] * 2)
        found["opencv boxes"] = float(np.abs(boxes - theirs[:, :4]).max())
        kept = theirs[:, 5:] > 0  # OpenCV's layer drops low scores
        found["opencv scores"] = float(np.abs(ours["scores"] - theirs[:, 5:])[kept].max())
    return found


def numbers(model, image):
    """Raw outputs in Darknet's layout, and all boxes and scores, of one image that fills its canvas."""
    outputs = model(image[None])
    if isinstance(model, YOLOv2):
        probabilities = ops.softmax(outputs["logits"], axis=-1)[0]
        confidence = ops.sigmoid(outputs["confidence"])[0]
        t = outputs["locations"][0]
        rows = [ops.sigmoid(t[:, :2]), t[:, 2:], confidence[:, None], probabilities]
        height, width = np.asarray(outputs["grid"])
        raw = np.concatenate([np.asarray(row) for row in rows], axis=1)
        raw = raw.reshape(height, width, len(model.anchors), -1).transpose(2, 3, 0, 1)
        boxes = decode_locations(t, outputs["anchors"], model.stride)
        scores = confidence[:, None] * probabilities
    elif isinstance(model, YOLO):
        parts = ("classes", "confidence", "locations")
        raw = np.concatenate([np.asarray(outputs[part]).ravel() for part in parts])
        boxes = ops.reshape(model.boxes(outputs["locations"]), (-1, 4))
        scores = outputs["classes"][0][:, None] * outputs["confidence"][0][..., None]
        scores = ops.reshape(scores, (-1, model.num_classes))
    else:
        return {"raw": np.asarray(ops.softmax(outputs, axis=-1)).ravel()}
    return {"raw": raw.ravel(), "boxes": np.asarray(boxes), "scores": np.asarray(scores)}


def main():
    folder = Path(sys.argv[1])
    for path in sorted(folder.glob("*.npz")):
        model = load_darknet(path.with_suffix(".cfg"), path.with_suffix(".weights"))
        with np.load(path) as values:
            found = differences(model, {name: values[name] for name in values.files})
        figures = ", ".join(f"{name} {value:.2g}" for name, value in sorted(found.items()))
        print(f"{path.stem}: {type(model).__name__}, {model.count_params():,} numbers: {figures}")


if __name__ == "__main__":
    main()
