"""What detectors learn in equal minutes: digit scenes, the same small backbone, from scratch.

    python benchmarks/learning.py --minutes 20

Each model trains alone on the machine for that many minutes, including validation, and is then measured
on scenes with digits that no training scene contains. The number of steps is computed from the model's
own pace, so that the learning rate's schedule ends with the minutes. Models from earlier runs stay in
the report, and an interrupted run continues.
"""

import argparse
import csv
import itertools
import json
import os
import time
from pathlib import Path

from _harness import machine, markdown, median, tensorflow_matmul_rate, write_report

BATCH = 8
EPOCHS = 5  # each with a validation
VALIDATED = 128  # scenes
REPORT = Path(__file__).parent / "results" / "learning.json"
# The figures that each model is compared by.
FIGURES = ("AP", "AP50", "AP75", "AP90", "APs", "APm")
NAMES = {"bbox": "", "segm": "mask ", "keypoints": "keypoint "}


def roi_pool(layers, models):
    """Pool bins of whole cells."""
    return {"pooling": layers.MultilevelRoIPool(7, name="pooling")}


def small_keypoint_branch(layers, models):
    """Return a branch with four convolutions of 64 channels."""
    head = layers.MaskHead((64,) * 4, upsampled=None, norm="batch", name="keypoint_head")
    return {"branches": [models.KeypointBranch(head=head)]}


def hard_regions(layers, models):
    """The regions with the highest losses, without a quota."""
    return {"sampler": models.HardRegions(name="sampler")}


# For every two-stage model: maps of 64 channels, 64 regions per scene, which has at most 12 digits.
SMALL = {"channels": 64, "regions": 64, "candidates": (300, 100)}
RATE = 3e-3
# Under Adam, every output of a dense layer on the whole map moves with each step by the sum of its inputs.
RATES = {"yolo": 3e-4}
# Model: its class in kerasdet.models, the options of its `for_data`, and a function that returns parts.
MODELS = {
    "retinanet": ("RetinaNet", {"channels": 48, "depth": 2, "box_loss": "giou"}, None),
    "fcos": ("FCOS", {"channels": 48, "depth": 2}, None),
    "ssd": ("SSD", {"channels": 48}, None),
    "ssdlite": ("SSDLite", {}, None),
    "yolo": ("YOLO", {"channels": 32, "units": 0, "dropout": 0.0, "grid": 8}, None),
    "yolo_v2": ("YOLOv2", {"channels": 112}, None),
    "faster_rcnn": ("FasterRCNN", SMALL, None),
    "faster_rcnn_roi_pool": ("FasterRCNN", SMALL, roi_pool),
    "faster_rcnn_ohem": ("FasterRCNN", SMALL, hard_regions),
    "deformable_faster_rcnn": ("DeformableFasterRCNN", {**SMALL, "levels": ("C4", "C5")}, None),
    "rfcn": ("RFCN", SMALL, None),
    "cascade_rcnn": ("CascadeRCNN", SMALL, None),
    "mask_rcnn": ("MaskRCNN", {**SMALL, "depth": 2}, None),
    "keypoint_rcnn": ("KeypointRCNN", SMALL, small_keypoint_branch),
}


def make(name, data):
    """Build a model of the table from scratch, on MobileNetV2 of half the width."""
    import keras

    from kerasdet import layers, models
    from kerasdet.backbones import MobileNetV2

    keras.utils.set_random_seed(0)
    kind, options, parts = MODELS[name]
    options = {**options, **(parts(layers, models) if parts else {})}
    backbone, resize = MobileNetV2(alpha=0.5), layers.Fit(256, 256)
    return getattr(models, kind).for_data(data, resize, backbone, **options)


def pace(model, data, validation):
    """Measure the seconds of a training step and of validating a scene."""
    import keras

    from kerasdet import metrics

    model.compile(keras.optimizers.AdamW(1e-4))
    batches = data.batches(BATCH, model.resize, masks="masks" in model.TARGETS, repeat=True)
    ends = []
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    model.fit(batches, steps_per_epoch=20, epochs=4, callbacks=[clock], verbose=0)
    step = median([after - before for before, after in itertools.pairwise(ends)]) / 20
    few = validation.subset(range(min(32, len(validation))))
    kinds = metrics.iou_types(model, few)
    metrics.evaluate(model, few, iou_type=kinds)
    begin = time.perf_counter()
    metrics.evaluate(model, few, iou_type=kinds)
    return step, (time.perf_counter() - begin) / len(few)


