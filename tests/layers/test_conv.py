import keras
import numpy as np
import pytest
from keras import ops

from kerasdet.layers import conv
from kerasdet.layers.conv import BatchNorm, Conv, ConvNorm, leaky

TENSORFLOW = keras.backend.backend() == "tensorflow"
needs_tensorflow = pytest.mark.skipif(not TENSORFLOW, reason="asks for the TensorFlow backend")


def set_weights(layer, kernel, gamma, beta, mean, variance):
    layer.kernel.assign(kernel)
    layer.norm.gamma.assign(gamma)
    layer.norm.beta.assign(beta)
    layer.norm.moving_mean.assign(mean)
    layer.norm.moving_variance.assign(variance)


def randomized(layer, channels, seed=0):
    """Build `layer` and give every weight a value that shows when it is left out."""
    rng = np.random.default_rng(seed)
    layer.build((None, None, None, channels))
    set_weights(
        layer,
        rng.normal(size=layer.kernel.shape),
        rng.uniform(0.5, 2.0, layer.filters),
        rng.normal(size=layer.filters),
        rng.normal(size=layer.filters),
        rng.uniform(0.5, 2.0, layer.filters),
    )
    return layer


def convolve(x, kernel, stride, groups, dilation):
    """PyTorch's padded convolution, tap by tap."""
    size, _, group_in, filters = kernel.shape
    pad = dilation * (size // 2)
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    height, width = ((n - dilation * (size - 1) - 1) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((x.shape[0], height, width, filters))
    for f in range(filters):
        first = f // (filters // groups) * group_in
        for i in range(height):
            for j in range(width):
                top, left = i * stride, j * stride
                rows = slice(top, top + dilation * size - dilation + 1, dilation)
                columns = slice(left, left + dilation * size - dilation + 1, dilation)
                patch = x[:, rows, columns, first : first + group_in]
                out[:, i, j, f] = (patch * kernel[..., f]).sum(axis=(1, 2, 3))
    return out


def test_hand_worked_numbers():
    layer = ConvNorm(1, 1, activation="relu", norm_epsilon=0.5)
    layer.build((None, None, None, 2))
    # conv: 2 a - b; norm: (conv - 1) / sqrt(3.5 + 0.5) * 3 + 0.5 = 1.5 conv - 1.
    set_weights(layer, [[[[2.0], [-1.0]]]], [3.0], [0.5], [1.0], [3.5])
    x = np.array([[[[1.0, 0.0], [0.0, 1.0], [3.0, 2.0]]]], "float32")  # conv: 2, -1, 4
    expected = [[[[2.0], [0.0], [5.0]]]]  # 1.5 * 2 - 1, relu(-2.5), 1.5 * 4 - 1
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-6)


def test_leaky_by_hand():
    x = np.float32([-2, -0.5, 0, 3])
    np.testing.assert_allclose(leaky(x), [-0.2, -0.05, 0, 3], rtol=1e-6)
    layer = ConvNorm(1, 1, activation=leaky)
    copy = ConvNorm.from_config(layer.get_config())
    assert copy.activation is leaky
    assert Conv.from_config(Conv(1, 1, activation=leaky).get_config()).activation is leaky


def test_hard_swish():
    layer = ConvNorm(1, 1, activation="hard_swish", norm_epsilon=0.0)
    layer.build((None, None, None, 1))
    set_weights(layer, [[[[1.0]]]], [1.0], [0.0], [0.0], [1.0])
    x = np.array([-4.0, -3.0, -1.5, 0.0, 1.5, 3.0, 4.0], "float32")
    outputs = ops.convert_to_numpy(layer(x[None, None, :, None]))[0, 0, :, 0]
    # x (x + 3) / 6 between -3 and 3: -1.5 * 1.5 / 6 and 1.5 * 4.5 / 6.
    np.testing.assert_allclose(outputs, [0, 0, -0.375, 0, 1.125, 3, 4], atol=1e-6)
    copy = ConvNorm.from_config(layer.get_config())
    assert copy.activation is layer.activation


def test_training_normalises_by_the_batch_and_follows_its_unbiased_variance():
    layer = ConvNorm(1, 1, norm_epsilon=1.0, norm_momentum=0.75)
    layer.build((None, None, None, 1))
    set_weights(layer, [[[[1.0]]]], [2.0], [10.0], [8.0], [4.0])
    x = np.array([0.0, 0.0, 4.0, 4.0], "float32").reshape(2, 1, 2, 1)
    # mean 2; biased variance 4, unbiased 16 / 3.
    outputs = ops.convert_to_numpy(layer(x, training=True)).ravel()
    offset = 2 * 2 / np.sqrt(5.0)
    np.testing.assert_allclose(outputs, 10 + offset * np.array([-1, -1, 1, 1]), rtol=1e-5)
    moving = [ops.convert_to_numpy(layer.norm.moving_mean)[0]]
    moving.append(ops.convert_to_numpy(layer.norm.moving_variance)[0])
    np.testing.assert_allclose(moving, [0.75 * 8 + 0.25 * 2, 0.75 * 4 + 0.25 * 16 / 3], rtol=1e-5)


@pytest.mark.parametrize(
    ("filters", "size", "stride", "groups", "dilation"),
    [
        (5, 3, 1, 1, 1),
        (5, 3, 2, 1, 1),
        (5, 7, 2, 1, 1),
        (5, 1, 2, 1, 1),
        (5, 3, 1, 1, 2),
        (4, 3, 1, 4, 1),
        (4, 3, 2, 4, 1),
        (4, 5, 2, 4, 1),
        (4, 3, 1, 4, 2),
        (6, 3, 1, 2, 1),
        (6, 3, 2, 2, 1),
        (8, 3, 1, 4, 1),
    ],
)
@pytest.mark.parametrize("shape", [(2, 6, 7, 4), (1, 5, 8, 4)])
def test_inference_equals_loops(shape, filters, size, stride, groups, dilation):
    layer = randomized(ConvNorm(filters, size, stride, groups, dilation), 4)
    x = np.random.default_rng(1).normal(size=shape).astype("float32")
    norm = layer.norm
    gamma, beta, mean, variance, kernel = (
        ops.convert_to_numpy(w)
        for w in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance, layer.kernel)
    )
    y = convolve(x, kernel, stride, groups, dilation)
    expected = (y - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, rtol=1e-4, atol=1e-4)
    assert layer.compute_output_shape(shape) == expected.shape


