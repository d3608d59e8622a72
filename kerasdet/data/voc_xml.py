"""Reader of XML files in PASCAL VOC's form, one for each image.

VOC counts pixels from 1 and includes the last: [xmin, xmax] = [1, 500] covers an image 500 wide.
Here coordinates are continuous, so xmin and ymin lose 1 and xmax and ymax stay. Many files in
VOC's form count from 0 instead: `one_based=False` takes their numbers as they are.
Source: The PASCAL VOC2012 Development Kit.
"""

import os
import xml.etree.ElementTree as ElementTree

from kerasdet.data.cleaning import (
    annotated_size,
    as_number,
    clean_box,
    fault,
    make_record,
    raise_structural,
    read_bytes,
    share_fault,
    shown,
    unique_names,
)
from kerasdet.data.image_files import ImageFiles
from kerasdet.data.records import FileDataset
from kerasdet.data.voc_folders import VocFiles
from kerasdet.images import image_size

_DEEPEST, _MOST = 64, 200_000  # Elements in an element, and elements: far above any annotation.
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc(root, split=None, class_names=None, one_based=True, strict=True, gray_max=None):
    """Read one split of a PASCAL VOC folder, or a folder of images with XML files.

    Args:
        root: folder with ImageSets/Main, Annotations and JPEGImages; or without lists, all images
            with XML files in it, or in its folder <split>. Sub-folders are read too.
        split: name of the list in ImageSets/Main, or of the folder; None for the list "train" and,
            where there are no lists, for all images.
        class_names: K names in the order of the labels; by default all names in the XML files,
            sorted, so that every split has the same.
        one_based: coordinates count pixels from 1 (VOC) and not from 0.
        strict: raise for faults of structure; False leaves out what they concern and lists them.
        gray_max: the level that is white in 16-bit gray images; see `kerasdet.data.load_image`.

    Returns:
        A `Dataset`. "difficult" becomes `ignore`; image ids are the names in the list, or the XML
        files' without suffix.

    Raises:
        FileNotFoundError: there is no such split; those that exist are named.
        DataError: broken XML, an unknown class, an impossible box, a missing image: all of them,
            with file and the object's position.
    """
    root, faults = os.fspath(root), []
    files = VocFiles(root, split)
    if class_names is None:
        class_names = _all_classes(files, faults)
    class_names = unique_names(class_names, f"{files.annotations}: class_names")
    labels = {name: label for label, name in enumerate(class_names)}
    records, measured, seen = [], set(), set()
    for name in files.names:
        if name in seen:
            message = f"{name} appears twice in {os.path.basename(files.listing)}; remove one"
            faults.append(fault(files.listing, None, "duplicate_id", message))
            continue
        seen.add(name)
        record, is_measured = _read(files, name, labels, one_based, faults)
        if is_measured:
            measured.add(len(records))
        records += [record] if record is not None else []
    for path in files.unannotated:
        message = "there is no XML file for this image: left out"
        faults.append(fault(path, None, "not_annotated", message))
    faults += filter(None, [share_fault(files.annotations, records)])
    raise_structural(faults, strict)
    return FileDataset(
        name=f"{root} {split}" if split else root,
        records=records,
        class_names=class_names,
        category_ids=range(1, len(class_names) + 1),
        faults=faults,
        files=ImageFiles(records, measured, gray_max),
    )


def _all_classes(files, faults):
    found, wanted = set(), set(map(files.xml, files.names))
    for path in files.xml_files:
        # Those of this split are read again, and their faults are found then.
        tree = _parse(path, [] if path in wanted else faults)
        if tree is not None:
            found.update(_field(item, "name") for item in tree.findall("object"))
    return sorted(found - {None})


class _Builder(ElementTree.TreeBuilder):
    """A tree of bounded depth and size."""

    depth = count = 0

    def start(self, tag, attributes):
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > _DEEPEST or self.count > _MOST:
            raise ValueError(f"more than {_DEEPEST} elements in one another or {_MOST} in all")
        return super().start(tag, attributes)

    def end(self, tag):
        self.depth -= 1
        return super().end(tag)


def _parse(path, faults):
    try:
        data = read_bytes(path)
        if b"<!ENTITY" in data:
            raise ValueError("it declares entities, which no annotation needs; remove them")
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_Builder()))
    except FileNotFoundError:
        message = "there is no such annotation; restore it, or take its name out of the split"
        faults.append(fault(path, None, "missing_annotation", message))
    except ElementTree.ParseError as error:
        line, column = error.position
        message = f"line {line}, column {column + 1}: not XML ({error}); restore the file"
        faults.append(fault(path, None, "broken_xml", message))
    except (ValueError, LookupError) as error:  # An unknown encoding is a LookupError.
        message = f"not XML ({str(error).removeprefix(f'{path}: ')}); restore the file"
        faults.append(fault(path, None, "broken_xml", message))
    return None


def _field(element, name):
    text = element.findtext(name)
    return text.strip() if text and text.strip() else None


def _read(files, name, labels, one_based, faults):
    """(record or None with a fault, whether its size was read from the image)."""
    file = files.xml(name)
    tree = _parse(file, faults)
    if tree is None:
        return None, False
    path = files.image(name, _field(tree, "filename"))
    if path is None:
        message = f"there is no such image; restore it, or take {name} out of the split"
        missing = os.path.join(files.images, f"{name}.jpg".lstrip("/"))
        faults.append(fault(missing, None, "missing_image", message))
        return None, False
    try:
        stated = annotated_size(*(_field(tree, f"size/{side}") for side in ("height", "width")))
    except ValueError as error:
        faults.append(fault(file, None, "bad_size", str(error)))
        return None, False
    try:
        size = stated or image_size(path)
    except ValueError as error:
        message = str(error).removeprefix(f"{path}: ")
        faults.append(fault(path, None, "unreadable_image", message))
        return None, False
    objects = []
    for position, item in enumerate(tree.findall("object"), start=1):
        kept, kind, message = _object(item, labels, size, one_based)
        if kind:
            faults.append(fault(file, position, kind, message))
        if kept is not None:
            objects.append(kept)
    return make_record(name, size, objects, path), stated is None


def _object(item, labels, size, one_based):
    """((box, label, ignore, None) or None, kind of fault, message) of one object."""
    name = _field(item, "name")
    if name not in labels:
        known = f"which is not in the class names {', '.join(labels):.500}; add it or correct it"
        return None, "unknown_category", f"name is {shown(name)}, {known}"
    texts = [item.findtext(f"bndbox/{corner}") for corner in _CORNERS]
    box = [as_number(text) for text in texts]
    if None in box:
        return None, "bad_value", f"bndbox is {shown(texts)}; it has numbers {', '.join(_CORNERS)}"
    # A box whose corners are one point is a slip of the hand, not an object of one pixel.
    if one_based and box[2] > box[0] and box[3] > box[1]:
        box = [box[0] - 1, box[1] - 1, box[2], box[3]]
    box, kind, message = clean_box(box, size)
    if kind == "clipped" and one_based:
        message += " (if pixels are counted from 0: one_based=False, --voc-zero-based)"
    if box is None:
        return None, kind, message
    return (box, labels[name], as_number(_field(item, "difficult")) == 1, None), kind, message
