"""Mutants of what mmdetection's weights need: names, as many points as cells, rounded sizes and pixels."""

from tests.mutants import mutants

NAMES = "tests/zoo/test_mmdetection.py"
EVERY = "test_every_weight_has_mmdetections_name_and_layout"
STAGES = "test_the_stages_of_a_cascade_have_weights_of_their_own"
CELLS = "test_roi_align_with_as_many_points_as_cells_is_the_mean_of_the_cells"
ALONE = "test_regions_of_different_numbers_of_points_are_pooled_as_if_alone"
EMPTY = "test_a_region_without_area_has_no_points"
POINTS = "test_points_of_bins_by_hand"
PIXELS = "test_rounded_pixels_by_hand"
MMCV = "test_rounded_pixels_are_mmcvs"
GOLDEN = "tests/ops/test_golden_ops.py::test_op_equals_the_reference_implementation"

MUTANTS = {
    **mutants(
        "zoo/origins/mmdetection.py",
        NAMES,
        {
            "the background stays the last class": (
                "np.roll(array, 1, axis=0)",
                "array",
                EVERY,
            ),
            "the background moves the other way": (
                "np.roll(array, 1, axis=0)",
                "np.roll(array, -1, axis=0)",
                f"{EVERY} {STAGES}",
            ),
            "the later stages are numbered as the first": (
                'place.format("bbox", i + 1)',
                'place.format("bbox", i)',
                EVERY,
            ),
            "later masks are the first stage's": (
                'place.format("mask", i + 1)',
                'place.format("mask", i)',
                EVERY,
            ),
            "regions are flattened cell by cell there": (
                '(r"head/fc6", r"shared_fcs.0", channels_last)',
                '(r"head/fc6", r"shared_fcs.0")',
                EVERY,
            ),
            "a single stage is a cascade": (
                'if hasattr(model, "later_classifiers") else "roi_head.{}_head."',
                'if hasattr(model, "classifier") else "roi_head.{}_head."',
                EVERY,
            ),
            "offsets have no older names": (
                r'r"(.*\.conv\d)_offset\.(\w+)"',
                r'r"(.*\.conv\d)_offsets\.(\w+)"',
                "test_offsets_beside_their_convolution",
            ),
        },
    ),
    **mutants(
        "zoo/pytorch.py",
        NAMES,
        {
            "counters of steps are weights": (
                'if not name.endswith(".num_batches_tracked") and',
                "if name and",
                EVERY,
            ),
            "regions are flattened columns first": (
                "columns.transpose(0, 2, 1).reshape(array.shape)",
                "columns.reshape(array.shape)",
                EVERY,
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/adaptive.py",
        "tests/ops/test_roi.py",
        {
            "points are rounded down": ("ops.ceil(bins)", "ops.floor(bins)", f"{POINTS} {CELLS}"),
            "inverted sides have points": (
                "ops.maximum(ops.ceil(bins), 0.0)",
                "ops.maximum(ops.ceil(bins), 1.0)",
                f"{POINTS} {EMPTY}",
            ),
            "points are not bounded by the map": (
                "ops.minimum(ops.maximum(ops.ceil(bins), 0.0), extents)",
                "ops.maximum(ops.ceil(bins), 0.0)",
                POINTS,
            ),
            "points lie at the corners of their shares": (
                "corners + 0.5 * steps",
                "corners + 0.0 * steps",
                CELLS,
            ),
            "bins begin anew": (
                "offset[axis] + counts[:, axis, None] *",
                "offset[axis] + 0 * counts[:, axis, None] *",
                CELLS,
            ),
            "all points have the same share": (
                "ops.where(inside, 1.0 / shares, 0.0)",
                "1.0 / shares",
                ALONE,
            ),
            "the gradient has no weights": (
                "weight[..., None] * upstream",
                "0.25 * upstream + 0.0 * weight[..., None]",
                GOLDEN,
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/native/adaptive.py",
        "tests/ops/test_roi.py",
        {
            "a run's second cell has the first's place": (
                "for cells in (before, after)]",
                "for cells in (before, before)]",
                CELLS,
            ),
            "runs are a cell too short": (
                "length = 1 + tf.reduce_max",
                "length = tf.reduce_max",
                CELLS,
            ),
            "points that a region does not have count": (
                'tf.where(counted, 1.0 / tf.cast(tf.maximum(counts, 1), "float32"), 0.0)',
                '1.0 / tf.cast(tf.maximum(counts, 1), "float32")',
                ALONE,
            ),
            "a cell's column is its row": (
                "place // length, place % length",
                "place % length, place // length",
                GOLDEN,
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/resizing.py",
        "tests/layers/test_resizing.py",
        {
            "rounded sizes are rounded down": (
                "xp.floor(s * scale + 0.5)",
                "xp.floor(s * scale)",
                "test_sizes",
            ),
            "pixels have weights of 1/1024": ("WEIGHT = 2048", "WEIGHT = 1024", f"{PIXELS} {MMCV}"),
            "the shares of two rows are added before they are cut": (
                "weight[:, None, None] * (line // 16) // 65536",
                "weight[:, None, None] * (line // 16) / 65536",
                MMCV,
            ),
            "the two pixels of a row have one weight": (
                'axis=-2), "int32", xp) * weight[:, None]',
                'axis=-2), "int32", xp) * 1024',
                MMCV,
            ),
            "halves are not means": (
                "xp.where(halved[0] & halved[1], mean, (blended + 2) // 4)",
                "(blended + 2) // 4",
                MMCV,
            ),
            "fractions are cut off": (
                'images if images.dtype == "uint8" else xp.round(images)',
                'images if images.dtype == "uint8" else xp.floor(images)',
                PIXELS,
            ),
            "the pipeline resizes by its own rule": (
                "    WHOLE = True",
                "    WHOLE = False",
                "test_the_pipeline_resizes_as_detection_does",
            ),
        },
    ),
}
