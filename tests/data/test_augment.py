import dataclasses

import keras
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from kerasdet.data import augment, digit_scenes
from kerasdet.data.records import Record


def rng(seed=0):
    return np.random.default_rng(seed)


class Fixed:
    """A generator whose draws are written down."""

    def __init__(self, floats=(), integers=()):
        self.floats, self.drawn = list(floats), list(integers)

    def random(self):
        return self.floats.pop(0)

    def uniform(self, low=0.0, high=1.0, size=None):
        if size is not None:
            return np.array([self.floats.pop(0) for _ in range(size)])
        return self.floats.pop(0)

    def integers(self, high):
        value = self.drawn.pop(0)
        assert value < high
        return value


def scene(height=40, width=60, boxes=((10, 5, 30, 25),), masks=True, keypoints=True, ignore=None):
    """A black image with a white rectangle per box, and its record."""
    image = np.zeros((height, width, 3), np.uint8)
    stack = np.zeros((height, width, len(boxes)), np.uint8, order="F")
    for k, (x1, y1, x2, y2) in enumerate(boxes):
        image[y1:y2, x1:x2] = 255
        stack[y1:y2, x1:x2, k] = 1
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    points = [[(x1 + 1.5, y1 + 0.5, 2), (0, 0, 0)] for x1, y1, _, _ in boxes]
    record = Record(
        image_id=7,
        height=height,
        width=width,
        boxes=boxes,
        labels=np.arange(len(boxes), dtype=np.int32),
        ignore=np.zeros(len(boxes), bool) if ignore is None else np.array(ignore),
        area=((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).astype(np.float32),
        masks=tuple(coco_mask.encode(stack)) if masks else None,
        keypoints=np.array(points, np.float32).reshape(-1, 2, 3) if keypoints else None,
    )
    return image, record


def white_box(image):
    """Tight box of the bright pixels."""
    y, x = np.flatnonzero((image > 127).any((1, 2))), np.flatnonzero((image > 127).any((0, 2)))
    return [x[0], y[0], x[-1] + 1, y[-1] + 1]


def mask_box(record, k=0):
    x, y, w, h = coco_mask.toBbox(record.masks[k])
    return [x, y, x + w, y + h]


def with_map(image, record, semantic=None, proposals=((10, 5, 30, 25), (0, 0, 60, 40))):
    """The scene with the map 0 / 1 of its rectangles, and with proposals."""
    semantic = (image[..., 0] > 127).astype(np.int32) if semantic is None else semantic
    return image, dataclasses.replace(
        record, semantic=semantic, proposals=np.array(proposals, np.float32).reshape(-1, 4)
    )


def map_box(record, value=1):
    """Tight box of the pixels of a class."""
    at = record.semantic == value
    y, x = np.flatnonzero(at.any(1)), np.flatnonzero(at.any(0))
    return [x[0], y[0], x[-1] + 1, y[-1] + 1]


SMALL_MAP = np.array([[0, 1, 2], [3, 4, 5]], np.int32)


class Scenes:
    def __len__(self):
        return 1

    def image(self, index):
        return scene(50, 50, ((0, 0, 50, 50),))[0]

    def record(self, index):
        return scene(50, 50, ((0, 0, 50, 50),))[1]

    def semantic(self, index):
        return np.ones((50, 50), np.int32)


EVERY = [
    augment.HorizontalFlip(1.0),
    augment.VerticalFlip(1.0),
    augment.RandomRotate90(),
    augment.ScaleJitter(0.3, 3.0),
    augment.RandomCropIoU(),
    augment.ExpandCanvas(p=1.0),
    augment.ColourJitter(),
    augment.Mosaic(Scenes(), p=1.0),
    augment.Compose([augment.RandomRotate90(), augment.RandomCropIoU(), augment.ScaleJitter()]),
]


def name(value):
    return type(value).__name__


def test_horizontal_flip():
    image, record = augment.HorizontalFlip(1.0, pairs=((0, 1),))(rng(), *scene())
    assert record.boxes.tolist() == [[30, 5, 50, 25]]  # 60 - 30, 60 - 10
    assert white_box(image) == [30, 5, 50, 25]
    assert mask_box(record) == [30, 5, 50, 25]
    assert record.keypoints.tolist() == [[[0, 0, 0], [48.5, 5.5, 2]]]
    assert (record.height, record.width, record.image_id) == (40, 60, 7)


def test_keypoint_pairs():
    face = ["nose", "left_eye", "right_eye", "left_ear", "right_ear"]
    body = ["shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
    names = face + [f"{side}_{part}" for part in body for side in ("left", "right")]
    assert augment.keypoint_pairs(names) == tuple((i, i + 1) for i in range(1, 17, 2))
    assert augment.keypoint_pairs(("top", "left", "bottom", "right")) == ((1, 3),)
    assert augment.keypoint_pairs(["wing right", "wing left", "cleft", "cright"]) == ((1, 0),)
    assert augment.keypoint_pairs(["left_fin", "tail"]) == ()
    assert augment.keypoint_pairs(()) == ()


def test_flip_keeps_left_keypoints_on_the_left():
    data = digit_scenes("val", size=3)
    flip = augment.HorizontalFlip(1.0, augment.keypoint_pairs(data.keypoint_names))
    for index in range(3):
        _, record = flip(rng(), data.image(index), data.record(index))
        left, right = (
            record.keypoints[:, data.keypoint_names.index(s), 0] for s in ("left", "right")
        )
        np.testing.assert_array_equal(left, record.boxes[:, 0] + 0.5)
        np.testing.assert_array_equal(right, record.boxes[:, 2] - 0.5)


def test_vertical_flip():
    image, record = augment.VerticalFlip(1.0)(rng(), *scene())
    assert record.boxes.tolist() == [[10, 15, 30, 35]]
    assert white_box(image) == mask_box(record) == [10, 15, 30, 35]
    assert record.keypoints.tolist() == [[[11.5, 34.5, 2], [0, 0, 0]]]


@pytest.mark.parametrize("flip", [augment.HorizontalFlip(0.3), augment.VerticalFlip(0.3)], ids=name)
def test_flip_probability(flip):
    image, record = scene()
    draws = rng(1)
    flipped = sum(flip(draws, image, record)[0] is not image for _ in range(1000))
    assert 250 < flipped < 350  # 0.3 within 3.5 standard deviations


@pytest.mark.parametrize(
    ("turns", "box", "point", "size"),
    [
        (0, [10, 5, 30, 25], [11.5, 5.5], (40, 60)),
        (1, [5, 30, 25, 50], [5.5, 48.5], (60, 40)),  # y, 60 - x
        (2, [30, 15, 50, 35], [48.5, 34.5], (40, 60)),
        (3, [15, 10, 35, 30], [34.5, 11.5], (60, 40)),  # 40 - y, x
    ],
)
def test_rotate90(turns, box, point, size):
    image, record = augment.RandomRotate90()(Fixed(integers=[turns]), *scene())
    assert record.boxes.tolist() == [box]
    assert white_box(image) == mask_box(record) == box
    assert record.keypoints[0, 0].tolist() == [*point, 2]
    assert image.shape[:2] == (record.height, record.width) == size


def test_scale_jitter_in():
    # Twice as large, the crop taken a quarter of the way: dx = 0.25 * (60 - 120), dy = 0.25 * -40.
    image, record = augment.ScaleJitter(0.5, 2.0)(Fixed([np.log(2.0), 0.25, 0.25]), *scene())
    assert image.shape == (40, 60, 3)
    np.testing.assert_allclose(record.boxes, [[5, 0, 45, 40]], atol=1e-4)
    assert white_box(image) == mask_box(record) == [5, 0, 45, 40]
    np.testing.assert_allclose(record.keypoints[0, 0], [8, 1, 2], atol=1e-4)
    np.testing.assert_allclose(record.area, [1600])


def test_scale_jitter_out():
    # Half as large, 30 x 20, its corner at (30, 20) * (1, 0.5).
    draws = Fixed([np.log(0.5), 1.0, 0.5])
    image, record = augment.ScaleJitter(0.5, 2.0, fill=(9, 8, 7))(draws, *scene())
    assert image.shape == (40, 60, 3)
    np.testing.assert_allclose(record.boxes, [[35, 12.5, 45, 22.5]])
    assert image[0, 0].tolist() == [9, 8, 7]
    np.testing.assert_allclose(white_box(image), [35, 12.5, 45, 22.5], atol=0.5)
    np.testing.assert_allclose(record.area, [100])


def test_scale_jitter_drops_what_is_hardly_visible():
    boxes = ((0, 0, 20, 20), (15, 0, 35, 20))
    image, record = scene(40, 40, boxes, masks=False)
    # Twice as large, x from 20 on: the first box keeps nothing, the second (35 - 20) / 20.
    draws = [np.log(2.0), 1.0, 0.0]
    _, kept = augment.ScaleJitter(0.5, 2.0, min_visible=0.7)(Fixed(draws), image, record)
    assert kept.labels.tolist() == [1]
    np.testing.assert_allclose(kept.boxes, [[0, 0, 30, 40]], atol=1e-4)
    np.testing.assert_allclose(kept.area, [1200], rtol=1e-5)  # 400 * 4 * 0.75
    _, none = augment.ScaleJitter(0.5, 2.0, min_visible=0.8)(Fixed(draws), image, record)
    assert none.boxes.shape == (0, 4)
    assert none.keypoints.shape == (0, 2, 3)


def test_crop():
    # The crop is 30 x 20 at (20, 0): the first box's centre (20, 15) is on its edge, the second's
    # (40, 10) inside.
    boxes = ((10, 5, 30, 25), (30, 0, 50, 20), (0, 0, 4, 4), (18, 18, 24, 24))
    image, record = scene(40, 60, boxes, ignore=[False, False, False, True])
    crop = augment.RandomCropIoU(options=(0.5,))
    cropped, moved = crop(Fixed([0.5, 1.0], [0, 20, 0]), image, record)
    assert cropped.shape == (20, 30, 3)
    assert moved.labels.tolist() == [1, 3]
    assert moved.ignore.tolist() == [False, True]
    assert moved.boxes.tolist() == [[10, 0, 30, 20], [0, 18, 4, 20]]
    assert moved.area.tolist() == [400, 8]
    assert mask_box(moved, 0) == [10, 0, 30, 20]
    assert moved.keypoints[:, 0].tolist() == [[11.5, 0.5, 2], [0, 0, 0]]  # the second lies outside


def test_crop_needs_the_drawn_iou():
    image, record = scene(40, 40, ((0, 0, 10, 10),))
    # 20 x 20 at (0, 0): IoU 100 / 400.
    draws = [[0.5, 1.0], [0, 0, 0]]
    assert augment.RandomCropIoU((0.25,), tries=1)(Fixed(*draws), image, record)[0].shape[0] == 20
    assert augment.RandomCropIoU((0.26,), tries=1)(Fixed(*draws), image, record)[0] is image


def test_crop_of_any_iou_is_one_of_seven_options():
    # Section 2.2: the whole image, five least overlaps, or any patch.
    assert augment.RandomCropIoU().options == (None, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0)
    image, record = scene(40, 40, ((9, 9, 11, 11),))
    # 20 x 20 at (0, 0): IoU 4 / 400, with the object's centre inside.
    crop = augment.RandomCropIoU((0.0,), tries=1)
    assert crop(Fixed([0.5, 1.0], [0, 0, 0]), image, record)[0].shape[0] == 20


def test_crop_none_keeps_the_image():
    image, record = scene()
    assert augment.RandomCropIoU((None,))(Fixed(integers=[0]), image, record) == (image, record)


def test_expand():
    # Ratio 2: 120 x 80, the image at (7, 11).
    expand = augment.ExpandCanvas(p=1.0, fill=(1, 2, 3))
    image, record = expand(Fixed([0.0, 2.0], [7, 11]), *scene())
    assert image.shape == (80, 120, 3)
    assert image[0, 0].tolist() == [1, 2, 3]
    assert record.boxes.tolist() == [[17, 16, 37, 36]]
    assert white_box(image) == mask_box(record) == [17, 16, 37, 36]
    assert record.keypoints[0, 0].tolist() == [18.5, 16.5, 2]
    assert record.area.tolist() == [400]


def test_colours():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4], image[:, 4:] = (200, 100, 50), (40, 40, 40)
    record = scene(8, 8, ())[1]

    def jitter(*draws):
        out, same = augment.ColourJitter()(Fixed(draws), image, record)
        assert same is record
        return out[0, 0].tolist(), out[0, 7].tolist()

    assert jitter(0, 0, 0, 0) == ([200, 100, 50], [40, 40, 40])
    assert jitter(0.1, 0, 0, 0) == ([226, 126, 76], [66, 66, 66])  # + 25.5, halves up
    # Luma 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2; the mean with 40 is 82.1.
    assert jitter(0, 0.5, 0, 0) == ([255, 109, 34], [19, 19, 19])  # 82.1 + 1.5 (x - 82.1)
    assert jitter(0, 0, -1, 0) == ([124, 124, 124], [40, 40, 40])
    turned = jitter(0, 0, 0, 0.5)  # the opposite chroma: 2 * 124.2 - x
    np.testing.assert_allclose(turned, [[48, 148, 198], [40, 40, 40]], atol=1)


def test_mosaic():
    # Cut at (30, 20); zooms 1; the image's top left, and a white 50 x 50 in the other quarters.
    image, record = scene()
    # Least zooms: max(30/60, 20/40) = 0.5, then max(30/50, 20/50) = 0.6 three times.
    draws = Fixed([0.0, 0.5, 0.5, *[1.0, 0.0, 0.0] * 4], [0, 0, 0])
    out, moved = augment.Mosaic(Scenes(), p=1.0)(draws, image, record)
    assert out.shape == (40, 60, 3)
    # Box / 2, then the 30 x 30 white squares clipped to quarters 20 high: 2/3 of them visible.
    expected = [[5, 2.5, 15, 12.5], [30, 0, 60, 20], [0, 20, 30, 40], [30, 20, 60, 40]]
    np.testing.assert_allclose(moved.boxes, expected, atol=1e-4)
    assert mask_box(moved, 3) == [30, 20, 60, 40]
    assert out[20:, :].min() == 255
    assert moved.image_id == 7
    np.testing.assert_allclose(moved.area, [100, 600, 600, 600])


def test_mosaic_is_off_by_default():
    image, record = scene()
    assert augment.Mosaic(Scenes())(rng(), image, record) == (image, record)


def small():
    """A 2 x 3 image whose channels are its map's numbers, with a proposal of its first pixel."""
    record = scene(2, 3, ((0, 0, 1, 1),), masks=False, keypoints=False)[1]
    image = np.repeat(SMALL_MAP[..., None], 4, -1).astype(np.uint8)
    return with_map(image, record, SMALL_MAP, ((0, 0, 1, 1),))


@pytest.mark.parametrize(
    ("step", "draws", "wanted", "proposal"),
    [
        (augment.HorizontalFlip(1.0), Fixed([0.0]), [[2, 1, 0], [5, 4, 3]], [2, 0, 3, 1]),
        (augment.VerticalFlip(1.0), Fixed([0.0]), [[3, 4, 5], [0, 1, 2]], [0, 1, 1, 2]),
        (augment.RandomRotate90(), Fixed([], [1]), [[2, 5], [1, 4], [0, 3]], [0, 2, 1, 3]),
        (augment.RandomRotate90(), Fixed([], [2]), [[5, 4, 3], [2, 1, 0]], [2, 1, 3, 2]),
        (augment.RandomRotate90(), Fixed([], [3]), [[3, 0], [4, 1], [5, 2]], [1, 0, 2, 1]),
    ],
)
def test_maps_and_proposals_turn(step, draws, wanted, proposal):
    image, record = step(draws, *small())
    assert record.semantic.tolist() == wanted
    assert record.semantic.dtype == np.int32
    assert image[..., 3].tolist() == wanted  # the fourth channel as well
    assert record.proposals.tolist() == [proposal]


def test_maps_and_proposals_shift():
    image, record = augment.ExpandCanvas(2.0, p=1.0)(Fixed([0.0, 2.0], [1, 2]), *small())
    void = [-1] * 6
    assert record.semantic.tolist() == [
        *(void, void),
        [-1, 0, 1, 2, -1, -1],
        [-1, 3, 4, 5, -1, -1],
    ]
    np.testing.assert_array_equal(image[..., 0], np.maximum(record.semantic, 0))
    assert record.proposals.tolist() == [[1, 2, 2, 3]]


def test_maps_and_proposals_zoom_in():
    # Twice as large from the image's right edge: x' = 2 x - 60, y' = 2 y - 20.
    draws = Fixed([np.log(2.0), 1.0, 0.5])
    image, record = augment.ScaleJitter(0.5, 2.0)(
        draws, *with_map(*scene(boxes=((40, 15, 50, 25),)))
    )
    assert map_box(record) == mask_box(record) == white_box(image) == [20, 10, 40, 30]
    assert (record.semantic == -1).sum() == 0
    # The proposal (10, 5, 30, 25) ends where the view begins; of the other, all of the view is left.
    np.testing.assert_allclose(record.proposals, [[0, 0, 60, 40]], atol=1e-4)


def test_maps_and_proposals_zoom_out():
    draws = Fixed([np.log(0.5), 1.0, 0.5])
    image, record = augment.ScaleJitter(0.5, 2.0)(draws, *with_map(*scene()))
    # 30 x 20 at (30, 10); of the pixels' centres, those in (10..30, 5..25) / 2.
    assert map_box(record) == [35, 12, 45, 22]
    assert (record.semantic >= 0).sum() == 30 * 20
    assert map_box(record, 0) == [30, 10, 60, 30]
    assert (image[record.semantic == -1] == augment.IMAGENET_MEAN).all()
    np.testing.assert_allclose(record.proposals, [[35, 12.5, 45, 22.5], [30, 10, 60, 30]])


def test_maps_and_proposals_are_cropped():
    # The crop is 30 x 20 at (20, 0).
    found = ((10, 5, 30, 25), (0, 0, 20, 20), (19, 0, 21, 1))
    image, record = with_map(*scene(boxes=((10, 5, 30, 25), (30, 0, 50, 20))), proposals=found)
    crop = augment.RandomCropIoU(options=(0.5,))
    cropped, moved = crop(Fixed([0.5, 1.0], [0, 20, 0]), image, record)
    np.testing.assert_array_equal(moved.semantic, cropped[..., 0] > 127)
    assert moved.proposals.tolist() == [[0, 5, 10, 20], [0, 0, 1, 1]]


def test_mosaic_joins_maps_and_proposals():
    class Annotated(Scenes):
        def record(self, index):
            record = super().record(index)
            boxes = np.float32([[0, 0, 50, 50], [0, 0, 10, 10]])
            return dataclasses.replace(record, proposals=boxes)

    image, record = with_map(*scene())
    draws = Fixed([0.0, 0.5, 0.5, *[1.0, 0.0, 0.0] * 4], [0, 0, 0])
    _, moved = augment.Mosaic(Annotated(), p=1.0)(draws, image, record)
    # The first image's quarter is half as large; the others are white, and class 1, throughout.
    assert (moved.semantic[:20, 30:] == 1).all()
    assert (moved.semantic[20:] == 1).all()
    assert (moved.semantic[:20, :30] == 1).sum() == 10 * 10
    assert (moved.semantic == -1).sum() == 0
    # The first of each image, then the second of each; zooms 0.5 and 0.6.
    wanted = [[5, 2.5, 15, 12.5], [30, 0, 60, 20], [0, 20, 30, 40], [30, 20, 60, 40]]
    wanted += [[0, 0, 30, 20], [30, 0, 36, 6], [0, 20, 6, 26], [30, 20, 36, 26]]
    np.testing.assert_allclose(moved.proposals, wanted, atol=1e-4)
    # Without a map, or proposals, of the first image there is none of the whole.
    draws = Fixed([0.0, 0.5, 0.5, *[1.0, 0.0, 0.0] * 4], [0, 0, 0])
    _, plain = augment.Mosaic(Annotated(), p=1.0)(draws, *scene())
    assert plain.semantic is None
    assert plain.proposals is None


def test_objects_and_proposals_are_dropped_apart():
    image, record = with_map(*scene(), proposals=((50, 30, 60, 40),))
    # Twice as large from the top left corner: the proposal is outside, the object is not.
    _, moved = augment.ScaleJitter(0.5, 2.0)(Fixed([np.log(2.0), 0.0, 0.0]), image, record)
    assert moved.labels.tolist() == [0]
    assert moved.proposals.shape == (0, 4)
    assert moved.proposals.dtype == np.float32


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
@pytest.mark.parametrize(
    "step", [s for s in EVERY if not isinstance(s, augment.ColourJitter | augment.Mosaic)], ids=name
)
def test_any_number_of_channels(step, channels):
    """Each channel moves as it would alone, as the red one of the image does."""
    image, record = scene()
    weights = 1 + np.arange(channels)
    many = (image[..., :1] // 255 * 40 * weights).astype(np.uint8)
    for seed in range(6):
        out, moved = step(rng(seed), many, record)
        alone, same = step(rng(seed), np.ascontiguousarray(many[..., :1]), record)
        assert out.shape == (moved.height, moved.width, channels)
        assert moved.boxes.tolist() == same.boxes.tolist()
        np.testing.assert_allclose(out, alone * weights, atol=channels)


def test_fill_has_one_value_per_channel():
    record = scene()[1]
    grey, four = np.zeros((40, 60, 1), np.uint8), np.full((40, 60, 4), 9, np.uint8)
    expand = augment.ExpandCanvas(p=1.0, fill=(1, 2, 3, 4))
    draws = [0.0, 2.0], [7, 11]
    assert expand(Fixed(*draws), four, record)[0][0, 0].tolist() == [1, 2, 3, 4]
    plain = augment.ExpandCanvas(p=1.0)
    assert plain(Fixed(*draws), four, record)[0][0, 0].tolist() == [0, 0, 0, 0]
    assert plain(Fixed(*draws), scene()[0], record)[0][0, 0].tolist() == [124, 116, 104]
    with pytest.raises(
        ValueError, match=r"fill=\(1, 2, 3, 4\) has 4 values for an image of 1 chan"
    ):
        expand(Fixed(*draws), grey, record)


def test_colours_are_those_of_three_channels():
    image, record = np.zeros((40, 60, 4), np.uint8), scene()[1]
    with pytest.raises(
        ValueError, match="image 7 has 4 channels; ColourJitter changes the colours"
    ):
        augment.ColourJitter()(rng(), image, record)


def test_maps_have_the_size_of_their_image():
    with pytest.raises(ValueError, match=r"semantic map has shape \(3, 3\), the image is \(40, 60"):
        with_map(*scene(), semantic=np.zeros((3, 3)))


def test_compose_runs_in_order():
    trail = []
    steps = [lambda r, i, x, k=k: (trail.append(k), (i, x))[1] for k in range(3)]
    augment.Compose(steps)(rng(), None, None)
    assert trail == [0, 1, 2]


@pytest.mark.parametrize("step", EVERY, ids=name)
def test_properties(step):
    """Boxes stay inside with a positive area, agree with their masks, and nothing is written to."""
    draws = rng(3)
    for _ in range(60):
        height, width = draws.integers(30, 70, 2)
        corners = draws.integers(0, 20, (3, 2))
        boxes = np.concatenate([corners, corners + draws.integers(2, 10, (3, 2))], 1)
        image, record = scene(height, width, boxes.tolist(), ignore=[False, True, False])
        before = image.copy(), record.boxes.copy(), record.keypoints.copy()
        out, moved = step(draws, image, record)
        assert out.dtype == np.uint8
        assert out.shape == (moved.height, moved.width, 3)
        assert out.flags.c_contiguous
        x1, y1, x2, y2 = moved.boxes.T
        assert (x1 >= 0).all() and (y1 >= 0).all()  # noqa: PT018
        assert (x2 <= moved.width).all() and (y2 <= moved.height).all()  # noqa: PT018
        assert (x2 > x1).all() and (y2 > y1).all()  # noqa: PT018
        assert moved.boxes.dtype == np.float32
        assert (moved.area > 0).all()
        for k, rle in enumerate(moved.masks):
            assert rle["size"] == [moved.height, moved.width]
            np.testing.assert_allclose(mask_box(moved, k), moved.boxes[k], atol=0.51)
        for old, new in zip(before, (image, record.boxes, record.keypoints)):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("step", EVERY[:-2], ids=name)
def test_no_objects(step, masks):
    for seed in range(5):
        image, record = step(rng(seed), *scene(30, 40, (), masks=masks, keypoints=masks))
        assert record.boxes.shape == (0, 4)
        assert record.labels.shape == record.ignore.shape == record.area.shape == (0,)
        assert image.shape == (record.height, record.width, 3)


def test_flips_agree_with_keras():
    """keras.layers.RandomFlip, one axis at a time, on the images that it did flip."""
    image, record = scene(boxes=((10, 5, 30, 25), (0, 7, 3, 40), (50, 0, 60, 1)))
    for mode, ours in (
        ("horizontal", augment.HorizontalFlip(1.0)),
        ("vertical", augment.VerticalFlip(1.0)),
    ):
        theirs = keras.layers.RandomFlip(mode, seed=1, bounding_box_format="xyxy")
        expected_image, expected = ours(rng(), image, record)
        flipped = 0
        for _ in range(12):
            boxes = {"boxes": record.boxes[None].copy(), "labels": record.labels[None]}
            data = {"images": image[None].astype("float32"), "bounding_boxes": boxes}
            out = theirs(data, training=True)
            if not np.array_equal(out["images"][0], image):
                flipped += 1
                np.testing.assert_array_equal(out["images"][0], expected_image)
                got = out["bounding_boxes"]["boxes"][0]
                np.testing.assert_allclose(got, expected.boxes, atol=1e-4)
        assert flipped > 0
