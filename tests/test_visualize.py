from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from kerasdet.visualize import as_rgb, class_color, contact_sheet, draw, draw_sampled_points

ORANGE, SKY = (230, 159, 0), (86, 180, 233)
GREY = np.full((200, 300, 3), 100, "uint8")
NAMES = ("one", "two")


def detections(boxes, labels, confidence=None, **parts):
    found = {"boxes": np.array(boxes, "float32"), "labels": np.array(labels)} | parts
    return found if confidence is None else found | {"confidence": np.array(confidence)}


def pixel(drawn, x, y):
    return drawn.getpixel((x, y))


def changed(drawn):
    return np.any(np.array(drawn) != GREY, axis=-1)


def test_box_lies_on_its_own_pixels_with_dark_lines_beside():
    drawn = draw(GREY, detections([[50, 60, 150, 160]], [0], [0.9]), NAMES)
    assert (drawn.size, drawn.mode) == ((300, 200), "RGB")
    assert pixel(drawn, 50, 110) == pixel(drawn, 149, 110) == ORANGE
    assert pixel(drawn, 100, 60) == pixel(drawn, 100, 159) == ORANGE
    assert pixel(drawn, 49, 110) == pixel(drawn, 51, 110) == (0, 0, 0)
    assert pixel(drawn, 100, 110) == (100, 100, 100)
    assert not changed(drawn)[165:].any()
    assert (GREY == 100).all()  # drawn on a copy


def test_lines_grow_with_the_image():
    large = np.zeros((1600, 1600, 3), "uint8")
    drawn = np.array(draw(large, detections([[400, 400, 1200, 1200]], [1], [0.5]), NAMES))
    assert (drawn[800, 380:420] == SKY).all(-1).sum() == 4


def test_label_is_a_plate_with_legible_text():
    for ground in (0, 255):
        image = np.full((200, 300, 3), ground, "uint8")
        drawn = np.array(draw(image, detections([[50, 60, 150, 160]], [0], [0.9]), NAMES))
        above = drawn[46:59, 51:90].reshape(-1, 3)
        assert (above == ORANGE).all(-1).mean() > 0.4  # the plate
        assert (above.max(-1) < 60).mean() > 0.05  # black ink on it
    # No room above or at the right: the plate stays within the image.
    drawn = draw(GREY, detections([[280, 0, 300, 30]], [0], [0.9]), NAMES)
    assert changed(drawn)[:10, 250:300].mean() > 0.9


def test_a_gap_parts_name_and_score():
    """A column of plain plate, wider than between letters, lies between the class 8 and 96 %."""
    large = np.full((600, 800, 3), 100, "uint8")
    drawn = np.array(draw(large, detections([[50, 60, 150, 160]], [0], [0.96]), ("8",)))
    # The font is of 16 pixels (800 / 50): the plate's ink by column, of the row of text above the box.
    inked = (drawn[46:58, 52:92].max(-1) < 100).any(0)
    columns = np.flatnonzero(inked)
    gaps = np.diff(columns) - 1
    assert gaps.max() >= 9  # 0.6 of 16 pixels, with the letters' own margins
    assert np.sort(gaps)[-2] <= 3


def test_images_of_other_channels_are_drawn_by_their_first():
    levels = np.zeros((2, 2, 4), "uint16")
    levels[..., 0], levels[..., 1] = [[100, 150], [200, 300]], 9999
    # (level - 100) / 200 of 255
    expected = np.array([[0, 63], [127, 255]], "uint8")
    np.testing.assert_array_equal(as_rgb(levels), expected[..., None].repeat(3, -1))
    np.testing.assert_array_equal(as_rgb(np.full((2, 2, 1), 7, "uint8")), np.zeros((2, 2, 3)))
    assert as_rgb(GREY) is GREY


def test_threshold_padding_and_order():
    boxes = [[20, 100, 80, 160], [20, 100, 80, 160], [200, 100, 260, 160]]
    found = detections(boxes, [1, 0, -1], [0.9, 0.6, -1])
    drawn = draw(GREY, found, NAMES)
    assert pixel(drawn, 20, 130) == SKY  # the surer one on top
    assert not changed(drawn)[:, 150:].any()  # -1 is padding
    assert not changed(draw(GREY, found, NAMES, threshold=0.95)).any()
    only_first = draw(GREY, detections(boxes[:1], [1], [0.9]), NAMES)
    assert np.array_equal(draw(GREY, found, NAMES, threshold=0.9), only_first)


def test_ground_truth_has_no_score():
    boxes = np.array([[50, 60, 150, 160]], "float32")
    truth = SimpleNamespace(boxes=boxes, labels=np.array([0]), ignore=np.array([False]))
    drawn = draw(GREY, truth, NAMES)
    assert pixel(drawn, 50, 110) == ORANGE
    np.testing.assert_array_equal(drawn, draw(GREY, detections(boxes, [0]), NAMES))
    scored = draw(GREY, detections(boxes, [0], [0.5]), NAMES)
    assert changed(scored)[40:59].sum() > changed(drawn)[40:59].sum()  # the score's text
    truth.ignore[:] = True
    ignored = draw(GREY, truth, NAMES)
    assert changed(ignored)[40:59].sum() > changed(drawn)[40:59].sum()


