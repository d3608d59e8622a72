"""Every operation in every form it runs in: graphs, unknown sizes, XLA, half precision, exports.

The eager result is the reference; that it is right is the matter of the other files. Every operation is
run in every environment (graph, XLA, LiteRT, ONNX, half precision); its variants, the graph's three
forms, the two half types and the axes that are cut are sampled, and run whole by `pytest --all`.
"""

import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf

from kerasdet.ops import native
from tests.ops.exports import run_litert, run_onnx
from tests.ops.operations import OPERATIONS
from tests.sampling import sampled

TOLERANCE = 1e-4

WAYS = ("portable", "graph", "any_size", "xla")
ENVIRONMENT = {"portable": "graph", "graph": "graph", "any_size": "graph", "xla": "xla"}

# Distance from 1 to the next number.
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def evaluate(operation, inputs):
    """Results, and gradients of a weighted sum of the first."""
    differentiated = {name: inputs[name] for name in operation.slopes}
    with tf.GradientTape() as tape:
        tape.watch(differentiated)
        results = tf.nest.flatten(operation.function(**inputs))
        if not differentiated:
            return results, {}
        values = tf.cast(results[0], "float32")
        weights = tf.cos(tf.range(tf.size(values), dtype="float32"))
        total = tf.reduce_sum(values * tf.reshape(weights, tf.shape(values)))
    slopes = tape.gradient(total, differentiated)
    return results, {name: tf.convert_to_tensor(slope) for name, slope in slopes.items()}


@functools.cache
def compiled(name, way):
    operation = OPERATIONS[name]
    function = tf.function(
        lambda **inputs: evaluate(operation, inputs), jit_compile=way == "xla", autograph=False
    )
    if way == "xla":
        return function
    shapes = operation.shapes() if way == "any_size" else {}
    specs = {
        key: tf.TensorSpec(shapes.get(key, value.shape), value.dtype)
        for key, value in operation.inputs.items()
    }
    with native.portable() if way == "portable" else contextlib.nullcontext():
        return function.get_concrete_function(**specs)


def run(name, way, inputs):
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    return evaluate(OPERATIONS[name], inputs) if way == "eager" else compiled(name, way)(**inputs)


def assert_same(found, expected):
    assert len(found[0]) == len(expected[0])
    pairs = [*zip(found[0], expected[0]), *((found[1][key], expected[1][key]) for key in found[1])]
    for value, reference in pairs:
        assert value.dtype == reference.dtype
        assert np.isfinite(np.asarray(value, "float64")).all()
        np.testing.assert_allclose(value, reference, rtol=TOLERANCE, atol=TOLERANCE)


def operation_of(name):
    """ "roi_align" of its variant "roi_align, max"."""
    return name.partition(",")[0]


def kind(name, *rest):
    """Of each kind one case is run always: an operation in an environment."""
    return operation_of(name), ENVIRONMENT.get(rest[-1], rest[-1]) if rest else None


@pytest.mark.parametrize(
    ("name", "way"), sampled([(name, way) for name in OPERATIONS for way in WAYS], kind)
)
def test_values_and_gradients_equal_the_eager_ones(name, way):
    operation = OPERATIONS[name]
    for inputs in filter(None, (operation.inputs, operation.bad_inputs())):
        expected = run(name, "eager", inputs)
        assert set(expected[1]) == set(operation.slopes)
        assert_same(run(name, way, inputs), expected)


def rows_with(letters):
    return [
        name for name, op in OPERATIONS.items() if set(letters) & set("".join(op.axes.values()))
    ]


def rows_without(axes):
    """(row, axes, way) of what is run without regions or boxes, or without images."""
    for name in rows_with(axes):
        if axes != "B":
            if name != "ohem":  # there are always anchors
                yield from ((name, axes, way) for way in ("eager", "any_size", "xla"))
            continue
        yield name, axes, "any_size"
        if name not in ("spatial_pyramid_pool", "maxout"):
            yield name, axes, "eager"  # where Keras refuses the maximum of nothing


@pytest.mark.parametrize(
    ("name", "axes", "way"), sampled([*rows_without("RN"), *rows_without("B")], kind)
)
def test_nothing_to_work_on(name, axes, way):
    results, slopes = run(name, way, OPERATIONS[name].cut(axes, 0))
    if axes == "B":
        assert results[0].shape[0] == 0
    elif "nms" in name:
        np.testing.assert_array_equal(results[0], np.full((2, 8), -1))
    else:
        assert results[0].shape[:2] == (2, 0)
    for slope in slopes.values():
        assert not np.any(slope)


# The dilated kernel makes three cells of one, so that its offsets are more.
ONE_CELL = [(name, "any_size") for name in rows_with("HW") if name != "deform_conv2d, groups"]
ONE_CELL += [(name, "xla") for name in ("roi_pool", "roi_align", "deform_conv2d", "ps_roi_pool")]


@pytest.mark.parametrize(("name", "way"), sampled(ONE_CELL, kind))
def test_maps_of_one_cell(name, way):
    inputs = OPERATIONS[name].cut("HW", 1)
    assert_same(run(name, way, inputs), run(name, "eager", inputs))


HALF = [(name, dtype) for name, op in OPERATIONS.items() if op.features for dtype in EPSILON]


@pytest.mark.parametrize(("name", "dtype"), sampled(HALF, lambda name, _: operation_of(name)))
def test_half_precision(name, dtype):
    operation = OPERATIONS[name]
    half = {key: tf.cast(operation.inputs[key], dtype) for key in operation.features}
    rounded = {key: tf.cast(value, "float32") for key, value in half.items()}
    found = operation.function(**{**operation.inputs, **half})
    expected = np.asarray(operation.function(**{**operation.inputs, **rounded}))
    assert found.dtype == dtype
    # Results are rounded once, a convolution's taps before that, and their sum.
    roundings = 4 if "conv" in name else 1
    tolerance = roundings * EPSILON[dtype]
    np.testing.assert_allclose(
        tf.cast(found, "float32"), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
    )


def assert_exported(found, name):
    expected = tf.nest.flatten(OPERATIONS[name].function(**OPERATIONS[name].inputs))
    assert len(found) == len(expected)
    for value, reference in zip(found, expected):
        assert value.dtype == reference.dtype
        np.testing.assert_allclose(value, reference, rtol=TOLERANCE, atol=TOLERANCE)


# CIoU has an arctangent, which LiteRT has not: it is a loss, and no part of a detector's file.
@pytest.mark.parametrize("name", sampled([name for name in OPERATIONS if name != "box_ciou"], kind))
def test_litert_builtins_give_the_same(name):
    pytest.importorskip("ai_edge_litert")
    operation = OPERATIONS[name]
    assert_exported(run_litert(operation.function, operation.inputs), name)


@pytest.mark.parametrize("name", sampled(OPERATIONS, kind))
def test_onnx_of_any_size_gives_the_same(name):
    pytest.importorskip("onnxruntime")
    operation = OPERATIONS[name]
    found = run_onnx(operation.function, operation.inputs, operation.shapes())
    assert_exported(found, name)
