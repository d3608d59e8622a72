"""Write torchvision_ops.npz: what torchvision's C++ operations give, and their gradients.

Run with a Python that has torch and torchvision: `python tests/golden/make_torchvision_ops.py`.
Everything is computed in float64 and kept in the layouts of `kerasdet.ops`.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
from scenes import (
    IMAGES,
    REGIONS,
    UPRIGHT,
    WITHIN,
    check_bins,
    check_samples,
    make_boxes,
    make_features,
    near_integer,
    refuse,
)
from store import Case, save, upstream
from torch.nn.functional import smooth_l1_loss
from torchvision import ops

ROWS, COLUMNS, CHANNELS = 12, 15, 3  # of the maps under the regions


def to_torch(array):
    """Floats as float64, of which gradients can be taken."""
    array = np.asarray(array)
    if array.dtype.kind == "f":
        return torch.tensor(array, dtype=torch.float64, requires_grad=True)
    return torch.tensor(array)


def channels_first(tensor):
    """(B, H, W, C) -> (B, C, H, W)."""
    return tensor.permute(0, 3, 1, 2)


def record(op, inputs, options, function, differentiate=()):
    """Run `function(**inputs)` on tensors: a Case with its output and gradients."""
    tensors = {name: to_torch(value) for name, value in inputs.items()}
    output = function(**tensors)
    gradients = {}
    if differentiate:
        weights = torch.tensor(upstream(output.shape))
        slopes = torch.autograd.grad((output * weights).sum(), [tensors[n] for n in differentiate])
        gradients = {name: slope.numpy() for name, slope in zip(differentiate, slopes)}
    return Case(op, inputs, options, output.detach().numpy(), gradients)


def record_regions(op, function, features, boxes, **options):
    """A Case of a region operation; `function(features, list of boxes)` is torchvision's."""

    def run(features, boxes):
        pooled = function(channels_first(features), list(boxes))
        images, regions = boxes.shape[:2]
        return pooled.unflatten(0, (images, regions)).permute(0, 1, 3, 4, 2)

    return record(op, {"features": features, "boxes": boxes}, options, run, ["features"])


# --- The cases -----------------------------------------------------------------------------------


def roi_pool(seed, output_size, spatial_scale=0.25, step=1 / 32):
    """RoIPool; a large `step` makes maps of few values, where maxima are shared."""
    rng = np.random.default_rng(seed)
    features = make_features(rng, ROWS, COLUMNS, CHANNELS, step=step)
    boxes = make_boxes(rng, ROWS / spatial_scale, COLUMNS / spatial_scale)
    check_bins(boxes, output_size, spatial_scale, inclusive=1)
    return record_regions(
        "roi_pool",
        lambda x, b: ops.roi_pool(x, b, output_size, spatial_scale),
        features,
        boxes,
        output_size=output_size,
        spatial_scale=spatial_scale,
    )


def roi_align(seed, output_size, sampling_ratio, aligned, names=tuple(REGIONS)):
    """RoIAlign by averages."""
    rng = np.random.default_rng(seed)
    features = make_features(rng, ROWS, COLUMNS, CHANNELS)
    boxes = make_boxes(rng, ROWS * 8, COLUMNS * 8, names)
    shift, least = (0.5, None) if aligned else (0, 1)
    check_samples(boxes, output_size, 1 / 8, sampling_ratio, shift, least, (ROWS, COLUMNS))
    return record_regions(
        "roi_align",
        lambda x, b: ops.roi_align(x, b, output_size, 1 / 8, sampling_ratio or -1, aligned),
        features,
        boxes,
        output_size=output_size,
        spatial_scale=1 / 8,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )


