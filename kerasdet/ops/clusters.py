"""Sizes of anchors by k-means clustering of objects, in NumPy."""

import numpy as np

from kerasdet.ops.checks import check_whole

MOST_ROUNDS = 300


def shape_iou(sizes, centroids):
    """Return the IoU of boxes that have one centre, of which only sizes count.

    Args:
        sizes: (N, 2) widths and heights.
        centroids: (M, 2), likewise.

    Returns:
        (N, M) float64 in [0, 1].
    """
    sizes, centroids = (np.asarray(x, "float64") for x in (sizes, centroids))
    overlap = np.minimum(sizes[:, None], centroids[None]).prod(axis=-1)
    areas = sizes.prod(axis=-1)[:, None] + centroids.prod(axis=-1)[None]
    return overlap / np.maximum(areas - overlap, 1e-12)


def cluster_sizes(sizes, count=5, seed=0):
    """Cluster the sizes of objects by IoU (YOLOv2, arXiv 1612.08242, section 2, Dimension Clusters).

    Args:
        sizes: (N, 2) widths and heights; those that are not finite and positive are left out.
        count: k, number of clusters.
        seed: of the first centroids, which are objects far from each other (k-means++).

    Returns:
        Centroids (k, 2), by area, and the mean over the objects of the IoU with the nearest of them.

    Raises:
        ValueError: fewer than k different sizes, or k is out of range.
    """
    check_whole("count", count, most=1000)
    sizes = np.asarray(sizes, "float64").reshape(-1, 2)
    sizes = sizes[(np.isfinite(sizes) & (sizes > 0)).all(axis=1)]
    different = len(np.unique(sizes, axis=0))
    if different < count:
        raise ValueError(
            f"count is {count}, but the {len(sizes)} objects have {different} different sizes; give at most "
            "as many anchors."
        )
    centroids, before = _far_apart(sizes, count, np.random.default_rng(seed)), None
    for _ in range(MOST_ROUNDS):
        # Eq: yolo_v2 §2 | d(box, centroid) = 1 - IoU(box, centroid)
        nearest = np.argmin(1 - shape_iou(sizes, centroids), axis=1)
        if before is not None and (nearest == before).all():
            break
        for k in np.unique(nearest):
            centroids[k] = sizes[nearest == k].mean(axis=0)
        before = nearest
    centroids = centroids[np.argsort(centroids.prod(axis=1), kind="stable")]
    return centroids, float(shape_iou(sizes, centroids).max(axis=1).mean())


def _far_apart(sizes, count, rng):
    """Draw the first centroids, each with a probability by its squared distance from those before it."""
    chosen = [sizes[rng.integers(len(sizes))]]
    while len(chosen) < count:
        distance = (1 - shape_iou(sizes, np.stack(chosen)).max(axis=1)).clip(0) ** 2
        chosen.append(sizes[rng.choice(len(sizes), p=distance / distance.sum())])
    return np.stack(chosen)
