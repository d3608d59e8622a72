"""SSD against its paper: default boxes, matching, hard negatives, losses, decoding, parameters."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kerasdet.backbones import VGG16, MobileNetV2, ResNet
from kerasdet.layers import (
    DefaultBoxes,
    ExtraLayers,
    Fit,
    KeepSize,
    LevelTowers,
    ShortestEdge,
    Stretch,
)
from kerasdet.layers.extra_layers import SSD300_ROWS, SSD321_ROWS, SSD512_ROWS, SSD513_ROWS
from kerasdet.models import SSD
from kerasdet.models import ssd as paper
from kerasdet.models.detector import prepare
from tests.contract.detectors import ssd, ssdlite
from tests.tiny import TinyBackbone, cheap_weights

CONSTANTS = {
    "MATCHED_IOU": 0.5,  # section 2.2, Matching strategy
    "NEGATIVES": 3,  # section 2.2, Hard negative mining
    "ALPHA": 1.0,  # section 2.2, Training objective
    "DELTA_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
    "MEAN": (123.0, 117.0, 104.0),
    "BACKGROUND_COLUMN": 0,
}
FACTS = Path(__file__).parents[3] / "shared" / "facts" / "state_dicts"


def test_constants_are_the_papers(monkeypatch):
    assert {name: getattr(paper, name) for name in CONSTANTS} == CONSTANTS
    cheap_weights(monkeypatch)
    model = SSD(20)
    assert type(model.backbone) is VGG16
    assert (model.backbone.levels, model.backbone.ceil_pools) == (("C3", "C4_fc7"), True)
    assert (model.backbone.mean, model.backbone.std) == ((123.0, 117.0, 104.0), (1.0, 1.0, 1.0))
    assert (model.extras.rows, model.extras.scale, model.extras.norm) == (SSD300_ROWS, 20.0, None)
    # Figure 2: conv8_2, conv9_2, conv10_2 and conv11_2.
    assert [row[:2] for row in SSD300_ROWS] == [(256, 512), (128, 256), (128, 256), (128, 256)]
    assert model.head.depth == 0
    assert model.resize == Stretch(300)
    assert model.candidates == 400
    # Section 3.7.
    assert (model.score_threshold, model.iou_threshold) == (0.01, 0.45)
    assert model.max_detections == 200
    assert model.default_boxes.num_boxes == [4, 6, 6, 6, 4, 4]
    assert {conv.kernel_size for conv in model.class_outputs.values()} == {3}
    fc6 = model.backbone.get_layer("fc6")
    assert (fc6.kernel_size, fc6.dilation_rate, fc6.filters) == ((3, 3), (6, 6), 1024)
    pool5 = model.backbone.get_layer("pool5")
    assert (pool5.pool_size, pool5.strides) == ((3, 3), (1, 1))


@pytest.fixture(scope="module")
def ssd300():
    return SSD(90)


def test_parameters(ssd300):
    assert ssd300.count_params() == 35_641_826  # torchvision's ssd300_vgg16
    path = FACTS / "ssd300_vgg16.json"
    if not path.exists():
        pytest.skip(f"no state dict at {path}")
    state = json.loads(path.read_text())["state_dict"]
    theirs = sorted(
        tuple(shape) if len(shape) < 4 else (*shape[2:], shape[1], shape[0])
        for shape in state.values()
    )
    assert sorted(tuple(w.shape) for w in ssd300.weights) == theirs


def test_ssd300_has_8732_default_boxes(ssd300):
    outputs = ssd300(np.zeros((1, 300, 300, 3), np.uint8))
    counts = [len(boxes) for boxes in outputs["default_boxes"].values()]
    assert counts == [5776, 2166, 600, 150, 36, 4]
    assert sum(counts) == 8732
    for level, boxes in outputs["default_boxes"].items():
        assert outputs["logits"][level].shape == (1, len(boxes), 91)
        assert outputs["deltas"][level].shape == (1, len(boxes), 4)


def test_ssd512_has_24564_default_boxes(monkeypatch):
    cheap_weights(monkeypatch)
    model = SSD(
        20,
        extras=ExtraLayers(SSD512_ROWS),
        default_boxes=DefaultBoxes.ssd512(),
        resize=Stretch(512),
    )
    outputs = model(np.zeros((1, 512, 512, 3), np.uint8))
    assert sum(len(boxes) for boxes in outputs["default_boxes"].values()) == 24_564


@pytest.mark.parametrize(
    ("side", "rows", "count"), [(320, SSD321_ROWS, 17_080), (512, SSD513_ROWS, 43_688)]
)
def test_ssd_on_a_dilated_resnet_has_dssds_default_boxes(side, rows, count):
    # Blocks of ResNet-101's kind, one in each stage; ratios 1.6, 2 and 3 (DSSD, section 3.3).
    backbone = ResNet((1, 1, 1, 1), levels=("C3", "C4_conv5"))
    assert backbone.strides == {"C3": 8, "C4_conv5": 16}
    extras = ExtraLayers(rows, ("C3", "C4_conv5"), scale=None, norm="batch")
    maps = len(rows) + 2
    boxes = DefaultBoxes([(1.6, 2, 3)] * maps, np.linspace(0.1, 1.0, maps + 1))
    model = SSD(20, backbone, extras, default_boxes=boxes, resize=Stretch(side))
    outputs = model(np.zeros((1, side, side, 3), np.uint8))
    assert sum(len(boxes) for boxes in outputs["default_boxes"].values()) == count


def test_predictors_and_rows_of_boxes_by_hand():
    # Two squares at each cell, one class and background: the channels are theirs in turn.
    extras = ExtraLayers([], ("C3", "C4"), scale=None)
    boxes = DefaultBoxes([(), ()], (0.1, 0.2, 0.4))
    model = SSD(1, TinyBackbone(), extras, LevelTowers(), boxes)
    for outputs, biases in ((model.class_outputs, [1, 2, 3, 4]), (model.box_outputs, range(8))):
        for conv in outputs.values():
            conv.kernel.assign(np.zeros(conv.kernel.shape))
            conv.bias.assign(np.array(biases))
    outputs = model(np.zeros((1, 16, 32, 3), np.uint8))
    assert list(outputs["logits"]) == ["C3", "C4"]
    np.testing.assert_array_equal(outputs["logits"]["C3"][0], [[1, 2], [3, 4]] * 8)
    np.testing.assert_array_equal(outputs["deltas"]["C4"][0], [[0, 1, 2, 3], [4, 5, 6, 7]] * 2)
    assert outputs["default_boxes"]["C3"].shape == (16, 4)


def outputs_of(logits, deltas, boxes, size=100):
    return {
        "logits": {"C3": np.array([logits], np.float32)},
        "deltas": {"C3": np.array([deltas], np.float32)},
        "default_boxes": {"C3": np.array(boxes, np.float32)},
        "image_sizes": np.array([[size, size]], np.float32),
    }


def targets(boxes, labels, ignore=None):
    values = {"boxes": np.array([boxes], np.float32), "labels": np.array([labels], np.int32)}
    return prepare(values | ({} if ignore is None else {"ignore": np.array([ignore])}))


# One object's box, five boxes of background; the confidence loss of background is log(1 + e^x).
BOXES = [[0, 0, 10, 10], *([50 + 10 * i, 50, 60 + 10 * i, 60] for i in range(5))]
HARD = [2.0, -3.0, 1.0, 0.0, -1.0]  # logits of the object's class


def terms(boxes=((0, 0, 10, 10),), labels=(0,), ignore=None, deltas=((0.0,) * 4,) * 6):
    logits = [[0.0, 0.0], *([0.0, x] for x in HARD)]
    return ssd(num_classes=1, class_names=("a",), category_ids=(1,)).loss_terms(
        outputs_of(logits, deltas, BOXES), targets(boxes, labels, ignore)
    )


def test_confidence_loss_by_hand():
    value, count = terms()["classification_loss"]
    # The object at even odds, and its three hardest negatives.
    hardest = sum(math.log(1 + math.exp(x)) for x in (2.0, 1.0, 0.0))
    assert float(value) == pytest.approx(math.log(2) + hardest, rel=1e-5)
    assert float(count) == 1


def test_images_without_objects_teach_three_negatives():
    found = terms([[-1] * 4], [-1])
    value, count = found["classification_loss"]
    hardest = sum(math.log(1 + math.exp(x)) for x in (2.0, 1.0, 0.0))
    assert float(value) == pytest.approx(hardest, rel=1e-5)
    assert float(count) == 0
    assert [float(x) for x in found["box_loss"]] == [0, 0]


def test_crowds_are_no_negatives():
    # The hardest background lies in a crowd: the next three are taken.
    value, _ = terms([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 0], [False, True])[
        "classification_loss"
    ]
    hardest = sum(math.log(1 + math.exp(x)) for x in (1.0, 0.0, -1.0))
    assert float(value) == pytest.approx(math.log(2) + hardest, rel=1e-5)


def test_localisation_loss_by_hand():
    # The object lies one pixel to the right of its default box and is twice as wide.
    deltas = [[0.5, 0.0, 0.0, 0.2], *([9.0] * 4 for _ in range(5))]
    value, count = terms([[-4, 0, 16, 10]], deltas=deltas)["box_loss"]
    # Goals: dx = 10 * (1 / 10) = 1, dw = 5 log 2; smooth L1 of 0.5, of 5 log 2 and of 0.2.
    expected = 0.5**2 / 2 + (5 * math.log(2) - 0.5) + 0.2**2 / 2
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(count) == 1


def test_an_object_has_its_best_box_and_all_from_one_half_on():
    heights = [10, 5, 4.9]
    boxes = [[0, 0, 10, height] for height in heights]
    outputs = outputs_of([[0.0, 0.0]] * 3, [[0.0] * 4] * 3, boxes)
    model = ssd(num_classes=1, class_names=("a",), category_ids=(1,))
    _, count = model.loss_terms(outputs, targets([[0, 0, 10, 10]], [0]))["box_loss"]
    assert float(count) == 2
    _, count = model.loss_terms(outputs, targets([[0, 0, 10, 40]], [0]))["box_loss"]
    assert float(count) == 1


def test_losses_are_torchvisions():
    # The values are those of torchvision 0.29: SSDMatcher(0.5), then SSD.compute_loss, on the same numbers.
    rng = np.random.default_rng(5)
    corners = rng.uniform(0, 25, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(8, 30, (40, 2))], axis=1)
    logits, deltas = rng.normal(0, 2, (2, 40, 4)), rng.normal(0, 1, (2, 40, 4))
    objects = boxes[[[3, 11], [20, 35]]] + rng.uniform(-2, 2, (2, 2, 4))
    outputs = {
        "logits": {"C3": logits.astype(np.float32)},
        "deltas": {"C3": deltas.astype(np.float32)},
        "default_boxes": {"C3": boxes.astype(np.float32)},
    }
    truth = prepare(
        {"boxes": objects.astype(np.float32), "labels": np.array([[0, 2], [1, 1]], np.int32)}
    )
    found = ssd().loss_terms(outputs, truth)
    for name, expected in TORCHVISIONS.items():
        value, count = found[name]
        assert float(value) / float(count) == pytest.approx(expected, rel=1e-5), name


TORCHVISIONS = {"classification_loss": 17.077564, "box_loss": 2.5771599}


def test_decode_by_hand():
    # Shares of the classes 0.8, 0.7, 0.6 and 0.009: e^x / (e^x + 1).
    a, b, c, d = (math.log(p / (1 - p)) for p in (0.8, 0.7, 0.6, 0.009))
    low = -30
    outputs = outputs_of(
        [[0, a, low], [0, b, low], [0, low, c], [0, d, low]],
        [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 5 * math.log(2), 0], [0, 0, 0, 0]],
        [[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [90, 90, 99, 99]],
    )
    model = ssd(
        num_classes=2,
        class_names=("a", "b"),
        category_ids=(1, 2),
        max_detections=4,
        score_threshold=0.01,
    )
    result = {name: np.asarray(value)[0] for name, value in model.decode(outputs).items()}
    # The second is suppressed (moved by a pixel: IoU 9/11), the third clipped, the fourth too weak.
    assert result["num_detections"] == 2
    assert result["labels"].tolist() == [0, 1, -1, -1]
    np.testing.assert_allclose(result["confidence"], [0.8, 0.6, -1, -1], rtol=1e-5)
    np.testing.assert_allclose(result["boxes"][:2], [[0, 0, 10, 10], [0, 0, 15, 10]], atol=1e-4)


def test_every_class_has_its_own_candidates():
    places = np.arange(50)
    corners = np.stack([places % 10 * 10, places // 10 * 10], axis=-1).astype(np.float32)
    boxes = np.concatenate([corners, corners + 9], axis=-1)
    logits = np.zeros((50, 3))
    logits[:30, 1], logits[30:, 2] = 3, 3
    model = ssd(
        num_classes=2,
        class_names=("a", "b"),
        category_ids=(1, 2),
        candidates=8,
        score_threshold=0.5,
    )
    found = model.decode(outputs_of(logits, np.zeros((50, 4)), boxes))
    assert found["num_detections"] == 16
    assert np.bincount(np.asarray(found["labels"])[0][:16]).tolist() == [8, 8]


class Data:
    """One image of 100 x 200 (height x width) with boxes of 20 x 10 pixels."""

    class_names, category_ids = ("a",), (1,)

    def __len__(self):
        return 1

    def record(self, index):
        boxes = np.array([[0, 0, 20, 10], [50, 50, 70, 60], [0, 0, 2, 2]], np.float32)
        ignore = np.array([False, False, True])
        return SimpleNamespace(height=100, width=200, boxes=boxes, ignore=ignore)

    def box_counts(self):
        return np.array([3])


@pytest.mark.parametrize(
    ("resize", "first", "ratio"),
    [
        (Stretch(64), 0.1, 1.5),  # 0.1 x 0.1 of the image; ratios are at least 1.5
        (Fit(200, 200), math.sqrt(0.1 * 0.05), 2.0),  # 20 x 10 of a canvas of 200 x 200
        (Stretch(64, 128), 0.1, 1.5),  # width and height are shares of their own sides
        (None, 0.1, 1.5),  # 300 x 300
    ],
    ids=str,
)
def test_default_boxes_fitted_to_the_canvas(resize, first, ratio):
    model = SSD.for_data(Data(), resize, TinyBackbone())
    assert model.default_boxes.scales[0] == pytest.approx(first, abs=1e-4)
    assert model.default_boxes.ratios[0] == (ratio,)
    assert model.resize == (resize or Stretch(300))


@pytest.mark.parametrize(("side", "levels"), [(156, ("C2_expand",)), (164, ())])
def test_small_detectors_take_wide_maps_from_stride_8_on_or_4(side, levels):
    # Objects of a tenth of the side: below 16 pixels, and above.
    model = SSD.for_data(Data(), Stretch(side), MobileNetV2(alpha=0.1))
    assert model.backbone.levels == (*levels, "C3_expand", "C4_expand", "C5")
    assert list(model.class_outputs) == [*model.backbone.levels, "extra1", "extra2"]
    model = ssd(backbone=TinyBackbone(levels=("C3", "C5")))
    assert model.backbone.levels == ("C3", "C5")


def test_a_backbone_keeps_its_weights_when_it_returns_wide_maps():
    backbone = MobileNetV2(alpha=0.1)
    wide = SSD.for_data(Data(), backbone=backbone).backbone
    np.testing.assert_array_equal(
        wide.get_layer("block2_expand").kernel, backbone.get_layer("block2_expand").kernel
    )


def test_a_canvas_for_each_image_is_refused():
    for resize in (KeepSize(), ShortestEdge(100, 200)):
        with pytest.raises(ValueError, match="SSD's default boxes are shares of one: give Stretch"):
            ssd(resize=resize)


def test_default_boxes_lie_on_the_canvas(monkeypatch):
    cheap_weights(monkeypatch)
    # Steps in pixels for 300; on another canvas the same shares, spread over its maps.
    assert SSD(2).default_boxes.steps == (8, 16, 32, 64, 100, 300)
    other = SSD(2, resize=Fit(480, 640)).default_boxes
    assert (other.steps, other.scales) == (None, DefaultBoxes.ssd300().scales)
    with pytest.raises(
        ValueError, match=r"a map of 4 x 4 cells, 300 pixels apart, is not for the canvas"
    ):
        SSD(2, default_boxes=DefaultBoxes.ssd300(), resize=Stretch(512))
    with pytest.raises(
        ValueError, match=r"Stretch\(height=200, width=200\), too small .* larger canvas"
    ):
        SSD(2, resize=Stretch(200))


def test_a_crowd_of_one_class_has_candidates():
    assert ssd().candidates == 400
    assert ssd(max_detections=750).candidates == 3000
    assert ssdlite(max_detections=750).candidates == 3000


def test_options_reach_the_parts():
    model = ssd(channels=24, depth=2)
    assert (model.head.channels, model.head.depth) == (24, 2)
    assert model.extras.norm == "batch"
    assert model.default_boxes.ratios == ((2.0, 3.0),) * 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"default_boxes": "small"}, "default_boxes is 'small'; give one of 'fitted', 'paper'"),
        ({"candidates": 0}, "candidates is 0; give a positive integer"),
        ({"depth": -1}, "depth is -1; give a whole number"),
    ],
    ids=str,
)
def test_arguments_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        ssd(**settings)


def test_default_boxes_must_be_for_all_maps():
    with pytest.raises(
        ValueError, match="default_boxes are for 6 maps; give one for 5: C3, C4, C5"
    ):
        SSD(1, TinyBackbone(), ExtraLayers([(8, 8, 3, 2, 1)] * 2, ("C3", "C4", "C5")))
