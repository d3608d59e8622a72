"""Inception-ResNet v2: the outputs of keras.applications, its numbers, and padding for detectors."""

import keras
import numpy as np
import pytest

from kerasdet.backbones import ImageClassifier, InceptionResNetV2, InceptionResNetV2Head
from tests.backbones import inceptions
from tests.golden import drawn
from tests.tiny import cheap_weights, parameters

SIDES = (107, 131)
THEIRS = {
    "C3": "block35_10_ac",
    "C4_Mixed_6a": "mixed_6a",
    "C4": "block17_20_ac",
    "C5": "conv_7b_ac",
}
PUBLISHED = {"C2": 71, "C3": 35, "C4": 17, "C5": 8}  # of 299 x 299 pixels


@pytest.fixture(scope="module")
def backbone():
    """Cheap: every weight from its layer's name."""
    model = InceptionResNetV2("published")
    drawn.fill(model.layers)
    return model


def test_outputs_are_those_of_keras_applications():
    from kerasdet.zoo.origins.keras_applications import conv_names

    theirs = keras.applications.InceptionResNetV2(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    inceptions.lively(theirs)
    model = InceptionResNetV2("published", ("C3", "C4_Mixed_6a", "C4", "C5"))
    convs = inceptions.in_order(theirs, keras.layers.Conv2D, "conv2d")
    norms = inceptions.in_order(theirs, keras.layers.BatchNormalization, "batch_norm")
    convs.append(theirs.get_layer("conv_7b"))
    norms.append(theirs.get_layer("conv_7b_bn"))
    names = [*conv_names(model), "Conv2d_7b_1x1"]
    assert len(names) == len(convs) == len(norms) == 204
    for name, conv, norm in zip(names, convs, norms, strict=True):
        (kernel,), statistics = conv.get_weights(), norm.get_weights()
        model.get_layer(name).set_weights([kernel, np.ones(kernel.shape[-1]), *statistics])
    ups = [x for x in theirs.layers if x.name.startswith("block") and x.name.endswith("_conv")]
    assert len(ups) == 40
    for layer in ups:
        last = layer.name == "block8_10_conv"
        name = "Block8" if last else layer.name.removesuffix("_conv")
        model.get_layer(f"{name}_Conv2d_1x1").set_weights(layer.get_weights())
    images = drawn.images("InceptionResNetV2", *SIDES)
    inceptions.assert_near(model(images), inceptions.maps(theirs, THEIRS)(images))


def test_numbers(backbone, monkeypatch):
    assert backbone.channels == {"C2": 192, "C3": 320, "C4": 1088, "C5": 1536}
    spec = backbone.compute_output_spec(keras.KerasTensor((1, 299, 299, 3)))
    assert {level: x.shape[1] for level, x in spec.items()} == PUBLISHED
    cheap_weights(monkeypatch)
    model = ImageClassifier(InceptionResNetV2())
    # keras.applications: 55 873 736, with the moving statistics and without scales.
    scales = sum(int(np.prod(w.shape)) for w in model.weights if w.name == "gamma")
    statistics = sum(int(np.prod(w.shape)) for w in model.weights if w.name.startswith("moving"))
    assert parameters(model) + statistics - scales == 55_873_736


def test_residuals_are_scaled(backbone):
    scales = {x.name: x.scale for x in backbone.layers if isinstance(x, keras.layers.Rescaling)}
    assert len(scales) == 39
    for name, scale in (("block35_10", 0.17), ("block17_1", 0.1), ("block8_9", 0.2)):
        assert scales[f"{name}_scale"] == scale
    names = {layer.name for layer in backbone.layers}
    assert "block8_9_out" in names  # the ReLU
    assert not {"Block8_out", "Block8_scale"} & names


def test_detectors_have_maps_that_lie_on_their_pixels():
    model = InceptionResNetV2(levels=("C3", "C4_Mixed_6a"))
    spec = model.compute_output_spec(keras.KerasTensor((1, 98, 131, 3)))
    assert [x.shape[1:3] for x in spec.values()] == [(13, 17), (7, 9)]
    assert not [x for x in model.layers if getattr(x, "padding", None) == "valid"]
    assert model.layers[-1].name == "Mixed_6a_concat"  # none of the twenty blocks


def test_last_stage_serves_as_a_head(backbone):
    head = backbone.region_head(None)
    assert type(head) is InceptionResNetV2Head
    assert head.padding == "published"
    inceptions.check_region_head(backbone, head, 139, (3, 3))
    assert head.maps_shape((2, 3, 17, 17, 1088)) == (2, 3, 8, 8, 1536)
    assert InceptionResNetV2Head().maps_shape((2, 3, 17, 17, 1088)) == (2, 3, 9, 9, 1536)


def test_saved_file_gives_equal_outputs(tmp_path):
    settings = {"mean": (1, 2, 3), "std": (4, 5, 6), "dtype": "mixed_bfloat16", "name": "other"}
    model = InceptionResNetV2("published", ("C3",), **settings)
    inceptions.check_saved(model, tmp_path / "model.keras")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_near_and_keeps_float32_weights(policy):
    inceptions.check_precision(
        lambda **settings: InceptionResNetV2(levels=("C3",), **settings), policy
    )


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="levels must be among"):
        InceptionResNetV2(levels=("C1",))
    with pytest.raises(ValueError, match="padding is 'valid'; give one of 'same', 'published'"):
        InceptionResNetV2(padding="valid")
    with pytest.raises(ValueError, match="padding is 'valid'"):
        InceptionResNetV2Head(padding="valid")
