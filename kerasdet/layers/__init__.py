"""Floor 1: the operations as Keras layers and losses, and the parts that have weights."""

from kerasdet.layers.anchors import AnchorGenerator
from kerasdet.layers.conv import BatchNorm, ConvNorm
from kerasdet.layers.feature_pyramid import FeaturePyramid
from kerasdet.layers.losses import (
    AlphaBalancedCrossEntropy,
    CIoULoss,
    DIoULoss,
    FocalLoss,
    GIoULoss,
    IoULoss,
    OnlineHardExamples,
    SmoothL1,
)
from kerasdet.layers.nms import NonMaxSuppression
from kerasdet.layers.resizing import Fit, KeepSize, Resize, ShortestEdge, Stretch

__all__ = [
    "AlphaBalancedCrossEntropy",
    "AnchorGenerator",
    "BatchNorm",
    "CIoULoss",
    "ConvNorm",
    "DIoULoss",
    "FeaturePyramid",
    "Fit",
    "FocalLoss",
    "GIoULoss",
    "IoULoss",
    "KeepSize",
    "NonMaxSuppression",
    "OnlineHardExamples",
    "Resize",
    "ShortestEdge",
    "SmoothL1",
    "Stretch",
]
