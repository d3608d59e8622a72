"""Mask R-CNN against its paper: the loss of the true class's mask, its targets, decoding, and training."""

import contextlib
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdet.backbones import ResNet, ResNetHead
from kerasdet.layers import DenseHead, MaskHead, MultilevelRoIAlign
from kerasdet.models import MaskBranch, MaskRCNN
from kerasdet.models import mask_rcnn as paper
from kerasdet.models.detector import prepare
from kerasdet.models.mask_rcnn import mask_losses, own_class, pack_rows, positive_regions
from kerasdet.ops import native
from kerasdet.zoo.origins import torchvision
from tests.contract.detectors import batch, made, mask_rcnn
from tests.tiny import TinyBackbone

CONSTANTS = {
    "REGION_SIZE": 14,  # figure 4, right: 14 x 14 regions, 28 x 28 masks
    "OUTPUT_STD": 0.001,
}


def test_constants_are_the_papers():
    assert {name: getattr(paper, name) for name in CONSTANTS} == CONSTANTS
    branch = MaskBranch()
    assert branch.pooling.output_size == 14
    assert branch.head.get_config()["convs"] == (256,) * 4
    assert branch.head.get_config()["upsampled"] == 256
    assert (branch.LOSS_TERM, branch.TARGET, branch.EXTRA) == ("mask_loss", "masks", "masks")


def test_the_last_layer_begins_near_nothing():
    keras.utils.set_random_seed(0)
    branch = mask_rcnn().branches[0]
    assert branch.output_conv.kernel.shape == (1, 1, 16, 3)
    (wide,) = made(MaskRCNN, {"channels": 512, "depth": 0, "anchors": "paper"}).branches
    assert np.std(wide.output_conv.kernel) == pytest.approx(0.001, rel=0.1)
    assert not np.any(wide.output_conv.bias)


def test_the_heads_are_figure_4s():
    head = MaskHead()
    head.build((None, None, 14, 14, 256))
    # Four 3x3 convolutions of 256 channels, and a 2x2 transposed one.
    assert head.count_params() == 4 * (9 * 256 * 256 + 256) + (4 * 256 * 256 + 256)
    assert head.compute_output_shape((2, 5, 14, 14, 256)) == (2, 5, 28, 28, 256)
    assert head(np.zeros((1, 2, 14, 14, 256), np.float32)).shape == (1, 2, 28, 28, 256)
    second = MaskHead((8, 8), 4, norm="batch")
    second.build((None, None, 6, 6, 16))
    names = sorted(weight.path.split("/", 1)[1] for weight in second.weights)
    assert "conv1/norm/moving_variance" in names
    assert "conv1/bias" not in names
    copy = MaskHead.from_config(second.get_config())
    assert copy.get_config() == second.get_config()
    with pytest.raises(ValueError, match="norm must be"):
        MaskHead(norm="group")


def test_the_transposed_convolution_paints_blocks_of_two():
    head = MaskHead((), upsampled=1)
    head.build((None, None, 2, 2, 1))
    head.deconv.kernel.assign(np.array([[1, 2], [3, 4]], np.float32)[..., None, None])
    head.deconv.bias.assign([-1.0])
    region = np.array([[[1, 0], [0, 2]]], np.float32)[None, ..., None]
    painted = np.asarray(head(region))[0, 0, ..., 0]
    assert painted.tolist() == [[0, 1, 0, 0], [2, 3, 0, 0], [0, 0, 1, 3], [0, 0, 5, 7]]


def by_hand(empty=False):
    """One region of class 1, whose mask is the left half, and one without an object."""
    logits = np.random.default_rng(0).normal(0, 5, (1, 2, 2, 2, 3)).astype(np.float32)
    logits[0, 0, :, :, 1] = [[2, -1], [0, 3]]
    masks = np.zeros((1, 2, 2, 2), np.float32)
    masks[0, :, :, 0] = 0 if empty else 1
    return logits, masks, np.array([[1, -1]])


def test_mask_losses_by_hand_and_of_the_true_class_alone():
    logits, *rest = by_hand()
    total, count = mask_losses(logits, *rest)
    # The target is [[1, 0], [1, 0]]: log(1 + e^-x) where it is 1, log(1 + e^x) where it is 0.
    cells = [math.log1p(math.exp(x)) for x in (-2, -1, 0, 3)]
    assert float(count) == 1
    assert float(total) == pytest.approx(sum(cells) / 4, rel=1e-5)
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        total, _ = mask_losses(variable, *rest)
    gradient = tape.gradient(total, variable).numpy()
    assert (gradient[0, 0, :, :, 1] != 0).all()
    gradient[0, 0, :, :, 1] = 0
    assert not gradient.any()


