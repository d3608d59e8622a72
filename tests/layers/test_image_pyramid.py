import numpy as np
import pytest
import tensorflow as tf

from kerasdet.layers import ImagePyramid

IMAGE = np.arange(4 * 6, dtype=np.float32).reshape(1, 4, 6, 1)


def test_levels_by_hand():
    whole, half = ImagePyramid([1.0, 0.5])(IMAGE, np.array([[4, 3]]))
    np.testing.assert_array_equal(whole[0], IMAGE)
    np.testing.assert_array_equal(whole[2], [1, 1, 1, 1])
    # Bilinear at half the size: the mean of 2 x 2 pixels; the first are 0, 1, 6, 7.
    assert half[0].shape == (1, 2, 3, 1)
    assert np.asarray(half[0])[0, :, :, 0].tolist() == [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]
    assert np.asarray(half[1]).tolist() == [[2, 1.5]]
    np.testing.assert_array_equal(half[2], [2, 2, 2, 2])


def test_sides_are_rounded_down_and_boxes_come_back_exactly():
    ((level, sizes, scale),) = ImagePyramid([0.7])(IMAGE, np.array([[4, 6]]))
    assert level.shape == (1, 2, 4, 1)  # 2.8 and 4.2
    np.testing.assert_allclose(sizes, [[2, 4]])
    np.testing.assert_allclose(np.array([0, 0, 4, 2]) * scale, [0, 0, 6, 4], rtol=1e-6)


def test_canvases_of_unknown_size():
    pyramid = ImagePyramid([0.5, 2.0])
    spec = tf.TensorSpec((None, None, None, 1)), tf.TensorSpec((None, 2))
    traced = tf.function(pyramid.call, input_signature=spec)
    sizes = np.array([[4, 6]], np.float32)
    for level, expected in zip(traced(IMAGE, sizes), pyramid(IMAGE, sizes)):
        for found, wanted in zip(level, expected):
            np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_configuration_and_bad_factors():
    pyramid = ImagePyramid.from_config(ImagePyramid((1, 0.5)).get_config())
    assert pyramid.factors == (1.0, 0.5)
    for factors in ((), (0.0,), (1.0, -2.0)):
        with pytest.raises(ValueError, match="factors must be positive"):
            ImagePyramid(factors)
