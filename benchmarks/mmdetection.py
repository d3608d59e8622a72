"""Cascade and deformable Faster R-CNN with ResNet-50-FPN compared with mmdetection's, in one run, on the CPU.

    python benchmarks/mmdetection.py --mmdet-python ENV/bin/python
    python benchmarks/mmdetection.py --mmdet-python ENV/bin/python --work training

Inference: one 800x1088 image, pixels to final boxes. Training: one step, 2 images of 512x512, 8 objects each,
every layer learns. mmdetection makes the weights and kerasdet converts its state dict. mmdetection runs as
tests/parity/mmdetection.py describes: without its compiled operations, with torchvision's in their place.
Only a run of everything replaces the files in benchmarks/results; a shorter one prints its tables, or writes
to --out.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from _detectors import (
    HALF,
    LEARNING_RATE,
    MOMENTUM,
    OWN,
    detector_inference,
    has_bfloat16,
    head_line,
    judged,
    keras_step,
    loss_text,
    measure,
    memory_columns,
    middle,
    number,
    objects,
    random_images,
    serve_side,
    spread,
    torchvision_detections,
    torchvision_outputs,
)
from _harness import machine, markdown, seconds, write_report

RESULTS = Path(__file__).parent / "results" / "mmdetection.json"
PEER = "mmdetection"
INFERENCE, TRAINING = "inference", "training"
SIZES = {INFERENCE: (1, 800, 1088), TRAINING: (2, 512, 512)}
CLASSES = 80
# Standard deviations of the last layers' outputs, to which random weights are scaled.
OBJECTNESS_STD, PROPOSAL_STD, CLASS_STD, BOX_STD = 1.5, 0.1, 1.5, 1.0
CANDIDATES = 400  # largest number of (proposal, class) pairs above the score threshold
SCORE_THRESHOLD = 0.05
DETECTIONS = 100
AGREEMENT = 0.05  # of the mean score and loss; beyond it the sides compute different things
MEMORY_LIMIT = 1.5  # times mmdetection's, both without the libraries' memory


class Model(NamedTuple):
    """A row: title, name of the published weights' manifest, limits relative to mmdetection's time."""

    title: str
    preset: str
    inference: float
    training: float


MODELS = {
    "cascadercnn": Model("Cascade R-CNN", "cascade_rcnn_r50_fpn_20e_coco", 0.6, 0.85),
    "fasterrcnn_deformable": Model(
        "Faster R-CNN, deformable C3 to C5", "faster_rcnn_r50_fpn_dconv_c3_c5_1x_coco", 0.6, 0.85
    ),
}


# -- kerasdet -------------------------------------------------------------------------------------


def kerasdet_model(name, weights, precision):
    """Return our detector with mmdetection's weights; its batch normalisation learns."""
    import keras

    from kerasdet.zoo import untrained
    from kerasdet.zoo.origins import mmdetection

    keras.config.set_dtype_policy(precision)
    return mmdetection.load(untrained(MODELS[name].preset, frozen_norm=False), weights)


def kerasdet_inference(name, weights, precision, size):
    return detector_inference(kerasdet_model(name, weights, precision), pixels(size))


def kerasdet_training(name, weights, precision, size):
    import keras

    model = kerasdet_model(name, weights, precision)
    model.compile(keras.optimizers.SGD(LEARNING_RATE, MOMENTUM))
    boxes, labels = objects(*size, 1 + CLASSES)
    return keras_step(model, pixels(size), {"boxes": boxes, "labels": labels - 1})


def pixels(size):
    """Return random images of whole numbers (B, H, W, 3) float32, which both sides take."""
    return random_images(*size).round()


# -- mmdetection ------------------------------------------------------------------------------------


def mmdetection_model(name):
    """Return a detector with fixed random weights, all of whose layers learn."""
    import torch

    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from tests.parity import mmdetection
    from tests.parity.models import MODELS as ENTRIES

    torch.manual_seed(0)
    detector = mmdetection.Detector(ENTRIES[MODELS[name].preset], None)
    backbone = detector.model.backbone
    backbone.norm_eval, backbone.frozen_stages = False, -1
    for parameter in detector.model.parameters():
        parameter.requires_grad_(True)
    return detector.model


