"""A model on a data set: classes matched by name, detections made and measured."""

import numpy as np

from kerasdet.metrics.coco import coco_metrics


def evaluate(model, dataset, batch_size=8, progress=None, iou_type="bbox"):
    """Detect on every picture of a data set and measure.

    Args:
        model: detector with `detect` and `class_names`.
        dataset: `kerasdet.data` data set; its classes are matched to the model's by name.
        batch_size: pictures per step.
        progress: None, or a function that wraps the iterator of pictures (a progress bar).
        iou_type: "bbox", "segm" or "keypoints".

    Returns:
        Tuple of the metrics (as `coco_metrics`) and the list of detections, labelled by the data
        set's classes.

    Raises:
        ValueError: the data has a class that the model does not know.
    """
    label_map = match_classes(model.class_names, dataset.class_names)
    pictures = dataset.pictures()
    if progress is not None:
        pictures = progress(pictures)
    detections = relabel(model.detect(pictures, batch_size=batch_size), label_map)
    sigmas = dataset.keypoint_sigmas if iou_type == "keypoints" else None
    metrics = coco_metrics(dataset, detections, dataset.class_names, iou_type, sigmas)
    return metrics, detections


def match_classes(model_names, dataset_names):
    """Match a model's classes to a data set's, by name.

    Args:
        model_names: K names of the model's classes, in its order.
        dataset_names: names of the data set's classes, in its order.

    Returns:
        (K,) int32: the data set's label for each of the model's labels, -1 where it has none.

    Raises:
        ValueError: a name of the data set is not among the model's, or stands there twice.
    """
    dataset_names = list(dataset_names)
    for name in dataset_names:
        if dataset_names.count(name) > 1:
            raise ValueError(f"The data set names the class {name!r} twice; names must differ.")
    unknown = [name for name in dataset_names if name not in model_names]
    if unknown:
        raise ValueError(
            f"The model does not know the data's class(es) {', '.join(map(repr, unknown))}. "
            f"It knows {', '.join(map(repr, model_names))}: rename the data's classes to these, "
            "or use a model trained on the data's."
        )
    labels = {name: label for label, name in enumerate(dataset_names)}
    return np.array([labels.get(name, -1) for name in model_names], "int32")


def relabel(detections, label_map):
    """Translate labels by `match_classes`' map; detections of classes not in the data go.

    Args:
        detections: list of dicts as `model.detect` returns.
        label_map: (K,) int, new label of each label, -1 to drop.

    Returns:
        List of new dicts, every entry of one length cut to the detections that stay.
    """
    translated = []
    for found in detections:
        labels = label_map[np.asarray(found["labels"], "int32")]
        keep = np.flatnonzero(labels >= 0)
        kept = {
            key: np.asarray(value)[keep] if hasattr(value, "shape") else [value[i] for i in keep]
            for key, value in found.items()
        }
        translated.append(kept | {"labels": labels[keep]})
    return translated
