"""Faster R-CNN: a network proposes regions, and Fast R-CNN classifies them, both on the same features.

    Ren, He, Girshick, Sun. Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks.
    NIPS 2015. arXiv 1506.01497v3. With feature pyramids: Lin et al., Feature Pyramid Networks for Object
    Detection, CVPR 2017, arXiv 1612.03144v2.

Reading order: first Fast R-CNN (`fast_rcnn.py`: sampling of regions, multi-task loss, region classifier,
decoding); then what this paper adds: the proposal network in `region_proposals.py` (sections 3.1 to 3.3),
`FasterRCNN.call` (section 3: features, proposals, regions) and `FasterRCNN.loss_terms` (both stages). The
neck is `kerasdet.layers.FeaturePyramid`. Branches, such as Mask R-CNN's, are parts that predict more for
each detection.

Departures from the papers:
    - RoIAlign replaces RoIPool by default (Mask R-CNN, arXiv 1703.06870, section 3); `pooling` takes either.
    - Anchors that cross the image's border take part (FPN's code; section 3.1.2 of the paper leaves
      them out in training).
    - Background regions may have any IoU below 0.5, as in the authors' code for joint training.

Axes: B batch, P proposals, S sampled regions, G ground truth, K classes, D detections.
"""

import functools

import keras
from keras import ops

from kerasdet.backbones import MobileNetV2, ResNet50
from kerasdet.layers.anchors import AnchorGenerator
from kerasdet.layers.crop import CANVAS
from kerasdet.layers.feature_pyramid import FeaturePyramid
from kerasdet.layers.region_heads import DenseHead
from kerasdet.layers.roi import MultilevelRoIAlign
from kerasdet.models.base import build_once, norm_option
from kerasdet.models.detector import data_arguments
from kerasdet.models.fast_rcnn import (
    RegionDetector,
    decode_regions,
    losses_of,
    region_losses,
)
from kerasdet.models.region_proposals import (
    RegionProposalNetwork,
    default_rpn,
    proposal_losses,
    propose,
)
from kerasdet.ops.sampling import random_keys

REGIONS_PER_IMAGE = 512  # FPN, section 5.2; the paper uses 128 at two images per step
STAGES = ("proposals", "regions")
FIRST_STAGE_TERMS = ("objectness_loss", "proposal_loss")


