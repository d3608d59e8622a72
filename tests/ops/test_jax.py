"""The JAX backend gives the same values as TensorFlow: this file, run under it as a script."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from kerasdet import ops as K
from kerasdet.layers.anchors import AnchorGenerator
from tests.ops.operations import OPERATIONS

# Rows of the table whose gradients are compared: one of each way to read a map.
SLOPES = (
    "roi_pool",
    "roi_align, max",
    "deform_conv2d, modulated",
    "deform_roi_pool",
    "spatial_pyramid_pool, boxes, average",
)


def scene():
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 100, (2, 40, 2))
    boxes = np.concatenate([starts, starts + rng.uniform(5, 60, (2, 40, 2))], -1).astype("float32")
    scores = rng.uniform(0, 1, (2, 40)).astype("float32")
    return boxes, scores, rng.integers(0, 3, (2, 40)).astype("int32")


def compute(boxes, scores, labels):
    """A subset of the operations."""
    generator = AnchorGenerator([[16, 32], [64]], [1.0, 2.0], strides=[16, 32])
    maps = [ops.zeros((1, 6, 5, 2)), ops.zeros((1, 3, 3, 2))]
    anchors = ops.concatenate(generator(maps, ops.zeros((1, 96, 80, 3))), axis=0)
    iou = K.box_iou(boxes[:, :6], anchors)
    indices, counts = K.batched_nms(boxes, scores, labels, 0.4, 15, 0.1)
    return {
        "anchors": anchors,
        "iou": iou,
        "ciou": K.paired_ciou(boxes, boxes[:, ::-1]),
        "matches": K.match_iou(iou, 0.4, 0.5),
        "indices": indices,
        "counts": counts,
        "soft": K.soft_nms(boxes, scores, 20)[1],
        "deltas": K.encode_deltas(boxes, boxes[:, ::-1]),
        "decoded": K.decode_deltas(boxes / 100, boxes),
        "clipped": K.clip_boxes(boxes, np.array([[50, 60], [70, 80]])),
        "focal": K.sigmoid_focal_loss(labels == 0, scores),
        "ohem": K.ohem(scores, boxes, labels == 0, 8, 0.5, 3),
    }


def run_table(compiled, gradients):
    """Every row of the table, with bad inputs and with hardly any: {name: array}.

    Args:
        compiled: makes a function of a dict the one that is run.
        gradients: gives those of the sum of a function's result to the given inputs of a dict.
    """
    found = {}
    for name, operation in OPERATIONS.items():
        function = compiled(lambda inputs, call=operation.function: call(**inputs))
        kinds = {"good": operation.inputs, "bad": operation.bad_inputs()}
        if "features" in kinds["good"] and "boxes" in kinds["good"]:
            kinds["no boxes"] = operation.cut("R", 0)
            kinds["one cell"] = operation.cut("HW", 1)
        for kind, inputs in kinds.items():
            results = keras.tree.flatten(function(inputs)) if inputs else []
            for i, value in enumerate(results):
                found[f"{name}, {kind} {i}"] = value
        if name in SLOPES:
            slopes = gradients(operation.function, operation.inputs, operation.slopes)
            found.update({f"{name}, slope {key}": slope for key, slope in slopes.items()})
    return {name: ops.convert_to_numpy(value) for name, value in found.items()}


def compute_by_jax():
    """The same compiled, and a gradient through the focal loss."""
    import jax

    slope = jax.grad(lambda logits: ops.sum(K.sigmoid_focal_loss(1.0, logits)))
    assert np.isfinite(slope(scene()[1])).all()

    def gradients(function, inputs, names):
        def total(chosen):
            return ops.sum(function(**{**inputs, **chosen}))

        return jax.jit(jax.grad(total))({name: inputs[name] for name in names})

    subset = {name: np.asarray(value) for name, value in jax.jit(compute)(*scene()).items()}
    return {**subset, **run_table(jax.jit, gradients)}


def compute_by_tensorflow():
    import tensorflow as tf

    def gradients(function, inputs, names):
        chosen = {name: tf.constant(inputs[name]) for name in names}
        with tf.GradientTape() as tape:
            tape.watch(chosen)
            total = tf.reduce_sum(function(**{**inputs, **chosen}))
        return tape.gradient(total, chosen)

    subset = compute(*map(ops.convert_to_tensor, scene()))
    subset = {name: ops.convert_to_numpy(value) for name, value in subset.items()}
    return {**subset, **run_table(lambda function: function, gradients)}


def test_jax_equals_tensorflow(tmp_path):
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-m", "tests.ops.test_jax", str(tmp_path / "jax.npz")],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, expected = np.load(tmp_path / "jax.npz"), compute_by_tensorflow()
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        tolerance = 1e-4 if name.partition(", ")[0] in OPERATIONS else 1e-5
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


if __name__ == "__main__":
    np.savez(sys.argv[1], **compute_by_jax())
