import keras
import numpy as np
import pytest
from keras import ops

from kerasdet.backbones import VGG16, ImageClassifier, MobileNetV2
from kerasdet.backbones.dense_layers import ImageHead
from kerasdet.layers import DenseHead

# vgg table 1, column D; the numbers are torchvision's.
LAYERS = """images features_0 features_2 pool1 features_5 features_7 pool2 features_10 features_12
features_14 pool3 features_17 features_19 features_21 pool4 features_24 features_26 features_28
pool5"""


def array(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def head(kind=DenseHead, units=5, **settings):
    """A small head on two channels with weights that show when one is left out."""
    layer = kind(units=(units, units), **settings)
    layer.build((None, None, 7, 7, 2))
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def dense_twice(layer, flat):
    for dense in layer.dense_layers:
        flat = np.maximum(flat @ array(dense.kernel) + array(dense.bias), 0)
    return flat


@pytest.fixture(scope="module")
def backbone():
    return VGG16()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(1, 65, 98, 3)).astype("float32")


def test_layers_and_weights_are_torchvisions(backbone):
    assert [layer.name for layer in backbone.layers] == LAYERS.split()
    assert sum(np.prod(w.shape) for w in backbone.trainable_weights) == 14_714_688
    shapes = {w.path: tuple(w.shape) for w in backbone.weights}
    assert len(shapes) == 26
    assert shapes["features_0/kernel"] == (3, 3, 3, 64)
    assert shapes["features_17/kernel"] == (3, 3, 256, 512)
    assert shapes["features_28/bias"] == (512,)


def test_classifier_has_torchvisions_weights(monkeypatch):
    # Drawing 138 million numbers would take most of the time.
    zeros = keras.initializers.Zeros()
    monkeypatch.setattr(
        keras.initializers.HeUniform, "__call__", lambda _, shape, dtype: zeros(shape, dtype)
    )
    model = ImageClassifier(VGG16())
    model.build()
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == 138_357_544
    shapes = [(w.path.split("/", 1)[1], w.shape[0]) for w in model.weights[26::2]]
    assert shapes == [("head/fc6/kernel", 25088), ("head/fc7/kernel", 4096), ("fc/kernel", 4096)]
    bias = np.arange(1000, dtype="float32")
    model.fc.bias.assign(bias)  # the only weight that is not zero
    logits = array(model(np.full((2, 33, 40, 3), 255, "uint8")))
    np.testing.assert_array_equal(logits, [bias, bias])


def test_sizes_of_levels(backbone):
    assert backbone.strides == {"C2": 4, "C3": 8, "C4": 16, "C5": 32}
    assert backbone.channels == {"C2": 256, "C3": 512, "C4": 512, "C5": 512}
    image = keras.KerasTensor((1, 300, 65, 3))
    shapes = {level: x.shape for level, x in backbone.compute_output_spec(image).items()}
    sizes = {"C2": (75, 16), "C3": (37, 8), "C4": (18, 4), "C5": (9, 2)}
    assert shapes == {level: (1, *size, backbone.channels[level]) for level, size in sizes.items()}
    outputs = VGG16(ceil_pools=True).compute_output_spec(image)
    sizes = [x.shape[1:3] for x in outputs.values()]
    assert sizes == [(75, 17), (38, 9), (19, 5), (10, 3)]  # 38 and 19 are SSD300's


def test_levels_are_relus_and_the_last_is_pooled(backbone, images):
    outputs = {level: array(x) for level, x in backbone(images).items()}
    for value in outputs.values():
        assert value.min() == 0
        assert value.max() > 0
    blocks = outputs["C4"].reshape(1, 2, 2, 3, 2, 512)  # of 65 x 98 pixels
    np.testing.assert_array_equal(outputs["C5"], blocks.max(axis=(2, 4)))


def test_poolings_drop_or_keep_the_last_odd_cells():
    x = np.arange(15, dtype="float32").reshape(1, 3, 5, 1)
    dropped = array(VGG16(("C2",)).get_layer("pool1")(x))
    np.testing.assert_array_equal(dropped[0, ..., 0], [[6, 8]])
    kept = array(VGG16(("C2",), ceil_pools=True).get_layer("pool1")(-x - 1))
    # Padding must not win over negative values.
    np.testing.assert_array_equal(kept[0, ..., 0], [[-1, -3, -5], [-11, -13, -15]])


