"""The first stage of Faster R-CNN: a network that proposes regions, and its losses.

    Ren, He, Girshick, Sun. Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks.
    NIPS 2015. arXiv 1506.01497v3, section 3. With feature pyramids: Lin et al., Feature Pyramid Networks for
    Object Detection, CVPR 2017, arXiv 1612.03144v2, section 4.1.

Reading order: `RegionProposalNetwork` (section 3.1), `propose` (section 3.3), `proposal_losses` (section
3.1.2), `default_rpn`. The second stage and the departures from the papers are in `faster_rcnn.py`.

Axes: B batch, A anchors, P proposals, G ground truth.
"""

import keras
from keras import ops

from kerasdet.layers.anchors import AnchorGenerator
from kerasdet.layers.conv import Conv
from kerasdet.layers.location import AnchorDeltas, Argmax, Location
from kerasdet.layers.losses import SmoothL1
from kerasdet.layers.subnets import DEEPEST
from kerasdet.ops import native
from kerasdet.ops.boxes import clip_boxes, sides_reach
from kerasdet.ops.checks import check_choice, check_part, check_positive, check_whole
from kerasdet.ops.gather import gather_rows, top_rows
from kerasdet.ops.losses import alpha_balanced_cross_entropy
from kerasdet.ops.matching import BACKGROUND
from kerasdet.ops.nms import batched_nms
from kerasdet.ops.sampling import sample_quota

ANCHOR_FOREGROUND_IOU = 0.7  # section 3.1.2
ANCHOR_BACKGROUND_IOU = 0.3
ANCHORS_PER_IMAGE = 256
ANCHOR_POSITIVES = 0.5
PROPOSAL_IOU = 0.7  # section 3.3
PROPOSAL_BETA = 1 / 9  # of smooth L1, as in the authors' code
SMALLEST_PROPOSAL = 1e-3  # pixels; smaller boxes, left by clipping, are dropped


