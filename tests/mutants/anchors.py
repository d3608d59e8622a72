"""Mutants of anchors: the boxes of a cell, their grid, RetinaNet's and FPN's layouts."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/ops/anchors.py",
        "tests/ops/test_anchors.py",
        {
            "the ratio is width over height": (
                "np.stack([-widths, -heights, widths, heights]",
                "np.stack([-heights, -widths, heights, widths]",
                "test_ratio_is_height_over_width_and_area_is_kept",
            ),
            "the area is not kept": (
                "np.sqrt(ratios) * sizes, sizes / np.sqrt(ratios)",
                "np.sqrt(ratios) * sizes, sizes / ratios",
                "test_ratio_is_height_over_width_and_area_is_kept",
            ),
            "anchors are twice as large": (
                ".reshape(-1, 4) / 2.0",
                ".reshape(-1, 4)",
                "test_sizes_vary_fastest",
            ),
            "corners are cut, not rounded": (
                "np.round(corners)",
                "np.floor(corners)",
                "test_rounded_corners_go_to_even",
            ),
            "scales are one map apart too little": (
                "(largest - smallest) / (count - 1) * k",
                "(largest - smallest) / count * k",
                "test_regular_scales",
            ),
            "the second square is the arithmetic mean": (
                "math.sqrt(scale * next_scale)",
                "(scale + next_scale) / 2",
                "test_default_sides_by_hand",
            ),
            "wide boxes are tall": (
                "wide = scale * math.sqrt(ratio), scale / math.sqrt(ratio)",
                "wide = scale / math.sqrt(ratio), scale * math.sqrt(ratio)",
                "test_default_sides_by_hand",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/anchors.py",
        "tests/layers/test_anchors.py",
        {
            "RetinaNet's octave has two sizes": (
                "growth=2.0, scales=3",
                "growth=2.0, scales=2",
                "test_retinanet",
            ),
            "RetinaNet's anchors begin at 16": (
                "base=32, aspect_ratios=(0.5, 1.0, 2.0), growth=2.0, scales",
                "base=16, aspect_ratios=(0.5, 1.0, 2.0), growth=2.0, scales",
                "test_retinanet",
            ),
            "RetinaNet begins at stride 4": (
                "scales=3, strides=PAPER_STRIDES",
                "scales=3, strides=(4, 8, 16, 32, 64)",
                "test_retinanet",
            ),
            "RetinaNet's ratios are 1:3": (
                "base=32, aspect_ratios=(0.5, 1.0, 2.0), growth=2.0, scales",
                "base=32, aspect_ratios=(1 / 3, 1.0, 3.0), growth=2.0, scales",
                "test_retinanet",
            ),
            "fitted sizes are an octave apart": (
                "round(2 * math.log2",
                "round(1 * math.log2",
                "test_small_objects_are_found_on_the_finest_map",
            ),
            "FPN's anchors begin at 64": (
                "def fpn(cls, base=32",
                "def fpn(cls, base=64",
                "test_a_proposal_networks_anchors",
            ),
            "FPN's sizes do not grow by level": (
                "base * growth**level]",
                "base * growth * level]",
                "test_a_proposal_networks_anchors",
            ),
            "FPN has four levels": (
                "levels=5, growth",
                "levels=4, growth",
                "test_a_proposal_networks_anchors",
            ),
            "the smallest objects are the tenth percentile": (
                "[5, 95])",
                "[20, 95])",
                "test_fitted",
            ),
            "growth does not reach the largest": (
                "(1 / (len(strides) - 1))",
                "(1 / len(strides))",
                "test_a_proposal_networks_anchors",
            ),
            "large objects crowd on the finest level": (
                "base = min(base, LARGEST_BASE * float(strides[0]))",
                "base = base",
                "test_large_objects_do_not_crowd_on_the_finest_map",
            ),
            "the smallest size is half the papers'": (
                "LARGEST_BASE = 4",
                "LARGEST_BASE = 2",
                "test_large_objects_do_not_crowd_on_the_finest_map",
            ),
            "fitted ratios are width over height": (
                "np.percentile(heights / widths",
                "np.percentile(widths / heights",
                "test_fitted",
            ),
            "strides are rounded up": (
                "side // count for side",
                "-(-side // count) for side",
                "test_as_torchvision",
            ),
        },
    ),
}
