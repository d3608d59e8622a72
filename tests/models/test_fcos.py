"""FCOS against its paper: outputs, assignment, losses, scores, parameters; and torchvision's loss."""

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.backbones import ResNet50
from kerasdet.layers import (
    Distances,
    FeaturePyramid,
    GIoULoss,
    LogIoULoss,
    Points,
    SquaredError,
    Stretch,
    Subnets,
)
from kerasdet.models import FCOS
from kerasdet.models import fcos as paper
from kerasdet.models.detector import prepare
from kerasdet.zoo import untrained
from tests.contract.detectors import DATA, batch, fcos
from tests.tiny import TinyBackbone, candidates_seen, cheap_weights
from tests.training_parts import SIDE, Squares

CONSTANTS = {
    "PRIOR": 0.01,  # section 4, Training Details, and RetinaNet's section 4.1
    "OUTPUT_STD": 0.01,
    "CANDIDATES_PER_LEVEL": 1000,
    "IOU_THRESHOLD": 0.6,
    "RADIUS": 1.5,
}
LEVELS = ("P3", "P4", "P5", "P6", "P7")
FACTS = Path(__file__).parents[3] / "shared" / "facts" / "state_dicts"


def test_constants_are_the_papers(monkeypatch):
    assert {name: getattr(paper, name) for name in CONSTANTS} == CONSTANTS
    cheap_weights(monkeypatch)
    model = FCOS(80)
    assert type(model.backbone) is type(ResNet50())
    assert (model.head.channels, model.head.depth) == (256, 4)
    assert (model.head.norm, model.head.use_bias) == ("group", True)
    assert (model.neck.channels, model.neck.p6_from, model.neck.norm) == (256, "P5", None)
    assert model.neck.levels == ("C3", "C4", "C5")
    assert model.points.strides == (8, 16, 32, 64, 128)  # section 3.2
    assert model.points.ranges == (64, 128, 256, 512)
    assert (model.points.radius, model.points.offset) == (None, 0.5)
    assert (model.regression.activation, model.regression.scaled) == ("exp", True)
    assert model.regression.normalized is False
    assert type(model.box_loss) is LogIoULoss
    assert (model.score_power, model.iou_threshold, model.score_threshold) == (1.0, 0.6, 0.05)


def test_parameters():
    torchvisions = untrained("fcos_resnet50_fpn_coco")
    # torchvision's 32 269 600, with the batch normalisations' scales, shifts and statistics.
    assert torchvisions.count_params() == 32_269_600 + 4 * 26_560 == 32_375_840
    shapes = [tuple(weight.shape) for weight in torchvisions.weights]
    # The paper's network has one number more for each level.
    model = FCOS(91, ResNet50())
    assert sorted(tuple(weight.shape) for weight in model.weights) == sorted([*shapes, *[()] * 5])
    path = FACTS / "fcos_resnet50_fpn.json"
    if not path.exists():
        pytest.skip(f"no state dict at {path}")
    state = json.loads(path.read_text())["state_dict"]
    theirs = sorted(
        tuple(shape) if len(shape) < 4 else (*shape[2:], shape[1], shape[0])
        for name, shape in state.items()
        if not name.endswith("num_batches_tracked")
    )
    assert sorted(shapes) == theirs


def test_outputs_of_each_point():
    outputs = fcos()(np.zeros((2, 256, 256, 3), np.uint8))
    cells = dict(zip(LEVELS, [32 * 32, 16 * 16, 8 * 8, 4 * 4, 2 * 2]))
    assert sum(cells.values()) == 1364  # nine times fewer than RetinaNet's anchors
    for level, count in cells.items():
        assert outputs["logits"][level].shape == (2, count, 3)
        assert outputs["distances"][level].shape == (2, count, 4)
        assert outputs["centerness"][level].shape == (2, count)
        assert outputs["points"][level].shape == (count, 3)
    assert np.asarray(outputs["points"]["P4"])[17].tolist() == [24, 24, 16]


def test_every_point_begins_as_an_object_by_one_percent():
    keras.utils.set_random_seed(0)
    model = fcos(channels=64)
    np.testing.assert_allclose(model.class_output.bias, [-4.59512] * 3, atol=1e-5)
    assert not np.any(model.box_output.bias)
    assert not np.any(model.centerness_output.bias)
    for conv, count in (
        (model.class_output, 3),
        (model.box_output, 4),
        (model.centerness_output, 1),
    ):
        assert conv.kernel.shape == (3, 3, 64, count)
        assert np.std(conv.kernel) == pytest.approx(0.01, rel=0.15)  # 576 numbers and more


