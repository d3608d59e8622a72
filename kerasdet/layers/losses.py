"""The losses of `kerasdet.ops.losses` as `keras.losses.Loss`, and the way a dense detector calls them.

A detector with anchors passes all its logits to a `ClassLoss` and all its deltas to a `BoxLoss`. The
loss itself takes what it needs, such as the hardest anchors or the decoded boxes.
"""

import keras
from keras import ops

from kerasdet.ops import losses
from kerasdet.ops.coders import decode_deltas, encode_deltas
from kerasdet.ops.points import decode_distances, encode_distances
from kerasdet.ops.sampling import ohem


class _Loss(keras.losses.Loss):
    """What all share: the config of `reduction`, `name` and `dtype`."""

    def get_config(self):
        """Return the constructor's arguments."""
        return {"reduction": self.reduction, "name": self.name, "dtype": self.dtype}


class ClassLoss(_Loss):
    """Base of the losses of classes: `call` is elementwise, `over_anchors` takes all anchors."""

    def over_anchors(self, y_true, logits, counted, positive, boxes):
        """Sum the loss over the classes of each anchor.

        Args:
            y_true: (B, A, K), one-hot; zeros for background.
            logits: (B, A, K).
            counted: (B, A) bool, whether an anchor takes part.
            positive: (B, A) bool, whether it has an object.
            boxes: function without arguments that returns the predicted boxes (B, A, 4).

        Returns:
            (B, A) losses, 0 for anchors that take no part, and the number that divides their sum: the count
            of anchors with an object, not of all anchors (RetinaNet, section 4.1, Focal Loss).
        """
        values = ops.where(counted, ops.sum(self.call(y_true, logits), axis=-1), 0.0)  # (B, A)
        return values, ops.sum(ops.cast(positive, "float32"))


class BoxLoss(_Loss):
    """Base of the losses of boxes: `call` takes pairs, `of_deltas` and `of_distances` predictions."""

    def of_deltas(self, boxes, deltas, anchors):
        """Return the loss of each anchor.

        Args:
            boxes: (B, A, 4) xyxy, the object of each anchor.
            deltas: (B, A, 4), predicted.
            anchors: (A, 4) or (B, A, 4) xyxy.

        Returns:
            (B, A).
        """
        return self.call(boxes, decode_deltas(deltas, anchors))

    def of_distances(self, boxes, distances, points):
        """Return the loss of each point.

        Args:
            boxes: (B, A, 4) xyxy, the object of each point.
            distances: (B, A, 4) pixels to its sides, predicted.
            points: (A, 3): x, y, stride.

        Returns:
            (B, A).
        """
        return self.call(boxes, decode_distances(distances, points))


class CoordinateLoss(BoxLoss):
    """Base of the losses of single numbers: `call` is elementwise, and its values are summed."""

    def of_deltas(self, boxes, deltas, anchors):
        """Sum the loss over the four deltas; see `BoxLoss.of_deltas`."""
        return ops.sum(self.call(encode_deltas(boxes, anchors), deltas), axis=-1)

    def of_distances(self, boxes, distances, points):
        """Sum the loss over the four distances, in strides; see `BoxLoss.of_distances`."""
        strides = points[:, 2:]
        aims = encode_distances(boxes, points) / strides
        return ops.sum(self.call(aims, distances / strides), axis=-1)


@keras.saving.register_keras_serializable("kerasdet")
class FocalLoss(ClassLoss):
    """Focal loss (arXiv 1708.02002, equation 5); see `kerasdet.ops.sigmoid_focal_loss`.

    Args:
        alpha: weight of the ones; the zeros have weight 1 - alpha. None: no weights.
        gamma: focusing parameter, at least 0.
        reduction: as in `keras.losses.Loss`, over all elements.
        name: name of the loss.
        dtype: dtype of the result.
    """

    def __init__(
        self,
        alpha=0.25,
        gamma=2.0,
        reduction="sum_over_batch_size",
        name="focal_loss",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.alpha = alpha
        self.gamma = gamma

    def call(self, y_true, y_pred):
        """Return the elementwise loss: targets (...), logits (...) -> (...)."""
        return losses.sigmoid_focal_loss(y_true, y_pred, self.alpha, self.gamma)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "alpha": self.alpha, "gamma": self.gamma}


