"""Reader of COCO annotation files: boxes, crowds, masks, keypoints.

Category ids may have gaps; labels are 0..K-1 in the order of the ids. Ids are compared as what they
denote: 7, 7.0 and "7" are one id. Numbers may be written as text. COCO's coordinates are
continuous already: [x, y, width, height] becomes [x, y, x + width, y + height].
Source: Lin et al., Microsoft COCO (arXiv 1405.0312v3) and the format on cocodataset.org.
"""

import math
import os

import numpy as np

from kerasdet.data.cleaning import (
    annotated_size,
    as_number,
    clean_box,
    fault,
    make_record,
    raise_structural,
    read_json,
    share_fault,
    shown,
    unique_names,
    usual_sigmas,
)
from kerasdet.data.coco_categories import denoted, read_categories
from kerasdet.data.finding import find_image, is_claimed
from kerasdet.data.image_files import ImageFiles
from kerasdet.data.masks import clean_mask, run_lengths
from kerasdet.data.records import FileDataset
from kerasdet.images import image_size


def coco(annotations, images, semantic=None, keypoint_sigmas=None, strict=True, gray_max=None):
    """Read a COCO annotation file.

    A root category (it is the supercategory of others and has none but itself) without objects is
    left out, as exports of annotation tools have one that is no class.

    Args:
        annotations: the JSON file with "images", "annotations" and "categories".
        images: folder that each "file_name" is relative to.
        semantic: None, or a folder with one PNG of class numbers per image, of the same stem.
        keypoint_sigmas: OKS sigma of each keypoint; by default COCO's for 17 keypoints, else 0.05
            each.
        strict: raise for faults of structure; False leaves out what they concern and lists them.
        gray_max: the level that is white in 16-bit gray images; see `kerasdet.data.load_image`.

    Returns:
        A `Dataset`. "iscrowd" becomes `ignore`; image ids are integers within 64 bits, else texts.

    Raises:
        FileNotFoundError: there is no such annotation file, or no such folder.
        DataError: an unknown image or category, an impossible box, a missing image, an id twice:
            all of them, with file and annotation id.
        ValueError: the file is not JSON, or not COCO's.
    """
    content, faults = _lists(annotations), []
    if not os.path.isdir(images):
        raise FileNotFoundError(f"{images}: there is no such folder of images; check the path.")
    categories, keypoint_names = read_categories(annotations, content, faults)
    labels = {denoted(category["id"]): label for label, category in enumerate(categories)}
    listed = _listed_images(annotations, content["images"], images, faults)
    num_points = len(keypoint_names)
    _collect(annotations, content["annotations"], listed, labels, num_points, faults)
    listed = [image for image in listed.values() if image]
    measured = {index for index, image in enumerate(listed) if image["measured"]}
    records = [_record(image, num_points) for image in listed]
    faults += filter(None, [share_fault(annotations, records)])
    raise_structural(faults, strict)
    if keypoint_sigmas is None:
        keypoint_sigmas = usual_sigmas(num_points)
    elif len(keypoint_sigmas) != num_points:
        raise ValueError(f"{len(keypoint_sigmas)} keypoint_sigmas for {num_points} keypoints.")
    return FileDataset(
        name=os.fspath(annotations),
        records=records,
        class_names=unique_names([c["name"] for c in categories], f"{annotations}: 'categories'"),
        category_ids=labels,
        faults=faults,
        masks=_mask_reader(annotations, listed, faults),
        keypoints=(keypoint_names, keypoint_sigmas),
        files=ImageFiles(
            records,
            measured,
            gray_max,
            semantic and [_semantic_path(semantic, image["path"]) for image in listed],
        ),
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
                raise ValueError(f"{annotations}: {field!r} holds {shown(entry)}: not an object.")
    return content


def _listed_images(annotations, entries, images, faults):
    """{image id: its path, size and (still empty) lists}; None for an image that is left out."""
    listed, claimed = {}, {}
    for entry in entries:
        image_id, name = denoted(entry.get("id")), entry.get("file_name")
        if image_id is None or not isinstance(name, str):
            message = f"image {shown(entry)} needs an 'id' and a 'file_name'"
            faults.append(fault(annotations, None, "missing_field", message))
            continue
        if image_id in listed:
            message = f"image id {image_id} appears twice, the second time for {name}; renumber it"
            faults.append(fault(annotations, None, "duplicate_id", message))
            continue
        path, size, measured = _found(annotations, entry, images, claimed, faults)
        listed[image_id] = size and {"id": image_id, "path": path, "size": size, "objects": []}
        if size:
            listed[image_id] |= {"measured": measured, "masks": [], "keypoints": []}
    return listed


def _found(annotations, entry, images, claimed, faults):
    """(path, (height, width), whether the file told the size); None three times with a fault."""
    name = entry["file_name"]
    path = find_image(images, name)
    if path is None:
        message = f"there is no such image; restore it, or remove its entry in {annotations}"
        faults.append(fault(os.path.join(images, name), None, "missing_image", message))
    elif is_claimed(claimed, path, name):
        message = f"{name} and {claimed[path]} are both found as {path}; restore their folders"
        faults.append(fault(annotations, None, "missing_image", message))
    else:
        try:
            size = annotated_size(entry.get("height"), entry.get("width"))
        except ValueError as error:
            message = f"image {shown(entry['id'])}: {error}"
            faults.append(fault(path, None, "bad_size", message))
            return None, None, None
        try:
            return path, size or image_size(path), size is None
        except ValueError as error:
            message = str(error).removeprefix(f"{path}: ")
            faults.append(fault(path, None, "unreadable_image", message))
    return None, None, None


def _collect(annotations, entries, listed, labels, num_points, faults):
    """Check every annotation and put it into its image's lists."""
    seen, boxes, over, corners = set(), 0, 0, True
    for position, entry in enumerate(entries, start=1):
        number = denoted(entry.get("id"))
        number = f"#{position}" if entry.get("id") is None else number
        kind, message = _misplaced(entry, listed, labels, number, seen)
        seen.add(number)
        if kind:
            faults.append(fault(annotations, number, kind, message))
            continue
        image = listed[denoted(entry["image_id"])]
        if image is None:
            continue
        x, y, w, h = map(as_number, entry["bbox"])
        boxes += 1
        corners &= x < w <= image["size"][1] and y < h <= image["size"][0]
        over += x + w > image["size"][1] or y + h > image["size"][0]
        box, kind, message = clean_box((x, y, x + w, y + h), image["size"])
        points, wrong = _keypoints(entry, num_points)
        if kind:
            message = f"{os.path.basename(image['path'])}: {message}"
            faults.append(fault(annotations, number, kind, message))
        if wrong:
            faults.append(fault(annotations, number, "bad_value", wrong))
        if box is not None:
            mask = number, entry.get("segmentation")
            _add(image, entry, box, labels, points, mask)
    if corners and 2 * over > boxes:
        message = f"{over} of {boxes} boxes reach over the edge, and all could be [xmin, ymin, xmax"
        message += ", ymax]; COCO's are [x, y, width, height]"
        faults.append(fault(annotations, None, "corners", message))


def _add(image, entry, box, labels, points, mask):
    area = as_number(entry.get("area"))
    if area is None or not 0 < area <= math.prod(image["size"]):
        area = None
    ignore = as_number(entry.get("iscrowd")) == 1 or entry.get("iscrowd") is True
    image["objects"].append((box, labels[denoted(entry["category_id"])], ignore, area))
    image["masks"].append(mask)
    image["keypoints"].append(points)


def _misplaced(entry, listed, labels, number, seen):
    for field in ("image_id", "category_id", "bbox"):
        if field not in entry:
            return "missing_field", f"annotation {shown(entry)} has no {field!r}; add it"
    for field in ("id", "image_id", "category_id"):
        if entry.get(field) is not None and denoted(entry[field]) is None:
            return "bad_value", f"{field} is {shown(entry[field])}; it is an integer"
    if number in seen:
        return "duplicate_id", "annotation id appears twice; renumber one"
    if denoted(entry["image_id"]) not in listed:
        known = "which is not in 'images'; add the image or remove the annotation"
        return "unknown_image", f"image_id is {shown(entry['image_id'])}, {known}"
    if denoted(entry["category_id"]) not in labels:
        known = "which is not in 'categories'; add the category or remove the annotation"
        return "unknown_category", f"category_id is {shown(entry['category_id'])}, {known}"
    bbox = entry["bbox"]
    if not isinstance(bbox, list) or len(bbox) != 4 or None in map(as_number, bbox):
        return "bad_value", f"bbox is {shown(bbox)}; it is [x, y, width, height] in pixels"
    return None, None


def _keypoints(entry, num_points):
    """(P, 3) keypoints, zeros (not labelled) where there are none; and what is wrong with them."""
    if not num_points:
        return None, None
    zeros = np.zeros((num_points, 3), "float32")
    points = entry.get("keypoints")
    if points in (None, []):
        return zeros, None
    values = [as_number(value) for value in points] if isinstance(points, list) else []
    if len(values) != 3 * num_points or None in values:
        return zeros, f"keypoints are {shown(points)}; they are {num_points} times x, y, v"
    values = np.clip(values, -1e9, 1e9).reshape(-1, 3)  # NaN stays.
    if not np.isfinite(values).all() or np.abs(values).max() == 1e9:
        return zeros, "keypoints are not finite"
    if not np.isin(values[:, 2], (0, 1, 2)).all():
        return zeros, "a keypoint's visibility is 0, 1 or 2; correct it"
    return values.astype("float32"), None


def _record(image, num_points):
    points, image_id = None, image["id"]
    if num_points:
        points = np.asarray(image["keypoints"], "float32").reshape(-1, num_points, 3)
    if isinstance(image_id, int) and not -(2**63) <= image_id < 2**63:
        image_id = str(image_id)
    return make_record(image_id, image["size"], image["objects"], image["path"], points)


def _mask_reader(annotations, listed, faults):
    """A function from an index to RLE masks, or None where no annotation has a mask."""
    if not any(segmentation for image in listed for _, segmentation in image["masks"]):
        return None
    for image in listed:
        for i, (number, segmentation) in enumerate(image["masks"]):
            image["masks"][i], kind, message = clean_mask(segmentation, image["size"])
            if kind:
                faults.append(fault(annotations, number, kind, message))

    def masks(index):
        image = listed[index]
        return tuple(run_lengths(mask, image["size"]) for mask in image["masks"])

    return masks


def _semantic_path(folder, path):
    return os.path.join(folder, os.path.splitext(os.path.basename(path))[0] + ".png")
