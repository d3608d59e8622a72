"""Faster R-CNN: a network proposes regions, a second one classifies them, both on the same features.

    Ren, He, Girshick, Sun. Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks.
    NIPS 2015. arXiv 1506.01497v3. With feature pyramids: Lin et al., Feature Pyramid Networks for Object
    Detection, CVPR 2017, arXiv 1612.03144v2.

Reading order: `FasterRCNN.call` (section 3: features, proposals, regions), the first stage in
`region_proposals.py` (sections 3.1 to 3.3), `FasterRCNN.loss_terms` (both stages; the second is Fast R-CNN's,
arXiv 1504.08083, section 2.3), `FasterRCNN.decode`. The pyramid is `kerasdet.layers.FeaturePyramid`.

Departures from the papers:
    - RoIAlign replaces RoIPool by default (Mask R-CNN, arXiv 1703.06870, section 3); `pooling` takes either.
    - The objects themselves join the proposals that the second stage learns from (the authors' code).
    - Anchors that cross the image's border take part (FPN's code; section 3.1.2 of the paper leaves
      them out in training).

Axes: B batch, P proposals, S sampled regions, G ground truth, K classes, D detections.
"""

import keras
from keras import ops

from kerasdet import distribute
from kerasdet.backbones import ResNet50
from kerasdet.layers.feature_pyramid import FeaturePyramid
from kerasdet.layers.region_heads import DenseHead
from kerasdet.layers.roi import MultilevelRoIAlign
from kerasdet.models.detector import Detector, format_detections
from kerasdet.models.region_proposals import default_rpn, proposal_losses, propose
from kerasdet.ops import native
from kerasdet.ops.boxes import box_iou, clip_boxes, sides_reach, valid_mask
from kerasdet.ops.coders import decode_deltas, encode_deltas
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.losses import smooth_l1
from kerasdet.ops.matching import BACKGROUND, in_ignored, match_iou
from kerasdet.ops.nms import batched_nms
from kerasdet.ops.sampling import random_keys, sample_quota

REGION_FOREGROUND_IOU = 0.5  # Fast R-CNN, section 2.3
REGION_POSITIVES = 0.25
DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # one over the deltas' usual spread (the authors' code)
SMALLEST_DETECTION = 1e-2  # pixels
STAGES = ("proposals", "regions")
STEP = 8  # regions; kernels keep a plan for each size that they have met


