"""COCO average precision by pycocotools (or faster-coco-eval, same figures), built in memory."""

import contextlib
import io

import numpy as np

IOU_TYPES = ("bbox", "segm", "keypoints")
PARTS = {"segm": "masks", "keypoints": "keypoints"}  # what can be measured besides boxes


def coco_metrics(
    records, detections, class_names, iou_type="bbox", keypoint_sigmas=None, max_detections=None
):
    """Compute COCO average precision and recall: ten IoU (or OKS) thresholds, 101 recall points.

    `ignore`d objects (crowds, or VOC's difficult objects) are COCO's `iscrowd`: they are neither found nor
    missed, and a detection on them is not an error. For masks this also holds for objects whose mask is
    empty, because their annotation has no mask. Images without objects count for false positives.

    Args:
        records: data set or sequence of `Record`.
        detections: list of dicts in the records' order: "boxes" (D, 4), "labels" (D,),
            "confidence" (D,); for "segm" also "masks", either (D, H, W) over the whole image or D COCO
            run-length dicts (from `encode_masks`); for "keypoints" also "keypoints"
            (D, P, 3).
        class_names: names of the labels 0..K-1, the same for records and detections.
        iou_type: "bbox", "segm" (then areas are those of the masks) or "keypoints".
        keypoint_sigmas: (P,) OKS standard deviations; None: COCO's own for 17 points.
        max_detections: largest number of detections that count per image and class; 100, or 20 for keypoints.

    Returns:
        Dict of "AP", "AP50", "AP75", "AP90", "APs", "APm", "APl", "AR1", "AR10", "AR100" (floats 0..1;
        for keypoints no "APs", and "AR20" instead of "AR100") and "per_class": name ->
        {"AP", "AP50", "objects"}. A figure is None if there is no object to find; for keypoints,
        objects without a labelled point do not count.

    Raises:
        ValueError: different lengths, labels out of range, missing masks or keypoints, masks
            relative to their boxes, or different numbers of keypoints and sigmas.

    Source: pycocotools.cocoeval.COCOeval.
    """
    if iou_type not in IOU_TYPES:
        raise ValueError(f"iou_type must be one of {IOU_TYPES}, got {iou_type!r}.")
    records = as_records(records, detections)
    if max_detections is None:
        max_detections = 20 if iou_type == "keypoints" else 100
    # COCO's evaluation breaks ties between images by their ids: the ids of the data if they are numbers.
    image_ids = [record.image_id for record in records]
    if not all(isinstance(i, int | np.integer) for i in image_ids):
        image_ids = range(1, len(records) + 1)
    image_ids = [int(i) for i in image_ids]
    category_ids = range(1, len(class_names) + 1)
    dataset = {
        "images": [
            {"id": i, "height": int(record.height), "width": int(record.width)}
            for i, record in zip(image_ids, records)
        ],
        "categories": [{"id": i, "name": name} for i, name in zip(category_ids, class_names)],
    }
    objects = _objects_json(records, image_ids, iou_type)
    counts = np.zeros(len(class_names), int)
    for annotation in objects:
        counted = not annotation["iscrowd"] and annotation.get("num_keypoints", 1) > 0
        counts[annotation["category_id"] - 1] += counted
    parts = {"boxes", "labels", "confidence", PARTS.get(iou_type)}
    detections = [{k: v for k, v in found.items() if k in parts} for found in detections]
    results = to_coco_json(detections, image_ids, category_ids)
    _add_areas(results, iou_type)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        evaluated = _run(dataset, objects, results, iou_type, keypoint_sigmas, max_detections)
    return _summary(evaluated, class_names, counts)


def as_records(records, detections):
    """List the records of a data set or sequence; refuse more or fewer detections than records."""
    if hasattr(records, "record"):
        records = [records.record(i) for i in range(len(records))]
    records = list(records)
    if len(records) != len(detections):
        raise ValueError(
            f"There are {len(records)} annotated images, but detections for {len(detections)}: "
            "give one dict per image, in the same order."
        )
    return records


