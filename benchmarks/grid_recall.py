"""What YOLO's grid can find at most: recall of a detector that would be perfect but for its cells.

    python benchmarks/grid_recall.py --data digits --split test

A cell gives a few boxes of one class. Of the objects whose centres share a cell, those of one class can be
found, as many as the cell has boxes; one is learnt (`kerasdet.models.YOLO`).
"""

import argparse
from collections import Counter

import numpy as np


def best_recall(boxes, labels, size, grid, boxes_per_cell):
    """Count the objects of an image that a grid of cells can find.

    Args:
        boxes: (G, 4) xyxy.
        labels: (G,) classes.
        size: (height, width) that the grid covers, in the boxes' pixels.
        grid: cells along each side.
        boxes_per_cell: boxes that a cell predicts.

    Returns:
        Number of objects found at most with one class a cell, and number of cells with an object.
    """
    height, width = size
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / [width, height]
    cells = np.clip(np.floor(centres * grid), 0, grid - 1).astype(int)
    classes = {}
    for cell, label in zip(map(tuple, cells), labels):
        classes.setdefault(cell, Counter())[int(label)] += 1
    found = sum(min(boxes_per_cell, max(counts.values())) for counts in classes.values())
    return found, len(classes)


def main():
    """Print the bounds for several grids."""
    from kerasdet.cli.data import open_data

    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="digits")
    parser.add_argument("--split")
    parser.add_argument("--grids", type=int, nargs="+", default=[7, 8, 12, 14])
    parser.add_argument("--boxes", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    data = open_data(options.data, options.split)
    records = [data.record(index) for index in range(len(data))]
    print(
        f"{data}\n| grid | boxes of a cell | recall at most | learnt, one of a cell |\n|---|---|---|---|"
    )
    for grid in options.grids:
        for count in options.boxes:
            found = objects = learnt = 0
            for record in records:
                real = ~record.ignore
                best, cells = best_recall(
                    record.boxes[real],
                    record.labels[real],
                    (record.height, record.width),
                    grid,
                    count,
                )
                found, learnt, objects = found + best, learnt + cells, objects + real.sum()
            print(f"| {grid} | {count} | {found / objects:.3f} | {learnt / objects:.3f} |")


if __name__ == "__main__":
    main()
