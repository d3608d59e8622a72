"""Mutants of points: grid, distances, centre-ness, assignment, and their layers."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/ops/points.py",
        "tests/ops/test_points.py",
        {
            "the offset is in pixels": (
                '"float32") + offset) * ops.cast(stride, "float32")',
                '"float32")) * ops.cast(stride, "float32") + offset',
                "test_grid_points_by_hand",
            ),
            "columns come before rows": (
                'indexing="ij"',
                'indexing="xy"',
                "test_grid_points_by_hand",
            ),
            "top and right change places": (
                "return x - x1, y - y1, x2 - x, y2 - y",
                "return x - x1, x2 - x, y - y1, y2 - y",
                "test_distances_by_hand",
            ),
            "the box lies right of its point": (
                "ops.stack([x - left, y - top,",
                "ops.stack([x + left, y - top,",
                "test_distances_by_hand",
            ),
            "centre-ness has no root": (
                "ops.sqrt(_balance(left, right) * _balance(top, bottom))",
                "_balance(left, right) * _balance(top, bottom)",
                "test_centerness_by_hand",
            ),
            "centre-ness compares neighbouring sides": (
                "_balance(left, right) * _balance(top, bottom)",
                "_balance(left, top) * _balance(right, bottom)",
                "test_centerness_by_hand",
            ),
            "two sides beyond the point make it central": (
                "ops.maximum(shorter, 0.0) / ",
                "shorter / ",
                "test_centerness_by_hand",
            ),
            "points on a side learn": (
                "functools.reduce(ops.minimum, distances) > 0.0",
                "functools.reduce(ops.minimum, distances) >= 0.0",
                "test_points_inside_learn_and_others_are_background",
            ),
            "the upper limit belongs to the coarser level alone": (
                "(largest <= high)",
                "(largest < high)",
                "test_each_level_has_its_range_of_distances",
            ),
            "the lower limit belongs to the finer level alone": (
                "(largest >= low)",
                "(largest > low)",
                "test_each_level_has_its_range_of_distances",
            ),
            "ranges are of the smallest distance": (
                "largest = functools.reduce(ops.maximum, distances)",
                "largest = functools.reduce(ops.minimum, distances)",
                "test_each_level_has_its_range_of_distances",
            ),
            "the radius is in pixels": (
                "radius * points[:, 2]",
                "radius * points[:, 2] / points[:, 2]",
                "test_centre_sampling_counts_strides",
            ),
            "the radius itself is near": (
                "_from_centre(*distances) < radius",
                "_from_centre(*distances) <= radius",
                "test_centre_sampling_counts_strides",
            ),
            "the distance to the centre is that of the sides": (
                "ops.abs(top - bottom)) / 2.0",
                "ops.abs(top - bottom))",
                "test_centre_sampling_counts_strides",
            ),
            "the largest object wins": (
                "ops.argmin(areas, axis=1)",
                "ops.argmin(-areas, axis=1)",
                "test_of_two_objects_the_smaller_is_learnt",
            ),
            "ignored objects are learnt": (
                'valid_mask(targets["labels"]) & ~targets["ignore"]',
                'valid_mask(targets["labels"])',
                "test_points_in_ignored_objects_take_no_part_unless_they_learn",
            ),
            "padding is learnt": (
                'valid_mask(targets["labels"]) & ~targets["ignore"]',
                '~targets["ignore"]',
                "test_padding_is_no_object_wherever_its_box_lies",
            ),
            "only learnt points may be ignored": (
                'ops.any(inside & targets["ignore"]',
                'ops.any(learnt & targets["ignore"]',
                "test_points_in_ignored_objects_take_no_part_unless_they_learn",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/points.py",
        "tests/layers/test_points.py",
        {
            "P3 learns up to 32 pixels": (
                "ranges=(64, 128, 256, 512)",
                "ranges=(32, 64, 128, 256)",
                "test_fcos_levels_are_the_default",
            ),
            "steps are always strides": (
                "if self.steps_from_image:",
                "if False:",
                "test_torchvisions_places",
            ),
            "steps are rounded up": (
                "side // count for side",
                "-(-side // count) for side",
                "test_torchvisions_places",
            ),
            "the radius does not reach the assignment": (
                "self.ranges, self.radius)",
                "self.ranges)",
                "test_assign_takes_ranges_and_radius",
            ),
            "the scale is added": (
                "x * self.scales[level] if",
                "x + self.scales[level] if",
                "test_distances_by_hand",
            ),
            "distances are never in strides": (
                "x * points[:, 2:] if self.normalized",
                "x if self.normalized",
                "test_normalized_distances_count_strides",
            ),
            "exp has no limit": (
                "ops.minimum(x, LARGEST_LOG)",
                "x",
                "test_distances_stay_finite",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/points.py",
        "tests/models/test_fcos.py",
        {
            "ranges are those of half the sides": (
                "2 * round(float(np.percentile(sides.max(axis=1), 5)), 1)",
                "round(float(np.percentile(sides.max(axis=1), 5)), 1)",
                "test_ranges_fit_the_data",
            ),
            "large objects crowd on the finest level": (
                "min(first, FINEST_CELLS * float(strides[0]))",
                "first",
                "tests/layers/test_points.py::test_large_objects_do_not_crowd_on_the_finest_level",
            ),
            "fitted ranges do not double": (
                "first * 2**level for",
                "first * 3**level for",
                "test_ranges_fit_the_data",
            ),
        },
    ),
}
