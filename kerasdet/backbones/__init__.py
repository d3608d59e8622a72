"""Backbones: functional models from normalised images to feature maps by level."""

from kerasdet.backbones.backbone import Backbone
from kerasdet.backbones.classifier import ImageClassifier
from kerasdet.backbones.mobilenet_v2 import MobileNetV2
from kerasdet.backbones.resnet import (
    ResNet,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    ResNeXt50,
    ResNeXt101,
    residual_stage,
)

__all__ = [
    "Backbone",
    "ImageClassifier",
    "MobileNetV2",
    "ResNeXt50",
    "ResNeXt101",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "residual_stage",
]