def test_an_object_without_a_mask_teaches_none():
    total, count = mask_losses(*by_hand(empty=True))
    assert (float(total), float(count)) == (0, 0)


def sampled_regions():
    """Two images of eight regions: one with an object in the first, three in the second."""
    regions = np.arange(64, dtype=np.float32).reshape(2, 8, 4)
    objects = np.array([[3] + [-1] * 7, [0, 0, 1] + [-1] * 5])
    return regions, objects, objects < 9


def test_regions_without_an_object_are_left_out():
    sampled = sampled_regions()
    for count, most in ((8, 2), (9, 2), (100, 3), (2, 1)):
        regions, objects, rows = positive_regions(sampled, count)
        assert np.asarray(regions).tolist() == sampled[0][:, :most].tolist()
        positive = np.flatnonzero(np.asarray(objects) >= 0)
        assert sorted(row for row in np.asarray(rows) if row >= 0) == positive.tolist()
        assert len(rows) == 2 * most
    many = (np.tile(values, (4, 1) + (1,) * (values.ndim - 2)) for values in sampled)
    _, objects, rows = positive_regions(tuple(many), 100)
    # Sixteen of the 24 have an object, and no more are packed.
    assert np.asarray(rows).tolist() == np.flatnonzero(np.asarray(objects) >= 0).tolist()
    assert len(rows) == 16


def test_a_batch_without_an_object_keeps_one_place_an_image():
    regions, objects, counted = sampled_regions()
    regions, objects, rows = positive_regions((regions, 0 * objects - 1, counted), 100)
    assert regions.shape[1] == objects.shape[1] == 1
    assert np.asarray(rows).tolist() == [-1, -1]


def test_rows_of_all_images_are_packed():
    values = np.arange(12).reshape(2, 3, 2)
    packed = np.asarray(pack_rows(values, np.array([4, 1, -1])))
    assert packed.tolist() == [[[8, 9], [2, 3], [0, 1]]]
    assert pack_rows(values, None) is values


def test_all_places_are_kept_where_sizes_are_fixed():
    with native.portable():
        *_, rows = positive_regions(sampled_regions(), 100)
    assert sorted(np.asarray(rows)) == [-1] * 12 + [0, 8, 9, 10]


def test_the_branch_learns_the_same_from_packed_regions():
    keras.utils.set_random_seed(5)
    model = mask_rcnn(regions=256)  # more places than regions with an object
    inputs, targets = batch(2)
    targets["labels"][0, 1:] = -1  # images differ in the number of their objects
    terms = []
    for form in (contextlib.nullcontext, native.portable):
        with form():
            outputs = model(inputs, training=True)
            terms.append(model.loss_terms(outputs, prepare(targets), training=False)["mask_loss"])
    np.testing.assert_allclose(*np.asarray(terms), rtol=1e-5)
    assert terms[0][1] > 0


def test_own_class_by_hand():
    logits = np.arange(2 * 2 * 2 * 3, dtype=np.float32).reshape(1, 2, 2, 2, 3)
    own = own_class(logits, np.array([[2, -1]]))
    assert np.asarray(own)[0].tolist() == [[[2, 5], [8, 11]], [[0, 0], [0, 0]]]


def test_decode_takes_each_detections_own_mask():
    logits = np.zeros((1, 2, 2, 2, 3), np.float32)
    logits[0, 0, :, :, 2] = math.log(3)
    detections = {"labels": np.array([[2, -1]]), "boxes": np.array([[[0, 0, 4, 4], [-1] * 4]])}
    masks = mask_rcnn().decode({"detections": detections, "mask_logits": logits})["masks"]
    np.testing.assert_allclose(masks[0, 0], np.full((2, 2), 0.75), rtol=1e-6)
    assert (np.asarray(masks)[0, 1] == -1).all()