@keras.saving.register_keras_serializable("kerasdet")
class AlphaBalancedCrossEntropy(ClassLoss):
    """Balanced cross entropy (arXiv 1708.02002, equation 3), from logits.

    Args:
        alpha: weight of the ones; the zeros have weight 1 - alpha. None: no weights.
        reduction: as in `keras.losses.Loss`, over all elements.
        name: name of the loss.
        dtype: dtype of the result.
    """

    def __init__(
        self,
        alpha=0.75,
        reduction="sum_over_batch_size",
        name="alpha_balanced_cross_entropy",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.alpha = alpha

    def call(self, y_true, y_pred):
        """Return the elementwise loss: targets (...), logits (...) -> (...)."""
        return losses.alpha_balanced_cross_entropy(y_true, y_pred, self.alpha)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "alpha": self.alpha}


@keras.saving.register_keras_serializable("kerasdet")
class SmoothL1(CoordinateLoss):
    """Smooth L1 loss (Fast R-CNN, arXiv 1504.08083, equation 3).

    Args:
        beta: error at which the parabola meets the line; 0 gives the L1 loss.
        reduction: as in `keras.losses.Loss`, over all elements.
        name: name of the loss.
        dtype: dtype of the result.
    """

    def __init__(self, beta=1.0, reduction="sum_over_batch_size", name="smooth_l1", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.beta = beta

    def call(self, y_true, y_pred):
        """Return the elementwise loss: targets (...), predictions (...) -> (...)."""
        return losses.smooth_l1(y_true, y_pred, self.beta)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable("kerasdet")
class SquaredError(CoordinateLoss):
    """L2 loss: the square of the error.

    Args:
        reduction: as in `keras.losses.Loss`, over all elements.
        name: name of the loss.
        dtype: dtype of the result.
    """

    def __init__(self, reduction="sum_over_batch_size", name="squared_error", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        """Return the elementwise loss: targets (...), predictions (...) -> (...)."""
        return ops.square(ops.cast(y_pred, "float32") - ops.cast(y_true, "float32"))


@keras.saving.register_keras_serializable("kerasdet")
class LogIoULoss(BoxLoss):
    """-log IoU of paired xyxy boxes (UnitBox, arXiv 1608.01471).

    Args:
        reduction: as in `keras.losses.Loss`, over all boxes.
        name: name of the loss.
        dtype: dtype of the result.
    """

    def __init__(self, reduction="sum_over_batch_size", name="log_iou_loss", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        """Return the loss of each pair: boxes (..., 4), boxes (..., 4) -> (...)."""
        return losses.log_iou_loss(y_true, y_pred)


@keras.saving.register_keras_serializable("kerasdet")
class IoULoss(BoxLoss):
    """1 - IoU of paired xyxy boxes.

    Args:
        reduction: as in `keras.losses.Loss`, over all boxes.
        name: name of the loss.
        dtype: dtype of the result.
    """

    def __init__(self, reduction="sum_over_batch_size", name="iou_loss", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        """Return the loss of each pair: boxes (..., 4), boxes (..., 4) -> (...)."""
        return losses.iou_loss(y_true, y_pred)


@keras.saving.register_keras_serializable("kerasdet")
class GIoULoss(BoxLoss):
    """1 - GIoU of paired xyxy boxes (arXiv 1902.09630).

    Args:
        reduction: as in `keras.losses.Loss`, over all boxes.
        name: name of the loss.
        dtype: dtype of the result.
    """

    def __init__(self, reduction="sum_over_batch_size", name="giou_loss", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        """Return the loss of each pair: boxes (..., 4), boxes (..., 4) -> (...)."""
        return losses.giou_loss(y_true, y_pred)


@keras.saving.register_keras_serializable("kerasdet")
class DIoULoss(BoxLoss):
    """1 - DIoU of paired xyxy boxes (arXiv 1911.08287).

    Args:
        reduction: as in `keras.losses.Loss`, over all boxes.
        name: name of the loss.
        dtype: dtype of the result.
    """

    def __init__(self, reduction="sum_over_batch_size", name="diou_loss", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        """Return the loss of each pair: boxes (..., 4), boxes (..., 4) -> (...)."""
        return losses.diou_loss(y_true, y_pred)


@keras.saving.register_keras_serializable("kerasdet")
class CIoULoss(BoxLoss):
    """1 - CIoU of paired xyxy boxes (arXiv 1911.08287).

    Args:
        reduction: as in `keras.losses.Loss`, over all boxes.
        name: name of the loss.
        dtype: dtype of the result.
    """

    def __init__(self, reduction="sum_over_batch_size", name="ciou_loss", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        """Return the loss of each pair: boxes (..., 4), boxes (..., 4) -> (...)."""
        return losses.ciou_loss(y_true, y_pred)


@keras.saving.register_keras_serializable("kerasdet")
class OnlineHardExamples(ClassLoss):
    """Online hard example mining over anchors, RetinaNet's baseline (arXiv 1708.02002, Table 1d).

    The loss is the cross entropy of each anchor; `over_anchors` keeps the hardest anchors of each image.

    Args:
        batch_size: anchors kept per image.
        iou_threshold: overlap allowed by the suppression, which spreads the examples over the image.
        negatives_per_positive: 3 for the OHEM 1:3 variant; None: the losses alone decide.
        reduction: as in `keras.losses.Loss`, over all elements.
        name: name of the loss.
        dtype: dtype of the result.
    """

    def __init__(
        self,
        batch_size=128,
        iou_threshold=0.7,
        negatives_per_positive=None,
        reduction="sum_over_batch_size",
        name="online_hard_examples",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.batch_size = batch_size
        self.iou_threshold = iou_threshold
        self.negatives_per_positive = negatives_per_positive

    def call(self, y_true, y_pred):
        """Return the elementwise cross entropy: targets (...), logits (...) -> (...)."""
        return losses.alpha_balanced_cross_entropy(y_true, y_pred, None)

    def over_anchors(self, y_true, logits, counted, positive, boxes):
        """Keep the hardest anchors of each image; their number divides the sum."""
        values, _ = super().over_anchors(y_true, logits, counted, positive, boxes)
        kept = ohem(
            values,
            boxes(),
            positive,
            self.batch_size,
            self.iou_threshold,
            self.negatives_per_positive,
        )
        return ops.where(kept, values, 0.0), ops.sum(ops.cast(kept, "float32"))

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "batch_size": self.batch_size,
            "iou_threshold": self.iou_threshold,
            "negatives_per_positive": self.negatives_per_positive,
        }


class Confidence:
    """What the columns of a default box mean: column 0 is background, the others are the classes (SSD)."""

    def losses(self, labels, logits):
        """Return the loss of each box: columns (B, A), logits (B, A, 1 + K) -> (B, A)."""
        raise NotImplementedError

    def scores(self, logits):
        """Return the classes' confidences: logits (B, A, 1 + K) -> (B, A, K)."""
        raise NotImplementedError

    def get_config(self):
        """Return the constructor's arguments: none."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Rebuild the part from `get_config`."""
        return cls(**config)


@keras.saving.register_keras_serializable("kerasdet")
class SoftmaxConfidence(Confidence):
    """A softmax over background and classes (SSD, arXiv 1512.02325v5, equation 3)."""

    def losses(self, labels, logits):
        """See `Confidence.losses`."""
        # Eq: ssd 3 | L_conf = -sum_pos x_ij^p log c_i^p - sum_neg log c_i^0, c = softmax over p
        return losses.softmax_cross_entropy(labels, logits)

    def scores(self, logits):
        """See `Confidence.scores`."""
        return ops.softmax(logits, axis=-1)[..., 1:]


@keras.saving.register_keras_serializable("kerasdet")
class SigmoidConfidence(Confidence):
    """Each column by itself (TensorFlow's Object Detection API, arXiv 1611.10012)."""

    def losses(self, labels, logits):
        """See `Confidence.losses`."""
        columns = ops.one_hot(labels, logits.shape[-1])
        return ops.sum(losses.alpha_balanced_cross_entropy(columns, logits, None), axis=-1)

    def scores(self, logits):
        """See `Confidence.scores`."""
        return ops.sigmoid(logits[..., 1:])
