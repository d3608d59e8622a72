"""Mutants of RetinaNet: its constants, matching, losses and candidates."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/models/retinanet.py",
    "tests/models/test_retinanet.py",
    {
        "foreground begins at an IoU of 0.6": (
            "FOREGROUND_IOU = 0.5",
            "FOREGROUND_IOU = 0.6",
            "test_anchors_are_foreground_from_a_half_and_background_below_two_fifths",
        ),
        "background ends at an IoU of 0.3": (
            "BACKGROUND_IOU = 0.4",
            "BACKGROUND_IOU = 0.3",
            "test_anchors_are_foreground_from_a_half_and_background_below_two_fifths",
        ),
        "anchors begin as objects by ten percent": (
            "PRIOR = 0.01",
            "PRIOR = 0.1",
            "test_every_anchor_begins_as_an_object_by_one_percent",
        ),
        "last layers begin ten times as wide": (
            "OUTPUT_STD = 0.01",
            "OUTPUT_STD = 0.1",
            "test_every_anchor_begins_as_an_object_by_one_percent",
        ),
        "a hundred candidates of each level": (
            "CANDIDATES_PER_LEVEL = 1000",
            "CANDIDATES_PER_LEVEL = 100",
            "test_a_thousand_candidates_of_each_level",
        ),
        "smooth L1's beta is 1": (
            "SMOOTH_L1_BETA = 1 / 9",
            "SMOOTH_L1_BETA = 1.0",
            "test_losses_by_hand",
        ),
        "anchors between the thresholds are background": (
            "matches != BETWEEN,",
            "matches == matches,",
            "test_anchors_are_foreground_from_a_half_and_background_below_two_fifths",
        ),
        "background has the class of an object": (
            'labels = ops.where(positive, gather_rows(targets["labels"], matches), -1)',
            'labels = gather_rows(targets["labels"], matches)',
            "test_losses_by_hand",
        ),
        "anchors without an object have a box loss": (
            "ops.where(positive, self.box_loss.of_deltas(boxes, deltas, anchors), 0.0)",
            "self.box_loss.of_deltas(boxes, deltas, anchors)",
            "test_losses_by_hand",
        ),
        "the box loss is divided by all anchors": (
            "(ops.sum(box_losses), num_positive)",
            "(ops.sum(box_losses), ops.sum(ops.ones_like(box_losses)))",
            "test_losses_by_hand",
        ),
        "boxes are not clipped": (
            'self.suppress(clip_boxes(boxes, outputs["image_sizes"]), labels, scores)',
            "self.suppress(boxes, labels, scores)",
            "test_decode_by_hand",
        ),
        "anchors are not moved by their deltas": (
            "decode_deltas(deltas, ops.take(anchors, rows, axis=0))",
            "ops.take(anchors, rows, axis=0)",
            "test_decode_by_hand",
        ),
        "logits are taken for confidences": (
            "scores.append(ops.sigmoid(logits))",
            "scores.append(logits)",
            "test_decode_by_hand",
        ),
        "the towers change places": (
            "classes, boxes = self.head(",
            "boxes, classes = self.head(",
            "test_each_tower_has_the_output_of_its_own",
        ),
        "the option of a box loss is not heeded": (
            "box_loss=BOX_LOSSES[box_loss](),",
            'box_loss=BOX_LOSSES["smooth_l1"](),',
            "test_options_reach_the_parts test_giou_box_loss_by_hand",
        ),
    },
)
