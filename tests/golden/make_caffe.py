"""Golden values of Caffe's layers and of the authors' detectors, as OpenCV computes them.

Needs, in an environment of its own, opencv-contrib-python-headless < 5. From the root of the repository:

    python -m tests.golden.make_caffe                  caffe.npz: layers, and detectors with small heads
    python -m tests.golden.make_caffe --large FOLDER   the detectors at full size, with their files

`python -m tests.parity.caffe FOLDER` then compares kerasdet with the folder. Proposals, scores and deltas are
OpenCV's; the detections follow from them by NumPy, as the authors' test code has it. Weights are random;
those of the last layers are scaled so that scores and deltas are as varied as a trained detector's.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from tests.golden.caffe_networks import LAST, SMALL, network, write
from tests.parity.lively import image, uniform
from tests.zoo import caffe_files

FOLDER = Path(__file__).parent
MEAN = np.float32([102.9801, 115.9465, 122.7717])  # blue, green, red
SPREAD = {"cls_score": 2.0, "rfcn_cls": 8.0, "rpn_cls_score": 1.0}  # of a logit
DELTAS = 0.15
LARGE = (600, 800)
SCORE, OVERLAP, MOST = 0.05, 0.3, 100


def outputs(net, folder, name, picture, factors, shifts, wanted):
    """Run a network on a picture (H, W, 3) RGB; return {blob: array}."""
    paths = write(net, folder, name, factors, shifts)
    run = cv2.dnn.readNetFromCaffe(*map(str, paths))
    run.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    data = (picture[..., ::-1].astype("float32") - MEAN).transpose(2, 0, 1)[None]
    run.setInput(np.ascontiguousarray(data), "data")
    if "rois" in net.inputs:
        run.setInput(given_rois(picture.shape[:2]), "rois")
    else:
        run.setInput(np.float32([[*picture.shape[:2], 1.0]]), "im_info")
    places = {layer["top"]: layer["name"] for layer in net.layers}
    return dict(zip(wanted, run.forward([places[blob] for blob in wanted])))


def given_rois(size, count=50):
    """Regions for Fast R-CNN (N, 5): 0, and the first and the last pixel, whole numbers."""
    height, width = size
    draws = uniform(4 * count, 0, 1, "rois", 0).reshape(-1, 4)
    start = np.floor(draws[:, :2] * [width - 20, height - 20])
    end = start + np.floor(16 + draws[:, 2:] ** 2 * ([width, height] - start - 17))
    return np.concatenate([np.zeros((count, 1)), start, end], axis=1).astype("float32")


def calibrated(net, folder, name, picture):
    """Scale the last layers; return {layer: factor} and {layer: bias}."""
    factors, shifts = {}, {}
    first, second = (
        ("rpn_cls_score", "rpn_bbox_pred"),
        [layer for layer in LAST if layer in net.shapes and not layer.startswith("rpn")],
    )
    for layers in (first, second):
        layers = [layer for layer in layers if layer in net.shapes]
        if not layers:
            continue
        found = outputs(net, folder, name, picture, factors, shifts, layers)
        for layer in layers:
            rows = found[layer]
            rows = rows.reshape(len(rows), rows.shape[1], -1).transpose(0, 2, 1)
            rows = rows.reshape(-1, rows.shape[-1]).astype("float64")
            bias = net.weights()[layer][1][1]
            factor = SPREAD.get(layer, DELTAS) / rows.std(axis=0).mean()
            factors[layer] = np.float32(factor)
            shifts[layer] = (-factor * (rows.mean(axis=0) - bias)).astype("float32")
    return factors, shifts


# -- the authors' test code, in NumPy ------------------------------------------------------------------


def decoded(boxes, deltas):
    """Boxes (N, 4) of first and last pixels, moved by deltas (N, 4 K): (N, 4 K)."""
    boxes = boxes.astype("float64")
    w, h = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    x, y = boxes[:, 0] + 0.5 * w, boxes[:, 1] + 0.5 * h
    found = np.empty(deltas.shape)
    for i in range(0, deltas.shape[1], 4):
        dx, dy, dw, dh = deltas[:, i : i + 4].T.astype("float64")
        cx, cy, pw, ph = dx * w + x, dy * h + y, np.exp(dw) * w, np.exp(dh) * h
        corners = cx - 0.5 * pw, cy - 0.5 * ph, cx + 0.5 * pw, cy + 0.5 * ph
        found[:, i : i + 4] = np.stack(corners, axis=1)
    return found


def suppressed(boxes, scores, overlap):
    """Rows that greedy suppression of boxes of whole pixels keeps."""
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        inner = np.minimum(boxes[order, 2:], boxes[best, 2:])
        inner = np.maximum(inner - np.maximum(boxes[order, :2], boxes[best, :2]) + 1, 0).prod(
            axis=1
        )
        order = order[inner / (areas[order] + areas[best] - inner) <= overlap]
    return kept


def detections(rois, scores, deltas, size):
    """Boxes (D, 4) of first and last pixels, scores and labels 0..K-1, best first."""
    height, width = size
    boxes = decoded(rois, deltas)
    limit = np.tile([width - 1, height - 1], deltas.shape[1] // 2)
    boxes = np.clip(boxes, 0, limit)
    rows = []
    for label in range(1, scores.shape[1]):
        place = 4 if deltas.shape[1] == 8 else 4 * label
        high = np.flatnonzero(scores[:, label] > SCORE)
        own, confidence = boxes[high, place : place + 4], scores[high, label]
        rows += [(confidence[i], label - 1, *own[i]) for i in suppressed(own, confidence, OVERLAP)]
    rows = np.array(sorted(rows, key=lambda row: -row[0])[:MOST], "float64").reshape(-1, 6)
    return {"boxes": rows[:, 2:], "scores": rows[:, 0], "labels": rows[:, 1].astype(int)}


# -- files -------------------------------------------------------------------------------------------


def made(name, folder, size, **parts):
    """Everything about one detector: picture's size, calibration, OpenCV's outputs, detections."""
    picture = image(*size, seed=3)
    net = network(name, size, **parts)
    factors, shifts = calibrated(net, folder, name, picture)
    blobs = ["cls_score", "bbox_pred", "cls_prob"]
    blobs += [] if "rois" in net.inputs else ["rois", "rpn_cls_score", "rpn_bbox_pred"]
    found = outputs(net, folder, name, picture, factors, shifts, blobs)
    rois = given_rois(size) if "rois" in net.inputs else found["rois"].reshape(-1, 5)
    rows = np.flatnonzero((rois[:, 3:] > rois[:, 1:3]).all(axis=1))  # OpenCV pads with zeros
    count = len(rois)
    values = {
        "rois": rois[rows, 1:],
        **{key: found[key].reshape(count, -1)[rows] for key in blobs[:3]},
        **{key: found[key] for key in blobs[4:]},
    }
    final = detections(values["rois"], values["cls_prob"], values["bbox_pred"], size)
    values |= {f"detections/{key}": value for key, value in final.items()}
    values |= {f"factor/{layer}": value for layer, value in factors.items()}
    values |= {f"shift/{layer}": value for layer, value in shifts.items()}
    values["size"] = np.array(size)
    print(name, len(rows), "regions", len(final["labels"]), "detections", len(set(final["labels"])))
    return values


def layer(inputs, layers, arrays, given):
    """Run a small network; return its output."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "net.prototxt", Path(folder) / "net.caffemodel"
        shapes = {name: value.shape for name, value in given.items()}
        paths[0].write_text(caffe_files.prototxt(inputs or shapes, layers))
        paths[1].write_bytes(caffe_files.caffemodel(arrays))
        run = cv2.dnn.readNetFromCaffe(*map(str, paths))
    run.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    for name, value in given.items():
        run.setInput(value, name)
    return run.forward()


