import io
import re

import numpy as np
import pytest
from PIL import Image

from kerasdet.data import load_image
from kerasdet.images import image_size, load_classes

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
