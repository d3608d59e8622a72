"""Resizing an image to the size a detector sees: one serialisable part for data, `detect` and exports.

Every part answers three questions, in Python numbers or inside a TensorFlow graph (`xp=tensorflow`): to
which size is the image resized, how large is its canvas, and where on it does the image begin? A box moves
by two factors and that offset.

By default the image begins at the top left of the canvas, and the rest is zero after normalisation;
`image_sizes` tells image from padding. Resizing is bilinear with half-pixel centres, without antialiasing
and without rounding to uint8. `Drawn` parts, which follow other programs to the pixel, resample by their
own rule and draw their padding: for the model, the whole canvas is image.
"""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

LARGEST = 1 << 16  # pixels along a side
GREY = 127.5  # Darknet's padding, 0.5 of 1
WEIGHT = 2048  # parts of a pixel in OpenCV's integers


class Resize:
    """A rule for the size of an image and its canvas. Two rules are equal if their configurations are."""

    DRAWN = False  # whether the part draws the canvas by itself, see `Drawn`
    WHOLE = False  # whether resized pixels are whole numbers, see `RoundedShortestEdge`

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

    def offset(self, height, width, xp=np):
        """Return where on its canvas an image begins that was resized to (height, width).

        Returns:
            (y, x) in pixels of the canvas, added to boxes: whole or half numbers.
        """
        return 0, 0

    def resample(self, images, size, xp=np):
        """Resize images, bilinear with half-pixel centres.

        Args:
            images: (..., H, W, C), raw pixels, an array or tensor of `xp`.
            size: (height, width), integers or int32 scalars of `tensorflow`.
            xp: `numpy`, or `tensorflow`.

        Returns:
            (..., height, width, C) float32.
        """
        if xp is not np:
            # ONNX has no resizing of bytes to float32.
            return xp.image.resize(xp.cast(images, "float32"), xp.stack(size))
        images = ops.cast(images, "float32")
        resized = ops.image.resize(images, size, "bilinear", data_format="channels_last")
        return ops.convert_to_numpy(resized)

    def fixed_canvas(self):
        """Return the canvas (height, width) of every image, or None where it depends on the image's size."""
        sizes = ((1, 1), (37, 1111), (1111, 37))
        canvases = {tuple(self.canvas_size(*self.target_size(*size))) for size in sizes}
        return canvases.pop() if len(canvases) == 1 else None

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
        y, x = resize.offset(height, width)
        boxes = record.boxes[~record.ignore] * scale + np.array([x, y] * 2)
        yield boxes, resize.canvas_size(height, width)


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
    rounded up to `divisor`. With `nearest` the size is the nearest whole number, halves to even (OpenCV's
    rule, which Faster R-CNN's code has).
    Source: Faster R-CNN, section 3.3 (s = 600); torchvision's GeneralizedRCNNTransform for the rounding.
    """

    def __init__(self, short=800, long=1333, divisor=32, nearest=False):
        self.short = _positive("short", short)
        self.long = _positive("long", long)
        self.divisor = _positive("divisor", divisor)
        self.nearest = bool(nearest)

    def target_size(self, height, width, xp=np):
        """See `Resize.target_size`."""
        h, w = _float64(height, xp), _float64(width, xp)
        scale = xp.minimum(self.short / xp.minimum(h, w), self.long / xp.maximum(h, w))
        rounded = xp.round if self.nearest else xp.floor
        return tuple(_int32(xp.maximum(rounded(s * scale), 1.0), xp) for s in (h, w))

    def canvas_size(self, height, width, xp=np):
        """See `Resize.canvas_size`."""
        return _round_up(height, self.divisor), _round_up(width, self.divisor)


@keras.saving.register_keras_serializable("kerasdet")
class RoundedShortestEdge(ShortestEdge):
    """Scale as `ShortestEdge`, but round both the size and the pixels to whole numbers, as mmdetection does.

    Pixels are those of OpenCV's bilinear `resize` of bytes, to the last digit: weights of 1/2048, and exact
    halves are means of four pixels.
    Source: `imrescale` of mmcv for the size; OpenCV's resize.cpp for the arithmetic.
    """

    WHOLE = True

    def target_size(self, height, width, xp=np):
        """See `Resize.target_size`."""
        h, w = _float64(height, xp), _float64(width, xp)
        scale = xp.minimum(self.long / xp.maximum(h, w), self.short / xp.minimum(h, w))
        return tuple(_int32(xp.maximum(xp.floor(s * scale + 0.5), 1.0), xp) for s in (h, w))

    def resample(self, images, size, xp=np):
        """See `Resize.resample`; fractions of pixels are rounded first."""
        shape = images.shape if _are_numbers(images.shape[-3:-1]) else xp.shape(images)
        old = shape[-3], shape[-2]
        pixels = images if images.dtype == "uint8" else xp.round(images)
        (top, bottom, *by_row), (left, right, *by_column) = (
            _in_2048ths(*lengths, xp) for lengths in zip(old, size)
        )
        take = np.take if xp is np else xp.gather
        first, second = (
            sum(
                _cast(take(line, column, axis=-2), "int32", xp) * weight[:, None]
                for column, weight in zip((left, right), by_column)
            )
            for line in (take(pixels, row, axis=-3) for row in (top, bottom))
        )  # (..., height, width, C), in 1/2048 of a level
        blended = sum(
            weight[:, None, None] * (line // 16) // 65536
            for weight, line in zip(by_row, (first, second))
        )
        halved = [_int32(a, xp) == 2 * _int32(b, xp) for a, b in zip(old, size)]
        mean = (first + second + WEIGHT) // (2 * WEIGHT)
        return _cast(xp.where(halved[0] & halved[1], mean, (blended + 2) // 4), "float32", xp)


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


class Samples(NamedTuple):
    """What the pixels along one axis of a canvas are made of, arrays of the canvas's length.

    Fields:
        first: int32, an index into the image.
        second: int32, likewise.
        first_weight: float32, the share of the first pixel.
        second_weight: float32, likewise.
        inside: bool, False in the padding.
    """

    first: object
    second: object
    first_weight: object
    second_weight: object
    inside: object


class Drawn(Resize):
    """A rule that draws the whole canvas, padding included, in raw pixels. Abstract: fill `samples`."""

    DRAWN = True
    FILL = 0.0  # a raw pixel, of every channel

    def samples(self, height, width, xp=np):
        """Tell what the canvas of an image is made of.

        Args:
            height: height of the image in pixels (an integer, or an int32 scalar of `xp`).
            width: width of the image, likewise.
            xp: `numpy`, or `tensorflow`.

        Returns:
            (rows, columns), `Samples` of either axis.
        """
        raise NotImplementedError

    def draw(self, images, xp=np, size=None, fill=None):
        """Draw the canvases of images of one size.

        Args:
            images: (..., H, W, C), raw pixels, an array or tensor of `xp`.
            xp: `numpy`, or `tensorflow`.
            size: (H, W), integers or int32 scalars of `tensorflow`; default: the array's.
            fill: value of the padding; default `FILL`.

        Returns:
            (..., H', W', C) float32.
        """
        size = images.shape[-3:-1] if size is None else size
        rows, columns = self.samples(*size, xp=np if _are_numbers(size) else xp)
        canvas = _blend(_blend(images, rows, -3, xp), columns, -2, xp)
        inside = rows.inside[:, None, None] & columns.inside[None, :, None]
        return xp.where(inside, canvas, np.float32(self.FILL if fill is None else fill))

    def draw_labels(self, labels, fill=-1):
        """Draw a map of integers, each of the nearer pixel.

        Args:
            labels: (H, W) int32, NumPy.
            fill: value of the padding.

        Returns:
            (H', W') int32.
        """
        rows, columns = self.samples(*labels.shape)
        near = [np.where(s.first_weight >= s.second_weight, *s[:2]) for s in (rows, columns)]
        inside = rows.inside[:, None] & columns.inside
        return np.where(inside, labels[np.ix_(*near)], np.int32(fill))


@keras.saving.register_keras_serializable("kerasdet")
class Letterbox(Drawn):
    """Scale the image, keeping its aspect ratio, and centre it on a grey canvas, as Darknet does (YOLOv2).

    One axis is filled, and the other side is rounded down. The image's outermost pixels stay outermost.
    Source: Darknet's `letterbox_image` and `resize_image`; `correct_region_boxes` for boxes, whose offset
    has half pixels where that of the pixels is rounded down.
    """

    FILL = GREY

    def __init__(self, height, width=None):
        self.height = _positive("height", height)
        self.width = _positive("width", height if width is None else width)

    def target_size(self, height, width, xp=np):
        """See `Resize.target_size`."""
        h, w = _float64(height, xp), _float64(width, xp)
        fitted = (
            xp.minimum(xp.floor(h * self.width / w), float(self.height)),
            xp.minimum(xp.floor(w * self.height / h), float(self.width)),
        )
        return tuple(_int32(xp.maximum(side, 1.0), xp) for side in fitted)

    def canvas_size(self, height, width, xp=np):
        """See `Resize.canvas_size`."""
        return self.height, self.width

    def offset(self, height, width, xp=np):
        """See `Resize.offset`."""
        return tuple(
            (side - _cast(fitted, "float32", xp)) / 2
            for side, fitted in ((self.height, height), (self.width, width))
        )

    def samples(self, height, width, xp=np):
        """See `Drawn.samples`."""
        size = self.target_size(height, width, xp)
        rows = _from_corner_to_corner(height, size[0], self.height, xp)
        columns = _from_corner_to_corner(width, size[1], self.width, xp)
        # Darknet leaves the second pixel out of its last row, which is dark where float32 rounds down.
        last = _counted(self.height, xp) == _cast(
            (self.height - size[0]) // 2 + size[0] - 1, "float32", xp
        )
        weight = xp.where(last, np.float32(0), rows.second_weight)
        return rows._replace(second_weight=weight), columns


@keras.saving.register_keras_serializable("kerasdet")
class PaddedSquare(Drawn):
    """Pad the image with black to a square, at the right and bottom, and scale that (face-api.js).

    Scaling is bilinear without half-pixel centres, TensorFlow.js' default: pixel i of the canvas is read at i
    times the factor. Boxes are scaled by the image's rounded size.
    Source: `padToSquare` and `computeReshapedDimensions` of face-api.js.
    """

    def __init__(self, side):
        self.side = _positive("side", side)

    def target_size(self, height, width, xp=np):
        """See `Resize.target_size`."""
        h, w = _float64(height, xp), _float64(width, xp)
        scale = self.side / xp.maximum(h, w)
        return tuple(_int32(xp.maximum(xp.floor(side * scale + 0.5), 1.0), xp) for side in (h, w))

    def canvas_size(self, height, width, xp=np):
        """See `Resize.canvas_size`."""
        return self.side, self.side

    def samples(self, height, width, xp=np):
        """See `Drawn.samples`."""
        square = xp.maximum(height, width)
        factor = _cast(square, "float32", xp) / np.float32(self.side)
        last = _cast(square - 1, "float32", xp)
        positions = xp.minimum(_counted(self.side, xp) * factor, last)
        return tuple(_between_pixels(positions, length, xp) for length in (height, width))


class _FromCorner(Drawn):
    """Resizing of TensorFlow 1, bilinear without half-pixel centres; the canvas is all image.

    Pixel i of the canvas is read at i times the factor; what lies beyond the last pixel reads it.
    """

    def canvas_size(self, height, width, xp=np):
        """See `Resize.canvas_size`."""
        return height, width

    def samples(self, height, width, xp=np):
        """See `Drawn.samples`."""
        size = self.target_size(height, width, xp)
        return tuple(_every(n, m, xp) for n, m in zip((height, width), size))


@keras.saving.register_keras_serializable("kerasdet")
class StretchFromCorner(_FromCorner):
    """Scale both sides to a fixed size, as TensorFlow 1 did (`fixed_shape_resizer`)."""

    def __init__(self, height, width=None):
        self.height = _positive("height", height)
        self.width = _positive("width", height if width is None else width)

    def target_size(self, height, width, xp=np):
        """See `Resize.target_size`."""
        return self.height, self.width


@keras.saving.register_keras_serializable("kerasdet")
class ShortestEdgeFromCorner(_FromCorner):
    """Scale the shorter side to `short`, as TensorFlow 1 did (`keep_aspect_ratio_resizer`).

    If the longer side would then exceed `long`, that is scaled to `long`. Sizes are computed in float32 and
    rounded, halves to even.
    """

    def __init__(self, short=600, long=1024):
        self.short = _positive("short", short)
        self.long = _positive("long", long)

    def target_size(self, height, width, xp=np):
        """See `Resize.target_size`."""
        sides = [_cast(side, "float32", xp) for side in (height, width)]
        large, small = (
            [
                xp.maximum(xp.round(side * (np.float32(limit) / edge)), np.float32(1))
                for side in sides
            ]
            for limit, edge in (
                (self.short, xp.minimum(*sides)),
                (self.long, xp.maximum(*sides)),
            )
        )
        exceeds = xp.maximum(*large) > self.long
        return tuple(_int32(xp.where(exceeds, *pair), xp) for pair in zip(small, large))


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


def _cast(values, dtype, xp):
    return np.asarray(values).astype(dtype) if xp is np else xp.cast(values, dtype)


def _counted(length, xp):
    """0.0, 1.0, ... float32."""
    return np.arange(length, dtype=np.float32) if xp is np else xp.range(length, dtype="float32")


def _are_numbers(size):
    return all(isinstance(side, (int, np.integer)) for side in size)


def _between_pixels(positions, length, xp):
    """Samples at positions (N,) from 0 on; what lies beyond the image has no weight."""
    before = xp.floor(positions)
    share, first = positions - before, _cast(before, "int32", xp)
    zero = np.float32(0)
    return Samples(
        xp.minimum(first, length - 1),
        xp.minimum(first + 1, length - 1),
        xp.where(first < length, 1 - share, zero),
        xp.where(first + 1 < length, share, zero),
        first < length,
    )


def _every(length, count, xp):
    """Samples of `count` positions along an axis of `length` pixels, the first at its first."""
    factor = _cast(length, "float32", xp) / _cast(count, "float32", xp)
    last = _cast(length - 1, "float32", xp)
    return _between_pixels(xp.minimum(_counted(count, xp) * factor, last), length, xp)


def _from_corner_to_corner(length, size, side, xp):
    """Samples that spread an image over `size` pixels in the middle of `side`, as Darknet does."""
    lengths = [_cast(value, "float32", xp) for value in (length, size)]
    factor = (lengths[0] - 1) / xp.maximum(lengths[1] - 1, np.float32(1))
    place = _counted(side, xp) - _cast((side - size) // 2, "float32", xp)
    inside = (place >= 0) & (place < lengths[1])
    return _between_pixels(xp.where(inside, place, np.float32(0)) * factor, length, xp)._replace(
        inside=inside
    )


def _in_2048ths(length, size, xp):
    """The two pixels (N,) int32 of each resized one, and their weights (N,) int32 in 1/2048."""
    factor = 1.0 / (_float64(size, xp) / _float64(length, xp))
    number = np.arange(size) if xp is np else xp.range(size)
    places = _cast((_cast(number, "float64", xp) + 0.5) * factor - 0.5, "float32", xp)
    before = xp.floor(places)
    share, first = places - before, _cast(before, "int32", xp)
    weights = [
        _cast(xp.round(part * np.float32(WEIGHT)), "int32", xp)
        for part in (np.float32(1) - share, share)
    ]
    cells = [xp.minimum(xp.maximum(cell, 0), length - 1) for cell in (first, first + 1)]
    return *cells, *weights


def _blend(images, samples, axis, xp):
    """Resample images (..., H, W, C) along one axis, -3 or -2, in float32."""
    shape = (-1,) + (1,) * (-1 - axis)
    take = np.take if xp is np else xp.gather
    first, second = (
        _cast(take(images, index, axis=axis), "float32", xp) * xp.reshape(weight, shape)
        for index, weight in (
            (samples.first, samples.first_weight),
            (samples.second, samples.second_weight),
        )
    )
    return first + second
