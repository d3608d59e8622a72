"""Reader of CSV files with one box per line."""

import csv as csv_format
import io
import os

from kerasdet.data.cleaning import (
    as_number,
    clean_box,
    fault,
    make_record,
    raise_structural,
    read_text,
    shown,
    unique_names,
)
from kerasdet.data.finding import Claims, find_image, is_same
from kerasdet.data.image_files import ImageFiles
from kerasdet.data.records import FileDataset
from kerasdet.data.signs import share_fault
from kerasdet.images import image_size

_COLUMNS = ("image", "xmin", "ymin", "xmax", "ymax", "label")


def csv(file, class_names=None, strict=True, gray_max=None):
    """Read a CSV file with the header image,xmin,ymin,xmax,ymax,label.

    Further columns are ignored. A line that holds only an image (the rest empty) names an image without
    objects. Lines whose images are spellings of one file, as "a.jpg" and "./a.jpg", belong to one image.
    Coordinates are continuous pixels, from 0.

    Args:
        file: the CSV file; image paths are relative to its folder.
        class_names: K names in the order of the labels; by default the names in the file, sorted.
        strict: raise for faults of structure; False leaves out the affected entries and lists the faults.
        gray_max: the level that is white in 16-bit gray images; see `kerasdet.data.load_image`.

    Returns:
        A `Dataset`; image ids are the entries of the column "image", in their first spelling.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: a missing image, an unknown label, an impossible box; the error lists all of them, with
            their lines.
        ValueError: the header lacks a column, or a line is not CSV; `class_names` is not a list.
    """
    rows, faults = _rows(file), []
    if class_names is None:
        class_names = sorted({row["label"] for _, row in rows if row["label"]})
    class_names = unique_names(class_names, f"{file}: column 'label'")
    labels = {name: label for label, name in enumerate(class_names)}
    folder = os.path.dirname(os.path.abspath(file))
    images, claims, found = {}, Claims(), []
    for line, row in rows:
        name = row["image"]
        if name not in images:
            images[name] = _image(folder, name, images, claims, (file, line), faults)
        _, _, size, objects = images[name]
        if size is not None and any(row[column] for column in _COLUMNS[1:]):
            kept, kind, message = _object(row, labels, size, found)
            if kind:
                faults.append(fault(file, line, kind, message))
            if kept is not None:
                objects.append(kept)
    records = [
        make_record(name, size, objects, path)
        for name, (first, path, size, objects) in images.items()
        if name == first and size is not None
    ]
    faults += filter(None, [share_fault(file, found)])
    raise_structural(faults, strict)
    return FileDataset(
        name=os.fspath(file),
        records=records,
        class_names=class_names,
        category_ids=range(1, len(class_names) + 1),
        faults=faults,
        files=ImageFiles(records, range(len(records)), gray_max),
    )


def _rows(file):
    """Return [(line number, {column: text})]."""
    text = read_text(file)
    reader = csv_format.DictReader(io.StringIO(text), skipinitialspace=True, strict=True)
    rows, lines, line = [], text.split("\n"), 1
    try:
        reader.fieldnames = _header(file, reader.fieldnames or [])
        line = _next(lines, reader.line_num)
        for row in reader:
            row = {column: (row[column] or "").strip() for column in _COLUMNS}
            _check(file, line, row)
            rows.append((line, row))
            line = _next(lines, reader.line_num)
    except csv_format.Error as error:
        raise ValueError(
            f"{file}: line {line}: not CSV ({error}); is a quotation mark left open?"
        ) from None
    return rows


def _next(lines, line):
    """Return the number of the next line that is not empty."""
    return next((n for n in range(line + 1, len(lines)) if lines[n - 1]), line + 1)


def _check(file, line, row):
    if not row["image"]:
        raise ValueError(f"{file}: line {line}: the column 'image' is empty.")
    for column in ("image", "label"):
        if "\n" in row[column]:
            raise ValueError(
                f"{file}: line {line}: the column {column!r} holds a line break, "
                f"{shown(row[column])}; is a quotation mark left open?"
            )


def _header(file, names):
    header = [name.strip() for name in names]
    missing = [column for column in _COLUMNS if column not in header]
    if missing:
        raise ValueError(
            f"{file}: line 1: the header {','.join(header):.200} lacks {', '.join(missing)}; "
            f"it must be {','.join(_COLUMNS)}, with commas."
        )
    return header


def _image(folder, name, images, claims, place, faults):
    """Return (first spelling, path, (height, width) or None with a fault, objects) of a new name.

    Args:
        folder: the folder that names are relative to.
        name: a name that is not in `images` yet.
        images: {name: what is returned here}.
        claims: `Claims` of the names.
        place: (file, line).
        faults: list, extended here.
    """
    path = find_image(folder, name)
    owner = name if path is None else claims.owner(path, name)
    if owner == name:
        path = path or os.path.join(folder, name)
        return name, path, _size(path, place, faults), []
    if is_same(folder, path, owner, name):
        return images[owner]
    message = (
        f"{name} and {owner} are both found as {path}; restore their folders, or write one name"
    )
    faults.append(fault(*place, "missing_image", message))
    return name, path, None, []


def _size(path, place, faults):
    listed = f"({place[0]}, line {place[1]})"
    try:
        return image_size(path)
    except FileNotFoundError:
        message = f"there is no such image {listed}; restore it or remove its lines"
        faults.append(fault(path, None, "missing_image", message))
    except ValueError as error:
        message = f"{str(error).removeprefix(f'{path}: ')} {listed}"
        faults.append(fault(path, None, "unreadable_image", message))
    return None


def _object(row, labels, size, found):
    """Return ((box, label, False, None) or None, kind of fault, message) for one line.

    The numbers of its box are added to `found`, for `share_fault`.
    """
    if row["label"] not in labels:
        known = f"which is not in the class names {', '.join(labels):.500}; add it or correct it"
        return None, "unknown_category", f"label is {shown(row['label'])}, {known}"
    box = [as_number(row[column]) for column in _COLUMNS[1:5]]
    if None in box:
        texts = ",".join(row[column] for column in _COLUMNS[1:5])
        return None, "bad_value", f"the box is {texts:.200}; it must be four numbers in pixels"
    kept, kind, message = clean_box(box, size)
    found.append((box, size, kind))
    return kept and (kept, labels[row["label"]], False, None), kind, message
