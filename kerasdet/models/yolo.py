"""YOLO: one look at the image gives a grid of cells, the boxes of each cell and the class that it sees.

    Redmon, Divvala, Girshick, Farhadi. You Only Look Once: Unified, Real-Time Object Detection. CVPR 2016.
    arXiv 1506.02640v5.

Reading order: `YOLO.call` (section 2.1: the network), `YOLO.boxes` (section 2: what the numbers mean),
`YOLO.loss_terms` (equation 3), `YOLO.decode` (equation 1). The backbones are in
`kerasdet.backbones.darknet`, the head is `kerasdet.layers.GridHead`. The classifier that comes first is
`ImageClassifier(YOLO20Convs())` on images of 224 pixels; `YOLO(K, classifier.backbone)` takes 448.

Departures from the paper:
    - The network predicts the square roots of width and height, as in the authors' configuration
      (`sqrt=1`); the paper has them in the loss (equation 3).
    - Where no box of a cell overlaps its object, the box nearest to it in position and size is responsible,
      as in the authors' code, which measures in shares of the image, not in cells and square roots.
    - Of several objects in a cell, the largest is learnt; the authors' code takes one at random.
    - Two negative numbers, a class and a confidence, have a positive product, as in the authors' code.
    - Batch normalisation is an option, as in the authors' later configurations: training from scratch needs
      it.

Results: boxes and scores of the original Darknet, for configuration files and weights of Darknet
(`kerasdet.zoo.load_darknet`, `tests/golden/make_darknet.py`). The paper's VOC figures are not reproduced.

Axes: B batch, S cells of a side, N boxes of a cell, G ground truth, K classes, D detections.
"""

import keras
from keras import ops

from kerasdet.backbones import MobileNetV2, YOLO20Convs
from kerasdet.layers.grid_head import GridHead
from kerasdet.layers.resizing import Stretch
from kerasdet.models.base import build_once, norm_option
from kerasdet.models.detector import Detector, data_arguments, one_canvas
from kerasdet.ops.boxes import (
    box_area,
    cxcywh_to_xyxy,
    paired_iou,
    valid_mask,
    xyxy_to_cxcywh,
)
from kerasdet.ops.candidates import best_pairs
from kerasdet.ops.cells import cells_of, owners
from kerasdet.ops.checks import check_whole
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.matching import in_ignored

GRID = 7  # section 2: S
BOXES = 2  # B
COORDINATE_WEIGHT = 5.0  # section 2.2: lambda_coord
BACKGROUND_WEIGHT = 0.5  # lambda_noobj
IMAGE_SIZE = 448  # section 2.2
CANDIDATES = 1000
OUTPUT_STD = 0.001  # of the last layer's weights at the start; wider, the first outputs are noise


