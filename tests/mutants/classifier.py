"""Mutants of the training of classifiers, and of its data."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/data/class_images.py",
        "tests/test_classifier.py",
        {
            "crops have the image's ratio": (
                "ratio = math.exp(rng.uniform(*map(math.log, RATIOS)))",
                "ratio = 1.0",
                "test_a_crop_is_a_rectangle_of_the_image",
            ),
            "ratios are height to width": (
                "round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))",
                "round(math.sqrt(area * ratio)), round(math.sqrt(area * ratio))",
                "test_a_crop_is_a_rectangle_of_the_image",
            ),
            "the least area is the most": (
                "rng.uniform(least_area, AREAS[1])",
                "rng.uniform(least_area, least_area)",
                "test_a_crop_is_a_rectangle_of_the_image",
            ),
            "every crop is mirrored": (
                "cut[:, ::-1] if flip and rng.random() < 0.5 else cut",
                "cut[:, ::-1]",
                "test_a_crop_is_a_rectangle_of_the_image",
            ),
            "the centre is the corner": (
                "x, y = (width - side) / 2, (height - side) / 2",
                "x, y = 0, 0",
                "test_the_centre_by_hand",
            ),
            "every epoch has the same order": (
                "self.epoch += 1\n        self._order = self._drawn_order()",
                "pass",
                "test_batches_have_every_image_once_in_another_order_each_epoch",
            ),
            "an incomplete batch is trained on": (
                "return max(1, whole) if self.augment else whole + (rest > 0)",
                "return whole + (rest > 0)",
                "test_batches_have_every_image_once_in_another_order_each_epoch",
            ),
            "one class is enough": (
                "if len(folders) < 2:",
                "if len(folders) < 1:",
                "test_bad_folders_are_named",
            ),
            "an empty class is passed over": (
                "if not found:",
                "if False:",
                "test_bad_folders_are_named",
            ),
        },
    ),
    **mutants(
        "kerasdet/training/classifier.py",
        "tests/test_classifier.py",
        {
            "logits are taken as probabilities": (
                "SparseCategoricalCrossentropy(from_logits=True)",
                "SparseCategoricalCrossentropy(from_logits=False)",
                "test_a_tiny_backbone_learns_digits",
            ),
            "a tie is a hit": ("logits >= np.take", "logits > np.take", "test_top_five_by_hand"),
            "a resumed run begins with the first epoch's crops": (
                "augment, recipe.seed, len(folder.rows))",
                "augment, recipe.seed)",
                "test_resuming_is_as_if_it_had_never_stopped",
            ),
            "the classes' order is not compared": (
                "if validation is not None and validation.class_names != data.class_names:",
                "if False:",
                "test_classes_of_model_and_data_must_agree",
            ),
        },
    ),
}
