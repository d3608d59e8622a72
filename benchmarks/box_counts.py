"""How many boxes each detector looks at in one image, counted on the shapes of its raw outputs.

    python benchmarks/box_counts.py

No image is computed. The canvas is the image with its padding. Where the paper's network has wide dense
layers, narrow ones take their place: a network's width changes none of its boxes.
"""

import math
from pathlib import Path
from typing import NamedTuple

from _harness import markdown, write_report

REPORT = Path(__file__).parent / "results" / "box_counts.json"
CLASSES = 20
# The raw output that has a row for each box, in any detector.
BOXES = ("locations", "deltas", "distances", "proposal_deltas")


class Row(NamedTuple):
    """A detector: title, height and width of the canvas, and a function that builds it."""

    title: str
    height: int
    width: int
    make: object


def yolo():
    from kerasdet import layers, models

    return models.YOLO(CLASSES, head=layers.GridHead(((16, 3, 2),), (16,)))


def yolo_v2():
    from kerasdet import layers, models

    return models.YOLOv2(CLASSES, head=layers.PassthroughHead(16))


def ssd300():
    from kerasdet import models

    return models.SSD(CLASSES)


def ssd512():
    from kerasdet import layers, models
    from kerasdet.layers.extra_layers import SSD512_ROWS

    return models.SSD(
        CLASSES,
        extras=layers.ExtraLayers(SSD512_ROWS),
        default_boxes=layers.DefaultBoxes.ssd512(),
        resize=layers.Stretch(512),
    )


def ssdlite():
    from kerasdet import models

    return models.SSDLite(CLASSES)


def retinanet():
    from kerasdet import models

    return models.RetinaNet(CLASSES)


def fcos():
    from kerasdet import models

    return models.FCOS(CLASSES)


def faster_rcnn():
    """Faster R-CNN as in its paper: one map of VGG-16."""
    from kerasdet import backbones, layers, models

    return models.FasterRCNN(
        CLASSES,
        backbones.VGG16(levels=("C4",)),
        neck=False,
        pooling=layers.MultilevelRoIPool(7),
        head=layers.DenseHead((16,)),
    )


def faster_rcnn_fpn():
    from kerasdet import models

    return models.FasterRCNN(CLASSES)


ROWS = {
    "yolo": Row("YOLO", 448, 448, yolo),
    "yolo_v2": Row("YOLOv2", 416, 416, yolo_v2),
    "ssdlite": Row("SSDLite", 320, 320, ssdlite),
    "ssd300": Row("SSD300", 300, 300, ssd300),
    "ssd512": Row("SSD512", 512, 512, ssd512),
    "fcos_600": Row("FCOS", 608, 1024, fcos),
    "fcos_800": Row("FCOS", 800, 1344, fcos),
    "faster_rcnn": Row("Faster R-CNN, VGG-16", 600, 1000, faster_rcnn),
    "faster_rcnn_fpn": Row("Faster R-CNN, FPN", 800, 1344, faster_rcnn_fpn),
    "retinanet_600": Row("RetinaNet", 608, 1024, retinanet),
    "retinanet_800": Row("RetinaNet", 800, 1344, retinanet),
}


def counts(model, height, width):
    """Count the boxes of a detector's raw outputs.

    Args:
        model: a detector.
        height: of the canvas in pixels.
        width: likewise.

    Returns:
        Number of boxes that it scores, and of proposals that go into a second stage, or None.
    """
    import keras

    outputs = model.compute_output_spec(keras.KerasTensor((1, height, width, 3)))
    boxes = next(outputs[name] for name in BOXES if name in outputs)
    number = sum(math.prod(tensor.shape[1:-1]) for tensor in keras.tree.flatten(boxes))
    proposals = outputs.get("proposals")
    return number, None if proposals is None else proposals.shape[1]


def entry(row):
    """Return a row of the report."""
    boxes, proposals = counts(row.make(), row.height, row.width)
    size = [row.height, row.width]
    return {"detector": row.title, "canvas": size, "boxes": boxes, "proposals": proposals}


def table(report):
    """Return the report as Markdown."""
    return markdown(
        [
            {
                "detector": row["detector"],
                "canvas": "{} x {}".format(*row["canvas"]),
                "boxes": row["boxes"],
                "proposals": row["proposals"] or "",
            }
            for row in report["rows"].values()
        ]
    )


def main():
    """Count, and write the report."""
    report = {"rows": {key: entry(row) for key, row in ROWS.items()}}
    write_report(REPORT, report, table(report))


if __name__ == "__main__":
    main()
