"""Mutants of matching: thresholds, ignored objects, low quality."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/ops/matching.py",
    "tests/ops/test_matching.py",
    {
        "the upper threshold itself does not match": (
            "matched = best_iou >= high",
            "matched = best_iou > high",
            "test_thresholds",
        ),
        "the lower threshold itself is background": (
            "ops.where(best_iou < low, BACKGROUND, BETWEEN)",
            "ops.where(best_iou <= low, BACKGROUND, BETWEEN)",
            "test_thresholds",
        ),
        "every object has an anchor, however far": (
            "object_best > 0.0)",
            "object_best > -1.0)",
            "test_object_that_overlaps_nothing_stays_unmatched",
        ),
        "objects never keep a weak anchor": (
            "matched = ops.logical_or(matched, ops.any(best_of_object, axis=-2))",
            "matched = ops.logical_and(matched, best_iou >= high)",
            "test_low_quality_restores_each_tied_anchor_to_its_own_best",
        ),
        "weak anchors are kept against the wish": (
            "matches = match_iou(iou, low, high, allow_low_quality)",
            "matches = match_iou(iou, low, high)",
            "test_low_quality_matches_are_a_choice",
        ),
        "ignored objects are learnt": (
            'valid_mask(targets["labels"]) & ~ignore',
            'valid_mask(targets["labels"])',
            "test_ignored_objects_are_neither_learnt_nor_background",
        ),
        "padding is learnt": (
            'valid_mask(targets["labels"]) & ~ignore',
            "~ignore",
            "test_padding_is_no_object_wherever_its_box_lies",
        ),
        "more than half must lie in an ignored object": (
            "IGNORED_SHARE = 0.5",
            "IGNORED_SHARE = 0.55",
            "test_half_of_a_box_inside_an_ignored_object_is_enough",
        ),
        "what lies in a crowd is never learnt": (
            "ops.where((matches == BACKGROUND) & no_part, BETWEEN, matches)",
            "ops.where(no_part, BETWEEN, matches)",
            "test_ignored_objects_are_neither_learnt_nor_background",
        ),
        "every object hides background": (
            "ops.any(ignore[..., None] & (inside",
            "ops.any((ignore[..., None] | True) & (inside",
            "test_half_of_a_box_inside_an_ignored_object_is_enough",
        ),
        "there is no background without objects": (
            "far = (best < lowest) & ops.any(learnt, axis=1, keepdims=True)",
            "far = best < lowest",
            "test_every_box_is_background_where_there_is_no_object_to_learn",
        ),
        "far boxes take part": (
            "no_part = no_part | far",
            "no_part = no_part | (far & False)",
            "test_boxes_far_from_every_object_take_no_part_if_asked",
        ),
    },
)
