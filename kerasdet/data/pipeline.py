"""From a data set to batches of (inputs, targets): order, loading, augmentation, resizing, padding.

Everything random is keyed by numbers (seed, epoch, picture or batch), never by a running state: a
resumed run sees what the uninterrupted one would have seen, however many threads load the pictures.
"""

import numpy as np

# First number of each key, so that no two uses share a stream.
_ORDER, _AUGMENT, _SCALE = 1, 2, 3
# Padding of a batch to its largest canvas; everything else has one shape.
_PADDING = {"semantic": -1}


def batches(
    dataset,
    batch_size,
    resize,
    augment=None,
    shuffle=False,
    repeat=False,
    seed=0,
    drop_remainder=False,
    max_boxes=None,
    masks=False,
    semantic=False,
    cache=False,
    start_epoch=0,
):
    """Batches for `fit` and `evaluate`; also a method of `Dataset`.

    Args:
        dataset: a `Dataset`.
        batch_size: pictures per batch (B).
        resize: a Resize part, or a list of them: each batch takes one, drawn from (seed, epoch, batch).
        augment: None or a callable (rng, image, record) -> (image, record) on NumPy arrays.
        shuffle: draw a new order each epoch.
        repeat: go on for ever, one epoch after the other. Without it each pass over the result is the
            next epoch; a pass that is broken off does not count.
        seed: non-negative integer that all chance depends on.
        drop_remainder: leave out the last batch of an epoch when it is not full.
        max_boxes: objects per picture (G); by default the largest number in the data set. Pictures with
            more keep their largest ones.
        masks: add "masks".
        semantic: add "semantic"; not with `augment`, which does not move such maps.
        cache: keep the decoded pictures in memory.
        start_epoch: number of the first epoch, to continue a run.

    Returns:
        A tf.data.Dataset, its length known, of pairs
        inputs {"images" (B, H, W, 3) float32 0..255, the picture at the canvas's top left and zeros
        elsewhere, "image_sizes" (B, 2) int32 height and width of the resized picture} and
        targets in canvas pixels {"boxes" (B, G, 4), "labels" (B, G) int32, "ignore" (B, G) bool,
        "area" (B, G) in the picture's own pixels, "image_id" (B,) int64 (the picture's index where ids
        are not numbers), "original_size" (B, 2) int32}, "masks" (B, G, H, W) uint8, "keypoints"
        (B, G, P, 3) where the data set has them, "semantic" (B, H, W) int32; padded with -1
        ("ignore" with False, "masks" with 0).

    Raises:
        ValueError: an argument that cannot be; while running, a box that is not finite or has no size.
    """
    import tensorflow as tf

    resizes = list(resize) if isinstance(resize, (list, tuple)) else [resize]
    steps = _steps(len(dataset), batch_size, drop_remainder)
    _check_arguments(dataset, resizes, steps, augment, masks, semantic)
    if max_boxes is None:
        max_boxes = max(1, int(dataset.box_counts().max()))
    source = _Cache(dataset) if cache else dataset
    channels = [*_SINGLE, *(["keypoints"] if dataset.keypoint_names else [])]
    channels += [name for name, wanted in (("masks", masks), ("semantic", semantic)) if wanted]
    parts = [name for name in channels]

    def load(epoch, position, index):
        part = resizes[_draw(_SCALE, seed, epoch, position // batch_size).integers(len(resizes))]
        rng = _draw(_AUGMENT, seed, epoch, index)
        example = _example(source, int(index), part, augment, rng, max_boxes, parts)
        return [example[name] for name in parts]

    types = [_types(augment)[name] for name in parts]
    canvas = _fixed_canvas(resizes)
    shapes = _shapes(max_boxes, len(dataset.keypoint_names))

    def prepare(epoch, position, index):
        values = tf.numpy_function(load, [epoch, position, index], types)
        for name, value in zip(parts, values):
            value.set_shape(shapes[name])
        return _on_canvas(tf, dict(zip(parts, values)), max_boxes, canvas)

    def one_epoch(epoch):
        order = tf.numpy_function(
            lambda e: _order(len(dataset), shuffle, seed, e), [epoch], tf.int64
        )
        order.set_shape([len(dataset)])
        positions = tf.data.Dataset.range(len(dataset))
        pairs = tf.data.Dataset.zip((positions, tf.data.Dataset.from_tensor_slices(order)))
        examples = pairs.map(
            lambda position, index: prepare(epoch, position, index), tf.data.AUTOTUNE
        )
        return _batched(tf, examples, batch_size, drop_remainder)

    epochs = _epochs(start_epoch, repeat)
    numbers = tf.data.Dataset.from_generator(epochs, output_signature=tf.TensorSpec([], tf.int64))
    length = tf.data.INFINITE_CARDINALITY if repeat else steps
    result = numbers.flat_map(one_epoch).apply(tf.data.experimental.assert_cardinality(length))
    options = tf.data.Options()
    options.deterministic = True
    return result.with_options(options).prefetch(tf.data.AUTOTUNE)


_SINGLE = ("image", "size", "canvas", "boxes", "labels", "ignore", "area", "image_id", "original_size")


def _types(augment):
    types = {name: "float32" for name in ("boxes", "area", "keypoints")}
    types |= {name: "int32" for name in ("size", "canvas", "labels", "original_size", "semantic")}
    # Untouched pictures travel as bytes; augmentation may leave fractions.
    image = "uint8" if augment is None else "float32"
    return types | {"image": image, "ignore": "bool", "image_id": "int64", "masks": "uint8"}


def _shapes(max_boxes, num_points):
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


def _steps(length, batch_size, drop_remainder):
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    return length // batch_size if drop_remainder else -(-length // batch_size)


def _check_arguments(dataset, resizes, steps, augment, masks, semantic):
    if len(dataset) == 0:
        raise ValueError(f"{dataset.name} has no pictures.")
    if steps == 0:
        raise ValueError(
            f"{dataset.name} has {len(dataset)} pictures, fewer than one batch, and drop_remainder "
            "leaves none: take a smaller batch_size."
        )
    if not resizes:
        raise ValueError("resize is an empty list; give one Resize part or several.")
    if masks and dataset.record(0).masks is None:
        raise ValueError(f"{dataset.name} has no masks; leave out masks=True.")
    if semantic and dataset.semantic(0) is None:
        raise ValueError(f"{dataset.name} has no semantic maps; leave out semantic=True.")
    if semantic and augment is not None:
        raise ValueError("augment does not move semantic maps; use one or the other.")


def _draw(use, seed, *key):
    return np.random.default_rng((use, seed, *(int(number) for number in key)))


def _order(length, shuffle, seed, epoch):
    if not shuffle:
        return np.arange(length, dtype="int64")
    return _draw(_ORDER, seed, epoch).permutation(length).astype("int64")


def _epochs(start, repeat):
    """A function that generates epoch numbers: all from `start`, or one at each call."""
    following = [start]

    def numbers():
        epoch = start if repeat else following[0]
        while True:
            yield epoch
            # Reached only when the epoch's last batch is out, so a peek at the data costs no epoch.
            epoch += 1
            if not repeat:
                following[0] = epoch
                return

    return numbers


class _Cache:
    """A data set's records and pictures, kept when first asked for."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.images = {}
        self.records = {}

    def image(self, index):
        if index not in self.images:
            image = np.array(self.dataset.image(index))
            image.setflags(write=False)  # An augmentation in place would change every later epoch.
            self.images[index] = image
        return self.images[index]

    def record(self, index):
        if index not in self.records:
            self.records[index] = self.dataset.record(index)
        return self.records[index]

    def semantic(self, index):
        return self.dataset.semantic(index)


def _example(source, index, part, augment, rng, max_boxes, wanted):
    """One picture as arrays: not yet resized, its boxes already on the canvas and padded."""
    image, record = source.image(index), source.record(index)
    if augment is not None:
        image, record = augment(rng, image, record)
        image = np.asarray(image, "float32")
    _check_example(image, record)
    if len(record.labels) > max_boxes:
        record = record.select(np.sort(np.argsort(-record.area, kind="stable")[:max_boxes]))
    height, width = record.height, record.width
    size = part.target_size(height, width)
    x, y = np.float32(size[1] / width), np.float32(size[0] / height)
    example = {
        "image": np.ascontiguousarray(image),
        "size": np.asarray(size, "int32"),
        "canvas": np.asarray(part.canvas_size(*size), "int32"),
        "boxes": _padded(record.boxes * np.asarray([x, y, x, y], "float32"), max_boxes, "float32"),
        "labels": _padded(record.labels, max_boxes, "int32"),
        "ignore": _padded(record.ignore, max_boxes, "bool"),
        "area": _padded(record.area, max_boxes, "float32"),
        "image_id": np.int64(record.image_id if isinstance(record.image_id, int) else index),
        "original_size": np.asarray([height, width], "int32"),
    }
    if "keypoints" in wanted:
        points = record.keypoints * np.asarray([x, y, 1], "float32")
        example["keypoints"] = _padded(points, max_boxes, "float32")
    if "masks" in wanted:
        example["masks"] = _decoded(record)
    if "semantic" in wanted:
        example["semantic"] = np.asarray(source.semantic(index), "int32")
    return example


def _check_example(image, record):
    name = record.path or f"picture {record.image_id}"
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


def _padded(values, length, dtype):
    result = np.full((length, *values.shape[1:]), 0 if dtype == "bool" else -1, dtype)
    result[: len(values)] = values
    return result


def _decoded(record):
    from pycocotools import mask

    if not record.masks:
        return np.zeros((0, record.height, record.width), "uint8")
    return np.ascontiguousarray(np.moveaxis(mask.decode(list(record.masks)), -1, 0))


def _fixed_canvas(resizes):
    """(H, W) when every picture of every part comes to one canvas, else (None, None)."""
    sizes = [(1, 1), (37, 1111), (1111, 37)]
    canvases = {
        tuple(part.canvas_size(*part.target_size(*size))) for part in resizes for size in sizes
    }
    return canvases.pop() if len(canvases) == 1 else (None, None)


def _on_canvas(tf, example, max_boxes, canvas):
    """Resize the picture and its maps and lay them on the canvas: one (inputs, targets)."""
    size, (height, width) = example.pop("size"), tf.unstack(example.pop("canvas"))

    def lay(value, method, fill=0):
        value = tf.image.resize(value, size, method)
        value = tf.image.pad_to_bounding_box(value - fill, 0, 0, height, width) + fill
        value.set_shape([*value.shape[:-3], *canvas, value.shape[-1]])
        return value

    # Bilinear without antialias and without rounding: the rule of `kerasdet.layers.resizing`.
    inputs = {"images": lay(example.pop("image"), "bilinear"), "image_sizes": size}
    if "masks" in example:
        smooth = tf.cast(example["masks"][..., None], "float32")
        masks = tf.cast(lay(smooth, "bilinear")[..., 0] > 0.5, "uint8")
        masks = tf.pad(masks, [[0, max_boxes - tf.shape(masks)[0]], [0, 0], [0, 0]])
        masks.set_shape([max_boxes, *canvas])
        example["masks"] = masks
    if "semantic" in example:
        fill = _PADDING["semantic"]
        example["semantic"] = lay(example["semantic"][..., None], "nearest", fill)[..., 0]
    return inputs, example


def _batched(tf, examples, batch_size, drop_remainder):
    inputs, targets = examples.element_spec
    shapes = tf.nest.map_structure(lambda spec: spec.shape, (inputs, targets))
    values = tuple(
        {name: tf.constant(_PADDING.get(name, 0), spec.dtype) if spec.dtype != tf.bool else False
         for name, spec in group.items()}
        for group in (inputs, targets)
    )
    return examples.padded_batch(batch_size, shapes, values, drop_remainder)
