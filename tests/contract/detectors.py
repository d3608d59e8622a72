"""The table of detectors that the contract suite runs through: a new paper joins by one line.

Each is made by the paper's own `for_data`, for a data set of three classes and four keypoints.
"""

import functools
from types import SimpleNamespace

import numpy as np

from kerasdet import models
from kerasdet.layers import Stretch
from tests.tiny import TinyBackbone

SIZE = 64
CLASS_NAMES = ("disc", "square", "cross")
NUM_KEYPOINTS = 4
NUM_PROPOSALS = 24

# What `for_data` asks of a data set.
DATA = SimpleNamespace(
    name="rectangles",
    class_names=CLASS_NAMES,
    category_ids=(1, 2, 3),
    keypoint_names=("top left", "top right", "bottom left", "bottom right"),
    box_counts=lambda: np.array([3]),
)


def made(kind, options, data=DATA, **settings):
    """A small detector of a kind; `settings` are options, or arguments of its constructor."""
    return kind.for_data(data, **{"backbone": TinyBackbone(), **options, **settings})


REGIONS = {"channels": 16, "anchors": "paper", "regions": 32, "candidates": (100, 30)}
DEFORMED = {"levels": ("C3", "C5")}
ONE_CANVAS = {"resize": Stretch(SIZE)}
# Without dropout, which draws other numbers on two devices than on one.
ON_GRID = {**ONE_CANVAS, "channels": 16, "units": 64, "grid": 4, "dropout": 0.0}
# Paper: its detector and the options that make it small.
DETECTORS = {
    name: functools.partial(made, kind, options)
    for name, kind, options in (
        ("cascade_rcnn", models.CascadeRCNN, REGIONS),
        ("cascade_rfcn", models.CascadeRFCN, {**REGIONS, "bins": 2}),
        ("deformable_faster_rcnn", models.DeformableFasterRCNN, {**REGIONS, **DEFORMED}),
        (
            "deformable_rfcn",
            models.DeformableRFCN,
            {**REGIONS, **DEFORMED, "bins": 2, "version": 2},
        ),
        ("fast_rcnn", models.FastRCNN, {"channels": 32}),
        ("fcos", models.FCOS, {"channels": 16, "depth": 1, "ranges": "paper"}),
        ("faster_rcnn", models.FasterRCNN, REGIONS),
        ("integral_rcnn", models.IntegralRCNN, {**REGIONS, "ious": (0.5, 0.75)}),
        ("keypoint_rcnn", models.KeypointRCNN, {**REGIONS, "depth": 1}),
        ("mask_rcnn", models.MaskRCNN, {**REGIONS, "depth": 1}),
        ("retinanet", models.RetinaNet, {"channels": 16, "depth": 1, "anchors": "paper"}),
        ("rfcn", models.RFCN, {**REGIONS, "bins": 2}),
        ("ssd", models.SSD, {**ONE_CANVAS, "channels": 16, "default_boxes": "paper"}),
        ("ssdlite", models.SSDLite, {**ONE_CANVAS, "default_boxes": "paper"}),
        ("yolo", models.YOLO, ON_GRID),
        ("yolo_v2", models.YOLOv2, {"channels": 16, "depth": 2, "passthrough": 4, "anchors": 0}),
    )
}
cascade_rcnn = DETECTORS["cascade_rcnn"]
cascade_rfcn = DETECTORS["cascade_rfcn"]
deformable_faster_rcnn = DETECTORS["deformable_faster_rcnn"]
deformable_rfcn = DETECTORS["deformable_rfcn"]
fast_rcnn = DETECTORS["fast_rcnn"]
faster_rcnn = DETECTORS["faster_rcnn"]
fcos = DETECTORS["fcos"]
integral_rcnn = DETECTORS["integral_rcnn"]
keypoint_rcnn = DETECTORS["keypoint_rcnn"]
mask_rcnn = DETECTORS["mask_rcnn"]
retinanet = DETECTORS["retinanet"]
rfcn = DETECTORS["rfcn"]
ssd = DETECTORS["ssd"]
ssdlite = DETECTORS["ssdlite"]
yolo = DETECTORS["yolo"]
yolo_v2 = DETECTORS["yolo_v2"]


def batch(count=2, seed=0, given=()):
    """`count` images of bright rectangles, 1 to 3 each, and their targets.

    `given` may name "proposals", for models that have them in `INPUTS`.

    A rectangle's mask is all of it, its keypoints are its corner pixels, the last one hidden.
    """
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, SIZE, SIZE, 3)).astype(np.uint8)
    targets = no_objects(count, 4)
    for i in range(count):
        for g in range(1 + i % 3):
            x, y = rng.integers(0, SIZE - 32, 2)
            w, h = rng.integers(16, 32, 2)
            label = rng.integers(3)
            targets["labels"][i, g] = label
            targets["boxes"][i, g] = x, y, x + w, y + h
            targets["masks"][i, g, y : y + h, x : x + w] = 1
            targets["keypoints"][i, g] = corners(x, y, w, h)
            images[i, y : y + h, x : x + w, label] = 255
    sizes = np.full((count, 2), SIZE, np.float32)
    inputs = {"images": images, "image_sizes": sizes}
    if "proposals" in given:
        inputs["proposals"] = proposals(targets, rng)
    return inputs, targets


def proposals(targets, rng):
    """Regions (B, R, 4) for models that take them: about each object, elsewhere, and rows of zeros."""
    count = len(targets["boxes"])
    corners = rng.integers(0, SIZE - 24, (count, NUM_PROPOSALS, 2))
    sides = rng.integers(8, 24, (count, NUM_PROPOSALS, 2))
    boxes = np.concatenate([corners, corners + sides], axis=-1).astype(np.float32)
    near = targets["boxes"] + rng.uniform(-2, 2, targets["boxes"].shape)  # (B, 4, 4)
    boxes[:, :4] = np.where(targets["labels"][..., None] >= 0, near, boxes[:, :4])
    boxes[:, -2:] = 0
    return boxes


def corners(x, y, w, h):
    """Keypoints (4, 3) of a rectangle of w x h pixels."""
    left, top, right, bottom = x + 0.5, y + 0.5, x + w - 0.5, y + h - 0.5
    return [[left, top, 2], [right, top, 2], [left, bottom, 2], [right, bottom, 1]]


def no_objects(count, rows):
    """Targets of `count` images, all padding."""
    return {
        "boxes": np.full((count, rows, 4), -1.0, np.float32),
        "labels": np.full((count, rows), -1, np.int32),
        "masks": np.zeros((count, rows, SIZE, SIZE), np.uint8),
        "keypoints": np.full((count, rows, NUM_KEYPOINTS, 3), -1.0, np.float32),
    }
