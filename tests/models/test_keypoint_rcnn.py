"""Keypoint R-CNN against its paper: one-hot targets, the softmax over cells, decoding, and training."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.backbones import ResNet
from kerasdet.layers import MaskHead, MultilevelRoIAlign
from kerasdet.models import KeypointBranch, KeypointRCNN
from kerasdet.models import keypoint_rcnn as paper
from kerasdet.models.detector import prepare, to_image
from kerasdet.models.keypoint_rcnn import keypoint_cells, keypoint_losses
from kerasdet.zoo.origins import torchvision
from tests.contract.detectors import batch, faster_rcnn, keypoint_rcnn
from tests.models.test_mask_rcnn import of_unknown_size

CONSTANTS = {
    "REGION_SIZE": 14,  # pooled; maps of 56 x 56 are drawn
    "COCO_KEYPOINTS": 17,
    "CONVS": (512,) * 8,  # section 5, Implementation Details
}


def test_constants_are_the_papers():
    assert {name: getattr(paper, name) for name in CONSTANTS} == CONSTANTS
    branch = KeypointBranch()
    assert branch.pooling.output_size == 14
    assert branch.head.convs == (512,) * 8
    assert (branch.LOSS_TERM, branch.TARGET) == ("keypoint_loss", "keypoints")
    assert branch.EXTRA == "keypoints"


def test_the_branch_is_section_5s():
    names = tuple(map(str, range(17)))
    model = keypoint_rcnn(branches=(KeypointBranch(),), keypoint_names=names)
    (branch,) = model.branches
    first, *others = branch.head.conv_layers
    assert len(others) == 7
    assert branch.head.deconv is None
    assert first.kernel.shape == (3, 3, 16, 512)
    assert all(conv.kernel.shape == (3, 3, 512, 512) for conv in others)
    assert branch.output_conv.kernel.shape == (4, 4, 17, 512)
    maps = {level: np.zeros((1, 2, 2, 16), np.float32) for level in ("P2", "P3", "P4", "P5")}
    logits = branch.draw(model, maps, np.array([[[0, 0, 8, 8]]], np.float32))
    assert logits.shape == (1, 1, 56, 56, 17)


def test_people_have_seventeen_keypoints_by_default():
    parts = {name: getattr(keypoint_rcnn(), name) for name in ("backbone", "neck", "rpn", "head")}
    model = KeypointRCNN(branches=(KeypointBranch(head=MaskHead((4,), None)),), **parts)
    assert (model.num_classes, model.num_keypoints) == (1, 17)
    assert model.keypoint_names == tuple(map(str, range(17)))
    assert model.branches[0].output_conv.kernel.shape == (4, 4, 17, 4)


def test_names_must_number_the_keypoints():
    with pytest.raises(ValueError, match="keypoint_names has 2 entries for 3 keypoints"):
        keypoint_rcnn(num_keypoints=3, keypoint_names=("nose", "tail"))
    with pytest.raises(ValueError, match=r"needs a model with keypoint names, .* FasterRCNN"):
        faster_rcnn(branches=(KeypointBranch(),))


def test_maps_are_doubled_by_bilinear_interpolation():
    small = np.array([[0.0, 4.0]], np.float32)[None, ..., None]
    doubled = np.asarray(KeypointBranch().upsample(small))
    assert doubled.shape == (1, 2, 4, 1)
    assert doubled[0, 0, :, 0].tolist() == [0, 1, 3, 4]


def test_cells_by_hand():
    # A region of 28 x 56 pixels on 56 x 56 cells: half a pixel and a pixel each.
    region = np.array([[[10, 100, 38, 156]]], np.float32)
    points = np.array(
        [
            [10, 100, 2],  # the corner: cell 0, 0
            [11.7, 104.9, 1],  # column 3 (1.7 / 0.5 = 3.4), row 4; hidden, but labelled
            [38, 156, 2],  # the far edges belong to the last cells
            [20, 110, 0],  # not labelled
            [9.9, 110, 2],  # outside
            [20, 156.1, 2],  # outside
            [-1, -1, -1],  # padding
        ],
        np.float32,
    )[None, None]
    cells, known = keypoint_cells(points, region, 56)
    assert np.asarray(known)[0, 0].tolist() == [True, True, True, False, False, False, False]
    assert np.asarray(cells)[0, 0, :3].tolist() == [0, 4 * 56 + 3, 56 * 56 - 1]
    assert ((np.asarray(cells) >= 0) & (np.asarray(cells) < 56 * 56)).all()


def test_keypoint_losses_by_hand():
    # Two cells a side, two types of keypoint, two regions of which the second has no object.
    logits = np.zeros((1, 2, 2, 2, 2), np.float32)
    logits[0, 0, :, :, 0] = [[1, 2], [3, 0]]
    logits[0, 1] = 9
    regions = np.array([[[0, 0, 4, 4], [0, 0, 4, 4]]], np.float32)
    points = np.array([[[[3, 1, 2], [1, 3, 1]], [[1, 1, 2], [1, 1, 2]]]], np.float32)
    total, count = keypoint_losses(logits, points, regions, np.array([[True, False]]))
    # The first lies in the upper right cell: -log(e^2 / (e + e^2 + e^3 + 1)); the second's four are equal.
    first = math.log(math.e + math.e**2 + math.e**3 + 1) - 2
    assert float(count) == 2
    assert float(total) == pytest.approx(first + math.log(4), rel=1e-5)
    points[..., 2] = 0
    assert [float(v) for v in keypoint_losses(logits, points, regions, np.array([[True] * 2]))] == [
        0,
        0,
    ]


def test_decode_finds_a_peak_where_it_was_put():
    logits = np.full((1, 2, 56, 56, 1), -5, np.float32)
    logits[0, :, 40, 19] = 7
    detections = {
        "labels": np.array([[1, -1]]),
        "boxes": np.array([[[50, 60, 162, 284], [-1] * 4]], np.float32),
    }
    found = keypoint_rcnn().decode({"detections": detections, "keypoint_logits": logits})
    # Cells of 2 x 4 pixels: the middle of cell (19, 40) lies at 50 + 39, 60 + 162. Cubic interpolation
    # is highest at the pixel centres beside it, the first of them in reading order.
    x, y, score = np.asarray(found["keypoints"])[0, 0, 0]
    assert (x, y) == pytest.approx((89, 222), abs=0.51)
    assert 4 < score <= 7
    assert (np.asarray(found["keypoints"])[0, 1] == -1).all()


def test_keypoints_come_to_the_images_own_pixels():
    detections = {
        "boxes": np.array([[10, 20, 30, 40], [-1] * 4], np.float32),
        "labels": np.array([0, -1]),
        "confidence": np.array([0.5, -1], np.float32),
        "keypoints": np.array([[[12, 24, 3.5]], [[-1, -1, -1]]], np.float32),
        "num_detections": np.array(1),
    }
    # A canvas of 100 x 200 (height, width) for an image of 50 x 400.
    found = to_image(detections, np.array([2, 0.5, 2, 0.5]), np.zeros(4), np.zeros((50, 400, 3)))
    assert found["boxes"].tolist() == [[20, 10, 60, 20]]
    assert found["keypoints"].tolist() == [[[24, 12, 3.5]]]


@pytest.fixture(scope="module")
def trained():
    """A model after 30 steps on four images, and its history."""
    keras.utils.set_random_seed(1)
    model = keypoint_rcnn(norm="none", score_threshold=0.0, max_detections=6)
    model.compile(keras.optimizers.Adam(2e-3))
    inputs, targets = batch(4)
    return model, model.fit(inputs, targets, batch_size=4, epochs=30, verbose=0).history


def test_fit_lowers_the_losses(trained):
    model, history = trained
    assert set(history) == {"loss", *model.LOSS_TERMS}
    assert model.LOSS_TERMS[-1] == "keypoint_loss"
    # A uniform guess among 56 x 56 cells costs log 3136 = 8.05; he_normal begins near it.
    assert 7 < history["keypoint_loss"][0] < 10
    assert history["keypoint_loss"][-1] < 0.7 * history["keypoint_loss"][0]
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_predict_and_detect_have_keypoints(trained):
    model, _ = trained
    inputs, _ = batch(2)
    found = model.predict(inputs, verbose=0)
    assert found["keypoints"].shape == (2, 6, 4, 3)
    assert found["keypoints"].dtype == np.float32
    real = found["labels"] >= 0
    boxes, points = found["boxes"][real], found["keypoints"][real][..., :2]
    assert (points >= boxes[:, None, :2]).all()
    assert (points <= boxes[:, None, 2:] + 1).all()  # boxes under a pixel count as one
    (single,) = model.detect([inputs["images"][0]])
    np.testing.assert_allclose(
        single["keypoints"], found["keypoints"][0, : len(single["labels"])], atol=1.01
    )


def test_config_keeps_every_argument():
    branch = KeypointBranch(MultilevelRoIAlign(6), MaskHead((8,), None), name="mine")
    config = keypoint_rcnn(seed=3, max_detections=9, branches=(branch,)).get_config()
    copy = KeypointRCNN.from_config(config)
    assert copy.get_config() == config
    assert (copy.seed, copy.max_detections, copy.num_keypoints) == (3, 9, 4)
    assert copy.keypoint_names == ("top left", "top right", "bottom left", "bottom right")
    (branch,) = copy.branches
    assert (branch.pooling.output_size, branch.head.convs, branch.name) == (6, (8,), "mine")


def test_other_keypoints_are_an_error():
    model = keypoint_rcnn()
    inputs, targets = batch(2)
    outputs, points = model(inputs, training=True), targets.pop("keypoints")
    with pytest.raises(ValueError, match=r'"keypoints" \(B, G, 4, 3\), but they have none'):
        model.loss_terms(outputs, prepare(targets))
    three = {**targets, "keypoints": points[:, :, :3]}
    with pytest.raises(ValueError, match=r"but they have the shape \(2, 4, 3, 3\): use data"):
        model.loss_terms(outputs, prepare(three))


def test_batches_of_unknown_size(trained):
    model, _ = trained
    arrays = batch(2)
    model.test_function = None
    expected = model.evaluate(*arrays, verbose=0, return_dict=True)
    model.test_function = None
    found = model.evaluate(of_unknown_size(arrays), verbose=0, return_dict=True)
    assert found == pytest.approx(expected, rel=1e-4)


def test_torchvisions_names():
    backbone = ResNet((1, 1, 1, 1), bottleneck=False)
    model = keypoint_rcnn(backbone=backbone, depth=4, norm="none")
    names = torchvision.names(model)
    layers = [
        *(f"keypoint_head.{i}" for i in range(0, 16, 2)),
        "keypoint_predictor.kps_score_lowres",
    ]
    assert {name for name in names if "keypoint" in name} == {
        f"roi_heads.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")
    }
    assert (
        names["roi_heads.keypoint_head.14.weight"] is model.branches[0].head.conv_layers[7].kernel
    )


def test_float16_keeps_the_last_layer_in_float32():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = keypoint_rcnn(score_threshold=0.0, max_detections=5)
        (branch,) = model.branches
        assert branch.head.compute_dtype == "float16"
        assert branch.output_conv.compute_dtype == "float32"
        outputs = model(batch(1)[0])
        assert outputs["keypoint_logits"].dtype == "float32"
        assert np.isfinite(outputs["keypoint_logits"]).all()
    finally:
        keras.config.set_dtype_policy("float32")


def test_gradients_reach_the_branch_and_its_features():
    model = keypoint_rcnn()
    (branch,) = model.branches
    maps = {
        level: tf.Variable(np.random.default_rng(0).normal(size=(1, 8, 8, 16)).astype(np.float32))
        for level in ("P2", "P3", "P4", "P5")
    }
    region, points = np.array([[[0, 0, 16, 16]]], np.float32), np.full((1, 1, 4, 3), 8, np.float32)
    with tf.GradientTape() as tape:
        logits = branch.draw(model, maps, region)
        total, _ = keypoint_losses(logits, points, region, np.array([[True]]))
    weights = branch.trainable_weights
    gradients = tape.gradient(total, [maps["P2"], *weights])
    assert all(np.abs(tf.convert_to_tensor(gradient)).max() > 0 for gradient in gradients)
