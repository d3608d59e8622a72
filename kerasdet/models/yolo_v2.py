"""YOLOv2: the centre of an object chooses a cell, its shape one of five anchors that are clustered from data.

    Redmon, Farhadi. YOLO9000: Better, Faster, Stronger. CVPR 2017. arXiv 1612.08242v1.

Reading order: `YOLOv2.call` (section 2: anchors, passthrough; section 3: Darknet-19), `YOLOv2.loss_terms`
(the objective), `YOLOv2.decode`. Direct location prediction is
`kerasdet.ops.coders.decode_locations`, dimension clusters are `kerasdet.ops.clusters.cluster_sizes`
(`kerasdet anchors`), the head is `kerasdet.layers.PassthroughHead`. Multi-scale training is
`data.batches(resize=[...], resize_every=10)`.

Departures from the paper:
    - The joint training on classification data and the word tree (section 4) are not here.
    - The paper gives no loss. It is that of Darknet's region layer, with its scales: squared errors of
      sigma(t_x), sigma(t_y), t_w and t_h, of the objectness against the IoU, and of background below an IoU
      of 0.6; the cross entropy of a softmax over the classes. Smaller objects weigh more, by 2 - w h.
    - Darknet draws all boxes to their anchors during the first 12 800 images. Here they begin there, because
      the last layer begins near zero.
    - Objectness begins at one percent everywhere, as in RetinaNet; from one half, background would fill the
      first hundreds of steps.
    - Of several objects with one cell and anchor, the one whose shape fits the anchor best is learnt; Darknet
      learns one of them at random.
    - A convolution of 1 x 1 with 64 channels comes before the passthrough, as in the authors' configuration.
      Adjacent cells are stacked as the paper says; Darknet's own order is `order="darknet"`.

Results: boxes and scores of the original Darknet and of OpenCV, for configuration files and weights of
Darknet (`kerasdet.zoo.load_darknet`, `tests/golden/make_darknet.py`), on photographs too. The paper's VOC
and COCO figures are not reproduced.

Axes: B batch, A anchors of all cells, N anchors of a cell, G ground truth, K classes, D detections.
"""

import math

import keras
from keras import ops

from kerasdet.backbones import Darknet19, MobileNetV2
from kerasdet.layers.conv import Conv
from kerasdet.layers.passthrough import PassthroughHead
from kerasdet.layers.resizing import boxes_on_canvas
from kerasdet.models.base import build_once
from kerasdet.models.detector import Detector, data_arguments
from kerasdet.ops.anchors import grid_anchors
from kerasdet.ops.boxes import box_area, box_iou, paired_iou, valid_mask
from kerasdet.ops.candidates import best_pairs, rows_of_places
from kerasdet.ops.cells import cells_of, owners
from kerasdet.ops.checks import check_whole
from kerasdet.ops.clusters import cluster_sizes, different_sizes, finest_stride
from kerasdet.ops.coders import decode_locations, encode_locations
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.matching import in_ignored

# Width and height in pixels of the authors' clusters of VOC: yolov2-voc.cfg, in cells of 32 pixels.
VOC_ANCHORS = tuple(
    (32 * width, 32 * height)
    for width, height in (
        *((1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892)),
        *((9.47112, 4.84053), (11.2364, 10.0071)),
    )
)
# Source: region layer of the authors' configuration.
COORDINATE_SCALE = 1.0
OBJECT_SCALE = 5.0
NO_OBJECT_SCALE = 1.0
CLASS_SCALE = 1.0
NO_OBJECT_IOU = 0.6  # a box that overlaps an object more is not background
CANDIDATES = 1000
OUTPUT_STD = 0.01
PRIOR = 0.01  # objectness at the start
MOST_ANCHORS = 100  # of a cell


