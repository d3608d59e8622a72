import numpy as np
import pytest
import tensorflow as tf

from kerasdet.export import export_model
from kerasdet.layers.resizing import KeepSize
from kerasdet.models import RetinaNet

from .conftest import assert_same, colour_blocks, make

interpreter = pytest.importorskip("ai_edge_litert.interpreter")


def run(path, image):
    """Run the file in the runtime that has no TensorFlow operations to fall back on."""
    return interpreter.Interpreter(str(path)).get_signature_runner("serving_default")(
        images=image[None]
    )


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.tflite"
    export_model(model, path, format="litert", size=(80, 100))
    return path


def test_the_file_gives_the_models_boxes(model, exported):
    for seed in range(3):
        image = colour_blocks(80, 100, seed)
        assert_same(run(exported, image), model.detect([image]))


def test_float16_weights_take_half_the_space(exported, model, tmp_path):
    path = tmp_path / "half.tflite"
    export_model(model, path, format="litert", size=(80, 100), quantize="float16")
    kernels = sum(v.size for v in model.get_weights() if v.ndim > 1)
    assert exported.stat().st_size - path.stat().st_size > 1.5 * kernels
    image = colour_blocks(80, 100)
    found, (wanted,) = run(path, image), model.detect([image])
    # Kernels move by 2^-11 of themselves: far less than a pixel, but not equal.
    np.testing.assert_allclose(found["boxes"][0, :5], wanted["boxes"][:5], rtol=0, atol=0.5)
    np.testing.assert_allclose(found["confidence"][0], wanted["confidence"], rtol=0, atol=0.01)


def test_a_size_is_needed_where_the_canvas_is_not_fixed(model, tmp_path):
    model.resize = KeepSize()
    with pytest.raises(ValueError, match=r"KeepSize\(divisor=32\) has no fixed canvas: give size="):
        export_model(model, tmp_path / "m.tflite", format="litert")


class Foreign(RetinaNet):
    """A detector that decodes by an operation that LiteRT does not have."""

    def decode(self, outputs):
        detections = super().decode(outputs)
        return {**detections, "labels": tf.bitwise.bitwise_and(detections["labels"], 3)}


def test_an_operation_without_builtin_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="without a builtin: BitwiseAnd"):
        export_model(make(cls=Foreign), tmp_path / "m.tflite", format="litert")
    assert not list(tmp_path.iterdir())
