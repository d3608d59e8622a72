"""Fast R-CNN: one pass over the image, then a classifier with box regression for each proposed region.

    Girshick. Fast R-CNN. ICCV 2015. arXiv 1504.08083v2.

Reading order: `FastRCNN.call` (section 2: the whole image, then its regions), `RegionClassifier` (section 2.1
and figure 1), `RandomRegions` and `sample_regions` (section 2.3, Mini-batch sampling), `region_losses`
(section 2.3, equations 1 to 3), `decode_regions` (section 3). The experiments: `RegionWise` (section 2.3),
`box_weight` and `refinements` of `RegionDetector` (section 5.1), `truncated_svd.py` (section 3.1). Later
papers build on these parts: Faster R-CNN proposes the regions itself, Mask R-CNN adds branches, R-FCN has
another classifier, and OHEM another sampler.

Departures from the paper:
    - The objects themselves are added to the proposals in training (the authors' code).
    - In an image without objects every region is background; the paper has no such images.
    - Deltas are divided by fixed spreads (0.1, 0.1, 0.2, 0.2), as in the authors' later code, and not by
      those of the training set.
    - Region-wise sampling takes one region of each image of a mini-batch; images with more regions are not
      drawn more often.

Axes: B batch, R proposals, S sampled regions, G ground truth, K classes, D detections.
"""

import functools

import keras
from keras import ops

from kerasdet import distribute
from kerasdet.backbones import VGG16, MobileNetV2
from kerasdet.layers.region_heads import DenseHead
from kerasdet.layers.roi import MultilevelRoIPool
from kerasdet.models.base import build_once
from kerasdet.models.detector import Detector, data_arguments, decoding_setting
from kerasdet.ops.boxes import clip_boxes, clip_pixels, sides_reach, valid_mask
from kerasdet.ops.checks import check_whole
from kerasdet.ops.coders import decode_deltas, encode_deltas
from kerasdet.ops.gather import gather_rows
from kerasdet.ops.losses import smooth_l1, softmax_cross_entropy
from kerasdet.ops.matching import BACKGROUND, BETWEEN, assign
from kerasdet.ops.sampling import random_keys, sample_quota

FOREGROUND_IOU = 0.5  # section 2.3, Mini-batch sampling
BACKGROUND_IOU = 0.1  # the lowest IoU of a background region, likewise
POSITIVES = 0.25
REGIONS_PER_IMAGE = 64  # R = 128 of N = 2 images
DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # 1 / the usual spread of the deltas (the authors' code)
CLASS_STD = 0.01  # section 2.3, SGD hyper-parameters: initial weights of the last layers
BOX_STD = 0.001
SMALLEST_DETECTION = 1e-2  # pixels
MOST_REFINEMENTS = 100  # far beyond what is of use; each is a part of the graph


class RegionPart(keras.layers.Layer):
    """Base of the parts that pool regions and pass each through a head. Abstract.

    Args:
        pooling: a layer from a dict of maps and boxes to regions (B, R, h, w, C).
        head: a layer from regions to features.
    """

    def __init__(self, pooling, head, **kwargs):
        # Boxes must not be cast to half precision as inputs.
        super().__init__(**{**kwargs, "autocast": False})
        self.pooling = pooling
        self.head = head

    def get_config(self):
        """Return the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        parts = {"pooling": serialize(self.pooling), "head": serialize(self.head)}
        return {**super().get_config(), **parts}

    @classmethod
    def from_config(cls, config):
        """Rebuild the part, its pooling and its head."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("pooling", "head")
        }
        return cls(**{**config, **parts})


