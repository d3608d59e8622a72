"""Mutants of Deformable ConvNets: the layers, the backbones, the rates, the detectors."""

from tests.mutants import mutants

LAYERS, BACKBONES = "tests/layers/test_deform.py", "tests/backbones/test_deformable.py"
MODELS, RATES = "tests/models/test_deformable.py", "tests/models/test_rates.py"

MUTANTS = {
    **mutants(
        "kerasdet/ops/deform.py",
        "tests/ops/test_deform.py",
        {
            "the cut border fades": (
                'if border == "cut":',
                'if border == "none":',
                "test_the_borders_by_hand test_the_cut_border_equals_a_loop",
            ),
            "the cut border begins half a cell before the map": (
                "(points >= 0.0)",
                "(points >= -0.5)",
                "test_the_borders_by_hand",
            ),
            "the cut border ends at the last cell": (
                "(points < extent)",
                "(points < extent - 1.0)",
                "test_the_borders_by_hand",
            ),
            "points beyond the last cell stay there": (
                "ops.minimum(points, extent - 1.0)",
                "points",
                "test_the_borders_by_hand",
            ),
            "depthwise kernels are turned": (
                "ops.reshape(kernel, (taps, channels))",
                "ops.reshape(kernel[::-1], (taps, channels))",
                "test_a_depthwise_kernel_is_a_diagonal_one",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/deform.py",
        LAYERS,
        {
            "two stages by default": (
                'LEVELS = ("C5",)',
                'LEVELS = ("C4", "C5")',
                f"test_constants_are_the_papers {MODELS}::test_constants_are_the_papers",
            ),
            "offsets learn slowly by default": (
                "OFFSET_RATE = 1.0",
                "OFFSET_RATE = 0.1",
                "test_constants_are_the_papers",
            ),
            "the branch reads its neighbours": (
                'strides, "valid"',
                'strides, "same"',
                "test_convolution_starts_as_keras_own",
            ),
            "the mask is no sigmoid": (
                "ops.sigmoid(mask)",
                "mask",
                "test_branch_of_the_convolution_by_hand test_a_normalised_convolution_by_hand",
            ),
            "the mask comes first": (
                "ops.split(outputs, [outputs.shape[-1] // 3 * 2], axis=-1)",
                "ops.split(outputs, [outputs.shape[-1] // 3], axis=-1)[::-1]",
                "test_branch_of_the_convolution_by_hand",
            ),
            "the normalised convolution is always at rest": (
                "return convolve_moved(inputs, kernel, self.offsets, self.border)\n\n    def get",
                "return ConvNorm.convolve(self, inputs, kernel)\n\n    def get",
                "test_a_normalised_convolution_by_hand",
            ),
            "dilation is lost": (
                "zeros = self.dilation * (kernel_size // 2)",
                "zeros = kernel_size // 2",
                "test_a_normalised_convolution_starts_as_the_plain_one",
            ),
            "every stage is deformable": (
                'if deformable is None or f"C{stage}" not in deformable.levels:',
                "if deformable is None:",
                "test_which_convolutions_are_deformable",
            ),
            "the border stays behind": (
                "border=deformable.border,",
                "",
                "test_which_convolutions_are_deformable",
            ),
            "the rate stays behind": (
                "offset_rate=deformable.offset_rate,",
                "",
                "test_which_convolutions_are_deformable",
            ),
        },
    ),
    **mutants(
        "kerasdet/layers/deform_roi.py",
        LAYERS,
        {
            "the dense layer learns as fast": (
                "DENSE_RATE = 0.01",
                "DENSE_RATE = 1.0",
                "test_constants_are_the_papers",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/rates.py",
        RATES,
        {
            "the rate is not applied": (
                "old + rate * (variable - old)",
                "old + (variable - old)",
                "test_a_rate_multiplies_the_change",
            ),
            "an optimizer multiplies twice": (
                'getattr(optimizer.apply, "plain", optimizer.apply)',
                "optimizer.apply",
                "test_an_optimizer_that_is_compiled_again_multiplies_once",
            ),
        },
    ),
    **mutants(
        "kerasdet/backbones/backbone.py",
        BACKBONES,
        {
            "offsets are lost in copies": (
                ".get_weights()[: len(layer.weights)]",
                ".get_weights()[:5]",
                "test_a_copy_keeps_learnt_offsets",
            ),
        },
    ),
    **mutants(
        "kerasdet/backbones/sampled_points.py",
        BACKBONES,
        {
            "padding is forgotten": (
                " - branch.padding",
                "",
                "test_sampled_points_by_hand",
            ),
            "strides are forgotten": (
                "points[:, None] * branch.strides",
                "points[:, None]",
                "test_sampled_points_by_hand",
            ),
            "x and y are exchanged": (
                "(points * stride)[:, ::-1]",
                "points * stride",
                "test_sampled_points_by_hand",
            ),
            "offsets are those of the first cell": (
                "offsets[nearest[:, 0], nearest[:, 1],",
                "offsets[0 * nearest[:, 0], 0 * nearest[:, 1],",
                "test_offsets_are_those_of_the_nearest_cell",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/deformable_faster_rcnn.py",
        MODELS,
        {
            "version 1 has masks": (
                "version == 2",
                "version == 1",
                "test_for_data_deforms_the_backbone",
            ),
            "regions come from conv4": (
                'MAPS = ("C4", "C4_conv5")',
                'MAPS = ("C4",)',
                "test_constants_are_the_papers",
            ),
            "the scale is that of the first map": (
                "1 / backbone.strides[backbone.levels[-1]]",
                "1 / 16",
                "test_other_maps_have_their_own_scale",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/rfcn.py",
        MODELS,
        {
            "deformable pooling is not given the features": (
                "[features] if self.pooling.TAKES_FEATURES else []",
                "[maps] if self.pooling.TAKES_FEATURES else []",
                "test_every_offset_learns",
            ),
        },
    ),
}
