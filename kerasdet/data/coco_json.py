"""Reader of COCO annotation files: boxes, crowds, masks, keypoints.

Category ids may have gaps; labels are 0..K-1 in the order of the ids. COCO's coordinates are
continuous already: [x, y, width, height] becomes [x, y, x + width, y + height].
Source: Lin et al., Microsoft COCO (arXiv 1405.0312v3) and the format on cocodataset.org.
"""

import itertools
import os

import numpy as np

from kerasdet.data.cleaning import (
    clean_box,
    fault,
    make_record,
    number,
    raise_structural,
    read_json,
    unique_names,
)
from kerasdet.data.records import FileDataset
from kerasdet.images import image_size

# OKS sigmas of COCO's 17 person keypoints (its keypoint evaluation page; k = 2 sigma).
_PERSON_SIGMAS = (0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062)
_PERSON_SIGMAS += (0.107, 0.107, 0.087, 0.087, 0.089, 0.089)


def coco(annotations, images, semantic=None, keypoint_sigmas=None, strict=True):
    """Read a COCO annotation file.

    Args:
        annotations: the JSON file with "images", "annotations" and "categories".
        images: folder that each "file_name" is relative to.
        semantic: None, or a folder with one PNG of class numbers per image, of the same stem.
        keypoint_sigmas: OKS sigma of each keypoint; by default COCO's for 17 keypoints, else 0.05
            each.
        strict: raise for faults of structure; False leaves out what they concern and lists them.

    Returns:
        A `Dataset`. "iscrowd" becomes `ignore`.

    Raises:
        FileNotFoundError: there is no such annotation file, or no such folder.
        DataError: an unknown image or category, a box that is none, a missing image, an id twice:
            all of them, with file and annotation id.
        ValueError: the file is not JSON, or not COCO's.
    """
    content, faults = _lists(annotations), []
    if not os.path.isdir(images):
        raise FileNotFoundError(f"{images}: there is no such folder of images; check the path.")
    categories, keypoint_names = _categories(annotations, content["categories"])
    labels = {category["id"]: label for label, category in enumerate(categories)}
    listed = _listed_images(annotations, content["images"], images, faults)
    num_points = len(keypoint_names)
    _collect(annotations, content["annotations"], listed, labels, num_points, faults)
    raise_structural(faults, strict)
    listed = [image for image in listed.values() if image]
    if keypoint_sigmas is None:
        keypoint_sigmas = _PERSON_SIGMAS if num_points == 17 else (0.05,) * num_points
    elif len(keypoint_sigmas) != num_points:
        raise ValueError(f"{len(keypoint_sigmas)} keypoint_sigmas for {num_points} keypoints.")
    return FileDataset(
        name=os.fspath(annotations),
        records=[_record(image, num_points) for image in listed],
        class_names=unique_names([c["name"] for c in categories], f"{annotations}: 'categories'"),
        category_ids=labels,
        faults=faults,
        masks=_mask_reader(annotations, listed, faults),
        keypoints=(keypoint_names, keypoint_sigmas),
        semantic_paths=semantic and [_semantic_path(semantic, p["path"]) for p in listed],
    )


def _lists(annotations):
    content = read_json(annotations)
    if not isinstance(content, dict):
        raise ValueError(
            f"{annotations}: holds a list, perhaps of detections; an annotation file is an object "
            "with 'images', 'annotations' and 'categories'."
        )
    for field in ("images", "annotations", "categories"):
        if not isinstance(content.get(field), list):
            raise ValueError(f"{annotations}: no list {field!r}; add it ([] for none).")
        for entry in content[field]:
            if not isinstance(entry, dict):
                raise ValueError(f"{annotations}: {field!r} holds {entry!r}, which is no object.")
    return content


def _categories(annotations, categories):
    for category in categories:
        if not isinstance(category.get("id"), int) or "name" not in category:
            raise ValueError(
                f"{annotations}: category {category!r} needs an integer 'id' and a 'name'."
            )
    categories = sorted(categories, key=lambda category: category["id"])
    for first, second in itertools.pairwise(categories):
        if first["id"] == second["id"]:
            raise ValueError(
                f"{annotations}: category id {first['id']} stands for {first['name']!r} and for "
                f"{second['name']!r}; give one of them another id."
            )
    points = [tuple(c["keypoints"]) for c in categories if c.get("keypoints")]
    if len(set(map(len, points))) > 1:
        raise ValueError(
            f"{annotations}: categories have different numbers of keypoints "
            f"{sorted(set(map(len, points)))}; keep those of one kind."
        )
    return categories, points[0] if points else ()


def _listed_images(annotations, entries, images, faults):
    """{image id: its path, size and (still empty) lists}; None for an image that is left out."""
    listed = {}
    for entry in entries:
        image_id, name = entry.get("id"), entry.get("file_name")
        if not isinstance(image_id, (int, str)) or not isinstance(name, str):
            message = f"image {entry!r:.200} needs an 'id' and a 'file_name'"
            faults.append(fault(annotations, None, "missing_field", message))
            continue
        if image_id in listed:
            message = f"image id {image_id} stands twice, the second time for {name}; renumber it"
            faults.append(fault(annotations, None, "duplicate_id", message))
            continue
        path = os.path.join(images, name)
        size = _size(path, entry, faults)
        listed[image_id] = size and {"id": image_id, "path": path, "size": size, "objects": []}
        if size:
            listed[image_id] |= {"segmentations": [], "keypoints": [], "ids": []}
    return listed


