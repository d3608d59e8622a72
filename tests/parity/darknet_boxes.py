"""Darknet's detections on photographs in kerasdet.

    python -m tests.parity.darknet_boxes CFG WEIGHTS NPZ PICTURE...

The .npz is what `tests/golden/make_darknet_boxes.py --photographs` has written. Prints the largest
differences.
"""

import sys
from pathlib import Path

import numpy as np

from kerasdet.zoo.origins.darknet import load_darknet

THRESHOLD, HIGHER = 0.02, 0.06  # of make_darknet_boxes.py


def unmatched(found, rows, pixels, score=1e-3):
    """Compare what `detect` has found with Darknet's rows.

    Args:
        found: {"boxes" (D, 4), "labels" (D,), "confidence" (D,)}.
        rows: (N, 6): x1 y1 x2 y2, score, label.
        pixels: how far a side may be away.
        score: how far a score may be away.

    Returns:
        The number of detections that the other has not, and the largest distances in pixels and in score
        among those that both have.
    """
    free, missing, worst = list(range(len(rows))), 0, np.zeros(2)
    for box, label, confidence in zip(found["boxes"], found["labels"], found["confidence"]):
        for i in free:
            far = np.array([np.abs(rows[i, :4] - box).max(), abs(rows[i, 4] - confidence)])
            if rows[i, 5] == label and (far <= (pixels, score)).all():
                free.remove(i)
                worst = np.maximum(worst, far)
                break
        else:
            missing += 1
    return missing + len(free), worst


def main():
    cfg, weights, golden, *pictures = map(Path, sys.argv[1:])
    model = load_darknet(cfg, weights, score_threshold=HIGHER, max_detections=1000)
    with np.load(golden) as values:
        for path in pictures:
            rows = values[path.name]
            missing, worst = unmatched(model.detect(path)[0], rows, 0.5)
            print(
                f"{path.name}: {len(rows)} detections, {missing} differ, others by at most {worst}"
            )


if __name__ == "__main__":
    main()
