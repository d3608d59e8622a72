"""Figures as rows of text, the first row the heading: for rich, CSV or plain text."""

import numpy as np


def metrics_table(metrics):
    """Rows of overall figures and of each class, from `coco_metrics` (or `voc_ap`).

    Args:
        metrics: what `coco_metrics` or `voc_ap` returned.

    Returns:
        List of rows of str: class, objects, then the figures; "all" comes last.
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
    """Rows of the confusion matrix: true class, then counts by detected class.

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
    """Precision, and the score that gives it, of each class at recall 0.1, 0.2, ... 1.

    Args:
        curves: what `precision_recall_curves` returned.

    Returns:
        List of rows of str: class, recall, precision (interpolated), score; a recall that is
        never reached has "-".
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
    """Rows as plain text: first column to the left, the others to the right."""
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
    """Three decimals; "-" for what could not be measured."""
    return "-" if value is None else f"{value:.3f}"