def _size(path, entry, faults):
    """(height, width) as annotated, from the file where it is not; None with a fault."""
    if not os.path.isfile(path):
        message = "there is no such image; restore it, or remove its entry"
        faults.append(fault(path, None, "missing_image", message))
        return None
    size = entry.get("height"), entry.get("width")
    if size == (None, None):
        try:
            return image_size(path)
        except ValueError as error:
            faults.append(fault(path, None, "unreadable_image", str(error)))
            return None
    if not all(isinstance(side, int) and side > 0 for side in size):
        message = f"image {entry['id']} has height, width {size}; they are positive integers"
        faults.append(fault(path, None, "bad_value", message))
        return None
    return size


def _collect(annotations, entries, listed, labels, num_points, faults):
    """Check every annotation and put it into its image's lists."""
    seen = set()
    for entry in entries:
        kind, message = _misplaced(entry, listed, labels, seen)
        if isinstance(entry.get("id"), (int, str)):
            seen.add(entry["id"])
        if kind:
            faults.append(fault(annotations, entry.get("id"), kind, message))
            continue
        image = listed[entry["image_id"]]
        if image is None:
            continue
        x, y, w, h = entry["bbox"]
        box, kind, message = clean_box((x, y, x + w, y + h), image["size"])
        points, wrong = _keypoints(entry, num_points)
        if kind:
            message = f"{os.path.basename(image['path'])}: {message}"
            faults.append(fault(annotations, entry["id"], kind, message))
        if wrong:
            faults.append(fault(annotations, entry["id"], "bad_value", wrong))
        if box is None:
            continue
        area = entry.get("area")
        area = area if number(area) and 0 < area < float("inf") else None
        ignore = entry.get("iscrowd", 0) == 1
        image["objects"].append((box, labels[entry["category_id"]], ignore, area))
        image["segmentations"].append(entry.get("segmentation"))
        image["keypoints"].append(points)
        image["ids"].append(entry["id"])


def _misplaced(entry, listed, labels, seen):
    for field in ("id", "image_id", "category_id", "bbox"):
        if field not in entry:
            return "missing_field", f"annotation {entry!r:.200} has no {field!r}; add it"
    for field in ("id", "image_id", "category_id"):
        if not isinstance(entry[field], (int, str)):
            return "bad_value", f"{field} is {entry[field]!r}; it is an integer"
    if entry["id"] in seen:
        return "duplicate_id", "annotation id stands twice; renumber one"
    if entry["image_id"] not in listed:
        known = "which is not in 'images'; add the image or remove the annotation"
        return "unknown_image", f"image_id is {entry['image_id']!r}, {known}"
    if entry["category_id"] not in labels:
        known = "which is not in 'categories'; add the category or remove the annotation"
        return "unknown_category", f"category_id is {entry['category_id']!r}, {known}"
    bbox = entry["bbox"]
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(number, bbox)):
        return "bad_value", f"bbox is {bbox!r}; it is [x, y, width, height] in pixels"
    return None, None


def _keypoints(entry, num_points):
    """(P, 3) keypoints, zeros (not labelled) where there are none; and what is wrong with them."""
    points = entry.get("keypoints") or [0] * (3 * num_points)
    if not num_points:
        return None, None
    zeros = np.zeros((num_points, 3), "float32")
    if len(points) != 3 * num_points or not all(map(number, points)):
        return zeros, f"keypoints are {len(points)} values; they are {num_points} times x, y, v"
    points = np.asarray(points, "float32").reshape(-1, 3)
    return (points, None) if np.isfinite(points).all() else (zeros, "keypoints are not finite")


def _record(image, num_points):
    points = None
    if num_points:
        points = np.asarray(image["keypoints"], "float32").reshape(-1, num_points, 3)
    return make_record(image["id"], image["size"], image["objects"], image["path"], points)


def _mask_reader(annotations, listed, faults):
    """A function from an index to RLE masks, or None where no annotation has a mask."""
    if not any(any(image["segmentations"]) for image in listed):
        return None
    for image in listed:
        for i, segmentation in enumerate(image["segmentations"]):
            kind, message = _mask_fault(segmentation, image["size"])
            if kind:
                image["segmentations"][i] = None
                faults.append(fault(annotations, image["ids"][i], kind, message))

    def masks(index):
        image = listed[index]
        return tuple(_rle(value, *image["size"]) for value in image["segmentations"])

    return masks


def _mask_fault(segmentation, size):
    if not segmentation:
        return "no_mask", "no segmentation: its mask is empty"
    if isinstance(segmentation, dict):
        given = segmentation.get("size")
        if given != list(size) or not isinstance(segmentation.get("counts"), (str, list)):
            return "bad_mask", f"RLE of size {given} in an image of {list(size)}: mask left empty"
    elif not isinstance(segmentation, list) or not all(map(_polygon, segmentation)):
        return (
            "bad_mask",
            "a polygon is a list x, y, x, y, ... of 3 points or more: mask left empty",
        )
    return None, None


def _polygon(points):
    return isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0


def _rle(segmentation, height, width):
    """COCO's three spellings of a mask as one compressed RLE dict."""
    from pycocotools import mask

    if not segmentation:
        return mask.encode(np.zeros((height, width), "uint8", order="F"))
    if isinstance(segmentation, list):
        return mask.merge(mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return mask.frPyObjects(segmentation, height, width)
    return {"size": segmentation["size"], "counts": segmentation["counts"].encode("ascii")}


def _semantic_path(folder, path):
    return os.path.join(folder, os.path.splitext(os.path.basename(path))[0] + ".png")
