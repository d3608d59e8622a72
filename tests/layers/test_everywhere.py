"""What every layer around an operation promises: configs, saved models, training, half precision.

The two half types are sampled: every layer is run in one of them, and in both by `pytest --all`.
"""

import inspect
import json
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet import layers
from tests.sampling import sampled

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


BOXES = np.float32([[[3.1, 4.3, 21.7, 17.2], [-9, -6, 13, 11]], [[9, 7, 29, 25], [1, 7, 19, 22.9]]])
# Of P3 and of P4, whose last of two by two points lies on the map.
TWO_SIZES = np.float32(
    [[[3, 4, 22, 17], [-180, -190, 60, 60]], [[-180, -190, 60, 60], [1, 7, 19, 23]]]
)
CANVAS = np.float32([[24, 28], [25, 30]])
SCORES, LABELS = np.float32([[0.9, 0.5], [0.3, 0.8]]), np.int32([[0, 1], [1, 1]])


@dataclass(frozen=True)
class Example:
    """A layer with every argument away from its default, and its inputs.

    Attributes:
        layer: the class.
        options: all arguments of the constructor.
        inputs: the call's arguments; maps of several levels are one.
    """

    layer: type
    options: dict
    inputs: tuple

    def make(self, **options):
        return self.layer(**{**self.options, **options})


EXAMPLES = {
    "RoIPool": Example(
        layers.RoIPool,
        {"output_size": (3, 2), "spatial_scale": 1 / 4, "rounding": "pixels"},
        (normal(2, 6, 7, 2), BOXES),
    ),
    "RoIAlign": Example(
        layers.RoIAlign,
        {
            "output_size": (3, 2),
            "spatial_scale": 1 / 4,
            "sampling_ratio": 1,
            "aligned": True,
            "reduction": "max",
        },
        (normal(2, 6, 7, 2), BOXES),
    ),
    "MultilevelRoIAlign": Example(
        layers.MultilevelRoIAlign,
        {"output_size": 2, "sampling_ratio": 1, "aligned": True, "reduction": "max"},
        ({"P3": normal(2, 4, 5, 2), "P4": normal(2, 2, 3, 2)}, TWO_SIZES),
    ),
    "MultilevelRoIPool": Example(
        layers.MultilevelRoIPool,
        {"output_size": (3, 2)},
        ({"P3": normal(2, 4, 5, 2), "P4": normal(2, 2, 3, 2)}, TWO_SIZES),
    ),
    "MultilevelPSRoIAlign": Example(
        layers.MultilevelPSRoIAlign,
        {"output_size": 2, "sampling_ratio": 1},
        ({"P3": normal(2, 4, 5, 8), "P4": normal(2, 2, 3, 8)}, TWO_SIZES),
    ),
    "PSRoIPool": Example(
        layers.PSRoIPool,
        {"output_size": 2, "spatial_scale": 1 / 4, "rounding": "pixels"},
        (normal(2, 6, 7, 8), BOXES),
    ),
    "PSRoIAlign": Example(
        layers.PSRoIAlign,
        {"output_size": 2, "spatial_scale": 1 / 4, "sampling_ratio": 1},
        (normal(2, 6, 7, 8), BOXES),
    ),
    "CropAndResize": Example(
        layers.CropAndResize,
        {"output_size": (3, 2), "sampling_ratio": 2, "reduction": "max"},
        ({"C2": normal(2, 6, 7, 2), "canvas": CANVAS}, BOXES),
    ),
    "PSCropAndResize": Example(
        layers.PSCropAndResize,
        {"output_size": 2, "sampling_ratio": 3},
        ({"C2": normal(2, 6, 7, 8), "canvas": CANVAS}, BOXES),
    ),
    "DeformableConv2D": Example(
        layers.DeformableConv2D,
        {
            "filters": 6,
            "kernel_size": (2, 3),
            "strides": (2, 1),
            "padding": (1, 2),
            "dilation": (1, 2),
            "groups": 2,
            "deformable_groups": 4,
            "modulated": True,
            "border": "cut",
            "offset_rate": 0.5,
            "use_bias": False,
            "kernel_initializer": "glorot_normal",
        },
        (normal(2, 6, 7, 4),),
    ),
    "DeformableRoIPool": Example(
        layers.DeformableRoIPool,
        {"output_size": (3, 2), "spatial_scale": 1 / 4, "gamma": 0.3, "rate_factor": 0.5},
        (normal(2, 6, 7, 2), BOXES),
    ),
    "DeformablePSRoIPool": Example(
        layers.DeformablePSRoIPool,
        {"output_size": 2, "spatial_scale": 1 / 4, "gamma": 0.3, "rate_factor": 0.5},
        (normal(2, 6, 7, 8), BOXES, normal(2, 6, 7, 3)),
    ),
    "SpatialPyramidPooling": Example(
        layers.SpatialPyramidPooling,
        {"levels": (3, 1), "pooling": "average", "spatial_scale": 1 / 4},
        (normal(2, 6, 7, 2), BOXES),
    ),
    "MaxPool": Example(
        layers.MaxPool,
        {"size": 3, "stride": 2, "padding": 1, "ceil_mode": False},
        (normal(2, 6, 7, 2),),
    ),
    "LocalResponseNorm": Example(
        layers.LocalResponseNorm,
        {"size": 3, "alpha": 2.0, "beta": 0.5, "k": 2.0, "within_channel": True},
        (normal(2, 6, 7, 2),),
    ),
    "Maxout": Example(layers.Maxout, {"num_units": 3, "axis": 2}, (normal(2, 6, 6, 2),)),
    "L2Normalization": Example(
        layers.L2Normalization, {"scale": 7.5, "epsilon": 0.25}, (normal(2, 6, 7, 2),)
    ),
    "NonMaxSuppression": Example(
        layers.NonMaxSuppression,
        {"iou_threshold": 0.4, "max_output_size": 3, "score_threshold": 0.2},
        (BOXES, SCORES, LABELS),
    ),
    "AnchorGenerator": Example(
        layers.AnchorGenerator,
        {
            "sizes": ((8.0, 9.5), (16.0, 20.0)),
            "aspect_ratios": ((0.5,), (2.0,)),
            "strides": (4, 8),
            "offset": 0.5,
            "rounded": True,
            "base": 16,
            "clip": True,
        },
        ([normal(2, 6, 7, 2), normal(2, 3, 4, 2)], normal(2, 24, 28, 3)),
    ),
    "Points": Example(
        layers.Points,
        {
            "strides": (4, 9),
            "ranges": (20.0,),
            "radius": 2.5,
            "offset": 0.25,
            "steps_from_image": True,
        },
        ([normal(2, 6, 7, 2), normal(2, 3, 4, 2)], normal(2, 24, 28, 3)),
    ),
}

