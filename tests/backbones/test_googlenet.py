"""GoogLeNet: Caffe's outputs, the published numbers, and the form of torchvision."""

import keras
import numpy as np
import pytest

from kerasdet.backbones import GoogLeNet, ImageClassifier
from kerasdet.layers import LocalResponseNorm, MaxPool
from kerasdet.layers.conv import Conv, ConvNorm
from tests.backbones import inceptions
from tests.golden import drawn
from tests.golden.store import load
from tests.tiny import cheap_weights, parameters

GOLDEN = {name: case for name, case in load("caffe_layers.npz").items() if case.op == "GoogLeNet"}


@pytest.fixture(scope="module")
def backbone():
    model = GoogLeNet()
    drawn.fill(model.layers)
    return model


@pytest.mark.parametrize("name", GOLDEN)
def test_outputs_are_caffes(name, backbone):
    case = GOLDEN[name]
    size, level = (case.options["height"], case.options["width"]), case.options["level"]
    images = drawn.images("GoogLeNet", *size, reach=128.0)
    found = inceptions.array(backbone(images)[level])[..., :: drawn.CHANNEL_STEP]
    inceptions.assert_near({level: found}, {level: case.output})


def test_every_level_is_compared():
    assert set(GOLDEN) == {f"GoogLeNet/C{n}" for n in (2, 3, 4, 5)}


def test_table_1(backbone):
    assert backbone.channels == {"C2": 192, "C3": 480, "C4": 832, "C5": 1024}
    spec = backbone.compute_output_spec(keras.KerasTensor((1, 224, 224, 3)))
    assert [x.shape[1] for x in spec.values()] == [56, 28, 14, 7]
    # arXiv 1409.4842, table 1, row by row, without the classifiers: 6 998 552 less 1 025 000.
    convs = [layer for layer in backbone.layers if isinstance(layer, Conv)]
    assert len(convs) == 57
    assert sum(layer.groups for layer in convs) == 57
    assert parameters(backbone) == 5_973_552
    assert backbone.get_layer("inception_3a_5x5").kernel_size == 5


def test_normalisations_of_the_stem(backbone):
    norms = [layer for layer in backbone.layers if isinstance(layer, LocalResponseNorm)]
    assert [layer.name for layer in norms] == ["pool1_norm1", "conv2_norm2"]
    assert {(x.size, x.alpha, x.beta, x.k) for x in norms} == {(5, 1e-4, 0.75, 1.0)}


def test_torchvisions_form(monkeypatch):
    cheap_weights(monkeypatch)
    model = ImageClassifier(GoogLeNet("batch"))
    assert parameters(model) == 6_624_904
    layers = model.backbone.layers
    assert not any(isinstance(layer, LocalResponseNorm) for layer in layers)
    assert {layer.norm.epsilon for layer in layers if isinstance(layer, ConvNorm)} == {1e-3}
    assert model.backbone.get_layer("inception_3a_5x5").kernel_size == 3
    sizes = [layer.size for layer in layers if isinstance(layer, MaxPool)]
    assert sizes == [3, 3, 3, 2]


def test_sizes_of_sides_that_are_not_whole(backbone):
    spec = backbone.compute_output_spec(keras.KerasTensor((1, 96, 131, 3)))
    assert [x.shape[1:3] for x in spec.values()] == [(24, 33), (12, 16), (6, 8), (3, 4)]


def test_levels_choose_outputs_and_leave_out_later_layers():
    model = GoogLeNet(levels=("C4", "C2"), freeze_at="C1")
    assert list(model.output) == ["C4", "C2"]
    assert model.layers[-1].name == "inception_4e_concat"
    trained = {w.path.split("/")[0] for w in model.trainable_weights}
    assert "conv1_7x7_s2" not in trained
    assert "conv2_3x3" in trained
    assert GoogLeNet(levels=("C2",)).layers[-1].name == "conv2_norm2"
    drawn.fill(model.layers)
    images = drawn.images("levels", 64, 80)
    np.testing.assert_array_equal(model.with_levels(("C2",))(images)["C2"], model(images)["C2"])
    with pytest.raises(ValueError, match="levels must be among"):
        GoogLeNet(levels=("C1",))
    with pytest.raises(ValueError, match="norm is 'group'; give one of None, 'batch'"):
        GoogLeNet("group")


@pytest.mark.parametrize("norm", [None, "batch"])
def test_saved_file_gives_equal_outputs(norm, tmp_path):
    settings = {"mean": (1, 2, 3), "std": (4, 5, 6), "dtype": "mixed_bfloat16", "name": "other"}
    inceptions.check_saved(GoogLeNet(norm, ("C3",), **settings), tmp_path / "model.keras")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("norm", [None, "batch"])
def test_mixed_precision_is_near_and_keeps_float32_weights(norm, policy):
    inceptions.check_precision(lambda **settings: GoogLeNet(norm, ("C3",), **settings), policy)
