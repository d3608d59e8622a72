"""SSD's extra layers and its towers: sizes of the maps, weights, norms, separable ones."""

import numpy as np
import pytest
from keras import ops

from kerasdet.layers import DepthwiseTowers, ExtraLayers, LevelTowers, SeparableExtraLayers
from kerasdet.layers.extra_layers import SSD321_ROWS, SSD512_ROWS, SSD513_ROWS

RNG = np.random.default_rng(0)


def maps(first=38, second=19, widths=(4, 6)):
    sides = (first, second)
    return {
        level: RNG.normal(size=(1, side, side, width)).astype("float32")
        for level, side, width in zip(("C3", "C4"), sides, widths)
    }


def built(layer, inputs):
    layer.build({level: (None, None, None, x.shape[-1]) for level, x in inputs.items()})
    return layer


@pytest.mark.parametrize(
    ("rows", "sides", "expected"),
    [
        (None, (38, 19), [38, 19, 10, 5, 3, 1]),
        (SSD512_ROWS, (64, 32), [64, 32, 16, 8, 4, 2, 1]),
        (SSD321_ROWS, (40, 20), [40, 20, 10, 5, 3, 1]),
        (SSD513_ROWS, (64, 32), [64, 32, 16, 8, 4, 2, 1]),
    ],
    ids=["300", "512", "321", "513"],
)
def test_sizes_of_the_maps(rows, sides, expected):
    inputs = maps(*sides)
    options = {} if rows is None else {"rows": rows}
    layer = built(ExtraLayers(levels=("C3", "C4"), **options), inputs)
    found = layer(inputs)
    assert [x.shape[1] for x in found.values()] == expected
    shapes = layer.compute_output_shape({level: x.shape for level, x in inputs.items()})
    assert shapes == {level: tuple(x.shape) for level, x in found.items()}
    assert list(found)[:3] == ["C3", "C4", "extra1"]


def test_the_first_map_has_norm_20_at_each_place():
    inputs = maps()
    found = built(ExtraLayers(levels=("C3", "C4")), inputs)(inputs)
    np.testing.assert_allclose(np.linalg.norm(found["C3"], axis=-1), 20, rtol=1e-5)
    np.testing.assert_array_equal(found["C4"], inputs["C4"])
    plain = built(ExtraLayers(levels=("C3", "C4"), scale=None), inputs)(inputs)
    np.testing.assert_array_equal(plain["C3"], inputs["C3"])


def test_the_normalisations_epsilon_is_an_argument():
    # Variance 1: the sum of epsilon and it is 4.
    inputs = {"C4": np.ones((1, 1, 1, 1), "float32")}
    rows = [(1, 1, 1, 1, "same")]
    layer = built(ExtraLayers(rows, ("C4",), None, "batch", norm_epsilon=3.0), inputs)
    for conv, _ in layer.blocks:
        conv.conv.kernel.assign(np.full((1, 1, 1, 1), 8.0))
    for block in layer.blocks:
        block[1].conv.kernel.assign(np.ones((1, 1, 1, 1)))
    np.testing.assert_allclose(layer(inputs)["extra1"], [[[[2]]]], rtol=1e-6)
    assert ExtraLayers.from_config(layer.get_config()).norm_epsilon == 3.0


def test_extra_maps_come_from_the_last_map_by_hand():
    # 1x1 by 2, then 3x3 of ones with stride 2: nine cells less those outside.
    inputs = {"C4": np.ones((1, 4, 4, 1), "float32")}
    layer = built(ExtraLayers([(1, 1, 3, 2, 1)], ("C4",), scale=None), inputs)
    values = [np.full((1, 1, 1, 1), 2.0), np.zeros(1), np.ones((3, 3, 1, 1)), np.full(1, -9.0)]
    layer.set_weights(values)
    np.testing.assert_array_equal(layer(inputs)["extra1"][0, ..., 0], [[0, 3], [3, 9]])


def test_norms_of_extra_layers_follow_the_batch():
    inputs = maps()
    layer = built(ExtraLayers([(8, 5, 3, 2, 1)], ("C3", "C4"), None, "batch"), inputs)
    assert len(layer.trainable_weights) == 2 * 3  # kernel, gamma and beta; no bias
    before = [np.array(w) for w in layer.non_trainable_weights]
    layer(inputs, training=True)
    assert any(np.any(w != old) for w, old in zip(layer.non_trainable_weights, before))
    assert np.min(layer(inputs)["extra1"]) >= 0


def test_separable_extra_layers():
    inputs = maps(20, 10)
    layer = built(SeparableExtraLayers((8, 6), ("C3", "C4")), inputs)
    found = layer(inputs)
    assert [tuple(x.shape[1:]) for x in found.values()][2:] == [(5, 5, 8), (3, 3, 6)]
    # 1x1 from 6 to 4, depthwise, 1x1 to 8; the same from 8 to 3 and 6.
    kernels = [w.shape for w in layer.trainable_weights if w.path.endswith("kernel")]
    assert [tuple(shape) for shape in kernels] == [
        *((1, 1, 6, 4), (3, 3, 1, 4), (1, 1, 4, 8)),
        *((1, 1, 8, 3), (3, 3, 1, 3), (1, 1, 3, 6)),
    ]
    assert layer.blocks[0][0].norm.epsilon == 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "group"}, 'norm must be None or "batch", not'),
        ({"rows": [(1, 2, 3)]}, "rows has .*; give channels of the 1x1"),
    ],
    ids=str,
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        ExtraLayers(**options)


def test_towers_are_of_each_level_and_kind():
    inputs = maps(8, 4)
    towers = built(LevelTowers(5, 2), inputs)
    classes, boxes = towers(inputs)
    assert [tuple(x.shape) for x in classes.values()] == [(1, 8, 8, 5), (1, 4, 4, 5)]
    shapes = towers.compute_output_shape({level: x.shape for level, x in inputs.items()})
    assert shapes[1] == {level: tuple(x.shape) for level, x in boxes.items()}
    kernels = [w for w in towers.trainable_weights if w.path.endswith("kernel")]
    assert len(kernels) == 2 * 2 * 2  # levels, kinds, depth
    for level in inputs:
        assert np.any(np.asarray(classes[level]) != np.asarray(boxes[level]))


def test_towers_without_depth_pass_the_maps():
    inputs = maps(8, 4)
    towers = built(LevelTowers(), inputs)
    assert not towers.weights
    for found in towers(inputs):
        np.testing.assert_array_equal(found["C3"], inputs["C3"])


def test_depthwise_towers():
    inputs = maps(8, 4)
    towers = built(DepthwiseTowers(), inputs)
    classes, boxes = towers(inputs)
    assert [tuple(x.shape) for x in boxes.values()] == [(1, 8, 8, 4), (1, 4, 4, 6)]
    kernels = [w.shape for w in towers.trainable_weights if w.path.endswith("kernel")]
    assert [tuple(shape) for shape in kernels] == [(3, 3, 1, 4), (3, 3, 1, 6)] * 2
    assert float(ops.max(classes["C3"])) <= 6  # ReLU6


@pytest.mark.parametrize("options", [{"channels": 0}, {"depth": -1}], ids=str)
def test_towers_check_their_arguments(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is .*; give a whole number"):
        LevelTowers(**options)
