"""Four-step alternating training on a few digit scenes: who learns when, and that it detects in the end."""

import csv

import keras
import numpy as np
import pytest

from kerasdet.data.digits import DigitScenes
from kerasdet.ops import box_iou
from kerasdet.training import Recipe, train_alternating
from kerasdet.training.alternating import FOLDERS
from tests.contract.detectors import faster_rcnn

RECIPE = Recipe(epochs=16, batch_size=8, learning_rate=5e-3, weight_decay=0.0, ema_momentum=0.5)


class EightScenes(DigitScenes):
    """Eight scenes of one digit each, over and over: an epoch of many steps writes no files between."""

    def record(self, index):
        return super().record(index % 8)

    def image(self, index):
        return super().image(index % 8)


DATA = EightScenes(size=64, image_size=128, digits_per_scene=1)


def detector():
    keras.utils.set_random_seed(0)
    return faster_rcnn(data=DATA, anchors="fitted", norm="none", candidates=(100, 100))


def weights(model):
    """{kind: arrays} of the layers that the stages share, and of each one's own."""
    kinds = {
        "backbone": [model.backbone],
        "neck": [model.neck],
        "proposals": [model.rpn],
        "regions": [model.classifier],
    }
    return {
        kind: [array for layer in layers for array in layer.get_weights()]
        for kind, layers in kinds.items()
    }


def same(ours, theirs):
    return [np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("alternating")
    model = detector()
    before = weights(model)
    result = train_alternating(model, DATA, RECIPE, out=out, verbose=0)
    assert result is model
    steps = [
        keras.saving.load_model(out / folder / "last.keras", compile=False) for folder in FOLDERS
    ]
    return out, before, [weights(step) for step in steps], model


def test_each_step_changes_its_own_weights_and_no_others(trained):
    _, start, (first, second, third, fourth), model = trained
    shared = ("backbone", "neck")
    backbone = {kind: second[kind] for kind in shared}
    learnt = [
        (start, first, (*shared, "proposals")),
        (start, second, (*shared, "regions")),
        ({**start, **backbone}, third, ("proposals",)),
        ({**second, "proposals": third["proposals"]}, fourth, ("regions",)),
    ]
    for number, (before, after, kinds) in enumerate(learnt, start=1):
        for kind in start:
            unchanged = same(before[kind], after[kind])
            if kind not in kinds:
                assert all(unchanged), (number, kind)
            elif kind == "neck":  # regions as small as these are pooled from its finest level alone
                assert not all(unchanged), number
            else:
                assert not any(unchanged), (number, kind)
    # Steps 1 and 2 have backbones of their own.
    assert not any(same(first["backbone"], second["backbone"]))
    for kind, arrays in weights(model).items():
        assert all(same(arrays, fourth[kind]))
    assert len(model.trainable_weights) == len(detector().trainable_weights)
    assert model.learns == ("proposals", "regions")


def test_each_step_lowers_its_own_loss(trained):
    out, *_ = trained
    terms = [{"objectness_loss", "proposal_loss"}, {"classification_loss", "box_loss"}] * 2
    for folder, names in zip(FOLDERS, terms):
        with open(out / folder / "history.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert {name for name in rows[0] if name.endswith("_loss")} == names
        losses = [float(row["loss"]) for row in rows]
        assert np.mean(losses[-3:]) < 0.7 * max(losses), folder


def test_the_result_detects(trained):
    *_, model = trained
    found = model.detect([DATA.image(index) for index in range(8)])
    hits = 0
    for index, detections in enumerate(found):
        record = DATA.record(index)
        if len(detections["boxes"]):  # the surest is the digit, with its class
            overlap = np.asarray(box_iou(detections["boxes"][:1], record.boxes))
            hits += overlap[0, 0] > 0.5 and detections["labels"][0] == record.labels[0]
    assert hits >= 6


def test_finished_steps_are_read_and_not_trained_again(trained):
    out, _, _, model = trained
    dates = {path: path.stat().st_mtime_ns for path in out.glob("*/checkpoint.npz")}
    assert len(dates) == 4
    again = train_alternating(detector(), DATA, RECIPE, out=out, resume=True, verbose=0)
    for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert {path: path.stat().st_mtime_ns for path in dates} == dates
    with pytest.raises(FileExistsError, match="1_proposals holds a training run"):
        train_alternating(detector(), DATA, RECIPE, out=out, verbose=0)


def test_a_recipe_for_each_step(tmp_path):
    with pytest.raises(ValueError, match="holds 3 recipes"):
        train_alternating(detector(), DATA, [RECIPE] * 3, out=tmp_path)
