"""Detections, maps of classes and sampled points drawn on images by Pillow; and contact sheets."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kerasdet.images import load_image

# Okabe and Ito's colours, told apart by colour-blind eyes too; their black is left to outlines.
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
MASK_OPACITY = 0.45
SHEET_GROUND = (64, 64, 64)


def class_color(label):
    """RGB, 0..255, of a class: the palette, then lighter and darker versions of it, repeated."""
    color = np.array(PALETTE[label % len(PALETTE)], float)
    round_number = label // len(PALETTE) % 3
    if round_number == 1:
        color = (color + 255) / 2
    if round_number == 2:
        color = color * 0.55
    return tuple(int(channel) for channel in color)


def draw(image, detections, names, threshold=0.0):
    """Draw detections, or ground truth, on a copy of an image.

    Args:
        image: path, PIL image or array (H, W, 3) of 0..255, as `kerasdet.data.load_image` takes.
        detections: dict as `model.detect` returns, or ground truth, as a dict without
            "confidence" or as a `Record`: "boxes" (D, 4) in pixels, "labels" (D,) with -1 for
            padding; optional "masks", probabilities (D, m, m) relative to the boxes, or of the
            whole image (D, H, W) bool or integers or D COCO run-length dicts; optional
            "keypoints" (D, P, 3), points with a third value of 0 (unknown) left out.
        names: name of each label.
        threshold: least confidence that is drawn.

    Returns:
        PIL.Image, RGB, of the image's size; the most confident detection lies on top.
    """
    canvas = _as_canvas(image)
    boxes = np.asarray(_part(detections, "boxes"), float).reshape(-1, 4)
    labels = np.asarray(_part(detections, "labels"), int)
    confidence = _part(detections, "confidence")
    shown = labels >= 0
    order = np.arange(len(labels))
    if confidence is not None:
        confidence = np.asarray(confidence, float)
        shown &= confidence >= threshold
        order = np.argsort(confidence, kind="stable")
    order = [i for i in order if shown[i]]
    masks = _part(detections, "masks")
    if masks is not None:
        canvas = _overlay(canvas, [(masks[i], boxes[i], class_color(labels[i])) for i in order])
    pen = ImageDraw.Draw(canvas)
    width = max(1, round(max(canvas.size) / 400))
    for i in order:
        _draw_box(pen, boxes[i], class_color(labels[i]), width)
    keypoints = _part(detections, "keypoints")
    for i in order if keypoints is not None else ():
        _draw_keypoints(pen, keypoints[i], class_color(labels[i]), width)
    ignore = _part(detections, "ignore")
    font = ImageFont.load_default(max(11, round(max(canvas.size) / 50)))
    for i in order:
        words = [str(names[labels[i]])]
        words += [] if confidence is None else [f"{confidence[i]:.0%}"]
        words += ["(ignored)"] if ignore is not None and ignore[i] else []
        _draw_label(pen, canvas.size, boxes[i], words, class_color(labels[i]), font)
    return canvas


def draw_classes(image, classes, names):
    """Draw a map of classes over a copy of an image, with a legend of those that are there.

    Args:
        image: path, PIL image or array (H, W, 3) of 0..255.
        classes: (H, W) integers; -1 for void, which stays as it is.
        names: name of each class.

    Returns:
        PIL.Image, RGB, of the image's size.
    """
    canvas, classes = _as_canvas(image), np.asarray(classes)
    present = [label for label in np.unique(classes) if label >= 0]
    whole = (0, 0, *canvas.size)
    canvas = _overlay(canvas, [(classes == c, whole, class_color(c)) for c in present])
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(max(11, round(max(canvas.size) / 50)))
    line = sum(font.getmetrics()) + 4
    for row, label in enumerate(present):
        place = (0, line * (row + 1), 0, 0)
        _draw_label(pen, canvas.size, place, [str(names[label])], class_color(label), font)
    return canvas


def draw_sampled_points(image, points, place):
    """Draw where deformable convolutions look for one place of an image (Deformable ConvNets, figure 6).

    Args:
        image: as `draw` takes.
        points: (N, 2) x and y in pixels; see `kerasdet.backbones.sampled_points`.
        place: (x, y) in pixels.

    Returns:
        PIL.Image, RGB, of the image's size: the points in red, the place in green.
    """
    canvas = _as_canvas(image)
    pen = ImageDraw.Draw(canvas)
    radius = max(1.0, max(canvas.size) / 250)
    for spots, size, color in ((points, 1, (230, 0, 0)), ([place], 3, (0, 200, 0))):
        for x, y in np.asarray(spots, float):
            r = radius * size
            pen.ellipse(
                (x - r, y - r, x + r, y + r), fill=color, outline=(0, 0, 0) if size > 1 else None
            )
    return canvas


def contact_sheet(images, columns=4, cell=320):
    """Lay images out in rows, each shrunk to fit its cell, never enlarged.

    Args:
        images: images as `draw` takes, any sizes.
        columns: images per row.
        cell: most pixels of an image's longer side.

    Returns:
        PIL.Image, RGB.

    Raises:
        ValueError: there is no image.
    """
    shrunk = []
    for image in images:
        canvas = _as_canvas(image)
        canvas.thumbnail((cell, cell), Image.Resampling.LANCZOS)
        shrunk.append(canvas)
    if not shrunk:
        raise ValueError("A contact sheet needs at least one image, got none.")
    gap = 4
    columns = min(columns, len(shrunk))
    rows = -(-len(shrunk) // columns)
    width = max(canvas.width for canvas in shrunk) + gap
    height = max(canvas.height for canvas in shrunk) + gap
    sheet = Image.new("RGB", (columns * width + gap, rows * height + gap), SHEET_GROUND)
    for i, canvas in enumerate(shrunk):
        left = gap + i % columns * width + (width - gap - canvas.width) // 2
        top = gap + i // columns * height + (height - gap - canvas.height) // 2
        sheet.paste(canvas, (left, top))
    return sheet


def as_rgb(image):
    """An image of any number of channels as one that can be drawn on.

    Args:
        image: (H, W, C) array as `Dataset.image` returns it: of three channels it is RGB.

    Returns:
        (H, W, 3): the image itself; or, of other channels, the first as gray levels from its darkest, black,
        to its brightest, white, uint8.
    """
    if image.shape[-1] == 3:
        return image
    first = image[..., :1].astype("float32")
    span = max(float(first.max() - first.min()), 1e-6)
    return np.repeat(255 * (first - first.min()) / span, 3, axis=-1).astype("uint8")


def _part(detections, key):
    """An entry of a dict or a `Record`; None if it is missing."""
    if isinstance(detections, dict):
        return detections.get(key)
    return getattr(detections, key, None)


def _as_canvas(image):
    """A new RGB image of whatever `load_image` takes."""
    return Image.fromarray(load_image(image)).copy()


def _overlay(canvas, masks_boxes_colors):
    """Blend masks into the image, each in its colour."""
    pixels = np.array(canvas, float)
    for mask, box, color in masks_boxes_colors:
        inside = _of_image(mask, box, pixels.shape[:2])
        pixels[inside] += MASK_OPACITY * (np.array(color) - pixels[inside])
    return Image.fromarray(np.round(pixels).astype("uint8"))


def _of_image(mask, box, size):
    """A mask of the whole image, (H, W) bool, from any of the forms that `draw` takes."""
    if isinstance(mask, dict):
        from pycocotools import mask as coco_mask

        return coco_mask.decode(mask).astype(bool)
    mask = np.asarray(mask)
    if np.issubdtype(mask.dtype, np.floating):
        from kerasdet.ops.masks import paste_masks

        return paste_masks(mask[None], box[None], size)[0]
    return mask.astype(bool)


def _draw_box(pen, box, color, width):
    """A frame around the box's pixels: its colour between two dark lines, visible on any ground."""
    x1, y1, x2, y2 = (round(float(side)) for side in box)
    x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)  # the last pixel inside
    for step in range(-1, width + 1):
        ink = color if 0 <= step < width else (0, 0, 0)
        if x2 - step >= x1 + step and y2 - step >= y1 + step:
            pen.rectangle((x1 + step, y1 + step, x2 - step, y2 - step), outline=ink)


