"""Mask R-CNN: Faster R-CNN with a third branch that draws each object's mask.

    He, Gkioxari, Dollar, Girshick. Mask R-CNN. ICCV 2017. arXiv 1703.06870v3.

Reading order: Faster R-CNN first (`faster_rcnn.py`); then what this paper changed: `MaskRCNN.call` (section
3.1, Inference: masks of the boxes that were detected), `MaskRCNN.region_terms` and `mask_losses` (section 3),
`MaskRCNN.decode`. RoIAlign, which the paper is as well known for, is `kerasdet.ops.roi_align`; the branch is
`kerasdet.layers.MaskHead` (figure 4, right), targets and pasting are `kerasdet.ops.masks`.

Departures from the paper:
    - Mask targets are not rounded to 0 and 1: a cell's target is the share of it that the object covers, by
      2 x 2 points (torchvision takes as many as the region's size asks, and half a pixel up and left).
    - A region in which nothing of its object's mask lies, and so an object whose mask is empty because
      nobody drew it, teaches no mask.

Axes: B batch, G ground truth, S sampled regions, K classes, D detections, m cells of a mask's side.
"""

import keras
from keras import ops

from kerasdet.layers.conv import Conv
from kerasdet.layers.mask_heads import MaskHead
from kerasdet.layers.roi import MultilevelRoIAlign
from kerasdet.models.faster_rcnn import FasterRCNN, build_once, pack_rows, positive_regions
from kerasdet.ops.boxes import valid_mask
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.masks import cut_masks

REGION_SIZE = 14  # figure 4, right; the mask is twice as large