def operations(layer, x):
    """Kinds of the operations in a graph of the layer."""
    import tensorflow as tf

    graph = tf.function(layer).get_concrete_function(x).graph.as_graph_def()
    return {node.op for node in graph.node}


@pytest.mark.parametrize(
    "activation", [None, "relu", "relu6", leaky], ids=["none", "relu", "relu6", "leaky"]
)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@needs_tensorflow
def test_a_graph_fuses_what_eager_code_folds(policy, activation):
    import tensorflow as tf

    layer = ConvNorm(5, 3, 2, activation=activation, norm_epsilon=1e-3, dtype=policy)
    layer = randomized(layer, 4)
    x = np.random.default_rng(1).normal(size=(2, 7, 8, 4)).astype("float32")
    assert "FusedBatchNormV3" in operations(layer, x)
    found, expected = (
        np.asarray(tf.cast(function(x), "float32")) for function in (tf.function(layer), layer)
    )
    tolerance = 1e-5 if policy == "float32" else 0.02
    scale = tolerance * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=scale)


@needs_tensorflow
def test_half_precision_and_groups_are_folded():
    x = np.zeros((1, 5, 5, 4), "float32")
    for options in ({"dtype": "mixed_float16"}, {"groups": 4}):
        assert "FusedBatchNormV3" not in operations(randomized(ConvNorm(4, 3, **options), 4), x)


def test_folded_equals_unfolded():
    layer = randomized(ConvNorm(16, 3, stride=2, activation="relu6"), 8)
    x = np.random.default_rng(1).normal(size=(2, 9, 12, 8)).astype("float32")
    folded = ops.convert_to_numpy(layer(x))
    unfolded = layer.norm(layer.convolve(ops.convert_to_tensor(x), layer.kernel))
    unfolded = np.clip(ops.convert_to_numpy(unfolded), 0, 6)
    np.testing.assert_allclose(folded, unfolded, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("freeze", ["layer", "norm"])
def test_frozen_statistics_stay_in_training(freeze):
    layer = randomized(ConvNorm(4, 3), 3)
    x = np.random.default_rng(1).normal(size=(2, 5, 5, 3)).astype("float32")
    expected = ops.convert_to_numpy(layer(x))
    before = [ops.convert_to_numpy(w) for w in layer.norm.weights]
    (layer if freeze == "layer" else layer.norm).trainable = False
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x, training=True)), expected)
    for weight, value in zip(layer.norm.weights, before):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)
    names = [w.name for w in layer.trainable_weights]
    assert names == ([] if freeze == "layer" else ["kernel"])


