"""YOLOv2 against its paper and the authors' region layer: boxes, assignment, losses, scores, counts."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from kerasdet.backbones import Darknet, Darknet19, TinyYOLOv2
from kerasdet.layers import PassthroughHead, Stretch
from kerasdet.models import YOLOv2
from kerasdet.models import yolo_v2 as paper
from kerasdet.models.detector import prepare
from kerasdet.ops.coders import decode_locations, encode_locations
from tests.contract.detectors import CLASS_NAMES, DATA, yolo_v2
from tests.tiny import TinyBackbone, cheap_weights

CONSTANTS = {
    "COORDINATE_SCALE": 1.0,  # region layer of yolov2-voc.cfg
    "OBJECT_SCALE": 5.0,
    "NO_OBJECT_SCALE": 1.0,
    "CLASS_SCALE": 1.0,
    "NO_OBJECT_IOU": 0.6,
    "CANDIDATES": 1000,
    "OUTPUT_STD": 0.01,
    "PRIOR": 0.01,  # not the authors'
}
VOC_CELLS = (
    *((1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892)),
    *((9.47112, 4.84053), (11.2364, 10.0071)),
)


def test_constants_are_the_authors(monkeypatch):
    assert {name: getattr(paper, name) for name in CONSTANTS} == CONSTANTS
    cheap_weights(monkeypatch)
    model = YOLOv2(20)
    np.testing.assert_allclose(model.anchors, np.float64(VOC_CELLS) * 32)
    assert model.backbone.get_config()["plan"] == Darknet19().get_config()["plan"]
    assert model.stride == 32
    head = model.head
    assert (head.channels, head.depth, head.passthrough) == (1024, 3, 64)
    assert (head.levels, head.order) == (("C4", "C5"), "adjacent")
    assert model.output_conv.filters == 5 * (5 + 20) == 125


def test_parameters_are_those_of_the_authors_files(monkeypatch):
    cheap_weights(monkeypatch)
    # The files for Darknet's yolov2-voc.cfg and yolov2-tiny-voc.cfg have so many float32 numbers.
    assert YOLOv2(20).count_params() == 50_676_061
    tiny = YOLOv2(20, TinyYOLOv2(), PassthroughHead(1024, 1, 0, ("C5",)))
    assert tiny.count_params() == 15_867_885


def test_845_boxes_at_416_pixels_and_1805_at_608():
    for side, count in ((416, 845), (608, 1805), (320, 500)):
        outputs = small(anchors=VOC_CELLS)(np.zeros((1, side, side, 3), np.uint8))
        assert outputs["locations"].shape == (1, count, 4)
        assert outputs["confidence"].shape == (1, count)
        assert outputs["logits"].shape == (1, count, 2)
        assert outputs["anchors"].shape == (count, 4)


def small(anchors=((32, 32), (64, 32)), **settings):
    head = PassthroughHead(8, 1, 0, ("C5",))
    return YOLOv2(2, TinyBackbone(levels=("C5",)), head, anchors, **settings)


def outputs_of(locations=(), confidence=(), logits=(), model=None):
    """Raw outputs of two by two cells of two anchors, zero where nothing is given; {row: numbers}."""
    model = model or small()
    outputs = {k: np.array(v) for k, v in model(np.zeros((1, 64, 64, 3), np.uint8)).items()}
    for name, given in (("locations", locations), ("confidence", confidence), ("logits", logits)):
        outputs[name][:] = 0
        for row, values in dict(given).items():
            outputs[name][0, row] = values
    return outputs


def targets(boxes, labels, ignore=None):
    values = {"boxes": np.array([boxes], np.float32), "labels": np.array([labels], np.int32)}
    return prepare(values | ({} if ignore is None else {"ignore": np.array([ignore])}))


def sums(outputs, truth):
    terms = small().loss_terms(outputs, truth)
    assert {float(count) for _, count in terms.values()} == {1.0}  # per image
    return {name: float(value) for name, (value, _) in terms.items()}


def test_rows_are_cells_and_anchors():
    model = small()
    model.output_conv.kernel.assign(np.zeros(model.output_conv.kernel.shape))
    model.output_conv.bias.assign(np.arange(14))
    outputs = model(np.zeros((1, 64, 96, 3), np.uint8))
    np.testing.assert_array_equal(outputs["locations"][0], [[0, 1, 2, 3], [7, 8, 9, 10]] * 6)
    np.testing.assert_array_equal(outputs["confidence"][0], [4, 11] * 6)
    np.testing.assert_array_equal(outputs["logits"][0], [[5, 6], [12, 13]] * 6)
    np.testing.assert_array_equal(outputs["anchors"][2], [32, 0, 64, 32])
    np.testing.assert_array_equal(outputs["anchors"][7], [-16, 32, 48, 64])
    assert np.asarray(outputs["grid"]).tolist() == [2, 3]


def test_direct_locations_by_hand():
    # Cell (1, 0) of stride 16 has its corner at (16, 0); its anchor is 20 x 10.
    anchor = np.float32([14, 3, 34, 13])
    t = np.float32([math.log(3), -math.log(3), math.log(2), math.log(0.5)])
    # sigma = 3/4 and 1/4: the centre is (28, 4), the size 40 x 5.
    box = [8, 1.5, 48, 6.5]
    np.testing.assert_allclose(decode_locations(t, anchor, 16), box, atol=1e-5)
    expected = [0.75, 0.25, math.log(2), math.log(0.5)]
    np.testing.assert_allclose(encode_locations(box, anchor, 16), expected, atol=1e-6)
    # Whatever is predicted, the centre stays in the cell and the size is finite.
    wild = np.asarray(decode_locations(np.float32([99, -99, 99, 99]), anchor, 16))
    np.testing.assert_allclose((wild[:2] + wild[2:]) / 2, [32, 0], atol=1e-3)
    np.testing.assert_allclose(wild[2:] - wild[:2], [1250, 625], rtol=1e-5)


def test_losses_by_hand():
    # The object lies in the cell of row 0 and column 1, whose first anchor has its shape: row 2.
    # Predicted there: sigma(t_y) = 3/4 for 1/2, and twice the width.
    t = {2: [0, math.log(3), math.log(2), 0]}
    outputs = outputs_of(t, logits={2: [0, math.log(3)]})
    found = sums(outputs, targets([[32, 0, 64, 32], [-1] * 4], [1, -1]))
    # Scale 2 - (32 / 64)^2; half of the squares of 1/4 and log 2.
    assert found["box_loss"] == pytest.approx(1.75 * (0.0625 + math.log(2) ** 2) / 2, rel=1e-5)
    # The box [16, 8, 80, 40] overlaps by 32 x 24 of 1024 + 2048 - 768: IoU 1/3, against sigma(0).
    assert found["object_loss"] == pytest.approx(5 * (1 / 3 - 1 / 2) ** 2 / 2, rel=1e-5)
    # All seven others are background: the second anchor there overlaps by one half.
    assert found["background_loss"] == pytest.approx(7 * 0.5**2 / 2, rel=1e-5)
    assert found["class_loss"] == pytest.approx(-math.log(3 / 4), rel=1e-5)


def test_boxes_that_overlap_by_more_than_six_tenths_are_no_background():
    truth = targets([[32, 0, 64, 32]], [1])
    # The second anchor of that cell, 64 wide, becomes 54 or 52 wide: IoU 32 / 54 = 0.593, 0.615.
    for width, count in ((54, 7), (52, 6)):
        outputs = outputs_of({3: [0, 0, math.log(width / 64), 0]})
        assert sums(outputs, truth)["background_loss"] == pytest.approx(count * 0.125, rel=1e-5)


def test_gradients_of_the_target_do_not_reach_the_box():
    import tensorflow as tf

    outputs = outputs_of({2: [0.3, 0.2, 0.1, -0.2]})
    locations = tf.Variable(outputs["locations"])
    with tf.GradientTape() as tape:
        terms = small().loss_terms(
            {**outputs, "locations": locations}, targets([[32, 0, 64, 32]], [1])
        )
        value = terms["object_loss"][0]
    gradient = tape.gradient(value, locations)
    assert gradient is None or not np.any(gradient)


def test_the_shape_chooses_the_anchor_and_the_best_shape_wins_it():
    truth = targets([[0, 40, 60, 60], [2, 36, 58, 64], [33, 1, 50, 20]], [0, 1, 1])
    owner = small().assign(truth["boxes"], ~truth["ignore"], ops.array([2, 2]), 8)
    # Both wide objects have their centres in the cell of row 1 and column 0 (rows 4 and 5). Of 64 x 32,
    # 60 x 20 has 1200 / 2048, and 56 x 28 1568 / 2048. The third has its cell's first anchor.
    assert np.asarray(owner)[0].tolist() == [-1, -1, 2, -1, -1, 1, -1, -1]


def test_crowds_are_learnt_neither_as_objects_nor_as_background():
    truth = targets([[0, 0, 64, 64]], [1], [True])
    found = sums(outputs_of(), truth)
    assert found["box_loss"] == found["object_loss"] == found["class_loss"] == 0
    # Each anchor lies in the crowd by half or more: those of 64 x 32 at the edges by three quarters.
    assert found["background_loss"] == 0


def test_images_without_objects_teach_background_alone():
    found = sums(outputs_of(), targets([[-1] * 4], [-1]))
    assert found["background_loss"] == pytest.approx(8 * 0.125, rel=1e-5)
    assert found["box_loss"] == found["object_loss"] == found["class_loss"] == 0


def test_scores_and_boxes_by_hand():
    model = small(score_threshold=0.01, max_detections=4)
    # sigma(log 4) = 0.8, times softmax 3/4 and 1/4; elsewhere objectness is 0.
    confidence = {row: -40.0 for row in range(8)} | {2: math.log(4)}
    outputs = outputs_of({2: [0, 0, math.log(3), 0]}, confidence, {2: [math.log(3), 0]}, model)
    found = {name: np.asarray(value)[0] for name, value in model.decode(outputs).items()}
    assert found["num_detections"] == 2
    assert found["labels"][:2].tolist() == [0, 1]
    np.testing.assert_allclose(found["confidence"][:2], [0.6, 0.2], rtol=1e-5)
    # Three times 32 wide around 48, clipped to the image.
    np.testing.assert_allclose(found["boxes"][:2], [[0, 0, 64, 32]] * 2, atol=1e-4)


def test_boxes_begin_at_their_anchors():
    keras.utils.set_random_seed(0)
    model = yolo_v2()
    # b = -log(0.99 / 0.01) for t_o alone.
    expected = [0, 0, 0, 0, -4.59512, 0, 0, 0] * 5
    np.testing.assert_allclose(model.output_conv.bias, expected, atol=1e-5)
    assert np.std(model.output_conv.kernel) == pytest.approx(0.01, rel=0.1)
    outputs = model(np.zeros((1, 64, 64, 3), np.uint8))
    # A tenth of a logit moves a centre by a fortieth of a cell, and a side by a tenth.
    assert np.abs(outputs["locations"]).mean() < 0.1


def test_a_thousand_candidates_or_four_for_each_detection():
    model = small(max_detections=1000, score_threshold=0.001, iou_threshold=1.0)
    outputs = {k: np.array(v) for k, v in model(np.zeros((1, 1024, 1024, 3), np.uint8)).items()}
    outputs["confidence"][:] = 3.0
    assert model.decode(outputs)["num_detections"] == 1000  # of 2048 boxes of two classes
    assert (model.room_for(1000), small(max_detections=250).room_for(1000)) == (4000, 1000)


def test_an_object_larger_than_the_canvas_has_the_least_weight():
    # Two by two cells; the box is three times as high and wide as the canvas of 64 x 64.
    outputs = outputs_of(locations={row: [0.0, 0.0, 9.0, 9.0] for row in range(8)})
    found = [
        float(small().loss_terms(outputs, targets([box], [0]))["box_loss"][0])
        for box in ([0, 0, 64, 64], [-64, -64, 128, 128])
    ]
    assert min(found) > 0


def test_options_reach_the_parts():
    model = yolo_v2(channels=24, depth=3, passthrough=0, stride=32)
    assert (model.head.channels, model.head.depth, model.head.passthrough) == (24, 3, 0)
    assert (model.head.levels, model.stride, model.backbone.levels) == (("C5",), 32, ("C5",))
    model = yolo_v2()
    assert (model.head.levels, model.stride) == (("C3", "C4"), 16)
    np.testing.assert_allclose(model.anchors, np.float64(VOC_CELLS) * 32)


def test_anchors_are_clustered_from_the_data():
    from kerasdet.data import digit_scenes

    data = digit_scenes("train", size=20)
    model = YOLOv2.for_data(data, Stretch(64), TinyBackbone(), channels=8, anchors=3)
    assert len(model.anchors) == 3
    # Objects of scenes of 256 pixels, a quarter as large on the canvas.
    assert 2 < model.anchors[0][0] < model.anchors[2][1] < 30
    assert (model.head.levels, model.stride) == (("C2", "C3"), 8)  # small objects
    model = YOLOv2.for_data(data, Stretch(512), TinyBackbone(), channels=8)
    assert (model.head.levels, model.stride) == (("C3", "C4"), 16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 24}, "stride is 24; give 8, 16 or 32"),
        ({"anchors": -1}, "anchors is -1; give a whole number from 0 to 100"),
        ({"num_classes": 0, "class_names": ()}, "num_classes must be at least 1 .*, not 0"),
        ({"depth": 0}, "passthrough=4 joins a finer map before the last convolution"),
    ],
    ids=str,
)
def test_options_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        yolo_v2(**settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"anchors": ()}, "anchors are .*; give 1 to 100 pairs"),
        ({"anchors": [(3, 4, 5)]}, "anchors are .*; give 1 to 100 pairs"),
        ({"anchors": [(0, 4)]}, "anchors are .*; give positive finite pixels"),
        ({"anchors": [(math.nan, 4)]}, "anchors are .*; give positive finite pixels"),
        (
            {"head": PassthroughHead(8, 1, 4, ("C1", "C2"))},
            "head.levels are .*'C1', 'C2'.* the backbone",
        ),
    ],
    ids=str,
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        YOLOv2(2, TinyBackbone(), **arguments)


def test_a_darknet_of_any_plan_serves_as_backbone():
    backbone = Darknet([(4, 3), "pool", (6, 3), (8, 3, 2), "pool"], ("C2", "C3"))
    head = PassthroughHead(8, 2, 2, ("C2", "C3"), "darknet")
    model = YOLOv2(3, backbone, head, [(16, 16)], class_names=CLASS_NAMES)
    assert model.stride == 8
    copy = YOLOv2.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    assert (copy.head.order, copy.class_names) == ("darknet", DATA.class_names)
    with pytest.raises(ValueError, match="the finer map must be twice as high"):
        model(np.zeros((1, 36, 32, 3), np.uint8))
