"""Deformable stages of backbones: which convolutions they are, where they start, where they look."""

import keras
import numpy as np
import pytest

from kerasdet.backbones import VGG16, MobileNetV2, ResNet, sampled_points
from kerasdet.layers import Deformable, DeformableConvNorm
from tests.tiny import TinyBackbone, cheap_weights

IMAGES = np.random.default_rng(0).normal(size=(2, 64, 96, 3)).astype("float32")
NETWORKS = {
    "bottleneck": lambda **options: ResNet((1, 1, 2, 3), **options),
    "basic": lambda **options: ResNet((1, 1, 2, 2), bottleneck=False, **options),
    "dilated": lambda **options: ResNet((1, 1, 1, 3), levels=("C4", "C4_conv5"), **options),
    "mobile": lambda **options: MobileNetV2(alpha=0.25, **options),
}


def deformable(backbone):
    return [layer.name for layer in backbone.layers if isinstance(layer, DeformableConvNorm)]


@pytest.mark.parametrize(
    ("name", "levels", "names"),
    [
        ("bottleneck", ("C5",), [f"layer4_{i}_conv2" for i in range(3)]),
        (
            "bottleneck",
            ("C2", "C4"),
            ["layer1_0_conv2", "layer3_0_conv2", "layer3_1_conv2"],
        ),
        ("basic", ("C5",), [f"layer4_{i}_conv{j}" for i in (0, 1) for j in (1, 2)]),
        ("dilated", ("C5",), [f"layer4_{i}_conv2" for i in range(3)]),
        ("mobile", ("C5",), [f"block{i}_depthwise" for i in range(14, 18)]),
        ("mobile", ("C2",), ["block2_depthwise", "block3_depthwise"]),
    ],
)
def test_which_convolutions_are_deformable(monkeypatch, name, levels, names):
    cheap_weights(monkeypatch)
    backbone = NETWORKS[name](deformable=Deformable(levels))
    assert deformable(backbone) == names
    again = type(backbone).from_config(backbone.get_config())
    assert deformable(again) == names
    assert again.get_config() == backbone.get_config()
    assert backbone.strides == NETWORKS[name]().strides


@pytest.mark.parametrize("name", NETWORKS)
def test_a_deformed_backbone_starts_as_the_plain_one(name):
    keras.utils.set_random_seed(0)
    plain = NETWORKS[name]()
    rng = np.random.default_rng(1)
    for weight in plain.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.8, 1.2, weight.shape))
    moved = plain.with_deformable(Deformable(("C3", "C4", "C5")))
    expected, found = plain(IMAGES), moved(IMAGES)
    for level, features in expected.items():
        scale = np.abs(features).max()
        assert scale > 0
        np.testing.assert_allclose(found[level], features, atol=1e-4 * scale)
    back = moved.with_deformable(None)
    assert not deformable(back)
    for level, features in back(IMAGES).items():
        np.testing.assert_allclose(features, expected[level], rtol=1e-5, atol=1e-5)


def test_a_copy_keeps_learnt_offsets():
    backbone = TinyBackbone(deformable=Deformable(("C4", "C5")))
    backbone.get_layer("stage5").offsets.bias.assign(np.arange(18))
    copy = backbone.with_levels(("C5",))
    np.testing.assert_array_equal(copy.get_layer("stage5").offsets.bias, np.arange(18))


def test_a_backbone_without_deformable_form_says_so():
    with pytest.raises(ValueError, match="A VGG16 has no deformable convolutions; use a ResNet"):
        VGG16(levels=("C2",)).with_deformable(Deformable(("C2",)))


# --- Where they look ----------------------------------------------------------------------------------


def test_sampled_points_by_hand():
    # Stages 4 and 5 of stride 2, 3 x 3 taps: from cell (1, 2) of stride 32, 9 and then 81 taps.
    backbone = TinyBackbone(deformable=Deformable(("C4", "C5")))
    image = np.zeros((96, 128, 3), "float32")
    still = sampled_points(backbone, image, (64, 32))
    assert still.shape == (81, 2)
    # Cell (1, 2) reads rows 1..3 and columns 3..5 of stride 16; row r reads 2 r - 1 .. 2 r + 1 of stride 8.
    rows, columns = (
        {2 * r + k for r in range(*span) for k in (-1, 0, 1)} for span in ((1, 4), (3, 6))
    )
    assert {(x / 8, y / 8) for x, y in still} == {(x, y) for x in columns for y in rows}

    # The fifth stage's first tap moves down by a row and a half; the fourth's by two columns.
    bias = np.zeros(18)
    bias[0] = 1.5
    backbone.get_layer("stage5").offsets.bias.assign(bias)
    backbone.get_layer("stage4").offsets.bias.assign(np.tile([0, 2], 9))
    moved = sampled_points(backbone, image, (64, 32))
    expected = still + np.array([16, 0])
    expected[:9, 1] += 1.5 * 16
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    # The last convolution alone: nine points on the grid of stride 16.
    np.testing.assert_allclose(
        sampled_points(backbone, image, (64, 32), depth=1)[:2], [[48, 40], [64, 16]], atol=1e-4
    )


def test_offsets_are_those_of_the_nearest_cell():
    backbone = TinyBackbone(deformable=Deformable(("C5",)))
    kernel = backbone.get_layer("stage5").offsets.kernel
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape))
    image = np.random.default_rng(1).uniform(0, 255, (64, 64, 3)).astype("float32")
    found = {place: sampled_points(backbone, image, place) for place in ((0, 0), (15, 0), (40, 0))}
    assert np.std(found[0, 0][:, 0]) > 0
    # Of the same cell, but not from the same place.
    np.testing.assert_allclose(found[15, 0], found[0, 0] + np.array([15, 0]), atol=1e-3)
    assert np.abs(found[40, 0] - found[0, 0] - np.array([40, 0])).max() > 1


def test_where_nothing_can_be_sampled_is_refused():
    image = np.zeros((64, 64, 3), "float32")
    with pytest.raises(ValueError, match="TinyBackbone has no deformable convolution"):
        sampled_points(TinyBackbone(), image, (0, 0))
    with pytest.raises(ValueError, match=r"place is \(64, 0\), outside the image of 64 x 64"):
        sampled_points(TinyBackbone(deformable=Deformable()), image, (64, 0))
