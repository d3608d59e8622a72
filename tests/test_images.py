import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kerasdet.data import load_image
from kerasdet.images import image_size, load_classes, stored_size

# 2 rows, 3 columns: every pixel is known by its red value.
RGB = np.array(
    [[[10, 0, 0], [20, 0, 0], [30, 0, 0]], [[40, 0, 0], [50, 0, 0], [60, 0, 0]]], "uint8"
)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def oriented(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(path, Image.fromarray(RGB), exif=exif)


# Where the stored rows and columns come to lie (EXIF 2.32, tag Orientation).
ORIENTATIONS = {
    1: [[10, 20, 30], [40, 50, 60]],
    2: [[30, 20, 10], [60, 50, 40]],
    3: [[60, 50, 40], [30, 20, 10]],
    4: [[40, 50, 60], [10, 20, 30]],
    5: [[10, 40], [20, 50], [30, 60]],
    6: [[40, 10], [50, 20], [60, 30]],
    7: [[60, 30], [50, 20], [40, 10]],
    8: [[30, 60], [20, 50], [10, 40]],
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied(tmp_path, orientation):
    path = oriented(tmp_path / "a.png", orientation)
    expected = np.array(ORIENTATIONS[orientation])
    assert load_image(path)[..., 0].tolist() == expected.tolist()
    assert image_size(path) == expected.shape
    assert load_image(path, orient=False)[..., 0].tolist() == RGB[..., 0].tolist()


def test_gray_becomes_three_equal_channels(tmp_path):
    gray = np.array([[0, 128], [200, 255]], "uint8")
    image = load_image(saved(tmp_path / "a.png", Image.fromarray(gray)))
    assert image.dtype == "uint8"
    assert image.tolist() == np.stack([gray] * 3, -1).tolist()


def test_sixteen_bits_are_scaled_not_cut(tmp_path):
    gray = np.array([[0, 257, 32896, 65535]], "uint16")
    image = load_image(saved(tmp_path / "a.png", Image.fromarray(gray)))
    assert image[0, :, 1].tolist() == [0, 1, 128, 255]


def test_black_and_white_bits(tmp_path):
    bits = Image.fromarray(np.array([[0, 255]], "uint8")).convert("1")
    assert load_image(saved(tmp_path / "a.png", bits))[0, :, 0].tolist() == [0, 255]


def test_cmyk_jpeg_has_its_colours(tmp_path):
    red = Image.new("RGB", (16, 16), (220, 30, 40)).convert("CMYK")
    image = load_image(saved(tmp_path / "a.jpg", red, quality=95))
    np.testing.assert_allclose(image.mean((0, 1)), [220, 30, 40], atol=8)


def test_palette_is_looked_up(tmp_path):
    image = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE)
    assert load_image(saved(tmp_path / "a.png", image)).tolist() == RGB.tolist()


def test_transparent_pixels_lie_on_white(tmp_path):
    rgba = np.array([[[100, 0, 0, 255], [100, 0, 0, 0], [100, 0, 0, 51]]], "uint8")
    expected = [[[100, 0, 0], [255, 255, 255], [224, 204, 204]]]  # 100 / 5 + 255 * 4 / 5 = 224
    assert load_image(saved(tmp_path / "a.png", Image.fromarray(rgba))).tolist() == expected
    assert load_image(rgba).tolist() == expected
    la = Image.fromarray(np.array([[[8, 0], [8, 255]]], "uint8"), "LA")
    assert load_image(saved(tmp_path / "b.png", la))[0, :, 2].tolist() == [255, 8]
    palette = Image.fromarray(np.array([[0, 1]], "uint8"))
    palette.putpalette([9, 9, 9, 7, 7, 7])
    path = saved(tmp_path / "c.png", palette, transparency=0)
    assert load_image(path)[0, :, 0].tolist() == [255, 7]


def test_arrays_and_pil_images():
    assert load_image(RGB).tolist() == RGB.tolist()
    assert load_image(Image.fromarray(RGB)).tolist() == RGB.tolist()
    assert load_image(RGB[..., 0]).tolist() == load_image(RGB[..., :1]).tolist()
    assert load_image(RGB[..., 0]).shape == (2, 3, 3)
    assert load_image(RGB.astype("float32") + 0.4).tolist() == [
        [[10, 0, 0], [20, 0, 0], [30, 0, 0]],
        [[40, 0, 0], [50, 0, 0], [60, 0, 0]],
    ]
    assert load_image(np.zeros((2, 2, 3), "float32")).max() == 0


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RGB / 255.0, "0..1: multiply by 255"),
        (RGB.astype("float32") - 20, "values -20.0..40.0"),
        (RGB.astype("uint16") * 100, "dtype uint16 and values 0..6000"),
        (np.full((2, 2, 3), np.nan), "values nan..nan"),
        (np.full((2, 2), "a"), "dtype <U1"),
        (RGB > 20, "dtype bool"),
        (RGB[None], re.escape("shape (1, 2, 3, 3)")),
        (np.zeros((4, 4, 2), "uint8"), re.escape("shape (4, 4, 2)")),
        (np.zeros((0, 4, 3), "uint8"), re.escape("shape (0, 4, 3)")),
    ],
)
def test_wrong_arrays_are_refused(array, message):
    with pytest.raises(ValueError, match=message):
        load_image(array)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg: there is no such image"):
        load_image(tmp_path / "gone.jpg")
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        image_size(tmp_path / "gone.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tif"])
def test_truncated_file_is_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype("uint8")
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix))
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(ValueError, match=rf"cut\.{suffix}: .*cut short"):
        load_image(path)


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(ValueError, match=r"text\.jpg: not an image"):
        load_image(tmp_path / "text.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.jpg: the file is empty"):
        load_image(tmp_path / "empty.jpg")
    with pytest.raises(ValueError, match="is a folder"):
        load_image(tmp_path)