def test_masks_are_translucent_and_keypoints_spots():
    mask = np.zeros((1, 200, 300), "uint8")
    mask[0, 80:120, 70:110] = 1
    keypoints = np.array([[[140, 150, 2], [60, 150, 0]]], float)
    found = detections([[50, 60, 150, 160]], [0], [0.9], masks=mask, keypoints=keypoints)
    drawn = draw(GREY, found, NAMES)
    # 100 + 0.45 * (230, 159, 0 - 100)
    np.testing.assert_allclose(pixel(drawn, 90, 100), (158.5, 126.55, 55), atol=0.51)
    assert pixel(drawn, 69, 100) == (100, 100, 100)
    assert pixel(drawn, 140, 150) == ORANGE
    assert pixel(drawn, 60, 150) == (100, 100, 100)  # not visible, not drawn
    rle = coco_mask.encode(np.asfortranarray(mask[0]))
    np.testing.assert_array_equal(draw(GREY, found | {"masks": (rle,)}, NAMES), drawn)


def test_masks_as_detect_gives_them_lie_in_their_boxes():
    masks = np.zeros((2, 20, 20), "float32")
    masks[0, :, :10] = 0.8  # the left half of the first box; nothing of the second
    boxes = [[40, 60, 140, 160], [200, 60, 280, 160]]
    drawn = np.array(draw(GREY, detections(boxes, [0, 1], [0.9, 0.8], masks=masks), NAMES))
    tinted = np.abs(drawn - np.array([158.5, 126.55, 55])).max(-1) < 1
    assert tinted[65:155, 45:88].all()
    assert not tinted[:, 92:].any()
    np.testing.assert_array_equal(drawn[110, 240], [100, 100, 100])


def test_keypoints_of_any_score_are_drawn():
    keypoints = np.array([[[100, 120, -2.5], [120, 130, 7.0]]], "float32")
    found = detections([[50, 60, 150, 160]], [0], [0.9], keypoints=keypoints)
    drawn = draw(GREY, found, NAMES)
    assert pixel(drawn, 100, 120) == pixel(drawn, 120, 130) == ORANGE


@pytest.mark.parametrize("image", [GREY[..., 0], GREY[..., :1], GREY.astype("float32") + 0.2])
def test_other_images(image):
    found = detections([[50, 60, 150, 160]], [0], [0.9])
    np.testing.assert_array_equal(draw(image, found, NAMES), draw(GREY, found, NAMES))


def test_pil_images_empty_and_odd_boxes():
    source = Image.fromarray(GREY)
    nothing = detections(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    drawn = draw(source, nothing, NAMES)
    assert drawn is not source
    assert not changed(drawn).any()
    odd = [[-50, -50, 500, 500], [10, 10, 10, 10], [290.5, 190.5, 310, 205], [400, 400, 500, 500]]
    assert draw(source, detections(odd, [0, 1, 0, 1], [1, 1, 1, 1]), NAMES).size == (300, 200)
    assert not changed(source).any()


def test_files_are_turned_as_detect_turns_them(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    nothing = detections(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    assert draw(tmp_path / "a.png", nothing, NAMES).size == (200, 300)
    assert draw(Image.open(tmp_path / "a.png"), nothing, NAMES).size == (200, 300)


def test_class_colors_differ():
    colors = [class_color(label) for label in range(21)]
    assert len(set(colors)) == 21
    assert class_color(0) == ORANGE
    assert class_color(21) == class_color(0)
    apart = np.abs(np.array(colors)[:, None] - np.array(colors)).sum(-1)
    assert apart[~np.eye(21, dtype=bool)].min() > 30


def test_contact_sheet():
    red = np.zeros((100, 200, 3), "uint8") + np.array([255, 0, 0], "uint8")
    blue = np.zeros((80, 40, 3), "uint8") + np.array([0, 0, 255], "uint8")
    sheet = contact_sheet([red, blue, Image.fromarray(red)], columns=2, cell=100)
    # cells of 100 x 80 with gaps of 4; the red ones shrink to 100 x 50, the blue one stays
    assert sheet.size == (2 * 104 + 4, 2 * 84 + 4)
    assert pixel(sheet, 4, 44) == pixel(sheet, 103, 44) == (255, 0, 0)
    assert pixel(sheet, 50, 18) == (64, 64, 64)
    assert pixel(sheet, 158, 5) == pixel(sheet, 158, 82) == (0, 0, 255)
    assert pixel(sheet, 137, 44) == (64, 64, 64)
    assert pixel(sheet, 50, 128) == (255, 0, 0)
    assert pixel(sheet, 158, 128) == (64, 64, 64)
    assert contact_sheet([blue], columns=5).size == (48, 88)
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet([])


def test_sampled_points_are_red_and_their_place_green():
    drawn = draw_sampled_points(GREY, [[50, 60], [-5, 20], [299, 199]], (150, 100))
    assert (drawn.size, drawn.mode) == ((300, 200), "RGB")
    assert pixel(drawn, 50, 60) == pixel(drawn, 299, 199) == (230, 0, 0)
    assert pixel(drawn, 150, 100) == (0, 200, 0)
    assert pixel(drawn, 60, 50) == (100, 100, 100)
    assert (GREY == 100).all()