def test_outputs_stand_in_their_places():
    neck = FeaturePyramid(1, levels=("C3", "C4"), p6_from=None)
    points = Points((8, 16), (64,))
    model = FCOS(2, TinyBackbone(), neck, Subnets(1, 0), points, Distances(normalized=True))
    for conv, biases in (
        (model.class_output, [1, 2]),
        (model.box_output, np.log([1, 2, 3, 4])),
        (model.centerness_output, [5]),
    ):
        conv.kernel.assign(np.zeros(conv.kernel.shape))
        conv.bias.assign(biases)
    model.regression.scales["P4"].assign(2.0)
    outputs = model(np.zeros((1, 16, 32, 3), np.uint8))
    assert list(outputs["logits"]) == ["P3", "P4"]
    np.testing.assert_array_equal(outputs["logits"]["P3"][0], [[1, 2]] * 8)
    np.testing.assert_array_equal(outputs["centerness"]["P4"][0], [5, 5])
    np.testing.assert_allclose(outputs["distances"]["P3"][0], [[8, 16, 24, 32]] * 8, rtol=1e-5)
    np.testing.assert_allclose(outputs["distances"]["P4"][0], [[16, 64, 144, 256]] * 2, rtol=1e-5)
    assert outputs["points"]["P4"].numpy().tolist() == [[8, 8, 16], [24, 8, 16]]


def test_centerness_stands_on_the_tower_for_boxes():
    model = fcos(norm="none")
    image = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3)).astype(np.uint8)
    with tf.GradientTape(persistent=True) as tape:
        outputs = model(image)
        sums = {
            name: sum(tf.reduce_sum(x) for x in outputs[name].values())
            for name in ("logits", "distances", "centerness")
        }
    for name, own, other in (
        ("logits", model.head.class_convs, model.head.box_convs),
        ("distances", model.head.box_convs, model.head.class_convs),
        ("centerness", model.head.box_convs, model.head.class_convs),
    ):
        assert np.abs(tape.gradient(sums[name], own[0].kernel)).max() > 0
        assert tape.gradient(sums[name], other[0].kernel) is None


def outputs_of(logits, distances, centerness, points, size=100):
    return {
        "logits": {"P3": np.array([logits], np.float32)},
        "distances": {"P3": np.array([distances], np.float32)},
        "centerness": {"P3": np.array([centerness], np.float32)},
        "points": {"P3": np.array(points, np.float32)},
        "image_sizes": np.array([[size, size]], np.float32),
    }


def targets(boxes, labels, ignore=None):
    values = {"boxes": np.array([boxes], np.float32), "labels": np.array([labels], np.int32)}
    return prepare(values | ({} if ignore is None else {"ignore": np.array([ignore])}))


def one_level(**settings):
    """A detector whose only level takes every object."""
    neck = FeaturePyramid(1, levels=("C3",), p6_from=None)
    settings = {"points": Points((8,), ()), "regression": Distances(scaled=False), **settings}
    return FCOS(2, TinyBackbone(), neck, Subnets(1, 0), **settings)


# In an object of 40 x 20 pixels: off its centre, and outside; stride 8.
POINTS = [[10, 10, 8], [60, 60, 8]]


def test_losses_by_hand():
    outputs = outputs_of([[0, -40], [0, -40]], [[10, 10, 20, 10], [9] * 4], [0.0, 7.0], POINTS)
    terms = one_level().loss_terms(outputs, targets([[0, 0, 40, 20]], [0]))
    # FL(p_t) at p = 1/2: (1/2)^2 log 2, times 1/4 for the object and 3/4 for background.
    value, count = terms["classification_loss"]
    assert float(value) == pytest.approx((0.25 + 0.75) / 4 * math.log(2), rel=1e-5)
    assert float(count) == 1
    # The predicted box is 30 of the object's 40 pixels wide: -log(3/4).
    value, count = terms["box_loss"]
    assert float(value) == pytest.approx(-math.log(0.75), rel=1e-5)
    assert float(count) == 1
    # Centre-ness is the root of 10/30 times 10/10; at logit 0 any aim costs log 2.
    value, count = terms["centerness_loss"]
    assert float(value) == pytest.approx(math.log(2), rel=1e-5)
    assert float(count) == 1


