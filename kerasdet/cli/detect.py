"""`kerasdet detect`: images in, annotated images and one COCO file out."""

import glob
from pathlib import Path
from typing import Annotated

import typer

from kerasdet.cli.console import CapCounter, check_proposals, load_model
from kerasdet.cli.data import GRAY_MAX_HELP

DEFAULT_MODEL = "retinanet_mobilenetv2_digits"
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def detect(
    context: typer.Context,
    images: Annotated[list[str], typer.Argument(help="Images, folders of images, patterns.")],
    model: Annotated[
        str, typer.Option(help="A name of `kerasdet list`, a .keras file or a run's folder.")
    ] = DEFAULT_MODEL,
    threshold: Annotated[float, typer.Option(help="Least confidence of a detection.")] = 0.3,
    max_detections: Annotated[
        int | None, typer.Option(help="Most detections per image; default the model's own.")
    ] = None,
    proposals: Annotated[
        Path | None, typer.Option(help="Proposals, .npz, for a model that takes them.")
    ] = None,
    gray_max: Annotated[int | None, typer.Option(help=GRAY_MAX_HELP)] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("detections"),
):
    """Find objects in images.

    Writes each image with its detections drawn (boxes, masks, keypoints), and detections.json in
    COCO's format with a score per annotation: masks are run lengths; all keypoints are marked
    visible. Images that cannot be read, or have no proposals where the model takes them, are named at
    the end, and the exit code is then 1.

    An image's proposals are those of its path as it was given, of its file name, of the name without
    suffix, or, where that is a number, of the number: 000139.jpg takes those of "000139" or 139.
    """
    from rich.progress import track

    from kerasdet.data import load_image, load_proposals
    from kerasdet.files import claimed
    from kerasdet.metrics import encode_masks

    paths = find_images(images)
    context.with_resource(claimed(out))
    detector = load_model(model, threshold, max_detections)
    known = load_proposals(proposals) if check_proposals(detector, proposals) else None
    images_json, found, failures, cap = [], [], [], CapCounter(detector)
    for path in track(paths, description="detecting"):
        try:
            image = load_image(path, gray_max=gray_max)
            height, width = image.shape[:2]
            given = {}
            if known is not None:
                given["proposals"] = [proposals_of(path, known, height, width, proposals)]
            result = encode_masks(detector.detect([image], **given)[0], (height, width))
        except Exception as error:  # whatever is odd about one image, the others are looked at
            failures.append(error if str(path) in str(error) else f"{path}: {error}")
            continue
        found.append(result)
        cap.add(result)
        number = len(images_json) + 1
        images_json.append({"id": number, "file_name": str(path), "height": height, "width": width})
        _write_drawing(
            out / f"{number:04d}_{path.stem}.png", image, found[-1], detector.class_names
        )
    write_coco(out / "detections.json", images_json, found, detector)
    objects = sum(len(one["labels"]) for one in found)
    print(f"{objects} objects in {len(found)} images: {out / 'detections.json'}")
    cap.report()
    for error in failures:
        typer.echo(f"kerasdet: skipped: {' '.join(str(error).split())}", err=True)
    if failures:
        raise typer.Exit(1)


def find_images(arguments):
    """Files named by files, folders (their images) and patterns, in order, each once.

    A file that does not exist stays in the list, to be reported like one that cannot be read.

    Raises:
        ValueError: there is none.
    """
    paths = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            named = (p for p in path.iterdir() if not p.name.startswith("._"))
            paths += sorted(p for p in named if p.suffix.lower() in SUFFIXES)
        elif path.exists() or not glob.has_magic(argument):
            paths.append(path)
        else:
            paths += map(Path, sorted(glob.glob(argument, recursive=True)))
    if not paths:
        raise ValueError(f"no images in {', '.join(arguments)}; looked for {', '.join(SUFFIXES)}.")
    return list(dict.fromkeys(paths))


def proposals_of(path, known, height, width, source):
    """The proposals of an image file.

    Args:
        path: of the image.
        known: {image id: boxes or (boxes, scores)}. The id is the path as given, the file's name, the
            name without suffix, or the number that this is; the first of them that is known.
        height: of the image, pixels.
        width: of the image, pixels.
        source: file of the proposals, for messages.

    Returns:
        (N, 4) float32 xyxy in the image's pixels, clipped to it, the best first.

    Raises:
        ValueError: there are none, or they are not those of this image.
    """
    from kerasdet.data.proposals import image_proposals

    ids = [str(path), path.name, path.stem]
    if path.stem.isdecimal():
        ids.append(int(path.stem))
    found = next((image_id for image_id in ids if image_id in known), None)
    if found is None:
        raise ValueError(
            f"{source}: no proposals for {path}; looked for the ids {', '.join(map(repr, ids))}."
        )
    return image_proposals(known[found], height, width, f"{source}: image {found!r} ({path})")


def write_coco(path, images, detections, model):
    """Write detections as one COCO file, which data readers and pycocotools open.

    Args:
        path: file to write.
        images: COCO's entries of the images.
        detections: what `model.detect` found in them, in the same order, their masks laid over the
            images by `kerasdet.metrics.encode_masks`.
        model: the detector, for its classes.
    """
    from kerasdet.files import save_json
    from kerasdet.metrics import to_coco_json

    results = to_coco_json(detections, [image["id"] for image in images], model.category_ids)
    annotations = [
        {"id": number, **_annotation(result)} for number, result in enumerate(results, 1)
    ]
    points = {}
    if "keypoints" in model.EXTRAS:
        points = {"keypoints": list(model.keypoint_names), "skeleton": []}
    categories = [
        {"id": number, "name": name, **points}
        for number, name in zip(model.category_ids, model.class_names)
    ]
    save_json(path, {"images": images, "annotations": annotations, "categories": categories})


def _annotation(result):
    """A result as an annotation file has it: with an area, and keypoints of visibility 2."""
    from pycocotools import mask as coco_mask

    annotation = {**result, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
    if "segmentation" in result:
        annotation["area"] = float(coco_mask.area(result["segmentation"]))
    if "keypoints" in result:
        points = result["keypoints"]
        annotation["keypoints"] = [2 if i % 3 == 2 else value for i, value in enumerate(points)]
        annotation["num_keypoints"] = len(points) // 3
    return annotation


def _write_drawing(path, image, detections, names):
    from kerasdet.files import atomic_write
    from kerasdet.visualize import draw

    with atomic_write(path) as temporary:
        draw(image, detections, names).save(temporary)