def test_a_frozen_norm_alone_keeps_its_statistics():
    norm = BatchNorm(epsilon=3.0)
    norm.build((None, None, None, 1))
    norm.trainable = False
    x = np.array([0.0, 4.0], "float32").reshape(1, 1, 2, 1)
    outputs = ops.convert_to_numpy(norm(x, training=True)).ravel()
    np.testing.assert_allclose(outputs, [0, 2], rtol=1e-6)  # 4 / sqrt(1 + 3)
    assert ops.convert_to_numpy(norm.moving_mean) == [0]
    assert ops.convert_to_numpy(norm.moving_variance) == [1]


def compiled(layer):
    """A graph of the layer, where the backend is TensorFlow."""
    if not TENSORFLOW:
        return layer
    import tensorflow as tf

    return tf.function(layer)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_dead_channels_without_epsilon_stay_finite(policy):
    # As files of torchvision have them, trained without epsilon: TensorFlow takes 5.6e-45 for zero.
    # The last kernel is no dead one's: folded, it leaves float16's range.
    layer = ConvNorm(3, 1, norm_epsilon=0.0, dtype=policy)
    layer.build((None, None, None, 1))
    tiny = 5.6e-45
    set_weights(
        layer, [[[[2.0, 1e-42, 0.5]]]], [1, 1, 1], [1, 3, 5], [0, tiny, tiny], [4, tiny, tiny]
    )
    x = np.array([[[[0.0], [2.0]]]], "float32")
    for call in (layer, compiled(layer)):
        outputs = ops.convert_to_numpy(ops.cast(call(x), "float32"))[0, 0]
        np.testing.assert_allclose(outputs[0], [1, 3, 5])
        np.testing.assert_allclose(outputs[1, :2], [3, 3])  # 2 * 2 / sqrt(4) + 1
    # A batch without variance is not divided by zero.
    trained = ops.convert_to_numpy(ops.cast(layer(x * 0, training=True), "float32"))[0, 0]
    np.testing.assert_allclose(trained, [[1, 3, 5], [1, 3, 5]])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@needs_tensorflow
