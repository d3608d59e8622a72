"""Values and gradients of the operations against torchvision, tensorflow-addons and slow loops."""

import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf

from kerasdet import ops
from kerasdet.ops import native
from tests.golden.store import Case, load, upstream
from tests.ops import references

GOLDEN = {**load("torchvision_ops.npz"), **load("tfa_ops.npz")}

FORMS = {"native": contextlib.nullcontext, "portable": native.portable}

# Operations that are not called by the inputs' names alone.
CALLS = {
    "multilevel_roi_align": lambda boxes, output_size, sampling_ratio, **pyramid: (
        ops.multilevel_roi_align(pyramid, boxes, output_size, sampling_ratio)
    ),
    "nms": lambda **arguments: ops.nms(**arguments)[0],
    "batched_nms": lambda **arguments: ops.batched_nms(**arguments)[0],
}

# Regions in pixels, on maps of 6 x 7 cells of 4 pixels, two images of three: inside, beyond the
# upper left corner, to the last row and column; all and more, smaller than a cell, beyond the map.
BOXES = np.array(
    [
        [[3.1, 4.3, 21.7, 17.2], [-9.3, -6.1, 12.9, 10.7], [9.1, 7.3, 28.9, 24.7]],
        [[-13.1, -14.7, 45.3, 41.9], [13.3, 12.7, 14.1, 13.9], [50.3, 41.1, 70.7, 60.9]],
    ]
)


@pytest.fixture(params=sorted(FORMS))
def form(request):
    with FORMS[request.param]():
        assert native.available() == (request.param == "native")
        yield request.param


def close(actual, expected, tolerance):
    actual = np.asarray(actual)
    assert actual.shape == expected.shape
    largest = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * largest)


def check(case):
    """Compare an operation's output and gradients with a case's."""
    function = CALLS.get(case.op) or getattr(ops, case.op)
    inputs = {
        name: tf.constant(value, "float32" if value.dtype.kind == "f" else "int32")
        for name, value in case.inputs.items()
    }
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = function(**inputs, **case.options)
        total = tf.reduce_sum(tf.cast(output, "float32") * upstream(case.output.shape))
    close(output, case.output, 1e-4)
    slopes = tape.gradient(total, {name: inputs[name] for name in case.gradients})
    for name, expected in case.gradients.items():
        close(tf.convert_to_tensor(slopes[name]), expected, 1e-3)


@pytest.mark.parametrize("name", GOLDEN)
def test_op_equals_the_reference_implementation(name, form):
    check(GOLDEN[name])


# --- The slow loops, first proven, then what torchvision does not have ----------------------------


def run_loop(op, inputs, options):
    return getattr(references, op)(**inputs, **options)


@pytest.mark.parametrize("name", [n for n, case in GOLDEN.items() if hasattr(references, case.op)])
def test_loop_equals_the_reference_implementation(name):
    case = GOLDEN[name]
    inputs = {key: value.astype("float64") for key, value in case.inputs.items()}
    close(run_loop(case.op, inputs, case.options), case.output, 1e-5)
    if case.op == "roi_pool":
        weights = upstream(case.output.shape)
        slopes = references.roi_pool_gradient(**inputs, **case.options, upstream=weights)
        close(slopes, case.gradients["features"], 1e-5)


def maps(channels, rows=6, columns=7):
    return np.random.default_rng(0).normal(0, 1, (2, rows, columns, channels))


def regions(channels, **options):
    return {"features": maps(channels), "boxes": BOXES}, {"spatial_scale": 1 / 4, **options}


def one_region(box, spatial_scale, channels, output_size):
    inputs = {"features": maps(channels, 64, 64), "boxes": np.full((2, 1, 4), box, "float64")}
    return inputs, {"output_size": output_size, "spatial_scale": float(spatial_scale)}


def moved_regions(channels, reach, **options):
    inputs, options = regions(channels, **options)
    bins = options["output_size"]
    offsets = np.random.default_rng(1).uniform(-reach, reach, (*BOXES.shape[:2], bins, bins, 2))
    return {**inputs, "offsets": offsets}, options


