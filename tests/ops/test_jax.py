"""The JAX backend gives the same values as TensorFlow: this file, run under it as a script."""

import os
import subprocess
import sys

import numpy as np
import pytest
from keras import ops

from kerasdet import ops as K
from kerasdet.layers.anchors import AnchorGenerator


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


def compute_by_jax():
    """The same compiled, and a gradient through the focal loss."""
    import jax

    slope = jax.grad(lambda logits: ops.sum(K.sigmoid_focal_loss(1.0, logits)))
    assert np.isfinite(slope(scene()[1])).all()
    return {name: np.asarray(value) for name, value in jax.jit(compute)(*scene()).items()}


def test_jax_equals_tensorflow(tmp_path):
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "jax.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, expected = np.load(tmp_path / "jax.npz"), compute(*map(ops.convert_to_tensor, scene()))
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        value = ops.convert_to_numpy(value)
        assert found[name].dtype == value.dtype, name
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


if __name__ == "__main__":
    np.savez(sys.argv[1], **compute_by_jax())