def test_levels_choose_outputs_and_leave_out_later_stages():
    model = VGG16(("C4", "C2"))
    assert list(model.output) == ["C4", "C2"]
    assert [layer.name for layer in model.layers] == LAYERS.split()[:-1]
    assert VGG16(("C2",)).layers[-1].name == "features_14"
    with pytest.raises(ValueError, match="levels must be among"):
        VGG16(levels=("C1", "C4"))


def test_frozen_as_fast_rcnn_freezes():
    model = VGG16(("C4",), freeze_at="C1")
    trained = [w.path for w in model.trainable_weights if w.name == "kernel"]
    assert trained == [f"features_{n}/kernel" for n in (10, 12, 14, 17, 19, 21, 24, 26, 28)]


def test_kernel_of_pytorchs_weight():
    # PyTorch's fc6 reads regions as C, H, W.
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(5, 2 * 7 * 7)).astype("float32")
    layer = head()
    fc6 = layer.dense_layers[0]
    fc6.kernel.assign(weight.reshape(5, 2, 7, 7).transpose(2, 3, 1, 0).reshape(98, 5))
    region = rng.normal(size=(7, 7, 2)).astype("float32")
    ours = array(fc6(region.reshape(1, 98)))[0]
    theirs = weight @ region.transpose(2, 0, 1).reshape(98) + array(fc6.bias)
    np.testing.assert_allclose(ours, np.maximum(theirs, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(7, 7), (3, 10), (14, 8)])
def test_image_is_averaged_over_7x7_bins(size):
    layer = head(ImageHead, cells=7, dropout=0.0)
    x = np.random.default_rng(1).normal(size=(2, *size, 2)).astype("float32")
    (height, width), bins = size, np.zeros((2, 7, 7, 2), "float32")
    for i in range(7):
        for j in range(7):
            rows = slice(i * height // 7, int(np.ceil((i + 1) * height / 7)))
            columns = slice(j * width // 7, int(np.ceil((j + 1) * width / 7)))
            bins[:, i, j] = x[:, rows, columns].mean(axis=(1, 2))
    expected = dense_twice(layer, bins.reshape(2, 98))
    outputs = array(layer(x))
    assert outputs.shape == layer.compute_output_shape(x.shape) == (2, 1, 1, 5)
    np.testing.assert_allclose(outputs[:, 0, 0], expected, rtol=1e-4, atol=1e-4)


def test_saved_file_gives_equal_outputs(tmp_path, images):
    settings = {"mean": (122.99925, 116.9991, 103.9992), "std": (1, 1, 1), "name": "backbone"}
    model = VGG16(("C2",), ceil_pools=True, dtype="mixed_bfloat16", **settings)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    assert (loaded.mean, loaded.ceil_pools) == (settings["mean"], True)
    np.testing.assert_array_equal(array(loaded(images)["C2"]), array(model(images)["C2"]))


def test_trained_classifier_splits_into_backbone_and_head(tmp_path, monkeypatch):
    monkeypatch.setattr("kerasdet.backbones.vgg.HEAD", {"units": (8, 8), "dropout": 0.5})
    classifier = ImageClassifier(VGG16(), num_classes=3)
    classifier.build()
    classifier.save(tmp_path / "model.keras")
    shared, layer = VGG16.split_preset(tmp_path / "model.keras", freeze_at="C1")
    assert shared.levels == ("C4",)
    assert shared.layers[-1].name == "features_28"
    assert len(shared.trainable_weights) == 18
    for ours, theirs in zip(shared.weights, classifier.backbone.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert type(layer) is DenseHead
    assert layer.drop.rate == 0.5
    for ours, theirs in zip(layer.weights, classifier.head[0].weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_cannot_be_split_is_refused(tmp_path):
    ImageClassifier(MobileNetV2(), num_classes=3).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="MobileNetV2 has no part for each region"):
        MobileNetV2.split_preset(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="is a MobileNetV2, not a VGG16"):
        VGG16.split_preset(tmp_path / "model.keras")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_finite_and_keeps_float32_weights(policy):
    model = VGG16(("C2",), dtype=policy)
    layer = head(dtype=policy)
    x = np.random.default_rng(1).normal(size=(1, 33, 40, 3)).astype("float32")
    features = model(x, training=True)["C2"]
    outputs = layer(np.ones((1, 2, 7, 7, 2), "float32"), training=True)
    for value in (features, outputs):
        assert keras.backend.standardize_dtype(value.dtype) == policy.removeprefix("mixed_")
        assert np.isfinite(array(value)).all()
    assert {w.dtype for w in (*model.weights, *layer.weights)} == {"float32"}
