"""Anchors of a feature pyramid as a layer without weights."""

import keras

from kerasdet.ops.anchors import cell_anchors, grid_anchors


@keras.saving.register_keras_serializable("kerasdet")
class AnchorGenerator(keras.layers.Layer):
    """Anchors of every level of a feature pyramid.

    Args:
        sizes: for each level, the side lengths in pixels (the square root of the area).
        aspect_ratios: height / width: one tuple for all levels, or one per level.
        offset: place of the centre within its cell, in cells: 0 is its corner, 0.5 its middle.
        rounded: round the cells' corners to whole pixels (torchvision's weights need it).

    Example:
        >>> anchors = AnchorGenerator.retinanet()
        >>> p3, *_ = anchors([(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)], [(8, 8), (16, 16), ...])
        >>> p3.shape
        (576, 4)
    """

    def __init__(self, sizes, aspect_ratios, offset=0.0, rounded=False, **kwargs):
        # Coordinates stay float32 under every policy, and grid sizes and strides may be plain ints.
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False, "trainable": False})
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.sizes = tuple(tuple(float(size) for size in level) for level in sizes)
        ratios = tuple(aspect_ratios)
        if not isinstance(ratios[0], (tuple, list)):
            ratios = (ratios,) * len(self.sizes)
        self.aspect_ratios = tuple(tuple(float(ratio) for ratio in level) for level in ratios)
        if len(self.aspect_ratios) != len(self.sizes):
            raise ValueError(
                f"AnchorGenerator: `aspect_ratios` has {len(self.aspect_ratios)} levels and "
                f"`sizes` has {len(self.sizes)}; give one tuple of ratios for all levels, or one "
                "per level."
            )
        self.offset = offset
        self.rounded = rounded
        self.cells = [
            cell_anchors(level_sizes, level_ratios, rounded)
            for level_sizes, level_ratios in zip(self.sizes, self.aspect_ratios)
        ]
        self.built = True

    @classmethod
    def retinanet(
        cls,
        levels=5,
        base=32,
        scales_per_octave=3,
        aspect_ratios=(0.5, 1.0, 2.0),
        offset=0.0,
        rounded=False,
    ):
        """Anchors of RetinaNet (arXiv 1708.02002, section 4): 32^2 on P3 to 512^2 on P7.

        Args:
            levels: number of pyramid levels; each doubles the size of the one before.
            base: size in pixels on the first level.
            scales_per_octave: sizes per level: 2^0, 2^(1/3), 2^(2/3) times the level's.
            aspect_ratios: height / width.
            offset: place of the centre within its cell, in cells.
            rounded: cut sizes and round corners to whole pixels, as torchvision's weights need.
        """
        octave = [2.0 ** (i / scales_per_octave) for i in range(scales_per_octave)]
        sizes = [[base * 2**level * scale for scale in octave] for level in range(levels)]
        if rounded:
            sizes = [[int(size) for size in level] for level in sizes]
        return cls(sizes, aspect_ratios, offset=offset, rounded=rounded)

    @property
    def num_anchors(self):
        """Anchors per location: an int, or a list of them where the levels differ."""
        counts = [len(cell) for cell in self.cells]
        return counts[0] if len(set(counts)) == 1 else counts

    def call(self, grid_sizes, strides):
        """Lay the anchors over the levels.

        Args:
            grid_sizes: for each level, (height, width) of its map; ints or scalar tensors.
            strides: for each level, (sy, sx) in pixels; numbers or scalar tensors.

        Returns:
            For each level, (height * width * num_anchors, 4) xyxy float32, in the order of the
            map's rows, columns and anchors.
        """
        if not len(grid_sizes) == len(strides) == len(self.cells):
            raise ValueError(
                f"AnchorGenerator: made for {len(self.cells)} levels, called with "
                f"{len(grid_sizes)} grid sizes and {len(strides)} strides; give one per level."
            )
        return [
            grid_anchors(cell, grid_size, stride, self.offset)
            for cell, grid_size, stride in zip(self.cells, grid_sizes, strides)
        ]

    def get_config(self):
        """Every argument of the constructor."""
        return {
            **super().get_config(),
            "sizes": self.sizes,
            "aspect_ratios": self.aspect_ratios,
            "offset": self.offset,
            "rounded": self.rounded,
        }
