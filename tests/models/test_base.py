"""What all models share: arguments and files, channels, and `detect` from images to images' own pixels."""

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

from kerasdet.layers.resizing import KeepSize, Stretch
from kerasdet.models import Detector, FastRCNN, KeypointRCNN, RetinaNet
from kerasdet.models.base import FORMAT_VERSION, data_classes, norm_option
from tests.contract.detectors import DATA, retinanet

BASE = ("num_classes", "backbone", "class_names", "category_ids", "resize")
DECODING = ("score_threshold", "iou_threshold", "max_detections")


@keras.saving.register_keras_serializable("kerasdet_tests")
class Edges(Detector):
    """Finds the image's left third, middle and right third, with 0.9, 0.5 and 0.2; it has no weights."""

    SCORES = (0.9, 0.5, 0.2)

    def __init__(self, num_classes=1, width=3, labels=(0, 0, 0), **detector):
        super().__init__(num_classes, **detector)
        self.width = width
        self.labels = tuple(labels)

    def call(self, inputs, training=False):
        _, sizes = self.normalize(inputs)
        return {"image_sizes": sizes}

    def decode(self, outputs):
        height, width = ops.split(outputs["image_sizes"], 2, axis=1)  # (B, 1)
        thirds = [[i / self.width, 0, (i + 1) / self.width, 1] for i in range(3)]
        sides = ops.concatenate([width, height, width, height], axis=1)  # (B, 4)
        boxes = ops.convert_to_tensor(thirds, "float32")[None] * sides[:, None]
        scores = ops.zeros_like(boxes[..., 0]) + ops.convert_to_tensor(self.SCORES)
        labels = ops.zeros_like(scores, "int32") + ops.convert_to_tensor(self.labels)
        return self.suppress(boxes, labels, scores)


@keras.saving.register_keras_serializable("kerasdet_tests")
class Echo(Detector):
    """Finds the proposals, as they lie on the canvas; rows without area are none."""

    INPUTS = ("images", "proposals")

    def call(self, inputs, training=False):
        _, sizes = self.normalize(inputs)
        return {"proposals": inputs["proposals"], "image_sizes": sizes}

    def decode(self, outputs):
        boxes = ops.cast(outputs["proposals"], "float32")
        height, width = ops.split(outputs["image_sizes"], 2, axis=1)
        inside = (boxes[..., 2] <= width) & (boxes[..., 3] <= height)  # of the canvas
        found = inside & (boxes[..., 2] > boxes[..., 0])
        return self.suppress(boxes, ops.zeros_like(found, "int32"), ops.where(found, 0.9, 0.0))


class FourChannels(Edges):
    MEAN, STD = (0.0,) * 4, (1.0,) * 4


# -- arguments and configs -----------------------------------------------------------------------


def test_arguments_are_read_from_the_signatures():
    assert Edges.arguments() == (*BASE, *DECODING, "width", "labels")
    parts = ("neck", "head", "anchors", "classification_loss", "box_loss")
    assert RetinaNet.arguments() == (*BASE, *DECODING, *parts)
    region = ("pooling", "head", "regions_per_image", "sampler", "seed")
    region += ("box_weight", "refinements", "whole_pixels")
    assert FastRCNN.arguments() == (*BASE, *DECODING, *region)
    own = ("neck", "rpn", "branches", "num_keypoints", "keypoint_names")
    assert KeypointRCNN.arguments() == (*BASE, *DECODING, *region, *own)


def test_config_has_every_argument_and_inherited_ones():
    model = Edges(2, width=5, labels=(1, 0, 1), score_threshold=0.25, resize=Stretch(32), name="e")
    config = model.get_config()
    assert set(config) == {*Edges.arguments(), "name", "dtype", "format_version"}
    assert (config["width"], config["labels"], config["score_threshold"]) == (5, [1, 0, 1], 0.25)
    assert config["class_names"] == ["0", "1"]
    assert config["category_ids"] == [1, 2]
    assert config["backbone"] is None
    copy = Edges.from_config(config)
    assert copy.get_config() == config
    assert (copy.width, copy.labels, copy.resize, copy.name) == (5, (1, 0, 1), Stretch(32), "e")


