"""SSD's default boxes: counts and places by hand, scales of the paper, fitted ones."""

import math

import numpy as np
import pytest
from keras.src.testing import TestCase

from kerasdet.layers import DefaultBoxes
from kerasdet.layers.default_boxes import paper_scales


class DefaultBoxesTest(TestCase):
    def test_layer(self):
        self.run_layer_test(
            DefaultBoxes,
            init_kwargs={
                "ratios": [(2,), (2, 3)],
                "scales": (0.1, 0.2, 0.4),
                "steps": (8, 16),
                "clip": "sides",
                "lowest": 0.05,
                "sizes": (1, 2),
            },
            input_shape=[(2, 8, 6, 3), (2, 4, 3, 3)],
            call_kwargs={"images": np.zeros((2, 64, 48, 3), np.float32)},
            expected_output_shape=[(8 * 6 * 3, 4), (4 * 3 * 10, 4)],
            expected_output_dtype=["float32", "float32"],
            expected_num_trainable_weights=0,
            expected_num_non_trainable_weights=0,
            # Nothing to train; and Keras' check of mixed precision leaves the images out.
            run_training_check=False,
            run_mixed_precision_check=False,
        )


def lay(boxes, grids, canvas):
    """The boxes over maps of these sizes."""
    maps = [np.zeros((1, *grid, 2), np.float32) for grid in grids]
    return [np.asarray(rows) for rows in boxes(maps, np.zeros((1, *canvas, 3), np.float32))]


def test_the_paper_has_8732_and_24564_boxes():
    grids = [(side, side) for side in (38, 19, 10, 5, 3, 1)]
    counts = [len(rows) for rows in lay(DefaultBoxes.ssd300(), grids, (300, 300))]
    assert counts == [5776, 2166, 600, 150, 36, 4]
    assert sum(counts) == 8732
    grids = [(side, side) for side in (64, 32, 16, 8, 4, 2, 1)]
    counts = [len(rows) for rows in lay(DefaultBoxes.ssd512(), grids, (512, 512))]
    assert sum(counts) == 24_564


def test_the_papers_scales():
    # 0.2 to 0.9 over five maps, conv4_3 before them and the next step after them.
    voc = [0.1, 0.2, 0.375, 0.55, 0.725, 0.9, 1.075]
    np.testing.assert_allclose(DefaultBoxes.ssd300().scales, voc)
    coco = [0.07, 0.15, 0.3375, 0.525, 0.7125, 0.9, 1.0875]
    np.testing.assert_allclose(DefaultBoxes.ssd300(0.07, 0.15).scales, coco)
    voc = [0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05]
    np.testing.assert_allclose(DefaultBoxes.ssd512().scales, voc)
    np.testing.assert_allclose(DefaultBoxes.ssd512(0.04, 0.1).scales[:3], [0.04, 0.1, 0.26])


def test_boxes_of_a_cell_by_hand():
    # An image of 40 x 80 (height x width) and a map of 2 x 2: the first centre is (20, 10).
    (rows,) = lay(DefaultBoxes([(4,)], (0.2, 0.45)), [(2, 2)], (40, 80))
    sides = [(16, 8), (24, 12), (32, 4), (8, 16)]
    expected = [[20 - w / 2, 10 - h / 2, 20 + w / 2, 10 + h / 2] for w, h in sides]
    np.testing.assert_allclose(rows[:4], expected, rtol=1e-6)
    np.testing.assert_allclose(rows[4:8] - rows[:4], [[40, 0, 40, 0]] * 4, atol=1e-5)
    np.testing.assert_allclose(rows[8:12] - rows[:4], [[0, 20, 0, 20]] * 4, atol=1e-5)


def test_steps_place_the_centres():
    # 100 pixels from one cell to the next, though the map has 3 cells for 310 pixels.
    (rows,) = lay(DefaultBoxes([()], (0.1, 0.1), steps=[100]), [(3, 3)], (310, 310))
    centres = (rows[:6:2, 0] + rows[:6:2, 2]) / 2
    np.testing.assert_allclose(centres, [50, 150, 250], atol=1e-4)


def test_clipping_of_sides_and_of_corners():
    # One cell of 100 x 100: the wide box has sides 141 and 35; the square of sqrt(0.7 * 1.6) 106.
    settings = {"ratios": [(4,)], "scales": (0.7, 1.6)}
    (free,) = lay(DefaultBoxes(**settings), [(1, 1)], (100, 100))
    np.testing.assert_allclose(free[2], [-20, 32.5, 120, 67.5], atol=1e-4)
    (sides,) = lay(DefaultBoxes(**settings, clip="sides"), [(1, 1)], (100, 100))
    np.testing.assert_allclose(sides[2], [0, 32.5, 100, 67.5], atol=1e-4)
    settings = {"ratios": [()], "scales": (0.8, 0.8)}
    (rows,) = lay(DefaultBoxes(**settings, clip="sides"), [(2, 2)], (100, 100))
    np.testing.assert_allclose(rows[0], [-15, -15, 65, 65], atol=1e-4)
    (rows,) = lay(DefaultBoxes(**settings, clip="corners"), [(2, 2)], (100, 100))
    np.testing.assert_allclose(rows[0], [0, 0, 65, 65], atol=1e-4)


