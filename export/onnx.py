"""ONNX, for onnxruntime and all other readers of the format."""

from pathlib import Path

from kerasdet.export.clone import float32_clone
from kerasdet.export.endpoint import make_endpoint
from kerasdet.files import atomic_write

OPSET = 17


def write(model, path, size=None, num_proposals=None):
    """Write an .onnx file for images (B, H, W, C) of any number and size.

    Args:
        model: a built `Detector`; it is exported in float32.
        path: file to write, ending in .onnx.
        size: (H, W) of the input, for runtimes that need a fixed size; or None.
        num_proposals: R, or None for any; for models that take proposals.

    Raises:
        ValueError: wrong ending.
        ImportError: tf2onnx is missing.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"{path}: the name of an ONNX file must end in .onnx.")
    try:
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            "ONNX export needs tf2onnx: install it with `pip install kerasdet[onnx]`."
        ) from error
    import tensorflow as tf

    # Traced for any size, even if one is given: for a size that it knows, tf2onnx resizes by float32
    # factors, and 80 * float32(51 / 80) rounds down to 50.
    function, specs = make_endpoint(float32_clone(model), num_proposals=num_proposals)
    converted, _ = tf2onnx.convert.from_function(
        tf.function(function, autograph=False),
        input_signature=specs,
        opset=OPSET,
        custom_op_handlers={"SelectV2": (_select, [])},
    )
    if size is not None:
        dimensions = converted.graph.input[0].type.tensor_type.shape.dim
        dimensions[1].dim_value, dimensions[2].dim_value = size
    with atomic_write(path) as temporary:
        temporary.write_bytes(converted.SerializeToString())


def _select(context, node, name, arguments):
    """Convert a selection directly: tf2onnx multiplies by 0 and adds, which turns -inf into NaN."""
    node.type = "Where"
