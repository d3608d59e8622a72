"""Mutants of the overlaps (IoU, GIoU, DIoU, CIoU), areas, clipping and formats."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/ops/boxes.py",
    "tests/ops/test_boxes.py",
    {
        "the union counts the intersection twice": (
            "union = _area(box1) + _area(box2) - intersection",
            "union = _area(box1) + _area(box2)",
            "test_box_iou",
        ),
        "an inverted box has an area in a union": (
            "def _area(box):\n    return ops.maximum(box[2] - box[0], 0.0) * ops.maximum(box[3] - box[1], 0.0)",
            "def _area(box):\n    return (box[2] - box[0]) * (box[3] - box[1])",
            "test_an_inverted_box_has_no_area_in_a_hull",
        ),
        "an inverted box has an area": (
            "return ops.maximum(x2 - x1, 0.0) * ops.maximum(y2 - y1, 0.0)",
            "return (x2 - x1) * (y2 - y1)",
            "test_box_area",
        ),
        "boxes that are apart intersect": (
            "box1[1], box2[1])\n    return ops.maximum(width, 0.0) * ops.maximum(height, 0.0)",
            "box1[1], box2[1])\n    return width * height",
            "test_box_iou",
        ),
        "an intersection begins at the smaller corner": (
            "- ops.maximum(box1[0], box2[0])",
            "- ops.minimum(box1[0], box2[0])",
            "test_box_iou",
        ),
        "an empty denominator gives no 0": (
            "positive = denominator > 0.0",
            "positive = denominator >= 0.0",
            "test_box_iou",
        ),
        "GIoU divides by the union": (
            "iou - _divide(hull - union, hull)",
            "iou - _divide(hull - union, union)",
            "test_box_giou",
        ),
        "GIoU adds its penalty": (
            "return iou - _divide(hull - union, hull)",
            "return iou + _divide(hull - union, hull)",
            "test_box_giou",
        ),
        "the hull ends at the smaller corner": (
            "width = ops.maximum(box1[2], box2[2]) - ops.minimum(box1[0], box2[0])",
            "width = ops.minimum(box1[2], box2[2]) - ops.minimum(box1[0], box2[0])",
            "test_box_giou test_box_diou",
        ),
        "DIoU's centres are twice as far": (
            "dx = (box1[0] + box1[2] - box2[0] - box2[2]) / 2.0",
            "dx = box1[0] + box1[2] - box2[0] - box2[2]",
            "test_box_diou",
        ),
        "DIoU leaves out the vertical distance": (
            "dx * dx + dy * dy",
            "dx * dx",
            "test_box_diou",
        ),
        "DIoU divides by the hull's area": (
            "width * width + height * height)",
            "width * height)",
            "test_box_diou",
        ),
        "v has pi instead of its square": (
            "4.0 / math.pi**2",
            "4.0 / math.pi",
            "test_box_ciou",
        ),
        "v is not squared": (
            "ops.square(angle1 - angle2)",
            "ops.abs(angle1 - angle2)",
            "test_box_ciou",
        ),
        "alpha leaves out v": (
            "1.0 - iou + v))",
            "1.0 - iou))",
            "test_box_ciou",
        ),
        "alpha has a gradient": (
            "ops.stop_gradient(_divide(v, 1.0 - iou + v))",
            "_divide(v, 1.0 - iou + v)",
            "tests/ops/test_losses.py::test_ciou_loss_counts_the_aspect_ratio",
        ),
        "CIoU is DIoU": (
            "return diou - alpha * v",
            "return diou",
            "test_box_ciou",
        ),
        "CIoU stands on IoU": (
            "return diou - alpha * v",
            "return iou - alpha * v",
            "test_box_ciou",
        ),
        "CIoU leaves out alpha": (
            "return diou - alpha * v",
            "return diou - v",
            "test_box_ciou",
        ),
        "class 0 is padding": (
            "ops.greater_equal(labels, 0)",
            "ops.greater(labels, 0)",
            "test_valid_mask_is_false_on_padding",
        ),
        "a crowd's share is of the crowd": (
            "_divide(_intersection(boxes, regions), _area(boxes))",
            "_divide(_intersection(boxes, regions), _area(regions))",
            "test_intersection_over_area",
        ),
        "height clips x": (
            "[widths, heights, widths, heights]",
            "[heights, widths, heights, widths]",
            "test_clip_boxes_to_each_image",
        ),
        "boxes are not clipped at 0": (
            'ops.maximum(ops.cast(boxes, "float32"), 0.0), limits',
            'ops.cast(boxes, "float32"), limits',
            "test_clip_boxes_to_each_image",
        ),
        "a side must exceed the least": (
            "boxes[..., :2] >= least",
            "boxes[..., :2] > least",
            "test_both_sides_reach_the_least",
        ),
        "one long side is enough": (
            "return ops.all(boxes[..., 2:]",
            "return ops.any(boxes[..., 2:]",
            "test_both_sides_reach_the_least",
        ),
        "a centre is a sum": (
            "(x1 + x2) / 2.0",
            "(x1 + x2)",
            "test_formats",
        ),
    },
)
