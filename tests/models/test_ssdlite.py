"""SSDLite against torchvision's: parts, parameters, default boxes, separable predictors."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from kerasdet.backbones import MobileNetV2, MobileNetV3Large
from kerasdet.layers import DepthwiseTowers, SeparableExtraLayers, Stretch
from kerasdet.models import SSDLite
from kerasdet.models import ssdlite as paper
from tests.contract.detectors import ssdlite
from tests.models.test_ssd import Data
from tests.tiny import TinyBackbone

CONSTANTS = {
    "MAPS": 6,
    "RATIOS": (2, 3),
    "SMALLEST": 0.2,  # torchvision's, as all that follow
    "LARGEST": 0.95,
    "OUTPUT_STD": 0.03,
    "HALF_RANGE": (127.5, 127.5, 127.5),
}
FACTS = Path(__file__).parents[3] / "shared" / "facts" / "state_dicts"


@pytest.fixture(scope="module")
def model():
    return SSDLite(90)


def test_constants_are_torchvisions(model):
    assert {name: getattr(paper, name) for name in CONSTANTS} == CONSTANTS
    assert type(model.backbone) is MobileNetV3Large
    assert (model.backbone.levels, model.backbone.reduced_tail) == (("C4_expand", "C5"), True)
    assert (model.backbone.mean, model.backbone.std) == ((127.5,) * 3, (127.5,) * 3)
    assert model.backbone.channels == {"C4_expand": 672, "C5": 480}
    assert model.extras.channels == (512, 256, 256, 128)
    assert {model.extras.norm_epsilon, model.head.norm_epsilon, model.backbone.norm_epsilon} == {
        1e-3
    }
    assert model.resize == Stretch(320)
    assert model.candidates == 300
    assert (model.score_threshold, model.iou_threshold) == (0.001, 0.55)
    assert model.max_detections == 300
    np.testing.assert_allclose(
        model.default_boxes.scales, [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0], rtol=1e-12
    )


def test_parameters(model):
    # torchvision counts 3 440 060 trainable ones.
    assert sum(math.prod(w.shape) for w in model.trainable_weights) == 3_440_060
    path = FACTS / "ssdlite320_mobilenet_v3_large.json"
    if not path.exists():
        pytest.skip(f"no state dict at {path}")
    state = json.loads(path.read_text())["state_dict"]
    theirs = sorted(
        tuple(shape) if len(shape) < 4 else (*shape[2:], shape[1], shape[0])
        for name, shape in state.items()
        if not name.endswith("num_batches_tracked")
    )
    assert sorted(tuple(w.shape) for w in model.weights) == theirs


def test_there_are_3234_default_boxes(model):
    outputs = model(np.zeros((1, 320, 320, 3), np.uint8))
    counts = [len(boxes) for boxes in outputs["default_boxes"].values()]
    assert counts == [6 * side**2 for side in (20, 10, 5, 3, 2, 1)]
    assert sum(counts) == 3234


def test_predictors_are_separable(model):
    for level, conv in model.class_outputs.items():
        assert conv.kernel.shape[:2] == (1, 1)
        assert conv.kernel.shape[3] == 6 * 91
        (depthwise,) = model.head.towers[f"class_{level}"]
        assert depthwise.kernel_size == 3
        assert depthwise.groups == conv.kernel.shape[2]
    spread = np.concatenate([np.ravel(c.kernel) for c in model.class_outputs.values()]).std()
    assert spread == pytest.approx(0.03, rel=0.05)


def test_on_mobilenet_v2_it_is_the_papers():
    backbone = MobileNetV2(levels=("C4_expand", "C5_last"))
    extras = SeparableExtraLayers(levels=backbone.levels)
    model = SSDLite(20, backbone, extras)
    assert model.backbone.channels == {"C4_expand": 576, "C5_last": 1280}
    outputs = model(np.zeros((1, 320, 320, 3), np.uint8))
    assert sum(len(boxes) for boxes in outputs["default_boxes"].values()) == 3234


def test_small_detectors():
    model = SSDLite.for_data(Data(), backbone=MobileNetV2(alpha=0.1))
    assert model.resize == Stretch(320)
    assert model.backbone.levels == ("C3_expand", "C4_expand", "C5")
    assert type(model.head) is DepthwiseTowers
    assert model.default_boxes.scales[0] == pytest.approx(0.1, abs=1e-4)
    assert model.default_boxes.ratios[0] == (1.5,)  # of the data; the paper's are 2 and 3
    assert SSDLite.for_data(Data(), Stretch(64), TinyBackbone()).resize == Stretch(64)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="default_boxes is 'small'; give one of 'fitted', 'paper'"):
        ssdlite(default_boxes="small")
