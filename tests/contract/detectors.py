"""The table of detectors that the contract suite runs through: a new paper joins by one line."""

import numpy as np

from kerasdet.layers import AnchorGenerator, DenseHead, FeaturePyramid, MaskHead
from kerasdet.models import (
    FasterRCNN,
    KeypointRCNN,
    MaskRCNN,
    RegionProposalNetwork,
    RetinaNet,
)
from tests.tiny import TinyBackbone

SIZE = 64
CLASS_NAMES = ("disc", "square", "cross")
NUM_KEYPOINTS = 4


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


def faster_rcnn(kind=FasterRCNN, **settings):
    return kind(
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


def mask_rcnn(**settings):
    return faster_rcnn(MaskRCNN, mask_head=MaskHead((16,), 16, name="mask_head"), **settings)


def keypoint_rcnn(**settings):
    head = MaskHead((16,), upsampled=None, name="keypoint_head")
    return faster_rcnn(KeypointRCNN, num_keypoints=NUM_KEYPOINTS, keypoint_head=head, **settings)


DETECTORS = {
    "faster_rcnn": faster_rcnn,
    "keypoint_rcnn": keypoint_rcnn,
    "mask_rcnn": mask_rcnn,
    "retinanet": retinanet,
}


def batch(count=2, seed=0):
    """`count` images of bright rectangles, 1 to 3 each, and their targets.

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
    return {"images": images, "image_sizes": sizes}, targets


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
