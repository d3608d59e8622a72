"""Reader of XML files in PASCAL VOC's form, one for each image.

VOC counts pixels from 1 and includes the last: [xmin, xmax] = [1, 500] covers an image 500 wide.
Coordinates here are continuous, so 1 is subtracted from xmin and ymin, and xmax and ymax stay. Many
files in VOC's form count from 0: `one_based=False` takes their numbers unchanged.
Source: The PASCAL VOC2012 Development Kit.
"""

import os
import xml.etree.ElementTree as ElementTree

from kerasdet.data.cleaning import (
    MENDED,
    annotated_size,
    as_flag,
    as_number,
    clean_box,
    fault,
    make_record,
    raise_structural,
    read_bytes,
    shown,
    unique_names,
)
from kerasdet.data.finding import Claims
from kerasdet.data.image_files import ImageFiles
from kerasdet.data.records import FileDataset
from kerasdet.data.signs import share_fault
from kerasdet.data.voc_folders import VocFiles
from kerasdet.images import image_size

_DEEPEST, _MOST = 64, 200_000  # depth and number of elements, far above any annotation
_FIX = "restore the file, or save it as UTF-8"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc(root, split=None, class_names=None, one_based=True, strict=True, gray_max=None):
    """Read one split of a PASCAL VOC folder, or a folder of images with XML files.

    Args:
        root: folder with ImageSets/Main, Annotations and JPEGImages. Without lists, all images with XML
            files in it or in its folder <split>. Sub-folders are read too.
        split: name of the list in ImageSets/Main, or of the folder; None for the list "train" or, if
            there are no lists, for all images. Folders are also found as Annotations/<split> and
            JPEGImages/<split>, or annotations/<split> and images/<split>.
        class_names: K names in the order of the labels; by default all names in the XML files,
            sorted, so that every split has the same names.
        one_based: whether coordinates count pixels from 1 (VOC) or from 0.
        strict: raise for faults of structure; False leaves out the affected entries and lists the faults.
        gray_max: the level that is white in 16-bit gray images; see `kerasdet.data.load_image`.

    Returns:
        A `Dataset`. "difficult" becomes `ignore`; image ids are the names in the list, or those of the XML
        files without suffix.

    Raises:
        FileNotFoundError: there is no such split; the message names the existing ones.
        DataError: broken XML, an unknown class, an impossible box, a missing image, an image of two XML
            files; the error lists all of them, with file and the object's position.
        ValueError: no XML file names a class, or `class_names` is not a list.
    """
    root, faults = os.fspath(root), []
    files = VocFiles(root, split)
    if class_names is None:
        class_names = _all_classes(files, faults)
    else:
        class_names = unique_names(class_names, files.annotations)
    labels = {name: label for label, name in enumerate(class_names)}
    records, measured, seen, claims, found = [], set(), set(), Claims(), []
    for name in files.names:
        if name in seen:
            message = f"{name} appears twice in {os.path.basename(files.listing)}; remove one"
            faults.append(fault(files.listing, None, "duplicate_id", message))
            continue
        seen.add(name)
        source, size, is_measured = _image(files, name, claims, faults)
        if source is None:
            continue
        if is_measured:
            measured.add(len(records))
        objects = _objects(files.xml(name), source[0], labels, size, one_based, found, faults)
        records.append(make_record(name, size, objects, source[1]))
    for path in files.unannotated:
        message = "there is no XML file for this image: left out"
        faults.append(fault(path, None, "not_annotated", message))
    faults += filter(None, [share_fault(files.annotations, found)])
    if not class_names:
        raise _no_classes(files, faults)
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
        # The files of this split are read again, and their faults are found then.
        tree = _parse(path, [] if path in wanted else faults)
        if tree is not None:
            found.update(_field(item, "name") for item in tree.findall("object"))
    return sorted(found - {None})


def _no_classes(files, faults):
    true = [fault for fault in faults if fault.kind not in MENDED]
    if true:
        return ValueError(
            f"{files.annotations}: no class names; {len(true)} fault(s), the first: {true[0]}"
        )
    return ValueError(f"{files.annotations}: no XML file names an object; give class_names.")


class _Builder(ElementTree.TreeBuilder):
    """A tree of bounded depth and size."""

    depth = count = 0

    def start(self, tag, attributes):
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > _DEEPEST or self.count > _MOST:
            raise ValueError(f"more than {_DEEPEST} nested elements or {_MOST} in total")
        return super().start(tag, attributes)

    def end(self, tag):
        self.depth -= 1
        return super().end(tag)


