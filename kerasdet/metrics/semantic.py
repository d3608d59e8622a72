"""Semantic segmentation: the class predicted for each pixel, and the four figures computed from it.

Source: Long et al., Fully Convolutional Networks for Semantic Segmentation, arXiv 1411.4038v2,
section 5. Pixels of the class -1 are void and never count.
"""

import numpy as np

from kerasdet.metrics.evaluation import match_classes

VOID = -1


def count_pixels(truth, prediction, num_classes):
    """Compute the confusion matrix of one image's pixels.

    Args:
        truth: (H, W) integers 0..K-1, or -1 for void pixels, which do not count.
        prediction: (H, W) integers 0..K-1.
        num_classes: K.

    Returns:
        (K, K) int64: n_ij, number of pixels of class i that are predicted as class j.

    Raises:
        ValueError: the maps have different sizes, or a class outside the range.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise ValueError(
            f"the semantic map has shape {truth.shape} and its prediction {prediction.shape}; both "
            "must be (height, width) of the image."
        )
    _check_range(truth, VOID, num_classes, "the semantic map", "write void pixels as -1")
    _check_range(prediction, 0, num_classes, "the prediction", "every pixel gets a class")
    counted = truth != VOID  # (H, W)
    pairs = num_classes * truth[counted].astype("int64") + prediction[counted]  # (pixels,)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def semantic_figures(matrix, class_names=None):
    """Compute pixel accuracy, mean accuracy, mean IU and frequency-weighted IU.

    A class without pixels in truth and prediction is left out of the means. A class without pixels in
    truth is also left out of the mean accuracy; if it was predicted, its IU is 0, which counts.

    Args:
        matrix: (K, K) counts n_ij of pixels of class i predicted as class j, from `count_pixels`,
            summed over all images.
        class_names: K names, default "0".."K-1".

    Returns:
        Dict of "mIU", "pixel_accuracy", "mean_accuracy" and "fwIU" (floats 0..1) and "per_class":
        name -> {"IU", "accuracy", "pixels"}, with pixels in truth. A figure that could not be measured
        is None.

    Raises:
        ValueError: the matrix is not square or has a negative count, or the number of names is wrong.

    Source: arXiv 1411.4038v2, section 5.
    """
    matrix = np.asarray(matrix)
    count = len(matrix)
    if matrix.shape != (count, count) or (matrix < 0).any():
        raise ValueError(f"the matrix must hold counts (K, K), not {matrix.tolist()!r:.80}.")
    names = [str(label) for label in range(count)] if class_names is None else list(class_names)
    if len(names) != count:
        raise ValueError(
            f"{len(names)} class_names for a matrix of {count} classes: give one each."
        )
    right = np.diagonal(matrix).astype("float64")  # (K,) n_ii
    true = matrix.sum(1, dtype="float64")  # (K,) t_i
    union = true + matrix.sum(0, dtype="float64") - right  # (K,)
    with np.errstate(invalid="ignore"):
        accuracy, iu = right / true, right / union  # (K,), NaN where there are no pixels
    measured = true > 0
    # Eq: fcn §5 | pixel accuracy = sum_i n_ii / sum_i t_i
    pixel_accuracy = right.sum() / max(true.sum(), 1)
    # Eq: fcn §5 | mean accuracy = 1 / n_cl sum_i n_ii / t_i
    mean_accuracy = _mean(accuracy[measured])
    # Eq: fcn §5 | mean IU = 1 / n_cl sum_i n_ii / (t_i + sum_j n_ji - n_ii)
    mean_iu = _mean(iu[union > 0])
    # Eq: fcn §5 | frequency weighted IU = 1 / sum_k t_k sum_i t_i n_ii / (t_i + sum_j n_ji - n_ii)
    weighted_iu = (true * iu)[measured].sum() / max(true.sum(), 1)
    return {
        "mIU": mean_iu,
        "pixel_accuracy": float(pixel_accuracy) if measured.any() else None,
        "mean_accuracy": mean_accuracy,
        "fwIU": float(weighted_iu) if measured.any() else None,
        "per_class": {
            name: {
                "IU": float(iu[label]) if union[label] else None,
                "accuracy": float(accuracy[label]) if true[label] else None,
                "pixels": int(true[label]),
            }
            for label, name in enumerate(names)
        },
    }


def evaluate_segmentation(model, dataset, progress=None):
    """Segment every image of a data set, and measure, with one image in memory at a time.

    Args:
        model: segmenter with `class_names`, K of them, and `segment(images)`, which returns a list of
            (H, W) integer maps 0..K-1 of the images' own sizes.
        dataset: `kerasdet.data` data set with semantic maps. If it has `semantic_names`, its classes
            are matched to the model's by name; otherwise its numbers are the model's.
        progress: None, or a function that wraps the iterator of images (a progress bar).

    Returns:
        Tuple of the figures from `semantic_figures`, and the matrix (K, K) int64 of pixels that
        they come from: true classes in rows, predicted in columns, in the order of the model's classes.

    Raises:
        ValueError: the data has no semantic maps, or a class that the model does not know; or a map
            is not as described (the message names the image).
    """
    if len(dataset) == 0 or dataset.semantic(0) is None:
        raise ValueError(
            f"{dataset.name} has no semantic maps to measure segmentation on: open the data "
            "with them, such as data.coco(..., semantic=FOLDER)."
        )
    count = len(model.class_names)
    labels = _model_labels(model.class_names, dataset.semantic_names)
    matrix = np.zeros((count, count), "int64")
    images = dataset.images()
    for index, image in enumerate(images if progress is None else progress(images)):
        (prediction,) = model.segment([image])
        try:
            truth = np.asarray(dataset.semantic(index))
            if labels is not None:
                _check_range(truth, VOID, len(labels) - 1, "the semantic map", "see semantic_names")
                truth = labels[truth]  # (H, W); void, -1, takes the last entry
            matrix += count_pixels(truth, prediction, count)
        except (TypeError, ValueError) as error:
            image_id = dataset.record(index).image_id
            raise ValueError(f"{dataset.name}, image {image_id!r}: {error}") from error
    return semantic_figures(matrix, model.class_names), matrix


def _model_labels(model_names, data_names):
    """Map the data's labels to the model's, (K + 1,), the last for void; None without names."""
    if not len(data_names):
        return None
    data_labels = match_classes(model_names, data_names)  # one per class of the model
    labels = np.full(len(data_names) + 1, VOID, "int32")
    labels[data_labels[data_labels >= 0]] = np.flatnonzero(data_labels >= 0)
    return labels


def _check_range(classes, low, num_classes, what, fix):
    if classes.dtype.kind not in "iu":
        raise ValueError(f"{what} has dtype {classes.dtype}; classes must be integers.")
    if classes.size and not (classes.min() >= low and classes.max() < num_classes):
        wrong = classes.min() if classes.min() < low else classes.max()
        raise ValueError(
            f"{what} has the class {wrong}, but there are {num_classes}, 0..{num_classes - 1}: {fix}."
        )


def _mean(values):
    return float(values.mean()) if values.size else None