def test_parts_in_a_config_are_serialised():
    config = retinanet().get_config()
    for name in ("backbone", "neck", "head", "anchors", "classification_loss", "box_loss"):
        assert set(config[name]) >= {"class_name", "config"}, name
    assert config["head"]["class_name"] == "Subnets"


def test_a_file_of_another_format_is_refused():
    config = Edges().get_config()
    assert config["format_version"] == FORMAT_VERSION == 2
    with pytest.raises(ValueError, match=r"in format 3, this kerasdet reads 2: upgrade kerasdet"):
        Edges.from_config({**config, "format_version": 3})
    with pytest.raises(ValueError, match=r"Edges was saved in format 1, .* 2: save it again"):
        Edges.from_config({**config, "format_version": 1})
    assert Edges.from_config(config).width == 3
    assert config["format_version"] == 2  # the caller's dict is left alone


def test_classes_and_ids_must_number_the_classes():
    with pytest.raises(ValueError, match="class_names has 1 entries for 2 classes"):
        Edges(2, class_names=("a",))
    with pytest.raises(ValueError, match="category_ids repeats an entry"):
        Edges(2, category_ids=(1, 1))
    for wrong in (0, 1.5):
        with pytest.raises(ValueError, match=f"num_classes must be .*, not {wrong}"):
            Edges(wrong)


def test_helpers_of_for_data():
    assert data_classes(DATA) == {
        "num_classes": 3,
        "class_names": ("disc", "square", "cross"),
        "category_ids": (1, 2, 3),
    }
    assert [norm_option(norm) for norm in ("batch", "none")] == ["batch", None]
    with pytest.raises(ValueError, match="norm is 'group'; give one of 'batch', 'none'"):
        norm_option("group")
    assert norm_option("group", ("batch", "group")) == "group"


# -- images --------------------------------------------------------------------------------------


def test_four_channels_are_read_from_arrays_alone(tmp_path):
    model, image = FourChannels(), np.zeros((5, 6, 4), np.uint8)
    assert model.read_image(image) is image
    with pytest.raises(
        ValueError, match=r"\(height, width, 4\), not an array of shape \(5, 6, 3\)"
    ):
        model.read_image(image[..., :3])
    with pytest.raises(ValueError, match=r"\(height, width, 4\), not an array of shape \(5, 6\)"):
        model.read_image(image[..., 0])
    with pytest.raises(ValueError, match=r"FourChannels takes arrays .* not 'scan\.png'"):
        model.read_image("scan.png")
    (found,) = model.detect(image)
    assert len(found["boxes"]) == 3
    assert Edges().read_image(image[..., :3]).shape == (5, 6, 3)


def test_normalisation_leaves_padding_zero():
    class Shifted(Edges):
        MEAN, STD = (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)

    images = np.full((1, 2, 3, 3), 40, np.uint8)
    normalized, sizes = Shifted().normalize({"images": images, "image_sizes": np.array([[1, 2]])})
    assert np.asarray(normalized)[0, 0].tolist() == [[15, 5, 2], [15, 5, 2], [0, 0, 0]]
    assert not np.any(normalized[0, 1])
    assert np.asarray(sizes).tolist() == [[1, 2]]
    normalized, sizes = Shifted().normalize(images)
    assert np.asarray(normalized)[0, 1, 2].tolist() == [15, 5, 2]
    assert np.asarray(sizes).tolist() == [[2, 3]]


def test_images_of_several_sizes_lie_on_one_canvas():
    model = Edges(resize=KeepSize(8))
    canvas = model.to_canvas([np.full((9, 4, 3), 7, np.uint8), np.full((3, 17, 3), 9, np.uint8)])
    assert canvas["images"].shape == (2, 16, 24, 3)
    assert canvas["image_sizes"].tolist() == [[9, 4], [3, 17]]
    assert canvas["images"][0, :9, :4].min() == 7
    assert canvas["images"][0].sum() == 7 * 9 * 4 * 3
    assert canvas["images"].dtype == np.float32


# -- detect --------------------------------------------------------------------------------------


WIDE, TALL = np.zeros((30, 60, 3), np.uint8), np.zeros((90, 12, 3), np.uint8)


def boxes_of(height, width, count=3):
    return [[i * width / 3, 0, (i + 1) * width / 3, height] for i in range(count)]