# Case: operation, (inputs, options), the inputs that are differentiated.
LOOPS = {
    "max_roi_align": ("roi_align", regions(2, output_size=(3, 2), reduction="max"), ["features"]),
    "max_roi_align_aligned": (
        "roi_align",
        regions(2, output_size=2, reduction="max", sampling_ratio=3, aligned=True),
        ["features"],
    ),
    "ps_roi_pool_at_the_border": ("ps_roi_pool", regions(8, output_size=2), ["features"]),
    "deform_roi_pool": (
        "deform_roi_pool",
        moved_regions(2, 1, output_size=2),
        ["features", "offsets"],
    ),
    "deform_roi_pool_far": (
        "deform_roi_pool",
        moved_regions(2, 2, output_size=3, gamma=0.5),
        ["features", "offsets"],
    ),
    "deform_roi_pool_at_rest": (
        "deform_roi_pool",
        moved_regions(2, 0, output_size=3),
        ["features"],
    ),
    "deform_ps_roi_pool": (
        "deform_ps_roi_pool",
        moved_regions(8, 1, output_size=2),
        ["features", "offsets"],
    ),
    "deform_ps_roi_pool_far": (
        "deform_ps_roi_pool",
        moved_regions(9, 2, output_size=3, gamma=0.5),
        ["features", "offsets"],
    ),
    "deform_ps_roi_pool_at_rest": (
        "deform_ps_roi_pool",
        moved_regions(9, 0, output_size=3),
        ["features"],
    ),
    "max_pyramid": (
        "spatial_pyramid_pool",
        ({"features": maps(2)}, {"levels": (1, 2, 4), "pooling": "max"}),
        ["features"],
    ),
    "average_pyramid": (
        "spatial_pyramid_pool",
        ({"features": maps(2)}, {"levels": (3, 2), "pooling": "average"}),
        ["features"],
    ),
    # Corners at -1.5, 0.5, 2.5 and 4.5 cells: halves go away from zero, not up and not to even.
    "roi_pool_at_halves": ("roi_pool", one_region([-6, 2, 10, 18], 1 / 4, 4, 2), []),
    "ps_roi_pool_at_halves": ("ps_roi_pool", one_region([-6, 2, 10, 18], 1 / 4, 4, 2), []),
    # In float32, 7 * (57 / 7) is a little over 57: bins have to be divided in whole numbers.
    "roi_pool_exact_bins": ("roi_pool", one_region([2, 3, 58, 59], 1, 49, 7), []),
    "ps_roi_pool_exact_bins": ("ps_roi_pool", one_region([2, 3, 59, 60], 1, 49, 7), []),
}


@functools.cache
def loop_case(name):
    """A Case from the slow loop, with gradients by central differences."""
    op, (inputs, options), differentiate = LOOPS[name]
    # The numbers that the operation sees, which are float32.
    inputs = {key: value.astype("float32").astype("float64") for key, value in inputs.items()}
    output = run_loop(op, inputs, options)
    weights = upstream(output.shape)

    gradients = {}
    for key in differentiate:

        def run(value, key=key):
            return run_loop(op, {**inputs, key: value}, options)

        slopes = {"features": references.feature_gradient, "offsets": references.offset_gradient}
        gradients[key] = slopes[key](run, inputs[key], weights)
    return Case(op, inputs, options, output, gradients)


@pytest.mark.parametrize("name", LOOPS)
def test_op_equals_the_slow_loop(name, form):
    check(loop_case(name))


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_pyramid_equals_sliding_windows_at_the_papers_size(pooling, form):
    # SPP-net, section 2.3: 13 x 13 cells and levels 3, 2, 1; 6 fits too.
    features, levels = maps(2, 13, 13).astype("float32"), (6, 3, 2, 1)
    expected = references.sliding_pyramid_pool(features, levels, pooling)
    close(references.spatial_pyramid_pool(features, levels, pooling), expected, 1e-6)
    close(ops.spatial_pyramid_pool(features, levels, pooling), expected, 1e-4)


