"""The published face detectors on real photographs, as their package finds faces, and in the commands."""

import json
import socket
from pathlib import Path

import keras
import numpy as np
import pytest

import kerasdet
from kerasdet.backbones import SeparableTinyYOLOv2
from kerasdet.cli import demo, main
from kerasdet.layers import PaddedSquare, PassthroughHead
from kerasdet.models import YOLOv2
from kerasdet.zoo import download, models, untrained
from kerasdet.zoo.manifest import validate
from kerasdet.zoo.models import convert_file, info
from kerasdet.zoo.origins import face_api
from kerasdet.zoo.pack import described
from kerasdet.zoo.verify import sha256
from tests.zoo.server import Server

FACES = Path(__file__).parents[3] / "shared" / "data" / "faces"
PHOTOGRAPHS = FACES.parent / "coco_mini" / "images"
# Preset: its name in reference.json, and its files.
PRESETS = {
    "ssd_mobilenet_v1_face": ("ssd_mobilenet_v1", "ssd_mobilenetv1_model"),
    "tiny_yolov2_face": ("tiny_yolo_v2", "tiny_face_detector_model"),
}
LEAST = 0.25  # confidence of the faces that are compared
published = pytest.mark.skipif(
    not (FACES.exists() and PHOTOGRAPHS.exists()), reason=f"no weights and photographs at {FACES}"
)


def loaded(name):
    stem = PRESETS[name][1]
    return convert_file(info(name), FACES / f"{stem}-weights_manifest.json", FACES / f"{stem}.bin")


@published
@pytest.mark.parametrize("name", PRESETS)
def test_the_faces_of_the_published_runtime(name):
    model, count, matched, ours = loaded(name), 0, 0, 0
    for photograph, faces in json.loads((FACES / "reference.json").read_text()).items():
        found = model.detect(PHOTOGRAPHS / photograph)[0]
        face = found["labels"] == 0
        boxes, scores = found["boxes"][face], found["confidence"][face]
        ours += (scores > LEAST).sum()
        for *box, score in faces[PRESETS[name][0]]:
            if score > LEAST:
                # The runtime's boxes may reach beyond the image; ours end there.
                inside = np.clip(box, 0, [faces["width"], faces["height"]] * 2)
                size = max(box[2] - box[0], box[3] - box[1])
                far = np.abs(boxes - inside).max(axis=-1, initial=0)
                matched += ((far < 0.01 * size) & (np.abs(scores - score) < 0.01)).any()
                count += 1
    assert count == {"ssd_mobilenet_v1_face": 44, "tiny_yolov2_face": 25}[name]
    assert matched >= 0.99 * count
    assert ours == count


@published
def test_raw_outputs_of_the_tiny_yolo_are_the_published_networks():
    model = loaded("tiny_yolov2_face")
    raw = np.load(FACES / "raw.npz")
    for photograph in ("000000000110", "000000000308"):
        canvas = raw[f"{photograph}/canvas416"]
        outputs = model(canvas[None])
        wanted = raw[f"{photograph}/tiny"].reshape(845, 5)
        np.testing.assert_allclose(outputs["locations"][0], wanted[:, :4], atol=1e-3)
        np.testing.assert_allclose(outputs["confidence"][0], wanted[:, 4], atol=1e-3)
        assert not np.any(outputs["logits"])


@published
@pytest.mark.parametrize("side", [416, 512])
def test_the_canvas_is_the_published_runtimes(side):
    raw = np.load(FACES / "raw.npz")
    for photograph in ("000000000110", "000000000308"):
        image = kerasdet.data.load_image(PHOTOGRAPHS / f"{photograph}.jpg")
        drawn = PaddedSquare(side).draw(image)
        np.testing.assert_allclose(drawn, raw[f"{photograph}/canvas{side}"], rtol=0, atol=1e-3)


def test_the_tiny_yolo_is_the_published_one():
    model = untrained("tiny_yolov2_face")
    assert model.class_names == ("face",)
    assert (model.resize, model.iou_threshold) == (PaddedSquare(416), 0.4)
    # In cells: 1.603231 x 2.094468, ..., 9.041765 x 10.66308; a cell has 32 pixels.
    np.testing.assert_allclose(model.anchors[0], [51.303392, 67.022976])
    np.testing.assert_allclose(model.anchors[-1], [289.33648, 341.21856])
    outputs = model(np.zeros((1, 416, 416, 3), np.uint8))
    assert outputs["locations"].shape == (1, 845, 4)
    names = face_api.name_weights(model, face_api.TINY_TABLE, face_api.TINY_WEIGHTS, "face_api")
    assert len(names) == len(model.weights)
    assert {"conv0/filters", "conv5/pointwise_filter", "conv8/bias"} <= set(names)


def test_the_column_of_the_one_class_by_hand():
    np.testing.assert_array_equal(
        face_api.one_class(np.arange(1.0, 11)), [1, 2, 3, 4, 5, 0, 6, 7, 8, 9, 10, 0]
    )
    assert face_api.one_class(np.zeros((1, 1, 7, 25))).shape == (1, 1, 7, 30)


def test_one_class_has_the_probability_1_without_a_warning(recwarn):
    model = untrained("tiny_yolov2_face")
    logits = np.float32([[[-3.0], [0.0]]])
    np.testing.assert_array_equal(model.class_probabilities(logits), np.ones((1, 2, 1)))
    assert not [warning for warning in recwarn if "softmax" in str(warning.message)]


