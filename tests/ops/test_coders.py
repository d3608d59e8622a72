"""The R-CNN deltas, by numbers worked by hand."""

import math

import numpy as np
import pytest
from keras import ops

from kerasdet.ops.coders import decode_deltas, encode_deltas

ANCHOR = [[0, 0, 10, 20]]  # centre (5, 10)
BOX = [[5, 10, 25, 50]]  # centre (15, 30), 20 x 40
DELTAS = [[1.0, 1.0, math.log(2), math.log(2)]]


def test_encode_deltas():
    np.testing.assert_allclose(encode_deltas(BOX, ANCHOR), DELTAS, rtol=1e-6)


def test_decode_deltas():
    np.testing.assert_allclose(decode_deltas(DELTAS, ANCHOR), BOX, rtol=1e-6)


def test_weights_multiply_and_divide():
    weights = (10.0, 10.0, 5.0, 5.0)
    expected = [[10.0, 10.0, 5 * math.log(2), 5 * math.log(2)]]
    np.testing.assert_allclose(encode_deltas(BOX, ANCHOR, weights), expected, rtol=1e-6)
    np.testing.assert_allclose(decode_deltas(expected, ANCHOR, weights), BOX, rtol=1e-6)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (10, 10, 5, 5)])
def test_decode_inverts_encode(weights):
    rng = np.random.default_rng(0)
    corners, sides = rng.uniform(0, 500, (2, 3, 50, 2)), rng.uniform(8, 200, (2, 3, 50, 2))
    boxes, anchors = np.concatenate([corners, corners + sides], -1).astype("float32")
    decoded = decode_deltas(encode_deltas(boxes, anchors, weights), anchors, weights)
    np.testing.assert_allclose(decoded, boxes, atol=1e-2)


def test_scale_is_cut_at_62_5():
    # A 16 x 16 anchor grows to 1000 x 1000 and no further.
    decoded = decode_deltas([[0.0, 0.0, 100.0, 100.0]], [[0, 0, 16, 16]])
    np.testing.assert_allclose(decoded, [[-492, -492, 508, 508]], rtol=1e-5)


def test_padding_has_finite_deltas():
    deltas = ops.convert_to_numpy(encode_deltas([[-1, -1, -1, -1]], ANCHOR))
    assert np.isfinite(deltas).all()
    assert np.isfinite(encode_deltas(BOX, [[3, 3, 3, 3]])).all()


def test_bfloat16_deltas_decode_in_float32():
    deltas = ops.cast(np.zeros((1, 4)), "bfloat16")
    decoded = decode_deltas(deltas, [[1001.0, 0, 1004, 3]])
    np.testing.assert_array_equal(decoded, [[1001, 0, 1004, 3]])
