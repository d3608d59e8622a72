"""Resizing an image to the size a detector sees: one serialisable part for data, `detect` and exports.

Every part answers two questions, in Python integers or inside a TensorFlow graph (`xp=tensorflow`):
to which size is the image resized, and how large is its canvas? The image is placed at the top left of
the canvas, and the rest is zero. Resizing is bilinear with half-pixel centres, without antialiasing and
without rounding to uint8. A box therefore moves by two factors, and `image_sizes` tells image from padding.
"""

import keras
import numpy as np

LARGEST = 1 << 16  # pixels along a side


class Resize:
    """A rule for the size of an image and its canvas. Two rules are equal if their configurations are."""

    def target_size(self, height, width, xp=np):
        """Return the size to which an image is resized.

        Args:
            height: height of the image in pixels (an integer, or an int32 scalar of `xp`).
            width: width of the image, likewise.
            xp: `numpy`, or `tensorflow` where the sizes are tensors.

        Returns:
            (height, width), of the same kind as the arguments.
        """
        raise NotImplementedError

    def canvas_size(self, height, width, xp=np):
        """Return the size of the canvas for an image that was resized to (height, width)."""
        raise NotImplementedError

    def get_config(self):
        """Return the constructor's arguments."""
        return dict(vars(self))

    @classmethod
    def from_config(cls, config):
        """Rebuild the part from `get_config`."""
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self):
        return hash((type(self), *vars(self).values()))

    def __repr__(self):
        arguments = ", ".join(f"{name}={value}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


def images_on_canvas(data, resize=None):
    """Tell what of a data set's annotations a detector sees.

    Args:
        data: `Dataset`; at most 1000 of its images are read, evenly chosen.
        resize: `Resize` part for its images; None: they keep their size.

    Yields:
        For each image, boxes (N, 4) xyxy NumPy, in pixels of the canvas, without ignored objects; and the
        canvas (height, width).
    """
    resize = resize or KeepSize()
    for index in range(0, len(data), -(-len(data) // 1000)):
        record = data.record(index)
        height, width = resize.target_size(record.height, record.width)
        scale = np.array([width / record.width, height / record.height] * 2)
        yield record.boxes[~record.ignore] * scale, resize.canvas_size(height, width)


def boxes_on_canvas(data, resize=None):
    """Return the boxes of `images_on_canvas`, (N, 4) xyxy NumPy."""
    return np.concatenate([boxes for boxes, _ in images_on_canvas(data, resize)])


@keras.saving.register_keras_serializable("kerasdet")
class KeepSize(Resize):
    """Keep the image's size; the canvas is that size rounded up to a multiple of `divisor`."""

    def __init__(self, divisor=32):
        self.divisor = _positive("divisor", divisor)

    def target_size(self, height, width, xp=np):
        """See `Resize.target_size`."""
        return height, width

    def canvas_size(self, height, width, xp=np):
        """See `Resize.canvas_size`."""
        return _round_up(height, self.divisor), _round_up(width, self.divisor)


@keras.saving.register_keras_serializable("kerasdet")
class ShortestEdge(Resize):
    """Scale the shorter side to `short`, or less if the longer side would exceed `long` (torchvision's rule).

    The scale is computed in float64 and the size is floored, to one pixel at least; the canvas is
    rounded up to `divisor`.
    Source: Faster R-CNN, section 3.3 (s = 600); torchvision's GeneralizedRCNNTransform for the rounding.
    """

    def __init__(self, short=800, long=1333, divisor=32):
        self.short = _positive("short", short)
        self.long = _positive("long", long)
        self.divisor = _positive("divisor", divisor)

    def target_size(self, height, width, xp=np):
        """See `Resize.target_size`."""
        h, w = _float64(height, xp), _float64(width, xp)
        scale = xp.minimum(self.short / xp.minimum(h, w), self.long / xp.maximum(h, w))
        return tuple(_int32(xp.maximum(xp.floor(s * scale), 1.0), xp) for s in (h, w))

    def canvas_size(self, height, width, xp=np):
        """See `Resize.canvas_size`."""
        return _round_up(height, self.divisor), _round_up(width, self.divisor)


@keras.saving.register_keras_serializable("kerasdet")
class Fit(Resize):
    """Scale the image, keeping its aspect ratio, to the largest size that fits a fixed canvas."""

    def __init__(self, height, width):
        self.height = _positive("height", height)
        self.width = _positive("width", width)

    def target_size(self, height, width, xp=np):
        """See `Resize.target_size`."""
        h, w = _float64(height, xp), _float64(width, xp)
        scale = xp.minimum(self.height / h, self.width / w)
        fitted = xp.floor(h * scale + 0.5), xp.floor(w * scale + 0.5)
        return tuple(_int32(xp.maximum(side, 1.0), xp) for side in fitted)

    def canvas_size(self, height, width, xp=np):
        """See `Resize.canvas_size`."""
        return self.height, self.width


@keras.saving.register_keras_serializable("kerasdet")
class Letterbox(Fit):
    """Scale the image as Darknet does, keeping its aspect ratio, to fill a fixed canvas on one axis (YOLOv2).

    The other side is rounded down. Darknet then centres the image on grey; here it lies at the top left,
    like every image.
    """

    def __init__(self, height, width=None):
        super().__init__(height, height if width is None else width)

    def target_size(self, height, width, xp=np):
        """See `Resize.target_size`."""
        h, w = _float64(height, xp), _float64(width, xp)
        fitted = (
            xp.minimum(xp.floor(h * self.width / w), float(self.height)),
            xp.minimum(xp.floor(w * self.height / h), float(self.width)),
        )
        return tuple(_int32(xp.maximum(side, 1.0), xp) for side in fitted)


@keras.saving.register_keras_serializable("kerasdet")
class Stretch(Resize):
    """Scale both sides to a fixed size, without keeping the aspect ratio (SSD, YOLO v1)."""

    def __init__(self, height, width=None):
        self.height = _positive("height", height)
        self.width = _positive("width", height if width is None else width)

    def target_size(self, height, width, xp=np):
        """See `Resize.target_size`."""
        return self.height, self.width

    def canvas_size(self, height, width, xp=np):
        """See `Resize.canvas_size`."""
        return self.height, self.width


def _positive(name, value):
    if not isinstance(value, (int, float, np.number)) or not 1 <= value <= LARGEST:
        raise ValueError(
            f"{name} must be a positive number of pixels, at most {LARGEST}, not {value!r:.80}."
        )
    if int(value) != value:
        raise ValueError(f"{name} must be a whole number of pixels, not {value!r}.")
    return int(value)


def _round_up(size, divisor):
    return -(-size // divisor) * divisor


def _float64(size, xp):
    return np.float64(size) if xp is np else xp.cast(size, "float64")


def _int32(size, xp):
    return int(size) if xp is np else xp.cast(size, "int32")
