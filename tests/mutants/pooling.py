"""Mutants of spatial pyramid pooling, maxout and L2 normalisation."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/ops/pooling.py",
    "tests/ops/test_pooling.py",
    {
        "a window begins at the corner's cell": (
            'ops.cast(ops.floor(regions[:, :2]), "int32") + 1',
            'ops.cast(ops.floor(regions[:, :2]), "int32")',
            "test_spatial_pyramid_pool_of_a_window_by_hand",
        ),
        "a window ends at the corner's cell": (
            'ops.cast(ops.ceil(regions[:, 2:]), "int32") - 1',
            'ops.cast(ops.ceil(regions[:, 2:]), "int32")',
            "test_spatial_pyramid_pool_of_a_window_by_hand",
        ),
        "a window lacks its last cell": (
            "ops.maximum(last - first + 1, 1)",
            "ops.maximum(last - first, 1)",
            "test_spatial_pyramid_pool_of_a_window_by_hand",
        ),
        "x and y change places": (
            "return ops.flip(first, axis=1), ",
            "return first, ",
            "test_spatial_pyramid_pool_of_a_window_by_hand",
        ),
        "a row of bins ends at the floor": (
            "((i + 1) * height + n - 1) // n",
            "((i + 1) * height) // n",
            "test_spatial_pyramid_pool_by_hand",
        ),
        "a bin ends at the floor": (
            "((j + 1) * width + n - 1) // n",
            "((j + 1) * width) // n",
            "test_spatial_pyramid_pool_by_hand",
        ),
        "the average is the maximum": (
            'reduce = ops.max if pooling == "max" else ops.mean',
            "reduce = ops.max",
            "test_spatial_pyramid_pool_by_hand",
        ),
        "a window's average is a sum": (
            " / ops.maximum(roi.counts(sizes), 1.0)",
            "",
            "test_spatial_pyramid_pool_of_a_window_by_hand",
        ),
        "maxout averages": (
            "return ops.max(ops.reshape(inputs, split), axis=axis)",
            "return ops.mean(ops.reshape(inputs, split), axis=axis)",
            "test_maxout_by_hand",
        ),
        "maxout's units are neighbours": (
            "return ops.max(ops.reshape(inputs, split), axis=axis)",
            "return ops.max(ops.reshape(inputs, (*shape[:axis], num_units, channels // num_units, *shape[axis + 1 :])), axis=axis + 1)",
            "test_maxout_by_hand",
        ),
        "the norm is a sum of absolute values": (
            "ops.sum(x * x, axis",
            "ops.sum(ops.abs(x), axis",
            "test_l2_normalize_by_hand",
        ),
        "the norm is not rooted": (
            "x * ops.rsqrt(ops.maximum(squares, epsilon))",
            "x / ops.maximum(squares, epsilon)",
            "test_l2_normalize_by_hand",
        ),
        "the scale is lost": (
            "epsilon)) * scale, inputs.dtype",
            "epsilon)), inputs.dtype",
            "test_l2_normalize_by_hand",
        ),
        "epsilon is added": (
            "ops.maximum(squares, epsilon)",
            "(squares + epsilon)",
            "test_l2_normalize_by_hand",
        ),
        "squares are taken in half precision": (
            'check_positive("epsilon", epsilon)\n    x = ops.cast(inputs, "float32")',
            'check_positive("epsilon", epsilon)\n    x = inputs',
            "test_l2_normalize_squares_in_float32",
        ),
    },
)
