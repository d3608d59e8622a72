"""What boxes and maps share: pixels in, gradients, files out. `detector.py` adds what concerns boxes.

A paper that is trained by gradients fills three hooks and names its loss terms:

    LOSS_TERMS                              the names under which `fit` reports the objective's parts
    INPUTS                                  what inputs must hold: "images", and "proposals" if the
                                            regions come from elsewhere
    TARGETS                                 what training targets must hold
    call(inputs, training)                  everything that has weights; a dict of raw outputs, float32
    loss_terms(outputs, targets, training)  the paper's objective, {name: (sum, count)}
    decode(outputs)                         without weights: raw outputs to the result of `predict`

It also says how to build a good small model for a data set: `for_data(data, resize, backbone, **options)`.
The options are those of `kerasdet train --detector NAME`.

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
from kerasdet.models.guards import (
    first_non_finite,
    guards,
    readable_errors,
)
from kerasdet.models.rates import follow_rates
from kerasdet.ops import native
from kerasdet.ops.checks import check_choice

FORMAT_VERSION = 2
MOST_CLASSES = 100_000


class ImageModel(keras.Model):
    """Base of all models. Abstract: see the module's docstring for the hooks.

    Args:
        num_classes: K, classes 0..K-1.
        backbone: the feature extractor, whose `mean` and `std` normalise raw pixels. None: the model has no
            backbone, and the `MEAN` and `STD` of its class normalise pixels.
        class_names: K names, default "0".."K-1".
        category_ids: K integers that name the classes in COCO files, default 1..K.
        resize: `Resize` part that fits an image to its canvas; default `KeepSize()`.

    Call arguments:
        inputs: images (B, H, W, C), 0..255, uint8 or float, that fill their canvas. Or a dict
            `{"images": ..., "image_sizes": (B, 2)}` with the height and width of each image, which is
            placed at the top left of its canvas; `Drawn` canvases are images throughout. The dict also holds
            everything else that `INPUTS` names.

    Attributes:
        canvas: the only canvas (height, width) that the model takes, or None.
        mean: C values in units of the pixels; their number is the number of channels.
        std: C values, likewise.

    Raises:
        ValueError: an argument is out of its range, or there are not K names or ids.
    """

    GRADIENTS = True  # False: `fit` takes a `Dataset` and needs no optimizer
    LOSS_TERMS = ()
    INPUTS = ("images",)
    TARGETS = ()
    TRANSFERRED = ("backbone",)  # attributes that a model for other classes keeps
    ADJUSTABLE = ()  # arguments that can be changed after loading
    MEAN, STD = (0.0,) * 3, (1.0,) * 3  # for models without a backbone
    canvas = None

    def __init__(
        self,
        num_classes,
        backbone=None,
        class_names=None,
        category_ids=None,
        resize=None,
        **kwargs,
    ):
        # Pixels and sizes must not be cast to half precision as inputs.
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
        """Return the paper's objective.

        Args:
            outputs: the result of `call`.
            targets: the result of `prepare`.
            training: bool.

        Returns:
            {name: (sum, count)} of float32 scalars; a term is sum / max(1, count over all replicas).
        """
        raise NotImplementedError

    def decode(self, outputs):
        """Turn raw outputs into the result of `predict`, on the canvas."""
        raise NotImplementedError

    def verify(self, inputs, targets):
        """Tell whether a paper can learn from these targets.

        Args:
            inputs: the model's inputs.
            targets: as `fit` takes them.

        Returns:
            Tuple of a bool scalar (or True), a function that gives the message where it is False, and
            the tensors that this function takes.

        Raises:
            ValueError: their form, known before any value is, is wrong.
        """
        return True, str

    def prepare(self, targets):
        """Bring targets to the form that `loss_terms` takes."""
        return targets

    # -- pixels in ---------------------------------------------------------------------------

    def normalize(self, inputs):
        """Turn raw pixels into the backbone's input.

        Args:
            inputs: the call arguments of the class.

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
        """Read one image in the form this model takes.

        Args:
            source: file, array or PIL image, as for `kerasdet.images.load_image`; for a model whose number of
                channels is not three, an array (H, W, C).

        Returns:
            (H, W, C), raw pixels.

        Raises:
            ValueError, FileNotFoundError: the image cannot be read; the message names it.
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
        """Place images on one canvas.

        Args:
            images: list of (H, W, C) arrays.

        Returns:
            {"images" (B, H, W, C) float32, "image_sizes" (B, 2) float32}, NumPy. Of a `Drawn`
            part, the sizes are those of its canvas.
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
            jit_compile: whether to use XLA; default off on TensorFlow, Keras' choice elsewhere.
            **kwargs: `run_eagerly`, `steps_per_execution`, `auto_scale_loss` as in `keras.Model.compile`.

        Raises:
            ValueError: `loss`, `metrics` or their weights are given. The loss belongs to the paper, and the
                callbacks of `kerasdet.callbacks` measure during `fit`.
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
        follow_rates(self)

    def compile_from_config(self, config):
        """Compile like the saved model, and give the optimizer its variables to load."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Sum the paper's loss terms, each divided by its count over all replicas."""
        good, explain, *facts = self.verify(x, y)
        targets = self.prepare(native.insist(y, good, explain, *facts))
        replicas = distribute.num_replicas()
        # Keras averages the loss over images, not steps; the terms must add up to it.
        count_images = ops.shape(keras.tree.flatten(x)[0])[0]
        total = ops.sum(self.losses) / replicas if self.losses else 0.0
        for name, (value, count) in self.loss_terms(y_pred, targets, training).items():
            count = distribute.sum_over_replicas(ops.cast(count, "float32"))
            term = value / ops.maximum(count, 1.0)
            # The replicas' means are averaged, but their shares of a term must be added.
            self._trackers[name].update_state(term * replicas, sample_weight=count_images)
            total = total + term
        # Where nothing can be raised, in XLA, the loss tells.
        return ops.where(good, total, float("nan"))

    def fit(self, *args, callbacks=None, **kwargs):
        """Train, as `keras.Model.fit`; weights that are no longer finite end it.

        Raises:
            ValueError: targets that the paper cannot learn from; names the value and the fix.
            FloatingPointError: after an epoch a weight is NaN or infinite; names it.
        """
        callbacks = [*guards(), *_as_list(callbacks)]
        self._build_optimizer()
        with readable_errors(self):
            return super().fit(*args, callbacks=callbacks, **kwargs)

    def _build_optimizer(self):
        """Create the optimizer's variables: in the first step they would make TensorFlow trace it twice."""
        optimizer = getattr(self, "optimizer", None)
        if optimizer is None or optimizer.built:
            return
        strategy = getattr(self, "distribute_strategy", None)
        with strategy.scope() if strategy else contextlib.nullcontext():
            optimizer.build(self.trainable_variables)

    def evaluate(self, *args, **kwargs):
        """Compute the loss, as `keras.Model.evaluate`; refuses the targets that `fit` refuses."""
        with readable_errors(self):
            return super().evaluate(*args, **kwargs)

    def train_on_batch(self, *args, **kwargs):
        """Train one step, as `keras.Model.train_on_batch`; refuses the targets that `fit` refuses."""
        self._build_optimizer()
        with readable_errors(self):
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        """Compute the loss of one batch, as `keras.Model.test_on_batch`."""
        with readable_errors(self):
            return super().test_on_batch(*args, **kwargs)

    def predict_step(self, *args):
        """Run Keras' predict step, followed by `decode`."""
        result = super().predict_step(*args)
        with native.portable() if self.jit_compile else contextlib.nullcontext():
            if keras.backend.backend() == "jax":
                outputs, state = result
                return self._decoded(outputs), state
            return self._decoded(result)

    def _decoded(self, outputs):
        """Return decoded outputs, and whether the raw ones are "finite" (B,) bool."""
        finite = True
        for name, values in outputs.items():
            for value in keras.tree.flatten(values) if name != "maps" else ():
                if keras.backend.is_float_dtype(value.dtype):
                    finite = finite & ops.isfinite(ops.sum(value))
        decoded = self.decode(outputs)
        batch = ops.shape(keras.tree.flatten(decoded)[0])[0]
        return {**decoded, "finite": ops.broadcast_to(finite, (batch,))}

    def predict(self, *args, **kwargs):
        """Return decoded outputs, as `keras.Model.predict`.

        Raises:
            FloatingPointError: raw outputs are not finite.
        """
        return self._refuse_non_finite(super().predict(*args, **kwargs))

    def predict_on_batch(self, x):
        """Return decoded outputs of one batch; see `predict`."""
        return self._refuse_non_finite(super().predict_on_batch(x))

    def _refuse_non_finite(self, decoded):
        finite = decoded.pop("finite")
        if not np.all(finite):
            path = first_non_finite(self)
            raise FloatingPointError(
                f"{type(self).__name__} gives outputs that are not finite: "
                + (
                    f"its weight {path} is not."
                    if path
                    else "look at the images and the precision."
                )
            )
        return decoded

    def _add_loss_terms(self, names):
        """Report further terms, which come from parts given to the constructor."""
        names = tuple(names)
        self.LOSS_TERMS = (*self.LOSS_TERMS, *names)
        for name in names:
            self._trackers[name] = keras.metrics.Mean(name=name)

    # -- files -------------------------------------------------------------------------------

    @classmethod
    def from_preset(cls, name, **settings):
        """Return a model with trained weights.

        Args:
            name: a name of `kerasdet.list_models()`, or a file or folder that `kerasdet.load` opens.
            **settings: for a listed name, any argument of the constructor. Another `num_classes` or
                `class_names` keeps the parts in `TRANSFERRED`, makes new heads and freezes the
                backbone's batch normalisation. `freeze_at="C2"` freezes the backbone up to that
                level. For a file, the arguments in `ADJUSTABLE`, such as `score_threshold`.

        Raises:
            ValueError: an unknown name or argument, or a model of another class.
            kerasdet.zoo.download.DownloadError: the weights could not be downloaded.
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
        """Write one file (or SavedModel folder) from raw pixels to the final result.

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
        """Return every constructor argument, read from the signatures, and the format's version.

        Each argument is an attribute of the same name; parts are serialised.
        """
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            **{name: _serialized(getattr(self, name)) for name in self.arguments()},
        }

    @classmethod
    def arguments(cls):
        """Return the names of the constructor's arguments, those of subclasses first."""
        names = []
        for ancestor in reversed(cls.__mro__[: cls.__mro__.index(ImageModel) + 1]):
            parameters = inspect.signature(ancestor.__init__).parameters.values()
            names += [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        return tuple(dict.fromkeys(name for name in names if name != "self"))

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild a model from `get_config`.

        Raises:
            ValueError: another version of kerasdet wrote the configuration.
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
    """Create a part's weights, unless it already has them, as a loaded part does."""
    if not part.built:
        part.build(shape)


def build_towers(model, class_outputs, box_outputs):
    """Create the weights of a dense detector's neck, of its towers, and of what stands on each of them.

    Args:
        model: has `backbone`, `neck` and `head`, a `Subnets`.
        class_outputs: convolutions on the tower for classes.
        box_outputs: convolutions on the tower for boxes.
    """
    channels = model.backbone.channels.items()
    build_once(model.neck, {level: (None, None, None, width) for level, width in channels})
    maps = {level: (None, None, None, model.neck.channels) for level in model.neck.output_levels}
    build_once(model.head, maps)
    towers = model.head.compute_output_shape(maps)
    for convs, shapes in zip((class_outputs, box_outputs), towers):
        for conv in convs:
            build_once(conv, next(iter(shapes.values())))


def data_classes(data):
    """Return a data set's classes as arguments of a model."""
    return {
        "num_classes": len(data.class_names),
        "class_names": data.class_names,
        "category_ids": data.category_ids,
    }


def channels_for_data(strides):
    """Return the channels of a small pyramid's neck and head: half as many where P2 is its finest map."""
    return 128 if strides[0] >= 8 else 64


def norm_option(norm, known=("batch", "none")):
    """Return the norm that an option of `for_data` names, or None for "none".

    Raises:
        ValueError: an unknown norm.
    """
    check_choice("norm", norm, known)
    return None if norm == "none" else norm


def _as_list(callbacks):
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks.callbacks
    return (
        list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks] * bool(callbacks)
    )


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
    if resize.DRAWN:
        return resize.draw(image)
    size = resize.target_size(*image.shape[:2])
    if tuple(size) == image.shape[:2]:
        return image
    return resize.resample(image, size)


def _inside(sizes, height, width):
    """Mark the pixels of each image on its canvas: (B, H, W, 1) bool."""
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
