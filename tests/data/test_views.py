import numpy as np
import pytest

from tests.training_parts import Squares


class Renamed(Squares):
    """Squares of the classes and ids that a test gives; image i is of class i modulo 2."""

    def __init__(self, length, class_names, category_ids=(1, 2)):
        super().__init__(length)
        self.class_names, self.category_ids = class_names, category_ids


def labels(data):
    return [int(data.record(index).labels[0]) for index in range(len(data))]


def test_classes_are_matched_by_name():
    data = Renamed(4, ("green", "red"), (7, 3))
    other = data.with_classes(("red", "blue", "white", "green"))
    assert labels(data) == [0, 1, 0, 1]
    assert labels(other) == [3, 0, 3, 0]
    assert other.class_names == ("red", "blue", "white", "green")
    # Known ids stay; the least free ones go to the rest.
    assert other.category_ids == (3, 1, 2, 7)
    np.testing.assert_array_equal(other.record(1).boxes, data.record(1).boxes)
    np.testing.assert_array_equal(other.image(1), data.image(1))
    assert labels(other.subset([1])) == [0]
    assert other.record(0).labels.dtype == np.int32


def test_batches_have_the_new_labels():
    from kerasdet.layers import Stretch

    other = Renamed(4, ("green", "red")).with_classes(("red", "white", "green"))
    ((_, targets),) = other.batches(4, Stretch(64))
    assert targets["labels"].numpy()[:, 0].tolist() == [2, 0, 2, 0]


def test_a_class_of_its_own_is_named():
    data = Renamed(2, ("green", "mauve"))
    with pytest.raises(
        ValueError, match=r"squares has .* 'mauve', which are not among 'red', 'green'"
    ):
        data.with_classes(("red", "green"))
    with pytest.raises(ValueError, match="squares names a class twice: red, red"):
        Renamed(2, ("red", "red")).with_classes(("red", "green"))
