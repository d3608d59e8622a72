"""Curves and matrices as PNG files, by matplotlib (without its global state)."""

import csv
from pathlib import Path

import numpy as np

from kerasdet.files import atomic_write
from kerasdet.metrics.voc import average_precision
from kerasdet.visualize import class_color

MOST_NAMED_CURVES = 10
MOST_NUMBERED_CLASSES = 20
# The columns of a training log that are drawn, and their places in the palette.
HISTORY_LOSSES = {"loss": 4, "val_loss": 5}
HISTORY_METRICS = {
    "val_mAP": 4,
    "val_AP50": 5,
    "val_AP75": 2,
    "val_mask_mAP": 6,
    "val_keypoint_mAP": 1,
}
HISTORY_SHARES = {"val_mIU": 4, "val_pixel_accuracy": 5, "val_top1": 2, "val_top5": 6}


def plot_precision_recall(path, curves, title="Precision and recall"):
    """Draw each class's curve with its all-point average precision.

    Args:
        path: PNG file to write.
        curves: the result of `precision_recall_curves`. With more than ten classes, the curves are
            grey and their mean has a colour.
        title: heading.
    """
    from matplotlib.figure import Figure

    curves = {name: curve for name, curve in curves.items() if curve["objects"]}
    ap = {n: average_precision(c["precision"], c["recall"], "all") for n, c in curves.items()}
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="recall", ylabel="precision", title=title, xlim=(0, 1.01), ylim=(0, 1.03)
    )
    axes.grid(alpha=0.3)
    named = len(curves) <= MOST_NAMED_CURVES
    for label, (name, curve) in enumerate(curves.items()):
        # Starts at recall 0 with the first precision; nothing is drawn if nothing was found.
        recall = np.append(0.0, curve["recall"])[: 2 * len(curve["recall"])]
        precision = np.append(curve["precision"][:1], curve["precision"])
        if named:
            color, text = _rgb(label), f"{name}  {ap[name]:.3f}"
            axes.plot(recall, precision, color=color, linewidth=1.8, label=text)
        else:
            axes.plot(recall, precision, color="0.8", linewidth=0.7)
    if not named:
        levels = np.linspace(0, 1, 101)
        mean = np.mean([_interpolated(curve, levels) for curve in curves.values()], 0)
        text = f"mean of {len(curves)} classes  {np.mean(list(ap.values())):.3f}"
        axes.plot(levels, mean, color=_rgb(4), linewidth=2.5, label=text)
    if curves:
        axes.legend(title="class, AP", loc="lower left", framealpha=0.9)
    _save(figure, path)


def plot_confusion(path, matrix, class_names, title="Confusion"):
    """Draw the confusion matrix: shade is the share of the row, numbers are counts.

    Args:
        path: PNG file to write.
        matrix: (K + 1, K + 1) from `confusion_matrix`.
        class_names: K names.
        title: heading.
    """
    from matplotlib.figure import Figure

    matrix = np.asarray(matrix)
    count = len(matrix)
    share = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    side = min(20, 3 + 0.45 * count)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot(xlabel="detected as", ylabel="true class", title=title)
    shades = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shades, ax=axes, label="share of the row", fraction=0.04)
    size = 9 if count <= MOST_NUMBERED_CLASSES else 6
    names = list(class_names)
    axes.set_xticks(range(count), [*names, "missed"], rotation=60, ha="right", fontsize=size)
    axes.set_yticks(range(count), [*names, "background"], fontsize=size)
    if count <= MOST_NUMBERED_CLASSES + 1:
        for row, column in zip(*np.nonzero(matrix)):
            ink = "white" if share[row, column] > 0.5 else "black"
            text = str(matrix[row, column])
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=size)
    _save(figure, path)


def plot_history(csv_path, png_path):
    """Draw a training log over epochs, and over minutes if it has them: loss, validation AP and IU.

    Args:
        csv_path: log with a header line, as `keras.callbacks.CSVLogger` writes it.
        png_path: PNG file to write.

    Raises:
        FileNotFoundError: there is no such log.
        ValueError: the log has no column `epoch`, or nothing to draw.
    """
    from matplotlib.figure import Figure

    columns = _read_log(csv_path)
    across = [name for name in ("epoch", "minutes") if name in columns]
    down = [
        ("loss", HISTORY_LOSSES),
        ("average precision", HISTORY_METRICS),
        ("IU and accuracy", HISTORY_SHARES),
    ]
    down = [(t, {n: c for n, c in names.items() if n in columns}) for t, names in down]
    down = [(title, names) for title, names in down if names]
    if "epoch" not in columns or not down:
        wanted = ", ".join(HISTORY_LOSSES | HISTORY_METRICS | HISTORY_SHARES)
        raise ValueError(f"{csv_path}: nothing to draw; it needs `epoch` and one of {wanted}.")
    figure = Figure(figsize=(6 * len(across), 3.2 * len(down)), layout="constrained")
    grid = figure.subplots(len(down), len(across), squeeze=False)
    for row, (title, names) in zip(grid, down):
        for axes, x in zip(row, across):
            for name, color in names.items():
                _history_line(axes, columns[x], columns[name], _rgb(color), name)
            axes.set(xlabel=x, ylabel=title)
            axes.grid(alpha=0.3)
            axes.legend()
            if title != "loss":
                axes.set_ylim(0, 1)
    _save(figure, png_path)


def _history_line(axes, x, y, color, name):
    """Draw a curve over the epochs where it was measured; mark the best AP or mean IU."""
    there = np.isfinite(x) & np.isfinite(y)
    marker = "." if np.count_nonzero(there) < 60 else None
    axes.plot(x[there], y[there], color=color, label=name, marker=marker, linewidth=1.5)
    if name.endswith(("mAP", "mIU")) and there.any():
        best = int(np.nanargmax(y))
        axes.plot(x[best], y[best], "o", color=color, markersize=7)
        # Below the curve for masks and keypoints, which are usually lower than the boxes, otherwise above.
        place = (0, 8) if name in ("val_mAP", "val_mIU") else (0, -16)
        near = {"textcoords": "offset points", "xytext": place, "ha": "center", "color": color}
        axes.annotate(f"{y[best]:.3f}", (x[best], y[best]), **near)


def _read_log(path):
    """Return the columns of a CSV log as float arrays, NaN where there is no number (CSVLogger's NA)."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such training log.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else ()) if name]
    return {name: np.array([_number(row[name]) for row in rows]) for name in names}


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return np.nan


def _interpolated(curve, levels):
    """Interpolate precision at the recalls `levels`; 0 where they are not reached."""
    best = np.maximum.accumulate(curve["precision"][::-1])[::-1]
    return np.append(best, 0.0)[np.searchsorted(curve["recall"], levels, side="left")]


def _rgb(label):
    return tuple(channel / 255 for channel in class_color(label))


def _save(figure, path):
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
