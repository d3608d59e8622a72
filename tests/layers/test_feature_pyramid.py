"""The pyramid's sums by hand, its shapes, and its two P6."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdet.layers.anchors import AnchorGenerator
from kerasdet.layers.feature_pyramid import FeaturePyramid, upsample_to
from kerasdet.ops import roi

CONSTANTS = {"CANONICAL_SIZE": 224, "CANONICAL_LEVEL": 4}  # section 4.2: k0 = 4


def test_constants_are_the_papers():
    assert {name: getattr(roi, name) for name in CONSTANTS} == CONSTANTS
    layer = FeaturePyramid()
    assert (layer.channels, layer.levels, layer.p6_from) == (256, ("C3", "C4", "C5"), "C5")
    # Section 4.1: one size a level, three shapes.
    anchors = AnchorGenerator.fpn()
    assert anchors.sizes == ((32,), (64,), (128,), (256,), (512,))
    assert set(anchors.aspect_ratios) == {(0.5, 1.0, 2.0)}


def features(height=64, width=96, batch=1):
    return {
        "C3": ops.ones((batch, -(-height // 8), -(-width // 8), 3)),
        "C4": ops.ones((batch, -(-height // 16), -(-width // 16), 4)),
        "C5": ops.ones((batch, -(-height // 32), -(-width // 32), 5)),
    }


def test_upsampling_repeats_each_cell_and_crops():
    coarse = ops.reshape(ops.arange(4, dtype="float32"), (1, 2, 2, 1))
    fine = upsample_to(coarse, ops.zeros((1, 3, 4, 1)))
    assert ops.convert_to_numpy(fine)[0, :, :, 0].tolist() == [
        [0, 0, 1, 1],
        [0, 0, 1, 1],
        [2, 2, 3, 3],
    ]


def test_upsampling_by_other_factors():
    coarse = ops.reshape(ops.arange(2, dtype="float32"), (1, 1, 2, 1))
    fine = upsample_to(coarse, ops.zeros((1, 3, 7, 1)), factor=4)
    assert ops.convert_to_numpy(fine)[0, :, :, 0].tolist() == [[0, 0, 0, 0, 1, 1, 1]] * 3
    assert upsample_to(coarse, ops.zeros((1, 1, 2, 1)), factor=1) is coarse


@pytest.mark.parametrize(("height", "width"), [(64, 96), (97, 130)])
def test_levels_halve(height, width):
    pyramid = FeaturePyramid(8)(features(height, width))
    assert {level: tuple(p.shape) for level, p in pyramid.items()} == {
        f"P{i}": (1, -(-height // 2**i), -(-width // 2**i), 8) for i in range(3, 8)
    }


def ones_and_identities(layer):
    """Lateral convolutions that sum the channels, and output convolutions that change nothing."""
    identity = np.zeros((3, 3, 1, 1))
    identity[1, 1] = 1
    for conv in layer.lateral_convs.values():
        conv.set_weights([np.ones(conv.kernel.shape), np.zeros(1)])
    for conv in layer.output_convs.values():
        conv.set_weights([identity, np.zeros(1)])


def test_top_down_sum_by_hand():
    layer = FeaturePyramid(1, p6_from=None)
    layer.build(
        {"C3": (None, None, None, 3), "C4": (None, None, None, 4), "C5": (None, None, None, 5)}
    )
    ones_and_identities(layer)
    pyramid = layer(features())
    # Maps of ones: C5 has 5 channels, C4 adds 4, C3 adds 3.
    assert {level: np.unique(p).tolist() for level, p in pyramid.items()} == {
        "P3": [12.0],
        "P4": [9.0],
        "P5": [5.0],
    }


def test_sums_go_down_before_the_output_convolutions():
    layer = FeaturePyramid(1, p6_from=None)
    layer.build(
        {"C3": (None, None, None, 3), "C4": (None, None, None, 4), "C5": (None, None, None, 5)}
    )
    ones_and_identities(layer)
    for conv in layer.output_convs.values():
        conv.kernel.assign(2 * conv.kernel)
    pyramid = layer(features())
    found = {level: np.unique(p).tolist() for level, p in pyramid.items()}
    assert found == {"P3": [24.0], "P4": [18.0], "P5": [10.0]}


def test_norms_follow_lateral_and_output_convolutions_alone():
    layer = FeaturePyramid(8, norm="batch")
    layer(features())
    normed = [*layer.lateral_convs.values(), *layer.output_convs.values()]
    assert [len(conv.weights) for conv in normed] == [5] * 6  # kernel; gamma, beta, two moments
    assert [len(conv.weights) for conv in (layer.p6, layer.p7)] == [2, 2]
    plain = FeaturePyramid(8)
    plain(features())
    assert len(plain.weights) == 8 * 2
    with pytest.raises(ValueError, match="norm must be None or \"batch\", not 'group'"):
        FeaturePyramid(8, norm="group")


def test_two_levels_of_one_stride_by_hand():
    layer = FeaturePyramid(1, levels=("C3", "C5_first", "C5"), p6_from="pool")
    shapes = {"C3": 1, "C5_first": 2, "C5": 3}
    layer.build({level: (None, None, None, channels) for level, channels in shapes.items()})
    ones_and_identities(layer)
    inputs = {
        level: keras.Input((None, None, channels), name=level) for level, channels in shapes.items()
    }
    model = keras.Model(inputs, layer(inputs))  # of unknown size
    top = np.arange(4.0).reshape(1, 2, 2, 1)
    values = {
        "C3": np.zeros((1, 7, 8, 1)),
        "C5_first": np.ones((1, 2, 2, 2)),
        "C5": np.repeat(top, 3, axis=-1),
    }
    pyramid = {level: np.asarray(p)[0, :, :, 0].tolist() for level, p in model(values).items()}
    # C5 has 3 channels, C5_first adds 2 of ones; C3 has a quarter of their stride.
    row, below = [2, 2, 2, 2, 5, 5, 5, 5], [8, 8, 8, 8, 11, 11, 11, 11]
    assert pyramid == {
        "P3": [row] * 4 + [below] * 3,
        "P5_first": [[2, 5], [8, 11]],
        "P5": [[0, 3], [6, 9]],
        "P6": [[0]],
    }
    specs = layer.compute_output_spec({k: keras.KerasTensor(v.shape) for k, v in values.items()})
    assert specs.keys() == pyramid.keys()
    assert specs["P6"].shape == (1, 1, 1, 1)


def test_p6_reads_c5_or_p5():
    for source, channels in (("C5", 5), ("P5", 8)):
        layer = FeaturePyramid(8, p6_from=source)
        layer(features())
        assert layer.p6.kernel.shape == (3, 3, channels, 8)
    with pytest.raises(ValueError, match="p6_from"):
        FeaturePyramid(8, p6_from="C4")


def test_p7_reads_what_of_p6_is_positive():
    layer = FeaturePyramid(1)
    layer(features())
    for conv in (layer.p6, layer.p7):
        conv.kernel.assign(np.ones(conv.kernel.shape))
    # P6 has one cell, which reads four cells of C5, each of five ones.
    for bias, p6, p7 in ((1.0, 21.0, 21.0), (-50.0, -30.0, 0.0)):
        layer.p6.bias.assign([bias])
        pyramid = layer(features(64, 64))
        np.testing.assert_array_equal(np.ravel(pyramid["P6"]), [p6])
        np.testing.assert_array_equal(np.ravel(pyramid["P7"]), [p7])


def test_kernels_are_uniform_by_fan_in():
    layer = FeaturePyramid(64)
    layer(features())
    for conv, fan_in in ((layer.output_convs["C4"], 9 * 64), (layer.lateral_convs["C5"], 5)):
        largest = np.abs(conv.kernel.numpy()).max()
        assert 0.97 * (3 / fan_in) ** 0.5 < largest < (3 / fan_in) ** 0.5 + 1e-6


def test_no_two_convolutions_start_equal():
    layer = FeaturePyramid(8, p6_from="P5")
    layer(features())
    same_shape = [conv.kernel for conv in (*layer.output_convs.values(), layer.p6, layer.p7)]
    sums = {round(float(ops.sum(kernel)), 6) for kernel in same_shape}
    assert len(sums) == len(same_shape)


def test_config_and_values_survive():
    layer = FeaturePyramid(8, norm="batch")
    expected = layer(features())
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    copy(features())
    copy.set_weights(layer.get_weights())
    for level, value in copy(features()).items():
        np.testing.assert_array_equal(value, expected[level])


def test_names_of_the_maps():
    assert FeaturePyramid().output_levels == ("P3", "P4", "P5", "P6", "P7")
    assert FeaturePyramid(p6_from="pool").output_levels == ("P3", "P4", "P5", "P6")
    assert FeaturePyramid(levels=("C2", "C3"), p6_from=None).output_levels == ("P2", "P3")


def test_pooled_level_takes_every_second_cell():
    layer = FeaturePyramid(4, p6_from="pool")
    pyramid = layer(features(97, 130))
    assert list(pyramid) == ["P3", "P4", "P5", "P6"]
    np.testing.assert_array_equal(pyramid["P6"], pyramid["P5"][:, ::2, ::2])
    shapes = layer.compute_output_spec(
        {level: keras.KerasTensor(f.shape) for level, f in features(97, 130).items()}
    )
    assert {level: tuple(p.shape) for level, p in pyramid.items()} == {
        level: tuple(spec.shape) for level, spec in shapes.items()
    }
    with pytest.raises(ValueError, match="p6_from must be"):
        FeaturePyramid(4, p6_from="P4")
