"""Mutants of Mask R-CNN: the mask of the true class, and regions that have an object."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/models/mask_rcnn.py",
    "tests/models/test_mask_rcnn.py",
    {
        "regions are pooled to 7 x 7": (
            "REGION_SIZE = 14",
            "REGION_SIZE = 7",
            "test_constants_are_the_papers",
        ),
        "the last layer begins a hundred times as wide": (
            "OUTPUT_STD = 0.001",
            "OUTPUT_STD = 0.1",
            "test_the_last_layer_begins_near_nothing",
        ),
        "an object without a mask teaches emptiness": (
            "valid_mask(labels) & ops.any(masks > 0.0, axis=(2, 3))",
            "valid_mask(labels)",
            "test_an_object_without_a_mask_teaches_none",
        ),
        "background has a mask loss": (
            "valid_mask(labels) & ops.any(masks > 0.0, axis=(2, 3))",
            "ops.any(masks > 0.0, axis=(2, 3))",
            "test_mask_losses_by_hand_and_of_the_true_class_alone",
        ),
        "large masks weigh more": (
            "losses = ops.mean(ops.softplus",
            "losses = ops.sum(ops.softplus",
            "test_mask_losses_by_hand_and_of_the_true_class_alone",
        ),
        "every cell is to be filled": (
            "- masks * own, axis",
            "- own, axis",
            "test_mask_losses_by_hand_and_of_the_true_class_alone",
        ),
        "all classes share the loss": (
            "return ops.sum(logits * own[:, :, None, None], axis=-1)",
            "return ops.sum(logits, axis=-1)",
            "test_own_class_by_hand test_mask_losses_by_hand_and_of_the_true_class_alone",
        ),
        "logits are taken for probabilities": (
            'ops.sigmoid(own_class(logits, detections["labels"]))',
            'own_class(logits, detections["labels"])',
            "test_decode_takes_each_detections_own_mask",
        ),
        "padding has a mask": (
            "ops.where(found, masks, -1.0)",
            "masks",
            "test_decode_takes_each_detections_own_mask",
        ),
        "all sampled regions are drawn": (
            "max(1, int(count * POSITIVES))",
            "max(1, count)",
            "test_regions_without_an_object_are_left_out",
        ),
        "regions without an object are packed first": (
            "ops.argsort(ops.where(positive, 0, 1))",
            "ops.argsort(ops.where(positive, 1, 0))",
            "test_regions_without_an_object_are_left_out",
        ),
        "rows are counted one by one": (
            "STEP = 8",
            "STEP = 1",
            "test_regions_without_an_object_are_left_out",
        ),
        "padding is packed as the last row": (
            "ops.maximum(rows, 0), axis=0)",
            "rows % (shape[0] * shape[1]), axis=0)",
            "test_rows_of_all_images_are_packed",
        ),
        "padded rows are learnt from": (
            "ops.where(rows >= 0, labels, -1)",
            "labels",
            "test_the_branch_learns_the_same_from_packed_regions",
        ),
        "targets without masks are let through": (
            'if "masks" not in targets:',
            "if False:",
            "test_targets_without_masks_are_an_error",
        ),
        "a shared head is pooled for anew": (
            "return model.head.maps(pack_rows(model.pooling(maps, boxes), rows), training)",
            "return pack_rows(model.pooling(maps, boxes), rows)",
            "test_the_branch_shares_the_fifth_stage",
        ),
    },
)
