"""The one loader of images: any file, PIL image or array becomes (H, W, 3) uint8 RGB.

Files are opened by these rules: only the formats in `FORMATS`, only regular files, at most
`max_pixels()` pixels, at most `MOST_SCANS` scans of a JPEG.
"""

import os
import stat
import warnings

import numpy as np
from PIL import (
    Image,
    TiffImagePlugin,  # noqa: F401 (registers TIFF: `Image.open(formats=...)` registers nothing)
    WebPImagePlugin,  # noqa: F401
)

# Pillow's names of the formats that are opened. Other formats would start programs (EPS) or are
# not used here. MPO, two JPEG files in one, is opened as JPEG.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 2**26  # 8192 x 8192, 0.5 GB during decoding
MOST_SCANS = 100  # of a JPEG; cameras and programs write at most about ten
_LARGEST_INTEGER = 65535
_STRIP = 2**20  # pixels converted at once, to avoid a copy of a whole image
_USUAL_WHITES = (255, 1023, 4095, 16383)  # of cameras of 8, 10, 12 and 14 bits
_ORIENTATION = 0x0112
_PHOTOMETRIC = 262  # TIFF 6.0, PhotometricInterpretation: 0 is WhiteIsZero
_QUARTER_TURNS = (5, 6, 7, 8)
# EXIF orientation: from the image as shown to a view of it as stored (EXIF 2.32).
_AS_STORED = {
    1: lambda shown: shown,
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: shown.swapaxes(0, 1),
    6: lambda shown: np.rot90(shown),
    7: lambda shown: shown[::-1, ::-1].swapaxes(0, 1),
    8: lambda shown: np.rot90(shown, -1),
}


def load_image(source, orient=True, gray_max=None):
    """Load an image as RGB.

    The function reads BMP, GIF, JPEG (and MPO), PNG, PPM, TIFF and WebP files. Gray, palette, CMYK and
    YCbCr images are converted. Transparent pixels are drawn on white. Of several frames, the first is
    used. Gray levels of 16 and 32 bits are scaled by 255 / `gray_max`.

    An image of more than 8 bits that is nearly black gives a warning.

    Args:
        source: path, PIL image, or array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with pixels
            0..255.
        orient: whether to apply the file's EXIF orientation.
        gray_max: the level of white in gray images of 16 and 32 bits, such as 4095 for a camera of
            12 bits. By default 65535; for floats 255, or 1 if no level is above 1.

    Returns:
        (H, W, 3) uint8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not an image, of another format, cut short, larger than `max_pixels()`, or an
            array of another shape, dtype or range; the message names the file or the value.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source, "the PIL image", orient, gray_max)
    if isinstance(source, (str, os.PathLike)):
        with _opened(source) as image:
            return _to_rgb(image, _text(source), orient, gray_max)
    return _from_array(np.asarray(source))


def image_size(path):
    """Read the size of an image file, with EXIF orientation applied, from its header.

    Args:
        path: an image file.

    Returns:
        (height, width) in pixels.

    Raises:
        FileNotFoundError, ValueError: as for `load_image`.
    """
    height, width, orientation = stored_size(path)
    return (width, height) if orientation in _QUARTER_TURNS else (height, width)


def stored_size(path):
    """Read the stored size of an image file and its EXIF orientation from its header.

    Args:
        path: an image file.

    Returns:
        (height, width, orientation): pixels, and 1..8 as in EXIF.

    Raises:
        FileNotFoundError, ValueError: as for `load_image`.
    """
    with _opened(path) as image:
        width, height = image.size
        orientation = _orientation(image)
        if _is_turned_by_pillow(image) and orientation in _QUARTER_TURNS:
            height, width = width, height
    return height, width, orientation


def darkness(path, gray_max=None):
    """Say what is wrong with the levels of an image file of more than 8 bits.

    Args:
        path: an image file.
        gray_max: as for `load_image`.

    Returns:
        What to do about an image that is nearly black, or None.

    Raises:
        FileNotFoundError, ValueError: as for `load_image`.
    """
    with _opened(path) as image:
        if _is_deep_gray(image):
            levels = _loaded(image, _text(path))
            return _gray_darkness(levels, gray_max or _usual_white(levels))
        if _is_deep_colour(image):
            return _colour_darkness(_pixels(image, _text(path)))
    return None


def max_pixels():
    """Return the largest number of pixels in an image file; the variable KERASDET_MAX_PIXELS sets it.

    Raises:
        ValueError: the variable is not a positive integer.
    """
    text = os.environ.get("KERASDET_MAX_PIXELS", "")
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"KERASDET_MAX_PIXELS={text!r}: it must be a number of pixels, such as {MAX_PIXELS}."
        )
    return int(text)


def load_classes(path):
    """Load an image whose pixels are class numbers (8 or 16 bits; for a palette, the indices).

    Args:
        path: a gray or palette PNG.

    Returns:
        (H, W) int32; -1 for 255 in a file of 8 bits, which VOC and COCO write for void pixels.

    Raises:
        FileNotFoundError, ValueError: as for `load_image`, or the image has several channels.
    """
    with _opened(path) as image:
        classes = _pixels(image, _text(path))
    if classes.ndim != 2:
        raise ValueError(
            f"{path}: a map of classes must have one channel, but this has {image.mode}."
        )
    void = classes == 255 if classes.dtype == "uint8" else False
    return np.where(void, -1, classes.astype("int32"))


def _text(path):
    """Return a path for messages, without unprintable characters."""
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()


def _opened(path):
    """Open a regular file of a known format that is not too large, and read its header."""
    name = _text(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: there is no such image.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: no file can have this name ({error}); correct it.") from None
    if stat.S_ISDIR(status.st_mode):
        raise ValueError(f"{name} is a folder, not an image; name the images in it.")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{name} is not a regular file but a pipe or device; name an image file.")
    if status.st_size == 0:
        raise ValueError(f"{name}: the file is empty; restore the image.")
    limit = max_pixels()
    if Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit  # Pillow's own limit, which the user has raised
    try:
        image = Image.open(path, formats=FORMATS)
    except PermissionError:
        raise ValueError(f"{name}: no permission to read this image.") from None
    except Image.DecompressionBombError as error:
        raise _too_large(name, str(error).partition(" exceeds")[0], limit) from None
    except Exception as error:  # on broken files, Pillow's readers raise any error
        raise _undecodable(name, error) from error
    width, height = image.size
    if width * height > limit:
        image.close()
        raise _too_large(name, f"{width}x{height} pixels", limit)
    return image


def _too_large(name, size, limit):
    return ValueError(
        f"{name}: the image is too large ({size}; the limit is {limit} pixels); make it smaller or "
        "cut it into tiles, or set KERASDET_MAX_PIXELS to the pixels that fit into memory."
    )


def _undecodable(name, error):
    return ValueError(
        f"{name}: not an image that can be decoded, or cut short ({error}); "
        f"restore it or convert it to JPEG or PNG (readable formats: {', '.join(FORMATS)})."
    )


def _orientation(image):
    """Return EXIF's 1..8, from the data before the pixels."""
    try:
        # The base class's method: PNG's own decodes all pixels, to find what comes after them.
        orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return 1
    return orientation if orientation in _AS_STORED else 1


