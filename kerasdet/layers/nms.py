"""Non-maximum suppression as a layer without weights."""

import keras

from kerasdet.ops.checks import check_whole
from kerasdet.ops.nms import batched_nms, nms


@keras.saving.register_keras_serializable("kerasdet")
class NonMaxSuppression(keras.layers.Layer):
    """Greedy non-maximum suppression with a fixed output size.

    Args:
        iou_threshold: a box is dropped when its IoU with a kept one is greater than this.
        max_output_size: D, the size of the result.
        score_threshold: keep only scores greater than this; None: all finite ones.

    Example:
        >>> layer = NonMaxSuppression(iou_threshold=0.5, max_output_size=100)
        >>> indices, counts = layer(boxes, scores, labels)
    """

    def __init__(self, iou_threshold=0.5, max_output_size=100, score_threshold=None, **kwargs):
        # Coordinates stay float32 under every policy.
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False, "trainable": False})
        check_whole("max_output_size", max_output_size, most=1 << 24)
        self.iou_threshold = iou_threshold
        self.max_output_size = max_output_size
        self.score_threshold = score_threshold

    def build(self, boxes_shape, scores_shape, labels_shape=None):
        """Do nothing: the layer has no weights."""
        self.built = True

    def call(self, boxes, scores, labels=None):
        """Choose boxes.

        Args:
            boxes: (B, N, 4) xyxy.
            scores: (B, N).
            labels: (B, N) integers; boxes suppress only boxes of the same label. None: any box.

        Returns:
            Indices (B, D) int32, by descending score, padded with -1, and counts (B,) int32.
        """
        options = (self.iou_threshold, self.max_output_size, self.score_threshold)
        if labels is None:
            return nms(boxes, scores, *options)
        return batched_nms(boxes, scores, labels, *options)

    def compute_output_spec(self, boxes, scores, labels=None):
        """Return the shapes of the indices and counts."""
        batch = boxes.shape[0]
        return (
            keras.KerasTensor((batch, self.max_output_size), "int32"),
            keras.KerasTensor((batch,), "int32"),
        )

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "iou_threshold": self.iou_threshold,
            "max_output_size": self.max_output_size,
            "score_threshold": self.score_threshold,
        }
