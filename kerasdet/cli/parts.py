"""What the command line's words stand for: data sets, sizes, backbones, augmentations, models."""

import os
import re
import sys
from pathlib import Path

DATA_HELP = (
    "digits[:SCENES], voc:ROOT, coco:ANNOTATIONS.json:IMAGES, yolo:ROOT or csv:FILE; see --split."
)
VOC_ZERO_BASED_HELP = "Coordinates of voc data count pixels from 0, not from 1."
GRAY_MAX_HELP = "Level that is white in 16-bit gray images, as 4095; default 65535."
BACKBONES = {
    "mobilenet_v2": "MobileNetV2",
    "resnet18": "ResNet18",
    "resnet34": "ResNet34",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "resnet152": "ResNet152",
    "resnext50": "ResNeXt50",
    "resnext101": "ResNeXt101",
}
BOX_LOSSES = {
    "smooth_l1": "SmoothL1",
    "giou": "GIoULoss",
    "diou": "DIoULoss",
    "ciou": "CIoULoss",
}
AUGMENTATIONS = {
    "flip": "HorizontalFlip",
    "vflip": "VerticalFlip",
    "rotate": "RandomRotate90",
    "scale": "ScaleJitter",
    "crop": "RandomCropIoU",
    "expand": "ExpandCanvas",
    "colour": "ColourJitter",
}


def start_quietly():
    """Import TensorFlow without its messages about the machine; --debug lets them through.

    They are written by its C++ part before any log level counts, so stderr itself is turned away.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


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
    """A canvas for a data set: the median image's, at most `longest`, in multiples of 32."""
    import numpy as np

    step = max(1, len(data) // 200)
    records = [data.record(index) for index in range(0, len(data), step)]
    height, width = np.median([(record.height, record.width) for record in records], axis=0)
    scale = min(1, longest / max(height, width))
    return tuple(max(64, 32 * round(side * scale / 32)) for side in (height, width))


def make_anchors(kind, data, resize, layout=None):
    """The anchors of a fresh detector; None for its paper's own.

    Args:
        kind: "fitted" or "paper".
        data: data set whose objects they are fitted to.
        resize: what its images pass through.
        layout: as in `AnchorGenerator.fitted`.
    """
    import numpy as np

    from kerasdet.layers.anchors import AnchorGenerator

    if kind == "paper":
        return None
    if kind != "fitted":
        raise ValueError(f"--anchors is fitted or paper, not {kind!r}.")
    boxes = []
    for index in range(0, len(data), -(-len(data) // 1000)):
        record = data.record(index)
        height, width = resize.target_size(record.height, record.width)
        scale = np.array([width / record.width, height / record.height] * 2)
        boxes.append(record.boxes[~record.ignore] * scale)
    return AnchorGenerator.fitted(np.concatenate(boxes), layout)


def make_box_loss(name):
    """The box loss of that name; None for the paper's own, with its own constants."""
    from kerasdet.layers import losses

    if name not in BOX_LOSSES:
        raise ValueError(f"--box-loss {name!r} is unknown; there are {', '.join(BOX_LOSSES)}.")
    return None if name == "smooth_l1" else getattr(losses, BOX_LOSSES[name])()


def make_augmentation(names, keypoint_names=()):
    """The augmentations of a comma-separated list; None for "none".

    Args:
        names: the list.
        keypoint_names: of the keypoints that are learnt; flip exchanges left ones and right ones.

    Raises:
        ValueError: an unknown name, or one that would leave keypoints under a wrong name.
    """
    from kerasdet.data import augment

    if names == "none":
        return None
    chosen = [name.strip() for name in names.split(",")]
    for name in chosen:
        _known("augmentation", name, AUGMENTATIONS)
    pairs = augment.keypoint_pairs(keypoint_names)
    for name in chosen:
        if pairs and name in ("vflip", "rotate"):
            raise ValueError(
                f"--augment {name} would leave keypoints such as {keypoint_names[pairs[0][0]]!r} "
                "under a wrong name; leave it out."
            )
    options = {"flip": {"pairs": pairs}}
    return augment.Compose(
        [getattr(augment, AUGMENTATIONS[name])(**options.get(name, {})) for name in chosen]
    )


def make_backbone(name, alpha, freeze_at=None):
    """A fresh backbone by its name, or that of a trained model by its name or path.

    That of a trained model keeps the statistics of its batch normalisation.
    """
    from kerasdet import backbones, zoo

    if name in BACKBONES:
        if freeze_at:
            raise ValueError(f"--freeze-at {freeze_at} needs a trained --backbone, not {name}.")
        arguments = {"alpha": alpha} if name == "mobilenet_v2" else {}
        return getattr(backbones, BACKBONES[name])(**arguments)
    if name in zoo.list_models() or Path(name).exists():
        return backbones.Backbone.from_preset(name, freeze_at)
    return _known("backbone", name, BACKBONES)


def load_model(name_or_path, threshold=None):
    """A detector, with its score threshold changed if one is given."""
    start_quietly()
    from kerasdet import zoo

    model = zoo.load(name_or_path)
    if threshold is not None:
        model.score_threshold = threshold
    return model


def print_table(rows, title=None, left=1):
    """Print rows of str, the first the heading; the first `left` columns stand to the left."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Narrow, so that COCO's eleven columns fit a terminal of 80.
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for index, name in enumerate(rows[0]):
        if index < left:
            # Names stay whole, longer texts are folded.
            widest = max(len(row[index]) for row in rows)
            table.add_column(name, overflow="fold", min_width=min(widest, 30))
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)


def _known(what, name, names):
    if name not in names:
        raise ValueError(f"unknown {what} {name!r}; there are {', '.join(names)}.")


def _count(notation, text):
    if text and not text.isdigit():
        raise ValueError(f"--data {notation!r} is not understood; digits:500 means 500 scenes.")
    return int(text) if text else None
