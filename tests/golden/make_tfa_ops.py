"""Write tfa_ops.npz: what tensorflow-addons gives, and its gradients, for those who come from it.

Run with a Python that has tensorflow-addons 0.23 on TensorFlow 2.15:
`python tests/golden/make_tfa_ops.py`. Everything is computed in float64.
"""

from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa
from store import Case, save, upstream

NONE = tf.keras.losses.Reduction.NONE


def record(op, inputs, options, function, differentiate):
    """Run `function(**inputs)` on tensors: a Case with its output and gradients."""
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    watched = [tensors[name] for name in differentiate]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        output = function(**tensors)
        weighted = tf.reduce_sum(output * upstream(output.shape))
    slopes = tape.gradient(weighted, watched)
    gradients = {name: slope.numpy() for name, slope in zip(differentiate, slopes)}
    return Case(op, inputs, options, output.numpy(), gradients)


def sigmoid_focal_loss(seed, alpha, gamma):
    """SigmoidFocalCrossEntropy, which sums over the last axis: here of size one."""
    rng = np.random.default_rng(seed)
    inputs = {"targets": rng.integers(0, 2, (60, 1)), "logits": rng.normal(0, 4, (60, 1))}
    loss = tfa.losses.SigmoidFocalCrossEntropy(
        from_logits=True, alpha=alpha, gamma=gamma, reduction=NONE
    )

    def run(targets, logits):
        return loss(targets, logits)[:, None]

    options = {"alpha": alpha, "gamma": gamma}
    return record("sigmoid_focal_loss", inputs, options, run, ["logits"])


def box_loss(seed, mode):
    """GIoULoss and its IoU mode; its boxes are (y1, x1, y2, x2)."""
    rng = np.random.default_rng(seed)
    corners, sides = rng.uniform(0, 40, (2, 40, 2)), rng.uniform(5, 60, (2, 40, 2))
    true, predicted = np.concatenate([corners, corners + sides], -1)
    loss = tfa.losses.GIoULoss(mode, reduction=NONE)

    def run(boxes_true, boxes_pred):
        swapped = [tf.gather(boxes, [1, 0, 3, 2], axis=-1) for boxes in (boxes_true, boxes_pred)]
        return loss(*swapped)

    inputs = {"boxes_true": true, "boxes_pred": predicted}
    return record(f"{mode}_loss", inputs, {}, run, ["boxes_pred"])


def spatial_pyramid_pool(seed, levels, rows, columns):
    """SpatialPyramidPooling2D: averages, on maps that every level divides."""
    rng = np.random.default_rng(seed)
    inputs = {"features": np.round(rng.normal(0, 1, (2, rows, columns, 3)), 2)}
    layer = tfa.layers.SpatialPyramidPooling2D(list(levels), dtype="float64")
    options = {"levels": levels, "pooling": "average"}
    return record(
        "spatial_pyramid_pool", inputs, options, lambda features: layer(features), ["features"]
    )


def maxout(seed, shape, num_units, axis):
    """Maxout."""
    inputs = {"inputs": np.random.default_rng(seed).normal(0, 1, shape)}
    layer = tfa.layers.Maxout(num_units, axis, dtype="float64")
    options = {"num_units": num_units, "axis": axis}
    return record("maxout", inputs, options, lambda inputs: layer(inputs), ["inputs"])


CASES = {
    "tfa_focal_loss/paper": partial(sigmoid_focal_loss, 0, 0.25, 2.0),
    "tfa_focal_loss/large_gamma": partial(sigmoid_focal_loss, 1, 0.75, 5.0),
    "tfa_focal_loss/small_gamma": partial(sigmoid_focal_loss, 2, 0.5, 0.5),
    "tfa_giou_loss/random": partial(box_loss, 10, "giou"),
    "tfa_iou_loss/random": partial(box_loss, 11, "iou"),
    "tfa_spatial_pyramid_pool/1_2_4": partial(spatial_pyramid_pool, 20, (1, 2, 4), 8, 12),
    "tfa_spatial_pyramid_pool/1_2_3_6": partial(spatial_pyramid_pool, 21, (1, 2, 3, 6), 6, 12),
    "tfa_maxout/last_axis": partial(maxout, 30, (4, 5, 12), 3, -1),
    "tfa_maxout/first_axis": partial(maxout, 31, (4, 8, 5), 2, 1),
}


def main():
    """Write the file beside this script."""
    cases = {name: make() for name, make in CASES.items()}
    versions = {
        "tensorflow": tf.__version__,
        "tensorflow_addons": tfa.__version__,
        "numpy": np.__version__,
    }
    save(Path(__file__).with_name("tfa_ops.npz"), cases, versions)


if __name__ == "__main__":
    main()
