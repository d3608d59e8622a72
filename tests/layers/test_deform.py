"""The deformable layers: they start as the plain operation, and their branches learn."""

import operator

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.testing import TestCase

from kerasdet import ops
from kerasdet.layers import (
    ConvNorm,
    Deformable,
    DeformableConv2D,
    DeformableConvNorm,
    DeformablePSRoIPool,
    DeformableRoIPool,
    OffsetBranch,
)
from kerasdet.layers.deform import conv_norm_of

RNG = np.random.default_rng(0)
BOXES = np.float32([[[2.1, 1.3, 19, 17], [-5, -5, 9, 9]], [[9, 3, 30, 26], [1, 4, 15, 22]]])
REGIONS = {"output_size": 2, "spatial_scale": 1 / 4}


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


class DeformableTest(TestCase):
    def test_convolution(self):
        self.run_layer_test(
            DeformableConv2D,
            init_kwargs={"filters": 5, "kernel_size": 3},
            input_shape=(2, 6, 7, 4),
            expected_output_shape=(2, 6, 7, 5),
            expected_num_trainable_weights=4,
            expected_num_non_trainable_weights=0,
        )

    def test_modulated_convolution(self):
        self.run_layer_test(
            DeformableConv2D,
            init_kwargs={
                "filters": 6,
                "kernel_size": (2, 3),
                "strides": (2, 1),
                "padding": (1, 2),
                "dilation": (1, 2),
                "groups": 2,
                "deformable_groups": 4,
                "modulated": True,
                "use_bias": False,
                "kernel_initializer": "glorot_normal",
            },
            input_shape=(2, 6, 7, 4),
            expected_output_shape=(2, 4, 7, 6),
            expected_num_trainable_weights=3,
        )

    def test_region_pooling(self):
        self.run_layer_test(
            DeformableRoIPool,
            init_kwargs={"output_size": (3, 2), "spatial_scale": 1 / 4, "gamma": 0.2},
            input_shape={"features_shape": (2, 6, 7, 5), "boxes_shape": (2, 2, 4)},
            expected_output_shape=(2, 2, 3, 2, 5),
            expected_num_trainable_weights=2,
            run_training_check=False,  # Keras hands a model's first input alone
        )

    def test_position_sensitive_pooling(self):
        self.run_layer_test(
            DeformablePSRoIPool,
            init_kwargs={**REGIONS, "gamma": 0.2},
            input_shape={
                "scores_shape": (2, 6, 7, 8),
                "boxes_shape": (2, 2, 4),
                "features_shape": (2, 6, 7, 5),
            },
            expected_output_shape=(2, 2, 2, 2, 2),
            expected_num_trainable_weights=2,
            run_training_check=False,
        )


