"""Floor 3: one file per paper, on the contract of `detector`."""

from kerasdet.models.detector import Detector
from kerasdet.models.faster_rcnn import FasterRCNN
from kerasdet.models.keypoint_rcnn import KeypointRCNN
from kerasdet.models.mask_rcnn import MaskRCNN
from kerasdet.models.region_proposals import RegionProposalNetwork
from kerasdet.models.retinanet import RetinaHead, RetinaNet

__all__ = [
    "Detector",
    "FasterRCNN",
    "KeypointRCNN",
    "MaskRCNN",
    "RegionProposalNetwork",
    "RetinaHead",
    "RetinaNet",
]
