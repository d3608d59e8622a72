"""The anchor layer: RetinaNet's anchors, level by level."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase

from kerasdet.layers.anchors import AnchorGenerator

GRIDS = [(8, 6), (4, 3), (2, 2), (1, 1), (1, 1)]


class AnchorGeneratorTest(TestCase):
    def test_layer(self):
        self.run_layer_test(
            AnchorGenerator,
            init_kwargs={"sizes": [[8, 9.5], [16, 20]], "aspect_ratios": [0.5, 1, 2]},
            input_shape=[(2, 8, 6, 3), (2, 4, 3, 3)],
            call_kwargs={"images": np.zeros((2, 64, 48, 3), np.float32)},
            expected_output_shape=[(8 * 6 * 6, 4), (4 * 3 * 6, 4)],
            expected_output_dtype=["float32", "float32"],
            expected_num_trainable_weights=0,
            expected_num_non_trainable_weights=0,
            # Nothing to train; and Keras' check of mixed precision leaves the images out.
            run_training_check=False,
            run_mixed_precision_check=False,
        )


def lay(generator, grids, canvas):
    """The generator's anchors over maps of these sizes."""
    maps = [np.zeros((1, *grid, 2), np.float32) for grid in grids]
    return [np.asarray(a) for a in generator(maps, np.zeros((1, *canvas, 3), np.float32))]


def sides(boxes):
    return boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]


def test_retinanet():
    # Section 4: areas 32^2 to 512^2 on P3 to P7, times 2^0, 2^(1/3), 2^(2/3), ratios 1:2, 1:1, 2:1.
    generator = AnchorGenerator.retinanet()
    assert generator.num_anchors == 9
    levels = lay(generator, GRIDS, (64, 48))
    assert [len(level) for level in levels] == [9 * h * w for h, w in GRIDS]
    for i, level in enumerate(levels):
        widths, heights = sides(level)
        scales = np.sqrt(widths * heights)[:9] / (32 * 2**i)
        np.testing.assert_allclose(scales, np.tile([1, 2 ** (1 / 3), 2 ** (2 / 3)], 3), rtol=1e-5)
        np.testing.assert_allclose((heights / widths)[:9], np.repeat([0.5, 1, 2], 3), rtol=1e-5)
    np.testing.assert_allclose(
        levels[0][9 + 3], [8 - 16, -16, 8 + 16, 16]
    )  # second column, 32 x 32


def test_clipped_anchors_end_at_the_canvas():
    # Of 16 x 16 pixels about (0, 0), (8, 0), (0, 8), (8, 8) on a canvas of 12 x 15.
    generator = AnchorGenerator([[16]], [1], strides=[8], clip=True)
    (found,) = lay(generator, [(2, 2)], (12, 15))
    expected = [[0, 0, 8, 8], [0, 0, 15, 8], [0, 0, 8, 12], [0, 0, 15, 12]]
    np.testing.assert_array_equal(found, expected)


def test_as_torchvision():
    # Sizes 32, 40, 50 (int of 32 * 2^(1/3) = 40.3 and 50.8); 40 / sqrt(0.5) / 2 = 28.28.
    sizes = [[32, 40, 50]]
    generator = AnchorGenerator(sizes, [0.5, 1, 2], rounded=True)
    np.testing.assert_array_equal(
        generator.cells[0][:6],
        [
            [-23, -11, 23, 11],
            [-28, -14, 28, 14],
            [-35, -18, 35, 18],
            [-16, -16, 16, 16],
            [-20, -20, 20, 20],
            [-25, -25, 25, 25],
        ],
    )
    # P6 of an 800 pixel canvas has 13 cells: 800 // 13 = 61, and 1088 // 17 = 64.
    (anchors,) = lay(AnchorGenerator([[2]], [1]), [(13, 17)], (800, 1088))
    np.testing.assert_array_equal(anchors[-1], [16 * 64 - 1, 12 * 61 - 1, 16 * 64 + 1, 12 * 61 + 1])