def _is_turned_by_pillow(image):
    return image.format == "TIFF"


def _is_deep_gray(image):
    return image.mode.startswith("I") or image.mode == "F"


def _is_deep_colour(image):
    """Tell whether the file, not yet decoded, has colours of 16 bits; Pillow keeps the upper eight."""
    return not _is_deep_gray(image) and any(
        ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
    )


def _is_white_zero(image):
    return image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0


def _gray_darkness(levels, white):
    highest = float(levels.max())  # 16 bits would overflow
    if highest * 4 > white:
        return None
    likely = next((level for level in _USUAL_WHITES if highest <= level), None)
    likely = f"such as gray_max={likely} (--gray-max {likely})" if likely else "gray_max"
    return (
        f"its levels reach {highest:.0f} where white is {white}, so it is nearly black; give the level of "
        f"white, {likely}"
    )


def _colour_darkness(colours):
    """Judge colours (H, W, C) of which Pillow has kept the upper 8 of 16 bits."""
    if colours.ndim == 3 and colours.shape[-1] in (2, 4):  # the last channel is opacity
        colours = colours[..., :-1]
    highest = 256 * int(colours.max()) + 255
    if highest * 4 > _LARGEST_INTEGER:
        return None
    return (
        f"its levels reach {highest} where white is {_LARGEST_INTEGER}, so it is nearly black, and only the "
        "upper 8 of 16 bits of colours are read; save it with 8 bits, scaled to 0..255"
    )


def _pixels(image, name):
    _refuse_endless(image, name)
    try:
        return np.asarray(image)
    except Exception as error:  # as in `_opened`
        raise _undecodable(name, error) from error


