"""Mutants of what all models share: files, canvas, and detections in the image's own pixels."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/models/base.py",
        "tests/models/test_base.py",
        {
            "an older format is read": (
                "if version != FORMAT_VERSION:",
                "if version > FORMAT_VERSION:",
                "test_a_file_of_another_format_is_refused",
            ),
            "an older format asks for a newer kerasdet": (
                "if version > FORMAT_VERSION else",
                "if version < FORMAT_VERSION else",
                "test_a_file_of_another_format_is_refused",
            ),
            "reading a config empties the caller's": (
                "config = dict(config)",
                "config = config",
                "test_a_file_of_another_format_is_refused",
            ),
            "padding is as bright as the mean": (
                "ops.where(_inside(sizes, height, width), images, 0.0)",
                "images * 1.0",
                "test_normalisation_leaves_padding_zero",
            ),
            "height and width change places": (
                "(rows < sizes[:, 0, None, None, None]) & (columns < sizes[:, 1, None, None, None])",
                "(rows < sizes[:, 1, None, None, None]) & (columns < sizes[:, 0, None, None, None])",
                "test_normalisation_leaves_padding_zero",
            ),
            "pixels are not divided": (
                "- ops.array(self.mean)) / ops.array(self.std)",
                "- ops.array(self.mean))",
                "test_normalisation_leaves_padding_zero",
            ),
            "any number of channels is read": (
                "image.ndim != 3 or image.shape[-1] != channels",
                "image.ndim != 3",
                "test_four_channels_are_read_from_arrays_alone",
            ),
            "own arguments stand first": (
                "in reversed(cls.__mro__[: cls.__mro__.index(ImageModel) + 1]):",
                "in cls.__mro__[: cls.__mro__.index(ImageModel) + 1]:",
                "test_arguments_are_read_from_the_signatures",
            ),
            "names may be repeated": (
                "if len(set(values)) != num_classes:",
                "if False:",
                "test_classes_and_ids_must_number_the_classes",
            ),
            "parts in lists are not serialised": (
                "return [_serialized(item) for item in value]",
                "return list(value)",
                "tests/models/test_mask_rcnn.py::test_config_keeps_every_argument",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/detector.py",
        "tests/models/test_base.py",
        {
            "a stack of images is one image": (
                "(0,) * 4)) < 4",
                "(0,) * 4)) < 5",
                "test_one_image_or_many",
            ),
            "a lower threshold is not heeded": (
                "threshold is not None and threshold < before",
                "threshold is not None and threshold > before",
                "test_threshold_above_and_below_the_models_own",
            ),
            "a lower threshold stays": (
                "if self.score_threshold != before:",
                "if False:",
                "test_threshold_above_and_below_the_models_own",
            ),
            "a new threshold waits for a new graph": (
                "self.predict_function = None  # traced with the old value",
                "pass",
                "test_threshold_above_and_below_the_models_own",
            ),
            "the threshold itself is too low": (
                'found["confidence"] >= threshold',
                'found["confidence"] > threshold',
                "test_threshold_above_and_below_the_models_own",
            ),
            "proposals do not follow the canvas": (
                "[boxes / scale + offset for boxes",
                "[boxes + offset for boxes",
                "test_proposals_follow_their_images_to_the_canvas",
            ),
            "boxes stay on the canvas": (
                'np.clip((result["boxes"] - offset) * scale, 0, limit)',
                'np.clip(result["boxes"] - offset, 0, limit)',
                "test_boxes_come_back_to_the_images_own_pixels",
            ),
            "height and width scale the wrong sides": (
                "np.array([original[1] / size[1], original[0] / size[0]] * 2",
                "np.array([original[0] / size[0], original[1] / size[1]] * 2",
                "test_boxes_come_back_to_the_images_own_pixels",
            ),
            "keypoints stay on the canvas": (
                "[*scale[:2], 1]], np.float32)",
                "[1, 1, 1]], np.float32)",
                "tests/models/test_keypoint_rcnn.py::test_keypoints_come_to_the_images_own_pixels",
            ),
            "proposals may be infinite": (
                "or not np.isfinite(boxes).all()",
                "or False",
                "test_proposals_must_be_there_for_every_image",
            ),
            "proposals may be missing": (
                'if proposals is None and "proposals" in self.INPUTS:',
                "if False:",
                "test_proposals_must_be_there_for_every_image",
            ),
        },
    ),
}