@keras.saving.register_keras_serializable("kerasdet")
class RegionClassifier(RegionPart):
    """Pool each region, and predict its class and box (section 2.1).

    Args:
        num_classes: K.
        pooling: a layer from a dict of maps and boxes to regions (B, R, h, w, C).
        head: a layer from regions to features (B, R, F).
        box_of_each_class: whether every class has its own box (the paper), or all have one.

    Call arguments:
        maps: {level: (B, H, W, C)}.
        boxes: (B, R, 4) xyxy.

    Returns:
        {"class_logits": (B, R, 1 + K), background first, "box_deltas": (B, R, K, 4), or (B, R, 1, 4) with
        one box}, float32.
    """

    def __init__(self, num_classes, pooling, head, box_of_each_class=True, **kwargs):
        super().__init__(pooling, head, **kwargs)
        self.num_classes = num_classes
        self.box_of_each_class = box_of_each_class
        boxes = num_classes if box_of_each_class else 1
        self.class_output = output_layer(1 + num_classes, CLASS_STD, "class_output")
        self.box_output = output_layer(4 * boxes, BOX_STD, "box_output")

    def build(self, maps_shape):
        """Create every weight for maps of these shapes, {level: (None, H, W, C)}."""
        if not self.pooling.built:  # deformable pooling has weights
            self.pooling.build(maps_shape, (None, None, 4))
        pooled = self.pooling.compute_output_shape(maps_shape, (None, None, 4))
        build_once(self.head, pooled)
        features = self.head.compute_output_shape(pooled)
        self.class_output.build(features)
        self.box_output.build(features)
        self.built = True

    def call(self, maps, boxes, training=False):
        """See the class docstring."""
        features = self.head(self.pooling(maps, boxes), training=training)  # (B, R, F)
        batch, count = ops.shape(boxes)[:2]
        deltas = self.box_output(features)  # (B, R, 4 K)
        boxes = self.num_classes if self.box_of_each_class else 1
        return {
            "class_logits": self.class_output(features),
            "box_deltas": ops.reshape(deltas, (batch, count, boxes, 4)),
        }

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "box_of_each_class": self.box_of_each_class,
        }


def output_layer(units, std, name):
    """Return a last layer, in float32, whose kernel begins with a standard deviation of `std`."""
    normal = keras.initializers.RandomNormal(stddev=std)
    return keras.layers.Dense(units, kernel_initializer=normal, dtype="float32", name=name)


@keras.saving.register_keras_serializable("kerasdet")
class RandomRegions(keras.layers.Layer):
    """Chooses the regions of a training step at random, a quarter of them with an object (section 2.3).

    Args:
        background_iou: lowest IoU of a background region with an object (Fast R-CNN: 0.1).
    """

    def __init__(self, background_iou=0.0, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= background_iou < FOREGROUND_IOU:
            raise ValueError(f"background_iou is {background_iou!r}; give 0 to {FOREGROUND_IOU}.")
        self.background_iou = background_iou

    def sample(self, targets, outputs, count, keys, losses, foreground_iou=FOREGROUND_IOU):
        """Choose regions; see `sample_regions`, which needs no `losses`."""
        ious = self.background_iou, foreground_iou
        return sample_regions(targets, outputs, keys, count, *ious)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "background_iou": self.background_iou}


@keras.saving.register_keras_serializable("kerasdet")
class RegionWise(RandomRegions):
    """Chooses one region of each image, as R-CNN and SPPnet draw them from the whole data set (section 2.3).

    A mini-batch of R regions has R images: `regions_per_image=1`, and batches of 128. A quarter of the images
    give a region with an object, where they have one, the others background. How much this costs beside
    hierarchical sampling says `kerasdet.ops.minibatch_cost`.

    Args:
        background_iou: lowest IoU of a background region with an object (Fast R-CNN: 0.1).
    """

    def sample(self, targets, outputs, count, keys, losses, foreground_iou=FOREGROUND_IOU):
        """Choose regions; see `sample_regions`. `count` must be 1."""
        if count != 1:
            raise ValueError(
                f"RegionWise takes one region of each image, but regions_per_image is {count}: give 1, and "
                "batches of as many images as a step shall have regions."
            )
        boxes, matches = match_regions(targets, outputs, self.background_iou, foreground_iou)
        size = ops.shape(boxes)[1]
        keys = keys(size + 1)  # (B, R + G + 1): the last decides which kind is wanted
        wanted = keys[:, size:] < POSITIVES  # (B, 1)
        positive, keys = (matches >= 0) & wanted, keys[:, :size]
        sampled, counted = sample_quota(positive, matches == BACKGROUND, keys, 1, 1.0)
        return _picked(boxes, matches, sampled, counted)


