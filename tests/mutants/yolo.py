"""Mutants of YOLO: its five terms, responsibility, boxes and scores, and the head."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/models/yolo.py",
        "tests/models/test_yolo.py",
        {
            "coordinates weigh one": (
                "COORDINATE_WEIGHT = 5.0",
                "COORDINATE_WEIGHT = 1.0",
                "test_five_terms_by_hand test_sizes_are_compared_by_their_roots",
            ),
            "background weighs one": (
                "BACKGROUND_WEIGHT = 0.5",
                "BACKGROUND_WEIGHT = 1.0",
                "test_five_terms_by_hand",
            ),
            "the first box is responsible": (
                "best = ops.argmax(ops.where(overlaps, iou, -distance), axis=-1)",
                "best = ops.argmax(ops.zeros_like(iou), axis=-1)",
                "test_five_terms_by_hand test_without_overlap_the_nearest_box_is_responsible",
            ),
            "without overlap the farthest box is responsible": (
                "iou, -distance)",
                "iou, distance)",
                "test_without_overlap_the_nearest_box_is_responsible",
            ),
            "all boxes of a cell are responsible": (
                'outputs["locations"]) & present[..., None]',
                'outputs["locations"]) | present[..., None]',
                "test_five_terms_by_hand",
            ),
            "confidence is taught 1": (
                "object_errors = (iou - outputs",
                "object_errors = (1.0 - outputs",
                "test_five_terms_by_hand",
            ),
            "sizes are compared without their roots": (
                "ops.sqrt(cxcywh[..., 2:] / canvas)",
                "cxcywh[..., 2:] / canvas",
                "test_sizes_are_compared_by_their_roots test_boxes_by_hand",
            ),
            "sizes are predicted without their roots": (
                "sizes = locations[..., 2:] ** 2 * canvas",
                "sizes = locations[..., 2:] * canvas",
                "test_boxes_by_hand test_scores_by_hand",
            ),
            "classes are taught in every cell": (
                "ops.where(present[..., None], class_errors, 0.0)",
                "class_errors",
                "test_five_terms_by_hand",
            ),
            "a cell learns its smallest object": (
                'ops.where(learnt, box_area(targets["boxes"]), 0.0)',
                'ops.where(learnt, 1 / box_area(targets["boxes"]), 0.0)',
                "test_a_cell_learns_its_largest_object",
            ),
            "crowds are background": (
                "~responsible & ~self.is_ignored(boxes, targets)",
                "~responsible",
                "test_crowds_are_learnt_neither_as_objects_nor_as_background",
            ),
            "scores are the classes' alone": (
                '* outputs["confidence"][..., None]',
                '* ops.ones_like(outputs["confidence"][..., None])',
                "test_scores_by_hand",
            ),
            "cells are counted by columns": (
                "[places % self.grid, places // self.grid]",
                "[places // self.grid, places % self.grid]",
                "test_boxes_by_hand",
            ),
            "confidences come before classes": (
                "numbers[:, :first], (-1, cells, classes)",
                "numbers[:, second - first : second], (-1, cells, classes)",
                "test_98_boxes_and_their_layout",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/grid_head.py",
        "tests/models/test_yolo.py",
        {
            "kernels of the local layer are turned": (
                "padded[:, y : y + height, x : x + width]",
                "padded[:, x : x + height, y : y + width]",
                "test_locally_connected_layer_by_hand",
            ),
            "dropout is always on": (
                "self.drop(x, training=training)",
                "self.drop(x, training=True)",
                "test_dropout_and_norms_act_in_training_alone",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/conv.py",
        "tests/layers/test_conv.py",
        {
            "the leak is two tenths": (
                "LEAK = 0.1",
                "LEAK = 0.2",
                "test_leaky_by_hand",
            ),
        },
    ),
}
