"""Non-maximum suppression against slow loops, in every form it runs in."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from kerasdet.ops import native
from kerasdet.ops.nms import batched_nms, nms, soft_nms

FORMS = {"native": contextlib.nullcontext, "portable": native.portable}


@pytest.fixture(params=sorted(FORMS))
def form(request):
    with FORMS[request.param]():
        assert native.available() == (request.param == "native")
        yield request.param


def slow_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    areas = [max(x[2] - x[0], 0) * max(x[3] - x[1], 0) for x in (a, b)]
    union = sum(areas) - intersection
    return intersection / union if union > 0 else 0


def slow_nms(boxes, scores, labels, threshold, size, score_threshold=None):
    valid = np.isfinite(scores) & np.isfinite(boxes).all(-1)
    if score_threshold is not None:
        valid &= scores > score_threshold
    kept = []
    for i in sorted(np.flatnonzero(valid), key=lambda i: (-scores[i], i)):
        if len(kept) < size and all(
            labels[i] != labels[j] or slow_iou(boxes[i], boxes[j]) <= threshold for j in kept
        ):
            kept.append(int(i))
    return kept + [-1] * (size - len(kept)), len(kept)


def crowd(seed, images=2, count=60, classes=4):
    """Clusters of overlapping boxes, with equal scores, flat boxes, NaN and infinity among them."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 300, (images, 8, 2))[:, rng.integers(0, 8, count)]
    centres = centres + rng.normal(0, 8, centres.shape)
    sides = rng.uniform(10, 60, centres.shape)
    sides[:, 0] = 0
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], -1).astype("float32")
    boxes[:, 1, 2] = np.nan
    scores = np.round(rng.uniform(0, 1, (images, count)), 1).astype("float32")
    scores[:, 2], scores[:, 3], scores[:, 4] = np.nan, np.inf, -np.inf
    return boxes, scores, rng.integers(0, classes, (images, count))


def test_nms_by_hand(form):
    # The second box overlaps the first with IoU 1/3 exactly, the third with 9/11.
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [1, 0, 11, 10], [50, 50, 60, 60]], "float32")
    scores = np.array([0.8, 0.7, 0.9, 0.1], "float32")
    indices, count = nms(boxes, scores, 0.5, 5)
    np.testing.assert_array_equal(indices, [2, 1, 3, -1, -1])
    assert int(count) == 3
    # Boxes 2 and 1 share 6 of 14.
    indices, count = nms(boxes, scores, 0.4, 5, score_threshold=0.1)
    np.testing.assert_array_equal(indices, [2, -1, -1, -1, -1])
    assert int(count) == 1


def test_iou_equal_to_the_threshold_is_kept(form):
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2]], "float32")
    assert int(nms(boxes, np.array([1.0, 0.5], "float32"), 0.5, 2)[1]) == 2


def test_equal_scores_go_by_index(form):
    boxes = np.tile(np.array([[0, 0, 4, 4]], "float32"), (4, 1)) + 10.0 * np.array(
        [[0], [0], [1], [2]]
    )
    indices, _ = nms(boxes, np.full(4, 0.5, "float32"), 0.5, 4)
    np.testing.assert_array_equal(indices, [0, 2, 3, -1])


@pytest.mark.parametrize("score_threshold", [None, 0.35])
@pytest.mark.parametrize("size", [7, 100])
def test_against_a_slow_loop(form, score_threshold, size):
    for seed in range(3):
        boxes, scores, labels = crowd(seed)
        for classes in (np.zeros_like(labels), labels):
            arguments = (0.5, size, score_threshold)
            if classes.any():
                indices, counts = batched_nms(boxes, scores, classes, *arguments)
            else:
                indices, counts = nms(boxes, scores, *arguments)
            for image in range(len(boxes)):
                expected, count = slow_nms(boxes[image], scores[image], classes[image], *arguments)
                assert np.asarray(indices[image]).tolist() == expected
                assert int(counts[image]) == count


def test_classes_do_not_touch_at_any_size(form):
    # Far from the origin, an offset per class would round the coordinates away.
    boxes = np.array([[1e6, 1e6, 1e6 + 4, 1e6 + 4]] * 4, "float32")
    labels = np.array([90, 0, 90, -7])
    indices, count = batched_nms(boxes, np.array([0.9, 0.8, 0.7, 0.6], "float32"), labels, 0.5, 4)
    np.testing.assert_array_equal(indices, [0, 1, 3, -1])
    assert int(count) == 3


def test_boxes_left_of_and_above_the_origin(form):
    boxes = np.array([[-9, -9, -1, -1], [-9, -9, -1, -2], [-4, -4, 0, 0]], "float32")
    indices, _ = nms(boxes, np.array([0.9, 0.8, 0.7], "float32"), 0.5, 3)
    np.testing.assert_array_equal(indices, [0, 2, -1])


