"""Mutants of the feature pyramid: sums, levels, first weights."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/layers/feature_pyramid.py",
        "tests/layers/test_feature_pyramid.py",
        {
            "no sum goes down": (
                "merged = merged + upsample_to(coarser, merged, factor)",
                "merged = merged + 0 * upsample_to(coarser, merged, factor)",
                "test_top_down_sum_by_hand",
            ),
            "what goes down has passed the output convolution": (
                "coarser, above = merged, level",
                "coarser, above = self.output_convs[level](merged, training=training), level",
                "test_sums_go_down_before_the_output_convolutions",
            ),
            "only the next coarser lateral goes down": (
                "coarser, above = merged, level",
                "coarser, above = self.lateral_convs[level](lateral, training=training), level",
                "test_top_down_sum_by_hand",
            ),
            "every level has twice the stride of the finer one": (
                "factor = 2 ** (level_number(above) - level_number(level))",
                "factor = 2",
                "test_two_levels_of_one_stride_by_hand",
            ),
            "the pooled level takes the other cells": (
                "[:, ::2, ::2]",
                "[:, 1::2, 1::2]",
                "test_pooled_level_takes_every_second_cell",
            ),
            "P7 reads all of P6": (
                "self.p7(ops.relu(p6))",
                "self.p7(p6)",
                "test_p7_reads_what_of_p6_is_positive",
            ),
            "P6 reads P5": (
                'features_shape["C5"] if self.p6_from == "C5" else (None, None, None, self.channels)',
                "(None, None, None, self.channels)",
                "test_p6_reads_c5_or_p5",
            ),
            "kernels begin as wide as for ReLU": (
                'VarianceScaling(1.0, "fan_in"',
                'VarianceScaling(2.0, "fan_in"',
                "test_kernels_are_uniform_by_fan_in",
            ),
            "kernels begin by both sides' sizes": (
                '"fan_in", "uniform"',
                '"fan_avg", "uniform"',
                "test_kernels_are_uniform_by_fan_in",
            ),
            "upsampled maps lose their beginning": (
                "return wide[:, :height, :width, :]",
                "return wide[:, -height:, -width:, :]",
                "test_upsampling_repeats_each_cell_and_crops",
            ),
            "maps are upsampled along one side": (
                "(batch, h, factor, w, factor, channels)",
                "(batch, h, factor, w, 1, channels)",
                "test_upsampling_repeats_each_cell_and_crops",
            ),
            "no norms follow": (
                "        if self.norm:\n            return ConvNorm",
                "        if False:\n            return ConvNorm",
                "test_norms_follow_lateral_and_output_convolutions_alone",
            ),
            "P6 and P7 have no names": (
                'return (*levels, "P6", "P7") if self.p6_from else levels',
                "return levels",
                "test_names_of_the_maps",
            ),
            "specs forget that sizes are rounded up": (
                "[None if s is None else (s + 1) // 2 for s in sizes[coarsest]]",
                "[None if s is None else s // 2 for s in sizes[coarsest]]",
                "test_pooled_level_takes_every_second_cell",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/roi.py",
        "tests/ops/test_roi.py",
        {
            "a region of P4 is half as large": (
                "CANONICAL_SIZE = 224",
                "CANONICAL_SIZE = 112",
                "test_region_levels_by_hand",
            ),
            "regions are pooled one level finer": (
                "CANONICAL_LEVEL = 4",
                "CANONICAL_LEVEL = 3",
                "test_region_levels_by_hand",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/anchors.py",
        "tests/layers/test_feature_pyramid.py",
        {
            "a proposal network's anchors are half as large": (
                "def fpn(cls, base=32,",
                "def fpn(cls, base=16,",
                "test_constants_are_the_papers",
            ),
        },
    ),
}
