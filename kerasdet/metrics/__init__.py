"""What detections are worth: COCO and VOC average precision, curves and confusion, as numbers.

Everything here takes annotations (`Record`s, or a `Dataset`) and detections as `model.detect`
returns them, one dict per image in the same order, and works on NumPy arrays: no model, no
TensorFlow.
"""

from kerasdet.metrics.coco import coco_metrics, encode_masks, to_coco_json
from kerasdet.metrics.confusion import confusion_matrix
from kerasdet.metrics.evaluation import evaluate, iou_types, match_classes, relabel
from kerasdet.metrics.plots import plot_confusion, plot_history, plot_precision_recall
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
    "encode_masks",
    "evaluate",
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
    "to_coco_json",
    "voc_ap",
]