def multilevel_roi_align(seed, output_size, sampling_ratio):
    """RoIAlign on the levels P2 to P5 of a pyramid, chosen by the regions' sizes."""
    rng = np.random.default_rng(seed)
    height, width, names = 128, 160, ("P2", "P3", "P4", "P5")
    pyramid = {
        name: make_features(rng, height >> level, width >> level, 2)
        for level, name in enumerate(names, 2)
    }
    boxes = make_boxes(rng, height, width, UPRIGHT)
    sides = np.sqrt(np.prod(boxes[..., 2:] - boxes[..., :2], -1))
    with np.errstate(divide="ignore"):
        levels = 4 + np.log2(sides / 224)
    refuse(near_integer(levels[sides > 0]), "regions lie between two levels")
    refuse(len(np.unique(np.clip(np.floor(levels), 2, 5))) < 4, "case without a region per level")
    for level in range(2, 6):
        size = pyramid[f"P{level}"].shape[1:3]
        check_samples(boxes, output_size, 0.5**level, sampling_ratio, 0, 1, size)
    align = ops.MultiScaleRoIAlign(list(names), output_size, sampling_ratio)

    def run(boxes, **pyramid):
        maps = {name: channels_first(level) for name, level in pyramid.items()}
        pooled = align(maps, list(boxes), [(height, width)] * IMAGES)
        return pooled.unflatten(0, boxes.shape[:2]).permute(0, 1, 3, 4, 2)

    options = {"output_size": output_size, "sampling_ratio": sampling_ratio}
    return record("multilevel_roi_align", {**pyramid, "boxes": boxes}, options, run, names)


def ps_roi_pool(seed, bins, spatial_scale=0.25):
    """Position-sensitive RoIPool, away from the last row and column."""
    rng = np.random.default_rng(seed)
    features = make_features(rng, ROWS, COLUMNS, 2 * bins * bins)
    boxes = make_boxes(rng, ROWS / spatial_scale, COLUMNS / spatial_scale, WITHIN)
    check_bins(boxes, (bins, bins), spatial_scale, 0, last=(ROWS - 1, COLUMNS - 1))
    return record_regions(
        "ps_roi_pool",
        lambda x, b: ops.ps_roi_pool(x, b, bins, spatial_scale),
        features,
        boxes,
        output_size=bins,
        spatial_scale=spatial_scale,
    )


def ps_roi_align(seed, bins, sampling_ratio):
    """Position-sensitive RoIAlign."""
    rng = np.random.default_rng(seed)
    features = make_features(rng, ROWS, COLUMNS, 2 * bins * bins)
    boxes = make_boxes(rng, ROWS * 4, COLUMNS * 4)
    check_samples(boxes, (bins, bins), 1 / 4, sampling_ratio, 0.5, None, (ROWS, COLUMNS))
    return record_regions(
        "ps_roi_align",
        lambda x, b: ops.ps_roi_align(x, b, bins, 1 / 4, sampling_ratio),
        features,
        boxes,
        output_size=bins,
        spatial_scale=1 / 4,
        sampling_ratio=sampling_ratio,
    )


def deform_conv2d(
    seed, kernel_size=(3, 3), offset_groups=1, conv_groups=1, reach=3, mask=False, **options
):
    """Deformable convolution; with a mask it is version 2. Offsets go up to `reach` cells away."""
    rng = np.random.default_rng(seed)
    rows, columns, channels, filters = 7, 9, 4, 4
    options = {"strides": (1, 1), "padding": (1, 1), "dilation": (1, 1), **options}
    map_size = [
        (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        for size, padding, dilation, taps, stride in zip(
            (rows, columns),
            options["padding"],
            options["dilation"],
            kernel_size,
            options["strides"],
        )
    ]
    taps = offset_groups * kernel_size[0] * kernel_size[1]
    offsets = np.zeros((IMAGES, *map_size, 2 * taps))
    if reach:  # bilinear interpolation has no slope at whole cells: stay between them
        whole = rng.integers(-reach, reach, offsets.shape)
        offsets = whole + rng.integers(1, 16, offsets.shape) / 16
    inputs = {
        "inputs": make_features(rng, rows, columns, channels),
        "offsets": offsets,
        "kernel": make_features(
            rng, *kernel_size[1:], channels // conv_groups, filters, images=kernel_size[0]
        ),
    }
    if mask:
        inputs["mask"] = rng.integers(0, 65, (IMAGES, *map_size, taps)) / 64

    def run(inputs, offsets, kernel, mask=None):
        output = ops.deform_conv2d(
            channels_first(inputs),
            channels_first(offsets),
            kernel.permute(3, 2, 0, 1),
            None,
            options["strides"],
            options["padding"],
            options["dilation"],
            None if mask is None else channels_first(mask),
        )
        return output.permute(0, 2, 3, 1)

    return record("deform_conv2d", inputs, options, run, list(inputs))


def nms(seed, iou_threshold, max_output_size, labels=0):
    """Suppression, of one class or, with a number of `labels`, class by class."""
    rng = np.random.default_rng(seed)
    centres, sides = rng.uniform(20, 80, (60, 2)), rng.uniform(10, 60, (60, 2))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], -1).astype("float32")
    inputs = {"boxes": boxes.astype("float64"), "scores": rng.permutation(60) / 64}
    overlaps = ops.box_iou(*[torch.tensor(inputs["boxes"])] * 2).numpy()
    refuse(np.abs(overlaps - iou_threshold) < 1e-5, "overlaps equal the threshold")
    if labels:
        inputs["labels"] = rng.integers(0, labels, 60)

    def run(boxes, scores, labels=None):
        if labels is None:
            kept = ops.nms(boxes, scores, iou_threshold)
        else:
            kept = ops.batched_nms(boxes, scores, labels, iou_threshold)
        padding = torch.full((max_output_size,), -1)
        return torch.cat([kept, padding])[:max_output_size]

    options = {"iou_threshold": iou_threshold, "max_output_size": max_output_size}
    return record("batched_nms" if labels else "nms", inputs, options, run)


