"""Mutants of GoogLeNet and the Inception networks, and of the stages that serve as heads."""

from tests.mutants import mutants

V2 = "tests/backbones/test_inception_v2.py"
V3 = "tests/backbones/test_inception_v3.py"
RESNET = "tests/backbones/test_inception_resnet_v2.py"
GOOGLENET = "tests/backbones/test_googlenet.py"
KERAS = "test_outputs_are_those_of_keras_applications"
MUTANTS = {
    **mutants(
        "kerasdet/backbones/inception.py",
        V3,
        {
            "strides are padded": (
                'return "valid" if self.valid and stride > 1 else "same"',
                'return "same"',
                f"{KERAS} test_table_1",
            ),
            "the stem is padded": (
                'bare = "valid" if parts.valid else "same"',
                'bare = "same"',
                KERAS,
            ),
            "the normalisation has another epsilon": (
                "NORM_EPSILON = 1e-3",
                "NORM_EPSILON = 1e-5",
                "test_every_convolution_is_normalised_with_the_published_epsilon",
            ),
            "averages are maxima": (
                "pool = keras.layers.AveragePooling2D",
                "pool = keras.layers.MaxPooling2D",
                KERAS,
            ),
            "the padding is counted": ("if self.count_padding:", "if True:", KERAS),
            "a fork is its first branch": (
                "return [end for fork in step for end in self._branch(x, name, fork)]",
                "return self._branch(x, name, step[0])",
                "test_table_1",
            ),
        },
    ),
    **mutants(
        "kerasdet/backbones/inception_v3.py",
        V3,
        {
            "1x7 and 7x1 change places": (
                '("branch7x7_2", width, (1, 7)),\n            ("branch7x7_3", 192, (7, 1)),',
                '("branch7x7_2", width, (7, 1)),\n            ("branch7x7_3", 192, (1, 7)),',
                KERAS,
            ),
            "a head has another padding than its network": (
                'parts = Parts(self.dtype_policy, self.padding == "published", self.count_padding)',
                "parts = Parts(self.dtype_policy, False, self.count_padding)",
                "test_last_stage_serves_as_a_head",
            ),
        },
    ),
    **mutants(
        "kerasdet/backbones/inception_v2.py",
        V2,
        {
            "the last block averages": (
                '"Mixed_5c": _mixed(352, (192, 320), (192, 224), 128, "max")',
                '"Mixed_5c": _mixed(352, (192, 320), (192, 224), 128)',
                "test_outputs_are_slims",
            ),
            "four filters for each channel": (
                "DEPTH_MULTIPLIER = 8",
                "DEPTH_MULTIPLIER = 4",
                "test_first_convolution_is_separable",
            ),
            "Mixed_4d is Mixed_4c": (
                '"Mixed_4d": _mixed(160, (128, 160), (128, 160), 96)',
                '"Mixed_4d": _mixed(192, (96, 128), (96, 128), 128)',
                "test_weights_are_slims",
            ),
            "SSD's map is Faster R-CNN's": (
                'outputs[EARLY] = maps["Mixed_4c"]',
                "outputs[EARLY] = x",
                "test_outputs_are_slims",
            ),
        },
    ),
    **mutants(
        "kerasdet/backbones/inception_resnet_v2.py",
        RESNET,
        {
            "residuals are not scaled": ("if scale != 1:", "if False:", KERAS),
            "the last block has a ReLU": ("1.0, activated=False)", "1.0)", KERAS),
            "block17 is repeated ten times": (
                '"block17", 20, 0.10',
                '"block17", 10, 0.10',
                "test_numbers",
            ),
            "the shortcut is lost": (
                "dtype=dtype)([x, mixed])",
                "dtype=dtype)([mixed, mixed])",
                KERAS,
            ),
        },
    ),
    **mutants(
        "kerasdet/backbones/googlenet.py",
        GOOGLENET,
        {
            "5x5 are 3x3": (
                "_block(widths, 3 if norm else 5)",
                "_block(widths, 3)",
                "test_outputs_are_caffes",
            ),
            "the responses are not normalised": (
                'x = LocalResponseNorm(**CAFFE_NORM, name="pool1_norm1", dtype=parts.dtype)(x)',
                "pass",
                "test_outputs_are_caffes",
            ),
            "torchvision's last pooling is 3 x 3": (
                "size = 2 if norm and stage == 5 else 3",
                "size = 3",
                "test_torchvisions_form",
            ),
            "a block's pooling has a stride": (
                '(("max", 1), ("pool_proj"',
                '(("max", 2), ("pool_proj"',
                "test_table_1",
            ),
        },
    ),
    **mutants(
        "kerasdet/backbones/stage_head.py",
        V2,
        {
            "a head's norms are trained": (
                "if self.frozen_norm:",
                "if False:",
                "test_last_stage_serves_as_a_head",
            ),
            "a head has new weights": (
                "copy_layers(backbone, head.stage)",
                "pass",
                "test_last_stage_serves_as_a_head",
            ),
            "the cells' maximum": (
                "ops.mean(self.maps(regions, training), axis=(2, 3))",
                "ops.max(self.maps(regions, training), axis=(2, 3))",
                "test_last_stage_serves_as_a_head",
            ),
        },
    ),
    **mutants(
        "zoo/origins/keras_applications.py",
        "tests/zoo/test_keras_applications.py",
        {
            "numbers are sorted as texts": (
                "numbered[match[1]].append((int(match[2] or 0), layer))",
                'numbered[match[1]].append((match[2] or "0", layer))',
                "test_numbered_layers_of_inception_v3",
            ),
            "the depthwise axes stay": (
                "return array.transpose(0, 1, 3, 2) if array.ndim == 4 else array",
                "return array",
                "test_mobilenet_classifies_as_theirs",
            ),
            "a scale is nothing": (
                "np.ones_like(arrays[name])",
                "np.zeros_like(arrays[name])",
                "test_numbered_layers_of_inception_v3",
            ),
        },
    ),
}
