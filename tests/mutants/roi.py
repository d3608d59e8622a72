"""Mutants of region pooling: levels, lattices, rounding, own channels."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/ops/roi.py",
    "tests/ops/test_roi.py",
    {
        "regions of level 4 have 256 pixels": (
            "CANONICAL_SIZE = 224",
            "CANONICAL_SIZE = 256",
            "test_region_levels_by_hand",
        ),
        "regions of 224 pixels are of level 3": (
            "CANONICAL_LEVEL = 4",
            "CANONICAL_LEVEL = 3",
            "test_region_levels_by_hand",
        ),
        "the longer side counts": (
            "ops.sqrt(sides[..., 0]) * ops.sqrt(sides[..., 1])",
            "ops.maximum(sides[..., 0], sides[..., 1])",
            "test_region_levels_by_hand",
        ),
        "the lowest level is left out": (
            "range(lowest + 1, highest + 1)",
            "range(lowest, highest + 1)",
            "test_region_levels_by_hand",
        ),
        "the highest level is left out": (
            "range(lowest + 1, highest + 1)",
            "range(lowest + 1, highest)",
            "test_region_levels_by_hand",
        ),
        "levels have twice their stride's cells": (
            "2.0**-number for number in numbers",
            "2.0 ** (1 - number) for number in numbers",
            "test_multilevel_roi_align_equals_roi_align_of_the_level",
        ),
        "RoIPool leaves out the second corner's cell": (
            "last_included=True)",
            "last_included=False)",
            "test_roi_pool_by_hand",
        ),
        "position-sensitive pooling includes the second corner's cell": (
            "last_included=False)",
            "last_included=True)",
            "test_ps_roi_pool_by_hand",
        ),
        "a bin's mean is a sum": (
            "sums / ops.maximum(counts(flat_bins(sizes)), 1.0)",
            "sums",
            "test_ps_roi_pool_by_hand",
        ),
        "bins take each other's channels": (
            "* k**2 + index",
            "* k**2 + k**2 - 1 - index",
            "test_ps_roi_pool_by_hand test_ps_roi_align_of_ramps_is_each_bins_own_at_its_centre",
        ),
        "corners are cut to cells": (
            "ops.floor(ops.abs(values) + 0.5)",
            "ops.floor(ops.abs(values))",
            "test_corners_are_rounded_half_away_from_zero",
        ),
        "half a cell rounds up": (
            "ops.sign(values) * ops.floor(ops.abs(values) + 0.5)",
            "ops.floor(values + 0.5)",
            "test_corners_are_rounded_half_away_from_zero",
        ),
        "aligned points are not moved": (
            "(corner - 0.5, sides) if aligned",
            "(corner, sides) if aligned",
            "test_roi_align_of_a_ramp_is_the_ramp_at_the_bins_centres",
        ),
        "a flat region has no extent": (
            "else (corner, ops.maximum(sides, 1.0))",
            "else (corner, ops.maximum(sides, 0.0))",
            "test_inverted_and_flat_boxes_are_the_smallest_region_at_their_first_corner",
        ),
        "points lie at the corners of their shares": (
            "return corner + 0.5 * steps, steps",
            "return corner, steps",
            "test_roi_align_of_a_ramp_is_the_ramp_at_the_bins_centres",
        ),
        "bins of own channels overlap": (
            "bin_steps = sampling_ratio * steps",
            "bin_steps = steps",
            "test_ps_roi_align_of_ramps_is_each_bins_own_at_its_centre",
        ),
        "boxes have a gradient": (
            'boxes = ops.stop_gradient(ops.reshape(ops.cast(boxes, "float32"), (-1, 4)))',
            'boxes = ops.reshape(ops.cast(boxes, "float32"), (-1, 4))',
            "test_boxes_have_no_gradient",
        ),
    },
)
