"""Mutants of online hard example mining, of the quotas and of the random keys."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/ops/sampling.py",
    "tests/ops/test_sampling.py",
    {
        "a crop has one side": (
            "(regions * crop**2)",
            "(regions * crop)",
            "test_region_wise_sampling_costs_twelve_times_as_much",
        ),
        "a mini-batch has one image": (
            "return images * height * width",
            "return height * width",
            "test_region_wise_sampling_costs_twelve_times_as_much",
        ),
        "examples without loss take part": (
            "score_threshold=0.0)",
            "score_threshold=None)",
            "test_no_loss_takes_no_part",
        ),
        "neighbours of harder examples stay": (
            "nms(boxes, losses, iou_threshold, size",
            "nms(boxes, losses, 1.0, size",
            "test_hardest_of_the_survivors",
        ),
        "few survivors are looked at": (
            "POOL = 4",
            "POOL = 1",
            "test_positives_have_a_quota",
        ),
        "half may be positive": (
            "batch_size // (1 + negatives_per_positive)",
            "batch_size // 2",
            "test_positives_have_a_quota",
        ),
        "the quota is missed by one": (
            "positive_rank <= quota",
            "positive_rank < quota",
            "test_positives_have_a_quota",
        ),
        "negatives are one too few": (
            "negative_rank <= allowed",
            "negative_rank < allowed",
            "test_one_to_three",
        ),
        "an image without positives has no negatives": (
            "allowed = negatives_per_positive * ops.maximum(count, 1)",
            "allowed = negatives_per_positive * count",
            "test_image_without_positives",
        ),
        "the easiest negatives are learnt": (
            "ops.argsort(ops.argsort(-hardness,",
            "ops.argsort(ops.argsort(hardness,",
            "test_hard_negatives_by_hand",
        ),
        "the hardest may be positive": (
            "return negative & (ops.cast(rank",
            "return (ops.cast(rank",
            "test_hard_negatives_by_hand",
        ),
        "an image without objects teaches no background": (
            "most = ratio * ops.maximum(count, 1)",
            "most = ratio * count",
            "test_hard_negatives_by_hand",
        ),
        "all may be positive": (
            "max(1, int(size * positive_fraction))",
            "size",
            "test_quota_takes_the_highest_keys_and_fills_up_with_negatives",
        ),
        "the lowest keys are taken": (
            "ops.where(positive, keys, -1.0), most",
            "ops.where(positive, 1.0 - keys, -1.0), most",
            "test_quota_takes_the_highest_keys_and_fills_up_with_negatives",
        ),
        "negatives come before positives": (
            "2.0 + keys",
            "keys - 0.5",
            "test_quota_takes_the_highest_keys_and_fills_up_with_negatives",
        ),
        "what is neither fills up": (
            "return indices, rank >= 0.0",
            "return indices, rank >= -1.0",
            "test_quota_takes_the_highest_keys_and_fills_up_with_negatives",
        ),
        "keys reach 2": (
            "2.0**-24",
            "2.0**-23",
            "test_random_keys_are_uniform_and_differ_by_seed_step_and_image",
        ),
        "the hash has another constant": (
            "0x7FEB352D",
            "0x7FEB352F",
            "test_random_keys_are_uniform_and_differ_by_seed_step_and_image",
        ),
        "every step draws the same": (
            '_mixed(ops.cast(step, "uint32"), ops',
            '_mixed(ops.cast(0, "uint32"), ops',
            "test_random_keys_are_uniform_and_differ_by_seed_step_and_image",
        ),
    },
)
