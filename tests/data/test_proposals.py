"""Proposals: their file, the view that adds them to a data set, and their way into batches."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from kerasdet.data import load_proposals, save_proposals
from kerasdet.data.augment import HorizontalFlip
from kerasdet.data.records import Dataset, FileDataset, Record
from kerasdet.layers.resizing import Fit, Stretch

# Of images 20 high and 30 wide.
FOUND = {
    7: np.float32([[1, 2, 11, 12], [0, 0, 30, 20]]),
    8: np.float32([[-5, 4, 10, 40]]),
    9: np.zeros((0, 4), "float32"),
}


class Scenes(Dataset):
    """Images 7, 8 and 9 (or "a", "b" and "c") of 20 x 30 pixels, one object each."""

    name = "scenes"
    class_names = ("thing",)
    category_ids = (1,)

    def __init__(self, ids=(7, 8, 9)):
        self.ids = ids

    def __len__(self):
        return 3

    def record(self, index):
        one = np.ones(1)
        boxes = np.float32([[2, 2, 8, 8]])
        labels = np.zeros(1, "int32")
        return Record(self.ids[index], 20, 30, boxes, labels, one < 0, one, path=f"{index}.png")

    def image(self, index):
        return np.full((20, 30, 3), index, "uint8")


def file(tmp_path, found=FOUND):
    save_proposals(tmp_path / "boxes.npz", found)
    return tmp_path / "boxes.npz"


# ---------------------------------------------------------------- the file


def test_boxes_come_back(tmp_path):
    back = load_proposals(file(tmp_path, {**FOUND, "7": [[0, 0, 1, 2]], np.int64(3): []}))
    assert list(back) == [7, 8, 9, "7", 3]
    for image_id, boxes in FOUND.items():
        np.testing.assert_array_equal(back[image_id], boxes)
        assert back[image_id].dtype == np.float32
    assert back["7"].tolist() == [[0, 0, 1, 2]]
    assert back[3].shape == (0, 4)


def test_scores_come_back(tmp_path):
    found = {"café/1": (np.float64([[0, 0, 4, 4], [1, 1, 2, 3]]), [0.25, 0.75]), "b": ([], [])}
    back = load_proposals(file(tmp_path, found))
    boxes, scores = back["café/1"]
    assert boxes.tolist() == [[0, 0, 4, 4], [1, 1, 2, 3]]
    assert scores.tolist() == [0.25, 0.75]
    assert back["b"][0].shape == (0, 4)
    assert back["b"][1].shape == (0,)
    assert load_proposals(file(tmp_path, {})) == {}


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    path = file(tmp_path)
    with pytest.raises(ValueError, match=r"image 8: proposal 0 is .*nan.* not finite"):
        save_proposals(path, {**FOUND, 8: [[0, 0, np.nan, 4]]})
    assert list(load_proposals(path)) == [7, 8, 9]
    assert [p.name for p in tmp_path.iterdir()] == ["boxes.npz"]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({1: [[0, 0, 4, np.inf]]}, r"image 1: proposal 0 is \[0.0, 0.0, 4.0, inf\], which is not"),
        ({1: [[0, 0, 4, 4], [5, 5, 5, 9]]}, r"proposal 1 is \[5.0, 5.0, 5.0, 9.0\], which has no"),
        ({1: [[0, 0, 4, 1e39]]}, "which is not finite"),
        ({1: [0, 0, 4, 4]}, r"proposals have shape \(4,\); give boxes \(N, 4\)"),
        ({1: [[0, 0, 4]]}, r"proposals have shape \(1, 3\)"),
        ({"x": [["a", 0, 4, 4]]}, "image 'x': proposals are not an array of numbers"),
        ({1: ([[0, 0, 4, 4]], [1, 2])}, r"scores have shape \(2,\) for 1 proposals"),
        ({1: ([[0, 0, 4, 4]], [np.nan])}, "score 0 is nan"),
        ({1: ([[0, 0, 4, 4]], [1]), 2: [[0, 0, 4, 4]]}, "image 1 has scores, but image 2 has none"),
        ({1.5: []}, "image id 1.5 is float; ids must be int or str"),
        ({True: []}, "image id True is bool"),
    ],
)
def test_what_is_not_saved(found, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_proposals(tmp_path / "boxes.npz", found)
    assert not list(tmp_path.iterdir())


def test_files_have_their_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"boxes.json: proposals are stored in a .npz file"):
        save_proposals(tmp_path / "boxes.json", FOUND)


def damaged(path, **changed):
    with np.load(path) as saved:
        arrays = {name: saved[name] for name in saved.files} | changed
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    "changed",
    [
        {"boxes": None},
        {"boxes": np.zeros((2, 4), "float32")},
        {"boxes": np.full((3, 4), np.nan, "float32")},
        {"boxes": np.zeros((3, 5), "float32")},
        {"boxes": np.array([None, {}, 3], object)},
        {"counts": np.array([2, 2, -1])},
        {"counts": np.array([3])},
        {"image_ids": np.array("[7, 7, 8]")},
        {"image_ids": np.array("[7, 8")},
        {"image_ids": np.array("7")},
        {"image_ids": np.array("[7, 8, 9.5]")},
        {"image_ids": np.array("[7, 8, [9]]")},
        {"format_version": None},
        {"surprise": np.zeros(1)},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_damaged_files_are_refused(changed, tmp_path):
    path = file(tmp_path)
    damaged(path, **changed)
    with pytest.raises(ValueError, match=r"boxes.npz: not a file of proposals, or damaged"):
        load_proposals(path)


def test_other_files_are_refused(tmp_path):
    path = file(tmp_path)
    whole = path.read_bytes()
    (tmp_path / "array.npy").write_bytes(b"")
    for number, content in enumerate((b"", b"text", whole[:100], whole[:-30], b"\x80\x04N.")):
        part = tmp_path / f"{number}.npz"
        part.write_bytes(content)
        with pytest.raises(ValueError, match=f"{number}.npz: not a file of proposals"):
            load_proposals(part)
    with open(tmp_path / "one.npz", "wb") as one:
        np.save(one, np.zeros(3))
    with pytest.raises(ValueError, match=r"one.npz: not a file of proposals"):
        load_proposals(tmp_path / "one.npz")
    with pytest.raises(FileNotFoundError, match=r"none.npz: there is no such file"):
        load_proposals(tmp_path / "none.npz")
    damaged(path, format_version=np.int64(2))
    with pytest.raises(ValueError, match=r"format 2, this kerasdet reads up to 1: upgrade"):
        load_proposals(path)


# ---------------------------------------------------------------- the view


def test_a_mapping_a_file_and_a_function_agree(tmp_path):
    def propose(image):
        return FOUND[7 + image[0, 0, 0]]

    for source in (FOUND, file(tmp_path), str(file(tmp_path)), propose):
        data = Scenes().with_proposals(source)
        first, second, third = data.proposals()
        np.testing.assert_array_equal(first, FOUND[7])
        assert second.tolist() == [[0, 4, 10, 20]]  # clipped to the image, as detections are
        assert third.shape == (0, 4)
        assert first.dtype == second.dtype == third.dtype == np.float32
        assert data.proposal_counts().tolist() == [2, 1, 0]
        assert (data.name, len(data), data.class_names) == ("scenes", 3, ("thing",))
        np.testing.assert_array_equal(data.record(1).boxes, Scenes().record(1).boxes)
        np.testing.assert_array_equal(data.image(1), Scenes().image(1))
    assert Scenes().record(0).proposals is None


def test_the_best_come_first():
    boxes = np.float32([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]])
    data = Scenes().with_proposals(lambda image: (boxes, [0.5, 0.9, 0.5]))
    assert data.record(0).proposals[:, 2].tolist() == [2, 1, 3]


def test_a_function_is_asked_once_per_image():
    asked = []

    def propose(image):
        asked.append(int(image[0, 0, 0]))
        return [[0, 0, 5, 5]]

    data = Scenes().with_proposals(propose)
    assert asked == []
    part = data.subset([2, 0])
    assert [record.image_id for record in map(part.record, range(2))] == [9, 7]
    assert list(data.box_counts()) == [1, 1, 1]
    assert asked == [2, 0]
    list(data.proposals()), list(part.proposals())
    assert asked == [2, 0, 1]


def test_a_source_may_know_more_than_the_data_has(tmp_path):
    data = Scenes().subset([2, 0]).with_proposals(file(tmp_path))
    assert [len(boxes) for boxes in data.proposals()] == [0, 2]
    part = Scenes().with_proposals(file(tmp_path)).subset([1])
    assert next(part.proposals()).tolist() == [[0, 4, 10, 20]]


def test_ids_may_be_names(tmp_path):
    named = dict(zip("abc", FOUND.values()))
    data = Scenes("abc").with_proposals(file(tmp_path, named))
    assert [len(boxes) for boxes in data.proposals()] == [2, 1, 0]


def test_proposals_of_other_images_are_refused(tmp_path):
    path = file(tmp_path)
    message = r"boxes.npz: no proposals for 3 of the 3 images of scenes, such as image 'a'; there "
    with pytest.raises(ValueError, match=message + r"are proposals for 7, 8, 9: give every image"):
        Scenes("abc").with_proposals(path)
    with pytest.raises(ValueError, match=r"no proposals for 2 of .* image 7; .* for '7', 8: give"):
        Scenes().with_proposals({"7": FOUND[7], 8: FOUND[8]})
    with pytest.raises(ValueError, match="there are proposals for none"):
        Scenes().with_proposals({})


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([[0, 0, 4, np.nan]], r"proposal 0 is \[0.0, 0.0, 4.0, nan\], which is not finite"),
        ([[0, 0, 4, 4], [30, 0, 40, 9]], r"\[30.0, 0.0, 40.0, 9.0\] lies outside .* of 30x20 pix"),
        ([[0, -9, 4, 0]], "lies outside the image"),
        ([[4, 4, 2, 6]], "has no size"),
        ([[1, 2, 3]], r"proposals have shape \(1, 3\)"),
        (None, "image 8 .*: proposals"),
    ],
)
def test_wrong_proposals_name_the_image(found, message):
    data = Scenes().with_proposals({**FOUND, 8: found})
    data.record(0)
    with pytest.raises(ValueError, match=message) as error:
        data.record(1)
    assert "the proposals: image 8 (1.png)" in str(error.value)

    def broken(image):
        return found

    with pytest.raises(ValueError, match=r"broken: image 7 \(0.png\)"):
        Scenes().with_proposals(broken).record(0)


def test_a_source_of_another_kind():
    with pytest.raises(ValueError, match="not from list"):
        Scenes().with_proposals([FOUND[7]])


def test_file_datasets_name_their_images_without_reading_masks():
    def masks(index):
        raise AssertionError("masks were made")

    records = [Scenes().record(index) for index in range(3)]
    data = FileDataset("files", records, ("thing",), (1,), masks=masks)
    assert data.subset([2, 0]).image_ids() == [9, 7]
    assert data.with_proposals(FOUND).proposal_counts().tolist() == [2, 1, 0]


def test_records_check_proposals():
    with pytest.raises(ValueError, match=r"image 7: proposals have shape \(3,\)"):
        dataclasses.replace(Scenes().record(0), proposals=np.zeros(3))


# ---------------------------------------------------------------- batches


def test_a_batch_by_hand():
    batches = Scenes().with_proposals(FOUND).batches(2, Stretch(40, 30), proposals=True)
    (first, targets), (last, _) = batches
    assert "proposals" not in targets
    assert first["proposals"].dtype == tf.float32
    # Twice as high, as wide as before.
    wanted = [[[1, 4, 11, 24], [0, 0, 30, 40]], [[0, 8, 10, 40], [0, 0, 0, 0]]]
    assert first["proposals"].numpy().tolist() == wanted
    assert last["proposals"].numpy().tolist() == [[[0] * 4] * 2]
    assert batches.element_spec[0]["proposals"].shape == (None, 2, 4)


def test_the_first_of_many_and_room_for_more():
    data = Scenes().with_proposals(FOUND)
    inputs, _ = next(iter(data.batches(3, Fit(20, 30), proposals=1)))
    assert inputs["proposals"].numpy().tolist() == [[[1, 2, 11, 12]], [[0, 4, 10, 20]], [[0] * 4]]
    inputs, _ = next(iter(data.batches(3, Fit(20, 30), proposals=5)))
    assert inputs["proposals"].shape == (3, 5, 4)
    assert (inputs["proposals"].numpy()[0, 2:] == 0).all()
    inputs, _ = next(iter(data.batches(3, Fit(20, 30))))
    assert "proposals" not in inputs


def test_proposals_move_with_the_image():
    data = Scenes().with_proposals(FOUND)
    flipped = data.batches(1, Fit(20, 30), augment=HorizontalFlip(1.0), proposals=True)
    inputs, targets = next(iter(flipped))
    assert inputs["proposals"].numpy().tolist() == [[[19, 2, 29, 12], [0, 0, 30, 20]]]
    assert targets["boxes"].numpy().tolist() == [[[22, 2, 28, 8]]]


def test_batches_without_proposals():
    with pytest.raises(ValueError, match=r"scenes has no proposals; add them by data.with_propo"):
        Scenes().batches(1, Fit(20, 30), proposals=True)
    data = Scenes().with_proposals(FOUND)
    for wrong in (0, -3):
        with pytest.raises(ValueError, match=f"a number of rows, 1 or more, not {wrong}"):
            data.batches(1, Fit(20, 30), proposals=wrong)

    def forget(rng, image, record):
        return image, dataclasses.replace(record, proposals=None)

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"there is no record.proposals"):
        next(iter(data.batches(1, Fit(20, 30), augment=forget, proposals=True)))


def test_the_file_holds_no_pickles(tmp_path):
    with np.load(file(tmp_path), allow_pickle=False) as saved:
        assert json.loads(str(saved["image_ids"])) == [7, 8, 9]
        assert sorted(saved.files) == ["boxes", "counts", "format_version", "image_ids"]
