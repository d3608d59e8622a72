"""The data sets and sizes that the command line's words stand for."""

import re
from pathlib import Path

DATA_HELP = (
    "digits[:SCENES], voc:ROOT, coco:ANNOTATIONS.json:IMAGES, yolo:ROOT or csv:FILE; see --split."
)


def open_data(notation, split=None, default="train", strict=True):
    """A data set from the notation of `--data`.

    Args:
        notation: see `DATA_HELP`.
        split: name of a split; an error where the source has none.
        default: split to take where none is named and the source has this one.
        strict: raise for faults of structure.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: the notation is not understood, or a split is named where the source has none.
    """
    from kerasdet import data

    kind, _, place = notation.partition(":")
    if kind not in ("digits", "voc", "coco", "yolo", "csv") or (not place and kind != "digits"):
        raise ValueError(f"--data {notation!r} is not understood; use {DATA_HELP}")
    if split is None and has_split(notation, default):
        split = default
    if kind == "digits":
        return data.digit_scenes(split, size=_count(notation, place))
    if kind == "voc":
        return data.voc(place, split or default, strict=strict)
    if kind == "yolo":
        return data.yolo(place, split, strict=strict)
    if split is not None:
        raise ValueError(f"{kind} data has no splits: give each split's own file, not --split.")
    if kind == "csv":
        return data.csv(place, strict=strict)
    annotations, separator, images = place.rpartition(".json:")
    if not separator:
        raise ValueError(f"--data {notation!r} lacks a part: coco:ANNOTATIONS.json:IMAGES.")
    return data.coco(f"{annotations}.json", images, strict=strict)


def has_split(notation, split):
    """Whether a source of data has a split of that name.

    Args:
        notation: as in `open_data`.
        split: name of the split.
    """
    kind, _, place = notation.partition(":")
    files = {
        "voc": [f"ImageSets/Main/{split}.txt"],
        "yolo": [f"images/{split}", f"{split}/images"],
    }
    return kind == "digits" or any((Path(place) / name).exists() for name in files.get(kind, ()))


def open_validation(data, data_notation, notation=None):
    """The training and validation data sets.

    Args:
        data: the training data.
        data_notation: the notation that opened it.
        notation: notation of the validation data; "none" for no validation; None for the source's own
            split "val" or, where it has none, every tenth image, which is then left out of training.

    Returns:
        Tuple (data, validation or None).
    """
    if notation == "none":
        return data, None
    if notation is not None:
        return data, open_data(notation, default="val")
    if has_split(data_notation, "val"):
        # The number of scenes is that of the training data; validation has its own.
        own = "digits" if data_notation.startswith("digits") else data_notation
        return data, open_data(own, "val")
    if len(data) < 10:
        return data, None
    held_out = range(9, len(data), 10)
    return data.subset(set(range(len(data))) - set(held_out)), data.subset(held_out)


def parse_size(text):
    """(height, width) of "HxW"."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or min(map(int, match.groups())) < 32:
        raise ValueError(f"a size is HEIGHTxWIDTH, 32 pixels or more: 384x512, not {text!r}.")
    return tuple(map(int, match.groups()))


def usual_size(data, longest=640):
    """A canvas for a data set: the size of its median image.

    Args:
        data: `Dataset`; at most some 200 of its records are read.
        longest: most pixels of the longer side.

    Returns:
        Tuple (height, width), multiples of 32, at least 64.
    """
    import numpy as np

    step = max(1, len(data) // 200)
    records = [data.record(index) for index in range(0, len(data), step)]
    height, width = np.median([(record.height, record.width) for record in records], axis=0)
    scale = min(1, longest / max(height, width))
    return tuple(max(64, 32 * round(side * scale / 32)) for side in (height, width))


def _count(notation, text):
    if text and not text.isdigit():
        raise ValueError(f"--data {notation!r} is not understood; digits:500 means 500 scenes.")
    return int(text) if text else None