def test_centerness_loss_by_hand():
    outputs = outputs_of([[0, 0]], [[1] * 4], [2.0], POINTS[:1])
    value, _ = one_level().loss_terms(outputs, targets([[0, 0, 40, 20]], [0]))["centerness_loss"]
    # c = 1/sqrt(3), p = sigmoid(2): -c log p - (1 - c) log(1 - p).
    aim, p = math.sqrt(1 / 3), 1 / (1 + math.exp(-2))
    expected = -aim * math.log(p) - (1 - aim) * math.log(1 - p)
    assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # Of 30 x 20 pixels in 40 x 20, and no empty part around both.
        (GIoULoss(), 0.25),
        # The right side is 10 pixels, 10/8 strides, short.
        (SquaredError(), (10 / 8) ** 2),
    ],
    ids=["giou", "l2"],
)
def test_box_losses_by_hand(loss, expected):
    outputs = outputs_of([[0, 0]], [[10, 10, 20, 10]], [0.0], POINTS[:1])
    terms = one_level(box_loss=loss).loss_terms(outputs, targets([[0, 0, 40, 20]], [0]))
    assert float(terms["box_loss"][0]) == pytest.approx(expected, rel=1e-5)


def test_losses_are_divided_by_the_points_with_an_object():
    points = [[10, 10, 8], [20, 10, 8], [60, 60, 8]]
    distances = [[10, 10, 30, 10], [20, 10, 20, 10], [1, 1, 1, 1]]
    outputs = outputs_of([[0, 0]] * 3, distances, [0.0] * 3, points)
    terms = one_level().loss_terms(outputs, targets([[0, 0, 40, 20]], [1]))
    assert [float(count) for _, count in terms.values()] == [2, 2, 2]
    # Two points of an object and four zeros of background: sums, not yet divided.
    value = float(terms["classification_loss"][0])
    assert value == pytest.approx((2 * 0.25 + 4 * 0.75) / 4 * math.log(2), rel=1e-5)
    assert float(terms["box_loss"][0]) == pytest.approx(0, abs=1e-6)
    assert float(terms["centerness_loss"][0]) == pytest.approx(2 * math.log(2), rel=1e-5)


def test_crowds_hide_background():
    outputs = outputs_of([[0, -40]] * 2, [[9] * 4] * 2, [0.0] * 2, POINTS)
    truth = targets([[50, 50, 70, 70]], [0], [True])
    terms = one_level().loss_terms(outputs, truth)
    assert float(terms["classification_loss"][0]) == pytest.approx(0.75 / 4 * math.log(2), rel=1e-5)
    assert [float(count) for _, count in terms.values()] == [0, 0, 0]


@pytest.mark.parametrize("rows", [0, 1], ids=["no rows", "padding"])
@pytest.mark.parametrize("loss", [LogIoULoss(), GIoULoss(), SquaredError()], ids=lambda x: x.name)
def test_images_without_objects_teach_background_alone(rows, loss):
    empty = np.full((1, rows, 4), -1, np.float32), np.full((1, rows), -1, np.int32)
    truth = prepare(dict(zip(("boxes", "labels"), empty)))
    model = one_level(box_loss=loss)
    sides = tf.Variable([[[0.0] * 4, [9.0] * 4]])
    with tf.GradientTape() as tape:
        outputs = outputs_of([[0, -40]] * 2, [[0] * 4] * 2, [0.0] * 2, POINTS)
        terms = model.loss_terms({**outputs, "distances": {"P3": sides}}, truth)
        total = sum(value for value, _ in terms.values())
    assert float(total) == pytest.approx(2 * 0.75 / 4 * math.log(2), rel=1e-5)
    assert [float(value) for value, _ in terms.values()][1:] == [0, 0]
    assert [float(count) for _, count in terms.values()] == [0, 0, 0]
    assert not np.any(tape.gradient(total, sides))  # and no NaN


