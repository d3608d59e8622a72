"""`mmcv.ops` from torchvision's operations, because mmcv-lite comes without its compiled ones.

It has what mmdetection's Faster, Mask and Cascade R-CNN need. Of every other name that mmdetection imports
there is a class that cannot be built.
"""

import sys
import types

import torch
from torchvision import ops

# Modules of mmcv that mmdetection imports names from.
SUBMODULES = (
    *("box_iou_rotated", "carafe", "deform_conv", "focal_loss", "masked_conv", "merge_cells"),
    *("modulated_deform_conv", "multi_scale_deform_attn", "nms", "point_sample"),
    *("points_in_polygons", "roi_align", "roi_pool"),
)


def install():
    """Make `import mmcv.ops` find this; before mmdet is imported."""
    from mmengine.registry import MODELS

    found = {function.__name__: function for function in (nms, batched_nms, RoIAlign)}
    found |= {"DeformConv2dPack": DeformConv, "DeformConv2d": DeformConv}
    found |= dict.fromkeys(("ModulatedDeformConv2dPack", "ModulatedDeformConv2d"), ModulatedConv)

    def find(name):
        if name.startswith("__"):
            raise AttributeError(name)
        return found.get(name) or type(name, (Missing,), {})

    for name in ("mmcv.ops", *(f"mmcv.ops.{submodule}" for submodule in SUBMODULES)):
        module = types.ModuleType(name)
        module.__path__ = []
        module.__getattr__ = find
        sys.modules[name] = module
    for name, layer in (("DCN", DeformConv), ("DCNv2", ModulatedConv)):
        MODELS.register_module(name=name, module=layer, force=True)


class Missing(torch.nn.Module):
    """Stands for an operation that torchvision does not have."""

    def __init__(self, *arguments, **options):
        raise NotImplementedError(f"There is no mmcv.ops.{type(self).__name__} without mmcv.")


def nms(boxes, scores, iou_threshold, offset=0, score_threshold=0, max_num=-1):
    """Detections (D, 5), boxes and scores, and their indices."""
    return _kept(boxes, scores, ops.nms(boxes, scores, iou_threshold), max_num)


def batched_nms(boxes, scores, idxs, nms_cfg, class_agnostic=False):
    """Likewise, class by class."""
    if class_agnostic or nms_cfg.get("class_agnostic"):
        raise NotImplementedError("Suppression is by class here.")
    kept = ops.batched_nms(boxes, scores, idxs, nms_cfg["iou_threshold"])
    return _kept(boxes, scores, kept, nms_cfg.get("max_num", -1))


def _kept(boxes, scores, kept, most):
    kept = kept[:most] if most > 0 else kept
    return torch.cat([boxes[kept], scores[kept, None]], dim=1), kept


class RoIAlign(torch.nn.Module):
    """RoIAlign; a sampling ratio of 0 means as many points as cells, which is -1 in torchvision."""

    def __init__(self, output_size, spatial_scale=1.0, sampling_ratio=0, aligned=True):
        super().__init__()
        size = output_size if isinstance(output_size, tuple) else (output_size, output_size)
        self.output_size, self.spatial_scale = size, spatial_scale
        self.options = (size, spatial_scale, sampling_ratio or -1, aligned)

    def forward(self, maps, regions):
        """Pool regions (N, 5): the image's number and the box."""
        return ops.roi_align(maps, regions, *self.options)


class DeformConv(torch.nn.Module):
    """A deformable convolution with its convolution of offsets."""

    KINDS = 2  # numbers for each tap: y and x

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        deform_groups=1,
        bias=False,
    ):
        super().__init__()
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        self.options, taps = options, kernel_size**2
        self.weight = torch.nn.Parameter(
            torch.zeros(out_channels, in_channels // groups, kernel_size, kernel_size)
        )
        torch.nn.init.kaiming_uniform_(self.weight)
        self.bias = torch.nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.conv_offset = torch.nn.Conv2d(
            in_channels, deform_groups * self.KINDS * taps, kernel_size, **options
        )
        torch.nn.init.zeros_(self.conv_offset.weight)
        torch.nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x):
        """Convolve (B, C, H, W)."""
        return ops.deform_conv2d(x, self.conv_offset(x), self.weight, self.bias, **self.options)


class ModulatedConv(DeformConv):
    """Version 2: a third number for each tap, after all y and x, is its mask."""

    KINDS = 3

    def forward(self, x):
        """Convolve (B, C, H, W)."""
        values = self.conv_offset(x)
        share = values.shape[1] // 3
        offsets, mask = values[:, : 2 * share], values[:, 2 * share :].sigmoid()
        return ops.deform_conv2d(x, offsets, self.weight, self.bias, **self.options, mask=mask)
