"""The one loader of images: any file, PIL image or array becomes (H, W, 3) uint8 RGB.

Files are opened by these rules: only the formats of `FORMATS`, only regular files, at most
`max_pixels()` pixels.
"""

import os
import stat

import numpy as np
from PIL import (
    Image,
    TiffImagePlugin,  # noqa: F401 (registers TIFF: `Image.open(formats=...)` registers nothing)
    WebPImagePlugin,  # noqa: F401
)

# Pillow's names of what is opened. Others would start programs (EPS)
# or are read by nobody here. MPO, two JPEG files in one, is opened as JPEG.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 2**26  # 8192 x 8192: 0.5 GB while it is decoded.
_LARGEST_INTEGER = 65535
_STRIP = 2**20  # Pixels that are converted at once, so that no copy of a whole image is made.
_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)
# EXIF orientation: the image as it is shown -> a view of it as it is stored (EXIF 2.32).
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

    BMP, GIF, JPEG (and MPO), PNG, PPM, TIFF and WebP files are read. Gray, palette, CMYK and YCbCr
    images are converted; transparent pixels are laid on white; of several frames the first is
    taken. Gray levels of 16 and 32 bits are scaled by 255 / `gray_max`.

    Args:
        source: path, PIL image, or array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with pixels
            0..255.
        orient: apply the file's EXIF orientation.
        gray_max: the level that is white in gray images of 16 and 32 bits: 4095 where a camera of
            12 bits wrote them. By default 65535; for floats 255, or 1 where none is above 1.

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
    """Size of an image file, EXIF orientation applied, from its header alone.

    Args:
        path: an image file.

    Returns:
        (height, width) in pixels.

    Raises:
        FileNotFoundError, ValueError: as `load_image`.
    """
    height, width, orientation = stored_size(path)
    return (width, height) if orientation in _QUARTER_TURNS else (height, width)


def stored_size(path):
    """Size of an image file as it is stored and its EXIF orientation, from its header alone.

    Args:
        path: an image file.

    Returns:
        (height, width, orientation): pixels, and 1..8 as EXIF counts.

    Raises:
        FileNotFoundError, ValueError: as `load_image`.
    """
    with _opened(path) as image:
        width, height = image.size
        orientation = _orientation(image)
        if _is_turned_by_pillow(image) and orientation in _QUARTER_TURNS:
            height, width = width, height
    return height, width, orientation


def gray_range(path):
    """The levels of an image file with more than 8 bits for each, and what is white in it.

    Args:
        path: an image file.

    Returns:
        (highest level, level that is white unless `gray_max` says otherwise), or None for a file
        of 8 bits. In colour images of 16 bits the levels are known to 256 only.

    Raises:
        FileNotFoundError, ValueError: as `load_image`.
    """
    with _opened(path) as image:
        deep_gray = _is_deep_gray(image)
        if not deep_gray and not any(";16" in str(tile[3]) for tile in image.tile):
            return None
        levels = _pixels(image, _text(path))
    if deep_gray:
        highest = float(levels.max())
        return highest, (_float_white(highest) if levels.dtype.kind == "f" else _LARGEST_INTEGER)
    colours = levels[..., :-1] if image.mode.endswith("A") else levels
    return 256.0 * colours.max() + 255, _LARGEST_INTEGER


def max_pixels():
    """The most pixels of an image file that is opened; the variable KERASDET_MAX_PIXELS changes it.

    Raises:
        ValueError: the variable is no positive integer.
    """
    text = os.environ.get("KERASDET_MAX_PIXELS", "")
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"KERASDET_MAX_PIXELS={text!r}: it is a number of pixels, {MAX_PIXELS}.")
    return int(text)


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
        classes = _pixels(image, _text(path))
    if classes.ndim != 2:
        raise ValueError(f"{path}: a map of classes has one channel, this has {image.mode}.")
    void = classes == 255 if classes.dtype == "uint8" else False
    return np.where(void, -1, classes.astype("int32"))


def _text(path):
    """A path for messages, without characters that cannot be printed."""
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()


def _opened(path):
    """The image with its header read: a regular file, of a known format, not too large."""
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
        Image.MAX_IMAGE_PIXELS = limit  # Pillow's own limit; the user has asked for more.
    try:
        image = Image.open(path, formats=FORMATS)
    except PermissionError:
        raise ValueError(f"{name}: no permission to read this image.") from None
    except Image.DecompressionBombError as error:
        raise _too_large(name, str(error).partition(" exceeds")[0], limit) from None
    except Exception as error:  # Pillow's readers raise whatever a broken file leads them to.
        raise _undecodable(name, error) from error
    width, height = image.size
    if width * height > limit:
        image.close()
        raise _too_large(name, f"{width}x{height} pixels", limit)
    return image


def _too_large(name, size, limit):
    return ValueError(
        f"{name}: the image is too large ({size}; the limit is {limit} pixels); make it smaller or "
        "cut it into tiles, or set KERASDET_MAX_PIXELS to the pixels that memory has room for."
    )


def _undecodable(name, error):
    return ValueError(
        f"{name}: not an image that can be decoded, or cut short ({error}); "
        f"restore it or convert it to JPEG or PNG (read are {', '.join(FORMATS)})."
    )


def _orientation(image):
    """EXIF's 1..8, from what stands before the pixels."""
    try:
        # The base class's: PNG's own decodes all pixels, to find what stands behind them.
        orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # A broken EXIF block says nothing about the pixels.
        return 1
    return orientation if orientation in _AS_STORED else 1


def _is_turned_by_pillow(image):
    return image.format == "TIFF"


def _is_deep_gray(image):
    return image.mode.startswith("I") or image.mode == "F"


def _pixels(image, name):
    try:
        return np.asarray(image)
    except Exception as error:  # As in `_opened`.
        raise _undecodable(name, error) from error


def _to_rgb(image, name, orient, gray_max):
    orientation = _orientation(image)
    if _is_turned_by_pillow(image):  # Its pixels come as shown: stored ones are turned back.
        orientation, orient = {6: 8, 8: 6}.get(orientation, orientation), not orient
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
    return shown


def _loaded(image, name):
    """Decode an image; its (H, W) levels if it is gray of more than 8 bits, else None."""
    try:
        image.load()
        return np.asarray(image) if _is_deep_gray(image) else None
    except Exception as error:  # As in `_opened`.
        raise _undecodable(name, error) from error


def _strip(image, name, top, bottom):
    """Some rows of a decoded image, (bottom - top, W, 3) uint8."""
    try:
        if bottom - top < image.height:
            image = image.crop((0, top, image.width, bottom))
        if image.mode != "RGB" or image.has_transparency_data:
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        return _three_channels(np.asarray(image))
    except Exception as error:  # As in `_opened`.
        raise _undecodable(name, error) from error


def _white(levels, name, gray_max):
    """The level of a deep gray image that becomes 255."""
    low, high = levels.min(), levels.max()
    if gray_max is not None:
        white = gray_max
        if not white > 0:
            raise ValueError(f"gray_max is {white}; it is the level of white, above 0.")
    else:
        white = _float_white(high) if levels.dtype.kind == "f" else _LARGEST_INTEGER
    if not (low >= 0 and high <= white):  # NaN fails too.
        raise ValueError(
            f"{name}: gray levels {low}..{high} are outside 0..{white}; scale them, or name the "
            "level that is white (gray_max, --gray-max)."
        )
    return white


def _float_white(highest):
    return 1 if highest <= 1 else 255


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
