"""The two towers of dense detectors: what they share, their norms, and their sums by hand."""

import keras
import numpy as np
import pytest

from kerasdet.layers.subnets import GROUPS, Subnets, output_conv

SHAPES = {"P3": (2, 4, 6, 3), "P4": (2, 2, 3, 3)}


# Two towers of two convolutions; a batch norm has gamma, beta and two moments for each level. (Keras'
# `run_layer_test` takes no layer of one dict.)
@pytest.mark.parametrize(
    ("norm", "trainable", "other"), [(None, 8, 0), ("group", 12, 0), ("batch", 20, 16)]
)
def test_layer(norm, trainable, other):
    layer = Subnets(32, 2, norm, name="mine")
    shapes = {level: (*shape[:3], 32) for level, shape in SHAPES.items()}
    symbolic = layer({level: keras.KerasTensor(shape) for level, shape in SHAPES.items()})
    assert len(layer.trainable_weights) == trainable
    assert len(layer.non_trainable_weights) == other
    inputs = {level: np.ones(shape, np.float32) for level, shape in SHAPES.items()}
    for towers in (symbolic, layer(inputs)):
        for tower in towers:
            assert {level: tuple(x.shape) for level, x in tower.items()} == shapes
    assert layer.compute_output_shape(SHAPES) == (shapes, shapes)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    copy.set_weights(layer.get_weights())
    for ours, theirs in zip(keras.tree.flatten(layer(inputs)), keras.tree.flatten(copy(inputs))):
        np.testing.assert_array_equal(ours, theirs)
    mixed = Subnets(32, 2, norm, dtype="mixed_float16")
    assert {str(x.dtype.name) for x in keras.tree.flatten(mixed(inputs))} == {"float16"}
    assert {weight.dtype for weight in mixed.weights} == {"float32"}


def maps(*values):
    """Maps of one cell and one channel."""
    return {f"P{3 + i}": np.full((1, 1, 1, 1), value, np.float32) for i, value in enumerate(values)}


def built(**settings):
    layer = Subnets(1, 2, **settings)
    layer.build({level: (None, None, None, 1) for level in ("P3", "P4")})
    return layer


def times(conv, factor):
    """Multiply a map by a factor."""
    kernel = np.zeros(conv.kernel.shape)
    kernel[1, 1] = factor
    conv.kernel.assign(kernel)


def test_towers_by_hand():
    layer = built()
    for conv, factor in zip((*layer.class_convs, *layer.box_convs), (2, 3, -1, 5)):
        times(conv, factor)
    layer.class_convs[1].bias.assign([-1.0])
    classes, boxes = layer(maps(1.0, -4.0))
    # 3 (2 x) - 1 where 2 x is positive, and 5 (-x) where -x is.
    assert {level: x.numpy().item() for level, x in classes.items()} == {"P3": 5, "P4": 0}
    assert {level: x.numpy().item() for level, x in boxes.items()} == {"P3": 0, "P4": 20}


