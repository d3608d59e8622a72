"""Mutants of the feature pyramid."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/layers/feature_pyramid.py",
    "tests/layers/test_feature_pyramid.py",
    {
        "the top-down path is not added": (
            "merged = merged + upsample_to(",
            "merged = merged + 0.0 * upsample_to(",
            "test_top_down_sum_by_hand",
        ),
        "the lateral connection is not added": (
            "merged = merged + upsample_to(coarser, merged, factor)",
            "merged = upsample_to(coarser, merged, factor)",
            "test_top_down_sum_by_hand",
        ),
        "output convolutions are passed on": (
            'pyramid["P" + level[1:]] = self.output_convs[level](merged, training=training)',
            'pyramid["P" + level[1:]] = coarser = 2 * self.output_convs[level](merged, training=training)',
            "test_top_down_sum_by_hand",
        ),
        "levels of one stride are upsampled": (
            "2 ** (level_number(above) - level_number(level))",
            "2",
            "test_two_levels_of_one_stride_by_hand",
        ),
        "P7 reads P6 without ReLU": (
            "self.p7(ops.relu(p6))",
            "self.p7(p6)",
            "test_p7_reads_what_of_p6_is_positive",
        ),
        "P6 reads P5 for C5": (
            'features["C5"] if self.p6_from == "C5" else pyramid["P5"])',
            'pyramid["P5"])',
            "test_p6_reads_c5_or_p5",
        ),
        "the pooled level takes the odd cells": (
            "[:, ::2, ::2]",
            "[:, 1::2, 1::2]",
            "test_pooled_level_takes_every_second_cell",
        ),
        "upsampling is not cropped": (
            "return wide[:, :height, :width, :]",
            "return wide",
            "test_upsampling_repeats_each_cell_and_crops",
        ),
        "upsampling interleaves": (
            "coarse[:, :, None, :, None, :]",
            "coarse[:, None, :, None, :, :]",
            "test_upsampling_repeats_each_cell_and_crops",
        ),
        "output convolutions are 1x1": (
            'self._conv(3, f"output',
            'self._conv(1, f"output',
            "test_top_down_sum_by_hand",
        ),
        "kernels begin with twice the variance": (
            'VarianceScaling(1.0, "fan_in"',
            'VarianceScaling(2.0, "fan_in"',
            "test_kernels_are_uniform_by_fan_in",
        ),
        "kernels begin by fan-out": (
            'VarianceScaling(1.0, "fan_in"',
            'VarianceScaling(1.0, "fan_out"',
            "test_kernels_are_uniform_by_fan_in",
        ),
    },
)