@keras.saving.register_keras_serializable("kerasdet")
class YOLO(Detector):
    """A one-stage detector that regresses a fixed number of boxes from the whole image (arXiv 1506.02640).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model, whose last level is used; default `YOLO20Convs()`.
        head: default `GridHead()`: four convolutions and a dense layer of 4096 units.
        grid: S, cells along each side of the image.
        boxes_per_cell: N.
        **detector: `resize` must have one canvas, since the dense layers take one size; default
            `Stretch(448)`. `class_names`, `category_ids`, `score_threshold`, `iou_threshold`,
            `max_detections`, `name`: see `Detector`.

    Example:
        >>> model = YOLO.for_data(data, resize=Stretch(256))
        >>> model.compile(keras.optimizers.AdamW(1e-3))
        >>> model.fit(data.batches(8, resize=model.resize))
        >>> model.detect("image.jpg")[0]["boxes"]

    Raises:
        ValueError: an argument is out of its range, or images of different sizes have different canvases; in
            a call, images of another canvas, where sizes are known before the call is computed.
    """

    LOSS_TERMS = ("centre_loss", "size_loss", "object_loss", "background_loss", "class_loss")

    def __init__(
        self, num_classes, backbone=None, head=None, grid=GRID, boxes_per_cell=BOXES, **detector
    ):
        detector["resize"] = detector.get("resize") or Stretch(IMAGE_SIZE)
        super().__init__(
            num_classes, backbone=backbone or YOLO20Convs(dtype=detector.get("dtype")), **detector
        )
        check_whole("grid", grid, most=1000)
        check_whole("boxes_per_cell", boxes_per_cell, most=100)
        self.head = head or GridHead(dtype=self.dtype_policy, name="head")
        self.level = self.backbone.levels[-1]
        self.grid = int(grid)
        self.boxes_per_cell = int(boxes_per_cell)
        self.canvas = one_canvas(self.resize, "YOLO's dense layers take one size")
        self.output_dense = keras.layers.Dense(
            # Eq: yolo §2 | S x S x (B 5 + C) numbers
            self.grid**2 * (self.boxes_per_cell * 5 + self.num_classes),
            kernel_initializer=keras.initializers.RandomNormal(0, OUTPUT_STD),
            dtype="float32",
            name="output_dense",
        )
        self.build()

    @classmethod
    def for_data(
        cls,
        data,
        resize=None,
        backbone=None,
        channels=96,
        units=768,
        dropout=0.2,
        norm="batch",
        grid=12,
        boxes_per_cell=2,
        **detector,
    ):
        """Build a model for a data set.

        Args:
            data: `Dataset`, for its classes.
            resize: `Resize` part of the model, of one canvas.
            backbone: default MobileNetV2.
            channels: channels of the head's convolution.
            units: units of its hidden dense layer; 0: none.
            dropout: share of these units that is dropped in training.
            norm: "batch" (for training from scratch) or "none", for the head's convolution.
            grid: cells along each side; the paper has 7. A cell finds one class.
            boxes_per_cell: boxes of a cell.
            **detector: further arguments of the constructor.

        Raises:
            ValueError: an argument is out of its range.
        """
        norm = norm_option(norm)
        return cls(
            backbone=(backbone or MobileNetV2()).with_levels(("C5",)),
            head=GridHead(
                ((channels, 3),), (units,) if units else (), dropout=dropout, norm=norm, name="head"
            ),
            grid=grid,
            boxes_per_cell=boxes_per_cell,
            resize=resize,
            **{**data_arguments(data), **detector},
        )

    def build(self, input_shape=None):
        """Create every weight."""
        images = (None, *self.canvas, len(self.mean))
        build_once(self.head, self.backbone.compute_output_shape(images)[self.level])
        build_once(self.output_dense, self.head.compute_output_shape((None,)))
        self.built = True

    def call(self, inputs, training=False):
        """Compute the raw outputs.

        Returns:
            {"classes": (B, S * S, K), "confidence": (B, S * S, N), "locations": (B, S * S, N, 4): the centre
            from the cell's corner, in cells, and the square roots of width and height, in canvases;
            "image_sizes": (B, 2)}.
        """
        images, image_sizes = self.normalize(inputs)
        if any(side not in (None, own) for side, own in zip(images.shape[1:3], self.canvas)):
            raise ValueError(
                f"images are {tuple(images.shape[1:3])}, but the model was built for a canvas of "
                f"{self.canvas}; give data.batches(..., resize=model.resize)."
            )
        features = self.backbone(images, training=training)[self.level]
        numbers = self.output_dense(self.head(features, training=training))
        cells, boxes, classes = self.grid**2, self.boxes_per_cell, self.num_classes
        first, second = cells * classes, cells * (classes + boxes)
        return {
            "classes": ops.reshape(numbers[:, :first], (-1, cells, classes)),
            "confidence": ops.reshape(numbers[:, first:second], (-1, cells, boxes)),
            "locations": ops.reshape(numbers[:, second:], (-1, cells, boxes, 4)),
            "image_sizes": image_sizes,
        }

    def corners(self):
        """Return the top left corner of each cell, (S * S, 1, 2) x and y, in cells."""
        places = ops.arange(self.grid**2)
        corners = ops.stack([places % self.grid, places // self.grid], axis=-1)
        return ops.cast(corners, "float32")[:, None]

    def boxes(self, locations):
        """Return the predicted boxes.

        Args:
            locations: (B, S * S, N, 4), see `call`.

        Returns:
            (B, S * S, N, 4) xyxy on the canvas.
        """
        canvas = ops.array(self.canvas[::-1], "float32")
        # Eq: yolo §2 | (x, y) relative to the cell, (w, h) relative to the image
        centres = (locations[..., :2] + self.corners()) / self.grid * canvas
        sizes = locations[..., 2:] ** 2 * canvas
        return cxcywh_to_xyxy(ops.concatenate([centres, sizes], axis=-1))

    def loss_terms(self, outputs, targets, training=False):
        """Compute the five sums of squared errors of equation 3, per image."""
        learnt = valid_mask(targets["labels"]) & ~targets["ignore"]  # (B, G)
        cells = cells_of(targets["boxes"], (self.grid, self.grid), self.canvas)
        priority = ops.where(learnt, box_area(targets["boxes"]), 0.0)
        owner = owners(cells, priority, self.grid**2)  # (B, S S)
        present = owner >= 0
        own = gather_rows(targets["boxes"], owner)[:, :, None]  # (B, S S, 1, 4)
        boxes = self.boxes(outputs["locations"])  # (B, S S, N, 4)
        truth = self.encode(ops.where(present[..., None, None], own, 0.0))  # (B, S S, 1, 4)
        iou = ops.stop_gradient(paired_iou(own, boxes))  # (B, S S, N)
        responsible = self.responsible(iou, truth, outputs["locations"]) & present[..., None]
        background = ~responsible & ~self.is_ignored(boxes, targets)

        # Eq: yolo 3 | lambda_coord sum 1_ij^obj [(x - x')^2 + (y - y')^2 + (sqrt w - sqrt w')^2 + ...]
        errors = COORDINATE_WEIGHT * (truth - outputs["locations"]) ** 2  # (B, S S, N, 4)
        # Eq: yolo 3 | sum 1_ij^obj (C - C')^2, C' = IoU, and lambda_noobj sum 1_ij^noobj (C - 0)^2
        object_errors = (iou - outputs["confidence"]) ** 2
        background_errors = BACKGROUND_WEIGHT * outputs["confidence"] ** 2
        # Eq: yolo 3 | sum_i 1_i^obj sum_c (p_i(c) - p_i'(c))^2
        labels = ops.where(present, gather_rows(targets["labels"], owner), -1)
        class_errors = (ops.one_hot(labels, self.num_classes) - outputs["classes"]) ** 2
        sums = {
            "centre_loss": ops.where(responsible[..., None], errors[..., :2], 0.0),
            "size_loss": ops.where(responsible[..., None], errors[..., 2:], 0.0),
            "object_loss": ops.where(responsible, object_errors, 0.0),
            "background_loss": ops.where(background, background_errors, 0.0),
            "class_loss": ops.where(present[..., None], class_errors, 0.0),
        }
        images = ops.cast(ops.shape(owner)[0], "float32")
        return {name: (ops.sum(value), images) for name, value in sums.items()}

    def encode(self, boxes):
        """Express boxes relative to their cells, as the network predicts them.

        Args:
            boxes: (B, S * S, N, 4) xyxy.

        Returns:
            (B, S * S, N, 4), as "locations" of `call`.
        """
        canvas = ops.array(self.canvas[::-1], "float32")
        cxcywh = xyxy_to_cxcywh(boxes)
        centres = cxcywh[..., :2] / canvas * self.grid - self.corners()
        return ops.concatenate([centres, ops.sqrt(cxcywh[..., 2:] / canvas)], axis=-1)

    def responsible(self, iou, truth, locations):
        """Choose the box of each cell that predicts its object (section 2).

        Args:
            iou: (B, S * S, N), of the predicted boxes with the cell's object.
            truth: (B, S * S, 1, 4), the object as the network predicts it.
            locations: (B, S * S, N, 4), predicted.

        Returns:
            (B, S * S, N) bool, one True in each row.
        """
        # Eq: yolo §2 | the predictor with the highest current IoU with the ground truth is responsible
        distance = ops.sum((truth - locations) ** 2, axis=-1)
        overlaps = ops.max(iou, axis=-1, keepdims=True) > 0
        best = ops.argmax(ops.where(overlaps, iou, -distance), axis=-1)
        return ops.cast(ops.one_hot(best, self.boxes_per_cell), "bool")

    def is_ignored(self, boxes, targets):
        """Tell which boxes (B, S * S, N) lie in an object that is ignored."""
        flat = ops.reshape(boxes, (-1, self.grid**2 * self.boxes_per_cell, 4))
        ignored = in_ignored(flat, targets["boxes"], targets["ignore"])
        return ops.reshape(ignored, (-1, self.grid**2, self.boxes_per_cell))

    def decode(self, outputs):
        """Multiply the classes' probabilities by the confidence, and suppress whole boxes, as Darknet."""
        # Eq: yolo 1 | Pr(Class_i | Object) Pr(Object) IoU = Pr(Class_i) IoU
        scores = outputs["classes"][:, :, None] * outputs["confidence"][..., None]
        count = self.grid**2 * self.boxes_per_cell
        scores = ops.reshape(scores, (-1, count, self.num_classes))
        boxes = ops.reshape(self.boxes(outputs["locations"]), (-1, count, 4))
        rows, labels, scores = best_pairs(scores, self.room_for(CANDIDATES))
        return self.suppress_whole(gather_rows(boxes, rows), labels, scores, outputs["image_sizes"])
