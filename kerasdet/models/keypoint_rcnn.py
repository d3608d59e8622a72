"""Keypoint R-CNN: Mask R-CNN's branch draws, for each type of keypoint, a mask of a single cell.

    He, Gkioxari, Dollar, Girshick. Mask R-CNN. ICCV 2017. arXiv 1703.06870v3, section 5.

Reading order: first Mask R-CNN (`mask_rcnn.py`); then what section 5 changed: `KeypointBranch` (eight
convolutions, maps of 56 x 56), `keypoint_cells` and `keypoint_losses` (a softmax over all cells),
`KeypointBranch.decode`.

Departures from the paper:
    - A keypoint that is labelled but hidden is learnt like a visible one (the authors' and torchvision's
      code); a keypoint outside its region is not learnt.
    - The paper does not say how to read a position from a map. As in torchvision, the position is the highest
      pixel of the map after cubic interpolation to the box's own pixels
      (`kerasdet.ops.mask_peaks`, in fixed shapes).

Axes: B batch, G ground truth, S sampled regions, Q of them with an object, D detections, P points, m cells
of a map's side.
"""

import keras
from keras import ops

from kerasdet.layers.mask_heads import MaskHead
from kerasdet.layers.roi import MultilevelRoIAlign
from kerasdet.models.base import norm_option
from kerasdet.models.faster_rcnn import FasterRCNN
from kerasdet.models.mask_rcnn import REGION_SIZE, RegionBranch, pack_rows, positive_regions
from kerasdet.ops.boxes import valid_mask
from kerasdet.ops.checks import check_whole
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.masks import mask_peaks

COCO_KEYPOINTS = 17
CONVS = (512,) * 8  # section 5, Implementation Details


@keras.saving.register_keras_serializable("kerasdet")
class KeypointBranch(RegionBranch):
    """Predicts the keypoints of each object: one map for every type of keypoint (section 5).

    Args:
        pooling: a layer from a dict of maps and boxes to regions; default `MultilevelRoIAlign(14)`.
        head: a layer from regions (B, R, h, w, C) to features (B, R, h, w, F), from which maps of
            four times their size are drawn; default `MaskHead((512,) * 8, upsampled=None)`.

    Raises:
        ValueError: in `attach`, the model has no keypoint names.
    """

    LOSS_TERM = "keypoint_loss"
    TARGET = "keypoints"
    OUTPUT = "keypoint_logits"
    EXTRA = "keypoints"

    def __init__(self, pooling=None, head=None, name="keypoint_branch", **kwargs):
        pooling = pooling or MultilevelRoIAlign(REGION_SIZE, name="keypoint_pooling")
        head = head or MaskHead(CONVS, upsampled=None, name="keypoint_head")
        super().__init__(pooling, head, name=name, **kwargs)

    def make_output(self, model):
        """Return the layer that draws one map per type of keypoint, twice as large as the features."""
        if not model.keypoint_names:
            raise ValueError(
                f"KeypointBranch needs a model with keypoint names, such as KeypointRCNN, not a "
                f"{type(model).__name__}."
            )
        return keras.layers.Conv2DTranspose(
            len(model.keypoint_names),
            4,
            strides=2,
            padding="same",
            kernel_initializer="he_normal",
            dtype="float32",
            name="keypoint_output",
        )

    def upsample(self, logits):
        """Double the size of the maps, to 56 x 56."""
        size = [2 * side for side in logits.shape[1:3]]
        return ops.image.resize(logits, size, "bilinear", data_format="channels_last")

    def loss(self, model, maps, targets, sampled, training=False):
        """Return the keypoints' loss over the sampled regions, as (sum, count)."""
        points, number = targets.get("keypoints"), len(model.keypoint_names)
        if points is None or points.shape[2] not in (None, number):
            given = "none" if points is None else f"the shape {tuple(points.shape)}"
            raise ValueError(
                f'{type(model).__name__} learns targets "keypoints" (B, G, {number}, 3), '
                f"but they have {given}: use data with keypoints, and set num_keypoints= to their number."
            )
        regions, objects, rows = positive_regions(sampled, model.regions_per_image)
        logits = self.draw(model, maps, regions, training, rows)  # (1, N, m, m, P)
        points = pack_rows(gather_rows(points, objects), rows)  # (1, N, P, 3)
        return keypoint_losses(logits, points, pack_rows(regions, rows), (rows >= 0)[None])

    def decode(self, logits, detections):
        """Add to detections the highest place of each of their maps."""
        keypoints = mask_peaks(logits, detections["boxes"])
        found = valid_mask(detections["labels"])[..., None, None]
        return {**detections, "keypoints": ops.where(found, keypoints, -1.0)}


