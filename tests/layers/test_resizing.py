"""The sizes that images and canvases get."""

from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kerasdet.data import digit_scenes
from kerasdet.layers.resizing import (
    Fit,
    KeepSize,
    Letterbox,
    PaddedSquare,
    RoundedShortestEdge,
    ShortestEdge,
    ShortestEdgeFromCorner,
    Stretch,
    StretchFromCorner,
    images_on_canvas,
)
from kerasdet.models.base import ImageModel


@pytest.mark.parametrize(
    ("part", "size", "target", "canvas"),
    [
        (KeepSize(), (97, 130), (97, 130), (128, 160)),
        (KeepSize(1), (97, 130), (97, 130), (97, 130)),
        # 800 / 480 = 1.666...; 640 * 800 / 480 = 1066.67, floored as torchvision does.
        (ShortestEdge(800, 1333), (480, 640), (800, 1066), (800, 1088)),
        # The longer side bounds: 1333 / 1000 = 1.333; 300 * 1.333 = 399.9.
        (ShortestEdge(800, 1333), (1000, 300), (1333, 399), (1344, 416)),
        # Rounded: 1066.67 and 399.9 become 1067 and 400; 427 * 800 / 640 = 533.75 becomes 534.
        (RoundedShortestEdge(800, 1333), (480, 640), (800, 1067), (800, 1088)),
        (RoundedShortestEdge(800, 1333), (1000, 300), (1333, 400), (1344, 416)),
        (RoundedShortestEdge(800, 800), (640, 427), (800, 534), (800, 544)),
        (RoundedShortestEdge(800, 1333), (3000, 1), (1333, 1), (1344, 32)),
        # 600 / 333 = 1.8018; 500 * 1.8018 = 900.9. 1000 / 500 = 2; 1.25 * 402 = 502.5, to even.
        (ShortestEdge(600, 1000, 1), (333, 500), (600, 900), (600, 900)),
        (ShortestEdge(600, 1000, 1, nearest=True), (333, 500), (600, 901), (600, 901)),
        (ShortestEdge(600, 1000, 1, nearest=True), (402, 800), (502, 1000), (502, 1000)),
        (Fit(384, 512), (480, 640), (384, 512), (384, 512)),
        (Fit(384, 512), (100, 400), (128, 512), (384, 512)),
        (Fit(64, 64), (1, 1000), (1, 64), (64, 64)),
        # 1333 / 3000 = 0.444: 20 pixels become 8; 2 would become 0.89, and are one.
        (ShortestEdge(800, 1333), (3000, 20), (1333, 8), (1344, 32)),
        (ShortestEdge(800, 1333), (3000, 2), (1333, 1), (1344, 32)),
        (ShortestEdge(800, 1333), (1, 3000), (1, 1333), (32, 1344)),
        # 480 * 416 / 641 = 311.5, which Darknet rounds down and Fit up; 1 * 416 / 641 is one pixel.
        (Letterbox(416), (480, 641), (311, 416), (416, 416)),
        (Letterbox(416), (641, 480), (416, 311), (416, 416)),
        (Letterbox(416), (1, 641), (1, 416), (416, 416)),
        (Letterbox(64, 96), (100, 100), (64, 64), (64, 96)),
        # 427 * 416 / 640 = 277.55, which is rounded; 1 * 416 / 1000 is one pixel.
        (PaddedSquare(416), (427, 640), (278, 416), (416, 416)),
        (PaddedSquare(416), (640, 426), (416, 277), (416, 416)),
        (PaddedSquare(512), (100, 100), (512, 512), (512, 512)),
        (PaddedSquare(416), (1, 1000), (1, 416), (416, 416)),
        (Stretch(8), (1, 5000), (8, 8), (8, 8)),
        (Stretch(300), (480, 640), (300, 300), (300, 300)),
        (StretchFromCorner(300, 200), (480, 640), (300, 200), (300, 200)),
        # 600 / 480 = 1.25; the longer side has 800.
        (ShortestEdgeFromCorner(600, 1024), (480, 640), (600, 800), (600, 800)),
        # 427 x 640 would be 600 x 899.3; 300 x 640 would be 600 x 1280: 640 becomes 1024, 300 480.
        (ShortestEdgeFromCorner(600, 1024), (427, 640), (600, 899), (600, 899)),
        (ShortestEdgeFromCorner(600, 1024), (640, 300), (1024, 480), (1024, 480)),
        # 5 * 4 / 8 = 2.5 and 7 * 4 / 8 = 3.5, halves to even.
        (ShortestEdgeFromCorner(100, 4), (5, 8), (2, 4), (2, 4)),
        (ShortestEdgeFromCorner(100, 4), (8, 7), (4, 4), (4, 4)),
        (ShortestEdgeFromCorner(600, 1024), (2, 5000), (1, 1024), (1, 1024)),
    ],
)
def test_sizes(part, size, target, canvas):
    assert tuple(part.target_size(*size)) == target
    assert tuple(part.canvas_size(*target)) == canvas


