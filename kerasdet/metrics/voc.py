"""VOC average precision: matching by the development kit's rule, 11-point or all-point."""

import numpy as np

from kerasdet.metrics.coco import as_records


def voc_ap(records, detections, class_names, iou_threshold=0.5, points=11):
    """Compute VOC's mean average precision.

    Args:
        records: data set or sequence of `Record`.
        detections: list of dicts "boxes", "labels", "confidence", in the records' order.
        class_names: names of the labels 0..K-1.
        iou_threshold: lowest IoU of a detection with its object.
        points: 11 (VOC 2007) or "all" (from VOC 2010).

    Returns:
        Dict of "mAP" and "per_class": name -> {"AP", "objects"}; None if there are no objects.

    Source: Everingham et al., The PASCAL Visual Object Classes Challenge, §4.2. Boxes are continuous
    here; the development kit adds one pixel to their sides.
    """
    curves = precision_recall_curves(records, detections, class_names, iou_threshold)
    per_class = {}
    for name, curve in curves.items():
        objects = curve["objects"]
        ap = average_precision(curve["precision"], curve["recall"], points) if objects else None
        per_class[name] = {"AP": ap, "objects": objects}
    measured = [entry["AP"] for entry in per_class.values() if entry["AP"] is not None]
    return {"mAP": float(np.mean(measured)) if measured else None, "per_class": per_class}


def precision_recall_curves(records, detections, class_names, iou_threshold=0.5):
    """Compute precision and recall of each class at every detection, best first.

    Args:
        records: data set or sequence of `Record`.
        detections: list of dicts "boxes", "labels", "confidence", in the records' order.
        class_names: names of the labels 0..K-1.
        iou_threshold: lowest IoU of a detection with its object.

    Returns:
        Dict name -> {"scores" (N,), "precision" (N,), "recall" (N,), "objects" int}.
    """
    records = as_records(records, detections)
    curves = {}
    for label, name in enumerate(class_names):
        scores, hits, objects = _hits(records, detections, label, iou_threshold)
        precision, recall = precision_recall(scores, hits, objects)
        curves[name] = {
            "scores": -np.sort(-scores),
            "precision": precision,
            "recall": recall,
            "objects": objects,
        }
    return curves


def precision_recall(scores, true_positive, num_objects):
    """Compute precision and recall after each detection, by descending score (equal scores in order).

    Args:
        scores: (N,) confidences, in any order.
        true_positive: (N,) bool, whether each found an object.
        num_objects: number of objects to find.

    Returns:
        Tuple of precision (N,) and recall (N,); recall is 0 if there are no objects.

    Source: Everingham et al., §4.2.
    """
    order = np.argsort(-np.asarray(scores, "float64"), kind="stable")
    found = np.cumsum(np.asarray(true_positive, bool)[order])
    # Eq: voc §4.2 | precision = TP / (TP + FP), recall = TP / objects
    return found / np.arange(1, len(found) + 1), found / max(1, num_objects)


def average_precision(precision, recall, points=11):
    """Compute the area under the interpolated precision-recall curve.

    Args:
        precision: (N,), from `precision_recall`.
        recall: (N,), likewise, ascending.
        points: 11: the mean at recall 0, 0.1, ... 1; "all": the area under every step.

    Returns:
        float in 0..1; 0 if there are no detections.

    Raises:
        ValueError: `points` has another value.

    Source: Everingham et al., §4.2 (11 points); VOC 2010 development kit, §3.4.1 (all).
    """
    precision, recall = np.asarray(precision, "float64"), np.asarray(recall, "float64")
    if points not in (11, "all"):
        raise ValueError(f'points must be 11 or "all", got {points!r}.')
    if not len(precision):
        return 0.0
    # Eq: voc §4.2 | p_interp(r) = max of p(r~) over r~ >= r
    interpolated = np.maximum.accumulate(precision[::-1])[::-1]
    if points == "all":
        return float(np.sum(np.diff(recall, prepend=0.0) * interpolated))
    levels = np.arange(11) / 10  # linspace's 0.3 is not the float 3 / 10
    first = np.searchsorted(recall, levels, side="left")
    # Eq: voc §4.2 | AP = 1/11 sum of p_interp(r) over r in {0, 0.1, ..., 1}
    return float(np.sum(np.append(interpolated, 0.0)[first]) / 11)


def box_iou(boxes1, boxes2):
    """Compute the IoU of every pair in float64, by pycocotools: (N, 4), (M, 4) xyxy -> (N, M)."""
    from pycocotools import mask as coco_mask

    if not len(boxes1) or not len(boxes2):
        return np.zeros((len(boxes1), len(boxes2)))
    boxes1, boxes2 = np.array(boxes1, "float64"), np.array(boxes2, "float64")
    for boxes in (boxes1, boxes2):
        boxes[:, 2:] -= boxes[:, :2]  # to xywh
    return coco_mask.iou(boxes1, boxes2, [0] * len(boxes2))


def _hits(records, detections, label, iou_threshold):
    """Return scores (N,) and hits (N,) of one class's detections, without those on ignored objects.

    By descending score, each detection takes its image's object of greatest IoU. The first detection of
    an object is a hit, and later ones are false. Detections of an ignored object do not count. Each image
    is matched separately.
    """
    scores, hits, num_objects = [], [], 0
    for record, found in zip(records, detections):
        objects = np.asarray(record.labels) == label
        ignored = np.asarray(record.ignore, bool)[objects]
        num_objects += int(np.count_nonzero(~ignored))
        mine = np.flatnonzero(np.asarray(found["labels"]) == label)
        confidence = np.asarray(found["confidence"], "float64")[mine]
        iou = box_iou(np.asarray(found["boxes"])[mine], np.asarray(record.boxes)[objects])  # (D, G)
        taken = np.zeros(len(ignored), bool)
        for i in np.argsort(-confidence, kind="stable"):
            best = int(np.argmax(iou[i])) if len(taken) else -1
            near = best >= 0 and iou[i, best] >= iou_threshold
            if near and ignored[best]:
                continue
            scores.append(confidence[i])
            hits.append(near and not taken[best])
            if near:
                taken[best] = True
    return np.array(scores, "float64"), np.array(hits, bool), num_objects