def test_class_maps_keep_their_numbers(tmp_path):
    classes = np.array([[0, 200], [3, 7]], "uint8")
    assert load_classes(saved(tmp_path / "a.png", Image.fromarray(classes))).tolist() == [
        [0, 200],
        [3, 7],
    ]
    palette = Image.fromarray(classes)
    palette.putpalette([1, 2, 3] * 256)
    assert load_classes(saved(tmp_path / "b.png", palette)).tolist() == classes.tolist()
    with pytest.raises(ValueError, match="one channel"):
        load_classes(saved(tmp_path / "c.png", Image.fromarray(RGB)))


def test_255_is_void_in_maps_of_8_bits(tmp_path):
    classes = np.array([[0, 254], [255, 7]])
    narrow = saved(tmp_path / "a.png", Image.fromarray(classes.astype("uint8")))
    assert load_classes(narrow).tolist() == [[0, 254], [-1, 7]]
    assert load_classes(narrow).dtype == np.int32
    wide = saved(tmp_path / "b.png", Image.fromarray(classes.astype("uint16")))
    assert load_classes(wide).tolist() == [[0, 254], [255, 7]]


def png(width, height, pixels=b""):
    """A PNG file's bytes whose header states a size, whatever its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", ["tif", "webp", "jpg"])
def test_orientation_in_every_format(tmp_path, suffix, orientation):
    """Pillow turns TIFF files itself: they are turned once here, and not at all where asked."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    large = np.kron(RGB, np.ones((16, 16, 1), "uint8")) * 4
    options = {"quality": 95} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(large).save(path, exif=exif, **options)
    expected = np.array(ORIENTATIONS[orientation])
    assert image_size(path) == tuple(16 * side for side in expected.shape)
    found = load_image(path)[8::16, 8::16, 0] / 4
    np.testing.assert_allclose(found, expected, atol=2)
    as_stored = load_image(path, orient=False)[8::16, 8::16, 0] / 4
    np.testing.assert_allclose(as_stored, RGB[..., 0], atol=2)
    assert stored_size(path) == (32, 48, orientation)


def test_a_size_comes_from_the_header_alone(tmp_path):
    """57 bytes that promise 64 million pixels: no pixel is decoded, no memory is taken."""
    path = tmp_path / "promise.png"
    path.write_bytes(png(8000, 8000))
    assert path.stat().st_size == 57
    assert image_size(path) == (8000, 8000)
    with pytest.raises(ValueError, match=r"promise\.png: .*cut short"):
        load_image(path)


