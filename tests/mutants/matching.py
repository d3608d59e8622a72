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
            'valid_mask(targets["labels"]) & ~targets["ignore"]',
            'valid_mask(targets["labels"])',
            "test_ignored_objects_are_neither_learnt_nor_background",
        ),
        "padding is learnt": (
            'valid_mask(targets["labels"]) & ~targets["ignore"]',
            '~targets["ignore"]',
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
        "two objects may have one box of their own": (
            "mutual = (best_box == places) & (best_object == objects) & (left > 0.0)",
            "mutual = (best_box == places) & (left > 0.0)",
            "test_one_to_one_by_hand",
        ),
        "an object has several boxes of its own": (
            "mutual = (best_box == places) & (best_object == objects) & (left > 0.0)",
            "mutual = (best_object == objects) & (left > 0.0)",
            "test_one_to_one_by_hand",
        ),
        "a taken box is taken again": (
            "taken = ops.any(mutual, axis=2, keepdims=True) | ops.any(mutual, axis=1, keepdims=True)",
            "taken = ops.any(mutual, axis=2, keepdims=True)",
            "test_one_to_one_by_hand",
        ),
        "an object's own box is lost": (
            "matches = ops.where(own >= 0, own, matches)",
            "matches = ops.where(matches >= 0, matches, own)",
            "test_an_object_keeps_its_own_box_though_another_overlaps_it_more",
        ),
    },
)
