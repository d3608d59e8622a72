"""`kerasdet anchors`: sizes of anchors that fit a data set's objects."""

from typing import Annotated

import typer

from kerasdet.cli.data import DATA_HELP, VOC_ZERO_BASED_HELP, open_data, parse_size, usual_size


def anchors(
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    count: Annotated[int, typer.Option(help="Number of anchors.")] = 5,
    size: Annotated[
        str | None,
        typer.Option(help="Canvas HEIGHTxWIDTH, default the median image's up to 640."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split to read, default train.")] = None,
    stride: Annotated[
        int, typer.Option(help="Pixels per cell, for the anchors as Darknet writes them.")
    ] = 32,
    voc_zero_based: Annotated[
        bool, typer.Option("--voc-zero-based", help=VOC_ZERO_BASED_HELP)
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the first clusters.")] = 0,
):
    """Cluster the sizes of a data set's objects by IoU (YOLOv2, arXiv 1612.08242, section 2).

    Prints width and height of each anchor in pixels of the canvas, and the mean IoU of the objects with the
    nearest anchor. At most 1000 images are read.
    """
    from kerasdet.layers.anchors import clustered_anchors
    from kerasdet.layers.resizing import Fit

    if stride < 1:
        raise ValueError(f"--stride is {stride}; give 1 or more pixels per cell.")
    dataset = open_data(data, split, voc_zero_based=voc_zero_based)
    canvas = parse_size(size) if size else usual_size(dataset)
    sizes, mean_iou, objects = clustered_anchors(dataset, count, Fit(*canvas), seed)
    print(f"{objects} objects of {dataset.name} on a canvas of {canvas[0]}x{canvas[1]}")
    print("pixels:  " + "  ".join(f"{width:.1f},{height:.1f}" for width, height in sizes))
    cells = sizes / stride
    print("cells:   " + "  ".join(f"{width:.4f},{height:.4f}" for width, height in cells))
    print(f"mean IoU {mean_iou:.3f}")
