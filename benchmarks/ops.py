"""Region pooling, deformable convolution and suppression compared with torchvision's, in one run, on the CPU.

    python benchmarks/ops.py                  every operation, and its time by number of boxes
    python benchmarks/ops.py --quick          two repetitions, at one number of boxes
    python benchmarks/ops.py --only roi_pool deform_conv

The operations run in float32 on random boxes (`random_boxes`) in an 800x1088 image. Each operation and side
has a process of its own, so that its peak memory covers only its inputs, result and workspace (Linux only).
torchvision may have its own environment: --torch-python names its interpreter. Only a run of everything
replaces the files in benchmarks/results; a shorter one prints its table, or writes to --out.
"""

import argparse
import functools
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _harness import (
    alternate,
    forget_peak,
    machine,
    markdown,
    median,
    peak_memory,
    seconds,
    serve,
    start,
    tensorflow_matmul_rate,
    write_report,
)

RESULTS = Path(__file__).parent / "results" / "ops.json"
OWN, PEER, PLAIN = "kerasdet", "torchvision", "plain convolution"
THREADS = 2
IMAGE = (800, 1088)
SMALL = (((96, 128), 5), ((128, 160), 9))  # images and numbers of boxes for the warm-up
SIDES = (16, 512)  # pixels: the boxes' smallest and largest size
ASPECT = 0.7  # of the boxes: exp(U(-ASPECT, ASPECT))
OFFSET_STD = 2.0  # cells
MOVE_STD = 0.1  # of a class's box from the proposal, relative to its size
CLASSES, DETECTIONS, IOU_THRESHOLD = 90, 100, 0.5
PROPOSALS, PROPOSAL_IOU_THRESHOLD = 1000, 0.7
PACKAGES = {OWN: ("kerasdet", "tensorflow", "keras"), PEER: ("torch", "torchvision")}
COUNTS = (10, 30, 100, 300, 1000, 3000)
PLAIN_LIMIT = 2.5  # largest ratio of deformable to plain convolution
DIFFERENCE = 0.05  # of mean absolute results; beyond it the two sides compute different things
CALLS = 0.2  # seconds of calls whose median is one run


# -- the same data for everyone ----------------------------------------------------------------


def random_boxes(rng, image, count):
    """Return boxes (R, 4) xyxy like proposals: of all sizes, anywhere, clipped to the image."""
    size = np.exp(rng.uniform(*np.log(SIDES), count))
    root = np.exp(rng.uniform(-ASPECT, ASPECT, count) / 2)
    half = np.stack([size * root, size / root], -1) / 2
    extent = np.array(image[::-1])
    center = rng.uniform(0, 1, (count, 2)) * extent
    corners = [np.clip(center - half, 0, extent), np.clip(center + half, 0, extent)]
    return np.concatenate(corners, -1).astype("float32")


def normal(rng, *shape):
    return rng.standard_normal(shape, "float32")


