"""What boxes and maps share: pixels in, gradients, files out. `detector.py` adds what concerns boxes.

A paper trained by gradients fills three hooks and names its loss terms:

    LOSS_TERMS                              the names under which `fit` reports the objective's parts
    INPUTS                                  what inputs must hold: "images", and "proposals" where a paper
                                            takes its regions from elsewhere
    TARGETS                                 what the targets of training must hold
    call(inputs, training)                  all that has weights; a dict of raw outputs, float32
    loss_terms(outputs, targets, training)  the paper's objective, {name: (sum, count)}
    decode(outputs)                         weightless: raw outputs to what `predict` returns

and tells how a good small one is made for a data set: `for_data(data, resize, backbone, **options)`. Its
options are those that the paper's `kerasdet train --detector NAME` takes.

Axes: B batch, K classes, H W C image.
"""

import contextlib
import inspect

import keras
import numpy as np
from keras import ops

from kerasdet import distribute
from kerasdet.files import atomic_write
from kerasdet.images import load_image
from kerasdet.layers.resizing import KeepSize, Resize
from kerasdet.ops import native

FORMAT_VERSION = 2
MOST_CLASSES = 100_000


class ImageModel(keras.Model):
    """Base of all models. Abstract: see the module's docstring for the hooks.

    Args:
        num_classes: K, classes 0..K-1.
        backbone: the feature extractor, whose `mean` and `std` normalise raw pixels; None: the model has
            none, and pixels are normalised by its class's `MEAN` and `STD`.
        class_names: K names, default "0".."K-1".
        category_ids: K integers that name the classes in COCO files, default 1..K.
        resize: `Resize` part that brings an image to its canvas; default `KeepSize()`.

    Call arguments:
        inputs: images (B, H, W, C), 0..255, uint8 or float, that fill their canvas; or a dict
            `{"images": ..., "image_sizes": (B, 2)}` with each image's height and width; it lies at
            its canvas's top left. The dict holds what else `INPUTS` names.

    Attributes:
        mean: C values in units of the pixels; they tell the number of channels.
        std: C values, likewise.

    Raises:
        ValueError: an argument is out of its range, or names and ids do not number K.
    """

    GRADIENTS = True  # False: `fit` takes a `Dataset` and needs no optimizer
    LOSS_TERMS = ()
    INPUTS = ("images",)
    TARGETS = ()
    TRANSFERRED = ("backbone",)  # attributes that a model of other classes takes over
    ADJUSTABLE = ()  # arguments that can be changed after loading
    MEAN, STD = (0.0,) * 3, (1.0,) * 3  # of models without a backbone

    def __init__(
        self,
        num_classes,
        backbone=None,
        class_names=None,
        category_ids=None,
        resize=None,
        **kwargs,
    ):
        # Pixels and sizes must not be cast to half precision on the way in.
        super().__init__(autocast=False, **kwargs)
        if (
            not isinstance(num_classes, (int, float, np.number))
            or not 1 <= num_classes <= MOST_CLASSES
        ):
            raise ValueError(
                f"num_classes must be at least 1 and at most {MOST_CLASSES}, not {num_classes!r:.80}."
            )
        if int(num_classes) != num_classes:
            raise ValueError(f"num_classes must be a whole number, not {num_classes!r}.")
        if resize is not None and not isinstance(resize, Resize):
            raise ValueError(f"resize is a part of kerasdet.layers.resizing, not {resize!r:.80}.")
        self.num_classes = int(num_classes)
        self.backbone = backbone
        self.class_names = _one_per_class(
            "class_names", class_names or map(str, range(num_classes)), num_classes
        )
        self.category_ids = _one_per_class(
            "category_ids", category_ids or range(1, num_classes + 1), num_classes
        )
        self.resize = resize or KeepSize()
        self._trackers = {name: keras.metrics.Mean(name=name) for name in self.LOSS_TERMS}
        if keras.backend.backend() == "tensorflow":
            self.jit_compile = False

    @property
    def mean(self):
        """Mean of each channel, subtracted from raw pixels."""
        return self.MEAN if self.backbone is None else self.backbone.mean

    @property
    def std(self):
        """Divisor of each channel."""
        return self.STD if self.backbone is None else self.backbone.std

    def loss_terms(self, outputs, targets, training=False):
        """The paper's objective.

        Args:
            outputs: what `call` returned.
            targets: what `prepare` made of the targets.
            training: bool.

        Returns:
            {name: (sum, count)} of float32 scalars; the term is sum / max(1, count over all replicas).
        """
        raise NotImplementedError

    def decode(self, outputs):
        """Raw outputs to what `predict` returns, on the canvas."""
        raise NotImplementedError

    def prepare(self, inputs, targets):
        """Check the targets, and bring them to the form that `loss_terms` takes."""
        raise NotImplementedError

    # -- pixels in ---------------------------------------------------------------------------

    def normalize(self, inputs):
        """Raw pixels to what the backbone takes.

        Args:
            inputs: as the class's call arguments.

        Returns:
            (images (B, H, W, C) in the compute dtype, zero outside each image;
            image_sizes (B, 2) float32).
        """
        images = inputs["images"] if isinstance(inputs, dict) else inputs
        padded = isinstance(inputs, dict) and "image_sizes" in inputs
        images = (ops.cast(images, "float32") - ops.array(self.mean)) / ops.array(self.std)
        batch, height, width = ops.shape(images)[:3]
        if padded:
            sizes = ops.cast(inputs["image_sizes"], "float32")
            images = ops.where(_inside(sizes, height, width), images, 0.0)
        else:
            canvas = ops.stack([ops.cast(height, "float32"), ops.cast(width, "float32")])
            sizes = ops.broadcast_to(canvas, (batch, 2))
        return ops.cast(images, self.compute_dtype), sizes

    def read_image(self, source):
        """Read one image as this model takes it.

        Args:
            source: file, array or PIL image, as `kerasdet.images.load_image` takes them; for a model of
                another number of channels than three an array (H, W, C).

        Returns:
            (H, W, C), raw pixels.

        Raises:
            ValueError, FileNotFoundError: it cannot be read; names it.
        """
        channels = len(self.mean)
        if channels == 3:
            return load_image(source)
        image = np.asarray(source) if hasattr(source, "__array__") else None
        if image is None or image.ndim != 3 or image.shape[-1] != channels:
            found = f"{source!r:.80}" if image is None else f"an array of shape {image.shape}"
            raise ValueError(
                f"{type(self).__name__} takes arrays (height, width, {channels}), not {found}."
            )
        return image

    def to_canvas(self, images):
        """Lay images on one canvas.

        Args:
            images: list of (H, W, C) arrays.

        Returns:
            {"images" (B, H, W, C) float32, "image_sizes" (B, 2) float32}, NumPy.
        """
        resized = [_resized(image, self.resize) for image in images]
        canvases = [self.resize.canvas_size(*image.shape[:2]) for image in resized]
        canvas = np.zeros((len(images), *np.max(canvases, axis=0), len(self.mean)), np.float32)
        for place, image in zip(canvas, resized):
            place[: image.shape[0], : image.shape[1]] = image
        return {
            "images": canvas,
            "image_sizes": np.array([image.shape[:2] for image in resized], np.float32),
        }

    # -- training ----------------------------------------------------------------------------

    def compile(self, optimizer, jit_compile=None, **kwargs):
        """Configure training.

        Args:
            optimizer: a Keras optimizer or its name.
            jit_compile: XLA; default off on TensorFlow, Keras' choice elsewhere.
            **kwargs: `run_eagerly`, `steps_per_execution`, `auto_scale_loss` as in `keras.Model.compile`.

        Raises:
            ValueError: `loss`, `metrics` or their weights are given: the loss belongs to the paper, and
                what is measured during `fit` to the callbacks of `kerasdet.callbacks`.
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
        targets = self.prepare(x, y)
        replicas = distribute.num_replicas()
        total = ops.sum(self.losses) / replicas if self.losses else 0.0
        for name, (value, count) in self.loss_terms(y_pred, targets, training).items():
            count = distribute.sum_over_replicas(ops.cast(count, "float32"))
            term = value / ops.maximum(count, 1.0)
            # The replicas' means are averaged, their shares of a term must be added.
            self._trackers[name].update_state(term * replicas)
            total = total + term
        return total

    def predict_step(self, *args):
        """Keras' predict step, followed by `decode`."""
        result = super().predict_step(*args)
        with native.portable() if self.jit_compile else contextlib.nullcontext():
            if keras.backend.backend() == "jax":
                outputs, state = result
                return self.decode(outputs), state
            return self.decode(result)

    def _add_loss_terms(self, names):
        """Report further terms, of parts that were handed to the constructor."""
        names = tuple(names)
        self.LOSS_TERMS = (*self.LOSS_TERMS, *names)
        for name in names:
            self._trackers[name] = keras.metrics.Mean(name=name)

    # -- files -------------------------------------------------------------------------------

    @classmethod
    def from_preset(cls, name, **settings):
        """A model with trained weights.

        Args:
            name: a name of `kerasdet.list_models()`, or a file or folder that `kerasdet.load` opens.
            **settings: of a listed name, any argument of the constructor: another `num_classes` or
                `class_names` keeps the parts in `TRANSFERRED`, makes new heads and freezes the
                backbone's batch normalisation; `freeze_at="C2"` freezes the backbone up to that
                level. Of a file, what `ADJUSTABLE` names, such as `score_threshold`.

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
            if setting not in cls.ADJUSTABLE:
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
        """Write one file (or SavedModel folder) that goes from raw pixels to the final result.

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
        """Every constructor argument, read from the signatures, and the format's version.

        An argument is an attribute of the same name; parts are serialised.
        """
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            **{name: _serialized(getattr(self, name)) for name in self.arguments()},
        }

    @classmethod
    def arguments(cls):
        """Names of the constructor's arguments, those of the classes below it first."""
        names = []
        for ancestor in reversed(cls.__mro__[: cls.__mro__.index(ImageModel) + 1]):
            parameters = inspect.signature(ancestor.__init__).parameters.values()
            names += [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        return tuple(dict.fromkeys(name for name in names if name != "self"))

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild a model from `get_config`.

        Raises:
            ValueError: another version of kerasdet wrote it.
        """
        config = dict(config)
        version = config.pop("format_version", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise ValueError(
                f"This {cls.__name__} was saved in format {version}, this kerasdet reads "
                f"{FORMAT_VERSION}: {'upgrade kerasdet' if version > FORMAT_VERSION else 'save it again'}."
            )
        return cls(**{k: _deserialized(value, custom_objects) for k, value in config.items()})


def build_once(part, shape):
    """Create a part's weights, unless it comes with them, as one that is loaded does."""
    if not part.built:
        part.build(shape)


def data_classes(data):
    """A data set's classes as a model's arguments."""
    return {
        "num_classes": len(data.class_names),
        "class_names": data.class_names,
        "category_ids": data.category_ids,
    }


def norm_option(norm, known=("batch", "none")):
    """The norm that an option of `for_data` names; None for "none".

    Raises:
        ValueError: another one.
    """
    if norm not in known:
        raise ValueError(f"norm is {' or '.join(known)}, not {norm!r}.")
    return None if norm == "none" else norm


def _serialized(value):
    if isinstance(value, (list, tuple)):
        return [_serialized(item) for item in value]
    return keras.saving.serialize_keras_object(value) if hasattr(value, "get_config") else value


def _deserialized(value, custom_objects):
    if isinstance(value, list):
        return [_deserialized(item, custom_objects) for item in value]
    if isinstance(value, dict) and "class_name" in value:
        return keras.saving.deserialize_keras_object(value, custom_objects)
    return value


def _resized(image, resize):
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