def test_several_sizes_of_a_map_by_hand():
    # From 0.1 by factors of 2 up to the next map's 0.4, each as a square, wide and tall.
    boxes = DefaultBoxes([(4,), ()], (0.1, 0.4, 0.5), sizes=[2, 1])
    assert boxes.num_boxes == [6, 2]
    first, second = lay(boxes, [(1, 1), (1, 1)], (100, 100))
    sides = [(10, 10), (20, 5), (5, 20), (20, 20), (40, 10), (10, 40)]
    np.testing.assert_allclose(first[:, 2:] - first[:, :2], sides, rtol=1e-5)
    np.testing.assert_allclose((second[:, 2:] - second[:, :2])[:, 0], [40, math.sqrt(2000)], 1e-5)


def test_tensorflows_first_map_has_one_square():
    # The boxes that the published face detector has stored.
    (rows,) = lay(DefaultBoxes([(2,)], (0.2, 0.35), lowest=0.1), [(32, 32)], (1, 1))
    x, y = (rows[:3, :2] + rows[:3, 2:]).T / 2
    np.testing.assert_allclose([x, y], [[0.015625] * 3] * 2, atol=1e-6)
    sides = [(0.1, 0.1), (0.28284, 0.14142), (0.14142, 0.28284)]
    np.testing.assert_allclose(rows[:3, 2:] - rows[:3, :2], sides, atol=1e-5)


def test_fitted_boxes():
    # Sizes from 0.04 to 0.4, twice as tall as wide; cells of 1/32, 1/16 and 1/8.
    sizes = np.linspace(0.04, 0.4, 361)
    shares = np.stack([sizes / math.sqrt(2), sizes * math.sqrt(2)], axis=-1)
    boxes = DefaultBoxes.fitted(shares, [1 / 32, 1 / 16, 1 / 8])
    # The 5th percentile is 0.058; then three cells of 1/16, of 1/8 and of 1/4.
    np.testing.assert_allclose(boxes.scales, [0.058, 0.1875, 0.375, 0.75])
    # 0.1875 / 0.058 = 3.23 takes three factors of 1.48, and 2 takes two of 1.41.
    assert boxes.sizes == (3, 2, 2)
    assert boxes.ratios == ((2.0,),) * 3
    squares = np.stack([sizes, sizes], axis=-1)
    assert DefaultBoxes.fitted(squares, [0.1, 0.2]).ratios == ((1.5,),) * 2
    # Large objects do not crowd on the first map: four of its cells, then three of the other maps'.
    large = DefaultBoxes.fitted(np.full((1, 2), 0.8), [0.1, 0.2])
    np.testing.assert_allclose(large.scales, [0.4, 0.6, 1.2])
    # Maps of almost the same stride: the scales still grow.
    near = DefaultBoxes.fitted(np.full((1, 2), 0.8), [0.1, 0.11])
    np.testing.assert_allclose(near.scales, [0.4, 0.5, 0.66])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": (0.1, 0.2)}, "`scales` has 2 entries; give 7"),
        ({"steps": (8,)}, "`steps` has 1 entries; give 6"),
        ({"sizes": (1, 2)}, "`sizes` has 2 entries; give 6"),
        ({"sizes": (0,) * 6}, "`sizes` are .*; give positive finite numbers"),
        ({"lowest": 0}, "`lowest` are .*; give positive finite numbers"),
        ({"lowest": 0.1, "sizes": (2,) * 6}, "takes the place of two squares, .* has 2 sizes"),
        ({"clip": "both"}, "clip is 'both'; give one of"),
        ({"ratios": [(0,)] * 6}, "`ratios` are .*; give positive finite numbers"),
        ({"ratios": [(2,)] * 2}, "for 3 maps or more, not 2"),
    ],
    ids=str,
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        DefaultBoxes(**options)


def test_features_must_be_as_many_as_ratios():
    with pytest.raises(ValueError, match="`features` has 1 entries; give 6"):
        lay(DefaultBoxes(), [(2, 2)], (64, 64))


def test_nothing_to_fit_to():
    with pytest.raises(ValueError, match="none of the 1 boxes has an area"):
        DefaultBoxes.fitted([[0.0, 0.5]], [0.1])
    assert len(paper_scales(3)) == 4
