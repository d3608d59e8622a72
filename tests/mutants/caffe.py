"""Mutants of Caffe's files: the readers, the names and changes of arrays, the authors' conventions."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "zoo/checkpoints/caffemodel.py",
        "tests/zoo/test_caffe_files.py",
        {
            "a field may end beyond its message": (
                "if number == 0 or stop > end:",
                "if number == 0:",
                "test_wrong_files_are_one_clear_error",
            ),
            "the seven bits of a number come in the other order": (
                "value |= (byte & 127) << 7 * i",
                "value = value << 7 | byte & 127",
                "test_layers_of_the_new_format",
            ),
            "a shape may have more numbers than are stored": (
                "math.prod(shape) != count",
                "math.prod(shape) < count",
                "test_wrong_files_are_one_clear_error",
            ),
            "half precision is passed over": (
                "elif number in (RAW_KIND, RAW):",
                "elif number in ():",
                "test_wrong_files_are_one_clear_error",
            ),
            "numbers that are not finite are taken": (
                "if not np.isfinite(array).all():",
                "if not array.size:",
                "test_wrong_files_are_one_clear_error",
            ),
            "single numbers keep their keys": (
                "np.ascontiguousarray(rows[:, 1:])",
                "np.ascontiguousarray(rows[:, :-1])",
                "test_layers_of_the_new_format test_numbers_in_pieces_and_single_ones",
            ),
            "the last of two layers of a name is taken": (
                "if layer.blobs and name in layers:",
                "if not layer.blobs and name in layers:",
                "test_wrong_files_are_one_clear_error",
            ),
            "fields are without number": (
                "if self.count > MOST_FIELDS:",
                "if self.count < 0:",
                "test_many_tiny_fields_end_soon",
            ),
            "old layers are named as new ones": (
                "(1, 2, 7) if new else (4, 5, 6)",
                "(1, 2, 7) if new else (1, 5, 6)",
                "test_layers_of_the_old_format_have_four_axes",
            ),
        },
    ),
    **mutants(
        "zoo/checkpoints/prototxt.py",
        "tests/zoo/test_caffe_files.py",
        {
            "messages may lie at any depth": (
                "if depth > DEEPEST:",
                "if depth < 0:",
                "test_wrong_texts_are_one_clear_error",
            ),
            "of equal fields the first is taken": (
                "if len(found) > 1:",
                "if len(found) < 0:",
                "test_wrong_values_are_named_where_they_are_asked_for",
            ),
            "lines are not counted": (
                'line += found.group().count("\\n")',
                "line += 0",
                "test_fields_of_all_kinds",
            ),
            "texts that follow each other are not joined": (
                'return "".join(parts), line',
                "return parts[0], line",
                "test_fields_of_all_kinds",
            ),
        },
    ),
    **mutants(
        "zoo/checkpoints/caffe_network.py",
        "tests/zoo/test_caffe.py",
        {
            "strides are not compared": (
                '"stride": _sides(parameters, "stride", "stride", 1),\n        "padding": _sides(parameters, "pad", "pad", 0),\n    }\n\n\ndef region_pooling',
                '"stride": (2, 2),\n        "padding": _sides(parameters, "pad", "pad", 0),\n    }\n\n\ndef region_pooling',
                "test_a_prototxt_of_another_network_changes_nothing",
            ),
            "layers may be missing": (
                "if missing:",
                "if not found:",
                "test_a_prototxt_without_a_layer",
            ),
            "a dropout that scales in testing is taken for another": (
                "1.0 if scaled else 1.0 - parameters",
                "1.0 if True else 1.0 - parameters",
                "test_a_prototxt_of_another_network_changes_nothing",
            ),
        },
    ),
    **mutants(
        "zoo/origins/caffe.py",
        "tests/zoo/test_caffe.py",
        {
            "blue stays first": (
                "return array[:, ::-1] if array.ndim == 4 else array",
                "return array",
                "test_changes_of_arrays_by_hand test_opencvs_proposals_scores_and_boxes",
            ),
            "regions are flattened channel by channel": (
                "return columns.transpose(0, 2, 1).reshape(array.shape)",
                "return columns.reshape(array.shape)",
                "test_changes_of_arrays_by_hand",
            ),
            "the background's logits come second": (
                "return objects - background",
                "return background - objects",
                "test_changes_of_arrays_by_hand",
            ),
            "deltas are not scaled": (
                "DELTA_WEIGHTS = np.array([10.0, 10.0, 5.0, 5.0], np.float32)",
                "DELTA_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.0], np.float32)",
                "test_changes_of_arrays_by_hand",
            ),
            "the last box is dropped, not the background's": (
                "rows = array[len(factors) :]",
                "rows = array[: -len(factors)]",
                "test_changes_of_arrays_by_hand",
            ),
            "statistics are not divided": (
                "divisor = factor[0] or np.inf",
                "divisor = 1.0 or factor[0]",
                "test_statistics_have_a_common_factor",
            ),
            "negative variances are taken": (
                '(found.get("variance", np.zeros(1)) < 0).any()',
                '(found.get("variance", np.zeros(1)) < -9).any()',
                "test_statistics_have_a_common_factor",
            ),
            "the blocks of the fourth stage have letters": (
                "if stage in (3, 4) and block else",
                "if stage == 3 and block else",
                "test_blocks_of_resnet_101_have_the_authors_names",
            ),
            "old files keep their axes": (
                "while blob.ndim > axes and blob.shape[0] == 1:",
                "while blob.ndim > 9 and blob.shape[0] == 1:",
                "test_old_files_have_four_axes",
            ),
        },
    ),
    **mutants(
        "zoo/checkpoints/archived.py",
        "tests/zoo/test_caffe.py",
        {
            "a link is taken for a file": (
                'block[156:157] in (b"0", b"\\0")',
                "True",
                "test_a_member_of_an_archive",
            ),
            "members are not padded to blocks": (
                "_skip(path, file, -(-size // BLOCK) * BLOCK)",
                "_skip(path, file, size)",
                "test_a_member_of_an_archive",
            ),
            "an archive may unpack to any size": (
                "if total > LONGEST:",
                "if total < 0:",
                "test_damaged_archives",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/boxes.py",
        "tests/ops/test_boxes.py",
        {
            "the last pixel may be the image's width": (
                'ops.cast(image_sizes, "float32") - 1.0)',
                'ops.cast(image_sizes, "float32") - 0.0)',
                "test_clip_pixels_to_each_image",
            ),
            "the last pixel does not belong to its box": (
                "return clipped + ops.array([0.0, 0.0, 1.0, 1.0])",
                "return clipped",
                "test_clip_pixels_to_each_image",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/anchors.py",
        "tests/ops/test_anchors.py",
        {
            "heights follow from the width before it is rounded": (
                "np.round(whole * ratios) / base * sizes",
                "np.round(base * np.sqrt(ratios)) / base * sizes",
                "test_anchors_of_faster_rcnns_code",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/roi.py",
        "tests/ops/test_roi.py",
        {
            "RoIPool takes the second corner for a pixel": (
                "flat = last_pixels(flat) if in_float32 else flat",
                "flat = flat",
                "test_roi_pool_of_whole_pixels_by_hand",
            ),
            "position-sensitive pooling takes the second corner for a pixel": (
                "flat = last_pixels(flat_boxes(boxes))",
                "flat = flat_boxes(boxes)",
                "test_ps_roi_pool_of_whole_pixels_by_hand",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/windows.py",
        "tests/ops/test_roi.py",
        {
            "bins of whole pixels are divided in integers": (
                "    if in_float32:",
                "    if in_float32 is None:",
                "test_bins_of_whole_pixels_are_divided_in_float32",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/region_proposals.py",
        "tests/models/test_faster_rcnn.py",
        {
            "proposals of any size are kept": (
                "sides_reach(boxes, rpn.smallest)",
                "sides_reach(boxes, SMALLEST_PROPOSAL)",
                "test_proposals_of_the_authors_code_are_whole_pixels_and_have_a_shortest_side",
            ),
            "proposals are clipped as ours": (
                "boxes = clip(boxes, outputs",
                "boxes = clip_boxes(boxes, outputs",
                "test_proposals_of_the_authors_code_are_whole_pixels_and_have_a_shortest_side",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/fast_rcnn.py",
        "tests/models/test_fast_rcnn.py",
        {
            "detections end at the last pixel": (
                "return clip_pixels if self.whole_pixels else clip_boxes",
                "return clip_boxes",
                "test_boxes_of_the_authors_code_end_one_pixel_further",
            ),
        },
    ),
}
