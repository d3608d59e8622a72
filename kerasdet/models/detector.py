"""The contract that every detector shares: from images to a loss, and from images to boxes.

A paper trained by gradients fills three hooks and names its loss terms:

    LOSS_TERMS                              the names under which `fit` reports the objective's parts
    TARGETS                                 what targets must hold beside "boxes" and "labels"
    call(inputs, training)                  all that has weights; a dict of raw outputs, float32
    loss_terms(outputs, targets, training)  the paper's objective, {name: (sum, count)}
    decode(outputs)                         weightless: raw outputs to detections

Everything else (fit, evaluate, predict, detect, save, export) is here, and the same for all.

Axes: B batch, G ground truth, K classes, D detections, H W C image.
"""

import contextlib
import itertools

import keras
import numpy as np
from keras import ops

from kerasdet import distribute
from kerasdet.files import atomic_write
from kerasdet.images import load_image
from kerasdet.layers.resizing import KeepSize
from kerasdet.ops import boxes as box_ops
from kerasdet.ops import native
from kerasdet.ops.gather import gather_rows

FORMAT_VERSION = 1


def _decoding_setting(name, valid, meaning):
    """A number that may change after loading: `predict`, `detect` and exports follow it."""

    def get(self):
        return getattr(self, f"_{name}")

    def set_(self, value):
        if not valid(value):
            raise ValueError(f"{name} must be {meaning}, not {value!r}.")
        setattr(self, f"_{name}", value)
        self.predict_function = None  # traced with the old value

    return property(get, set_, doc=f"{name}: {meaning}.")