def random_case():
    """Outputs of five levels for two images of 128 pixels, with ten objects."""
    rng = np.random.default_rng(0)
    points = {}
    for level, stride, n in zip(LEVELS, (8, 16, 32, 64, 128), (16, 8, 4, 2, 1)):
        x, y = np.meshgrid(np.arange(n) * stride, np.arange(n) * stride)
        rows = np.stack([x.ravel(), y.ravel(), np.full(n * n, stride)], axis=-1)
        points[level] = rows.astype(np.float32)
    ends = np.cumsum([len(rows) for rows in points.values()])

    def levels(values):
        return dict(zip(LEVELS, np.split(values.astype(np.float32), ends[:-1], axis=1)))

    logits, sides = rng.normal(-2, 1, (2, ends[-1], 3)), rng.normal(2, 1, (2, ends[-1], 4))
    outputs = {
        "logits": levels(logits),
        "distances": levels(sides),
        "centerness": levels(rng.normal(size=(2, ends[-1]))),
        "points": points,
        "image_sizes": np.float32([[128, 128]] * 2),
    }
    corners = rng.uniform(0, 80, (2, 6, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(10, 150, (2, 6, 2))], -1)
    labels = rng.integers(0, 3, (2, 6)).astype(np.int32)
    labels[1, 4:] = boxes[1, 4:] = -1
    return outputs, {"boxes": boxes.astype(np.float32), "labels": labels}


def test_losses_are_torchvisions():
    model = FCOS(
        3,
        TinyBackbone(),
        neck=FeaturePyramid(8, p6_from="P5"),
        head=Subnets(8, 0),
        points=Points(radius=1.5, offset=0.0, steps_from_image=True),
        regression=Distances("relu", scaled=False, normalized=True),
        box_loss=GIoULoss(),
    )
    outputs, truth = random_case()
    outputs["distances"] = model.regression(outputs["distances"], outputs["points"])
    terms = model.loss_terms(outputs, prepare(truth))
    # What torchvision 0.29's `FCOS.compute_loss` returns for these numbers: "classification",
    # "bbox_regression" and "bbox_ctrness".
    theirs = (0.8553612232208252, 0.9008482694625854, 0.8132017850875854)
    found = [float(value) / float(count) for value, count in terms.values()]
    assert found == pytest.approx(theirs, rel=1e-5)
    assert [float(count) for _, count in terms.values()] == [63, 63, 63]


def test_decode_by_hand():
    # Confidence is class times centre-ness: 0.8 x 0.5, 0.75 x 0.8, 0.5 x 0.5, 0.04.
    odds = [math.log(p / (1 - p)) for p in (0.8, 0.75, 0.5, 0.04)]
    points = [[20, 20, 8], [20, 20, 8], [95, 50, 8], [60, 60, 8]]
    outputs = outputs_of(
        [[odds[0], -30], [odds[1], -30], [-30, odds[2]], [-30, odds[3]]],
        [[10, 10, 10, 10], [10, 10, 10, 9], [5, 5, 10, 5], [9, 9, 9, 9]],
        [0.0, math.log(4), 0.0, 20.0],
        points,
    )
    model = one_level(max_detections=4)
    result = {name: np.asarray(value)[0] for name, value in model.decode(outputs).items()}
    # The second, more central, suppresses the first (IoU 0.95); the third is clipped, the fourth too weak.
    assert result["num_detections"] == 2
    assert result["labels"].tolist() == [0, 1, -1, -1]
    np.testing.assert_allclose(result["confidence"], [0.6, 0.25, -1, -1], rtol=1e-5)
    np.testing.assert_allclose(
        result["boxes"][:2], [[10, 10, 30, 29], [90, 45, 100, 55]], atol=1e-4
    )
    root = one_level(max_detections=4, score_power=0.5).decode(outputs)
    assert int(root["num_detections"][0]) == 3  # the root of 0.04 is 0.2
    np.testing.assert_allclose(
        np.asarray(root["confidence"])[0, :3], [0.6**0.5, 0.5, 0.2], rtol=1e-5
    )