def box_overlaps(seed, op, function):
    """A matrix of overlaps, of boxes that cross, lie within each other, or far apart."""
    rng = np.random.default_rng(seed)
    corners, sides = rng.uniform(0, 60, (2, 12, 2)), rng.uniform(5, 60, (2, 12, 2))
    boxes1, boxes2 = np.concatenate([corners, corners + sides], -1).astype("float32")
    boxes1[0], boxes2[0] = (10, 10, 90, 80), (30, 20, 50, 60)
    boxes2[1] = boxes2[1] + 1000
    inputs = {"boxes1": boxes1.astype("float64"), "boxes2": boxes2.astype("float64")}
    return record(op, inputs, {}, function, list(inputs))


def sigmoid_focal_loss(seed, alpha, gamma):
    """Focal loss; alpha None is torchvision's -1."""
    rng = np.random.default_rng(seed)
    inputs = {"targets": rng.integers(0, 2, (8, 9)), "logits": rng.normal(0, 4, (8, 9))}

    def run(targets, logits):
        return ops.sigmoid_focal_loss(
            logits, targets.double(), -1 if alpha is None else alpha, gamma
        )

    options = {"alpha": alpha, "gamma": gamma}
    return record("sigmoid_focal_loss", inputs, options, run, ["logits"])


def smooth_l1(seed, beta):
    """Smooth L1, torch's own, with errors on both sides of beta."""
    rng = np.random.default_rng(seed)
    scales = np.array([0.3, 1, 3]) * (beta or 1)
    inputs = {
        "targets": rng.normal(0, 1, (30, 3)) * scales,
        "predictions": rng.normal(0, 1, (30, 3)) * scales,
    }
    errors = np.abs(inputs["targets"] - inputs["predictions"])
    refuse(np.minimum(errors, np.abs(errors - beta)) < 1e-4 * (beta or 1), "errors lie on a kink")
    refuse(beta and len(np.unique(errors < beta)) < 2, "case on one side of beta")

    def run(targets, predictions):
        return smooth_l1_loss(predictions, targets, reduction="none", beta=beta)

    return record("smooth_l1", inputs, {"beta": beta}, run, ["predictions"])


FEW = ("inside", "tiny", "left", "right")
BOUNDED = [name for name in REGIONS if name != "huge"]  # no bin is larger than the map

