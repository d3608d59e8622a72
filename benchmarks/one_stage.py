"""RetinaNet, FCOS, SSD and SSDLite compared with torchvision's (and KerasHub's), in one run, on the CPU.

    python benchmarks/one_stage.py                        everything
    python benchmarks/one_stage.py --work training        only training steps
    python benchmarks/one_stage.py --models fcos          one model

Inference: one image, pixels to final boxes: 800x1088 for ResNet-50-FPN, 300x300 and 320x320 for SSD.
Training: one step, 2 images of 512x512, 8 objects each, every layer learns. kerasdet has torchvision's
weights: torchvision makes them and kerasdet converts its state dict, so nothing can be measured without
torchvision. For inference the last layers are scaled to a trained detector's spread, so that decoding and
suppression have the work that they have there. "torchvision-bfloat16" runs under autocast, and
"torchvision-800" is torchvision with its default, which resizes the 512 pixels to 800. KerasHub has its own
random weights, of the same spread.

A peer may have its own environment: --torch-python and --kerashub-python name its interpreter. A run at
other sizes writes no report, unless --out names a folder.
"""

import argparse
import functools
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import _kerashub
from _detectors import (
    CLASSES,
    HALF,
    MOMENTUM,
    OWN,
    PEER,
    detector_inference,
    has_bfloat16,
    head_line,
    judged,
    keras_step,
    loss_text,
    measure,
    memory_columns,
    middle,
    objects,
    random_images,
    serve_side,
    torchvision_detections,
    torchvision_images,
    torchvision_outputs,
    torchvision_step,
)
from _harness import machine, markdown, seconds, write_report

RESULTS = Path(__file__).parent / "results"
PEER_HALF, PEER_800, KERASHUB = "torchvision-bfloat16", "torchvision-800", "keras-hub"
INFERENCE, TRAINING = "inference", "training"
TRAINED_ON = (2, 512, 512)
CANDIDATES = 1000  # of a softmax: largest number of (box, class) pairs above the score threshold
DETECTIONS = 100  # that each side must find
AGREEMENT = 0.05  # of the mean score or first loss; beyond it the sides compute different things
DIFFERENT = {
    ("retinanet", "training")
}  # torchvision's box loss is L1, and each image has its own mean


class Model(NamedTuple):
    """A row: name in torchvision, its image, the spread of its outputs, limits relative to torchvision.

    A class output is a logit of a sigmoid with this mean, or (mean None) of a softmax with background.
    """

    torchvision: str
    size: tuple
    class_spread: tuple
    box_spread: tuple
    learning_rate: float
    inference: float | None
    training: float | None

    @property
    def has_pyramid(self):
        """Whether one output layer serves all levels, and the canvas is free."""
        return self.class_spread[0] is not None


MODELS = {
    "retinanet": Model(
        "retinanet_resnet50_fpn", (800, 1088), (-6.0, 1.0), (0.0, 0.1), 1e-3, None, None
    ),
    "fcos": Model("fcos_resnet50_fpn", (800, 1088), (-5.0, 1.0), (2.0, 0.5), 1e-3, 0.7, 0.85),
    "ssd300": Model("ssd300_vgg16", (300, 300), (None, 1.5), (0.0, 1.0), 1e-5, 0.7, 0.85),
    "ssdlite320": Model(
        "ssdlite320_mobilenet_v3_large", (320, 320), (None, 1.5), (0.0, 1.0), 1e-3, 0.9, None
    ),
}
MEMORY_LIMIT = 1.5


class Task(NamedTuple):
    """What a side computes: a row of `MODELS`, images (batch, height, width), the file of the weights."""

    name: str
    images: tuple
    weights: str

    @property
    def model(self):
        """The row."""
        return MODELS[self.name]


# -- kerasdet -------------------------------------------------------------------------------------


def kerasdet_model(task, precision):
    """Return our detector with torchvision's weights."""
    import keras

    from kerasdet import backbones, zoo
    from kerasdet.zoo.origins import torchvision

    keras.config.set_dtype_policy(precision)
    # With a trainable normalisation and its epsilon: the published model's is frozen, perhaps with epsilon 0.
    own = {"backbone": backbones.ResNet50()} if "resnet50" in task.model.torchvision else {}
    model = zoo.untrained(f"{task.model.torchvision}_coco", **own)
    return torchvision.load(model, task.weights)


def kerasdet_inference(task, precision="float32"):
    return detector_inference(kerasdet_model(task, precision), random_images(*task.images))


def kerasdet_training(task, precision="float32"):
    import keras

    model = kerasdet_model(task, precision)
    model.compile(keras.optimizers.SGD(task.model.learning_rate, MOMENTUM))
    boxes, labels = objects(*task.images, CLASSES)
    labels -= CLASSES - model.num_classes  # the background that a softmax has there
    return keras_step(model, random_images(*task.images), {"boxes": boxes, "labels": labels})


# -- torchvision ------------------------------------------------------------------------------------