def regions(count, height, width, key):
    """Regions (N, 5) with fractions, some of them beyond the image."""
    draws = uniform(4 * count, -0.1, 1.1, key, 0).reshape(-1, 4)
    draws = np.concatenate([np.sort(draws[:, :2], axis=1), np.sort(draws[:, 2:], axis=1)], axis=1)
    boxes = draws[:, [0, 2, 1, 3]] * [width, height, width, height]
    return np.concatenate([np.zeros((count, 1)), boxes], axis=1).astype("float32")


def small_layers():
    """{case/array: value} of the layers that the detectors have and no other golden file."""
    rng = np.random.default_rng(5)
    arrays = {}
    for name, (kind, size) in {
        "roi_pool": ("ROIPooling", (3, 40, 63)),
        "ps_roi_pool": ("PSROIPooling", (2 * 49, 20, 31)),
    }.items():
        maps = rng.normal(size=(1, *size)).astype("float32")
        rois = regions(40, 16 * size[1], 16 * size[2], name)
        if kind == "ROIPooling":  # of 57 columns: float32 reads one more
            rois[0] = [0, 16, 16, 16 * 57, 16 * 30]
            numbers = {"pooled_w": 7, "pooled_h": 7, "spatial_scale": 0.0625}
            one = {"roi_pooling_param": numbers}
        else:
            numbers = {"output_dim": 2, "group_size": 7, "spatial_scale": 0.0625}
            one = {"psroi_pooling_param": numbers}
        one |= {"name": "y", "type": kind, "bottom": ["x", "rois"], "top": "y"}
        output = layer(None, [one], {"z": ("ReLU", [])}, {"x": maps, "rois": rois})
        arrays |= {f"{name}/maps": maps, f"{name}/rois": rois, f"{name}/output": output}
    return arrays


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", type=Path)
    parser.add_argument("--only", choices=SMALL)
    options = parser.parse_args()
    names = [options.only] if options.only else list(SMALL)
    if options.large:
        options.large.mkdir(parents=True, exist_ok=True)
        for name in names:
            values = made(name, options.large, LARGE)
            np.savez(options.large / f"{name}.npz", **values)
        return
    arrays = {f"layers/{key}": value for key, value in small_layers().items()}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            values = made(name, folder, **SMALL[name])
        arrays |= {f"{name}/{key}": value for key, value in values.items()}
    np.savez_compressed(FOLDER / "caffe.npz", **arrays)
    print((FOLDER / "caffe.npz").stat().st_size)


if __name__ == "__main__":
    main()