CASES = {
    "roi_pool/7x7": partial(roi_pool, 0, (7, 7)),
    "roi_pool/3x5": partial(roi_pool, 1, (3, 5), 1 / 16),
    "roi_pool/shared_maxima": partial(roi_pool, 2, (4, 2), step=2),
    "roi_align/1_sample": partial(roi_align, 10, (3, 5), 1, False),
    "roi_align/1_sample_aligned": partial(roi_align, 11, (3, 5), 1, True),
    "roi_align/2_samples": partial(roi_align, 12, (3, 5), 2, False),
    "roi_align/2_samples_aligned": partial(roi_align, 13, (3, 5), 2, True),
    "roi_align/3_samples": partial(roi_align, 14, (3, 5), 3, False),
    "roi_align/3_samples_aligned": partial(roi_align, 15, (3, 5), 3, True),
    "roi_align/7x7": partial(roi_align, 16, (7, 7), 2, False),
    "roi_align/7x7_aligned": partial(roi_align, 17, (7, 7), 2, True),
    "roi_align/as_many_as_cells": partial(roi_align, 22, (3, 5), None, False, BOUNDED),
    "roi_align/as_many_as_cells_aligned": partial(roi_align, 23, (5, 7), None, True, BOUNDED),
    "roi_align/14x14": partial(roi_align, 18, (14, 14), 2, False, FEW),
    "roi_align/14x14_aligned": partial(roi_align, 19, (14, 14), 1, True, FEW),
    "multilevel_roi_align/7x7": partial(multilevel_roi_align, 20, (7, 7), 2),
    "multilevel_roi_align/3x5": partial(multilevel_roi_align, 21, (3, 5), 1),
    "ps_roi_pool/3x3": partial(ps_roi_pool, 30, 3),
    "ps_roi_pool/7x7": partial(ps_roi_pool, 31, 7, 1 / 16),
    "ps_roi_align/1_sample": partial(ps_roi_align, 40, 3, 1),
    "ps_roi_align/2_samples": partial(ps_roi_align, 41, 3, 2),
    "ps_roi_align/3_samples": partial(ps_roi_align, 42, 2, 3),
    "ps_roi_align/7x7": partial(ps_roi_align, 43, 7, 2),
    "deform_conv2d/v1": partial(deform_conv2d, 50),
    "deform_conv2d/v2": partial(deform_conv2d, 51, mask=True),
    "deform_conv2d/valid": partial(deform_conv2d, 52, mask=True, padding=(0, 0)),
    "deform_conv2d/strides": partial(deform_conv2d, 53, mask=True, strides=(2, 1)),
    "deform_conv2d/dilation": partial(deform_conv2d, 54, padding=(2, 1), dilation=(2, 2)),
    "deform_conv2d/offset_groups": partial(deform_conv2d, 55, mask=True, offset_groups=2),
    "deform_conv2d/conv_groups": partial(deform_conv2d, 56, conv_groups=2),
    "deform_conv2d/both_groups": partial(
        deform_conv2d, 57, mask=True, offset_groups=2, conv_groups=2, strides=(2, 1)
    ),
    "deform_conv2d/1x1": partial(deform_conv2d, 58, mask=True, kernel_size=(1, 1), padding=(0, 0)),
    "deform_conv2d/3x5": partial(
        deform_conv2d, 59, kernel_size=(3, 5), offset_groups=2, padding=(2, 1), dilation=(1, 2)
    ),
    "deform_conv2d/far": partial(deform_conv2d, 60, mask=True, reach=40),
    "deform_conv2d/zero_offsets": partial(deform_conv2d, 61, mask=True, reach=0),
    "nms/all": partial(nms, 70, 0.5, 60),
    "nms/best_5": partial(nms, 71, 0.3, 5),
    "batched_nms/all": partial(nms, 72, 0.5, 60, labels=4),
    "box_iou/all_pairs": partial(box_overlaps, 80, "box_iou", ops.box_iou),
    "box_giou/all_pairs": partial(box_overlaps, 81, "box_giou", ops.generalized_box_iou),
    "box_diou/all_pairs": partial(box_overlaps, 82, "box_diou", ops.distance_box_iou),
    "box_ciou/all_pairs": partial(box_overlaps, 83, "box_ciou", ops.complete_box_iou),
    "sigmoid_focal_loss/paper": partial(sigmoid_focal_loss, 90, 0.25, 2.0),
    "sigmoid_focal_loss/small_gamma": partial(sigmoid_focal_loss, 91, 0.75, 0.5),
    "sigmoid_focal_loss/no_alpha": partial(sigmoid_focal_loss, 92, None, 5.0),
    "sigmoid_focal_loss/no_gamma": partial(sigmoid_focal_loss, 93, 0.5, 0.0),
    "smooth_l1/fast_rcnn": partial(smooth_l1, 100, 1.0),
    "smooth_l1/ninth": partial(smooth_l1, 101, 1 / 9),
    "smooth_l1/l1": partial(smooth_l1, 102, 0.0),
}


def main():
    """Write the file beside this script."""
    cases = {}
    for name, make in CASES.items():
        try:
            cases[name] = make()
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    versions = {module.__name__: module.__version__ for module in (torch, torchvision, np)}
    save(Path(__file__).with_name("torchvision_ops.npz"), cases, versions)


if __name__ == "__main__":
    main()
