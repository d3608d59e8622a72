"""Evaluation of a model on a data set: match classes by name, detect, measure."""

import itertools

import numpy as np

from kerasdet.metrics.coco import IOU_TYPES, PARTS, coco_metrics, encode_masks


def evaluate(model, dataset, batch_size=8, progress=None, iou_type="bbox", on_found=None):
    """Detect on every image of a data set and measure.

    Args:
        model: detector with `detect` and `class_names`; `EXTRAS` names what it predicts besides boxes, and
            "proposals" in `INPUTS` says that it takes the data set's proposals.
        dataset: `kerasdet.data` data set; its classes are matched to the model's by name.
        batch_size: images per step.
        progress: None, or a function that wraps the iterator of images (a progress bar).
        iou_type: "bbox", "segm" or "keypoints"; or several, such as ("bbox", "segm"), which are
            measured on the same detections. `iou_types` lists all that can be measured.
        on_found: None, or a function that is called with each image's detections as the model gives them,
            those of classes that the data does not have among them.

    Returns:
        Tuple of the metrics (from `coco_metrics`; for several types a dict of these by type) and the
        list of detections, labelled by the data set's classes. Their masks are COCO run lengths over
        the whole image if "segm" is measured, and are otherwise left out.

    Raises:
        ValueError: the data has a class that the model does not know, or no proposals although the
            model takes them; or the model does not predict, or the data does not have, what is to be
            measured. This is checked before detection starts.
    """
    types = (iou_type,) if isinstance(iou_type, str) else tuple(iou_type)
    label_map = match_classes(model.class_names, dataset.class_names)
    _check_measurable(model, dataset, types)
    images = dataset.images()
    images = iter(images if progress is None else progress(images))
    proposals = dataset.proposals() if _takes_proposals(model) else None
    detections = []
    while chunk := list(itertools.islice(images, batch_size)):
        given = {} if proposals is None else {"proposals": _as_many(proposals, chunk)}
        found = model.detect(chunk, batch_size=batch_size, **given)
        for one in found if on_found else ():
            on_found(one)
        found = relabel(found, label_map)
        # Immediately, because the pasted masks of all images would not fit into memory.
        detections += [
            encode_masks(one, image.shape[:2]) if "segm" in types else _without_masks(one)
            for one, image in zip(found, chunk)
        ]
    records = [dataset.record(index) for index in range(len(dataset))]
    metrics = {}
    for name in types:
        sigmas = dataset.keypoint_sigmas if name == "keypoints" else None
        metrics[name] = coco_metrics(records, detections, dataset.class_names, name, sigmas)
    return metrics[iou_type] if isinstance(iou_type, str) else metrics, detections


def iou_types(model, dataset):
    """List everything that can be measured for a model on a data set.

    Args:
        model: detector; its `EXTRAS` say what it predicts besides boxes.
        dataset: `kerasdet.data` data set.

    Returns:
        Tuple of "bbox" and, if the model predicts and the data has them, "segm" (masks) and
        "keypoints".
    """
    return (
        "bbox",
        *(t for t, part in PARTS.items() if _gives(model, part) and _has(dataset, part)),
    )


def _check_measurable(model, dataset, types):
    if _takes_proposals(model) and len(dataset) and not _has(dataset, "proposals"):
        raise ValueError(
            f"{type(model).__name__} takes proposals, but {dataset.name} has none; add them by "
            "data.with_proposals(source)."
        )
    for name in types:
        if name not in IOU_TYPES:
            raise ValueError(f"iou_type must be one or more of {IOU_TYPES}, got {name!r}.")
        part = PARTS.get(name)
        if part and not _gives(model, part):
            raise ValueError(
                f"{type(model).__name__} predicts no {part}, which iou_type={name!r} measures: "
                'measure "bbox", or use a model that learns them.'
            )
        if part and not _has(dataset, part):
            raise ValueError(
                f'{dataset.name} has no {part}, which iou_type={name!r} measures: measure "bbox".'
            )


def _gives(model, part):
    return part in getattr(model, "EXTRAS", ())


def _has(dataset, part):
    return len(dataset) > 0 and getattr(dataset.record(0), part, None) is not None


def _takes_proposals(model):
    return "proposals" in getattr(model, "INPUTS", ())


def _as_many(values, chunk):
    """Return the next values, one for each image of a chunk."""
    return list(itertools.islice(values, len(chunk)))


def _without_masks(found):
    return {name: value for name, value in found.items() if name != "masks"}


def match_classes(model_names, dataset_names):
    """Match a model's classes to a data set's, by name.

    Args:
        model_names: K names of the model's classes, in its order.
        dataset_names: names of the data set's classes, in its order.

    Returns:
        (K,) int32: the data set's label for each of the model's labels, -1 if it has none.

    Raises:
        ValueError: the model does not have a name of the data set, or the data set repeats a name.
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
    """Translate labels by the map of `match_classes`; drop detections of classes not in the data.

    Args:
        detections: list of dicts from `model.detect`.
        label_map: (K,) int, new label of each label, -1 to drop.

    Returns:
        List of new dicts that hold the remaining detections.
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
