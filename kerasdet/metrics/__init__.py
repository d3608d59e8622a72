"""What detections are worth: COCO and VOC average precision, curves and confusion, as numbers.

Everything here takes annotations (`Record`s, or a `Dataset`) and detections as `model.detect`
returns them, one dict per picture in the same order, and works on NumPy arrays: no model, no
TensorFlow.
"""

from kerasdet.metrics.coco import coco_metrics, evaluate, match_classes, relabel, to_coco_json

__all__ = [
    "coco_metrics",
    "evaluate",
    "match_classes",
    "relabel",
    "to_coco_json",
]