class RegionDetector(Detector):
    """Base of the detectors that train on sampled regions and classify all regions in inference. Abstract.

    Args:
        num_classes: K, foreground classes 0..K-1.
        pooling: a layer from a dict of maps and boxes to regions (B, R, h, w, C).
        head: a layer from regions to features (B, R, F).
        regions_per_image: S, regions sampled for training.
        sampler: `RandomRegions()` (default), or another part that chooses them, such as `HardRegions()`.
        seed: seed of the sampling.
        box_weight: lambda of equation 1, the factor of the loss of boxes; 0: regions are only classified.
        refinements: how often a region is refined in inference, and classified again where it then lies
            (Cascade R-CNN's "iterative BBox": 3); 0: boxes are proposals. It can be set after loading.
        whole_pixels: whether deltas give the first and the last pixel of a box, so that it ends one pixel
            further, as in the authors' code (their published weights).
        **detector: see `Detector`.
    """

    CLASSIFIER = RegionClassifier
    ADJUSTABLE = (*Detector.ADJUSTABLE, "refinements")

    refinements = decoding_setting(
        "refinements",
        lambda v: 0 <= v <= MOST_REFINEMENTS and int(v) == v,
        f"a whole number of at least 0 and at most {MOST_REFINEMENTS}",
    )

    def __init__(
        self,
        num_classes,
        pooling,
        head,
        regions_per_image,
        sampler=None,
        seed=0,
        box_weight=1.0,
        refinements=1,
        whole_pixels=False,
        **detector,
    ):
        super().__init__(num_classes, **detector)
        if not isinstance(box_weight, (int, float)) or not 0 <= box_weight < float("inf"):
            raise ValueError(f"box_weight is {box_weight!r:.80}; give a number of 0 or more.")
        self.box_weight = box_weight
        self.refinements = refinements
        self.classifier = self.CLASSIFIER(
            self.num_classes, pooling, head, dtype=self.dtype_policy, name="classifier"
        )
        check_whole("regions_per_image", regions_per_image)
        self.regions_per_image = regions_per_image
        self.sampler = sampler or RandomRegions(name="sampler")
        self.seed = seed
        self.whole_pixels = whole_pixels
        # Its state is the seed and the number of training steps; it is not a weight. The optimizer's count
        # cannot replace it, because JAX's stateless loss does not see it.
        self.steps = keras.random.SeedGenerator(seed)

    pooling = property(lambda self: self.classifier.pooling, doc="How regions are pooled.")
    head = property(lambda self: self.classifier.head, doc="What each region passes through.")

    def classify(self, maps, outputs):
        """Classify the proposals of `outputs` in inference, and refine all but the last boxes.

        Args:
            maps: the maps that regions are pooled from.
            outputs: "proposals" (B, P, 4) and "image_sizes" (B, 2).

        Returns:
            {"proposals": (B, P, 4), where they were classified last, and what the classifier predicts there}.
        """
        proposals = outputs["proposals"]
        predicted = self.classifier(maps, proposals)
        for _ in range(self.refinements - 1):
            # Eq: cascade_rcnn 3 | f'(x, b) = f o f o ... o f (x, b)
            deltas, sizes = best_deltas(predicted), outputs["image_sizes"]
            proposals = refine_regions(proposals, deltas, sizes, clip=self.clip)
            predicted = self.classifier(maps, proposals)
        if self.refinements == 0:
            predicted = {**predicted, "box_deltas": ops.zeros_like(predicted["box_deltas"])}
        return {**predicted, "proposals": proposals}

    @property
    def classifiers(self):
        """The region classifiers: one, or that of each stage."""
        return [self.classifier]

    def learn_boxes_alone(self):
        """Let only the layers learn that refine boxes: the last stage of stage-wise training (section 5.1).

        First train with `box_weight=0`, then call this and compile: all other weights stay as they are. It
        sets `box_weight` and `refinements` to 1. Which layers learn is not saved.
        """
        for layer in self.layers:
            layer.trainable = layer in self.classifiers
        for classifier in self.classifiers:
            for part in classifier._flatten_layers(include_self=False, recursive=False):
                part.trainable = part is classifier.box_output
        self.box_weight, self.refinements = 1.0, 1
        self.train_function = self.test_function = None  # traced with the old weight

    def losses_of_each(
        self, predicted, targets, regions, objects, counted, delta_weights=DELTA_WEIGHTS
    ):
        """Compute each region's losses, which samplers see and training sums; see `losses_of_regions`."""
        rest = targets, regions, objects, counted, delta_weights
        return losses_of_regions(predicted, *rest, self.box_weight)

    @property
    def clip(self):
        """The function that clips decoded boxes to their images."""
        return clip_pixels if self.whole_pixels else clip_boxes

    def given_proposals(self, inputs, image_sizes):
        """Return the proposals of the inputs, clipped to their image.

        Args:
            inputs: the model's call arguments, with "proposals" (B, R, 4).
            image_sizes: (B, 2) height and width.

        Returns:
            Boxes (B, R, 4) and whether each has an area (B, R) bool.
        """
        proposals = clip_boxes(ops.cast(inputs["proposals"], "float32"), image_sizes)
        return proposals, ops.all(proposals[..., 2:] > proposals[..., :2], axis=-1)

    def step_and_images(self, targets, training):
        """Return what the random choice of a training step depends on, besides the seed.

        Args:
            targets: prepared targets, which give the number of images.
            training: whether to count the step; otherwise the choice is that of step 0.

        Returns:
            The step's number, and numbers (B,) that differ between the images of all replicas.
        """
        batch = ops.shape(targets["labels"])[0]
        images = distribute.replica_id() * batch + ops.arange(batch, dtype="int32")
        return (self.steps.next()[1] if training else 0), images

    def save_own_variables(self, store):
        """Save the number of trained steps with the optimizer, but not with weights alone."""
        if getattr(self, "optimizer", None):
            store["steps"] = self.steps.state

    def load_own_variables(self, store):
        """Load what `save_own_variables` saved, if anything."""
        if store.keys():
            self.steps.state.assign(store["steps"])


