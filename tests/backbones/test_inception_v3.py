"""Inception v3: published numbers, the outputs of keras.applications, padding for detectors."""

import keras
import numpy as np
import pytest

from kerasdet.backbones import ImageClassifier, InceptionV3, InceptionV3Head
from kerasdet.layers.conv import ConvNorm
from tests.backbones import inceptions
from tests.golden import drawn
from tests.tiny import cheap_weights, parameters

SIDES = (107, 131)
THEIRS = {"C3": "mixed2", "C4": "mixed7", "C5": "mixed10"}
# Of 299 x 299 pixels: arXiv 1512.00567, table 1.
PUBLISHED = {"C2": 71, "C3": 35, "C4": 17, "C5": 8}


@pytest.fixture(scope="module")
def theirs():
    model = keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    return inceptions.lively(model)


@pytest.fixture(scope="module")
def backbone():
    model = InceptionV3(padding="published")
    drawn.fill(model.layers)
    return model


def test_outputs_are_those_of_keras_applications(theirs):
    from kerasdet.zoo.origins.keras_applications import conv_names

    model = InceptionV3(padding="published")
    convs = inceptions.in_order(theirs, keras.layers.Conv2D, "conv2d")
    norms = inceptions.in_order(theirs, keras.layers.BatchNormalization, "batch_norm")
    names = conv_names(model)
    assert len(names) == len(convs) == len(norms) == 94
    for name, conv, norm in zip(names, convs, norms, strict=True):
        (kernel,), statistics = conv.get_weights(), norm.get_weights()
        model.get_layer(name).set_weights([kernel, np.ones(kernel.shape[-1]), *statistics])
    images = drawn.images("InceptionV3", *SIDES)
    found = {level: x for level, x in model(images).items() if level in THEIRS}
    inceptions.assert_near(found, inceptions.maps(theirs, THEIRS)(images))


def test_table_1(backbone, monkeypatch):
    assert backbone.channels == {"C2": 192, "C3": 288, "C4": 768, "C5": 2048}
    spec = backbone.compute_output_spec(keras.KerasTensor((1, 299, 299, 3)))
    assert {level: x.shape[1] for level, x in spec.items()} == PUBLISHED
    cheap_weights(monkeypatch)
    # torchvision's 27 161 264 without the side classifier's 3 326 696.
    assert parameters(ImageClassifier(InceptionV3())) == 23_834_568


def test_every_convolution_is_normalised_with_the_published_epsilon(backbone):
    convs = [layer for layer in backbone.layers if isinstance(layer, ConvNorm)]
    assert len(convs) == 94
    assert {layer.norm.epsilon for layer in convs} == {1e-3}
    assert {layer.get_config()["activation"] for layer in convs} == {"relu"}
    assert backbone.mean == backbone.std == (127.5,) * 3


def test_detectors_have_maps_that_lie_on_their_pixels():
    model = InceptionV3(levels=("C3", "C4", "C5"))
    spec = model.compute_output_spec(keras.KerasTensor((1, 98, 131, 3)))
    assert {level: x.shape[1:3] for level, x in spec.items()} == {
        "C3": (13, 17),
        "C4": (7, 9),
        "C5": (4, 5),
    }
    assert not [x for x in model.layers if getattr(x, "padding", None) == "valid"]


def test_averages_at_the_border_count_the_padding_or_not():
    for count, corner in ((False, 1.0), (True, 4 / 9)):
        model = InceptionV3(count_padding=count, levels=("C3",))
        pool = model.get_layer("Mixed_5b_avg_pool")
        x = np.ones((1, 3, 3, 192), "float32")
        if count:
            x = model.get_layer("Mixed_5b_avg_pool_pad")(x)
        np.testing.assert_allclose(pool(x)[0, :, :, 0][0, 0], corner, rtol=1e-6)
        assert pool(x).shape == (1, 3, 3, 192)


def test_levels_choose_outputs_and_leave_out_later_layers():
    model = InceptionV3(levels=("C4", "C2"), freeze_at="C1")
    assert list(model.output) == ["C4", "C2"]
    assert model.layers[-1].name == "Mixed_6e_concat"
    assert InceptionV3(levels=("C2",)).layers[-1].name == "Conv2d_4a_3x3"
    trained = {w.path.split("/")[0] for w in model.trainable_weights}
    assert not {"Conv2d_1a_3x3", "Conv2d_2b_3x3"} & trained
    assert "Conv2d_3b_1x1" in trained
    drawn.fill(model.layers)
    images = drawn.images("levels", 80, 80)
    part = model.with_levels(("C2",))
    np.testing.assert_array_equal(part(images)["C2"], model(images)["C2"])
    with pytest.raises(ValueError, match="levels must be among"):
        InceptionV3(levels=("C1",))
    with pytest.raises(ValueError, match="padding is 'valid'; give one of 'same', 'published'"):
        InceptionV3(padding="valid")


@pytest.mark.parametrize("padding", ["same", "published"])
def test_last_stage_serves_as_a_head(padding):
    model = InceptionV3(padding, count_padding=True)
    drawn.fill(model.layers)
    head = model.region_head(None)
    assert type(head) is InceptionV3Head
    config = head.get_config()
    assert (config["padding"], config["count_padding"], config["frozen_norm"]) == (
        padding,
        True,
        True,
    )
    # 139 pixels: C4 of 9 and 7 cells, C5 of 5 and 3.
    cells = 5 if padding == "same" else 3
    inceptions.check_region_head(model, head, 139, (cells, cells))
    assert head.maps_shape((2, 3, 17, 17, 768)) == (
        2,
        3,
        *([9, 9] if padding == "same" else [8, 8]),
        2048,
    )


def test_saved_file_gives_equal_outputs(tmp_path):
    settings = {"mean": (1, 2, 3), "std": (4, 5, 6), "dtype": "mixed_bfloat16", "name": "other"}
    model = InceptionV3("published", True, ("C3",), **settings)
    assert model.get_config()["count_padding"] is True
    inceptions.check_saved(model, tmp_path / "model.keras")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_near_and_keeps_float32_weights(policy):
    inceptions.check_precision(lambda **settings: InceptionV3(levels=("C3",), **settings), policy)