def torchvision_model(task, resize=None):
    """Return a detector of fixed random weights; its canvas is the image, or `resize`."""
    import torch
    from torchvision.models import detection

    _, height, width = task.images
    small, large = resize or sorted((height, width))
    sizes = {"min_size": small, "max_size": large} if task.model.has_pyramid else {}
    torch.manual_seed(0)
    make = getattr(detection, task.model.torchvision)
    model = make(weights=None, weights_backbone=None, num_classes=CLASSES, **sizes)
    if not sizes:
        model.transform.fixed_size = (width, height)
    return model


def torchvision_inference(task, precision="float32"):
    """Return inference; in float32, write the weights to the task's file for our side."""
    import torch

    model = torchvision_model(task).eval()
    images = torchvision_images(*task.images)
    times = {}
    postprocess = model.postprocess_detections

    def timed(*arguments):
        result = {}
        times["decode"] = seconds(lambda: result.update(value=postprocess(*arguments)))
        return result["value"]

    @torch.inference_mode()
    def detect():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision != "float32"):
            return model(images)[0]

    if precision == "float32":
        torchvision_lively(task, model, detect)
        torch.save(model.state_dict(), task.weights)
    else:
        model.load_state_dict(torch.load(task.weights))
    model.postprocess_detections = timed
    return torchvision_detections(model, detect, times)


def output_layers(task, model):
    """Return the last layers for classes and for boxes: of a pyramid one each, of SSD one for each map."""
    heads = model.head.classification_head, model.head.regression_head
    if task.model.has_pyramid:
        return [heads[0].cls_logits], [heads[1].bbox_reg]
    last = [[list(part.modules())[-1] for part in head.module_list] for head in heads]
    return last[0], last[1]


def torchvision_lively(task, model, detect):
    """Scale the last layers so that there is as much to decode and suppress as in a trained model."""
    import torch

    classes, boxes = output_layers(task, model)
    with torch.no_grad():
        for layers, (mean, std) in (
            (classes, task.model.class_spread),
            (boxes, task.model.box_spread),
        ):
            for layer in layers:
                layer.bias.zero_()
            seen = torchvision_outputs(layers, detect)
            for layer in layers:
                outputs = torch.cat([output.flatten(2) for output in seen[layer]], 2)
                if mean is None:
                    # Random weights answer alike everywhere: without their mean, classes differ by place.
                    middles = outputs.mean((0, 2))
                    outputs = outputs - middles[:, None]
                scale = std / outputs.std()
                layer.weight.mul_(scale)
                layer.bias.copy_(-scale * middles if mean is None else torch.tensor(mean))
        if task.model.class_spread[0] is None:
            raise_background(classes, detect, model.score_thresh)


def raise_background(layers, detect, threshold):
    """Raise the background's bias until at most `CANDIDATES` pairs of box and class pass the threshold."""
    import torch

    seen = torchvision_outputs(layers, detect)
    outputs = [seen[layer][0].unflatten(1, (-1, CLASSES)).movedim(2, -1) for layer in layers]
    logits = torch.cat([output.flatten(0, -2) for output in outputs])
    raised = 0.0
    while (torch.softmax(logits, -1)[:, 1:] > threshold).sum() > CANDIDATES:
        logits[:, 0] += 0.1
        raised += 0.1
    for layer in layers:
        layer.bias.view(-1, CLASSES)[:, 0] += raised


def torchvision_training(task, precision="float32", resize=None):
    """Return training; write the initial weights to the task's file for our side."""
    import torch

    model = torchvision_model(task, resize)
    torch.save(model.state_dict(), task.weights)
    boxes, labels = map(torch.from_numpy, objects(*task.images, CLASSES))
    targets = [{"boxes": b, "labels": n.long()} for b, n in zip(boxes, labels)]
    images, rate = torchvision_images(*task.images), task.model.learning_rate
    return torchvision_step(model, images, targets, rate, half=precision != "float32")


# -- the run ------------------------------------------------------------------------------------------

SIDES = {
    PEER: {INFERENCE: torchvision_inference, TRAINING: torchvision_training},
    OWN: {INFERENCE: kerasdet_inference, TRAINING: kerasdet_training},
    HALF: {INFERENCE: kerasdet_inference, TRAINING: kerasdet_training},
    PEER_HALF: {INFERENCE: torchvision_inference, TRAINING: torchvision_training},
    KERASHUB: {INFERENCE: _kerashub.inference, TRAINING: _kerashub.training},
    PEER_800: {TRAINING: functools.partial(torchvision_training, resize=(800, 1333))},
}
LIBRARIES = {OWN: ["tensorflow", "kerasdet"], PEER: ["torchvision"]}


def sides_of(name, work):
    """Return the sides of one model; torchvision first, because its weights are used by the others."""
    sides = [PEER, OWN, *([HALF, PEER_HALF] if has_bfloat16() else [])]
    sides += [KERASHUB] if name == "retinanet" else []
    return sides + ([PEER_800] if work == TRAINING and MODELS[name].has_pyramid else [])


