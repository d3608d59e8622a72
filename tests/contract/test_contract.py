"""The promises of `Detector`, asked of every detector in the table."""

import contextlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.layers import BatchNorm
from kerasdet.models.base import FORMAT_VERSION
from kerasdet.models.detector import prepare
from tests.contract.detectors import CLASS_NAMES, DETECTORS, SIZE, batch, corners, no_objects
from tests.memory import release

# Cross entropy with aims between 0 and 1 ends at their own entropy, not at nothing.
FALL = {"centerness_loss": 0.9}
SETTINGS = ("score_threshold", "iou_threshold", "max_detections", "jit_compile")


@pytest.fixture(scope="module", params=sorted(DETECTORS))
def make(request):
    return DETECTORS[request.param]


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(1)


@pytest.fixture(scope="module")
def shared(make):
    """A detector's one compiled model, whose graphs are traced once, and its state at the start."""
    keras.utils.set_random_seed(1)
    model = compiled(make(score_threshold=0.0))
    start = {"variables": values(model), **{name: getattr(model, name) for name in SETTINGS}}
    yield model, start
    del model, start
    release()


@pytest.fixture
def model(shared):
    """The shared model as it was at first: nothing of what other tests have done to it is left."""
    model, start = shared
    for variable, value in zip(variables(model), start["variables"]):
        variable.assign(value)
    for name in SETTINGS:
        if getattr(model, name) != start[name]:
            setattr(model, name, start[name])
            model.predict_function = None
    return model


def compiled(model):
    model.compile(keras.optimizers.Adam(2e-3))
    model.optimizer.build(model.trainable_variables)
    return model


def variables(model):
    """All that a step may change: weights, states of seed generators, metrics, the optimizer's."""
    return [*model.variables, *model.optimizer.variables]


def values(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables(model)]


def test_fit_lowers_every_term(model):
    inputs, targets = batch(4, given=model.INPUTS)
    history = model.fit(inputs, targets, batch_size=4, epochs=100, verbose=0).history
    assert set(history) == {"loss", *model.LOSS_TERMS}
    for name, values in history.items():
        # A second stage's box loss begins at nothing: its first positives are the objects themselves.
        assert values[-1] < FALL.get(name, 0.7) * max(values), name
    np.testing.assert_allclose(
        history["loss"], sum(np.array(history[name]) for name in model.LOSS_TERMS), rtol=1e-5
    )


def test_evaluate_returns_the_paper_loss(model):
    inputs, targets = batch(given=model.INPUTS)
    result = model.evaluate(inputs, targets, verbose=0, return_dict=True)
    assert result["loss"] == pytest.approx(sum(result[n] for n in model.LOSS_TERMS), rel=1e-5)
    before = model.get_weights()
    model.evaluate(inputs, targets, verbose=0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_predict_is_fixed_size_sorted_and_padded(model):
    inputs, _ = batch(3, given=model.INPUTS)
    model.max_detections = 7
    result = model.predict(inputs, verbose=0)
    shapes = {name: value.shape for name, value in result.items()}
    assert shapes.pop("masks", (3, 7))[:2] == (3, 7)
    assert shapes.pop("keypoints", (3, 7))[:2] == (3, 7)
    assert shapes == {
        "boxes": (3, 7, 4),
        "labels": (3, 7),
        "confidence": (3, 7),
        "num_detections": (3,),
    }
    assert set(result) - set(shapes) == set(model.EXTRAS)
    assert result["labels"].dtype == np.int32
    assert (np.diff(result["confidence"], axis=1) <= 0).all()
    boxes = result["boxes"][result["labels"] >= 0]
    assert (boxes >= 0).all()
    assert (boxes <= SIZE).all()

    model.score_threshold = 0.999
    empty = model.predict(inputs, verbose=0)
    assert empty["num_detections"].tolist() == [0, 0, 0]
    for name in ("boxes", "labels", *model.EXTRAS):
        assert (empty[name] == -1).all(), name


def test_detections_stay_inside_the_true_image(model):
    inputs, _ = batch(given=model.INPUTS)
    inputs["image_sizes"][:] = 40, 24
    boxes = model.predict(inputs, verbose=0)["boxes"]
    assert boxes[..., [0, 2]].max() <= 24
    assert boxes[..., [1, 3]].max() <= 40


def test_padding_of_the_canvas_is_not_seen(model):
    inputs, _ = batch(1, given=model.INPUTS)
    inputs["image_sizes"][:] = 40, 40
    expected = model.predict(inputs, verbose=0)
    inputs["images"][:, 40:] = 255
    inputs["images"][:, :, 40:] = 255
    for name, value in model.predict(inputs, verbose=0).items():
        np.testing.assert_array_equal(value, expected[name])


def test_tensor_means_full_canvas(model):
    inputs, _ = batch(given=model.INPUTS)
    full = {name: inputs[name] for name in model.INPUTS}
    alone = model.predict(inputs["images"] if len(full) == 1 else full, verbose=0)
    for name, value in model.predict(inputs, verbose=0).items():
        np.testing.assert_allclose(alone[name], value, atol=1e-4)


def test_save_and_load_give_equal_outputs(model, tmp_path):
    inputs, targets = batch(given=model.INPUTS)
    model.fit(inputs, targets, epochs=2, verbose=0)
    model.iou_threshold, model.max_detections = 0.3, 11
    path = tmp_path / "model.keras"
    model.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]
    loaded = keras.saving.load_model(path)
    assert loaded.iou_threshold == 0.3
    expected = model.predict(inputs, verbose=0)
    for name, value in loaded.predict(inputs, verbose=0).items():
        np.testing.assert_array_equal(value, expected[name])
    assert loaded.optimizer.iterations == model.optimizer.iterations