def _to_rgb(image, name, orient, gray_max):
    orientation = _orientation(image)
    if _is_turned_by_pillow(image):  # its pixels come as shown; turn them back to the stored ones
        orientation, orient = {6: 8, 8: 6}.get(orientation, orientation), not orient
    deep_colour = _is_deep_colour(image)
    levels = _loaded(image, name)
    width, height = image.size
    if width * height == 0:
        raise ValueError(f"{name} has no pixels: its size is {width}x{height}.")
    white = None if levels is None else _white(levels, name, gray_max)
    turned = orient and orientation in _QUARTER_TURNS
    shown = np.empty((width, height, 3) if turned else (height, width, 3), "uint8")
    stored = _AS_STORED[orientation if orient else 1](shown)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        if levels is None:
            stored[top:bottom] = _strip(image, name, top, bottom)
        else:
            stored[top:bottom] = _scaled(levels[top:bottom], white)[..., None]
    dark = (
        _colour_darkness(shown)
        if deep_colour
        else levels is not None and _gray_darkness(levels, white)
    )
    if dark:
        warnings.warn(f"{name}: {dark}.", stacklevel=3)
    if levels is not None and _is_white_zero(image):
        np.subtract(255, shown, out=shown)
    return shown


def _refuse_endless(image, name):
    """Refuse a JPEG that tells each pixel thousands of times: a file of 300 kB can take minutes."""
    if image.format not in ("JPEG", "MPO") or getattr(image, "fp", None) is None:
        return
    place = image.fp.tell()
    image.fp.seek(0)
    scans = image.fp.read().count(b"\xff\xda")  # start of scan, which no compressed pixels contain
    image.fp.seek(place)
    if scans > MOST_SCANS:
        raise ValueError(
            f"{name}: the JPEG has {scans} scans, and at most {MOST_SCANS} are decoded; save it again."
        )


def _loaded(image, name):
    """Decode an image; return its (H, W) levels if it is gray with more than 8 bits, otherwise None."""
    _refuse_endless(image, name)
    try:
        image.load()
        return np.asarray(image) if _is_deep_gray(image) else None
    except Exception as error:  # as in `_opened`
        raise _undecodable(name, error) from error


def _strip(image, name, top, bottom):
    """Return some rows of a decoded image, (bottom - top, W, 3) uint8."""
    try:
        if bottom - top < image.height:
            image = image.crop((0, top, image.width, bottom))
        if image.mode != "RGB" or image.has_transparency_data:
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        return _three_channels(np.asarray(image))
    except Exception as error:  # as in `_opened`
        raise _undecodable(name, error) from error


def _white(levels, name, gray_max):
    """Return the level of a deep gray image that becomes 255."""
    low, high = levels.min(), levels.max()
    if gray_max is not None:
        white = gray_max
        if not white > 0:
            raise ValueError(f"gray_max is {white}; it must be the level of white, above 0.")
    else:
        white = _usual_white(levels)
    if not (low >= 0 and high <= white):  # NaN fails too
        raise ValueError(
            f"{name}: gray levels {low}..{high} are outside 0..{white}; scale them, or give the "
            "level of white (gray_max, --gray-max)."
        )
    return white


def _usual_white(levels):
    if levels.dtype.kind == "f":
        return 1 if levels.max() <= 1 else 255
    return _LARGEST_INTEGER


def _scaled(levels, white):
    if levels.dtype.kind == "f" or white != int(white):
        return np.round(levels * (255 / white)).astype("uint8")
    return ((levels.astype("uint64") * 255 + int(white) // 2) // int(white)).astype("uint8")


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
            f"an image must be an array (height, width, 3), (height, width), (height, width, 1) or "
            f"(height, width, 4), not one of shape {array.shape} and dtype {array.dtype}."
        )
    return _three_channels(_as_uint8(array, "the array"))


def _as_uint8(pixels, name):
    if pixels.dtype == "uint8":
        return pixels
    if pixels.dtype.kind not in "uif":
        raise ValueError(f"{name} has dtype {pixels.dtype}; pixels must be numbers 0..255 (uint8).")
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 255):  # NaN fails too
        raise ValueError(
            f"{name} has dtype {pixels.dtype} and values {low}..{high}; pixels must be 0..255: "
            "scale them."
        )
    if pixels.dtype.kind == "f" and 0 < high <= 1:
        raise ValueError(
            f"{name} has values {low}..{high}; pixels must be 0..255, not 0..1: multiply by 255."
        )
    return np.round(pixels).astype("uint8")
