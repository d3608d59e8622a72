"""LiteRT (TensorFlow Lite), for phones and small boards, with the runtime's builtin operations only."""

import re
import tempfile
from pathlib import Path

from kerasdet.export.clone import float32_clone
from kerasdet.export.saved_model import write_archive
from kerasdet.files import atomic_write


def write(model, path, size=None, quantize=None, num_proposals=None):
    """Write a .tflite file for one image (1, H, W, C) of a fixed size.

    Args:
        model: a built `Detector`; it is exported in float32.
        path: file to write, ending in .tflite.
        size: (H, W), or None for the model's canvas.
        quantize: None, or "float16": weights at half the size, computed in float32.
        num_proposals: R, for models that take proposals.

    Raises:
        ValueError: wrong ending, no size, or an operation that is not a builtin of LiteRT.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f"{path}: the name of a LiteRT file must end in .tflite.")
    if num_proposals is None and "proposals" in model.INPUTS:
        raise ValueError(
            f"LiteRT takes a fixed number of proposals, which {type(model).__name__} needs: give "
            "num_proposals=2000, for example."
        )
    size = _canvas(model.resize) if size is None else size
    content = _convert(model, size, quantize, num_proposals)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _canvas(resize):
    """Return the fixed canvas of a resize part, because LiteRT takes images of one size."""
    small, large = (resize.canvas_size(*resize.target_size(n, n)) for n in (64, 4096))
    if small != large:
        raise ValueError(
            f"LiteRT takes images of one size, but {resize} has no fixed canvas: "
            "give size=(height, width)."
        )
    return small


def _convert(model, size, quantize, num_proposals):
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        endpoint = {"size": size, "batch_size": 1, "num_proposals": num_proposals}
        write_archive(float32_clone(model), folder, **endpoint)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        # SELECT_TF_OPS would convert anything, but into files that LiteRT's own runtime cannot load.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            return converter.convert()
        except Exception as error:  # the converter's own error class is not public
            missing = sorted(set(re.findall(r"tf\.(\w+)' op is neither", str(error))))
            raise ValueError(
                f"{type(model).__name__} does not convert to LiteRT with builtin operations alone; "
                f"without a builtin: {', '.join(missing) or 'see the log above'}."
            ) from error
