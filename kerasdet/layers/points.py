"""The points of a feature pyramid, and the distances that a detector predicts from them, as layers."""

import itertools

import keras
import numpy as np
from keras import ops

from kerasdet.layers.resizing import boxes_on_canvas
from kerasdet.ops.checks import check_choice
from kerasdet.ops.clusters import FINEST_CELLS, PAPER_STRIDES, pyramid_strides
from kerasdet.ops.gather import in_order
from kerasdet.ops.points import assign_points, grid_points

LARGEST_LOG = 9.0  # exp of it is 8103; without a limit an untrained head's output overflows


@keras.saving.register_keras_serializable("kerasdet")
class Points(keras.layers.Layer):
    """The points of every level of a feature pyramid, and the objects that they learn.

    Args:
        strides: for each level, pixels from one cell to the next.
        ranges: limits between the levels in pixels, ascending: a point learns an object if the largest
            distance to its sides is within its level's range.
        radius: centre sampling: strides from an object's centre within which points learn it; None: all
            points inside the object do.
        offset: position of the point within its cell, in cells: 0 is the corner, 0.5 the middle.
        steps_from_image: the points are as far apart as the image's size divided by the map's and rounded
            down, as for torchvision's weights (61 pixels on P6 of 800 pixels). Strides remain the unit.

    Call arguments:
        features: the map (B, h, w, C) of each level, as a list or an ordered dict.
        images: (B, H, W, C).

    Returns:
        For each level, (h * w, 3) float32: x, y, stride; in the order of the map's rows and columns.

    Raises:
        ValueError: strides, ranges or features are not of equally many levels; or a number is out of range.

    Source: FCOS (arXiv 1904.01355), sections 3.1 and 3.2.
    """

    def __init__(
        self,
        strides=PAPER_STRIDES,
        ranges=(64, 128, 256, 512),
        radius=None,
        offset=0.5,
        steps_from_image=False,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "autocast": False, "trainable": False})
        self.strides = tuple(strides)
        self.ranges = tuple(float(limit) for limit in ranges)
        self.radius = radius
        self.offset = offset
        self.steps_from_image = steps_from_image
        self._check()
        self.built = True

    @classmethod
    def for_data(cls, kind, data, resize=None, finest=4, **settings):
        """Return the points whose levels and ranges an option of `for_data` names.

        Args:
            kind: "fitted" to the data's objects on the canvas, or "paper": 64 to 512 pixels.
            data: `Dataset`; at most 1000 of its images are read.
            resize: `Resize` part for its images; None: they keep their size.
            finest: as in `fitted`.
            **settings: further arguments of the constructor.

        Raises:
            ValueError: another kind, or no box has an area.
        """
        check_choice("ranges", kind, ("fitted", "paper"))
        if kind == "paper":
            return cls(**settings)
        return cls.fitted(boxes_on_canvas(data, resize), finest, **settings)

    @classmethod
    def fitted(cls, boxes, finest=4, **settings):
        """Return points with levels and ranges that fit a data set's objects.

        The levels begin with P2 where objects are small (`kerasdet.ops.clusters.pyramid_strides`). The
        finest level learns objects up to twice the 5th percentile of the longer sides, at most eight of its
        cells as in the paper, and the limits double with each level. Objects of different sizes then learn on
        different levels.

        Args:
            boxes: (N, 4) xyxy, in pixels of the canvas that the detector will see.
            finest: stride of the backbone's finest map; P2 needs 4.
            **settings: further arguments of the constructor.

        Raises:
            ValueError: no box has an area.
        """
        boxes = np.asarray(boxes, "float64").reshape(-1, 4)
        sides = boxes[:, 2:] - boxes[:, :2]
        sides = sides[(sides > 0).all(axis=1)]
        if not len(sides):
            raise ValueError(f"none of the {len(boxes)} boxes has an area to fit ranges to.")
        strides = pyramid_strides(sides, finest)
        first = max(8.0, 2 * round(float(np.percentile(sides.max(axis=1), 5)), 1))
        first = min(first, FINEST_CELLS * float(strides[0]))
        return cls(strides, [first * 2**level for level in range(len(strides) - 1)], **settings)

    def call(self, features, images):
        """See the class docstring."""
        features = in_order(features)
        self._check_levels("features", len(features))
        canvas = ops.shape(images)[1:3]
        levels = []
        for level, stride in zip(features, self.strides):
            grid = ops.shape(level)[1:3]
            steps = (stride, stride)
            if self.steps_from_image:
                steps = [side // count for side, count in zip(canvas, grid)]
            places = ops.reshape(grid_points(grid, steps, self.offset), (-1, 2))
            strides = ops.full_like(places[:, :1], stride)
            levels.append(ops.concatenate([places, strides], axis=-1))
        return levels

    def assign(self, targets, points):
        """Return the object that each point learns.

        Args:
            targets: prepared targets.
            points: the layer's result, as a list or an ordered dict.

        Returns:
            (B, A) int32; see `kerasdet.ops.assign_points`.
        """
        points = in_order(points)
        self._check_levels("points", len(points))
        return assign_points(targets, points, self.ranges, self.radius)

    def compute_output_spec(self, features, images):
        """Return one row per point, float32 under every policy."""
        features = in_order(features)
        sizes = [level.shape[1:3] for level in features]
        return [
            keras.KerasTensor((None if None in size else size[0] * size[1], 3), "float32")
            for size in sizes
        ]

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "strides": self.strides,
            "ranges": self.ranges,
            "radius": self.radius,
            "offset": self.offset,
            "steps_from_image": self.steps_from_image,
        }

    def _check(self):
        if not all(0 < stride < 1e9 for stride in self.strides):
            raise ValueError(f"Points: `strides` are {self.strides}; give positive pixels.")
        self._check_levels("ranges", len(self.ranges) + 1)
        limits = (0.0, *self.ranges, float("inf"))
        if not all(low < high for low, high in itertools.pairwise(limits)):
            raise ValueError(
                f"Points: `ranges` are {self.ranges}; give ascending positive finite pixels."
            )
        if self.radius is not None and not 0 < self.radius < 1e9:
            raise ValueError(
                f"Points: `radius` is {self.radius!r}; give positive strides, or None."
            )
        if not abs(self.offset) < 1e9:
            raise ValueError(f"Points: `offset` is {self.offset!r}; give a finite number.")

    def _check_levels(self, name, count):
        if count != len(self.strides):
            needed = "one limit fewer" if name == "ranges" else "one entry per level"
            found = count - 1 if name == "ranges" else count
            raise ValueError(
                f"Points: `{name}` has {found} entries and `strides` has {len(self.strides)}; "
                f"give {needed}."
            )


