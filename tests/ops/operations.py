"""The operations with small inputs: the table that is run in every form, on every backend.

Imports no TensorFlow: the JAX backend reads it too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kerasdet import ops as K

NAN, INF = float("nan"), float("inf")

ANY = "BHWRN"  # batch, height, width, regions, boxes

# Regions in pixels, on two maps of 6 x 7 cells of 4 pixels: inside, beyond the upper left corner, to
# the last row and column, a thin one; all and more, smaller than a cell, beyond the map, inside.
BOXES = np.array(
    [
        [
            [3.1, 4.3, 21.7, 17.2],
            [-9.3, -6.1, 12.9, 10.7],
            [9.1, 7.3, 28.9, 24.7],
            [5.3, 1, 6.9, 23],
        ],
        [
            [-13.1, -14.7, 45.3, 41.9],
            [13.3, 12.7, 14.1, 13.9],
            [50.3, 41, 70.7, 61],
            [1, 7, 19, 22.9],
        ],
    ],
    "float32",
)

# Of the same shape, so that what was compiled for BOXES runs on them: not finite; inverted, without
# area, larger than any image, beyond any image.
BAD_BOXES = np.array(
    [
        [[NAN, 4, 21, 17], [3, 4, INF, 17], [3, -INF, 21, 17], [NAN, NAN, NAN, NAN]],
        [[21, 17, 3, 4], [13, 9, 13, 9], [-1e30, -1e30, 1e30, 1e30], [1e30, 1e30, 3e38, 3e38]],
    ],
    "float32",
)


@dataclass(frozen=True)
class Operation:
    """A call of one operation.

    Attributes:
        function: of the inputs, by name.
        inputs: {name: array}.
        axes: {name: axes}; those named by one of `ANY` are of any size.
        slopes: names of the inputs that are differentiated.
        features: names of the inputs whose type, float32 or less precise, the result has.
    """

    function: Callable
    inputs: dict
    axes: dict
    slopes: tuple = ()
    features: tuple = ()

    def shapes(self):
        """{name: shape}, None where any size will do."""
        return {
            name: tuple(
                None if axis in ANY else size
                for axis, size in zip(axes.split(), self.inputs[name].shape)
            )
            for name, axes in self.axes.items()
        }

    def cut(self, letters, size):
        """The inputs with so many entries along the axes of these names."""
        return {
            name: self.inputs[name][
                tuple(slice(size if axis in letters else None) for axis in axes.split())
            ]
            for name, axes in self.axes.items()
        }

    def bad_inputs(self):
        """Inputs of the same shapes that no training should give, or None."""
        if "offsets" in self.inputs:
            offsets = self.inputs["offsets"].copy()
            for start, value in enumerate((NAN, INF, -INF, 1e30)):
                offsets.flat[start::7] = value
            return {**self.inputs, "offsets": offsets}
        if "features" in self.inputs and "boxes" in self.inputs:
            return {**self.inputs, "boxes": BAD_BOXES}
        return None


def _random(*shape, seed=0, low=None, high=1.0):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, shape) if low is None else rng.uniform(low, high, shape)
    return values.astype("float32")


def _regions(function, channels, **options):
    return Operation(
        lambda features, boxes: function(features, boxes=boxes, spatial_scale=1 / 4, **options),
        {"features": _random(2, 6, 7, channels), "boxes": BOXES},
        {"features": "B H W C", "boxes": "B R 4"},
        slopes=("features",),
        features=("features",),
    )


def _moved_regions(function, channels, bins, **options):
    return Operation(
        lambda features, boxes, offsets: function(
            features, boxes, offsets, bins, spatial_scale=1 / 4, **options
        ),
        {
            "features": _random(2, 6, 7, channels),
            "boxes": BOXES,
            "offsets": _random(*BOXES.shape[:2], bins, bins, 2, seed=1),
        },
        {"features": "B H W C", "boxes": "B R 4", "offsets": "B R i j 2"},
        slopes=("features", "offsets"),
        features=("features",),
    )


def _conv(channels, offset_groups, kernel, strides=1, padding=1, dilation=1, mask=False):
    """A deformable convolution of maps of 5 x 6 cells."""
    taps = kernel[0] * kernel[1]
    height, width = (
        (size + 2 * padding - dilation * (tap - 1) - 1) // strides + 1
        for size, tap in zip((5, 6), kernel)
    )
    inputs = {
        "inputs": _random(2, 5, 6, channels),
        "offsets": _random(2, height, width, 2 * offset_groups * taps, seed=1),
        "kernel": _random(*kernel, seed=2),
    }
    axes = {"inputs": "B H W C", "offsets": "B H W c", "kernel": "i j c f"}
    if mask:
        inputs["mask"] = _random(2, height, width, offset_groups * taps, seed=3, low=0.0)
        axes["mask"] = "B H W c"
    return Operation(
        lambda **given: K.deform_conv2d(
            **given, strides=strides, padding=padding, dilation=dilation
        ),
        inputs,
        axes,
        slopes=tuple(inputs),
        features=("inputs", "kernel"),
    )


def _crops(function, channels, **options):
    return Operation(
        lambda features, boxes, canvas: function(features, boxes, canvas, **options),
        {
            "features": _random(2, 6, 7, channels),
            "boxes": BOXES,
            "canvas": np.float32([[24, 28], [25, 30]]),
        },
        {"features": "B H W C", "boxes": "B R 4", "canvas": "B 2"},
        slopes=("features",),
        features=("features",),
    )


def _pyramid(function, channels=2, **options):
    boxes = np.float32([[[3, 4, 120, 150], [5, 9, 40, 70]], [[-20, 3, 90, 260], [1, 2, 250, 230]]])
    return Operation(
        lambda p2, p3, p4, boxes: function({"P3": p3, "P2": p2, "P4": p4}, boxes, **options),
        {
            "p2": _random(2, 8, 9, channels),
            "p3": _random(2, 4, 5, channels, seed=1),
            "p4": _random(2, 2, 3, channels, seed=2),
            "boxes": boxes,
        },
        {"p2": "B H W C", "p3": "B H W C", "p4": "B H W C", "boxes": "B R 4"},
        slopes=("p2", "p3", "p4"),
        features=("p2", "p3", "p4"),
    )


def _map(function, *shape, **options):
    return Operation(
        lambda features: function(features, **options),
        {"features": _random(*shape)},
        {"features": "B H W C"},
        slopes=("features",),
        features=("features",),
    )


def _crowd(count=12):
    starts = _random(2, count, 2, seed=4, low=0.0, high=40.0)
    return np.concatenate([starts, starts + _random(2, count, 2, seed=5, low=8.0, high=40.0)], -1)


def _suppression(function, *names):
    inputs = {
        "boxes": _crowd(),
        "scores": _random(2, 12, seed=6, low=0.0),
        "labels": np.arange(24, dtype="int32").reshape(2, 12) % 3,
    }
    axes = {"boxes": "B N 4", "scores": "B N", "labels": "B N"}
    return Operation(function, {n: inputs[n] for n in names}, {n: axes[n] for n in names})


def _overlap(function):
    return Operation(
        lambda boxes1, boxes2: function(boxes1, boxes2),
        {"boxes1": _crowd(4), "boxes2": _crowd(5)[:, ::-1]},
        {"boxes1": "B N 4", "boxes2": "B N 4"},
        slopes=("boxes1", "boxes2"),
    )


def _loss(function, targets, **options):
    return Operation(
        lambda targets, predictions: function(targets, predictions, **options),
        {"targets": targets, "predictions": _random(2, 5, 3, seed=1)},
        {"targets": "B N k", "predictions": "B N k"},
        slopes=("predictions",),
    )


OPERATIONS = {
    "roi_pool": _regions(K.roi_pool, 2, output_size=(3, 2)),
    "roi_pool, pixels": _regions(K.roi_pool, 2, output_size=(3, 2), rounding="pixels"),
    "roi_align": _regions(K.roi_align, 2, output_size=(3, 2)),
    "roi_align, max": _regions(
        K.roi_align, 2, output_size=2, sampling_ratio=2, aligned=True, reduction="max"
    ),
    "roi_align, as many points as cells": _regions(
        K.roi_align, 2, output_size=2, sampling_ratio=None, aligned=True
    ),
    "multilevel_roi_pool": _pyramid(K.multilevel_roi_pool, output_size=2),
    "multilevel_roi_align": _pyramid(K.multilevel_roi_align, output_size=2, sampling_ratio=1),
    "ps_roi_pool": _regions(K.ps_roi_pool, 8, output_size=2),
    "ps_roi_pool, pixels": _regions(K.ps_roi_pool, 8, output_size=2, rounding="pixels"),
    "ps_roi_align": _regions(K.ps_roi_align, 8, output_size=2, sampling_ratio=1),
    "multilevel_ps_roi_align": _pyramid(
        K.multilevel_ps_roi_align, channels=8, output_size=2, sampling_ratio=1
    ),
    "crop_and_resize": _crops(K.crop_and_resize, 2, output_size=(3, 2)),
    "crop_and_resize, max": _crops(
        K.crop_and_resize, 2, output_size=2, sampling_ratio=2, reduction="max"
    ),
    "ps_crop_and_resize": _crops(K.ps_crop_and_resize, 8, output_size=2, sampling_ratio=3),
    "deform_conv2d": _conv(2, 1, (3, 3, 2, 3)),
    "deform_conv2d, modulated": _conv(2, 1, (3, 2, 2, 3), strides=2, mask=True),
    "deform_conv2d, groups": _conv(4, 2, (2, 3, 2, 4), dilation=2, padding=2),
    "deform_roi_pool": _moved_regions(K.deform_roi_pool, 2, 2),
    "deform_ps_roi_pool": _moved_regions(K.deform_ps_roi_pool, 8, 2, gamma=0.5),
    "spatial_pyramid_pool": _map(K.spatial_pyramid_pool, 2, 6, 7, 2, levels=(1, 4)),
    "spatial_pyramid_pool, average": _map(
        K.spatial_pyramid_pool, 2, 6, 7, 2, levels=(3, 2), pooling="average"
    ),
    "spatial_pyramid_pool, boxes": _regions(K.spatial_pyramid_pool, 2, levels=(3,)),
    "spatial_pyramid_pool, boxes, average": _regions(
        K.spatial_pyramid_pool, 2, levels=(2,), pooling="average"
    ),
    "max_pool": Operation(
        lambda features: K.max_pool(features, 3, 2, 1),
        {"features": _random(2, 6, 7, 3)},
        {"features": "b H W C"},  # TensorFlow aborts on the gradient of an empty batch
        slopes=("features",),
        features=("features",),
    ),
    "local_response_norm": _map(K.local_response_norm, 2, 5, 6, 7, size=5, alpha=2.0),
    "local_response_norm, within": _map(
        K.local_response_norm, 2, 5, 6, 3, size=3, alpha=2.0, k=2.0, within_channel=True
    ),
    "maxout": _map(K.maxout, 2, 3, 4, 6, num_units=2),
    "l2_normalize": Operation(
        lambda features, scale: K.l2_normalize(features, scale),
        {"features": _random(2, 3, 4, 5), "scale": np.float32([20, 10, 5, 1, 0])},
        {"features": "B H W C", "scale": "C"},
        slopes=("features", "scale"),
        features=("features",),
    ),
    "nms": _suppression(lambda boxes, scores: K.nms(boxes, scores, 0.4, 8), "boxes", "scores"),
    "batched_nms": _suppression(
        lambda boxes, scores, labels: K.batched_nms(boxes, scores, labels, 0.4, 8, 0.1),
        *("boxes", "scores", "labels"),
    ),
    "soft_nms": _suppression(lambda boxes, scores: K.soft_nms(boxes, scores, 8), "boxes", "scores"),
    "box_iou": _overlap(K.box_iou),
    "box_giou": _overlap(K.box_giou),
    "box_diou": _overlap(K.box_diou),
    "box_ciou": _overlap(K.box_ciou),
    "sigmoid_focal_loss": _loss(K.sigmoid_focal_loss, np.float32(_random(2, 5, 3) > 0), gamma=1.5),
    "smooth_l1": _loss(K.smooth_l1, _random(2, 5, 3), beta=0.5),
    "ohem": Operation(
        lambda losses, boxes: K.ohem(losses, boxes, losses > 0.7, 3, 0.5, 2),
        {"losses": _random(2, 12, seed=6, low=0.0), "boxes": _crowd()},
        {"losses": "B N", "boxes": "B N 4"},
    ),
}
