"""One file per paper, on the shared contract of `base` and `detector`."""

from kerasdet.models.base import ImageModel
from kerasdet.models.cascade_rcnn import CascadeRCNN
from kerasdet.models.cascade_rfcn import CascadeRFCN
from kerasdet.models.deformable_faster_rcnn import DeformableFasterRCNN
from kerasdet.models.deformable_rfcn import DeformableRFCN
from kerasdet.models.detector import Detector
from kerasdet.models.fast_rcnn import FastRCNN, RandomRegions, RegionWise
from kerasdet.models.faster_rcnn import FasterRCNN
from kerasdet.models.fcos import FCOS
from kerasdet.models.integral_rcnn import IntegralClassifier, IntegralRCNN
from kerasdet.models.keypoint_rcnn import KeypointBranch, KeypointRCNN
from kerasdet.models.mask_rcnn import MaskBranch, MaskRCNN
from kerasdet.models.ohem import HardRegions
from kerasdet.models.region_proposals import RegionProposalNetwork
from kerasdet.models.retinanet import RetinaNet
from kerasdet.models.rfcn import RFCN, PositionSensitiveClassifier
from kerasdet.models.ssd import SSD
from kerasdet.models.ssdlite import SSDLite
from kerasdet.models.truncated_svd import truncate_dense
from kerasdet.models.yolo import YOLO
from kerasdet.models.yolo_v2 import YOLOv2

__all__ = [
    "FCOS",
    "RFCN",
    "SSD",
    "YOLO",
    "CascadeRCNN",
    "CascadeRFCN",
    "DeformableFasterRCNN",
    "DeformableRFCN",
    "Detector",
    "FastRCNN",
    "FasterRCNN",
    "HardRegions",
    "ImageModel",
    "IntegralClassifier",
    "IntegralRCNN",
    "KeypointBranch",
    "KeypointRCNN",
    "MaskBranch",
    "MaskRCNN",
    "PositionSensitiveClassifier",
    "RandomRegions",
    "RegionProposalNetwork",
    "RegionWise",
    "RetinaNet",
    "SSDLite",
    "YOLOv2",
    "truncate_dense",
]
