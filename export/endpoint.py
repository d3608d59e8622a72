"""The function in every export: raw pixels in, boxes in the image's own pixels out.

Keypoints are also returned in the image's pixels; masks stay relative to their boxes.
"""

import contextlib

import keras
import numpy as np

from kerasdet.ops import native


def make_endpoint(model, size=None, batch_size=None, num_proposals=None, portable=True):
    """Compose resizing, network, decoding and the way back to the image.

    Args:
        model: a built `ImageModel`.
        size: (H, W) of the images, or None for any.
        batch_size: B, or None for any.
        num_proposals: R, or None for any; for models that take proposals.
        portable: whether to use only operations that LiteRT and ONNX know, or TensorFlow's own kernels.

    Returns:
        A function of images (B, H, W, C) uint8 and, for models that take them, proposals (B, R, 4) float32
        xyxy in the images' own pixels, padded with rows of zeros; and the list of its `tf.TensorSpec`. The
        function returns {"boxes" (B, D, 4), "labels" (B, D), "confidence" (B, D), "num_detections" (B,)},
        and for models that predict them "masks" (B, D, m, m), probabilities relative to the boxes, or
        "keypoints" (B, D, P, 3): x, y in the image's pixels and a score. Everything is padded with -1.

    Raises:
        ValueError: Keras does not run on TensorFlow, the size is not two positive integers, or
            `num_proposals` is given for a model that takes no proposals.
    """
    _check(model, size, num_proposals)
    import tensorflow as tf

    def detect(images, *proposals):
        canvas, seen, original = _to_canvas(images, model.resize)
        sizes = tf.tile(tf.cast(tf.stack(seen), "float32")[None], [tf.shape(images)[0], 1])
        inputs = {"images": canvas, "image_sizes": sizes}
        scale, offset = _way_back(model.resize, original)
        if proposals:
            inputs["proposals"] = proposals[0] / scale + offset
        with native.portable() if portable else contextlib.nullcontext():
            detections = model.decode(model(inputs, training=False))
        found = _to_image(detections, scale, offset, original)
        return _without_outsiders(found) if model.resize.DRAWN else found

    shape = (batch_size, *(size or (None, None)), len(model.mean))
    specs = [tf.TensorSpec(shape, "uint8", name="images")]
    if "proposals" not in model.INPUTS:
        return lambda images: detect(images), specs
    shape = (batch_size, num_proposals, 4)
    specs.append(tf.TensorSpec(shape, "float32", name="proposals"))
    return lambda images, proposals: detect(images, proposals), specs


def _check(model, size, num_proposals):
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Exports need TensorFlow, but Keras runs on {keras.backend.backend()}: save the "
            "model, start Python with KERAS_BACKEND=tensorflow, load it and export there."
        )
    good = size is None or (len(size) == 2 and all(int(n) == n and n > 0 for n in size))
    if not good:
        raise ValueError(f"size must be (height, width) in pixels, not {size!r}.")
    if num_proposals is not None and "proposals" not in model.INPUTS:
        raise ValueError(f"num_proposals={num_proposals}: {type(model).__name__} takes none.")


def _to_canvas(images, resize):
    """Return the canvases (B, H', W', C) float32, what of them is image, and the images' own size."""
    import tensorflow as tf

    static = images.shape[1:3].is_fully_defined()
    xp = np if static else tf
    original = tuple(images.shape[1:3]) if static else tuple(tf.unstack(tf.shape(images)[1:3]))
    if resize.DRAWN:
        canvas = resize.draw(images, tf, original)
        size = resize.canvas_size(*resize.target_size(*original, xp=xp), xp=xp)
        canvas.set_shape([None, *_known(size), None])
        return canvas, size, original
    resized = resize.target_size(*original, xp=xp)
    if not static or resized != original:
        images = resize.resample(images, resized, tf)
    images = tf.cast(images, "float32")
    height, width = resize.canvas_size(*resized, xp=xp)
    padding = [[0, 0], [0, height - resized[0]], [0, width - resized[1]], [0, 0]]
    canvas = tf.pad(images, padding)
    # A canvas of one size is declared as such, for images of any size.
    canvas.set_shape([None, *_known((height, width)), None])
    return canvas, resized, original


def _known(size):
    """Return a size (height, width) with None for a side that the graph computes."""
    return [side if isinstance(side, int) else None for side in size]


def _way_back(resize, original):
    """Return image pixels per canvas pixel, and the offset on the canvas, along x, y, x, y: (4,) each."""
    import tensorflow as tf

    xp = np if all(isinstance(side, int) for side in original) else tf
    resized = resize.target_size(*original, xp=xp)
    y, x = (tf.cast(side, "float32") for side in resize.offset(*resized, xp=xp))
    (height, width), (new_height, new_width) = (
        [tf.cast(n, "float32") for n in size] for size in (original, resized)
    )
    return tf.stack([width / new_width, height / new_height] * 2), tf.stack([x, y] * 2)


def _to_image(detections, scale, offset, original):
    """Convert detections on the canvas to the image's own pixels; padding stays -1."""
    import tensorflow as tf

    height, width = (tf.cast(n, "float32") for n in original)
    found = detections["labels"][..., None] >= 0
    boxes = (detections["boxes"] - offset) * scale
    boxes = tf.clip_by_value(boxes, 0.0, tf.stack([width, height] * 2))
    detections = {**detections, "boxes": tf.where(found, boxes, -1.0)}
    if "keypoints" in detections:
        keypoints = detections["keypoints"] - tf.concat([offset[:2], [0.0]], axis=0)
        keypoints = keypoints * tf.concat([scale[:2], [1.0]], axis=0)
        detections["keypoints"] = tf.where(found[..., None], keypoints, -1.0)
    return detections


def _without_outsiders(detections):
    """Drop the boxes that lie wholly beside the image, in its drawn padding."""
    import tensorflow as tf

    boxes = detections["boxes"]  # clipped to the image, padded with -1
    inside = tf.reduce_all(boxes[..., 2:] > boxes[..., :2], axis=-1)  # (B, D)
    # Equal numbers keep their order.
    order = tf.math.top_k(tf.cast(inside, "float32"), tf.shape(inside)[1]).indices
    kept = tf.gather(inside, order, batch_dims=1)
    rows = {}
    for name, value in detections.items():
        if name == "num_detections":
            rows[name] = tf.reduce_sum(tf.cast(inside, value.dtype), axis=1)
            continue
        mask = tf.reshape(kept, tf.concat([tf.shape(kept), [1] * (len(value.shape) - 2)], 0))
        rows[name] = tf.where(mask, tf.gather(value, order, batch_dims=1), tf.cast(-1, value.dtype))
    return rows
