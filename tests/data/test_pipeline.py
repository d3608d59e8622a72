import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from pycocotools import mask

from kerasdet.data.augment import (
    ColourJitter,
    Compose,
    ExpandCanvas,
    HorizontalFlip,
    RandomCropIoU,
    RandomRotate90,
    ScaleJitter,
    VerticalFlip,
)
from kerasdet.data.records import Dataset, Record
from kerasdet.layers.resizing import Fit, KeepSize, Letterbox, PaddedSquare, Stretch
from kerasdet.models.detector import _way_back, to_image
from tests.contract.detectors import retinanet

SIZE = (20, 30)


class Scenes(Dataset):
    """Images of their own number, the i-th with i objects (or none)."""

    name = "scenes"
    class_names = ("a", "b", "c")
    category_ids = (1, 2, 3)
    keypoint_names = ("p",)
    keypoint_sigmas = (0.1,)

    def __init__(self, length=5, empty=False, ids=int):
        self.length, self.empty, self.ids = length, empty, ids
        self.loads = 0

    def __len__(self):
        return self.length

    def record(self, index):
        height, width = SIZE[0] + index, SIZE[1]
        count = 0 if self.empty else index
        boxes = np.float32([[k, 2 * k, k + 4, 2 * k + 6] for k in range(count)]).reshape(-1, 4)
        pixels = np.zeros((height, width, count), "uint8", order="F")
        for k in range(count):
            pixels[2 * k : 2 * k + 6, k : k + 4, k] = 1
        return Record(
            image_id=self.ids(100 + index),
            height=height,
            width=width,
            boxes=boxes,
            labels=np.arange(count, dtype="int32") % 3,
            ignore=np.arange(count) == 1,
            area=np.arange(24, 24 + count, dtype="float32"),
            masks=tuple(mask.encode(pixels)) if count else (),
            keypoints=np.tile(np.float32([[[3, 4, 2]]]), (count, 1, 1)),
        )

    def image(self, index):
        self.loads += 1
        return np.full((SIZE[0] + index, SIZE[1], 3), 10 * index + 1, "uint8")

    def semantic(self, index):
        return np.full((SIZE[0] + index, SIZE[1]), index, "int32")


def ids(batches):
    return [targets["image_id"].numpy().tolist() for _, targets in batches]


def test_a_batch_by_hand():
    batches = Scenes().batches(2, Stretch(40, 60), masks=True, semantic=True)
    assert len(batches) == 3
    inputs, targets = list(batches)[1]  # images 2 and 3, 22x30 and 23x30
    assert inputs["images"].dtype == tf.float32
    assert inputs["images"].shape == (2, 40, 60, 3)
    assert inputs["images"].numpy().min(axis=(1, 2, 3)).tolist() == [21, 31]
    assert inputs["image_sizes"].numpy().tolist() == [[40, 60], [40, 60]]
    y = 40 / 22
    expected = [[0, 0, 8, 6 * y], [2, 2 * y, 10, 8 * y], [-1] * 4, [-1] * 4]
    np.testing.assert_allclose(targets["boxes"][0], expected, rtol=1e-6)
    assert targets["labels"].numpy().tolist() == [[0, 1, -1, -1], [0, 1, 2, -1]]
    assert targets["ignore"].numpy().tolist() == [[False, True, False, False]] * 2
    assert targets["area"].numpy().tolist() == [[24, 25, -1, -1], [24, 25, 26, -1]]
    assert targets["image_id"].numpy().tolist() == [102, 103]
    assert targets["original_size"].numpy().tolist() == [[22, 30], [23, 30]]
    np.testing.assert_allclose(targets["keypoints"][0, :2], [[[6, 4 * y, 2]]] * 2, rtol=1e-6)
    assert (targets["keypoints"][0, 2:].numpy() == -1).all()
    assert targets["semantic"].numpy().min(axis=(1, 2)).tolist() == [2, 3]
    masks = targets["masks"].numpy()
    assert masks.shape == (2, 4, 40, 60)
    assert masks[0, 2:].sum() == 0
    rows, columns = np.flatnonzero(masks[0, 1].any(1)), np.flatnonzero(masks[0, 1].any(0))
    np.testing.assert_allclose([rows[0], rows[-1] + 1], [2 * y, 8 * y], atol=1)
    assert [columns[0], columns[-1] + 1] == [2, 10]


