"""The maps that SSD and SSDLite start from: expansions, the last convolution, dilated stages, fc7."""

import numpy as np
import pytest

from kerasdet.backbones import VGG16, MobileNetV2, MobileNetV3Large, ResNet

IMAGES = np.random.default_rng(0).normal(size=(1, 97, 130, 3)).astype("float32")


def small_resnet(levels):
    return ResNet((1, 1, 1, 1), bottleneck=False, levels=levels)


@pytest.mark.parametrize(
    ("make", "levels", "channels", "layers"),
    [
        (
            MobileNetV2,
            ("C2_expand", "C3_expand", "C4_expand", "C5_last"),
            [144, 192, 576, 1280],
            ["block4_expand", "block7_expand", "block14_expand", "last_conv"],
        ),
        (MobileNetV3Large, ("C4_expand", "C5"), [672, 960], ["block13_expand", "last_conv"]),
        (VGG16, ("C3", "C4_fc7"), [512, 1024], ["features_21", "fc7"]),
        (small_resnet, ("C3", "C4_conv5"), [128, 512], ["layer2_0_out", "layer4_0_out"]),
    ],
    ids=["v2", "v3", "vgg", "resnet"],
)
def test_wide_levels(make, levels, channels, layers):
    backbone = make(levels=levels)
    assert list(backbone.channels.values()) == channels
    assert [x._keras_history.operation.name for x in backbone.output.values()] == layers
    assert backbone.strides == {level: 2 ** int(level[1]) for level in levels}
    outputs = backbone(IMAGES)
    for level, stride in backbone.strides.items():
        sides = [side // stride if make is VGG16 else -(-side // stride) for side in (97, 130)]
        assert list(outputs[level].shape[1:3]) == sides
    assert make(levels=levels[::-1]).levels == levels[::-1]
    copy = type(backbone).from_config(backbone.get_config())
    assert copy.channels == backbone.channels


def test_layers_after_an_expansion_are_not_built():
    assert MobileNetV2(levels=("C4_expand",)).layers[-1].name == "block14_expand"
    assert MobileNetV2(levels=("C3_expand", "C4")).layers[-1].name == "block13_add"
    assert MobileNetV3Large(("C4_expand",)).layers[-1].name == "block13_expand"


def test_wider_names_maps_of_the_same_stride():
    for kind in (MobileNetV2, MobileNetV3Large):
        for level, wider in kind.WIDER.items():
            assert wider[:2] == level
            backbone = kind(levels=(level, wider))
            assert backbone.channels[wider] > backbone.channels[level]


def test_the_dilated_stage_has_the_weights_of_the_plain_one():
    plain, dilated = small_resnet(("C5",)), small_resnet(("C4_conv5",))
    assert [w.shape for w in plain.weights] == [w.shape for w in dilated.weights]
    last = dilated.get_layer("layer4_0_conv1")
    assert (last.stride, last.dilation) == (1, 2)
    with pytest.raises(ValueError, match="give C5 or C4_conv5, not both"):
        small_resnet(("C5", "C4_conv5"))
