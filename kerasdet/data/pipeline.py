"""From a data set to batches of (inputs, targets): order, loading, augmentation, resizing, padding.

All random numbers are keyed by numbers (seed, epoch, image or batch), never by a running state. A
resumed run therefore sees the same data as an uninterrupted one, whatever the number of threads.
"""

import numpy as np

from kerasdet.data import examples

# First number of each key, so that no two uses share a stream.
_ORDER, _AUGMENT, _SCALE = 1, 2, 3


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
    proposals=False,
    cache=False,
    start_epoch=0,
    resize_every=1,
):
    """Return batches for `fit` and `evaluate`; also a method of `Dataset`.

    Args:
        dataset: a `Dataset`.
        batch_size: images per batch (B).
        resize: a `Resize` part, or a list of them: each batch uses one, drawn from (seed, epoch,
            batch); see `resize_every`.
        augment: None or a callable (rng, image, record) -> (image, record) on NumPy arrays. It
            moves the contents of the record together with the image.
        shuffle: draw a new order each epoch.
        repeat: continue forever, one epoch after the other. Without it, each pass over the result is
            the next epoch; an interrupted pass does not count.
        seed: non-negative integer that determines all random numbers.
        drop_remainder: leave out the last batch of an epoch if it is not full.
        max_boxes: objects per image (G); by default the largest number in the data set. Images with
            more objects keep the largest ones.
        masks: add "masks".
        semantic: add "semantic".
        proposals: add "proposals" to the inputs. True: as many rows (R) as the image with the most
            proposals has, which requires all of them first. A number R: the first R of each image.
        cache: keep the decoded images in memory.
        start_epoch: number of the first epoch, to continue a run.
        resize_every: batches in a row, counted from the start of each epoch, that use the same part of
            a list (YOLOv2 draws a new size every ten batches).

    Returns:
        A tf.data.Dataset of known length, of pairs
        inputs {"images" (B, H, W, C) float32 0..255, the image at the top left of the canvas and zeros
        elsewhere, "image_sizes" (B, 2) int32 height and width of the resized image (of a `Drawn` part: the
        canvas that it draws), "proposals"
        (B, R, 4) in canvas pixels, padded with rows of zeros} and
        targets in canvas pixels {"boxes" (B, G, 4), "labels" (B, G) int32, "ignore" (B, G) bool,
        "area" (B, G) in the image's own pixels, "image_id" (B,) int64 (the image's index if ids are
        not numbers), "original_size" (B, 2) int32, "masks" (B, G, H, W) uint8, "keypoints"
        (B, G, P, 3) if the data set has them, "semantic" (B, H, W) int32}, padded with -1
        ("ignore" with False, "masks" with 0).

    Raises:
        ValueError: an impossible argument; and, while running, the errors of `examples.example` and of
            a record's reader.
    """
    import tensorflow as tf

    resizes = list(resize) if isinstance(resize, (list, tuple)) else [resize]
    steps = _steps(len(dataset), batch_size, drop_remainder)
    _check_arguments(dataset, resizes, steps, max_boxes, resize_every)
    _check_parts(dataset, masks, semantic, proposals)
    if max_boxes is None:
        max_boxes = max(1, int(dataset.box_counts().max()))
    parts = [*examples.PARTS, *(["keypoints"] if dataset.keypoint_names else [])]
    chosen = {"masks": masks, "semantic": semantic, "proposals": proposals}
    parts += [name for name, wanted in chosen.items() if wanted]
    if proposals is True:
        proposals = max(1, int(dataset.proposal_counts().max()))
    types = examples.types(augment, any(part.DRAWN for part in resizes))
    num_points = len(dataset.keypoint_names)
    shapes = examples.shapes(max_boxes, num_points, dataset.channels, int(proposals))
    source = examples.Cache(dataset) if cache else dataset

    def load(epoch, position, index):
        turn = position // (batch_size * resize_every)
        part = resizes[_draw(_SCALE, seed, epoch, turn).integers(len(resizes))]
        rng = _draw(_AUGMENT, seed, epoch, index)
        example = examples.example(source, int(index), part, augment, rng, shapes, parts)
        example["image"] = example["image"].astype(types["image"], copy=False)
        return [example[name] for name in parts]

    canvas = _fixed_canvas(resizes)

    def one_epoch(epoch):
        order = tf.numpy_function(
            lambda e: _order(len(dataset), shuffle, seed, e), [epoch], tf.int64
        )
        positions = tf.data.Dataset.range(len(dataset))

        def prepare(position):
            values = tf.numpy_function(
                load, [epoch, position, order[position]], [types[name] for name in parts]
            )
            for name, value in zip(parts, values):
                value.set_shape(shapes[name])
            return _on_canvas(tf, dict(zip(parts, values)), max_boxes, canvas)

        loaded = positions.map(prepare, tf.data.AUTOTUNE)
        return _batched(tf, loaded, batch_size, drop_remainder)

    # Not by `from_generator`: after it TensorFlow 2.21 returns all freed memory to the system for the rest of
    # the process, and a training step takes up to 1.6 times as long (docs/training.md).
    if repeat:
        numbers = tf.data.Dataset.range(start_epoch, tf.int64.max)
    else:
        number = _epoch_of_a_pass(start_epoch)
        turns = tf.data.Dataset.range(2)
        numbers = turns.map(lambda turn: tf.numpy_function(number, [turn], tf.int64))
        numbers = numbers.take_while(lambda epoch: epoch >= 0)
    length = tf.data.INFINITE_CARDINALITY if repeat else steps
    result = numbers.flat_map(one_epoch).apply(tf.data.experimental.assert_cardinality(length))
    options = tf.data.Options()
    options.deterministic = True
    return result.with_options(options).prefetch(tf.data.AUTOTUNE)