def run(name, minutes, out):
    """Train one model and measure it.

    Returns:
        Dict of its figures, for the report.
    """
    from kerasdet import metrics
    from kerasdet.data import digit_scenes

    test = digit_scenes("test")
    model, data, trained = teach(name, minutes, out)
    kinds = metrics.iou_types(model, test)
    measured, _ = metrics.evaluate(model, test, iou_type=kinds)
    return {
        **trained,
        "figures": _figures(measured),
        "bfloat16": _figures(
            metrics.evaluate(in_bfloat16(model, name, data), test, iou_type=kinds)[0]
        ),
    }


def teach(name, minutes, out, make=make, validated=VALIDATED):
    """Train one model for as many minutes, validation included, or continue an interrupted run.

    Args:
        name: of the model, and of its folder.
        minutes: that it trains.
        out: folder of the runs.
        make: function of the name and the data that builds it.
        validated: scenes of each validation.

    Returns:
        The model, its data, and a dict of facts for the report.
    """
    from kerasdet.data import digit_scenes
    from kerasdet.training import Recipe, train

    validation = digit_scenes("val", size=validated)
    plan = out / name / "plan.json"
    if not plan.exists():
        few = digit_scenes("train", size=1000)
        step, scene = pace(make(name, few), few, validation)
        # Twice, because the validation loss also passes over the scenes.
        seconds = 60 * minutes - 2 * EPOCHS * validated * scene
        steps = max(EPOCHS, int(seconds / step))
        plan.parent.mkdir(parents=True, exist_ok=True)
        plan.write_text(json.dumps({"steps": steps, "step": step, "scene": scene}))
    steps = json.loads(plan.read_text())["steps"]
    data = digit_scenes("train", size=steps * BATCH // EPOCHS)
    model = make(name, data)
    recipe = Recipe(epochs=EPOCHS, batch_size=BATCH, learning_rate=RATES.get(name, RATE))
    folder = out / name / "run"
    train(model, data, recipe, validation=validation, out=folder, resume=True, verbose=2)
    with open(folder / "history.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return (
        model,
        data,
        {
            "machine": {**machine(), "matmul_flops_per_second": tensorflow_matmul_rate()},
            "parameters": model.count_params(),
            "steps": steps,
            "minutes": float(rows[-1]["minutes"]),
            "curve": [
                {key: float(row[key]) for key in ("minutes", "loss", "val_mAP", "val_AP50")}
                for row in rows
            ],
        },
    )


def in_bfloat16(model, name, data):
    """Copy the weights into a model that computes in bfloat16 wherever possible."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        copy = make(name, data)
    finally:
        keras.config.set_dtype_policy(before)
    copy.set_weights(model.get_weights())
    return copy


def _figures(measured):
    return {
        kind: {figure: figures.get(figure) for figure in FIGURES}
        for kind, figures in measured.items()
    }


def table(report):
    """Return the report's models, one row each."""
    rows = []
    for name, entry in report["models"].items():
        rate = entry.get("machine", {}).get("matmul_flops_per_second")
        row = {
            "model": name,
            "parameters": f"{entry['parameters'] / 1e6:.2f} M",
            "steps": entry["steps"],
            "minutes": f"{entry['minutes']:.1f}",
            "GFLOP/s": f"{rate / 1e9:.0f}" if rate else "",
        }
        for kind, prefix in NAMES.items():
            for figure in FIGURES[:4]:
                value = entry["figures"].get(kind, {}).get(figure)
                row[prefix + figure] = "" if value is None else f"{value:.3f}"
        row["AP in bfloat16"] = f"{entry['bfloat16']['bbox']['AP']:.3f}"
        rows.append(row)
    return markdown(rows)


def plot(report, path):
    """Plot validation AP over minutes, a line for each model."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=colormaps["tab20"].colors)  # more colours than usual
    for name, entry in report["models"].items():
        minutes = [row["minutes"] for row in entry["curve"]]
        axes.plot(minutes, [row["val_mAP"] for row in entry["curve"]], marker="o", label=name)
    axes.set(
        xlabel="minutes",
        ylabel=f"AP on {VALIDATED} validation scenes",
        xlim=(0, None),
        ylim=(0, None),
    )
    axes.legend(bbox_to_anchor=(1.0, 1.0), loc="upper left")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main():
    """Train the requested models, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/learning"), help="folder of the runs"
    )
    options = parser.parse_args()
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line does
    report = json.loads(REPORT.read_text("utf-8")) if REPORT.exists() else {"models": {}}
    for name in options.models.split(","):
        report["models"][name] = run(name, options.minutes, options.out)
        report["models"] = {key: report["models"][key] for key in MODELS if key in report["models"]}
        report["machine"] = machine()
        write_report(REPORT, report, table(report))
        plot(report, REPORT.with_suffix(".png"))


if __name__ == "__main__":
    main()
