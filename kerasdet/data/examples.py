"""One image on its way into a batch: it is loaded, augmented and checked; its boxes are scaled and padded.

This file uses NumPy alone; `pipeline.py` does the rest (resizing, canvas, batch) in TensorFlow.
"""

import dataclasses

import numpy as np

# What every example has.
PARTS = (
    "image",
    "size",
    "canvas",
    "boxes",
    "labels",
    "ignore",
    "area",
    "image_id",
    "original_size",
)


def types(augment, drawn):
    """Return {part of an example: dtype}; `drawn`: whether a `Drawn` part has made the canvas."""
    types = {name: "float32" for name in ("boxes", "area", "keypoints", "proposals")}
    types |= {name: "int32" for name in ("size", "canvas", "labels", "original_size", "semantic")}
    # Unchanged images travel as bytes; augmentation and drawing create fractions.
    image = "uint8" if augment is None and not drawn else "float32"
    return types | {"image": image, "ignore": "bool", "image_id": "int64", "masks": "uint8"}


def shapes(max_boxes, num_points, channels, num_proposals):
    """Return {part of an example: shape}; None where it differs between images."""
    return {
        "image": [None, None, channels],
        "size": [2],
        "canvas": [2],
        "boxes": [max_boxes, 4],
        "labels": [max_boxes],
        "ignore": [max_boxes],
        "area": [max_boxes],
        "image_id": [],
        "original_size": [2],
        "keypoints": [max_boxes, num_points, 3],
        "masks": [None, None, None],
        "semantic": [None, None],
        "proposals": [num_proposals, 4],
    }


