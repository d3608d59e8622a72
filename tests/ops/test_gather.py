"""Rows picked per image."""

import numpy as np

from kerasdet.ops.gather import gather_rows


def test_each_image_picks_its_own_rows():
    table = np.array([[10, 11, 12], [20, 21, 22]])
    picked = gather_rows(table, np.array([[2, 0], [1, -1]]))
    assert np.asarray(picked).tolist() == [[12, 10], [21, 20]]  # -1, padding, gives row 0


def test_rows_may_have_columns():
    table = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    assert np.asarray(gather_rows(table, np.array([[1], [2]]))).tolist() == [[[2, 3]], [[10, 11]]]
