"""Masks: cut to regions, pasted into images, read at their highest point; by hand and by slow loops."""

import math

import numpy as np
import pytest
import tensorflow as tf

from kerasdet.ops.masks import cubic_kernel, cut_masks, mask_peaks, paste_masks


def left_half(size=8):
    """One object that covers the left half of an image: (1, 1, size, size)."""
    mask = np.zeros((1, 1, size, size), np.uint8)
    mask[..., : size // 2] = 1
    return mask


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0, 0, 8, 8], [[1, 0], [1, 0]]),
        ([0, 0, 4, 8], [[1, 1], [1, 1]]),
        ([4, 2, 8, 6], [[0, 0], [0, 0]]),
        # Points at x = 2.5, 3.5, 4.5, 5.5: centres of pixels, two of the object's.
        ([2, 2, 6, 6], [[1, 0], [1, 0]]),
        # Points at 3.25, 3.75 and 4.25, 4.75: a quarter and three quarters of the way to pixel 4.
        ([3, 0, 5, 8], [[0.875, 0.125], [0.875, 0.125]]),
    ],
)
def test_cut_by_hand(box, expected):
    target = cut_masks(left_half(), np.array([[box]], np.float32), np.array([[0]]), 2)
    np.testing.assert_allclose(target[0, 0], expected, atol=1e-6)


def cut_slowly(mask, box, size, ratio):
    """Means of ratio x ratio bilinear samples per cell, one by one."""
    height, width = mask.shape
    result = np.zeros((size, size))
    for i, j, a, b in np.ndindex(size, size, ratio, ratio):
        y = box[1] + (box[3] - box[1]) * (i + (a + 0.5) / ratio) / size - 0.5
        x = box[0] + (box[2] - box[0]) * (j + (b + 0.5) / ratio) / size - 0.5
        y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        top, left = int(y), int(x)
        for row in (top, min(top + 1, height - 1)):
            for column in (left, min(left + 1, width - 1)):
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                result[i, j] += weight * mask[row, column] / ratio**2
    return result


def test_cut_equals_loops_in_each_regions_own_object():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (2, 3, 20, 17)).astype(np.uint8)
    corners = rng.uniform(0.6, 9, (2, 4, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 6.5, (2, 4, 2))], axis=-1)
    objects = np.array([[2, 0, 1, 1], [0, 2, 2, 1]])
    for ratio in (1, 3):
        found = cut_masks(masks, boxes.astype(np.float32), objects, 5, ratio)
        for b, r in np.ndindex(2, 4):
            expected = cut_slowly(masks[b, objects[b, r]], boxes[b, r], 5, ratio)
            np.testing.assert_allclose(found[b, r], expected, atol=1e-5)


def test_cut_of_a_batch_of_unknown_size():
    unknown = tf.TensorSpec((None, None, None, None), "uint8")
    boxes = tf.TensorSpec((None, None, 4), "float32")
    objects = tf.TensorSpec((None, None), "int32")
    traced = tf.function(lambda *a: cut_masks(*a, 2), input_signature=[unknown, boxes, objects])
    found = traced(left_half(), [[[0.0, 0, 8, 8], [0, 0, 0, 0]]], [[0, -1]])
    np.testing.assert_allclose(found[0, 0], [[1, 0], [1, 0]])
    assert np.isfinite(found).all()


def test_a_full_mask_fills_its_box():
    # 28 cells and the ring span 6.43 to 113.57, whole pixels 6 to 113: 30 cells on 108 pixels. The object's
    # edge, one cell in, lies after 3.6 pixels: pixels 10 to 109 have their centres inside.
    full = np.ones((1, 28, 28), np.float32)
    pasted = paste_masks(full, [[10, 10, 110, 110]], (120, 130))
    expected = np.zeros((1, 120, 130), bool)
    expected[:, 10:110, 10:110] = True
    np.testing.assert_array_equal(pasted, expected)