def encode_masks(detections, size):
    """Paste one image's masks into it, and store them as COCO run lengths.

    The masks are pasted one after the other, so memory holds only one of the image's size.

    Args:
        detections: dict from `model.detect` for the image: "masks" (D, m, m) relative to
            "boxes" (D, 4).
        size: (H, W) of the image.

    Returns:
        The same dict, with "masks" as a list of D run-length dicts of the image's size; a dict without
        masks is returned unchanged.
    """
    if "masks" not in detections:
        return detections
    from kerasdet.ops.masks import paste_masks

    masks = [
        _run_lengths(paste_masks(mask[None], box[None], size)[0])
        for mask, box in zip(detections["masks"], detections["boxes"])
    ]
    return {**detections, "masks": masks}


def to_coco_json(detections, image_ids, category_ids):
    """Convert detections to COCO's list of results.

    Args:
        detections: list of dicts from `model.detect`, with masks (D, H, W) over the whole image or
            from `encode_masks`.
        image_ids: id of each image, in the same order.
        category_ids: category id of each label.

    Returns:
        List of {"image_id", "category_id", "bbox" [x, y, width, height] in pixels, "score"}, with
        "segmentation" (run-length dict) and "keypoints" (3P numbers: x, y, score) if detections
        have them.

    Raises:
        ValueError: a label has no category id (such as the -1 of padding), or masks are relative
            to their boxes.
    """
    results = []
    for image_id, found in zip(image_ids, detections, strict=True):
        boxes_xywh = np.array(found["boxes"], "float64").reshape(-1, 4)  # (D, 4)
        boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
        labels = np.asarray(found["labels"], int)
        if np.any((labels < 0) | (labels >= len(category_ids))):
            raise ValueError(
                f"Detections of image {image_id!r} have labels {sorted(set(labels.tolist()))}; "
                f"they must lie in 0..{len(category_ids) - 1}, without padding."
            )
        for i, label in enumerate(labels):
            result = {
                "image_id": image_id,
                "category_id": int(category_ids[label]),
                "bbox": boxes_xywh[i].tolist(),
                "score": float(found["confidence"][i]),
            }
            if "masks" in found:
                result["segmentation"] = _run_lengths(found["masks"][i])
            if "keypoints" in found:
                result["keypoints"] = np.asarray(found["keypoints"][i], float).ravel().tolist()
            results.append(result)
    return results


def _run_lengths(mask):
    """Return COCO's compressed run-length dict, counts as text, of a mask (H, W) or of such a dict."""
    from pycocotools import mask as coco_mask

    if not isinstance(mask, dict):
        mask = np.asarray(mask)
        if np.issubdtype(mask.dtype, np.floating):
            raise ValueError(
                f"Masks are probabilities {mask.shape} relative to their boxes: paste them into the "
                "image first, by kerasdet.metrics.encode_masks(detections, size)."
            )
        mask = coco_mask.encode(np.asfortranarray(mask, "uint8"))
    counts = mask["counts"]
    counts = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in mask["size"]], "counts": counts}


def _objects_json(records, image_ids, iou_type):
    """Return ground truth as COCO annotations; ids start at 1, as pycocotools reads id 0 as "no match"."""
    objects = []
    for image_id, record in zip(image_ids, records):
        part = PARTS.get(iou_type)
        if part and getattr(record, part) is None and len(record.labels):
            raise ValueError(
                f"Image {record.image_id!r} has objects without {part}, "
                f"which iou_type={iou_type!r} measures."
            )
        boxes_xywh = np.array(record.boxes, "float64").reshape(-1, 4)  # (G, 4)
        boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
        for i, label in enumerate(record.labels):
            annotation = {
                "id": len(objects) + 1,
                "image_id": image_id,
                "category_id": int(label) + 1,
                "bbox": boxes_xywh[i].tolist(),
                "area": float(record.area[i]),
                "iscrowd": int(record.ignore[i]),
            }
            if iou_type == "segm":
                annotation |= _mask_json(record.masks[i], annotation)
            if iou_type == "keypoints":
                keypoints = np.asarray(record.keypoints[i], float)  # (P, 3)
                annotation["keypoints"] = keypoints.ravel().tolist()
                annotation["num_keypoints"] = int(np.count_nonzero(keypoints[:, 2] > 0))
            objects.append(annotation)
    return objects