# --- Where training starts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (3, {}),
        (1, {"use_bias": False}),
        ((5, 3), {"dilation": (1, 2), "groups": 2}),
        (3, {"strides": 2, "deformable_groups": 2}),
        ((2, 3), {"padding": (1, 0), "strides": (1, 2)}),
        (2, {"padding": 0, "dilation": 3}),
    ],
)
def test_convolution_starts_as_keras_own(size, options):
    inputs = normal(2, 9, 10, 4)
    layer = DeformableConv2D(6, size, **options)
    plain = keras.layers.Conv2D(
        6,
        size,
        options.get("strides", 1),
        dilation_rate=options.get("dilation", 1),
        groups=options.get("groups", 1),
        use_bias=options.get("use_bias", True),
    )
    sizes, spacings = (np.broadcast_to(v, 2) for v in (size, options.get("dilation", 1)))
    zeros = np.broadcast_to(options.get("padding", spacings * (sizes // 2)), 2)
    padded = np.pad(inputs, [(0, 0), *((n, n) for n in zeros), (0, 0)])
    plain.build(padded.shape)
    layer.build(inputs.shape)
    layer.kernel.assign(plain.kernel)
    if layer.use_bias:
        for part in (layer, plain):
            part.bias.assign(np.arange(6))
    expected = np.asarray(plain(padded))
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-4, atol=1e-4)
    assert layer.compute_output_shape(inputs.shape) == expected.shape
    assert layer.compute_output_shape((None, None, 10, 4))[:2] == (None, None)

    if "padding" not in options and "strides" not in options:
        same = keras.layers.Conv2D(
            6, size, padding="same", dilation_rate=plain.dilation_rate, groups=plain.groups
        )
        same.build(inputs.shape)
        same.kernel.assign(plain.kernel)
        same.bias.assign(layer.bias if layer.use_bias else np.zeros(6))
        np.testing.assert_allclose(layer(inputs), same(inputs), rtol=1e-4, atol=1e-4)


def test_modulated_convolution_starts_at_half():
    inputs = normal(2, 6, 7, 4)
    plain, modulated = (DeformableConv2D(5, 3, modulated=value) for value in (False, True))
    for layer in (plain, modulated):
        layer.build(inputs.shape)
    modulated.kernel.assign(plain.kernel)
    modulated.bias.assign(np.full(5, 3))
    np.testing.assert_allclose(modulated(inputs), plain(inputs) / 2 + 3, rtol=1e-5, atol=1e-5)


def test_branch_of_the_convolution_by_hand():
    # The offsets' bias moves a tap down by a row, the kernel to the right by the map's value.
    layer = DeformableConv2D(1, 1, modulated=True, use_bias=False, kernel_initializer="ones")
    layer.build((None, None, None, 1))
    layer.offsets.bias.assign([1, 0, np.log(3)])  # a mask of 3 / 4
    layer.offsets.kernel.assign([[[[0, 1, 0]]]])
    features = np.array([[0, 2, 0, 0], [10, 20, 40, 80]], "float32")[None, :, :, None]
    outputs = layer(features)[0, :, :, 0]
    np.testing.assert_allclose(outputs, [[7.5, 60, 30, 60], [0, 0, 0, 0]], rtol=1e-5)


def test_region_pooling_starts_as_the_mean_of_whole_cells():
    features, scores = normal(2, 6, 7, 3), normal(2, 6, 7, 8)
    still = np.zeros((2, 2, 2, 2, 2), "float32")
    found = DeformableRoIPool(**REGIONS)(features, BOXES)
    expected = ops.deform_roi_pool(features, BOXES, still, **REGIONS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    within = np.clip(BOXES, 0, 24)  # a bin that reaches beyond the map fades there, as it may move
    found = DeformablePSRoIPool(**REGIONS)(scores, within, features)
    expected = ops.ps_roi_pool(scores, within, **REGIONS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# --- In backbones -------------------------------------------------------------------------------------


def test_constants_are_the_papers():
    assert Deformable().levels == ("C5",)
    assert OffsetBranch(3).rate_factor == 1
    assert DeformableRoIPool(**REGIONS).rate_factor == 0.01
    assert DeformablePSRoIPool(**REGIONS).rate_factor == 1
    assert DeformableRoIPool(**REGIONS).gamma == DeformablePSRoIPool(**REGIONS).gamma == 0.1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "activation": "relu"},
        {"dilation": 2, "groups": 2},
        {"groups": 4, "filters": 4},
    ],
)
def test_a_normalised_convolution_starts_as_the_plain_one(options):
    options = {"filters": 6, "kernel_size": 3, **options}
    inputs = normal(2, 8, 9, 4)
    plain, moved = ConvNorm(**options), DeformableConvNorm(**options)
    expected, _ = plain(inputs), moved(inputs)
    weights = [normal(*weight.shape) ** 2 + 0.5 for weight in plain.weights]
    plain.set_weights(weights)
    moved.set_weights(weights + moved.get_weights()[len(weights) :])
    for training in (False, True):
        expected = plain(inputs, training=training)
        assert np.std(expected) > 0.05
        found = moved(inputs, training=training)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_normalised_convolution_by_hand():
    # The tap looks one cell to the right, with a mask of 3 / 4; the scale is 2, the shift 1.
    layer = DeformableConvNorm(1, 1, modulated=True, norm_epsilon=1e-9)
    layer.build((None, None, None, 1))
    kernel, *norm = layer.kernel, layer.norm.gamma, layer.norm.beta
    kernel.assign(np.ones((1, 1, 1, 1)))
    norm[0].assign([2]), norm[1].assign([1])
    layer.offsets.bias.assign([0, 1, np.log(3)])
    features = np.float32([[4, 8, 12]])[None, :, :, None]
    np.testing.assert_allclose(layer(features)[0, 0, :, 0], [13, 19, 1], rtol=1e-5)


def test_which_convolutions_are_deformable():
    part = Deformable(("C3", "C5"), groups=2, modulated=True, border="cut", offset_rate=0.1)
    assert conv_norm_of(part, 4) is conv_norm_of(None, 5) is ConvNorm
    layer = conv_norm_of(part, 3)(8, 3)
    assert type(layer) is DeformableConvNorm
    assert (layer.offsets.deformable_groups, layer.offsets.modulated) == (2, True)
    assert (layer.border, layer.offsets.rate_factor) == ("cut", 0.1)
    again = DeformableConvNorm.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    config = keras.saving.serialize_keras_object(part)
    assert keras.saving.deserialize_keras_object(config).get_config() == part.get_config()


def test_the_border_reaches_the_operation():
    features = np.float32([[4, 8]])[None, :, :, None]
    for layer in (
        DeformableConv2D(1, 1, border="cut", kernel_initializer="ones"),
        DeformableConvNorm(1, 1, border="cut", norm_epsilon=1e-9),
    ):
        layer.build((None, None, None, 1))
        layer.kernel.assign(np.ones((1, 1, 1, 1)))
        layer.offsets.bias.assign([0, 0.5])
        np.testing.assert_allclose(layer(features)[0, 0, :, 0], [6, 8], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ("C6",)}, r"levels are \('C6',\); give some of C2, C3, C4, C5"),
        ({"levels": "C5"}, "levels are 'C5'"),
        ({"levels": ()}, r"levels are \(\)"),
        ({"border": "zero"}, "border is 'zero'; give one of 'fade', 'cut'"),
        ({"groups": 0}, "groups is 0"),
        ({"offset_rate": 0}, "offset_rate is 0"),
    ],
)
def test_stages_that_cannot_be_deformed_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Deformable(**options)