@keras.saving.register_keras_serializable("kerasdet")
class MaskRCNN(FasterRCNN):
    """Faster R-CNN that also tells which pixels of a box are the object's (arXiv 1703.06870).

    Detections have "masks" (B, D, m, m), probabilities relative to the box, -1 for padding;
    `kerasdet.ops.paste_masks` lays them over an image. Targets need "masks" (B, G, H, W) on the canvas:
    `data.batches(..., masks=True)`.

    Args:
        num_classes: K, foreground classes 0..K-1.
        mask_pooling: a layer from maps, a dict, and boxes to regions; default
            `MultilevelRoIAlign(14)`.
        mask_head: a layer from regions (B, R, h, w, C) to features (B, R, m, m, F); default `MaskHead()`.
        share_head: whether the branch begins with `head`'s maps, which has them as `ResNetHead` does,
            instead of `mask_pooling`; default `mask_head`: `MaskHead(())`.
        **faster_rcnn: every other argument of `FasterRCNN`.

    Example:
        >>> model = MaskRCNN(3, backbone=kerasdet.backbones.ResNet50())
        >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        >>> model.fit(data.batches(2, resize=model.resize, masks=True))
        >>> found = model.detect([image])[0]
        >>> masks = paste_masks(found["masks"], found["boxes"], image.shape[:2])

        ResNet-C4, masks drawn of the fifth stage that also classifies (figure 4, left):

        >>> backbone, head = ResNet50.split_preset("resnet50_imagenet", freeze_at="C2")
        >>> MaskRCNN(20, backbone=backbone, neck=False, pooling=MultilevelRoIAlign(14), head=head,
        ...          share_head=True)

    Raises:
        ValueError: an argument is out of its range, or, in training, targets have no "masks".
    """

    LOSS_TERMS = (*FasterRCNN.LOSS_TERMS, "mask_loss")
    TARGETS = ("masks",)

    def __init__(
        self, num_classes, mask_pooling=None, mask_head=None, share_head=False, **faster_rcnn
    ):
        super().__init__(num_classes, **faster_rcnn)
        policy = self.dtype_policy
        if share_head and (mask_pooling or not hasattr(self.head, "maps")):
            raise ValueError(
                "share_head needs a head with maps, as ResNetHead, and no mask_pooling; they are "
                f"{type(self.head).__name__} and {mask_pooling!r}."
            )
        self.share_head = share_head
        if not (share_head or mask_pooling):
            mask_pooling = MultilevelRoIAlign(REGION_SIZE, dtype=policy, name="mask_pooling")
        self.mask_pooling = mask_pooling
        convs = {"convs": ()} if share_head else {}
        self.mask_head = mask_head or MaskHead(**convs, dtype=policy, name="mask_head")
        self.mask_output = Conv(
            self.num_classes,
            1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
            dtype="float32",
            name="mask_output",
        )
        self.build()

    def build(self, input_shape=None):
        """Create every weight."""
        super().build()
        if self.share_head:
            regions = self.head.maps_shape(self._pooled_shape(self.pooling))
        else:
            regions = self._pooled_shape(self.mask_pooling)
        build_once(self.mask_head, regions)
        self.mask_output.build(self.mask_head.compute_output_shape(regions))

    def call(self, inputs, training=False):
        """Raw outputs.

        Returns:
            Those of `FasterRCNN.call`; and, unless in training, "detections", the boxes as
            `FasterRCNN.decode` returns them, and for each of them "mask_logits" (B, D, m, m, K).
        """
        outputs = super().call(inputs, training)
        if training:
            return outputs
        # Section 3.1: masks are drawn in the boxes that suppression leaves, not in all proposals.
        detections = super().decode(outputs)
        logits = self.draw(outputs["maps"], detections["boxes"])
        return {**outputs, "detections": detections, "mask_logits": logits}

    def draw(self, maps, boxes, training=False, rows=None):
        """The mask branch on any boxes.

        Args:
            maps: the "maps" of `call`.
            boxes: (B, R, 4) xyxy.
            training: bool.
            rows: the only boxes to draw, as `positive_regions` gives them, (N,); None: all.

        Returns:
            (B, R, m, m, K), with rows (1, N, m, m, K), float32 logits, a mask for every class.
        """
        regions = self._pool(self.mask_pooling or self.pooling, maps, boxes, rows)
        if self.share_head:
            regions = self.head.maps(regions, training)
        features = self.mask_head(regions, training=training)
        batch, count = ops.shape(features)[:2]
        flat = ops.reshape(features, (batch * count, *features.shape[2:]))
        logits = self.mask_output(flat)
        return ops.reshape(logits, (batch, count, *logits.shape[1:]))

    def region_terms(self, maps, targets, sampled, training=False):
        """The second stage's terms, the masks' among them."""
        if "masks" not in targets:
            raise ValueError(
                f'{type(self).__name__} learns masks, and targets have no "masks" (B, G, H, W); '
                f"they have {', '.join(sorted(targets))}. Ask for them: batches(..., masks=True)."
            )
        terms = super().region_terms(maps, targets, sampled, training)
        regions, objects, rows = positive_regions(sampled, self.regions_per_image)
        logits = self.draw(maps, regions, training, rows)
        masks = cut_masks(targets["masks"], regions, objects, logits.shape[2])
        labels = gather_rows(targets["labels"], objects)
        masks, labels = pack_rows(masks, rows), pack_rows(labels, rows)
        # Eq: mask_rcnn §3 | L = L_cls + L_box + L_mask
        loss = mask_losses(logits, masks, ops.where(rows >= 0, labels, -1))
        return {**terms, "mask_loss": loss}

    def decode(self, outputs):
        """Faster R-CNN's detections, each with the mask of its own class (section 3.1, Inference)."""
        detections = outputs["detections"]
        masks = ops.sigmoid(own_class(outputs["mask_logits"], detections["labels"]))
        found = valid_mask(detections["labels"])[..., None, None]
        return {**detections, "masks": ops.where(found, masks, -1.0)}

    def get_config(self):
        """Every constructor argument, parts serialised."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "mask_pooling": serialize(self.mask_pooling),
            "mask_head": serialize(self.mask_head),
            "share_head": self.share_head,
        }


def mask_losses(logits, masks, labels):
    """Cross entropy of the positive regions' masks, of the true class's alone (section 3).

    Args:
        logits: (B, R, m, m, K).
        masks: (B, R, m, m) in 0..1, what each region is to draw.
        labels: (B, R), the true class, -1 for none.

    Returns:
        (sum, count): each region counts by the mean of its cells.
    """
    masks = ops.stop_gradient(masks)
    positive = valid_mask(labels) & ops.any(masks > 0.0, axis=(2, 3))
    own = own_class(ops.cast(logits, "float32"), labels)
    # Eq: mask_rcnn §3 | L_mask = mean over m x m cells of the binary cross entropy of the k-th mask
    losses = ops.mean(ops.softplus(own) - masks * own, axis=(2, 3))
    count = ops.sum(ops.cast(positive, "float32"))
    return ops.sum(ops.where(positive, losses, 0.0)), count


def own_class(logits, labels):
    """Each region's mask of one class: (B, R, m, m, K), (B, R) -> (B, R, m, m); zeros for label -1."""
    own = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return ops.sum(logits * own[:, :, None, None], axis=-1)
