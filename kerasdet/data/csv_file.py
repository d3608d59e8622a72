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
    share_fault,
    shown,
    unique_names,
)
from kerasdet.data.finding import find_image, is_claimed
from kerasdet.data.image_files import ImageFiles
from kerasdet.data.records import FileDataset
from kerasdet.images import image_size

_COLUMNS = ("image", "xmin", "ymin", "xmax", "ymax", "label")


def csv(file, class_names=None, strict=True, gray_max=None):
    """Read a CSV file with the header image,xmin,ymin,xmax,ymax,label.

    Further columns are ignored. A line with an image alone (the rest empty) names an image without
    objects. Coordinates are continuous pixels, from 0.

    Args:
        file: the CSV file; relative image paths start at its folder.
        class_names: K names in the order of the labels; by default the names in the file, sorted.
        strict: raise for faults of structure; False leaves out what they concern and lists them.
        gray_max: the level that is white in 16-bit gray images; see `kerasdet.data.load_image`.

    Returns:
        A `Dataset`; image ids are the entries of the column "image".

    Raises:
        FileNotFoundError: there is no such file.
        DataError: a missing image, an unknown label, an impossible box: all of them, with
            their line.
        ValueError: the header lacks a column, or a line is not CSV.
    """
    rows, faults = _rows(file), []
    if class_names is None:
        class_names = sorted({row["label"] for _, row in rows if row["label"]})
    class_names = unique_names(class_names, f"{file}: column 'label'")
    labels = {name: label for label, name in enumerate(class_names)}
    folder = os.path.dirname(os.path.abspath(file))
    images, claimed = {}, {}
    for line, row in rows:
        name = row["image"]
        if name not in images:
            path = find_image(folder, name) or os.path.join(folder, name)
            images[name] = path, _size(path, name, claimed, (file, line), faults), []
        _, size, objects = images[name]
        if size is not None and any(row[column] for column in _COLUMNS[1:]):
            kept, kind, message = _object(row, labels, size)
            if kind:
                faults.append(fault(file, line, kind, message))
            if kept is not None:
                objects.append(kept)
    records = [
        make_record(name, size, objects, path)
        for name, (path, size, objects) in images.items()
        if size is not None
    ]
    faults += filter(None, [share_fault(file, records)])
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
    """[(line number, {column: text})]."""
    reader = csv_format.DictReader(io.StringIO(read_text(file)), skipinitialspace=True)
    rows = []
    try:
        reader.fieldnames = _header(file, reader.fieldnames or [])
        for row in reader:
            row = {column: (row[column] or "").strip() for column in _COLUMNS}
            if not row["image"]:
                raise ValueError(f"{file}: line {reader.line_num}: the column 'image' is empty.")
            rows.append((reader.line_num, row))
    except csv_format.Error as error:
        raise ValueError(
            f"{file}: line {reader.line_num + 1}: not CSV ({error}); is a quotation mark left open?"
        ) from None
    return rows


def _header(file, names):
    header = [name.strip() for name in names]
    missing = [column for column in _COLUMNS if column not in header]
    if missing:
        raise ValueError(
            f"{file}: line 1: the header {','.join(header):.200} lacks {', '.join(missing)}; "
            f"it is {','.join(_COLUMNS)}, with commas."
        )
    return header


def _size(path, name, claimed, place, faults):
    """(height, width) of an image, or None with a fault; `place` is its (file, line)."""
    if is_claimed(claimed, path, name):
        message = f"{name} and {claimed[path]} are both found as {path}; restore their folders"
        faults.append(fault(*place, "missing_image", message))
        return None
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


def _object(row, labels, size):
    """((box, label, False, None) or None, kind of fault, message) of one line."""
    if row["label"] not in labels:
        known = f"which is not in the class names {', '.join(labels):.500}; add it or correct it"
        return None, "unknown_category", f"label is {shown(row['label'])}, {known}"
    box = [as_number(row[column]) for column in _COLUMNS[1:5]]
    if None in box:
        texts = ",".join(row[column] for column in _COLUMNS[1:5])
        return None, "bad_value", f"the box is {texts:.200}; it is four numbers in pixels"
    box, kind, message = clean_box(box, size)
    return box and (box, labels[row["label"]], False, None), kind, message
