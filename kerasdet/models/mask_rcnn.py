"""Mask R-CNN: Faster R-CNN with a third branch that draws each object's mask.

    He, Gkioxari, Dollar, Girshick. Mask R-CNN. ICCV 2017. arXiv 1703.06870v3.

Reading order: first Faster R-CNN (`faster_rcnn.py`); then what this paper changed: `MaskBranch` (section 3,
figure 4), whose `loss` and `mask_losses` are L_mask and whose `decode` takes the mask of each detection's own
class. RoIAlign, the paper's other contribution, is `kerasdet.ops.roi_align`. The branch's layers are
`kerasdet.layers.MaskHead` (figure 4, right). Targets and pasting are in `kerasdet.ops.masks`.

Departures from the paper:
    - Mask targets are not rounded to 0 and 1: the target of a cell is the share of it that the object covers,
      sampled at 2 x 2 points (torchvision's number depends on the region; it samples half a pixel up left).
    - A region that contains no pixel of its object's mask takes no part in the mask loss, so an object
      without a drawn mask changes nothing.

Axes: B batch, G ground truth, S sampled regions, Q of them with an object, K classes, D detections, m cells
of a mask's side.
"""

import keras
from keras import ops

from kerasdet.layers.conv import Conv
from kerasdet.layers.mask_heads import MaskHead
from kerasdet.layers.roi import MultilevelRoIAlign
from kerasdet.models.base import build_once, norm_option
from kerasdet.models.fast_rcnn import POSITIVES, RegionPart
from kerasdet.models.faster_rcnn import FasterRCNN
from kerasdet.ops import native
from kerasdet.ops.boxes import valid_mask
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.masks import cut_masks

REGION_SIZE = 14  # figure 4, right; the mask is twice as large
OUTPUT_STD = 0.001
SMALLEST_PROBABILITY = 1e-6  # its logit is finite
STEP = 8  # regions; kernels store a plan for each size that they have seen


class RegionBranch(RegionPart):
    """Base of the branches that draw maps in the regions that have an object. Abstract.

    A branch names `LOSS_TERM` (its name in `fit`'s logs), `TARGET` (what it learns from), `OUTPUT` (its raw
    output) and `EXTRA` (what it adds to detections), and fills `make_output`, `loss` and `decode`.

    Args:
        pooling: a layer from a dict of maps and boxes to regions (B, R, h, w, C).
        head: a layer from regions to features (B, R, m, m, F).
    """

    def attach(self, model):
        """Create the weights for a model's maps and classes."""
        if hasattr(self, "output_conv"):
            return
        regions = self.regions_shape(model)
        build_once(self.head, regions)
        features = self.head.compute_output_shape(regions)
        self.output_conv = self.make_output(model)
        self.output_conv.build((None, *features[2:]))
        self.built = True

    def make_output(self, model):
        """Return the layer from features (N, m, m, F) to logits, not built."""
        raise NotImplementedError

    def regions_shape(self, model):
        """Return the shape (None, None, h, w, C) of the head's input."""
        return self.pooling.compute_output_shape(model.region_maps_shape(), (None, None, 4))

    def regions(self, model, maps, boxes, training, rows):
        """Return the head's input for boxes (B, R, 4): (B, R, h, w, C), or (1, N, h, w, C) with rows."""
        return pack_rows(self.pooling(maps, boxes), rows)

    def draw(self, model, maps, boxes, training=False, rows=None):
        """Draw maps in given boxes.

        Args:
            model: the detector whose branch this is.
            maps: its `region_maps`.
            boxes: (B, R, 4) xyxy.
            training: bool.
            rows: (N,), the only boxes to draw in, from `positive_regions`; None: all.

        Returns:
            Float32 logits (B, R, m, m, outputs), or (1, N, m, m, outputs) with rows.
        """
        features = self.head(self.regions(model, maps, boxes, training, rows), training=training)
        batch, count = ops.shape(features)[:2]
        flat = ops.reshape(features, (batch * count, *features.shape[2:]))  # (B R, m, m, F)
        logits = self.upsample(self.output_conv(flat))  # (B R, m, m, outputs)
        return ops.reshape(logits, (batch, count, *logits.shape[1:]))  # (B, R, m, m, outputs)

    def upsample(self, logits):
        """Apply what follows the last layer; by default nothing."""
        return logits

    def mean(self, logits):
        """Return the mean of what the stages of a cascade draw, logits again."""
        return sum(logits) / len(logits)


