"""Online hard example mining: of all regions of an image, those with the highest losses are learnt.

    Shrivastava, Gupta, Girshick. Training Region-based Object Detectors with Online Hard Example Mining.
    CVPR 2016. arXiv 1604.03540v1.

Reading order: first Fast R-CNN (`fast_rcnn.py`); then `HardRegions`, which replaces its sampler (section
4.2). Fast R-CNN, Faster R-CNN and R-FCN take it as `sampler`. It chooses from all proposals.

Departures from the paper:
    - The pass that only reads the losses leaves out dropout and keeps the statistics of batch normalisation.

Axes: B batch, R proposals, S chosen regions, G ground truth.
"""

import keras
from keras import ops

from kerasdet.models.fast_rcnn import FOREGROUND_IOU, match_regions
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.matching import BACKGROUND, BETWEEN
from kerasdet.ops.nms import nms

IOU_THRESHOLD = 0.7  # section 4.2


@keras.saving.register_keras_serializable("kerasdet")
class HardRegions(keras.layers.Layer):
    """Chooses the regions of a training step by their losses (arXiv 1604.03540, section 4.2).

    All proposals and objects are classified without gradient. Of regions that overlap, only the hardest
    stays; then the hardest are learnt, whether they have an object or not.

    Args:
        iou_threshold: a region is dropped when its IoU with a harder one is greater.

    Example:
        >>> model = FasterRCNN(3, regions_per_image=128, sampler=HardRegions())
        >>> model.rpn.proposals = (2000, 300)  # in training, at test
    """

    def __init__(self, iou_threshold=IOU_THRESHOLD, **kwargs):
        super().__init__(**kwargs)
        if not 0 < iou_threshold <= 1:
            raise ValueError(
                f"iou_threshold is {iou_threshold!r}; give a number above 0, at most 1."
            )
        self.iou_threshold = iou_threshold

    def sample(self, targets, outputs, count, keys, losses, foreground_iou=FOREGROUND_IOU):
        """Choose regions.

        Args:
            targets: prepared targets.
            outputs: "proposals" (B, R, 4) and "is_proposal" (B, R).
            count: S, regions per image.
            keys: not used: nothing is random.
            losses: function from regions (B, R + G, 4), their objects and whether they count, to the
                loss of each, without gradient; see `losses_of`.
            foreground_iou: lowest IoU of a region with its object.

        Returns:
            regions: (B, S, 4), those with an object first, and else by descending loss.
            objects: (B, S) int32, the object that each region must find, -1 for background.
            counted: (B, S) bool, False for padding when there are fewer than S regions.
        """
        # (B, R + G, 4), (B, R + G)
        regions, matches = match_regions(targets, outputs, foreground_iou=foreground_iou)
        usable = matches != BETWEEN
        objects = ops.where(usable, matches, BACKGROUND)
        hardness = losses(regions, objects, usable)  # (B, R + G)
        # Eq: ohem §4.2 | sort by loss, NMS with an IoU of 0.7, keep the B / N hardest
        hardest, _ = nms(regions, hardness, self.iou_threshold, count, score_threshold=0.0)
        counted = hardest >= 0  # (B, S)
        objects = ops.where(counted, gather_rows(objects, hardest), BACKGROUND)
        size = ops.shape(objects)[1]
        places = ops.arange(size, dtype="int32") + ops.where(objects >= 0, 0, size)
        order = ops.argsort(places, axis=-1)  # (B, S)
        chosen = (gather_rows(regions, hardest), objects, counted)
        return tuple(gather_rows(values, order) for values in chosen)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "iou_threshold": self.iou_threshold}
