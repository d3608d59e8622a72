"""Truncated detectors: the same at full rank, smaller below it, saved and loaded."""

import keras
import numpy as np
import pytest

import kerasdet
from kerasdet.layers import DenseHead, TruncatedDense
from kerasdet.models import truncate_dense
from tests.contract.detectors import (
    batch,
    cascade_rcnn,
    fast_rcnn,
    faster_rcnn,
    integral_rcnn,
    retinanet,
    rfcn,
)
from tests.tiny import parameters

DENSE = 7 * 7 * 16  # cells and channels of a region
UNITS = 64


def lively(make):
    """A detector whose regions differ, and whose dense layers have biases."""
    keras.utils.set_random_seed(0)
    model = make(score_threshold=0.0)
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dense):
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    return model


def raw(model):
    inputs, _ = batch(2, given=(*model.INPUTS, "proposals"))
    outputs = model(inputs)
    return {name: np.asarray(outputs[name]) for name in ("class_logits", "box_deltas")}


@pytest.fixture(scope="module")
def model():
    return lively(faster_rcnn)


@pytest.mark.parametrize("make", [fast_rcnn, faster_rcnn, cascade_rcnn, integral_rcnn])
def test_full_rank_is_the_same(make):
    model = lively(make)
    expected = raw(model)
    full = truncate_dense(model, 1.0)
    assert type(full) is type(model)
    for name, value in raw(full).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-4)
    # Every head, of which cascades have several, has its own factors.
    heads = [layer for layer in full._flatten_layers() if isinstance(layer, DenseHead)]
    assert len(heads) == {cascade_rcnn: 3, integral_rcnn: 2}.get(make, 1)
    assert all(type(layer) is TruncatedDense for head in heads for layer in head.dense_layers)


def test_parameters_are_t_times_the_sum(model):
    before, whole = parameters(model), parameters(model.head)
    assert whole == (DENSE + 1) * UNITS + (UNITS + 1) * UNITS
    thin = truncate_dense(model, (10, 4))
    assert parameters(thin.head) == 10 * (DENSE + UNITS) + 4 * (UNITS + UNITS) + 2 * UNITS
    assert before - parameters(thin) == whole - parameters(thin.head)
    assert parameters(model) == before
    one = truncate_dense(model, (10, None)).head
    assert parameters(one) == 10 * (DENSE + UNITS) + UNITS + (UNITS + 1) * UNITS


def test_a_share_is_of_each_full_rank(model):
    assert truncate_dense(model, 0.25).head.ranks == (16, 16)
    assert truncate_dense(model, 0.01).head.ranks == (1, 1)


def test_lower_ranks_are_farther_off(model):
    expected, errors = raw(model)["class_logits"], []
    for rank in (48, 24, 8, 1):
        found = raw(truncate_dense(model, (rank, rank)))["class_logits"]
        errors.append(np.abs(found - expected).mean())
    assert errors == sorted(errors)
    assert errors[0] > 1e-6


def test_heads_with_convolutions_keep_them():
    model = lively(
        lambda **settings: faster_rcnn(
            head=DenseHead((12,), convs=(6,), norm="batch", name="head"), **settings
        )
    )
    thin = truncate_dense(model, 1.0)
    for name, value in raw(thin).items():
        np.testing.assert_allclose(value, raw(model)[name], atol=1e-4)


def test_truncated_models_learn_and_are_saved_and_loaded(model, tmp_path):
    inputs, truth = batch(2)
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(inputs, truth, verbose=0)  # a compiled model has more variables than weights
    thin = truncate_dense(model, (10, 4))
    thin.save(tmp_path / "thin.keras")
    loaded = kerasdet.load(tmp_path / "thin.keras")
    assert loaded.head.ranks == (10, 4)
    expected = thin.predict(inputs, verbose=0)
    for name, value in loaded.predict(inputs, verbose=0).items():
        np.testing.assert_array_equal(value, expected[name])
    loaded.compile(keras.optimizers.Adam(1e-3))
    before = np.array(loaded.head.dense_layers[0].first.kernel)
    loaded.fit(inputs, truth, verbose=0)
    assert np.abs(loaded.head.dense_layers[0].first.kernel - before).max() > 0


def test_the_function_is_at_the_top():
    assert kerasdet.truncate_dense is truncate_dense


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ((4,), r"ranks are \(4,\); give one for each dense layer, None or at most \[64, 64\]"),
        ((4, 65), "at most"),
        ((0, 4), "at most"),
        (4, r"ranks are \(4,\)"),
        (1.5, r"ranks is 1\.5; a share is above 0 and at most 1"),
        (0.0, r"ranks is 0\.0"),
    ],
    ids=str,
)
def test_ranks_are_checked(model, ranks, message):
    with pytest.raises(ValueError, match=message):
        truncate_dense(model, ranks)


def test_models_without_dense_regions_are_refused(model):
    for other in (retinanet(), rfcn()):
        with pytest.raises(ValueError, match="has no whole dense layers on its regions"):
            truncate_dense(other, 0.5)
    with pytest.raises(ValueError, match="a DenseHead that was not truncated yet"):
        truncate_dense(truncate_dense(model, 0.5), 0.5)
