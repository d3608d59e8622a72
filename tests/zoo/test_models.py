import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kerasdet
from kerasdet.layers.resizing import Fit
from kerasdet.models import Detector, RetinaNet
from kerasdet.zoo import build, info, list_models, load, models, summary, untrained
from kerasdet.zoo.pack import described, main
from tests.tiny import TinyBackbone

from .conftest import CARD, METRICS, tiny

IMAGES = [np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)]


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "best.keras"
    model.save(path)
    return path


@pytest.fixture
def damaged(packed, tmp_path, monkeypatch):
    """A copy of the shipped files to damage; returns its weights file."""
    shutil.copytree(packed, tmp_path / "zoo")
    monkeypatch.setattr(models, "FOLDER", tmp_path / "zoo")
    return tmp_path / "zoo" / "weights" / "tiny_digits.weights.h5"


def same_weights(model, other):
    return all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights()))


def test_names_and_what_is_known_of_them(shipped, model):
    assert list_models() == kerasdet.list_models() == ["tiny_digits"]
    assert info("tiny_digits")["training"]["minutes"] == 25.5
    assert summary("tiny_digits") == {
        "name": "tiny_digits",
        "task": "detection",
        "paper": "Focal Loss for Dense Object Detection",
        "source": "1708.02002",
        "class": "RetinaNet",
        "parameters": model.count_params(),
        "metrics": {"AP": 0.7123, "AP50": 0.93},
        "published": {},
        "data": "digits",
        "licence": "Apache-2.0",
        "bytes": (shipped / "weights" / "tiny_digits.weights.h5").stat().st_size,
    }


def test_an_unknown_name_suggests_the_nearest(shipped):
    for function in (info, build, load, kerasdet.load, RetinaNet.from_preset):
        with pytest.raises(ValueError, match=r"model 'tiny_digit'\. Nearest names: tiny_digits"):
            function("tiny_digit")


def test_a_shipped_model_is_the_packed_one(shipped, model):
    loaded = load("tiny_digits")
    assert isinstance(loaded, RetinaNet)
    assert loaded.class_names == ("one", "two", "three")
    assert loaded.resize == Fit(64, 64)
    for value, source in zip(loaded.get_weights(), model.get_weights()):
        np.testing.assert_allclose(value, source, rtol=2**-11, atol=2**-25)
    assert same_weights(build("tiny_digits"), loaded)


def test_the_precision_follows_the_user_not_the_training(shipped):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        loaded = load("tiny_digits")
    finally:
        keras.config.set_dtype_policy(before)
    assert loaded.compute_dtype == loaded.backbone.compute_dtype == "bfloat16"
    assert load("tiny_digits").backbone.compute_dtype == "float32"


def test_arguments_that_the_weights_allow_can_be_changed(shipped):
    loaded = build("tiny_digits", score_threshold=0.25, resize=Fit(96, 128))
    assert loaded.score_threshold == 0.25
    assert loaded.resize == Fit(96, 128)


def test_an_unknown_argument_is_refused(shipped):
    with pytest.raises(ValueError, match=r"no argument 'threshold'; it has .*score_threshold"):
        build("tiny_digits", threshold=0.3)


def test_a_new_backbone_is_frozen_by_itself(shipped):
    backbone = TinyBackbone(freeze_at="C2")
    assert untrained("tiny_digits", backbone=backbone).backbone.freeze_at == "C2"
    with pytest.raises(ValueError, match="Give frozen_norm to the new backbone itself"):
        untrained("tiny_digits", backbone=backbone, frozen_norm=True)


def test_an_untrained_model_is_as_described_and_needs_no_file(damaged):
    damaged.unlink()
    assert untrained("tiny_digits", max_detections=7).max_detections == 7
    assert untrained("tiny_digits", class_names=["a", "b"]).class_names == ("a", "b")
    assert described(untrained("tiny_digits")) == info("tiny_digits")["config"]


def test_normalisation_of_other_classes_is_frozen_unless_it_is_said(shipped):
    for given, frozen in (({}, True), ({"frozen_norm": False}, False)):
        assert build("tiny_digits", num_classes=5, **given).backbone.frozen_norm is frozen
    assert build("tiny_digits", frozen_norm=True).backbone.frozen_norm


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ({"num_classes": 5}, ("0", "1", "2", "3", "4")),
        ({"class_names": ["a", "b", "c"]}, ("a", "b", "c")),
        ({"num_classes": 2, "class_names": ["a", "b"], "freeze_at": "C3"}, ("a", "b")),
    ],
)
def test_other_classes_keep_backbone_and_neck_and_make_new_heads(shipped, overrides, names):
    source, model = build("tiny_digits"), RetinaNet.from_preset("tiny_digits", **overrides)
    assert model.class_names == names
    assert model.class_output.kernel.shape[-1] % len(names) == 0
    for part in ("backbone", "neck"):
        assert same_weights(getattr(model, part), getattr(source, part))
    assert not np.array_equal(model.box_output.kernel, source.box_output.kernel)
    # The statistics are those of the weights: few images in a step shall not spoil them.
    norms = [layer.norm for layer in model.backbone.layers if hasattr(layer, "norm")]
    assert len(norms) == 5
    assert not any(norm.trainable for norm in norms)
    frozen = [layer.name for layer in model.backbone.layers if not layer.trainable]
    expected = ["stage1", "stage2", "stage3"] if "freeze_at" in overrides else []
    assert [name for name in frozen if name.startswith("stage")] == expected


