"""`kerasdet demo`: everything once, on images that the shipped model has never seen.

The scenes are composed of handwritten digits that were held out of the training. The model detects
the digits and is measured; then it is exported, and the export is run and compared. With `--faces`, a
published model finds the faces in photographs of the user's.
"""

from pathlib import Path
from typing import Annotated

import typer

MODEL = "retinanet_mobilenetv2_digits"
FACES = "ssd_mobilenet_v1_face"
DRAWN_SCENES = 12
THRESHOLD = 0.4


def demo(
    context: typer.Context,
    pictures: Annotated[
        list[str] | None, typer.Argument(help="Photographs, for --faces: files, folders, patterns.")
    ] = None,
    faces: Annotated[
        bool, typer.Option("--faces", help="Find the faces in photographs instead.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo_output"),
):
    """Detect handwritten digits in fresh scenes, measure, export, and compare with the export.

    With --faces, find the faces in your photographs, draw them, and write them to detections.json. The
    weights (6 MB) are downloaded once.
    """
    if faces != bool(pictures):
        raise ValueError(
            "demo --faces needs photographs: kerasdet demo --faces a.jpg b.jpg."
            if faces
            else f"demo takes no pictures, and found {pictures[0]}: add --faces to find faces in them."
        )
    if faces:
        from kerasdet.cli.detect import detect

        detect(context, pictures, model=FACES, threshold=THRESHOLD, out=out)
    else:
        run(out)


def run(out, scenes=64, model=MODEL):
    """Run the demo and print what it finds.

    Writes detections.png (scenes with their detections), detections.json (COCO), and the
    SavedModel folder saved_model.

    Args:
        out: folder for the results.
        scenes: number of scenes to detect in and to measure on.
        model: a name of `kerasdet.list_models()`, or a path.

    Returns:
        Dict of "AP", "AP50" and "difference": the largest difference, in pixels, between the model's
        boxes and its export's.
    """
    from rich.progress import track

    from kerasdet import metrics
    from kerasdet.cli.console import load_model
    from kerasdet.data import digit_scenes

    out = Path(out)
    detector = load_model(model)
    data = digit_scenes("test", size=scenes)
    print(f"{model}: {detector.count_params():,} parameters\n{data}")
    figures, detections = metrics.evaluate(
        detector,
        data,
        progress=lambda images: track(images, description="detecting", total=len(data)),
    )
    print(metrics.format_table(metrics.metrics_table(figures)))
    print(f"AP {figures['AP']:.3f}, AP50 {figures['AP50']:.3f} over {scenes} held-out scenes")
    write_detections(out, data, detections, detector)
    difference = compare_export(out / "saved_model", data, detector)
    return {"AP": figures["AP"], "AP50": figures["AP50"], "difference": difference}


def write_detections(out, data, detections, detector):
    """Write detections.png and detections.json.

    Args:
        out: folder to write into.
        data: `Dataset`.
        detections: what the detector found in its images.
        detector: the `Detector`.
    """
    from kerasdet.cli.detect import write_coco
    from kerasdet.files import atomic_write
    from kerasdet.visualize import contact_sheet, draw

    drawn = [
        draw(image, found, detector.class_names, threshold=THRESHOLD)
        for image, found, _ in zip(data.images(), detections, range(DRAWN_SCENES))
    ]
    with atomic_write(out / "detections.png") as temporary:
        contact_sheet(drawn, columns=4).save(temporary)
    records = [data.record(index) for index in range(len(data))]
    images = [
        {
            "id": r.image_id,
            "file_name": f"{data.name}/{r.image_id}",
            "height": r.height,
            "width": r.width,
        }
        for r in records
    ]
    write_coco(out / "detections.json", images, detections, detector)
    print(f"images with boxes: {out / 'detections.png'}; COCO: {out / 'detections.json'}")


def compare_export(path, data, detector, scenes=8):
    """Export to a SavedModel, load it, and run it beside the model on some scenes.

    Args:
        path: folder of the SavedModel.
        data: `Dataset`.
        detector: the `Detector`.
        scenes: number of scenes to compare on.

    Returns:
        The largest difference in pixels between a box of either (above `THRESHOLD`) and the nearest
        box of its class in the other's result; infinite where the other has no such box.
    """
    import numpy as np
    import tensorflow as tf

    from kerasdet.export import export_model

    export_model(detector, path, format="saved_model")
    images = np.stack([data.image(index) for index in range(min(scenes, len(data)))])
    ours = detector.detect(list(images), batch_size=len(images))
    loaded = tf.saved_model.load(str(path))
    exported = {name: value.numpy() for name, value in loaded.serve(images).items()}
    theirs = [{name: exported[name][i] for name in ours[i]} for i in range(len(images))]
    pairs = [*zip(ours, theirs), *zip(theirs, ours)]
    differences = [distance for pair in pairs for distance in _distances(*pair)]
    largest = max(differences, default=0.0)
    print(
        f"SavedModel {path}, loaded again: {len(differences) // 2} boxes, "
        f"largest difference {largest:.2g} pixels"
    )
    return largest


def _distances(found, other):
    """Largest coordinate difference of each confident box to the nearest of its class in the other."""
    import numpy as np

    for box, label, confidence in zip(found["boxes"], found["labels"], found["confidence"]):
        if confidence >= THRESHOLD:
            same = other["boxes"][other["labels"] == label]
            yield float(np.abs(same - box).max(axis=-1).min(initial=np.inf))
