"""Cells: which one holds a centre, who owns a place, maps whose cells become channels; clusters of sizes."""

import numpy as np
import pytest
from keras import ops

from kerasdet.ops.cells import cells_of, darknet_reorg, owners, space_to_depth
from kerasdet.ops.clusters import (
    cluster_sizes,
    different_sizes,
    finest_stride,
    pyramid_strides,
    shape_iou,
)


def test_cells_of_centres_by_hand():
    # Three columns of 40 pixels and two rows of 30.
    boxes = np.float32(
        [[[30, 10, 48, 20], [32, 10, 48, 20], [100, 40, 110, 80], [500, 0, 700, 9], [-9, -9, 1, 1]]]
    )
    # Centres (39, 15), (40, 15), (105, 60), far to the right, and outside the first cell.
    assert np.asarray(cells_of(boxes, (2, 3), (60, 120)))[0].tolist() == [0, 1, 5, 2, 0]


def test_owners_by_hand():
    places = np.int32([[3, 1, 3, 3, 0], [2, 2, 2, 2, 2]])
    priority = np.float32([[0.2, 0.5, 0.9, 0.9, 0], [0, 0, 0, 0, 0]])
    # The third object is the first of the best two at place 3; the last one is not learnt.
    assert np.asarray(owners(places, priority, 4)).tolist() == [[-1, 1, -1, 2], [-1] * 4]


def test_adjacent_cells_become_channels():
    x = np.arange(2 * 4 * 6).reshape(1, 4, 6, 2)
    found = np.asarray(space_to_depth(ops.array(x), 2))
    assert found.shape == (1, 2, 3, 8)
    np.testing.assert_array_equal(found[0, 0, 0], [0, 1, 2, 3, 12, 13, 14, 15])
    np.testing.assert_array_equal(found[0, 1, 2], x[0, 2:, 4:].ravel())


def slow_reorg(x, size):
    """Darknet's `reorg` as a loop over places of memory, in its layout."""
    batch, channels, height, width = x.shape
    maps, flat = channels // size**2, x.reshape(batch, -1)
    out = np.zeros_like(flat)
    for k in range(channels):
        for j in range(height):
            for i in range(width):
                row, column = j * size + k // maps // size, i * size + k // maps % size
                place = column + width * size * (row + height * size * (k % maps))
                out[:, i + width * (j + height * k)] = flat[:, place]
    return out.reshape(batch, channels * size**2, height // size, width // size)


@pytest.mark.parametrize(
    ("size", "shape"), [(2, (2, 4, 6, 8)), (2, (1, 6, 2, 4)), (3, (1, 3, 6, 18))]
)
def test_darknets_own_order(size, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = slow_reorg(x.transpose(0, 3, 1, 2), size).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(darknet_reorg(x, size), expected)


def test_darknets_order_is_not_that_of_adjacent_cells():
    x = np.arange(16 * 4.0).reshape(1, 4, 4, 4)
    assert not np.array_equal(darknet_reorg(x, 2), space_to_depth(x, 2))


def test_iou_of_shapes_by_hand():
    np.testing.assert_allclose(
        shape_iou([[2, 2], [4, 1]], [[2, 2], [1, 4], [4, 2]]),
        [[1, 2 / 6, 4 / 8], [2 / 6, 1 / 7, 4 / 8]],
    )


def test_clusters_by_hand():
    # Two shapes and a large one: the distance 1 - IoU does not let the large ones take all centroids.
    sizes = [[10, 20], [10, 22], [20, 10], [22, 10], [200, 200], [220, 210]]
    centroids, mean_iou = cluster_sizes(sizes, 3)
    np.testing.assert_allclose(centroids, [[10, 21], [21, 10], [210, 205]])
    # IoU 20/21 and 21/22, twice; 40000/43050 and 43050/46200.
    expected = (2 * (20 / 21 + 21 / 22) + 40000 / 43050 + 43050 / 46200) / 6
    assert mean_iou == pytest.approx(expected)


def test_clusters_do_not_depend_on_the_seed_where_shapes_are_apart_and_leave_out_no_sizes():
    sizes = [[10, 20], [100, 20], [500, 400], [0, 4], [np.nan, 3], [-2, 5], [np.inf, 5]]
    for seed in range(5):
        centroids, mean_iou = cluster_sizes(sizes, 3, seed)
        np.testing.assert_array_equal(centroids, [[10, 20], [100, 20], [500, 400]])
        assert mean_iou == 1.0


def test_equal_objects_of_scaled_images_have_one_size():
    sizes = np.arange(1.0, 400)[:, None] + [32 * 0.65, 32 * 0.65] - np.arange(1.0, 400)[:, None]
    assert len(np.unique(sizes)) > 1
    assert different_sizes(sizes) == 1
    with pytest.raises(
        ValueError, match="2 anchors were asked for, but the 399 objects have 1 different"
    ):
        cluster_sizes(sizes, 2)


@pytest.mark.parametrize(
    ("sizes", "count", "message"),
    [
        ([[1, 2]] * 9, 2, "2 anchors were asked for, but the 9 objects have 1 different sizes"),
        ([], 1, "1 anchors were asked for, but the 0 objects have 0 different sizes"),
        ([[1, 2]], 0, "count is 0; give a whole number from 1"),
    ],
)
def test_clusters_need_as_many_sizes(sizes, count, message):
    with pytest.raises(ValueError, match=message):
        cluster_sizes(sizes, count)


def test_strides_by_hand():
    # The 5th percentile of 1 to 100 is 5.95.
    sizes = np.stack([np.arange(1, 101), np.arange(1, 101)], axis=-1)
    assert finest_stride(sizes * 16 / 5.94) == 8
    assert finest_stride(sizes * 16 / 5.96) == 4
    assert finest_stride([[8, 32]]) == 8  # the root of the area counts
    assert finest_stride([[20, 20], [0, 9], [-1, -1]]) == 8  # boxes without an area do not
    assert finest_stride(np.zeros((0, 2))) == 8


def test_pyramid_strides_by_hand():
    assert pyramid_strides([[16, 16]]) == (8, 16, 32, 64, 128)
    assert pyramid_strides([[15, 15]]) == (4, 8, 16, 32)
    assert pyramid_strides([[15, 15]], finest=8) == (8, 16, 32, 64, 128)
    assert pyramid_strides([[8, 8]] * 50 + [[256, 256]] * 50) == (4, 8, 16, 32)
    assert pyramid_strides([[8, 8]] * 50 + [[257, 257]] * 50) == (4, 8, 16, 32, 64, 128)
