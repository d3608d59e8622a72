"""Mutants of the losses: focal loss and its balance, smooth L1, the IoU family."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/ops/losses.py",
        "tests/ops/test_losses.py",
        {
            "the ones weigh three quarters": (
                "def sigmoid_focal_loss(targets, logits, alpha=0.25, gamma=2.0)",
                "def sigmoid_focal_loss(targets, logits, alpha=0.75, gamma=2.0)",
                "test_focal_loss_by_hand",
            ),
            "gamma is 1": (
                "def sigmoid_focal_loss(targets, logits, alpha=0.25, gamma=2.0)",
                "def sigmoid_focal_loss(targets, logits, alpha=0.25, gamma=1.0)",
                "test_focal_loss_by_hand",
            ),
            "the modulation is not squared": (
                "ops.square(ops.sigmoid(flipped))",
                "ops.sigmoid(flipped)",
                "test_focal_loss_by_hand",
            ),
            "the modulation is p_t's": (
                "ops.softplus(-flipped))",
                "ops.softplus(flipped))",
                "test_focal_loss_against_its_formula",
            ),
            "the modulation's gamma is lost": (
                "ops.exp(-gamma * ops",
                "ops.exp(-ops",
                "test_focal_loss_against_its_formula",
            ),
            "the loss is that of the other class": (
                "modulation * ops.softplus(flipped)",
                "modulation * ops.softplus(-flipped)",
                "test_focal_loss_against_its_formula",
            ),
            "alpha_t is turned round": (
                "(1.0 - alpha) + (2.0 * alpha - 1.0) * targets",
                "alpha + (1.0 - 2.0 * alpha) * targets",
                "test_focal_loss_by_hand test_alpha_balanced_cross_entropy",
            ),
            "targets flip the wrong way": (
                "logits * (1.0 - 2.0 * targets)",
                "logits * (2.0 * targets - 1.0)",
                "test_focal_loss_against_its_formula",
            ),
            "a plain target flips the wrong way": (
                "-logits if targets == 1 else logits",
                "logits if targets == 1 else -logits",
                "test_focal_loss_against_its_formula",
            ),
            "balanced cross entropy has focal loss's alpha": (
                "def alpha_balanced_cross_entropy(targets, logits, alpha=0.75)",
                "def alpha_balanced_cross_entropy(targets, logits, alpha=0.25)",
                "test_alpha_balanced_cross_entropy",
            ),
            "cross entropy is not balanced": (
                "return _alpha_t(targets, alpha) * ops.softplus(flipped)",
                "return ops.softplus(flipped)",
                "test_alpha_balanced_cross_entropy",
            ),
            "smooth L1 is a square without its half": (
                "error * error * (0.5 / beta)",
                "error * error * (1.0 / beta)",
                "test_smooth_l1",
            ),
            "smooth L1's parabola is as steep for every beta": (
                "error * error * (0.5 / beta)",
                "error * error * 0.5",
                "test_smooth_l1",
            ),
            "smooth L1's line lies a half lower": (
                "error - 0.5 * beta",
                "error - beta",
                "test_smooth_l1",
            ),
            "smooth L1's parabola ends late": (
                "ops.where(error < beta",
                "ops.where(error < 2.0 * beta",
                "test_smooth_l1",
            ),
            "beta is 2": (
                "beta=1.0",
                "beta=2.0",
                "test_smooth_l1",
            ),
            "IoU's loss is the IoU": (
                "return 1.0 - paired_iou(",
                "return paired_iou(",
                "test_iou_losses",
            ),
            "GIoU's loss is IoU's": (
                "1.0 - paired_giou(",
                "1.0 - paired_iou(",
                "test_iou_losses",
            ),
            "DIoU's loss is GIoU's": (
                "1.0 - paired_diou(",
                "1.0 - paired_giou(",
                "test_iou_losses",
            ),
            "CIoU's loss is DIoU's": (
                "1.0 - paired_ciou(",
                "1.0 - paired_diou(",
                "test_ciou_loss_counts_the_aspect_ratio",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/losses.py",
        "tests/layers/test_losses.py",
        {
            "FocalLoss forgets gamma": (
                "losses.sigmoid_focal_loss(y_true, y_pred, self.alpha, self.gamma)",
                "losses.sigmoid_focal_loss(y_true, y_pred, self.alpha)",
                "test_value_and_reduction",
            ),
            "SmoothL1 forgets beta": (
                "losses.smooth_l1(y_true, y_pred, self.beta)",
                "losses.smooth_l1(y_true, y_pred)",
                "test_value_and_reduction",
            ),
            "AlphaBalancedCrossEntropy forgets alpha": (
                "losses.alpha_balanced_cross_entropy(y_true, y_pred, self.alpha)",
                "losses.alpha_balanced_cross_entropy(y_true, y_pred)",
                "test_value_and_reduction",
            ),
            "CIoULoss is DIoU's": (
                "losses.ciou_loss(y_true, y_pred)",
                "losses.diou_loss(y_true, y_pred)",
                "test_value_and_reduction",
            ),
            "OnlineHardExamples weighs": (
                "losses.alpha_balanced_cross_entropy(y_true, y_pred, None)",
                "losses.alpha_balanced_cross_entropy(y_true, y_pred, 0.75)",
                "test_value_and_reduction",
            ),
            "what is not kept counts": (
                "ops.where(kept, anchor_losses, 0.0)",
                "anchor_losses",
                "test_online_hard_examples_select",
            ),
        },
    ),
}
