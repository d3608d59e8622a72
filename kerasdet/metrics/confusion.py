"""The confusion matrix of detections: which class was detected as which."""

import numpy as np

from kerasdet.metrics.coco import as_records
from kerasdet.metrics.voc import box_iou


def confusion_matrix(records, detections, class_names, iou_threshold=0.5, score_threshold=0.5):
    """Count the class that each object was detected as.

    By descending confidence, each detection takes the object that it overlaps most among those not yet
    taken. Ignored objects do not count. Detections that overlap only an ignored object do not count.

    Args:
        records: data set or sequence of `Record`.
        detections: list of dicts "boxes", "labels", "confidence", in the records' order.
        class_names: names of the labels 0..K-1.
        iou_threshold: lowest IoU of a detection with its object.
        score_threshold: lowest confidence of a detection that counts.

    Returns:
        (K + 1, K + 1) int64: objects of the row's class that were detected as the column's class. The last
        row is background detected as an object, the last column is objects that were missed.
    """
    background = len(class_names)
    matrix = np.zeros((background + 1, background + 1), "int64")
    for record, found in zip(as_records(records, detections), detections):
        confidence = np.asarray(found["confidence"])
        order = np.argsort(-confidence, kind="stable")
        order = order[confidence[order] >= score_threshold]
        predicted = np.asarray(found["labels"], int)[order]
        iou = box_iou(np.asarray(found["boxes"])[order], record.boxes)  # (D, G)
        near = iou >= iou_threshold
        ignored = np.asarray(record.ignore, bool)
        free = ~ignored
        for i, column in enumerate(predicted):
            candidates = np.flatnonzero(near[i] & free)
            if len(candidates):
                best = candidates[np.argmax(iou[i, candidates])]
                free[best] = False
                matrix[record.labels[best], column] += 1
            elif not np.any(near[i] & ignored):
                matrix[background, column] += 1
        np.add.at(matrix[:, background], np.asarray(record.labels)[free], 1)
    return matrix
