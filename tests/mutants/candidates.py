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
            "_detections(kept >= 0,",
            "_detections(kept > 0,",
            "test_overlap_score_and_number_limit_what_is_kept",
        ),
        "padding has confidence 0": (
            "ops.where(found, scores, -1.0)",
            "ops.where(found, scores, 0.0)",
            "test_suppression_by_hand",
        ),
        "padding has class 0": (
            "ops.where(found, labels, -1)",
            "ops.where(found, labels, 0)",
            "test_suppression_by_hand",
        ),
        "boxes stay in their old order": (
            "picked = (gather_rows(values, kept) for",
            "picked = (values[:, : kept.shape[1]] for",
            "test_suppression_by_hand",
        ),
        "a place's class is its number": (
            "        pairs % num_classes,\n",
            "        pairs // num_classes,\n",
            "test_suppression_of_each_class_by_hand",
        ),
        "boxes are counted in pairs": (
            "gather_rows(boxes, pairs // num_classes)",
            "gather_rows(boxes, pairs)",
            "test_suppression_of_each_class_by_hand",
        ),
    },
)
MUTANTS |= mutants(
    "kerasdet/ops/nms.py",
    "tests/ops/test_candidates.py",
    {
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
MUTANTS |= mutants(
    "kerasdet/ops/native/suppression.py",
    "tests/ops/test_candidates.py",
    {
        "all places take part": (
            "tf.minimum(limit, tf.size(members))",
            "tf.size(members)",
            "test_suppression_of_each_class_by_hand",
        ),
        "classes share one suppression": (
            "images * shape[2] + labels,",
            "images,",
            "test_suppression_of_each_class_by_hand",
        ),
        "images share their slots": (
            " - tf.gather(tf.cumsum(counts, exclusive=True), images)",
            "",
            "test_both_forms_of_suppressing_each_class_agree",
        ),
        "the count is that before the limit": (
            "tf.minimum(counts, max_output_size)",
            "counts",
            "test_both_forms_of_suppressing_each_class_agree",
        ),
    },
)