@keras.saving.register_keras_serializable("kerasdet")
class RegionProposalNetwork(keras.layers.Layer):
    """Predicts whether each anchor has an object, and its exact box (section 3.1). Shared by all levels.

    Args:
        anchors: an `AnchorGenerator`, one level per map.
        channels: channels of the hidden map.
        depth: hidden 3x3 convolutions.
        candidates: anchors per level that enter suppression, (in training, in inference).
        proposals: proposals per image, (in training, in inference).
        score_threshold: lowest probability of an object for proposals in inference.
        location: a `Location`: how anchors learn and predict boxes; default the paper's matching, deltas and
            smooth L1.
        smallest: shortest side of a proposal after clipping, in pixels of the canvas (authors: 16).
        activation: of the hidden maps, "relu" or "relu6".

    Call arguments:
        maps: {level: (B, H, W, C)}.

    Returns:
        ({level: logits (B, A_l)}, {level: deltas (B, A_l, 4)}), float32.
    """

    def __init__(
        self,
        anchors,
        channels=256,
        depth=1,
        candidates=(2000, 1000),
        proposals=(2000, 1000),
        score_threshold=0.0,
        location=None,
        smallest=SMALLEST_PROPOSAL,
        activation="relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_choice("activation", activation, ("relu", "relu6"))
        check_whole("channels", channels)
        check_whole("depth", depth, least=0, most=DEEPEST)
        for name, counts in (("candidates", candidates), ("proposals", proposals)):
            if not isinstance(counts, (list, tuple)) or len(counts) != 2:
                raise ValueError(f"{name} is {counts!r:.80}; give two, of training and of test.")
            for count in counts:
                check_whole(name, count, most=1 << 24)
        self.anchors = anchors
        self.channels = channels
        self.depth = depth
        self.candidates = tuple(candidates)
        self.proposals = tuple(proposals)
        check_positive("smallest", smallest)
        self.score_threshold = score_threshold
        self.location = location or paper_location()
        check_part("location", self.location, Location)
        self.smallest = smallest
        self.activation = activation
        count = anchors.num_anchors
        if not isinstance(count, int):
            raise ValueError(
                f"the levels have {count} anchors; to share a network, their numbers must be equal."
            )
        normal, policy = keras.initializers.RandomNormal(stddev=0.01), self.dtype_policy
        self.convs = [
            Conv(
                channels,
                3,
                activation=activation,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                sparsely_taught=True,  # the loss counts 256 anchors
                dtype=policy,
                name=f"conv{i}",
            )
            for i in range(depth)
        ]
        self.logits = Conv(count, 1, kernel_initializer=normal, dtype="float32", name="logits")
        normal = keras.initializers.RandomNormal(stddev=0.01)
        self.deltas = Conv(4 * count, 1, kernel_initializer=normal, dtype="float32", name="deltas")

    def build(self, maps_shape):
        """Create the convolutions' weights, once for all levels."""
        shape = next(iter(maps_shape.values()))
        for conv in self.convs:
            conv.build(shape)
            shape = (None, None, None, self.channels)
        self.logits.build(shape)
        self.deltas.build(shape)
        self.built = True

    def call(self, maps, training=False):
        """See the class docstring."""
        logits, deltas = {}, {}
        for level, x in maps.items():
            x = native.after(x, [*maps.values(), *logits.values(), *deltas.values()])
            for conv in self.convs:
                x = conv(x, training=training)
            batch = ops.shape(x)[0]
            logits[level] = ops.reshape(self.logits(x), (batch, -1))  # (B, H W A)
            deltas[level] = ops.reshape(self.deltas(x), (batch, -1, 4))  # (B, H W A, 4)
        return logits, deltas

    def compute_output_spec(self, maps, training=False):
        """Return one row per anchor of each level."""
        logits, deltas = {}, {}
        for level, features in maps.items():
            batch, height, width, _ = features.shape
            rows = None if None in (height, width) else height * width * self.anchors.num_anchors
            logits[level] = keras.KerasTensor((batch, rows), "float32")
            deltas[level] = keras.KerasTensor((batch, rows, 4), "float32")
        return logits, deltas

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "anchors": keras.saving.serialize_keras_object(self.anchors),
            "channels": self.channels,
            "depth": self.depth,
            "candidates": self.candidates,
            "proposals": self.proposals,
            "score_threshold": self.score_threshold,
            "location": keras.saving.serialize_keras_object(self.location),
            "smallest": self.smallest,
            "activation": self.activation,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuild the layer, its anchors and its `location`, which older files lack."""
        deserialize = keras.saving.deserialize_keras_object
        parts = {
            name: deserialize(config[name]) for name in ("anchors", "location") if name in config
        }
        return cls(**{**config, **parts})


def paper_location():
    """Return how anchors learn and predict boxes in the paper (section 3.1.2)."""
    # Eq: faster_rcnn §3.1.2 | positive: IoU > 0.7 or an object's highest; negative: IoU < 0.3
    matching = Argmax(ANCHOR_BACKGROUND_IOU, ANCHOR_FOREGROUND_IOU)
    return Location(matching, AnchorDeltas((1.0, 1.0, 1.0, 1.0)), SmoothL1(PROPOSAL_BETA))


def propose(outputs, rpn, training, clip=clip_boxes):
    """Turn the first stage's outputs into regions (section 3.3).

    The best candidates of each level are decoded, clipped and suppressed level by level; then the best of
    all levels are kept.

    Args:
        outputs: "objectness", "proposal_deltas", "anchors" and "image_sizes" from `FasterRCNN.call`.
        rpn: the `RegionProposalNetwork` with the settings.
        training: whether to use the settings for training.
        clip: function of boxes and image sizes.

    Returns:
        Boxes (B, P, 4), zeros if there are fewer than P, and whether each is a proposal (B, P) bool;
        without gradient.
    """
    candidates, count = (values[0 if training else 1] for values in (rpn.candidates, rpn.proposals))
    boxes, scores, levels = [], [], []
    for number, (level, logits) in enumerate(outputs["objectness"].items()):
        best, rows = top_rows(logits, candidates)  # (B, N)
        picked = gather_rows(outputs["proposal_deltas"][level], rows)  # (B, N, 4)
        anchors = ops.take(outputs["anchors"][level], rows, axis=0)  # (B, N, 4)
        boxes.append(rpn.location.decode(picked, anchors))  # (B, N, 4)
        scores.append(ops.sigmoid(best))
        levels.append(ops.full_like(rows, number))
    boxes, scores, levels = (ops.concatenate(parts, axis=1) for parts in (boxes, scores, levels))
    boxes = clip(boxes, outputs["image_sizes"])  # (B, N of all levels, 4)
    scores = ops.where(sides_reach(boxes, rpn.smallest), scores, -1.0)
    least = rpn.score_threshold if rpn.score_threshold else -0.5
    kept, _ = batched_nms(boxes, scores, levels, PROPOSAL_IOU, count, least)  # (B, P)
    is_proposal = kept >= 0
    proposals = ops.where(is_proposal[..., None], gather_rows(boxes, kept), 0.0)  # (B, P, 4)
    return ops.stop_gradient(proposals), is_proposal


def proposal_losses(outputs, targets, anchors, keys, location):
    """Compute the losses of objectness and deltas of 256 sampled anchors per image (section 3.1.2).

    Args:
        outputs: the result of `FasterRCNN.call`.
        targets: prepared targets.
        anchors: (A, 4), the anchors of all levels.
        keys: (B, A), the random order of the sampling.
        location: the `Location` of the `RegionProposalNetwork`.

    Returns:
        {"objectness_loss": (sum, count), "proposal_loss": (sum, count)}.
    """
    logits = ops.concatenate(list(outputs["objectness"].values()), axis=1)  # (B, A)
    deltas = ops.concatenate(list(outputs["proposal_deltas"].values()), axis=1)  # (B, A, 4)
    matches = location.assign(targets, anchors)  # (B, A)
    sampled, counted = sample_quota(
        matches >= 0, matches == BACKGROUND, keys, ANCHORS_PER_IMAGE, ANCHOR_POSITIVES
    )
    objects = gather_rows(matches, sampled)  # (B, 256)
    positive = counted & (objects >= 0)

    # Eq: faster_rcnn 1 | L = 1/N sum L_cls(p_i, p_i*) + lambda/N sum p_i* L_reg(t_i, t_i*)
    targets_, sampled_logits = ops.cast(positive, "float32"), gather_rows(logits, sampled)
    losses = alpha_balanced_cross_entropy(targets_, sampled_logits, alpha=None)
    own = ops.take(anchors, sampled, axis=0)  # (B, 256, 4)
    boxes = ops.where(positive[..., None], gather_rows(targets["boxes"], objects), own)
    box_losses = location.losses(boxes, gather_rows(deltas, sampled), own)  # (B, 256)
    count = ops.sum(ops.cast(counted, "float32"))
    return {
        "objectness_loss": (ops.sum(ops.where(counted, losses, 0.0)), count),
        "proposal_loss": (ops.sum(ops.where(positive, box_losses, 0.0)), count),
    }


def default_rpn(model):
    """Return the papers' proposal network for a model's maps.

    With a feature pyramid, FPN's: 15 anchors, sizes 32 to 512 on P2 to P6 (section 4.1). With one map, the
    paper's for VGG-16: 9 anchors, 512 channels, 12000 candidates and 2000 proposals in training, 6000 and 300
    in inference.
    """
    settings = {"dtype": model.dtype_policy, "name": "rpn"}
    if model.neck:
        levels = len(model.neck.output_levels)
        return RegionProposalNetwork(AnchorGenerator.fpn(levels=levels), **settings)
    (level,) = model.proposal_maps_shape()
    stride = model.backbone.strides[level]
    # Eq: faster_rcnn §3.3 | 3 scales 128^2, 256^2, 512^2 and 3 ratios 1:1, 1:2, 2:1
    anchors = AnchorGenerator([[128, 256, 512]], (0.5, 1.0, 2.0), strides=[stride])
    return RegionProposalNetwork(anchors, 512, 1, (12000, 6000), (2000, 300), **settings)