def test_a_failed_save_keeps_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    model.save(path)
    before = path.read_bytes()

    def full(self, filepath, **kwargs):
        Path(filepath).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(OSError, match=r"disk full.*model\.keras"):
        model.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]


def test_config_keeps_every_argument(make):
    settings = {
        "category_ids": (5, 7, 11),
        "score_threshold": 0.25,
        "iou_threshold": 0.35,
        "max_detections": 9,
        "name": "mine",
    }
    config = make(**settings).get_config()
    assert config["format_version"] == FORMAT_VERSION
    copy = type(make()).from_config(config)
    assert copy.get_config() == config
    assert copy.class_names == CLASS_NAMES
    for name, value in settings.items():
        assert getattr(copy, name) == value
    with pytest.raises(ValueError, match="upgrade kerasdet"):
        type(copy).from_config({**config, "format_version": FORMAT_VERSION + 1})


def test_images_without_objects_are_learnt_from(model):
    inputs, _ = batch(given=model.INPUTS)
    targets = no_objects(2, 4)
    history = model.fit(inputs, targets, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert history["loss"][-1] < history["loss"][0]


def test_objects_smaller_than_a_pixel_are_learnt_from(model):
    inputs, targets = batch(given=model.INPUTS)
    targets["boxes"][:, 3] = 30.2, 30.4, 30.5, 30.9
    targets["labels"][:, 3] = 1
    targets["masks"][:, 3, 30, 30] = 1
    targets["keypoints"][:, 3] = 30.3, 30.5, 2
    history = model.fit(inputs, targets, epochs=3, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert history["loss"][-1] < history["loss"][0]


def test_three_hundred_objects_in_one_image_are_learnt_from(model):
    inputs, _ = batch(given=model.INPUTS)
    targets = no_objects(2, 300)
    for g in range(300):
        x, y = 3 * (g % 20), 4 * (g // 20)
        targets["boxes"][0, g] = x, y, x + 3, y + 4
        targets["masks"][0, g, y : y + 4, x : x + 3] = 1
        targets["keypoints"][0, g] = corners(x, y, 3, 4)
    targets["labels"][0] = np.arange(300) % 3
    history = model.fit(inputs, targets, epochs=3, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize(
    "box",
    [[np.nan] * 4, [5, 5, 5, 20], [20, 5, 5, 20], [0, 0, np.inf, 9], [3, 3, 3, 3]],
    ids=["nan", "flat", "inverted", "infinite", "point"],
)
def test_unusable_boxes_count_as_padding(model, box):
    inputs, targets = batch(given=model.INPUTS)
    expected = model.evaluate(inputs, targets, verbose=0, return_dict=True)
    targets["boxes"][:, 3], targets["labels"][:, 3] = box, 0
    result = model.evaluate(inputs, targets, verbose=0, return_dict=True)
    assert result == pytest.approx(expected, rel=1e-6)


def test_the_order_of_objects_does_not_matter(model):
    inputs, targets = batch(3, given=model.INPUTS)
    expected = model.evaluate(inputs, targets, verbose=0)
    flipped = {name: value[:, ::-1] for name, value in targets.items()}
    assert model.evaluate(inputs, flipped, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_ignored_regions_are_neither_object_nor_background(model):
    inputs, targets = batch(1, given=model.INPUTS)
    targets["ignore"] = np.zeros((1, 4), bool)

    def total():
        terms = model.loss_terms(model(inputs), prepare(targets))
        return sum(float(value) for value, _ in terms.values())

    before = total()
    # The whole image is a crowd: only the anchors of the one object still count.
    targets["boxes"][0, 3], targets["labels"][0, 3] = (0, 0, SIZE, SIZE), 1
    targets["ignore"][0, 3] = True
    assert total() < before


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(make, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(make(score_threshold=0.0))
        inputs, targets = batch(given=model.INPUTS)
        # Losses scaled for float16 may overflow once; the scale is halved and the step skipped.
        history = model.fit(inputs, targets, epochs=8, verbose=0).history
        assert np.isfinite(history["loss"]).all()
        assert history["loss"][-1] < history["loss"][0]
        outputs = model(inputs)
        outputs.pop("maps", None)  # features for a second stage, not predictions
        for value in keras.tree.flatten(outputs):
            assert keras.backend.standardize_dtype(value.dtype) in ("float32", "int32", "bool")
        assert model.predict(inputs, verbose=0)["boxes"].dtype == np.float32
        policies = [layer.dtype_policy.name for layer in model._flatten_layers() if layer.weights]
        keras.config.set_dtype_policy("float32")
        copy = type(model).from_config(model.get_config())
        copied = [layer.dtype_policy.name for layer in copy._flatten_layers() if layer.weights]
        assert copied == policies
    finally:
        keras.config.set_dtype_policy("float32")


def test_xla_gives_the_same_boxes(model):
    inputs, _ = batch(given=model.INPUTS)
    expected = model.predict(inputs, verbose=0)
    model.jit_compile = True
    model.predict_function = None
    result = model.predict(inputs, verbose=0)
    np.testing.assert_array_equal(result["num_detections"], expected["num_detections"])
    np.testing.assert_allclose(result["confidence"], expected["confidence"], atol=1e-4)


def test_detect_returns_image_pixels_one_by_one_or_together(model):
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (50, 70), (64, 64)]
    images = [rng.integers(0, 255, (*size, 3)).astype(np.uint8) for size in sizes]
    regions = []
    for height, width in sizes:
        corners = rng.integers(0, 40, (12, 2))
        boxes = np.concatenate([corners, corners + rng.integers(8, 24, (12, 2))], axis=1)
        regions.append(np.minimum(boxes, [width, height] * 2).astype(np.float32))
    given = (lambda some: {"proposals": some}) if "proposals" in model.INPUTS else lambda _: {}
    alone = model.detect(images, **given(regions))
    for (height, width), found in zip(sizes, alone):
        assert set(found) == {"boxes", "labels", "confidence", *model.EXTRAS}
        assert all(len(value) == len(found["labels"]) for value in found.values())
        assert found["boxes"].shape == (len(found["labels"]), 4)
        assert found["boxes"][:, 2].max() <= width
        assert found["boxes"][:, 3].max() <= height
    np.testing.assert_allclose(
        model.detect(iter(images[:1]), **given(regions[:1]))[0]["boxes"],
        alone[0]["boxes"],
        atol=1e-3,
    )
    (single,) = model.detect(images[1], **given(regions[1]))
    np.testing.assert_allclose(single["boxes"], alone[1]["boxes"], atol=1e-3)
    assert len(model.detect(images, batch_size=2, **given(regions))) == 3


def test_compile_refuses_foreign_losses(model):
    with pytest.raises(ValueError, match="takes no loss="):
        model.compile("adam", loss="mse")
    with pytest.raises(ValueError, match="CocoMetrics"):
        model.compile("adam", metrics=["accuracy"])


def test_targets_must_be_a_dict(model):
    inputs, _ = batch(given=model.INPUTS)
    with pytest.raises(ValueError, match=r'"boxes" \(B, G, 4\)'):
        model.evaluate(inputs, np.zeros((2, 4)), verbose=0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("score_threshold", 1.0),
        ("score_threshold", -0.1),
        ("iou_threshold", 0.0),
        ("max_detections", 0),
        ("max_detections", 2.5),
    ],
)
def test_settings_are_checked(model, setting, value):
    with pytest.raises(ValueError, match=setting):
        setattr(model, setting, value)


@pytest.mark.parametrize(
    ("ids", "message"), [((1, 2), "2 entries for 3 classes"), ((1, 2, 2), "repeats")]
)
def test_classes_are_checked(make, ids, message):
    with pytest.raises(ValueError, match=message):
        make(category_ids=ids)


def test_every_weight_exists_before_the_first_call(make):
    model = make()
    count = len(model.weights)
    model(batch(given=model.INPUTS)[0])
    assert len(model.weights) == count > 0


def one_step(make, scope):
    """Loss, terms and update of one SGD step on four images, all objects on the last two."""
    with scope:
        keras.utils.set_random_seed(0)
        model = make()
        # Batch norm's statistics are of each replica's own images: frozen for the comparison.
        for layer in model._flatten_layers():
            if isinstance(layer, BatchNorm):
                layer.trainable = False
        model.compile(keras.optimizers.SGD(0.1))
    inputs, targets = batch(4, given=model.INPUTS)
    targets["labels"][:2] = targets["boxes"][:2] = -1
    before = [w.numpy() for w in model.trainable_variables]
    data = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(4)
    history = model.fit(data, verbose=0).history
    after = [w.numpy() for w in model.trainable_variables]
    return {name: values[0] for name, values in history.items()}, [
        new - old for old, new in zip(before, after)
    ]


def test_two_replicas_equal_one_device(make):
    losses, updates = one_step(make, contextlib.nullcontext())
    # Two strategies of one process would mistake each other's collectives.
    reduction = tf.distribute.ReductionToOneDevice()
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)
    assert mirrored.num_replicas_in_sync == 2
    their_losses, their_updates = one_step(make, mirrored.scope())
    assert their_losses == pytest.approx(losses, rel=1e-4)
    assert max(np.abs(update).max() for update in updates) > 1e-4
    for ours, theirs in zip(updates, their_updates):
        np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-6)