def c4(**settings):
    """Figure 4, left, of the smallest parts."""
    return MaskRCNN(
        3,
        backbone=TinyBackbone(levels=("C4",)),
        neck=False,
        pooling=MultilevelRoIAlign(6, name="pooling"),
        regions_per_image=16,
        branches=(MaskBranch(share_head=True),),
        **{"head": ResNetHead(1, bottleneck=False, name="head"), **settings},
    )


def test_the_branch_shares_the_fifth_stage(tmp_path):
    model = c4()
    own = [weight.path for weight in model.branches[0].head.weights]
    assert len(own) == 2
    assert all("deconv" in path for path in own)
    inputs, targets = batch(2)
    with tf.GradientTape() as tape:
        terms = model.loss_terms(model(inputs, training=True), prepare(targets), training=False)
        loss = terms["mask_loss"][0]
    stage = tape.gradient(loss, model.head.trainable_weights)
    assert sum(np.abs(gradient).max() > 0 for gradient in stage if gradient is not None) > 1
    drawn = model(inputs)["mask_logits"]
    assert drawn.shape[2:] == (6, 6, 3)
    model.save(tmp_path / "c4.keras")
    loaded = keras.models.load_model(tmp_path / "c4.keras")
    np.testing.assert_allclose(loaded(inputs)["mask_logits"], drawn, atol=1e-5)
    assert len(loaded.weights) == len(model.weights)


def test_a_head_that_cannot_be_shared_is_an_error():
    with pytest.raises(ValueError, match=r"share_head needs a head with maps, .* not a DenseHead"):
        c4(head=DenseHead((8,)))
    with pytest.raises(ValueError, match="share_head takes no pooling, but got"):
        MaskBranch(MultilevelRoIAlign(6), share_head=True)


@pytest.fixture(scope="module")
def trained():
    """A model after 20 steps on four images, and its history."""
    keras.utils.set_random_seed(1)
    model = mask_rcnn(norm="none", score_threshold=0.0, max_detections=6)
    model.compile(keras.optimizers.Adam(2e-3))
    inputs, targets = batch(4)
    return model, model.fit(inputs, targets, batch_size=4, epochs=20, verbose=0).history


def test_fit_lowers_the_losses(trained):
    model, history = trained
    assert set(history) == {"loss", *model.LOSS_TERMS}
    assert model.LOSS_TERMS[-1] == "mask_loss"
    # All logits begin near 0: log 2 for every cell.
    assert history["mask_loss"][0] == pytest.approx(math.log(2), abs=0.01)
    assert history["mask_loss"][-1] < 0.6
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_predict_and_detect_have_masks(trained):
    model, _ = trained
    inputs, _ = batch(2)
    found = model.predict(inputs, verbose=0)
    assert found["masks"].shape == (2, 6, 28, 28)
    assert found["masks"].dtype == np.float32
    real = found["labels"] >= 0
    assert ((found["masks"][real] >= 0) & (found["masks"][real] <= 1)).all()
    (single,) = model.detect([inputs["images"][0]])
    assert single["masks"].shape == (len(single["labels"]), 28, 28)
    np.testing.assert_allclose(
        single["masks"], found["masks"][0, : len(single["masks"])], atol=1e-4
    )
    model.score_threshold = 0.999
    try:
        assert (model.predict(inputs, verbose=0)["masks"] == -1).all()
    finally:
        model.score_threshold = 0.0


def test_config_keeps_every_argument():
    branch = MaskBranch(MultilevelRoIAlign(6), MaskHead((8,), 4), name="mine")
    config = mask_rcnn(seed=3, max_detections=9, branches=(branch,)).get_config()
    assert [part["class_name"] for part in config["branches"]] == ["MaskBranch"]
    copy = MaskRCNN.from_config(config)
    assert copy.get_config() == config
    assert (copy.seed, copy.max_detections) == (3, 9)
    (branch,) = copy.branches
    assert (branch.pooling.output_size, branch.head.convs, branch.head.upsampled) == (6, (8,), 4)
    assert (branch.name, branch.share_head) == ("mine", False)
    (shared,) = MaskRCNN.from_config(c4().get_config()).branches
    assert shared.share_head


def test_masks_of_another_size_than_the_canvas_are_an_error(trained):
    model, _ = trained
    inputs, targets = batch(2)
    with pytest.raises(ValueError, match=r"masks\" are \(60, 64\) .* images are \(64, 64\)"):
        model.evaluate(inputs, {**targets, "masks": targets["masks"][:, :, :60]}, verbose=0)


