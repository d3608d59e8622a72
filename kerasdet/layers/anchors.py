"""Anchors of a feature pyramid as a layer without weights."""

import math

import keras
import numpy as np
from keras import ops

from kerasdet.layers.resizing import boxes_on_canvas
from kerasdet.ops.anchors import cell_anchors, grid_anchors
from kerasdet.ops.boxes import clip_boxes
from kerasdet.ops.checks import check_choice, check_positive
from kerasdet.ops.clusters import FINEST_CELLS, PAPER_STRIDES, cluster_sizes, pyramid_strides
from kerasdet.ops.gather import in_order

MOST_ANCHORS = 10_000  # of a cell
LARGEST_BASE = 4  # cells of the finest map, the smallest size at most: 32 pixels on P3


@keras.saving.register_keras_serializable("kerasdet")
class AnchorGenerator(keras.layers.Layer):
    """Anchors of every level of a feature pyramid.

    Args:
        sizes: for each level, the side lengths in pixels (the square root of the area).
        aspect_ratios: height / width: one tuple for all levels, or one per level.
        strides: for each level, pixels from one cell to the next. None: the image's size divided by the
            map's and rounded down, as for torchvision's weights (61 for P6 of 800 pixels, not 64).
        offset: position of the centre within its cell, in cells: 0 is the corner, 0.5 the middle.
        rounded: round the cells' corners to whole pixels (torchvision's weights need it).
        base: a size whose sides are rounded to whole pixels, all others being multiples of them; see
            `kerasdet.ops.anchors.cell_anchors` (the weights of Faster R-CNN's authors need 16).
        clip: whether anchors end at the canvas (TensorFlow's Object Detection API).

    Call arguments:
        features: the map (B, h, w, C) of each level, as a list or an ordered dict.
        images: (B, H, W, C).

    Returns:
        For each level, (h * w * num_anchors, 4) xyxy float32, in the order of the map's rows, columns and
        anchors.

    Raises:
        ValueError: sizes, ratios, strides or features are not of equally many levels; or a number of them
            is not finite and positive.

    Example:
        >>> anchors = AnchorGenerator([[32], [64]], [0.5, 1, 2], strides=[8, 16])
        >>> p3, p4 = anchors([ops.ones((1, 8, 8, 4)), ops.ones((1, 4, 4, 4))], ops.ones((1, 64, 64, 3)))
        >>> p3.shape, p4.shape
        ((192, 4), (48, 4))
    """

    def __init__(
        self,
        sizes,
        aspect_ratios,
        strides=None,
        offset=0.0,
        rounded=False,
        base=None,
        clip=False,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "autocast": False, "trainable": False})
        self.sizes = tuple(tuple(float(size) for size in level) for level in sizes)
        ratios = tuple(aspect_ratios)
        if not isinstance(ratios[0], (tuple, list)):
            ratios = (ratios,) * len(self.sizes)
        self.aspect_ratios = tuple(tuple(float(ratio) for ratio in level) for level in ratios)
        self.strides = None if strides is None else tuple(int(stride) for stride in strides)
        self._check_levels("aspect_ratios", len(self.aspect_ratios))
        if strides is not None:
            self._check_levels("strides", len(self.strides))
        self._check_numbers(offset)
        if base is not None:
            check_positive("base", base)
        self.offset = offset
        self.rounded = rounded
        self.base = base
        self.clip = clip
        self.cells = [
            cell_anchors(level_sizes, level_ratios, rounded, base)
            for level_sizes, level_ratios in zip(self.sizes, self.aspect_ratios)
        ]
        self.built = True

    @classmethod
    def retinanet(
        cls, base=32, aspect_ratios=(0.5, 1.0, 2.0), growth=2.0, scales=3, strides=PAPER_STRIDES
    ):
        """Return RetinaNet's anchors on P3 to P7 (arXiv 1708.02002, section 4): 32^2 to 512^2, 3 per octave.

        Args:
            base: size in pixels on the first level.
            aspect_ratios: height / width.
            growth: factor of the size from one level to the next.
            scales: sizes on each level.
            strides: of the levels.
        """
        # Eq: retinanet §4 | sizes = 32 2^l {2^0, 2^(1/3), 2^(2/3)}, l = 0..4
        sizes = [
            [base * growth ** (level + i / scales) for i in range(scales)]
            for level in range(len(strides))
        ]
        return cls(sizes, aspect_ratios, strides=strides)

    @classmethod
    def fpn(cls, base=32, aspect_ratios=(0.5, 1.0, 2.0), levels=5, growth=2.0):
        """Return a proposal network's anchors on P2 to P6 (arXiv 1612.03144, section 4.1): 32^2 to 512^2.

        Args:
            base: size in pixels on P2.
            aspect_ratios: height / width.
            levels: number of levels.
            growth: factor of the size from one level to the next.
        """
        # Eq: fpn §4.1 | areas 32^2, 64^2, 128^2, 256^2, 512^2 on P2, P3, P4, P5, P6
        return cls([[base * growth**level] for level in range(levels)], aspect_ratios)

    @classmethod
    def fitted(cls, boxes, layout=None, finest=4):
        """Return a paper's anchors, fitted to the sizes and shapes of a data set's objects.

        The smallest size is the 5th percentile of the objects' sizes, at least 4 pixels and at most the
        papers', 32 (RetinaNet on P2: 16), so that large objects do not crowd on the finest level. The three
        aspect ratios are their 5th, 50th and 95th percentiles. Sizes double with each level, or grow
        faster if the levels would not reach the 95th percentile of the sizes. Anchors that fit their
        objects leave less to regress, and small objects are matched at all.

        RetinaNet's levels begin with P2 where objects are small (`kerasdet.ops.clusters.pyramid_strides`).
        The finest has all sizes below eight of its cells, as a coarser map sees too little of a small
        object, and at least two in each octave.

        Args:
            boxes: (N, 4) xyxy, in pixels of the canvas that the detector will see.
            layout: function of the smallest size, the ratios and `growth=`; default RetinaNet's.
            finest: stride of the backbone's finest map; P2 needs 4.

        Raises:
            ValueError: no box has an area.
        """
        boxes = np.asarray(boxes, "float64").reshape(-1, 4)
        widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
        usable = (widths > 0) & (heights > 0)
        if not usable.any():
            raise ValueError(f"none of the {len(boxes)} boxes has an area to fit anchors to.")
        widths, heights = widths[usable], heights[usable]
        smallest, largest = np.percentile(np.sqrt(widths * heights), [5, 95])
        base = max(4.0, round(smallest, 1))
        strides = (
            PAPER_STRIDES if layout else pyramid_strides(np.stack([widths, heights], -1), finest)
        )
        base = min(base, LARGEST_BASE * float(strides[0]))
        growth = max(2.0, round((largest / base) ** (1 / (len(strides) - 1)), 2))
        ratios = [round(ratio, 2) for ratio in np.percentile(heights / widths, [5, 50, 95])]
        if layout:
            return layout(base, ratios, growth=growth)
        growth = max(growth, round(FINEST_CELLS * strides[0] / base, 2))
        scales = max(3, round(2 * math.log2(growth)))
        return cls.retinanet(base, ratios, growth, scales, strides)

    @classmethod
    def for_data(cls, kind, data, resize=None, layout=None, finest=4):
        """Return the anchors that an option of `for_data` names.

        Args:
            kind: "fitted" to the data's objects on the canvas, or "paper", for which None is returned.
            data: `Dataset`; at most 1000 of its images are read.
            resize: `Resize` part for its images; None: they keep their size.
            layout: as in `fitted`.
            finest: as in `fitted`.

        Raises:
            ValueError: another kind, or no box has an area.
        """
        check_choice("anchors", kind, ("fitted", "paper"))
        if kind == "paper":
            return None
        return cls.fitted(boxes_on_canvas(data, resize), layout, finest)

    @property
    def num_anchors(self):
        """Anchors per location: an int, or a list of them where the levels differ."""
        counts = [len(cell) for cell in self.cells]
        return counts[0] if len(set(counts)) == 1 else counts

    def call(self, features, images):
        """See the class docstring."""
        features = in_order(features)
        self._check_levels("features", len(features))
        grids = [ops.shape(level)[1:3] for level in features]
        canvas = ops.shape(images)[1:3]
        strides = (
            [[side // count for side, count in zip(canvas, grid)] for grid in grids]
            if self.strides is None
            else [(stride, stride) for stride in self.strides]
        )
        anchors = [
            grid_anchors(cell, grid, stride, self.offset)
            for cell, grid, stride in zip(self.cells, grids, strides)
        ]
        if not self.clip:
            return anchors
        size = ops.stack([ops.cast(side, "float32") for side in canvas])
        return [clip_boxes(level, size) for level in anchors]

    def compute_output_spec(self, features, images):
        """Return one row per anchor, float32 under every policy."""
        features = in_order(features)
        rows = [
            None if None in level.shape[1:3] else level.shape[1] * level.shape[2] * len(cell)
            for level, cell in zip(features, self.cells)
        ]
        return [keras.KerasTensor((count, 4), "float32") for count in rows]

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "sizes": self.sizes,
            "aspect_ratios": self.aspect_ratios,
            "strides": self.strides,
            "offset": self.offset,
            "rounded": self.rounded,
            "base": self.base,
            "clip": self.clip,
        }

    def _check_numbers(self, offset):
        if not math.isfinite(offset):
            raise ValueError(f"AnchorGenerator: `offset` is {offset!r}; give a finite number.")
        for sizes, ratios in zip(self.sizes, self.aspect_ratios):
            if not 1 <= len(sizes) * len(ratios) <= MOST_ANCHORS:
                raise ValueError(
                    f"AnchorGenerator: {len(sizes)} `sizes` with {len(ratios)} `aspect_ratios` on a level; "
                    f"give 1 to {MOST_ANCHORS} anchors."
                )
            for name, values in (("sizes", sizes), ("aspect_ratios", ratios)):
                if not all(0 < value < 1e9 for value in values):
                    raise ValueError(
                        f"AnchorGenerator: `{name}` are {values!r:.80}; give positive finite numbers."
                    )
        if self.strides and min(self.strides) < 1:
            raise ValueError(
                f"AnchorGenerator: `strides` are {self.strides}; give positive pixels."
            )

    def _check_levels(self, name, count):
        if count != len(self.sizes):
            raise ValueError(
                f"AnchorGenerator: `{name}` has {count} levels and `sizes` has {len(self.sizes)}; "
                "give one entry per level."
            )


def clustered_anchors(data, count, resize=None, seed=0):
    """Cluster the sizes of a data set's objects; see `kerasdet.ops.clusters.cluster_sizes`.

    Args:
        data: `Dataset`; at most 1000 of its images are read.
        count: number of anchors.
        resize: `Resize` part for its images; None: they keep their size.
        seed: of the first centroids.

    Returns:
        (count, 2) widths and heights in pixels of the canvas, by area; the objects' mean IoU with the
        nearest of them; the number of objects.

    Raises:
        ValueError: the objects have fewer than `count` different sizes.
    """
    boxes = boxes_on_canvas(data, resize)
    return *cluster_sizes(boxes[:, 2:] - boxes[:, :2], count, seed), len(boxes)
