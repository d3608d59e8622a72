"""Constructors refuse numbers that no model has, before they make anything of them."""

import pytest

from kerasdet.layers import (
    AnchorGenerator,
    ConvNorm,
    DenseHead,
    FeaturePyramid,
    MaskHead,
    Subnets,
)
from kerasdet.layers.conv import Conv
from kerasdet.layers.group_norm import GroupNorm
from kerasdet.models import KeypointRCNN, RetinaNet
from kerasdet.models.region_proposals import RegionProposalNetwork
from tests.tiny import TinyBackbone

ANCHORS = AnchorGenerator([[16.0]], [1.0], [8])
BACKBONE = TinyBackbone()
REFUSED = [
    (lambda: Subnets(depth=100_000), "depth is 100000; give a whole number from 0 to 100"),
    (
        lambda: Subnets(channels=10**9),
        "channels is 1000000000; give a whole number from 1 to 65536",
    ),
    (lambda: Subnets(depth=2.5), r"depth is 2\.5"),
    (lambda: FeaturePyramid(channels=0), "channels is 0"),
    (lambda: FeaturePyramid(channels=True), "channels is True"),
    (lambda: RegionProposalNetwork(ANCHORS, depth=10**6), "depth is 1000000"),
    (lambda: RegionProposalNetwork(ANCHORS, candidates=(10**12, 1)), "candidates is 1000000000000"),
    (lambda: RegionProposalNetwork(ANCHORS, proposals=5), "proposals is 5; give two"),
    (lambda: MaskHead((256, 10**9)), "a width of convs, or upsampled, is 1000000000"),
    (lambda: DenseHead((-1,)), "a width of units or convs is -1"),
    (lambda: GroupNorm("32"), "groups is '32'"),
    (lambda: Conv(8, 10**9 + 1), "kernel_size is 1000000001"),
    (lambda: ConvNorm(None, 3), "filters is None"),
    (lambda: ConvNorm(8, 3, stride=0), "stride is 0"),
    (lambda: AnchorGenerator([[float("nan")]], [1.0]), "`sizes` are .nan,.; give positive finite"),
    (lambda: AnchorGenerator([[8.0]], [0.0]), "`aspect_ratios` are .0.0,."),
    (lambda: AnchorGenerator([[8.0]], [1.0], strides=[0]), "`strides` are .0,."),
    (lambda: AnchorGenerator([[8.0]], [1.0], offset=float("inf")), "`offset` is inf"),
    (
        lambda: AnchorGenerator([[8.0] * 1000], [1.0] * 1000),
        "1000 `sizes` with 1000 `aspect_ratios`",
    ),
    (
        lambda: RetinaNet(10**9, backbone=BACKBONE),
        "num_classes must be at least 1 and at most 100000",
    ),
    (lambda: RetinaNet("3", backbone=BACKBONE), "num_classes must be at least 1"),
    (
        lambda: RetinaNet(2, backbone=BACKBONE, resize=abs),
        "resize is a part of kerasdet.layers.resizing",
    ),
    (
        lambda: RetinaNet(2, backbone=BACKBONE, max_detections=10**9),
        "max_detections must be a whole",
    ),
    (lambda: KeypointRCNN(num_keypoints=10**9, backbone=BACKBONE), "num_keypoints is 1000000000"),
    (lambda: TinyBackbone(mean=(1.0, 2.0, float("nan"))), "give finite numbers, std above 0"),
    (lambda: TinyBackbone(std=(1.0, 2.0)), "mean has 3 values and std 2 for 3 channels"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_number_out_of_range_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