@keras.saving.register_keras_serializable("kerasdet")
class FasterRCNN(Detector):
    """A two-stage detector: regions are proposed, then classified and refined (arXiv 1506.01497).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model; default `ResNet50()`.
        neck: a `FeaturePyramid`, or False for none: the backbone's last level is then the only map.
            Default: P2 to P6 (FPN, section 4).
        rpn: a `RegionProposalNetwork` whose anchors fit the maps; default `default_rpn`: FPN's, or
            without neck the paper's.
        pooling: a layer from maps, a dict, and boxes to regions; default `MultilevelRoIAlign(7)`;
            `MultilevelRoIPool(7)` is the paper's. Both take one map as well as a pyramid.
        head: a layer from regions (B, R, h, w, C) to features (B, R, F); default `DenseHead()`.
        regions_per_image: S, regions that the second stage learns from (the paper's 128 at two images
            a step; FPN: 512).
        seed: of the sampling of anchors and regions.
        **detector: `class_names`, `category_ids`, `resize`, `score_threshold`, `iou_threshold`,
            `max_detections`, `name`: see `Detector`.

    Call arguments:
        inputs: as `Detector`; a dict may hold "proposals" (B, R, 4) xyxy, which then take the place of the
            network's own (Fast R-CNN).

    Example:
        >>> model = FasterRCNN(3, backbone=kerasdet.backbones.ResNet50())
        >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        >>> model.fit(data.batches(2, resize=model.resize))

        On a pyramid of any backbone with levels "C2" to "C5": ResNeXt50(), MobileNetV2(), ... The paper's
        own, VGG-16 with fc6 and fc7 on each region:

        >>> backbone, head = VGG16.split_preset("vgg16_imagenet", freeze_at="C1")
        >>> FasterRCNN(20, backbone, neck=False, pooling=MultilevelRoIPool(7), head=head,
        ...            regions_per_image=128)

        From scratch: `VGG16(levels=("C4",))`, `DenseHead((4096, 4096), dropout=0.5)`. ResNet-C4, the
        fifth stage on each region (Mask R-CNN, figure 4, left):

        >>> backbone, head = ResNet50.split_preset("resnet50_imagenet", freeze_at="C2")
        >>> FasterRCNN(20, backbone, neck=False, pooling=MultilevelRoIAlign(14), head=head)

        From scratch: `ResNet50(levels=("C4",))`, `ResNetHead()`. ResNet-C5, one map of stride 32 and two
        dense layers:

        >>> FasterRCNN(20, ResNet50(levels=("C5",)), neck=False)

    Raises:
        ValueError: an argument is out of its range.
    """

    LOSS_TERMS = ("objectness_loss", "proposal_loss", "classification_loss", "box_loss")
    TRANSFERRED = ("backbone", "neck", "rpn")

    # Another model's method `proposals`, whose proposals take the place of this one's; not saved.
    proposer = None
    _learns = STAGES

    def __init__(
        self,
        num_classes,
        backbone=None,
        neck=None,
        rpn=None,
        pooling=None,
        head=None,
        regions_per_image=512,
        seed=0,
        **detector,
    ):
        super().__init__(num_classes, backbone or ResNet50(), **detector)
        policy = self.dtype_policy
        if neck is None:
            neck = FeaturePyramid(
                levels=self.backbone.levels, p6_from="pool", dtype=policy, name="neck"
            )
        self.neck = neck
        self.rpn = rpn or default_rpn(self)
        self.pooling = pooling or MultilevelRoIAlign(7, dtype=policy, name="pooling")
        self.head = head or DenseHead(dtype=policy, name="head")
        self.regions_per_image = regions_per_image
        self.seed = seed
        # Its state is the seed and the number of training steps; it is no weight.
        self.steps = keras.random.SeedGenerator(seed)
        normal = keras.initializers.RandomNormal
        self.class_output = keras.layers.Dense(
            1 + self.num_classes,
            kernel_initializer=normal(stddev=0.01),
            dtype="float32",
            name="class_output",
        )
        self.box_output = keras.layers.Dense(
            4 * self.num_classes,
            kernel_initializer=normal(stddev=0.001),
            dtype="float32",
            name="box_output",
        )
        if type(self) is FasterRCNN:  # a descendant builds when its own parts are there
            self.build()

    def build(self, input_shape=None):
        """Create every weight."""
        if self.neck:
            channels = self.backbone.channels.items()
            build_once(self.neck, {level: (None, None, None, width) for level, width in channels})
        build_once(self.rpn, self._map_shapes())
        pooled = self._pooled_shape(self.pooling)
        build_once(self.head, pooled)
        features = self.head.compute_output_shape(pooled)
        self.class_output.build(features)
        self.box_output.build(features)
        self.built = True

    def call(self, inputs, training=False):
        """Raw outputs.

        Returns:
            {"maps": {level: (B, H, W, C)}, "objectness": {level: (B, A_l)}, "proposal_deltas": {level:
            (B, A_l, 4)}, "anchors": {level: (A_l, 4)}, "proposals": (B, P, 4), "is_proposal": (B, P)
            bool, "image_sizes": (B, 2)}; and, unless in training, for each proposal "class_logits"
            (B, P, 1 + K), background first, and "box_deltas" (B, P, K, 4).
        """
        outputs = self._first_stage(inputs, training)
        if isinstance(inputs, dict) and "proposals" in inputs:
            proposals = clip_boxes(inputs["proposals"], outputs["image_sizes"])
            is_proposal = ops.all(proposals[..., 2:] > proposals[..., :2], axis=-1)
        elif self.proposer:
            proposals, is_proposal = self.proposer(inputs, training)
        else:
            proposals, is_proposal = propose(outputs, self.rpn, training)
        outputs = {**outputs, "proposals": proposals, "is_proposal": is_proposal}
        return outputs if training else {**outputs, **self.classify(outputs["maps"], proposals)}

    def proposals(self, inputs, training=False):
        """The first stage alone, its layers as at test: another model's `proposer`.

        Args:
            inputs: as the class's call arguments.
            training: whether as many proposals are given as in training.

        Returns:
            Boxes (B, P, 4), zeros where there are fewer than P, and whether each is one (B, P) bool.
        """
        return propose(self._first_stage(inputs), self.rpn, training)

    def _first_stage(self, inputs, training=False):
        images, image_sizes = self.normalize(inputs)
        maps = self.backbone(images, training=training)
        if self.neck:
            maps = self.neck(maps, training=training)
        else:
            last = self.backbone.levels[-1]
            maps = {last: maps[last]}
        objectness, deltas = self.rpn(maps, training=training)
        return {
            "maps": maps,
            "objectness": objectness,
            "proposal_deltas": deltas,
            "anchors": dict(zip(maps, self.rpn.anchors(maps, images))),
            "image_sizes": image_sizes,
        }

    def classify(self, maps, boxes, training=False):
        """The second stage on any boxes.

        Args:
            maps: the "maps" of `call`.
            boxes: (B, R, 4) xyxy.
            training: bool.

        Returns:
            {"class_logits": (B, R, 1 + K), "box_deltas": (B, R, K, 4)}, float32.
        """
        regions = self._pool(self.pooling, maps, boxes)
        features = self.head(regions, training=training)
        batch, count = ops.shape(boxes)[:2]
        return {
            "class_logits": self.class_output(features),
            "box_deltas": ops.reshape(
                self.box_output(features), (batch, count, self.num_classes, 4)
            ),
        }

    def loss_terms(self, outputs, targets, training=False):
        """The multi-task losses of the stages that are learnt, over sampled anchors and regions."""
        batch = ops.shape(targets["labels"])[0]
        image = distribute.replica_id() * batch + ops.arange(batch, dtype="int32")
        step = self.steps.next()[1] if training else 0
        terms = {}
        if "proposals" in self.learns:
            anchors = ops.concatenate(list(outputs["anchors"].values()), axis=0)
            keys = random_keys(self.seed, step, image, ops.shape(anchors)[0])
            terms = proposal_losses(outputs, targets, anchors, keys)
        if "regions" not in self.learns:
            return terms
        boxes = ops.stop_gradient(ops.concatenate([outputs["proposals"], targets["boxes"]], axis=1))
        is_box = ops.concatenate([outputs["is_proposal"], valid_mask(targets["labels"])], axis=1)
        keys = random_keys(self.seed + 1, step, image, ops.shape(boxes)[1])
        sampled = sample_regions(targets, boxes, is_box, keys, self.regions_per_image)
        return {**terms, **self.region_terms(outputs["maps"], targets, sampled, training)}

    def region_terms(self, maps, targets, sampled, training=False):
        """The second stage's terms; a descendant adds its own.

        Args:
            maps: the "maps" of `call`.
            targets: prepared targets.
            sampled: what `sample_regions` returned: regions, objects, counted.
            training: bool.

        Returns:
            {name: (sum, count)}.
        """
        predicted = self.classify(maps, sampled[0], training)
        return region_losses(predicted, targets, *sampled)

    def decode(self, outputs):
        """Every class of every proposal, refined, and thinned per class by non-maximum suppression."""
        scores = ops.softmax(outputs["class_logits"], axis=-1)[..., 1:]
        boxes = decode_deltas(
            outputs["box_deltas"], outputs["proposals"][:, :, None], DELTA_WEIGHTS
        )
        batch, count, classes = ops.shape(scores)
        boxes = clip_boxes(ops.reshape(boxes, (batch, -1, 4)), outputs["image_sizes"])
        scores = ops.where(outputs["is_proposal"][..., None], scores, 0.0)
        scores = ops.reshape(scores, (batch, -1))
        scores = ops.where(sides_reach(boxes, SMALLEST_DETECTION), scores, 0.0)
        labels = ops.arange(count * classes, dtype="int32") % classes
        labels = ops.zeros_like(scores, dtype="int32") + labels
        kept = batched_nms(
            boxes, scores, labels, self.iou_threshold, self.max_detections, self.score_threshold
        )
        return format_detections(boxes, labels, scores, *kept)

    def save_own_variables(self, store):
        """Save how many steps were trained, with the optimizer: not where weights alone are saved."""
        if getattr(self, "optimizer", None):
            store["steps"] = self.steps.state

    def load_own_variables(self, store):
        """Load what `save_own_variables` saved, if it did."""
        if store.keys():
            self.steps.state.assign(store["steps"])

    def get_config(self):
        """Every constructor argument, parts serialised."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "neck": serialize(self.neck),
            "rpn": serialize(self.rpn),
            "pooling": serialize(self.pooling),
            "head": serialize(self.head),
            "regions_per_image": self.regions_per_image,
            "seed": self.seed,
        }

    @property
    def learns(self):
        """The stages whose terms are the loss: ("proposals", "regions"), or one of them alone.

        Not saved. Setting it does not freeze layers: `kerasdet.training.train_alternating` does both.
        """
        return self._learns

    @learns.setter
    def learns(self, stages):
        if not stages or not set(stages) <= set(STAGES):
            raise ValueError(f"learns takes some of {STAGES}, not {stages!r}.")
        self._learns = tuple(stage for stage in STAGES if stage in stages)
        self.train_function = self.test_function = None  # traced with the old terms

    @property
    def metrics(self):
        """Keras' metrics, less those of terms that are not learnt."""
        first, terms = FasterRCNN.LOSS_TERMS[:2], self.LOSS_TERMS
        learnt = {term for term in terms if STAGES[term not in first] in self.learns}
        return [metric for metric in super().metrics if metric.name not in set(terms) - learnt]

    def _regional(self, maps):
        """The maps that regions are pooled from: without the pyramid's added level, or the only one."""
        return {level: maps[level] for level in self._map_shapes()}

    def _pool(self, pooling, maps, boxes, rows=None):
        """Pooled regions (B, R, h, w, C) of boxes (B, R, 4), or (1, N, h, w, C) of these rows alone."""
        regions = pooling(self._regional(maps), boxes)
        return regions if rows is None else pack_rows(regions, rows)

    def _map_shapes(self):
        if not self.neck:
            last = self.backbone.levels[-1]
            return {last: (None, None, None, self.backbone.channels[last])}
        levels = [f"P{level[1:]}" for level in self.neck.levels]
        return {level: (None, None, None, self.neck.channels) for level in levels}

    def _pooled_shape(self, pooling):
        """Shape (None, None, h, w, C) of the regions that a pooling layer makes of the maps."""
        return pooling.compute_output_shape(self._map_shapes(), (None, None, 4))


