"""Training of classifiers: data by folders and arrays, crops, a run that learns, and what it leaves."""

import json
from functools import partial

import keras
import numpy as np
import pytest
from PIL import Image

from kerasdet.backbones import ImageClassifier
from kerasdet.data import ClassArrays, ClassFolders, ink
from kerasdet.data.class_images import ClassBatches, centre_crop, random_resized_crop
from kerasdet.training import (
    Recipe,
    classifier_recipe,
    evaluate_classifier,
    train_classifier,
)
from tests.tiny import TinyBackbone

SIDE = 32
CROP = partial(random_resized_crop, least_area=0.7, flip=False)


def digits(split):
    """Handwritten digits, dark on light: (N, 96, 96, 3) uint8, and their labels."""
    labels, (alphas, *_) = ink.glyphs(split)
    return ClassArrays(np.repeat(255 - alphas[..., None], 3, axis=-1), labels)


def write_folders(root, names=("ant", "bee"), count=3):
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (20, 30, 3)).astype("uint8")
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def classifier(num_classes):
    return ImageClassifier(TinyBackbone(), num_classes=num_classes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on digits: model, history, folder."""
    keras.utils.set_random_seed(0)
    out = tmp_path_factory.mktemp("runs") / "digits"
    model = classifier(10)
    recipe = classifier_recipe(epochs=8, batch_size=32)
    history = train_classifier(
        model,
        digits("train"),
        recipe,
        validation=digits("val"),
        out=out,
        size=SIDE,
        augment=CROP,
        verbose=0,
    )
    return model, history, out


def test_a_tiny_backbone_learns_digits(run):
    model, history, _ = run
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["val_top1"][-1] > 0.85  # chance is 0.1
    assert history["val_top5"][-1] > history["val_top1"][-1]
    measured = evaluate_classifier(model, digits("val"), size=SIDE)
    np.testing.assert_allclose(measured["top1"], history["val_top1"][-1], atol=1e-6)
    np.testing.assert_allclose(measured["top5"], history["val_top5"][-1], atol=1e-6)


def test_the_folder_of_a_run(run):
    _, history, out = run
    names = {path.name for path in out.iterdir()}
    assert {"recipe.json", "checkpoint.npz", "best.keras", "last.keras", "history.csv"} <= names
    assert {"history.png", "classes.json"} <= names
    assert json.loads((out / "classes.json").read_text()) == list("0123456789")
    assert json.loads((out / "recipe.json").read_text())["optimizer"] == "sgd"
    assert history["epoch"] == list(range(1, 9))


def test_a_run_is_a_preset(run):
    model, _, out = run
    backbone = TinyBackbone.from_preset(out / "last.keras", levels=("C3",))
    images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    expected = model.backbone.with_levels(("C3",))(images)["C3"]
    np.testing.assert_array_equal(backbone(images)["C3"], expected)


def test_resuming_is_as_if_it_had_never_stopped(tmp_path):
    data = write_folders(tmp_path / "images", count=5)

    def train(out, model, recipe, **settings):
        return train_classifier(
            model,
            data,
            recipe,
            validation=data,
            out=tmp_path / out,
            size=SIDE,
            verbose=0,
            **settings,
        )

    recipe = partial(Recipe, batch_size=4, learning_rate=1e-2, warmup_steps=0, ema_momentum=0.0)
    recipe = partial(recipe, optimizer="sgd", schedule="step")
    models = []
    for stops in (False, True):
        keras.utils.set_random_seed(1)
        model = classifier(2)
        name = f"stops{stops}"
        if stops:
            with pytest.raises(KeyboardInterrupt):
                train(name, model, recipe(epochs=3), callbacks=[_Stop()])
            model = classifier(2)
        history = train(name, model, recipe(epochs=3), resume=stops)
        assert history["epoch"] == [1, 2, 3]
        models.append(model)
    for ours, theirs in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(FileExistsError, match="holds a training run"):
        train("stopsFalse", model, recipe(epochs=3))


class _Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_the_usual_recipe():
    recipe = classifier_recipe()
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size) == ("sgd", 0.1, 256)
    assert (recipe.weight_decay, recipe.epochs, recipe.schedule) == (1e-4, 90, "cosine")
    assert classifier_recipe(epochs=3).epochs == 3


# --- Data ---------------------------------------------------------------------------------------------


def test_folders_are_classes(tmp_path):
    root = write_folders(tmp_path, ("bee", "ant", "cow"), count=2)
    (root / ".hidden").mkdir()
    (root / "ant" / "notes.txt").write_text("no image")
    (root / "cow" / "deep").mkdir()
    Image.new("RGB", (4, 4)).save(root / "cow" / "deep" / "5.JPG")
    data = ClassFolders(root)
    assert data.class_names == ("ant", "bee", "cow")
    np.testing.assert_array_equal(data.labels, [0, 0, 1, 1, 2, 2, 2])
    assert len(data) == 7
    assert data.image(0).shape == (20, 30, 3)


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere"):
        ClassFolders(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has 0 folders; give one folder of images for each"):
        ClassFolders(tmp_path)
    root = write_folders(tmp_path / "one", ("ant",))
    with pytest.raises(ValueError, match="one has 1 folders"):
        ClassFolders(root)
    (root / "bee").mkdir()
    with pytest.raises(ValueError, match="bee has no images"):
        ClassFolders(root)


def test_an_unreadable_image_is_named(tmp_path):
    root = write_folders(tmp_path / "images")
    (root / "bee" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bee.1\.png"):
        train_classifier(
            classifier(2),
            root,
            classifier_recipe(epochs=1, batch_size=6),
            out=tmp_path / "run",
            verbose=0,
        )


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        ([], [], None, r"labels has the shape \(0,\) for 0 images"),
        (np.zeros((2, 4, 4, 3)), [0], None, r"labels has the shape \(1,\) for 2 images"),
        (np.zeros((2, 4, 4, 3)), [0, -1], None, "labels are int64 from -1"),
        (np.zeros((2, 4, 4, 3)), [0.0, 1.0], None, "labels are float64"),
        (np.zeros((2, 4, 4, 3)), [0, 0], None, "at least two classes"),
        (np.zeros((2, 4, 4, 3)), [0, 2], ("a", "b"), "class_names has 2 names and labels go to 2"),
    ],
)
def test_bad_arrays_are_refused(images, labels, names, message):
    with pytest.raises(ValueError, match=message):
        ClassArrays(images, labels, names)


def test_classes_of_model_and_data_must_agree(tmp_path):
    data = ClassArrays(np.zeros((2, 4, 4, 3), "uint8"), [0, 1], ("a", "b"))
    with pytest.raises(
        ValueError, match=r"The model has 3 classes and the data 2 .a, b, ....: build"
    ):
        train_classifier(classifier(3), data, out=tmp_path)
    other = ClassArrays(np.zeros((2, 4, 4, 3), "uint8"), [0, 1], ("b", "a"))
    with pytest.raises(ValueError, match="the same, in the same order"):
        train_classifier(classifier(2), data, validation=other, out=tmp_path)


def test_a_crop_is_a_rectangle_of_the_image():
    rng = np.random.default_rng(0)
    ramp = np.zeros((60, 80, 3), "uint8")
    ramp[..., 0], ramp[..., 1] = np.arange(80), np.arange(60)[:, None]
    shares, ratios, mirrored = [], [], 0
    for _ in range(200):
        cut = random_resized_crop(rng, ramp, 40).astype(float)
        assert cut.shape == (40, 40, 3)
        # The ramps' slopes tell the rectangle's sides, their signs whether it is mirrored.
        across = np.polyfit(np.arange(40), cut[20, :, 0], 1)[0]
        down = np.polyfit(np.arange(40), cut[:, 20, 1], 1)[0]
        mirrored += across < 0
        width, height = abs(across) * 40, down * 40
        shares.append(width * height / (60 * 80))
        ratios.append(width / height)
    assert 0.05 < min(shares) < 0.15
    assert 0.8 < max(shares) < 1.05
    assert 0.7 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.4
    assert 70 < mirrored < 130
    plain = [random_resized_crop(rng, ramp, 8, 0.9, False)[4, :, 0] for _ in range(20)]
    assert all(line[-1] > line[0] for line in plain)


def test_a_crop_of_a_thin_image_is_its_centre():
    thin = np.zeros((10, 400, 3), "uint8")
    thin[:, 195:205] = 200
    cut = random_resized_crop(np.random.default_rng(0), thin, 10, least_area=0.9)
    np.testing.assert_array_equal(cut, np.full((10, 10, 3), 200))


def test_the_centre_by_hand():
    image = np.zeros((8, 12, 3), "uint8")
    image[1:7, 3:9] = 100  # 6 / 8 of the shorter side
    np.testing.assert_array_equal(centre_crop(image, 6, share=0.75), np.full((6, 6, 3), 100))
    assert centre_crop(image, 4).shape == (4, 4, 3)


def test_batches_have_every_image_once_in_another_order_each_epoch():
    images = [np.full((4, 4, 3), 10 * i, "uint8") for i in range(7)]
    data = ClassArrays(images, [0, 1, 0, 1, 0, 1, 0])
    batches = ClassBatches(data, 3, 4, random_resized_crop, seed=5)
    assert len(batches) == 2  # the seventh waits for another epoch
    orders = []
    for _ in range(2):
        found = [batches[i] for i in range(2)]
        pixels = np.concatenate([x[:, 0, 0, 0] for x, _ in found])
        assert len(set(pixels.tolist())) == 6
        np.testing.assert_array_equal(np.concatenate([y for _, y in found]), (pixels // 10) % 2)
        orders.append(pixels.tolist())
        batches.on_epoch_end()
    assert orders[0] != orders[1]
    again = ClassBatches(data, 3, 4, random_resized_crop, seed=5, epoch=1)
    assert again[0][0][:, 0, 0, 0].tolist() == orders[1][:3]
    plain = ClassBatches(data, 3, 4)
    assert [len(plain[i][1]) for i in range(len(plain))] == [3, 3, 1]
    np.testing.assert_array_equal(plain[2][0][:, 0, 0, 0], [60])
    assert len(ClassBatches(data, 100, 4, random_resized_crop)) == 1


def test_top_five_by_hand():
    class Fixed:
        num_classes = 6

        def predict(self, batches, verbose):
            return np.float32([[6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [1] * 6])

    data = ClassArrays(np.zeros((4, 4, 4, 3), "uint8"), [0, 4, 5, 0], "abcdef")
    assert evaluate_classifier(Fixed(), data) == {"top1": 0.25, "top5": 0.5}