# --- By hand --------------------------------------------------------------------------------------


def test_bilinear_value_by_hand(form):
    # f(x, y) read at x = 6.5, y = 5.8: half of columns 6 and 7, 0.2 of row 5, 0.8 of row 6.
    features = np.zeros((1, 9, 10, 1), "float32")
    features[0, 5, 6], features[0, 5, 7], features[0, 6, 6], features[0, 6, 7] = 10, 20, 30, 50
    features = tf.Variable(features)
    boxes = np.array([[[6.0, 5.3, 7.0, 6.3]]], "float32")  # its centre is the one sample
    with tf.GradientTape() as tape:
        value = ops.roi_align(features, boxes, 1, 1.0, sampling_ratio=1)
    # 0.5 * 0.2 * 10 + 0.5 * 0.2 * 20 + 0.5 * 0.8 * 30 + 0.5 * 0.8 * 50
    np.testing.assert_allclose(value, [[[[[35.0]]]]], rtol=1e-5)
    slopes = tf.convert_to_tensor(tape.gradient(value, features))[0, 5:7, 6:8, 0]
    np.testing.assert_allclose(slopes, [[0.1, 0.1], [0.4, 0.4]], rtol=1e-5)


def roi_pool_slopes(features, boxes, weights):
    """Gradient of the weighted sum of RoIPool's single bins to a map: (H, W), (R, 4), (R,)."""
    features = tf.Variable(np.array(features, "float32")[None, :, :, None])
    with tf.GradientTape() as tape:
        pooled = ops.roi_pool(features, np.array([boxes], "float32"), 1, 1.0)
        total = tf.reduce_sum(pooled[0, :, 0, 0, 0] * weights)
    return tf.convert_to_tensor(tape.gradient(total, features))[0, :, :, 0]


def test_regions_that_share_a_maximum_add_their_gradients(form):
    features = [[1, 2, 3], [4, 9, 5], [6, 7, 8]]
    slopes = roi_pool_slopes(features, [[0, 0, 1, 1], [1, 1, 2, 2]], [2.0, 3.0])
    np.testing.assert_array_equal(slopes, [[0, 0, 0], [0, 5, 0], [0, 0, 0]])


def test_the_first_of_equal_maxima_takes_the_gradient(form):
    features = [[1, 2, 7], [2, 7, 2], [7, 7, 1]]
    slopes = roi_pool_slopes(features, [[0, 0, 2, 2], [0, 1, 1, 2]], [2.0, 3.0])
    np.testing.assert_array_equal(slopes, [[0, 0, 2], [0, 3, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        # Rows 2 to 5, columns 1 to 3: 35 + 2, moved by 0.1 * 0.5 * 4 rows, -0.1 * 0.25 * 3 columns.
        ("deform_roi_pool", 37 + 10 * 0.2 - 0.075),
        # Rows 2 to 4, columns 1 to 2: 30 + 1.5, moved by 0.1 * 0.5 * 3 rows, -0.1 * 0.25 * 2 columns.
        ("deform_ps_roi_pool", 31.5 + 10 * 0.15 - 0.05),
    ],
)
def test_deformable_pooling_by_hand(op, expected, form):
    y, x = np.mgrid[0:8, 0:8]
    features = (10 * y + x).astype("float32")[None, :, :, None]
    boxes = np.array([[[4.0, 8.0, 12.0, 20.0]]], "float32")
    offsets = np.array([0.5, -0.25], "float32").reshape(1, 1, 1, 1, 2)
    value = getattr(ops, op)(features, boxes, offsets, 1, 1 / 4)
    np.testing.assert_allclose(value, [[[[[expected]]]]], rtol=1e-5)
    loop = getattr(references, op)(features, boxes, offsets, 1, 1 / 4)
    np.testing.assert_allclose(loop, [[[[[expected]]]]], rtol=1e-6)