def test_shapes_are_static_on_a_fixed_canvas():
    inputs, targets = Scenes().batches(2, Fit(32, 64), drop_remainder=True, masks=True).element_spec
    assert inputs["images"].shape == (2, 32, 64, 3)
    assert targets["boxes"].shape == (2, 4, 4)
    assert targets["masks"].shape == (2, 4, 32, 64)
    assert targets["keypoints"].shape == (2, 4, 1, 3)
    inputs, _ = Scenes().batches(2, [Stretch(32), Stretch(64)]).element_spec
    assert inputs["images"].shape.as_list() == [None, None, None, 3]


def test_resizing_is_bilinear_without_rounding_and_padding_is_zero():
    class Ramp(Scenes):
        def image(self, index):
            return np.repeat(np.arange(30, dtype="uint8")[None, :, None], 20, 0).repeat(3, 2)

    inputs, _ = next(iter(Ramp(1).batches(1, Fit(40, 80))))
    image = inputs["images"][0].numpy()
    assert inputs["image_sizes"].numpy().tolist() == [[40, 60]]
    # Half-pixel centres: output pixel k lies at (k + 0.5) / 2 - 0.5.
    expected = np.clip((np.arange(60) + 0.5) / 2 - 0.5, 0, 29)
    np.testing.assert_allclose(image[7, :60, 0], expected, atol=1e-5)
    assert (image[:, 60:] == 0).all()


def test_a_letterbox_by_hand():
    # 22 x 30 pixels become 44 x 60 between 8 rows of grey, twice as large.
    batches = Scenes().batches(1, Letterbox(60), masks=True, semantic=True)
    inputs, targets = list(batches)[2]
    image = inputs["images"][0].numpy()
    assert image.shape == (60, 60, 3)
    assert inputs["image_sizes"].numpy().tolist() == [[60, 60]]
    assert (image[:8] == 127.5).all()
    assert (image[52:] == 127.5).all()
    np.testing.assert_allclose(image[8:51], 21, rtol=1e-6)
    expected = [[0, 8, 8, 20], [2, 12, 10, 24], [-1] * 4, [-1] * 4]
    np.testing.assert_allclose(targets["boxes"][0], expected, rtol=1e-6)
    np.testing.assert_allclose(targets["keypoints"][0, :2], [[[6, 16, 2]]] * 2, rtol=1e-6)
    semantic = targets["semantic"][0].numpy()
    assert (semantic[8:52] == 2).all()
    assert (semantic[:8] == -1).all()
    assert (semantic[52:] == -1).all()
    masks = targets["masks"][0].numpy()
    assert masks.shape == (4, 60, 60)
    rows, columns = np.flatnonzero(masks[1].any(1)), np.flatnonzero(masks[1].any(0))
    np.testing.assert_allclose([rows[0], rows[-1] + 1], [12, 24], atol=1)
    np.testing.assert_allclose([columns[0], columns[-1] + 1], [2, 10], atol=1)
    assert masks[2:].sum() == 0


@pytest.mark.parametrize("part", [Letterbox(48, 64), PaddedSquare(64)])
@pytest.mark.parametrize("augment", [None, HorizontalFlip(1.0)])
def test_a_drawn_canvas_is_that_of_detect(part, augment):
    class Noise(Scenes):
        def image(self, index):
            size = (SIZE[0] + index, SIZE[1], 3)
            return np.random.default_rng(index).integers(0, 256, size, dtype="uint8")

    data, model = Noise(3), retinanet(resize=part)
    assert data.batches(1, part).element_spec[0]["images"].shape[1:] == (*part.canvas_size(1, 1), 3)
    for index, (inputs, targets) in enumerate(data.batches(1, part, augment=augment)):
        image = data.image(index)
        wanted = model.to_canvas([image[:, ::-1] if augment else image])
        np.testing.assert_array_equal(inputs["images"], wanted["images"])
        np.testing.assert_array_equal(inputs["image_sizes"], wanted["image_sizes"])
        if augment is None and index:
            # Back on the image, the boxes are the record's.
            found = {"boxes": targets["boxes"][0].numpy()[:index], "num_detections": index}
            back = to_image(found, *_way_back(part, image.shape[:2]), image)
            np.testing.assert_allclose(back["boxes"], data.record(index).boxes, atol=1e-4)


def test_drawn_and_other_parts_take_turns():
    batches = Scenes(12).batches(1, [Letterbox(32), Stretch(32), PaddedSquare(32)])
    assert {
        (image.numpy() == 127.5).any() for inputs, _ in batches for image in inputs["images"]
    } == {True, False}