@keras.saving.register_keras_serializable("kerasdet")
class FastRCNN(RegionDetector):
    """A detector that classifies regions proposed elsewhere (arXiv 1504.08083).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model; regions are pooled from its last level. Default:
            `VGG16(levels=("C4",))`, the paper's largest.
        pooling: a layer from a dict of maps and boxes to regions; default `MultilevelRoIPool(7)`.
        head: a layer from regions (B, R, h, w, C) to features (B, R, F); default fc6 and fc7,
            `DenseHead((4096, 4096), dropout=0.5)`.
        regions_per_image: S, regions sampled for training (section 2.3: 64 of each of two images).
        sampler: chooses them; default `RandomRegions(0.1)`.
        **detector: `seed` of the sampling, `box_weight`, `refinements`, `whole_pixels`: see `RegionDetector`;
            `class_names`, `category_ids`, `resize`, `score_threshold`, `iou_threshold`, `max_detections`,
            `name`: see `Detector`.

    Call arguments:
        inputs: {"images": ..., "image_sizes": (B, 2), "proposals": (B, R, 4)}, xyxy in pixels of the
            canvas; a row without area, such as zeros, is not a proposal.

    Example:
        >>> backbone, head = VGG16.split_preset("vgg16_imagenet", freeze_at="C1")
        >>> model = FastRCNN(20, backbone, head=head)
        >>> model.compile(keras.optimizers.SGD(0.001, momentum=0.9))
        >>> data = data.with_proposals("proposals.npz")
        >>> model.fit(data.batches(2, resize=model.resize, proposals=True))
        >>> model.detect("image.jpg", proposals=regions)

    Raises:
        ValueError: an argument is out of its range, or inputs have no proposals.
    """

    LOSS_TERMS = ("classification_loss", "box_loss")
    INPUTS = ("images", "proposals")

    def __init__(
        self,
        num_classes,
        backbone=None,
        pooling=None,
        head=None,
        regions_per_image=REGIONS_PER_IMAGE,
        sampler=None,
        **detector,
    ):
        super().__init__(
            num_classes,
            pooling or MultilevelRoIPool(7, dtype=detector.get("dtype"), name="pooling"),
            head or DenseHead((4096, 4096), dropout=0.5, dtype=detector.get("dtype"), name="head"),
            regions_per_image,
            sampler or RandomRegions(BACKGROUND_IOU, name="sampler"),
            backbone=backbone or VGG16(levels=("C4",), dtype=detector.get("dtype")),
            **detector,
        )
        self.build()

    @classmethod
    def for_data(cls, data, resize=None, backbone=None, channels=256, regions=64, **detector):
        """Build a small model for a data set with proposals.

        Args:
            data: `Dataset`, for its classes.
            resize: `Resize` part of the model.
            backbone: default MobileNetV2; regions are pooled from its "C4".
            channels: outputs of fc6 and of fc7.
            regions: regions per image sampled for training.
            **detector: further arguments of the constructor.
        """
        return cls(
            backbone=(backbone or MobileNetV2()).with_levels(("C4",)),
            head=DenseHead((channels, channels), name="head"),
            regions_per_image=regions,
            resize=resize,
            **{**data_arguments(data), **detector},
        )

    def build(self, input_shape=None):
        """Create every weight."""
        level = self.backbone.levels[-1]
        build_once(self.classifier, {level: (None, None, None, self.backbone.channels[level])})
        self.built = True

    def call(self, inputs, training=False):
        """Compute the raw outputs.

        Returns:
            {"maps": {level: (B, H, W, C)}, "proposals": (B, R, 4), "is_proposal": (B, R) bool,
            "image_sizes": (B, 2)}. Except in training, also "class_logits" (B, R, 1 + K), background first,
            and "box_deltas" (B, R, K, 4) of each proposal, which then is where it was classified last.
        """
        if not isinstance(inputs, dict) or "proposals" not in inputs:
            raise ValueError(
                'FastRCNN takes inputs {"images", "image_sizes", "proposals" (B, R, 4)}, but these '
                "have no proposals: data.batches(..., proposals=True) adds them."
            )
        images, image_sizes = self.normalize(inputs)
        level = self.backbone.levels[-1]
        maps = {level: self.backbone(images, training=training)[level]}
        proposals, is_proposal = self.given_proposals(inputs, image_sizes)
        outputs = {
            "maps": maps,
            "proposals": proposals,
            "is_proposal": is_proposal,
            "image_sizes": image_sizes,
        }
        return outputs if training else {**outputs, **self.classify(maps, outputs)}

    def loss_terms(self, outputs, targets, training=False):
        """Compute the multi-task loss over sampled regions."""
        keys = functools.partial(random_keys, self.seed, *self.step_and_images(targets, training))
        classify = functools.partial(self.classifier, outputs["maps"])
        each, count = self.losses_of_each, self.regions_per_image
        losses = losses_of(classify, targets, each)
        sampled = self.sampler.sample(targets, outputs, count, keys, losses)
        predicted = classify(sampled[0], training=training)
        return region_losses(predicted, targets, *sampled, each)

    def decode(self, outputs):
        """Refine every class of every proposal, and apply non-maximum suppression per class."""
        return self.suppress(*decode_regions(outputs, clip=self.clip))