def test_a_thousand_candidates_of_each_level(monkeypatch):
    places = np.arange(1500)
    points = np.stack([places % 100 + 0.5, places // 100 * 2 + 0.5, places * 0 + 8], axis=-1)
    arguments = np.full((1500, 4), 0.4), np.full(1500, 9.0), points
    one = outputs_of(np.full((1500, 2), [3.0, -9.0]), *arguments)
    two = outputs_of(np.full((1500, 2), [-9.0, 3.0]), *arguments)
    both = {
        name: {"P3": one[name]["P3"], "P4": two[name]["P3"]}
        for name in ("logits", "distances", "centerness", "points")
    }
    model = one_level(max_detections=4000)
    found = model.decode({**both, "image_sizes": one["image_sizes"]})
    assert np.bincount(np.asarray(found["labels"])[0][:3000]).tolist() == [1500, 1500]
    # For many detections there is room for four candidates of each.
    assert candidates_seen(monkeypatch, model, one, (100, 300)) == [1000, 1200]


@pytest.mark.parametrize(
    "parts",
    [
        {"points": Points()},
        {"regression": Distances("relu", normalized=True), "box_loss": GIoULoss()},
        {"box_loss": SquaredError()},
    ],
    ids=["all points inside", "relu", "l2"],
)
def test_the_papers_variants_train_and_survive_saving(parts):
    keras.utils.set_random_seed(0)
    head = Subnets(32, 1, "group", use_bias=True)
    model = FCOS(3, TinyBackbone(), FeaturePyramid(32, p6_from="P5"), head, **parts)
    model.compile(keras.optimizers.Adam(2e-3))
    history = model.fit(*batch(), epochs=12, verbose=0).history
    for name in model.LOSS_TERMS:
        assert np.isfinite(history[name]).all()
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    copy = FCOS.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    assert copy.head.use_bias is True


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "layer"}, "norm is 'layer'; give one of 'batch', 'group', 'none'"),
        ({"box_loss": "l1"}, "box_loss is 'l1'; give one of 'giou', 'iou', 'diou', 'ciou', 'l2'"),
        ({"ranges": "small"}, "ranges is 'small'; give one of 'fitted', 'paper'"),
        ({"radius": -1.0}, "`radius` is -1.0; give positive strides, or None"),
        ({"score_power": 0}, "score_power must be above 0 and at most 1, not 0"),
        ({"score_power": "root"}, "score_power must be above 0 and at most 1, not 'root'"),
    ],
    ids=str,
)
def test_arguments_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        fcos(**settings)


def test_options_reach_the_parts():
    model = fcos(channels=32, depth=2, norm="batch", box_loss="l2", radius=0)
    assert (model.neck.channels, model.neck.norm, model.neck.p6_from) == (32, "batch", "P5")
    assert (model.head.channels, model.head.depth, model.head.norm) == (32, 2, "batch")
    assert type(model.box_loss) is SquaredError
    assert model.points.radius is None
    model = fcos(channels=32, norm="group")
    assert (model.neck.norm, model.head.norm, model.points.radius) == (None, "group", 1.5)
    assert type(model.box_loss) is GIoULoss
    assert (model.regression.activation, model.regression.normalized) == ("exp", True)
    assert model.points.ranges == (64, 128, 256, 512)
    assert (model.score_power, fcos(score_power=1.0).score_power) == (0.5, 1.0)


def test_ranges_fit_the_data():
    # Squares of 16 to 39 pixels.
    model = FCOS.for_data(Squares(40), backbone=TinyBackbone(), channels=8, depth=0)
    first = model.points.ranges[0]
    assert 32 <= first <= 38
    assert model.points.ranges == pytest.approx([first * n for n in (1, 2, 4, 8)])
    assert (model.neck.channels, model.neck.p6_from) == (8, "P5")
    assert DATA.class_names == fcos().class_names


def test_small_objects_have_a_finer_pyramid():
    # Squares of 8 to 19 pixels.
    model = FCOS.for_data(Squares(40), Stretch(SIDE // 2), TinyBackbone(), depth=0)
    first = model.points.ranges[0]
    assert model.points.strides == (4, 8, 16, 32)
    assert model.points.ranges == pytest.approx([first, 2 * first, 4 * first])
    assert model.neck.output_levels == ("P2", "P3", "P4", "P5")
    assert (model.neck.channels, model.neck.p6_from) == (64, None)
    backbone = TinyBackbone(levels=("C3", "C4", "C5"))  # without C2
    model = FCOS.for_data(Squares(40), Stretch(SIDE // 2), backbone, depth=0)
    assert model.neck.output_levels == ("P3", "P4", "P5", "P6", "P7")
