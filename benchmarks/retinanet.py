"""RetinaNet or FCOS with ResNet-50-FPN compared with torchvision's and KerasHub's, in one run, on the CPU.

    python benchmarks/retinanet.py            one 800x1088 image, pixels to final boxes
    python benchmarks/retinanet.py --train    one training step: 2 images of 512x512, 8 boxes each
    python benchmarks/retinanet.py --model fcos [--train]    the same of FCOS, which KerasHub does not have

All are torchvision's v1: 91 classes, P6 from P5, 9 anchors, random weights. For inference the outputs of the
last layers are scaled to a trained detector's spread (RetinaNet: logits -6 +- 1, deltas 0 +- 0.1; FCOS:
logits -5 +- 1, distances 2 +- 0.5 strides), so that decoding and suppression have equal work on each side.
In training every layer learns, batch normalisation uses the batch's statistics on all sides, and the
optimizer is SGD; "torchvision-800" is torchvision with its default, which resizes the 512 pixels to 800.

A peer may have its own environment: --torch-python and --kerashub-python name its interpreter.
"""

import argparse
import functools
import sys
from pathlib import Path
from typing import NamedTuple

from _detectors import (
    LEARNING_RATE,
    MOMENTUM,
    head_line,
    keras_step,
    loss_text,
    objects,
    random_images,
    serve_side,
    torchvision_images,
    torchvision_outputs,
    torchvision_step,
    trainable_parameters,
)
from _harness import (
    alternate,
    machine,
    markdown,
    median,
    seconds,
    start,
    tensorflow_flops,
    torch_flops,
    write_report,
)

RESULTS = Path(__file__).parent / "results"
CLASSES = 91
LOGIT_STD = 1.0


class Model(NamedTuple):
    """A row: name in torchvision, thresholds, mean logit, mean and deviation of the outputs for boxes."""

    torchvision: str
    score_threshold: float
    iou_threshold: float
    max_detections: int
    logit_mean: float
    box_mean: float
    box_std: float


MODELS = {
    "retinanet": Model("retinanet_resnet50_fpn", 0.05, 0.5, 300, -6.0, 0.0, 0.1),
    "fcos": Model("fcos_resnet50_fpn", 0.2, 0.6, 100, -5.0, 2.0, 0.5),
}
# KerasHub's heads start far from a solution: with 1e-3 the loss diverges immediately.
KERASHUB_LEARNING_RATE = 1e-6
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


# -- kerasdet -------------------------------------------------------------------------------------


def kerasdet_model(name):
    """Return our detector."""
    from kerasdet import backbones, zoo

    entry = MODELS[name]
    # With a trainable normalisation and its epsilon: the published model's is frozen, perhaps with epsilon 0.
    return zoo.untrained(
        f"{entry.torchvision}_coco",
        backbone=backbones.ResNet50(),
        score_threshold=entry.score_threshold,
        iou_threshold=entry.iou_threshold,
        max_detections=entry.max_detections,
    )


def kerasdet_inference(name, height, width):
    import numpy as np
    import tensorflow as tf

    model = kerasdet_model(name)
    pixels = tf.constant(random_images(1, height, width))

    def outputs():
        towers = model.head(model.neck(model.backbone(model.normalize(pixels)[0])))
        convs = model.class_output, model.box_output
        return [
            np.concatenate([conv(x).numpy().ravel() for x in maps.values()])
            for conv, maps in zip(convs, towers)
        ]

    keras_lively(name, model.class_output, model.box_output, outputs)

    @tf.function(jit_compile=False)
    def detect(pixels):
        return model.decode(model(pixels, training=False))

    @tf.function(jit_compile=False)
    def forward(pixels):
        return model(pixels, training=False)

    decode = tf.function(model.decode, jit_compile=False)
    return keras_inference(model, pixels, forward, decode, detect)


def kerasdet_training(name, height, width, batch, precision="float32"):
    import keras

    keras.config.set_dtype_policy(precision)
    model = kerasdet_model(name)
    model.compile(keras.optimizers.SGD(LEARNING_RATE, MOMENTUM))
    boxes, labels = objects(batch, height, width, CLASSES)
    targets = {"boxes": boxes, "labels": labels}
    return keras_step(model, random_images(batch, height, width), targets)


# -- KerasHub -------------------------------------------------------------------------------------


def kerashub_model(name, height, width):
    import keras_hub

    entry = MODELS[name]
    if name != "retinanet":
        raise ImportError(f"KerasHub has no {name}")

    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=(height, width, 3),
    )
    backbone = keras_hub.models.RetinaNetBackbone(
        image_encoder=encoder,
        min_level=3,
        max_level=7,
        use_p5=False,  # what others call P6 from P5; True uses the backbone's C5
        image_shape=(height, width, 3),
    )
    model = keras_hub.models.RetinaNetObjectDetector(
        backbone=backbone, num_classes=CLASSES, bounding_box_format="xyxy"
    )
    model.prediction_decoder = keras_hub.layers.NonMaxSuppression(
        bounding_box_format="xyxy",
        from_logits=True,
        iou_threshold=entry.iou_threshold,
        confidence_threshold=entry.score_threshold,
        max_detections=entry.max_detections,
    )
    return model, model.classification_head.prediction_layer, model.box_head.prediction_layer