def build_once(part, shape):
    """Create a part's weights, unless it comes with them, as one that is loaded does."""
    if not part.built:
        part.build(shape)


def sample_regions(targets, boxes, is_box, keys, count):
    """Sample the regions that a second stage learns from (Fast R-CNN, section 2.3).

    Args:
        targets: prepared targets.
        boxes: (B, N, 4), proposals and objects.
        is_box: (B, N) bool.
        keys: (B, N), the random order of the sampling.
        count: S, regions per image.

    Returns:
        regions: (B, S, 4).
        objects: (B, S) int32, the object that each is to find, -1 for background.
        counted: (B, S) bool, False where there are fewer than S.
    """
    learnt = valid_mask(targets["labels"]) & ~targets["ignore"]
    iou = ops.where(learnt[..., None], box_iou(targets["boxes"], boxes), -1.0)
    # Eq: fast_rcnn §2.3 | 25 % of the regions have IoU >= 0.5 with an object, the others less
    high = REGION_FOREGROUND_IOU
    matches = ops.where(is_box, match_iou(iou, high, high, allow_low_quality=False), BACKGROUND)
    ignored = in_ignored(boxes, targets["boxes"], targets["ignore"])
    negative = is_box & (matches < 0) & ~ignored
    sampled, counted = sample_quota(matches >= 0, negative, keys, count, REGION_POSITIVES)
    objects = ops.where(counted, gather_rows(matches, sampled), BACKGROUND)
    return gather_rows(boxes, sampled), objects, counted


