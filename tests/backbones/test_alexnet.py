"""AlexNet, ZF and VGG_CNN_M: their published numbers, Caffe's outputs, and padding for detectors."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdet.backbones import VGGCNNM1024, AlexNet, ImageClassifier, ZFNet
from kerasdet.layers import DenseHead
from tests.golden import drawn
from tests.golden.store import load
from tests.tiny import cheap_weights, parameters

NETWORKS = {
    "AlexNet": lambda **settings: AlexNet(norm="caffe", **settings),
    "ZFNet": ZFNet,
    "VGGCNNM1024": VGGCNNM1024,
}
GOLDEN = {name: case for name, case in load("caffe_layers.npz").items() if case.op in NETWORKS}
# Levels, by network, of 98 x 131 pixels without the padding of detectors.
PUBLISHED = {
    "AlexNet": {"C2": (22, 31), "C3": (11, 15), "C4": (5, 7), "C5": (2, 3)},
    "ZFNet": {"C2": (25, 34), "C3": (13, 17), "C4": (7, 9), "C5": (4, 5)},
    "VGGCNNM1024": {"C2": (23, 31), "C3": (11, 15), "C4": (5, 7), "C5": (2, 3)},
}
MAKERS = list(NETWORKS.values())


def array(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


@pytest.fixture(scope="module")
def networks():
    """{name: network with weights from its layers' names, as published}."""
    made = {name: make(padding="published") for name, make in NETWORKS.items()}
    for model in made.values():
        drawn.fill(model.layers)
    return made


@pytest.mark.parametrize("name", GOLDEN)
def test_outputs_are_caffes(name, networks):
    case = GOLDEN[name]
    size = case.options["height"], case.options["width"]
    images = drawn.images(case.op, *size, reach=128.0)
    found = array(networks[case.op](images)[case.options["level"]])[..., :: drawn.CHANNEL_STEP]
    assert found.shape == case.output.shape
    np.testing.assert_allclose(found, case.output, rtol=0, atol=1e-5 * case.output.max())


def test_weights_are_caffes():
    # 2.3 million below fc6, and the published shapes of two towers.
    model = AlexNet()
    shapes = {w.path: tuple(w.shape) for w in model.weights if w.name == "kernel"}
    assert shapes == {
        "conv1/kernel": (11, 11, 3, 96),
        "conv2/kernel": (5, 5, 48, 256),
        "conv3/kernel": (3, 3, 256, 384),
        "conv4/kernel": (3, 3, 192, 384),
        "conv5/kernel": (3, 3, 192, 256),
    }
    assert parameters(model) == 2_334_080
    assert [layer.name for layer in model.layers] == [
        *("images", "conv1", "norm1", "pool1", "conv2", "norm2", "pool2"),
        *("conv3", "conv4", "conv5", "pool5"),
    ]


def test_classifier_of_one_tower_has_torchvisions_weights(monkeypatch):
    cheap_weights(monkeypatch)
    model = ImageClassifier(AlexNet(towers=1, norm=None, padding="published"))
    assert parameters(model) == 61_100_840
    assert not any("norm" in layer.name for layer in model.backbone.layers)


@pytest.mark.parametrize(
    ("make", "units", "inputs"),
    [(AlexNet, 4096, 9216), (ZFNet, 4096, 9216), (VGGCNNM1024, 1024, 18432)],
)
def test_dense_layers_of_the_classifier(make, units, inputs, monkeypatch):
    cheap_weights(monkeypatch)
    model = ImageClassifier(make(), num_classes=2)
    shapes = [tuple(w.shape) for w in model.head[0].weights if w.name == "kernel"]
    assert shapes == [(inputs, 4096), (4096, units)]
    assert model.head[0].dropout == 0.5


def test_normalisations_have_the_published_constants():
    def constants(model):
        config = model.get_layer("norm2").get_config()
        return tuple(config[name] for name in ("size", "alpha", "beta", "k", "within_channel"))

    # The paper's alpha, 1e-4, weighs the sum of five squares.
    assert constants(AlexNet()) == constants(VGGCNNM1024()) == (5, 5e-4, 0.75, 2.0, False)
    assert constants(AlexNet(norm="caffe")) == (5, 1e-4, 0.75, 1.0, False)
    assert constants(ZFNet()) == (3, 5e-5, 0.75, 1.0, True)


@pytest.mark.parametrize("make", MAKERS)
def test_detectors_have_maps_that_lie_on_their_pixels(make):
    model = make()
    image = keras.KerasTensor((1, 98, 131, 3))
    sizes = {level: x.shape[1:3] for level, x in model.compute_output_spec(image).items()}
    assert sizes == {"C2": (25, 33), "C3": (13, 17), "C4": (7, 9), "C5": (4, 5)}
    assert model.strides == {"C2": 4, "C3": 8, "C4": 16, "C5": 32}
    # A spot at the pixel (16 i, 16 j) moves the cell (i, j) of C4 most, and as much to both sides.
    drawn.fill(model.layers)
    for layer in model.layers:
        if layer.name.startswith("conv"):
            layer.kernel.assign(np.ones(layer.kernel.shape) / layer.kernel.shape[2])
            layer.bias.assign(np.zeros(layer.bias.shape))
    images = np.zeros((1, 97, 129, 3), "float32")
    images[0, 48, 64] = 1.0
    found = array(model(images)["C4"])[0, ..., 0]
    assert found.shape == (7, 9)
    assert np.unravel_index(found.argmax(), found.shape) == (3, 4)
    np.testing.assert_allclose(found, found[::-1, ::-1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_with_the_published_padding(name, networks):
    outputs = networks[name].compute_output_spec(keras.KerasTensor((1, 98, 131, 3)))
    assert {level: x.shape[1:3] for level, x in outputs.items()} == PUBLISHED[name]


def test_published_images_give_fc6_its_cells(networks):
    cells = {"AlexNet": (227, 6), "VGGCNNM1024": (224, 6)}
    for name, (side, expected) in cells.items():
        spec = networks[name].compute_output_spec(keras.KerasTensor((1, side, side, 3)))
        assert spec["C5"].shape[1:3] == (expected, expected)
    one_tower = AlexNet(towers=1, norm=None, padding="published")
    spec = one_tower.compute_output_spec(keras.KerasTensor((1, 224, 224, 3)))
    assert [x.shape[1] for x in spec.values()] == [55, 27, 13, 6]


@pytest.mark.parametrize("make", MAKERS)
def test_levels_choose_outputs_and_leave_out_later_layers(make):
    model = make(levels=("C4", "C3"))
    assert list(model.output) == ["C4", "C3"]
    assert model.layers[-1].name == "conv5"
    last = {"AlexNet": "norm1", "ZFNet": "pool1", "VGGCNNM1024": "pool1"}
    assert make(levels=("C2",)).layers[-1].name == last[type(model).__name__]
    with pytest.raises(ValueError, match="levels must be among"):
        make(levels=("C1",))


@pytest.mark.parametrize("make", MAKERS)
def test_copies_of_other_levels_have_the_same_weights(make):
    model = make(freeze_at="C2")
    trained = {w.path for w in model.trainable_weights}
    assert "conv1/kernel" not in trained
    assert "conv3/kernel" in trained
    images = np.random.default_rng(0).normal(size=(1, 64, 70, 3)).astype("float32")
    part = model.with_levels(("C3",))
    assert part.freeze_at == "C2"
    np.testing.assert_array_equal(part(images)["C3"], model(images)["C3"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: AlexNet(
            1, None, "published", ("C3",), (1, 2, 3), (4, 5, 6), dtype="mixed_bfloat16"
        ),
        lambda: ZFNet("published", ("C3", "C2"), name="other"),
        lambda: VGGCNNM1024(levels=("C2",), mean=(9.0,) * 4, std=(2.0,) * 4),
    ],
)
def test_saved_file_gives_equal_outputs(make, tmp_path):
    model = make()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    assert (loaded.padding, loaded.mean) == (model.padding, model.mean)
    images = np.random.default_rng(0).normal(size=(1, 70, 65, len(model.mean))).astype("float32")
    for level, value in model(images).items():
        np.testing.assert_array_equal(array(loaded(images)[level]), array(value))
        assert array(value).max() > 0


def test_arguments_survive_the_config():
    settings = {"towers": 1, "norm": None, "padding": "published"}
    config = AlexNet(levels=("C2",), **settings).get_config()
    assert config | settings == config
    assert AlexNet(levels=("C2",)).get_config()["norm"] == "paper"


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (AlexNet, {"towers": 3}, "towers is 3; give one of 1, 2"),
        (AlexNet, {"norm": "batch"}, "norm is 'batch'; give one of 'paper', 'caffe', None"),
        (AlexNet, {"padding": "valid"}, "padding is 'valid'; give one of 'same', 'published'"),
        (ZFNet, {"padding": None}, "padding is None"),
    ],
)
def test_wrong_arguments_are_refused(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


@pytest.mark.parametrize("make", [AlexNet, VGGCNNM1024])
def test_trained_classifier_splits_into_backbone_and_head(make, tmp_path, monkeypatch):
    monkeypatch.setattr("kerasdet.backbones.alexnet.FiveConvs.UNITS", (8, 6))
    monkeypatch.setattr("kerasdet.backbones.alexnet.VGGCNNM1024.UNITS", (8, 6))
    classifier = ImageClassifier(make(), num_classes=3)
    classifier.save(tmp_path / "model.keras")
    shared, layer = make.split_preset(tmp_path / "model.keras")
    assert shared.levels == ("C4",)
    for ours, theirs in zip(shared.weights, classifier.backbone.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert type(layer) is DenseHead
    assert layer.units == (8, 6)
    assert layer.drop.rate == 0.5
    for ours, theirs in zip(layer.weights, classifier.head[0].weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # A region of 6 x 6 cells: as the whole image's C5 would be.
    cells = np.random.default_rng(0).normal(size=(2, 6, 6, shared.channels["C4"])).astype("float32")
    np.testing.assert_allclose(
        layer(cells[:, None])[:, 0], classifier.head[0](cells)[:, 0, 0], rtol=1e-5
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("make", MAKERS)
def test_mixed_precision_is_near_and_keeps_float32_weights(make, policy):
    model, exact = (make(levels=("C3",), dtype=dtype) for dtype in (policy, "float32"))
    for part in (model, exact):
        drawn.fill(part.layers)
    images = drawn.images("precision", 66, 80, reach=128.0)
    for training in (True, False):
        value = model(images, training=training)["C3"]
        assert keras.backend.standardize_dtype(value.dtype) == policy.removeprefix("mixed_")
        expected = array(exact(images)["C3"])
        assert np.abs(array(value) - expected).max() < 0.05 * expected.max()
    assert {w.dtype for w in model.weights} == {"float32"}
