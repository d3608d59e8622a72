import subprocess
import sys

import numpy as np
import pytest

from kerasdet.data.records import DataError, Dataset, Fault, Record


def make_record(index, count):
    boxes = np.float32([[k, k, k + 4, k + 6] for k in range(count)]).reshape(-1, 4)
    return Record(
        image_id=100 + index,
        height=20,
        width=30,
        boxes=boxes,
        labels=np.arange(count, dtype="int32") % 2,
        ignore=np.arange(count) == 1,
        area=np.full(count, 24, "float32"),
        masks=tuple({"size": [20, 30], "counts": bytes([k])} for k in range(count)),
        keypoints=np.arange(count * 6, dtype="float32").reshape(count, 2, 3),
    )


class Scenes(Dataset):
    name = "scenes"
    class_names = ("cat", "dog")
    category_ids = (1, 2)

    def __len__(self):
        return 4

    def record(self, index):
        return make_record(index, count=index)

    def image(self, index):
        return np.full((20, 30, 3), index, "uint8")


def test_repr_counts_images_classes_boxes_and_faults():
    scenes = Scenes()
    assert repr(scenes) == "scenes: 4 images, 2 classes (cat, dog), 6 boxes"
    scenes.faults = [Fault("f", i, "clipped", "m") for i in range(2)] + [
        Fault("f", 1, "zero_size", "m")
    ]
    assert repr(scenes).endswith("6 boxes; faults: 2 clipped, 1 zero_size")


def test_repr_names_at_most_eight_classes():
    scenes = Scenes()
    scenes.class_names = tuple("abcdefghijk")
    assert "11 classes (a, b, c, d, e, f, g, h, ...)" in repr(scenes)


def test_images_come_in_order():
    assert [image[0, 0, 0] for image in Scenes().images()] == [0, 1, 2, 3]


def test_subset_keeps_order_and_counts():
    subset = Scenes().subset([3, 0, -1])
    assert [subset.record(i).image_id for i in range(len(subset))] == [103, 100, 103]
    assert subset.box_counts().tolist() == [3, 0, 3]
    assert subset.image(0)[0, 0, 0] == 3
    assert subset.class_names == ("cat", "dog")
    with pytest.raises(IndexError):
        Scenes().subset([4])


def test_select_takes_every_array_along():
    chosen = make_record(0, 3).select(np.array([True, False, True]))
    assert chosen.boxes.tolist() == [[0, 0, 4, 6], [2, 2, 6, 8]]
    assert chosen.labels.tolist() == [0, 0]
    assert chosen.ignore.tolist() == [False, False]
    assert [mask["counts"] for mask in chosen.masks] == [b"\0", b"\2"]
    assert chosen.keypoints[:, 0, 0].tolist() == [0, 12]
    assert make_record(0, 3).select([]).boxes.shape == (0, 4)


def test_record_refuses_arrays_of_different_lengths():
    empty = np.zeros(0, "float32")
    with pytest.raises(ValueError, match=r"image 7: boxes have shape \(2, 4\)"):
        Record(7, 5, 5, np.zeros((2, 4)), np.zeros(0, "int32"), empty, empty)
    with pytest.raises(ValueError, match="image 7: 1 ignore for 0 labels"):
        Record(7, 5, 5, np.zeros((0, 4)), np.zeros(0, "int32"), np.zeros(1), empty)


def test_data_error_shows_ten_faults_and_counts_the_rest():
    error = DataError([Fault("a.json", i, "not_finite", f"wrong {i}") for i in range(13)])
    lines = str(error).splitlines()
    assert lines[0] == "a.json, annotation 0: wrong 0"
    assert lines[-1] == "... and 3 more"
    assert len(lines) == 11
    assert len(error.faults) == 13


def test_import_is_light():
    code = (
        "import sys, kerasdet.data\n"
        "kerasdet.data.load_image, kerasdet.data.coco, kerasdet.data.voc, kerasdet.data.csv\n"
        "kerasdet.data.yolo, kerasdet.data.Dataset, kerasdet.data.batches, kerasdet.data.check\n"
        "loaded = {'tensorflow', 'keras', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
