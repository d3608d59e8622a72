"""Mutants of candidates: the best pairs, and detections as they are laid out."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/ops/candidates.py",
    "tests/ops/test_candidates.py",
    {
        "places are chosen by their worst class": (
            "ops.max(scores, axis=-1), limit)",
            "ops.min(scores, axis=-1), limit)",
            "test_best_pairs_are_those_of_a_whole_sort",
        ),
        "places are counted among the chosen": (
            "gather_rows(places, pairs // num_classes)",
            "pairs // num_classes",
            "test_best_pairs_are_those_of_a_whole_sort",
        ),
        "a pair's class is its place's number": (
            "pairs % num_classes, scores",
            "pairs // num_classes, scores",
            "test_best_pairs_by_hand",
        ),
        "half as many pairs are kept": (
            "scores, pairs = top_rows(scores, limit)",
            "scores, pairs = top_rows(scores, (limit + 1) // 2)",
            "test_best_pairs_by_hand test_best_pairs_are_those_of_a_whole_sort",
        ),
        "classes suppress each other": (
            "batched_nms(boxes, scores, labels, ",
            "batched_nms(boxes, scores, ops.zeros_like(labels), ",
            "test_suppression_by_hand",
        ),
        "the first row counts as padding": (
            "found = kept >= 0",
            "found = kept > 0",
            "test_overlap_score_and_number_limit_what_is_kept",
        ),
        "padding has confidence 0": (
            "gather_rows(scores, kept), -1.0)",
            "gather_rows(scores, kept), 0.0)",
            "test_suppression_by_hand",
        ),
        "padding has class 0": (
            'gather_rows(ops.cast(labels, "int32"), kept), -1)',
            'gather_rows(ops.cast(labels, "int32"), kept), 0)',
            "test_suppression_by_hand",
        ),
        "boxes stay in their old order": (
            "gather_rows(boxes, kept), -1.0)",
            "boxes[:, : kept.shape[1]], -1.0)",
            "test_suppression_by_hand",
        ),
        "classes and places change places": (
            "ops.transpose(scores, (0, 2, 1))",
            "scores",
            "test_best_of_each_class_by_hand",
        ),
        "all classes have one label": (
            "labels % num_classes, best",
            "labels * 0, best",
            "test_best_of_each_class_by_hand",
        ),
    },
)
