"""Figures as rows of text, with the header first: for rich, CSV or plain text."""

import numpy as np


def metrics_table(metrics):
    """Return rows of overall figures and of each class, from `coco_metrics` (or `voc_ap`).

    Args:
        metrics: the result of `coco_metrics` or `voc_ap`.

    Returns:
        List of rows of str: class, objects, then the figures; "all" is the last row.
    """
    per_class = metrics["per_class"]
    keys = [key for key in metrics if key != "per_class"]
    rows = [["class", "objects", *keys]]
    for name, entry in per_class.items():
        own = entry | ({"mAP": entry["AP"]} if "mAP" in metrics else {})
        cells = [_figure(own[key]) if key in own else "" for key in keys]
        rows.append([name, str(entry["objects"]), *cells])
    objects = sum(entry["objects"] for entry in per_class.values())
    rows.append(["all", str(objects), *(_figure(metrics[key]) for key in keys)])
    return rows


def confusion_table(matrix, class_names):
    """Return rows of the confusion matrix: true class, then counts by detected class.

    Args:
        matrix: (K + 1, K + 1) from `confusion_matrix`.
        class_names: K names.

    Returns:
        List of rows of str.
    """
    names = [*class_names, "background"]
    counts = [[name, *(str(n) for n in row)] for name, row in zip(names, matrix)]
    return [["true \\ detected", *names[:-1], "missed"], *counts]


def precision_recall_table(curves):
    """Return precision, and the score that gives it, of each class at recall 0.1, 0.2, ... 1.

    Args:
        curves: the result of `precision_recall_curves`.

    Returns:
        List of rows of str: class, recall, precision (interpolated), score; "-" for a recall that is
        never reached.
    """
    rows = [["class", "recall", "precision", "score"]]
    for name, curve in curves.items():
        for level in np.arange(1, 11) / 10:
            first = int(np.searchsorted(curve["recall"], level, side="left"))
            cells = ["-", "-"]
            if first < len(curve["recall"]):
                cells = [_figure(curve["precision"][first:].max()), _figure(curve["scores"][first])]
            rows.append([name, f"{level:.1f}", *cells])
    return rows


def format_table(rows):
    """Format rows as plain text: the first column left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _figure(value):
    """Format with three decimals; "-" for a figure that could not be measured."""
    return "-" if value is None else f"{value:.3f}"
