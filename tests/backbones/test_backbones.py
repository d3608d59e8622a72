import json
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from kerasdet import backbones
from kerasdet.backbones import ImageClassifier, MobileNetV2, ResNet, ResNetHead, residual_stage
from kerasdet.backbones.mobilenet_v2 import round_channels

FACTS = Path(__file__).resolve().parents[2] / "../shared/facts/state_dicts/backbones"
# Name, torchvision's name, parameters of its classifier without the batch norms' moving statistics.
ZOO = [
    ("ResNet18", "resnet18", 11_689_512),
    ("ResNet34", "resnet34", 21_797_672),
    ("ResNet50", "resnet50", 25_557_032),
    ("ResNet101", "resnet101", 44_549_160),
    ("ResNet152", "resnet152", 60_192_808),
    ("ResNeXt50", "resnext50_32x4d", 25_028_904),
    ("ResNeXt101", "resnext101_32x8d", 88_791_336),
    ("MobileNetV2", "mobilenet_v2", 3_504_872),
]


def tiny(**kwargs):
    """A backbone of every kind of part, quick to run."""
    return ResNet((1, 1, 1, 1), groups=2, group_width=4, **kwargs)


def arrays(outputs):
    return {name: ops.convert_to_numpy(ops.cast(x, "float32")) for name, x in outputs.items()}


