"""Keypoint R-CNN: Mask R-CNN's third branch draws, for each type of keypoint, a mask of one single cell.

    He, Gkioxari, Dollar, Girshick. Mask R-CNN. ICCV 2017. arXiv 1703.06870v3, section 5.

Reading order: Mask R-CNN first (`mask_rcnn.py`); then what section 5 changed: `KeypointRCNN.point` (eight
convolutions, maps of 56 x 56), `keypoint_cells` and `keypoint_losses` (a softmax over all cells),
`KeypointRCNN.decode`.

Departures from the paper:
    - A keypoint that is labelled but hidden is learnt like a visible one (the authors' and torchvision's
      code); one outside its region is not.
    - The paper does not say how a position is read from a map. As in torchvision, the map is thought of as
      resized to the box's own pixels by cubic interpolation, and the highest pixel is taken
      (`kerasdet.ops.mask_peaks`, in fixed shapes).

Axes: B batch, G ground truth, S sampled regions, D detections, P points, m cells of a map's side.
"""

import keras
from keras import ops

from kerasdet.layers.mask_heads import MaskHead
from kerasdet.layers.roi import MultilevelRoIAlign
from kerasdet.models.faster_rcnn import FasterRCNN, build_once, pack_rows, positive_regions
from kerasdet.models.mask_rcnn import REGION_SIZE
from kerasdet.ops.boxes import valid_mask
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.masks import mask_peaks

COCO_KEYPOINTS = 17