def positive_regions(sampled, count):
    """The sampled regions that have an object: a third branch learns from no others.

    Args:
        sampled: what `sample_regions` returned: regions (B, S, 4), objects and counted (B, S).
        count: S as it was asked for; where there were fewer regions, S is smaller.

    Returns:
        regions (B, Q, 4) and objects (B, Q), -1 for none, and rows (N,) int32, the places of those with
        an object among the B * Q, -1 for padding. Q is S / 4 and N is B * Q; where sizes may follow the
        data, what the image with the most needs, and the images' sum rounded up.
    """
    most = max(1, int(count * REGION_POSITIVES))
    follow = native.available()
    if follow:  # no work for regions without an object
        found = ops.sum(ops.cast(sampled[1] >= 0, "int32"), axis=1)
        most = ops.minimum(most, ops.maximum(ops.max(found), 1))
    regions, objects, _ = (values[:, :most] for values in sampled)  # they stand first
    positive = ops.reshape(objects >= 0, (-1,))
    rows = ops.argsort(ops.where(positive, 0, 1))
    if follow:
        rows = rows[: STEP * (ops.maximum(ops.sum(found) - 1, 0) // STEP + 1)]
    return regions, objects, ops.where(ops.take(positive, rows), ops.cast(rows, "int32"), -1)


def pack_rows(values, rows):
    """Rows of all images one after another, as of one image: (B, Q, ...), (N,) -> (1, N, ...).

    A negative row (padding) picks the first, for the caller to mask.
    """
    shape = ops.shape(values)
    flat = ops.reshape(values, (shape[0] * shape[1], *shape[2:]))
    return ops.take(flat, ops.maximum(rows, 0), axis=0)[None]


def region_losses(predicted, targets, regions, objects, counted):
    """Softmax and smooth L1 of the sampled regions, the latter for the true class only.

    Args:
        predicted: what `FasterRCNN.classify` returned for the regions.
        targets: prepared targets.
        regions: (B, S, 4), what `sample_regions` returned, as are the next two.
        objects: (B, S).
        counted: (B, S).

    Returns:
        {"classification_loss": (sum, count), "box_loss": (sum, count)}.
    """
    positive = counted & (objects >= 0)
    labels = ops.where(positive, gather_rows(targets["labels"], objects), -1)
    # Eq: fast_rcnn 1 | L(p, u, t^u, v) = L_cls(p, u) + lambda [u >= 1] L_loc(t^u, v)
    logits = ops.cast(predicted["class_logits"], "float32")
    losses = ops.logsumexp(logits, axis=-1) - ops.sum(
        ops.one_hot(labels + 1, logits.shape[-1]) * logits, axis=-1
    )
    boxes = ops.where(positive[..., None], gather_rows(targets["boxes"], objects), regions)
    boxes = ops.where(counted[..., None], boxes, 1.0)
    regions = ops.where(counted[..., None], regions, 1.0)
    own = ops.one_hot(labels, logits.shape[-1] - 1)[..., None]
    deltas = ops.sum(predicted["box_deltas"] * own, axis=2)
    box_losses = smooth_l1(encode_deltas(boxes, regions, DELTA_WEIGHTS), deltas)
    count = ops.sum(ops.cast(counted, "float32"))
    return {
        "classification_loss": (ops.sum(ops.where(counted, losses, 0.0)), count),
        "box_loss": (ops.sum(ops.where(positive[..., None], box_losses, 0.0)), count),
    }
