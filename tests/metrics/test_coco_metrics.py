import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kerasdet import data
from kerasdet.metrics import coco_metrics, evaluate, match_classes, relabel, to_coco_json

NAMES = ("cat", "dog", "emu")


def make_record(boxes, labels, ignore=None, image_id=1, size=(100, 120), **parts):
    boxes = np.array(boxes, "float32").reshape(-1, 4)
    ignore = np.zeros(len(boxes), bool) if ignore is None else np.array(ignore, bool)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    fields = {"masks": None, "keypoints": None, "area": area} | parts
    return SimpleNamespace(
        image_id=image_id,
        height=size[0],
        width=size[1],
        boxes=boxes,
        labels=np.array(labels, "int32"),
        ignore=ignore,
        **fields,
    )


def make_detections(boxes, labels, confidence, **parts):
    return {
        "boxes": np.array(boxes, "float32").reshape(-1, 4),
        "labels": np.array(labels, "int32"),
        "confidence": np.array(confidence, "float32"),
    } | parts


@pytest.fixture(params=["faster", "pycocotools"])
def library(request, monkeypatch):
    """Both libraries; None in `sys.modules` is "not installed"."""
    if request.param == "pycocotools":
        monkeypatch.setitem(__import__("sys").modules, "faster_coco_eval", None)
    else:
        pytest.importorskip("faster_coco_eval")
    return request.param


def random_boxes(rng, count):
    corner = rng.integers(0, 70, (count, 2))
    return np.concatenate([corner, corner + rng.integers(5, 50, (count, 2))], 1)


def random_mask(rng, box):
    mask = np.zeros((100, 120), "uint8", order="F")
    x1, y1, x2, y2 = (int(side) for side in box)
    mask[y1:y2, x1:x2] = rng.random((max(0, min(y2, 100) - y1), x2 - x1)) < 0.9
    return mask


def random_scene(seed=0, images=12):
    """Records and detections: near hits, doubles, strays, crowds, empty images, tied scores."""
    rng = np.random.default_rng(seed)
    records, detections = [], []
    for index in rng.permutation(images):
        count = 0 if index % 4 == 0 else rng.integers(1, 7)
        boxes, labels = random_boxes(rng, count), rng.integers(0, 2, count)
        records.append(
            make_record(
                boxes,
                labels,
                rng.random(count) < 0.2,
                image_id=int(100 + index),
                masks=tuple(coco_mask.encode(random_mask(rng, box)) for box in boxes),
                keypoints=keypoints_of(rng, boxes),
            )
        )
        near = np.concatenate([boxes, boxes])
        near = near + rng.integers(-4, 5, near.shape)
        found = np.clip(np.concatenate([near, random_boxes(rng, 3)]), 0, 120)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        detections.append(
            make_detections(
                found,
                np.concatenate([labels, labels, rng.integers(0, 3, 3)]),
                rng.integers(1, 20, len(found)) / 20,
                masks=np.array([random_mask(rng, box) for box in found]),
                keypoints=keypoints_of(rng, found),
            )
        )
    return records, detections


def keypoints_of(rng, boxes):
    """(G, 3, 3): corners and centre, of random visibility."""
    boxes = np.asarray(boxes, "float32").reshape(-1, 4)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    points = np.stack([boxes[:, :2], boxes[:, 2:], centre], 1)
    return np.concatenate([points, rng.integers(0, 3, (len(boxes), 3, 1))], 2)


def by_files(tmp_path, records, detections, iou_type, sigmas):
    """The same by pycocotools alone, from JSON files: precision (T, R, K, A, M) and `stats`."""
    annotations = []
    for record in records:
        for i, label in enumerate(record.labels):
            x1, y1, x2, y2 = record.boxes[i].tolist()
            rle = record.masks[i]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": 10 * int(label) + 3,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(record.area[i]),
                    "iscrowd": int(record.ignore[i]),
                    "segmentation": rle | {"counts": rle["counts"].decode()},
                    "keypoints": record.keypoints[i].ravel().tolist(),
                    "num_keypoints": int((record.keypoints[i][:, 2] > 0).sum()),
                }
            )
    truth = {
        "images": [{"id": r.image_id, "height": r.height, "width": r.width} for r in records],
        "categories": [{"id": 10 * k + 3, "name": name} for k, name in enumerate(NAMES)],
        "annotations": annotations,
    }
    results = to_coco_json(detections, [r.image_id for r in records], [3, 13, 23])
    if iou_type != "bbox":  # loadRes takes the box's area where a file has boxes
        results = [{k: v for k, v in r.items() if k != "bbox"} for r in results]
    if iou_type == "keypoints":
        results = [{k: v for k, v in r.items() if k != "segmentation"} for r in results]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        evaluator = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), iou_type)
        if iou_type == "keypoints":
            evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.eval["precision"], evaluator.stats


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
def test_equals_pycocotools_on_files(tmp_path, library, iou_type, capfd):
    records, detections = random_scene()
    sigmas = [0.05, 0.1, 0.08]
    metrics = coco_metrics(records, detections, NAMES, iou_type, sigmas)
    assert capfd.readouterr() == ("", "")
    precision, stats = by_files(tmp_path, records, detections, iou_type, sigmas)
    if iou_type == "keypoints":
        keys = ["AP", "AP50", "AP75", "APm", "APl", "AR20"]
    else:
        keys = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100"]
    figures = [-1.0 if metrics[key] is None else metrics[key] for key in keys]
    np.testing.assert_allclose(figures, stats[: len(keys)], rtol=0, atol=1e-12)
    assert 0.05 < metrics["AP"] < 0.95  # the scene tells good from bad
    # pycocotools sums up no AP90; its ninth threshold is 0.9.
    assert set(metrics) == {*keys, "AP90", "per_class"}
    seen = precision[8, :, :, 0, -1]
    assert metrics["AP90"] == pytest.approx(seen[seen > -1].mean(), abs=1e-12)
    for k, name in enumerate(NAMES[:2]):
        expected = precision[:, :, k, 0, -1].mean()
        assert metrics["per_class"][name]["AP"] == pytest.approx(expected, abs=1e-12)
        counted = [(r.labels == k) & ~r.ignore for r in records]
        if iou_type == "keypoints":  # of an object without a labelled one nothing can be said
            counted = [c & (r.keypoints[..., 2] > 0).any(1) for c, r in zip(counted, records)]
        objects = sum(int(c.sum()) for c in counted)
        assert metrics["per_class"][name]["objects"] == objects
    assert metrics["per_class"]["emu"] == {"AP": None, "AP50": None, "objects": 0}


