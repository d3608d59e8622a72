"""Mutants of Cascade R-CNN: what each stage sees and learns, and the cascade at test."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/models/cascade_rcnn.py",
        "tests/models/test_cascade_rcnn.py",
        {
            "the IoU does not rise": (
                "IOUS = (0.5, 0.6, 0.7)",
                "IOUS = (0.5, 0.5, 0.5)",
                "test_constants_are_the_papers "
                "test_stages_learn_by_rising_ious_on_each_others_boxes",
            ),
            "all stages count alike": (
                "LOSS_WEIGHTS = (1.0, 0.5, 0.25)",
                "LOSS_WEIGHTS = (1.0, 1.0, 1.0)",
                "test_constants_are_the_papers test_later_stages_count_less",
            ),
            "deltas have one spread": (
                "(20.0, 20.0, 10.0, 10.0)",
                "(10.0, 10.0, 5.0, 5.0)",
                "test_constants_are_the_papers",
            ),
            "every stage samples by one half": (
                "count, keys, losses, iou)",
                "count, keys, losses, 0.5)",
                "test_stages_learn_by_rising_ious_on_each_others_boxes",
            ),
            "the weight of a stage is not heeded": (
                "weight * loss, size",
                "loss, size",
                "test_later_stages_count_less",
            ),
            "later losses have the first stage's spread": (
                "region_losses(predicted, targets, *sampled, each)",
                "region_losses(predicted, targets, *sampled)",
                "test_stages_do_not_share_their_spread",
            ),
            "samplers see losses of one spread": (
                "losses_of(classify, targets, each)",
                "losses_of(classify, targets)",
                "test_samplers_see_the_losses_of_their_stage",
            ),
            "every stage sees the proposals": (
                'return {**outputs, "proposals": boxes, "is_proposal": goes_on}',
                "return outputs",
                "test_stages_learn_by_rising_ious_on_each_others_boxes",
            ),
            "objects go on": (
                "counted & has_area & ~(own & (objects >= 0))",
                "counted & has_area",
                "test_what_goes_on_to_the_next_stage",
            ),
            "background on an object does not go on": (
                "~(own & (objects >= 0))",
                "~own",
                "test_background_beside_the_first_object_goes_on",
            ),
            "padding goes on": (
                "counted & has_area & ~",
                "has_area & ~",
                "test_padding_does_not_go_on",
            ),
            "boxes without an area go on": (
                "counted & has_area & ~",
                "counted & ~",
                "test_what_goes_on_to_the_next_stage",
            ),
            "at test every stage sees the proposals": (
                "proposals = refine_regions(proposals, deltas, sizes, weights, self.clip)",
                "refine_regions(proposals, deltas, sizes, weights, self.clip)",
                "test_every_stage_moves_the_boxes_of_the_one_before",
            ),
            "boxes are moved by the spread of their own stage": (
                "self.delta_weights[number - 1]",
                "self.delta_weights[number]",
                "test_every_stage_moves_the_boxes_of_the_one_before",
            ),
            "the last stage's classes alone count": (
                "mean = sum(logits) / len(logits)",
                "mean = logits[-1]",
                "test_every_stage_moves_the_boxes_of_the_one_before",
            ),
            "the last boxes have the first spread": (
                "decode_regions(outputs, self.delta_weights[-1], self.clip)",
                "decode_regions(outputs, clip=self.clip)",
                "test_every_stage_moves_the_boxes_of_the_one_before",
            ),
            "copies of a trained head are not trained": (
                "trained = self.head.built",
                "trained = False",
                "test_copies_of_a_trained_head_are_trained",
            ),
            "every class has its box": (
                "box_of_each_class=False",
                "box_of_each_class=True",
                "test_constants_are_the_papers",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/fast_rcnn.py",
        "tests/models/test_cascade_rcnn.py",
        {
            "boxes between stages are not clipped": (
                "return ops.stop_gradient(clip(boxes, image_sizes))",
                "return ops.stop_gradient(boxes)",
                "test_boxes_between_stages_are_clipped_and_have_no_gradient",
            ),
            "boxes between stages have a gradient": (
                "return ops.stop_gradient(clip(boxes, image_sizes))",
                "return clip(boxes, image_sizes)",
                "test_boxes_between_stages_are_clipped_and_have_no_gradient",
            ),
            "boxes are refined once too often": (
                "range(self.refinements - 1)",
                "range(self.refinements)",
                "test_the_same_head_refines_boxes_several_times "
                "test_one_box_of_all_classes_is_refined_several_times",
            ),
            "every refinement begins at the proposals": (
                "proposals = refine_regions(proposals, deltas, sizes, clip=self.clip)",
                'proposals = refine_regions(outputs["proposals"], deltas, sizes, clip=self.clip)',
                "test_the_same_head_refines_boxes_several_times",
            ),
            "regions are not classified where they lie at last": (
                """            predicted = self.classifier(maps, proposals)
        if""",
                """            proposals = proposals * 1.0
        if""",
                "test_the_same_head_refines_boxes_several_times",
            ),
            "the first boxes are given out": (
                'return {**predicted, "proposals": proposals}',
                'return {**predicted, "proposals": outputs["proposals"]}',
                "test_the_same_head_refines_boxes_several_times",
            ),
            "background may be the best class": (
                'ops.argmax(predicted["class_logits"][..., 1:], axis=-1)',
                'ops.argmax(predicted["class_logits"], axis=-1)',
                "test_best_deltas_are_those_of_the_best_class_but_background",
            ),
            "no refinement is one": (
                "if self.refinements == 0:",
                "if self.refinements < 0:",
                "test_without_refinement_the_boxes_are_the_proposals",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/mask_rcnn.py",
        "tests/models/test_cascade_rcnn.py",
        {
            "the mean of masks is that of their logits": (
                "sum(map(ops.sigmoid, logits)) / len(logits)",
                "ops.sigmoid(sum(logits) / len(logits))",
                "test_masks_are_the_mean_of_all_stages",
            ),
        },
    ),
}
