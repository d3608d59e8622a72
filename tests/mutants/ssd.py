"""Mutants of SSD: its constants, losses and decoding; its default boxes; its extra layers."""

from tests.mutants import mutants

MODEL = mutants(
    "kerasdet/models/ssd.py",
    "tests/models/test_ssd.py",
    {
        "boxes are matched from an IoU of 0.6 on": (
            "MATCHED_IOU = 0.5",
            "MATCHED_IOU = 0.6",
            "test_an_object_has_its_best_box_and_all_from_one_half_on",
        ),
        "two negatives for each positive": (
            "NEGATIVES = 3",
            "NEGATIVES = 2",
            "test_confidence_loss_by_hand",
        ),
        "all negatives are learnt": (
            "counted = positive | hard_negatives(losses, matches == BACKGROUND, positive, NEGATIVES)",
            "counted = positive | (matches == BACKGROUND)",
            "test_confidence_loss_by_hand test_losses_are_torchvisions",
        ),
        "crowds are negatives": (
            "matches == BACKGROUND, positive",
            "~positive, positive",
            "test_crowds_are_no_negatives",
        ),
        "the localisation loss is doubled": (
            "ALPHA = 1.0",
            "ALPHA = 2.0",
            "test_localisation_loss_by_hand test_losses_are_torchvisions",
        ),
        "the sides have the centre's weights": (
            "DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)",
            "DELTA_WEIGHTS = (10.0, 10.0, 10.0, 10.0)",
            "test_localisation_loss_by_hand test_decode_by_hand",
        ),
        "classes begin in the background's column": (
            'gather_rows(targets["labels"], matches) + 1',
            'gather_rows(targets["labels"], matches)',
            "test_losses_are_torchvisions",
        ),
        "background has the class of an object": (
            "labels = ops.where(positive, labels, BACKGROUND_COLUMN)",
            "labels = ops.where(positive, labels, labels)",
            "test_confidence_loss_by_hand",
        ),
        "default boxes without an object have a box loss": (
            "ops.sum(ops.where(positive, losses, 0.0))",
            "ops.sum(losses)",
            "test_localisation_loss_by_hand",
        ),
        "boxes are not clipped": (
            'clip_boxes(self.location.decode(deltas, defaults), outputs["image_sizes"])',
            "self.location.decode(deltas, defaults)",
            "test_decode_by_hand",
        ),
        "half the candidates are kept": (
            "suppress_each_class(boxes, scores, self.candidates)",
            "suppress_each_class(boxes, scores, self.candidates // 2)",
            "test_every_class_has_its_own_candidates",
        ),
        "predictors are 1x1": (
            "output_size=3",
            "output_size=1",
            "test_constants_are_the_papers test_parameters",
        ),
        "images are 512 pixels": (
            "SIDE = 300",
            "SIDE = 512",
            "test_constants_are_the_papers",
        ),
        "small detectors keep the narrow maps": (
            "backbone.WIDER.get(level, level)",
            "level",
            "test_small_detectors_take_wide_maps_from_stride_8_on_or_4",
        ),
        "shares of the width are of the height": (
            "np.broadcast_to(canvas[::-1],",
            "np.broadcast_to(canvas,",
            "test_default_boxes_fitted_to_the_canvas",
        ),
    },
)
BOXES = mutants(
    "kerasdet/layers/default_boxes.py",
    "tests/layers/test_default_boxes.py",
    {
        "large objects crowd on the first map": (
            "scales = [min(smallest, MOST_CELLS * strides[0])]",
            "scales = [smallest]",
            "test_fitted_boxes",
        ),
        "the first map's boxes have three cells at most": (
            "MOST_CELLS = 4.0",
            "MOST_CELLS = 3.0",
            "test_fitted_boxes",
        ),
        "default boxes may lie beside the canvas": (
            "if any((cells - CENTRE) * step >= side + step",
            "if any(False and cells",
            "tests/models/test_ssd.py::test_default_boxes_lie_on_the_canvas",
        ),
        "centres are at the corners of cells": (
            "CENTRE = 0.5",
            "CENTRE = 0.0",
            "test_boxes_of_a_cell_by_hand",
        ),
        "width and height change places": (
            "ops.stack([width, height])  # (n, 2)",
            "ops.stack([height, width])  # (n, 2)",
            "test_boxes_of_a_cell_by_hand",
        ),
        "boxes are twice as large": (
            "ops.cast(sides / 2,",
            "ops.cast(sides,",
            "test_boxes_of_a_cell_by_hand",
        ),
        "steps are not heeded": (
            "if self.steps is None:\n            # Eq",
            "if True:\n            # Eq",
            "test_steps_place_the_centres",
        ),
        "sides are never clipped": (
            'if self.clip == "sides" else sides',
            'if self.clip == "both" else sides',
            "test_clipping_of_sides_and_of_corners",
        ),
        "corners are never clipped": (
            'if self.clip == "corners":',
            'if self.clip == "both":',
            "test_clipping_of_sides_and_of_corners",
        ),
        "the last scale repeats": (
            "2 * regular[-1] - regular[-2])",
            "regular[-1])",
            "test_the_papers_scales",
        ),
        "the first map has the regular scale": (
            "return (first, *regular,",
            "return (smallest, *regular,",
            "test_the_papers_scales",
        ),
        "conv4_3 has six boxes": (
            "RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))",
            "RATIOS = ((2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))",
            "test_the_paper_has_8732_and_24564_boxes",
        ),
        "fitted boxes are smaller than three cells": (
            "scales.append(max(CELLS * stride, scales[-1] * LEAST_GROWTH))",
            "scales.append(scales[-1] * LEAST_GROWTH)",
            "test_fitted_boxes",
        ),
    },
)
EXTRAS = mutants(
    "kerasdet/layers/extra_layers.py",
    "tests/layers/test_extra_layers.py",
    {
        "the normalised map has norm 10": (
            "CONV4_3_SCALE = 20.0",
            "CONV4_3_SCALE = 10.0",
            "test_the_first_map_has_norm_20_at_each_place",
        ),
        "the last two maps of SSD300 are padded": (
            "    (128, 256, 3, 1, 0),\n    (128, 256, 3, 1, 0),\n)\nSSD512",
            "    (128, 256, 3, 1, 1),\n    (128, 256, 3, 1, 1),\n)\nSSD512",
            "test_sizes_of_the_maps",
        ),
        "the last map of SSD512 has a kernel of 3": (
            "(128, 256, 4, 1, 1)",
            "(128, 256, 3, 1, 1)",
            "test_sizes_of_the_maps",
        ),
        "padding is left out": (
            "if self.zeros else inputs)",
            "if False else inputs)",
            "test_extra_maps_come_from_the_last_map_by_hand",
        ),
        "norms do not learn": (
            "self.norm(x, training=training)",
            "self.norm(x, training=False)",
            "test_norms_of_extra_layers_follow_the_batch",
        ),
        "extra maps come from the first map": (
            "x = found[self.levels[-1]]",
            "x = found[self.levels[0]]",
            "test_separable_extra_layers",
        ),
    },
)
MUTANTS = {**MODEL, **BOXES, **EXTRAS}
