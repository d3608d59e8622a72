"""Reader of YOLO folders: one text file per image, a line "class cx cy width height" per object.

Numbers are shares of the image's sides. Longer lines are of one of two kinds, the same in the whole
data set. A polygon ("class x y x y ...") is the mask, and its extent is the box. A box with
keypoints is "class cx cy width height x y v ..." or "... x y ...", as `kpt_shape` in data.yaml
says, or all lines together. An image without a text file has no objects.
"""

import os
from functools import partial
from itertools import islice

import numpy as np

from kerasdet.data.cleaning import (
    clean_box,
    fault,
    make_record,
    raise_structural,
    read_text,
    shown,
    walk,
)
from kerasdet.data.image_files import ImageFiles
from kerasdet.data.masks import clean_mask, run_lengths
from kerasdet.data.records import FileDataset
from kerasdet.data.yolo_folders import find_images, label_folder
from kerasdet.data.yolo_points import find_points
from kerasdet.data.yolo_settings import read_settings
from kerasdet.images import image_size


def yolo(root, split=None, strict=True, gray_max=None):
    """Read a YOLO folder, or one split of it.

    Class names come from data.yaml ("names", a list or numbered) or classes.txt. The images of a
    split are where data.yaml says (a folder, a text file that lists them, or several; "../" parts that
    lead nowhere are left out), or in images/<split>, <split>/images or <split>, including sub-folders.
    "valid" and "validation" are other names for "val". Text files are in the same place below
    "labels", or beside the images.

    Args:
        root: the folder, or its YAML file.
        split: name of the split; None if there are no splits: all images in images/, or in the
            folder itself.
        strict: raise for faults of structure; False leaves out the affected entries and lists the faults.
        gray_max: the level that is white in 16-bit gray images; see `kerasdet.data.load_image`.

    Returns:
        A `Dataset`; image ids are file names without suffix, category ids the numbers in the files.

    Raises:
        FileNotFoundError: no class names, no images or no labels in the expected places.
        DataError: an unknown class number, an impossible box, a text file without an image; the error
            lists all of them, with file and line.
        ValueError: data.yaml is not YAML, or has unusable names or entries; or long lines may be
            polygons or keypoints, and `kpt_shape` does not say which.
    """
    faults, place = [], os.fspath(root)
    root, settings = read_settings(place)
    images = find_images(root, split, settings)
    files = _text_files(images, faults)
    lines = {file: _lines(file, faults) for file in files.values() if file is not None}
    others = partial(_lines_of_others, root, settings, lines)
    points = find_points(root, settings, lines, others, faults)
    labels = {number: label for label, number in enumerate(settings["names"])}
    records, polygons, ids = [], [], set()
    for image, file in files.items():
        size = _size(image, faults)
        if size is None:
            continue
        objects = []
        for number, words in lines.get(file, ()):
            kept, kind, message = _object(words, labels, size, points)
            if kind:
                faults.append(fault(file, number, kind, message))
            if kept is not None:
                objects.append((number, *kept))
        image_id = image.name if image.stem in ids else image.stem
        ids.add(image_id)
        records.append(_record(image_id, size, objects, image.path, points))
        polygons.append([(file, number, polygon) for number, _, polygon, _ in objects])
    raise_structural(faults, strict)
    return FileDataset(
        name=f"{place} {split}" if split else place,
        records=records,
        class_names=settings["names"].values(),
        category_ids=settings["names"],
        faults=faults,
        masks=_mask_reader(records, polygons, faults),
        keypoints=(points.names, points.sigmas) if points else ((), ()),
        files=ImageFiles(records, range(len(records)), gray_max),
    )


def _text_files(images, faults):
    """Return {image: its text file, or None}; report a fault for each text file without an image."""
    folders, listings = {}, {}
    files = dict.fromkeys(images)
    found = [image for image in images if not image.listed or os.path.isfile(image.path)]
    for image in found:
        base = image.base
        if base not in folders:
            folders[base] = label_folder(base)
            if not image.listed and not os.path.isdir(folders[base][0]):
                raise FileNotFoundError(
                    f"{folders[base][0]}: there is no such folder; the text files of {base} belong "
                    "there."
                )
        below = os.path.join(folders[base][0], os.path.dirname(image.below))
        listings.setdefault(below, _listing(below) if below not in listings else None)
    for image in found:
        below = os.path.join(folders[image.base][0], os.path.dirname(image.below))
        file = files[image] = listings[below].get(os.path.splitext(image.path)[0].split(os.sep)[-1])
        if file is not None and not file.endswith(".txt"):
            message = "read, but other programs look for .txt; rename it"
            faults.append(fault(file, None, "upper_case", message))
    for base in {image.base: None for image in images if not image.listed}:
        labels, inside = folders[base]
        stems = {os.path.splitext(image.below)[0] for image in images if image.base == base}
        for name in walk(labels, ".txt") if inside else ():
            if os.path.splitext(name)[0] not in stems and name != "classes.txt":
                message = f"there is no image {name[:-4]} in {base}; restore it or remove this file"
                faults.append(fault(os.path.join(labels, name), None, "unknown_image", message))
    return files


