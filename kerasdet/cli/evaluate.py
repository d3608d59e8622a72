"""`kerasdet evaluate`: average precision of a model on a data set."""

import functools
from pathlib import Path
from typing import Annotated

import typer

from kerasdet.cli.console import CapCounter, check_proposals, load_model, print_table
from kerasdet.cli.data import DATA_HELP, GRAY_MAX_HELP, VOC_ZERO_BASED_HELP, open_data

KINDS = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}


def evaluate(
    context: typer.Context,
    model: Annotated[
        str, typer.Option(help="A name of `kerasdet list`, a .keras file or a run's folder.")
    ],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    split: Annotated[
        str | None, typer.Option(help="Split; default digits' test, voc's and yolo's val.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least confidence; default the model's own.")
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option(help="Most detections per image; default the model's own.")
    ] = None,
    proposals: Annotated[
        Path | None, typer.Option(help="Proposals, .npz, for a model that takes them.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 8,
    voc_zero_based: Annotated[
        bool, typer.Option("--voc-zero-based", help=VOC_ZERO_BASED_HELP)
    ] = False,
    gray_max: Annotated[int | None, typer.Option(help=GRAY_MAX_HELP)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for JSON, curves and matrix.")] = None,
):
    """Measure a model: COCO's average precision, over all and per class.

    Boxes are measured, and masks or keypoints where the model gives them and the data has them. --out
    adds VOC's average precision, precision-recall curves and a confusion matrix of the boxes, as JSON
    and PNG.
    """
    from rich.progress import track

    from kerasdet import metrics
    from kerasdet.files import claimed

    if out is not None:
        context.with_resource(claimed(out))
    default = "test" if data.startswith("digits") else "val"
    dataset = open_data(data, split, default, voc_zero_based=voc_zero_based, gray_max=gray_max)
    detector = load_model(model, threshold, max_detections)
    if check_proposals(detector, proposals):
        dataset = dataset.with_proposals(proposals)
    print(dataset)
    cap = CapCounter(detector)
    figures, detections = metrics.evaluate(
        detector,
        dataset,
        batch_size,
        progress=lambda images: track(images, description="detecting", total=len(dataset)),
        iou_type=metrics.iou_types(detector, dataset),
        on_found=cap.add,
    )
    for iou_type, measured in figures.items():
        title = f"{model} on {dataset.name}: {KINDS[iou_type]}"
        print_table(metrics.metrics_table(measured), title=title)
    cap.report()
    if out is not None:
        write_report(out, dataset, figures, detections)
        print(f"figures and curves: {out}")


def write_report(folder, dataset, figures, detections):
    """Write metrics.json, precision_recall.png and confusion.png.

    Args:
        folder: where to write.
        dataset: `Dataset` that was measured on.
        figures: {"bbox": what `coco_metrics` returned, "segm": likewise, ...}.
        detections: the detections that they were measured on.
    """
    from kerasdet import metrics
    from kerasdet.files import save_json

    names = dataset.class_names
    matrix = metrics.confusion_matrix(dataset, detections, names)
    voc_ap = functools.partial(metrics.voc_ap, dataset, detections, names)
    report = {
        "data": repr(dataset),
        "coco": figures["bbox"],
        **{f"coco_{KINDS[name]}": figures[name] for name in figures if name != "bbox"},
        "voc_11_points": voc_ap(points=11),
        "voc_all_points": voc_ap(points="all"),
        "confusion": {"classes": [*names, "background"], "counts": matrix},
    }
    save_json(folder / "metrics.json", report, indent=2)
    curves = metrics.precision_recall_curves(dataset, detections, names)
    metrics.plot_precision_recall(folder / "precision_recall.png", curves)
    metrics.plot_confusion(folder / "confusion.png", matrix, names)