def test_one_image_or_many(tmp_path):
    model = Edges()
    Image.fromarray(WIDE).save(tmp_path / "wide.png")
    path = tmp_path / "wide.png"
    for one in (WIDE, Image.fromarray(WIDE), path, str(path), keras.ops.convert_to_tensor(WIDE)):
        (found,) = model.detect(one)
        np.testing.assert_allclose(found["boxes"], boxes_of(30, 60), atol=1e-4)
        np.testing.assert_allclose(found["confidence"], [0.9, 0.5, 0.2], rtol=1e-6)
        assert set(found) == {"boxes", "labels", "confidence"}
    several = [WIDE, TALL, tmp_path / "wide.png"]
    for many in (several, tuple(several), iter(several), (image for image in several)):
        found = model.detect(many)
        assert len(found) == 3
        np.testing.assert_allclose(found[1]["boxes"], boxes_of(90, 12), atol=1e-4)
    assert len(model.detect(several, batch_size=2)) == 3
    assert [len(found["labels"]) for found in model.detect(np.stack([WIDE] * 4))] == [3] * 4
    assert model.detect([]) == []
    with pytest.raises(ValueError, match="images are files, arrays or PIL images, not None"):
        model.detect(None)


def test_boxes_come_back_to_the_images_own_pixels():
    (wide, tall) = Edges(resize=Stretch(32)).detect([WIDE, TALL], batch_size=2)
    np.testing.assert_allclose(wide["boxes"], boxes_of(30, 60), atol=1e-4)
    np.testing.assert_allclose(tall["boxes"], boxes_of(90, 12), atol=1e-4)


def test_an_iterable_is_read_as_it_is_needed():
    read = []

    def images():
        for number in range(4):
            read.append(number)
            yield WIDE if number < 3 else "missing.png"

    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        Edges().detect(images(), batch_size=2)
    assert read == [0, 1, 2, 3]


def test_threshold_above_and_below_the_models_own():
    model = Edges(score_threshold=0.4)
    assert len(model.detect(WIDE)[0]["labels"]) == 2
    for threshold, count in ((0.1, 3), (0.3, 2), (0.5, 2), (0.51, 1), (0.9, 1), (0.95, 0)):
        (found,) = model.detect(WIDE, threshold=threshold)
        assert len(found["labels"]) == len(found["boxes"]) == count, threshold
        assert model.score_threshold == 0.4
    assert len(model.detect(WIDE, threshold=0)[0]["labels"]) == 3
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        model.detect([WIDE, "missing.png"], threshold=0.1)
    assert model.score_threshold == 0.4
    assert len(model.detect(WIDE)[0]["labels"]) == 2


@pytest.mark.parametrize("threshold", [float("nan"), 1.5, -0.1, "half"])
def test_a_threshold_that_is_no_confidence_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold must be a confidence in 0\.\.1, not"):
        Edges().detect(WIDE, threshold=threshold)


def test_proposals_follow_their_images_to_the_canvas():
    model = Echo(1, resize=Stretch(32))
    first = np.array([[0, 0, 60, 30], [10, 5, 20, 25]])
    second = np.array([[3, 80, 12, 90]])
    for batch_size in (1, 2):
        found = model.detect([WIDE, TALL], proposals=[first, second], batch_size=batch_size)
        np.testing.assert_allclose(found[0]["boxes"], first, atol=1e-4)
        np.testing.assert_allclose(found[1]["boxes"], second, atol=1e-4)
    (found,) = model.detect(TALL, proposals=second)
    np.testing.assert_allclose(found["boxes"], second, atol=1e-4)
    (found,) = model.detect(TALL, proposals=np.zeros((0, 4)))
    assert found["boxes"].shape == (0, 4)


def test_proposals_must_be_there_for_every_image():
    model, one = Echo(1), np.array([[3, 2, 12, 9]])
    with pytest.raises(ValueError, match="Echo classifies regions that something else proposes"):
        model.detect(WIDE)
    with pytest.raises(ValueError, match="There are fewer proposals than images"):
        model.detect([WIDE, TALL], proposals=[one])
    for wrong in (one[0], one[:, :3], one * np.nan):
        with pytest.raises(ValueError, match=r"Proposals must be finite boxes \(R, 4\) xyxy"):
            model.detect([WIDE], proposals=[wrong])
