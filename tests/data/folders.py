"""Small data sets in each format, for the tests of the readers."""

import json

from PIL import Image

HEIGHT, WIDTH = 40, 60


def image(path, size=(HEIGHT, WIDTH), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (9, 9, 9)).save(path, **options)


def annotation(number, bbox=(10, 10, 20, 10), **fields):
    return {"id": number, "image_id": 1, "category_id": 3, "bbox": list(bbox), **fields}


def coco_folder(tmp_path, annotations=(), **lists):
    """A COCO file of two images and the categories 3 and 90."""
    image(tmp_path / "images" / "a.png")
    image(tmp_path / "images" / "b.png")
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 7, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        ],
        "annotations": list(annotations),
        "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}],
        **lists,
    }
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    return file, tmp_path / "images"


def kinds(faults):
    return [(fault.annotation_id, fault.kind) for fault in faults]


def voc_object(name="cat", box=(1, 1, 20, 10), difficult=0):
    corners = "".join(
        f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{corners}</bndbox><part><name>paw</name></part></object>"
    )


def voc_folder(root, **splits):
    """Splits of {image name: objects as XML}."""
    for folder in ("ImageSets/Main", "Annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, images in splits.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(images) + "\n")
        for name, objects in images.items():
            image(root / "JPEGImages" / f"{name}.jpg")
            (root / "Annotations" / f"{name}.xml").write_text(
                f"<annotation>\n<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>\n"
                f"{''.join(objects)}</annotation>"
            )
    return root


def yolo_folder(root, lines, classes=None, place="images"):
    image(root / place / "a.png")
    image(root / place / "b.png")
    labels = root / place.replace("images", "labels")
    labels.mkdir(parents=True)
    (labels / "a.txt").write_text("\n".join(lines))
    if classes is None:
        (root / "classes.txt").write_text("cat\ndog\n")
    else:
        (root / "data.yaml").write_text(classes)
    return root
