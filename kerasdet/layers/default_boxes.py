"""SSD's default boxes as a layer without weights."""

import itertools
import math

import keras
import numpy as np
from keras import ops

from kerasdet.ops.anchors import default_sides, dense_sides, grid_anchors, regular_scales
from kerasdet.ops.gather import in_order

CENTRE = 0.5  # of a cell, in cells
CLIPS = (None, "sides", "corners")
# SSD, section 3.1: conv4_3, conv10_2 and conv11_2 have four boxes at each place, the others six.
RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
STEPS = (8, 16, 32, 64, 100, 300)  # the authors' code
RATIOS_512 = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))
STEPS_512 = (8, 16, 32, 64, 128, 256, 512)
# Of boxes fitted to data:
CELLS = 3.0  # of a map, the side of its smallest box
MOST_CELLS = 4.0  # of the first map, at most; the paper's has 3.75
LEAST_GROWTH = 1.25  # from one map to the next
MOST_GROWTH = 1.5  # from one size to the next
LEAST_RATIO = 1.5


@keras.saving.register_keras_serializable("kerasdet")
class DefaultBoxes(keras.layers.Layer):
    """Default boxes of every map: sizes are shares of the image, whatever its size (SSD, section 2.2).

    Args:
        ratios: for each map, the aspect ratios above 1. Each gives a wide and a tall box.
        scales: for each map and for one after the last, the side of the square box as a share of the
            image's side.
        steps: for each map, pixels from one cell to the next. None: the image's side divided by the
            map's.
        clip: "sides" limits the boxes' sides to the image's (torchvision), "corners" limits the corners
            to the image (the authors' option), None keeps boxes as they are.
        lowest: side of the first map's one square; None: two squares, as on the other maps. TensorFlow's
            Object Detection API has 0.1. The first map then has one size.
        sizes: for each map, the number of sizes from its scale up to the next map's, each in all shapes; 1:
            the paper's boxes. None: 1 for all maps.

    Call arguments:
        features: the map (B, h, w, C) of each level, as a list or an ordered dict.
        images: (B, H, W, C).

    Returns:
        For each map, (h * w * boxes, 4) xyxy float32 in pixels, in the order of the map's rows, columns
        and boxes.

    Raises:
        ValueError: ratios, scales, steps or features are not of equally many maps; or a number of them is
            not finite and positive; or another clip.

    Example:
        >>> boxes = DefaultBoxes([(2,), (2, 3)], scales=(0.1, 0.2, 0.4))
        >>> maps = [ops.ones((1, 8, 8, 4)), ops.ones((1, 4, 4, 4))]
        >>> [rows.shape for rows in boxes(maps, ops.ones((1, 64, 64, 3)))]
        [(256, 4), (96, 4)]
    """

    def __init__(
        self, ratios=RATIOS, scales=None, steps=None, clip=None, lowest=None, sizes=None, **kwargs
    ):
        super().__init__(**{**kwargs, "autocast": False, "trainable": False})
        self.ratios = tuple(tuple(float(ratio) for ratio in level) for level in ratios)
        scales = paper_scales(len(self.ratios)) if scales is None else scales
        self.scales = tuple(float(scale) for scale in scales)
        self.steps = None if steps is None else tuple(float(step) for step in steps)
        self.clip = clip
        self.lowest = lowest
        self.sizes = None if sizes is None else tuple(int(count) for count in sizes)
        self._check()
        self.sides = [
            default_sides(*row) if count == 1 else dense_sides(*row, count)
            for *row, count in zip(
                self.scales,
                self.scales[1:],
                self.ratios,
                self.sizes or (1,) * len(self.ratios),
            )
        ]
        if lowest is not None:
            self.sides[0] = np.concatenate([[[lowest] * 2], self.sides[0][2:]])
        self.built = True

    @classmethod
    def ssd300(cls, first=0.1, smallest=0.2):
        """Return the 8732 boxes of SSD300.

        Args:
            first: scale on conv4_3 (section 3.1, for VOC); for COCO 0.07 (section 3.4).
            smallest: s_min of the other maps; for COCO 0.15.
        """
        return cls(RATIOS, paper_scales(len(RATIOS), first, smallest), STEPS)

    @classmethod
    def ssd512(cls, first=0.07, smallest=0.15):
        """Return the 24564 boxes of SSD512.

        Args:
            first: scale on conv4_3 (section 3.1, for VOC); for COCO 0.04 (section 3.4).
            smallest: s_min of the other maps; for COCO 0.1.
        """
        return cls(RATIOS_512, paper_scales(len(RATIOS_512), first, smallest), STEPS_512)

    @classmethod
    def fitted(cls, shares, strides):
        """Return default boxes fitted to the sizes and shapes of a data set's objects.

        The first map's boxes begin at the 5th percentile of the objects' sizes, at most at four of its cells,
        about as the paper's. Every other map's begin at three of its cells, because the centres of smaller
        boxes would be too far apart for an IoU of 0.5, and at 1.25 times those of the map before at least.
        Sizes grow by at most 1.5 from one to the next, so the first map has several. The aspect ratio is that
        of the object at the 90th percentile of elongation, at least 1.5.

        Args:
            shares: (N, 2), width and height of each object as shares of its canvas.
            strides: for each map, the distance of its cells as a share of the canvas.

        Raises:
            ValueError: no object has an area.
        """
        shares = np.asarray(shares, "float64").reshape(-1, 2)
        usable = (shares > 0).all(axis=1)
        if not usable.any():
            raise ValueError(
                f"none of the {len(shares)} boxes has an area to fit default boxes to."
            )
        widths, heights = shares[usable].T
        smallest = np.percentile(np.sqrt(widths * heights), 5)
        scales = [min(smallest, MOST_CELLS * strides[0])]
        for stride in (*strides[1:], 2 * strides[-1]):
            scales.append(max(CELLS * stride, scales[-1] * LEAST_GROWTH))
        sizes = [
            math.ceil(math.log(following / scale) / math.log(MOST_GROWTH) - 1e-9)
            for scale, following in itertools.pairwise(scales)
        ]
        elongation = np.percentile(np.abs(np.log(heights / widths)), 90)
        ratio = round(max(LEAST_RATIO, math.exp(elongation)), 2)
        scales = [round(scale, 4) for scale in scales]
        return cls([(ratio,)] * len(strides), scales, sizes=sizes)

    def check_canvas(self, grids, canvas):
        """Refuse steps in pixels that belong to another canvas.

        Args:
            grids: (rows, columns) of each map.
            canvas: (height, width) in pixels.

        Raises:
            ValueError: the last centre of a map lies a cell or more outside the canvas.
        """
        for step, grid in zip(self.steps or (), grids):
            if any((cells - CENTRE) * step >= side + step for cells, side in zip(grid, canvas)):
                raise ValueError(
                    f"DefaultBoxes: a map of {grid[0]} x {grid[1]} cells, {step:g} pixels apart, is not "
                    f"for the canvas of {canvas[0]} x {canvas[1]}. Give the canvas that `steps` are for, or "
                    "steps=None, which spreads the cells over any."
                )

    @property
    def num_boxes(self):
        """Boxes at each place, one number for each map."""
        return [len(sides) for sides in self.sides]

    def call(self, features, images):
        """See the class docstring."""
        features = in_order(features)
        self._check_count("features", len(features), len(self.ratios))
        height, width = ops.shape(images)[1:3]
        canvas = [ops.cast(side, "float32") for side in (height, width)]
        return [self._boxes(level, ops.shape(x)[1:3], canvas) for level, x in enumerate(features)]

    def compute_output_spec(self, features, images):
        """Return one row per box, float32 under every policy."""
        features = in_order(features)
        rows = [
            None if None in x.shape[1:3] else x.shape[1] * x.shape[2] * count
            for x, count in zip(features, self.num_boxes)
        ]
        return [keras.KerasTensor((count, 4), "float32") for count in rows]

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "ratios": self.ratios,
            "scales": self.scales,
            "steps": self.steps,
            "clip": self.clip,
            "lowest": self.lowest,
            "sizes": self.sizes,
        }

    def _boxes(self, level, grid, canvas):
        """Boxes of one map; the canvas is (height, width) in pixels."""
        height, width = canvas
        sides = self.sides[level]
        sides = np.minimum(sides, 1.0) if self.clip == "sides" else sides
        half = ops.cast(sides / 2, "float32") * ops.stack([width, height])  # (n, 2)
        cell = ops.concatenate([-half, half], axis=-1)
        if self.steps is None:
            # Eq: ssd §2.2 | centre = ((i + 0.5) / |f_k|, (j + 0.5) / |f_k|)
            steps = [side / ops.cast(cells, "float32") for side, cells in zip(canvas, grid)]
        else:
            steps = [self.steps[level]] * 2
        boxes = grid_anchors(cell, grid, steps, CENTRE)
        if self.clip == "corners":
            boxes = ops.clip(boxes, 0.0, ops.stack([width, height, width, height]))
        return boxes

    def _check(self):
        self._check_count("scales", len(self.scales), len(self.ratios) + 1)
        if self.steps is not None:
            self._check_count("steps", len(self.steps), len(self.ratios))
        if self.sizes is not None:
            self._check_count("sizes", len(self.sizes), len(self.ratios))
        if self.lowest is not None and self.sizes is not None and self.sizes[0] != 1:
            raise ValueError(
                f"DefaultBoxes: `lowest` is {self.lowest}, which takes the place of two squares, but the "
                f"first map has {self.sizes[0]} sizes; give one."
            )
        if self.clip not in CLIPS:
            raise ValueError(f"DefaultBoxes: clip is {self.clip!r}; give one of {CLIPS}.")
        for name, values in (
            ("ratios", sum(self.ratios, ())),
            ("scales", self.scales),
            ("steps", self.steps or ()),
            ("sizes", self.sizes or ()),
            ("lowest", () if self.lowest is None else (self.lowest,)),
        ):
            if not all(0 < value < 1e9 for value in values):
                raise ValueError(
                    f"DefaultBoxes: `{name}` are {values!r:.80}; give positive finite numbers."
                )

    @staticmethod
    def _check_count(name, count, wanted):
        if count != wanted:
            raise ValueError(
                f"DefaultBoxes: `{name}` has {count} entries; give {wanted}, as `ratios` has one for each "
                "map (`scales` one more)."
            )


def paper_scales(levels, first=0.1, smallest=0.2, largest=0.9):
    """Return the paper's scales: one for the first map, and regular ones for the others (section 3.1).

    Args:
        levels: number of maps, at least 3.
        first: scale of the first map.
        smallest: s_min, the scale of the second map.
        largest: s_max, the scale of the last map.

    Returns:
        Tuple of `levels` + 1 numbers; the last continues the sequence.

    Raises:
        ValueError: there are fewer maps.
    """
    if levels < 3:
        raise ValueError(f"The paper's scales are for 3 maps or more, not {levels}: give `scales`.")
    regular = regular_scales(levels - 1, smallest, largest)
    return (first, *regular, 2 * regular[-1] - regular[-2])