def samples(size, with_objects):
    """Return images and what is told of them, as mmdetection's models take them."""
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    images, found = torch.from_numpy(pixels(size)).permute(0, 3, 1, 2).flip(1), []
    shape = {"img_shape": size[1:], "ori_shape": size[1:], "scale_factor": (1.0, 1.0)}
    boxes, labels = objects(*size, 1 + CLASSES)
    for own, kinds in zip(boxes, labels):
        sample = DetDataSample(metainfo=dict(shape))
        if with_objects:
            kinds = torch.from_numpy(kinds).long() - 1
            sample.gt_instances = InstanceData(bboxes=torch.from_numpy(own), labels=kinds)
        found.append(sample)
    return {"inputs": list(images.contiguous()), "data_samples": found}


def mmdetection_inference(name, weights, size):
    """Return inference; write the weights to the file `weights` for our side."""
    import torch

    model = mmdetection_model(name).eval()
    data = samples(size, with_objects=False)

    @torch.inference_mode()
    def detect():
        return model.test_step({key: list(values) for key, values in data.items()})[0]

    lively(model, detect)
    torch.save({"state_dict": model.state_dict()}, weights)
    return torchvision_detections(model, lambda: {"scores": detect().pred_instances.scores}, {})


def lively(model, detect):
    """Scale the last layers so that there is as much to propose and suppress as in a trained model."""
    import torch

    heads = model.roi_head.bbox_head
    heads = list(heads) if isinstance(heads, torch.nn.ModuleList) else [heads]
    with torch.no_grad():
        spread(model.rpn_head.rpn_cls, OBJECTNESS_STD, detect)
        spread(model.rpn_head.rpn_reg, PROPOSAL_STD, detect)
        for head in heads:
            spread(head.fc_reg, BOX_STD, detect)
            spread(head.fc_cls, CLASS_STD, detect)
            (logits,) = torchvision_outputs([head.fc_cls], detect)[head.fc_cls]
            # Random weights answer alike everywhere: subtracting their mean gives regions different classes.
            head.fc_cls.bias -= logits.mean(0)
        outputs = torchvision_outputs([head.fc_cls for head in heads], detect)
        logits = sum(values[0] for values in outputs.values()) / len(heads)
        while (torch.softmax(logits, -1)[:, :-1] > SCORE_THRESHOLD).sum() > CANDIDATES:
            logits[:, -1] += 0.1
            for head in heads:
                head.fc_cls.bias[-1] += 0.1


def mmdetection_training(name, weights, size):
    """Return training; write the initial weights to the file `weights` for our side."""
    import torch

    model = mmdetection_model(name).train()
    torch.save({"state_dict": model.state_dict()}, weights)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, MOMENTUM)

    def run():
        logs, data = {}, samples(size, with_objects=True)

        def step():
            optimizer.zero_grad()
            ready = model.data_preprocessor(data, training=True)
            loss, _ = model.parse_losses(model(**ready, mode="loss"))
            loss.backward()
            optimizer.step()
            logs["loss"] = loss.item()

        return {"seconds": seconds(step), **logs}

    return run, {"parameters": sum(parameter.numel() for parameter in model.parameters())}


# -- the run ------------------------------------------------------------------------------------------


def worker(name, work, side, weights, *size):
    """Serve one side of one model."""
    size = tuple(map(int, size))
    if side == PEER:
        make = {INFERENCE: mmdetection_inference, TRAINING: mmdetection_training}[work]
        serve_side(lambda: make(name, weights, size), ["torchvision", "mmengine"])
    else:
        make = {INFERENCE: kerasdet_inference, TRAINING: kerasdet_training}[work]
        precision = "mixed_bfloat16" if side == HALF else "float32"
        serve_side(lambda: make(name, weights, precision, size), ["tensorflow", "kerasdet"])


