"""What the tests of the Inception networks share: models of `keras.applications`, and checks of ours."""

import keras
import numpy as np
from keras import ops

from tests.golden import drawn


def array(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def numbered(layer):
    """The number in which Keras ends the name of a layer that was given none."""
    last = layer.name.rpartition("_")[2]
    return int(last) if last.isdigit() else 0


def in_order(model, kind, stem):
    """Layers of a kind that Keras has named, in the order in which they were made."""
    named = [layer for layer in model.layers if type(layer) is kind and layer.name.startswith(stem)]
    return sorted(named, key=numbered)


def lively(model, seed=0):
    """Give a model of `keras.applications` weights that keep the size of signals."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        elif layer.weights:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            values = layer.get_weights()
            taps = [w[..., 0, 0] if depthwise else w[..., 0] for w in values]
            deviations = [(2 / max(1, tap.size)) ** 0.5 for tap in taps]
            layer.set_weights([rng.normal(0, d, w.shape) for d, w in zip(deviations, values)])
    return model


def maps(model, names):
    """A model of `keras.applications` cut to {level: its layer's output}."""
    outputs = {level: model.get_layer(name).output for level, name in names.items()}
    return keras.Model(model.inputs, outputs)


def assert_near(found, expected, share=1e-5):
    """Each level to a share of its largest value."""
    assert set(found) == set(expected)
    for level, value in expected.items():
        theirs, ours = array(value), array(found[level])
        assert ours.shape == theirs.shape
        assert np.std(theirs) > 1e-3 * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=share * np.abs(theirs).max())


def check_saved(model, path, height=75, width=90):
    """A saved model is of the same config and gives the same maps."""
    drawn.fill(model.layers)
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    images = drawn.images("saved", height, width)
    for level, value in model(images).items():
        np.testing.assert_array_equal(array(loaded(images)[level]), array(value))


def check_precision(make, policy):
    """Maps are of the half type and near the exact ones, weights are float32, frozen norms stay."""
    model, exact = (make(dtype=dtype, frozen_norm=True) for dtype in (policy, "float32"))
    for part in (model, exact):
        drawn.fill(part.layers)
    images = drawn.images("precision", 80, 96)
    (level,) = model.levels
    expected = array(exact(images)[level])
    for training in (False, True):
        value = model(images, training=training)[level]
        assert keras.backend.standardize_dtype(value.dtype) == policy.removeprefix("mixed_")
        assert np.abs(array(value) - expected).max() < 0.1 * np.abs(expected).max()
    assert {w.dtype for w in model.weights} == {"float32"}
    assert not any(w.name in ("gamma", "beta") for w in model.trainable_weights)


def check_region_head(backbone, head, image_side, cells):
    """A head on the whole "C4" as its only region gives what the network gives from there on."""
    images = drawn.images("regions", image_side, image_side)
    found = {level: array(x) for level, x in backbone(images).items()}
    regions = found["C4"][:, None]
    features = array(head.maps(regions))
    assert head.maps_shape(regions.shape) == features.shape == (1, 1, *cells, head.channels)
    assert_near({"C5": features[:, 0]}, {"C5": found["C5"]})
    pooled = array(head(regions))
    assert pooled.shape == head.compute_output_shape(regions.shape) == (1, 1, head.channels)
    assert_near({"C5": pooled[:, 0]}, {"C5": found["C5"].mean(axis=(1, 2))})
    assert {w.path.rsplit("/", 1)[1] for w in head.trainable_weights} <= {"kernel", "bias"}
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert again.get_config() == head.get_config()