# --- That the branches learn --------------------------------------------------------------------------

LAYERS = {
    "convolution": (
        DeformableConv2D(4, 3),
        (normal(2, 6, 7, 4),),
        ("offsets.kernel", "offsets.bias"),
    ),
    "modulated": (
        DeformableConv2D(4, 3, modulated=True, deformable_groups=2),
        (normal(2, 6, 7, 4),),
        ("offsets.kernel", "offsets.bias"),
    ),
    "regions": (DeformableRoIPool(**REGIONS), (normal(2, 6, 7, 3), BOXES), ("kernel", "bias")),
    "position_sensitive": (
        DeformablePSRoIPool(**REGIONS),
        (normal(2, 6, 7, 8), BOXES, normal(2, 6, 7, 3)),
        ("kernel", "bias"),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_branches_have_a_gradient_where_they_start(name):
    layer, inputs, names = LAYERS[name]
    layer(*inputs)
    weights = [operator.attrgetter(weight)(layer).value for weight in names]
    assert not any(np.any(weight) for weight in weights)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.square(layer(*inputs)))
    for slope in tape.gradient(total, weights):
        # Of every tap or bin, by both directions (and of every mask).
        columns = np.abs(np.reshape(slope, (-1, slope.shape[-1]))).max(axis=0)
        assert np.isfinite(columns).all()
        assert columns.min() > 1e-3


def hills(height, width):
    """A smooth image: without steps, that a slope leads far."""
    y, x = np.mgrid[0:height, 0:width] * 0.45
    image = np.sin(y + 0.3 * x) + np.cos(0.8 * x - 0.4 * y)
    return image.astype("float32")[None, :, :, None]


@pytest.mark.parametrize("shift", [(0, 1), (-1, 0)])
def test_a_shift_is_learnt(shift):
    # The kernel stays the identity: nothing but the offsets can move the image.
    image = tf.constant(hills(14, 15))
    target = tf.roll(image, [-shift[0], -shift[1]], axis=[1, 2])[:, 1:-1, 1:-1]
    layer = DeformableConv2D(1, 1, use_bias=False, kernel_initializer="ones")
    layer.build(image.shape)
    branch = [layer.offsets.kernel, layer.offsets.bias]
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build(branch)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            outputs = layer(image)[:, 1:-1, 1:-1]  # what comes from beyond the border is left out
            loss = tf.reduce_mean(tf.square(outputs - target))
        optimizer.apply(tape.gradient(loss, [weight.value for weight in branch]), branch)
        return loss

    losses = [float(step()) for _ in range(60)]
    assert losses[-1] < 0.01 * losses[0]
    np.testing.assert_allclose(layer.offsets.bias, shift, atol=0.1)
    np.testing.assert_array_equal(layer.kernel, [[[[1]]]])


# --- Arguments that are refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (DeformableConv2D, {"filters": 4, "kernel_size": 0}, "kernel_size is 0; give one or two"),
        (DeformableConv2D, {"filters": 4, "kernel_size": 2.5}, "kernel_size is 2.5"),
        (DeformableConv2D, {"filters": 0, "kernel_size": 3}, "filters is 0; give a positive"),
        (DeformableConv2D, {"filters": 4, "kernel_size": 3, "strides": 0}, "strides is 0"),
        (DeformableConv2D, {"filters": 4, "kernel_size": 3, "dilation": -1}, "dilation is -1"),
        (DeformableConv2D, {"filters": 4, "kernel_size": 3, "padding": -1}, "padding is -1"),
        (DeformableConv2D, {"filters": 4, "kernel_size": 3, "border": "v1"}, "border is 'v1'"),
        (DeformableConvNorm, {"filters": 4, "kernel_size": 3, "border": "v1"}, "border is 'v1'"),
        (
            DeformableConvNorm,
            {"filters": 4, "kernel_size": 3, "padding": "same"},
            "padding is 'same'; give one of 'symmetric'",
        ),
        (OffsetBranch, {"kernel_size": 3, "rate_factor": 0}, "rate_factor is 0"),
        (DeformableRoIPool, {**REGIONS, "rate_factor": -1}, "rate_factor is -1"),
        (
            DeformableConv2D,
            {"filters": 4, "kernel_size": 3, "groups": 0},
            "groups is 0; give a pos",
        ),
        (
            DeformableConv2D,
            {"filters": 4, "kernel_size": 3, "deformable_groups": 1.5},
            "deformable_groups is 1.5; give a positive integer",
        ),
        (DeformableRoIPool, {**REGIONS, "gamma": 0}, "gamma is 0; give a positive number"),
        (DeformableRoIPool, {**REGIONS, "output_size": -2}, "output_size is -2"),
        (DeformablePSRoIPool, {**REGIONS, "gamma": -0.1}, "gamma is -0.1"),
        (DeformablePSRoIPool, {**REGIONS, "spatial_scale": 0.0}, "spatial_scale is 0.0"),
    ],
)
def test_what_cannot_be_right_is_refused(layer, options, message):
    with pytest.raises(ValueError, match=message):
        layer(**options)


def test_position_sensitive_bins_are_as_many_in_both_directions():
    layer = DeformablePSRoIPool((2, 3), 1 / 4)
    with pytest.raises(ValueError, match=r"output_size is \(2, 3\).* k x k"):
        layer(normal(2, 6, 7, 8), BOXES, normal(2, 6, 7, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 3}, "groups is 3; it must divide the 4 input channels and filters, 6"),
        ({"groups": 4}, "groups is 4; it must divide the 4 input channels and filters, 6"),
        ({"deformable_groups": 3}, "deformable_groups is 3; it must divide the 4 input channels"),
    ],
)
def test_groups_that_do_not_divide_the_channels_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DeformableConv2D(6, 3, **options).build((None, None, None, 4))
