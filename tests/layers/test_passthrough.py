"""YOLOv2's head: which map goes where, channels, orders, configs."""

import keras
import numpy as np
import pytest

from kerasdet.layers import GridHead, LocallyConnected, PassthroughHead
from kerasdet.ops.cells import darknet_reorg, space_to_depth

RNG = np.random.default_rng(0)
MAPS = {
    "C4": RNG.normal(size=(2, 4, 6, 4)).astype(np.float32),
    "C5": RNG.normal(size=(2, 2, 3, 5)).astype(np.float32),
}


def built(**options):
    keras.utils.set_random_seed(0)
    head = PassthroughHead(**{"channels": 6, "depth": 2, "passthrough": 8, **options})
    head.build({level: x.shape for level, x in MAPS.items()})
    return head


@pytest.mark.parametrize(
    ("order", "stack"), [("adjacent", space_to_depth), ("darknet", darknet_reorg)]
)
def test_the_finer_map_joins_before_the_last_convolution(order, stack):
    head = built(order=order)
    fine = stack(head.fine_conv(MAPS["C4"]), 2)
    assert fine.shape == (2, 2, 3, 32)
    joined = np.concatenate([fine, head.convs[0](MAPS["C5"])], axis=-1)
    np.testing.assert_allclose(head(MAPS), head.convs[1](joined), rtol=1e-5, atol=1e-6)
    assert head.compute_output_shape({k: x.shape for k, x in MAPS.items()}) == (2, 2, 3, 6)


def test_without_a_passthrough_the_map_goes_through_all_convolutions():
    head = built(passthrough=0, levels=("C5",), depth=3)
    x = MAPS["C5"]
    for conv in head.convs:
        x = conv(x)
    np.testing.assert_array_equal(head(MAPS), x)
    nothing = built(passthrough=0, levels=("C5",), depth=0)
    np.testing.assert_array_equal(nothing(MAPS), MAPS["C5"])
    assert nothing.compute_output_shape({"C5": (2, 2, 3, 5)}) == (2, 2, 3, 5)


def test_norms_learn_in_training():
    head = built()
    before = [np.array(conv.norm.moving_mean) for conv in (*head.convs, head.fine_conv)]
    head(MAPS, training=True)
    for conv, old in zip((*head.convs, head.fine_conv), before):
        assert np.abs(conv.norm.moving_mean - old).max() > 0


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (PassthroughHead(6, 2, 8, ("C4", "C5"), "darknet", 1e-3, name="mine"), MAPS),
        (GridHead(((4, 3, 2), "pool", (6, 1)), (7, 3), 5, 0.25, "batch", 1e-3), MAPS["C4"]),
        (LocallyConnected(3, 5), MAPS["C5"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_configs_keep_every_argument(layer, x):
    keras.utils.set_random_seed(0)
    expected = layer(x)
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    copy(x)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(x), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "torch"}, "order is 'torch'; give one of 'adjacent', 'darknet'"),
        ({"levels": ("C5",)}, "passthrough=8 joins a finer map .* give two levels"),
        ({"depth": 0}, "passthrough=8 joins a finer map"),
        ({"channels": 0}, "channels is 0"),
    ],
    ids=str,
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        built(**options)
    with pytest.raises(ValueError, match="norm must be None or \"batch\", not 'group'"):
        GridHead(norm="group")
