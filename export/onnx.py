"""ONNX: onnxruntime and what else reads it."""

from pathlib import Path

from kerasdet.export.clone import float32_clone
from kerasdet.export.endpoint import fixed_size, make_endpoint
from kerasdet.files import atomic_write

OPSET = 17


def write(model, path, size=None):
    """Write an .onnx file for pictures (B, H, W, C) of a fixed size.

    Args:
        model: a built `Detector`; it is exported in float32.
        path: file to write, ending in .onnx.
        size: (H, W), or None for the model's canvas.

    Raises:
        ValueError: wrong ending or no size.
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

    size = fixed_size(model, size, "ONNX")
    function, spec = make_endpoint(float32_clone(model), size=size)
    converted, _ = tf2onnx.convert.from_function(
        tf.function(function),
        input_signature=[spec],
        opset=OPSET,
        custom_op_handlers={"SelectV2": (_select, [])},
    )
    with atomic_write(path) as temporary:
        temporary.write_bytes(converted.SerializeToString())


def _select(context, node, name, arguments):
    """Convert a selection as what it is: tf2onnx multiplies by 0 and adds, so that -inf becomes NaN."""
    node.type = "Where"
