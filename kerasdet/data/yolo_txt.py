"""Reader of YOLO folders: one text file per image, a line "class cx cy width height" per object.

Numbers are shares of the image's sides. A line of more numbers is a polygon ("class x y x y
..."), and its box is the polygon's extent. An image without a text file has no objects.
"""

import os

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

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def yolo(root, split=None, strict=True):
    """Read a YOLO folder, or one split of it.

    Class names come from data.yaml ("names") or classes.txt. Images lie in images/<split> (or
    where data.yaml says, or in <split>/images); labels in the same place under "labels".

    Args:
        root: the folder.
        split: name of the split; None where the images lie in images/ itself.
        strict: raise for faults of structure; False leaves out what they concern and lists them.

    Returns:
        A `Dataset`; image ids are file names without suffix, category ids the numbers in the files.

    Raises:
        FileNotFoundError: no class names, no images or no labels where they are looked for.
        DataError: an unknown class number, a box that is none, a text file without image: all of
            them, with file and line.
    """
    root, faults = os.fspath(root), []
    settings = _settings(root)
    folder = _image_folder(root, split, settings)
    label_folder = _label_folder(folder)
    images = sorted(n for n in os.listdir(folder) if n.lower().endswith(_SUFFIXES))
    stems = [os.path.splitext(name)[0] for name in images]
    for name in sorted(os.listdir(label_folder)):
        if name.endswith(".txt") and name != "classes.txt" and name[:-4] not in set(stems):
            message = f"there is no image {name[:-4]} in {folder}; restore it or remove this file"
            faults.append(fault(os.path.join(label_folder, name), None, "unknown_image", message))
    records = []
    for stem, name in zip(stems, images):
        labels = os.path.join(label_folder, f"{stem}.txt")
        records.append(_read(stem, os.path.join(folder, name), labels, settings["names"], faults))
    raise_structural(faults, strict)
    return FileDataset(
        name=f"{root} {split}" if split else root,
        records=[record for record in records if record is not None],
        class_names=settings["names"],
        category_ids=range(len(settings["names"])),
        faults=faults,
    )


def _settings(root):
    """{"names": class names, "path", "train", "val", ...: text} of data.yaml or classes.txt."""
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        file = os.path.join(root, name)
        if os.path.isfile(file):
            settings = _read_yaml(file)
            return settings | {"names": unique_names(settings.get("names", ()), f"{file}: 'names'")}
    for file in (os.path.join(root, "classes.txt"), os.path.join(root, "labels", "classes.txt")):
        if os.path.isfile(file):
            lines = [line.strip() for line in read_text(file).splitlines()]
            return {"names": unique_names([line for line in lines if line], file)}
    raise FileNotFoundError(
        f"{root}: there is neither data.yaml nor classes.txt; write the class names, one per line, "
        "into classes.txt."
    )


def _read_yaml(file):
    """The part of YAML that data.yaml files use: text values, and names as a list or by number."""
    settings, block = {}, None
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        line = _without_comment(line)
        if not line.strip():
            continue
        entry = line.strip()
        if line[0] not in " \t-":
            key, colon, value = entry.partition(":")
            if not colon:
                raise ValueError(f"{file}: line {number}: {entry!r} is not 'key: value'.")
            block, value = key.strip(), value.strip()
            settings[block] = (
                _flow(value, file, number) if value[:1] in "[{" and value else _bare(value)
            )
            if not value:
                settings[block] = []
        elif block is not None and isinstance(settings[block], list):
            value = entry[1:] if entry[0] == "-" else entry.partition(":")[2]
            settings[block].append(_bare(value.strip()))
    return settings


def _flow(value, file, number):
    if value[-1] not in "]}":
        raise ValueError(f"{file}: line {number}: a list in brackets must end on its line.")
    items = [item.strip() for item in value[1:-1].split(",") if item.strip()]
    if value[0] == "{":
        items = [item.partition(":")[2].strip() for item in items]
    return [_bare(item) for item in items]


def _bare(text):
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _without_comment(line):
    return "" if line.lstrip().startswith("#") else line.split(" #")[0].rstrip()


def _image_folder(root, split, settings):
    if split is None:
        places = [os.path.join(root, "images")]
    else:
        places = [os.path.join(root, "images", split), os.path.join(root, split, "images")]
        if isinstance(settings.get(split), str) and settings[split]:
            base = os.path.join(root, settings.get("path") or "")
            places = [
                os.path.join(base, settings[split]),
                os.path.join(root, settings[split]),
                *places,
            ]
    for place in places:
        if os.path.isdir(place) and any(n.lower().endswith(_SUFFIXES) for n in os.listdir(place)):
            return os.path.normpath(place)
    hint = "; name a split" if split is None else ""
    raise FileNotFoundError(f"{root}: no images in {' or '.join(places)}{hint}.")


def _label_folder(folder):
    parts = folder.split(os.sep)
    if "images" not in parts:
        raise FileNotFoundError(
            f"{folder}: images belong into a folder images/, text files into labels/."
        )
    last = len(parts) - 1 - parts[::-1].index("images")
    labels = os.sep.join([*parts[:last], "labels", *parts[last + 1 :]])
    if not os.path.isdir(labels):
        raise FileNotFoundError(f"{labels}: there is no such folder; the text files belong there.")
    return labels


def _read(stem, path, file, names, faults):
    """One image's record, or None with a fault."""
    try:
        size = image_size(path)
    except ValueError as error:
        faults.append(fault(path, None, "unreadable_image", str(error)))
        return None
    lines = read_text(file).splitlines() if os.path.isfile(file) else []
    objects = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            kept, kind, message = _object(line.split(), len(names), size)
            if kind:
                faults.append(fault(file, number, kind, message))
            if kept is not None:
                objects.append(kept)
    return make_record(stem, size, objects, path)


def _object(words, num_classes, size):
    """((box, label, False, None) or None, kind of fault, message) of one line."""
    try:
        label, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        return None, "bad_value", f"{' '.join(words)!r:.100} are not all numbers"
    if label not in range(num_classes):
        return None, "unknown_category", f"class {words[0]} is not in 0..{num_classes - 1}"
    if len(values) == 4:
        cx, cy, w, h = values
        values = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
    elif len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[0::2], values[1::2]
        values = [min(xs), min(ys), max(xs), max(ys)]
    else:
        message = f"{len(values)} numbers after the class; a box has 4, a polygon 6 or more, even"
        return None, "bad_value", message
    if any(abs(value) > 2 for value in values):
        return None, "bad_value", f"{values} are no shares of the sides; divide pixels by them"
    height, width = size
    xmin, ymin, xmax, ymax = values
    box, kind, message = clean_box((xmin * width, ymin * height, xmax * width, ymax * height), size)
    return box and (box, int(label), False, None), kind, message