def sample_regions(
    targets, outputs, keys, count, background_iou=0.0, foreground_iou=FOREGROUND_IOU
):
    """Sample the regions for training (section 2.3, Mini-batch sampling).

    Args:
        targets: prepared targets.
        outputs: "proposals" (B, R, 4) and "is_proposal" (B, R) from `call`.
        keys: function of N that returns (B, N), the random order of the sampling.
        count: S, regions per image.
        background_iou: lowest IoU of a background region with an object (Fast R-CNN: 0.1).
        foreground_iou: lowest IoU of a region with its object.

    Returns:
        regions: (B, S, 4), those with an object first.
        objects: (B, S) int32, the object that each region must find, -1 for background.
        counted: (B, S) bool, False for padding when there are fewer than S regions.
    """
    boxes, matches = match_regions(targets, outputs, background_iou, foreground_iou)
    # Eq: fast_rcnn §2.3 | 25 % of the regions: IoU >= 0.5 with an object; the others: IoU in [0.1, 0.5)
    keys = keys(ops.shape(boxes)[1])
    sampled, counted = sample_quota(matches >= 0, matches == BACKGROUND, keys, count, POSITIVES)
    return _picked(boxes, matches, sampled, counted)


def _picked(boxes, matches, sampled, counted):
    """The sampled of the matched boxes, their objects, and whether each counts."""
    objects = ops.where(counted, gather_rows(matches, sampled), BACKGROUND)  # (B, S)
    return gather_rows(boxes, sampled), objects, counted