@keras.saving.register_keras_serializable("kerasdet")
class KeypointRCNN(FasterRCNN):
    """Faster R-CNN that also tells where the keypoints of each object are (arXiv 1703.06870, section 5).

    Detections have "keypoints" (B, D, P, 3): x, y and a score, the logit of the map there; -1 for padding.
    Targets need "keypoints" (B, G, P, 3): x, y and visibility, 0 where unknown; data sets that have
    keypoints give them.

    Args:
        num_classes: K, foreground classes 0..K-1; they share the keypoints. Default: 1, the person.
        num_keypoints: P; default as many as there are names, else COCO's 17.
        keypoint_names: P names, default "0".."P-1".
        keypoint_pooling: a layer from maps, a dict, and boxes to regions; default
            `MultilevelRoIAlign(14)`.
        keypoint_head: a layer from regions (B, R, h, w, C) to features (B, R, h, w, F), from which maps of
            four times their size are drawn; default `MaskHead((512,) * 8, upsampled=None)`.
        **faster_rcnn: every other argument of `FasterRCNN`.

    Example:
        >>> model = KeypointRCNN(backbone=kerasdet.backbones.ResNet50())
        >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        >>> model.fit(data.batches(2, resize=model.resize))
        >>> model.detect([image])[0]["keypoints"]

    Raises:
        ValueError: an argument is out of its range, or, in training, targets have no such "keypoints".
    """

    LOSS_TERMS = (*FasterRCNN.LOSS_TERMS, "keypoint_loss")
    TARGETS = ("keypoints",)

    def __init__(
        self,
        num_classes=1,
        num_keypoints=None,
        keypoint_names=None,
        keypoint_pooling=None,
        keypoint_head=None,
        **faster_rcnn,
    ):
        super().__init__(num_classes, **faster_rcnn)
        policy = self.dtype_policy
        self.num_keypoints = num_keypoints or len(keypoint_names or ()) or COCO_KEYPOINTS
        self.keypoint_names = tuple(keypoint_names or map(str, range(self.num_keypoints)))
        if len(self.keypoint_names) != self.num_keypoints:
            raise ValueError(
                f"keypoint_names has {len(self.keypoint_names)} entries for {self.num_keypoints} "
                f"keypoints: {self.keypoint_names}."
            )
        self.keypoint_pooling = keypoint_pooling or MultilevelRoIAlign(
            REGION_SIZE, dtype=policy, name="keypoint_pooling"
        )
        self.keypoint_head = keypoint_head or MaskHead(
            (512,) * 8, upsampled=None, dtype=policy, name="keypoint_head"
        )
        self.keypoint_output = keras.layers.Conv2DTranspose(
            self.num_keypoints,
            4,
            strides=2,
            padding="same",
            kernel_initializer="he_normal",
            dtype="float32",
            name="keypoint_output",
        )
        self.build()

    def build(self, input_shape=None):
        """Create every weight."""
        super().build()
        pooled = self._pooled_shape(self.keypoint_pooling)
        build_once(self.keypoint_head, pooled)
        features = self.keypoint_head.compute_output_shape(pooled)
        self.keypoint_output.build((None, *features[2:]))

    def call(self, inputs, training=False):
        """Raw outputs.

        Returns:
            Those of `FasterRCNN.call`; and, unless in training, "detections", the boxes as
            `FasterRCNN.decode` returns them, and for each of them "keypoint_logits" (B, D, m, m, P).
        """
        outputs = super().call(inputs, training)
        if training:
            return outputs
        detections = super().decode(outputs)
        logits = self.point(outputs["maps"], detections["boxes"])
        return {**outputs, "detections": detections, "keypoint_logits": logits}

    def point(self, maps, boxes, training=False, rows=None):
        """The keypoint branch on any boxes.

        Args:
            maps: the "maps" of `call`.
            boxes: (B, R, 4) xyxy.
            training: bool.
            rows: the only boxes to look at, as `positive_regions` gives them, (N,); None: all.

        Returns:
            (B, R, m, m, P), with rows (1, N, m, m, P), float32 logits, a map for every type of keypoint.
        """
        regions = self._pool(self.keypoint_pooling, maps, boxes, rows)
        features = self.keypoint_head(regions, training=training)
        batch, count = ops.shape(features)[:2]
        logits = self.keypoint_output(ops.reshape(features, (batch * count, *features.shape[2:])))
        size = [2 * side for side in logits.shape[1:3]]
        logits = ops.image.resize(logits, size, "bilinear", data_format="channels_last")
        return ops.reshape(logits, (batch, count, *logits.shape[1:]))

    def region_terms(self, maps, targets, sampled, training=False):
        """The second stage's terms, the keypoints' among them."""
        points = targets.get("keypoints")
        if points is None or points.shape[2] not in (None, self.num_keypoints):
            given = "none" if points is None else f"the shape {tuple(points.shape)}"
            raise ValueError(
                f'{type(self).__name__} learns targets "keypoints" (B, G, {self.num_keypoints}, 3), '
                f"and they have {given}: use data with keypoints, and num_keypoints= their number."
            )
        terms = super().region_terms(maps, targets, sampled, training)
        regions, objects, rows = positive_regions(sampled, self.regions_per_image)
        logits = self.point(maps, regions, training, rows)
        points = pack_rows(gather_rows(points, objects), rows)
        loss = keypoint_losses(logits, points, pack_rows(regions, rows), (rows >= 0)[None])
        return {**terms, "keypoint_loss": loss}

    def decode(self, outputs):
        """Faster R-CNN's detections, each with the highest place of each of its maps."""
        detections = outputs["detections"]
        keypoints = mask_peaks(outputs["keypoint_logits"], detections["boxes"])
        found = valid_mask(detections["labels"])[..., None, None]
        return {**detections, "keypoints": ops.where(found, keypoints, -1.0)}

    def get_config(self):
        """Every constructor argument, parts serialised."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "num_keypoints": self.num_keypoints,
            "keypoint_names": list(self.keypoint_names),
            "keypoint_pooling": serialize(self.keypoint_pooling),
            "keypoint_head": serialize(self.keypoint_head),
        }


def keypoint_cells(points, regions, size):
    """The one cell of each keypoint's mask that is foreground (section 5).

    Args:
        points: (B, R, P, 3) x, y in pixels and visibility.
        regions: (B, R, 4) xyxy.
        size: m.

    Returns:
        Index of the cell, row by row (B, R, P) int32, and whether there is one (B, R, P) bool: the
        keypoint is labelled and lies in the region, its right and lower edges included.
    """
    corner, other = regions[..., None, :2], regions[..., None, 2:]
    points, known = ops.cast(points[..., :2], "float32"), points[..., 2] > 0
    inside = ops.all((points >= corner) & (points <= other), axis=-1)
    # Eq: mask_rcnn §5 | one-hot m x m mask: cell floor(m (x - x1) / w), floor(m (y - y1) / h)
    cells = ops.floor((points - corner) * (size / ops.maximum(other - corner, 1e-6)))
    cells = ops.cast(ops.where(inside[..., None], cells, 0.0), "int32")
    column, row = ops.unstack(ops.minimum(cells, size - 1), 2, axis=-1)
    return row * size + column, known & inside


def keypoint_losses(logits, points, regions, positive):
    """Cross entropy of a softmax over all cells of each keypoint's map (section 5).

    Args:
        logits: (B, R, m, m, P).
        points: (B, R, P, 3), of each region's object.
        regions: (B, R, 4) xyxy.
        positive: (B, R), whether a region has an object.

    Returns:
        (sum, count) over the keypoints that are labelled and lie in their region.
    """
    batch, count, size, _, num_points = ops.shape(logits)
    cells, known = keypoint_cells(points, regions, size)
    known = known & positive[..., None]
    # Eq: mask_rcnn §5 | cross entropy of an m^2-way softmax whose target is one-hot
    logits = ops.reshape(ops.cast(logits, "float32"), (batch, count, size * size, num_points))
    flat = ops.reshape(ops.moveaxis(logits, 3, 2), (batch, count * num_points, size * size))
    own = ops.take_along_axis(flat, ops.reshape(cells, (batch, -1, 1)), axis=2)[..., 0]
    losses = ops.reshape(ops.logsumexp(flat, axis=2) - own, (batch, count, num_points))
    total = ops.sum(ops.where(known, losses, 0.0))
    return total, ops.sum(ops.cast(known, "float32"))
