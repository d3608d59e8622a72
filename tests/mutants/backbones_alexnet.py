"""Mutants of AlexNet and its kin, and of the layers that they brought: pooling, local responses, groups."""

from tests.mutants import mutants

CAFFE = "test_outputs_are_caffes"
OPS = "test_local_response_norm_by_hand"
MUTANTS = {
    **mutants(
        "kerasdet/backbones/alexnet.py",
        "tests/backbones/test_alexnet.py",
        {
            "the towers see each other in conv2": ("(256, 5, 1, 2, 2)", "(256, 5, 1, 1, 2)", CAFFE),
            "conv3 has towers": (
                "*((384, 3, 1, 1, 1), (384, 3, 1, 2, 1)",
                "*((384, 3, 1, 2, 1), (384, 3, 1, 2, 1)",
                CAFFE,
            ),
            "only the first responses are normalised": ("number <= 2:", "number <= 1:", CAFFE),
            "no last pooling": (
                "POOLED = (1, 2, 5)",
                "POOLED = (1, 2)",
                "test_detectors_have_maps_that_lie_on_their_pixels",
            ),
            "published poolings drop the last window": (
                "(pool_padding, ceil_pools) if published",
                "(pool_padding, False) if published",
                "test_sizes_with_the_published_padding",
            ),
            "detectors' poolings are not padded": (
                "else (1, False)",
                "else (0, True)",
                "test_detectors_have_maps_that_lie_on_their_pixels",
            ),
            "the published padding is lost": (
                '"padding": pad if published else None',
                '"padding": None',
                CAFFE,
            ),
            "the paper's alpha weighs the mean": (
                '"alpha": 5e-4',
                '"alpha": 1e-4',
                "test_normalisations_have_the_published_constants",
            ),
            "ZF's neighbours are channels": (
                '"within_channel": True',
                '"within_channel": False',
                CAFFE,
            ),
            "CNN-M pads its first convolution": ("(96, 7, 2, 1, 0)", "(96, 7, 2, 1, 3)", CAFFE),
            "model M's fc7 is as wide as the others'": (
                "UNITS = (4096, 1024)",
                "UNITS = (4096, 4096)",
                "test_dense_layers_of_the_classifier",
            ),
            "one tower keeps the windows that torchvision drops": (
                "(ONE_TOWER, False)",
                "(ONE_TOWER, True)",
                "test_published_images_give_fc6_its_cells",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/pooling.py",
        "tests/ops/test_pooling.py",
        {
            "zeros pad a pooling": (
                "constant_values=-math.inf",
                "constant_values=0.0",
                "test_max_pool_keeps_the_window_that_the_end_cuts_off",
            ),
            "a window may begin beyond the map": (
                "return pooled[:, :rows, :columns] if ceil_mode else pooled",
                "return pooled",
                "test_number_of_windows",
            ),
            "alpha weighs the sum": ("alpha / size ** len(axes)", "alpha", OPS),
            "a window of cells has as many squares as one of channels": (
                "alpha / size ** len(axes)",
                "alpha / size",
                OPS,
            ),
            "k is one": ("scale = k + ", "scale = 1.0 + ", OPS),
            "responses are squared in half precision": (
                'x = ops.cast(inputs, "float32")\n    axes',
                "x = inputs\n    axes",
                "test_local_response_norm_squares_in_float32",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/conv.py",
        "tests/layers/test_conv.py",
        {
            "a convolution with a bias has no groups": (
                "inputs, self.kernel, self.stride, self.groups, padding=self._padding()",
                "inputs, self.kernel, self.stride, padding=self._padding()",
                "test_groups_and_padding_of_a_convolution_with_a_bias",
            ),
            "its padding is the usual one": (
                'return "symmetric" if usual else self.padding',
                'return "symmetric"',
                "test_groups_and_padding_of_a_convolution_with_a_bias",
            ),
            "valid is padded": (
                '"valid": [0, 0]',
                '"valid": None',
                "test_tensorflows_padding_by_hand",
            ),
            "a kernel's height pads its width": (
                "for size in kernel.shape[:2]]",
                "for size in (kernel.shape[0],) * 2]",
                "test_kernels_that_are_not_square",
            ),
        },
    ),
}
