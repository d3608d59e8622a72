"""Mutants of YOLOv2: its loss, assignment and scores, direct locations, cells, clusters and head."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/models/yolo_v2.py",
        "tests/models/test_yolo_v2.py",
        {
            "objects weigh as much as background": (
                "OBJECT_SCALE = 5.0",
                "OBJECT_SCALE = 1.0",
                "test_losses_by_hand",
            ),
            "background ends at an IoU of a half": (
                "NO_OBJECT_IOU = 0.6",
                "NO_OBJECT_IOU = 0.5",
                "test_boxes_that_overlap_by_more_than_six_tenths_are_no_background",
            ),
            "objectness is taught 1 instead of the IoU": (
                "ops.stop_gradient(paired_iou(own, boxes))",
                "ops.ones_like(paired_iou(own, boxes))",
                "test_losses_by_hand",
            ),
            "the IoU's gradient moves the box": (
                "ops.stop_gradient(paired_iou(own, boxes))",
                "paired_iou(own, boxes)",
                "test_gradients_of_the_target_do_not_reach_the_box",
            ),
            "small objects weigh less": (
                "(2.0 - ops.minimum(box_area(own) / canvas, 1.0))",
                "(1.0 + ops.minimum(box_area(own) / canvas, 1.0))",
                "test_losses_by_hand",
            ),
            "an object larger than the canvas has a negative weight": (
                "(2.0 - ops.minimum(box_area(own) / canvas, 1.0))",
                "(2.0 - box_area(own) / canvas)",
                "test_an_object_larger_than_the_canvas_has_the_least_weight",
            ),
            "centres are compared without the sigmoid": (
                "ops.concatenate([ops.sigmoid(t[..., :2]), t[..., 2:]], axis=-1)",
                "t",
                "test_losses_by_hand",
            ),
            "an object's anchor is background too": (
                "<= NO_OBJECT_IOU) & ~positive",
                "<= NO_OBJECT_IOU)",
                "test_losses_by_hand",
            ),
            "crowds are background": (
                'background = background & ~in_ignored(boxes, objects, targets["ignore"])',
                "background = background & True",
                "test_crowds_are_learnt_neither_as_objects_nor_as_background",
            ),
            "crowds are objects": (
                'valid_mask(targets["labels"]) & ~targets["ignore"]',
                'valid_mask(targets["labels"])',
                "test_crowds_are_learnt_neither_as_objects_nor_as_background",
            ),
            "the anchor of the worst shape learns": (
                "ops.argmax(shape_iou, axis=-1)",
                "ops.argmin(shape_iou, axis=-1)",
                "test_losses_by_hand test_the_shape_chooses_the_anchor_and_the_best_shape_wins_it",
            ),
            "rows are anchors, then cells": (
                "cells * len(self.anchors) + best",
                "cells + best",
                "test_losses_by_hand",
            ),
            "scores are the classes' alone": (
                "scores = confidence * self.class_probabilities(",
                "scores = 1.0 * self.class_probabilities(",
                "test_scores_and_boxes_by_hand",
            ),
            "scores are sigmoids": (
                'self.class_probabilities(outputs["logits"])',
                'ops.sigmoid(outputs["logits"])',
                "test_scores_and_boxes_by_hand",
            ),
            "a hundred candidates": (
                "CANDIDATES = 1000",
                "CANDIDATES = 100",
                "test_constants_are_the_authors",
            ),
            "every box begins as an object by ten percent": (
                "PRIOR = 0.01",
                "PRIOR = 0.1",
                "test_boxes_begin_at_their_anchors",
            ),
            "anchors lie at the cells' corners": (
                "offset=0.5),",
                "offset=0.0),",
                "test_rows_are_cells_and_anchors",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/coders.py",
        "tests/models/test_yolo_v2.py",
        {
            "a centre may leave its cell": (
                "ops.sigmoid(t_x) * stride + c_x",
                "t_x * stride + c_x",
                "test_direct_locations_by_hand",
            ),
            "cells begin at their middle": (
                "c_x, c_y = x_a - stride / 2, y_a - stride / 2",
                "c_x, c_y = x_a, y_a",
                "test_direct_locations_by_hand",
            ),
            "a wild width is infinite": (
                "b_w = p_w * ops.exp(ops.minimum(t_w, MAX_LOG_SCALE))",
                "b_w = p_w * ops.exp(t_w)",
                "test_direct_locations_by_hand",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/cells.py",
        "tests/ops/test_cells.py",
        {
            "cells are counted by columns": (
                "row * width + column",
                "column * height + row",
                "test_cells_of_centres_by_hand",
            ),
            "centres are rounded": (
                "ops.floor(x * width",
                "ops.round(x * width",
                "test_cells_of_centres_by_hand",
            ),
            "the lowest priority wins": (
                "ops.argmax(rank, axis=1)",
                "ops.argmin(rank, axis=1)",
                "test_owners_by_hand",
            ),
            "objects that are not learnt own places": (
                "ops.max(rank, axis=1) > 0",
                "ops.max(rank, axis=1) >= 0",
                "test_owners_by_hand",
            ),
            "Darknet's order is that of columns": (
                "ops.transpose(x, (0, 3, 5, 1, 2, 4))",
                "ops.transpose(x, (0, 5, 3, 1, 2, 4))",
                "test_darknets_own_order",
            ),
            "blocks are read by columns": (
                "x = ops.transpose(x, (0, 2, 1, 3))",
                "x = ops.transpose(x, (0, 2, 3, 1))",
                "test_adjacent_cells_become_channels",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/clusters.py",
        "tests/ops/test_cells.py",
        {
            "a cell may be as long as a small object": (
                "CELLS = 2",
                "CELLS = 1",
                "test_strides_by_hand test_pyramid_strides_by_hand",
            ),
            "the finest map takes objects of sixteen cells": (
                "FINEST_CELLS = 8",
                "FINEST_CELLS = 16",
                "tests/layers/test_anchors.py::test_small_objects_are_found_on_the_finest_map "
                "tests/layers/test_points.py::test_large_objects_do_not_crowd_on_the_finest_level",
            ),
            "the finest map takes objects of four cells": (
                "FINEST_CELLS = 8",
                "FINEST_CELLS = 4",
                "tests/layers/test_points.py::test_large_objects_do_not_crowd_on_the_finest_level",
            ),
            "small objects are the tenth percentile": (
                "[5, 95])",
                "[10, 95])",
                "test_strides_by_hand",
            ),
            "the finer pyramid ends with P5 for all objects": (
                "PAPER_STRIDES if largest > COARSE else PAPER_STRIDES[:3]",
                "PAPER_STRIDES[:3]",
                "test_pyramid_strides_by_hand",
            ),
            "objects count as large from 128 pixels": (
                "COARSE = 256",
                "COARSE = 128",
                "test_pyramid_strides_by_hand",
            ),
            "clusters are the farthest": (
                "np.argmin(1 - shape_iou(",
                "np.argmax(1 - shape_iou(",
                "test_clusters_by_hand",
            ),
            "sizes without an area count": (
                "return sizes[(sizes > 0).all(axis=1)]",
                "return sizes",
                "test_clusters_do_not_depend_on_the_seed_where_shapes_are_apart_and_leave_out_no_sizes",
            ),
            "equal objects have several sizes": (
                ".round(3)",
                ".round(16)",
                "test_equal_objects_of_scaled_images_have_one_size",
            ),
            "the largest anchor comes first": (
                "np.argsort(centroids.prod(axis=1)",
                "np.argsort(-centroids.prod(axis=1)",
                "test_clusters_by_hand",
            ),
            "the mean IoU is with the farthest anchor": (
                "centroids).max(axis=1).mean()",
                "centroids).min(axis=1).mean()",
                "test_clusters_by_hand",
            ),
            "the union counts the overlap twice": (
                "np.maximum(areas - overlap, 1e-12)",
                "np.maximum(areas, 1e-12)",
                "test_iou_of_shapes_by_hand",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/passthrough.py",
        "tests/layers/test_passthrough.py",
        {
            "the coarse map comes first": (
                "ops.concatenate([fine, x], axis=-1)",
                "ops.concatenate([x, fine], axis=-1)",
                "test_the_finer_map_joins_before_the_last_convolution",
            ),
            "norms of the finer map do not learn": (
                "self.fine_conv(fine, training=training)",
                "self.fine_conv(fine, training=False)",
                "test_norms_learn_in_training",
            ),
        },
    ),
    **mutants(
        "zoo/origins/darknet.py",
        "tests/zoo/test_darknet.py",
        {
            "anchors stay in cells": (
                ".reshape(-1, 2) * 2**stage",
                ".reshape(-1, 2) * 1",
                "test_darknets_and_opencvs_numbers",
            ),
            "scales come before biases": (
                "yield layer.norm.beta, bias\n        yield layer.norm.gamma, scales",
                "yield layer.norm.beta, scales\n        yield layer.norm.gamma, bias",
                "test_darknets_and_opencvs_numbers",
            ),
            "kernels are turned": (
                "arrays.pop(0).transpose(2, 3, 1, 0)",
                "arrays.pop(0).transpose(3, 2, 1, 0)",
                "test_darknets_and_opencvs_numbers",
            ),
            "maps are flattened by rows": (
                "yield layer.kernel, kernel.transpose(2, 3, 1, 0).reshape(",
                "yield layer.kernel, kernel.transpose(1, 2, 3, 0).reshape(",
                "test_darknets_and_opencvs_numbers",
            ),
            "Darknet's epsilon is forgotten": (
                "+ NORM_EPSILON) ** 2",
                "+ 0.0) ** 2",
                "test_variance_is_divided_as_darknet_does",
            ),
            "Darknet's order of channels is forgotten": (
                '"darknet" if fine else "adjacent"',
                '"adjacent"',
                "test_darknets_and_opencvs_numbers",
            ),
        },
    ),
    **mutants(
        "zoo/checkpoints/darknet_weights.py",
        "tests/zoo/test_darknet.py",
        {
            "bytes may be left over": (
                "if end < source.size:",
                "if end < 0:",
                "test_weights_that_do_not_fit_are_one_clear_error",
            ),
            "headers always have twenty bytes": (
                "return 20 if major * 10 + minor >= 2 else 16",
                "return 20",
                "test_darknets_and_opencvs_numbers",
            ),
        },
    ),
}
