"""One image on its way into a batch: loaded, augmented, checked, its boxes scaled and padded.

NumPy alone; `pipeline.py` does the rest (resizing, canvas, batch) in TensorFlow.
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


def types(augment):
    """{part of an example: dtype}."""
    types = {name: "float32" for name in ("boxes", "area", "keypoints")}
    types |= {name: "int32" for name in ("size", "canvas", "labels", "original_size", "semantic")}
    # Untouched images travel as bytes; augmentation may leave fractions.
    image = "uint8" if augment is None else "float32"
    return types | {"image": image, "ignore": "bool", "image_id": "int64", "masks": "uint8"}


def shapes(max_boxes, num_points):
    """{part of an example: shape}, None where it differs from image to image."""
    return {
        "image": [None, None, 3],
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
    }


class Cache:
    """A data set's records and images, kept when first asked for."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.images = {}
        self.records = {}

    def image(self, index):
        """See `Dataset.image`; read-only."""
        if index not in self.images:
            image = np.array(self.dataset.image(index))
            image.setflags(write=False)  # An augmentation in place would change every later epoch.
            self.images[index] = image
        return self.images[index]

    def record(self, index):
        """See `Dataset.record`."""
        if index not in self.records:
            self.records[index] = self.dataset.record(index)
        return self.records[index]

    def semantic(self, index):
        """See `Dataset.semantic`; not kept."""
        return self.dataset.semantic(index)


def example(source, index, part, augment, rng, max_boxes, wanted):
    """One image as arrays: not yet resized, its boxes already on the canvas and padded.

    Args:
        source: a `Dataset`, or a `Cache` of one.
        index: of the image.
        part: the Resize part of its batch.
        augment: None or (rng, image, record) -> (image, record).
        rng: np.random.Generator of this image in this epoch.
        max_boxes: objects after padding (G).
        wanted: names of the parts asked for.

    Returns:
        {part: array} with the dtypes of `types` and the shapes of `shapes`.

    Raises:
        ValueError: the image or a mask has not the size of its record, or a box is not finite or
            has no size.
    """
    image, record = source.image(index), source.record(index)
    if "masks" not in wanted and record.masks is not None:
        record = dataclasses.replace(record, masks=None)  # Spares augmentation their decoding.
    _check_example(image, record)
    if augment is not None:
        image, record = augment(rng, image, record)
        image = np.asarray(image, "float32")
        _check_example(image, record)
    if len(record.labels) > max_boxes:
        record = record.select(np.sort(np.argsort(-record.area, kind="stable")[:max_boxes]))
    height, width = record.height, record.width
    size = part.target_size(height, width)
    x, y = np.float32(size[1] / width), np.float32(size[0] / height)
    parts = {
        "image": np.ascontiguousarray(image),
        "size": np.asarray(size, "int32"),
        "canvas": np.asarray(part.canvas_size(*size), "int32"),
        "boxes": _padded(record.boxes * np.asarray([x, y, x, y], "float32"), max_boxes, "float32"),
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
        parts["keypoints"] = _padded(points, max_boxes, "float32")
    if "masks" in wanted:
        parts["masks"] = _decoded(record)
    if "semantic" in wanted:
        parts["semantic"] = np.asarray(source.semantic(index), "int32")
    return parts


def _check_example(image, record):
    name = record.path or f"image {record.image_id}"
    if image.shape != (record.height, record.width, 3):
        raise ValueError(
            f"{name}: the image has shape {image.shape}, its record says "
            f"({record.height}, {record.width}, 3)."
        )
    sides = record.boxes[:, 2:] - record.boxes[:, :2]
    wrong = np.flatnonzero(~(np.isfinite(record.boxes).all(-1) & (sides > 0).all(-1)))
    if len(wrong):
        raise ValueError(
            f"{name}: box {wrong[0]} is {record.boxes[wrong[0]].tolist()}; boxes are finite and "
            "xmin < xmax, ymin < ymax: correct or remove it (`kerasdet check` lists all)."
        )
    for index, mask in enumerate(record.masks or ()):
        if tuple(mask["size"]) != (record.height, record.width):
            raise ValueError(
                f"{name}: mask {index} is {tuple(mask['size'])} (height, width), its image "
                f"({record.height}, {record.width}): masks have the size of their image."
            )


def _padded(values, length, dtype):
    result = np.full((length, *values.shape[1:]), 0 if dtype == "bool" else -1, dtype)
    result[: len(values)] = values
    return result


def _decoded(record):
    from pycocotools import mask

    if not record.masks:
        return np.zeros((0, record.height, record.width), "uint8")
    return np.ascontiguousarray(np.moveaxis(mask.decode(list(record.masks)), -1, 0))
