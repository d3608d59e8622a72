"""Inception v2: the outputs of TF-slim's, and its numbers."""

import keras
import numpy as np
import pytest

from kerasdet.backbones import ImageClassifier, InceptionV2, InceptionV2Head
from tests.backbones import inceptions
from tests.golden import drawn
from tests.golden.store import load

GOLDEN = load("slim_networks.npz")
ALL = ("C2", "C3", "C4_Mixed_4c", "C4", "C5")


@pytest.fixture(scope="module")
def backbone():
    model = InceptionV2(levels=ALL)
    drawn.fill(model.layers)
    return model


@pytest.mark.parametrize("level", GOLDEN)
def test_outputs_are_slims(level, backbone):
    case = GOLDEN[level]
    images = drawn.images("InceptionV2", case.options["height"], case.options["width"])
    found = inceptions.array(backbone(images)[level])[..., :: drawn.CHANNEL_STEP]
    inceptions.assert_near({level: found}, {level: case.output})


def test_every_level_is_compared():
    assert set(GOLDEN) == set(ALL)


def test_first_convolution_is_separable(backbone):
    depthwise, pointwise = (
        backbone.get_layer(name) for name in ("Conv2d_1a_7x7_depthwise", "Conv2d_1a_7x7")
    )
    assert [tuple(w.shape) for w in depthwise.weights] == [(7, 7, 3, 8)]
    assert tuple(pointwise.kernel.shape) == (1, 1, 24, 64)
    assert backbone.channels == {"C2": 192, "C3": 320, "C4_Mixed_4c": 576, "C4": 576, "C5": 1024}
    assert backbone.strides == {"C2": 4, "C3": 8, "C4_Mixed_4c": 16, "C4": 16, "C5": 32}


def test_weights_are_slims(backbone):
    # tf_slim/nets/inception_v2_test.py counts 10 173 112 numbers, without scales; its first convolution has a
    # bias of 64 there, here a shift and moving statistics.
    counts = {"gamma": 0, "others": 0}
    for weight in backbone.weights:
        counts["gamma" if weight.name == "gamma" else "others"] += int(np.prod(weight.shape))
    assert counts["others"] - 2 * 64 == 10_173_112


def test_levels_have_ceil_sizes():
    model = InceptionV2(levels=("C4_Mixed_4c", "C3"))
    assert list(model.output) == ["C4_Mixed_4c", "C3"]
    spec = model.compute_output_spec(keras.KerasTensor((1, 97, 130, 3)))
    assert [x.shape[1:3] for x in spec.values()] == [(7, 9), (13, 17)]
    assert InceptionV2(levels=("C2",), freeze_at="C1").layers[-1].name == "Conv2d_2c_3x3"
    with pytest.raises(ValueError, match="levels must be among"):
        InceptionV2(levels=("C1",))


def test_last_stage_serves_as_a_head(backbone):
    head = backbone.region_head(None)
    assert type(head) is InceptionV2Head
    inceptions.check_region_head(backbone, head, 139, (5, 5))
    assert head.maps_shape((2, 3, 14, 14, 576)) == (2, 3, 7, 7, 1024)


def test_trained_classifier_splits_into_backbone_and_head(tmp_path):
    classifier = ImageClassifier(InceptionV2(), num_classes=3)
    drawn.fill(classifier.backbone.layers)
    classifier.save(tmp_path / "model.keras")
    shared, head = InceptionV2.split_preset(tmp_path / "model.keras", freeze_at="C2")
    assert shared.layers[-1].name == "Mixed_4e_concat"
    images = drawn.images("split", 64, 80)
    regions = shared(images)["C4"]
    whole = inceptions.array(classifier.backbone(images)["C5"]).mean(axis=(1, 2))
    inceptions.assert_near({"C5": head(regions[:, None])[:, 0]}, {"C5": whole})


def test_saved_file_gives_equal_outputs(tmp_path):
    settings = {"mean": (1, 2, 3), "std": (4, 5, 6), "dtype": "mixed_bfloat16", "name": "other"}
    inceptions.check_saved(InceptionV2(("C3",), **settings), tmp_path / "model.keras")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_near_and_keeps_float32_weights(policy):
    inceptions.check_precision(lambda **settings: InceptionV2(("C3",), **settings), policy)
