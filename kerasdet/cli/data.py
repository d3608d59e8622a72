"""The data sets and sizes that the command line's words stand for."""

import re
from pathlib import Path

DATA_HELP = (
    "digits[:SCENES], voc:ROOT, coco:ANNOTATIONS.json:IMAGES, yolo:ROOT or csv:FILE; see --split."
)
VOC_ZERO_BASED_HELP = "Coordinates of voc data count pixels from 0, not from 1."
GRAY_MAX_HELP = "Level that is white in 16-bit gray images, as 4095; default 65535."
READING = ("voc_zero_based", "gray_max")  # options of how data are read


def open_data(
    notation, split=None, default="train", strict=True, voc_zero_based=False, gray_max=None
):
    """A data set from the notation of `--data`.

    Args:
        notation: see `DATA_HELP`.
        split: name of a split; an error where the source has none.
        default: split to take without one, from sources that have it.
        strict: raise for faults of structure.
        voc_zero_based: coordinates of voc data count pixels from 0.
        gray_max: the level that is white in 16-bit gray images.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: no such notation, or a split where the source has none.
    """
    from kerasdet import data

    kind, _, place = notation.partition(":")
    if kind not in ("digits", "voc", "coco", "yolo", "csv") or (not place and kind != "digits"):
        raise ValueError(f"--data {notation!r} is not understood; use {DATA_HELP}")
    if split is None and has_split(notation, default):
        split = default
    if kind == "digits":
        return data.digit_scenes(split, size=_count(notation, place))
    options = {"strict": strict, "gray_max": gray_max}
    if kind == "voc":
        split = split or (default if (Path(place) / "ImageSets").exists() else None)
        return data.voc(place, split, one_based=not voc_zero_based, **options)
    if kind == "yolo":
        return data.yolo(place, split, **options)
    if split is not None:
        raise ValueError(f"{kind} data has no splits: give each split's own file, not --split.")
    if kind == "csv":
        return data.csv(place, **options)
    annotations, separator, images = place.rpartition(".json:")
    if not separator:
        raise ValueError(f"--data {notation!r} lacks a part: coco:ANNOTATIONS.json:IMAGES.")
    return data.coco(f"{annotations}.json", images, **options)


def has_split(notation, split):
    """Whether a source of data has a split of that name."""
    from kerasdet.data import voc_folders, yolo_folders

    kind, _, place = notation.partition(":")
    owner = {"voc": voc_folders, "yolo": yolo_folders}.get(kind)
    return kind == "digits" or (owner is not None and owner.has_split(place, split))


def open_validation(data, data_notation, notation=None, **reading):
    """The training and validation data sets.

    Args:
        data: the training data.
        data_notation: what it was opened by.
        notation: of the validation data, "none", or None: the source's own split "val" if it has
            one, else every tenth image, which then is not trained on.
        **reading: options of `open_data`.

    Returns:
        Tuple (data, validation or None).
    """
    if notation == "none":
        return data, None
    if notation is not None:
        return data, open_data(notation, default="val", **reading)
    if has_split(data_notation, "val"):
        # The number of scenes to train on is none for validation.
        own = "digits" if data_notation.startswith("digits") else data_notation
        return data, open_data(own, "val", **reading)
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