class Cache:
    """A data set's records and images, stored on first use."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.channels = dataset.channels
        self.images = {}
        self.records = {}

    def image(self, index):
        """Return the image, read-only; see `Dataset.image`."""
        if index not in self.images:
            image = np.array(self.dataset.image(index))
            image.setflags(write=False)  # an augmentation in place would change later epochs
            self.images[index] = image
        return self.images[index]

    def record(self, index):
        """See `Dataset.record`."""
        if index not in self.records:
            self.records[index] = self.dataset.record(index)
        return self.records[index]

    def semantic(self, index):
        """Return the semantic map, which is not stored; see `Dataset.semantic`."""
        return self.dataset.semantic(index)


def example(source, index, part, augment, rng, shapes, wanted):
    """Return one image as arrays: not yet resized, but with its boxes on the canvas and padded.

    A `Drawn` part's canvas is drawn here, with its maps; the size is then the canvas's, and whole.

    Args:
        source: a `Dataset`, or a `Cache` of one.
        index: index of the image.
        part: the `Resize` part of the image's batch.
        augment: None or (rng, image, record) -> (image, record).
        rng: the `np.random.Generator` of this image in this epoch.
        shapes: {part: shape} from `shapes`, with the numbers of objects (G) and proposals (R) after padding.
        wanted: names of the required parts.

    Returns:
        {part: array} with the dtypes from `types` and the given shapes.

    Raises:
        ValueError: the image, a mask or the semantic map does not have the size in its record; the
            image has another number of channels than its data set, or is not uint8; a box is not
            finite or has no size; or a required part is missing.
    """
    image, record = source.image(index), source.record(index)
    if "masks" not in wanted and record.masks is not None:
        # Without masks, augmentation need not decode them.
        record = dataclasses.replace(record, masks=None)
    if "semantic" in wanted:
        record = dataclasses.replace(record, semantic=source.semantic(index))
    _check_image(image, record)
    _check_example(image, record, source.channels, wanted)
    if augment is not None:
        image, record = augment(rng, image, record)
        image = np.asarray(image, "float32")
        _check_example(image, record, source.channels, wanted)
    max_boxes = shapes["boxes"][0]
    if len(record.labels) > max_boxes:
        record = record.select(np.sort(np.argsort(-record.area, kind="stable")[:max_boxes]))
    height, width = record.height, record.width
    size = part.target_size(height, width)
    x, y = np.float32(size[1] / width), np.float32(size[0] / height)
    scale = np.asarray([x, y, x, y], "float32")
    top, left = part.offset(*size)
    offset = np.asarray([left, top, left, top], "float32")
    canvas = part.canvas_size(*size)
    drawn = part.DRAWN
    if drawn:
        image = part.draw(image)
    elif part.WHOLE:  # the pipeline finds nothing left to resize
        image = part.resample(image, size)
    parts = {
        "image": np.ascontiguousarray(image),
        "size": np.asarray(canvas if drawn else size, "int32"),
        "canvas": np.asarray(canvas, "int32"),
        "boxes": _padded(record.boxes * scale + offset, max_boxes, "float32"),
        "labels": _padded(record.labels, max_boxes, "int32"),
        "ignore": _padded(record.ignore, max_boxes, "bool"),
        "area": _padded(record.area, max_boxes, "float32"),
        "image_id": np.int64(
            record.image_id if isinstance(record.image_id, (int, np.integer)) else index
        ),
        "original_size": np.asarray([height, width], "int32"),
    }
    if "keypoints" in wanted:
        points = record.keypoints * np.asarray([x, y, 1], "float32")
        points = points + np.asarray([left, top, 0], "float32")
        parts["keypoints"] = _padded(points, max_boxes, "float32")
    if "masks" in wanted:
        masks = _decoded(record)
        parts["masks"] = _drawn_masks(part, masks) if drawn else masks
    if "semantic" in wanted:
        labels = np.ascontiguousarray(record.semantic, "int32")
        parts["semantic"] = part.draw_labels(labels) if drawn else labels
    if "proposals" in wanted:
        count = shapes["proposals"][0]
        parts["proposals"] = _padded(record.proposals[:count] * scale + offset, count, "float32", 0)
    return parts


def _check_image(image, record):
    if image.dtype != "uint8":
        raise ValueError(
            f"{_name(record)}: the image has dtype {image.dtype}; a data set's images must be uint8, "
            "0..255: scale and round them."
        )


def _check_example(image, record, channels, wanted):
    name = _name(record)
    if image.shape != (record.height, record.width, channels):
        raise ValueError(
            f"{name}: the image has shape {image.shape}; its record and its data set say "
            f"({record.height}, {record.width}, {channels}): correct the annotation's size, or the "
            "data set's `channels`."
        )
    for part in ("semantic", "proposals"):
        if part in wanted and getattr(record, part) is None:
            raise ValueError(
                f"{name}: there is no record.{part}, which was asked for; give every image one, and "
                "let augmentations keep it (dataclasses.replace does)."
            )
    sides = record.boxes[:, 2:] - record.boxes[:, :2]
    wrong = np.flatnonzero(~(np.isfinite(record.boxes).all(-1) & (sides > 0).all(-1)))
    if len(wrong):
        raise ValueError(
            f"{name}: box {wrong[0]} is {record.boxes[wrong[0]].tolist()}; boxes must be finite, with "
            "xmin < xmax, ymin < ymax: correct or remove it (`kerasdet check` lists all)."
        )
    for index, mask in enumerate(record.masks or ()):
        if tuple(mask["size"]) != (record.height, record.width):
            raise ValueError(
                f"{name}: mask {index} is {tuple(mask['size'])} (height, width), its image "
                f"({record.height}, {record.width}): masks must have the size of their image."
            )


def _name(record):
    return record.path or f"image {record.image_id}"


def _padded(values, length, dtype, fill=-1):
    result = np.full((length, *values.shape[1:]), False if dtype == "bool" else fill, dtype)
    result[: len(values)] = values
    return result


def _drawn_masks(part, masks):
    return (part.draw(masks[..., None], fill=0)[..., 0] > 0.5).astype("uint8")


def _decoded(record):
    from pycocotools import mask

    if not record.masks:
        return np.zeros((0, record.height, record.width), "uint8")
    return np.ascontiguousarray(np.moveaxis(mask.decode(list(record.masks)), -1, 0))
