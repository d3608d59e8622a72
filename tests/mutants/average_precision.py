"""Mutants of PASCAL VOC's rule: hits, curves, the two areas."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/metrics/voc.py",
    "tests/metrics/test_voc_ap.py",
    {
        "precision counts the objects": (
            "found / np.arange(1, len(found) + 1), found",
            "found / max(1, num_objects), found",
            "test_survey_row_by_row",
        ),
        "recall counts the detections": (
            "+ 1), found / max(1, num_objects)",
            "+ 1), found / max(1, len(found))",
            "test_survey_row_by_row",
        ),
        "the worst detections come first": (
            'np.argsort(-np.asarray(scores, "float64"), kind="stable")',
            'np.argsort(np.asarray(scores, "float64"), kind="stable")',
            "test_survey_row_by_row",
        ),
        "precision is not interpolated": (
            "np.maximum.accumulate(precision[::-1])[::-1]",
            "precision",
            "test_survey_average_precision",
        ),
        "precision is interpolated from below": (
            "np.maximum.accumulate(precision[::-1])[::-1]",
            "np.maximum.accumulate(precision)",
            "test_survey_average_precision",
        ),
        "recall levels are those of linspace": (
            "np.arange(11) / 10",
            "np.linspace(0, 1, 11)",
            "test_recalls_that_are_no_binary_fractions_are_reached",
        ),
        "a recall must exceed its level": (
            'side="left"',
            'side="right"',
            "test_recalls_that_are_no_binary_fractions_are_reached",
        ),
        "the mean has ten points": (
            "[first]) / 11)",
            "[first]) / 10)",
            "test_survey_average_precision",
        ),
        "the first step has no area": (
            "np.diff(recall, prepend=0.0)",
            "np.diff(recall, prepend=recall[0])",
            "test_survey_average_precision",
        ),
        "an object is found twice": (
            "hits.append(near and not taken[best])",
            "hits.append(near)",
            "test_voc_rule",
        ),
        "a detection takes a free object": (
            "int(np.argmax(iou[i]))",
            "int(np.argmax(iou[i] * ~taken))",
            "test_a_detection_takes_its_nearest_object_even_if_that_is_taken",
        ),
        "difficult objects are to be found": (
            "np.count_nonzero(~ignored)",
            "len(ignored)",
            "test_voc_rule",
        ),
        "a detection of a difficult object is false": (
            "if near and ignored[best]:",
            "if False:",
            "test_voc_rule",
        ),
        "the least IoU is 0.4": (
            "def precision_recall_curves(records, detections, class_names, iou_threshold=0.5)",
            "def precision_recall_curves(records, detections, class_names, iou_threshold=0.4)",
            "test_voc_rule",
        ),
    },
)
