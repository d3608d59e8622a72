"""Mutants of how anchors learn and predict boxes: matching, encodings, and what combines them."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/layers/location.py",
        "tests/layers/test_location.py",
        {
            "one to one is not heeded": (
                "if self.one_to_one:",
                "if False:",
                "test_argmax_differs_where_anchors_are_equally_good",
            ),
            "the lower threshold of one to one is not heeded": (
                "matching.assign_one_to_one(targets, anchors, self.high, self.low)",
                "matching.assign_one_to_one(targets, anchors, self.high)",
                "test_matching_by_hand",
            ),
            "the thresholds change places": (
                "matching.assign(targets, anchors, self.low, self.high)",
                "matching.assign(targets, anchors, self.high, self.low)",
                "test_matching_by_hand",
            ),
            "Bipartite is Box Center": (
                "return matching.assign_bipartite(targets, anchors)",
                "return matching.assign_by_centre(targets, anchors)",
                "test_matching_by_hand test_ssd_learns_and_predicts_by_it",
            ),
            "Box Center is Bipartite": (
                "return matching.assign_by_centre(targets, anchors)",
                "return matching.assign_bipartite(targets, anchors)",
                "test_matching_by_hand test_the_proposal_network_learns_and_predicts_by_it",
            ),
            "deltas have no weights": (
                "coders.encode_deltas(boxes, anchors, self.weights)",
                "coders.encode_deltas(boxes, anchors)",
                "test_encodings_by_hand",
            ),
            "deltas are decoded without weights": (
                "coders.decode_deltas(numbers, anchors, self.weights)",
                "coders.decode_deltas(numbers, anchors)",
                "test_encodings_by_hand",
            ),
            "the paper's factors are 10": (
                "weights=(10.0, 10.0, 5.0, 5.0)",
                "weights=(10.0, 10.0, 10.0, 10.0)",
                "test_encodings_by_hand",
            ),
            "corners have no unit": (
                "coders.encode_corners(boxes, anchors, self.unit)",
                "coders.encode_corners(boxes, anchors)",
                "test_encodings_by_hand test_location_losses_by_hand",
            ),
            "corners are decoded without unit": (
                "coders.decode_corners(numbers, anchors, self.unit)",
                "coders.decode_corners(numbers, anchors)",
                "test_encodings_by_hand test_ssd_learns_and_predicts_by_it",
            ),
            "roots have no unit": (
                "coders.encode_roots(boxes, anchors, self.unit)",
                "coders.encode_roots(boxes, anchors)",
                "test_encodings_by_hand",
            ),
            "roots are decoded without unit": (
                "coders.decode_roots(numbers, anchors, self.unit)",
                "coders.decode_roots(numbers, anchors)",
                "test_encodings_by_hand",
            ),
            "the default loss is L2": (
                "loss or SmoothL1()",
                "loss or SmoothL1(100.0)",
                "test_location_losses_by_hand",
            ),
            "the four losses are averaged": (
                "ops.sum(self.loss.call(",
                "ops.mean(self.loss.call(",
                "test_location_losses_by_hand",
            ),
            "a config without its parts": (
                '("matching", "encoding", "loss")}',
                '("matching", "loss")}',
                "test_detectors_learn_with_other_parts_and_are_saved",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/ssd.py",
        "tests/layers/test_location.py",
        {
            "SSD's location is its own": (
                "self.location = location or Location(",
                "self.location = Location(",
                "test_ssd_learns_and_predicts_by_it",
            ),
            "SSD matches many to one": (
                "Argmax(MATCHED_IOU, MATCHED_IOU, one_to_one=True)",
                "Argmax(MATCHED_IOU, 0.9)",
                "tests/models/test_ssd.py::test_an_object_has_its_best_box_and_all_from_one_half_on",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/region_proposals.py",
        "tests/models/test_faster_rcnn.py",
        {
            "anchors are positive from one half on": (
                "ANCHOR_FOREGROUND_IOU = 0.7",
                "ANCHOR_FOREGROUND_IOU = 0.5",
                "test_anchors_are_positive_from_seven_tenths_and_background_below_three",
            ),
            "the proposal network's location is the paper's": (
                "self.location = location or paper_location()",
                "self.location = paper_location()",
                "tests/layers/test_location.py::test_detectors_learn_with_other_parts_and_are_saved",
            ),
            "the first deltas are multiplied": (
                "AnchorDeltas((1.0, 1.0, 1.0, 1.0))",
                "AnchorDeltas()",
                "test_proposal_losses_by_hand",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/coders.py",
        "tests/ops/test_coders.py",
        {
            "corners are the anchor's less the box's": (
                '(ops.cast(boxes, "float32") - ops.cast(anchors, "float32")) / unit',
                '(ops.cast(anchors, "float32") - ops.cast(boxes, "float32")) / unit',
                "test_corners_by_hand",
            ),
            "corners may change places": (
                "ops.maximum(x0, x1), ops.maximum(y0, y1)",
                "x1, y1",
                "test_predicted_sides_are_not_negative",
            ),
            "roots are sides": (
                "ops.sqrt(side) - ops.sqrt(side_a) for",
                "side - side_a for",
                "test_square_roots_by_hand",
            ),
            "a negative root has a side": (
                "ops.maximum(t + ops.sqrt(side), 0.0) ** 2",
                "(t + ops.sqrt(side)) ** 2",
                "test_predicted_sides_are_not_negative",
            ),
            "boxes are decoded in units": (
                "cxcywh_to_xyxy(unit * ops.stack([x + x_a",
                "cxcywh_to_xyxy(ops.stack([x + x_a",
                "test_square_roots_by_hand test_other_decodings_invert_their_encodings",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/matching.py",
        "tests/ops/test_matching.py",
        {
            "a centre on the right side lies in the anchor": (
                "(centres < rows[..., 2:])",
                "(centres <= rows[..., 2:])",
                "test_an_anchor_holds_the_centre_of_its_object",
            ),
            "a centre on the left side lies beside the anchor": (
                "(rows[..., :2] <= centres)",
                "(rows[..., :2] < centres)",
                "test_an_anchor_holds_the_centre_of_its_object",
            ),
            "one coordinate of the centre is enough": (
                "inside = ops.all((rows",
                "inside = ops.any((rows",
                "test_an_anchor_holds_the_centre_of_its_object",
            ),
            "the centre is the first corner": (
                "(objects[..., None, :2] + objects[..., None, 2:]) / 2",
                "objects[..., None, :2]",
                "test_an_anchor_holds_the_centre_of_its_object",
            ),
            "of several objects the first is learnt": (
                "overlap = ops.where(inside, iou, -1.0)",
                'overlap = ops.where(inside, ops.cast(iou > 0, "float32"), -1.0)',
                "test_of_several_centres_an_anchor_has_the_object_it_overlaps_most",
            ),
            "a centre in a crowd is background": (
                'return _spared(matches, in_ignored(boxes, objects, targets["ignore"]))',
                "return matches",
                "test_centres_of_crowds_are_neither_learnt_nor_background",
            ),
            "what lies between is background for one to one": (
                "low = threshold if low is None else low",
                "low = threshold",
                "test_one_to_one_leaves_out_what_lies_between_two_thresholds",
            ),
        },
    ),
}
