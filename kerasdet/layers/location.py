"""How anchors learn and predict boxes: matching, box encoding and location loss, as parts.

    Huang et al. Speed/accuracy trade-offs for modern convolutional object detectors. CVPR 2017.
    arXiv 1611.10012v3, sections 3.2.1 to 3.2.3 and table 1.

SSD and the proposal network of Faster R-CNN and R-FCN take a `Location`.
"""

import keras
from keras import ops

from kerasdet.layers.losses import CoordinateLoss, SmoothL1
from kerasdet.ops import coders, matching
from kerasdet.ops.checks import check_part, check_positive


class LocationPart:
    """Base of the parts of a `Location`. Abstract."""

    def get_config(self):
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Rebuild the part from `get_config`."""
        return cls(**config)


class Matching(LocationPart):
    """Base of the rules by which anchors have objects. Abstract."""

    def assign(self, targets, anchors):
        """Return the object that each anchor learns.

        Args:
            targets: prepared targets.
            anchors: (A, 4) or (B, A, 4) xyxy.

        Returns:
            (B, A) int32: the object's row, `BACKGROUND` (-1) or `BETWEEN` (-2), which takes no part.
        """
        raise NotImplementedError


@keras.saving.register_keras_serializable("kerasdet")
class Argmax(Matching):
    """An anchor has the object that it overlaps most, unless the IoU is too low (section 3.2.1).

    Args:
        low: IoU below which an anchor is background.
        high: IoU from which it has an object; between the two it takes no part.
        one_to_one: whether each object first has one anchor of its own (SSD), whatever their IoU. Otherwise
            all anchors that reach an object's highest IoU have an object (Faster R-CNN).
    """

    def __init__(self, low=0.5, high=0.5, one_to_one=False):
        if not 0 <= low <= high <= 1:
            raise ValueError(f"low and high are {low} and {high}; give 0 <= low <= high <= 1.")
        self.low = low
        self.high = high
        self.one_to_one = one_to_one

    def assign(self, targets, anchors):
        """See `Matching.assign`."""
        if self.one_to_one:
            return matching.assign_one_to_one(targets, anchors, self.high, self.low)
        return matching.assign(targets, anchors, self.low, self.high)

    def get_config(self):
        """Return the constructor's arguments."""
        return {"low": self.low, "high": self.high, "one_to_one": self.one_to_one}


@keras.saving.register_keras_serializable("kerasdet")
class Bipartite(Matching):
    """Each object has one anchor, by descending IoU; all others are background (MultiBox)."""

    def assign(self, targets, anchors):
        """See `Matching.assign`."""
        return matching.assign_bipartite(targets, anchors)


@keras.saving.register_keras_serializable("kerasdet")
class BoxCenter(Matching):
    """An anchor has the object whose centre lies in it (YOLO, whose anchors are cells)."""

    def assign(self, targets, anchors):
        """See `Matching.assign`."""
        return matching.assign_by_centre(targets, anchors)


class Encoding(LocationPart):
    """Base of the numbers by which an anchor predicts a box. Abstract."""

    def encode(self, boxes, anchors):
        """Return the four numbers of each box: (..., 4) xyxy, (..., 4) xyxy -> (..., 4) float32."""
        raise NotImplementedError

    def decode(self, numbers, anchors):
        """Return the boxes, as the inverse of `encode`: (..., 4), (..., 4) xyxy -> (..., 4) xyxy float32."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("kerasdet")
class AnchorDeltas(Encoding):
    """The R-CNN family's: centre in sides of the anchor, logarithms of the sides.

    Args:
        weights: factors of x, y, w and h.
    """

    def __init__(self, weights=(10.0, 10.0, 5.0, 5.0)):
        self.weights = tuple(float(weight) for weight in weights)
        if len(self.weights) != 4 or not min(self.weights) > 0:
            raise ValueError(f"weights are {weights!r:.80}; give four positive numbers.")

    def encode(self, boxes, anchors):
        """See `Encoding.encode`."""
        # Eq: tradeoffs §3.2.2 | phi(b; a) = [10 x_c / w_a, 10 y_c / h_a, 5 log w, 5 log h]
        return coders.encode_deltas(boxes, anchors, self.weights)

    def decode(self, numbers, anchors):
        """See `Encoding.decode`."""
        return coders.decode_deltas(numbers, anchors, self.weights)

    def get_config(self):
        """Return the constructor's arguments."""
        return {"weights": self.weights}


