"""Faster, Mask and Keypoint R-CNN with ResNet-50-FPN compared with torchvision's, in one run, on the CPU.

    python benchmarks/two_stage.py                           everything
    python benchmarks/two_stage.py --work training           only training steps
    python benchmarks/two_stage.py --models fasterrcnn       one model

Inference: one 800x1088 image, pixels to final boxes; Mask R-CNN's masks are pasted into the image on
both sides, Keypoint R-CNN's keypoints are final. Training: one step, 2 images of 512x512, 8 objects each,
every layer learns. Both sides are torchvision's v1 with the same weights: torchvision makes them and
kerasdet converts its state dict, so nothing can be measured without torchvision. It may have its own
environment: --torch-python names the interpreter. Only a run of everything replaces the files in
benchmarks/results; a shorter one prints its tables, or writes to --out.
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
    PEER,
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
    torchvision_images,
    torchvision_outputs,
    torchvision_step,
    trainable_parameters,
)
from _harness import (
    machine,
    markdown,
    median,
    seconds,
    tensorflow_flops,
    write_report,
)

RESULTS = Path(__file__).parent / "results" / "two_stage.json"
INFERENCE, TRAINING = "inference", "training"
SIZES = {INFERENCE: (1, 800, 1088), TRAINING: (2, 512, 512)}
KEYPOINTS = 17
# Standard deviations of the last layers' outputs, to which random weights are scaled.
OBJECTNESS_STD, PROPOSAL_STD, CLASS_STD, BOX_STD, MASK_STD, KEYPOINT_STD = 1.5, 0.1, 1.5, 1.0, 2, 3
CANDIDATES = 400  # largest number of (proposal, class) pairs above the score threshold
SCORE_THRESHOLD = 0.05
DETECTIONS = 100
AGREEMENT = 0.05  # of the mean score and loss; beyond it the sides compute different things
MEMORY_LIMIT = 1.5  # times torchvision's, both without the libraries' memory


class Model(NamedTuple):
    """A row: name for the table, classes with the background, limits relative to torchvision's time."""

    title: str
    classes: int
    inference: float
    training: float | None


MODELS = {
    "fasterrcnn": Model("Faster R-CNN", 91, 0.5, 0.5),
    "maskrcnn": Model("Mask R-CNN", 91, 0.6, 0.5),
    "keypointrcnn": Model("Keypoint R-CNN", 2, 0.75, None),
}


# -- the same data for both ------------------------------------------------------------------------


def object_masks(boxes, height, width):
    """Return the ellipse in each box (B, G, 4): (B, G, H, W) uint8, 0 or 1."""
    import numpy as np

    y, x = np.mgrid[:height, :width] + 0.5
    center, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    by_x = (x - center[..., 0, None, None]) / half[..., 0, None, None]
    by_y = (y - center[..., 1, None, None]) / half[..., 1, None, None]
    return (by_x**2 + by_y**2 <= 1).astype("uint8")


def object_keypoints(boxes):
    """Return visible points anywhere in each box (B, G, 4): (B, G, 17, 3) float32."""
    import numpy as np

    places = np.random.default_rng(2).uniform(0, 1, (*boxes.shape[:2], KEYPOINTS, 2))
    corner, other = boxes[..., None, :2], boxes[..., None, 2:]
    points = corner + places * (other - corner)
    return np.pad(points, [(0, 0)] * 3 + [(0, 1)], constant_values=1).astype("float32")


def all_targets(name, batch, height, width):
    """Return the targets of a training step, with labels from 1."""
    boxes, labels = objects(batch, height, width, MODELS[name].classes)
    targets = {"boxes": boxes, "labels": labels}
    if name == "maskrcnn":
        targets["masks"] = object_masks(boxes, height, width)
    if name == "keypointrcnn":
        targets["keypoints"] = object_keypoints(boxes)
    return targets


# -- kerasdet -------------------------------------------------------------------------------------


def kerasdet_model(name, weights, precision):
    """Return our detector with torchvision's weights."""
    import keras

    from kerasdet import backbones
    from kerasdet.zoo import untrained
    from kerasdet.zoo.origins import torchvision

    keras.config.set_dtype_policy(precision)
    # With a trainable normalisation and its epsilon: the published model's is frozen, with epsilon 0.
    model = untrained(f"{name}_resnet50_fpn_coco", backbone=backbones.ResNet50())
    return torchvision.load(model, weights)


