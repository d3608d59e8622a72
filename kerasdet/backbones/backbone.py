"""What every backbone is: a functional model from normalised images to {"C2": ..., "C5": ...}."""

import math
from typing import ClassVar

import keras
from keras import ops

from kerasdet.backbones.classifier import ImageClassifier
from kerasdet.layers.conv import BatchNorm, ConvNorm

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
LEVELS = ("C2", "C3", "C4", "C5")


class Backbone(keras.Model):
    """Base of the backbones: a functional model whose config is its constructor's arguments.

    Called on normalised images (B, H, W, C); returns a dict of feature maps by level, level "Cn"
    being ceil(H / 2**n) high. Stages above the highest level asked for are not built.

    Args:
        inputs: the functional model's input.
        outputs: dict of every stage built, by level.
        levels: the levels to return.
        mean: C values in units of 0..255; they tell the number of input channels.
        std: C values in units of 0..255.
        dtype: precision of the layers, kept in the config.
        freeze_at: level, such as "C2": the layers up to it are not trained; None: all are.
        frozen_norm: whether batch normalisation is not trained and keeps its statistics, as is usual
            for pretrained weights, which images in small batches would spoil.

    Raises:
        ValueError: `freeze_at` is no level that is built, or `mean` and `std` are not one finite number for
            each channel.

    Attributes:
        strides: dict, pixels per cell of each level.
        channels: dict, number of channels of each level.
        WIDER: of the class, {level: a wider map of the same stride}, for detectors without a neck.
    """

    WIDER: ClassVar[dict] = {}

    def __init__(
        self,
        inputs,
        outputs,
        levels,
        mean,
        std,
        dtype=None,
        freeze_at=None,
        frozen_norm=False,
        **kwargs,
    ):
        stages = outputs
        outputs = {level: stages[level] for level in levels}
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        # A functional model would take the global policy, and a reloaded one lose its own.
        self.dtype_policy = keras.dtype_policies.get(dtype)
        self.levels = tuple(levels)
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        _check_pixels(self.mean, self.std, inputs.shape[-1])
        self.strides = {level: 2 ** int(level[1]) for level in levels}
        self.channels = {level: outputs[level].shape[-1] for level in levels}
        self.freeze_at = freeze_at
        self.frozen_norm = frozen_norm
        if freeze_at is not None:
            if freeze_at not in stages:
                raise ValueError(f"freeze_at is {freeze_at!r}; give one of {', '.join(stages)}.")
            for layer in keras.Model(inputs, stages[freeze_at]).layers:
                layer.trainable = False
        if frozen_norm:
            freeze_norms(self.layers)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild the backbone and its parts from `get_config`."""
        parts = {
            name: keras.saving.deserialize_keras_object(value, custom_objects)
            for name, value in config.items()
            if isinstance(value, dict) and "class_name" in value
        }
        return cls(**config | parts)

    @classmethod
    def from_preset(cls, name, freeze_at=None, frozen_norm=True, levels=None):
        """A trained backbone, of a classifier, of a detector or alone, to build another model on.

        Args:
            name: a name of `kerasdet.list_models()`, or a file or folder that `kerasdet.load` opens.
            freeze_at: level, such as "C2": the layers up to it are not trained.
            frozen_norm: whether batch normalisation keeps the statistics of the weights.
            levels: the levels to return, default the weights' own; stages above the highest are left out.

        Returns:
            A backbone with those weights.

        Raises:
            ValueError: no such name, or its backbone is of another class.
            kerasdet.zoo.download.DownloadError: the weights could not be downloaded.
        """
        backbone = cls._load(name)[1]
        return backbone._copy(levels or backbone.levels, freeze_at, frozen_norm)

    @classmethod
    def split_preset(cls, name, freeze_at=None, frozen_norm=True):
        """A trained classifier in two: what all regions share, and what each passes through alone.

        Args:
            name: a classifier of `kerasdet.list_models()`, or a file that `kerasdet.load` opens.
            freeze_at: level, such as "C2": the layers up to it are not trained.
            frozen_norm: whether batch normalisation keeps the statistics of the weights, in both.

        Returns:
            The backbone up to "C4", and a layer from regions (B, R, h, w, C) of that map to features
            (B, R, F): ResNet's and Inception v2's last stage, for 14 x 14 cells, Inception v3's and
            Inception-ResNet v2's, for 17 x 17; VGG-16's fc6 and fc7, for 7 x 7, those of AlexNet, ZF and
            VGG_CNN_M_1024, for 6 x 6.

        Raises:
            ValueError: no such name, its weights are no classifier's, or its backbone is of another
                class or cannot be split.
            kerasdet.zoo.download.DownloadError: the weights could not be downloaded.
        """
        trained, backbone = cls._load(name)
        if not isinstance(trained, ImageClassifier):
            raise ValueError(f"{name!r} is a {type(trained).__name__}; give an image classifier.")
        head = backbone.region_head(trained, frozen_norm)
        return backbone._copy(("C4",), freeze_at, frozen_norm), head

    @staticmethod
    def from_keras(model, levels=None, mean=None, std=None, **settings):
        """A backbone with the layers and weights of a functional model, such as one of `keras.applications`.

        Pixels are brought to what the model takes: `Rescaling` and `Normalization` layers at its input
        become the backbone's `mean` and `std`, so that padding is zero after them; without such layers a
        model of `keras.applications` is known by its name. The layers are copied, without what is above
        the highest level, for images of any size; the model itself stays as it is.

        Args:
            model: functional or sequential model of one input (B, H, W, C), channels last.
            levels: {"C3": name of a layer, ...}, Cn being that of stride 2**n; or the names of levels,
                default those of "C2" to "C5" that there are: each is the model's last layer of its stride.
            mean: C values, or one, subtracted from pixels 0..255; default as above.
            std: C values, or one, by which they are then divided.
            **settings: `reverse_channels`: beside `mean` and `std`, the model takes blue, green, red.
                `freeze_at`: level, such as "C2": the layers up to it are not trained. `frozen_norm`: whether
                batch normalisation keeps its statistics; default: if the model was trained, so that they are
                not those of a new layer. `dtype`: precision of all layers, default what they have.

        Returns:
            A `KerasBackbone`. It saves as one file, and loads without the model.

        Raises:
            ValueError: the model is not functional, has no such layer, is of unknown preprocessing, or a map
                has another size than its level.
        """
        from kerasdet.backbones.keras_model import from_keras

        return from_keras(model, levels, mean, std, **settings)

    @classmethod
    def _load(cls, name):
        """The model of a name or path, and its backbone, which may be all of it."""
        from kerasdet import zoo

        trained = zoo.load(name)
        backbone = trained if isinstance(trained, Backbone) else trained.backbone
        if not isinstance(backbone, cls):
            raise ValueError(
                f"The backbone of {name!r} is a {type(backbone).__name__}, not a {cls.__name__}."
            )
        return trained, backbone

    def with_levels(self, levels):
        """Return a copy with the same weights that returns other levels.

        Args:
            levels: the levels to return; stages above the highest are left out.
        """
        return self._copy(levels, self.freeze_at, self.frozen_norm)

    def with_deformable(self, deformable):
        """Return a copy with the same weights whose 3x3 convolutions are deformable, at rest at first.

        Args:
            deformable: a `kerasdet.layers.Deformable`, or None for plain convolutions.

        Raises:
            ValueError: this class of backbone has no deformable form.
        """
        if "deformable" not in self.get_config():
            raise ValueError(
                f"A {type(self).__name__} has no deformable convolutions; use a ResNet or a MobileNetV2."
            )
        deformable = keras.saving.serialize_keras_object(deformable)
        return self._copy(self.levels, self.freeze_at, self.frozen_norm, deformable=deformable)

    def _copy(self, levels, freeze_at, frozen_norm, **settings):
        settings |= {"levels": levels, "freeze_at": freeze_at, "frozen_norm": frozen_norm}
        backbone = type(self).from_config(self.get_config() | settings)
        copy_layers(self, backbone)
        return backbone

    def normalize(self, images):
        """Return (images - mean) / std in float32; images are (..., C), 0..255."""
        return (ops.cast(images, "float32") - ops.array(self.mean)) / ops.array(self.std)

    def classifier_layers(self):
        """Return new layers that the ImageNet classifier puts between "C5" and the pooling."""
        return []

    def region_head(self, classifier, frozen_norm=True):
        """Return what a trained classifier on this backbone has above "C4" as a layer for each region."""
        raise ValueError(
            f"A {type(self).__name__} has no part for each region; use its levels up to C5 and a "
            "kerasdet.layers.DenseHead."
        )

    def get_config(self):
        """Return the arguments that all backbones share."""
        return {
            "levels": self.levels,
            "mean": self.mean,
            "std": self.std,
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "freeze_at": self.freeze_at,
            "frozen_norm": self.frozen_norm,
        }


def _check_pixels(mean, std, channels):
    if not len(mean) == len(std) == channels:
        raise ValueError(
            f"mean has {len(mean)} values and std {len(std)} for {channels} channels; give one for each."
        )
    if not all(map(math.isfinite, mean)) or not all(0 < value < math.inf for value in std):
        raise ValueError(f"mean is {mean} and std {std}; give finite numbers, std above 0.")


def freeze_norms(layers):
    """Keep the statistics, scales and shifts of batch normalisation as they are."""
    for norm in batch_norms(layers):
        norm.trainable = False


def batch_norms(layers):
    """Generate the batch normalisations among layers, and in those that are models."""
    for layer in layers:
        if isinstance(layer, ConvNorm):
            yield layer.norm
        elif isinstance(layer, (BatchNorm, keras.layers.BatchNormalization)):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from batch_norms(layer.layers)


def expansions(inputs, x, names):
    """Find the maps inside inverted residuals, before their depthwise convolution.

    Args:
        inputs: the input of the backbone that is being built.
        x: its last map so far.
        names: {level: number of the block}.

    Returns:
        {level: map}, those of the blocks that are built.
    """
    layers = {layer.name: layer for layer in keras.Model(inputs, x).layers}
    found = {level: layers.get(f"block{number}_expand") for level, number in names.items()}
    return {level: layer.output for level, layer in found.items() if layer}


def copy_layers(source, target):
    """Give each layer of a functional model the weights of the other model's layer of that name.

    A deformable convolution has those of a plain one, followed by those of its offsets: the weights that
    one of the two lacks stay as they are.
    """
    for layer in filter(lambda layer: layer.weights, target.layers):
        weights = source.get_layer(layer.name).get_weights()[: len(layer.weights)]
        layer.set_weights(weights + layer.get_weights()[len(weights) :])


def highest_stage(levels, known=LEVELS):
    """Return the number of the last stage that `levels` needs.

    Args:
        levels: the levels to return.
        known: the levels that the backbone has.

    Raises:
        ValueError: if `levels` is empty or names an unknown level.
    """
    unknown = [level for level in levels if level not in known]
    if unknown or not levels:
        raise ValueError(f"levels must be among {known}; got {tuple(levels)}.")
    return max(int(level[1]) for level in levels)
