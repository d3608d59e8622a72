"""Backbones: functional models from normalised images to feature maps by level."""

from kerasdet.backbones.alexnet import VGGCNNM1024, AlexNet, ZFNet
from kerasdet.backbones.backbone import Backbone
from kerasdet.backbones.classifier import ImageClassifier
from kerasdet.backbones.darknet import (
    Darknet,
    Darknet19,
    FastYOLO,
    SeparableTinyYOLOv2,
    TinyYOLOv2,
    YOLO20Convs,
)
from kerasdet.backbones.googlenet import GoogLeNet
from kerasdet.backbones.inception_resnet_v2 import InceptionResNetV2, InceptionResNetV2Head
from kerasdet.backbones.inception_v2 import InceptionV2, InceptionV2Head
from kerasdet.backbones.inception_v3 import InceptionV3, InceptionV3Head
from kerasdet.backbones.keras_model import KerasBackbone
from kerasdet.backbones.mobilenet_v1 import MobileNetV1
from kerasdet.backbones.mobilenet_v2 import MobileNetV2
from kerasdet.backbones.mobilenet_v3 import MobileNetV3Large
from kerasdet.backbones.resnet import (
    ResNet,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    ResNetHead,
    ResNeXt50,
    ResNeXt101,
    residual_stage,
)
from kerasdet.backbones.sampled_points import sampled_points
from kerasdet.backbones.slim_resnet import SlimResNet
from kerasdet.backbones.vgg import VGG16

__all__ = [
    "VGG16",
    "VGGCNNM1024",
    "AlexNet",
    "Backbone",
    "Darknet",
    "Darknet19",
    "FastYOLO",
    "GoogLeNet",
    "ImageClassifier",
    "InceptionResNetV2",
    "InceptionResNetV2Head",
    "InceptionV2",
    "InceptionV2Head",
    "InceptionV3",
    "InceptionV3Head",
    "KerasBackbone",
    "MobileNetV1",
    "MobileNetV2",
    "MobileNetV3Large",
    "ResNeXt50",
    "ResNeXt101",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "ResNetHead",
    "SeparableTinyYOLOv2",
    "SlimResNet",
    "TinyYOLOv2",
    "YOLO20Convs",
    "ZFNet",
    "residual_stage",
    "sampled_points",
]