def randomize(model, seed=0):
    """Give every weight a value of its own, so that a swapped or forgotten one shows."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


@pytest.fixture(scope="module")
def mobilenet():
    return randomize(MobileNetV2())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 97, 130, 3)).astype("float32")


@pytest.mark.parametrize(("name", "torch_name", "parameters"), ZOO)
def test_classifier_has_torchvisions_weights(name, torch_name, parameters, monkeypatch):
    # Drawing up to 89 million normal numbers would take most of the time.
    zeros = keras.initializers.Zeros()
    monkeypatch.setattr(
        keras.initializers.RandomNormal, "__call__", lambda _, shape, dtype: zeros(shape, dtype)
    )
    model = ImageClassifier(getattr(backbones, name)())
    model.build()
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == parameters
    if not FACTS.is_dir():
        return
    facts = json.loads((FACTS / f"{torch_name}.json").read_text())["state_dict"]
    theirs = Counter(
        _to_keras(shape) for key, shape in facts.items() if not key.endswith("num_batches_tracked")
    )
    assert Counter(tuple(w.shape) for w in model.weights) == theirs


def _to_keras(shape):
    """Shape of a PyTorch weight: OIHW to HWIO, dense output x input to input x output."""
    if len(shape) == 4:
        return (*shape[2:], shape[1], shape[0])
    return tuple(reversed(shape))


@pytest.mark.parametrize("make", [tiny, MobileNetV2])
def test_levels_have_ceil_sizes_on_odd_images(make, images):
    model = make()
    assert model.strides == {"C2": 4, "C3": 8, "C4": 16, "C5": 32}
    outputs = model(images)
    assert list(outputs) == ["C2", "C3", "C4", "C5"]
    sizes = {"C2": (25, 33), "C3": (13, 17), "C4": (7, 9), "C5": (4, 5)}
    for level, (height, width) in sizes.items():
        assert outputs[level].shape == (2, height, width, model.channels[level])


def test_channels():
    assert MobileNetV2().channels == {"C2": 24, "C3": 32, "C4": 96, "C5": 320}
    assert tiny().channels == {"C2": 256, "C3": 512, "C4": 1024, "C5": 2048}
    assert backbones.ResNet18().channels == {"C2": 64, "C3": 128, "C4": 256, "C5": 512}


def test_levels_choose_outputs_and_leave_out_later_stages(images):
    full, part = randomize(tiny()), tiny(levels=("C4", "C2"))
    assert not [layer for layer in part.layers if layer.name.startswith("layer4")]
    head = [w for w in full.weights if w.path.startswith("layer4")]
    for ours, theirs in zip(part.weights, full.weights[: -len(head)], strict=True):
        assert ours.path == theirs.path
        ours.assign(theirs)
    ours, theirs = arrays(part(images)), arrays(full(images))
    assert list(ours) == ["C4", "C2"]
    for level, value in ours.items():
        np.testing.assert_array_equal(value, theirs[level])


def test_stage_five_serves_as_a_head(images):
    full = randomize(tiny())
    regions = keras.Input((None, None, 1024))
    head = keras.Model(regions, residual_stage(regions, 5, 1, groups=2, group_width=4))
    head_weights = [w for w in full.weights if w.path.startswith("layer4")]
    for ours, theirs in zip(head.weights, head_weights, strict=True):
        assert ours.path == theirs.path
        ours.assign(theirs)
    outputs = full(images)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(head(outputs["C4"])), ops.convert_to_numpy(outputs["C5"])
    )


@pytest.mark.parametrize("levels", [(), ("C1",), ("C3", "P6")])
def test_unknown_levels_are_refused(levels):
    with pytest.raises(ValueError, match="levels must be among"):
        MobileNetV2(levels=levels)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny(
            levels=("C3", "C5"), norm_epsilon=1e-3, dtype="mixed_bfloat16", name="backbone"
        ),
        lambda: ResNet((1, 1), bottleneck=False, levels=("C2", "C3"), mean=[1] * 4, std=[2] * 4),
        lambda: MobileNetV2(alpha=0.35, mean=(127.5,) * 3, std=(127.5,) * 3),
    ],
)
def test_saved_file_gives_equal_outputs(make, tmp_path):
    model = randomize(make())
    x = np.random.default_rng(1).normal(size=(1, 64, 75, len(model.mean))).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    assert (loaded.mean, loaded.std, loaded.strides) == (model.mean, model.std, model.strides)
    expected = arrays(model(x))
    assert expected
    for level, value in arrays(loaded(x)).items():
        np.testing.assert_array_equal(value, expected[level])


def test_saved_classifier_gives_equal_outputs(tmp_path, mobilenet):
    model = ImageClassifier(mobilenet, num_classes=7, dropout=0.2)
    model.build()
    random_images = np.random.default_rng(1).integers(0, 256, (2, 40, 50, 3)).astype("uint8")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    logits = ops.convert_to_numpy(model(random_images))
    assert logits.shape == (2, 7)
    assert np.ptp(logits) > 0
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(random_images)), logits)


def test_classifier_is_pool_and_dense_on_normalised_images():
    model = ImageClassifier(tiny(mean=(10, 20, 30), std=(2, 4, 5)), num_classes=3)
    model.build()
    random_images = np.random.default_rng(1).integers(0, 256, (1, 33, 40, 3)).astype("uint8")
    normal = ((random_images - np.array([10, 20, 30])) / np.array([2, 4, 5])).astype("float32")
    features = arrays(model.backbone(normal))["C5"].mean(axis=(1, 2))
    expected = features @ ops.convert_to_numpy(model.fc.kernel)
    np.testing.assert_allclose(ops.convert_to_numpy(model(random_images)), expected, rtol=1e-4)


def test_classifier_needs_c5():
    with pytest.raises(ValueError, match="must contain 'C5'"):
        ImageClassifier(tiny(levels=("C4",)))


@pytest.mark.parametrize("make", [tiny, MobileNetV2])
def test_training_moves_statistics_and_frozen_models_do_not(make):
    keras.utils.set_random_seed(0)
    model = make()
    x = np.random.default_rng(1).normal(2.0, 1.0, size=(2, 64, 64, 3)).astype("float32")
    moving = [w for w in model.weights if w.name.startswith("moving")]
    assert len(moving) == 2 * len([w for w in model.weights if w.name == "kernel"])
    before = [ops.convert_to_numpy(w) for w in moving]
    model(x, training=False)
    model.trainable = False
    model(x, training=True)
    for weight, value in zip(moving, before):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)
    model.trainable = True
    model(x, training=True)
    for weight, value in zip(moving, before):
        changed = ops.convert_to_numpy(weight) != value
        # Some means are zero by construction: a linear map of what was just normalised.
        assert changed.any() if weight.name == "moving_mean" else changed.all(), weight.path


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_finite_and_keeps_float32_weights(policy):
    model = MobileNetV2(alpha=0.35, dtype=policy)
    x = np.random.default_rng(1).normal(size=(1, 64, 64, 3)).astype("float32")
    for training in (True, False):
        for value in model(x, training=training).values():
            assert keras.backend.standardize_dtype(value.dtype) == policy.removeprefix("mixed_")
            assert np.isfinite(ops.convert_to_numpy(ops.cast(value, "float32"))).all()
    assert {w.dtype for w in model.weights} == {"float32"}


def test_global_policy_reaches_every_layer():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = MobileNetV2(alpha=0.35)
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = model(np.zeros((1, 32, 32, 3), "float32"))
    assert {keras.backend.standardize_dtype(x.dtype) for x in outputs.values()} == {"bfloat16"}


def test_residual_connections_where_shapes_agree(mobilenet):
    adds = {layer.name for layer in mobilenet.layers if layer.name.endswith("_add")}
    # mobilenet_v2 table 2: every repetition but the first of each row.
    numbers = (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)
    assert adds == {f"block{number}_add" for number in numbers}
    strides = [mobilenet.get_layer(f"block{n}_depthwise").stride for n in range(1, 18)]
    assert [n for n, stride in enumerate(strides, 1) if stride == 2] == [2, 4, 7, 14]


def test_the_shortcut_is_added_before_the_relu():
    # An identity shortcut, and a branch whose last normalisation gives -3 everywhere.
    inputs = keras.Input((None, None, 64))
    model = keras.Model(inputs, residual_stage(inputs, 2, 1, bottleneck=False))
    branch = model.get_layer("layer1_0_conv2")
    branch.norm.gamma.assign(np.zeros(64))
    branch.norm.beta.assign(np.full(64, -3.0))
    x = np.full((1, 2, 2, 64), 5.0, "float32")
    x[..., 0] = 1.0
    expected = np.full((1, 2, 2, 64), 2.0)
    expected[..., 0] = 0.0
    np.testing.assert_allclose(model(x), expected, rtol=1e-6)


def test_bottlenecks_stride_in_the_middle():
    model = tiny()
    strides = [model.get_layer(f"layer2_0_conv{i}").stride for i in (1, 2, 3)]
    assert strides == [1, 2, 1]
    assert model.get_layer("layer2_0_downsample").stride == 2
    assert model.get_layer("layer1_0_downsample").stride == 1


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [(32, 32), (11.2, 16), (8.4, 8), (19, 24), (33.6, 32), (3, 8), (44, 48)],
)
def test_round_channels(channels, rounded):
    assert round_channels(channels) == rounded


def test_trained_classifier_splits_into_backbone_and_fifth_stage(tmp_path, images):
    classifier = ImageClassifier(tiny(), num_classes=3)
    classifier.build()
    randomize(classifier)
    classifier.save(tmp_path / "model.keras")
    backbone, head = ResNet.split_preset(tmp_path / "model.keras", freeze_at="C2")
    assert backbone.levels == ("C4",)
    maps = backbone(images)["C4"]
    # A whole map as its only region: the split model is the whole one.
    features = head(maps[:, None])
    whole = classifier.backbone(images)["C5"]
    np.testing.assert_allclose(features[:, 0], ops.mean(whole, axis=(1, 2)), rtol=1e-4, atol=1e-5)
    assert features.shape == head.compute_output_shape((2, 1, *maps.shape[1:]))
    names = {weight.path.rsplit("/", 1)[1] for weight in head.trainable_weights}
    assert names == {"kernel"}
    assert any("layer1" in weight.path for weight in classifier.backbone.trainable_weights)
    assert not any("layer1" in weight.path for weight in backbone.trainable_weights)


def test_preset_with_fewer_levels_keeps_the_weights_of_its_layers(tmp_path, images):
    classifier = ImageClassifier(tiny(), num_classes=3)
    classifier.build()
    randomize(classifier)
    classifier.save(tmp_path / "model.keras")
    backbone = ResNet.from_preset(tmp_path / "model.keras", levels=("C3",))
    expected = classifier.backbone(images)["C3"]
    np.testing.assert_array_equal(backbone(images)["C3"], expected)
    assert "layer3_0_conv1" not in {layer.name for layer in backbone.layers}


def test_head_of_the_fifth_stage_keeps_its_config():
    settings = {"groups": 2, "group_width": 4, "norm_epsilon": 0.1, "frozen_norm": True}
    head = ResNetHead(2, dtype="mixed_bfloat16", name="other", **settings)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert again.get_config() == head.get_config()
    assert again.get_config() | settings | {"blocks": 2, "name": "other"} == again.get_config()
    again.build((None, None, 14, 14, 16))
    outputs = again(np.ones((1, 3, 14, 14, 16), "float32"))
    assert outputs.shape == (1, 3, 2048)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"


def test_a_backbone_alone_is_a_preset_that_cannot_be_split(tmp_path, images):
    backbone = randomize(tiny())
    backbone.save(tmp_path / "model.keras")
    again = ResNet.from_preset(tmp_path / "model.keras", levels=("C3",))
    np.testing.assert_array_equal(again(images)["C3"], backbone(images)["C3"])
    with pytest.raises(ValueError, match="is a ResNet; give an image classifier"):
        ResNet.split_preset(tmp_path / "model.keras")
