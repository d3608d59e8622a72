"""Segmentation measured by IU: counts, the four figures of the FCN paper, a model on a data set."""

from types import SimpleNamespace

import numpy as np
import pytest

from kerasdet.data import digit_scenes
from kerasdet.data.records import Dataset
from kerasdet.metrics import count_pixels, evaluate_segmentation, semantic_figures

TRUTH = np.array([[0, 0, 1], [1, 1, -1]])
PREDICTION = np.array([[0, 1, 1], [1, 0, 2]])
MATRIX = [[1, 1, 0], [1, 2, 0], [0, 0, 0]]  # the void pixel, taken for a 2, is left out


def test_pixels_are_counted_by_truth_and_prediction():
    assert count_pixels(TRUTH, PREDICTION, 3).tolist() == MATRIX
    assert count_pixels(TRUTH.astype("int8"), PREDICTION.astype("uint8"), 3).tolist() == MATRIX
    assert count_pixels(np.full((2, 2), -1), np.zeros((2, 2), int), 2).tolist() == [[0, 0], [0, 0]]
    assert count_pixels(np.full((3, 3), 2), np.zeros((3, 3), int), 3).tolist() == [
        *([0, 0, 0], [0, 0, 0]),
        [9, 0, 0],
    ]


def test_many_pixels_and_classes():
    truth = np.full((300, 300), 149, "uint8")
    assert count_pixels(truth, truth, 150)[149, 149] == 90000


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (TRUTH, PREDICTION[:1], r"shape \(2, 3\) and its prediction \(1, 3\)"),
        (TRUTH[0], PREDICTION[0], r"shape \(3,\)"),
        (np.where(TRUTH < 0, 255, TRUTH), PREDICTION, "the semantic map has the class 255, .* -1"),
        (TRUTH - 1, PREDICTION, "the semantic map has the class -2"),
        (
            TRUTH,
            PREDICTION + 1,
            "the prediction has the class 3, but there are 3, 0..2: every pixel",
        ),
        (TRUTH, PREDICTION - 1, "the prediction has the class -1"),
        (TRUTH, PREDICTION * 1.0, "the prediction has dtype float64; classes must be integers"),
    ],
)
def test_impossible_maps(truth, prediction, message):
    with pytest.raises(ValueError, match=message):
        count_pixels(truth, prediction, 3)


