"""Speed against accuracy: three meta-architectures with three feature extractors each, on digit scenes.

    python benchmarks/tradeoffs.py --minutes 20

SSD, Faster R-CNN and R-FCN train from scratch as in `learning.py`, each combination alone on the machine for
that many minutes. Then AP on scenes with digits that no training scene contains, and the time of one image,
pixels to final boxes, give a point of the plot (arXiv 1611.10012, figure 2). The two-stage detectors give
one for each of several numbers of proposals (section 3.1.2).

A combination that is in the report is not run again unless it is named; an interrupted run continues.
"""

import argparse
import json
import os
from pathlib import Path

from _harness import machine, markdown, median, seconds, write_report
from learning import MODELS, teach

RESULTS = Path(__file__).parent / "results"
SIDE = 256  # pixels of a scene
ARCHITECTURES = {"ssd": "o", "faster_rcnn": "s", "rfcn": "^"}  # their marks in the plot
EXTRACTORS = {"mobilenet_v1": "C0", "mobilenet_v2": "C1", "resnet18": "C2"}  # their colours
COMBINATIONS = [f"{kind}_{extractor}" for kind in ARCHITECTURES for extractor in EXTRACTORS]
PROPOSALS = (10, 30, 100)  # at test
FIGURES = ("AP", "AP50", "AP75")
WARM_UP = 5


def parts_of(name):
    """Return the meta-architecture and the feature extractor of a combination."""
    kind = next(kind for kind in ARCHITECTURES if name.startswith(f"{kind}_"))
    return kind, name.removeprefix(f"{kind}_")


def make(name, data):
    """Build a combination from scratch, with the options that `learning.py` has for its architecture."""
    import keras

    from kerasdet import backbones, layers, models

    keras.utils.set_random_seed(0)
    kind, extractor = parts_of(name)
    backbone = {
        "mobilenet_v1": lambda: backbones.MobileNetV1(alpha=0.5),
        "mobilenet_v2": lambda: backbones.MobileNetV2(alpha=0.5),
        "resnet18": backbones.ResNet18,
    }[extractor]()
    class_name, options, _ = MODELS[kind]
    resize = layers.Fit(SIDE, SIDE)
    return getattr(models, class_name).for_data(data, resize, backbone, **options)


def measure(model, scenes, repetitions):
    """Measure AP, and the median time of one image.

    Args:
        model: a trained detector.
        scenes: `Dataset`.
        repetitions: images that are timed, one after the other.

    Returns:
        {"AP", "AP50", "AP75", "seconds", "times": every single one}.
    """
    from kerasdet import metrics

    measured, _ = metrics.evaluate(model, scenes)
    images = [scenes.image(i % len(scenes)) for i in range(WARM_UP + repetitions)]
    times = [seconds(lambda image=image: model.detect(image)) for image in images][WARM_UP:]
    figures = {name: measured[name] for name in FIGURES}
    return {**figures, "seconds": median(times), "times": times}


def points(model, scenes, repetitions):
    """Measure a detector, a two-stage one with each number of proposals."""
    if not hasattr(model, "rpn"):
        return [measure(model, scenes, repetitions)]
    found = []
    for count in PROPOSALS:
        model.rpn.proposals = (model.rpn.proposals[0], count)
        model.predict_function = None  # traced with the old number
        found.append({"proposals": count, **measure(model, scenes, repetitions)})
    return found


def table(report):
    """Return the report's points, one row each."""
    rows = []
    for name, entry in report["models"].items():
        kind, extractor = parts_of(name)
        for point in entry["points"]:
            row = {
                "meta-architecture": kind,
                "feature extractor": extractor,
                "parameters": f"{entry['parameters'] / 1e6:.2f} M",
                "steps": entry["steps"],
                "minutes": f"{entry['minutes']:.1f}",
                "proposals": point.get("proposals", ""),
                "ms an image": f"{1000 * point['seconds']:.1f}",
            }
            rows.append({**row, **{figure: f"{point[figure]:.3f}" for figure in FIGURES}})
    return markdown(rows)


def plot(report, path):
    """Plot AP over the time of one image: a mark for each architecture, a colour for each extractor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, entry in report["models"].items():
        kind, extractor = parts_of(name)
        axes.plot(
            [1000 * point["seconds"] for point in entry["points"]],
            [point["AP"] for point in entry["points"]],
            marker=ARCHITECTURES[kind],
            color=EXTRACTORS[extractor],
            linewidth=0.8,
            label=f"{kind}, {extractor}",
        )
    axes.set(
        xlabel="milliseconds an image (two-stage: 10, 30 and 100 proposals)",
        ylabel="AP on test scenes",
        xscale="log",
        ylim=(0, None),
    )
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=120)


def main():
    """Train the requested combinations, or those that the report lacks, and report."""
    from kerasdet.data import digit_scenes

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20, help="of training, each")
    parser.add_argument(
        "--models", default="", help=f"comma-separated, of {', '.join(COMBINATIONS)}"
    )
    parser.add_argument("--scenes", type=int, default=500, help="that AP is measured on")
    parser.add_argument("--validated", type=int, default=128, help="scenes of each validation")
    parser.add_argument("--repetitions", type=int, default=50, help="images that are timed")
    parser.add_argument("--out", type=Path, default=Path("runs/tradeoffs"), help="of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    options = parser.parse_args()
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line does
    path = options.results / "tradeoffs.json"
    report = json.loads(path.read_text("utf-8")) if path.exists() else {"models": {}}
    missing = [name for name in COMBINATIONS if name not in report["models"]]
    scenes = digit_scenes("test", size=options.scenes)
    for name in options.models.split(",") if options.models else missing:
        model, _, trained = teach(name, options.minutes, options.out, make, options.validated)
        report["models"][name] = {**trained, "points": points(model, scenes, options.repetitions)}
        known = report["models"]
        report["models"] = {key: known[key] for key in COMBINATIONS if key in known}
        report["machine"] = machine()
        write_report(path, report, table(report))
        plot(report, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