@keras.saving.register_keras_serializable("kerasdet")
class MaskBranch(RegionBranch):
    """Predicts which pixels of a box belong to the object: a mask for every class (section 3).

    Args:
        pooling: a layer from a dict of maps and boxes to regions; default `MultilevelRoIAlign(14)`.
        head: a layer from regions (B, R, h, w, C) to features (B, R, m, m, F); default `MaskHead()`.
        share_head: whether the branch starts from the maps of the classifier's head (which must have maps,
            like `ResNetHead`) and not from `pooling` (figure 4, left); default `head`: `MaskHead(())`.

    Raises:
        ValueError: `share_head` with a pooling, or (in `attach`) with a head without maps.
    """

    LOSS_TERM = "mask_loss"
    TARGET = "masks"
    OUTPUT = "mask_logits"
    EXTRA = "masks"

    def __init__(self, pooling=None, head=None, share_head=False, name="mask_branch", **kwargs):
        if share_head and pooling:
            raise ValueError(f"share_head takes no pooling, but got {pooling!r}.")
        if not (share_head or pooling):
            pooling = MultilevelRoIAlign(REGION_SIZE, name="mask_pooling")
        head = head or MaskHead(**({"convs": ()} if share_head else {}), name="mask_head")
        super().__init__(pooling, head, name=name, **kwargs)
        self.share_head = share_head

    def mean(self, logits):
        """Return the logits of the mean probability; see `RegionBranch`."""
        probability = sum(map(ops.sigmoid, logits)) / len(logits)
        probability = ops.clip(probability, SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
        return ops.log(probability) - ops.log(1.0 - probability)

    def make_output(self, model):
        """Return the layer that draws a mask for every class (figure 4)."""
        return Conv(
            model.num_classes,
            1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=OUTPUT_STD),
            dtype="float32",
            name="mask_output",
        )

    def regions_shape(self, model):
        """Return the shape (None, None, h, w, C) of the head's input."""
        if not self.share_head:
            return super().regions_shape(model)
        if not hasattr(model.head, "maps"):
            raise ValueError(
                f"share_head needs a head with maps, such as ResNetHead, not a {type(model.head).__name__}."
            )
        maps = model.region_maps_shape()
        return model.head.maps_shape(model.pooling.compute_output_shape(maps, (None, None, 4)))

    def regions(self, model, maps, boxes, training, rows):
        """Return pooled regions, or the maps that the classifier's head computes from them."""
        if not self.share_head:
            return super().regions(model, maps, boxes, training, rows)
        return model.head.maps(pack_rows(model.pooling(maps, boxes), rows), training)

    def loss(self, model, maps, targets, sampled, training=False):
        """Return L_mask of the sampled regions, as (sum, count)."""
        if "masks" not in targets:
            raise ValueError(
                f'{type(model).__name__} learns masks, but targets have no "masks" (B, G, H, W); '
                f"they have {', '.join(sorted(targets))}. Ask for them: batches(..., masks=True)."
            )
        regions, objects, rows = positive_regions(sampled, model.regions_per_image)
        logits = self.draw(model, maps, regions, training, rows)  # (1, N, m, m, K)
        masks = cut_masks(targets["masks"], regions, objects, logits.shape[2])  # (B, Q, m, m)
        labels = gather_rows(targets["labels"], objects)  # (B, Q)
        masks, labels = pack_rows(masks, rows), pack_rows(labels, rows)
        # Eq: mask_rcnn §3 | L = L_cls + L_box + L_mask
        return mask_losses(logits, masks, ops.where(rows >= 0, labels, -1))

    def decode(self, logits, detections):
        """Add to detections the mask of each detection's own class (section 3.1, Inference)."""
        masks = ops.sigmoid(own_class(logits, detections["labels"]))
        found = valid_mask(detections["labels"])[..., None, None]
        return {**detections, "masks": ops.where(found, masks, -1.0)}

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "share_head": self.share_head}