def test_a_batch_is_padded_to_its_largest_image():
    batches = Scenes(14).batches(7, KeepSize(32), semantic=True)
    (first, maps), (second, _) = batches
    assert first["images"].shape == (7, 32, 32, 3)
    assert second["images"].shape == (7, 64, 32, 3)  # the last is 33 high
    assert second["image_sizes"].numpy()[:, 0].tolist() == list(range(27, 34))
    for image, (height, width) in zip(second["images"].numpy(), second["image_sizes"].numpy()):
        assert (image[:height, :width] > 0).all()
        assert image[height:].sum() == image[:, width:].sum() == 0
    semantic = maps["semantic"].numpy()
    assert (semantic[0, :20, :30] == 0).all()
    assert (semantic[0, 20:] == -1).all()


def test_without_any_object():
    inputs, targets = next(iter(Scenes(2, empty=True).batches(2, KeepSize(), masks=True)))
    assert targets["boxes"].numpy().tolist() == [[[-1] * 4]] * 2
    assert targets["labels"].numpy().tolist() == [[-1]] * 2
    assert targets["masks"].shape == (2, 1, *inputs["images"].shape[1:3])


def test_every_epoch_has_its_own_reproducible_order():
    scenes = Scenes(16, empty=True)
    batches = scenes.batches(8, Stretch(8), shuffle=True, seed=3)
    first, second = ids(batches), ids(batches)
    assert sorted(np.ravel(first)) == sorted(np.ravel(second)) == list(range(100, 116))
    assert first != second
    again = scenes.batches(8, Stretch(8), shuffle=True, seed=3)
    assert [ids(again), ids(again)] == [first, second]
    assert ids(scenes.batches(8, Stretch(8), shuffle=True, seed=4)) != first
    # A run resumed at the second epoch sees the second epoch.
    assert ids(scenes.batches(8, Stretch(8), shuffle=True, seed=3, start_epoch=1)) == second


def test_repeating_goes_on_where_the_epoch_ends():
    scenes = Scenes(5, empty=True)
    endless = scenes.batches(2, Stretch(8), shuffle=True, repeat=True)
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY
    once = scenes.batches(2, Stretch(8), shuffle=True)
    assert ids(endless.take(6)) == ids(once) + ids(once)
    resumed = scenes.batches(2, Stretch(8), shuffle=True, repeat=True, start_epoch=1)
    assert ids(resumed.take(3)) == ids(endless.take(6))[3:]


def test_a_pass_broken_off_is_no_epoch():
    batches = Scenes(16, empty=True).batches(1, Stretch(8), shuffle=True)
    next(iter(batches))
    started = ids(batches)
    assert started == ids(Scenes(16, empty=True).batches(1, Stretch(8), shuffle=True))


def test_remainder():
    assert ids(Scenes().batches(2, Stretch(8))) == [[100, 101], [102, 103], [104]]
    dropped = Scenes().batches(2, Stretch(8), drop_remainder=True)
    assert len(dropped) == 2
    assert ids(dropped) == [[100, 101], [102, 103]]


def test_one_size_per_batch_depends_on_seed_epoch_and_batch():
    scenes = Scenes(12, empty=True)
    parts = [Stretch(8), Stretch(16), Stretch(24)]
    batches = scenes.batches(2, parts, seed=1)

    def sizes():
        return [inputs["images"].shape[1] for inputs, _ in batches]

    first, second = sizes(), sizes()
    assert set(first + second) == {8, 16, 24}
    assert first != second
    again = scenes.batches(2, parts, seed=1)
    assert [inputs["images"].shape[1] for inputs, _ in again] == first


def test_a_size_is_held_for_some_batches_of_each_epoch():
    scenes = Scenes(24, empty=True)
    parts = [Stretch(side) for side in (8, 16, 24, 32, 40)]
    held = [x["images"].shape[1] for x, _ in scenes.batches(2, parts, seed=3, resize_every=5)]
    # Twelve batches: five of one size, five of the next, and two.
    assert held == [held[0]] * 5 + [held[5]] * 5 + [held[10]] * 2
    assert len(set(held)) > 1
    # The draws are those of single batches, each used for longer.
    single = [x["images"].shape[1] for x, _ in scenes.batches(2, parts, seed=3)]
    assert [held[0], held[5], held[10]] == single[:3]


def jitter(rng, image, record):
    return image * rng.uniform(0.5, 1), record


def test_augmentation_is_keyed_by_epoch_and_image():
    scenes = Scenes(6, empty=True)

    def means(batches):
        return {
            int(i): float(image.mean())
            for inputs, targets in batches
            for i, image in zip(targets["image_id"].numpy(), inputs["images"].numpy())
        }

    ordered = scenes.batches(2, Stretch(8), augment=jitter, seed=5)
    shuffled = scenes.batches(3, Stretch(8), augment=jitter, seed=5, shuffle=True)
    first = means(ordered)
    assert first == means(shuffled)
    assert means(ordered) != first
    assert len({round(mean / (10 * i - 999), 4) for i, mean in first.items()}) == 6


