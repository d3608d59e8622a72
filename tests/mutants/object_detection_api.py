"""Mutants of what the Object Detection API's checkpoints need: reader, names, crops, slim's ResNet, resizing."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "zoo/checkpoints/tensorflow_v1.py",
        "tests/zoo/test_tensorflow_v1.py",
        {
            "links are followed": (
                "if match is None or not member.isfile():",
                "if match is None:",
                "test_links_and_devices_are_no_checkpoint",
            ),
            "the archive names the files": (
                'Path(f"{prefix}{suffix}"), member.size, path)',
                "folder / member.name, member.size, path)",
                "test_no_file_is_written_under_an_archives_name",
            ),
            "an archive may grow without end": (
                "if room < 0 or number >= MOST_MEMBERS:",
                "if number >= MOST_MEMBERS:",
                "test_an_archive_that_grows_too_much_is_not_unpacked",
            ),
            "the second checkpoint is mixed with the first": (
                "if suffix in found or any(other != (place, stem) for other in found.values()):",
                "if suffix in found and place is None:",
                "test_two_checkpoints_in_an_archive",
            ),
            "an index may promise anything": (
                "if promised > stored:",
                "if promised > 1000 * stored:",
                "test_an_index_may_not_promise_more_than_the_data_have",
            ),
            "texts are numbers": (
                'NUMBERS = "fiu"',
                'NUMBERS = "fiuO"',
                "test_texts_are_left_out",
            ),
            "numbers may be infinite": (
                'array.dtype.kind == "f" and not np.isfinite(array).all()',
                'array.dtype.kind == "f" and np.isnan(array).any()',
                "test_numbers_that_are_not_finite",
            ),
            "a member may end early": (
                "            if not data:\n                raise",
                "            if not data:\n                break\n                raise",
                "test_an_archives_members_are_read_as_a_stream",
            ),
        },
    ),
    **mutants(
        "zoo/origins/object_detection_api.py",
        "tests/zoo/test_object_detection_api.py",
        {
            "y comes first": (
                "[..., [1, 0, 3, 2]]",
                "[..., [0, 1, 2, 3]]",
                "test_boxes_have_x_first",
            ),
            "the background's logit counts": (
                "pairs[..., 1] - pairs[..., 0]",
                "pairs[..., 0] - pairs[..., 1]",
                "test_an_anchors_one_logit_is_the_objects_less_the_backgrounds",
            ),
            "sides have the centre's factor": (
                "FACTORS = (10.0, 10.0, 5.0, 5.0)",
                "FACTORS = (10.0, 10.0, 10.0, 10.0)",
                "test_the_proposal_networks_deltas_become_whole "
                "test_deltas_of_the_tallest_box_are_of_the_apis_ratio",
            ),
            "score maps stay bin by bin": (
                "np.swapaxes(maps, -1, -2)",
                "np.swapaxes(maps, -1, -1)",
                "test_score_maps_become_class_by_class",
            ),
            "the square between two scales comes last": (
                "[0, 5, 1, 2, 3, 4] if count == 6",
                "[0, 1, 2, 3, 4, 5] if count == 6",
                "test_default_boxes_have_the_square_between_scales_second",
            ),
            "the tallest box has the paper's ratio": (
                "TALLEST = 0.3333",
                "TALLEST = 1 / 3",
                "test_deltas_of_the_tallest_box_are_of_the_apis_ratio",
            ),
            "the tallest box's bias has no summand": (
                "if array.ndim == 1:",
                "if array.ndim == 0:",
                "test_deltas_of_the_tallest_box_are_of_the_apis_ratio",
            ),
            "the R-FCN's fourth block is the first stage's": (
                '(f"block4_{unit}", f"{second}/block4/{theirs}")',
                '(f"block4_{unit}", f"{first}/block4/{theirs}")',
                "test_every_variable_of_slims_graph_has_a_place",
            ),
            "extra maps begin at 1": (
                "_Conv2d_{number + 1}_{kernel}",
                "_Conv2d_{number}_{kernel}",
                "test_every_variable_of_slims_graph_has_a_place",
            ),
            "a separable convolution is one layer": (
                '''return f"{place.removesuffix('_depthwise')}_depthwise/weights"''',
                'return f"{place}/weights"',
                "test_separable_convolutions_are_two_layers",
            ),
            "slots of the optimizer are weights": (
                "(Momentum|RMSProp|",
                "(RMSProp|",
                "test_what_training_leaves_is_left_out test_a_published_archive_is_loaded_whole",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/crop.py",
        "tests/ops/test_crop.py",
        {
            "points are spread over all cells": (
                "for size in extent]) - 1.0",
                "for size in extent])",
                "test_points_lie_from_corner_to_corner",
            ),
            "the last point is before the corner": (
                "np.maximum(np.subtract(points, 1), 1)",
                "np.maximum(points, 1)",
                "test_points_lie_from_corner_to_corner",
            ),
            "the only point is the corner": (
                "MIDDLE = 0.5",
                "MIDDLE = 0.0",
                "test_points_lie_from_corner_to_corner",
            ),
            "a map goes on beyond its end": (
                "image_of(boxes), starts, steps, *options, reach=0.0)",
                "image_of(boxes), starts, steps, *options, reach=1.0)",
                "test_an_inverted_box_is_read_backwards_and_beyond_the_map_is_nothing",
            ),
            "x is divided by the height": (
                "ops.flip(flat[:, i : i + 2], axis=1) * scales",
                "ops.flip(flat[:, i : i + 2] * scales, axis=1)",
                "test_crops_are_tensorflows_and_numpys",
            ),
            "bins begin where the next ones do": (
                "corner + bins * sides,",
                "corner + (bins + 1.0) * sides,",
                "test_each_bin_reads_its_own_channels_from_its_corner_to_its_corner",
            ),
            "bins are as large as the region": (
                "(shares[..., 2:] - shares[..., :2]) / k",
                "(shares[..., 2:] - shares[..., :2]) / 1",
                "test_position_sensitive_crops_are_numpys",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/crop.py",
        "tests/layers/test_crop.py",
        {
            "the reduction is forgotten": (
                "options = self.output_size, self.sampling_ratio, self.reduction",
                'options = self.output_size, self.sampling_ratio, "mean"',
                "test_values_are_the_operations",
            ),
            "bins have one point": (
                "options = self.output_size, self.sampling_ratio\n",
                "options = self.output_size, 1\n",
                "test_position_sensitive_values_are_the_operations",
            ),
        },
    ),
    **mutants(
        "kerasdet/backbones/slim_resnet.py",
        "tests/backbones/test_slim_resnet.py",
        {
            "the third block halves its map": (
                "halves = unit == count and number < 3",
                "halves = unit == count and number < 4",
                "test_table_1_and_slims_strides",
            ),
            "the first unit halves the map": (
                "halves = unit == count and number < 3",
                "halves = unit == 1 and number < 3",
                "test_table_1_and_slims_strides",
            ),
            "the first pooling is padded on every side": (
                'keras.layers.MaxPooling2D(3, 2, padding="same", name="pool1"',
                'keras.layers.MaxPooling2D(3, 2, padding="valid", name="pool1"',
                "test_the_first_pooling_pads_an_even_side_at_its_end",
            ),
            "a shortcut takes maxima": (
                "keras.layers.MaxPooling2D(1, stride,",
                "keras.layers.MaxPooling2D(2, stride,",
                "test_a_strided_shortcut_takes_every_second_cell",
            ),
            "the map of a level is that after its stride": (
                "outputs.setdefault(level, x)",
                "outputs[level] = x",
                "test_sizes_are_rounded_up",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/resizing.py",
        "tests/layers/test_resizing.py",
        {
            "pixels have half-pixel centres": (
                "xp.minimum(_counted(count, xp) * factor, last)",
                "xp.minimum((_counted(count, xp) + 0.5) * factor - 0.5, last)",
                "test_tensorflow_1_reads_from_the_corner_by_hand",
            ),
            "the last pixel fades": (
                "return _between_pixels(xp.minimum(_counted(count, xp) * factor, last), length, xp)",
                "return _between_pixels(_counted(count, xp) * factor, length, xp)",
                "test_tensorflow_1_reads_from_the_corner_by_hand",
            ),
            "sizes are rounded down": (
                "xp.maximum(xp.round(side *",
                "xp.maximum(xp.floor(side *",
                "test_sizes",
            ),
            "the longer side has no limit": (
                "exceeds = xp.maximum(*large) > self.long",
                "exceeds = xp.minimum(*large) > self.long",
                "test_sizes",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/rfcn.py",
        "tests/models/test_rfcn.py",
        {
            "every class has the same maps": (
                "self.boxes = num_classes if box_of_each_class else 1",
                "self.boxes = 1",
                "test_every_class_may_have_its_own_box",
            ),
            "the model has one box": (
                "box_of_each_class=self.box_of_each_class",
                "box_of_each_class=False",
                "test_boxes_of_each_class_on_crops",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/faster_rcnn.py",
        "tests/models/test_faster_rcnn.py",
        {
            "the canvas is the image": (
                'ops.zeros_like(ops.cast(image_sizes, "float32")) + ops.stack([height, width])',
                'ops.cast(image_sizes, "float32") + 0 * ops.stack([height, width])',
                "test_regions_may_be_shares_of_the_canvas",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/region_proposals.py",
        "tests/models/test_faster_rcnn.py",
        {
            "hidden maps have no end": (
                "activation=activation,",
                'activation="relu",',
                "test_the_hidden_maps_may_end_at_six",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/anchors.py",
        "tests/layers/test_anchors.py",
        {
            "anchors are clipped by halves of the canvas": (
                'size = ops.stack([ops.cast(side, "float32")',
                'size = ops.stack([0.5 * ops.cast(side, "float32")',
                "test_clipped_anchors_end_at_the_canvas",
            ),
        },
    ),
}
