"""`evaluate`: several kinds of figures from one pass, masks as run lengths, errors before detecting."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from kerasdet.metrics import coco_metrics, encode_masks, evaluate, iou_types, to_coco_json
from kerasdet.ops import paste_masks

SIZE = (60, 80)
BOXES = np.array([[10, 10, 50, 50], [30, 20, 70, 50], [0, 0, 20, 30]], "float32")


def rectangle(box):
    mask = np.zeros(SIZE, "uint8", order="F")
    x1, y1, x2, y2 = box.astype(int)
    mask[y1:y2, x1:x2] = 1
    return mask


class Rectangles:
    """Three images of one rectangle each, whose corners are its keypoints."""

    name = "rectangles"
    class_names = ("dog",)
    keypoint_sigmas = (0.05, 0.05)

    def __init__(self, masks=True, keypoints=True):
        self.masks, self.keypoints = masks, keypoints

    def __len__(self):
        return 3

    def record(self, index):
        box = BOXES[index : index + 1]
        points = np.concatenate([box.reshape(1, 2, 2), np.full((1, 2, 1), 2)], -1)
        return SimpleNamespace(
            image_id=index,
            height=SIZE[0],
            width=SIZE[1],
            boxes=box,
            labels=np.array([0]),
            ignore=np.array([False]),
            area=np.array([1200.0]),
            masks=(coco_mask.encode(rectangle(box[0])),) if self.masks else None,
            keypoints=points if self.keypoints else None,
        )

    def images(self):
        for index in range(3):
            yield np.full((*SIZE, 3), index, "uint8")


class Model:
    """Knows boxes and keypoints by heart; of the masks it draws the upper three quarters."""

    class_names = ("cat", "dog")

    def __init__(self, *targets):
        self.EXTRAS, self.seen = targets, []

    def detect(self, images, batch_size):
        self.seen.append([int(image[0, 0, 0]) for image in images])
        return [self._found(index) for index in self.seen[-1]]

    def _found(self, index):
        # The first row is of a class that the data does not have.
        found = {
            "boxes": BOXES[[index, index]],
            "labels": np.array([0, 1]),
            "confidence": np.array([0.9, 0.8], "float32"),
        }
        if "masks" in self.EXTRAS:
            masks = np.zeros((2, 28, 28), "float32")
            masks[:, :21] = 1
            found["masks"] = masks
        if "keypoints" in self.EXTRAS:
            points = BOXES[[index, index]].reshape(2, 2, 2)
            found["keypoints"] = np.concatenate([points, np.full((2, 2, 1), -3.5)], -1)
        return found


def test_one_pass_gives_figures_of_boxes_and_masks():
    model = Model("masks")
    figures, detections = evaluate(model, Rectangles(), 2, iou_type=("bbox", "segm"))
    assert model.seen == [[0, 1], [2]]  # a batch at a time, so that only its masks are there
    assert list(figures) == ["bbox", "segm"]
    assert figures["bbox"]["AP"] == pytest.approx(1)
    # IoU 3/4, less the ring of pixels that a pasted mask reaches beyond its box: above 0.6, the third
    # threshold, and below 0.8, the seventh.
    assert figures["segm"]["AP50"] == pytest.approx(1)
    assert 0.3 <= round(figures["segm"]["AP"], 6) <= 0.6
    for index, found in enumerate(detections):
        (mask,) = found["masks"]
        assert mask["size"] == list(SIZE)
        relative = np.zeros((1, 28, 28), "float32")
        relative[0, :21] = 1
        pasted = paste_masks(relative, BOXES[index : index + 1], SIZE)[0]
        np.testing.assert_array_equal(coco_mask.decode(mask), pasted)
        assert 0.65 < pasted.sum() / rectangle(BOXES[index]).sum() < 0.85


def test_one_type_is_not_wrapped_and_boxes_need_no_masks():
    figures, detections = evaluate(Model("masks"), Rectangles(), iou_type="segm")
    assert 0.3 <= round(figures["AP"], 6) <= 0.6
    assert isinstance(detections[0]["masks"][0]["counts"], str)
    figures, detections = evaluate(Model("masks"), Rectangles(masks=False))
    assert figures["AP"] == pytest.approx(1)
    assert "masks" not in detections[0]


def test_keypoints_of_right_boxes():
    figures, detections = evaluate(Model("keypoints"), Rectangles(), iou_type=("keypoints",))
    assert figures["keypoints"]["AP"] == pytest.approx(
        1
    )  # their scores, negative here, do not count
    assert detections[0]["keypoints"].shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("targets", "parts", "iou_type", "message"),
    [
        ((), {}, "segm", r"Model predicts no masks, which iou_type='segm' measures"),
        (("masks",), {}, ("bbox", "keypoints"), "Model predicts no keypoints"),
        (("masks",), {"masks": False}, "segm", "rectangles has no masks"),
        (("keypoints",), {"keypoints": False}, "keypoints", "rectangles has no keypoints"),
        ((), {}, ("bbox", "mask"), "must be one or more of .*, got 'mask'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_detecting(targets, parts, iou_type, message):
    model = Model(*targets)
    with pytest.raises(ValueError, match=message):
        evaluate(model, Rectangles(**parts), iou_type=iou_type)
    assert not model.seen


def test_iou_types():
    assert iou_types(Model(), Rectangles()) == ("bbox",)
    assert iou_types(SimpleNamespace(), Rectangles()) == ("bbox",)
    assert iou_types(Model("masks"), Rectangles()) == ("bbox", "segm")
    assert iou_types(Model("masks"), Rectangles(masks=False)) == ("bbox",)
    assert iou_types(Model("keypoints", "masks"), Rectangles()) == ("bbox", "segm", "keypoints")


def test_masks_relative_to_boxes_are_no_results():
    found = Model("masks")._found(0)
    with pytest.raises(
        ValueError, match=r"probabilities \(28, 28\) relative to their boxes: paste"
    ):
        to_coco_json([found], [1], [1, 2])
    results = to_coco_json([encode_masks(found, SIZE)], [1], [1, 2])
    json.dumps(results)
    assert results[0]["segmentation"]["size"] == [60, 80]
    # For boxes they do not matter.
    one = {name: value[1:] for name, value in found.items()} | {"labels": np.array([0])}
    assert coco_metrics([Rectangles().record(0)], [one], ["dog"])["AP"] == pytest.approx(1)
    empty = {"boxes": np.zeros((0, 4)), "masks": np.zeros((0, 28, 28), "float32")}
    assert encode_masks(empty, SIZE)["masks"] == []
    assert encode_masks({"boxes": BOXES}, SIZE) == {"boxes": BOXES}


def test_keypoints_count_where_one_is_labelled():
    record = Rectangles().record(0)
    twice = SimpleNamespace(**vars(record))
    for name in ("boxes", "labels", "ignore", "area", "keypoints"):
        setattr(twice, name, np.concatenate([getattr(record, name)] * 2))
    twice.keypoints[1, :, 2] = 0
    found = {name: value[1:] for name, value in Model("keypoints")._found(0).items()}
    found["labels"] = np.array([0])
    figures = coco_metrics([twice], [found], ["dog"], "keypoints", [0.05, 0.05])
    assert figures["per_class"]["dog"] == {"AP": 1, "AP50": 1, "objects": 1}
    found["keypoints"] = np.zeros((1, 3, 3))
    with pytest.raises(ValueError, match=r"\[2, 3\] keypoints but there are 2 keypoint_sigmas"):
        coco_metrics([twice], [found], ["dog"], "keypoints", [0.05, 0.05])


class Proposed(Rectangles):
    """Each image's proposals are its box, moved by its number."""

    def record(self, index):
        record = super().record(index)
        record.proposals = record.boxes + index
        return record

    def proposals(self):
        for index in range(3):
            yield self.record(index).proposals


class OfProposals(Model):
    """Its boxes are its proposals."""

    INPUTS = ("images", "proposals")

    def detect(self, images, proposals, batch_size):
        assert len(images) == len(proposals) <= batch_size
        self.seen.append([int(image[0, 0, 0]) for image in images])
        found = {"labels": np.array([1]), "confidence": np.array([0.5])}
        return [{**found, "boxes": boxes} for boxes in proposals]


@pytest.mark.parametrize(("batch", "seen"), [(1, [[0], [1], [2]]), (2, [[0, 1], [2]])])
def test_proposals_of_the_data_reach_the_model_in_step(batch, seen):
    model = OfProposals()
    _, detections = evaluate(model, Proposed(), batch)
    assert model.seen == seen
    for index, found in enumerate(detections):
        np.testing.assert_array_equal(found["boxes"], BOXES[index : index + 1] + index)


def test_a_model_of_proposals_needs_them():
    model = OfProposals()
    with pytest.raises(ValueError, match=r"OfProposals takes proposals, but rectangles has none"):
        evaluate(model, Rectangles())
    assert not model.seen
    # Others are not given any.
    evaluate(Model(), Proposed())
