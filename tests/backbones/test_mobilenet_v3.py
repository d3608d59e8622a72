import keras
import numpy as np
import pytest
from keras import ops

from kerasdet.backbones import ImageClassifier, MobileNetV3Large
from kerasdet.backbones.mobilenet_v3 import squeeze_excitation
from kerasdet.layers.conv import ConvNorm

BLOCKS = range(1, 16)
LEVELS = ("C2", "C3", "C4", "C5_first", "C5")


def array(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def randomize(model, seed=0):
    """Give every weight a value of its own, so that a swapped or forgotten one shows."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def parameters(model):
    return sum(np.prod(w.shape) for w in model.trainable_weights)


def hard_sigmoid(x):
    return np.clip(x + 3, 0, 6) / 6


@pytest.fixture(scope="module")
def backbone():
    return randomize(MobileNetV3Large(LEVELS))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 97, 130, 3)).astype("float32")


def test_classifier_has_torchvisions_weights(backbone):
    model = ImageClassifier(backbone)
    model.build()
    assert parameters(model) == 5_483_032
    assert len(model.weights) == 266  # 312 in the state dict, less 46 counters
    assert sum(np.prod(w.shape) for w in model.weights) == 5_507_432
    assert parameters(backbone) == 2_971_952
    shapes = {w.path.split("/", 1)[1]: tuple(w.shape) for w in model.weights[-4::2]}
    assert shapes == {"last_dense/kernel": (960, 1280), "fc/kernel": (1280, 1000)}


def test_reduced_tail_is_ssdlites():
    model = MobileNetV3Large(LEVELS, reduced_tail=True)
    assert parameters(model) == 1_620_512  # of its state dict: backbone.features
    assert model.channels == {"C2": 24, "C3": 40, "C4": 112, "C5_first": 80, "C5": 480}
    widths = [model.get_layer(f"block{n}_expand").filters for n in (12, 13, 14, 15)]
    assert widths == [672, 672, 480, 480]
    assert [model.get_layer(f"block{n}_squeeze").filters for n in (13, 14)] == [168, 120]
    assert model.get_layer("block13_expand").output.shape == (None, None, None, 672)
    (dense,) = model.classifier_layers()
    assert dense.units == 640


def test_levels_have_ceil_sizes_on_odd_images(backbone, images):
    assert backbone.strides == {"C2": 4, "C3": 8, "C4": 16, "C5_first": 32, "C5": 32}
    assert backbone.channels == {"C2": 24, "C3": 40, "C4": 112, "C5_first": 160, "C5": 960}
    outputs = backbone(images)
    assert list(outputs) == list(LEVELS)
    sizes = {"C2": (25, 33), "C3": (13, 17), "C4": (7, 9), "C5_first": (4, 5), "C5": (4, 5)}
    for level, size in sizes.items():
        assert outputs[level].shape == (2, *size, backbone.channels[level])


def test_levels_are_the_last_maps_of_their_stride(backbone):
    layers = [x._keras_history.operation.name for x in backbone.output.values()]
    assert layers == ["block3_add", "block6_add", "block12_add", "block13_project", "last_conv"]


def test_levels_choose_outputs_and_leave_out_later_stages(backbone, images):
    part = MobileNetV3Large(("C4", "C2"))
    assert part.layers[-1].name == "block12_add"
    for ours, theirs in zip(part.weights, backbone.weights):
        assert ours.path == theirs.path
        ours.assign(theirs)
    ours, theirs = part(images), backbone(images)
    assert list(ours) == ["C4", "C2"]
    for level, value in ours.items():
        np.testing.assert_array_equal(array(value), array(theirs[level]))
    assert MobileNetV3Large(("C5_first",)).layers[-1].name == "block13_project"
    with pytest.raises(ValueError, match="levels must be among"):
        MobileNetV3Large(levels=("C3", "C6_first"))


def test_blocks_are_table_1(backbone):
    depthwise = [backbone.get_layer(f"block{n}_depthwise") for n in BLOCKS]
    assert [n for n, layer in zip(BLOCKS, depthwise) if layer.stride == 2] == [2, 4, 7, 13]
    large = [n for n, layer in zip(BLOCKS, depthwise) if layer.kernel_size == 5]
    assert large == [4, 5, 6, 13, 14, 15]
    widths = [layer.filters for layer in depthwise]
    assert widths == [16, 64, 72, 72, 120, 120, 240, 200, 184, 184, 480, 672, 672, 960, 960]
    projected = [backbone.get_layer(f"block{n}_project").filters for n in BLOCKS]
    assert projected == [16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160]
    names = {layer.name for layer in backbone.layers}
    assert [n for n in BLOCKS if f"block{n}_expand" not in names] == [1]
    assert [n for n in BLOCKS if f"block{n}_scale" in names] == [4, 5, 6, 11, 12, 13, 14, 15]
    assert [n for n in BLOCKS if f"block{n}_add" in names] == [1, 3, 5, 6, 8, 9, 10, 12, 14, 15]
    # Rounded quarters: 72 / 4 = 18 would lose more than a tenth at 16.
    squeezed = [backbone.get_layer(f"block{n}_squeeze").filters for n in (4, 5, 11, 12, 14)]
    assert squeezed == [24, 32, 120, 168, 240]


def test_activations_are_table_1_and_norms_torchvisions(backbone):
    convs = [layer for layer in backbone.layers if isinstance(layer, ConvNorm)]
    assert len(convs) == 46
    assert {layer.norm.epsilon for layer in convs} == {1e-3}
    kinds = {layer.name: keras.activations.serialize(layer.activation) for layer in convs}
    for n in BLOCKS:
        kind = "relu" if n <= 6 else "hard_silu"
        assert kinds.pop(f"block{n}_depthwise") == kind
        assert kinds.pop(f"block{n}_expand", kind) == kind
        assert kinds.pop(f"block{n}_project") == "linear"
    assert kinds == {"stem": "hard_silu", "last_conv": "hard_silu"}


def test_squeeze_excitation_equals_numpy():
    inputs = keras.Input((None, None, 64))
    model = keras.Model(inputs, squeeze_excitation(inputs, "block"))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    layers = [w.path.split("/")[0] for w in model.weights]
    assert layers == ["block_squeeze", "block_squeeze", "block_excite", "block_excite"]
    x = rng.normal(0.3, 1.0, size=(2, 4, 5, 64)).astype("float32")
    w1, b1, w2, b2 = (array(w) for w in model.weights)
    hidden = np.maximum(x.mean(axis=(1, 2)) @ w1[0, 0] + b1, 0)
    gate = hard_sigmoid(hidden @ w2[0, 0] + b2)
    assert (gate == 0).any()
    assert ((gate > 0) & (gate < 1)).any()
    np.testing.assert_allclose(array(model(x)), x * gate[:, None, None], rtol=1e-4, atol=1e-4)


def test_classifier_is_pool_dense_hard_swish_dense(backbone):
    model = ImageClassifier(backbone, num_classes=3, dropout=0.2)
    model.build()
    (dense,) = model.head
    images = np.random.default_rng(1).integers(0, 256, (2, 40, 50, 3)).astype("uint8")
    features = array(backbone(backbone.normalize(images))["C5"]).mean(axis=(1, 2))
    hidden = features @ array(dense.kernel) + array(dense.bias)
    expected = (hidden * hard_sigmoid(hidden)) @ array(model.fc.kernel)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(array(model(images)), expected, rtol=1e-3, atol=1e-3)


def test_saved_classifier_gives_equal_outputs(tmp_path):
    model = ImageClassifier(randomize(MobileNetV3Large(reduced_tail=True)), num_classes=7)
    model.build()
    images = np.random.default_rng(1).integers(0, 256, (1, 40, 50, 3)).astype("uint8")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    logits = array(model(images))
    assert np.ptp(logits) > 0
    np.testing.assert_array_equal(array(loaded(images)), logits)


def test_config_keeps_every_argument():
    settings = {"reduced_tail": True, "norm_epsilon": 1e-5, "dtype": "mixed_bfloat16"}
    model = MobileNetV3Large(("C5_first", "C5"), [1] * 4, [2] * 4, **settings, freeze_at="C4")
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert type(loaded) is MobileNetV3Large
    assert loaded.get_config() == model.get_config()
    assert (loaded.levels, loaded.reduced_tail) == (("C5_first", "C5"), True)
    assert loaded.get_layer("stem").kernel.shape == (3, 3, 4, 16)
    assert {layer.norm.epsilon for layer in loaded.layers if isinstance(layer, ConvNorm)} == {1e-5}


def test_frozen_as_torchvisions_detectors_freeze():
    # torchvision's three trainable stages of six are features.7 and above.
    model = MobileNetV3Large(("C5_first", "C5"), freeze_at="C3")
    trained = {w.path.split("_")[0].split("/")[0] for w in model.trainable_weights}
    assert trained == {*(f"block{n}" for n in range(7, 16)), "last"}


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_finite_and_keeps_float32_weights(policy):
    model = MobileNetV3Large(dtype=policy)
    (dense,) = model.classifier_layers()
    dense.build((None, None, None, 960))
    x = np.random.default_rng(1).normal(size=(1, 64, 64, 3)).astype("float32")
    for training in (True, False):
        outputs = model(x, training=training)
        for value in (*outputs.values(), dense(outputs["C5"], training=training)):
            assert keras.backend.standardize_dtype(value.dtype) == policy.removeprefix("mixed_")
            assert np.isfinite(array(value)).all()
    assert {w.dtype for w in (*model.weights, *dense.weights)} == {"float32"}