def kerashub_inference(name, height, width):
    import tensorflow as tf

    model, class_output, box_output = kerashub_model(name, height, width)
    pixels = tf.constant(random_images(1, height, width))

    def outputs():
        raw = model((pixels - MEAN) / STD, training=False)
        return [raw[k].numpy() for k in ("cls_logits", "bbox_regression")]

    keras_lively(name, class_output, box_output, outputs)

    @tf.function(jit_compile=False)
    def forward(pixels):
        return model((pixels - MEAN) / STD, training=False)

    @tf.function(jit_compile=False)
    def decode(raw):
        return model.decode_predictions(raw, pixels)

    @tf.function(jit_compile=False)
    def detect(pixels):
        return decode(forward(pixels))

    return keras_inference(model, pixels, forward, decode, detect)


def kerashub_training(name, height, width, batch):
    import keras

    model, _, _ = kerashub_model(name, height, width)
    optimizer = keras.optimizers.SGD(KERASHUB_LEARNING_RATE, MOMENTUM)
    model.compile(optimizer, jit_compile=False)
    boxes, labels = objects(batch, height, width, CLASSES)
    images = (random_images(batch, height, width) - MEAN) / STD
    return keras_step(model, images.astype("float32"), {"boxes": boxes, "labels": labels})


def keras_inference(model, pixels, forward, decode, detect):
    """Return inference of either Keras model: as a whole, and its decoding alone."""
    raw = forward(pixels)

    def run():
        result = {}
        total = seconds(lambda: result.update(numbers=detect(pixels)["num_detections"].numpy()))
        decoding = seconds(lambda: decode(raw)["num_detections"].numpy())
        return {"seconds": total, "decode": decoding, "detections": int(result["numbers"][0])}

    flops = tensorflow_flops(forward.get_concrete_function(pixels))
    return run, {"flops": flops, "parameters": trainable_parameters(model)}


def keras_lively(name, class_output, box_output, outputs):
    """Scale the last layers so that the outputs have a trained detector's spread."""
    class_output.bias.assign(class_output.bias * 0)
    box_output.bias.assign(box_output.bias * 0)
    logits, deltas = outputs()
    class_output.kernel.assign(class_output.kernel * (LOGIT_STD / logits.std()))
    box_output.kernel.assign(box_output.kernel * (MODELS[name].box_std / deltas.std()))
    class_output.bias.assign(class_output.bias + MODELS[name].logit_mean)
    box_output.bias.assign(box_output.bias + MODELS[name].box_mean)


# -- torchvision ------------------------------------------------------------------------------------


def torchvision_model(name, height, width, resize=None):
    """Return a detector with the images as canvas, or with its own default: `resize=(800, 1333)`."""
    from torchvision.models import detection

    entry = MODELS[name]
    return getattr(detection, entry.torchvision)(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES,
        min_size=resize[0] if resize else min(height, width),
        max_size=resize[1] if resize else max(height, width),
        score_thresh=entry.score_threshold,
        nms_thresh=entry.iou_threshold,
        detections_per_img=entry.max_detections,
    )


def torchvision_inference(name, height, width):
    import torch

    model = torchvision_model(name, height, width).eval()
    images = torchvision_images(1, height, width)
    times = {}
    postprocess = model.postprocess_detections

    def timed(*arguments):
        result = {}
        times["decode"] = seconds(lambda: result.update(value=postprocess(*arguments)))
        return result["value"]

    @torch.inference_mode()
    def detect():
        return model(images)

    torchvision_lively(name, model, detect)
    model.postprocess_detections = timed

    def run():
        result = {}
        total = seconds(lambda: result.update(found=detect()[0]["scores"]))
        return {"seconds": total, **times, "detections": len(result["found"])}

    parameters = sum(p.numel() for p in model.parameters())
    return run, {"flops": torch_flops(model, detect), "parameters": parameters}


def torchvision_lively(name, model, detect):
    """Scale the last layers as in `keras_lively`, for all levels together, by forward hooks."""
    import torch

    layers = {
        model.head.classification_head.cls_logits: (MODELS[name].logit_mean, LOGIT_STD),
        model.head.regression_head.bbox_reg: (MODELS[name].box_mean, MODELS[name].box_std),
    }
    with torch.no_grad():
        for layer in layers:
            layer.bias.zero_()
        seen = torchvision_outputs(layers, detect)
        for layer, (mean, std) in layers.items():
            layer.weight.mul_(std / torch.cat([output.flatten() for output in seen[layer]]).std())
            layer.bias.fill_(mean)