@keras.saving.register_keras_serializable("kerasdet")
class Distances(keras.layers.Layer):
    """From a convolution's outputs to the distances to an object's sides, never negative.

    Args:
        activation: "exp" (FCOS), or "relu" (its improved version, torchvision).
        scaled: multiply the outputs of each level by a learnt number of its own.
        normalized: the result of the activation counts strides, not pixels.

    Call arguments:
        outputs: {"P3": (B, A3, 4), ...}.
        points: {"P3": (A3, 3), ...}: x, y, stride.

    Returns:
        {"P3": (B, A3, 4), ...} float32 pixels: left, top, right, bottom.

    Raises:
        ValueError: another activation.

    Source: FCOS (arXiv 1904.01355), section 3.2.
    """

    def __init__(self, activation="exp", scaled=True, normalized=False, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if activation not in ("exp", "relu"):
            raise ValueError(f'activation must be "exp" or "relu", not {activation!r}.')
        self.activation = activation
        self.scaled = scaled
        self.normalized = normalized

    def build(self, outputs_shape, points_shape=None):
        """Create the number of each level."""
        self.scales = {
            level: self.add_weight((), "ones", name=f"scale_{level}")
            for level in (outputs_shape if self.scaled else ())
        }
        self.built = True

    def call(self, outputs, points):
        """See the class docstring."""
        return {level: self._distances(x, level, points[level]) for level, x in outputs.items()}

    def _distances(self, x, level, points):
        # Eq: fcos §3.2 | exp(s_i x)
        x = x * self.scales[level] if self.scaled else x
        x = ops.exp(ops.minimum(x, LARGEST_LOG)) if self.activation == "exp" else ops.relu(x)
        return x * points[:, 2:] if self.normalized else x

    def compute_output_shape(self, outputs_shape, points_shape=None):
        """Return the outputs' shapes."""
        return dict(outputs_shape)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "activation": self.activation,
            "scaled": self.scaled,
            "normalized": self.normalized,
        }