@pytest.mark.parametrize(
    "part",
    [
        *(KeepSize(), ShortestEdge(), Fit(384, 512), Letterbox(416, 300), PaddedSquare(416)),
        *(RoundedShortestEdge(), Stretch(300), StretchFromCorner(300)),
        ShortestEdge(600, 1000, 1, nearest=True),
        ShortestEdgeFromCorner(600, 1024),
    ],
)
def test_graph_sizes_equal_python_sizes(part):
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    for height, width in [*rng.integers(16, 2000, (50, 2)), (5000, 1), (1, 5000), (1, 1)]:
        expected = part.target_size(int(height), int(width))
        target = part.target_size(tf.constant(height), tf.constant(width), xp=tf)
        assert tuple(int(side) for side in target) == tuple(expected)
        assert tuple(int(side) for side in part.canvas_size(*target, xp=tf)) == tuple(
            part.canvas_size(*expected)
        )
        assert tuple(float(side) for side in part.offset(*target, xp=tf)) == tuple(
            part.offset(*expected)
        )


@pytest.mark.parametrize(
    "part",
    [
        *(KeepSize(64), ShortestEdge(600, 1000, 16), Fit(2, 3), Letterbox(64, 96), PaddedSquare(7)),
        *(RoundedShortestEdge(500, 700, 8), Stretch(5, 6)),
    ],
)
def test_config_round_trip(part):
    config = keras.saving.serialize_keras_object(part)
    assert keras.saving.deserialize_keras_object(config) == part


@pytest.mark.parametrize(
    "value", [0, -1, 1 << 17, 10**9, float("nan"), float("inf"), "8", None, [8], abs]
)
def test_sizes_are_positive_and_bounded(value):
    with pytest.raises(
        ValueError, match="height must be a positive number of pixels, at most 65536"
    ):
        Fit(value, 512)


def test_sizes_are_whole():
    with pytest.raises(ValueError, match=r"divisor must be a whole number of pixels, not 1\.5"):
        KeepSize(1.5)
    assert Stretch(8.0) == Stretch(8)


@pytest.mark.parametrize("part", [KeepSize(), ShortestEdge(), Fit(384, 512), Stretch(300)])
def test_other_parts_begin_at_the_top_left_and_draw_nothing(part):
    assert part.offset(*part.target_size(333, 500)) == (0, 0)
    assert not part.DRAWN


def test_darknets_offset_has_half_pixels():
    # 480 x 641 become 311 x 416: 105 rows of padding.
    assert Letterbox(416).offset(311, 416) == (52.5, 0)
    assert Letterbox(416).offset(416, 311) == (0, 52.5)
    assert PaddedSquare(416).offset(277, 416) == (0, 0)