def worker(side, work, task):
    """Serve one side of a model."""
    precision = {HALF: ["mixed_bfloat16"], PEER_HALF: ["bfloat16"]}.get(side, [])
    make = SIDES[side][work]
    libraries = LIBRARIES.get(side.removesuffix("-bfloat16"), [])
    serve_side(lambda: make(task, *precision), libraries)


def summary(name, work, result):
    """Return one row per side; the useful FLOPs are the fewest that any side needs."""
    facts, answers = result["facts"], result["answers"]
    useful = min((fact["flops"] for fact in facts.values() if "flops" in fact), default=None)
    rate, own = max(result["matmul_flops_per_second"]), middle(result, OWN)
    limit = getattr(MODELS[name], work)
    rows = []
    for side, runs in answers.items():
        time = middle(result, side)
        ratio = judged(own / time, limit if side == PEER else None)
        row = {"": side, "seconds, median": f"{time:.3f}", "kerasdet / this": ratio}
        row["limit"] = f"{limit:.2f}" if limit and side == PEER else ""
        if work == INFERENCE:
            row["decode + NMS"] = f"{middle(result, side, 'decode') / time:.1%}"
            row["useful FLOPs / matrix-product rate"] = f"{useful / time / rate:.2f}"
            row["detections"] = runs[-1]["detections"]
        else:
            row["loss"] = loss_text(facts[side], runs)
        row["parameters"] = f"{facts[side]['parameters'] / 1e6:.2f} M"
        rows.append(row)
    return {"useful_flops": useful, "rows": rows}


def compare(name, work, result):
    """Stop if the two sides computed different things, or found too little."""
    if work == INFERENCE:
        key, found = "score", {side: runs[-1] for side, runs in result["answers"].items()}
    else:
        key = "loss"
        found = {
            side: facts["warm_up"][0]
            for side, facts in result["facts"].items()
            if "warm_up" in facts
        }
    own, peer = found[OWN], found[PEER]
    if abs(own[key] - peer[key]) > AGREEMENT * peer[key]:
        raise SystemExit(f"{name}: the {key} is {own[key]} here but {peer[key]} in torchvision.")
    least = min(side.get("detections", DETECTIONS) for side in (own, peer))
    if least < DETECTIONS:
        raise SystemExit(f"{name}: {least} detections are fewer than {DETECTIONS}.")


def commands_of(name, work, images, weights, arguments):
    """Return {side: its worker's command line}."""
    torch, kerashub = arguments.torch_python, arguments.kerashub_python
    pythons = {PEER: torch, PEER_HALF: torch, PEER_800: torch, KERASHUB: kerashub}
    numbers = [str(number) for number in images]
    return {
        side: [
            *(pythons.get(side) or sys.executable, str(Path(__file__).resolve())),
            *("--worker", side, work, name, weights, *numbers),
        ]
        for side in sides_of(name, work)
        if side in (OWN, PEER, *arguments.sides)
    }


def benchmark(name, work, arguments):
    """Alternate the sides of one model, and write or print the report."""
    batch, *own = TRAINED_ON if work == TRAINING else (1, *MODELS[name].size)
    images = (batch, *(arguments.size or own))
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "weights.pth")
        commands = commands_of(name, work, images, weights, arguments)
        result = measure(commands, arguments.repetitions, with_memory=work == TRAINING)
    compare(name, work, result)
    settings = {"train": work == TRAINING, "size": images[1:], "batch": batch}
    report = {"machine": machine(), "settings": settings, **result, **summary(name, work, result)}
    table = head_line(report["machine"], max(result["matmul_flops_per_second"]))
    if report["useful_flops"]:
        table += f"; useful {report['useful_flops'] / 1e9:.1f} GFLOP"
    table += "\n\n" + markdown(report["rows"])
    if work == TRAINING:
        table += "\n" + markdown([memory_columns(result, MEMORY_LIMIT)])
    folder = arguments.out or (None if arguments.size else RESULTS)
    if folder:
        write_report(folder / f"{name}_{work}.json", report, table)
    else:
        print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    works = [INFERENCE, TRAINING]
    parser.add_argument("--work", nargs="+", choices=works, default=works)
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--repetitions", type=int, default=7)
    others = [side for side in SIDES if side not in (OWN, PEER)]
    parser.add_argument("--sides", nargs="*", choices=others, default=others, help="default: all")
    parser.add_argument("--torch-python", help="interpreter that has torchvision")
    parser.add_argument("--kerashub-python", help="interpreter that has keras-hub")
    parser.add_argument("--out", type=Path, help="folder of the reports")
    parser.add_argument("--worker", nargs=7, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        side, work, name, weights, *images = arguments.worker
        worker(side, work, Task(name, tuple(map(int, images)), weights))
        return
    for work in arguments.work:
        for name in arguments.models:
            print(f"{work}, {name}", file=sys.stderr, flush=True)
            benchmark(name, work, arguments)


if __name__ == "__main__":
    main()
