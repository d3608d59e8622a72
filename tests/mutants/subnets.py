"""Mutants of the two towers: what is shared, norms, first weights."""

from tests.mutants import mutants

MUTANTS = mutants(
    "kerasdet/layers/subnets.py",
    "tests/layers/test_subnets.py",
    {
        "a bias stands before a norm": (
            "use_bias=self.use_bias or self.norm is None",
            "use_bias=True",
            "test_layer test_a_norm_of_each_level_has_statistics_of_its_own",
        ),
        "hidden maps keep what is negative": (
            'activation=None if self.norm else "relu"',
            "activation=None",
            "test_towers_by_hand",
        ),
        "one tower serves both": (
            'self.class_convs if kind == "class" else self.box_convs',
            "self.class_convs",
            "test_towers_by_hand",
        ),
        "sixteen groups": (
            "GROUPS = 32",
            "GROUPS = 16",
            "test_group_norms_are_shared_by_the_levels",
        ),
        "first weights are ten times as wide": (
            "RandomNormal(0, 0.01)",
            "RandomNormal(0, 0.1)",
            "test_first_weights_are_retinanets_or_fit_a_norm",
        ),
        "first weights are small before a norm, too": (
            '"he_normal" if self.norm else normal',
            "normal",
            "test_first_weights_are_retinanets_or_fit_a_norm",
        ),
        "batch norms never learn their statistics": (
            "(x, training=training))",
            "(x, training=False))",
            "test_a_norm_of_each_level_has_statistics_of_its_own",
        ),
        "no ReLU after group norms": (
            'x = ops.relu(self.norms[f"{kind}{i}"](x))',
            'x = self.norms[f"{kind}{i}"](x)',
            "test_relu_follows_the_norm",
        ),
        "no ReLU after batch norms": (
            'x = ops.relu(self.norms[f"{kind}{i}{level}"](x, training=training))',
            'x = self.norms[f"{kind}{i}{level}"](x, training=training)',
            "test_relu_follows_the_norm",
        ),
        "the shape without convolutions is that with them": (
            "self.channels if self.depth else shape[3]",
            "self.channels",
            "test_without_convolutions_the_maps_are_handed_on",
        ),
        "no bias stands before a norm, even if asked for": (
            "use_bias=self.use_bias or self.norm is None",
            "use_bias=self.norm is None",
            "test_a_bias_before_a_norm_is_a_choice",
        ),
        "outputs begin with the other sign": (
            "else -math.log(",
            "else math.log(",
            "test_output_convolutions_begin_with_their_confidence",
        ),
        "outputs begin at a half": (
            "Constant(bias)",
            "Constant(0.0)",
            "test_output_convolutions_begin_with_their_confidence",
        ),
        "group norms belong to a level": (
            '"group": ("",)',
            '"group": tuple(maps_shape)',
            "test_group_norms_are_shared_by_the_levels",
        ),
    },
)