# -- downloads and the command line ------------------------------------------------------------------


def small():
    keras.utils.set_random_seed(0)
    model = YOLOv2(
        1,
        SeparableTinyYOLOv2((4,) * 6),
        PassthroughHead(depth=0, passthrough=0, levels=("C5",), name="head"),
        [(30, 40), (60, 60)],
        class_names=["face"],
        resize=PaddedSquare(96),
    )
    rng = np.random.default_rng(0)
    for weight in model.backbone.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    kernel = rng.normal(0, 0.1, (1, 1, 4, 2, 6))
    kernel[..., 5] = 0
    bias = np.float32([0, 0, 0, 0, 1, 0] * 2)
    model.output_conv.set_weights([kernel.reshape(1, 1, 4, 12), bias])
    return model


def as_published(model):
    """The manifest and the shard of a model's weights."""
    slots = face_api.name_weights(model, face_api.TINY_TABLE, face_api.TINY_WEIGHTS, "face_api")
    entries, data = [], b""
    for name, slot in slots.items():
        value = np.asarray(slot.variable, np.float32)
        if name.startswith("conv8/"):
            value = value.reshape(*value.shape[:-1], 2, 6)[..., :5].reshape(*value.shape[:-1], 10)
        entries.append({"name": name, "shape": list(value.shape), "dtype": "float32"})
        data += value.tobytes()
    return json.dumps([{"paths": ["net.bin"], "weights": entries}]).encode(), data


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server of a small detector, which the package knows by the names of the published ones."""
    monkeypatch.setenv("KERASDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("KERASDET_MIRROR", raising=False)
    model, folder = small(), tmp_path / "zoo"
    folder.mkdir()
    with Server() as running:
        files = dict(zip(("net.json", "net.bin"), as_published(model)))
        facts = []
        for name, content in files.items():
            (folder / name).write_bytes(content)
            running.files[f"/{name}"] = content
            facts.append(
                {
                    "url": running.url(f"/{name}"),
                    "sha256": sha256(folder / name),
                    "bytes": len(content),
                }
            )
        for name in PRESETS:
            manifest = info("tiny_yolov2_face")
            manifest["weights"] |= {**facts[0], "parts": facts[1:]}
            manifest |= {
                "name": name,
                "parameters": model.count_params(),
                "config": described(model) | {"name": name},
            }
            validate(manifest, folder / f"{name}.json")
            (folder / f"{name}.json").write_text(json.dumps(manifest))
        monkeypatch.setattr(models, "FOLDER", folder)
        running.model = model
        yield running


@pytest.fixture
def photographs(tmp_path):
    """Two pictures in a folder, and a file that is none."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for name, size in (("a.png", (60, 90)), ("b.png", (120, 80))):
        blocks = rng.integers(0, 256, (size[0] // 10, size[1] // 10, 3))
        image = np.kron(blocks, np.ones((10, 10, 1))).astype(np.uint8)
        keras.utils.save_img(folder / name, image, scale=False)
    return folder


def call(*arguments):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def test_demo_finds_faces_with_weights_that_it_downloads(server, photographs, tmp_path, capsys):
    out = tmp_path / "faces"
    assert call("demo", "--faces", photographs / "a.png", photographs / "b.png", "--out", out) == 0
    assert sorted(request.path for request in server.requests) == ["/net.bin", "/net.json"]
    assert sorted(path.name for path in out.glob("*.png")) == ["0001_a.png", "0002_b.png"]
    content = json.loads((out / "detections.json").read_text())
    found = [entry for entry in content["annotations"] if entry["image_id"] == 2]
    model = server.model
    model.score_threshold = demo.THRESHOLD
    wanted = model.detect(photographs / "b.png")[0]
    assert len(found) == len(wanted["labels"]) > 0
    for entry, (left, top, right, bottom) in zip(found, wanted["boxes"]):
        np.testing.assert_allclose(
            entry["bbox"], [left, top, right - left, bottom - top], atol=0.01
        )
    assert content["categories"][0]["name"] == "face"
    # The second time nothing is downloaded.
    count = len(server.requests)
    assert call("detect", photographs, "--model", "tiny_yolov2_face", "--out", out / "tiny") == 0
    assert call("detect", photographs, "--model", "tiny_yolov2_face", "--out", out / "tiny") == 0
    assert len(server.requests) <= count + 2
    assert "objects in 2 images" in capsys.readouterr().out


def test_demo_without_a_network_says_what_it_could_not_fetch(
    server, photographs, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(download, "WAITS", (0,))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    path = models.FOLDER / f"{demo.FACES}.json"
    text = path.read_text()
    path.write_text(text.replace(server.url(""), f"http://127.0.0.1:{port}"))
    out = tmp_path / "faces"
    assert call("demo", "--faces", photographs / "a.png", "--out", out) == 1
    error = capsys.readouterr().err
    assert f"127.0.0.1:{port}/net.json" in error
    # One line for each try, and one for the error, which says what else to do.
    assert "KERASDET_MIRROR" in error.strip().splitlines()[-1]
    assert "Traceback" not in error
    assert not list(out.glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--faces",), "demo --faces needs photographs"),
        (("a.jpg",), "demo takes no pictures, and found a.jpg: add --faces"),
    ],
)
def test_demo_says_which_half_is_missing(arguments, message, capsys):
    assert call("demo", *arguments) == 1
    assert message in capsys.readouterr().err