def _steps(length, batch_size, drop_remainder):
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    return length // batch_size if drop_remainder else -(-length // batch_size)


def _check_arguments(dataset, resizes, steps, max_boxes, resize_every):
    if len(dataset) == 0:
        raise ValueError(f"{dataset.name} has no images.")
    if steps == 0:
        raise ValueError(
            f"{dataset.name} has {len(dataset)} images, fewer than one batch, and drop_remainder "
            "leaves none: take a smaller batch_size."
        )
    if max_boxes is not None and max_boxes < 1:
        raise ValueError(f"max_boxes must be at least 1, not {max_boxes}.")
    if resize_every < 1 or int(resize_every) != resize_every:
        raise ValueError(f"resize_every must be a whole number of at least 1, not {resize_every}.")
    if not resizes:
        raise ValueError("resize is an empty list; give one Resize part or several.")


def _check_parts(dataset, masks, semantic, proposals):
    if masks and dataset.record(0).masks is None:
        raise ValueError(f"{dataset.name} has no masks; leave out masks=True.")
    if semantic and dataset.semantic(0) is None:
        raise ValueError(f"{dataset.name} has no semantic maps; leave out semantic=True.")
    if proposals is not False and proposals < 1:
        raise ValueError(f"proposals must be True or a number of rows, 1 or more, not {proposals}.")
    if proposals and dataset.record(0).proposals is None:
        raise ValueError(
            f"{dataset.name} has no proposals; add them by data.with_proposals(source), or leave out "
            "proposals=True."
        )


def _draw(use, seed, *key):
    return np.random.default_rng((use, seed, *(int(number) for number in key)))


def _order(length, shuffle, seed, epoch):
    if not shuffle:
        return np.arange(length, dtype="int64")
    return _draw(_ORDER, seed, epoch).permutation(length).astype("int64")


def _epoch_of_a_pass(start):
    """Return a function from a pass's turn to its epoch: a new one on turn 0; -1 on turn 1, its end."""
    following = [start]

    def number(turn):
        if turn == 0:
            return np.int64(following[0])
        # Reached only after the epoch's last batch, so reading a few batches costs no epoch.
        following[0] += 1
        return np.int64(-1)

    return number


def _fixed_canvas(resizes):
    """Return (H, W) if every image of every part has the same canvas, otherwise (None, None)."""
    canvases = {part.fixed_canvas() for part in resizes}
    return (canvases.pop() if len(canvases) == 1 else None) or (None, None)


def _on_canvas(tf, example, max_boxes, canvas):
    """Resize the image and its maps and place them on the canvas: one (inputs, targets)."""
    size, (height, width) = example.pop("size"), tf.unstack(example.pop("canvas"))

    def lay(value, method):
        value = tf.image.resize(value, size, method)
        value = tf.image.pad_to_bounding_box(value, 0, 0, height, width)
        value.set_shape([*value.shape[:-3], *canvas, value.shape[-1]])
        return value

    # Bilinear, without antialiasing and rounding: the rule of `kerasdet.layers.resizing`.
    inputs = {"images": lay(example.pop("image"), "bilinear"), "image_sizes": size}
    if "proposals" in example:
        inputs["proposals"] = example.pop("proposals")
    if "masks" in example:
        smooth = lay(tf.cast(example["masks"][..., None], "float32"), "bilinear")[
            ..., 0
        ]  # (n, H, W)
        missing = max_boxes - tf.shape(smooth)[0]
        masks = tf.pad(tf.cast(smooth > 0.5, "uint8"), [[0, missing], [0, 0], [0, 0]])
        masks.set_shape([max_boxes, *canvas])  # (G, H, W)
        example["masks"] = masks
    if "semantic" in example:
        # Shifted by one, so that the canvas's zeros become -1.
        example["semantic"] = lay(example["semantic"][..., None] + 1, "nearest")[..., 0] - 1
    return inputs, example


def _batched(tf, loaded, batch_size, drop_remainder):
    """Batch examples, padded to the largest canvas in each batch."""
    shapes = tf.nest.map_structure(lambda spec: spec.shape, loaded.element_spec)
    fill = tuple(
        {name: tf.constant(-1 if name == "semantic" else 0, "int32") for name in group}
        for group in loaded.element_spec
    )
    fill = tf.nest.map_structure(lambda x, spec: tf.cast(x, spec.dtype), fill, loaded.element_spec)
    return loaded.padded_batch(batch_size, shapes, fill, drop_remainder)