def test_by_hand(library):
    # One object of 40 x 40. A detection of 40 x 30 within it has IoU 0.75: right at the
    # thresholds 0.50 to 0.75, six of ten. A stray one with a higher score halves the precision.
    records = [make_record([[0, 0, 40, 40]], [1])]
    found = make_detections([[60, 60, 90, 90], [0, 0, 40, 30]], [1, 1], [0.9, 0.8])
    metrics = coco_metrics(records, [found], NAMES)
    assert metrics["AP"] == pytest.approx(0.5 * 6 / 10)
    assert metrics["AP50"] == metrics["AP75"] == metrics["per_class"]["dog"]["AP50"] == 0.5
    assert metrics["APm"] == pytest.approx(0.6)  # the stray one, of area 900, is not of medium size
    assert metrics["APs"] is None
    assert metrics["AR1"] == 0
    assert metrics["AR100"] == pytest.approx(0.6)
    one = coco_metrics(records, [found], NAMES, max_detections=1)
    assert (one["AP"], one["AR1"], "AR10" in one) == (0, 0, False)


def test_found_in_an_empty_image_is_an_error(library):
    box, empty = [[0, 0, 40, 40]], np.zeros((0, 4))
    records = [make_record(empty, [], image_id="a"), make_record(box, [0], image_id="b")]
    detections = [make_detections(box, [0], [0.9]), make_detections(box, [0], [0.8])]
    assert coco_metrics(records, detections, NAMES)["AP"] == pytest.approx(0.5)
    assert coco_metrics(records[1:], detections[1:], NAMES)["AP"] == pytest.approx(1.0)


def test_ignored_objects_neither_help_nor_hurt(library):
    boxes = [[0, 0, 40, 40], [50, 50, 90, 90]]
    records = [make_record(boxes, [0, 0], ignore=[False, True])]
    found = make_detections([boxes[1], [52, 52, 60, 60], boxes[0]], [0, 0, 0], [0.9, 0.8, 0.7])
    assert coco_metrics(records, [found], NAMES)["AP"] == pytest.approx(1.0)
    nothing = make_detections([], [], [])
    metrics = coco_metrics(records, [nothing], NAMES)
    assert metrics["AP"] == metrics["AP50"] == metrics["AR100"] == 0
    assert metrics["per_class"]["cat"] == {"AP": 0.0, "AP50": 0.0, "objects": 1}


def test_no_objects_at_all_is_nothing_to_measure(library):
    metrics = coco_metrics(
        [make_record([], [])], [make_detections([[0, 0, 9, 9]], [0], [0.9])], NAMES
    )
    assert metrics["AP"] is None
    assert metrics["AR100"] is None
    assert metrics["per_class"]["cat"]["AP"] is None


def test_bad_input_is_named():
    records, found = [make_record([[0, 0, 9, 9]], [0])], make_detections([[0, 0, 9, 9]], [0], [1])
    with pytest.raises(ValueError, match="1 annotated images, but detections for 2"):
        coco_metrics(records, [found, found], NAMES)
    with pytest.raises(ValueError, match=r"\[-1\]; they must lie in 0\.\.2"):
        coco_metrics(records, [found | {"labels": np.array([-1])}], NAMES)
    with pytest.raises(ValueError, match="objects without masks"):
        coco_metrics(records, [found], NAMES, "segm")
    with pytest.raises(ValueError, match="iou_type must be one of"):
        coco_metrics(records, [found], NAMES, "mask")
    record = make_record([[0, 0, 9, 9]], [0], keypoints=np.ones((1, 4, 3)))
    with pytest.raises(ValueError, match='no "keypoints"'):
        coco_metrics([record], [found], NAMES, "keypoints", [0.05] * 4)
    found["keypoints"] = np.ones((1, 4, 3))
    with pytest.raises(ValueError, match=r"\[4\] keypoints but there are 17"):
        coco_metrics([record], [found], NAMES, "keypoints")