def test_letterbox_by_hand():
    image = np.array([[10, 20, 40], [30, 60, 80]], np.uint8)[..., None]
    # 2 x 3 pixels become 3 x 5, from corner to corner, between rows of grey.
    expected = [
        [127.5, 127.5, 127.5, 127.5, 127.5],
        [10, 15, 20, 30, 40],
        [20, 30, 40, 50, 60],
        [30, 45, 60, 70, 80],
        [127.5, 127.5, 127.5, 127.5, 127.5],
    ]
    np.testing.assert_allclose(Letterbox(5).draw(image)[..., 0], expected, rtol=1e-6)
    # Of an odd padding the smaller half comes first: (4 - 3) // 2 = 0 rows.
    np.testing.assert_allclose(
        Letterbox(4, 5).draw(image)[..., 0], [*expected[1:4], expected[0]], rtol=1e-6
    )


def test_the_last_row_of_darknet_is_dark_where_float32_rounds_down():
    # The last row is read at 7 * float32(31 / 7) = 30.999998. Darknet gives pixel 30 the rest, 2e-6, and adds
    # no pixel 31. Of the last column it takes pixel 31.
    part = Letterbox(8)
    rows, columns = part.samples(32, 32)
    assert rows.first[7] == 30
    assert rows.first_weight[7] < 1e-5
    assert rows.second_weight[7] == 0
    assert columns.second_weight[7] > 0.999
    canvas = part.draw(np.full((32, 32, 1), 200, np.uint8))[..., 0]
    np.testing.assert_allclose(canvas[:7], 200, rtol=1e-5)
    np.testing.assert_allclose(canvas[7], 0, atol=1e-2)


def test_padded_square_by_hand():
    # Padded to [[10, 20], [0, 0]], then read at 0, 0.5, 1 and 1 (not 1.5, which is outside).
    image = np.array([[10, 20]], np.uint8)[..., None]
    expected = [[10, 15, 20, 20], [5, 7.5, 10, 10], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(PaddedSquare(4).draw(image)[..., 0], expected)
    upright = image.transpose(1, 0, 2)
    np.testing.assert_array_equal(PaddedSquare(4).draw(upright)[..., 0], np.transpose(expected))
    # Made smaller, by a factor of 2: every other pixel.
    image = np.arange(24, dtype=np.uint8).reshape(4, 6, 1)
    np.testing.assert_array_equal(
        PaddedSquare(3).draw(image)[..., 0], [[0, 2, 4], [12, 14, 16], [0, 0, 0]]
    )


def test_tensorflow_1_reads_from_the_corner_by_hand():
    # 2 pixels on 4: read at 0, 0.5, 1 and 1.5, where the last pixel goes on.
    image = np.array([[10, 20]], np.uint8)[..., None]
    expected = [[10, 15, 20, 20]] * 3
    np.testing.assert_array_equal(StretchFromCorner(3, 4).draw(image)[..., 0], expected)
    # Made smaller, by factors of 4 / 3 and 2: rows 0, 4 / 3, 8 / 3 and columns 0, 2, 4.
    image = np.arange(24, dtype=np.uint8).reshape(4, 6, 1)
    np.testing.assert_allclose(
        ShortestEdgeFromCorner(3, 1000).draw(image)[:, 0, 0], [0, 8, 16], rtol=1e-6
    )
    np.testing.assert_allclose(
        StretchFromCorner(3).draw(image)[..., 0], [[0, 2, 4], [8, 10, 12], [16, 18, 20]], rtol=1e-6
    )


def test_tensorflow_1_resizes_as_its_kernel():
    tf = pytest.importorskip("tensorflow")
    for part, size in ((StretchFromCorner(300), (427, 640)), (ShortestEdgeFromCorner(), (60, 51))):
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        drawn = part.draw(image)
        expected = tf.compat.v1.image.resize_bilinear(image[None], drawn.shape[:2])[0]
        np.testing.assert_allclose(drawn, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "part",
    [
        *(Letterbox(64, 48), PaddedSquare(64), StretchFromCorner(64, 48)),
        ShortestEdgeFromCorner(48, 64),
    ],
)
@pytest.mark.parametrize("size", [(37, 51), (200, 90), (64, 48), (1, 9), (9, 1), (1, 1)])
def test_a_graph_draws_what_numpy_draws(part, size):
    tf = pytest.importorskip("tensorflow")
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    expected = part.draw(images)
    assert expected.shape == (2, *part.canvas_size(*part.target_size(*size)), 3)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(part.draw(tf.constant(images), tf, size), expected)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), "uint8")], autograph=False)
    def drawn(images):
        return part.draw(images, tf, tuple(tf.unstack(tf.shape(images)[1:3])))

    np.testing.assert_allclose(drawn(images), expected, rtol=0, atol=1e-3)