def feature_map(rng, image, stride, channels=256):
    return normal(rng, 1, image[0] // stride, image[1] // stride, channels)


def regions(rng, image, count, stride=4, channels=256, training=False):
    features = feature_map(rng, image, stride, channels)
    inputs = {"features": features, "boxes": random_boxes(rng, image, count)[None]}
    return inputs | ({"upstream": normal(rng, 1, count, 7, 7, channels)} if training else {})


def pyramid(rng, image, count):
    levels = {f"P{number}": feature_map(rng, image, 2**number) for number in range(2, 6)}
    return {**levels, "boxes": random_boxes(rng, image, count)[None]}


def convolution(rng, image, _, training=False):
    features = feature_map(rng, image, 16)
    offsets = OFFSET_STD * normal(rng, *features.shape[:3], 2 * 9)
    kernel = 0.02 * normal(rng, 3, 3, 256, 256)
    inputs = {"features": features, "offsets": offsets, "kernel": kernel}
    return inputs | ({"upstream": normal(rng, *features.shape)} if training else {})


def scored(rng, image, count):
    scores = (rng.permutation(count) + 1) / count  # all different
    return {"boxes": random_boxes(rng, image, count), "scores": scores.astype("float32")}


def scored_by_class(rng, image, count):
    """Return each box once for each class, slightly moved."""
    inputs = scored(rng, image, count * CLASSES)
    boxes = np.repeat(random_boxes(rng, image, count), CLASSES, axis=0)
    moves = MOVE_STD * normal(rng, len(boxes), 2) * (boxes[:, 2:] - boxes[:, :2])
    labels = np.tile(np.arange(CLASSES, dtype="int32"), count)
    return inputs | {"boxes": boxes + np.tile(moves, 2), "labels": labels}


# -- the operations -------------------------------------------------------------------------------


class Case(NamedTuple):
    """An operation: name and sizes for the table, inputs, boxes, and limits relative to torchvision."""

    title: str
    sizes: str
    inputs: callable
    count: int
    limit: float
    memory_limit: float = 2.0


REGIONS_16 = functools.partial(regions, stride=16, channels=21 * 7 * 7)
REGIONS_TRAINING = functools.partial(regions, training=True)
CONVOLUTION_TRAINING = functools.partial(convolution, training=True)
MAP_4, MAP_16 = "7x7, 1000 boxes, 200x272x256", "7x7, 300 boxes, 21 classes, 50x68"
MAP_CONV = "3x3, 256 to 256, 50x68"
CASES = {
    "roi_align": Case("RoIAlign", MAP_4, regions, 1000, 0.08),
    "multilevel": Case("RoIAlign, P2 to P5", "7x7, 1000 boxes, 256 channels", pyramid, 1000, 0.1),
    "roi_pool": Case("RoIPool", MAP_4, regions, 1000, 1.5, 4.0),
    "ps_roi_pool": Case("PSRoIPool", MAP_16, REGIONS_16, 300, 1.5, 4.0),
    "ps_roi_align": Case("PSRoIAlign", MAP_16, REGIONS_16, 300, 1.5, 4.0),
    "deform_conv": Case("deformable convolution", MAP_CONV, convolution, 0, 0.25),
    "nms": Case("NMS", "4700 boxes to 1000", scored, 4700, 0.15),
    "batched_nms": Case(
        "NMS by class", "1000 boxes x 90 classes to 100", scored_by_class, 1000, 0.15
    ),
    "roi_align_training": Case(
        "RoIAlign and its gradient",
        "7x7, 512 boxes, 200x272x256",
        REGIONS_TRAINING,
        512,
        0.15,
    ),
    "deform_conv_training": Case(
        "deformable convolution and its gradients", MAP_CONV, CONVOLUTION_TRAINING, 0, 0.3
    ),
}
GROWING = ("roi_align", "multilevel", "roi_pool")


def kerasdet_functions():
    """Return the cases by name, and the plain convolution, on NHWC tensors."""
    import keras
    import tensorflow as tf

    from kerasdet import ops

    def training(function, *names):
        def step(upstream, **inputs):
            watched = [inputs[name] for name in names]
            with tf.GradientTape() as tape:
                tape.watch(watched)
                result = function(**inputs)
            # The result is included, so that the forward pass is computed too.
            return result, *tape.gradient(result, watched, upstream)

        return step

    def align(features, boxes):
        return ops.roi_align(features, boxes, 7, 1 / 4)

    def deform(features, offsets, kernel):
        return ops.deform_conv2d(features, offsets, kernel, padding=1)

    return {
        "roi_align": align,
        "multilevel": lambda boxes, **levels: ops.multilevel_roi_align(levels, boxes, 7),
        "roi_pool": lambda features, boxes: ops.roi_pool(features, boxes, 7, 1 / 4),
        "ps_roi_pool": lambda features, boxes: ops.ps_roi_pool(features, boxes, 7, 1 / 16),
        "ps_roi_align": lambda features, boxes: ops.ps_roi_align(features, boxes, 7, 1 / 16),
        "deform_conv": deform,
        "nms": lambda **inputs: ops.nms(
            **inputs, iou_threshold=PROPOSAL_IOU_THRESHOLD, max_output_size=PROPOSALS
        )[0],
        "batched_nms": lambda **inputs: ops.batched_nms(
            **inputs, iou_threshold=IOU_THRESHOLD, max_output_size=DETECTIONS
        )[0],
        "roi_align_training": training(align, "features"),
        "deform_conv_training": training(deform, "features", "offsets", "kernel"),
        PLAIN: lambda features, offsets, kernel: keras.ops.conv(features, kernel, padding="same"),
    }


def torchvision_functions():
    """Return the same on torchvision's layout: NCHW maps, boxes (R, 5) with the image index first."""
    import torch
    from torchvision import ops

    def training(function, *names):
        @torch.enable_grad()
        def step(upstream, **inputs):
            watched = [inputs[name].requires_grad_() for name in names]
            result = function(**inputs)
            return result.detach(), *torch.autograd.grad(result, watched, upstream)

        return step

    def align(features, boxes):
        return ops.roi_align(features, boxes, 7, 1 / 4, sampling_ratio=2)

    def multilevel(boxes, **levels):
        return ops.MultiScaleRoIAlign(list(levels), 7, 2)(levels, [boxes[:, 1:]], [IMAGE])

    def deform(features, offsets, kernel):
        return ops.deform_conv2d(features, offsets, kernel, padding=1)

    def batched_nms(boxes, scores, labels):
        return ops.batched_nms(boxes, scores, labels, IOU_THRESHOLD)[:DETECTIONS]

    return {
        "roi_align": align,
        "multilevel": multilevel,
        "roi_pool": lambda features, boxes: ops.roi_pool(features, boxes, 7, 1 / 4),
        "ps_roi_pool": lambda features, boxes: ops.ps_roi_pool(features, boxes, 7, 1 / 16),
        "ps_roi_align": lambda features, boxes: ops.ps_roi_align(features, boxes, 7, 1 / 16, 2),
        "deform_conv": deform,
        "nms": lambda boxes, scores: ops.nms(boxes, scores, PROPOSAL_IOU_THRESHOLD)[:PROPOSALS],
        "batched_nms": batched_nms,
        "roi_align_training": training(align, "features"),
        "deform_conv_training": training(deform, "features", "offsets", "kernel"),
    }


# -- a worker --------------------------------------------------------------------------------------


def kerasdet_side(name, any_size):
    """Return the function of an operation on tensors, and the function that makes tensors from arrays.

    With `any_size` one graph serves all sizes, so that small inputs warm up everything that large ones
    use. Without it each size has its own graph, as for a model's fixed numbers of boxes.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    compute = tf.function(kerasdet_functions()[name], autograph=False, reduce_retracing=any_size)

    def place(arrays):
        tensors = {key: tf.constant(array) for key, array in arrays.items()}
        tf.zeros(())  # TensorFlow frees the last arrays at its next call
        return tensors

    return compute, place


def torchvision_side(name, any_size):
    import torch

    torch.set_num_threads(THREADS)

    def tensor(key, array):
        if key == "kernel":
            array = array.transpose(3, 2, 0, 1)
        elif array.ndim == 5:
            array = array[0].transpose(0, 3, 1, 2)
        elif array.ndim == 4:
            array = array.transpose(0, 3, 1, 2)
        elif array.ndim == 3:
            array = np.pad(array[0], [(0, 0), (1, 0)])
        return torch.from_numpy(np.ascontiguousarray(array))

    compute = torch.no_grad()(torchvision_functions()[name])
    return compute, lambda arrays: {key: tensor(key, array) for key, array in arrays.items()}


def worker(name, side):
    """Serve one side of one operation."""
    case, state = CASES[name], {"count": CASES[name].count}

    def inputs(image, count):
        return state["place"](case.inputs(np.random.default_rng(0), image, count))

    def prepare():
        sides = {OWN: kerasdet_side, PEER: torchvision_side, PLAIN: kerasdet_side}
        own_name = PLAIN if side == PLAIN else name
        compute, state["place"] = sides[side](own_name, any_size=True)
        for image, count in 2 * SMALL:
            compute(**inputs(image, count))
        forget_peak()
        before = peak_memory()
        state["inputs"] = inputs(IMAGE, case.count)
        forget_peak()  # the memory for making them does not count
        for _ in range(2):
            results = None  # one at a time
            results = compute(**state["inputs"])
        memory = peak_memory() - before

        state["compute"], _ = sides[side](own_name, any_size=False)
        state["compute"](**state["inputs"])
        results = results if isinstance(results, tuple) else (results,)
        sizes = [float(np.abs(np.asarray(result, "float64")).mean()) for result in results]
        versions = {package: version(package) for package in PACKAGES.get(side, ())}
        return {"memory_mb": memory / 1e6, "mean_abs": sizes, "versions": versions}

    def run(count=case.count):
        if count != state["count"]:
            state.update(count=count, inputs=inputs(IMAGE, count))
            state["compute"](**state["inputs"])
        times = []
        while sum(times) < CALLS:
            times.append(seconds(lambda: state["compute"](**state["inputs"])))
        return {"seconds": median(times), "calls": len(times)}

    serve(
        lambda: {"prepare": prepare, "run": run, "rate": lambda: {"rate": tensorflow_matmul_rate()}}
    )


# -- the run ------------------------------------------------------------------------------------------


def measure(name, repetitions, growing, torch_python):
    """Return all figures of one operation, a dict for the report."""
    case = CASES[name]
    pythons = {PEER: torch_python}
    sides = [OWN, PEER, *([PLAIN] if name == "deform_conv" else [])]
    commands = {
        side: [pythons.get(side) or sys.executable, __file__, "--worker", name, side]
        for side in sides
    }
    workers, facts = start(commands)
    if OWN not in [side.name for side in workers]:
        raise SystemExit("kerasdet itself could not be prepared; see its error above.")
    answers = alternate(workers, repetitions, pause=0.1)
    growth = {}
    for count in COUNTS if growing and name in GROWING else ():
        rounds = answers
        if count != case.count:
            rounds = alternate(workers[:2], (repetitions + 1) // 2, pause=0.1, count=count)
        growth[count] = {side: figures(rounds[side])["median"] for side in rounds}
    rate = workers[0].ask("rate")["rate"]
    for side in workers:
        side.close()
    times = {side: figures(runs) for side, runs in answers.items()}
    compare(name, facts)
    return {
        "title": case.title,
        "sizes": case.sizes,
        "versions": {side: facts[side]["versions"] for side in times},
        "milliseconds": times,
        "ratio": ratio(times[OWN]["median"], times.get(PEER, {}).get("median")),
        "limit": case.limit,
        "over_plain": ratio(times[OWN]["median"], times.get(PLAIN, {}).get("median")),
        "memory_mb": {side: facts[side]["memory_mb"] for side in times},
        "memory_ratio": ratio(facts[OWN]["memory_mb"], facts[PEER].get("memory_mb")),
        "memory_limit": case.memory_limit,
        "milliseconds_by_boxes": growth,
        "mean_abs_results": {side: facts[side]["mean_abs"] for side in times},
        "matmul_flops_per_second": rate,
    }


def figures(runs):
    """Return median and spread of a side's runs, in milliseconds."""
    times = [1000 * run["seconds"] for run in runs]
    return {"median": median(times), "lowest": min(times), "highest": max(times), "all": times}


def ratio(own, peer):
    return own / peer if peer else None


def compare(name, facts):
    """Stop if the two sides computed different things."""
    own, peer = facts[OWN]["mean_abs"], facts[PEER].get("mean_abs")
    if peer and not np.allclose(own, peer, rtol=DIFFERENCE):
        raise SystemExit(f"{name}: mean absolute results are {own} here but {peer} in torchvision.")


def number(value):
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def judged(value, limit):
    return number(value) + (", MISSED" if value is not None and value > limit else "")


def table_row(result):
    times, memory = result["milliseconds"], result["memory_mb"]
    return {
        "operation": result["title"],
        "sizes": result["sizes"],
        "kerasdet, ms": number(times[OWN]["median"]),
        "torchvision, ms": number(times.get(PEER, {}).get("median")),
        "ratio": judged(result["ratio"], result["limit"]),
        "limit": result["limit"],
        "kerasdet, MB": number(memory[OWN]),
        "torchvision, MB": number(memory.get(PEER)),
        "memory ratio": judged(result["memory_ratio"], result["memory_limit"]),
        "memory limit": result["memory_limit"],
    }


def table(report):
    results = report["operations"].values()
    rate = max(result["matmul_flops_per_second"] for result in results)
    text = (
        f"{report['machine']['processor']}, {THREADS} threads; "
        f"float32 matrix product {rate / 1e9:.0f} GFLOP/s\n\n"
    )
    text += markdown([table_row(result) for result in results])
    for result in results:
        if result["over_plain"]:
            text += (
                f"\nkerasdet's {result['title']} takes {judged(result['over_plain'], PLAIN_LIMIT)} "
                f"times as long as its plain one of the same size "
                f"({number(result['milliseconds'][PLAIN]['median'])} ms); limit {PLAIN_LIMIT}.\n"
            )
    return text


def plot(path, operations):
    """Plot time over the number of boxes, one panel for each operation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(operations), figsize=(10, 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, result in zip(panels[0], operations):
        growth = result["milliseconds_by_boxes"]
        for side, color, marker in ((OWN, "tab:blue", "o"), (PEER, "tab:orange", "s")):
            points = [(count, times[side]) for count, times in growth.items() if side in times]
            if points:
                axes.loglog(*zip(*points), color=color, marker=marker, label=side)
        axes.set(title=result["title"], xlabel="boxes", xticks=COUNTS, xticklabels=COUNTS)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("time, ms")
    panels[0][0].legend()
    figure.savefig(path, dpi=110)


def settings():
    """Describe the inputs, for the report."""
    return {
        "threads": THREADS,
        "image": IMAGE,
        "boxes": {
            "size_px": f"log-uniform {SIDES[0]}..{SIDES[1]}",
            "aspect": f"exp(U(-{ASPECT}, {ASPECT}))",
            "center": "uniform in the image; boxes are clipped to it",
        },
        "features, kernels, upstream gradients": "normal",
        "offsets": f"normal, std {OFFSET_STD} cells",
        "nms": f"IoU {PROPOSAL_IOU_THRESHOLD}, {PROPOSALS} kept",
        "batched_nms": f"{CLASSES} classes, each moves every box by normal {MOVE_STD} of its size; "
        f"IoU {IOU_THRESHOLD}, {DETECTIONS} kept",
        "plain_convolution_limit": PLAIN_LIMIT,
    }


def benchmark(arguments):
    repetitions = 2 if arguments.quick else arguments.repetitions
    operations = {
        name: measure(name, repetitions, not arguments.quick, arguments.torch_python)
        for name in arguments.only or CASES
    }
    report = {"machine": machine(), "settings": settings(), "operations": operations}
    out = arguments.out or (None if arguments.quick or arguments.only else RESULTS)
    if out is None:
        print(table(report))
        return
    write_report(out, report, table(report))
    grown = [result for result in operations.values() if result["milliseconds_by_boxes"]]
    if grown:
        plot(out.with_name(f"{out.stem}_boxes.png"), grown)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two repetitions, no growth")
    parser.add_argument("--only", nargs="+", choices=list(CASES), help="default: all")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--torch-python", help="interpreter that has torchvision")
    parser.add_argument(
        "--out", type=Path, help="JSON file; the table and the plot are written beside it"
    )
    parser.add_argument("--worker", nargs=2, metavar=("NAME", "SIDE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*arguments.worker)
    else:
        benchmark(arguments)


if __name__ == "__main__":
    main()
