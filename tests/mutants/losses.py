"""Mutants of the losses: focal loss and its balance, smooth L1, the IoU family."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/ops/losses.py",
    "tests/ops/test_losses.py",
    {
        "CIoU's loss is DIoU's": (
            "return 1.0 - paired_ciou(boxes_true, boxes_pred)",
            "return 1.0 - paired_diou(boxes_true, boxes_pred)",
            "test_iou_losses",
        ),
        "smooth L1 is a square without its half": (
            "error * error * (0.5 / beta)",
            "error * error * (1.0 / beta)",
            "test_smooth_l1",
        ),
    },
)
