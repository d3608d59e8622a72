"""Rows picked per image."""

import numpy as np

from kerasdet.ops.gather import gather_rows, top_rows


def test_each_image_picks_its_own_rows():
    table = np.array([[10, 11, 12], [20, 21, 22]])
    picked = gather_rows(table, np.array([[2, 0], [1, -1]]))
    assert np.asarray(picked).tolist() == [[12, 10], [21, 20]]  # -1, padding, gives row 0


def test_rows_may_have_columns():
    table = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    assert np.asarray(gather_rows(table, np.array([[1], [2]]))).tolist() == [[[2, 3]], [[10, 11]]]


def test_top_rows_are_at_most_as_many_as_there_are():
    scores = np.array([[0.1, 0.9, 0.5]], np.float32)
    for count, expected in ((2, [1, 2]), (9, [1, 2, 0])):
        best, rows = top_rows(scores, count)
        assert np.asarray(rows)[0].tolist() == expected
        np.testing.assert_array_equal(best[0], scores[0, expected])
