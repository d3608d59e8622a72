"""What single regions cost: R-FCN beside Faster R-CNN with the fifth stage on each region, on the CPU.

    python benchmarks/region_cost.py                         everything
    python benchmarks/region_cost.py --work inference        one image
    python benchmarks/region_cost.py --work training --regions 128 300

Both have ResNet-101. Inference: one 600x1000 image, 300 regions, pixels to final boxes. Training: one step on
that image, of 128 regions: drawn at random, or the hardest of 300 or of 2000 (OHEM). The ratio of times is
compared with that of multiply-adds: R-FCN (arXiv 1605.06409v2) has no layer for single regions. Only a run of
everything replaces the files in benchmarks/results; a shorter one prints its table, or writes to --out.
"""

import argparse
import sys
from pathlib import Path

from _detectors import (
    LEARNING_RATE,
    MOMENTUM,
    OWN,
    detector_inference,
    head_line,
    keras_step,
    measure,
    middle,
    number,
    objects,
    random_images,
    serve_side,
)
from _harness import machine, markdown, write_report

RESULTS = Path(__file__).parent / "results" / "region_cost.json"
FASTER = "Faster R-CNN"
INFERENCE, TRAINING = "inference", "training"
SIZE = (1, 600, 1000)
CLASSES = 20
REGIONS = 300  # at test
LEARNT = 128
LIMIT = 1.05  # of the ratio of multiply-adds
# Seconds an image of R-FCN and Faster R-CNN, published (arXiv 1605.06409v2; a K40).
PUBLISHED = {REGIONS: (0.17, 0.42)}
PUBLISHED_STEPS = {128: (0.45, 1.2), 300: (0.45, 1.5), 2000: (0.46, 2.9)}


def detector(side, regions, work):
    """Return one side's detector with random weights, which has `regions` proposals."""
    import keras

    from kerasdet import backbones, layers, models

    keras.utils.set_random_seed(0)
    options = {"regions_per_image": LEARNT, "score_threshold": 0.0}
    if work == TRAINING and regions > LEARNT:
        options["sampler"] = models.HardRegions()
    if side == OWN:
        model = models.RFCN(CLASSES, backbones.ResNet101(levels=("C4", "C4_conv5")), **options)
    else:
        model = models.FasterRCNN(
            CLASSES,
            backbones.ResNet101(levels=("C4",)),
            neck=False,
            pooling=layers.MultilevelRoIAlign(14),
            head=backbones.ResNetHead(),
            **options,
        )
    model.rpn.candidates, model.rpn.proposals = (6000, 6000), (regions, regions)
    return model


def flops(side):
    """Count the FLOPs of one image: what regions share, and what each region adds."""
    import tensorflow as tf
    from _harness import tensorflow_flops

    pixels, few, counts = tf.constant(random_images(*SIZE)), REGIONS // 3, {}
    model = detector(side, few, INFERENCE)
    for regions in (few, REGIONS):
        model.rpn.proposals = (regions, regions)
        forward = tf.function(lambda x: model(x, training=False), jit_compile=False)
        counts[regions] = tensorflow_flops(forward.get_concrete_function(pixels))
    each = (counts[REGIONS] - counts[few]) / (REGIONS - few)
    return {"shared_flops": counts[few] - few * each, "region_flops": each}


def worker(work, regions, side):
    """Serve one side of one row."""

    def make():
        facts = flops(side)
        model = detector(side, regions, work)
        if work == INFERENCE:
            run, found = detector_inference(model, random_images(*SIZE))
        else:
            import keras

            model.compile(keras.optimizers.SGD(LEARNING_RATE, MOMENTUM))
            boxes, labels = objects(*SIZE, CLASSES)
            targets = {"boxes": boxes, "labels": labels - 1}
            run, found = keras_step(model, random_images(*SIZE), targets)
        return run, {**found, **facts}

    serve_side(make, ["tensorflow", "kerasdet"])


def work_flops(facts, work, regions):
    """Return the FLOPs of one image or step: a step computes what it learns three times over."""
    shared, each = facts["shared_flops"], facts["region_flops"]
    if work == INFERENCE:
        return shared + regions * each
    looked_at = regions if regions > LEARNT else 0  # OHEM looks at all of them first
    return 3 * (shared + LEARNT * each) + looked_at * each


def row(work, regions, result):
    """Return one row of the table."""
    own, peer = middle(result, OWN), middle(result, FASTER)
    useful = {side: work_flops(result["facts"][side], work, regions) for side in (OWN, FASTER)}
    wanted = useful[OWN] / useful[FASTER]
    published = (PUBLISHED if work == INFERENCE else PUBLISHED_STEPS)[regions]
    title = (
        f"one image, {regions} regions" if work == INFERENCE else f"one step, of {regions} regions"
    )
    within = own / peer <= LIMIT * wanted
    return {
        "": title,
        "R-FCN, s": number(own),
        "Faster R-CNN, s": number(peer),
        "ratio": number(own / peer),
        "ratio of multiply-adds": number(wanted),
        "quotient": number(own / peer / wanted) + ("" if within else ", MISSED"),
        "limit": number(LIMIT),
        "published ratio": f"{published[0]} / {published[1]} = {published[0] / published[1]:.2f}",
    }


def table(report):
    """Return the report as Markdown."""
    results = [result for rows in report["rows"].values() for result in rows.values()]
    rate = max(max(result["matmul_flops_per_second"]) for result in results)
    rows = [
        row(work, int(regions), result)
        for work, rows in report["rows"].items()
        for regions, result in rows.items()
    ]
    return head_line(report["machine"], rate) + "\n\n" + markdown(rows)


def main():
    """Measure the requested rows, and write or print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    works = [INFERENCE, TRAINING]
    parser.add_argument("--work", nargs="+", choices=works, default=works)
    steps = list(PUBLISHED_STEPS)
    parser.add_argument("--regions", nargs="+", type=int, choices=steps, default=steps)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", help="JSON file; the table is written beside it")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work, regions, side = arguments.worker
        worker(work, int(regions), side)
        return
    report = {"machine": machine(), "rows": {work: {} for work in arguments.work}}
    for work in arguments.work:
        for regions in arguments.regions if work == TRAINING else [REGIONS]:
            commands = {
                side: [
                    sys.executable,
                    str(Path(__file__).resolve()),
                    "--worker",
                    work,
                    str(regions),
                    side,
                ]
                for side in (OWN, FASTER)
            }
            result = measure(commands, arguments.repetitions, with_memory=False, peer=FASTER)
            report["rows"][work][regions] = result
    whole = set(arguments.work) == set(works) and set(arguments.regions) == set(steps)
    out = arguments.out or (RESULTS if whole else None)
    if out:
        write_report(out, report, table(report))
    else:
        print(table(report))


if __name__ == "__main__":
    main()