def test_targets_without_masks_are_an_error():
    model = mask_rcnn()
    inputs, targets = batch(2)
    del targets["masks"]
    with pytest.raises(ValueError, match=r'no "masks" \(B, G, H, W\)'):
        model.loss_terms(model(inputs, training=True), prepare(targets))


def of_unknown_size(arrays):
    """The same batch, as a data set that knows no size."""

    def spec(value):
        return tf.TensorSpec((None,) * value.ndim, value.dtype)

    specs = tf.nest.map_structure(spec, arrays)
    inputs, targets = specs
    inputs["images"] = tf.TensorSpec((None, None, None, 3), arrays[0]["images"].dtype)
    inputs["image_sizes"] = tf.TensorSpec((None, 2), "float32")
    targets["boxes"] = tf.TensorSpec((None, None, 4), "float32")
    if "keypoints" in targets:
        targets["keypoints"] = tf.TensorSpec((None, None, *arrays[1]["keypoints"].shape[2:]))
    data = tf.data.Dataset.from_generator(lambda: iter([arrays]), output_signature=specs)
    return data.apply(tf.data.experimental.assert_cardinality(1))


def test_batches_of_unknown_size(trained):
    model, _ = trained
    arrays = batch(2)
    expected = model.evaluate(*arrays, verbose=0, return_dict=True)
    model.test_function = None
    found = model.evaluate(of_unknown_size(arrays), verbose=0, return_dict=True)
    model.test_function = None
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_torchvisions_names_and_its_background(norm):
    model = mask_rcnn(
        backbone=ResNet((1, 1, 1, 1), bottleneck=False),
        branches=(MaskBranch(head=MaskHead((16, 16), 8, norm=norm, name="mask_head")),),
        norm="none",
    )
    shapes = {
        "mask_head.0.0.weight": (16, 16, 3, 3),
        "mask_head.1.0.weight": (16, 16, 3, 3),
        "mask_predictor.conv5_mask.weight": (16, 8, 2, 2),
        "mask_predictor.conv5_mask.bias": (8,),
        "mask_predictor.mask_fcn_logits.weight": (4, 8, 1, 1),
        "mask_predictor.mask_fcn_logits.bias": (4,),
    }
    for i, kind in np.ndindex(2, 4):
        if norm:
            kind = ("weight", "bias", "running_mean", "running_var")[kind]
            shapes[f"mask_head.{i}.1.{kind}"] = (16,)
        else:
            shapes[f"mask_head.{i}.0.bias"] = (16,)
    names = torchvision.names(model)
    ours = {name for name in names if ".mask_" in name}
    assert ours == {f"roi_heads.{name}" for name in shapes}

    rng = np.random.default_rng(0)
    order = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    tensors = {
        name: rng.normal(size=[value.shape[axis] for axis in order[len(value.shape)]])
        for name, value in names.items()
    }
    for kind, extra in (("cls_score", 0), ("bbox_pred", 4)):  # classes and boxes of the background
        for weight in ("weight", "bias"):
            key = f"roi_heads.box_predictor.{kind}.{weight}"
            tensors[key] = np.concatenate([tensors[key][:extra], tensors[key]])
    tensors |= {f"roi_heads.{name}": rng.normal(size=shape) for name, shape in shapes.items()}
    torchvision.fill(model, tensors, "a test")
    (branch,) = model.branches
    theirs = tensors["roi_heads.mask_predictor.mask_fcn_logits.weight"]
    np.testing.assert_allclose(branch.output_conv.kernel[0, 0], theirs[1:, :, 0, 0].T, rtol=1e-6)
    theirs = tensors["roi_heads.mask_predictor.conv5_mask.weight"]
    np.testing.assert_allclose(branch.head.deconv.kernel[1, 0, 5, 7], theirs[7, 5, 1, 0])


def test_float16_keeps_the_last_layer_in_float32():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = mask_rcnn(score_threshold=0.0, max_detections=5)
        (branch,) = model.branches
        assert branch.head.compute_dtype == "float16"
        assert branch.output_conv.compute_dtype == "float32"
        outputs = model(batch(1)[0])
        assert outputs["mask_logits"].dtype == "float32"
        assert np.isfinite(outputs["mask_logits"]).all()
    finally:
        keras.config.set_dtype_policy("float32")
