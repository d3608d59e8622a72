"""Mutants of the parts that draw their canvas, and of the way from the canvas back to the image."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/layers/resizing.py",
        "tests/layers/test_resizing.py",
        {
            "Darknet's padding is another grey": (
                "GREY = 127.5",
                "GREY = 128.0",
                "test_letterbox_by_hand",
            ),
            "Darknet's padding is black": (
                "    FILL = GREY",
                "    FILL = 0.0",
                "test_letterbox_by_hand",
            ),
            "boxes begin at whole pixels": (
                '(side - _cast(fitted, "float32", xp)) / 2',
                '(side - _cast(fitted, "float32", xp)) // 2',
                "test_darknets_offset_has_half_pixels",
            ),
            "the larger half of the padding comes first": (
                '_cast((side - size) // 2, "float32", xp)',
                '_cast((side - size + 1) // 2, "float32", xp)',
                "test_letterbox_by_hand",
            ),
            "Darknet's image is stretched from edge to edge": (
                "factor = (lengths[0] - 1) / xp.maximum(lengths[1] - 1, np.float32(1))",
                "factor = lengths[0] / lengths[1]",
                "test_letterbox_by_hand",
            ),
            "Darknet's last row has its second pixel": (
                "weight = xp.where(last, np.float32(0), rows.second_weight)",
                "weight = rows.second_weight",
                "test_the_last_row_of_darknet_is_dark_where_float32_rounds_down",
            ),
            "Darknet's last column lacks its second pixel": (
                "return rows._replace(second_weight=weight), columns",
                "return rows._replace(second_weight=weight), columns._replace(second_weight=0 * "
                "columns.second_weight)",
                "test_letterbox_by_hand",
            ),
            "Letterbox rounds to the nearest": (
                "xp.minimum(xp.floor(h * self.width / w), float(self.height)),",
                "xp.minimum(xp.floor(h * self.width / w + 0.5), float(self.height)),",
                "test_sizes",
            ),
            "the square's size is rounded down": (
                "xp.maximum(xp.floor(side * scale + 0.5), 1.0)",
                "xp.maximum(xp.floor(side * scale), 1.0)",
                "test_sizes",
            ),
            "the square is that of the shorter side": (
                "square = xp.maximum(height, width)",
                "square = xp.minimum(height, width)",
                "test_padded_square_by_hand",
            ),
            "the square has half-pixel centres": (
                "_counted(self.side, xp) * factor, last)",
                "(_counted(self.side, xp) + 0.5) * factor - 0.5, last)",
                "test_padded_square_by_hand",
            ),
            "the square is read beyond its last pixel": (
                "positions = xp.minimum(_counted(self.side, xp) * factor, last)",
                "positions = _counted(self.side, xp) * factor",
                "test_padded_square_by_hand",
            ),
            "the image's last pixel is repeated into the padding": (
                "xp.where(first + 1 < length, share, zero)",
                "share",
                "test_padded_square_by_hand",
            ),
            "labels are those of the farther pixel": (
                "np.where(s.first_weight >= s.second_weight, *s[:2])",
                "np.where(s.first_weight < s.second_weight, *s[:2])",
                "test_labels_are_drawn_of_the_nearer_pixel",
            ),
            "boxes on the canvas forget the offset": (
                "boxes = record.boxes[~record.ignore] * scale + np.array([x, y] * 2)",
                "boxes = record.boxes[~record.ignore] * scale",
                "test_boxes_lie_on_the_canvas_where_the_image_does",
            ),
        },
    ),
    **mutants(
        "kerasdet/data/examples.py",
        "tests/data/test_pipeline.py",
        {
            "targets forget the offset": (
                "_padded(record.boxes * scale + offset, max_boxes",
                "_padded(record.boxes * scale, max_boxes",
                "test_a_letterbox_by_hand test_a_drawn_canvas_is_that_of_detect",
            ),
            "x and y of the offset are exchanged": (
                "np.asarray([left, top, left, top]",
                "np.asarray([top, left, top, left]",
                "test_a_letterbox_by_hand",
            ),
            "keypoints forget the offset": (
                "np.asarray([left, top, 0]",
                "np.asarray([0, 0, 0]",
                "test_a_letterbox_by_hand",
            ),
            "semantic maps are not drawn": (
                "part.draw_labels(labels) if drawn else labels",
                "labels",
                "test_a_letterbox_by_hand",
            ),
            "the padding of masks is an object": (
                "part.draw(masks[..., None], fill=0)",
                "part.draw(masks[..., None])",
                "test_a_letterbox_by_hand",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/detector.py",
        "tests/zoo/test_darknet_boxes.py",
        {
            "boxes come back without the offset": (
                '(result["boxes"] - offset) * scale',
                'result["boxes"] * scale',
                "test_boxes_and_scores_are_darknets",
            ),
            "boxes in the padding are detections": (
                "[without_outsiders(one) for one in found] if self.resize.DRAWN",
                "[one for one in found] if self.resize.DRAWN",
                "test_boxes_and_scores_are_darknets",
            ),
            "clipped boxes suppress each other": (
                "        found = self.suppress(boxes, labels, ops.where(seen, scores, 0.0))",
                "        boxes = box_ops.clip_boxes(boxes, image_sizes)\n"
                "        found = self.suppress(boxes, labels, ops.where(seen, scores, 0.0))",
                "test_boxes_and_scores_are_darknets tests/models/test_yolo.py::test_scores_by_hand",
            ),
            "boxes outside the image are detections": (
                "ops.where(seen, scores, 0.0)",
                "scores",
                "tests/models/test_yolo.py::test_a_box_outside_the_image_is_no_detection",
            ),
            "one candidate for each detection": (
                "ROOM = 4",
                "ROOM = 1",
                "tests/models/test_fcos.py::test_a_thousand_candidates_of_each_level",
            ),
        },
    ),
    **mutants(
        "zoo/origins/face_api.py",
        "tests/zoo/test_faces.py",
        {
            "an anchor of the tiny YOLO has four numbers": (
                "NUMBERS = 5",
                "NUMBERS = 4",
                "test_the_column_of_the_one_class_by_hand",
            ),
            "the class comes first": (
                "[(0, 0)] * (anchors.ndim - 1) + [(0, 1)]",
                "[(0, 0)] * (anchors.ndim - 1) + [(1, 0)]",
                "test_the_column_of_the_one_class_by_hand",
            ),
        },
    ),
}