def test_fitted():
    # Sizes 20 and 160: the 5th percentile of [20] * 10 + [160] * 90 is 20.
    small = [[0, 0, 20, 20]] * 10
    tall = [[5, 5, 85, 325]] * 90  # 80 x 320
    generator = AnchorGenerator.fitted(small + tall + [[3, 3, 3, 9]])
    # From 20 to 64, eight cells of P3: three sizes, a third of log 3.2 apart.
    assert generator.sizes[0] == pytest.approx((20, 20 * 3.2 ** (1 / 3), 20 * 3.2 ** (2 / 3)))
    assert generator.aspect_ratios[0] == (1.0, 4.0, 4.0)
    assert generator.sizes[1][0] == 64
    with pytest.raises(ValueError, match="none of the 1 boxes"):
        AnchorGenerator.fitted([[3, 3, 3, 9]])


def test_small_objects_are_found_on_the_finest_map():
    # From 16 to 64 in two octaves: four sizes, the roots of two apart.
    anchors = AnchorGenerator.fitted([[0, 0, 16, 16]] * 9)
    assert anchors.sizes[0] == pytest.approx((16, 22.63, 32, 45.25), abs=0.01)
    assert anchors.sizes[1][0] == 64
    assert anchors.strides == (8, 16, 32, 64, 128)
    # Below two cells of P3, P2 comes first: from 8 to 32.
    anchors = AnchorGenerator.fitted([[0, 0, 8, 8]] * 9)
    assert anchors.sizes[0] == pytest.approx((8, 11.31, 16, 22.63), abs=0.01)
    assert anchors.sizes[1][0] == 32
    assert anchors.strides == (4, 8, 16, 32)


def test_large_objects_do_not_crowd_on_the_finest_map():
    for layout, base in ((None, 32), (AnchorGenerator.fpn, 32)):
        anchors = AnchorGenerator.fitted([[0, 0, 300, 300]] * 9, layout)
        assert anchors.sizes[0][0] == base
        assert anchors.sizes[4][0] == 512
        assert anchors.strides == ((8, 16, 32, 64, 128) if layout is None else None)
    # From P2 on, a few small objects among large ones: four cells of it.
    mixed = [[0, 0, 15, 15]] * 9 + [[0, 0, 300, 300]] * 91
    assert AnchorGenerator.fitted(mixed).sizes[0][0] == 15


def test_a_proposal_networks_anchors():
    assert AnchorGenerator.fpn().sizes == ((32,), (64,), (128,), (256,), (512,))
    fitted = AnchorGenerator.fitted([[0, 0, 10, 20]] * 3, AnchorGenerator.fpn)
    assert fitted.sizes[1] == pytest.approx((2 * 14.1,))  # the root of 200, rounded
    assert fitted.aspect_ratios[0] == (2.0, 2.0, 2.0)
    # Objects of 10 and of 810 pixels: five levels reach from one to the other by threes.
    wide = [[0, 0, 10, 10]] * 9 + [[0, 0, 810, 810]] * 9
    sizes = AnchorGenerator.fitted(wide, AnchorGenerator.fpn).sizes
    assert sizes == ((10,), (30,), (90,), (270,), (810,))


def test_levels_may_differ():
    generator = AnchorGenerator([[8], [16, 32]], [[1], [1, 2]])
    assert generator.num_anchors == [1, 4]
    first, second = lay(generator, [(2, 2), (1, 1)], (8, 8))
    assert first.shape == (4, 4)
    assert second.shape == (4, 4)


def test_offset():
    (anchors,) = lay(AnchorGenerator([[2]], [1], offset=0.5), [(1, 1)], (8, 4))
    np.testing.assert_array_equal(anchors, [[1, 3, 3, 5]])


def test_float32_under_every_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        (anchors,) = lay(AnchorGenerator([[2]], [1], strides=[9]), [(1, 300)], (8, 2700))
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_array_equal(anchors[-1], [299 * 9 - 1, -1, 299 * 9 + 1, 1])


def test_config_round_trip():
    generator = AnchorGenerator([[8, 9.5], [16, 20]], [[0.5], [2]], [4, 8], 0.5, True, name="other")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(generator))
    assert again.get_config() == generator.get_config()
    for name in ("sizes", "aspect_ratios", "strides", "offset", "rounded", "name"):
        assert getattr(again, name) == getattr(generator, name)
    assert not generator.weights


def test_wrong_number_of_levels():
    with pytest.raises(ValueError, match="`aspect_ratios` has 3 levels and `sizes` has 2"):
        AnchorGenerator([[8], [16]], [[1]] * 3)
    with pytest.raises(ValueError, match="`features` has 1 levels and `sizes` has 5"):
        lay(AnchorGenerator.retinanet(), [(1, 1)], (8, 8))