def match_regions(targets, outputs, background_iou=0.0, foreground_iou=FOREGROUND_IOU):
    """Match the regions that training may use, the proposals and the objects themselves, to the objects.

    Args:
        targets: prepared targets.
        outputs: "proposals" (B, R, 4) and "is_proposal" (B, R) from `call`.
        background_iou: lowest IoU of a background region with an object.
        foreground_iou: lowest IoU of a region with its object.

    Returns:
        regions (B, R + G, 4), and matches (B, R + G) int32: the row of an object, `BACKGROUND`, or `BETWEEN`
        for what takes no part.
    """
    regions = ops.concatenate([outputs["proposals"], targets["boxes"]], axis=1)  # (B, R + G, 4)
    regions = ops.stop_gradient(regions)
    is_region = ops.concatenate([outputs["is_proposal"], valid_mask(targets["labels"])], axis=1)
    matches = assign(
        targets,
        regions,
        foreground_iou,
        foreground_iou,
        allow_low_quality=False,
        lowest=background_iou,
    )
    return regions, ops.where(is_region, matches, BETWEEN)


def losses_of_regions(
    predicted,
    targets,
    regions,
    objects,
    counted,
    delta_weights=DELTA_WEIGHTS,
    box_weight=1.0,
):
    """Compute softmax and smooth L1 of each region; smooth L1 only for the true class.

    Args:
        predicted: the result of a `RegionClassifier` for the regions.
        targets: prepared targets.
        regions: (B, S, 4), from `sample_regions`, like the next two.
        objects: (B, S).
        counted: (B, S).
        delta_weights: factors of the deltas.
        box_weight: lambda, the factor of the loss of boxes.

    Returns:
        {"classification_loss": (B, S), "box_loss": (B, S)}, 0 for what does not count.
    """
    positive = counted & (objects >= 0)
    labels = ops.where(positive, gather_rows(targets["labels"], objects), -1)
    logits = predicted["class_logits"]  # (B, S, 1 + K)
    losses = softmax_cross_entropy(labels + 1, logits)
    boxes = ops.where(positive[..., None], gather_rows(targets["boxes"], objects), regions)
    boxes = ops.where(counted[..., None], boxes, 1.0)
    regions = ops.where(counted[..., None], regions, 1.0)
    # Without a box for each class (R-FCN), K is 1 in the deltas, and every class has the same.
    own = ops.one_hot(labels, logits.shape[-1] - 1)[..., None]  # (B, S, K, 1)
    deltas = ops.sum(predicted["box_deltas"] * own, axis=2)  # (B, S, 4)
    box_losses = ops.sum(smooth_l1(encode_deltas(boxes, regions, delta_weights), deltas), axis=-1)
    # Eq: fast_rcnn 1 | L(p, u, t^u, v) = L_cls(p, u) + lambda [u >= 1] L_loc(t^u, v)
    return {
        "classification_loss": ops.where(counted, losses, 0.0),
        "box_loss": ops.where(positive, box_weight * box_losses, 0.0),
    }


