"""What truncated SVD saves and costs: time of one image, parameters and AP of a trained two-stage detector.

    python benchmarks/truncated_svd.py --data voc:bccd --ranks 192,192 128,128 96,96 64,64

The dense layers on each region keep that many singular values (Fast R-CNN, arXiv 1504.08083, section 3.1;
there 0.32 seconds became 0.22 and an AP of 66.9 became 66.6). The detectors alternate, image by image.
"""

import argparse
import os
from pathlib import Path

from _harness import machine, markdown, median, seconds, write_report

RESULTS = Path(__file__).parent / "results"
MODEL = "fasterrcnn_mobilenetv2_bccd"
FIGURES = ("AP", "AP50", "AP75")
WARM_UP = 3


def head_time(model, repetitions=20):
    """Measure the median time of the dense layers on as many regions as an image has at test."""
    import keras
    import numpy as np
    import tensorflow as tf

    shape = model.pooling.compute_output_shape(model.region_maps_shape(), (1, None, 4))
    count = model.rpn.proposals[1]
    regions = np.random.default_rng(0).normal(size=(1, count, *shape[2:])).astype("float32")
    run = tf.function(lambda x: model.head(x, training=False))
    times = [
        seconds(lambda: keras.ops.convert_to_numpy(run(tf.constant(regions))))
        for _ in range(WARM_UP + repetitions)
    ]
    return median(times[WARM_UP:])


def measure(models, data, images):
    """Measure AP, the time of one image and that of its dense layers.

    Args:
        models: {name: detector}.
        data: `Dataset` for AP.
        images: that are timed, each by all detectors in turn.

    Returns:
        {name: figures}.
    """
    from kerasdet import metrics

    times = {name: [] for name in models}
    for number, image in enumerate(images):
        names = list(models)[:: 1 if number % 2 else -1]
        for name in names:
            times[name].append(seconds(lambda name=name, image=image: models[name].detect(image)))
    result = {}
    for name, model in models.items():
        measured, _ = metrics.evaluate(model, data)
        result[name] = {
            "parameters": model.head.count_params(),
            "seconds": median(times[name][WARM_UP:]),
            "times": times[name],
            "head_seconds": head_time(model),
            **{figure: measured[figure] for figure in FIGURES},
        }
    return result


def table(report):
    """Return the report's detectors, one row each."""
    whole = report["models"]["whole"]
    rows = []
    for name, entry in report["models"].items():
        row = {
            "singular values": name,
            "parameters of the head": f"{entry['parameters'] / 1e3:.0f} k",
            "dense layers, ms": f"{1000 * entry['head_seconds']:.1f}",
            "an image, ms": f"{1000 * entry['seconds']:.1f}",
            "of the whole": f"{entry['seconds'] / whole['seconds']:.2f}",
        }
        rows.append({**row, **{figure: f"{entry[figure]:.4f}" for figure in FIGURES}})
    return markdown(rows)


def main():
    """Truncate a model to the requested ranks, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL, help="a name of `kerasdet list`, or a file")
    parser.add_argument("--data", required=True, help="as of `kerasdet evaluate`")
    parser.add_argument("--split", default="val")
    parser.add_argument("--ranks", nargs="+", default=["192,192", "128,128", "96,96", "64,64"])
    parser.add_argument("--images", type=int, default=40, help="that are timed")
    parser.add_argument("--scenes", type=int, default=None, help="that AP is of; default all")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    options = parser.parse_args()
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line does

    import kerasdet
    from kerasdet.cli.data import open_data
    from kerasdet.models import Detector

    data = open_data(options.data, options.split)
    data = data.subset(range(min(len(data), options.scenes or len(data))))
    model = Detector.from_preset(options.model)
    models = {"whole": model}
    for given in options.ranks:
        ranks = tuple(int(rank) for rank in given.split(","))
        models[given] = kerasdet.truncate_dense(model, ranks)
    images = [data.image(i % len(data)) for i in range(WARM_UP + options.images)]
    report = {"model": options.model, "data": f"{data.name}, {options.split}"}
    report |= {"machine": machine(), "models": measure(models, data, images)}
    write_report(options.results / "truncated_svd.json", report, table(report))


if __name__ == "__main__":
    main()
