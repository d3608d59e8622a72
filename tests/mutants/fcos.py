"""Mutants of FCOS: its constants, outputs, losses and scores."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/models/fcos.py",
    "tests/models/test_fcos.py",
    {
        "points begin as objects by ten percent": (
            "PRIOR = 0.01",
            "PRIOR = 0.1",
            "test_every_point_begins_as_an_object_by_one_percent",
        ),
        "last layers begin ten times as wide": (
            "OUTPUT_STD = 0.01",
            "OUTPUT_STD = 0.1",
            "test_every_point_begins_as_an_object_by_one_percent",
        ),
        "a hundred candidates of each level": (
            "CANDIDATES_PER_LEVEL = 1000",
            "CANDIDATES_PER_LEVEL = 100",
            "test_a_thousand_candidates_of_each_level",
        ),
        "suppression begins at a half": (
            "IOU_THRESHOLD = 0.6",
            "IOU_THRESHOLD = 0.5",
            "test_constants_are_the_papers",
        ),
        "centre sampling takes the next cell, too": (
            "RADIUS = 1.5",
            "RADIUS = 2.5",
            "test_options_reach_the_parts",
        ),
        "P6 is made of C5": (
            'neck or FeaturePyramid(p6_from="P5", dtype',
            'neck or FeaturePyramid(p6_from="C5", dtype',
            "test_constants_are_the_papers",
        ),
        "the towers change places": (
            "classes, boxes = self.head(",
            "boxes, classes = self.head(",
            "test_centerness_stands_on_the_tower_for_boxes",
        ),
        "centre-ness stands on the tower for classes": (
            """(self.centerness_output(x), 1)[..., 0]
                for level, x in boxes.items()""",
            """(self.centerness_output(x), 1)[..., 0]
                for level, x in classes.items()""",
            "test_centerness_stands_on_the_tower_for_boxes",
        ),
        "distances are not encoded": (
            '"distances": self.regression(sides, points)',
            '"distances": sides',
            "test_outputs_stand_in_their_places",
        ),
        "background has the class of an object": (
            'labels = ops.where(positive, gather_rows(targets["labels"], matches), -1)',
            'labels = gather_rows(targets["labels"], matches)',
            "test_losses_by_hand",
        ),
        "crowds are background": (
            "matches != BETWEEN,",
            "matches == matches,",
            "test_crowds_hide_background",
        ),
        "points without an object have a box loss": (
            "ops.sum(ops.where(positive, box_losses, 0.0))",
            "ops.sum(box_losses)",
            "test_losses_by_hand",
        ),
        "points without an object have a centre-ness": (
            "ops.sum(ops.where(positive, centerness_losses, 0.0))",
            "ops.sum(centerness_losses)",
            "test_losses_by_hand",
        ),
        "losses are divided by all points": (
            'ops.sum(ops.cast(positive, "float32"))',
            "ops.sum(ops.ones_like(class_losses))",
            "test_losses_are_divided_by_the_points_with_an_object test_losses_are_torchvisions",
        ),
        "centre-ness learns that of the predicted box": (
            "centerness(encode_distances(boxes, points))",
            "centerness(distances)",
            "test_centerness_loss_by_hand test_losses_are_torchvisions",
        ),
        "centre-ness does not count": (
            'ops.sigmoid(outputs["logits"][level]) * central',
            'ops.sigmoid(outputs["logits"][level]) + 0 * central',
            "test_decode_by_hand",
        ),
        "the power of the score is not heeded": (
            "best**self.score_power",
            "best",
            "test_decode_by_hand",
        ),
        "boxes are not clipped": (
            'self.suppress(clip_boxes(boxes, outputs["image_sizes"]), labels, scores)',
            "self.suppress(boxes, labels, scores)",
            "test_decode_by_hand",
        ),
        "the option of a box loss is not heeded": (
            "box_loss=BOX_LOSSES[box_loss](),",
            'box_loss=BOX_LOSSES["giou"](),',
            "test_options_reach_the_parts",
        ),
        "a radius of nothing is none at all": (
            "radius=radius or None",
            "radius=radius or 1.5",
            "test_options_reach_the_parts",
        ),
    },
)