def test_fused_kernel_equals_portable_form(dtype):
    from kerasdet.ops import native

    rng = np.random.default_rng(0)
    x = ops.cast(rng.normal(2.0, 3.0, size=(3, 4, 5, 6)), dtype)
    gamma, beta = (ops.cast(rng.normal(size=6), "float32") for _ in range(2))
    fused = native.batch_norm(x, gamma, beta, 1e-3)
    portable = conv._batch_norm(x, gamma, beta, 1e-3)
    tolerance = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}[dtype]
    for one, other, kind in zip(fused, portable, (dtype, "float32", "float32")):
        assert keras.backend.standardize_dtype(one.dtype) == kind
        assert keras.backend.standardize_dtype(other.dtype) == kind
        one, other = (ops.convert_to_numpy(ops.cast(v, "float32")) for v in (one, other))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@needs_tensorflow
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_gradients_equal_finite_differences(groups):
    import tensorflow as tf

    layer = randomized(ConvNorm(4, 3, stride=2, groups=groups), 4)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 5, 5, 4)).astype("float32")
    weights = rng.normal(size=(2, 3, 3, 4)).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, training=True) * weights)
    variables = layer.trainable_variables
    assert len(variables) == 3
    for variable, gradient in zip(variables, tape.gradient(loss, variables)):
        value = variable.numpy()
        step = rng.normal(size=value.shape).astype("float32")
        losses = []
        for sign in (1, -1):
            variable.assign(value + sign * 1e-2 * step)
            losses.append(np.sum(layer(x, training=True).numpy() * weights, dtype="float64"))
        variable.assign(value)
        numeric = (losses[0] - losses[1]) / 2e-2
        np.testing.assert_allclose(np.sum(gradient * step), numeric, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("groups", [1, 8])
def test_mixed_precision_keeps_statistics_in_float32(policy, groups):
    layer = ConvNorm(8, 3, stride=2, groups=groups, activation="relu6", dtype=policy)
    # float16 squares overflow from 256 on: the statistics must not be taken there.
    x = np.random.default_rng(0).normal(1000.0, 50.0, size=(2, 8, 8, 8)).astype("float32")
    for training in (True, False):
        y = layer(x, training=training)
        assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
        assert np.isfinite(ops.convert_to_numpy(ops.cast(y, "float32"))).all()
    assert {w.dtype for w in layer.weights} == {"float32"}
    assert np.isfinite(ops.convert_to_numpy(layer.norm.moving_variance)).all()
    assert ops.convert_to_numpy(layer.norm.moving_variance).max() > 10.0


@needs_tensorflow
def test_replicas_normalise_alone_and_average_moving_statistics():
    import tensorflow as tf

    devices = tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        pytest.skip("needs two logical CPUs")
    strategy = tf.distribute.MirroredStrategy([d.name for d in devices[:2]])
    with strategy.scope():
        norm = BatchNorm(momentum=0.5, epsilon=0.0)
        norm.build((None, None, None, 1))
    first = np.array([0.0, 2.0], "float32").reshape(1, 1, 2, 1)

    @tf.function
    def step():
        def one():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            scale = tf.cast(1 + 2 * replica, "float32")  # means 1 and 3, variances 2 and 18
            return norm(first * scale, training=True)

        return strategy.run(one)

    for outputs in strategy.experimental_local_results(step()):
        np.testing.assert_allclose(outputs.numpy().ravel(), [-1, 1], rtol=1e-5)
    np.testing.assert_allclose(norm.moving_mean.numpy(), [0.5 * 0 + 0.5 * 2], rtol=1e-6)
    np.testing.assert_allclose(norm.moving_variance.numpy(), [0.5 * 1 + 0.5 * 10], rtol=1e-6)


def test_config_keeps_every_argument():
    layer = ConvNorm(8, 5, 2, 4, 1, "relu6", 1e-3, 0.97, name="stem", dtype="mixed_bfloat16")
    config = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert config.get_config() == layer.get_config()
    expected = {
        "filters": 8,
        "kernel_size": 5,
        "stride": 2,
        "groups": 4,
        "dilation": 1,
        "activation": "relu6",
        "norm_epsilon": 1e-3,
        "norm_momentum": 0.97,
        "name": "stem",
    }
    assert expected.items() <= layer.get_config().items()
    assert layer.norm.momentum == 0.97
    assert layer.norm.epsilon == 1e-3


def test_weight_paths_are_one_rule():
    layer = ConvNorm(8, 3, groups=8, name="block")
    layer.build((None, None, None, 8))
    paths = {w.path: tuple(w.shape) for w in layer.weights}
    assert paths == {
        "block/kernel": (3, 3, 1, 8),
        "block/norm/gamma": (8,),
        "block/norm/beta": (8,),
        "block/norm/moving_mean": (8,),
        "block/norm/moving_variance": (8,),
    }


def test_initial_kernel_is_he_normal_by_fan_out():
    layer = ConvNorm(512, 3)
    layer.build((None, None, None, 64))
    kernel = ops.convert_to_numpy(layer.kernel)
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 512)), rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "channels", "message"),
    [
        ({"filters": 4, "kernel_size": 2}, 4, "kernel_size must be odd"),
        ({"filters": 4, "kernel_size": 3, "groups": 3}, 6, "groups=3 must divide"),
        ({"filters": 6, "kernel_size": 3, "groups": 3}, 4, "groups=3 must divide"),
    ],
)
def test_bad_arguments_are_named(arguments, channels, message):
    with pytest.raises(ValueError, match=message):
        ConvNorm(**arguments).build((None, None, None, channels))