def measured(name, work, repetitions, mmdet_python, size):
    """Return all figures of one model, a dict for the report."""
    # mmdetection first, because its weights are used by both sides.
    sides = [PEER, OWN, *([HALF] if has_bfloat16() else [])]
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            side: [
                (side == PEER and mmdet_python) or sys.executable,
                *(str(Path(__file__).resolve()), "--worker", name, work, side),
                *(str(Path(folder) / "weights.pth"), *map(str, size)),
            ]
            for side in sides
        }
        result = measure(commands, repetitions, with_memory=work == TRAINING, peer=PEER)
    compare(name, work, result["facts"], result["answers"])
    return result


def compare(name, work, facts, answers):
    """Stop if the two sides computed different things, or found too little."""
    key = "score" if work == INFERENCE else "loss"
    # The loss of the first step: later losses follow each side's own random choice of regions.
    first = {side: facts[side]["warm_up"][0][key] for side in (OWN, PEER)}
    if abs(first[OWN] - first[PEER]) > AGREEMENT * first[PEER]:
        raise SystemExit(
            f"{name}: the {key} is {first[OWN]} here but {first[PEER]} in mmdetection."
        )
    if work == INFERENCE:
        least = min(answers[side][-1]["detections"] for side in (OWN, PEER))
        if least < DETECTIONS:
            raise SystemExit(f"{name}: {least} detections are fewer than {DETECTIONS}.")


def times(result, limit):
    """Return the columns of time."""
    own, half, peer = (middle(result, side) for side in (OWN, HALF, PEER))
    return {
        "kerasdet, s": number(own),
        "mmdetection, s": number(peer),
        "ratio": judged(own / peer, limit),
        "limit": number(limit),
        "kerasdet in bfloat16, s": number(half),
    }


def inference_row(name, result):
    """Return the row of one image's time; the lower FLOPs count as useful."""
    useful = min(result["facts"][side]["flops"] for side in (OWN, PEER))
    share = useful / middle(result, OWN) / max(result["matmul_flops_per_second"])
    return {
        "one image": MODELS[name].title,
        **times(result, MODELS[name].inference),
        "useful GFLOP": f"{useful / 1e9:.0f}",
        "useful FLOPs / matrix-product rate": number(share),
        "detections": result["answers"][OWN][-1]["detections"],
    }


def training_row(name, result):
    """Return the row of one step's time and memory."""
    losses = {s: loss_text(result["facts"][s], result["answers"][s]) for s in (OWN, PEER)}
    return {
        "one step": MODELS[name].title,
        **times(result, MODELS[name].training),
        **memory_columns(result, MEMORY_LIMIT, PEER),
        "kerasdet's loss": losses[OWN],
        "mmdetection's loss": losses[PEER],
    }


def tables(report):
    """Return the report as Markdown."""
    results = [result for work in (INFERENCE, TRAINING) for result in report[work].values()]
    rate = max(max(result["matmul_flops_per_second"]) for result in results)
    text = head_line(report["machine"], rate) + "\n"
    for work, row in ((INFERENCE, inference_row), (TRAINING, training_row)):
        rows = [row(name, result) for name, result in report[work].items()]
        text += "\n" + markdown(rows) if rows else ""
    return text


def benchmark(arguments):
    """Measure the requested models, and write or print the report."""
    sizes = {work: (batch, *(arguments.size or size)) for work, (batch, *size) in SIZES.items()}
    report = {
        "machine": machine(),
        "settings": {"sizes": sizes, "repetitions": arguments.repetitions},
        INFERENCE: {},
        TRAINING: {},
    }
    for work in arguments.work:
        for name in arguments.models:
            print(f"{work}, {MODELS[name].title}", file=sys.stderr, flush=True)
            options = (arguments.repetitions, arguments.mmdet_python, sizes[work])
            report[work][name] = measured(name, work, *options)
    asked = (set(arguments.work), set(arguments.models), arguments.size)
    out = arguments.out or (RESULTS if asked == (set(SIZES), set(MODELS), None) else None)
    if out:
        write_report(out, report, tables(report))
    else:
        print(tables(report))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--work", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--size", nargs=2, type=int, help="height and width, for a trial")
    parser.add_argument("--mmdet-python", help="interpreter that has mmdetection")
    parser.add_argument("--out", help="JSON file; the tables are written beside it")
    parser.add_argument("--worker", nargs=7, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*arguments.worker)
    else:
        benchmark(arguments)


if __name__ == "__main__":
    main()
