"""What Inception networks share: blocks of branches, written as rows, and the stem of versions 3 and 4.

A block is a tuple of branches, a branch a tuple of steps. A step is

    (name, filters, kernel size)            a convolution
    (name, filters, kernel size, stride)    the same with a stride
    ("max", stride), ("avg", stride)        a pooling of 3 x 3 cells
    [branch, branch]                        a fork, whose ends count as branches of the block; the last step

and the block's output is its branches, one behind the other. A layer's name is the block's and the step's.
"""

import keras

from kerasdet.layers.conv import ConvNorm

NORM_EPSILON = 1e-3  # of torchvision, keras.applications and TF-slim
HALF_RANGE = (127.5, 127.5, 127.5)  # pixels / 127.5 - 1
PADDINGS = ("same", "published")


class Parts:
    """The layers of one network: convolutions with batch normalisation and ReLU, poolings, blocks.

    Args:
        dtype: precision of the layers.
        valid: whether layers with a stride have no padding.
        count_padding: whether averages at the border count the padding's zeros.
    """

    def __init__(self, dtype=None, valid=False, count_padding=False):
        self.dtype = dtype
        self.valid = valid
        self.count_padding = count_padding

    def conv(self, x, name, filters, size, stride=1, padding=None):
        """Convolve (B, H, W, C); `padding` is "same" or "valid", by default as the stride demands."""
        layer = ConvNorm(
            filters,
            size,
            stride,
            activation="relu",
            norm_epsilon=NORM_EPSILON,
            padding=padding or self.padding(stride),
            dtype=self.dtype,
            name=name,
        )
        return layer(x)

    def pool(self, x, name, kind, stride):
        """Pool 3 x 3 cells of (B, H, W, C); `kind` is "max" or "avg"."""
        padding = self.padding(stride)
        if kind == "max":
            pool = keras.layers.MaxPooling2D
        else:
            pool = keras.layers.AveragePooling2D
            if self.count_padding:
                x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad", dtype=self.dtype)(x)
                padding = "valid"
        return pool(3, stride, padding=padding, name=name, dtype=self.dtype)(x)

    def padding(self, stride):
        """Return the padding of a layer with this stride."""
        return "valid" if self.valid and stride > 1 else "same"

    def block(self, x, name, rows):
        """Apply a block, as the module's docstring has it, to (B, H, W, C)."""
        ends = [end for steps in rows for end in self._branch(x, name, steps)]
        return keras.layers.Concatenate(name=f"{name}_concat", dtype=self.dtype)(ends)

    def _branch(self, x, name, steps):
        """Return the ends of a branch, one unless it forks."""
        for step in steps:
            if isinstance(step, list):
                return [end for fork in step for end in self._branch(x, name, fork)]
            kind, *numbers = step
            if kind in ("max", "avg"):
                x = self.pool(x, f"{name}_{kind}_pool", kind, *numbers)
            else:
                x = self.conv(x, f"{name}_{kind}", *numbers)
        return [x]


def names_of(name, rows):
    """List a block's convolutions, in the order in which `Parts.block` makes them.

    Args:
        name: the block's.
        rows: as in the module's docstring.
    """
    found = []
    for steps in rows:
        for step in steps:
            if isinstance(step, list):
                found += names_of(name, step)
            elif step[0] not in ("max", "avg"):
                found.append(f"{name}_{step[0]}")
    return found


def stem(x, parts, highest):
    """Build the layers up to stride 8, which Inception v3 and Inception-ResNet v2 begin with.

    Args:
        x: (B, H, W, C) images.
        parts: `Parts`.
        highest: number of the last stage to build.

    Returns:
        The map of 192 channels, and {"C1": ..., "C2": ...}, the maps before the poolings.

    Source: arXiv 1512.00567, table 1, as published with weights (the first 3x3 after a pooling is 1x1).
    """
    bare = "valid" if parts.valid else "same"
    x = parts.conv(x, "Conv2d_1a_3x3", 32, 3, 2)
    x = parts.conv(x, "Conv2d_2a_3x3", 32, 3, padding=bare)
    x = parts.conv(x, "Conv2d_2b_3x3", 64, 3)
    outputs = {"C1": x}
    x = parts.pool(x, "MaxPool_3a_3x3", "max", 2)
    x = parts.conv(x, "Conv2d_3b_1x1", 80, 1)
    x = parts.conv(x, "Conv2d_4a_3x3", 192, 3, padding=bare)
    outputs["C2"] = x
    if highest > 2:
        x = parts.pool(x, "MaxPool_5a_3x3", "max", 2)
    return x, outputs