class InUnits(Encoding):
    """Base of the encodings whose lengths do not depend on the anchor's sides. Abstract.

    Args:
        unit: pixels that count as 1. The paper names none.
    """

    def __init__(self, unit=10.0):
        check_positive("unit", unit)
        self.unit = unit

    def get_config(self):
        """Return the constructor's arguments."""
        return {"unit": self.unit}


@keras.saving.register_keras_serializable("kerasdet")
class Corners(InUnits):
    """MultiBox's: the corners, as distances from the anchor's.

    Args:
        unit: pixels that count as 1. The paper names none.
    """

    def encode(self, boxes, anchors):
        """See `Encoding.encode`."""
        return coders.encode_corners(boxes, anchors, self.unit)

    def decode(self, numbers, anchors):
        """See `Encoding.decode`."""
        return coders.decode_corners(numbers, anchors, self.unit)


@keras.saving.register_keras_serializable("kerasdet")
class CenterRoots(InUnits):
    """YOLO's: the centre and the square roots of the sides, less the anchor's.

    Args:
        unit: pixels that count as 1. The paper names none.
    """

    def encode(self, boxes, anchors):
        """See `Encoding.encode`."""
        return coders.encode_roots(boxes, anchors, self.unit)

    def decode(self, numbers, anchors):
        """See `Encoding.decode`."""
        return coders.decode_roots(numbers, anchors, self.unit)


@keras.saving.register_keras_serializable("kerasdet")
class Location(LocationPart):
    """How anchors learn and predict boxes (arXiv 1611.10012, section 3.2).

    Args:
        matching: `Argmax()` (default), `Bipartite()` or `BoxCenter()`.
        encoding: `AnchorDeltas()` (default), `Corners()` or `CenterRoots()`.
        loss: `SmoothL1()` (default), `SquaredError()`, or another loss of single numbers.

    Example:
        >>> SSD(3, location=Location(Bipartite(), Corners(), SquaredError()))  # MultiBox's

    Raises:
        ValueError: an argument is another part.
    """

    def __init__(self, matching=None, encoding=None, loss=None):
        self.matching = matching or Argmax()
        self.encoding = encoding or AnchorDeltas()
        self.loss = loss or SmoothL1()
        check_part("matching", self.matching, Matching)
        check_part("encoding", self.encoding, Encoding)
        check_part("loss", self.loss, CoordinateLoss)

    def assign(self, targets, anchors):
        """Return the object that each anchor learns; see `Matching.assign`."""
        return self.matching.assign(targets, anchors)

    def losses(self, boxes, numbers, anchors):
        """Sum the loss over the four numbers of each anchor.

        Args:
            boxes: (B, A, 4) xyxy, the object of each anchor.
            numbers: (B, A, 4), predicted.
            anchors: (A, 4) or (B, A, 4) xyxy.

        Returns:
            (B, A) float32.
        """
        # Eq: tradeoffs 1 | L_loc = l_loc(phi(b_a; a) - f_loc(I; a, theta))
        return ops.sum(self.loss.call(self.encoding.encode(boxes, anchors), numbers), axis=-1)

    def decode(self, numbers, anchors):
        """Return the predicted boxes; see `Encoding.decode`."""
        return self.encoding.decode(numbers, anchors)

    def get_config(self):
        """Return the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {name: serialize(getattr(self, name)) for name in ("matching", "encoding", "loss")}

    @classmethod
    def from_config(cls, config):
        """Rebuild the part and its parts."""
        deserialize = keras.saving.deserialize_keras_object
        return cls(**{name: deserialize(part) for name, part in config.items()})
