"""Reader of PASCAL VOC folders: ImageSets/Main/<split>.txt, Annotations/*.xml, JPEGImages/*.

VOC counts pixels from 1 and includes the last: [xmin, xmax] = [1, 500] covers an image 500 wide.
Here coordinates are continuous, so xmin and ymin lose 1 and xmax and ymax stay. Many files in
VOC's form count from 0 instead: `one_based=False` takes their numbers as they are.
Source: The PASCAL VOC2012 Development Kit.
"""

import os
import xml.etree.ElementTree as ElementTree

from kerasdet.data.cleaning import (
    clean_box,
    fault,
    make_record,
    raise_structural,
    read_text,
    unique_names,
)
from kerasdet.data.records import FileDataset
from kerasdet.images import image_size

_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc(root, split="train", class_names=None, one_based=True, strict=True):
    """Read one split of a PASCAL VOC folder.

    Args:
        root: folder with ImageSets/Main, Annotations and JPEGImages.
        split: name of the list in ImageSets/Main.
        class_names: K names in the order of the labels; by default all names in Annotations,
            sorted, so that every split has the same.
        one_based: coordinates count pixels from 1 (VOC) and not from 0.
        strict: raise for faults of structure; False leaves out what they concern and lists them.

    Returns:
        A `Dataset`. "difficult" becomes `ignore`; image ids are the names in the list.

    Raises:
        FileNotFoundError: there is no such split; those that exist are named.
        DataError: broken XML, an unknown class, a box that is none, a missing image: all of
            them, with file and the object's position.
    """
    root, faults = os.fspath(root), []
    names = _split_names(root, split)
    annotations = os.path.join(root, "Annotations")
    if class_names is None:
        class_names = _all_classes(annotations, names, faults)
    class_names = unique_names(class_names, f"{annotations}: class_names")
    labels = {name: label for label, name in enumerate(class_names)}
    records, seen = [], set()
    for name in names:
        if name in seen:
            message = f"{name} stands twice in {split}.txt; remove one"
            faults.append(fault(_split_file(root, split), None, "duplicate_id", message))
        else:
            records.append(_read(root, name, labels, one_based, faults))
        seen.add(name)
    raise_structural(faults, strict)
    return FileDataset(
        name=f"{root} {split}",
        records=[record for record in records if record is not None],
        class_names=class_names,
        category_ids=range(1, len(class_names) + 1),
        faults=faults,
    )


def _split_file(root, split):
    return os.path.join(root, "ImageSets", "Main", f"{split}.txt")


def _split_names(root, split):
    file = _split_file(root, split)
    if not os.path.isfile(file):
        folder = os.path.dirname(file)
        found = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        found = ", ".join(name[:-4] for name in found if name.endswith(".txt")) or "none"
        raise FileNotFoundError(f"{file}: there is no such split; splits here: {found}.")
    # Per-class lists ("aeroplane_train.txt") have a second column.
    return [line.split()[0] for line in read_text(file).splitlines() if line.strip()]


def _all_classes(annotations, names, faults):
    found, wanted = set(), set(names)
    files = sorted(os.listdir(annotations)) if os.path.isdir(annotations) else []
    for file in files:
        if file.endswith(".xml"):
            path = os.path.join(annotations, file)
            # Those of this split are read again, and their faults are found then.
            tree = _parse(path, [] if file[:-4] in wanted else faults)
            if tree is not None:
                found.update(_field(item, "name") for item in tree.findall("object"))
    return sorted(found - {None})


def _parse(path, faults):
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        message = "there is no such annotation; restore it, or take its name out of the split"
        faults.append(fault(path, None, "missing_annotation", message))
    except ElementTree.ParseError as error:
        line, column = error.position
        message = f"line {line}, column {column + 1}: not XML ({error}); restore the file"
        faults.append(fault(path, None, "broken_xml", message))
    return None


def _field(element, name):
    text = element.findtext(name)
    return text.strip() if text and text.strip() else None


def _read(root, name, labels, one_based, faults):
    """One image's record, or None with a fault."""
    file = os.path.join(root, "Annotations", f"{name}.xml")
    tree = _parse(file, faults)
    if tree is None:
        return None
    path = _image(root, name, tree)
    if path is None:
        message = f"there is no such image; restore it, or take {name} out of the split"
        missing = os.path.join(root, "JPEGImages", f"{name}.jpg")
        faults.append(fault(missing, None, "missing_image", message))
        return None
    size = _size(file, tree, path, faults)
    if size is None:
        return None
    objects = []
    for position, item in enumerate(tree.findall("object"), start=1):
        kept, kind, message = _object(item, labels, size, one_based)
        if kind:
            faults.append(fault(file, position, kind, message))
        if kept is not None:
            objects.append(kept)
    return make_record(name, size, objects, path)


def _image(root, name, tree):
    folder = os.path.join(root, "JPEGImages")
    candidates = [f"{name}{suffix}" for suffix in _SUFFIXES]
    candidates.append(os.path.basename(_field(tree, "filename") or name))
    for candidate in candidates:
        path = os.path.join(folder, candidate)
        if os.path.isfile(path):
            return path
    return None


def _size(file, tree, path, faults):
    """(height, width) as annotated; from the image where the annotation has none or 0."""
    texts = [tree.findtext(f"size/{side}") or "0" for side in ("height", "width")]
    try:
        sides = [int(float(text)) for text in texts]
    except ValueError:
        message = f"size is {texts}; height and width are positive integers"
        faults.append(fault(file, None, "bad_value", message))
        return None
    if min(sides) > 0:
        return tuple(sides)
    try:
        return image_size(path)
    except ValueError as error:
        faults.append(fault(path, None, "unreadable_image", str(error)))
        return None


def _object(item, labels, size, one_based):
    """((box, label, ignore, None) or None, kind of fault, message) of one object."""
    name = _field(item, "name")
    if name not in labels:
        known = f"which is not in the class names {', '.join(labels)}; add it or correct it"
        return None, "unknown_category", f"name is {name!r}, {known}"
    texts = [item.findtext(f"bndbox/{corner}") for corner in _CORNERS]
    try:
        box = [float(text) for text in texts]
    except (TypeError, ValueError):
        return None, "bad_value", f"bndbox is {texts}; it has numbers {', '.join(_CORNERS)}"
    # A box whose corners are one point is a slip of the hand, not an object of one pixel.
    if one_based and box[2] > box[0] and box[3] > box[1]:
        box = [box[0] - 1, box[1] - 1, box[2], box[3]]
    box, kind, message = clean_box(box, size)
    if kind == "clipped" and one_based:
        message += " (one_based=False, if this file counts pixels from 0)"
    if box is None:
        return None, kind, message
    return (box, labels[name], _field(item, "difficult") == "1", None), kind, message
