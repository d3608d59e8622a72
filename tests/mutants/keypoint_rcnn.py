"""Mutants of Keypoint R-CNN: the one cell of each keypoint, and the softmax over all of them."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/models/keypoint_rcnn.py",
    "tests/models/test_keypoint_rcnn.py",
    {
        "four hidden convolutions": (
            "CONVS = (512,) * 8",
            "CONVS = (512,) * 4",
            "test_constants_are_the_papers test_the_branch_is_section_5s",
        ),
        "eighteen keypoints": (
            "COCO_KEYPOINTS = 17",
            "COCO_KEYPOINTS = 18",
            "test_people_have_seventeen_keypoints_by_default",
        ),
        "regions without an object are learnt from": (
            "known = known & positive[..., None]",
            "known = known & (positive[..., None] | True)",
            "test_keypoint_losses_by_hand",
        ),
        "the far edges are outside": (
            "(points <= other)",
            "(points < other)",
            "test_cells_by_hand",
        ),
        "points outside are learnt": (
            "return row * size + column, known & inside",
            "return row * size + column, known",
            "test_cells_by_hand",
        ),
        "the far edges lie in a cell of their own": (
            "ops.minimum(cells, size - 1)",
            "cells",
            "test_cells_by_hand",
        ),
        "rows and columns change places": (
            "return row * size + column",
            "return column * size + row",
            "test_cells_by_hand test_keypoint_losses_by_hand",
        ),
        "hidden keypoints are not learnt": (
            "points[..., 2] > 0",
            "points[..., 2] > 1",
            "test_cells_by_hand test_keypoint_losses_by_hand",
        ),
        "cells are rounded": (
            "cells = ops.floor(",
            "cells = ops.round(",
            "test_cells_by_hand",
        ),
        "the right cell is not raised": (
            "ops.logsumexp(flat, axis=2) - own",
            "ops.logsumexp(flat, axis=2)",
            "test_keypoint_losses_by_hand",
        ),
        "maps are repeated, not interpolated": (
            'size, "bilinear", data',
            'size, "nearest", data',
            "test_maps_are_doubled_by_bilinear_interpolation",
        ),
        "maps are not doubled": (
            "[2 * side for side",
            "[side for side",
            "test_maps_are_doubled_by_bilinear_interpolation test_the_branch_is_section_5s",
        ),
        "padding has keypoints": (
            "ops.where(found, keypoints, -1.0)",
            "keypoints",
            "test_decode_finds_a_peak_where_it_was_put",
        ),
        "names need not number the keypoints": (
            "if len(self.keypoint_names) != self.num_keypoints:",
            "if False:",
            "test_names_must_number_the_keypoints",
        ),
        "any number of keypoints is learnt": (
            "if points is None or points.shape[2] not in (None, number):",
            "if points is None:",
            "test_other_keypoints_are_an_error",
        ),
        "the option of depth gives half the convolutions": (
            "(2 * channels,) * (2 * depth)",
            "(2 * channels,) * depth",
            "tests/test_cli.py::test_train_makes_a_mask_rcnn_and_a_keypoint_rcnn",
        ),
    },
)
