"""Mutants of group normalisation and batch normalisation, and of convolution's padding."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/layers/group_norm.py",
        "tests/layers/test_group_norm.py",
        {
            "epsilon is lost": (
                "variance + self.epsilon",
                "variance",
                "test_by_hand",
            ),
            "the mean stays": (
                "outputs = centred *",
                "outputs = x *",
                "test_by_hand",
            ),
            "the variance is about zero": (
                "ops.square(centred)",
                "ops.square(x)",
                "test_by_hand",
            ),
            "beta is subtracted": (
                ")) + self.beta",
                ")) - self.beta",
                "test_by_hand",
            ),
            "gamma is lost": (
                "(self.gamma * ops.rsqrt",
                "(ops.rsqrt",
                "test_by_hand",
            ),
            "there are 16 groups": (
                "groups=32",
                "groups=16",
                "test_equals_float64",
            ),
            "epsilon is a thousandth": (
                "epsilon=1e-5",
                "epsilon=1e-3",
                "test_equals_float64",
            ),
            "every channel has its own mean": (
                "ops.mean(means, axis=-1, keepdims=True)",
                "means",
                "test_by_hand",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/conv.py",
        "tests/layers/test_conv.py",
        {
            "a fused norm has no least variance": (
                "self.moving_mean, self.usable_variance()",
                "self.moving_mean, self.moving_variance",
                "test_dead_channels_without_epsilon_stay_finite",
            ),
            "float16 is fused": (
                "and not half and native",
                "and native",
                "test_half_precision_and_groups_are_folded",
            ),
            "groups are fused": (
                "self.groups == 1 and not half",
                "not half",
                "test_half_precision_and_groups_are_folded",
            ),
            "nothing is fused": (
                "elif self.is_fused(training):",
                "elif False:",
                "test_a_graph_fuses_what_eager_code_folds",
            ),
            "the mean stays": (
                "(x - mean) * (gamma",
                "x * (gamma",
                "test_fused_kernel_equals_portable_form",
            ),
            "epsilon is lost": (
                "variance + epsilon)) + beta",
                "variance)) + beta",
                "test_fused_kernel_equals_portable_form",
            ),
            "beta is subtracted": (
                "+ epsilon)) + beta",
                "+ epsilon)) - beta",
                "test_fused_kernel_equals_portable_form",
            ),
            "the moving variance is biased": (
                "variance * count / ops.maximum(count - 1.0, 1.0)",
                "variance * count / ops.maximum(count, 1.0)",
                "test_fused_kernel_equals_portable_form",
            ),
            "the moving mean does not move": (
                "self.moving_mean * keep + mean * (1.0 - keep)",
                "self.moving_mean * keep + self.moving_mean * (1.0 - keep)",
                "test_training_normalises_by_the_batch_and_follows_its_unbiased_variance",
            ),
            "momentum is the new statistics' share": (
                "keep = self.momentum",
                "keep = 1.0 - self.momentum",
                "test_training_normalises_by_the_batch_and_follows_its_unbiased_variance",
            ),
            "frozen statistics move": (
                "if not (training and self.trainable):",
                "if not training:",
                "test_a_frozen_norm_alone_keeps_its_statistics",
            ),
            "padding ignores the dilation": (
                "[dilation * (size // 2) for size in kernel.shape[:2]]",
                "[size // 2 + 1 for size in kernel.shape[:2]]",
                "test_inference_equals_loops",
            ),
            "a strided convolution pads as TensorFlow": (
                "if stride > 1 else None\n    else:",
                "if stride > 99 else None\n    else:",
                "test_inference_equals_loops",
            ),
            "kernels begin by fan-in": (
                "height * width * self.filters)",
                "height * width * channels)",
                "test_initial_kernel_is_he_normal_by_fan_out",
            ),
            "the folded shift is lost": (
                "_add_bias(self.convolve(inputs, kernel), shift)",
                "self.convolve(inputs, kernel)",
                "test_inference_equals_loops",
            ),
        },
    ),
}
