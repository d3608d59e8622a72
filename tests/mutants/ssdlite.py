"""Mutants of SSDLite: its constants, and the towers of the heads."""

from tests.mutants import mutants

MODEL = mutants(
    "kerasdet/models/ssdlite.py",
    "tests/models/test_ssdlite.py",
    {
        "scales begin at 0.1": (
            "SMALLEST, LARGEST = 0.2, 0.95",
            "SMALLEST, LARGEST = 0.1, 0.95",
            "test_constants_are_torchvisions",
        ),
        "the last scale goes on": (
            "LARGEST), 1.0)",
            "LARGEST), 1.1)",
            "test_constants_are_torchvisions",
        ),
        "four boxes at each place": (
            "RATIOS = (2, 3)",
            "RATIOS = (2,)",
            "test_there_are_3234_default_boxes",
        ),
        "predictors are 3x3": (
            "output_size=1",
            "output_size=3",
            "test_parameters test_predictors_are_separable",
        ),
        "last layers begin as SSD's": (
            "keras.initializers.RandomNormal(0, OUTPUT_STD)",
            '"glorot_uniform"',
            "test_predictors_are_separable",
        ),
        "images are 300 pixels": (
            "SIDE = 320",
            "SIDE = 300",
            "test_constants_are_torchvisions",
        ),
        "the tail is whole": (
            '"reduced_tail": True',
            '"reduced_tail": False',
            "test_parameters",
        ),
        "the first map is block 12's": (
            '("C4_expand", "C5"), **settings',
            '("C4", "C5"), **settings',
            "test_constants_are_torchvisions",
        ),
        "small detectors do not fit their boxes": (
            "            default_boxes, data, resize,",
            '            "paper", data, resize,',
            "test_small_detectors test_arguments_are_checked",
        ),
    },
)
TOWERS = mutants(
    "kerasdet/layers/level_towers.py",
    "tests/layers/test_extra_layers.py",
    {
        "boxes pass the classes' tower": (
            'self._through(f"{kind}_{level}", x, training)',
            'self._through(f"class_{level}", x, training)',
            "test_towers_are_of_each_level_and_kind",
        ),
        "depthwise convolutions mix channels": (
            "groups=channels, activation",
            "groups=1, activation",
            "test_depthwise_towers",
        ),
        "a tower has one convolution more": (
            "for i in range(self.depth)",
            "for i in range(self.depth + 1)",
            "test_towers_are_of_each_level_and_kind test_towers_without_depth_pass_the_maps",
        ),
    },
)
MUTANTS = {**MODEL, **TOWERS}