def _parse(path, faults):
    """Return the first element of an XML file in VOC's form, or None with a fault."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        message = "there is no such annotation; restore it, or remove its name from the split"
        faults.append(fault(path, None, "missing_annotation", message))
        return None
    except ValueError as error:
        message = str(error).removeprefix(path).lstrip(": ")
        faults.append(fault(path, None, "broken_xml", message))
        return None
    try:
        if b"<!ENTITY" in data:
            raise ValueError("it declares entities, which no annotation needs; remove them")
        tree = ElementTree.fromstring(data, ElementTree.XMLParser(target=_Builder()))
    except ElementTree.ParseError as error:
        line, column = error.position
        kind, message = "broken_xml", f"line {line}, column {column + 1}: not XML ({error}); {_FIX}"
    except (ValueError, LookupError) as error:  # an unknown encoding is a LookupError
        kind, message = "broken_xml", f"not XML ({error}); {_FIX}"
    else:
        kind, message = "other_form", _other_form(tree)
        if message is None:
            return tree
    faults.append(fault(path, None, kind, message))
    return None


def _other_form(tree):
    """Describe an XML file whose objects, if it has any, do not stand where VOC has them; or None."""
    if tree.find("object") is not None:
        return None
    form = "VOC's form is <annotation> with <object> directly in it"
    if any(element.tag.rpartition("}")[2] == "object" for element in tree.iter()):
        return f"its objects stand deeper, or in a namespace; {form}"
    if tree.tag != "annotation" and tree.find("size") is None and tree.find("filename") is None:
        return f"its first element is {shown(tree.tag)}; {form}"
    return None


def _field(element, name):
    text = element.findtext(name)
    return text.strip() if text and text.strip() else None


def _image(files, name, claims, faults):
    """Return ((tree, image's path), size, whether the image gave the size); three times None with a fault."""
    none, file = (None, None, None), files.xml(name)
    tree = _parse(file, faults)
    if tree is None:
        return none
    path = files.image(name, _field(tree, "filename"))
    if path is None:
        message = f"there is no such image; restore it, or remove {name} from the split"
        missing = os.path.join(files.images, f"{name}.jpg".lstrip("/"))
        faults.append(fault(missing, None, "missing_image", message))
        return none
    owner = claims.owner(path, name)
    if owner != name:
        message = f"its image, {path}, is also that of {files.xml(owner)}; make one file of the two"
        faults.append(fault(file, None, "duplicate_image", message))
        return none
    try:
        stated = annotated_size(*(_field(tree, f"size/{side}") for side in ("height", "width")))
    except ValueError as error:
        faults.append(fault(file, None, "bad_size", str(error)))
        return none
    try:
        return (tree, path), stated or image_size(path), stated is None
    except ValueError as error:
        message = str(error).removeprefix(f"{path}: ")
        faults.append(fault(path, None, "unreadable_image", message))
    return none


def _objects(file, tree, labels, size, one_based, found, faults):
    """Return the objects of an XML file; the numbers of their boxes are added to `found`."""
    objects = []
    for position, item in enumerate(tree.findall("object"), start=1):
        kept, kind, message = _object(item, labels, size, one_based, found)
        if kind:
            faults.append(fault(file, position, kind, message))
        if kept is not None:
            objects.append(kept)
    return objects


def _object(item, labels, size, one_based, found):
    """Return ((box, label, ignore, None) or None, kind of fault, message) for one object."""
    name, difficult = _field(item, "name"), _field(item, "difficult")
    if name is None:
        return None, "missing_field", "the object has no name; add it"
    if name not in labels:
        known = f"which is not in the class names {', '.join(labels):.500}; add it or correct it"
        return None, "unknown_category", f"name is {shown(name)}, {known}"
    texts = [item.findtext(f"bndbox/{corner}") for corner in _CORNERS]
    numbers = box = [as_number(text) for text in texts]
    if None in box:
        message = f"bndbox is {shown(texts)}; it must have the numbers {', '.join(_CORNERS)}"
        return None, "bad_value", message
    if as_flag(difficult) is None:
        return None, "bad_value", f"difficult is {shown(difficult)}; it must be 0 or 1"
    # A box whose corners are one point is a slip of the annotator, not an object of one pixel.
    if one_based and box[2] > box[0] and box[3] > box[1]:
        box = [box[0] - 1, box[1] - 1, box[2], box[3]]
    box, kind, message = clean_box(box, size)
    found.append((numbers, size, kind))
    if kind == "clipped" and one_based:
        message += " (if pixels are counted from 0: one_based=False, --voc-zero-based)"
    if box is None:
        return None, kind, message
    return (box, labels[name], as_flag(difficult), None), kind, message