@keras.saving.register_keras_serializable("kerasdet")
class MaskRCNN(FasterRCNN):
    """Faster R-CNN that also predicts which pixels of a box belong to the object (arXiv 1703.06870).

    Detections have "masks" (B, D, m, m), probabilities relative to the box, -1 for padding;
    `kerasdet.ops.paste_masks` pastes them into an image. Targets need "masks" (B, G, H, W) on the canvas:
    `data.batches(..., masks=True)`.

    Args:
        num_classes: K, foreground classes 0..K-1.
        branches: default one `MaskBranch()`.
        **faster_rcnn: every other argument of `FasterRCNN`.

    Example:
        >>> model = MaskRCNN(3, backbone=kerasdet.backbones.ResNet50())
        >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        >>> model.fit(data.batches(2, resize=model.resize, masks=True))
        >>> (found,) = model.detect(image)
        >>> masks = paste_masks(found["masks"], found["boxes"], image.shape[:2])

        ResNet-C4, with masks drawn from the fifth stage, which also classifies (figure 4, left):

        >>> backbone, head = ResNet50.split_preset("resnet50_imagenet", freeze_at="C2")
        >>> MaskRCNN(20, backbone=backbone, neck=False, pooling=MultilevelRoIAlign(14), head=head,
        ...          branches=(MaskBranch(share_head=True),))

    Raises:
        ValueError: an argument is out of its range, or training targets have no "masks".
    """

    def __init__(self, num_classes, branches=None, **faster_rcnn):
        super().__init__(num_classes, branches=branches or (MaskBranch(),), **faster_rcnn)

    @classmethod
    def for_data(
        cls, data, resize=None, backbone=None, channels=128, depth=4, norm="batch", **options
    ):
        """Build a model for a data set with masks.

        Args:
            data: `Dataset`, for its classes and the sizes of its objects.
            resize: `Resize` part of the model.
            backbone: default MobileNetV2.
            channels: as in `FasterRCNN.for_data`, and of the mask branch.
            depth: hidden convolutions of the mask branch.
            norm: "batch" (for training from scratch) or "none", for the neck and the mask branch.
            **options: as in `FasterRCNN.for_data`.
        """
        head = MaskHead((channels,) * depth, channels, norm_option(norm), name="mask_head")
        options = {"branches": (MaskBranch(head=head),), **options}
        return super().for_data(data, resize, backbone, channels=channels, norm=norm, **options)


def mask_losses(logits, masks, labels):
    """Compute the cross entropy of the positive regions' masks, only of the true class (section 3).

    Args:
        logits: (B, R, m, m, K).
        masks: (B, R, m, m) in 0..1, the mask that each region must draw.
        labels: (B, R), the true class, -1 for no class.

    Returns:
        (sum, count): each region contributes the mean of its cells.
    """
    masks = ops.stop_gradient(masks)
    positive = valid_mask(labels) & ops.any(masks > 0.0, axis=(2, 3))  # (B, R)
    own = own_class(ops.cast(logits, "float32"), labels)  # (B, R, m, m)
    # Eq: mask_rcnn §3 | L_mask = mean over m x m cells of the binary cross entropy of the k-th mask
    losses = ops.mean(ops.softplus(own) - masks * own, axis=(2, 3))  # (B, R)
    count = ops.sum(ops.cast(positive, "float32"))
    return ops.sum(ops.where(positive, losses, 0.0)), count


def own_class(logits, labels):
    """Take each region's mask of one class: (B, R, m, m, K), (B, R) -> (B, R, m, m); zeros for label -1."""
    own = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return ops.sum(logits * own[:, :, None, None], axis=-1)


def positive_regions(sampled, count):
    """Pick the sampled regions that have an object; a branch learns only from these.

    Args:
        sampled: the result of `sample_regions`: regions (B, S, 4), objects and counted (B, S).
        count: the requested S; if there were fewer regions, S is smaller.

    Returns:
        regions (B, Q, 4) and objects (B, Q), -1 for no object, and rows (N,) int32, the places among the
        B * Q of the regions with an object, padded with -1. Q is S / 4 and N is B * Q. Where sizes may depend
        on the data, Q is the most that any image needs, and N is the images' sum, rounded up.
    """
    most = max(1, int(count * POSITIVES))
    follow = native.available()
    if follow:  # no work for regions without an object
        found = ops.sum(ops.cast(sampled[1] >= 0, "int32"), axis=1)  # (B,)
        most = ops.minimum(most, ops.maximum(ops.max(found), 1))
    regions, objects, _ = (values[:, :most] for values in sampled)  # they come first
    positive = ops.reshape(objects >= 0, (-1,))  # (B Q,)
    rows = ops.argsort(ops.where(positive, 0, 1))  # (B Q,)
    if follow:
        rows = rows[: STEP * (ops.maximum(ops.sum(found) - 1, 0) // STEP + 1)]
    return regions, objects, ops.where(ops.take(positive, rows), ops.cast(rows, "int32"), -1)


def pack_rows(values, rows):
    """Join the rows of all images as if they came from one image: (B, Q, ...), (N,) -> (1, N, ...).

    A negative row (padding) picks the first, which the caller must mask. None for rows changes nothing.
    """
    if rows is None:
        return values
    shape = ops.shape(values)
    flat = ops.reshape(values, (shape[0] * shape[1], *shape[2:]))  # (B Q, ...)
    return ops.take(flat, ops.maximum(rows, 0), axis=0)[None]
