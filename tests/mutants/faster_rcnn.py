"""Mutants of Faster R-CNN: the proposal network, what it learns, and both stages together."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/models/region_proposals.py",
        "tests/models/test_faster_rcnn.py",
        {
            "an anchor is positive from an IoU of 0.5": (
                "ANCHOR_FOREGROUND_IOU = 0.7",
                "ANCHOR_FOREGROUND_IOU = 0.5",
                "test_anchors_are_positive_from_seven_tenths_and_background_below_three",
            ),
            "an anchor is background below an IoU of 0.2": (
                "ANCHOR_BACKGROUND_IOU = 0.3",
                "ANCHOR_BACKGROUND_IOU = 0.2",
                "test_anchors_are_positive_from_seven_tenths_and_background_below_three",
            ),
            "128 anchors are sampled": (
                "ANCHORS_PER_IMAGE = 256",
                "ANCHORS_PER_IMAGE = 128",
                "test_two_hundred_and_fifty_six_anchors_of_which_half_may_be_positive",
            ),
            "a quarter of the anchors may be positive": (
                "ANCHOR_POSITIVES = 0.5",
                "ANCHOR_POSITIVES = 0.25",
                "test_two_hundred_and_fifty_six_anchors_of_which_half_may_be_positive",
            ),
            "proposals may overlap more": (
                "PROPOSAL_IOU = 0.7",
                "PROPOSAL_IOU = 0.75",
                "test_proposals_are_suppressed_from_an_iou_of_seven_tenths",
            ),
            "proposals may overlap less": (
                "PROPOSAL_IOU = 0.7",
                "PROPOSAL_IOU = 0.65",
                "test_proposals_are_suppressed_from_an_iou_of_seven_tenths",
            ),
            "smooth L1's beta is 1": (
                "PROPOSAL_BETA = 1 / 9",
                "PROPOSAL_BETA = 1.0",
                "test_proposal_losses_by_hand",
            ),
            "a hundredth of a pixel is too little": (
                "SMALLEST_PROPOSAL = 1e-3",
                "SMALLEST_PROPOSAL = 1e-2",
                "test_what_clipping_leaves_must_be_a_thousandth_of_a_pixel",
            ),
            "levels suppress each other": (
                "ops.full_like(rows, number)",
                "ops.full_like(rows, 0)",
                "test_proposals_by_hand",
            ),
            "proposals are not clipped": (
                'boxes = clip(boxes, outputs["image_sizes"])',
                "boxes = boxes * 1.0",
                "test_proposals_by_hand",
            ),
            "training and test change places": (
                "values[0 if training else 1]",
                "values[1 if training else 0]",
                "test_numbers_of_candidates_and_proposals_differ_in_training",
            ),
            "proposals have a gradient": (
                "return ops.stop_gradient(proposals), is_proposal",
                "return proposals, is_proposal",
                "test_proposals_are_decoded_and_have_no_gradient",
            ),
            "a proposal needs more than no probability": (
                "rpn.score_threshold if rpn.score_threshold else -0.5",
                "rpn.score_threshold",
                "test_proposals_need_a_probability_only_where_it_is_asked_for",
            ),
            "background anchors have a box loss": (
                "(ops.sum(ops.where(positive, box_losses, 0.0)), count)",
                "(ops.sum(box_losses), count)",
                "test_proposal_losses_by_hand",
            ),
            "anchors between count": (
                "ops.where(counted, losses, 0.0)",
                "losses",
                "test_proposal_losses_by_hand",
            ),
            "the objectness begins ten times as wide": (
                "normal, policy = keras.initializers.RandomNormal(stddev=0.01)",
                "normal, policy = keras.initializers.RandomNormal(stddev=0.1)",
                "test_the_proposal_networks_layers_begin_by_a_hundredth",
            ),
            "the deltas begin ten times as wide": (
                "        normal = keras.initializers.RandomNormal(stddev=0.01)",
                "        normal = keras.initializers.RandomNormal(stddev=0.1)",
                "test_the_proposal_networks_layers_begin_by_a_hundredth",
            ),
            "the hidden map keeps what is negative": (
                'activation="relu",',
                "activation=None,",
                "test_the_proposal_network_by_hand",
            ),
            "one map has as few candidates as a pyramid's level": (
                "(12000, 6000)",
                "(2000, 1000)",
                "test_default_networks_are_those_of_the_papers",
            ),
            "one map has anchors of one size": (
                "[[128, 256, 512]]",
                "[[128]]",
                "test_default_networks_are_those_of_the_papers",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/faster_rcnn.py",
        "tests/models/test_faster_rcnn.py",
        {
            "128 regions of each image": (
                "REGIONS_PER_IMAGE = 512",
                "REGIONS_PER_IMAGE = 128",
                "test_five_hundred_and_twelve_regions_of_which_a_quarter_has_an_object",
            ),
            "the proposals are learnt always": (
                'if "proposals" in self.learns:',
                "if True:",
                "test_a_stage_learns_alone",
            ),
            "training classifies all proposals": (
                "        if training:\n            return outputs",
                "        if False:\n            return outputs",
                "test_training_stops_at_the_proposals",
            ),
            "another model's proposals are not taken": (
                "elif self.proposer:",
                "elif False:",
                "test_another_models_proposals_take_the_place_of_its_own",
            ),
            "given proposals are not taken": (
                'if isinstance(inputs, dict) and "proposals" in inputs:',
                "if False:",
                "test_given_proposals_take_the_place_of_its_own",
            ),
            "regions are pooled from the added level too": (
                "for level in self.neck.levels]",
                "for level in self.neck.output_levels]",
                "test_regions_are_pooled_from_all_maps_but_the_added_one",
            ),
            "terms that are not learnt are reported": (
                "return [m for m in super().metrics if stages.get(m.name, self.learns[0]) in self.learns]",
                "return super().metrics",
                "test_a_stage_learns_alone",
            ),
        },
    ),
}