@keras.saving.register_keras_serializable("kerasdet")
class KeypointRCNN(FasterRCNN):
    """Faster R-CNN that also predicts the keypoints of each object (arXiv 1703.06870, section 5).

    Detections have "keypoints" (B, D, P, 3): x, y and a score, the map's logit at that place; -1 for
    padding. Targets need "keypoints" (B, G, P, 3): x, y and visibility, 0 where unknown. Data sets with
    keypoints provide them.

    Args:
        num_classes: K, foreground classes 0..K-1; all have the same keypoints. Default: 1, the person.
        num_keypoints: P; default the number of names, or COCO's 17 without names.
        keypoint_names: P names, default "0".."P-1".
        branches: default one `KeypointBranch()`.
        **faster_rcnn: every other argument of `FasterRCNN`.

    Example:
        >>> model = KeypointRCNN(backbone=kerasdet.backbones.ResNet50())
        >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        >>> model.fit(data.batches(2, resize=model.resize))
        >>> model.detect(image)[0]["keypoints"]

    Raises:
        ValueError: an argument is out of its range, or training targets have no such "keypoints".
    """

    def __init__(
        self, num_classes=1, num_keypoints=None, keypoint_names=None, branches=None, **faster_rcnn
    ):
        # Before the constructor below builds the branch, which draws a map for each keypoint.
        self.num_keypoints = num_keypoints or len(keypoint_names or ()) or COCO_KEYPOINTS
        check_whole("num_keypoints", self.num_keypoints)
        self.keypoint_names = tuple(keypoint_names or map(str, range(self.num_keypoints)))
        if len(self.keypoint_names) != self.num_keypoints:
            raise ValueError(
                f"keypoint_names has {len(self.keypoint_names)} entries for {self.num_keypoints} "
                f"keypoints: {self.keypoint_names}."
            )
        super().__init__(num_classes, branches=branches or (KeypointBranch(),), **faster_rcnn)

    @classmethod
    def for_data(
        cls, data, resize=None, backbone=None, channels=128, depth=4, norm="batch", **options
    ):
        """Build a model for a data set with keypoints.

        Args:
            data: `Dataset`, for its classes, its keypoints and the sizes of its objects.
            resize: `Resize` part of the model.
            backbone: default MobileNetV2.
            channels: as in `FasterRCNN.for_data`; the keypoint branch has twice as many.
            depth: half the number of hidden convolutions of the keypoint branch.
            norm: "batch" (for training from scratch) or "none", for the neck and the branch.
            **options: as in `FasterRCNN.for_data`.

        Raises:
            ValueError: the data set has no keypoints.
        """
        if not data.keypoint_names:
            raise ValueError(f"{cls.__name__} learns keypoints, but {data.name} has none.")
        widths = (2 * channels,) * (2 * depth)
        head = MaskHead(widths, upsampled=None, norm=norm_option(norm), name="keypoint_head")
        options = {"branches": (KeypointBranch(head=head),), **options}
        options = {"keypoint_names": data.keypoint_names, **options}
        return super().for_data(data, resize, backbone, channels=channels, norm=norm, **options)


def keypoint_cells(points, regions, size):
    """Find the one foreground cell of each keypoint's mask (section 5).

    Args:
        points: (B, R, P, 3) x, y in pixels and visibility.
        regions: (B, R, 4) xyxy.
        size: m.

    Returns:
        Index of the cell, row by row (B, R, P) int32, and whether there is such a cell (B, R, P) bool: the
        keypoint is labelled and inside the region, including the region's right and lower edges.
    """
    corner, other = regions[..., None, :2], regions[..., None, 2:]
    points, known = ops.cast(points[..., :2], "float32"), points[..., 2] > 0
    inside = ops.all((points >= corner) & (points <= other), axis=-1)  # (B, R, P)
    # Eq: mask_rcnn §5 | one-hot m x m mask: cell floor(m (x - x1) / w), floor(m (y - y1) / h)
    cells = ops.floor((points - corner) * (size / ops.maximum(other - corner, 1e-6)))
    cells = ops.cast(ops.where(inside[..., None], cells, 0.0), "int32")  # (B, R, P, 2)
    column, row = ops.unstack(ops.minimum(cells, size - 1), 2, axis=-1)
    return row * size + column, known & inside


def keypoint_losses(logits, points, regions, positive):
    """Compute the cross entropy of a softmax over all cells of each keypoint's map (section 5).

    Args:
        logits: (B, R, m, m, P).
        points: (B, R, P, 3), the keypoints of each region's object.
        regions: (B, R, 4) xyxy.
        positive: (B, R), whether a region has an object.

    Returns:
        (sum, count) over the keypoints that are labelled and inside their region.
    """
    batch, count, size, _, num_points = ops.shape(logits)
    cells, known = keypoint_cells(points, regions, size)
    known = known & positive[..., None]
    # Eq: mask_rcnn §5 | cross entropy of an m^2-way softmax whose target is one-hot
    logits = ops.reshape(ops.cast(logits, "float32"), (batch, count, size * size, num_points))
    flat = ops.reshape(ops.moveaxis(logits, 3, 2), (batch, count * num_points, size * size))
    own = ops.take_along_axis(flat, ops.reshape(cells, (batch, -1, 1)), axis=2)[..., 0]  # (B, R P)
    losses = ops.reshape(ops.logsumexp(flat, axis=2) - own, (batch, count, num_points))  # (B, R, P)
    total = ops.sum(ops.where(known, losses, 0.0))
    return total, ops.sum(ops.cast(known, "float32"))
