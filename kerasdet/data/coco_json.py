"""Reader of COCO annotation files: boxes, crowds, masks, keypoints.

Category ids may have gaps; labels are 0..K-1 in the order of the ids. Ids are compared by what they
denote: 7, 7.0 and "7" are the same id. Numbers may be written as text. COCO's coordinates are
already continuous: [x, y, width, height] becomes [x, y, x + width, y + height].
Source: Lin et al., Microsoft COCO (arXiv 1405.0312v3) and the format on cocodataset.org.
"""

import math
import os

import numpy as np

from kerasdet.data.cleaning import (
    annotated_size,
    as_flag,
    as_number,
    clean_box,
    fault,
    make_record,
    raise_structural,
    read_json,
    shown,
    unique_names,
    usual_sigmas,
)
from kerasdet.data.coco_categories import denoted, no_id, read_categories
from kerasdet.data.coco_objects import misplaced, read_keypoints
from kerasdet.data.finding import Claims, find_image, is_same
from kerasdet.data.image_files import ImageFiles
from kerasdet.data.masks import clean_mask, run_lengths
from kerasdet.data.records import FileDataset
from kerasdet.data.signs import corner_fault, share_fault
from kerasdet.images import image_size


def coco(annotations, images, semantic=None, keypoint_sigmas=None, strict=True, gray_max=None):
    """Read a COCO annotation file.

    Annotation tools export a root category that is not a class: it is the supercategory of others, and
    its own is no other category of the file. Without objects, it is left out.

    Args:
        annotations: the JSON file with "images", "annotations" and "categories".
        images: folder of the images; each "file_name" is relative to it.
        semantic: None, or a folder with one PNG of class numbers per image, with the image's stem.
        keypoint_sigmas: OKS sigma of each keypoint; by default COCO's for 17 keypoints, otherwise 0.05
            each.
        strict: raise for faults of structure; False leaves out the affected entries and lists the faults.
        gray_max: the level that is white in 16-bit gray images; see `kerasdet.data.load_image`.

    Returns:
        A `Dataset`. "iscrowd" becomes `ignore`. Image ids are integers within 64 bits, or texts.

    Raises:
        FileNotFoundError: there is no such annotation file or folder.
        DataError: an unknown image or category, an impossible box, a missing image, a repeated id, an
            image under several ids; the error lists all of them, with file and annotation id.
        ValueError: the file is not JSON, or not a COCO file.
    """
    content, faults = _lists(annotations), []
    if not os.path.isdir(images):
        raise FileNotFoundError(f"{images}: there is no such folder of images; check the path.")
    categories, keypoint_names = read_categories(annotations, content, faults)
    labels = {denoted(category["id"]): label for label, category in enumerate(categories)}
    listed = _listed_images(annotations, content["images"], images, faults)
    num_points = len(keypoint_names)
    found = _collect(annotations, content["annotations"], listed, labels, num_points, faults)
    listed = [image for image in listed.values() if image]
    measured = {index for index, image in enumerate(listed) if image["measured"]}
    records = [_record(image, num_points) for image in listed]
    faults += filter(None, [corner_fault(annotations, found), share_fault(annotations, found)])
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
    """Return {image id: its path, size and (still empty) lists}; None for an image that is left out."""
    listed, claims = {}, Claims()
    for entry in entries:
        image_id, name = denoted(entry.get("id")), entry.get("file_name")
        if image_id is None or not isinstance(name, str):
            faults.append(fault(annotations, None, *_unusable(entry)))
            continue
        if image_id in listed:
            message = f"image id {image_id} appears twice, the second time for {name}; renumber it"
            faults.append(fault(annotations, None, "duplicate_id", message))
            continue
        path, size, measured = _found(annotations, entry, images, claims, faults)
        listed[image_id] = size and {"id": image_id, "path": path, "size": size, "objects": []}
        if size:
            listed[image_id] |= {"measured": measured, "masks": [], "keypoints": []}
    return listed


def _unusable(entry):
    """Return the kind of fault and message of an image entry without a usable id or name."""
    if entry.get("id") is None or denoted(entry["id"]) is not None:
        return "missing_field", f"image {shown(entry)} needs an 'id' and a 'file_name'"
    return "bad_value", f"image {shown(entry.get('file_name'))}: id is {no_id(entry['id'])}"


def _found(annotations, entry, images, claims, faults):
    """Return (path, (height, width), whether the file gave the size), or three times None with a fault."""
    name, image_id = entry["file_name"], denoted(entry["id"])
    path = find_image(images, name)
    if path is None:
        message = f"there is no such image; restore it, or remove its entry in {annotations}"
        faults.append(fault(os.path.join(images, name), None, "missing_image", message))
        return None, None, None
    owner = claims.owner(path, (image_id, name))
    if owner[0] != image_id:
        kind, message = _claimed(images, path, owner, (image_id, name))
        faults.append(fault(annotations, None, kind, message))
        return None, None, None
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


def _claimed(images, path, first, second):
    """Return the kind of fault and message of two entries (id, name) that lead to one file."""
    ids = f"image ids {first[0]} and {second[0]}"
    if is_same(images, path, first[1], second[1]):
        message = f"{ids} are both {path}, each with a part of its objects; give all one image_id"
        return "duplicate_image", message
    names = f"{second[1]} and {first[1]} are both found as {path}"
    return "missing_image", f"{names} ({ids}); restore their folders"


def _collect(annotations, entries, listed, labels, num_points, faults):
    """Check every annotation, and add it to its image's lists; return the boxes' numbers for `signs`."""
    seen, found = set(), []
    for position, entry in enumerate(entries, start=1):
        number = denoted(entry.get("id"))
        number = f"#{position}" if number is None else number
        kind, message = misplaced(entry, listed, labels, number, seen)
        seen.add(number)
        if kind:
            faults.append(fault(annotations, number, kind, message))
            continue
        image = listed[denoted(entry["image_id"])]
        if image is None:
            continue
        x, y, w, h = numbers = [as_number(number) for number in entry["bbox"]]
        box, kind, message = clean_box((x, y, x + w, y + h), image["size"])
        found.append((numbers, image["size"], kind))
        points, *wrong = read_keypoints(entry, num_points, image["size"])
        for what, text in ((kind, message), wrong):
            if what:
                text = f"{os.path.basename(image['path'])}: {text}"
                faults.append(fault(annotations, number, what, text))
        if box is not None:
            mask = number, entry.get("segmentation")
            _add(image, entry, box, labels, points, mask)
    return found


def _add(image, entry, box, labels, points, mask):
    area = as_number(entry.get("area"))
    if area is None or not 0 < area <= math.prod(image["size"]):
        area = None
    label, ignore = labels[denoted(entry["category_id"])], as_flag(entry.get("iscrowd"))
    image["objects"].append((box, label, ignore, area))
    image["masks"].append(mask)
    image["keypoints"].append(points)


def _record(image, num_points):
    points, image_id = None, image["id"]
    if num_points:
        points = np.asarray(image["keypoints"], "float32").reshape(-1, num_points, 3)
    if isinstance(image_id, int) and not -(2**63) <= image_id < 2**63:
        image_id = str(image_id)
    return make_record(image_id, image["size"], image["objects"], image["path"], points)


def _mask_reader(annotations, listed, faults):
    """Return a function from an index to RLE masks, or None if no annotation has a mask."""
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