def test_the_four_figures_by_hand():
    figures = semantic_figures(MATRIX)
    # Right: 1 of 2 and 2 of 3 pixels; unions 2 + 2 - 1 and 3 + 3 - 2. The class 2 is nowhere.
    assert figures["pixel_accuracy"] == pytest.approx(3 / 5)
    assert figures["mean_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert figures["mIU"] == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert figures["fwIU"] == pytest.approx((2 * 1 / 3 + 3 * 2 / 4) / 5)
    assert figures["per_class"] == {
        "0": {"IU": pytest.approx(1 / 3), "accuracy": 0.5, "pixels": 2},
        "1": {"IU": 0.5, "accuracy": pytest.approx(2 / 3), "pixels": 3},
        "2": {"IU": None, "accuracy": None, "pixels": 0},
    }


def test_a_class_predicted_and_nowhere_true_lowers_the_mean_iu_alone():
    figures = semantic_figures([[2, 1, 1], [0, 4, 0], [0, 0, 0]], ["a", "b", "c"])
    assert figures["mIU"] == pytest.approx((2 / 4 + 4 / 5 + 0) / 3)
    assert figures["mean_accuracy"] == pytest.approx((2 / 4 + 4 / 4) / 2)
    assert figures["pixel_accuracy"] == pytest.approx(6 / 8)
    assert figures["fwIU"] == pytest.approx((4 * 2 / 4 + 4 * 4 / 5) / 8)
    assert figures["per_class"]["c"] == {"IU": 0.0, "accuracy": None, "pixels": 0}


def test_all_right_and_nothing_at_all():
    figures = semantic_figures([[7, 0], [0, 2]])
    names = ("mIU", "pixel_accuracy", "mean_accuracy", "fwIU")
    assert [figures[name] for name in names] == [1, 1, 1, 1]
    figures = semantic_figures(np.zeros((2, 2), int))
    assert [figures[name] for name in names] == [None] * 4


def test_matrices_that_are_refused():
    for wrong in ([[1, 2]], [[1, -1], [0, 0]], [1, 2]):
        with pytest.raises(ValueError, match=r"the matrix must hold counts \(K, K\)"):
            semantic_figures(wrong)
    with pytest.raises(ValueError, match="2 class_names for a matrix of 3 classes"):
        semantic_figures(MATRIX, ["a", "b"])


class Maps(Dataset):
    """Two images of different sizes; their first channel is what the model will predict."""

    name = "maps"
    truths = (TRUTH, np.array([[1, 2]]))
    predictions = (PREDICTION, np.array([[1, 0]]))

    def __init__(self, semantic_names=()):
        self.semantic_names = semantic_names

    def __len__(self):
        return 2

    def record(self, index):
        return SimpleNamespace(image_id=f"image {index}")

    def image(self, index):
        return np.repeat(self.predictions[index][..., None], 3, -1).astype("uint8")

    def semantic(self, index):
        return self.truths[index].astype("int32")


class Segmenter:
    class_names = ("ground", "cat", "dog")

    def segment(self, images):
        return [image[..., 0].astype("int32") for image in images]


def test_a_model_on_a_data_set_by_hand():
    seen = []

    def progress(images):
        for image in images:
            seen.append(image.shape)
            yield image

    figures, matrix = evaluate_segmentation(Segmenter(), Maps(), progress)
    assert seen == [(2, 3, 3), (1, 2, 3)]
    assert matrix.tolist() == [[1, 1, 0], [1, 3, 0], [1, 0, 0]]
    assert figures["pixel_accuracy"] == pytest.approx(4 / 7)
    assert figures["mIU"] == pytest.approx((1 / 4 + 3 / 5 + 0) / 3)
    assert list(figures["per_class"]) == ["ground", "cat", "dog"]


def test_classes_are_matched_by_name():
    # What the data calls 0, 1, 2 are the model's 2, 0, 1.
    _, matrix = evaluate_segmentation(Segmenter(), Maps(("dog", "ground", "cat")))
    assert matrix.tolist() == [[1, 3, 0], [1, 0, 0], [1, 1, 0]]
    with pytest.raises(ValueError, match=r"does not know the data's class\(es\) 'cow'"):
        evaluate_segmentation(Segmenter(), Maps(("ground", "cat", "cow")))
    with pytest.raises(
        ValueError, match=r"maps, image 'image 1': .* class 2, but there are 2, 0..1: se"
    ):
        evaluate_segmentation(Segmenter(), Maps(("ground", "cat")))


def test_what_is_wrong_names_the_image():
    class Cropping(Segmenter):
        def segment(self, images):
            return [image[:1, :, 0].astype("int32") for image in images]

    with pytest.raises(ValueError, match=r"maps, image 'image 0': the semantic map has shape"):
        evaluate_segmentation(Cropping(), Maps())

    class Holes(Maps):
        def semantic(self, index):
            return super().semantic(index) if index == 0 else None

    with pytest.raises(ValueError, match="maps, image 'image 1': the semantic map has"):
        evaluate_segmentation(Segmenter(), Holes())

    class NoMaps(Maps):
        def semantic(self, index):
            return None

    with pytest.raises(ValueError, match="maps has no semantic maps"):
        evaluate_segmentation(Segmenter(), NoMaps())


def test_digit_scenes_name_the_classes_of_their_maps():
    data = digit_scenes("val", 2)
    known = iter([data.semantic(0), data.semantic(1)])
    model = SimpleNamespace(class_names=data.semantic_names, segment=lambda images: [next(known)])
    figures, matrix = evaluate_segmentation(model, data)
    assert figures["mIU"] == figures["pixel_accuracy"] == 1
    assert matrix.shape == (11, 11)
    assert matrix.sum() == 2 * 256 * 256
    assert data.subset([1]).semantic_names == ("ground", *"0123456789")
