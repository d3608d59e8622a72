"""Deformable Faster R-CNN and R-FCN: what the paper changed, and that offsets learn in a detector."""

import keras
import numpy as np
import pytest

from kerasdet.layers import Deformable, DeformablePSRoIPool, DeformableRoIPool
from kerasdet.models import RFCN, DeformableFasterRCNN, DeformableRFCN, FasterRCNN, RetinaNet
from kerasdet.models import deformable_faster_rcnn as paper
from tests.contract.detectors import DATA, REGIONS, batch, deformable_faster_rcnn, deformable_rfcn
from tests.tiny import TinyBackbone, cheap_weights

CONSTANTS = {"MAPS": ("C4", "C4_conv5"), "BINS": 7, "LEVELS": ("C5",), "VERSIONS": (1, 2)}
SAME_STRIDE = {"levels": ("C4", "C5")}


def offsets(model):
    """The variables of everything that moves taps or bins."""
    return [weight for weight in model.trainable_variables if "offsets" in weight.path]


def test_constants_are_the_papers(monkeypatch):
    assert {name: getattr(paper, name) for name in CONSTANTS} == CONSTANTS
    cheap_weights(monkeypatch)
    for kind, pooling in (
        (DeformableFasterRCNN, DeformableRoIPool),
        (DeformableRFCN, DeformablePSRoIPool),
    ):
        model = kind(20)
        assert type(model.pooling) is pooling
        assert (model.pooling.output_size, model.pooling.spatial_scale) == (7, 1 / 16)
        # Three deformable convolutions (res5), whose offsets are 18 maps of 512 channels.
        kernels = [w.shape for w in offsets(model) if w.name == "kernel"]
        assert kernels == [(3, 3, 512, 18)] * 3
        assert list(model.proposal_maps_shape()) == ["C4"]
        assert list(model.region_maps_shape()) == ["C4_conv5"]
    # Figure 4: 2 k^2 maps of offsets from the 1024 channels in front of the score maps.
    assert model.pooling.kernel.shape == (1, 1, 1024, 98)


def test_other_maps_have_their_own_scale(monkeypatch):
    cheap_weights(monkeypatch)
    for kind in (DeformableFasterRCNN, DeformableRFCN):
        model = kind(2, TinyBackbone(levels=("C4",)))
        assert model.pooling.spatial_scale == 1 / 16
        assert kind(2, TinyBackbone(levels=("C5",))).pooling.spatial_scale == 1 / 32


@pytest.mark.parametrize(
    ("kind", "plain"), [(DeformableFasterRCNN, FasterRCNN), (DeformableRFCN, RFCN)]
)
def test_at_rest_it_gives_what_the_plain_detector_gives(kind, plain):
    keras.utils.set_random_seed(0)
    backbone = TinyBackbone(levels=("C4",))
    options = {"neck": False, "score_threshold": 0.0}
    pooling = kind(2, backbone, **options).pooling
    inputs, _ = batch(1)
    moved = kind(2, backbone.with_deformable(Deformable(("C3", "C4"))), **options)
    still = plain(2, backbone, pooling=type(pooling)(7, 1 / 16, name="pooling"), **options)
    names = {weight.path.partition("/")[2]: weight for weight in moved.weights}
    still_names = {weight.path.partition("/")[2]: weight for weight in still.weights}
    for weight, value in zip(moved.classifier.weights, still.classifier.weights, strict=True):
        weight.assign(value)
    for weight, value in zip(moved.rpn.weights, still.rpn.weights, strict=True):
        weight.assign(value)
    assert len(names) > len(still_names) > 10
    expected, found = still(inputs), moved(inputs)
    np.testing.assert_allclose(found["class_logits"], expected["class_logits"], atol=1e-4)
    np.testing.assert_allclose(found["box_deltas"], expected["box_deltas"], atol=1e-5)


@pytest.mark.parametrize("make", [deformable_faster_rcnn, deformable_rfcn])
def test_for_data_deforms_the_backbone(make):
    model = make()
    kinds = [weight.path.split("/")[-3] for weight in offsets(model)]
    assert sorted(set(kinds)) == ["stage3", "stage5"]
    masks = make is deformable_rfcn  # of version 2
    assert {w.shape[-1] for w in offsets(model)} == {27 if masks else 18}


def test_every_offset_learns():
    keras.utils.set_random_seed(0)
    options = {"neck": False, "regions_per_image": 16}
    backbone = TinyBackbone(levels=("C4",), deformable=Deformable(("C3", "C4")))
    for kind in (DeformableFasterRCNN, DeformableRFCN):
        model = kind(3, backbone, **options)
        model.compile(keras.optimizers.SGD(0.1))
        moving = [*offsets(model), *model.pooling.trainable_variables]
        inputs, targets = batch(2)
        targets = {name: targets[name] for name in ("boxes", "labels")}
        for _ in range(2):
            model.train_on_batch(inputs, targets)
        assert all(np.abs(weight).max() > 0 for weight in moving)
        assert len(moving) == 6


def test_retinanet_takes_deformable_stages():
    model = RetinaNet(3, TinyBackbone(deformable=Deformable(("C5",))))
    assert len(offsets(model)) == 2


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="version is 3; give one of 1, 2"):
        DeformableFasterRCNN.for_data(DATA, backbone=TinyBackbone(), version=3, **REGIONS)
    with pytest.raises(ValueError, match="levels are"):
        DeformableRFCN.for_data(DATA, backbone=TinyBackbone(), levels=("P3",), **REGIONS)