def kerasdet_inference(name, weights, precision):
    import tensorflow as tf

    from kerasdet.ops import paste_masks

    _, height, width = SIZES[INFERENCE]
    model = kerasdet_model(name, weights, precision)
    pixels = tf.constant(random_images(*SIZES[INFERENCE]))

    @tf.function(jit_compile=False)
    def detect(pixels):
        return model.decode(model(pixels, training=False))

    def run():
        answer = {"paste": 0.0}

        def whole():
            found = {key: value.numpy()[0] for key, value in detect(pixels).items()}
            count = int(found["num_detections"])
            masks, boxes = found.get("masks"), found["boxes"][:count]
            if masks is not None:
                answer["paste"] = seconds(
                    lambda: paste_masks(masks[:count], boxes, (height, width))
                )
            answer.update(detections=count, score=float(found["confidence"][:count].mean()))

        return {"seconds": seconds(whole), **answer}

    flops = tensorflow_flops(detect.get_concrete_function(pixels))
    return run, {"flops": flops, "parameters": trainable_parameters(model)}


def kerasdet_training(name, weights, precision):
    import keras

    model = kerasdet_model(name, weights, precision)
    model.compile(keras.optimizers.SGD(LEARNING_RATE, MOMENTUM))
    targets = all_targets(name, *SIZES[TRAINING])
    targets["labels"] -= 1
    return keras_step(model, random_images(*SIZES[TRAINING]), targets)


# -- torchvision ------------------------------------------------------------------------------------


def torchvision_model(name, height, width):
    """Return a detector with fixed random weights and the images as canvas."""
    import torch
    from torchvision.models import detection

    torch.manual_seed(0)
    return getattr(detection, f"{name}_resnet50_fpn")(
        weights=None,
        weights_backbone=None,
        min_size=min(height, width),
        max_size=max(height, width),
        box_score_thresh=SCORE_THRESHOLD,
        box_detections_per_img=DETECTIONS,
    )


def torchvision_inference(name, weights):
    """Return inference; write the weights to the file `weights` for our side."""
    import torch
    from torchvision.models.detection import transform

    model = torchvision_model(name, *SIZES[INFERENCE][1:]).eval()
    images = torchvision_images(*SIZES[INFERENCE])
    times = {"paste": 0.0}
    paste = transform.paste_masks_in_image

    def timed(*arguments):
        result = {}
        times["paste"] = seconds(lambda: result.update(value=paste(*arguments)))
        return result["value"]

    @torch.inference_mode()
    def detect():
        return model(images)[0]

    torchvision_lively(model, detect)
    torch.save(model.state_dict(), weights)
    transform.paste_masks_in_image = timed
    return torchvision_detections(model, detect, times)


def torchvision_lively(model, detect):
    """Scale the last layers so that there is as much to propose, suppress and draw as in a trained model."""
    import torch

    heads, predictor = model.roi_heads, model.roi_heads.box_predictor
    with torch.no_grad():
        spread(model.rpn.head.cls_logits, OBJECTNESS_STD, detect)
        spread(model.rpn.head.bbox_pred, PROPOSAL_STD, detect)
        spread(predictor.bbox_pred, BOX_STD, detect)
        spread(predictor.cls_score, CLASS_STD, detect)
        (logits,) = torchvision_outputs([predictor.cls_score], detect)[predictor.cls_score]
        # Random weights answer alike everywhere: subtracting their mean gives regions different classes.
        mean = logits.mean(0)
        predictor.cls_score.bias -= mean
        logits = logits - mean
        while (torch.softmax(logits, -1)[:, 1:] > SCORE_THRESHOLD).sum() > CANDIDATES:
            logits[:, 0] += 0.1
            predictor.cls_score.bias[0] += 0.1
        if heads.has_mask():
            spread(heads.mask_predictor.mask_fcn_logits, MASK_STD, detect)
        if heads.has_keypoint():
            spread(heads.keypoint_predictor.kps_score_lowres, KEYPOINT_STD, detect)


def torchvision_training(name, weights):
    """Return training; write the initial weights to the file `weights` for our side."""
    import torch

    batch, height, width = SIZES[TRAINING]
    model = torchvision_model(name, height, width)
    torch.save(model.state_dict(), weights)
    arrays = all_targets(name, batch, height, width)
    tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
    tensors["labels"] = tensors["labels"].long()
    targets = [{key: values[i] for key, values in tensors.items()} for i in range(batch)]
    step, facts = torchvision_step(model, torchvision_images(batch, height, width), targets)
    chosen = {}
    select = model.roi_heads.select_training_samples

    def counted(*arguments):
        result = select(*arguments)
        chosen["positives"] = sum(int((labels > 0).sum()) for labels in result[2])
        return result

    model.roi_heads.select_training_samples = counted
    return lambda: {**step(), **chosen}, facts


# -- the run ------------------------------------------------------------------------------------------


def worker(name, work, side, weights):
    """Serve one side of one model."""
    if side == PEER:
        make = {INFERENCE: torchvision_inference, TRAINING: torchvision_training}[work]
        serve_side(lambda: make(name, weights), ["torchvision"])
    else:
        make = {INFERENCE: kerasdet_inference, TRAINING: kerasdet_training}[work]
        precision = "mixed_bfloat16" if side == HALF else "float32"
        serve_side(lambda: make(name, weights, precision), ["tensorflow", "kerasdet"])


