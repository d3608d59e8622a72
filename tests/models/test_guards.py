"""Nothing goes wrong in silence: labels that cannot be, weights and outputs that are not finite."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.contract.detectors import batch, no_objects, retinanet


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = retinanet(score_threshold=0.0)
    model.compile(keras.optimizers.SGD(1e-3))
    return model


def as_dataset(inputs, targets):
    return tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(2)


PATHS = {
    "fit": lambda model, *data: model.fit(*data, verbose=0),
    "tf.data": lambda model, *data: model.fit(as_dataset(*data), verbose=0),
    "evaluate": lambda model, *data: model.evaluate(*data, verbose=0),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            3,
            r"A label is 3, and the model has 3 classes, 0\.\.2; .* start at 1 must be lowered by 1",
        ),
        (7, r"A label is 7, and the model has 3 classes, 0\.\.2; padding rows have -1\.$"),
        (-2, r"A label is -2, and the model has 3 classes"),
        (-1, r"The box \[.*\] has the label -1, which marks padding: give it one of the 3 classes"),
    ],
)
def test_labels_that_cannot_be_are_refused_on_every_path(model, path, label, message):
    inputs, targets = batch(2)
    targets["labels"][1, 0] = label
    before = [np.array(weight) for weight in model.trainable_weights]
    with pytest.raises(ValueError, match=message):
        PATHS[path](model, inputs, targets)
    for old, new in zip(before, model.trainable_weights):
        np.testing.assert_array_equal(old, new)


def test_train_on_batch_refuses_them_too(model):
    inputs, targets = batch(2)
    targets["labels"][0, 0] = 3
    with pytest.raises(ValueError, match="A label is 3"):
        model.train_on_batch(inputs, targets)


def test_under_xla_the_loss_is_not_a_number():
    keras.utils.set_random_seed(0)
    model = retinanet()
    model.compile(keras.optimizers.SGD(1e-3), jit_compile=True)
    inputs, targets = batch(2)
    assert np.isfinite(model.evaluate(inputs, targets, verbose=0)[0])
    targets["labels"][0, 0] = 3
    assert np.isnan(model.evaluate(inputs, targets, verbose=0)[0])
    with pytest.raises(
        FloatingPointError, match=r"In epoch 1 the loss was not a number.* 0\.\.K-1"
    ):
        model.fit(inputs, targets, verbose=0)


def test_labels_that_are_no_whole_numbers_are_refused(model):
    inputs, targets = batch(2)
    targets["labels"] = targets["labels"].astype("float32")
    whole = model.evaluate(inputs, targets, verbose=0)
    assert np.isfinite(whole).all()
    targets["labels"][1, 0] = 1.5
    with pytest.raises(ValueError, match=r"A label is 1\.5, and the model has 3 classes"):
        model.evaluate(inputs, targets, verbose=0)


def test_targets_without_a_row(model):
    inputs, _ = batch(2)
    targets = no_objects(2, 0)
    empty = model.evaluate(inputs, targets, verbose=0)
    assert empty == pytest.approx(model.evaluate(inputs, no_objects(2, 4), verbose=0), rel=1e-6)
    spec = tf.nest.map_structure(
        lambda v: tf.TensorSpec([2, *[None] * (v.ndim - 1)]), (inputs, targets)
    )
    spec[0]["images"] = tf.TensorSpec([2, 64, 64, 3])
    spec[0]["image_sizes"] = tf.TensorSpec([2, 2])
    spec[1]["boxes"] = tf.TensorSpec([2, None, 4])
    arrays = tf.nest.map_structure(lambda v: v.astype("float32"), (inputs, targets))
    data = tf.data.Dataset.from_generator(lambda: iter([arrays]), output_signature=spec)
    data = data.apply(tf.data.experimental.assert_cardinality(1))
    assert model.evaluate(data, verbose=0) == pytest.approx(empty, rel=1e-6)


def test_terms_add_up_to_the_loss_where_batches_differ_in_size(model):
    # Whatever traces the model first: here evaluation, and a step.
    inputs, targets = batch(5)
    model.evaluate(inputs, targets, batch_size=2, verbose=0)
    history = model.fit(inputs, targets, batch_size=2, epochs=2, verbose=0).history
    for epoch in range(2):
        terms = sum(history[name][epoch] for name in model.LOSS_TERMS)
        assert history["loss"][epoch] == pytest.approx(terms, rel=1e-6)
    result = model.evaluate(inputs, targets, batch_size=2, verbose=0, return_dict=True)
    assert result["loss"] == pytest.approx(sum(result[n] for n in model.LOSS_TERMS), rel=1e-6)


def test_weights_that_are_not_finite_end_fit(model):
    inputs, targets = batch(2)
    bias = model.class_output.bias
    before = np.array(bias)

    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            bias.assign(np.full_like(before, np.nan))

    try:
        with pytest.raises(
            FloatingPointError, match=r"After epoch 1 the weight .*class_output/bias"
        ):
            model.fit(inputs, targets, epochs=3, verbose=0, callbacks=[Break()])
    finally:
        bias.assign(before)


@pytest.mark.parametrize("method", ["detect", "predict", "predict_on_batch"])
def test_outputs_that_are_not_finite_are_refused(model, method):
    inputs, _ = batch(2)
    images = list(inputs["images"]) if method == "detect" else inputs["images"]
    assert getattr(model, method)(images)
    bias = model.box_output.bias
    before = np.array(bias)
    bias.assign(np.full_like(before, np.inf))
    try:
        with pytest.raises(
            FloatingPointError, match=r"outputs that are not finite: its weight .*box"
        ):
            getattr(model, method)(images)
    finally:
        bias.assign(before)
