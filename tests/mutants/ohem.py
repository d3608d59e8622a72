"""Mutants of online hard example mining, and of the choice between samplers."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/models/ohem.py",
        "tests/models/test_ohem.py",
        {
            "neighbours may overlap more": (
                "IOU_THRESHOLD = 0.7",
                "IOU_THRESHOLD = 0.75",
                "test_neighbours_are_dropped_from_an_iou_of_seven_tenths",
            ),
            "neighbours may overlap less": (
                "IOU_THRESHOLD = 0.7",
                "IOU_THRESHOLD = 0.65",
                "test_neighbours_are_dropped_from_an_iou_of_seven_tenths",
            ),
            "the threshold is not heeded": (
                "nms(regions, hardness, self.iou_threshold,",
                "nms(regions, hardness, IOU_THRESHOLD,",
                "test_neighbours_are_dropped_from_an_iou_of_seven_tenths",
            ),
            "the easiest regions are chosen": (
                "hardness = losses(regions, objects, usable)",
                "hardness = 1.0 / (1e-3 + losses(regions, objects, usable))",
                "test_the_hardest_regions_are_chosen",
            ),
            "what takes no part may be chosen": (
                "usable = matches != BETWEEN",
                "usable = matches > -9",
                "test_the_hardest_regions_are_chosen "
                "test_regions_in_ignored_objects_and_without_certainty_take_no_part",
            ),
            "the order is that of the losses alone": (
                "ops.where(objects >= 0, 0, size)",
                "ops.where(objects >= 0, 0, 0)",
                "test_the_hardest_regions_are_chosen",
            ),
            "background comes first": (
                "ops.where(objects >= 0, 0, size)",
                "ops.where(objects >= 0, size, 0)",
                "test_the_hardest_regions_are_chosen",
            ),
            "padding has an object": (
                "objects = ops.where(counted, gather_rows(objects, hardest), BACKGROUND)",
                "objects = gather_rows(objects, hardest)",
                "test_regions_in_ignored_objects_and_without_certainty_take_no_part",
            ),
            "the config is lost": (
                '{**super().get_config(), "iou_threshold": self.iou_threshold}',
                "{**super().get_config()}",
                "test_its_config_is_kept_and_checked",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/fast_rcnn.py",
        "tests/models/test_ohem.py",
        {
            "a sampler is not heeded": (
                'self.sampler = sampler or RandomRegions(name="sampler")',
                'self.sampler = RandomRegions(name="sampler")',
                "test_every_region_detector_takes_it",
            ),
            "the classes alone count": (
                "sum(found.values())",
                'found["classification_loss"]',
                "test_the_box_loss_counts",
            ),
            "Fast R-CNN samples any background": (
                "sampler or RandomRegions(BACKGROUND_IOU",
                "sampler or RandomRegions(0.0",
                "tests/models/test_fast_rcnn.py::test_the_model_asks_for_that_background",
            ),
        },
    ),
}
