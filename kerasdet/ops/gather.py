"""Rows picked per image: the one gather that decoding and sampling need."""

from keras import ops


def gather_rows(values, indices):
    """Pick rows of each image's table.

    Args:
        values: (B, N) or (B, N, C).
        indices: (B, M) int32; a negative index (padding) picks row 0, for the caller to mask.

    Returns:
        (B, M) or (B, M, C).
    """
    # One flat gather with offsets: a batched gather is not among LiteRT's fast built-ins.
    batch, rows = ops.shape(values)[:2]
    offsets = ops.expand_dims(ops.arange(batch, dtype="int32") * rows, -1)
    flat = ops.reshape(values, (batch * rows, *ops.shape(values)[2:]))
    return ops.take(flat, ops.maximum(ops.cast(indices, "int32"), 0) + offsets, axis=0)
