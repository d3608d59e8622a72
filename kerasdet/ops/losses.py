"""Elementwise losses, computed in float32; the caller sums, masks and normalises."""

from keras import ops

from kerasdet.ops.boxes import paired_ciou, paired_diou, paired_giou, paired_iou

SMALLEST_IOU = 1e-6  # of which there is a logarithm


def sigmoid_focal_loss(targets, logits, alpha=0.25, gamma=2.0):
    """Compute the focal loss of independent binary classifiers (arXiv 1708.02002, equation 5).

    Args:
        targets: (...), 0 or 1; a plain number stands for a tensor filled with it.
        logits: (...).
        alpha: weight of the ones; the zeros have weight 1 - alpha. None: no weights.
        gamma: focusing parameter, at least 0.

    Returns:
        (...) float32.
    """
    targets, flipped = _flip(targets, logits)
    # Eq: retinanet 2 | p_t = p if y = 1, 1 - p otherwise: here 1 - p_t = sigmoid(flipped)
    if gamma == 2.0:
        modulation = ops.square(ops.sigmoid(flipped))
    else:  # as an exponential: the gradient of sigmoid(x)^gamma is 0 * inf where sigmoid(x) is 0
        modulation = ops.exp(-gamma * ops.softplus(-flipped))
    # Eq: retinanet 5 | FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t)
    return _alpha_t(targets, alpha) * modulation * ops.softplus(flipped)


def alpha_balanced_cross_entropy(targets, logits, alpha=0.75):
    """Compute the balanced cross entropy of binary classifiers (arXiv 1708.02002, equation 3).

    Args:
        targets: (...), 0 or 1; a plain number stands for a tensor filled with it.
        logits: (...).
        alpha: weight of the ones; the zeros have weight 1 - alpha. None: no weights. The default is the
            best value in the paper's table 1(a).

    Returns:
        (...) float32.
    """
    targets, flipped = _flip(targets, logits)
    # Eq: retinanet 3 | CE(p_t) = -alpha_t log(p_t)
    return _alpha_t(targets, alpha) * ops.softplus(flipped)


def softmax_cross_entropy(labels, logits):
    """Compute the cross entropy of a softmax over classes.

    Args:
        labels: (...) integers, the true column of each row.
        logits: (..., C).

    Returns:
        (...) float32.
    """
    logits = ops.cast(logits, "float32")
    own = ops.sum(ops.one_hot(labels, logits.shape[-1]) * logits, axis=-1)
    return ops.logsumexp(logits, axis=-1) - own


def smooth_l1(targets, predictions, beta=1.0):
    """Compute the smooth L1 loss (Fast R-CNN, arXiv 1504.08083, equation 3).

    Args:
        targets: (...).
        predictions: (...).
        beta: error at which the parabola meets the line; 0 gives the L1 loss.

    Returns:
        (...) float32.
    """
    error = ops.abs(ops.cast(predictions, "float32") - ops.cast(targets, "float32"))
    if beta == 0:
        return error
    # Eq: fast_rcnn 3 | smooth_L1(x) = 0.5 x^2 / beta if |x| < beta, |x| - 0.5 beta otherwise
    return ops.where(error < beta, error * error * (0.5 / beta), error - 0.5 * beta)


def iou_loss(boxes_true, boxes_pred):
    """Return 1 - IoU of paired boxes: (..., 4), (..., 4) xyxy -> (...) float32."""
    return 1.0 - paired_iou(boxes_true, boxes_pred)


def log_iou_loss(boxes_true, boxes_pred):
    """Return -log IoU of paired boxes (UnitBox, arXiv 1608.01471): two (..., 4) xyxy -> (...) float32.

    An IoU below 1e-6 counts as 1e-6, and gives no gradient.
    """
    # Eq: unitbox §3.1 | L = -ln(IoU)
    return -ops.log(ops.maximum(paired_iou(boxes_true, boxes_pred), SMALLEST_IOU))


def giou_loss(boxes_true, boxes_pred):
    """Return 1 - GIoU of paired boxes (arXiv 1902.09630): two (..., 4) xyxy -> (...) float32."""
    return 1.0 - paired_giou(boxes_true, boxes_pred)


def diou_loss(boxes_true, boxes_pred):
    """Return 1 - DIoU of paired boxes (arXiv 1911.08287): two (..., 4) xyxy -> (...) float32."""
    return 1.0 - paired_diou(boxes_true, boxes_pred)


def ciou_loss(boxes_true, boxes_pred):
    """Return 1 - CIoU of paired boxes (arXiv 1911.08287): two (..., 4) xyxy -> (...) float32."""
    return 1.0 - paired_ciou(boxes_true, boxes_pred)


def _flip(targets, logits):
    """Return targets, and logits with the sign flipped where the target is 1, both float32.

    Then softplus(flipped) = -log(p_t) for either target, without a second branch.
    """
    logits = ops.cast(logits, "float32")
    if isinstance(targets, (int, float)):
        return targets, -logits if targets == 1 else logits
    targets = ops.cast(targets, "float32")
    return targets, logits * (1.0 - 2.0 * targets)


def _alpha_t(targets, alpha):
    if alpha is None:
        return 1.0
    return (1.0 - alpha) + (2.0 * alpha - 1.0) * targets