def _draw_keypoints(pen, keypoints, color, width):
    radius = 1.5 * width + 1
    for x, y, known in np.asarray(keypoints, float):
        if known:
            spot = (x - radius, y - radius, x + radius, y + radius)
            pen.ellipse(spot, fill=color, outline=(0, 0, 0))


def _draw_label(pen, size, box, words, color, font):
    """Words on a plate of the class's colour: above the box, inside it where there is no room.

    The gap between words is wider than a space, which would make one number of class "8" and "96%".
    """
    margin, gap = 2, round(0.6 * font.size)
    left, top, _, bottom = pen.textbbox((0, 0), " ".join(words), font=font)
    lengths = [math.ceil(pen.textlength(word, font=font)) for word in words]
    width = sum(lengths) + gap * (len(words) - 1) + 2 * margin
    height = bottom - top + 2 * margin
    x = min(max(0, round(float(box[0]))), max(0, size[0] - width))
    y = round(float(box[1])) - height
    if y < 0:
        y = max(0, round(float(box[1])))
    y = min(y, max(0, size[1] - height))
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    ink = (0, 0, 0) if _luminance(color) > 0.18 else (255, 255, 255)
    x += margin - left
    for word, length in zip(words, lengths):
        pen.text((x, y + margin - top), word, fill=ink, font=font)
        x += length + gap


def _luminance(color):
    """Relative luminance of an sRGB colour (0..1); 0.18 contrasts equally with black and white."""
    linear = (np.array(color) / 255) ** 2.2
    return float(linear @ [0.2126, 0.7152, 0.0722])
