"""The anchors, losses, augmentations and backbones that the options of `kerasdet train` name."""

from pathlib import Path

BACKBONES = {
    "mobilenet_v2": "MobileNetV2",
    "resnet18": "ResNet18",
    "resnet34": "ResNet34",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "resnet152": "ResNet152",
    "resnext50": "ResNeXt50",
    "resnext101": "ResNeXt101",
}
BOX_LOSSES = {
    "smooth_l1": "SmoothL1",
    "giou": "GIoULoss",
    "diou": "DIoULoss",
    "ciou": "CIoULoss",
}
AUGMENTATIONS = {
    "flip": "HorizontalFlip",
    "vflip": "VerticalFlip",
    "rotate": "RandomRotate90",
    "scale": "ScaleJitter",
    "crop": "RandomCropIoU",
    "expand": "ExpandCanvas",
    "colour": "ColourJitter",
}


def make_anchors(kind, data, resize, layout=None):
    """The anchors of a fresh detector.

    Args:
        kind: "fitted" or "paper".
        data: data set to whose objects they are fitted.
        resize: the Resize part through which its images pass.
        layout: as in `AnchorGenerator.fitted`.

    Returns:
        An `AnchorGenerator`; None for the paper's own anchors.

    Raises:
        ValueError: another `kind`.
    """
    import numpy as np

    from kerasdet.layers.anchors import AnchorGenerator

    if kind == "paper":
        return None
    if kind != "fitted":
        raise ValueError(f"--anchors is fitted or paper, not {kind!r}.")
    boxes = []
    for index in range(0, len(data), -(-len(data) // 1000)):
        record = data.record(index)
        height, width = resize.target_size(record.height, record.width)
        scale = np.array([width / record.width, height / record.height] * 2)
        boxes.append(record.boxes[~record.ignore] * scale)
    return AnchorGenerator.fitted(np.concatenate(boxes), layout)


def make_box_loss(name):
    """The box loss of that name; None for the paper's own, with its own constants."""
    from kerasdet.layers import losses

    if name not in BOX_LOSSES:
        raise ValueError(f"--box-loss {name!r} is unknown; there are {', '.join(BOX_LOSSES)}.")
    return None if name == "smooth_l1" else getattr(losses, BOX_LOSSES[name])()


def make_augmentation(names, keypoint_names=()):
    """The augmentations of a comma-separated list; None for "none".

    Args:
        names: the list.
        keypoint_names: names of the keypoints to learn; flip exchanges left and right ones.

    Raises:
        ValueError: an unknown name, or one that would leave keypoints under a wrong name.
    """
    from kerasdet.data import augment

    if names == "none":
        return None
    chosen = [name.strip() for name in names.split(",")]
    for name in chosen:
        _known("augmentation", name, AUGMENTATIONS)
    pairs = augment.keypoint_pairs(keypoint_names)
    for name in chosen:
        if pairs and name in ("vflip", "rotate"):
            raise ValueError(
                f"--augment {name} would leave keypoints such as {keypoint_names[pairs[0][0]]!r} "
                "under a wrong name; leave it out."
            )
    options = {"flip": {"pairs": pairs}}
    return augment.Compose(
        [getattr(augment, AUGMENTATIONS[name])(**options.get(name, {})) for name in chosen]
    )


def make_backbone(name, alpha, freeze_at=None):
    """A fresh backbone by its name, or the backbone of a trained model by that model's name or path.

    The backbone of a trained model keeps the statistics of its batch normalisation.
    """
    from kerasdet import backbones, zoo

    if name in BACKBONES:
        if freeze_at:
            raise ValueError(f"--freeze-at {freeze_at} needs a trained --backbone, not {name}.")
        arguments = {"alpha": alpha} if name == "mobilenet_v2" else {}
        return getattr(backbones, BACKBONES[name])(**arguments)
    if name in zoo.list_models() or Path(name).exists():
        return backbones.Backbone.from_preset(name, freeze_at)
    return _known("backbone", name, BACKBONES)


def _known(what, name, names):
    if name not in names:
        raise ValueError(f"unknown {what} {name!r}; there are {', '.join(names)}.")
