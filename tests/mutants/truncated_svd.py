"""Mutants of the truncated SVD: the factors, and the detector that has them."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/layers/truncated.py",
        "tests/layers/test_truncated.py",
        {
            "the smallest singular values stay": (
                "left[:, :rank] * values[:rank], right[:rank]",
                "left[:, -rank:] * values[-rank:], right[-rank:]",
                "test_the_largest_singular_values_stay test_the_nearest_kernel_of_a_rank",
            ),
            "the singular values are lost": (
                "left[:, :rank] * values[:rank], right[:rank]",
                "left[:, :rank], right[:rank]",
                "test_the_largest_singular_values_stay test_factors_of_a_dense_layer",
            ),
            "both factors hold them": (
                "left[:, :rank] * values[:rank], right[:rank]",
                "left[:, :rank] * values[:rank] ** 0.5, right[:rank] * values[:rank, None] ** 0.5",
                "test_the_largest_singular_values_stay",
            ),
            "the first product has a bias": (
                "rank, use_bias=False, dtype",
                "rank, dtype",
                "test_two_products_by_hand",
            ),
            "there is an activation between": (
                "rank, use_bias=False, dtype",
                'rank, "relu", use_bias=False, dtype',
                "test_two_products_by_hand test_factors_of_a_dense_layer",
            ),
            "there is no activation at last": (
                "keras.layers.Dense(units, activation, dtype",
                "keras.layers.Dense(units, None, dtype",
                "test_two_products_by_hand",
            ),
            "the bias is lost": (
                "self.second.set_weights([second, bias])",
                "self.second.set_weights([second, 0 * bias])",
                "test_factors_of_a_dense_layer",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/region_heads.py",
        "tests/layers/test_truncated.py",
        {
            "ranks are not heeded": (
                "        if rank:\n            return TruncatedDense",
                "        if rank and False:\n            return TruncatedDense",
                "test_heads_have_ranks",
            ),
            "ranks are not kept": (
                '            "ranks": self.ranks,\n',
                "",
                "test_heads_have_ranks",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/truncated_svd.py",
        "tests/models/test_truncated_svd.py",
        {
            "the other weights are fresh": (
                "        target.assign(source)\n",
                "        target.assign(target)\n",
                "test_full_rank_is_the_same",
            ),
            "only the first head is filled": (
                "for target, source in zip(thin_heads, heads):",
                "for target, source in zip(thin_heads[:1], heads):",
                "test_full_rank_is_the_same",
            ),
            "convolutions are fresh": (
                "        thin.set_weights(whole.get_weights())\n    for rank",
                "        thin.set_weights(thin.get_weights())\n    for rank",
                "test_heads_with_convolutions_keep_them",
            ),
            "a share is of the units": (
                "[min(layer.kernel.shape) for",
                "[max(layer.kernel.shape) for",
                "test_a_share_is_of_each_full_rank test_ranks_are_checked",
            ),
            "a share is rounded down": (
                "math.ceil(ranks * most)",
                "int(ranks * most)",
                "test_a_share_is_of_each_full_rank",
            ),
            "a truncated head is truncated again": (
                "not isinstance(head, DenseHead) or head.ranks",
                "not isinstance(head, DenseHead)",
                "test_models_without_dense_regions_are_refused",
            ),
        },
    ),
}
