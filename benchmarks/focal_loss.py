"""Whose loss is it: cumulative distributions of the focal loss over anchors (RetinaNet, figure 4).

    python benchmarks/focal_loss.py --model retinanet_mobilenetv2_digits --images 32

The anchors of a trained model are sorted by their loss, foreground and background apart. The curves show
which share of the loss the easiest anchors have together. With the cross entropy (gamma 0) a detector
learns from the many easy background anchors; with gamma 2 nearly all the loss is of the few hard ones.
"""

import argparse
from pathlib import Path

import numpy as np
from _harness import markdown, write_report

RESULTS = Path(__file__).parent / "results"
GAMMAS = (0.0, 0.5, 1.0, 2.0)  # of the paper's figure
SHARES = (0.9, 0.99)  # of the anchors, from the easiest


def anchors_of(model, data, count):
    """Collect what a dense detector says of its anchors.

    Args:
        model: a trained `RetinaNet`.
        data: `Dataset`.
        count: images, the first of the data set.

    Returns:
        Two float32 arrays of logits of the anchors' own classes: (N,) of foreground anchors, for the class of
        their object, and (M,) of background anchors, for all classes.
    """
    from kerasdet.models.retinanet import BACKGROUND_IOU, FOREGROUND_IOU
    from kerasdet.ops.candidates import join_levels
    from kerasdet.ops.matching import BACKGROUND, assign

    foreground, background = [], []
    for inputs, targets in data.batches(1, resize=model.resize).take(count):
        outputs = model(inputs, training=False)
        logits = np.asarray(join_levels(outputs["logits"], axis=1))[0]  # (A, K)
        targets = model.prepare(targets)
        anchors = join_levels(outputs["anchors"], axis=0)
        matches = np.asarray(assign(targets, anchors, BACKGROUND_IOU, FOREGROUND_IOU))[0]  # (A,)
        places = np.flatnonzero(matches >= 0)
        labels = np.asarray(targets["labels"])[0][matches[places]]
        foreground.append(logits[places, labels])
        background.append(logits[matches == BACKGROUND].ravel())
    return np.concatenate(foreground), np.concatenate(background)


def cumulative_loss(target, logits, gamma):
    """Sort anchors by their loss, and add it up.

    Args:
        target: 1 for the anchors of objects, 0 for background.
        logits: (N,).
        gamma: of the focal loss; alpha changes no share.

    Returns:
        (N,) float64, rising to 1: the share of the whole loss that the easiest 1, 2, ..., N anchors have.
    """
    from kerasdet.ops.losses import sigmoid_focal_loss

    losses = np.asarray(sigmoid_focal_loss(target, logits, None, gamma), "float64")
    added = np.cumsum(np.sort(losses))
    return added / added[-1]


def draw(path, curves):
    """Draw the paper's figure 4.

    Args:
        path: PNG file to write.
        curves: {"foreground" or "background": {gamma: `cumulative_loss`}}.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for i, (kind, lines) in enumerate(curves.items(), 1):
        label = f"share of the {kind} anchors, easiest first"
        axes = figure.add_subplot(1, 2, i, xlabel=label, ylabel="share of their loss")
        axes.grid(alpha=0.3)
        for gamma, line in lines.items():
            places = np.unique(np.linspace(0, len(line) - 1, 2000).astype(int))
            axes.plot((places + 1) / len(line), line[places], label=f"gamma = {gamma:g}")
        axes.legend(loc="upper left")
    figure.savefig(path, dpi=120)


def main():
    """Write results/focal_loss.json, .md and .png."""
    import kerasdet

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="retinanet_mobilenetv2_digits", help="a RetinaNet")
    parser.add_argument("--images", type=int, default=32, help="test scenes of digits")
    options = parser.parse_args()
    model = kerasdet.load(options.model)
    data = kerasdet.data.digit_scenes("test", size=options.images)
    logits = dict(zip(("foreground", "background"), anchors_of(model, data, options.images)))
    curves = {
        kind: {gamma: cumulative_loss(int(kind == "foreground"), values, gamma) for gamma in GAMMAS}
        for kind, values in logits.items()
    }
    draw(RESULTS / "focal_loss.png", curves)
    rows = []
    for kind, lines in curves.items():
        for gamma, line in lines.items():
            row = {"anchors": kind, "number": len(line), "gamma": gamma}
            for share in SHARES:
                easiest = line[int(share * len(line)) - 1]
                row[f"loss of the easiest {100 * share:g} %"] = f"{100 * easiest:.1f} %"
            rows.append(row)
    report = {"model": options.model, "images": options.images, "rows": rows}
    write_report(RESULTS / "focal_loss.json", report, markdown(rows))


if __name__ == "__main__":
    main()
