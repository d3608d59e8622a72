"""What the sizes of a data set's objects ask of a detector, in NumPy: strides, and anchors by k-means."""

import numpy as np

from kerasdet.ops.checks import check_whole

MOST_ROUNDS = 300
CELLS = 2  # of the finest map, which a small object should measure
# The finest map takes objects below eight of its cells, as the papers' P3 takes those of 32 to 64 pixels.
FINEST_CELLS = 8
PAPER_STRIDES = (8, 16, 32, 64, 128)  # retinanet §3: P3 to P7
COARSE = 256  # pixels: eight cells of P5


def finest_stride(sizes):
    """Return the stride of the finest map that objects need: 8, or 4 for small ones.

    A cell should be at most half as long as the 5th percentile of the objects' sizes. On a coarser map the
    objects are learnt late and located badly.

    Args:
        sizes: (N, 2) widths and heights in pixels; those without an area are left out.
    """
    smallest, _ = _smallest_and_largest(sizes)
    return 8 if smallest >= 8 * CELLS else 4


def pyramid_strides(sizes, finest=4):
    """Return the strides of a feature pyramid for objects: the papers' P3 to P7, or a finer one from P2 on.

    The finer one ends with P5 unless the 95th percentile of the sizes is above eight of its cells.

    Args:
        sizes: (N, 2) widths and heights in pixels; those without an area are left out.
        finest: stride of the backbone's finest map.
    """
    if max(finest, finest_stride(sizes)) >= PAPER_STRIDES[0]:
        return PAPER_STRIDES
    _, largest = _smallest_and_largest(sizes)
    return (4, *(PAPER_STRIDES if largest > COARSE else PAPER_STRIDES[:3]))


def _smallest_and_largest(sizes):
    """Return the 5th and the 95th percentile of the roots of the areas."""
    areas = np.prod(np.asarray(sizes, "float64").reshape(-1, 2).clip(min=0), axis=-1)
    return np.percentile(np.sqrt(areas[areas > 0]), [5, 95]) if (areas > 0).any() else (COARSE,) * 2


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
        sizes: (N, 2) widths and heights in pixels, rounded to a thousandth here; those that are not finite
            and positive are left out.
        count: k, number of clusters.
        seed: of the first centroids, which are objects far from each other (k-means++).

    Returns:
        Centroids (k, 2), by area, and the mean over the objects of the IoU with the nearest of them.

    Raises:
        ValueError: fewer than k different sizes, or k is out of range.
    """
    check_whole("count", count, most=1000)
    sizes = _rounded(sizes)
    different = different_sizes(sizes)
    if different < count:
        raise ValueError(
            f"{count} anchors were asked for, but the {len(sizes)} objects have {different} different sizes; "
            "ask for as many at most."
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


def different_sizes(sizes):
    """Count the different sizes among which `cluster_sizes` finds clusters; see there."""
    return len(np.unique(_rounded(sizes), axis=0))


def _rounded(sizes):
    """Return the usable sizes (N, 2); equal objects of scaled images differ in their last digits."""
    sizes = np.asarray(sizes, "float64").reshape(-1, 2)
    sizes = sizes[np.isfinite(sizes).all(axis=1)].round(3)
    return sizes[(sizes > 0).all(axis=1)]


def _far_apart(sizes, count, rng):
    """Draw the first centroids, each with a probability by its squared distance from those before it."""
    chosen = [sizes[rng.integers(len(sizes))]]
    while len(chosen) < count:
        distance = (1 - shape_iou(sizes, np.stack(chosen)).max(axis=1)).clip(0) ** 2
        chosen.append(sizes[rng.choice(len(sizes), p=distance / distance.sum())])
    return np.stack(chosen)
