"""Detectors as one file, or one SavedModel folder, from raw pixels to final boxes."""

from pathlib import Path

FORMATS = ("saved_model", "litert", "onnx")


def export_model(model, path, format="saved_model", size=None, quantize=None, num_proposals=None):
    """Write a detector that needs neither Keras nor this package to run.

    The exported function takes "images" (B, H, W, C) uint8, raw pixels, all of one size, and returns
    the result of `predict`, with the boxes in the images' own pixels: "boxes" (B, D, 4) xyxy float32,
    "labels" (B, D) int32, "confidence" (B, D) float32 and "num_detections" (B,) int32, by descending
    confidence, padded with -1. Models that predict masks or keypoints add "masks" (B, D, m, m) float32,
    relative to the boxes (`kerasdet.ops.paste_masks` pastes them into the image), or "keypoints"
    (B, D, P, 3) float32, x and y in the images' own pixels and a score. Models of given regions, such as
    `FastRCNN`, take a second input "proposals" (B, R, 4) float32 xyxy in the images' own pixels, padded
    with rows of zeros. The model's own `resize`, `score_threshold`, `iou_threshold` and
    `max_detections` are built in.

    Args:
        model: a built `Detector`.
        path: the file (LiteRT: .tflite, ONNX: .onnx) or folder (SavedModel) to write; an earlier
            export is replaced when the new one is complete.
        format: "saved_model" or "onnx" (any B, H and W), or "litert" (one image of one size).
        size: (H, W) of the images. None: any; for LiteRT the canvas of the model's `resize`, if that
            is fixed (`Fit`, `Stretch`).
        quantize: LiteRT only: "float16" stores the weights at half the size.
        num_proposals: R, for models that take proposals; None: any, if the format allows it.

    Returns:
        Path of the export.

    Raises:
        ValueError: unknown format or option, no size although one is needed, a wrong ending, or an
            operation that the format does not have.
        FileExistsError: `path` is a folder that holds something other than a SavedModel.
        ImportError: a package is missing; the message names the extra to install.
        OSError: the path cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"Unknown export format {format!r}; choose one of {', '.join(FORMATS)}.")
    if quantize is not None and (format != "litert" or quantize != "float16"):
        raise ValueError(
            f"quantize={quantize!r} is not available for {format}; LiteRT has quantize='float16'."
        )
    from kerasdet.export import litert, onnx, saved_model

    path = Path(path)
    if format == "saved_model":
        saved_model.write(model, path, size, num_proposals)
    elif format == "litert":
        litert.write(model, path, size, quantize, num_proposals)
    else:
        onnx.write(model, path, size, num_proposals)
    return path
