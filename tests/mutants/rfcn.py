"""Mutants of R-FCN: its score maps and votes, and which maps propose and classify; of multilevel pooling."""

from tests.mutants import mutants

MUTANTS = {
    **mutants(
        "kerasdet/models/rfcn.py",
        "tests/models/test_rfcn.py",
        {
            "three by three bins": (
                "BINS = 7",
                "BINS = 3",
                "test_constants_are_the_papers",
            ),
            "512 channels before the score maps": (
                "CHANNELS = 1024",
                "CHANNELS = 512",
                "test_constants_are_the_papers",
            ),
            "64 regions of each image": (
                "REGIONS_PER_IMAGE = 128",
                "REGIONS_PER_IMAGE = 64",
                "test_constants_are_the_papers",
            ),
            "suppression as on COCO": (
                "IOU_THRESHOLD = 0.3",
                "IOU_THRESHOLD = 0.5",
                "test_constants_are_the_papers",
            ),
            "score maps begin ten times as wide": (
                "OUTPUT_STD = 0.01",
                "OUTPUT_STD = 0.1",
                "test_last_layers_begin_by_a_hundredth",
            ),
            "conv5 is not dilated": (
                'LEVELS = ("C4", "C4_conv5")',
                'LEVELS = ("C4", "C5")',
                "test_constants_are_the_papers",
            ),
            "bins are added": (
                "ops.mean(self.pooling(maps, boxes, *moving), axis=(2, 3))",
                "ops.sum(self.pooling(maps, boxes, *moving), axis=(2, 3))",
                "test_the_vote_by_hand",
            ),
            "the box is read from the classes' maps": (
                "outputs = self.class_output, self.box_output",
                "outputs = self.box_output, self.class_output",
                "test_the_vote_by_hand",
            ),
            "background has no map": (
                "bins**2 * (1 + num_classes)",
                "bins**2 * num_classes",
                "test_the_vote_by_hand",
            ),
            "the convolution before the score maps is linear": (
                'Conv(channels, 1, activation="relu"',
                "Conv(channels, 1, activation=None",
                "test_a_map_head_is_cut_off_below_zero",
            ),
            "the last map proposes": (
                "first = self.backbone.levels[0]",
                "first = self.backbone.levels[-1]",
                "test_the_first_map_proposes_and_the_last_classifies",
            ),
            "the pooling has the first map's scale": (
                "backbone.strides[backbone.levels[-1]]",
                "backbone.strides[backbone.levels[0]]",
                "test_the_first_map_proposes_and_the_last_classifies",
            ),
            "score maps are pooled in the policy's type": (
                'PSRoIPool(BINS, scale, dtype="float32"',
                "PSRoIPool(BINS, scale, dtype=dtype",
                "test_score_maps_are_float32_under_every_policy",
            ),
        },
    ),
    **mutants(
        "kerasdet/models/fast_rcnn.py",
        "tests/models/test_rfcn.py",
        {
            "one box is the first class's alone": (
                "boxes = ops.broadcast_to(boxes, (batch, count, classes, 4))",
                "boxes = ops.pad(boxes, [[0, 0], [0, 0], [0, classes - boxes.shape[2]], [0, 0]])",
                "test_every_class_has_the_one_box",
            ),
        },
    ),
    **mutants(
        "kerasdet/ops/roi.py",
        "tests/ops/test_roi.py",
        {
            "every region votes on the finest level": (
                "levels * ops.shape(boxes)[0] + image_of(boxes)",
                "0 * levels + image_of(boxes)",
                "test_multilevel_roi_align_reads_each_region_from_its_level "
                "test_multilevel_ps_roi_align_equals_ps_roi_align_of_the_level",
            ),
            "the last pixel is left out": (
                "(ops.flip(pixels[:, 2:], axis=1) + 1.0)",
                "(ops.flip(pixels[:, 2:], axis=1) + 0.0)",
                "test_ps_roi_pool_of_whole_pixels_by_hand",
            ),
            "a cell that a bin ends in is left out": (
                "last = ops.ceil((index + 1.0)",
                "last = ops.floor((index + 1.0)",
                "test_ps_roi_pool_of_whole_pixels_by_hand",
            ),
            "an inverted region has no size": (
                "SMALLEST_REGION = 0.1",
                "SMALLEST_REGION = -9.0",
                "test_ps_roi_pool_of_whole_pixels_by_hand",
            ),
            "regions stay in pixels on every level": (
                "return flat * scales[:, None],",
                "return flat + 0 * scales[:, None],",
                "test_multilevel_ps_roi_align_equals_ps_roi_align_of_the_level",
            ),
        },
    ),
}
