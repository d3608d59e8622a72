"""Gathering rows per image and the entries of levels, and choosing the highest scores."""

from keras import ops


def gather_rows(values, indices):
    """Pick rows from each image's table.

    Args:
        values: (B, N) or (B, N, C).
        indices: (B, M) int32; a negative index (padding) picks row 0, which the caller must mask.

    Returns:
        (B, M) or (B, M, C).
    """
    # One flat gather with offsets, because batched gather is not among LiteRT's fast built-ins.
    batch, rows = ops.shape(values)[:2]
    offsets = ops.expand_dims(ops.arange(batch, dtype="int32") * rows, -1)  # (B, 1)
    flat = ops.reshape(values, (batch * rows, *ops.shape(values)[2:]))  # (B N, ...)
    return ops.take(flat, ops.maximum(ops.cast(indices, "int32"), 0) + offsets, axis=0)


def top_rows(scores, count):
    """Pick the highest scores of each image, or all of them if there are fewer.

    Args:
        scores: (B, N).
        count: how many.

    Returns:
        Scores (B, M), descending, and their indices (B, M) int32, with M = min(count, N).
    """
    size = ops.shape(scores)[1]
    count = min(count, size) if isinstance(size, int) else ops.minimum(count, size)
    best, indices = ops.top_k(scores, count)
    return best, ops.cast(indices, "int32")


def in_order(maps):
    """Return a list of the entries of a list, or of an ordered dict such as {"P3": ..., "P4": ...}."""
    return list(maps.values()) if isinstance(maps, dict) else list(maps)
