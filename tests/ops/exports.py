"""Functions as LiteRT and ONNX files that are run at once: what detectors' exports are made of."""

import tensorflow as tf

from kerasdet.export.onnx import OPSET, _select
from kerasdet.ops import native


def run_litert(function, inputs):
    """Convert with LiteRT's own operations alone, for the inputs' shapes, and run the file.

    Args:
        function: of tensors by name; gives a tensor or a tuple of them.
        inputs: {name: array}.

    Returns:
        List of arrays, in the order of the function's results.
    """
    from ai_edge_litert.interpreter import Interpreter

    specs = _specs(inputs, {name: value.shape for name, value in inputs.items()})
    concrete = _portable(function, inputs).get_concrete_function(*specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    runner = Interpreter(model_content=converter.convert()).get_signature_runner()
    results = runner(**inputs)
    return [results[name] for name in sorted(results)]


def run_onnx(function, inputs, shapes):
    """Convert to ONNX, as `kerasdet.export.onnx` does, and run the file.

    Args:
        function: of tensors by name; gives a tensor or a tuple of them.
        inputs: {name: array}.
        shapes: {name: shape}, None where any size will do.

    Returns:
        List of arrays, in the order of the function's results.
    """
    import onnxruntime
    import tf2onnx

    converted, _ = tf2onnx.convert.from_function(
        _portable(function, inputs),
        input_signature=_specs(inputs, shapes),
        opset=OPSET,
        custom_op_handlers={"SelectV2": (_select, [])},
    )
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    return session.run(None, inputs)


def _specs(inputs, shapes):
    return [tf.TensorSpec(shapes[name], value.dtype, name) for name, value in inputs.items()]


def _portable(function, names):
    """The function as exports see it: of tensors by position, in `keras.ops` alone."""

    def traced(*tensors):
        with native.portable():
            return tuple(tf.nest.flatten(function(**dict(zip(names, tensors)))))

    return tf.function(traced, autograph=False)
