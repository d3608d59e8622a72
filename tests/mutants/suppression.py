"""Mutants of non-maximum suppression, greedy and soft, in the portable form."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/ops/nms.py",
    "tests/ops/test_nms.py",
    {
        "the Gaussian penalty is not squared": (
            "iou * iou * (-1.0 / sigma)",
            "iou * (-1.0 / sigma)",
            "test_soft_nms",
        ),
        "the Gaussian penalty multiplies by sigma": (
            "(-1.0 / sigma)",
            "(-1.0 * sigma)",
            "test_soft_nms",
        ),
        "sigma is 1": (
            "sigma=0.5",
            "sigma=1.0",
            "test_soft_nms",
        ),
        "the linear penalty leaves the overlap": (
            "remaining * (1.0 - iou), remaining)",
            "remaining * iou, remaining)",
            "test_soft_nms",
        ),
        "the linear penalty begins above its threshold": (
            "iou >= iou_threshold",
            "iou > iou_threshold",
            "test_linear_penalty_begins_at_its_threshold",
        ),
        "soft NMS keeps the lowest scores": (
            "score_threshold=0.001)",
            "score_threshold=0.0001)",
            "test_soft_nms_drops_scores_of_a_thousandth",
        ),
        "lowered scores are not compared": (
            "ops.where(lowered > score_threshold, lowered, NEVER)",
            "lowered",
            "test_soft_nms",
        ),
        "an IoU equal to the threshold is dropped": (
            "[:, 0] > iou_threshold",
            "[:, 0] >= iou_threshold",
            "test_iou_equal_to_the_threshold_is_kept",
        ),
        "other classes are suppressed": (
            "labels == _pick(",
            "labels != _pick(",
            "test_classes_do_not_touch_at_any_size",
        ),
        "a score equal to the threshold is kept": (
            "scores > score_threshold)",
            "scores >= score_threshold)",
            "test_nms_by_hand",
        ),
        "equal scores go by the last index": (
            "ops.min(ops.where(is_best, places, LAST), axis=-1)",
            "ops.max(ops.where(is_best, places, -1), axis=-1)",
            "test_equal_scores_go_by_index",
        ),
        "a box that is not finite is chosen": (
            "valid = ops.logical_and(ops.abs(scores) <= LARGEST, finite)",
            "valid = ops.abs(scores) <= LARGEST",
            "test_against_a_slow_loop",
        ),
        "a score that is not finite is chosen": (
            "valid = ops.logical_and(ops.abs(scores) <= LARGEST, finite)",
            "valid = finite",
            "test_against_a_slow_loop",
        ),
        "the best box is taken again": (
            "remaining = ops.where(places == best_index[:, None], NEVER, remaining)",
            "remaining = ops.where(places < 0, NEVER, remaining)",
            "test_soft_nms",
        ),
    },
)