def test_images_above_the_limit_are_refused_with_the_setting(tmp_path, monkeypatch):
    for width, height in ((8193, 8192), (14000, 14000), (2**31 - 1, 2**31 - 1)):
        (tmp_path / "large.png").write_bytes(png(width, height))
        for ask in (image_size, load_image, load_classes):
            with pytest.raises(ValueError, match=r"large\.png: the image is too large") as caught:
                ask(tmp_path / "large.png")
            assert "the limit is 67108864 pixels" in str(caught.value)
            assert "set KERASDET_MAX_PIXELS" in str(caught.value)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setenv("KERASDET_MAX_PIXELS", str(14000 * 14000))
    (tmp_path / "large.png").write_bytes(png(14000, 14000))
    assert image_size(tmp_path / "large.png") == (14000, 14000)
    monkeypatch.setenv("KERASDET_MAX_PIXELS", "100")
    (tmp_path / "large.png").write_bytes(png(11, 10))
    with pytest.raises(ValueError, match=r"too large \(11x10 pixels; the limit is 100 pixels\)"):
        load_image(tmp_path / "large.png")
    monkeypatch.setenv("KERASDET_MAX_PIXELS", "many")
    with pytest.raises(
        ValueError, match="KERASDET_MAX_PIXELS='many': it must be a number of pixels"
    ):
        load_image(tmp_path / "large.png")


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path):
    saved(tmp_path / "a.jpg", Image.new("L", (64, 64), 77), progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    assert load_image(tmp_path / "a.jpg").shape == (64, 64, 3)
    scan = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(data[:-2] + scan * 200 + data[-2:])
    with pytest.raises(ValueError, match=r"a\.jpg: the JPEG has 2\d\d scans, and at most 100"):
        load_image(tmp_path / "a.jpg")


def test_images_of_many_strips_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("kerasdet.images._STRIP", 7)
    for orientation, expected in ORIENTATIONS.items():
        assert load_image(oriented(tmp_path / "a.png", orientation))[..., 0].tolist() == expected


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
        b"\x00\x00\x01\x00\x01\x00\x10\x10\x00\x00\x01\x00\x20\x00\x68\x04\x00\x00",  # ICO
        b"8BPS\x00\x01" + bytes(20),  # PSD
        b"\xd7\xcd\xc6\x9a" + bytes(40),  # WMF
        b"GRIB" + bytes(40),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_other_formats_are_not_opened(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"a\.jpg: not an image .*readable formats: BMP, GIF, JPEG, PNG"
    ):
        load_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpg", "png", "ppm", "tif", "webp"])
def test_formats_that_are_opened(tmp_path, suffix):
    large = Image.fromarray(np.full((32, 48, 3), 100, "uint8"))
    image = load_image(saved(tmp_path / f"a.{suffix}", large))
    np.testing.assert_allclose(image, np.full((32, 48, 3), 100), atol=2)


def test_pairs_of_jpegs_are_read_as_the_first(tmp_path):
    large = Image.fromarray(np.full((32, 48, 3), 100, "uint8"))
    black = Image.new("RGB", (48, 32))
    large.save(tmp_path / "a.mpo", save_all=True, append_images=[black])
    np.testing.assert_allclose(load_image(tmp_path / "a.mpo"), np.full((32, 48, 3), 100), atol=2)


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for ask in (load_image, image_size, load_classes):
        with pytest.raises(ValueError, match=r"pipe\.jpg is not a regular file but a pipe"):
            ask(tmp_path / "pipe.jpg")
    with pytest.raises(ValueError, match="/dev/zero is not a regular file"):
        load_image("/dev/zero")


@pytest.mark.parametrize("name", ["a\0b.png", "a" * 5000, "\ud800\0.png"])
def test_names_that_no_file_has(tmp_path, name):
    with pytest.raises(ValueError, match="no file can have this name") as caught:
        load_image(tmp_path / name)
    assert str(caught.value).encode("utf-8")


def test_floats_up_to_one_are_shares_in_files(tmp_path):
    shares = np.array([[0, 0.5, 1]], "float32")
    assert load_image(saved(tmp_path / "a.tif", Image.fromarray(shares)))[0, :, 0].tolist() == [
        *(0, 128, 255)
    ]
    levels = np.array([[0, 1.6, 254.4]], "float32")
    assert load_image(saved(tmp_path / "b.tif", Image.fromarray(levels)))[0, :, 0].tolist() == [
        *(0, 2, 254)
    ]
    wrong = np.array([[0, np.nan]], "float32")
    with pytest.raises(ValueError, match=r"c\.tif: gray levels nan\.\.nan are outside"):
        load_image(saved(tmp_path / "c.tif", Image.fromarray(wrong)))


def test_a_deep_tiff_whose_zero_is_white(tmp_path):
    path = saved(tmp_path / "a.tif", Image.fromarray(np.array([[0, 32768, 65535]], "uint16")))
    data = path.read_bytes()
    black_is_zero, white_is_zero = (struct.pack("<HHIHH", 262, 3, 1, v, 0) for v in (1, 0))
    assert data.count(black_is_zero) == 1
    path.write_bytes(data.replace(black_is_zero, white_is_zero))
    assert load_image(path)[0, :, 0].tolist() == [255, 127, 0]


def test_images_without_pixels_are_refused():
    with pytest.raises(ValueError, match="the PIL image has no pixels: its size is 0x5"):
        load_image(Image.new("RGB", (0, 5)))


def test_the_white_level_can_be_named(tmp_path):
    gray = np.array([[0, 2048, 4095]], "uint16")
    path = saved(tmp_path / "a.png", Image.fromarray(gray))
    assert load_image(path, gray_max=4095)[0, :, 0].tolist() == [0, 128, 255]
    assert load_image(path)[0, :, 0].tolist() == [0, 8, 16]
    with pytest.raises(ValueError, match="gray_max is 0; it must be the level of white, above 0"):
        load_image(path, gray_max=0)
    # Images of 8 bits have one white.
    plain = saved(tmp_path / "b.png", Image.fromarray(RGB))
    assert load_image(plain, gray_max=60).tolist() == RGB.tolist()
