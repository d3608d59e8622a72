"""`kerasdet train`: a model from one's own images."""

import json
from pathlib import Path
from typing import Annotated

import typer

from kerasdet.cli.console import start_quietly
from kerasdet.cli.data import (
    DATA_HELP,
    GRAY_MAX_HELP,
    READING,
    VOC_ZERO_BASED_HELP,
    open_data,
    open_validation,
    parse_size,
    usual_size,
)
from kerasdet.cli.detectors import detector_options, find_detector
from kerasdet.cli.parts import AUGMENTATIONS, BACKBONES, make_augmentation, make_backbone
from kerasdet.files import claimed

ARGUMENTS = "arguments.json"
# What the command does not know are options of the detector.
SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


def train(
    context: typer.Context,
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
    proposals: Annotated[
        Path | None,
        typer.Option(help="Proposals of all these images, for a detector that takes them (.npz)."),
    ] = None,
    detector: Annotated[
        str,
        typer.Option(help="Its paper's name, such as faster_rcnn; `kerasdet list --detectors`."),
    ] = "retinanet",
    backbone: Annotated[
        str, typer.Option(help=f"{', '.join(BACKBONES)}, or a trained model to start from.")
    ] = "mobilenet_v2",
    freeze_at: Annotated[
        str | None,
        typer.Option(help="Level up to which a trained backbone is not trained further, as C2."),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Width of mobilenet_v2, default 1.")] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Canvas HEIGHTxWIDTH, default the median image's up to 640. Several, separated "
            "by commas, train on all of them and detect on the first."
        ),
    ] = None,
    resize_every: Annotated[
        int,
        typer.Option(help="Steps in a row that use the same of several sizes (YOLOv2: 10)."),
    ] = 1,
    max_detections: Annotated[
        int | None,
        typer.Option(
            help="Most detections per image, default half as many again as an image of the data has "
            "objects, at least 100."
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

    Each detector has options of its own, such as --channels 64: `kerasdet list --detectors` shows them.

    The folder then holds the best model by the AP of its boxes (use it with `kerasdet detect --model
    runs/mine`), a log, curves and drawn predictions. An interrupted run continues with
    `kerasdet train --out runs/mine --resume`.
    """
    arguments = {k: v for k, v in locals().items() if k not in ("context", "out", "resume")}
    arguments["proposals"] = proposals and str(proposals)
    arguments["options"] = detector_options(detector, context.args)
    saved = out / ARGUMENTS
    if resume and saved.exists():
        arguments = json.loads(saved.read_text(encoding="utf-8"))
        if context.get_parameter_source("epochs").name == "COMMANDLINE":
            arguments["epochs"] = max(epochs, arguments["epochs"])
    elif arguments["data"] is None:
        raise ValueError(f"--data is missing; use {DATA_HELP}")
    context.with_resource(claimed(out))
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
    if arguments["proposals"]:
        data = data.with_proposals(arguments["proposals"])
        validation = validation and validation.with_proposals(arguments["proposals"])
    sizes = arguments["size"].split(",") if arguments["size"] else []
    resizes = [Fit(*parse_size(size)) for size in sizes] or [Fit(*usual_size(data))]
    recipe = make_recipe(arguments)
    print(f"training on {data}\nvalidating on {validation or 'nothing'}")
    # The model's first weights follow the seed as well.
    keras.utils.set_random_seed(arguments["seed"])
    keras.config.set_dtype_policy(arguments["precision"])
    with devices_scope(arguments["devices"]):
        model = make_model(arguments, data, resizes[0])
    learnt = data.keypoint_names if "keypoints" in model.TARGETS else ()
    augment = make_augmentation(arguments["augment"], learnt)
    print(f"{arguments['detector']} of {model.count_params():,} parameters on {resizes}")
    if "max_detections" in model.ADJUSTABLE:
        print(f"at most {model.max_detections} detections per image (--max-detections)")
    if resume or not (out / "checkpoint.npz").exists():
        save_json(out / ARGUMENTS, arguments, indent=2)
    history = fit(
        model,
        data,
        recipe,
        validation=validation,
        out=out,
        resize=resizes,
        resize_every=arguments.get("resize_every", 1),  # a run of an older version has none
        augment=augment,
        resume=resume,
        validate_every=arguments["validate_every"],
    )
    best = best_figures(history)
    print(f"best {best}: {out / 'best.keras'}" if best else f"trained: {out}")


def best_figures(history):
    """The figures of the best epoch, as text such as "AP 0.412 (masks 0.371)".

    Args:
        history: what `kerasdet.training.train` returned.

    Returns:
        str, empty where nothing was measured.
    """
    name, key = next(
        ((name, key) for name, key in (("AP", "val_mAP"), ("mIU", "val_mIU")) if key in history),
        ("", ""),
    )
    values = history.get(key, [])
    measured = [epoch for epoch, value in enumerate(values) if value is not None]
    if not measured:
        return ""
    best = max(measured, key=values.__getitem__)
    kinds = {"masks": history.get("val_mask_mAP"), "keypoints": history.get("val_keypoint_mAP")}
    measured = {kind: values[best] for kind, values in kinds.items() if values}
    others = [f"{kind} {value:.3f}" for kind, value in measured.items() if value is not None]
    return f"{name} {values[best]:.3f}" + (f" ({', '.join(others)})" if others else "")


def make_recipe(arguments):
    """The `Recipe` in the command's arguments."""
    from kerasdet.training import Recipe

    own = {"lr": "learning_rate", "warmup": "warmup_steps", "ema": "ema_momentum"}
    same = ("epochs", "batch_size", "optimizer", "schedule", "weight_decay", "clip_norm", "seed")
    names = own | {name: name for name in same}
    return Recipe(**{field: arguments[option] for option, field in names.items()})


def make_model(arguments, data, resize):
    """A fresh model for a data set."""
    backbone = make_backbone(arguments["backbone"], arguments["alpha"], arguments["freeze_at"])
    kind, options = find_detector(arguments["detector"]), dict(arguments["options"])
    most = arguments.get("max_detections")  # a run of an older version has none
    if most is not None:
        if "max_detections" not in kind.ADJUSTABLE:
            raise ValueError(f"{arguments['detector']} takes no --max-detections {most}.")
        options["max_detections"] = most
    return kind.for_data(data, resize, backbone, **options)


def devices_scope(devices):
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