def _mask_json(mask, annotation):
    """Return the fields of an object's mask; without a mask, its box is ignored like a crowd.

    A detection in that box is then not an error, and the object is not missed.
    """
    from pycocotools import mask as coco_mask

    mask = _run_lengths(mask)
    if coco_mask.area(mask):
        return {"segmentation": mask}
    (box,) = coco_mask.frPyObjects(np.asarray([annotation["bbox"]]), *mask["size"])
    return {"segmentation": _run_lengths(box), "iscrowd": 1}


def _add_areas(results, iou_type):
    """Add id, area and iscrowd to results, as pycocotools' loadRes does when it reads a file."""
    from pycocotools import mask as coco_mask

    field = {"segm": "segmentation", "keypoints": "keypoints"}.get(iou_type, "bbox")
    for i, result in enumerate(results):
        if field not in result:
            raise ValueError(
                f"Detections of image {result['image_id']!r} have no "
                f'"{PARTS[iou_type]}", which iou_type={iou_type!r} measures.'
            )
        if iou_type == "segm":
            area = coco_mask.area(result["segmentation"])
        elif iou_type == "keypoints":
            area = np.ptp(result["keypoints"][0::3]) * np.ptp(result["keypoints"][1::3])
        else:
            area = result["bbox"][2] * result["bbox"][3]
        result.update(id=i + 1, area=float(area), iscrowd=0)


def _run(dataset, objects, results, iou_type, keypoint_sigmas, max_detections):
    """Return the evaluator, run up to `accumulate`; it is faster-coco-eval's if that is installed."""
    try:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    except ImportError:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

    truth, found = COCO(), COCO()
    truth.dataset = dataset | {"annotations": objects}
    found.dataset = dataset | {"annotations": results}
    truth.createIndex()
    found.createIndex()
    evaluator = COCOeval(truth, found, iou_type)
    evaluator.params.catIds = [category["id"] for category in dataset["categories"]]
    first = () if iou_type == "keypoints" else (1, 10)
    evaluator.params.maxDets = [n for n in first if n < max_detections] + [max_detections]
    if iou_type == "keypoints":
        evaluator.params.kpt_oks_sigmas = _sigmas(
            keypoint_sigmas, evaluator.params, [*objects, *results]
        )
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def _sigmas(keypoint_sigmas, params, annotations):
    """Return one OKS standard deviation per point; by default COCO's."""
    if keypoint_sigmas is None or not len(keypoint_sigmas):
        keypoint_sigmas = params.kpt_oks_sigmas
    points = {len(annotation["keypoints"]) // 3 for annotation in annotations}
    if points - {len(keypoint_sigmas)}:
        raise ValueError(
            f"Objects and detections have {sorted(points)} keypoints but there are "
            f"{len(keypoint_sigmas)} keypoint_sigmas: give one per point."
        )
    return np.asarray(keypoint_sigmas, "float64")


def _summary(evaluator, class_names, counts):
    """Compute the figures of `coco_metrics` from the accumulated precision and recall."""
    params = evaluator.params
    # thresholds, recall points, classes, area ranges, detections; -1 where there is no object
    precision = np.asarray(evaluator.eval["precision"])[..., -1]
    recall = np.asarray(evaluator.eval["recall"])
    areas = {label[0]: i for i, label in enumerate(params.areaRngLbl)}  # a(ll), s, m, l
    metrics = {
        "AP": _mean(precision[..., areas["a"]]),
        "AP50": _mean(precision[0, ..., areas["a"]]),
        "AP75": _mean(precision[5, ..., areas["a"]]),
        "AP90": _mean(precision[8, ..., areas["a"]]),
    }
    metrics |= {f"AP{a}": _mean(precision[..., areas[a]]) for a in "sml" if a in areas}
    metrics |= {f"AR{n}": _mean(recall[:, :, areas["a"], i]) for i, n in enumerate(params.maxDets)}
    metrics["per_class"] = {
        name: {
            "AP": _mean(precision[:, :, k, areas["a"]]),
            "AP50": _mean(precision[0, :, k, areas["a"]]),
            "objects": int(counts[k]),
        }
        for k, name in enumerate(class_names)
    }
    return metrics


def _mean(values):
    """Return the mean of the measured values; None if there are none."""
    values = values[values > -1]
    return float(values.mean()) if values.size else None
