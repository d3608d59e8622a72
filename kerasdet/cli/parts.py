"""The augmentations and backbones that the options of `kerasdet train` name."""

from pathlib import Path

BACKBONES = {
    "mobilenet_v2": "MobileNetV2",
    "darknet19": "Darknet19",
    "tiny_yolo_v2": "TinyYOLOv2",
    "resnet18": "ResNet18",
    "resnet34": "ResNet34",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "resnet152": "ResNet152",
    "resnext50": "ResNeXt50",
    "resnext101": "ResNeXt101",
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


def make_backbone(name, alpha=None, freeze_at=None):
    """A fresh backbone by its name, or the backbone of a trained model by that model's name or path.

    The backbone of a trained model keeps the statistics of its batch normalisation.

    Args:
        name: name of the backbone, or name or path of the model.
        alpha: width of a fresh mobilenet_v2.
        freeze_at: level up to which a trained backbone is not trained further.

    Raises:
        ValueError: an unknown name, or an option that this backbone does not take.
    """
    from kerasdet import backbones, zoo

    if alpha is not None and name != "mobilenet_v2":
        raise ValueError(f"--alpha {alpha} is the width of a fresh mobilenet_v2, not of {name}.")
    if name in BACKBONES:
        if freeze_at:
            raise ValueError(f"--freeze-at {freeze_at} needs a trained --backbone, not {name}.")
        arguments = {} if alpha is None else {"alpha": alpha}
        return getattr(backbones, BACKBONES[name])(**arguments)
    if name in zoo.list_models() or Path(name).exists():
        return backbones.Backbone.from_preset(name, freeze_at)
    return _known("backbone", name, BACKBONES)


def _known(what, name, names):
    if name not in names:
        raise ValueError(f"unknown {what} {name!r}; there are {', '.join(names)}.")
