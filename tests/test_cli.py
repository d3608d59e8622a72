import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import kerasdet.cli.train
from kerasdet.cli import demo, main, one_line
from kerasdet.cli.console import load_model
from kerasdet.cli.data import open_data, open_validation, parse_size, usual_size
from kerasdet.cli.detect import find_images
from kerasdet.cli.detectors import detector_options
from kerasdet.cli.parts import make_augmentation, make_backbone
from kerasdet.data import coco, digit_scenes, save_proposals
from kerasdet.data import csv as csv_data
from kerasdet.data.augment import ColourJitter, HorizontalFlip
from kerasdet.layers.resizing import Stretch
from kerasdet.models import KeypointRCNN, MaskRCNN, RetinaNet
from kerasdet.ops import paste_masks
from tests.contract.detectors import DETECTORS, keypoint_rcnn, mask_rcnn
from tests.training_parts import SIDE, OneBox, Squares, one_box


def call(*arguments):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "one_box.keras"
    one_box().save(path)
    return path


@pytest.fixture(scope="module")
def squares_csv(tmp_path_factory):
    """Twelve squares as image files and a CSV file."""
    folder, squares = tmp_path_factory.mktemp("squares"), Squares(12)
    with open(folder / "boxes.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "xmin", "ymin", "xmax", "ymax", "label"])
        for index in range(len(squares)):
            name, record = f"{index}.png", squares.record(index)
            Image.fromarray(squares.image(index)).save(folder / name)
            label = squares.class_names[record.labels[0]]
            writer.writerow([name, *record.boxes[0].tolist(), label])
    return folder / "boxes.csv"


def test_help_and_list_do_not_import_keras():
    code = """
import sys
from kerasdet.cli import main
for arguments in (["--help"], ["train", "--help"], ["list"]):
    try:
        main(arguments)
    except SystemExit as exit_:
        assert exit_.code == 0, arguments
assert not {"keras", "tensorflow", "numpy"} & set(sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Train a detector" in result.stdout


@pytest.mark.parametrize(
    "command", ["list", "info", "detect", "check", "anchors", "train", "evaluate", "export", "demo"]
)
def test_every_command_has_help(command, capsys):
    assert call(command, "--help") == 0
    assert f"kerasdet {command}" in capsys.readouterr().out


def test_error_is_one_line(capsys):
    assert call("info", "no_such_model") == 1
    error = capsys.readouterr().err
    assert error.startswith("kerasdet: Unknown model 'no_such_model'")
    assert error.count("\n") == 1


def test_debug_shows_where(capsys):
    with pytest.raises(ValueError, match="no_such_model"):
        main(["info", "no_such_model", "--debug"])


def test_one_line_unwraps_tensorflow():
    tf = pytest.importorskip("tensorflow")

    def fail(_):
        raise ValueError("images/7.jpg: truncated after 20 bytes;\ncopy it again")

    data = tf.data.Dataset.range(1).map(lambda i: tf.numpy_function(fail, [i], tf.int64))
    with pytest.raises(tf.errors.OpError) as caught:
        list(data)
    assert one_line(caught.value) == (
        "ValueError: images/7.jpg: truncated after 20 bytes; copy it again"
    )
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(KeyError("name")) == "KeyError: 'name'"


def test_info_of_a_file(model_file, capsys):
    assert call("info", model_file) == 0
    printed = capsys.readouterr().out
    assert "OneBox" in printed
    assert "red, green" in printed


def test_detect_goes_on_after_a_broken_image(model_file, squares_csv, tmp_path, capsys):
    good = squares_csv.parent
    bad = tmp_path / "bad"
    bad.mkdir()
    whole = (good / "0.png").read_bytes()
    (bad / "0.png").write_bytes(whole[: len(whole) // 2])
    (bad / "1.png").write_bytes((good / "1.png").read_bytes())
    out = tmp_path / "out"
    code = call(
        *("detect", bad, good / "[23].png", tmp_path / "missing.png", good / "1.png"),
        *("--model", model_file, "--threshold", 0, "--out", out),
    )
    assert code == 1
    error = capsys.readouterr().err
    assert f"skipped: {bad / '0.png'}" in error
    assert "missing.png" in error
    written = COCO(str(out / "detections.json"))
    wanted = [bad / "1.png", good / "2.png", good / "3.png", good / "1.png"]
    assert [written.imgs[i]["file_name"] for i in (1, 2, 3, 4)] == [str(path) for path in wanted]
    # One box per image; the same image gives the same box under both names.
    assert sorted(a["image_id"] for a in written.anns.values()) == [1, 2, 3, 4]
    assert written.anns[1]["bbox"] == written.anns[4]["bbox"]
    assert 0 < written.anns[1]["score"] < 1
    assert {c["name"] for c in written.cats.values()} == {"red", "green"}
    drawings = sorted(path.name for path in out.glob("*.png"))
    assert drawings == ["0001_1.png", "0002_2.png", "0003_3.png", "0004_1.png"]
    assert Image.open(out / drawings[0]).size == (SIDE, SIDE)


def test_detect_goes_on_after_an_image_that_the_model_fails_on(
    model_file, squares_csv, tmp_path, capsys, monkeypatch
):
    detect = OneBox.detect

    def fail_on_small(self, images, **options):
        if images[0].shape[0] < SIDE:
            raise RuntimeError("too small a canvas")
        return detect(self, images, **options)

    monkeypatch.setattr(OneBox, "detect", fail_on_small)
    Image.new("RGB", (1, 1)).save(tmp_path / "0.png")
    Image.open(squares_csv.parent / "1.png").save(tmp_path / "1.png")
    assert call("detect", tmp_path, "--model", model_file, "--out", tmp_path / "out") == 1
    assert f"skipped: {tmp_path / '0.png'}: too small a canvas" in capsys.readouterr().err
    written = COCO(str(tmp_path / "out" / "detections.json"))
    assert [image["file_name"] for image in written.imgs.values()] == [str(tmp_path / "1.png")]


def test_detect_without_failures_exits_0(model_file, squares_csv, tmp_path):
    image = squares_csv.parent / "0.png"
    assert call("detect", image, "--model", model_file, "--out", tmp_path / "out") == 0


def test_detect_in_an_empty_folder(tmp_path, capsys):
    assert call("detect", tmp_path, "--out", tmp_path / "out") == 1
    assert f"no images in {tmp_path}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_find_images(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).touch()
    a, b = tmp_path / "a.png", tmp_path / "b.JPG"
    assert find_images([str(tmp_path)]) == [a, b]
    assert find_images([str(b), str(tmp_path / "*.png"), str(tmp_path)]) == [b, a]


def test_check_prints_faults(squares_csv, tmp_path, capsys):
    broken = squares_csv.with_name("broken.csv")
    broken.write_text(squares_csv.read_text() + "nowhere.png,1,1,5,5,red\n0.png,5,5,5,9,red\n")
    sheet = tmp_path / "sheet.png"
    assert call("check", "--data", f"csv:{broken}", "--out", sheet) == 0
    printed = capsys.readouterr().out
    assert "nowhere.png" in printed
    assert "12 images" in printed
    assert Image.open(sheet).size[0] > 100


def test_anchors_are_those_of_the_objects(tmp_path, capsys):
    table = tmp_path / "boxes.csv"
    rows = ["image,xmin,ymin,xmax,ymax,label\n"]
    for i, (w, h) in enumerate([(10, 20), (10, 20), (40, 20), (40, 20)]):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,0,0,{w},{h},thing\n")
    table.write_text("".join(rows))
    arguments = ("anchors", "--data", f"csv:{table}", "--count", 2, "--size", "128x128")
    assert call(*arguments) == 0
    # Canvases are twice as large as the images; cells have 32 pixels.
    printed = capsys.readouterr().out
    assert "4 objects of" in printed
    assert "pixels:  20.0,40.0  80.0,40.0" in printed
    assert "cells:   0.6250,1.2500  2.5000,1.2500" in printed
    assert "mean IoU 1.000" in printed
    assert call(*arguments[:3], "--count", 3) == 1
    assert (
        "3 anchors were asked for, but the 4 objects have 2 different sizes"
        in capsys.readouterr().err
    )
    assert call(*arguments, "--stride", 0) == 1
    assert "--stride is 0; give 1 or more" in capsys.readouterr().err


def test_evaluate_writes_a_report(model_file, squares_csv, tmp_path, capsys):
    code = call(
        *("evaluate", "--model", model_file, "--data", f"csv:{squares_csv}"),
        *("--threshold", 0, "--out", tmp_path),
    )
    assert code == 0
    assert "AP50" in capsys.readouterr().out
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert set(report["coco"]["per_class"]) == {"red", "green"}
    assert np.sum(report["confusion"]["counts"]) >= 12
    for name in ("precision_recall.png", "confusion.png"):
        assert Image.open(tmp_path / name).size[0] > 100


@pytest.fixture
def small_detector(monkeypatch):
    """`kerasdet train` builds a `OneBox`."""
    seen = []

    def make(arguments, data, resize):
        seen.append((arguments, resize))
        return one_box(arguments["seed"], data.class_names)

    monkeypatch.setattr(kerasdet.cli.train, "make_model", make)
    return seen


def test_train_and_resume(squares_csv, tmp_path, small_detector, capsys):
    out = tmp_path / "run"
    arguments = ("train", "--data", f"csv:{squares_csv}", "--out", out)
    options = ("--epochs", 2, "--batch-size", 4, "--augment", "flip", "--size", "64x64")
    assert call(*arguments, *options) == 0
    printed = capsys.readouterr().out
    assert "training on" in printed
    assert "11 images" in printed  # the tenth is held out
    assert (out / "best.keras").exists()
    assert call(*arguments, *options) == 1
    assert "--resume" in capsys.readouterr().err
    # All but --out comes from the run's folder.
    assert call("train", "--out", out, "--resume") == 0
    with open(out / "history.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert small_detector[0] == small_detector[-1]
    capsys.readouterr()
    assert call("train", "--out", out, "--resume", "--epochs", 1) == 0
    assert "has finished its 2 epochs: resuming changes nothing" in capsys.readouterr().out
    assert call("train", "--out", out, "--resume", "--epochs", 3) == 0
    with open(out / "history.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert json.loads((out / "arguments.json").read_text())["epochs"] == 3


def test_validation_data_without_a_class(squares_csv, tmp_path, small_detector, capsys):
    rows = squares_csv.read_text().splitlines()
    reds = [rows[0], *(row for row in rows if row.endswith(",red"))]
    val = squares_csv.with_name("reds.csv")
    val.write_text("\n".join(reds))
    arguments = ("train", "--data", f"csv:{squares_csv}", "--val", f"csv:{val}")
    options = ("--epochs", 1, "--batch-size", 4, "--augment", "none", "--size", "64x64")
    assert call(*arguments, *options, "--out", tmp_path / "run") == 0
    assert "1 classes (red)" in capsys.readouterr().out
    with open(tmp_path / "run" / "history.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert np.isfinite(float(row["val_loss"]))
    val.write_text("\n".join(reds).replace(",red", ",mauve"))
    assert call(*arguments, *options, "--out", tmp_path / "other") == 1
    assert "'mauve', which are not among 'green', 'red'" in capsys.readouterr().err


def test_train_without_data(tmp_path, capsys):
    assert call("train", "--out", tmp_path) == 1
    assert "--data is missing" in capsys.readouterr().err


def made(detector, data, **options):
    """The model that `kerasdet train` makes."""
    arguments = {"detector": detector, "backbone": "mobilenet_v2", "alpha": 0.25, "freeze_at": None}
    return kerasdet.cli.train.make_model({**arguments, "options": options}, data, None)


def test_train_makes_a_retinanet():
    model = made("retinanet", Squares(2), channels=32, depth=1, norm="group", anchors="paper")
    assert type(model) is RetinaNet
    assert (model.class_names, model.neck.channels, model.neck.norm) == (("red", "green"), 32, None)
    assert (model.head.channels, model.head.depth, model.head.norm) == (32, 1, "group")
    assert model.anchors.sizes[0] == (32.0, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3))
    with pytest.raises(ValueError, match=r"unknown detector 'yolo9'; there are .*retinanet"):
        made("yolo9", Squares(2))
    with pytest.raises(ValueError, match="mobilenet_v2"):
        make_backbone("vgg", 1.0)


class Crowds(Squares):
    """As many objects in the image as its number tells."""

    def record(self, index):
        record = super().record(index)
        return record.select(np.zeros(index, int))


def test_max_detections_follow_the_data():
    options = {"channels": 8, "depth": 1, "anchors": "paper"}
    # Half as many again as the most, 67: 67 + 34; at least 100.
    assert made("retinanet", Crowds(68), **options).max_detections == 101
    assert made("retinanet", Crowds(67), **options).max_detections == 100
    arguments = {"detector": "retinanet", "backbone": "mobilenet_v2", "alpha": 0.25}
    arguments |= {"freeze_at": None, "options": options, "max_detections": 7}
    assert kerasdet.cli.train.make_model(arguments, Crowds(68), None).max_detections == 7


def test_train_makes_a_mask_rcnn_and_a_keypoint_rcnn():
    digits, options = digit_scenes("val", 2), {"channels": 16, "depth": 3, "anchors": "paper"}
    masks = made("mask_rcnn", digits, regions=32, candidates=[300, 100], **options)
    assert type(masks) is MaskRCNN
    assert (masks.class_names, masks.neck.channels) == (tuple("0123456789"), 16)
    (branch,) = masks.branches
    assert (branch.head.convs, branch.head.upsampled) == ((16,) * 3, 16)
    assert masks.regions_per_image == 32
    assert masks.rpn.candidates == masks.rpn.proposals == (300, 100)
    points = made("keypoint_rcnn", digits, **options)
    assert type(points) is KeypointRCNN
    (branch,) = points.branches
    assert (points.keypoint_names, branch.head.convs) == (digits.keypoint_names, (32,) * 6)
    with pytest.raises(ValueError, match="learns keypoints, but squares has none"):
        made("keypoint_rcnn", Squares(2))
    with pytest.raises(ValueError, match="norm is 'group'; give one of 'batch', 'none'"):
        made("mask_rcnn", digits, norm="group")


def test_options_of_a_detector_are_those_of_its_for_data(capsys):
    words = ["--candidates", "300,100", "--anchors=paper", "--regions", "32", "--norm", "none"]
    assert detector_options("faster_rcnn", words) == {
        "candidates": [300, 100],
        "anchors": "paper",
        "regions": 32,
        "norm": "none",
    }
    assert detector_options("mask_rcnn", ["--depth", "2"]) == {"depth": 2}
    assert detector_options("mask_rcnn", ["--candidates", "9,8"]) == {"candidates": [9, 8]}
    assert detector_options("fast_rcnn", []) == {}
    # Options whose default depends on the data are counts.
    for name in ("retinanet", "fcos"):
        assert detector_options(name, ["--channels", "64"]) == {"channels": 64}
        with pytest.raises(ValueError, match="--channels is 'wide'; give a value such as 64"):
            detector_options(name, ["--channels", "wide"])
    assert detector_options("yolo_v2", ["--stride", "32"]) == {"stride": 32}
    # SSDLite's own `for_data` hands nothing to SSD's.
    with pytest.raises(
        ValueError, match=r"ssdlite takes no '--depth'; .* --default-boxes \(default fitted\)\."
    ):
        detector_options("ssdlite", ["--depth", "2"])
    takes = (
        r"faster_rcnn takes no '--depth'; its own options are --channels \(default 128\), "
        r"--norm \(default batch\), --anchors \(default fitted\), --regions \(default 128\), "
        r"--candidates \(default 2000,1000\)\."
    )
    with pytest.raises(ValueError, match=takes):
        detector_options("faster_rcnn", ["--depth", "2"])
    with pytest.raises(ValueError, match="fast_rcnn takes no 'channels'"):
        detector_options("fast_rcnn", ["channels", "64"])
    with pytest.raises(ValueError, match="--regions lacks its value; the default is 64"):
        detector_options("fast_rcnn", ["--regions"])
    for option, value, example in (
        ("--regions", "many", "128"),
        ("--candidates", "9,few", "2000,1000"),
    ):
        with pytest.raises(
            ValueError, match=f"{option} is '{value}'; give a value such as {example}"
        ):
            detector_options("faster_rcnn", [option, value])


def test_an_option_that_the_detector_lacks_ends_the_command(squares_csv, tmp_path, capsys):
    arguments = ("--data", f"csv:{squares_csv}", "--out", tmp_path, "--detector", "faster_rcnn")
    assert call("train", *arguments, "--depth", 2) == 1
    assert "faster_rcnn takes no '--depth'; its own options are" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_width_of_another_backbone_than_mobilenet_is_an_error(squares_csv, tmp_path, capsys):
    arguments = ("--data", f"csv:{squares_csv}", "--out", tmp_path / "run")
    assert call("train", *arguments, "--backbone", "resnet18", "--alpha", 0.5) == 1
    error = capsys.readouterr().err
    assert "--alpha 0.5 is the width of a fresh mobilenet_v2, not of resnet18." in error


def test_the_list_of_detectors_names_papers_and_options(capsys):
    assert call("list", "--detectors") == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name in DETECTORS:
        assert name in printed
    assert "--box-loss" in printed
    assert "--candidates" in printed


def test_best_figures():
    history = {"val_mAP": [None, 0.2, 0.41234, 0.3], "val_mask_mAP": [None, 0.3, 0.25, 0.1]}
    assert kerasdet.cli.train.best_figures(history) == "AP 0.412 (masks 0.250)"
    assert kerasdet.cli.train.best_figures({"val_mAP": [0.5]}) == "AP 0.500"
    assert kerasdet.cli.train.best_figures({"val_mIU": [0.25, 0.75]}) == "mIU 0.750"
    assert kerasdet.cli.train.best_figures({"loss": [1.0]}) == ""


POINTS = ("top", "bottom", "left", "right")


def small_model(kind):
    """A small detector of digits that gives masks or keypoints, untrained."""
    settings = {"data": digit_scenes("val", 2), "resize": Stretch(64), "max_detections": 5}
    if kind == "masks":
        return mask_rcnn(**settings)
    return keypoint_rcnn(keypoint_names=POINTS, **settings)


@pytest.mark.parametrize("kind", ["masks", "keypoints"])
def test_evaluate_and_detect_with_masks_and_keypoints(kind, tmp_path, capsys):
    small_model(kind).save(tmp_path / "model.keras")
    model = ("--model", tmp_path / "model.keras", "--threshold", 0)
    assert call("evaluate", *model, "--data", "digits:2", "--out", tmp_path / "report") == 0
    printed = " ".join(capsys.readouterr().out.split())  # long titles are folded
    assert "digits/test: boxes" in printed
    assert f"digits/test: {kind}" in printed
    report = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert report[f"coco_{kind}"]["per_class"]["1"].keys() == {"AP", "AP50", "objects"}

    digits, images = digit_scenes("test", 2), tmp_path / "images"
    images.mkdir()
    for index in range(2):
        Image.fromarray(digits.image(index)).save(images / f"{index}.png")
    assert call("detect", images, *model, "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    path = tmp_path / "out" / "detections.json"
    written = COCO(str(path))
    assert len(written.anns) == 10
    # Its own annotations as results: pycocotools' evaluation reads them.
    entries = [dict(entry) for entry in written.anns.values()]
    if kind == "masks":
        assert all(written.annToMask(a).sum() == a["area"] for a in entries)
        assert all(a["segmentation"]["size"] == [256, 256] for a in entries)
        entries = [{k: v for k, v in a.items() if k != "bbox"} for a in entries]
    else:
        assert all(a["num_keypoints"] == 4 == len(a["keypoints"]) // 3 for a in entries)
        assert all(a["keypoints"][2::3] == [2] * 4 for a in entries)
    assert len(written.loadRes(entries).anns) == 10
    again = coco(path, images)
    record = again.record(0)
    assert getattr(record, kind) is not None
    (found,) = load_model(tmp_path / "model.keras", 0.0).detect([digits.image(0)])
    if kind == "keypoints":
        assert again.keypoint_names == POINTS
        wanted = found["keypoints"][..., :2]
        np.testing.assert_allclose(record.keypoints[..., :2], wanted, atol=1e-2)
    else:
        wanted = paste_masks(found["masks"], found["boxes"], (256, 256))
        masks = np.moveaxis(coco_mask.decode(list(record.masks)), -1, 0)
        np.testing.assert_array_equal(masks, wanted)


class OfProposals:
    """Finds its proposals, with falling confidence."""

    INPUTS, EXTRAS = ("images", "proposals"), ()
    class_names, category_ids = ("red", "green"), (1, 2)
    max_detections = 100

    def __init__(self):
        self.given = []

    def detect(self, images, proposals, batch_size=1):
        assert len(images) == len(proposals)
        self.given += proposals
        scores = [np.linspace(0.9, 0.5, len(boxes)) for boxes in proposals]
        return [
            {"boxes": boxes, "labels": np.zeros(len(boxes), int), "confidence": score}
            for boxes, score in zip(proposals, scores)
        ]


@pytest.fixture
def of_proposals(monkeypatch):
    """The model that `kerasdet detect` and `evaluate` load."""
    model = OfProposals()
    for command in ("detect", "evaluate"):
        place = f"kerasdet.cli.{command}.load_model"
        monkeypatch.setattr(place, lambda *settings: model)
    return model


def test_detect_with_proposals(tmp_path, of_proposals, capsys):
    folder, boxes = tmp_path / "images", np.float32([[0, 0, 9, 9], [5, 5, 99, 20]])
    folder.mkdir()
    for name in ("a.png", "b.png", "007.png", "c.png"):
        Image.fromarray(Squares(1).image(0)).save(folder / name)
    path = tmp_path / "boxes.npz"
    known = {str(folder / "a.png"): boxes, "b": boxes[:1], 7: boxes[1:], "a": boxes[:0]}
    save_proposals(path, known)
    arguments = ("detect", folder, "--model", "any", "--out", tmp_path / "out")
    assert call(*arguments, "--proposals", path) == 1
    error = capsys.readouterr().err
    assert f"skipped: {path}: no proposals for {folder / 'c.png'}; looked for the ids" in error
    clipped = [5, 5, SIDE, 20]
    assert [boxes.tolist() for boxes in of_proposals.given] == [
        *([clipped], [[0, 0, 9, 9], clipped]),
        [[0, 0, 9, 9]],
    ]
    written = COCO(str(tmp_path / "out" / "detections.json"))
    assert len(written.anns) == 4
    assert call(*arguments) == 1
    assert "OfProposals takes proposals: add --proposals FILE.npz" in capsys.readouterr().err


def test_evaluate_with_proposals(squares_csv, tmp_path, of_proposals, capsys):
    data = csv_data(squares_csv)
    path = tmp_path / "boxes.npz"
    save_proposals(
        path, {image_id: data.record(i).boxes for i, image_id in enumerate(data.image_ids())}
    )
    arguments = ("evaluate", "--model", "any", "--data", f"csv:{squares_csv}")
    assert call(*arguments, "--proposals", path) == 0
    assert len(of_proposals.given) == 12
    for index, boxes in enumerate(of_proposals.given):
        np.testing.assert_array_equal(boxes, data.record(index).boxes)
    assert "AP50" in capsys.readouterr().out
    assert call(*arguments) == 1
    assert "add --proposals FILE.npz" in capsys.readouterr().err


def test_models_without_proposals_refuse_them(model_file, squares_csv, tmp_path, capsys):
    save_proposals(tmp_path / "boxes.npz", {})
    for arguments in (("detect", squares_csv.parent), ("evaluate", "--data", f"csv:{squares_csv}")):
        given = ("--model", model_file, "--proposals", tmp_path / "boxes.npz")
        assert call(*arguments, *given) == 1
        assert "OneBox takes no proposals: leave out --proposals" in capsys.readouterr().err


def test_max_detections(model_file, squares_csv, tmp_path, capsys):
    model = load_model(model_file, 0.25, 3)
    assert (model.score_threshold, model.max_detections) == (0.25, 3)
    kept = load_model(model_file)
    assert (kept.score_threshold, kept.max_detections) == (0.05, 100)
    model = small_model("keypoints")
    model.save(tmp_path / "model.keras")
    image = tmp_path / "digits.png"
    Image.fromarray(digit_scenes("test", 1).image(0)).save(image)
    options = ("--model", tmp_path / "model.keras", "--threshold", 0, "--max-detections", 2)
    assert call("detect", image, *options, "--out", tmp_path / "out") == 0
    told = (
        "1 of 1 images reached the limit of 2 detections and may hold more objects: raise it with"
    )
    assert f"{told} --max-detections 4" in capsys.readouterr().out
    assert len(COCO(str(tmp_path / "out" / "detections.json")).anns) == 2
    data = ("--data", f"csv:{squares_csv}")
    assert call("evaluate", "--model", model_file, *data, "--max-detections", 0) == 1
    assert "max_detections must be" in capsys.readouterr().err
    data = ("--data", f"csv:{squares_csv}", "--threshold", 0)
    assert call("evaluate", "--model", model_file, *data, "--max-detections", 1) == 0
    assert "12 of 12 images reached the limit of 1 detections" in capsys.readouterr().out
    assert call("evaluate", "--model", model_file, *data) == 0
    assert "reached the limit" not in capsys.readouterr().out


def test_data_notation(squares_csv):
    assert len(open_data("digits:3", "test")) == 3
    assert open_data("digits").name == "digits/train"
    assert len(open_data(f"csv:{squares_csv}")) == 12
    for wrong in ("voc", "mnist:there", "digits:many", "coco:a.json", "csv:"):
        with pytest.raises(ValueError, match=r"--data"):
            open_data(wrong)
    with pytest.raises(ValueError, match="no splits"):
        open_data(f"csv:{squares_csv}", "val")


def test_validation_data(squares_csv, shared_data):
    data = Squares(25)
    training, validation = open_validation(data, "csv:squares.csv")
    assert (len(training), len(validation)) == (23, 2)
    np.testing.assert_array_equal(validation.image(1), data.image(19))
    held_out = {validation.record(i).image_id for i in range(2)}
    assert held_out == {9, 19}
    assert not held_out & {training.record(i).image_id for i in range(23)}
    assert open_validation(data, "csv:squares.csv", "none") == (data, None)
    assert open_validation(data, "digits:25")[1].name == "digits/val"
    bccd = f"voc:{shared_data / 'bccd'}"
    assert len(open_validation(open_data(bccd), bccd)[1]) == len(open_data(bccd, "val"))


def test_sizes():
    assert parse_size("384x512") == (384, 512)
    for wrong in ("384", "0x64", "384*512", "-64x64"):
        with pytest.raises(ValueError, match="HEIGHTxWIDTH"):
            parse_size(wrong)
    assert usual_size(Squares(3)) == (64, 64)

    class Wide(Squares):
        def record(self, index):
            from dataclasses import replace

            return replace(super().record(index), height=480, width=1000)

    # 480 x 1000 times 0.64 is 307 x 640, in multiples of 32.
    assert usual_size(Wide(3)) == (320, 640)


def test_augmentations():
    chosen = make_augmentation("flip, colour")
    assert chosen.augmentations == (HorizontalFlip(), ColourJitter())
    assert make_augmentation("none") is None
    (flip,) = make_augmentation("flip", ("nose", "left_eye", "right_eye")).augmentations
    assert flip == HorizontalFlip(pairs=((1, 2),))
    assert len(make_augmentation("vflip,rotate", ("head", "tail")).augmentations) == 2
    for turned in ("vflip", "rotate"):
        with pytest.raises(ValueError, match=f"{turned} would leave keypoints such as 'left'"):
            make_augmentation(f"flip,{turned}", ("top", "left", "bottom", "right"))
    with pytest.raises(ValueError, match="unknown augmentation 'blur'"):
        make_augmentation("flip,blur")


def test_demo_compares_the_export(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "THRESHOLD", 0.0)
    difference = demo.compare_export(tmp_path / "saved_model", Squares(3), one_box())
    assert difference < 1e-3
    assert (tmp_path / "saved_model" / "saved_model.pb").exists()


def test_demo_sees_a_difference():
    ours = {"boxes": np.array([[0, 0, 9, 9.0]]), "labels": np.array([1]), "confidence": [0.9]}
    moved = ours | {"boxes": ours["boxes"] + [[0, 0, 0, 2]]}
    assert list(demo._distances(ours, moved)) == [2]
    assert list(demo._distances(ours, moved | {"labels": np.array([2])})) == [np.inf]
    assert list(demo._distances(ours | {"confidence": [0.1]}, moved)) == []
