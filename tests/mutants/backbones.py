"""Mutants of the residual shortcut and of squeeze-and-excitation."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/backbones/resnet.py",
        "tests/backbones/test_backbones.py",
        {
            "the shortcut is not added": (
                'dtype=shared["dtype"])([y, x])',
                'dtype=shared["dtype"])([y, y])',
                "test_the_shortcut_is_added_before_the_relu",
            ),
            "the sum has no ReLU": (
                'return keras.layers.ReLU(name=f"{name}_out", dtype=shared["dtype"])(y)',
                "return y",
                "test_the_shortcut_is_added_before_the_relu",
            ),
            "a shortcut of other channels is not projected": (
                "if stride > 1 or x.shape[-1] != y.shape[-1]:",
                "if stride > 1:",
                "test_bottlenecks_stride_in_the_middle",
            ),
            "every shortcut is projected": (
                "if stride > 1 or x.shape[-1] != y.shape[-1]:",
                "if True:",
                "test_the_shortcut_is_added_before_the_relu",
            ),
            "bottlenecks stride in their first convolution": (
                "(stride, 1) if stride_in_1x1 else (1, stride)",
                "(stride, 1)",
                "test_bottlenecks_stride_in_the_middle",
            ),
        },
    ),
    **mutants(
        "kerasdet/backbones/mobilenet_v3.py",
        "tests/backbones/test_mobilenet_v3.py",
        {
            "the gate squeezes to a half": (
                "round_channels(channels // 4)",
                "round_channels(channels // 2)",
                "test_classifier_has_torchvisions_weights",
            ),
            "the squeeze has no ReLU": (
                'Conv(squeezed, 1, activation="relu"',
                "Conv(squeezed, 1, activation=None",
                "test_squeeze_excitation_equals_numpy",
            ),
            "the gate has no sigmoid": (
                'activation="hard_sigmoid"',
                'activation="relu"',
                "test_squeeze_excitation_equals_numpy",
            ),
            "the gate is squared": (
                'name=f"{name}_scale")([x, gate])',
                'name=f"{name}_scale")([gate, gate])',
                "test_squeeze_excitation_equals_numpy",
            ),
            "the maximum is squeezed": (
                "keras.layers.GlobalAveragePooling2D(",
                "keras.layers.GlobalMaxPooling2D(",
                "test_squeeze_excitation_equals_numpy",
            ),
        },
    ),
}
