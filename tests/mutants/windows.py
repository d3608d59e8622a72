"""Mutants of bins, window maxima and window sums, in the portable form."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/ops/windows.py",
    "tests/ops/test_pooling.py",
    {
        "a bin begins at the ceiling": (
            "(index * sizes[:, None]) // count",
            "(index * sizes[:, None] + count - 1) // count",
            "test_bins_are_the_papers_windows_and_strides",
        ),
        "a bin ends at the floor": (
            "((index + 1) * sizes[:, None] + count - 1) // count",
            "((index + 1) * sizes[:, None]) // count",
            "test_bins_are_the_papers_windows_and_strides",
        ),
        "bins are not clipped above": (
            "ops.minimum(ops.maximum(edge, 0), limit)",
            "ops.maximum(edge, 0)",
            "test_bins_are_moved_and_clipped_to_the_map",
        ),
        "bins are not clipped below": (
            "ops.minimum(ops.maximum(edge, 0), limit)",
            "ops.minimum(edge, limit)",
            "test_bins_are_moved_and_clipped_to_the_map",
        ),
        "a window without columns has rows": (
            'ops.cast(ops.all(sizes > 0, axis=-1, keepdims=True), "int32")',
            'ops.cast(ops.any(sizes > 0, axis=-1, keepdims=True), "int32")',
            "test_window_grid_empties_a_window_without_rows_or_columns",
        ),
        "of equal cells the last is the switch": (
            "values > highest)",
            "values >= highest)",
            "test_window_max_of_equal_cells_is_the_first",
        ),
        "a maximum is not negative": (
            'ops.full_like(values, -float("inf"))',
            "ops.zeros_like(values)",
            "test_window_max_of_equal_cells_is_the_first",
        ),
        "an empty window has a maximum": (
            "return ops.where(ops.all(sizes > 0, axis=-1, keepdims=True), values, 0)",
            "return values",
            "test_window_max_and_its_gradient_by_hand",
        ),
        "a sum goes beyond its window": (
            "weight = ops.where(inside, weight, 0.0)",
            "weight = ops.where(inside, weight, weight)",
            "test_window_sum_and_its_gradient_by_hand",
        ),
        "the gradient goes beyond its window": (
            "own = ops.where(inside[:, None], upstream, 0.0)",
            "own = upstream + ops.cast(inside[:, None], upstream.dtype) * 0.0",
            "test_window_sum_and_its_gradient_by_hand",
        ),
        "a sum has no gradient to its place": (
            "by_starts = by_starts + slope * read",
            "by_starts = by_starts + 0.0 * slope * read",
            "tests/ops/test_deform.py::test_bins_at_rest_have_a_gradient",
        ),
        "a window is walked column by column": (
            "[index // columns, index - (index // columns) * columns]",
            "[index - (index // columns) * columns, index // columns]",
            "test_window_sum_and_its_gradient_by_hand",
        ),
        "the last point beyond the map is cut off": (
            "ops.ceil(limits - fixed)",
            "ops.floor(limits - fixed)",
            "test_window_sum_between_cells_fades_beyond_the_border",
        ),
    },
)