def test_the_same_classes_keep_everything_trainable(shipped):
    for model in (build("tiny_digits"), build("tiny_digits", num_classes=3)):
        assert all(
            layer.norm.trainable for layer in model.backbone.layers if hasattr(layer, "norm")
        )
        assert same_weights(model, build("tiny_digits"))


def test_what_is_frozen_stays_so_after_saving(shipped, tmp_path):
    model = build("tiny_digits", num_classes=5, freeze_at="C2")
    model.save(tmp_path / "model.keras")
    again = load(tmp_path / "model.keras")
    assert len(again.trainable_weights) == len(model.trainable_weights)
    assert len(model.trainable_weights) < len(build("tiny_digits").trainable_weights)


@pytest.mark.parametrize("damage", ["cut short", "damaged or altered", "missing"])
def test_damaged_weights_are_refused_before_they_are_read(damaged, damage, monkeypatch):
    from kerasdet.zoo import weights

    monkeypatch.setattr(weights, "load_weights", None)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        damaged.unlink()
    else:
        damaged.write_bytes(content[:-100] if damage == "cut short" else content)
    with pytest.raises((ValueError, FileNotFoundError), match=damage) as error:
        load("tiny_digits")
    assert str(damaged) in str(error.value)
    assert "pip install --force-reinstall" in str(error.value)


def test_files_and_run_folders(saved, model):
    for path in (saved, str(saved), saved.parent):
        loaded = load(path)
        assert same_weights(loaded, model)
    one, other = model.detect(IMAGES)[0], loaded.detect(IMAGES)[0]
    np.testing.assert_array_equal(one["boxes"], other["boxes"])


def test_a_shipped_name_wins_over_a_folder_of_that_name(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny_digits").mkdir()
    assert load("tiny_digits").class_names == ("one", "two", "three")
    with pytest.raises(FileNotFoundError, match=r"holds none of best\.keras, last\.keras"):
        load("./tiny_digits/")
    with pytest.raises(FileNotFoundError, match=r"holds none of best\.keras, last\.keras"):
        load(Path("tiny_digits"))


def test_damaged_keras_files_are_refused(saved, tmp_path):
    content = bytearray(saved.read_bytes())
    path = tmp_path / "short.keras"
    path.write_bytes(content[:-300])
    with pytest.raises(ValueError, match=r"short\.keras is cut short or no Keras model"):
        load(path)
    path = tmp_path / "altered.keras"
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"altered\.keras is damaged"):
        load(path)
    with pytest.raises(FileNotFoundError, match=r"none\.keras"):
        load("none.keras")
    path = tmp_path / "a.h5"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a\.h5 is not a \.keras file"):
        load(path)


def test_a_model_that_is_no_detector_is_refused(tmp_path):
    path = tmp_path / "plain.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    with pytest.raises(
        ValueError, match=r"plain\.keras holds a Sequential, not a model of kerasdet"
    ):
        load(path)


def test_pack_writes_nothing_when_the_card_is_wrong(model, tmp_path):
    from kerasdet.zoo.pack import pack

    card = {"papers": {}, **CARD}
    del card["paper"]
    with pytest.raises(ValueError, match=r"lacks \['paper'\].*\['papers'\]"):
        pack(model, "x", card, METRICS, tmp_path)
    with pytest.raises(ValueError, match=r"'metrics' is \{\}"):
        pack(model, "x", CARD, {}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_pack_from_the_command_line(saved, model, tmp_path, capsys):
    card, metrics = tmp_path / "card.json", tmp_path / "metrics.json"
    card.write_text(json.dumps(CARD))
    metrics.write_text(json.dumps({"data": "digits", "coco": METRICS}))
    options = {"--name": "packed", "--card": card, "--metrics": metrics, "--out": tmp_path / "zoo"}
    main([str(saved.parent), *(str(part) for pair in options.items() for part in pair)])
    assert "packed.json" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "zoo" / "packed.json").read_text())
    assert manifest["metrics"] == {"AP": 0.7123, "AP50": 0.93}
    assert manifest["parameters"] == model.count_params()


def test_listing_imports_no_keras():
    code = (
        "import sys, kerasdet; kerasdet.list_models(); print({'keras', 'h5py'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_from_preset_is_of_its_class(shipped):
    assert isinstance(Detector.from_preset("tiny_digits", score_threshold=0.5), RetinaNet)


def test_two_models_of_one_file_are_equal(shipped):
    keras.backend.clear_session()
    assert same_weights(load("tiny_digits"), load("tiny_digits"))
    assert not same_weights(load("tiny_digits"), tiny(seed=3))