def test_augmented_objects_arrive():
    def only_last(rng, image, record):
        return image[:, ::-1], dataclasses.replace(record.select(slice(-1, None)), image_id=1)

    batch = list(Scenes().batches(1, KeepSize(), augment=only_last, masks=True))[3]
    assert batch[1]["labels"].numpy().tolist() == [[2, -1, -1, -1]]
    assert batch[1]["masks"].numpy()[0].sum((1, 2)).tolist() == [24, 0, 0, 0]


def test_more_objects_than_max_boxes_leaves_the_largest():
    targets = list(Scenes().batches(1, KeepSize(), max_boxes=2))[4][1]
    assert targets["area"].numpy().tolist() == [[26, 27]]


def test_cache_loads_every_image_once():
    scenes = Scenes(empty=True)
    batches = scenes.batches(2, Stretch(8), cache=True)
    first = [inputs["images"].numpy() for inputs, _ in batches]
    second = [inputs["images"].numpy() for inputs, _ in batches]
    assert scenes.loads == 5
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_names_as_ids_become_indices():
    assert ids(Scenes(3, ids=str).batches(2, Stretch(8), shuffle=False)) == [[0, 1], [2]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 9, "drop_remainder": True}, "fewer than one batch"),
        ({"resize": []}, "empty list"),
        ({"resize_every": 0}, "resize_every must be a whole number of at least 1"),
        ({"resize_every": 2.5}, "resize_every must be a whole number of at least 1"),
        ({"max_boxes": 0}, "max_boxes must be at least 1"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Scenes().batches(**{"batch_size": 2, "resize": Stretch(8)} | arguments)


def test_parts_that_a_data_set_lacks():
    class Plain(Scenes):
        def record(self, index):
            return dataclasses.replace(super().record(index), masks=None)

        def semantic(self, index):
            return None

    with pytest.raises(ValueError, match="no masks"):
        Plain().batches(2, Stretch(8), masks=True)
    with pytest.raises(ValueError, match="no semantic maps"):
        Plain().batches(2, Stretch(8), semantic=True)
    with pytest.raises(ValueError, match="no images"):
        Scenes(0).batches(2, Stretch(8))


@pytest.mark.parametrize("box", [[1, 1, np.nan, 4], [1, 1, np.inf, 4], [4, 1, 4, 4], [5, 1, 4, 4]])
def test_boxes_without_size_stop_the_run(box):
    def spoil(rng, image, record):
        return image, dataclasses.replace(record, boxes=np.float32([box] * len(record.labels)))

    batches = Scenes(3).subset([1, 2]).batches(1, Stretch(8), augment=spoil)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image 101: box 0 is \["):
        next(iter(batches))


@pytest.mark.parametrize("augment", [None, jitter])
def test_masks_of_another_size_than_their_image_stop_the_run(augment):
    class OnCanvas(Scenes):
        def record(self, index):
            pixels = np.zeros((32, 64, 1), "uint8", order="F")
            record = super().record(index)
            return dataclasses.replace(record, masks=tuple(mask.encode(pixels)) * index)

    data = OnCanvas(2).subset([1])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image 101: mask 0 is \(32, 64\)"):
        next(iter(data.batches(1, Stretch(8), augment=augment, masks=True)))
    next(iter(data.batches(1, Stretch(8), augment=augment)))  # nobody asks for them


class Scans(Scenes):
    """Four channels of four values, 10, 20, 30 and 40."""

    channels = 4

    def image(self, index):
        return np.full((SIZE[0] + index, SIZE[1], 4), (10, 20, 30, 40), "uint8")


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("augment", [None, jitter, ScaleJitter(0.5, 2.0), HorizontalFlip(1.0)])
def test_images_of_four_channels(augment, cache):
    batches = Scans(3).batches(2, Fit(40, 60), augment=augment, cache=cache)
    assert batches.element_spec[0]["images"].shape == (None, 40, 60, 4)
    inputs, _ = next(iter(batches))
    assert inputs["images"].shape == (2, 40, 60, 4)
    pixel = inputs["images"].numpy()[0].max((0, 1))
    np.testing.assert_allclose(pixel / pixel[0], [1, 2, 3, 4], rtol=1e-5)


def test_wrong_channels_and_types_are_named():
    class Wrong(Scans):
        channels = 1

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image 100: the image has shape \("):
        next(iter(Wrong(1).batches(1, Stretch(8))))

    class Fractions(Scenes):
        def image(self, index):
            return super().image(index) / 255

    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"image 100: .* dtype float64; a data"
    ):
        next(iter(Fractions(1).batches(1, Stretch(8))))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image 100 has 4 channels; ColourJ"):
        next(iter(Scans(1).batches(1, Stretch(8), augment=ColourJitter())))


class Quadrants(Scenes):
    """The image's red channel is 40 times the class of each pixel: 1 2 / 3 4."""

    def semantic(self, index):
        rows, columns = np.indices((SIZE[0] + index, SIZE[1]))
        return (1 + (columns >= 12) + 2 * (rows >= 8)).astype("int32")

    def image(self, index):
        return np.repeat(40 * self.semantic(index)[..., None], 3, -1).astype("uint8")


@pytest.mark.parametrize(
    "augment",
    [
        HorizontalFlip(1.0),
        VerticalFlip(1.0),
        RandomRotate90(),
        ScaleJitter(0.4, 0.9, fill=(0, 0, 0)),
        ScaleJitter(1.1, 2.5),
        RandomCropIoU((0.1,)),
        ExpandCanvas(2.0, 1.0, fill=(0, 0, 0)),
        ColourJitter(0, 0, 0, 0),
        Compose([RandomRotate90(), ScaleJitter(0.5, 2.0, fill=(0, 0, 0)), HorizontalFlip()]),
    ],
    ids=lambda augment: type(augment).__name__,
)
def test_semantic_maps_move_as_their_image_does(augment):
    """Pixel by pixel, but for the row or column on either side of an edge, which is smoothed."""
    batches = Quadrants(5).batches(1, KeepSize(1), augment=augment, semantic=True)
    compared = pixels = 0
    for _ in range(4):
        for inputs, targets in batches:
            classes = targets["semantic"].numpy()[0]
            shown = inputs["images"].numpy()[0, ..., 0] / 40
            assert classes.shape == shown.shape
            flat = np.ones_like(classes, bool)
            for axis in (0, 1):
                for step in (-1, 1):
                    moved = np.roll(shown, step, axis)
                    flat &= np.isclose(moved, shown, atol=1e-6)
            compared, pixels = compared + flat.sum(), pixels + flat.size
            np.testing.assert_array_equal(np.maximum(classes, 0)[flat], shown[flat])
    assert compared > pixels / 2


def test_what_lies_outside_the_image_is_void():
    expand = ExpandCanvas(2.0, 1.0, fill=(7, 7, 7))
    batches = Quadrants(4).batches(1, KeepSize(1), augment=expand, semantic=True)
    for inputs, targets in batches:
        outside = inputs["images"].numpy()[0, ..., 0] == 7
        assert outside.any()
        np.testing.assert_array_equal(targets["semantic"].numpy()[0] == -1, outside)


def test_augmentations_that_lose_the_map_are_named():
    def forget(rng, image, record):
        return image, dataclasses.replace(record, semantic=None)

    batches = Scenes(1).batches(1, Stretch(8), augment=forget, semantic=True)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"image 100: there is no record.seman"
    ):
        next(iter(batches))


def test_two_replicas_share_a_batch():
    devices = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    batches = Scenes(4).batches(4, Stretch(8), shuffle=True)
    shared = strategy.experimental_distribute_dataset(batches)
    seen = [strategy.experimental_local_results(targets["image_id"]) for _, targets in iter(shared)]
    assert sorted(np.concatenate([part.numpy() for part in seen[0]]).tolist()) == [*range(100, 104)]


def test_bccd_batches(shared_data):
    from kerasdet.data import voc

    data = voc(shared_data / "bccd", "val").subset(range(4))
    inputs, targets = next(iter(data.batches(4, Fit(192, 256), shuffle=True)))
    assert inputs["images"].shape == (4, 192, 256, 3)
    valid = targets["labels"].numpy() >= 0
    assert valid.sum() == data.box_counts().sum()
    boxes = targets["boxes"].numpy()[valid]
    assert (boxes.min(0) >= 0).all()
    assert (boxes.max(0) <= [256, 192, 256, 192]).all()


def test_freed_memory_stays_with_the_process():
    # A generator dataset makes TensorFlow return all freed memory to the system, for good.
    def graph(batches):
        return tf.raw_ops.DatasetToGraphV2(
            input_dataset=batches._variant_tensor, external_state_policy=1
        ).numpy()

    generated = tf.data.Dataset.from_generator(lambda: iter([1]), output_types="int32")
    assert b"GeneratorDataset" in graph(generated)
    for repeat in (False, True):
        assert b"GeneratorDataset" not in graph(Scenes(2).batches(2, KeepSize(), repeat=repeat))
