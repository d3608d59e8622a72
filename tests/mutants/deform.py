"""Mutants of deformable convolution and region pooling."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/ops/deform.py",
    "tests/ops/test_deform.py",
    {
        "gamma is 1": (
            "GAMMA = 0.1",
            "GAMMA = 1.0",
            "test_bins_are_moved_by_parts_of_the_region",
        ),
        "offsets count cells": (
            'moves = moves * ops.cast(sizes, "float32")[:, None, None]',
            "moves = moves",
            "test_bins_are_moved_by_parts_of_the_region",
        ),
        "offsets count the other side": (
            'ops.cast(sizes, "float32")[:, None, None]',
            'ops.cast(sizes, "float32")[:, None, None, ::-1]',
            "test_bins_are_moved_by_parts_of_the_region",
        ),
        "a bin's mean is a sum": (
            "sums / roi.counts(cells)",
            "sums",
            "test_bins_are_moved_by_parts_of_the_region",
        ),
        "taps lie at their offsets alone": (
            "shape) + grid[:, None]",
            "shape) + 0.0 * grid[:, None]",
            "test_deform_conv2d_of_one_tap_by_hand",
        ),
        "the mask is added": (
            "columns = columns * ops.cast(ops.reshape(mask",
            "columns = columns + ops.cast(ops.reshape(mask",
            "test_deform_conv2d_of_one_tap_by_hand",
        ),
        "strides are lost": (
            "[:, None] * strides[i]",
            "[:, None]",
            "test_deform_conv2d_at_rest_is_the_convolution",
        ),
        "dilation is lost": (
            " * dilation[i]\n        - padding",
            "\n        - padding",
            "test_deform_conv2d_at_rest_is_the_convolution",
        ),
        "padding is at the other end": (
            "- padding[i]\n",
            "+ padding[i]\n",
            "test_deform_conv2d_at_rest_is_the_convolution",
        ),
        "a tap beyond the map reads its border": (
            'ops.cast(ops.maximum(height, width), "float32") + 1.0',
            'ops.cast(ops.maximum(height, width), "float32") - 1.0',
            "test_a_tap_moved_out_of_the_map_reads_zero",
        ),
        "a tap before the map reads its border": (
            "_within(points, NOWHERE, farthest)",
            "_within(points, 0.0, farthest)",
            "test_a_tap_moved_out_of_the_map_reads_zero",
        ),
        "every group moves the first's channels": (
            "(batch, 1, groups, 1))\n",
            "(batch, 1, groups, 1)) * 0\n",
            "test_deformable_groups_move_their_own_channels",
        ),
        "taps go column by column": (
            "kernel = ops.reshape(kernel, (taps * own, groups, filters // groups))",
            "kernel = ops.reshape(kernel[::-1], (taps * own, groups, filters // groups))",
            "test_deform_conv2d_at_rest_is_the_convolution",
        ),
    },
)
