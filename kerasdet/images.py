"""The one loader of images: any file, PIL image or array becomes (H, W, 3) uint8 RGB."""

import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
_DECODING_ERRORS += (Image.DecompressionBombError, IndexError, TypeError, MemoryError)
_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)


def load_image(source, orient=True):
    """Load an image as RGB.

    Gray, palette, CMYK and YCbCr images are converted; transparent pixels are laid on white;
    16-bit gray is scaled by 255/65535; of several frames the first is taken.

    Args:
        source: path, PIL image, or array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with pixels
            0..255.
        orient: apply the file's EXIF orientation.

    Returns:
        (H, W, 3) uint8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not an image, cut short, or an array of another shape, dtype or range; the
            message names the file or the value.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source, "the PIL image", orient)
    if isinstance(source, (str, os.PathLike)):
        with _opened(source) as image:
            return _to_rgb(image, os.fspath(source), orient)
    return _from_array(np.asarray(source))


def image_size(path):
    """Size of an image file, EXIF orientation applied, from its header alone.

    Args:
        path: an image file.

    Returns:
        (height, width) in pixels.

    Raises:
        FileNotFoundError, ValueError: as `load_image`.
    """
    with _opened(path) as image:
        width, height = image.size
        turned = _orientation(image) in _QUARTER_TURNS
    return (width, height) if turned else (height, width)


def load_classes(path):
    """Load an image whose pixels are class numbers (8 or 16 bits; of a palette, the indices).

    Args:
        path: a gray or palette PNG.

    Returns:
        (H, W) int32; -1 where a file of 8 bits has 255, which VOC and COCO write for void pixels.

    Raises:
        FileNotFoundError, ValueError: as `load_image`, or the image has several channels.
    """
    with _opened(path) as image:
        try:
            classes = np.asarray(image)
        except _DECODING_ERRORS as error:
            raise _undecodable(path, error) from error
    if classes.ndim != 2:
        raise ValueError(f"{path}: a map of classes has one channel, this has {image.mode}.")
    void = classes == 255 if classes.dtype == "uint8" else False
    return np.where(void, -1, classes.astype("int32"))


def _opened(path):
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder, not an image; name the images in it.")
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such image.") from None
    except PermissionError:
        raise ValueError(f"{path}: no permission to read this image.") from None
    except _DECODING_ERRORS as error:
        if os.path.getsize(path) == 0:
            raise ValueError(f"{path}: the file is empty; restore the image.") from None
        raise _undecodable(path, error) from error


def _undecodable(path, error):
    return ValueError(
        f"{path}: not an image that can be decoded, or cut short ({error}); "
        "restore it or convert it to JPEG or PNG."
    )


def _orientation(image):
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except _DECODING_ERRORS:
        return 1  # A broken EXIF block says nothing about the pixels.


def _to_rgb(image, name, orient):
    try:
        image.load()
        if orient and _orientation(image) in range(2, 9):
            image = ImageOps.exif_transpose(image)
        deep = image.mode.startswith("I") or image.mode == "F"
        if not deep:
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        pixels = np.asarray(image)
    except _DECODING_ERRORS as error:
        raise _undecodable(name, error) from error
    return _from_deep_gray(pixels, name) if deep else _three_channels(pixels)


def _from_deep_gray(gray, name):
    """(H, W) of 16-bit integers, or of floats 0..255."""
    if gray.dtype.kind != "f":
        if gray.min() < 0 or gray.max() > 65535:
            raise ValueError(
                f"{name}: gray levels {gray.min()}..{gray.max()} are outside 0..65535; scale them."
            )
        gray = (gray.astype("uint32") * 255 + 32767) // 65535
    return _three_channels(_as_uint8(gray, name)[..., None])


def _on_white(rgba):
    alpha = rgba[..., 3:].astype("uint32")
    colour = rgba[..., :3].astype("uint32") * alpha + 255 * (255 - alpha)
    return ((colour + 127) // 255).astype("uint8")


def _three_channels(image):
    if image.shape[-1] == 4:
        return _on_white(image)
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _from_array(array):
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(
            f"an image is an array (height, width, 3), (height, width), (height, width, 1) or "
            f"(height, width, 4), not one of shape {array.shape} and dtype {array.dtype}."
        )
    return _three_channels(_as_uint8(array, "the array"))


def _as_uint8(pixels, name):
    if pixels.dtype == "uint8":
        return pixels
    if pixels.dtype.kind not in "uif":
        raise ValueError(f"{name} has dtype {pixels.dtype}; pixels are numbers 0..255 (uint8).")
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 255):  # NaN fails too.
        raise ValueError(
            f"{name} has dtype {pixels.dtype} and values {low}..{high}; pixels are 0..255: "
            "scale them."
        )
    if pixels.dtype.kind == "f" and 0 < high <= 1:
        raise ValueError(
            f"{name} has values {low}..{high}; pixels are 0..255, not 0..1: multiply by 255."
        )
    return np.round(pixels).astype("uint8")
