"""Mutants of reading maps between their cells."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/ops/bilinear.py",
        "tests/ops/test_roi.py",
        {
            "the upper row has the lower one's weight": (
                "((row0, weight_y[0]), (row1, weight_y[1]))",
                "((row0, weight_y[1]), (row1, weight_y[0]))",
                "test_pool_lattice_by_hand",
            ),
            "columns have no weight": (
                "by_y[:, :, None] * by_x[:, None, :]",
                "by_y[:, :, None] + 0.0 * by_x[:, None, :]",
                "test_pool_lattice_by_hand",
            ),
            "a bin's mean divides by one side": (
                "1.0 / sampling_ratio**2",
                "1.0 / sampling_ratio",
                "test_roi_align_of_a_ramp_is_the_ramp_at_the_bins_centres",
            ),
            "bins overlap": (
                "(sampling_ratio * ops.arange(",
                "(ops.arange(",
                "test_roi_align_of_a_ramp_is_the_ramp_at_the_bins_centres",
            ),
            "the maximum is a minimum": (
                "else ops.maximum(reduced, values)",
                "else ops.minimum(reduced, values)",
                "test_roi_align_maximum_of_a_ramp_is_its_last_point",
            ),
            "the kernel's maximum is a minimum": (
                "functools.reduce(ops.maximum, each)",
                "functools.reduce(ops.minimum, each)",
                "test_roi_align_maximum_of_a_ramp_is_its_last_point",
            ),
            "the second level is read in the first": (
                "first_rows.append(total + ops",
                "first_rows.append(ops",
                "test_pool_lattice_by_hand",
            ),
            "a point is read at its cell": (
                "[1:3], planes, points):",
                "[1:3], planes, ops.floor(points)):",
                "tests/ops/test_deform.py::test_read_points_by_hand",
            ),
            "a point's cells have no weight": (
                "values + weight[:, None] *",
                "values + ",
                "tests/ops/test_deform.py::test_read_points_by_hand",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/neighbours.py",
        "tests/ops/test_deform.py",
        {
            "the upper cell has the lower one's share": (
                "fraction_y if down else 1.0 - fraction_y",
                "1.0 - fraction_y if down else fraction_y",
                "test_corners_by_hand",
            ),
            "the last row is beyond the map": (
                "(row < height)",
                "(row < height - 1)",
                "test_corners_by_hand",
            ),
            "slopes by y have no sign": (
                "(2 * down - 1) * by_x",
                "(2 * down + 1) * by_x",
                "test_corners_by_hand",
            ),
            "planes are mixed up": (
                "(planes * height + _clamp",
                "(planes + _clamp",
                "test_corners_by_hand",
            ),
            "a map ends at its border": (
                "(coordinates >= -reach)",
                "(coordinates >= 0.0)",
                "tests/ops/test_roi.py::test_clamped_neighbours_by_hand",
            ),
            "a map goes on for two cells": (
                "(coordinates <= last + reach)",
                "(coordinates <= last + 2.0)",
                "tests/ops/test_roi.py::test_clamped_neighbours_by_hand",
            ),
            "the two cells change places": (
                "inside * (1.0 - fraction), inside * fraction",
                "inside * fraction, inside * (1.0 - fraction)",
                "tests/ops/test_roi.py::test_clamped_neighbours_by_hand",
            ),
        },
    ),
}