def test_classes_match_by_name():
    model_names = ("background", "dog", "cat", "gnu")
    label_map = match_classes(model_names, ["cat", "dog"])
    np.testing.assert_array_equal(label_map, [-1, 1, 0, -1])
    found = make_detections(np.arange(12), [2, 3, 1], [0.9, 0.8, 0.7], masks=["a", "b", "c"])
    (kept,) = relabel([found], label_map)
    np.testing.assert_array_equal(kept["labels"], [0, 1])
    np.testing.assert_array_equal(kept["boxes"], [[0, 1, 2, 3], [8, 9, 10, 11]])
    np.testing.assert_array_equal(kept["confidence"], np.float32([0.9, 0.7]))
    assert kept["masks"] == ["a", "c"]
    with pytest.raises(ValueError, match=r"does not know the data's class\(es\) 'Cat'"):
        match_classes(model_names, ["Cat", "dog"])
    with pytest.raises(ValueError, match="'dog' twice"):
        match_classes(model_names, ["dog", "dog"])


def test_to_coco_json():
    found = make_detections([[10, 20, 30, 60]], [1], [0.5])
    assert to_coco_json([make_detections([], [], []), found], [7, 8], [3, 90]) == [
        {"image_id": 8, "category_id": 90, "bbox": [10.0, 20.0, 20.0, 40.0], "score": 0.5}
    ]
    mask = np.zeros((1, 100, 120), bool)
    mask[0, 2:4, 5:8] = True
    (result,) = to_coco_json(
        [found | {"masks": mask, "keypoints": np.ones((1, 2, 3))}], [8], [3, 4]
    )
    np.testing.assert_array_equal(coco_mask.decode(result["segmentation"]), mask[0])
    assert result["keypoints"] == [1.0] * 6
    json.dumps(result)


def test_evaluate_takes_the_models_classes_and_shows_progress():
    record = make_record([[0, 0, 40, 40]], [0])
    dataset = SimpleNamespace(
        class_names=("dog",), record=lambda i: record, images=lambda: iter(["image"])
    )
    dataset = type("Data", (SimpleNamespace,), {"__len__": lambda self: 1})(**vars(dataset))
    found = make_detections([[1, 1, 9, 9], [0, 0, 40, 40]], [0, 1], [0.9, 0.8])
    seen = []

    def detect(images, batch_size):
        assert (list(images), batch_size) == (["image"], 4)
        return [found]

    def progress(images):
        for image in images:
            seen.append(image)
            yield image

    model = SimpleNamespace(class_names=("cat", "dog"), detect=detect)
    metrics, detections = evaluate(model, dataset, batch_size=4, progress=progress)
    assert seen == ["image"]
    assert metrics["AP"] == pytest.approx(1.0)
    np.testing.assert_array_equal(detections[0]["labels"], [0])


def shifted_truth(truth, rng):
    """COCO results: each object's box shifted by up to 3 pixels and its mask, and a stray one."""
    results = []
    for annotation in truth["annotations"]:
        shift = rng.integers(-3, 4, 4) * [1, 1, 0, 0]
        box = (np.array(annotation["bbox"]) + shift).tolist()
        for category in (annotation["category_id"], truth["categories"][rng.integers(80)]["id"]):
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": category,
                    "bbox": box,
                    "score": int(rng.integers(1, 100)) / 100,
                    "segmentation": annotation["segmentation"],
                }
            )
    return results


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_equals_pycocotools_on_photographs(iou_type):
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco_mini"
    if not folder.is_dir():
        pytest.skip("../shared/data/coco_mini is absent")
    file = folder / "annotations" / "instances.json"
    results = shifted_truth(json.loads(file.read_text()), np.random.default_rng(0))
    dataset = data.coco(file, folder / "images")
    labels = {category: label for label, category in enumerate(dataset.category_ids)}
    detections = []
    for i in range(len(dataset)):
        mine = [r for r in results if r["image_id"] == dataset.record(i).image_id]
        boxes = np.array([r["bbox"] for r in mine], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = make_detections(boxes, [labels[r["category_id"]] for r in mine], [])
        found["confidence"] = np.array([r["score"] for r in mine])
        detections.append(found | {"masks": [r["segmentation"] for r in mine]})
    metrics = coco_metrics(dataset, detections, dataset.class_names, iou_type)
    if iou_type == "segm":
        results = [{k: v for k, v in r.items() if k != "bbox"} for r in results]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(file))
        evaluator = COCOeval(coco, coco.loadRes(results), iou_type)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    keys = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100"]
    np.testing.assert_allclose([metrics[key] for key in keys], evaluator.stats[:9], atol=1e-6)
    assert sum(entry["objects"] for entry in metrics["per_class"].values()) == sum(
        not annotation["iscrowd"] for annotation in coco.anns.values()
    )