def test_convolutions_read_their_neighbours_and_keep_the_size():
    layer = Subnets(1, 1)
    layer.build({"P3": (None, None, None, 1)})
    layer.class_convs[0].kernel.assign(np.ones((3, 3, 1, 1)))
    classes, _ = layer({"P3": np.ones((1, 3, 4, 1), np.float32)})
    assert classes["P3"][0, :, :, 0].numpy().tolist() == [[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]


def test_a_norm_of_each_level_has_statistics_of_its_own():
    layer = built(norm="batch")
    assert {len(conv.weights) for conv in (*layer.class_convs, *layer.box_convs)} == {1}  # no bias
    for conv in (*layer.class_convs, *layer.box_convs):
        times(conv, 1)
    first = {"P3": np.full((1, 2, 2, 1), 3.0), "P4": np.array([5.0, 9.0]).reshape(1, 1, 2, 1)}
    layer({level: np.float32(x) for level, x in first.items()}, training=True)
    means = {name: norm.moving_mean.numpy().item() for name, norm in layer.norms.items()}
    # Momentum 0.97: three hundredths of the batch's mean, 3 on one level and 7 on the other.
    assert means["class0P3"] == means["box0P3"] == pytest.approx(0.09, rel=1e-5)
    assert means["class0P4"] == means["box0P4"] == pytest.approx(0.21, rel=1e-5)
    assert len(layer.norms) == 8
    before = [norm.moving_mean.numpy() for norm in layer.norms.values()]
    layer({level: np.float32(x) for level, x in first.items()}, training=False)
    after = [norm.moving_mean.numpy() for norm in layer.norms.values()]
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_relu_follows_the_norm(norm):
    layer = Subnets(32, 1, norm)
    layer.build({"P3": (None, None, None, 32)})
    for norms in layer.norms.values():
        norms.beta.assign(np.linspace(-1, 1, 32))
        norms.gamma.assign(np.zeros(32))
    classes, boxes = layer({"P3": np.ones((1, 1, 1, 32), np.float32)})
    for value in (classes["P3"], boxes["P3"]):
        np.testing.assert_allclose(value[0, 0, 0], np.maximum(np.linspace(-1, 1, 32), 0), atol=1e-6)


def test_group_norms_are_shared_by_the_levels():
    layer = Subnets(64, 2, "group")
    layer.build({level: (None, None, None, 64) for level in ("P3", "P4", "P5")})
    assert set(layer.norms) == {"class0", "class1", "box0", "box1"}
    assert {norm.groups for norm in layer.norms.values()} == {32}
    assert GROUPS == 32


def test_without_convolutions_the_maps_are_handed_on():
    layer, x = Subnets(8, 0), {level: np.ones(shape, np.float32) for level, shape in SHAPES.items()}
    for towers in layer(x):
        for level, value in towers.items():
            np.testing.assert_array_equal(value, x[level])
    assert not layer.weights
    assert layer.compute_output_shape(SHAPES) == (SHAPES, SHAPES)


def test_first_weights_are_retinanets_or_fit_a_norm():
    keras.utils.set_random_seed(0)
    assert (Subnets().channels, Subnets().depth, Subnets().norm) == (256, 4, None)
    # he_normal of 9 x 64 inputs: the root of 2 / 576.
    for norm, std in ((None, 0.01), ("group", (2 / 576) ** 0.5)):
        layer = Subnets(64, 2, norm)
        layer.build({"P3": (None, None, None, 64)})
        kernels = [conv.kernel for conv in (*layer.class_convs, *layer.box_convs)]
        assert [np.std(kernel) for kernel in kernels] == pytest.approx([std] * 4, rel=0.05)
        assert len({float(kernel[0, 0, 0, 0]) for kernel in kernels}) == 4


def test_another_norm_is_an_error():
    with pytest.raises(ValueError, match='norm must be None, "batch" or "group", not \'layer\''):
        Subnets(norm="layer")


def test_a_bias_before_a_norm_is_a_choice():
    for norm in ("batch", "group", None):
        layer = Subnets(32, 1, norm, use_bias=True)
        layer.build({"P3": (None, None, None, 32)})
        assert [conv.use_bias for conv in (*layer.class_convs, *layer.box_convs)] == [True, True]
        assert layer.get_config()["use_bias"] is True
    layer.class_convs[0].kernel.assign(np.zeros((3, 3, 32, 32)))
    layer.class_convs[0].bias.assign(np.arange(32) - 2.0)
    classes, _ = layer({"P3": np.ones((1, 1, 1, 32), np.float32)})
    assert classes["P3"].numpy().ravel().tolist() == [0, 0, *range(30)]
    # Files written before there was the choice have none.
    config = {key: value for key, value in layer.get_config().items() if key != "use_bias"}
    assert Subnets.from_config(config).use_bias is False


def test_output_convolutions_begin_with_their_confidence():
    keras.utils.set_random_seed(0)
    conv = output_conv(5, "mine", std=0.02, confidence=0.1)
    conv.build((None, None, None, 64))
    # log(0.1 / 0.9)
    np.testing.assert_allclose(conv.bias, [-2.1972246] * 5, rtol=1e-6)
    assert conv.kernel.shape == (3, 3, 64, 5)
    assert np.std(conv.kernel) == pytest.approx(0.02, rel=0.05)
    assert (conv.name, conv.dtype_policy.name) == ("mine", "float32")
    conv = output_conv(5, "mine", std=0.02)
    conv.build((None, None, None, 64))
    assert not np.any(conv.bias)