NOT_DIFFERENTIABLE = ("NonMaxSuppression", "AnchorGenerator", "Points")
DIFFERENTIABLE = [name for name in EXAMPLES if name not in NOT_DIFFERENTIABLE]
WITH_WEIGHTS = [name for name in EXAMPLES if name.startswith("Deformable")] + ["L2Normalization"]


def randomized(layer, inputs):
    """Build the layer, with weights that show when one is lost: a branch then moves its points."""
    layer(*inputs)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(0, 0.3, weight.shape) for weight in layer.weights])
    return layer


def outputs_of(layer, inputs):
    return [np.asarray(output) for output in keras.tree.flatten(layer(*inputs))]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_argument_survives_the_config(name):
    example = EXAMPLES[name]
    defaults = inspect.signature(example.layer).parameters
    assert set(example.options) == set(defaults) - {"kwargs"}
    assert all(defaults[key].default != value for key, value in example.options.items())

    layer = randomized(example.make(name="other"), example.inputs)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    assert again.name == "other"
    stored = layer.get_config()
    for key, value in example.options.items():
        if key == "kernel_initializer":
            assert stored[key]["class_name"] == "GlorotNormal"
        else:
            assert stored[key] == value
        attribute = "initial_scale" if key == "scale" else key
        found, expected = (
            keras.saving.serialize_keras_object(getattr(part, attribute)) for part in (again, layer)
        )
        assert found == expected

    again(*example.inputs)
    again.set_weights(layer.get_weights())
    for found, expected in zip(*(outputs_of(part, example.inputs) for part in (again, layer))):
        np.testing.assert_array_equal(found, expected)