def test_labels_are_drawn_of_the_nearer_pixel():
    labels = np.array([[0, 5, 7], [1, 2, 3]], np.int32)
    expected = [[-1] * 5, [0, 0, 5, 5, 7], [0, 0, 5, 5, 7], [1, 1, 2, 2, 3], [-1] * 5]
    np.testing.assert_array_equal(Letterbox(5).draw_labels(labels), expected)
    assert Letterbox(5).draw_labels(labels).dtype == np.int32


def test_boxes_lie_on_the_canvas_where_the_image_does():
    record = SimpleNamespace(
        height=480, width=641, boxes=np.array([[0.0, 0, 641, 480]]), ignore=np.array([False])
    )
    data = type("Data", (), {"record": lambda self, index: record, "__len__": lambda self: 1})()
    ((boxes, canvas),) = images_on_canvas(data, Letterbox(416))
    np.testing.assert_allclose(boxes, [[0, 52.5, 416, 363.5]])
    assert canvas == (416, 416)


with np.load(Path(__file__).parents[1] / "golden" / "mmdetection.npz") as file:
    MMCV = {key: file[key] for key in file.files}


@pytest.mark.parametrize("name", sorted({key.partition("/")[0] for key in MMCV} - {"versions"}))
def test_rounded_pixels_are_mmcvs(name):
    tf = pytest.importorskip("tensorflow")
    image, expected = MMCV[f"{name}/image"], MMCV[f"{name}/resized"]
    part = RoundedShortestEdge(*MMCV[f"{name}/edges"].tolist())
    size = part.target_size(*image.shape[:2])
    assert size == expected.shape[:2]
    resized = part.resample(image, size)
    assert resized.dtype == np.float32
    np.testing.assert_array_equal(resized, expected)
    in_graph = part.resample(tf.constant(image)[None], size, tf)
    assert in_graph.dtype == "float32"
    np.testing.assert_array_equal(in_graph[0], expected)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), "uint8")], autograph=False)
    def resample(images):
        size = part.target_size(*tf.unstack(tf.shape(images)[1:3]), xp=tf)
        return part.resample(images, size, tf)

    np.testing.assert_array_equal(resample(image[None])[0], expected)


def test_rounded_pixels_by_hand():
    part, image = RoundedShortestEdge(2, 8), np.array([[[0], [10], [21], [30]]], np.uint8)
    # Twice as large: pixel 1 is read at 0.25, 0.75 * 0 + 0.25 * 10 = 2.5. Of 2.5 and of 7.5, the shares of
    # the two rows, a quarter and three, are cut to quarters of a level: 2.25 and 7.25.
    assert part.target_size(1, 4) == (2, 8)
    resized = part.resample(image, (2, 8))
    np.testing.assert_array_equal(resized[0, :, 0], [0, 2, 7, 13, 18, 23, 28, 30])
    np.testing.assert_array_equal(resized[1], resized[0])
    # Fractions are rounded before; halves are means of four pixels.
    square = np.array([[1.4, 2.6], [4.0, 0.2]], np.float32)[..., None]
    np.testing.assert_array_equal(part.resample(square, (1, 1)), [[[2]]])


def test_the_pipeline_resizes_as_detection_does():
    data = digit_scenes("val", size=1, image_size=128)
    part = RoundedShortestEdge(80, 200)
    inputs, _ = next(iter(data.batches(1, resize=part)))
    model = SimpleNamespace(resize=part, mean=(0.0,) * 3)
    expected = ImageModel.to_canvas(model, [data.image(0)])
    np.testing.assert_array_equal(inputs["image_sizes"], expected["image_sizes"])
    np.testing.assert_array_equal(inputs["images"], expected["images"])
    assert np.unique(np.asarray(inputs["images"]) % 1).tolist() == [0.0]