def test_nothing_to_choose_from(form):
    empty = np.zeros((2, 0, 4), "float32")
    indices, counts = batched_nms(empty, np.zeros((2, 0), "float32"), np.zeros((2, 0)), 0.5, 3)
    np.testing.assert_array_equal(indices, np.full((2, 3), -1))
    np.testing.assert_array_equal(counts, [0, 0])
    boxes, scores, labels = crowd(0)
    indices, counts = batched_nms(boxes, scores, labels, 0.5, 3, score_threshold=2.0)
    np.testing.assert_array_equal(indices, np.full((2, 3), -1))
    np.testing.assert_array_equal(counts, [0, 0])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_equals_eager(form, jit_compile):
    boxes, scores, labels = crowd(5)
    expected = batched_nms(boxes, scores, labels, 0.5, 20)

    @tf.function(jit_compile=jit_compile)
    def compiled(boxes, scores, labels):
        assert native.available() == (form == "native" and not jit_compile)
        return batched_nms(boxes, scores, labels, 0.5, 20)

    indices, counts = compiled(boxes, scores, labels)
    assert indices.shape == (2, 20)
    np.testing.assert_array_equal(indices, expected[0])
    np.testing.assert_array_equal(counts, expected[1])


def test_unknown_sizes(form):
    function = tf.function(
        lambda boxes, scores: nms(boxes, scores, 0.5, 10),
        input_signature=[
            tf.TensorSpec((None, None, 4), "float32"),
            tf.TensorSpec((None, None), "float32"),
        ],
    )
    boxes, scores, _ = crowd(6)
    np.testing.assert_array_equal(function(boxes, scores)[0], nms(boxes, scores, 0.5, 10)[0])
    assert function(boxes[:, :0], scores[:, :0])[0].shape == (2, 10)


def test_bfloat16_scores(form):
    boxes, scores, _ = crowd(7)
    scores = tf.cast(scores, "bfloat16")
    expected = nms(boxes, tf.cast(scores, "float32"), 0.5, 10)[0]
    np.testing.assert_array_equal(nms(boxes, scores, 0.5, 10)[0], expected)


def test_litert_builtins_give_the_same():
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    boxes, scores, labels = crowd(9)
    function = tf.function(
        lambda b, s, c: batched_nms(b, s, c, 0.5, 10, 0.2),
        input_signature=[
            tf.TensorSpec(boxes.shape, "float32", "boxes"),
            tf.TensorSpec(scores.shape, "float32", "scores"),
            tf.TensorSpec(labels.shape, "int32", "labels"),
        ],
    )
    with native.portable():
        concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    file = interpreter.Interpreter(model_content=converter.convert())
    file.allocate_tensors()
    feeds = {"boxes": boxes, "scores": scores, "labels": labels.astype("int32")}
    for detail in file.get_input_details():
        file.set_tensor(detail["index"], feeds[detail["name"]])
    file.invoke()
    results = [file.get_tensor(detail["index"]) for detail in file.get_output_details()]
    found_counts, found_indices = sorted(results, key=np.ndim)
    indices, counts = batched_nms(boxes, scores, labels, 0.5, 10, 0.2)
    np.testing.assert_array_equal(found_indices, indices)
    np.testing.assert_array_equal(found_counts, counts)


def test_soft_nms():
    # IoU 1/3 between the first two; the third stands alone.
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [50, 50, 60, 60]], "float32")
    scores = np.array([0.9, 0.8, 0.7], "float32")
    lowered = 0.8 * np.exp(-((1 / 3) ** 2) / 0.5)
    indices, kept, count = soft_nms(boxes, scores, 4)
    np.testing.assert_array_equal(indices, [0, 2, 1, -1])
    np.testing.assert_allclose(kept, [0.9, 0.7, lowered, -1], rtol=1e-5)
    assert int(count) == 3
    indices, kept, _ = soft_nms(boxes, scores, 4, iou_threshold=0.3)
    np.testing.assert_allclose(kept, [0.9, 0.7, 0.8 * 2 / 3, -1], rtol=1e-5)
    indices, kept, count = soft_nms(boxes, scores, 4, iou_threshold=0.3, score_threshold=0.6)
    np.testing.assert_array_equal(indices, [0, 2, -1, -1])
    assert int(count) == 2


def test_linear_penalty_begins_at_its_threshold():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2]], "float32")  # IoU 1/2
    kept = soft_nms(boxes, np.array([0.9, 0.8], "float32"), 2, iou_threshold=0.5)[1]
    np.testing.assert_allclose(kept, [0.9, 0.4], rtol=1e-6)


def test_soft_nms_drops_scores_of_a_thousandth():
    boxes = np.array([[0, 0, 4, 4], [10, 0, 14, 4], [20, 0, 24, 4]], "float32")
    indices, _, count = soft_nms(boxes, np.array([0.9, 0.0009, 0.0011], "float32"), 3)
    np.testing.assert_array_equal(indices, [0, 2, -1])
    assert int(count) == 2


def test_soft_nms_of_a_batch_under_xla():
    boxes, scores, _ = crowd(8)
    function = tf.function(lambda b, s: soft_nms(b, s, 20), jit_compile=True)
    expected = soft_nms(boxes, scores, 20)
    for result, value in zip(function(boxes, scores), expected):
        np.testing.assert_allclose(result, value, rtol=1e-5)
