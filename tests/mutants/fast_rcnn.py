"""Mutants of Fast R-CNN: sampling of regions, multi-task loss, decoding, proposals."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/models/fast_rcnn.py",
    "tests/models/test_fast_rcnn.py",
    {
        "foreground begins at an IoU of 0.6": (
            "FOREGROUND_IOU = 0.5",
            "FOREGROUND_IOU = 0.6",
            "test_background_has_an_iou_from_a_tenth_to_a_half",
        ),
        "background needs no IoU": (
            "BACKGROUND_IOU = 0.1",
            "BACKGROUND_IOU = 0.0",
            "test_the_model_asks_for_that_background",
        ),
        "half of the regions may have an object": (
            "POSITIVES = 0.25",
            "POSITIVES = 0.5",
            "test_sixty_four_regions_of_which_a_quarter_has_an_object",
        ),
        "128 regions of each image": (
            "REGIONS_PER_IMAGE = 64",
            "REGIONS_PER_IMAGE = 128",
            "test_sixty_four_regions_of_which_a_quarter_has_an_object test_constants_are_the_papers",
        ),
        "deltas are not divided by their spreads": (
            "DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)",
            "DELTA_WEIGHTS = (1.0, 1.0, 1.0, 1.0)",
            "test_region_losses_by_hand test_decoding_refines_each_class_by_its_own_deltas",
        ),
        "classes begin ten times as narrow": (
            "CLASS_STD = 0.01",
            "CLASS_STD = 0.001",
            "test_last_layers_begin_by_the_papers_spreads",
        ),
        "boxes begin a hundred times as wide": (
            "BOX_STD = 0.001",
            "BOX_STD = 0.1",
            "test_last_layers_begin_by_the_papers_spreads",
        ),
        "a tenth of a pixel is too little": (
            "SMALLEST_DETECTION = 1e-2",
            "SMALLEST_DETECTION = 1e-1",
            "test_boxes_are_clipped_and_slivers_are_none",
        ),
        "objects do not join the proposals": (
            'valid_mask(targets["labels"])], axis=1)',
            'valid_mask(targets["labels"]) & False], axis=1)',
            "test_objects_join_the_proposals",
        ),
        "padded objects join the proposals": (
            'valid_mask(targets["labels"])], axis=1)',
            'valid_mask(targets["labels"]) | True], axis=1)',
            "test_every_region_of_an_image_without_objects_is_background",
        ),
        "rows that are no proposals are learnt from": (
            "ops.where(is_region, matches, BETWEEN)",
            "matches",
            "test_regions_are_sampled_one_to_three",
        ),
        "the least IoU is not handed on": (
            "lowest=background_iou",
            "lowest=0.0",
            "test_background_has_an_iou_from_a_tenth_to_a_half",
        ),
        "what does not count has no mark": (
            "objects = ops.where(counted, gather_rows(matches, sampled), BACKGROUND)",
            "objects = gather_rows(matches, sampled)",
            "test_background_has_an_iou_from_a_tenth_to_a_half",
        ),
        "background is the last class": (
            "softmax_cross_entropy(labels + 1, logits)",
            "softmax_cross_entropy(labels, logits)",
            "test_region_losses_by_hand",
        ),
        "padding has a class loss": (
            "ops.where(counted, losses, 0.0)",
            "losses",
            "test_region_losses_by_hand",
        ),
        "every class refines the box": (
            'predicted["box_deltas"] * own',
            'predicted["box_deltas"]',
            "test_region_losses_by_hand",
        ),
        "each class has a sigmoid": (
            'ops.softmax(outputs["class_logits"], axis=-1)',
            'ops.sigmoid(outputs["class_logits"])',
            "test_decoding_refines_each_class_by_its_own_deltas",
        ),
        "padding is detected": (
            'ops.where(outputs["is_proposal"][..., None], scores, 0.0)',
            "scores * 1.0",
            "test_decoding_refines_each_class_by_its_own_deltas",
        ),
        "detections are not clipped": (
            'clip(ops.reshape(boxes, (batch, -1, 4)), outputs["image_sizes"])',
            "ops.reshape(boxes, (batch, -1, 4))",
            "test_boxes_are_clipped_and_slivers_are_none",
        ),
        "proposals are not clipped": (
            'clip_boxes(ops.cast(inputs["proposals"], "float32"), image_sizes)',
            'ops.cast(inputs["proposals"], "float32")',
            "test_proposals_are_clipped_to_their_image",
        ),
        "a proposal may be flat": (
            "ops.all(proposals[..., 2:]",
            "ops.any(proposals[..., 2:]",
            "test_rows_without_an_area_are_no_proposals",
        ),
        "regions are pooled to 14 x 14": (
            "MultilevelRoIPool(7, dtype",
            "MultilevelRoIPool(14, dtype",
            "test_constants_are_the_papers",
        ),
        "half of the images give an object": (
            "keys[:, size:] < POSITIVES",
            "keys[:, size:] < 2 * POSITIVES",
            "test_a_quarter_of_many_images_gives_an_object",
        ),
        "every image with an object gives it": (
            "(matches >= 0) & wanted, keys[:, :size]",
            "(matches >= 0), keys[:, :size]",
            "test_one_region_of_each_image_with_an_object_or_without",
        ),
        "region-wise background needs no IoU": (
            "match_regions(targets, outputs, self.background_iou, foreground_iou)",
            "match_regions(targets, outputs, 0.0, foreground_iou)",
            "test_one_region_of_each_image_with_an_object_or_without",
        ),
        "region-wise sampling takes any number": (
            "        if count != 1:\n",
            "        if count < 1:\n",
            "test_region_wise_sampling_learns",
        ),
        "lambda is not heeded": (
            "ops.where(positive, box_weight * box_losses, 0.0)",
            "ops.where(positive, box_losses, 0.0)",
            "test_lambda_weighs_the_loss_of_boxes",
        ),
        "the model's lambda is not heeded": (
            "losses_of_regions(predicted, *rest, self.box_weight)",
            "losses_of_regions(predicted, *rest)",
            "test_models_heed_lambda test_classification_alone_then_boxes_alone",
        ),
        "all layers of the classifier learn boxes": (
            "part.trainable = part is classifier.box_output",
            "part.trainable = True",
            "test_classification_alone_then_boxes_alone",
        ),
        "the backbone learns boxes, too": (
            "layer.trainable = layer in self.classifiers",
            "layer.trainable = True",
            "test_classification_alone_then_boxes_alone",
        ),
        "boxes learnt alone are not refined": (
            "self.box_weight, self.refinements = 1.0, 1",
            "self.box_weight = 1.0",
            "test_classification_alone_then_boxes_alone",
        ),
        "every seed samples alike": (
            "random_keys, self.seed, *self",
            "random_keys, 0, *self",
            "test_sampling_follows_seed_and_image",
        ),
        "every step samples alike": (
            "self.steps.next()[1] if training else 0",
            "0",
            "tests/models/test_faster_rcnn.py::test_a_loaded_training_samples_on_and_weights_alone_hold_no_steps",
        ),
    },
)