def symbolic(array):
    """An input of unknown batch, height, width and number of boxes; channels and coordinates stay."""
    free = 2 if array.ndim > 2 else 1
    shape = (*(None,) * min(free, array.ndim - 1), *array.shape[1 + free :])
    return keras.Input(shape, dtype=array.dtype.name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_saved_model_gives_the_same(name, tmp_path):
    example = EXAMPLES[name]
    layer = randomized(example.make(), example.inputs)
    inputs = keras.tree.map_structure(symbolic, list(example.inputs))
    if name == "Maxout":  # the axis of its channels has to be known
        inputs = [keras.Input(example.inputs[0].shape[1:])]
    model = keras.Model(inputs, layer(*inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert json.dumps(again.get_config()) == json.dumps(model.get_config())
    found, expected = (keras.tree.flatten(part(list(example.inputs))) for part in (again, model))
    for value, reference, direct in zip(found, expected, outputs_of(layer, example.inputs)):
        np.testing.assert_array_equal(value, reference)
        np.testing.assert_allclose(value, direct, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "jit_compile"),
    [*((name, False) for name in DIFFERENTIABLE), *((name, True) for name in WITH_WEIGHTS)],
)
def test_training_reaches_the_features_and_every_weight(name, jit_compile):
    example = EXAMPLES[name]
    layer = randomized(example.make(), example.inputs)

    @tf.function(jit_compile=jit_compile)
    def slopes(inputs):
        features = [x for x in tf.nest.flatten(inputs) if x.shape.rank == 4]
        with tf.GradientTape() as tape:
            tape.watch(features)
            total = tf.reduce_sum(tf.square(layer(*inputs)))
        return tape.gradient(total, [*features, *layer.trainable_variables])

    for slope in slopes(tf.nest.map_structure(tf.constant, example.inputs)):
        slope = np.asarray(tf.convert_to_tensor(slope))
        assert np.isfinite(slope).all()
        assert np.abs(slope).max() > 1e-4


EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def name_of(name, half):
    return name


@pytest.mark.parametrize(
    ("name", "dtype"), sampled([(n, dtype) for n in DIFFERENTIABLE for dtype in EPSILON], name_of)
)
def test_half_precision_keeps_boxes_and_weights_in_float32(name, dtype):
    example = EXAMPLES[name]
    layer, reference = (example.make(dtype=policy) for policy in (f"mixed_{dtype}", "float32"))

    def rounded(array):
        return np.asarray(tf.cast(tf.cast(array, dtype), "float32")) if array.ndim == 4 else array

    inputs = keras.tree.map_structure(rounded, example.inputs)
    reference(*inputs)
    layer(*inputs)
    assert {weight.dtype for weight in layer.weights} <= {"float32"}
    weights = [keras.tree.map_structure(rounded, w) for w in reference.get_weights()]
    for part in (reference, layer):
        part.set_weights(weights)
    found, expected = layer(*inputs), np.asarray(reference(*inputs))
    assert found.dtype == dtype
    # Results are rounded once; a convolution's taps before that, and their sum.
    tolerance = (4 if name == "DeformableConv2D" else 1) * EPSILON[dtype]
    np.testing.assert_allclose(
        tf.cast(found, "float32"), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
    )


# x = 2049.5 lies between two numbers of float16, 2048 and 2050; 2055.9 is 2056 there, which another
# cell begins with; and float16 ends at 65504.
FAR_BOXES = np.float32(
    [[[2049.5, 3.3, 2077.9, 19.7], [2055.9, 1.1, 2091.3, 30.1], [3, 3, 7e4, 30]]]
)


REGIONS = [(n, f"mixed_{dtype}") for n in DIFFERENTIABLE if "RoI" in n for dtype in EPSILON]


@pytest.mark.parametrize(("name", "policy"), sampled(REGIONS, name_of))
def test_boxes_are_read_in_float32(name, policy):
    # Every other column is 1: a step of a quarter cell shows.
    columns = np.tile(np.arange(300) % 2, (1, 3, 1)).astype("float32")[..., None]
    example = EXAMPLES[name]
    inputs = [
        keras.tree.map_structure(lambda x: np.repeat(columns, x.shape[-1], -1), value)
        for value in example.inputs
    ]
    inputs[1] = FAR_BOXES
    options = {} if "Multilevel" in name else {"spatial_scale": 1 / 16}
    exact = np.asarray(example.make(**options, dtype="float32")(*inputs))

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        tensors = keras.tree.map_structure(
            lambda x: keras.Input(x.shape[1:], dtype="float32"), inputs
        )
        model = keras.Model(tensors, example.make(**options)(*tensors))
        found = tf.cast(model(inputs), "float32")
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_allclose(found, exact, atol=EPSILON[policy.removeprefix("mixed_")])
    assert exact.max() > 0