def measured(name, work, repetitions, torch_python):
    """Return all figures of one model, a dict for the report."""
    # torchvision first, because its weights are used by both sides.
    sides = [PEER, OWN, *([HALF] if has_bfloat16() else [])]
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            side: [
                (side == PEER and torch_python) or sys.executable,
                *(str(Path(__file__).resolve()), "--worker", name, work, side),
                str(Path(folder) / "weights.pth"),
            ]
            for side in sides
        }
        result = measure(commands, repetitions, with_memory=work == TRAINING)
    compare(name, work, result["facts"], result["answers"])
    return result


def compare(name, work, facts, answers):
    """Stop if the two sides computed different things, or found too little."""
    key = "score" if work == INFERENCE else "loss"
    # The loss of the first step: later losses follow each side's own random choice of regions.
    first = {side: facts[side]["warm_up"][0][key] for side in (OWN, PEER)}
    if abs(first[OWN] - first[PEER]) > AGREEMENT * first[PEER]:
        raise SystemExit(
            f"{name}: the {key} is {first[OWN]} here but {first[PEER]} in torchvision."
        )
    if work == INFERENCE:
        least = min(answers[side][-1]["detections"] for side in (OWN, PEER))
        if least < DETECTIONS:
            raise SystemExit(f"{name}: {least} detections are fewer than {DETECTIONS}.")


def times(result, limit, less=None):
    """Return the columns of time."""
    own, half, peer = (middle(result, side, less=less) for side in (OWN, HALF, PEER))
    return {
        "kerasdet, s": number(own),
        "torchvision, s": number(peer),
        "ratio": judged(own / peer, limit),
        "limit": number(limit),
        "kerasdet in bfloat16, s": number(half),
    }


def inference_rows(name, result):
    """Return a row of the whole, and for Mask R-CNN also one without pasting."""
    rows = [inference_row(MODELS[name].title, result, MODELS[name].inference)]
    if name == "maskrcnn":
        rows.append(inference_row("the same, masks of 28x28", result, less="paste"))
    return rows


def inference_row(title, result, limit=None, less=None):
    """Return a row of one image's time, without the part `less`; the lower FLOPs count as useful."""
    useful = min(result["facts"][side]["flops"] for side in (OWN, PEER))
    share = useful / middle(result, OWN, less=less) / max(result["matmul_flops_per_second"])
    return {
        "one image": title,
        **times(result, limit, less),
        "useful GFLOP": f"{useful / 1e9:.0f}",
        "useful FLOPs / matrix-product rate": number(share),
        "detections": result["answers"][OWN][-1]["detections"],
    }


def training_rows(name, result):
    """Return one row with a step's time and memory."""
    positives = median([run["positives"] for run in result["answers"][PEER]])
    losses = {s: loss_text(result["facts"][s], result["answers"][s]) for s in (OWN, PEER)}
    return [
        {
            "one step": MODELS[name].title,
            **times(result, MODELS[name].training),
            **memory_columns(result, MEMORY_LIMIT),
            "kerasdet's loss": losses[OWN],
            "torchvision's loss": losses[PEER],
            "torchvision's positive regions": f"{positives:.0f}",
        }
    ]


def tables(report):
    """Return the report as Markdown."""
    results = [result for work in (INFERENCE, TRAINING) for result in report[work].values()]
    rate = max(max(result["matmul_flops_per_second"]) for result in results)
    text = head_line(report["machine"], rate) + "\n"
    for work, make in ((INFERENCE, inference_rows), (TRAINING, training_rows)):
        rows = [row for name, result in report[work].items() for row in make(name, result)]
        text += "\n" + markdown(rows) if rows else ""
    return text


def benchmark(arguments):
    """Measure the requested models, and write or print the report."""
    report = {
        "machine": machine(),
        "settings": {"sizes": SIZES, "repetitions": arguments.repetitions},
        INFERENCE: {},
        TRAINING: {},
    }
    for work in arguments.work:
        for name in arguments.models:
            print(f"{work}, {MODELS[name].title}", file=sys.stderr, flush=True)
            report[work][name] = measured(name, work, arguments.repetitions, arguments.torch_python)
    whole = set(arguments.work) == {INFERENCE, TRAINING} and set(arguments.models) == set(MODELS)
    out = arguments.out or (RESULTS if whole else None)
    if out:
        write_report(out, report, tables(report))
    else:
        print(tables(report))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    works = [INFERENCE, TRAINING]
    parser.add_argument("--work", nargs="+", choices=works, default=works)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--torch-python", help="interpreter that has torchvision")
    parser.add_argument("--out", help="JSON file; the tables are written beside it")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*arguments.worker)
    else:
        benchmark(arguments)


if __name__ == "__main__":
    main()
