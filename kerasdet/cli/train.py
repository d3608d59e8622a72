"""`kerasdet train`: a detector from one's own images."""

import json
from pathlib import Path
from typing import Annotated

import typer

from kerasdet.cli.parts import (
    AUGMENTATIONS,
    BACKBONES,
    BOX_LOSSES,
    DATA_HELP,
    GRAY_MAX_HELP,
    READING,
    VOC_ZERO_BASED_HELP,
    make_anchors,
    make_augmentation,
    make_backbone,
    make_box_loss,
    open_data,
    open_validation,
    parse_size,
    start_quietly,
    usual_size,
)

ARGUMENTS = "arguments.json"


def train(
    out: Annotated[Path, typer.Option(help="Folder of the run: weights, logs, curves.")],
    data: Annotated[str | None, typer.Option(help=DATA_HELP)] = None,
    split: Annotated[str | None, typer.Option(help="Split to train on, default train.")] = None,
    val: Annotated[
        str | None,
        typer.Option(
            help="Validation data as --data, or none; default the source's own split val, else "
            "every tenth image."
        ),
    ] = None,
    detector: Annotated[
        str,
        typer.Option(
            help="retinanet, faster_rcnn, mask_rcnn (needs data with masks) or keypoint_rcnn (needs "
            "data with keypoints); digits and coco have both."
        ),
    ] = "retinanet",
    backbone: Annotated[
        str, typer.Option(help=f"{', '.join(BACKBONES)}, or a trained model to start from.")
    ] = "mobilenet_v2",
    freeze_at: Annotated[
        str | None,
        typer.Option(help="Level up to which a trained backbone is not trained further, as C2."),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Width of mobilenet_v2.")] = 1.0,
    channels: Annotated[
        int, typer.Option(help="Channels of pyramid and heads; keypoint_rcnn's branch has twice.")
    ] = 128,
    depth: Annotated[
        int,
        typer.Option(
            help="Hidden convolutions of retinanet's heads and mask_rcnn's branch; keypoint_rcnn's "
            "branch has twice."
        ),
    ] = 4,
    norm: Annotated[str, typer.Option(help="Norm of the heads: batch, group or none.")] = "batch",
    regions: Annotated[
        int,
        typer.Option(
            help="Regions per image that the second stage of a two-stage one learns from."
        ),
    ] = 128,
    anchors: Annotated[
        str,
        typer.Option(help="fitted: to the sizes of the data's objects; paper: 32 to 512 pixels."),
    ] = "fitted",
    box_loss: Annotated[
        str, typer.Option(help=f"{', '.join(BOX_LOSSES)} (smooth_l1 is the paper's).")
    ] = "smooth_l1",
    size: Annotated[
        str | None,
        typer.Option(
            help="Canvas HEIGHTxWIDTH, default the median image's up to 640. Several, separated "
            "by commas, train on all of them and detect on the first."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the images.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Images per step, over all devices.")] = 8,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    schedule: Annotated[str, typer.Option(help="cosine or step.")] = "cosine",
    warmup: Annotated[
        int | None, typer.Option(help="Steps of warm-up, default a twentieth of all.")
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="Of kernels; norms are spared.")] = 0.05,
    clip_norm: Annotated[float, typer.Option(help="Largest gradient norm; 0: any.")] = 10.0,
    ema: Annotated[
        float | None,
        typer.Option(help="Momentum of the weights' average, default by length; 0: none."),
    ] = None,
    augment: Annotated[
        str,
        typer.Option(
            help=f"none, or some of {','.join(AUGMENTATIONS)}. flip exchanges keypoints whose names "
            "differ in left and right alone."
        ),
    ] = "flip,scale,colour",
    precision: Annotated[
        str, typer.Option(help="float32, mixed_bfloat16 or mixed_float16.")
    ] = "float32",
    devices: Annotated[int | None, typer.Option(help="GPUs to use, default all.")] = None,
    validate_every: Annotated[int, typer.Option(help="Epochs between validations.")] = 1,
    voc_zero_based: Annotated[
        bool, typer.Option("--voc-zero-based", help=VOC_ZERO_BASED_HELP)
    ] = False,
    gray_max: Annotated[int | None, typer.Option(help=GRAY_MAX_HELP)] = None,
    seed: Annotated[int, typer.Option(help="Of order, augmentation and weights.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, as it was started.")
    ] = False,
):
    """Train a detector on images with boxes, and masks or keypoints where it learns them.

    kerasdet train --data coco:boxes.json:images --out runs/mine

    The folder then holds the best model by the AP of its boxes (use it with `kerasdet detect --model
    runs/mine`), a log, curves and drawn predictions. An interrupted run goes on with
    `kerasdet train --out runs/mine --resume`.
    """
    arguments = {name: value for name, value in locals().items() if name not in ("out", "resume")}
    saved = out / ARGUMENTS
    if resume and saved.exists():
        arguments = json.loads(saved.read_text(encoding="utf-8"))
    elif arguments["data"] is None:
        raise ValueError(f"--data is missing; use {DATA_HELP}")
    train_with(arguments, out, resume)


def train_with(arguments, out, resume):
    """Train from the command's arguments.

    Args:
        arguments: dict of the options' values; kept in the run's folder.
        out: Path of the run's folder.
        resume: continue the run that it holds.
    """
    start_quietly()
    import keras

    from kerasdet.files import save_json
    from kerasdet.layers.resizing import Fit
    from kerasdet.training import train as fit

    reading = {name: arguments[name] for name in READING if name in arguments}
    data = open_data(arguments["data"], arguments["split"], **reading)
    data, validation = open_validation(data, arguments["data"], arguments["val"], **reading)
    sizes = arguments["size"].split(",") if arguments["size"] else []
    resizes = [Fit(*parse_size(size)) for size in sizes] or [Fit(*usual_size(data))]
    recipe = make_recipe(arguments)
    learnt = data.keypoint_names if arguments["detector"] == "keypoint_rcnn" else ()
    augment = make_augmentation(arguments["augment"], learnt)
    print(f"training on {data}\nvalidating on {validation or 'nothing'}")
    # The model's first weights follow the seed as well.
    keras.utils.set_random_seed(arguments["seed"])
    keras.config.set_dtype_policy(arguments["precision"])
    with strategy_scope(arguments["devices"]):
        model = make_detector(arguments, data, resizes[0])
    print(f"{arguments['detector']} of {model.count_params():,} parameters on {resizes}")
    if resume or not (out / "checkpoint.npz").exists():
        save_json(out / ARGUMENTS, arguments, indent=2)
    history = fit(
        model,
        data,
        recipe,
        validation=validation,
        out=out,
        resize=resizes,
        augment=augment,
        resume=resume,
        validate_every=arguments["validate_every"],
    )
    best = best_figures(history)
    print(f"best AP {best}: {out / 'best.keras'}" if best else f"trained: {out}")


def best_figures(history):
    """The figures of the epoch with the best boxes, as text such as "0.412 (masks 0.371)".

    Args:
        history: what `kerasdet.training.train` returned.

    Returns:
        str, empty where nothing was measured.
    """
    boxes = history.get("val_mAP", [])
    measured = [epoch for epoch, value in enumerate(boxes) if value is not None]
    if not measured:
        return ""
    best = max(measured, key=boxes.__getitem__)
    kinds = {"masks": history.get("val_mask_mAP"), "keypoints": history.get("val_keypoint_mAP")}
    measured = {kind: values[best] for kind, values in kinds.items() if values}
    others = [f"{kind} {value:.3f}" for kind, value in measured.items() if value is not None]
    return f"{boxes[best]:.3f}" + (f" ({', '.join(others)})" if others else "")


def make_recipe(arguments):
    """The `Recipe` in the command's arguments."""
    from kerasdet.training import Recipe

    own = {"lr": "learning_rate", "warmup": "warmup_steps", "ema": "ema_momentum"}
    same = ("epochs", "batch_size", "optimizer", "schedule", "weight_decay", "clip_norm", "seed")
    names = own | {name: name for name in same}
    return Recipe(**{field: arguments[option] for option, field in names.items()})


def make_detector(arguments, data, resize):
    """A fresh detector for the classes of a data set."""
    if arguments["detector"] not in DETECTORS:
        raise ValueError(
            f"unknown detector {arguments['detector']!r}; there are {', '.join(DETECTORS)}."
        )
    backbone = make_backbone(arguments["backbone"], arguments["alpha"], arguments.get("freeze_at"))
    classes = {
        "class_names": data.class_names,
        "category_ids": data.category_ids,
        "resize": resize,
    }
    norm = None if arguments["norm"] == "none" else arguments["norm"]
    return DETECTORS[arguments["detector"]](arguments, data, backbone, norm, classes)


def _retinanet(arguments, data, backbone, norm, classes):
    from kerasdet.models import RetinaNet

    return RetinaNet(
        len(data.class_names),
        backbone=backbone,
        channels=arguments["channels"],
        head_depth=arguments["depth"],
        norm=norm,
        anchors=make_anchors(arguments["anchors"], data, classes["resize"]),
        box_loss=make_box_loss(arguments["box_loss"]),
        **classes,
    )


def _faster_rcnn(arguments, data, backbone, norm, classes):
    from kerasdet.models import FasterRCNN

    return FasterRCNN(
        len(data.class_names), **_two_stages(arguments, data, backbone, norm, classes)
    )


def _mask_rcnn(arguments, data, backbone, norm, classes):
    from kerasdet.layers import MaskHead
    from kerasdet.models import MaskRCNN

    parts = _two_stages(arguments, data, backbone, norm, classes)
    channels = arguments["channels"]
    head = MaskHead((channels,) * arguments["depth"], channels, norm, name="mask_head")
    return MaskRCNN(len(data.class_names), mask_head=head, **parts)


def _keypoint_rcnn(arguments, data, backbone, norm, classes):
    from kerasdet.layers import MaskHead
    from kerasdet.models import KeypointRCNN

    if not data.keypoint_names:
        raise ValueError(f"keypoint_rcnn learns keypoints, and {data.name} has none.")
    parts = _two_stages(arguments, data, backbone, norm, classes)
    widths = (2 * arguments["channels"],) * (2 * arguments["depth"])
    return KeypointRCNN(
        len(data.class_names),
        keypoint_names=data.keypoint_names,
        keypoint_head=MaskHead(widths, upsampled=None, norm=norm, name="keypoint_head"),
        **parts,
    )


def _two_stages(arguments, data, backbone, norm, classes):
    """What Faster R-CNN and its descendants are made of."""
    from kerasdet.layers import AnchorGenerator, DenseHead, FeaturePyramid
    from kerasdet.models import RegionProposalNetwork

    if norm == "group" or arguments["box_loss"] != "smooth_l1":
        raise ValueError(
            f"{arguments['detector']} takes --norm batch or none, and --box-loss smooth_l1."
        )
    channels = arguments["channels"]
    layout = AnchorGenerator.fpn
    anchors = make_anchors(arguments["anchors"], data, classes["resize"], layout) or layout()
    return {
        "backbone": backbone,
        "neck": FeaturePyramid(channels, backbone.levels, p6_from="pool", norm=norm, name="neck"),
        "rpn": RegionProposalNetwork(anchors, channels, name="rpn"),
        "head": DenseHead((4 * channels, 4 * channels), name="head"),
        "regions_per_image": arguments["regions"],
        **classes,
    }


DETECTORS = {
    "retinanet": _retinanet,
    "faster_rcnn": _faster_rcnn,
    "mask_rcnn": _mask_rcnn,
    "keypoint_rcnn": _keypoint_rcnn,
}


def strategy_scope(devices):
    """The scope in which a model is built: mirrored over several GPUs, or nothing for one device.

    Raises:
        ValueError: there are fewer GPUs than asked for.
    """
    import contextlib

    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    if devices is not None and devices > max(len(gpus), 1):
        raise ValueError(f"--devices {devices}: this machine shows TensorFlow {len(gpus)} GPUs.")
    used = gpus[:devices]
    if len(used) < 2:
        return contextlib.nullcontext()
    return tf.distribute.MirroredStrategy([device.name for device in used]).scope()
