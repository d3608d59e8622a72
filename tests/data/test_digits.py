import hashlib
import sys

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from kerasdet.data import ink
from kerasdet.data.digits import digit_scenes

pytest.importorskip("sklearn")

# The benchmark itself: published figures hold for these scenes and no others.
FROZEN = {
    "train": "10eb5f368b85b1a7d158fe205448ada2cb669d5a8d911157c18b4922e6316da2",
    "val": "94380c9dfb4a3a0a9a735f12fd6643550cd3a3da6022ccec8e3e0189240cd6d0",
    "test": "7513becbd5b31bc6f22e1797206753390c84f7f9455b2e1b551211481dabec05",
}


def digest(dataset, indices):
    """SHA-256 of everything that some scenes hold."""
    out = hashlib.sha256()
    for index in indices:
        record = dataset.record(index)
        out.update(dataset.image(index).tobytes())
        out.update(dataset.semantic(index).astype("<i4").tobytes())
        out.update(record.boxes.astype("<f4").tobytes())
        out.update(record.labels.astype("<i4").tobytes())
        out.update(record.area.astype("<f4").tobytes())
        out.update(record.keypoints.astype("<f4").tobytes())
        out.update(b"".join(rle["counts"] for rle in record.masks))
    return out.hexdigest()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_frozen(split):
    assert digest(digit_scenes(split), [*range(10), 100, 255]) == FROZEN[split]


@pytest.fixture(scope="module")
def scenes():
    dataset = digit_scenes("train", size=200)
    return dataset, [dataset.record(i) for i in range(200)]


def iou(a, b):
    w = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return w * h / (area - w * h)


def test_digits_of_the_splits_are_disjoint():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    assert len(np.unique(images, axis=0)) == 1797  # so that no two samples are the same
    counts = [np.bincount(ink.glyphs(split)[0], minlength=10) for split in ink.SPLITS]
    assert (sum(counts) == np.bincount(labels)).all()
    for k in range(10):
        np.testing.assert_allclose(
            [c[k] for c in counts] / sum(counts)[k], [0.6, 0.2, 0.2], atol=0.01
        )
    images = [
        {glyph.tobytes() for glyph in ink.glyphs(split)[1][0]} for split in ("train", "val", "test")
    ]
    assert len(set.union(*images)) == sum(len(split) for split in images)


def test_number_of_digits(scenes):
    dataset, records = scenes
    counts = np.array([len(record.labels) for record in records])
    assert (counts[9::10] == 0).all()
    assert (counts == 0).sum() == 20
    assert counts.max() == 12
    np.testing.assert_array_equal(dataset.box_counts(), counts)
    assert repr(dataset).endswith(f"{counts.sum()} boxes")
    assert len(np.unique(np.concatenate([record.labels for record in records]))) == 10


def test_heights_are_log_uniform(scenes):
    boxes = np.concatenate([record.boxes for record in scenes[1]])
    heights = boxes[:, 3] - boxes[:, 1]
    assert heights.min() >= 12
    assert heights.max() <= 96
    # A third of the digits in each octave; 1200 digits give a standard deviation of 0.014.
    for low in (12, 24, 48):
        assert abs(((low <= heights) & (heights < 2 * low)).mean() - 1 / 3) < 0.06


def test_boxes_lie_inside_and_overlap_little(scenes):
    closest = 0.0
    for record in scenes[1]:
        assert (record.boxes >= 0).all()
        assert (record.boxes <= 256).all()
        for i, a in enumerate(record.boxes):
            closest = max([closest, *(iou(a, b) for b in record.boxes[:i])])
    assert 0.3 < closest <= 0.4


def test_everything_agrees_with_the_masks(scenes):
    for record in scenes[1][:20]:
        for box, area, rle, points in zip(
            record.boxes, record.area, record.masks, record.keypoints, strict=True
        ):
            mask = coco_mask.decode(rle)
            y, x = np.nonzero(mask)
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
            assert area == mask.sum()
            top, left, bottom, right = points
            assert (top[1], left[0]) == (box[1] + 0.5, box[0] + 0.5)
            assert (bottom[1], right[0]) == (box[3] - 0.5, box[2] - 0.5)
            for px, py, visibility in points:
                assert mask[int(py), int(px)] == 1
                assert visibility == 2