def test_paste_by_hand():
    # Two cells and the ring: the box [2, 6] grows to [0, 8], nine pixels. Along an axis the one cell's
    # weights in them are 0, 0.17, 0.61, 0.94, 0.5, 0.06, 0, 0, 0.
    mask = np.array([[[1, 0], [0, 0]]], np.float32)
    pasted = paste_masks(mask, [[2, 2, 6, 6]], (10, 12))
    assert np.argwhere(pasted[0]).tolist() == [[2, 3], [3, 2], [3, 3]]
    lower = paste_masks(mask, [[2, 2, 6, 6]], (10, 12), threshold=0.4)
    assert np.argwhere(lower[0]).tolist() == [[2, 3], [3, 2], [3, 3], [3, 4], [4, 3]]


def paste_slowly(mask, box, size, kernel):
    """Torchvision's rule, pixel by pixel."""
    m, (height, width) = len(mask), size
    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half_w, half_h = ((b - a) / 2 * (m + 2) / m for a, b in ((box[0], box[2]), (box[1], box[3])))
    x1, y1, x2, y2 = (int(v) for v in (cx - half_w, cy - half_h, cx + half_w, cy + half_h))
    soft = np.zeros(size)
    for y, x in np.ndindex(height, width):
        if not (y1 <= y <= y2 and x1 <= x <= x2):
            continue
        at_y = (y - y1 + 0.5) * (m + 2) / (y2 - y1 + 1) - 1.5
        at_x = (x - x1 + 0.5) * (m + 2) / (x2 - x1 + 1) - 1.5
        for i, j in np.ndindex(m, m):
            soft[y, x] += kernel(abs(at_y - i)) * kernel(abs(at_x - j)) * mask[i, j]
    return soft


def cubic(distance, a=-0.75):
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * (distance**3 - 5 * distance**2 + 8 * distance - 4) if distance < 2 else 0.0


@pytest.mark.parametrize(
    ("interpolation", "kernel"), [("bilinear", lambda d: max(1 - d, 0)), ("bicubic", cubic)]
)
def test_paste_equals_loops_over_the_edge_too(interpolation, kernel):
    rng = np.random.default_rng(1)
    masks = rng.uniform(0, 1, (5, 4, 4)).astype(np.float32)
    boxes = [[3.2, 4.1, 11.7, 9.9], [0, 0, 24, 17], [-6, 2.5, 5, 30], [20, 14.9, 24, 15.1]]
    boxes = np.array([*boxes, [7, 7, 7, 7]], np.float32)
    pasted = paste_masks(masks, boxes, (17, 24), interpolation=interpolation)
    for mask, box, found in zip(masks, boxes, pasted):
        soft = paste_slowly(mask, box, (17, 24), kernel)
        clear = np.abs(soft - 0.5) > 1e-5
        np.testing.assert_array_equal(found[clear], (soft > 0.5)[clear])
    assert pasted[:3].any((1, 2)).all()


def test_paste_nothing_and_outside():
    assert paste_masks(np.zeros((0, 28, 28)), np.zeros((0, 4)), (5, 6)).shape == (0, 5, 6)
    outside = np.array([[-30, -30, -20, -20], [50, 2, 60, 4]], np.float32)
    assert not paste_masks(np.ones((2, 28, 28)), outside, (5, 6)).any()


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"boxes has the shape \(1, 4\); give \(2, 4\)"):
        paste_masks(np.ones((2, 28, 28)), np.zeros((1, 4)), (5, 6))
    with pytest.raises(ValueError, match="interpolation is 'nearest'"):
        paste_masks(np.ones((1, 28, 28)), np.zeros((1, 4)), (5, 6), interpolation="nearest")
    with pytest.raises(ValueError, match="masks has the shape"):
        cut_masks(np.zeros((1, 8, 8)), np.zeros((1, 1, 4)), np.zeros((1, 1)), 2)
    with pytest.raises(ValueError, match="logits has the shape"):
        mask_peaks(np.zeros((1, 8, 8, 1)), np.zeros((1, 1, 4)))


