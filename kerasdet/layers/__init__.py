"""The operations as Keras layers and losses, and the parts that have weights: the floor above `ops`."""

from kerasdet.layers.anchors import AnchorGenerator
from kerasdet.layers.conv import BatchNorm, ConvNorm
from kerasdet.layers.crop import CropAndResize, PSCropAndResize
from kerasdet.layers.default_boxes import DefaultBoxes
from kerasdet.layers.deform import (
    Deformable,
    DeformableConv2D,
    DeformableConvNorm,
    OffsetBranch,
)
from kerasdet.layers.deform_roi import DeformablePSRoIPool, DeformableRoIPool
from kerasdet.layers.extra_layers import ExtraLayers, SeparableExtraLayers
from kerasdet.layers.feature_pyramid import FeaturePyramid
from kerasdet.layers.grid_head import GridHead, LocallyConnected
from kerasdet.layers.image_pyramid import ImagePyramid
from kerasdet.layers.level_towers import DepthwiseTowers, LevelTowers
from kerasdet.layers.location import (
    AnchorDeltas,
    Argmax,
    Bipartite,
    BoxCenter,
    CenterRoots,
    Corners,
    Location,
)
from kerasdet.layers.losses import (
    AlphaBalancedCrossEntropy,
    CIoULoss,
    DIoULoss,
    FocalLoss,
    GIoULoss,
    IoULoss,
    LogIoULoss,
    OnlineHardExamples,
    SigmoidConfidence,
    SmoothL1,
    SoftmaxConfidence,
    SquaredError,
)
from kerasdet.layers.mask_heads import MaskHead
from kerasdet.layers.nms import NonMaxSuppression
from kerasdet.layers.passthrough import PassthroughHead
from kerasdet.layers.points import Distances, Points
from kerasdet.layers.pooling import (
    L2Normalization,
    LocalResponseNorm,
    Maxout,
    MaxPool,
    SpatialPyramidPooling,
)
from kerasdet.layers.region_heads import DenseHead
from kerasdet.layers.resizing import (
    Drawn,
    Fit,
    KeepSize,
    Letterbox,
    PaddedSquare,
    Resize,
    RoundedShortestEdge,
    ShortestEdge,
    ShortestEdgeFromCorner,
    Stretch,
    StretchFromCorner,
)
from kerasdet.layers.roi import (
    MultilevelPSRoIAlign,
    MultilevelRoIAlign,
    MultilevelRoIPool,
    PSRoIAlign,
    PSRoIPool,
    RoIAlign,
    RoIPool,
)
from kerasdet.layers.subnets import Subnets
from kerasdet.layers.truncated import TruncatedDense

__all__ = [
    "AlphaBalancedCrossEntropy",
    "AnchorDeltas",
    "AnchorGenerator",
    "Argmax",
    "BatchNorm",
    "Bipartite",
    "BoxCenter",
    "CIoULoss",
    "CenterRoots",
    "ConvNorm",
    "Corners",
    "CropAndResize",
    "DIoULoss",
    "DefaultBoxes",
    "Deformable",
    "DeformableConv2D",
    "DeformableConvNorm",
    "DeformablePSRoIPool",
    "DeformableRoIPool",
    "DenseHead",
    "DepthwiseTowers",
    "Distances",
    "Drawn",
    "ExtraLayers",
    "FeaturePyramid",
    "Fit",
    "FocalLoss",
    "GIoULoss",
    "GridHead",
    "ImagePyramid",
    "IoULoss",
    "KeepSize",
    "L2Normalization",
    "Letterbox",
    "LevelTowers",
    "LocalResponseNorm",
    "LocallyConnected",
    "Location",
    "LogIoULoss",
    "MaskHead",
    "MaxPool",
    "Maxout",
    "MultilevelPSRoIAlign",
    "MultilevelRoIAlign",
    "MultilevelRoIPool",
    "NonMaxSuppression",
    "OffsetBranch",
    "OnlineHardExamples",
    "PSCropAndResize",
    "PSRoIAlign",
    "PSRoIPool",
    "PaddedSquare",
    "PassthroughHead",
    "Points",
    "Resize",
    "RoIAlign",
    "RoIPool",
    "RoundedShortestEdge",
    "SeparableExtraLayers",
    "ShortestEdge",
    "ShortestEdgeFromCorner",
    "SigmoidConfidence",
    "SmoothL1",
    "SoftmaxConfidence",
    "SpatialPyramidPooling",
    "SquaredError",
    "Stretch",
    "StretchFromCorner",
    "Subnets",
    "TruncatedDense",
]