def test_semantic_map_is_the_masks_last_on_top(scenes):
    dataset, records = scenes
    for index in range(10):
        expected = np.zeros((256, 256), np.int32)
        for rle, label in zip(records[index].masks, records[index].labels):
            expected[coco_mask.decode(rle) == 1] = 1 + label
        np.testing.assert_array_equal(dataset.semantic(index), expected)


@pytest.mark.parametrize("brighter", [0, 1])
@pytest.mark.parametrize("contrast", [52, 256])
def test_contrast(brighter, contrast):
    """Full ink on a plain ground of luma 128 has the drawn share of the room to black or white."""

    values = [contrast - 1, brighter, 64, -64, 64]  # the tint must not change the luma

    class Drawn:
        def integer(self, low, high):
            value = values.pop(0)
            assert low <= value < high
            return value

    canvas = np.full((20, 20, 3), 128, np.int32)
    ink.paint(Drawn(), canvas, np.full((4, 4), 256, np.int32), (8, 8))
    luma = canvas[9, 9] @ [0.299, 0.587, 0.114]
    expected = 128 + (127 if brighter else -128) * contrast / 256
    assert abs(luma - expected) < 2.5
    assert canvas.min() >= 0
    assert canvas.max() <= 255
    assert (canvas[:8] == 128).all()


def test_ink_without_room_takes_the_other_sign():
    draws = ink.Draws(0)
    for _ in range(20):
        canvas = np.full((8, 8, 3), 20, np.int32)
        ink.paint(draws, canvas, np.full((8, 8), 256, np.int32), (0, 0))
        assert canvas.mean() > 20 + 0.2 * 235 - 20  # never the 4 levels that are left to black


@pytest.mark.parametrize("angle", [-30, -7, 0, 30])
@pytest.mark.parametrize("height", [12, 40, 95])
def test_render_has_the_height_asked_for(angle, height):
    levels = ink.glyphs("val")[1]
    cos, sin = (round(16384 * f(np.radians(angle))) for f in (np.cos, np.sin))
    for glyph in range(0, 350, 50):
        alpha = ink.render([level[glyph] for level in levels], height * 256, cos, sin)
        rows = np.flatnonzero((alpha >= 128).any(1))
        assert abs(rows[-1] - rows[0] + 1 - height) <= 2


def test_glyphs_hold_the_samples():
    """Pooled back to 8 x 8, a glyph follows the sample it came from."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    glyph_labels, levels = ink.glyphs("test")
    pooled = levels[0][:, 16:80, 16:80].reshape(-1, 8, 8, 8, 8).mean((2, 4)).reshape(-1, 64)
    for k in range(0, 350, 35):
        distances = ((pooled[k] / 255 - images / 16) ** 2).sum(1)
        assert labels[distances.argmin()] == glyph_labels[k]


def test_images():
    dataset = digit_scenes("val")
    image = dataset.image(3)
    assert image.shape == (256, 256, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, digit_scenes("val", size=4).image(3))
    for other in (digit_scenes("train"), digit_scenes("test"), digit_scenes("val", seed=1)):
        assert not np.array_equal(image, other.image(3))


def test_one_digit_per_image():
    dataset = digit_scenes("test", size=20, digits_per_scene=1, image_size=128)
    assert [len(dataset.record(i).labels) for i in range(20)] == [1] * 20
    assert dataset.image(0).shape == (128, 128, 3)
    assert dataset.box_counts().tolist() == [1] * 20


def test_metadata():
    dataset = digit_scenes("val")
    assert len(dataset) == 256
    assert dataset.class_names == tuple("0123456789")
    assert dataset.keypoint_names == ("top", "left", "bottom", "right")
    assert dataset.keypoint_sigmas == (0.05, 0.05, 0.05, 0.05)
    with pytest.raises(IndexError, match="scene 256"):
        dataset.record(256)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "split='dev'"),
        ({"size": 0}, "size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"image_size": 64}, "image_size=64"),
        ({"digits_per_scene": 13}, "digits_per_scene=13"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        digit_scenes(**arguments)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    ink.glyphs.cache_clear()
    with pytest.raises(ImportError, match=r"pip install kerasdet\[demo\]"):
        digit_scenes("val")