@keras.saving.register_keras_serializable("kerasdet")
class FasterRCNN(RegionDetector):
    """A two-stage detector: regions are proposed, then classified and refined (arXiv 1506.01497).

    Args:
        num_classes: K, foreground classes 0..K-1.
        backbone: a `kerasdet.backbones` model; default `ResNet50()`.
        neck: a `FeaturePyramid`, or False for no neck: then regions are pooled from the backbone's last
            level, and its first level of the same stride proposes. Default: P2 to P6 (FPN, section 4).
        rpn: a `RegionProposalNetwork` whose anchors fit the maps; default `default_rpn`: FPN's, or the
            paper's if there is no neck.
        pooling: a layer from a dict of maps and boxes to regions; default `MultilevelRoIAlign(7)`;
            `MultilevelRoIPool(7)` is the paper's. Both take one map or several levels; `CropAndResize` takes
            one map.
        head: a layer from regions (B, R, h, w, C) to features (B, R, F); default `DenseHead()`.
        regions_per_image: S, regions sampled to train the second stage (the paper uses 128 at two images
            per step; FPN uses 512).
        branches: parts that predict more for each detection, such as `MaskBranch()`.
        **detector: `sampler` of the regions (default `RandomRegions()`), `seed` of the sampling of anchors
            and regions, `box_weight`, `refinements`, `whole_pixels`: see `RegionDetector`; `class_names`,
            `category_ids`, `resize`, `score_threshold`, `iou_threshold`, `max_detections`, `name`: see
            `Detector`.

    Call arguments:
        inputs: as in `Detector`; a dict may hold "proposals" (B, R, 4) xyxy, which then replace the
            network's own (Fast R-CNN).

    Example:
        >>> model = FasterRCNN(3, backbone=kerasdet.backbones.ResNet50())
        >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        >>> model.fit(data.batches(2, resize=model.resize))

        The neck fits any backbone with levels "C2" to "C5": ResNeXt50(), MobileNetV2(), ... The paper's
        own model, VGG-16 with fc6 and fc7 on each region:

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

    LOSS_TERMS = (*FIRST_STAGE_TERMS, "classification_loss", "box_loss")
    TRANSFERRED = ("backbone", "neck", "rpn")

    # Another model's method `proposals`, whose result replaces this model's proposals; not saved.
    proposer = None
    keypoint_names = ()
    _learns = STAGES

    def __init__(
        self,
        num_classes,
        backbone=None,
        neck=None,
        rpn=None,
        pooling=None,
        head=None,
        regions_per_image=REGIONS_PER_IMAGE,
        branches=(),
        **detector,
    ):
        super().__init__(
            num_classes,
            pooling or MultilevelRoIAlign(7, dtype=detector.get("dtype"), name="pooling"),
            head or DenseHead(dtype=detector.get("dtype"), name="head"),
            regions_per_image,
            backbone=backbone or ResNet50(dtype=detector.get("dtype")),
            **detector,
        )
        if neck is None:
            levels, policy = self.backbone.levels, self.dtype_policy
            neck = FeaturePyramid(levels=levels, p6_from="pool", dtype=policy, name="neck")
        self.neck = neck
        self.rpn = rpn or default_rpn(self)
        self.branches = list(branches)
        self._add_loss_terms(branch.LOSS_TERM for branch in self.branches)
        self.build()

    @property
    def TARGETS(self):
        """What training targets must hold."""
        return ("boxes", "labels", *(branch.TARGET for branch in self.branches))

    @property
    def EXTRAS(self):
        """What detections hold besides boxes, labels and confidence."""
        return tuple(branch.EXTRA for branch in self.branches)

    @classmethod
    def for_data(
        cls,
        data,
        resize=None,
        backbone=None,
        channels=128,
        norm="batch",
        anchors="fitted",
        regions=128,
        candidates=(2000, 1000),
        **detector,
    ):
        """Build a model with a feature pyramid for a data set.

        Args:
            data: `Dataset`, for its classes and the sizes of its objects.
            resize: `Resize` part of the model.
            backbone: default MobileNetV2.
            channels: channels of the neck and the proposal network; fc6 and fc7 have four times as many.
            norm: "batch" (for training from scratch) or "none", for the neck.
            anchors: "fitted" to the data's objects, or "paper": 32 to 512 pixels.
            regions: regions per image sampled to train the second stage.
            candidates: anchors per level, and proposals per image, in training and in inference.
            **detector: further arguments of the constructor.

        Raises:
            ValueError: an argument is out of its range.
        """
        backbone = backbone or MobileNetV2()
        norm = norm_option(norm)
        layout = AnchorGenerator.fpn
        anchors = AnchorGenerator.for_data(anchors, data, resize, layout) or layout()
        neck = FeaturePyramid(channels, backbone.levels, p6_from="pool", norm=norm, name="neck")
        rpn = RegionProposalNetwork(
            anchors, channels, candidates=candidates, proposals=candidates, name="rpn"
        )
        return cls(
            backbone=backbone,
            neck=neck,
            rpn=rpn,
            regions_per_image=regions,
            resize=resize,
            **{
                "head": DenseHead((4 * channels, 4 * channels), name="head"),
                **data_arguments(data),
                **detector,
            },
        )

    def build(self, input_shape=None):
        """Create every weight."""
        if self.neck:
            channels = self.backbone.channels.items()
            build_once(self.neck, {level: (None, None, None, width) for level, width in channels})
        build_once(self.rpn, self.proposal_maps_shape())
        build_once(self.classifier, self.region_maps_shape())
        for branch in self.branches:
            branch.attach(self)
        self.built = True

    def call(self, inputs, training=False):
        """Compute the raw outputs.

        Returns:
            {"maps": {level: (B, H, W, C)}, "objectness": {level: (B, A_l)}, "proposal_deltas": {level:
            (B, A_l, 4)}, "anchors": {level: (A_l, 4)}, "proposals": (B, P, 4), "is_proposal": (B, P)
            bool, "image_sizes": (B, 2)}. Except in training, also "class_logits" (B, P, 1 + K), background
            first, and "box_deltas" (B, P, K, 4) of each proposal, which then is where it was classified last;
            and with branches "detections", the result
            of `decode`, and what each branch draws in their boxes, such as "mask_logits" (B, D, m, m, K).
        """
        outputs = self._first_stage(inputs, training)
        if isinstance(inputs, dict) and "proposals" in inputs:
            proposals, is_proposal = self.given_proposals(inputs, outputs["image_sizes"])
        elif self.proposer:
            proposals, is_proposal = self.proposer(inputs, training)
        else:
            proposals, is_proposal = propose(outputs, self.rpn, training, self.clip)
        outputs = {**outputs, "proposals": proposals, "is_proposal": is_proposal}
        if training:
            return outputs
        maps = self.region_maps(outputs["maps"])
        outputs |= self.classify(maps, outputs)
        if self.branches:
            # Mask R-CNN, section 3.1: branches see only the boxes that suppression keeps, not all proposals.
            detections = self.suppress(*self.refined(outputs))
            outputs |= {"detections": detections, **self.draw(maps, detections["boxes"])}
        return outputs

    def refined(self, outputs):
        """Return every class of every proposal before suppression; see `decode_regions`."""
        return decode_regions(outputs, clip=self.clip)

    def draw(self, maps, boxes):
        """Return what each branch draws in boxes (B, D, 4), by its `OUTPUT`."""
        return {branch.OUTPUT: branch.draw(self, maps, boxes) for branch in self.branches}

    def proposals(self, inputs, training=False):
        """Run only the first stage, its layers as in inference, as another model's `proposer`.

        Args:
            inputs: the call arguments of the class.
            training: whether to return as many proposals as in training.

        Returns:
            Boxes (B, P, 4), zeros if there are fewer than P, and whether each is a proposal (B, P) bool.
        """
        return propose(self._first_stage(inputs), self.rpn, training, self.clip)

    def _first_stage(self, inputs, training=False):
        images, image_sizes = self.normalize(inputs)
        maps = self.backbone(images, training=training)
        if self.neck:
            maps = self.neck(maps, training=training)
        seen = {level: maps[level] for level in self.proposal_maps_shape()}
        objectness, deltas = self.rpn(seen, training=training)
        if getattr(self.pooling, "TAKES_CANVAS", False):
            height, width = (ops.cast(side, "float32") for side in ops.shape(images)[1:3])
            canvas = ops.zeros_like(ops.cast(image_sizes, "float32")) + ops.stack([height, width])
            maps = {**maps, CANVAS: canvas}  # (B, 2)
        return {
            "maps": {**seen, **self.region_maps(maps)},
            "objectness": objectness,
            "proposal_deltas": deltas,
            "anchors": dict(zip(seen, self.rpn.anchors(seen, images))),
            "image_sizes": image_sizes,
        }

    def loss_terms(self, outputs, targets, training=False):
        """Compute the multi-task losses of the trained stages, over sampled anchors and regions."""
        step, images = self.step_and_images(targets, training)
        terms = {}
        if "proposals" in self.learns:
            anchors = ops.concatenate(list(outputs["anchors"].values()), axis=0)  # (A, 4)
            keys = random_keys(self.seed, step, images, ops.shape(anchors)[0])
            terms |= proposal_losses(outputs, targets, anchors, keys, self.rpn.location)
        if "regions" in self.learns:
            keys = functools.partial(random_keys, self.seed + 1, step, images)
            terms |= self.region_terms(outputs, targets, keys, training)
        return terms

    def region_terms(self, outputs, targets, keys, training):
        """Compute the losses of the second stage.

        Args:
            outputs: the result of `call`.
            targets: prepared targets.
            keys: function of N that returns (B, N), the random order of the sampling.
            training: bool.
        """
        maps, count = self.region_maps(outputs["maps"]), self.regions_per_image
        classify = functools.partial(self.classifier, maps)
        losses = losses_of(classify, targets, self.losses_of_each)
        sampled = self.sampler.sample(targets, outputs, count, keys, losses)
        predicted = classify(sampled[0], training=training)
        terms = region_losses(predicted, targets, *sampled, self.losses_of_each)
        for branch in self.branches:
            terms[branch.LOSS_TERM] = branch.loss(self, maps, targets, sampled, training)
        return terms

    def decode(self, outputs):
        """Return every class of every proposal after suppression, with what the branches predict."""
        if not self.branches:
            return self.suppress(*self.refined(outputs))
        detections = outputs["detections"]
        for branch in self.branches:
            detections = branch.decode(outputs[branch.OUTPUT], detections)
        return detections

    @property
    def learns(self):
        """The stages whose terms form the loss: ("proposals", "regions"), or one of them alone.

        This is not saved. Setting it does not freeze layers: `kerasdet.training.train_alternating` does both.
        """
        return self._learns

    @learns.setter
    def learns(self, stages):
        if not stages or not set(stages) <= set(STAGES):
            raise ValueError(f"learns must be one or more of {STAGES}, not {stages!r}.")
        self._learns = tuple(stage for stage in STAGES if stage in stages)
        self.train_function = self.test_function = None  # traced with the old terms

    @property
    def metrics(self):
        """Keras' metrics, without the terms of stages that are not trained."""
        stages = {term: STAGES[term not in FIRST_STAGE_TERMS] for term in self.LOSS_TERMS}
        return [m for m in super().metrics if stages.get(m.name, self.learns[0]) in self.learns]

    def proposal_maps_shape(self):
        """Return the shapes of the maps that the proposal network sees, {level: (None, None, None, C)}."""
        if not self.neck:
            strides, (last,) = self.backbone.strides, self.region_maps_shape()
            first = next(level for level in self.backbone.levels if strides[level] == strides[last])
            return {first: (None, None, None, self.backbone.channels[first])}
        return {level: (None, None, None, self.neck.channels) for level in self.neck.output_levels}

    def region_maps(self, maps):
        """Return the maps that regions are pooled from: all but the neck's added level, or the only one.

        Beside them is the canvas (B, 2), for a pooling of shares of it.
        """
        return {
            level: maps[level] for level in (*self.region_maps_shape(), CANVAS) if level in maps
        }

    def region_maps_shape(self):
        """Return the shapes of `region_maps`, {level: (None, None, None, C)}."""
        if not self.neck:
            last = self.backbone.levels[-1]
            return {last: (None, None, None, self.backbone.channels[last])}
        levels = [f"P{level[1:]}" for level in self.neck.levels]
        return {level: (None, None, None, self.neck.channels) for level in levels}
