"""The anchor layer: RetinaNet's anchors, level by level."""

import keras
import numpy as np
import pytest

from kerasdet.layers.anchors import AnchorGenerator

GRIDS = [(8, 6), (4, 3), (2, 2), (1, 1), (1, 1)]
STRIDES = [(8, 8), (16, 16), (32, 32), (64, 64), (128, 128)]


def sides(boxes):
    return boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]


def test_retinanet():
    # Section 4: areas 32^2 to 512^2 on P3 to P7, times 2^0, 2^(1/3), 2^(2/3), ratios 1:2, 1:1, 2:1.
    generator = AnchorGenerator.retinanet()
    assert generator.num_anchors == 9
    levels = [np.asarray(level) for level in generator(GRIDS, STRIDES)]
    assert [len(level) for level in levels] == [9 * h * w for h, w in GRIDS]
    for i, level in enumerate(levels):
        widths, heights = sides(level)
        scales = np.sqrt(widths * heights)[:9] / (32 * 2**i)
        np.testing.assert_allclose(scales, np.tile([1, 2 ** (1 / 3), 2 ** (2 / 3)], 3), rtol=1e-5)
        np.testing.assert_allclose((heights / widths)[:9], np.repeat([0.5, 1, 2], 3), rtol=1e-5)
    np.testing.assert_allclose(
        levels[0][9 + 3], [8 - 16, -16, 8 + 16, 16]
    )  # second column, 32 x 32


def test_retinanet_rounded_as_torchvision():
    # Sizes 32, 40, 50 (int of 32 * 2^(1/3) = 40.3 and 50.8); 40 / sqrt(0.5) / 2 = 28.28.
    cell = AnchorGenerator.retinanet(rounded=True).cells[0]
    np.testing.assert_array_equal(
        cell[:6],
        [
            [-23, -11, 23, 11],
            [-28, -14, 28, 14],
            [-35, -18, 35, 18],
            [-16, -16, 16, 16],
            [-20, -20, 20, 20],
            [-25, -25, 25, 25],
        ],
    )


def test_levels_may_differ():
    generator = AnchorGenerator([[8], [16, 32]], [[1], [1, 2]])
    assert generator.num_anchors == [1, 4]
    first, second = generator([(2, 2), (1, 1)], [(4, 4), (8, 8)])
    assert first.shape == (4, 4)
    assert second.shape == (4, 4)


def test_offset():
    (anchors,) = AnchorGenerator([[2]], [1], offset=0.5)([(1, 1)], [(8, 4)])
    np.testing.assert_array_equal(anchors, [[1, 3, 3, 5]])


def test_float32_under_every_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        (anchors,) = AnchorGenerator([[2]], [1])([(1, 300)], [(8, 8.25)])
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_array_equal(anchors[-1], [299 * 8.25 - 1, -1, 299 * 8.25 + 1, 1])


def test_config_round_trip():
    generator = AnchorGenerator([[8, 9.5], [16, 20]], [[0.5], [2]], 0.5, True, name="other")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(generator))
    assert again.get_config() == generator.get_config()
    for name in ("sizes", "aspect_ratios", "offset", "rounded", "name"):
        assert getattr(again, name) == getattr(generator, name)
    assert not generator.weights


def test_wrong_number_of_levels():
    with pytest.raises(ValueError, match="3 levels and `sizes` has 2"):
        AnchorGenerator([[8], [16]], [[1]] * 3)
    with pytest.raises(ValueError, match="made for 5 levels, called with 1 grid sizes"):
        AnchorGenerator.retinanet()([(1, 1)], STRIDES)