def test_cubic_kernel_by_hand():
    # a = -0.75: 1.25 / 8 - 2.25 / 4 + 1 = 0.59375; -0.75 (3.375 - 11.25 + 12 - 4) = -0.09375
    weights = cubic_kernel(np.array([0, 0.5, 1, 1.5, 2, 7], np.float32))
    np.testing.assert_allclose(weights, [1, 0.59375, 0, -0.09375, 0, 0], atol=1e-6)


def resized(mask, height, width):
    """Cubic interpolation at pixel centres, the edge's values going on outside."""
    rows, columns = (
        np.array(
            [
                [
                    sum(
                        cubic(abs(p - q)) for q in range(-3, n + 3) if min(max(q, 0), n - 1) == cell
                    )
                    for cell in range(n)
                ]
                for p in ((np.arange(side) + 0.5) * n / side - 0.5)
            ]
        )
        for side, n in zip((height, width), mask.shape)
    )
    return rows @ mask @ columns.T


def test_peaks_equal_a_search_of_the_resized_masks():
    rng = np.random.default_rng(2)
    # Fewer pixels than cells, than lattice points, more, and the most that are read one by one: 24 m.
    sides = [(0.4, 1.7), (3.2, 9.9), (6.0, 11.0), (12.5, 17.3), (40.2, 21.6), (143.4, 77.0)]
    logits = rng.normal(0, 3, (1, len(sides), 6, 6, 3)).astype(np.float32)
    corners = rng.uniform(0, 50, (len(sides), 2))
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    found = np.asarray(mask_peaks(logits, boxes[None]))[0]
    assert found.shape == (len(sides), 3, 3)
    for d, p in np.ndindex(len(sides), 3):
        x1, y1, x2, y2 = boxes[d]
        w, h = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
        image = resized(logits[0, d, :, :, p], math.ceil(h), math.ceil(w))
        row, column = divmod(int(image.argmax()), image.shape[1])
        expected = [
            x1 + (column + 0.5) * w / image.shape[1],
            y1 + (row + 0.5) * h / image.shape[0],
            image.max(),
        ]
        np.testing.assert_allclose(found[d, p], expected, atol=1e-3)


def hill(size, x, y):
    """A mask that falls off with the distance from a place in cells, (1, 1, size, size, 1)."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    return -((columns - x) ** 2 + (rows - y) ** 2)[None, None, ..., None].astype(np.float32)


@pytest.mark.parametrize(("side", "off"), [(90, 0.51), (700, 0.51), (3000, 1.51)])
def test_a_peak_is_found_where_it_was_put(side, off):
    # In the middle of cells 19 and 40 of 56; a box of 3000 pixels is read at every third of them.
    boxes = np.array([[[100, 200, 100 + side, 200 + side]]], np.float32)
    x, y, score = np.asarray(mask_peaks(hill(56, 19.5, 40.5), boxes))[0, 0, 0]
    assert x == pytest.approx(100 + 19.5 * side / 56, abs=off)
    assert y == pytest.approx(200 + 40.5 * side / 56, abs=off)
    assert score == pytest.approx(0, abs=0.2)


def test_peaks_of_unknown_shapes_and_under_xla():
    logits, boxes = hill(8, 2.7, 6.6), np.array([[[0, 0, 80, 40]]], np.float32)
    expected = mask_peaks(logits, boxes)
    signature = [
        tf.TensorSpec((None, None, 8, 8, 1), "float32"),
        tf.TensorSpec((None, None, 4), "float32"),
    ]
    traced = tf.function(mask_peaks, input_signature=signature)
    np.testing.assert_allclose(traced(logits, boxes), expected, atol=1e-5)
    compiled = tf.function(mask_peaks, jit_compile=True)
    np.testing.assert_allclose(compiled(logits, boxes), expected, atol=1e-4)
    assert traced(logits[:, :0], boxes[:, :0]).shape == (1, 0, 1, 3)