def region_losses(predicted, targets, regions, objects, counted, each=losses_of_regions):
    """Sum the losses of the sampled regions.

    Args:
        predicted: the result of a `RegionClassifier` for the regions.
        targets: prepared targets.
        regions: (B, S, 4), from `sample_regions`, like the next two.
        objects: (B, S).
        counted: (B, S).
        each: function of these five that returns the losses of each region.

    Returns:
        {"classification_loss": (sum, count), "box_loss": (sum, count)}.
    """
    losses = each(predicted, targets, regions, objects, counted)
    count = ops.sum(ops.cast(counted, "float32"))
    return {name: (ops.sum(values), count) for name, values in losses.items()}


def losses_of(classify, targets, each=losses_of_regions):
    """Return the function by which a sampler may choose: regions, objects and counted to losses (B, R).

    Args:
        classify: function from regions (B, R, 4) to the result of a `RegionClassifier`.
        targets: prepared targets.
        each: function that returns the losses of each region; see `region_losses`.
    """

    def losses(regions, objects, counted):
        found = each(classify(regions), targets, regions, objects, counted)
        return ops.stop_gradient(sum(found.values()))

    return losses


def best_deltas(predicted):
    """Return the deltas of each region's best class: the result of a `RegionClassifier` -> (B, R, 1, 4)."""
    deltas = predicted["box_deltas"]  # (B, R, K or 1, 4)
    if deltas.shape[2] == 1:
        return deltas
    best = ops.argmax(predicted["class_logits"][..., 1:], axis=-1)  # (B, R)
    own = ops.one_hot(best, deltas.shape[2])[..., None]  # (B, R, K, 1)
    return ops.sum(deltas * own, axis=2, keepdims=True)


def refine_regions(regions, deltas, image_sizes, delta_weights=DELTA_WEIGHTS, clip=clip_boxes):
    """Move regions by one box of all classes, as the next stage of a cascade sees them.

    Args:
        regions: (B, R, 4) xyxy.
        deltas: (B, R, 1, 4).
        image_sizes: (B, 2) height and width, to which the boxes are clipped.
        delta_weights: factors of the deltas.
        clip: function of boxes and image sizes.

    Returns:
        (B, R, 4), without gradient.
    """
    boxes = decode_deltas(deltas[:, :, 0], regions, delta_weights)
    return ops.stop_gradient(clip(boxes, image_sizes))


def decode_regions(outputs, delta_weights=DELTA_WEIGHTS, clip=clip_boxes):
    """Return every class of every proposal, with its box refined and clipped.

    Args:
        outputs: "class_logits" (B, R, 1 + K), "box_deltas" (B, R, K, 4), or (B, R, 1, 4) for every class,
            "proposals", "is_proposal" and "image_sizes" from `call`.
        delta_weights: factors of the deltas.
        clip: function of boxes and image sizes.

    Returns:
        boxes (B, R K, 4), labels (B, R K) int32, scores (B, R K); the score is 0 where there is no proposal
        or the clipped box is empty.
    """
    scores = ops.softmax(outputs["class_logits"], axis=-1)[..., 1:]  # (B, R, K)
    proposals = outputs["proposals"][:, :, None]  # (B, R, 1, 4)
    boxes = decode_deltas(outputs["box_deltas"], proposals, delta_weights)  # (B, R, K or 1, 4)
    batch, count, classes = ops.shape(scores)
    boxes = ops.broadcast_to(boxes, (batch, count, classes, 4))
    boxes = clip(ops.reshape(boxes, (batch, -1, 4)), outputs["image_sizes"])  # (B, R K, 4)
    scores = ops.where(outputs["is_proposal"][..., None], scores, 0.0)
    scores = ops.reshape(scores, (batch, -1))  # (B, R K)
    scores = ops.where(sides_reach(boxes, SMALLEST_DETECTION), scores, 0.0)
    labels = ops.arange(count * classes, dtype="int32") % classes
    return boxes, ops.zeros_like(scores, dtype="int32") + labels, scores
