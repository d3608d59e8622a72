import numpy as np
import pytest

from kerasdet.export import export_model

from .conftest import assert_same, colour_blocks

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("tf2onnx")


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_model(model, path, format="onnx", size=(80, 100))
    return path


def run(content, images):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images})))


def test_images_of_the_pinned_size(model, path):
    images = [colour_blocks(80, 100, seed) for seed in range(2)]
    assert_same(run(path.read_bytes(), np.stack(images)), model.detect(images))
    with pytest.raises(Exception, match="Expected: 80"):
        run(path.read_bytes(), colour_blocks(64, 64)[None])


def test_images_of_any_size_without_the_pin(model, path):
    """One conversion for two tests: an export without a size is this file without its pin."""
    proto = onnx.load(path)
    dimensions = proto.graph.input[0].type.tensor_type.shape.dim
    dimensions[1].dim_param, dimensions[2].dim_param = "height", "width"
    for size in ((80, 100), (131, 97), (64, 64)):
        image = colour_blocks(*size)
        assert_same(run(proto.SerializeToString(), image[None]), model.detect([image]))


def test_the_file_is_valid_and_plain(path):
    proto = onnx.load(path)
    onnx.checker.check_model(proto)
    assert {opset.domain for opset in proto.opset_import} <= {"", "ai.onnx.ml"}
