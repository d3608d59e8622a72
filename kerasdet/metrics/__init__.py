"""Metrics of detections and segmentations as numbers: average precision, curves, confusion, IU.

`evaluate` and `evaluate_segmentation` run a model over a data set. All other functions take annotations
(`Record`s, or a `Dataset`) and the detections of `model.detect`, one dict per image in the same order.
Everything works on NumPy arrays, without TensorFlow.
"""

from kerasdet.metrics.coco import coco_metrics, encode_masks, to_coco_json
from kerasdet.metrics.confusion import confusion_matrix
from kerasdet.metrics.evaluation import evaluate, iou_types, match_classes, relabel
from kerasdet.metrics.plots import plot_confusion, plot_history, plot_precision_recall
from kerasdet.metrics.semantic import count_pixels, evaluate_segmentation, semantic_figures
from kerasdet.metrics.tables import (
    confusion_table,
    format_table,
    metrics_table,
    precision_recall_table,
)
from kerasdet.metrics.voc import (
    average_precision,
    precision_recall,
    precision_recall_curves,
    voc_ap,
)

__all__ = [
    "average_precision",
    "coco_metrics",
    "confusion_matrix",
    "confusion_table",
    "count_pixels",
    "encode_masks",
    "evaluate",
    "evaluate_segmentation",
    "format_table",
    "iou_types",
    "match_classes",
    "metrics_table",
    "plot_confusion",
    "plot_history",
    "plot_precision_recall",
    "precision_recall",
    "precision_recall_curves",
    "precision_recall_table",
    "relabel",
    "semantic_figures",
    "to_coco_json",
    "voc_ap",
]
