"""Mutants of cutting, pasting and searching masks."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/ops/masks.py",
    "tests/ops/test_masks.py",
    {
        "points lie at the corners of their shares": (
            'ops.arange(points, dtype="float32") + 0.5',
            'ops.arange(points, dtype="float32")',
            "test_cut_by_hand",
        ),
        "pixel 0's centre lies at 0.5": (
            "* index - 0.5 for i in",
            "* index for i in",
            "test_cut_by_hand",
        ),
        "points are too far apart": (
            "(boxes[..., 2:] - boxes[..., :2]) / points",
            "(boxes[..., 2:] - boxes[..., :2]) / output_size",
            "test_cut_by_hand",
        ),
        "a target is the maximum of its points": (
            "return ops.mean(ops.reshape(values, shape), axis=(3, 5))",
            "return ops.max(ops.reshape(values, shape), axis=(3, 5))",
            "test_cut_by_hand",
        ),
        "one point serves a bin": (
            "output_size, sampling_ratio=2)",
            "output_size, sampling_ratio=1)",
            "test_cut_by_hand",
        ),
        "every region reads the first object": (
            'ops.maximum(ops.cast(objects, "int32"), 0)',
            '0 * ops.cast(objects, "int32")',
            "test_cut_equals_loops_in_each_regions_own_object",
        ),
        "the threshold is 0.4": (
            "threshold=0.5",
            "threshold=0.4",
            "test_paste_by_hand",
        ),
        "the ring is half a cell": (
            "np.float32((cells + 2) / cells)",
            "np.float32((cells + 1) / cells)",
            "test_paste_by_hand",
        ),
        "the ring's cell is lost": (
            "np.float32((cells + 2) / length) - 1.5",
            "np.float32((cells + 2) / length) - 1.0",
            "test_paste_by_hand",
        ),
        "the last pixel is not included": (
            "max(last - first + 1, 1)",
            "max(last - first, 1)",
            "test_paste_by_hand",
        ),
        "the cubic kernel is TensorFlow's": (
            "    -0.75\n",
            "    -0.5\n",
            "test_cubic_kernel_by_hand",
        ),
        "a peak lies at its pixel's corner": (
            '(ops.cast(pixel, "float32") + 0.5) * step',
            'ops.cast(pixel, "float32") * step',
            "test_peaks_equal_a_search_of_the_resized_masks",
        ),
        "one lattice point is looked at": (
            "CANDIDATES = 16",
            "CANDIDATES = 1",
            "test_peaks_equal_a_search_of_the_resized_masks",
        ),
        "boxes of less than a pixel have no pixel": (
            "ops.maximum(boxes[..., 2:] - boxes[..., :2], 1.0)",
            "ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.1)",
            "test_peaks_equal_a_search_of_the_resized_masks",
        ),
    },
)