class Detector(keras.Model):
    """Base of all detectors. Abstract: see the module's docstring for the hooks.

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: the feature extractor; its `mean` and `std` normalise raw pixels.
        class_names: K names, default "0".."K-1".
        category_ids: K integers that name the classes in COCO files, default 1..K.
        resize: `Resize` part by which `detect` and exports bring an image to its canvas; default
            `KeepSize()`.
        score_threshold: detections at or below it are dropped.
        iou_threshold: non-maximum suppression's overlap.
        max_detections: D, the fixed number of rows that `predict` returns.

    Call arguments:
        inputs: images (B, H, W, 3), 0..255, uint8 or float, that fill their canvas; or a dict
            `{"images": ..., "image_sizes": (B, 2)}` with each image's height and width; it lies at
            its canvas's top left.

    Raises:
        ValueError: an argument is out of its range, or names and ids do not number K.
    """

    LOSS_TERMS = ()
    TARGETS = ()
    TRANSFERRED = ("backbone",)  # attributes that a model of other classes takes over

    score_threshold = _decoding_setting(
        "score_threshold", lambda v: 0 <= v < 1, "a confidence in [0, 1)"
    )
    iou_threshold = _decoding_setting("iou_threshold", lambda v: 0 < v <= 1, "an IoU in (0, 1]")
    max_detections = _decoding_setting(
        "max_detections", lambda v: int(v) == v and v >= 1, "a whole number of at least 1"
    )

    def __init__(
        self,
        num_classes,
        backbone,
        class_names=None,
        category_ids=None,
        resize=None,
        score_threshold=0.05,
        iou_threshold=0.5,
        max_detections=100,
        **kwargs,
    ):
        # Pixels and sizes must not be cast to half precision on the way in.
        super().__init__(autocast=False, **kwargs)
        if int(num_classes) != num_classes or num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, not {num_classes!r}.")
        self.num_classes = int(num_classes)
        self.backbone = backbone
        self.class_names = _one_per_class(
            "class_names", class_names or map(str, range(num_classes)), num_classes
        )
        self.category_ids = _one_per_class(
            "category_ids", category_ids or range(1, num_classes + 1), num_classes
        )
        self.resize = resize or KeepSize()
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.max_detections = max_detections
        self._trackers = {name: keras.metrics.Mean(name=name) for name in self.LOSS_TERMS}
        if keras.backend.backend() == "tensorflow":
            self.jit_compile = False

    def loss_terms(self, outputs, targets, training=False):
        """The paper's objective.

        Args:
            outputs: what `call` returned.
            targets: `{"boxes" (B, G, 4), "labels" (B, G), "ignore" (B, G), ...}`, prepared: float32
                boxes, rows that are no usable object have label -1.
            training: bool.

        Returns:
            {name: (sum, count)} of float32 scalars; the term is sum / max(1, count over all replicas).
        """
        raise NotImplementedError

    def decode(self, outputs):
        """Raw outputs to detections in canvas pixels.

        Returns:
            {"boxes" (B, D, 4), "labels" (B, D) int32, "confidence" (B, D), "num_detections" (B,)},
            by falling confidence, padded with -1.
        """
        raise NotImplementedError

    # -- pixels in ---------------------------------------------------------------------------

    def normalize(self, inputs):
        """Raw pixels to what the backbone takes.

        Args:
            inputs: as the class's call arguments.

        Returns:
            (images (B, H, W, 3) in the compute dtype, zero outside each image;
            image_sizes (B, 2) float32).
        """
        padded = isinstance(inputs, dict)
        images = self.backbone.normalize(inputs["images"] if padded else inputs)
        batch, height, width = ops.shape(images)[:3]
        if padded:
            sizes = ops.cast(inputs["image_sizes"], "float32")
            images = ops.where(_inside(sizes, height, width), images, 0.0)
        else:
            canvas = ops.stack([ops.cast(height, "float32"), ops.cast(width, "float32")])
            sizes = ops.broadcast_to(canvas, (batch, 2))
        return ops.cast(images, self.compute_dtype), sizes

    # -- training ----------------------------------------------------------------------------

    def compile(self, optimizer, jit_compile=None, **kwargs):
        """Configure training.

        Args:
            optimizer: a Keras optimizer or its name.
            jit_compile: XLA; default off on TensorFlow, Keras' choice elsewhere.
            **kwargs: `run_eagerly`, `steps_per_execution`, `auto_scale_loss` as in `keras.Model.compile`.

        Raises:
            ValueError: `loss`, `metrics` or their weights are given: the loss belongs to the paper, and
                average precision to `kerasdet.callbacks.CocoMetrics`.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.pop(name, None) is not None:
                raise ValueError(
                    f"compile(optimizer) takes no {name}=: {type(self).__name__} has its paper's own loss; "
                    "for average precision during fit use kerasdet.callbacks.CocoMetrics."
                )
        if jit_compile is None:
            jit_compile = False if keras.backend.backend() == "tensorflow" else "auto"
        super().compile(optimizer=optimizer, loss=None, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config):
        """Compile as the saved model was, and give the optimizer its variables to load."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The sum of the paper's loss terms, each divided by its count over all replicas."""
        _check_targets(x, y)
        replicas = distribute.num_replicas()
        total = ops.sum(self.losses) / replicas if self.losses else 0.0
        for name, (value, count) in self.loss_terms(y_pred, prepare(y), training).items():
            count = distribute.sum_over_replicas(ops.cast(count, "float32"))
            term = value / ops.maximum(count, 1.0)
            # The replicas' means are averaged, their shares of a term must be added.
            self._trackers[name].update_state(term * replicas)
            total = total + term
        return total

    # -- boxes out ---------------------------------------------------------------------------

    def predict_step(self, *args):
        """Keras' predict step, followed by `decode`."""
        result = super().predict_step(*args)
        with native.portable() if self.jit_compile else contextlib.nullcontext():
            if keras.backend.backend() == "jax":
                outputs, state = result
                return self.decode(outputs), state
            return self.decode(result)

    def detect(self, images, batch_size=1):
        """Find objects in images of any size.

        Args:
            images: iterable of files (str or Path), arrays (H, W, 3) 0..255 or PIL images. Read lazily.
            batch_size: images per step. With 1, an image's result does not depend on its companions;
                with more, each canvas is padded to the largest of its batch.

        Returns:
            A list, one dict per image, of NumPy arrays without padding, by falling confidence:
            "boxes" (D, 4) in the image's own pixels, "labels" (D,), "confidence" (D,).

        Raises:
            ValueError, FileNotFoundError: an image cannot be read; names it.
        """
        if isinstance(images, (str, np.ndarray)) or hasattr(images, "__fspath__"):
            raise ValueError("detect takes a list of images; for one image, detect([image])[0].")
        images, results = iter(images), []
        while chunk := [load_image(p) for p in itertools.islice(images, batch_size)]:
            results += self._detect_batch(chunk)
        return results

    def _detect_batch(self, originals):
        resized = [_resize(image, self.resize) for image in originals]
        canvases = [self.resize.canvas_size(*image.shape[:2]) for image in resized]
        canvas = np.zeros(
            (len(originals), *np.max(canvases, axis=0), len(self.backbone.mean)), np.float32
        )
        for place, image in zip(canvas, resized):
            place[: image.shape[0], : image.shape[1]] = image
        sizes = np.array([image.shape[:2] for image in resized], np.float32)
        batch = self.predict_on_batch({"images": canvas, "image_sizes": sizes})
        return [
            to_image(
                {name: np.asarray(value[i]) for name, value in batch.items()},
                size,
                image.shape[:2],
            )
            for i, (size, image) in enumerate(zip(sizes, originals))
        ]

    # -- files -------------------------------------------------------------------------------

    @classmethod
    def from_preset(cls, name, **settings):
        """A detector with trained weights.

        Args:
            name: a name of `kerasdet.list_models()`, or a file or folder that `kerasdet.load` opens.
            **settings: of a listed name, any argument of the constructor: another `num_classes` or
                `class_names` keeps the parts in `TRANSFERRED`, makes new heads and freezes the
                backbone's batch normalisation; `freeze_at="C2"` freezes the backbone up to that
                level. Of a file, `score_threshold`, `iou_threshold` and `max_detections`.

        Raises:
            ValueError: no such name or argument, or it is another class's.
            kerasdet.zoo.download.DownloadError: the weights could not be had.
        """
        from kerasdet import zoo

        listed = isinstance(name, str) and name in zoo.list_models()
        model = zoo.build(name, **settings) if listed else zoo.load(name)
        if not isinstance(model, cls):
            raise ValueError(f"{name!r} is a {type(model).__name__}, not a {cls.__name__}.")
        if listed:
            return model
        for setting, value in settings.items():
            if setting not in ("score_threshold", "iou_threshold", "max_detections"):
                raise ValueError(f"{setting!r} cannot be changed after loading.")
            setattr(model, setting, value)
        return model

    def save(self, filepath, overwrite=True, **kwargs):
        """Write the model as one `.keras` file, whole or not at all. See `keras.Model.save`."""
        self._write(super().save, filepath, overwrite, kwargs)

    def save_weights(self, filepath, overwrite=True, **kwargs):
        """Write the weights as one `.weights.h5` file, whole or not at all."""
        self._write(super().save_weights, filepath, overwrite, kwargs)

    def export(self, filepath, format="saved_model", **kwargs):
        """Write one file (or SavedModel folder) that goes from raw pixels to final boxes.

        See `kerasdet.export.export_model` for the formats and options.
        """
        from kerasdet.export import export_model

        return export_model(self, filepath, format=format, **kwargs)

    @staticmethod
    def _write(writer, filepath, overwrite, kwargs):
        if not overwrite and keras.utils.file_utils.exists(filepath):
            raise FileExistsError(f"{filepath} exists; pass overwrite=True or choose another name.")
        with atomic_write(filepath) as temporary:
            writer(temporary, overwrite=True, **kwargs)

    def get_config(self):
        """Every constructor argument, parts serialised, and the format's version."""
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "num_classes": self.num_classes,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "class_names": list(self.class_names),
            "category_ids": list(self.category_ids),
            "resize": keras.saving.serialize_keras_object(self.resize),
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
            "max_detections": self.max_detections,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild a detector from `get_config`.

        Raises:
            ValueError: the configuration was written by a newer version of the format.
        """
        config = dict(config)
        version = config.pop("format_version", FORMAT_VERSION)
        if version > FORMAT_VERSION:
            raise ValueError(
                f"This {cls.__name__} was saved in format {version}, this kerasdet reads up to "
                f"{FORMAT_VERSION}: upgrade kerasdet."
            )
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value, custom_objects)
                if isinstance(value, dict) and "class_name" in value
                else value
                for name, value in config.items()
            }
        )


def _check_targets(inputs, targets):
    if not isinstance(targets, dict) or not {"boxes", "labels"} <= set(targets):
        raise ValueError(
            'Targets must be a dict with "boxes" (B, G, 4) and "labels" (B, G); '
            f"got {sorted(targets) if isinstance(targets, dict) else type(targets).__name__}."
        )
    images = inputs["images"] if isinstance(inputs, dict) else inputs
    canvas, masks = images.shape[1:3], targets["masks"].shape[2:4] if "masks" in targets else ()
    if any(None not in pair and pair[0] != pair[1] for pair in zip(canvas, masks)):
        raise ValueError(
            f'Targets "masks" are {tuple(masks)} (height, width) and images {tuple(canvas)}: masks lie '
            "on the canvas; data.batches(..., masks=True) makes them so."
        )


def prepare(targets):
    """Targets as `loss_terms` takes them: float32 boxes, and -1 for the label of what is no object.

    Rows whose box is not finite or has no area are treated as padding: they can be neither matched
    nor learnt. `ignore` defaults to nothing ignored.
    """
    boxes = ops.cast(targets["boxes"], "float32")
    labels = ops.cast(targets["labels"], "int32")
    # NaN fails every comparison; an infinite side gives an infinite area.
    area = box_ops.box_area(boxes)
    usable = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1]) & (area < np.inf)
    usable = usable & box_ops.valid_mask(labels)
    ignore = targets.get("ignore")
    ignore = ops.zeros_like(labels, "bool") if ignore is None else ops.cast(ignore, "bool")
    return {
        **targets,
        "boxes": ops.where(usable[..., None], boxes, -1.0),
        "labels": ops.where(usable, labels, -1),
        "ignore": ignore & usable,
    }


def format_detections(boxes, labels, scores, indices, count):
    """The rows that suppression kept, as every detector returns them.

    Args:
        boxes: (B, N, 4).
        labels: (B, N).
        scores: (B, N).
        indices: (B, D) int32, padded with -1.
        count: (B,) int32.

    Returns:
        {"boxes" (B, D, 4), "labels" (B, D), "confidence" (B, D), "num_detections" (B,)}, padded with -1.
    """
    kept = indices >= 0
    return {
        "boxes": ops.where(kept[..., None], gather_rows(boxes, indices), -1.0),
        "labels": ops.where(kept, gather_rows(ops.cast(labels, "int32"), indices), -1),
        "confidence": ops.where(kept, gather_rows(scores, indices), -1.0),
        "num_detections": ops.cast(count, "int32"),
    }


def to_image(detections, image_size, original_size):
    """One image's detections without padding, in the image's own pixels.

    Args:
        detections: one row of `predict`'s result, NumPy.
        image_size: (height, width) of the image on the canvas.
        original_size: (height, width) of the image itself.

    Returns:
        The same keys less "num_detections", with D rows.
    """
    count = int(detections.pop("num_detections"))
    result = {name: value[:count] for name, value in detections.items()}
    height, width = original_size
    scale = np.array([width / image_size[1], height / image_size[0]] * 2, np.float32)
    limit = np.array([width, height] * 2, np.float32)
    result["boxes"] = np.clip(result["boxes"] * scale, 0, limit)
    if "keypoints" in result:  # (D, P, 3); masks are relative to their boxes
        result["keypoints"] = result["keypoints"] * np.array([*scale[:2], 1], np.float32)
    return result


def _resize(image, resize):
    size = resize.target_size(*image.shape[:2])
    if tuple(size) == image.shape[:2]:
        return image
    resized = ops.image.resize(
        ops.cast(image, "float32"), size, interpolation="bilinear", data_format="channels_last"
    )
    return ops.convert_to_numpy(resized)


def _inside(sizes, height, width):
    """(B, H, W, 1) bool: the pixels of each image on its canvas."""
    rows = ops.arange(height, dtype="float32")[None, :, None, None]
    columns = ops.arange(width, dtype="float32")[None, None, :, None]
    return (rows < sizes[:, 0, None, None, None]) & (columns < sizes[:, 1, None, None, None])


def _one_per_class(argument, values, num_classes):
    values = tuple(values)
    if len(values) != num_classes:
        raise ValueError(
            f"{argument} has {len(values)} entries for {num_classes} classes: {values}."
        )
    if len(set(values)) != num_classes:
        raise ValueError(f"{argument} repeats an entry: {values}.")
    return values
