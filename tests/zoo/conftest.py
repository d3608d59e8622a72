import keras
import pytest

from kerasdet.layers import FeaturePyramid, Fit, Subnets
from kerasdet.models import RetinaNet
from kerasdet.zoo import models
from kerasdet.zoo.pack import pack
from tests.tiny import TinyBackbone

CARD = {
    "paper": {"title": "Focal Loss for Dense Object Detection", "arxiv": "1708.02002"},
    "data": {"name": "digits", "train": "4000 scenes, seed 0", "licence": "BSD-3-Clause"},
    "training": {"command": "kerasdet train --data digits", "minutes": 25.5},
    "evaluation": {"data": "256 scenes", "command": "kerasdet evaluate --data digits"},
    "licence": "Apache-2.0",
}
METRICS = {"AP": 0.71234567, "AP50": 0.93, "per_class": {"one": {"AP": 0.7}}}


def tiny(num_classes=3, seed=0):
    keras.utils.set_random_seed(seed)
    return RetinaNet(
        num_classes,
        backbone=TinyBackbone(),
        neck=FeaturePyramid(32, name="neck"),
        head=Subnets(32, 1, name="head"),
        class_names=["one", "two", "three", "four"][:num_classes],
        resize=Fit(64, 64),
    )


@pytest.fixture(scope="session")
def model():
    return tiny()


@pytest.fixture(scope="session")
def packed(model, tmp_path_factory):
    """A folder of manifests that holds one model, tiny_digits."""
    folder = tmp_path_factory.mktemp("packed")
    pack(model, "tiny_digits", CARD, METRICS, folder)
    return folder


@pytest.fixture
def shipped(packed, monkeypatch):
    """The package, as if `packed` were its own folder of manifests."""
    monkeypatch.setattr(models, "FOLDER", packed)
    return packed
