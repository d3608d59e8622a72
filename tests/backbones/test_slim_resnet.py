"""SlimResNet: table 1, strides in the last units, and slim's padding; its numbers are in the golden files."""

import numpy as np
import pytest

from kerasdet.backbones import SlimResNet
from tests.tiny import cheap_weights, parameters


def test_table_1_and_slims_strides(monkeypatch):
    cheap_weights(monkeypatch)
    backbone = SlimResNet(levels=("C2", "C3", "C4", "C4_conv5"))
    assert backbone.channels == {"C2": 256, "C3": 512, "C4": 1024, "C4_conv5": 2048}
    assert backbone.strides == {"C2": 4, "C3": 8, "C4": 16, "C4_conv5": 16}
    convs = [layer for layer in backbone.layers if layer.name.endswith("_conv2")]
    assert len(convs) == 33
    halves = [layer.name for layer in convs if layer.stride == 2]
    assert halves == ["block1_unit_3_conv2", "block2_unit_4_conv2"]
    assert {layer.dilation for layer in convs} == {1}
    shortcuts = [layer.name for layer in backbone.layers if "shortcut" in layer.name]
    assert shortcuts == [f"block{number}_unit_1_shortcut" for number in (1, 2, 3, 4)]
    assert (backbone.mean, backbone.std) == ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0))
    # torchvision's resnet101 without its classifier of 1000 classes: 44 549 160 - 2 049 000.
    assert parameters(backbone) == 42_500_160


def test_sizes_are_rounded_up():
    backbone = SlimResNet((1, 1, 1, 1), levels=("C2", "C3", "C4", "C4_conv5"))
    outputs = backbone(np.zeros((1, 97, 130, 3), "float32"))
    sizes = [tuple(x.shape[1:3]) for x in outputs.values()]
    assert sizes == [(25, 33), (13, 17), (7, 9), (7, 9)]
    assert SlimResNet.from_config(backbone.get_config()).get_config() == backbone.get_config()


def test_stages_above_the_highest_level_are_not_built():
    backbone = SlimResNet((2, 2, 1, 1), levels=("C3",))
    assert backbone.layers[-1].name == "block2_unit_1_out"


def test_the_first_pooling_pads_an_even_side_at_its_end():
    backbone = SlimResNet((2, 1, 1, 1), levels=("C2",), norm_epsilon=1e-5)
    pool = backbone.get_layer("pool1")
    image = np.zeros((1, 4, 4, 1), "float32")
    image[0, 0, 0] = 1
    image[0, 3, 3] = 2
    # Cells 0 to 2 and 2 to 3: the first corner is seen by the first, the last by the last.
    np.testing.assert_array_equal(pool(image)[0, :, :, 0], [[1, 0], [0, 2]])


def test_a_strided_shortcut_takes_every_second_cell():
    backbone = SlimResNet((2, 1, 1, 1), levels=("C3",))
    x = np.arange(2 * 3, dtype="float32").reshape(1, 2, 3, 1)
    np.testing.assert_array_equal(
        backbone.get_layer("block1_unit_2_subsample")(x)[0, :, :, 0], [[0, 2]]
    )


def test_unknown_levels_are_refused():
    with pytest.raises(ValueError, match=r"levels must be among .*C4_conv5"):
        SlimResNet(levels=("C5",))
