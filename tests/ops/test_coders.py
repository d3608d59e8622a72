"""The R-CNN deltas, by numbers worked by hand."""

import math

import numpy as np
import pytest
from keras import ops

from kerasdet.ops.coders import (
    decode_corners,
    decode_deltas,
    decode_roots,
    encode_corners,
    encode_deltas,
    encode_roots,
)

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


# -- Speed/accuracy trade-offs, table 1 ------------------------------------------------------------


def test_corners_by_hand():
    corners = [[5.0, 10.0, 15.0, 30.0]]  # (5, 10, 25, 50) less (0, 0, 10, 20)
    np.testing.assert_allclose(encode_corners(BOX, ANCHOR), corners, rtol=1e-6)
    np.testing.assert_allclose(decode_corners(corners, ANCHOR), BOX, rtol=1e-6)
    in_tens = [[0.5, 1.0, 1.5, 3.0]]
    np.testing.assert_allclose(encode_corners(BOX, ANCHOR, 10), in_tens, rtol=1e-6)
    np.testing.assert_allclose(decode_corners(in_tens, ANCHOR, 10), BOX, rtol=1e-6)


def test_square_roots_by_hand():
    # Anchor 9 x 16 about (5, 10); box 25 x 49 about (7, 13).
    anchor, box = [[0.5, 2, 9.5, 18]], [[-5.5, -11.5, 19.5, 37.5]]
    roots = [[2.0, 3.0, 5.0 - 3.0, 7.0 - 4.0]]
    np.testing.assert_allclose(encode_roots(box, anchor), roots, rtol=1e-6)
    np.testing.assert_allclose(decode_roots(roots, anchor), box, rtol=1e-6)
    # In units of 4 pixels: centres by 4, roots by 2.
    in_fours = [[0.5, 0.75, 1.0, 1.5]]
    np.testing.assert_allclose(encode_roots(box, anchor, 4), in_fours, rtol=1e-6)
    np.testing.assert_allclose(decode_roots(in_fours, anchor, 4), box, rtol=1e-6)


@pytest.mark.parametrize("unit", [1.0, 10.0])
@pytest.mark.parametrize(
    ("encode", "decode"), [(encode_corners, decode_corners), (encode_roots, decode_roots)]
)
def test_other_decodings_invert_their_encodings(encode, decode, unit):
    rng = np.random.default_rng(0)
    corners, sides = rng.uniform(0, 500, (2, 3, 50, 2)), rng.uniform(8, 200, (2, 3, 50, 2))
    boxes, anchors = np.concatenate([corners, corners + sides], -1).astype("float32")
    np.testing.assert_allclose(
        decode(encode(boxes, anchors, unit), anchors, unit), boxes, atol=1e-2
    )


def test_predicted_sides_are_not_negative():
    inverted = decode_corners([[20.0, 0.0, -20.0, 5.0]], ANCHOR)
    np.testing.assert_allclose(inverted, [[20, 0, 20, 25]])
    # The root of the width, 3 - 5, counts as 0; that of the height is 4 + 1.
    thin = decode_roots([[0.0, 0.0, -5.0, 1.0]], [[0.5, 2, 9.5, 18]])
    np.testing.assert_allclose(thin, [[5, -2.5, 5, 22.5]])


def test_roots_of_padding_are_finite():
    assert np.isfinite(encode_roots([[-1, -1, -1, -1]], ANCHOR)).all()
    assert np.isfinite(encode_roots(BOX, [[3, 3, 3, 3]])).all()