@needs_tensorflow
@pytest.mark.parametrize("taught", [0, 1, 12, 600], ids="{} cells taught".format)
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_gradient_from_few_cells_is_the_gradient(taught, dtype):
    import tensorflow as tf

    rng = np.random.default_rng(taught)
    inputs = tf.constant(rng.normal(size=(2, 20, 31, 5)), "float32")
    weights = np.zeros((2, 20, 31, 7), np.float32)
    cells = rng.permutation(2 * 20 * 31)[:taught]
    weights.reshape(-1, 7)[cells] = rng.normal(size=(taught, 7))
    if taught > 1:
        weights[0, 0, 0], weights[1, -1, -1] = 1.0, 2.0  # patches that reach beyond the map

    def gradients(sparsely_taught):
        layer = Conv(7, 3, activation="relu", sparsely_taught=sparsely_taught, dtype=dtype)
        layer.build((None, None, None, 5))
        layer.kernel.assign(np.random.default_rng(1).normal(size=(3, 3, 5, 7)))

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 5))])
        def of(inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                loss = tf.reduce_sum(tf.cast(layer(inputs, training=True), "float32") * weights)
            return [loss, *tape.gradient(loss, [inputs, layer.kernel.value, layer.bias.value])]

        return of(inputs)

    error = 1e-5 if dtype == "float32" else 0.05
    for usual, ours in zip(gradients(False), gradients(True)):
        np.testing.assert_allclose(ours, usual, rtol=error, atol=error * np.abs(usual).max())


def test_tensorflows_padding_by_hand():
    # Ones under a kernel of ones with stride 2: an even side is padded at its end alone.
    paddings = {"symmetric": [[4, 6], [6, 9]], "same": [[9, 6], [6, 4]], "valid": [[9]]}
    for padding, expected in paddings.items():
        layer = ConvNorm(1, 3, stride=2, norm_epsilon=0.0, padding=padding)
        layer.build((None, None, None, 1))
        layer.kernel.assign(np.ones((3, 3, 1, 1)))
        found = layer(np.ones((1, 4, 4, 1), "float32"))
        np.testing.assert_allclose(found[0, ..., 0], expected, rtol=1e-6)
        assert layer.compute_output_shape((1, 4, 4, 1)) == found.shape
        assert ConvNorm.from_config(layer.get_config()).padding == padding
    with pytest.raises(ValueError, match="padding is 'full'; give one of 'symmetric', 'same', 'v"):
        ConvNorm(1, 3, padding="full")


@pytest.mark.parametrize("padding", ["symmetric", "same", "valid"])
@pytest.mark.parametrize("stride", [1, 2])
def test_kernels_that_are_not_square(padding, stride):
    layer = randomized(ConvNorm(4, (1, 5), stride, padding=padding, norm_epsilon=0.0), 3)
    assert tuple(layer.kernel.shape) == (1, 5, 3, 4)
    x = np.random.default_rng(1).normal(size=(2, 6, 9, 3)).astype("float32")
    # Nine columns with two of padding at both sides, in any of the two ways; none; one row sees one row.
    around = 0 if padding == "valid" else 2
    padded = np.pad(x, [(0, 0), (0, 0), (around, around), (0, 0)])
    columns = range(0, padded.shape[2] - 4, stride)
    scale, shift = (np.asarray(ops.convert_to_numpy(v)) for v in layer.norm.scale_and_shift())
    kernel = ops.convert_to_numpy(layer.kernel)[0]
    expected = np.stack(
        [np.einsum("bhkc,kcf->bhf", padded[:, ::stride, i : i + 5], kernel) for i in columns], 2
    )
    found = layer(x)
    assert layer.compute_output_shape(x.shape) == found.shape
    np.testing.assert_allclose(found, expected * scale + shift, rtol=1e-4, atol=1e-4)
    again = ConvNorm.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(("padding", "stride"), [(None, 1), (None, 2), (0, 2), (1, 1), (4, 3)])
def test_groups_and_padding_of_a_convolution_with_a_bias(padding, stride):
    layer = Conv(6, 5, stride, padding=padding, groups=2, bias_initializer="he_normal")
    layer.build((None, None, None, 4))
    assert tuple(layer.kernel.shape) == (5, 5, 2, 6)
    x = np.random.default_rng(1).normal(size=(2, 9, 8, 4)).astype("float32")
    pad = 2 if padding is None else padding
    padded = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    kernel, bias = (ops.convert_to_numpy(weight) for weight in layer.weights)
    rows, columns = (range(0, side + 2 * pad - 4, stride) for side in (9, 8))
    expected = np.zeros((2, len(rows), len(columns), 6), "float32")
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            window = padded[:, top : top + 5, left : left + 5]
            for group in range(2):  # each tower sees its own channels
                ours, theirs = slice(2 * group, 2 * group + 2), slice(3 * group, 3 * group + 3)
                part = np.einsum("bhwc,hwcf->bf", window[..., ours], kernel[..., theirs])
                expected[:, i, j, theirs] = part
    found = layer(x)
    assert layer.compute_output_shape(x.shape) == found.shape == expected.shape
    np.testing.assert_allclose(found, expected + bias, rtol=1e-4, atol=1e-4)
    assert Conv.from_config(layer.get_config()).get_config() == layer.get_config()


def test_groups_divide_the_channels():
    with pytest.raises(ValueError, match="groups=2 must divide the 3 input channels and filters=4"):
        Conv(4, 3, groups=2).build((None, None, None, 3))
    with pytest.raises(ValueError, match="padding is -1"):
        Conv(4, 3, padding=-1)
    with pytest.raises(ValueError, match="must be odd"):
        ConvNorm(4, (3, 4))