def torchvision_training(name, height, width, batch, resize=None):
    import torch

    boxes, labels = map(torch.from_numpy, objects(batch, height, width, CLASSES))
    targets = [{"boxes": b, "labels": n.long()} for b, n in zip(boxes, labels)]
    model = torchvision_model(name, height, width, resize)
    return torchvision_step(model, torchvision_images(batch, height, width), targets)


# -- the run ------------------------------------------------------------------------------------------

INFERENCE = {
    "kerasdet": kerasdet_inference,
    "torchvision": torchvision_inference,
    "keras-hub": kerashub_inference,
}
TRAINING = {
    "kerasdet": kerasdet_training,
    "kerasdet-bfloat16": functools.partial(kerasdet_training, precision="mixed_bfloat16"),
    "torchvision": torchvision_training,
    "keras-hub": kerashub_training,
    "torchvision-800": functools.partial(torchvision_training, resize=(800, 1333)),
}


def worker(side, name, train, height, width, batch):
    """Serve one side of a model."""
    if train:
        serve_side(lambda: TRAINING[side](name, height, width, batch))
    else:
        serve_side(lambda: INFERENCE[side](name, height, width))


def summary(facts, answers, rate):
    """Return one row per side; the useful FLOPs are the fewest that any side needs."""
    known = [fact["flops"] for fact in facts.values() if "flops" in fact]
    useful = min(known) if known else None
    own = median([a["seconds"] for a in answers["kerasdet"]])
    rows = []
    for name, runs in answers.items():
        time = median([a["seconds"] for a in runs])
        row = {"": name, "seconds, median": f"{time:.3f}", "kerasdet / this": f"{own / time:.2f}"}
        if "decode" in runs[0]:
            decode = median([a["decode"] for a in runs])
            row["decode + NMS"] = f"{decode / time:.1%}"
            row["useful FLOPs / matrix-product rate"] = f"{useful / time / rate:.2f}"
            row["detections"] = runs[-1]["detections"]
        if "loss" in runs[0]:
            row["loss"] = loss_text(facts[name], runs)
        row["parameters"] = f"{facts[name]['parameters'] / 1e6:.2f} M"
        rows.append(row)
    return {"useful_flops": useful, "rows": rows}


def benchmark(arguments):
    """Alternate the sides, and write the report."""
    torch, kerashub = arguments.torch_python, arguments.kerashub_python
    pythons = {"torchvision": torch, "torchvision-800": torch, "keras-hub": kerashub}
    sizes = [str(n) for n in (*arguments.size, arguments.batch)]
    same = ["--model", arguments.model, *(["--train"] if arguments.train else [])]
    commands = {
        name: [
            *(pythons.get(name) or sys.executable, str(Path(__file__).resolve()), "--worker", name),
            *("--size", *sizes[:2], "--batch", sizes[2], *same),
        ]
        for name in arguments.sides
    }
    workers, facts = start(commands)
    own = next((side for side in workers if side.name == "kerasdet"), None)
    if own is None:
        raise SystemExit("kerasdet itself could not be prepared; see its error above.")
    rates = [own.ask("rate")["rate"]]
    answers = alternate(workers, arguments.repetitions)
    rates.append(own.ask("rate")["rate"])
    for side in workers:
        side.close()

    report = {
        "machine": machine(),
        "settings": {"train": arguments.train, "size": arguments.size, "batch": arguments.batch},
        "matmul_flops_per_second": rates,
        "facts": facts,
        "answers": answers,
        **summary(facts, answers, max(rates)),
    }
    name = f"{arguments.model}_{'training' if arguments.train else 'inference'}"
    head = head_line(report["machine"], max(rates))
    if report["useful_flops"]:
        head += f"; useful {report['useful_flops'] / 1e9:.1f} GFLOP"
    table = head + "\n\n" + markdown(report["rows"])
    write_report(arguments.out or RESULTS / f"{name}.json", report, table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list(MODELS), default="retinanet")
    parser.add_argument("--train", action="store_true", help="time a training step")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=2, help="images of a training step")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--sides", nargs="+", choices=list(TRAINING), help="default: all")
    parser.add_argument("--torch-python", help="interpreter that has torchvision")
    parser.add_argument("--kerashub-python", help="interpreter that has keras-hub")
    parser.add_argument("--out", help="JSON file; the table is written beside it")
    parser.add_argument("--worker", choices=list(TRAINING), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.sides = arguments.sides or list(TRAINING if arguments.train else INFERENCE)
    arguments.size = arguments.size or ([512, 512] if arguments.train else [800, 1088])
    if arguments.worker:
        train, batch = arguments.train, arguments.batch
        worker(arguments.worker, arguments.model, train, *arguments.size, batch)
    else:
        benchmark(arguments)


if __name__ == "__main__":
    main()
