"""The table of detectors that the contract suite runs through: a new paper joins by one line."""

import numpy as np

from kerasdet.layers import AnchorGenerator, DenseHead, FeaturePyramid
from kerasdet.models import FasterRCNN, RegionProposalNetwork, RetinaNet
from tests.tiny import TinyBackbone

SIZE = 64
CLASS_NAMES = ("disc", "square", "cross")


def retinanet(**settings):
    return RetinaNet(
        3,
        backbone=TinyBackbone(),
        channels=16,
        head_depth=1,
        norm="batch",
        class_names=CLASS_NAMES,
        **settings,
    )


def faster_rcnn(**settings):
    return FasterRCNN(
        3,
        backbone=TinyBackbone(),
        neck=FeaturePyramid(16, levels=("C2", "C3", "C4", "C5"), p6_from="pool", name="neck"),
        rpn=RegionProposalNetwork(
            AnchorGenerator([[8], [16], [32], [64], [128]], [0.5, 1.0, 2.0]),
            channels=16,
            candidates=(100, 50),
            proposals=(100, 30),
            name="rpn",
        ),
        head=DenseHead((32,), name="head"),
        regions_per_image=32,
        class_names=CLASS_NAMES,
        **settings,
    )


DETECTORS = {"faster_rcnn": faster_rcnn, "retinanet": retinanet}


def batch(count=2, seed=0):
    """`count` pictures of bright rectangles, 1 to 3 each, and their targets."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, SIZE, SIZE, 3)).astype(np.uint8)
    boxes = np.full((count, 4, 4), -1.0, np.float32)
    labels = np.full((count, 4), -1, np.int32)
    for i in range(count):
        for g in range(1 + i % 3):
            x, y = rng.integers(0, SIZE - 32, 2)
            w, h = rng.integers(16, 32, 2)
            labels[i, g] = rng.integers(3)
            boxes[i, g] = x, y, x + w, y + h
            images[i, y : y + h, x : x + w, labels[i, g]] = 255
    sizes = np.full((count, 2), SIZE, np.float32)
    return {"images": images, "image_sizes": sizes}, {"boxes": boxes, "labels": labels}
