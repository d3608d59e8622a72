"""An image pyramid: one canvas at several scales, for detectors that look at each in turn."""

import keras
from keras import ops

from kerasdet.ops import native


@keras.saving.register_keras_serializable("kerasdet")
class ImagePyramid(keras.layers.Layer):
    """Resize images by fixed factors, inside the graph, so that an exported file holds all scales.

    OverFeat's six scales, for one: a `ShortestEdge(461)` canvas and factors 1, 425/461, 389/461, ...

    Args:
        factors: of the canvas's sides, the scales to look at.

    Call arguments:
        images: (B, H, W, C).
        image_sizes: (B, 2), height and width of each image on the canvas.

    Returns:
        A list with one (images (B, h, w, C) float32, image_sizes (B, 2) float32, scale (4,)) for each
        factor: h and w are the canvas's sides times the factor, rounded down; a box in pixels of this
        level times scale is one in pixels of the canvas.

    Raises:
        ValueError: no factor, or one that is not positive.
    """

    def __init__(self, factors, **kwargs):
        super().__init__(**{**kwargs, "autocast": False, "trainable": False})
        self.factors = tuple(float(factor) for factor in factors)
        if not self.factors or min(self.factors) <= 0:
            raise ValueError(f"factors must be positive numbers, not {factors!r}.")
        self.built = True

    def call(self, images, image_sizes):
        """See the class docstring."""
        images = ops.cast(images, "float32")
        sizes = ops.cast(image_sizes, "float32")
        levels = []
        for factor in self.factors:
            full = ops.shape(images)[1:3]
            size = [_scaled(side, factor) for side in full]
            resized = images
            if factor != 1.0:
                resized = native.resize_bilinear(images, size)
            down = ops.stack([_ratio(new, old) for new, old in zip(size, full)])  # (2,) y, x
            scale = 1.0 / ops.stack([down[1], down[0], down[1], down[0]])
            levels.append((resized, sizes * down, scale))
        return levels

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "factors": self.factors}


def _scaled(side, factor):
    if isinstance(side, int):
        return max(1, int(side * factor))
    return ops.maximum(ops.cast(ops.cast(side, "float32") * factor, "int32"), 1)


def _ratio(new, old):
    return ops.cast(new, "float32") / ops.cast(old, "float32")