@keras.saving.register_keras_serializable("kerasdet")
class YOLOv2(Detector):
    """A one-stage detector: each cell predicts boxes around its anchors (arXiv 1612.08242).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model; default `Darknet19()`.
        head: default `PassthroughHead()`, whose last level is the map of cells; for tiny YOLOv2
            `PassthroughHead(1024, depth=1, passthrough=0)`.
        anchors: (width, height) of each anchor of a cell, in pixels; default those of VOC.
        **detector: `class_names`, `category_ids`, `resize`, `score_threshold`, `iou_threshold`,
            `max_detections`, `name`: see `Detector`.

    Example:
        >>> anchors, mean_iou, _ = clustered_anchors(data, 5, Letterbox(416))
        >>> model = YOLOv2(3, anchors=anchors, resize=Letterbox(416))
        >>> model.compile(keras.optimizers.AdamW(1e-3))
        >>> scales = [Letterbox(side) for side in range(320, 609, 32)]
        >>> model.fit(data.batches(8, resize=scales, resize_every=10))
        >>> model.detect("image.jpg")[0]["boxes"]

    Raises:
        ValueError: an argument is out of its range.
    """

    LOSS_TERMS = ("box_loss", "object_loss", "background_loss", "class_loss")
    TRANSFERRED = ("backbone", "head")

    def __init__(self, num_classes, backbone=None, head=None, anchors=VOC_ANCHORS, **detector):
        super().__init__(
            num_classes, backbone=backbone or Darknet19(dtype=detector.get("dtype")), **detector
        )
        self.head = head or PassthroughHead(dtype=self.dtype_policy, name="head")
        self.anchors = _checked_anchors(anchors)
        level = self.head.levels[-1]
        missing = [name for name in self.head.levels if name not in self.backbone.strides]
        if missing:
            raise ValueError(
                f"head.levels are {self.head.levels}, but the backbone returns {self.backbone.levels}: give "
                "a head for levels of the backbone, or a backbone with these levels."
            )
        self.stride = self.backbone.strides[level]
        self.output_conv = Conv(
            len(self.anchors) * (5 + self.num_classes),
            1,
            kernel_initializer=keras.initializers.RandomNormal(0, OUTPUT_STD),
            bias_initializer=keras.initializers.Constant(self.first_biases()),
            dtype="float32",
            name="output_conv",
        )
        self.build()

    @classmethod
    def for_data(
        cls,
        data,
        resize=None,
        backbone=None,
        channels=128,
        depth=3,
        passthrough=32,
        stride=None,
        anchors=5,
        **detector,
    ):
        """Build a model for a data set.

        Args:
            data: `Dataset`, for its classes and the sizes of its objects.
            resize: `Resize` part of the model.
            backbone: default MobileNetV2.
            channels: channels of the head.
            depth: 3x3 convolutions of the head.
            passthrough: channels of the finer map before it is stacked; 0: no finer map.
            stride: pixels per cell, 8, 16 or 32 (the paper's). Default 16, or 8 where anchors are clustered,
                the backbone has "C2" and objects are small (`kerasdet.ops.clusters.finest_stride`).
            anchors: anchors of a cell, clustered from the data's objects, at most as many as these have
                sizes; 0: those of VOC.
            **detector: further arguments of the constructor.

        Raises:
            ValueError: an argument is out of its range.
        """
        check_whole("anchors", anchors, least=0, most=MOST_ANCHORS)
        backbone = backbone or MobileNetV2()
        sizes = VOC_ANCHORS
        if anchors:
            boxes = boxes_on_canvas(data, resize)
            objects = boxes[:, 2:] - boxes[:, :2]
            sizes, _ = cluster_sizes(objects, min(anchors, max(1, different_sizes(objects))))
            if stride is None and finest_stride(objects) == 4 and "C2" in backbone.strides:
                stride = 8
        stride = 16 if stride is None else stride
        if stride not in (8, 16, 32):
            raise ValueError(f"stride is {stride!r}; give 8, 16 or 32 pixels per cell.")
        number = {8: 3, 16: 4, 32: 5}[stride]
        levels = (f"C{number - 1}", f"C{number}") if passthrough else (f"C{number}",)
        return cls(
            backbone=backbone.with_levels(levels),
            head=PassthroughHead(channels, depth, passthrough, levels, name="head"),
            anchors=sizes,
            resize=resize,
            **{**data_arguments(data), **detector},
        )

    def build(self, input_shape=None):
        """Create every weight."""
        channels = self.backbone.channels.items()
        maps = {level: (None, None, None, width) for level, width in channels}
        build_once(self.head, maps)
        build_once(self.output_conv, self.head.compute_output_shape(maps))
        self.built = True

    def call(self, inputs, training=False):
        """Compute the raw outputs.

        Returns:
            {"locations": (B, A, 4) t_x, t_y, t_w, t_h, "confidence": (B, A) t_o, "logits": (B, A, K),
            "anchors": (A, 4) xyxy in the middle of their cells, "grid": (2,) rows and columns of cells,
            "image_sizes": (B, 2)}, by rows, columns and anchors.
        """
        images, image_sizes = self.normalize(inputs)
        x = self.head(self.backbone(images, training=training), training=training)
        grid = ops.shape(x)[1:3]
        rows = rows_of_places(self.output_conv(x), 5 + self.num_classes)
        return {
            "locations": rows[..., :4],
            "confidence": rows[..., 4],
            "logits": rows[..., 5:],
            "anchors": grid_anchors(self.cell_anchors(), grid, [self.stride] * 2, offset=0.5),
            "grid": ops.stack([ops.cast(side, "int32") for side in grid]),
            "image_sizes": image_sizes,
        }

    def first_biases(self):
        """Return the last layer's biases at the start: only t_o has any, `PRIOR` as a logit."""
        row = [0.0] * 4 + [math.log(PRIOR / (1 - PRIOR))] + [0.0] * self.num_classes
        return row * len(self.anchors)

    def cell_anchors(self):
        """Return the anchors around the origin, (N, 4) xyxy."""
        return ops.array([[-w / 2, -h / 2, w / 2, h / 2] for w, h in self.anchors], "float32")

    def loss_terms(self, outputs, targets, training=False):
        """Compute the losses of the objects' anchors and of background, per image."""
        objects, anchors = targets["boxes"], outputs["anchors"]
        boxes = decode_locations(outputs["locations"], anchors, self.stride)  # (B, A, 4)
        learnt = valid_mask(targets["labels"]) & ~targets["ignore"]  # (B, G)
        count = ops.shape(outputs["locations"])[1]
        owner = self.assign(objects, learnt, outputs["grid"], count)  # (B, A)
        positive = owner >= 0
        # A placeholder box for anchors without an object keeps logarithms, and gradients, finite.
        own = ops.where(positive[..., None], gather_rows(objects, owner), anchors)  # (B, A, 4)

        confidence = ops.sigmoid(outputs["confidence"])  # (B, A)
        # Eq: yolo_v2 §2 | Pr(object) IoU(b, object) = sigma(t_o)
        target = ops.stop_gradient(paired_iou(own, boxes))
        overlap = ops.where(learnt[..., None], box_iou(objects, boxes), 0.0)  # (B, G, A)
        background = (ops.max(overlap, axis=1) <= NO_OBJECT_IOU) & ~positive
        background = background & ~in_ignored(boxes, objects, targets["ignore"])

        canvas = ops.cast(ops.prod(outputs["grid"]), "float32") * self.stride**2
        weight = COORDINATE_SCALE * (2.0 - ops.minimum(box_area(own) / canvas, 1.0))
        t = outputs["locations"]
        found = ops.concatenate([ops.sigmoid(t[..., :2]), t[..., 2:]], axis=-1)
        errors = ops.sum((encode_locations(own, anchors, self.stride) - found) ** 2, axis=-1)
        labels = ops.where(positive, gather_rows(targets["labels"], owner), -1)
        log_probabilities = ops.log_softmax(outputs["logits"], axis=-1)
        entropy = -ops.sum(ops.one_hot(labels, self.num_classes) * log_probabilities, axis=-1)
        values = {
            "box_loss": ops.where(positive, weight * errors / 2, 0.0),
            "object_loss": ops.where(positive, OBJECT_SCALE * (target - confidence) ** 2 / 2, 0.0),
            "background_loss": ops.where(background, NO_OBJECT_SCALE * confidence**2 / 2, 0.0),
            "class_loss": ops.where(positive, CLASS_SCALE * entropy, 0.0),
        }
        images = ops.cast(ops.shape(objects)[0], "float32")
        return {name: (ops.sum(value), images) for name, value in values.items()}

    def assign(self, objects, learnt, grid, count):
        """Give each object the anchor of its cell that has its shape.

        Args:
            objects: (B, G, 4) xyxy.
            learnt: (B, G) bool.
            grid: (2,), rows and columns of cells.
            count: A, anchors of all cells.

        Returns:
            (B, A) int32: the row of the object that an anchor learns, or -1.
        """
        canvas = ops.cast(grid, "float32") * self.stride
        cells = cells_of(objects, ops.unstack(grid, 2), ops.unstack(canvas, 2))  # (B, G)
        sizes = objects[..., 2:] - objects[..., :2]
        around = ops.concatenate([-sizes, sizes], axis=-1) / 2  # (B, G, 4)
        shape_iou = box_iou(around, self.cell_anchors())  # (B, G, N)
        best = ops.cast(ops.argmax(shape_iou, axis=-1), "int32")
        priority = ops.where(learnt, ops.max(shape_iou, axis=-1), 0.0)
        return owners(cells * len(self.anchors) + best, priority, count)

    def decode(self, outputs):
        """Multiply the classes' probabilities by the objectness, and suppress whole boxes, as Darknet."""
        boxes = decode_locations(outputs["locations"], outputs["anchors"], self.stride)
        confidence = ops.sigmoid(outputs["confidence"])[..., None]  # (B, A, 1)
        scores = confidence * self.class_probabilities(outputs["logits"])  # (B, A, K)
        rows, labels, scores = best_pairs(scores, self.room_for(CANDIDATES))
        return self.suppress_whole(gather_rows(boxes, rows), labels, scores, outputs["image_sizes"])

    def class_probabilities(self, logits):
        """Return the softmax over the classes, (B, A, K); of one class it is 1, and Keras would warn."""
        return ops.softmax(logits, axis=-1) if self.num_classes > 1 else ops.ones_like(logits)


def _checked_anchors(anchors):
    sizes = tuple(tuple(float(side) for side in anchor) for anchor in anchors)
    if not 1 <= len(sizes) <= MOST_ANCHORS or any(len(size) != 2 for size in sizes):
        raise ValueError(
            f"anchors are {sizes!r:.80}; give 1 to {MOST_ANCHORS} pairs of width and height in pixels."
        )
    if not all(0 < side < 1e9 for size in sizes for side in size):
        raise ValueError(f"anchors are {sizes!r:.80}; give positive finite pixels.")
    return sizes
