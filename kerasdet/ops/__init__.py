"""Pure functions of tensors, written in `keras.ops`, without weights, layers or data: the lowest floor."""

from kerasdet.ops.anchors import cell_anchors, grid_anchors
from kerasdet.ops.boxes import (
    box_area,
    box_ciou,
    box_diou,
    box_giou,
    box_iou,
    clip_boxes,
    cxcywh_to_xyxy,
    intersection_over_area,
    paired_ciou,
    paired_diou,
    paired_giou,
    paired_iou,
    valid_mask,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)
from kerasdet.ops.coders import decode_deltas, encode_deltas
from kerasdet.ops.deform import deform_conv2d, deform_ps_roi_pool, deform_roi_pool
from kerasdet.ops.losses import (
    alpha_balanced_cross_entropy,
    ciou_loss,
    diou_loss,
    giou_loss,
    iou_loss,
    sigmoid_focal_loss,
    smooth_l1,
)
from kerasdet.ops.masks import cut_masks, mask_peaks, paste_masks
from kerasdet.ops.matching import BACKGROUND, BETWEEN, match_iou
from kerasdet.ops.nms import batched_nms, nms, soft_nms
from kerasdet.ops.pooling import l2_normalize, maxout, spatial_pyramid_pool
from kerasdet.ops.roi import (
    multilevel_roi_align,
    multilevel_roi_pool,
    ps_roi_align,
    ps_roi_pool,
    region_levels,
    roi_align,
    roi_pool,
)
from kerasdet.ops.sampling import ohem

__all__ = [
    "BACKGROUND",
    "BETWEEN",
    "alpha_balanced_cross_entropy",
    "batched_nms",
    "box_area",
    "box_ciou",
    "box_diou",
    "box_giou",
    "box_iou",
    "cell_anchors",
    "ciou_loss",
    "clip_boxes",
    "cut_masks",
    "cxcywh_to_xyxy",
    "decode_deltas",
    "deform_conv2d",
    "deform_ps_roi_pool",
    "deform_roi_pool",
    "diou_loss",
    "encode_deltas",
    "giou_loss",
    "grid_anchors",
    "intersection_over_area",
    "iou_loss",
    "l2_normalize",
    "mask_peaks",
    "match_iou",
    "maxout",
    "multilevel_roi_align",
    "multilevel_roi_pool",
    "nms",
    "ohem",
    "paired_ciou",
    "paired_diou",
    "paired_giou",
    "paired_iou",
    "paste_masks",
    "ps_roi_align",
    "ps_roi_pool",
    "region_levels",
    "roi_align",
    "roi_pool",
    "sigmoid_focal_loss",
    "smooth_l1",
    "soft_nms",
    "spatial_pyramid_pool",
    "valid_mask",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]