def _listing(folder):
    """Return {name without suffix: path} for the text files of a folder, .txt or .TXT."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return {
        name[:-4]: os.path.join(folder, name)
        for name in sorted(names)
        if name.lower().endswith(".txt") and not name.startswith("._")
    }


def _lines(file, faults):
    """Return [(line number, words)] of a text file."""
    try:
        text = read_text(file)
    except ValueError as error:
        message = str(error).removeprefix(f"{file}: ")
        faults.append(fault(file, None, "unreadable_labels", message))
        return []
    lines = [(number, line.split()) for number, line in enumerate(text.split("\n"), start=1)]
    return [(number, words) for number, words in lines if words]


def _lines_of_others(root, settings, known):
    """Return {text file: its lines} of the splits, as far as they can be read, without known files."""
    found = {}
    for split in ("train", "val", "test"):
        try:
            files = _text_files(find_images(root, split, settings), [])
        except (OSError, ValueError):  # Who reads that split is told.
            continue
        files = set(files.values()) - {None, *known}
        found |= {file: _lines(file, []) for file in sorted(files)}
    return found


def _size(image, faults):
    try:
        return image_size(image.path)
    except FileNotFoundError:
        message = f"there is no such image ({image.listed}); restore it or remove it from the list"
        faults.append(fault(image.path, None, "missing_image", message))
    except ValueError as error:
        message = str(error).removeprefix(f"{image.path}: ")
        message += f" ({image.listed})" if image.listed else ""
        faults.append(fault(image.path, None, "unreadable_image", message))
    return None


def _object(words, labels, size, points):
    """Return (((box, label, False, None), polygon, keypoints) or None, kind of fault, message)."""
    try:
        number, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        return None, "bad_value", f"{shown(' '.join(words[:20]))} are not all numbers"
    if number not in labels:
        last = len(labels) - 1
        known = (
            f"0..{last}" if last in labels else f"{shown(list(islice(labels, 7)))[1:-1]} of 'names'"
        )
        return None, "unknown_category", f"class {words[0]:.20} is not in {known}"
    polygon = keypoints = None
    if points and len(values) > 4:
        keypoints, message = points.read(values[4:], size)
        if message:
            return None, "bad_value", message
        values = values[:4]
    if len(values) == 4:
        cx, cy, w, h = values
        values = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
    elif len(values) >= 6 and len(values) % 2 == 0:
        polygon, xs, ys = values, values[0::2], values[1::2]
        values = [min(xs), min(ys), max(xs), max(ys)]
    else:
        message = f"{len(values)} numbers after the class; a box has 4, a polygon an even number of 6 or more"
        return None, "bad_value", message
    if any(abs(value) > 2 for value in polygon or values):
        return (
            None,
            "bad_value",
            f"{shown(values)} are not shares of the sides; divide pixels by the sides",
        )
    height, width = size
    xmin, ymin, xmax, ymax = values
    box, kind, message = clean_box((xmin * width, ymin * height, xmax * width, ymax * height), size)
    if box is None:
        return None, kind, message
    if polygon:
        polygon = (np.reshape(polygon, (-1, 2)) * [width, height]).ravel().tolist()
    return ((box, labels[number], False, None), polygon, keypoints), kind, message


def _record(image_id, size, objects, path, points):
    keypoints = None
    if points:
        none = np.zeros((points.count, 3), "float32")
        keypoints = np.reshape(
            [none if found is None else found for _, _, _, found in objects], (-1, points.count, 3)
        ).astype("float32")
    return make_record(image_id, size, [kept for _, kept, _, _ in objects], path, keypoints)


def _mask_reader(records, polygons, faults):
    """Return a function from an index to RLE masks, or None if no line is a polygon."""
    if not any(polygon for objects in polygons for _, _, polygon in objects):
        return None
    masks = []
    for record, objects in zip(records, polygons):
        masks.append([])
        for file, number, polygon in objects:
            mask, kind, message = clean_mask(polygon, (record.height, record.width))
            masks[-1].append(mask)
            if kind:
                faults.append(fault(file, number, kind, message))
    sizes = [(record.height, record.width) for record in records]
    return lambda index: tuple(run_lengths(mask, sizes[index]) for mask in masks[index])
